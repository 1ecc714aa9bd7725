//! A client for the few routes of authentik's API that the operator needs.
//!
//! It knows neither Kubernetes nor the operator's resources. It is tolerant of what it reads (unknown enum values,
//! missing fields, other versions) and exact in what it writes. Credentials are secrecy types from the first byte to
//! the request, and no error, log line or URL of this module has one.

mod changes;
mod client;
mod endpoint;
mod error;
mod listing;
mod observer;
mod transport;
mod version;
mod wire;

pub use changes::{StageChanges, WriteTag};
pub use client::{Client, Permission};
pub use endpoint::{Endpoint, EndpointError};
pub use error::{Effect, Error};
pub use listing::{Listing, list_all};
pub use observer::{Call, Method, Observer, Outcome, Route};
pub use transport::ClientConfig;
pub use version::{Features, ServerVersion};
pub use wire::{AnyStage, Binding, Flow, FlowSetEntry, Mapping, Me, Page, StageEvent, StageRow, UsedBy, ValidateStage};
