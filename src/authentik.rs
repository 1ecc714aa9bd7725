//! A client for the few routes of authentik's API that the operator needs.
//!
//! It knows neither Kubernetes nor the operator's resources. It is tolerant of what it reads (unknown enum values,
//! missing fields, other versions) and exact in what it writes. Credentials are secrecy types from the first byte to
//! the request, and no error, log line or URL of this module has one.
//!
//! ```text
//! client   one function a route              listing    a list, page by page      snapshot   what the last round saw
//!    │                                          │
//! transport   sends, bounds, repeats         wire       answers as Rust types     lenient    fields as they come
//!    │                                       changes    the body of a write
//! answer      what a status means            credential the only exit of a secret
//! ```

mod answer;
mod changes;
mod client;
mod credential;
mod endpoint;
mod error;
mod lenient;
mod listing;
mod observer;
#[cfg(test)]
mod scripted;
mod snapshot;
mod transport;
mod version;
mod wire;

pub use changes::{StageChanges, WriteTag};
pub use client::Client;
pub use credential::same as same_credential;
pub use endpoint::{Endpoint, EndpointError};
pub use error::{Effect, Error};
pub use listing::{Listing, list_all};
pub use observer::{Call, Method, Observer, Outcome, Route};
pub use snapshot::{Changes, Lookup, Round, Snapshot};
pub use transport::ClientConfig;
pub use version::{Features, ServerVersion};
pub use wire::{
    AnyStage, Binding, Flow, FlowSetEntry, Mapping, Me, Page, RecentEvents, StageEvent, StageRow, UsedBy, ValidateStage,
};
