//! Why a part of the world cannot be had.

use std::fmt;

/// A message for the one who runs the tests: what is wrong, and what to do about it.
pub struct Error(String);

impl Error {
    /// What is wrong and what to do about it.
    pub fn new(message: impl Into<String>) -> Self {
        Self(message.into())
    }

    /// For `map_err`: puts in front of the cause what failed.
    pub fn when<E: fmt::Display>(what: impl fmt::Display) -> impl FnOnce(E) -> Self {
        move |cause| Self(format!("failed to {what}: {cause}"))
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

// `unwrap` and `main` print this one: the message has line breaks, so it is shown as it is.
impl fmt::Debug for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for Error {}
