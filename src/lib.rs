//! authentik-stage-operator keeps authentik's SMS authenticator stages as declared in Kubernetes.
//!
//! Data flows one way: `commands → controller → reconcile → authentik, api`.

pub mod api;
pub mod authentik;
pub mod clock;
pub mod commands;
pub mod controller;
pub mod reconcile;
