//! What the operator counts and measures, as OpenMetrics text.
//!
//! Where controller-runtime has a name for a thing, that name is used, so that existing dashboards show this operator
//! too; everything else is prefixed `authentik_stage_operator_`. Label values are words of closed sets: no name of an
//! object, no URL and no error text ever becomes one.

mod http;
mod words;

use std::collections::HashSet;
use std::fmt::Debug;
use std::sync::atomic::AtomicU64;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use prometheus_client::encoding::{EncodeLabelSet, text};
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::metrics::info::Info;
use prometheus_client::registry::{Registry, Unit};

use crate::api::Reason;

use super::queue::{Lane, Stats};

pub use http::CountRequests;
pub use words::{Controller, EventOutcome, PassEnd, Watched};

/// Seconds of what ends within one call: a pass, a request.
const SHORT: [f64; 12] = [0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0];

/// Seconds of what a user waits for: until a stage is ready, gone, or has its new credential.
const LONG: [f64; 12] = [0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 300.0, 1800.0, 7200.0];

type Seconds = Gauge<f64, AtomicU64>;
type Histograms<L> = Family<L, Histogram, fn() -> Histogram>;
/// A gauge that can also be absent is a family with one member.
type NoLabels = [(&'static str, &'static str); 0];
type Sampler = Arc<dyn Fn(&Metrics) + Send + Sync>;

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct OfController {
    controller: &'static str,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct OfResult {
    controller: &'static str,
    result: &'static str,
}

/// controller-runtime names the queue twice.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct OfQueue {
    name: &'static str,
    controller: &'static str,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct OfLane {
    name: &'static str,
    controller: &'static str,
    lane: &'static str,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct OfRoute {
    method: &'static str,
    route: &'static str,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct OfCall {
    method: &'static str,
    route: &'static str,
    outcome: &'static str,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct OfRequest {
    method: &'static str,
    code: &'static str,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct OfReadiness {
    ready: &'static str,
    reason: &'static str,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct OfKind {
    kind: &'static str,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct OfOutcome {
    outcome: &'static str,
}

/// All metrics of the process.
pub struct Metrics {
    registry: Registry,
    samplers: Mutex<Vec<Sampler>>,

    passes: Family<OfResult, Counter>,
    pass_errors: Family<OfController, Counter>,
    terminal_errors: Family<OfController, Counter>,
    panics: Family<OfController, Counter>,
    pass_seconds: Histograms<OfController>,
    active_workers: Family<OfController, Gauge>,
    max_workers: Family<OfController, Gauge>,

    queue_depth: Family<OfQueue, Gauge>,
    queue_waiting: Family<OfLane, Gauge>,
    queue_adds: Family<OfQueue, Counter>,
    queue_retries: Family<OfQueue, Counter>,
    queue_wait: Histograms<OfQueue>,
    queue_work: Histograms<OfQueue>,
    queue_unfinished: Family<OfQueue, Seconds>,
    queue_longest: Family<OfQueue, Seconds>,

    kubernetes_requests: Family<OfRequest, Counter>,
    authentik_requests: Family<OfCall, Counter>,
    authentik_seconds: Histograms<OfRoute>,

    drift_repaired: Counter,
    stages: Family<OfReadiness, Gauge>,
    stages_shown: Mutex<HashSet<OfReadiness>>,
    snapshot_age: Family<NoLabels, Seconds>,
    breaker_open: Gauge,
    time_to_ready: Histogram,
    deletion: Histogram,
    rotation_latency: Histogram,
    watch_errors: Family<OfKind, Counter>,
    events: Family<OfOutcome, Counter>,
}

impl Default for Metrics {
    fn default() -> Self {
        Self::new()
    }
}

impl Debug for Metrics {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Metrics").finish_non_exhaustive()
    }
}

