//! A stateful stand-in for authentik's API, for tests and the demo.
//!
//! It answers as authentik 2023.10 to 2026.8 do on the routes that deal with SMS authenticator stages and their
//! neighbours; `tests/replay.rs` holds it to recordings of running servers. What a route here cannot do although
//! authentik can is answered with 501, never with a guess.
//!
//! A test starts a [`Sim`], gives its [`url`](Sim::url) and a token to the program under test, lays [`Fault`]s in wait
//! for calls, and looks at [`calls`](Sim::calls) and [`stages`](Sim::stages).

// A test world may stop a test where a program may not stop: a panic here is a failed test.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::missing_panics_doc)]
// Stages are what this is about, and state is what it keeps.
#![allow(clippy::similar_names)]

mod answering;
mod audit;
mod body;
mod calls;
mod faults;
mod fields;
mod list;
mod message;
mod rights;
mod routes;
mod rows;
mod seed;
mod server;
mod sim;
mod state;
mod traffic;
mod version;

pub use audit::{Action, Actor, Event};
pub use calls::Call;
pub use faults::{Answer, Fault, What, When};
pub use rights::{Model, User};
pub use rows::{Binding, Device, Flow, Mapping, OtherStage, Stage, ValidateStage};
pub use server::TlsIdentity;
pub use sim::{Config, Sim, TimedOut};
pub use state::State;
pub use version::{NotAVersion, Version};
