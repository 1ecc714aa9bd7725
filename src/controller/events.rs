//! Kubernetes events about our resources: best effort, and never in the way of a pass.
//!
//! A pass only puts an event into a bounded queue; one task sends what is there, each within `TIMEOUT`. When the API
//! server is slower than the passes, the oldest events are dropped and counted. A failure is logged and counted, and
//! nothing else: whatever a user has to act on is in the status as well.
//!
//! kube's recorder folds repeats of one reason into one event for six minutes and keeps the note of the first, so that
//! a second cause of the same reason would never show. Here each different note has a recorder of its own: repeats of
//! one text are folded, another text is another event.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use k8s_openapi::api::core::v1::ObjectReference;
use kube::Client;
use kube::runtime::events::{self, EventType, Recorder, Reporter};
use tokio::sync::broadcast::error::RecvError;
use tokio::sync::{broadcast, watch};
use tokio::time::Instant;

use super::metrics::{EventOutcome, Metrics};

/// Name of the reporting controller, which `kubectl describe` shows beside the event.
const CONTROLLER: &str = "authentik-stage-operator";

/// Longest time for one event.
const TIMEOUT: Duration = Duration::from_secs(5);

/// Events that wait, at most.
const WAITING: usize = 256;

/// Longest note that the API server takes, in bytes.
const NOTE: usize = 1024;

/// For how long a repeat is folded, as the recorder has it.
const FOLD: Duration = Duration::from_secs(6 * 60);

/// Different events that are remembered for folding, at most.
const REMEMBERED: usize = 1024;

/// How serious an event is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Kind {
    /// Something was done.
    Normal,
    /// Something needs a user.
    Warning,
}

/// One event.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Event {
    /// How serious it is.
    pub kind: Kind,
    /// Why, in one CamelCase word of a closed set.
    pub reason: &'static str,
    /// What happened, for people; cut to 1024 bytes.
    pub note: String,
    /// What the operator was doing, in one CamelCase word of a closed set.
    pub action: &'static str,
}

/// Where events go. The task behind it ends once this is dropped and what waits is sent.
#[derive(Debug)]
pub struct Events {
    queue: broadcast::Sender<(ObjectReference, Event)>,
    published: AtomicU64,
    handled: watch::Receiver<u64>,
}

impl Events {
    /// Starts the task that sends events. `instance` is the name of this process among its replicas: the pod's.
    ///
    /// Must be called within a tokio runtime.
    #[must_use]
    pub fn new(client: Client, instance: String, metrics: Arc<Metrics>) -> Self {
        let (queue, waiting) = broadcast::channel(WAITING);
        let (progress, handled) = watch::channel(0);
        let reporter = Reporter {
            controller: CONTROLLER.to_owned(),
            instance: Some(instance),
        };
        let recorders = Recorders {
            client,
            reporter,
            recent: HashMap::new(),
        };
        tokio::spawn(send(waiting, recorders, metrics, progress));
        Self {
            queue,
            published: AtomicU64::new(0),
            handled,
        }
    }

    /// Sends an event about `object`, some time soon and if possible.
    pub fn publish(&self, object: &ObjectReference, event: Event) {
        self.published.fetch_add(1, Ordering::SeqCst);
        let event = Event {
            note: shorten(event.note),
            ..event
        };
        // It fails only if the task is gone, and the task ends only after this.
        let _ = self.queue.send((object.clone(), event));
    }

    /// Waits until every event that was published before is sent, has failed or was dropped.
    pub async fn flush(&self) {
        let published = self.published.load(Ordering::SeqCst);
        let mut handled = self.handled.clone();
        // It fails only if the task is gone, and then there is nothing to wait for.
        let _ = handled.wait_for(|handled| *handled >= published).await;
    }
}

async fn send(
    mut waiting: broadcast::Receiver<(ObjectReference, Event)>,
    mut recorders: Recorders,
    metrics: Arc<Metrics>,
    progress: watch::Sender<u64>,
) {
    loop {
        let handled = match waiting.recv().await {
            Ok((object, event)) => {
                let outcome = match tokio::time::timeout(TIMEOUT, recorders.publish(&object, &event)).await {
                    Ok(Ok(())) => EventOutcome::Published,
                    Ok(Err(error)) => {
                        log(&object, &event, &why(&error));
                        EventOutcome::Failed
                    }
                    Err(_) => {
                        log(&object, &event, &format!("no answer within {} s", TIMEOUT.as_secs()));
                        EventOutcome::Failed
                    }
                };
                metrics.events(outcome, 1);
                1
            }
            Err(RecvError::Lagged(dropped)) => {
                tracing::warn!(
                    dropped,
                    "the API server is too slow for all events: the oldest are dropped"
                );
                metrics.events(EventOutcome::Dropped, dropped);
                dropped
            }
            Err(RecvError::Closed) => return,
        };
        progress.send_modify(|all| *all += handled);
    }
}

fn log(object: &ObjectReference, event: &Event, error: &str) {
    let (namespace, name) = (object.namespace.as_deref(), object.name.as_deref());
    tracing::warn!(
        namespace,
        name,
        reason = event.reason,
        error,
        "failed to publish an event"
    );
}

/// The error without what a peer wrote into it, except the API server's own message.
fn why(error: &kube::Error) -> String {
    if let kube::Error::Api(status) = error {
        format!("the API server answered {}: {}", status.code, status.message)
    } else {
        "the API server could not be reached".to_owned()
    }
}

/// The recorders of recent events, one for each text about an object.
struct Recorders {
    client: Client,
    reporter: Reporter,
    recent: HashMap<(String, Event), (Instant, Recorder)>,
}

impl Recorders {
    async fn publish(&mut self, object: &ObjectReference, event: &Event) -> Result<(), kube::Error> {
        let now = Instant::now();
        self.recent.retain(|_, (last, _)| now.duration_since(*last) < FOLD);
        if self.recent.len() >= REMEMBERED {
            // Folding is a courtesy: without memory for it every event stands for itself.
            self.recent.clear();
        }
        let of_kube = events::Event {
            type_: match event.kind {
                Kind::Normal => EventType::Normal,
                Kind::Warning => EventType::Warning,
            },
            reason: event.reason.to_owned(),
            note: Some(event.note.clone()),
            action: event.action.to_owned(),
            secondary: None,
        };
        let key = (object.uid.clone().unwrap_or_default(), event.clone());
        if let Some((last, recorder)) = self.recent.get_mut(&key) {
            *last = now;
            match recorder.publish(&of_kube, object).await {
                // Somebody deleted the event that this one would be folded into.
                Err(kube::Error::Api(status)) if status.code == 404 => {}
                other => return other,
            }
        }
        let recorder = Recorder::new(self.client.clone(), self.reporter.clone());
        recorder.publish(&of_kube, object).await?;
        self.recent.insert(key, (now, recorder));
        Ok(())
    }
}

/// The note, cut at a character so that it has at most [`NOTE`] bytes.
fn shorten(mut note: String) -> String {
    const MARK: &str = "…";
    if note.len() > NOTE {
        let mut end = NOTE - MARK.len();
        while !note.is_char_boundary(end) {
            end -= 1;
        }
        note.truncate(end);
        note += MARK;
    }
    note
}

#[cfg(test)]
mod tests;