impl Metrics {
    /// Every metric, registered under its name.
    #[must_use]
    #[allow(clippy::too_many_lines)] // one list, one entry a metric
    pub fn new() -> Self {
        let short: fn() -> Histogram = || Histogram::new(SHORT);
        let mut metrics = Self {
            registry: Registry::default(),
            samplers: Mutex::default(),
            passes: Family::default(),
            pass_errors: Family::default(),
            terminal_errors: Family::default(),
            panics: Family::default(),
            pass_seconds: Family::new_with_constructor(short),
            active_workers: Family::default(),
            max_workers: Family::default(),
            queue_depth: Family::default(),
            queue_waiting: Family::default(),
            queue_adds: Family::default(),
            queue_retries: Family::default(),
            queue_wait: Family::new_with_constructor(short),
            queue_work: Family::new_with_constructor(short),
            queue_unfinished: Family::default(),
            queue_longest: Family::default(),
            kubernetes_requests: Family::default(),
            authentik_requests: Family::default(),
            authentik_seconds: Family::new_with_constructor(short),
            drift_repaired: Counter::default(),
            stages: Family::default(),
            stages_shown: Mutex::default(),
            snapshot_age: Family::default(),
            breaker_open: Gauge::default(),
            time_to_ready: Histogram::new(LONG),
            deletion: Histogram::new(LONG),
            rotation_latency: Histogram::new(LONG),
            watch_errors: Family::default(),
            events: Family::default(),
        };

        let mut registry = Registry::default();
        let of = registry.sub_registry_with_prefix("controller_runtime");
        of.register("reconcile", "Passes by how they ended", metrics.passes.clone());
        of.register("reconcile_errors", "Passes that failed", metrics.pass_errors.clone());
        of.register(
            "terminal_reconcile_errors",
            "Passes that failed on what only an edit of the resource can mend",
            metrics.terminal_errors.clone(),
        );
        of.register(
            "reconcile_panics",
            "Passes that ended in a caught panic",
            metrics.panics.clone(),
        );
        of.register_with_unit(
            "reconcile_time",
            "How long a pass takes",
            Unit::Seconds,
            metrics.pass_seconds.clone(),
        );
        of.register("active_workers", "Passes that run now", metrics.active_workers.clone());
        of.register(
            "max_concurrent_reconciles",
            "Passes that may run at once",
            metrics.max_workers.clone(),
        );

        let of = registry.sub_registry_with_prefix("workqueue");
        of.register(
            "depth",
            "Objects that wait though their time has come",
            metrics.queue_depth.clone(),
        );
        of.register("adds", "Triggers", metrics.queue_adds.clone());
        of.register(
            "retries",
            "Passes that were put back after a failure",
            metrics.queue_retries.clone(),
        );
        of.register_with_unit(
            "queue_duration",
            "How long an object waits after its time has come",
            Unit::Seconds,
            metrics.queue_wait.clone(),
        );
        of.register_with_unit(
            "work_duration",
            "How long a pass takes",
            Unit::Seconds,
            metrics.queue_work.clone(),
        );
        of.register_with_unit(
            "unfinished_work",
            "Ages of the passes that run, added up",
            Unit::Seconds,
            metrics.queue_unfinished.clone(),
        );
        of.register_with_unit(
            "longest_running_processor",
            "Age of the oldest pass that runs",
            Unit::Seconds,
            metrics.queue_longest.clone(),
        );

        registry.register(
            "rest_client_requests",
            "Requests to the Kubernetes API by method and status",
            metrics.kubernetes_requests.clone(),
        );

        let of = registry.sub_registry_with_prefix("authentik_stage_operator");
        of.register(
            "build",
            "What runs",
            Info::new([("version", env!("CARGO_PKG_VERSION"))]),
        );
        of.register(
            "authentik_requests",
            "Requests to authentik by method, route and outcome",
            metrics.authentik_requests.clone(),
        );
        of.register_with_unit(
            "authentik_request_duration",
            "How long a request to authentik takes, with its body",
            Unit::Seconds,
            metrics.authentik_seconds.clone(),
        );
        of.register(
            "queue_waiting",
            "Objects that wait, due or not, by lane",
            metrics.queue_waiting.clone(),
        );
        of.register(
            "drift_repaired",
            "Changes made in authentik that were undone",
            metrics.drift_repaired.clone(),
        );
        of.register(
            "stages",
            "AuthenticatorSMSStages by readiness and reason",
            metrics.stages.clone(),
        );
        of.register_with_unit(
            "snapshot_age",
            "Age of the oldest snapshot of a connection's stages",
            Unit::Seconds,
            metrics.snapshot_age.clone(),
        );
        of.register(
            "breaker_open",
            "Connections that are left alone because their server fails",
            metrics.breaker_open.clone(),
        );
        of.register_with_unit(
            "time_to_ready",
            "From the creation or edit of a resource until it is Ready",
            Unit::Seconds,
            metrics.time_to_ready.clone(),
        );
        of.register_with_unit(
            "deletion",
            "From the deletion of a resource until it is gone",
            Unit::Seconds,
            metrics.deletion.clone(),
        );
        of.register_with_unit(
            "rotation_latency",
            "From the change of a Secret until authentik has the new credential",
            Unit::Seconds,
            metrics.rotation_latency.clone(),
        );
        of.register(
            "watch_errors",
            "Failures of a watch by the kind that is watched",
            metrics.watch_errors.clone(),
        );
        of.register(
            "events",
            "Kubernetes events by what became of them",
            metrics.events.clone(),
        );

        metrics.registry = registry;
        metrics
    }

