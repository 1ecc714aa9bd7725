//! The world that tests and the demo run in.
//!
//! Everything of Kubernetes in it is real: [`ControlPlane`] starts etcd and kube-apiserver on loopback, with kubectl and
//! Helm to talk to them. What is missing on the machine is built once from pinned Go modules ([`Tool`]). Nothing outlives
//! the process that started it, however that ends ([`Process`], [`Scratch`]).
//!
//! This crate selects no version of the Kubernetes types: it speaks to the API server through kubectl, and tests bring
//! the client of their choice.

// For tests: a failure ends the test with its cause.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::missing_panics_doc)]

mod control_plane;
mod error;
mod helm;
mod identity;
mod kstatus;
mod kubectl;
mod process;
pub mod scene;
mod scratch;
pub mod terminal;
mod tools;

pub use control_plane::{Audit, ControlPlane, Options};
pub use error::Error;
pub use helm::{helm, helm_template};
pub use kstatus::{Verdict, kstatus};
pub use process::Process;
pub use scratch::Scratch;
pub use tools::{Tool, Version};
