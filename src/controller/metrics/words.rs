//! The closed sets of words that become label values.

/// A kind of resource that is reconciled, with the name that controller-runtime would give its controller.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Controller {
    /// `AuthenticatorSMSStage`.
    Stage,
    /// `AuthentikConnection`.
    Connection,
}

impl Controller {
    /// The word for a label.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Stage => "authenticatorsmsstage",
            Self::Connection => "authentikconnection",
        }
    }
}

/// A kind of object that is watched.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Watched {
    /// `AuthenticatorSMSStage`.
    Stages,
    /// `AuthentikConnection`.
    Connections,
    /// `Secret`, its metadata only.
    Secrets,
    /// `Namespace`, its metadata only.
    Namespaces,
}

impl Watched {
    /// The word for a label.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Stages => "authenticatorsmsstages",
            Self::Connections => "authentikconnections",
            Self::Secrets => "secrets",
            Self::Namespaces => "namespaces",
        }
    }
}

/// How a pass ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum PassEnd {
    /// Nothing is left to do.
    Success,
    /// It goes on later, and that is no failure.
    Requeued,
    /// It failed on something that is tried again.
    Error,
    /// It failed on what only an edit of the resource can mend.
    TerminalError,
    /// It panicked.
    Panic,
}

impl PassEnd {
    /// The word for the label `result`, one of those that controller-runtime has.
    #[must_use]
    pub const fn result(self) -> &'static str {
        match self {
            Self::Success => "success",
            Self::Requeued => "requeue_after",
            Self::Error | Self::TerminalError | Self::Panic => "error",
        }
    }
}

/// What became of a Kubernetes event.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum EventOutcome {
    /// The API server has it.
    Published,
    /// The API server refused it or did not answer in time.
    Failed,
    /// It was never sent, because newer ones had filled the queue.
    Dropped,
}

impl EventOutcome {
    /// The word for a label.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Published => "published",
            Self::Failed => "failed",
            Self::Dropped => "dropped",
        }
    }
}
