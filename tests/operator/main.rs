//! The operator as users meet it: on a real kube-apiserver, with the rights that the chart grants and no others, and
//! the simulator in place of authentik.

// A panic here is a failed test, and what was measured is told to whoever asks for it with `--nocapture`.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::print_stdout)]

mod adoption;
mod arena;
mod budgets;
mod deletion;
mod fields;
mod gate;
mod life;
mod lint;
mod process;
mod reasons;
mod recovery;
mod tenancy;
