//! What runs the pipeline: the work queue, events, metrics, health and logs.

pub mod queue;
