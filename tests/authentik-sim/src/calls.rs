//! The record of what the server was asked and what came of it.

use serde_json::Value;
use tokio::time::Instant;

/// One request that reached the server.
#[derive(Clone, Debug)]
pub struct Call {
    /// Number of the call, 0 for the first after the last reset.
    pub index: u64,
    /// HTTP method.
    pub method: String,
    /// Path below `/api/v3`, e.g. `/stages/authenticator/sms/`; the whole path if it is not the API's.
    pub path: String,
    /// Query parameters, decoded.
    pub query: Vec<(String, String)>,
    /// `User-Agent`.
    pub user_agent: String,
    /// `Accept`.
    pub accept: String,
    /// Whose token it carried; `None` without a valid one.
    pub username: Option<String>,
    /// The body, null if there is none or it is not JSON. Holds what was sent, credentials too.
    pub body: Value,
    /// What the client was told; `None` while nothing was, or for ever.
    pub status: Option<u16>,
    /// Whether it changed anything.
    pub effect: bool,
    /// When it arrived.
    pub at: Instant,
    pub(crate) serial: u64,
}

impl Call {
    /// A query parameter.
    pub fn parameter(&self, name: &str) -> Option<&str> {
        self.query
            .iter()
            .find(|(key, _)| key == name)
            .map(|(_, value)| value.as_str())
    }

    /// Whether it is not a read.
    pub fn is_write(&self) -> bool {
        !matches!(self.method.as_str(), "GET" | "HEAD" | "OPTIONS")
    }
}
