//! The two CustomResourceDefinitions: what is committed, what the schemas promise, and what a real API server makes
//! of them.
//!
//! Runs against the newest API server; with `CRD_API_SERVER=oldest` against the oldest that is supported.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod bounds;
mod committed;
mod cost;
mod nulls;
mod rules;
mod samples;
mod schema;
mod server;
mod structure;
mod usage;
