//! Calls to the API server: every one with an end, and its errors as failures.

use std::future::Future;
use std::time::Duration;

use crate::api::Reason;

use super::Failure;

/// Longest time that one call may take. kube itself has no limit on an answer.
pub const TIMEOUT: Duration = Duration::from_secs(10);

/// Why a call to the API server brought nothing.
#[derive(Debug, thiserror::Error)]
pub enum KubernetesError {
    /// No answer within [`TIMEOUT`].
    #[error("the API server did not answer within {} s", TIMEOUT.as_secs())]
    TimedOut,
    /// An answer that is an error, or none.
    #[error(transparent)]
    Api(#[from] kube::Error),
}

impl KubernetesError {
    /// The HTTP status, if the API server answered.
    #[must_use]
    pub fn status(&self) -> Option<u16> {
        match self {
            Self::Api(kube::Error::Api(status)) => Some(status.code),
            Self::Api(_) | Self::TimedOut => None,
        }
    }

    /// Whether the object is gone.
    #[must_use]
    pub fn is_not_found(&self) -> bool {
        self.status() == Some(404)
    }
}

/// Waits for a call to the API server, at most [`TIMEOUT`].
///
/// # Errors
/// The call's own error, or that there was no answer.
pub async fn answer<T>(call: impl Future<Output = Result<T, kube::Error>>) -> Result<T, KubernetesError> {
    match tokio::time::timeout(TIMEOUT, call).await {
        Ok(result) => result.map_err(KubernetesError::from),
        Err(_) => Err(KubernetesError::TimedOut),
    }
}

/// What a failed call means for a resource: `doing` says what was tried, `right` what RBAC has to grant for it.
#[must_use]
pub fn failure(error: &KubernetesError, doing: &str, right: &str) -> Failure {
    match error.status() {
        Some(401 | 403) => Failure::new(
            Reason::Forbidden,
            format!("the operator may not {doing}: grant its ServiceAccount {right} there"),
        ),
        Some(status) => Failure::new(
            Reason::InternalError,
            format!("cannot {doing}: the API server answered {status}; the operator tries again"),
        ),
        None => Failure::new(
            Reason::InternalError,
            format!("cannot {doing}: {}; the operator tries again", cause(error)),
        ),
    }
}

fn cause(error: &KubernetesError) -> &'static str {
    match error {
        KubernetesError::TimedOut => "the API server did not answer in time",
        KubernetesError::Api(_) => "the API server could not be reached",
    }
}