    /// All metrics as OpenMetrics text.
    pub fn encode(&self) -> String {
        let samplers = self.samplers.lock().unwrap_or_else(PoisonError::into_inner).clone();
        for sample in samplers {
            sample(self);
        }
        let mut out = String::new();
        if let Err(error) = text::encode(&mut out, &self.registry) {
            // What is written so far lacks its end mark, and a scraper refuses it as a whole.
            tracing::error!(%error, "failed to encode the metrics");
        }
        out
    }

    /// Has `sample` called before every scrape: for what is cheaper to look up than to keep up to date.
    pub fn before_scrape(&self, sample: impl Fn(&Self) + Send + Sync + 'static) {
        self.samplers
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .push(Arc::new(sample));
    }

    /// A pass begins; it ends when the timer is dropped.
    pub fn pass(self: &Arc<Self>, controller: Controller) -> PassTimer {
        self.active_workers.get_or_create(&of(controller)).inc();
        PassTimer {
            metrics: Arc::clone(self),
            controller,
            began: Instant::now(),
            end: None,
        }
    }

    /// How many passes may run at once.
    pub fn max_workers(&self, controller: Controller, workers: usize) {
        self.max_workers.get_or_create(&of(controller)).set(count(workers));
    }

    /// A trigger has come.
    pub fn queue_added(&self, queue: Controller) {
        self.queue_adds.get_or_create(&of_queue(queue)).inc();
    }

    /// An object has left the queue after it `waited`.
    pub fn queue_left(&self, queue: Controller, waited: Duration) {
        self.queue_wait
            .get_or_create(&of_queue(queue))
            .observe(waited.as_secs_f64());
    }

    /// A pass was put back after a failure.
    pub fn queue_retried(&self, queue: Controller) {
        self.queue_retries.get_or_create(&of_queue(queue)).inc();
    }

    /// What the queue holds now.
    pub fn queue(&self, queue: Controller, stats: &Stats) {
        let Stats {
            due,
            user,
            rest,
            running: _,
            longest_running,
            unfinished,
        } = *stats;
        let (name, labels) = (queue.as_str(), of_queue(queue));
        self.queue_depth.get_or_create(&labels).set(count(due));
        self.queue_unfinished
            .get_or_create(&labels)
            .set(unfinished.as_secs_f64());
        self.queue_longest
            .get_or_create(&labels)
            .set(longest_running.as_secs_f64());
        for (lane, waiting) in [(Lane::User, user), (Lane::Rest, rest)] {
            let labels = OfLane {
                name,
                controller: name,
                lane: lane.as_str(),
            };
            self.queue_waiting.get_or_create(&labels).set(count(waiting));
        }
    }

    /// A request to the Kubernetes API has ended; see [`CountRequests`].
    fn kubernetes_called(&self, method: &'static str, code: &'static str) {
        self.kubernetes_requests
            .get_or_create(&OfRequest { method, code })
            .inc();
    }

    /// A request to authentik has ended. All three words come from the closed sets of the client.
    pub fn called(&self, method: &'static str, route: &'static str, outcome: &'static str, took: Duration) {
        self.authentik_requests
            .get_or_create(&OfCall { method, route, outcome })
            .inc();
        self.authentik_seconds
            .get_or_create(&OfRoute { method, route })
            .observe(took.as_secs_f64());
    }

    /// A change that somebody made in authentik was undone.
    pub fn drift_repaired(&self) {
        self.drift_repaired.inc();
    }

