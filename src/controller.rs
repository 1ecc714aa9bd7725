//! What runs the pipeline: the work queue, events, metrics, health and logs.

pub mod events;
pub mod health;
pub mod logging;
pub mod metrics;
pub mod queue;
