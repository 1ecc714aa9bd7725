//! What is told of every call, for metrics: closed sets of words, never a URL or a text.

use std::time::Duration;

/// HTTP method of a call.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Method {
    /// Read.
    Get,
    /// Ask what is allowed.
    Options,
    /// Create.
    Post,
    /// Change.
    Patch,
    /// Delete.
    Delete,
}

impl Method {
    /// The word on the wire.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Get => "GET",
            Self::Options => "OPTIONS",
            Self::Post => "POST",
            Self::Patch => "PATCH",
            Self::Delete => "DELETE",
        }
    }

    /// Whether repeating a call that may have taken effect does no harm.
    pub(super) const fn is_repeatable(self) -> bool {
        match self {
            Self::Get | Self::Options | Self::Patch | Self::Delete => true,
            Self::Post => false,
        }
    }
}

/// Route of a call, without its ids.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Route {
    /// `admin/version/`
    Version,
    /// `core/users/me/`
    Me,
    /// `stages/authenticator/sms/`
    Stages,
    /// `stages/authenticator/sms/{pk}/`
    Stage,
    /// `stages/authenticator/sms/{pk}/used_by/`
    UsedBy,
    /// `stages/all/`
    AllStages,
    /// `stages/authenticator/validate/`
    ValidateStages,
    /// `authenticators/admin/sms/`
    Devices,
    /// `authenticators/admin/sms/{pk}/`
    Device,
    /// `flows/instances/`
    Flows,
    /// `flows/bindings/`
    Bindings,
    /// `propertymappings/notification/`
    Mappings,
    /// `propertymappings/notification/{pk}/`
    Mapping,
    /// `events/events/`
    Events,
}

impl Route {
    /// A short name for a metric label.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Version => "version",
            Self::Me => "me",
            Self::Stages => "stages",
            Self::Stage => "stage",
            Self::UsedBy => "used_by",
            Self::AllStages => "all_stages",
            Self::ValidateStages => "validate_stages",
            Self::Devices => "devices",
            Self::Device => "device",
            Self::Flows => "flows",
            Self::Bindings => "bindings",
            Self::Mappings => "mappings",
            Self::Mapping => "mapping",
            Self::Events => "events",
        }
    }
}

/// How a call ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Outcome {
    /// A 2xx that is what it should be.
    Ok,
    /// A 4xx.
    ClientError,
    /// A 5xx, or what stands for one.
    ServerError,
    /// Told to wait.
    RateLimited,
    /// No answer.
    NoAnswer,
    /// An answer that is not the API's.
    Invalid,
}

impl Outcome {
    /// The word for a metric label.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Ok => "ok",
            Self::ClientError => "client_error",
            Self::ServerError => "server_error",
            Self::RateLimited => "rate_limited",
            Self::NoAnswer => "no_answer",
            Self::Invalid => "invalid",
        }
    }
}

/// One call.
#[derive(Clone, Copy, Debug)]
pub struct Call {
    /// Its method.
    pub method: Method,
    /// Its route.
    pub route: Route,
    /// How it ended.
    pub outcome: Outcome,
    /// How long it took, with reading the body.
    pub duration: Duration,
}

/// Somebody who is told of every call.
pub trait Observer: Send + Sync + 'static {
    /// A call has ended.
    fn called(&self, call: &Call);
}

/// Nobody.
impl Observer for () {
    fn called(&self, _: &Call) {}
}
