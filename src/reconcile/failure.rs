//! What can stand in the way of a stage, as data: one value per cause, from which conditions, events, metrics and
//! the next try follow.

use std::time::Duration;

use crate::api::{Abnormal, Reason};
use crate::authentik::Error;

use super::{ConnectionKey, ResourceKey};

/// Why a resource is not as declared.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Failure {
    /// The closed reason.
    pub reason: Reason,
    /// The thing, the cause and the remedy, for people.
    pub message: String,
    /// Who can mend it.
    pub abnormal: Abnormal,
    /// Earliest next try that the server asked for.
    pub retry_after: Option<Duration>,
}

impl Failure {
    /// A failure whose reason alone tells who can mend it.
    pub fn new(reason: Reason, message: impl Into<String>) -> Self {
        Self {
            reason,
            message: message.into(),
            abnormal: who_mends(reason),
            retry_after: None,
        }
    }

    /// The same failure, but something other than this resource can mend it.
    #[must_use]
    pub fn mended_elsewhere(mut self) -> Self {
        self.abnormal = Abnormal::Reconciling;
        self
    }

    /// The same failure, but only an edit of this resource can mend it.
    #[must_use]
    pub fn mended_here(mut self) -> Self {
        self.abnormal = Abnormal::Stalled;
        self
    }

    /// The same failure, not to be tried again before `delay`.
    #[must_use]
    pub fn not_before(mut self, delay: Option<Duration>) -> Self {
        self.retry_after = delay;
        self
    }
}

/// Whether a failure of this reason is shown as `Stalled`: only if an edit of the resource alone can mend it.
const fn who_mends(reason: Reason) -> Abnormal {
    match reason {
        Reason::InvalidSpec | Reason::Rejected | Reason::NameConflict | Reason::ServerChanged => Abnormal::Stalled,
        Reason::Available
        | Reason::Creating
        | Reason::Updating
        | Reason::Deleting
        | Reason::Observed
        | Reason::DriftDetected
        | Reason::StageNotFound
        | Reason::Suspended
        | Reason::SecretNotFound
        | Reason::SecretKeyMissing
        | Reason::SecretInvalid
        | Reason::ConnectionNotFound
        | Reason::ConnectionNotReady
        | Reason::ConnectionNotAllowed
        | Reason::FlowNotFound
        | Reason::MappingNotFound
        | Reason::CABundleNotFound
        | Reason::CABundleInvalid
        | Reason::TLSError
        | Reason::NotAuthentik
        | Reason::Unauthorized
        | Reason::Forbidden
        | Reason::ServerUnreachable
        | Reason::ServerError
        | Reason::RateLimited
        | Reason::ServerStarting
        | Reason::ServerReadOnly
        | Reason::DeletionBlocked
        | Reason::Contested
        | Reason::InternalError => Abnormal::Reconciling,
    }
}

/// Whether a resource whose current generation is applied keeps `Ready=True` through the first minute of this: a
/// restart of authentik or a Secret that is being replaced is no news.
pub const fn has_grace(reason: Reason) -> bool {
    matches!(
        reason,
        Reason::ServerUnreachable
            | Reason::ServerError
            | Reason::RateLimited
            | Reason::ServerStarting
            | Reason::ServerReadOnly
            | Reason::SecretNotFound
    )
}

/// Whether it is the connection's trouble, wherever it is met: its stages show `ConnectionNotReady`.
pub const fn is_of_the_connection(reason: Reason) -> bool {
    matches!(
        reason,
        Reason::CABundleNotFound
            | Reason::CABundleInvalid
            | Reason::TLSError
            | Reason::NotAuthentik
            | Reason::Unauthorized
    )
}

/// Whether the server as a whole is at fault: what the breaker counts.
pub const fn is_outage(reason: Reason) -> bool {
    matches!(
        reason,
        Reason::ServerUnreachable | Reason::ServerError | Reason::RateLimited | Reason::ServerStarting
    )
}

/// What a failed call to authentik means. `doing` says what was tried, as in "cannot create stage sms", `permission`
/// what a token needs for it.
///
/// A refused value is the caller's to judge: it knows whether it sent one. Here it is `Rejected`.
#[must_use]
pub fn of_call(error: &Error, doing: &str, permission: &str, connection: &ConnectionKey) -> Failure {
    let at = format!("through AuthentikConnection {connection}");
    let again = "the operator tries again";
    let (reason, message) = match error {
        Error::Unreachable { .. } | Error::NoAnswer { .. } => (
            Reason::ServerUnreachable,
            format!(
                "cannot {doing} {at}: {error}; check that the server runs and that the operator can reach it, {again}"
            ),
        ),
        Error::Tls { .. } => (
            Reason::TLSError,
            format!(
                "cannot {doing} {at}: {error}; have the server present a certificate for its name, or set spec.caBundle of the connection"
            ),
        ),
        Error::CaBundle { .. } => (
            Reason::CABundleInvalid,
            format!("cannot {doing} {at}: {error}; put PEM certificates into the object that spec.caBundle names"),
        ),
        Error::TokenUnusable => (
            Reason::SecretInvalid,
            format!("cannot {doing} {at}: {error}; put the token of intent API that authentik shows into the Secret"),
        ),
        Error::Starting { .. } => (
            Reason::ServerStarting,
            format!("cannot {doing} {at} yet: {error}; {again}"),
        ),
        Error::RateLimited { .. } => (
            Reason::RateLimited,
            format!("cannot {doing} {at} yet: {error}; {again} when the server allows it"),
        ),
        Error::Server { .. } | Error::InvalidResponse { .. } => (
            Reason::ServerError,
            format!("cannot {doing} {at}: {error}; look into authentik's log, {again}"),
        ),
        Error::Unauthorized => (
            Reason::Unauthorized,
            format!(
                "cannot {doing} {at}: {error}; put a token of intent API that has not expired into the Secret that spec.tokenSecretRef names"
            ),
        ),
        Error::Forbidden { .. } => (
            Reason::Forbidden,
            format!("cannot {doing} {at}: {error}; grant {permission} to a role of the token's user, for all objects"),
        ),
        Error::NotFound { .. } => (Reason::ServerError, format!("cannot {doing} {at}: {error}; {again}")),
        Error::Validation { .. } | Error::Refused { .. } => (
            Reason::Rejected,
            format!("cannot {doing} {at}: authentik says: {error}; correct the spec"),
        ),
        Error::ReadOnly => (
            Reason::ServerReadOnly,
            format!("cannot {doing} {at}: {error}; renew the licence, {again}"),
        ),
        Error::NotAuthentik { .. } => (
            Reason::NotAuthentik,
            format!(
                "cannot {doing} {at}: {error}; correct spec.url of the connection, with its sub-path if it has one"
            ),
        ),
    };
    Failure::new(reason, message).not_before(error.retry_after())
}

/// The name belongs to another resource.
#[must_use]
pub fn name_of_another(name: &str, other: &ResourceKey, leaving: bool) -> Failure {
    let failure = Failure::new(
        Reason::NameConflict,
        format!(
            "stage {name:?} belongs to AuthenticatorSMSStage {other}: choose another name, or delete one of the two resources"
        ),
    );
    if leaving { failure.mended_elsewhere() } else { failure }
}
