//! The closed set of condition reasons.

/// Which condition stands beside `Ready=False`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Abnormal {
    /// Work goes on, or something other than this resource can still mend it.
    Reconciling,
    /// Only an edit of this resource can mend it.
    Stalled,
}

macro_rules! reasons {
    ($($(#[$doc:meta])* $name:ident,)*) => {
        /// Why a condition is as it is. Users, alerts and tests rely on these names: they are part of the API.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
        pub enum Reason {
            $($(#[$doc])* $name,)*
        }

        impl Reason {
            /// Every reason there is.
            pub const ALL: &'static [Reason] = &[$(Reason::$name,)*];

            /// The word as it stands in a condition, an event or a metric label.
            #[must_use]
            pub const fn as_str(self) -> &'static str {
                match self {
                    $(Reason::$name => stringify!($name),)*
                }
            }
        }
    };
}

reasons! {
    /// The stage, or the connection, is as declared.
    Available,
    /// The stage is being created.
    Creating,
    /// The stage is being changed.
    Updating,
    /// The stage is being removed.
    Deleting,
    /// `Observe`: the stage in authentik equals the spec.
    Observed,
    /// `Observe`: the stage in authentik differs; `status.drift` says where.
    DriftDetected,
    /// `Observe`: authentik has no stage of that name.
    StageNotFound,
    /// Hands off, as the spec asks.
    Suspended,
    /// A Secret that the spec names does not exist.
    SecretNotFound,
    /// The Secret has no such key, or nothing in it.
    SecretKeyMissing,
    /// What the Secret holds cannot be used.
    SecretInvalid,
    /// The connection does not exist.
    ConnectionNotFound,
    /// The connection cannot be used now; its own condition says why.
    ConnectionNotReady,
    /// The connection's owner does not let this namespace use it so.
    ConnectionNotAllowed,
    /// authentik has no such flow, or the token may not see it.
    FlowNotFound,
    /// authentik has no such webhook mapping, or the token may not see it.
    MappingNotFound,
    /// The CA bundle's `ConfigMap` or Secret, or its key, does not exist.
    CABundleNotFound,
    /// The CA bundle is not PEM certificates.
    CABundleInvalid,
    /// The server's certificate is not trusted, or TLS failed.
    TLSError,
    /// What answers at the URL is not authentik's API.
    NotAuthentik,
    /// authentik does not accept the token.
    Unauthorized,
    /// The token lacks a permission; the message names it.
    Forbidden,
    /// authentik cannot be reached.
    ServerUnreachable,
    /// authentik answers with an error of its own.
    ServerError,
    /// authentik, or a proxy before it, asks for fewer requests.
    RateLimited,
    /// authentik is starting or migrating.
    ServerStarting,
    /// authentik refuses writes because its licence has expired.
    ServerReadOnly,
    /// A value in the spec is wrong in itself.
    InvalidSpec,
    /// authentik refused a value; the message has its words.
    Rejected,
    /// The stage name belongs to somebody else.
    NameConflict,
    /// The connection leads to a server that does not know this stage.
    ServerChanged,
    /// Something depends on the stage, or nobody can be asked.
    DeletionBlocked,
    /// Another writer keeps changing the same field back.
    Contested,
    /// A bug in the operator, caught.
    InternalError,
}

#[cfg(test)]
mod tests {
    use super::Reason;

    #[test]
    fn every_reason_is_a_valid_condition_reason() {
        for reason in Reason::ALL {
            let word = reason.as_str();
            assert!(
                word.chars().all(|c| c.is_ascii_alphanumeric()),
                "{word} must be CamelCase"
            );
            assert!(
                word.starts_with(|c: char| c.is_ascii_uppercase()),
                "{word} must be CamelCase"
            );
        }
    }
}