    /// How many stage resources there are, by readiness and reason. A pair that is gone shows 0.
    pub fn stages(&self, counts: impl IntoIterator<Item = ((bool, Reason), usize)>) {
        let mut shown = self.stages_shown.lock().unwrap_or_else(PoisonError::into_inner);
        let mut gone = shown.clone();
        for ((ready, reason), stages) in counts {
            let labels = OfReadiness {
                ready: if ready { "true" } else { "false" },
                reason: reason.as_str(),
            };
            self.stages.get_or_create(&labels).set(count(stages));
            gone.remove(&labels);
            shown.insert(labels);
        }
        for labels in &gone {
            self.stages.get_or_create(labels).set(0);
        }
    }

    /// Age of the oldest snapshot, if there is any.
    pub fn snapshot_age(&self, oldest: Option<Duration>) {
        match oldest {
            Some(age) => {
                self.snapshot_age.get_or_create(&[]).set(age.as_secs_f64());
            }
            None => self.snapshot_age.clear(),
        }
    }

    /// How many connections have an open breaker.
    pub fn breakers_open(&self, connections: usize) {
        self.breaker_open.set(count(connections));
    }

    /// A resource became Ready so long after its creation or edit.
    pub fn became_ready(&self, after: Duration) {
        self.time_to_ready.observe(after.as_secs_f64());
    }

    /// A resource was gone so long after its deletion.
    pub fn deleted(&self, after: Duration) {
        self.deletion.observe(after.as_secs_f64());
    }

    /// authentik had a new credential so long after its Secret changed.
    pub fn rotated(&self, after: Duration) {
        self.rotation_latency.observe(after.as_secs_f64());
    }

    /// A watch has failed.
    pub fn watch_failed(&self, watched: Watched) {
        self.watch_errors
            .get_or_create(&OfKind { kind: watched.as_str() })
            .inc();
    }

    /// What became of `events` events.
    pub fn events(&self, outcome: EventOutcome, events: u64) {
        self.events
            .get_or_create(&OfOutcome {
                outcome: outcome.as_str(),
            })
            .inc_by(events);
    }
}

/// Measures one pass and records it when dropped, however the pass ends.
#[derive(Debug)]
#[must_use = "a pass is measured until its timer is dropped"]
pub struct PassTimer {
    metrics: Arc<Metrics>,
    controller: Controller,
    began: Instant,
    end: Option<PassEnd>,
}

impl PassTimer {
    /// The pass has ended so. A timer that is dropped without that counts as a panic if there is one, else (the pass
    /// was aborted) only with its time.
    pub fn end(mut self, end: PassEnd) {
        self.end = Some(end);
    }
}

impl Drop for PassTimer {
    fn drop(&mut self) {
        let Self {
            metrics,
            controller,
            began,
            end,
        } = self;
        let (labels, took) = (of(*controller), began.elapsed().as_secs_f64());
        metrics.active_workers.get_or_create(&labels).dec();
        metrics.pass_seconds.get_or_create(&labels).observe(took);
        metrics.queue_work.get_or_create(&of_queue(*controller)).observe(took);
        let end = end
            .take()
            .or_else(|| std::thread::panicking().then_some(PassEnd::Panic));
        let Some(end) = end else { return };
        let labels_of_result = OfResult {
            controller: controller.as_str(),
            result: end.result(),
        };
        metrics.passes.get_or_create(&labels_of_result).inc();
        match end {
            PassEnd::Success | PassEnd::Requeued => {}
            PassEnd::Error => {
                metrics.pass_errors.get_or_create(&labels).inc();
            }
            PassEnd::TerminalError => {
                metrics.pass_errors.get_or_create(&labels).inc();
                metrics.terminal_errors.get_or_create(&labels).inc();
            }
            PassEnd::Panic => {
                metrics.pass_errors.get_or_create(&labels).inc();
                metrics.panics.get_or_create(&labels).inc();
            }
        }
    }
}

const fn of(controller: Controller) -> OfController {
    OfController {
        controller: controller.as_str(),
    }
}

const fn of_queue(queue: Controller) -> OfQueue {
    OfQueue {
        name: queue.as_str(),
        controller: queue.as_str(),
    }
}

fn count(items: usize) -> i64 {
    i64::try_from(items).unwrap_or(i64::MAX)
}

#[cfg(test)]
mod tests;
