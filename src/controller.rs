//! What runs the pipeline: watches that say what is to be looked at, a queue that says when, workers that do it.
//!
//! ```text
//!   watches ──news──▶ queue ──due──▶ passes (reconcile) ──▶ events, metrics
//!                       ▲                 │
//!                       └──again, wake────┘
//! ```

pub mod events;
mod first_lists;
pub mod health;
mod invalid;
pub mod logging;
pub mod metrics;
mod passes;
pub mod queue;
mod references;
mod store;
mod watches;

use std::collections::{BTreeMap, HashMap};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use kube::ResourceExt;
use tokio::task::JoinSet;

use crate::api::{AuthenticatorSMSStage, AuthentikConnection, NamespacesFrom};
use crate::authentik;
use crate::reconcile::claims::Claim;
use crate::reconcile::connection::ConnectionMemory;
use crate::reconcile::memory::Memory;
use crate::reconcile::server::State;
use crate::reconcile::{ConnectionKey, Context, Object, ResourceKey};

use events::Events;
use health::Health;
use metrics::Metrics;
use queue::{Lane, Queue};
use store::{News, Store};
use watches::Scope;

/// How the operator learns that a Secret changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SecretAccess {
    /// By a watch, which needs `list` and `watch` on Secrets.
    Watch,
    /// By reading those in use again after this time, which needs only `get`.
    Get(Duration),
}

/// What the controller was started with.
#[derive(Clone, Debug)]
pub struct Options {
    /// Namespaces to watch; empty: all.
    pub namespaces: Vec<String>,
    /// How to learn that a Secret changed.
    pub secrets: SecretAccess,
    /// Longest time that passes may take to end after the signal to stop.
    pub shutdown: Duration,
}

/// Whose turn it is: a connection's own pass never waits for those of its stages, nor they for those of another's.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
enum Group {
    Connection(ConnectionKey),
    StagesOf(Option<ConnectionKey>),
}

/// What one resource keeps between its passes; the lock keeps two passes of it apart.
type Kept<T> = Arc<tokio::sync::Mutex<T>>;

/// What watches and passes share.
struct Shared {
    context: Context,
    queue: Queue<Object, Group>,
    stages: Store<ResourceKey, AuthenticatorSMSStage>,
    connections: Store<ConnectionKey, AuthentikConnection>,
    invalid: Mutex<HashMap<Object, ObjectMeta>>,
    memories: Mutex<HashMap<String, Kept<Memory>>>,
    connection_memories: Mutex<HashMap<String, Kept<ConnectionMemory>>>,
    events: Events,
    metrics: Arc<Metrics>,
    passes_have_begun: AtomicBool,
}

/// Passes of one group at once, until its connection says otherwise.
const DEFAULT_PASSES: usize = 8;

/// The loop of the queue goes round at least so often, and `/livez` fails when it does not.
const BEAT: Duration = Duration::from_secs(10);

/// A watch has ended, which it never should.
#[derive(Debug, thiserror::Error)]
#[error("a watch has ended, which it never should: start the operator again, and please report it with its log")]
pub struct WatchEnded;

/// Runs until `stop` ends, then lets passes that run come to their end.
///
/// What readiness waits for is told to `health` by the call itself, before the first poll: a probe that comes early must
/// not find that nothing is waited for.
///
/// # Errors
/// If a watch ends before that.
pub fn run(
    context: Context,
    options: Options,
    events: Events,
    metrics: Arc<Metrics>,
    health: Health,
    stop: impl Future<Output = ()> + Send,
) -> impl Future<Output = Result<(), WatchEnded>> + Send {
    let stages_listed = health.expect("AuthenticatorSMSStages listed");
    let connections_listed = health.expect("AuthentikConnections listed");
    health.beat("queue", BEAT * 6);
    async move {
        let queue = Queue::new(Arc::clone(&context.clock), DEFAULT_PASSES);
        let shared = Arc::new(Shared {
            context,
            queue,
            stages: Store::default(),
            connections: Store::default(),
            invalid: Mutex::default(),
            memories: Mutex::default(),
            connection_memories: Mutex::default(),
            events,
            metrics,
            passes_have_begun: AtomicBool::new(false),
        });
        shared.sample_metrics();
        let Options {
            namespaces,
            secrets,
            shutdown,
        } = options;
        let scopes: Vec<Scope> = if namespaces.is_empty() {
            vec![None]
        } else {
            namespaces.iter().cloned().map(Some).collect()
        };
        let mut watching = JoinSet::new();
        let (stage_lists, stages_are_listed) = first_lists::expect(scopes.len(), stages_listed);
        let (connection_lists, connections_are_listed) = first_lists::expect(scopes.len(), connections_listed);
        for ((scope, stages), connections) in scopes.iter().zip(stage_lists).zip(connection_lists) {
            watching.spawn(watches::stages(Arc::clone(&shared), scope.clone(), stages));
            watching.spawn(watches::connections(Arc::clone(&shared), scope.clone(), connections));
            if secrets == SecretAccess::Watch {
                watching.spawn(watches::secrets(Arc::clone(&shared), scope.clone()));
            }
        }
        if namespaces.is_empty() {
            watching.spawn(watches::namespaces(Arc::clone(&shared)));
        }
        if let SecretAccess::Get(interval) = secrets {
            watching.spawn(poll_secrets(Arc::clone(&shared), interval));
        }

        let mut stop = std::pin::pin!(stop);
        // No pass before every resource that owns a stage is known: who has what decides who may have what.
        let known = async {
            futures::future::join_all(stages_are_listed).await;
            futures::future::join_all(connections_are_listed).await;
            invalid::claim_what_they_have(&shared).await;
        };
        let mut known = std::pin::pin!(known);
        loop {
            health.beat("queue", BEAT * 6);
            tokio::select! {
                () = &mut known => break,
                () = &mut stop => return Ok(()),
                () = shared.context.clock.sleep_until(shared.context.clock.now() + BEAT) => {}
            }
        }
        tracing::info!("watching; resources are being reconciled");

        shared.passes_have_begun.store(true, Ordering::Release);
        let mut running = JoinSet::new();
        let mut ended = Ok(());
        loop {
            health.beat("queue", BEAT * 6);
            tokio::select! {
                () = &mut stop => break,
                next = shared.queue.next() => match next {
                    Some((object, ticket)) => {
                        running.spawn(passes::run(Arc::clone(&shared), object, ticket));
                    }
                    None => break,
                },
                Some(_) = running.join_next() => {}
                Some(_) = watching.join_next() => {
                    ended = Err(WatchEnded);
                    break;
                }
                () = shared.context.clock.sleep_until(shared.context.clock.now() + BEAT) => {}
            }
        }
        health.ended("queue");
        shared.queue.close();
        watching.shutdown().await;
        tracing::info!(passes = running.len(), "stopping; passes that run come to their end");
        let last = async { while running.join_next().await.is_some() {} };
        if tokio::time::timeout(shutdown, last).await.is_err() {
            tracing::warn!(passes = running.len(), "passes that had not ended were cut off");
        }
        let _ = tokio::time::timeout(Duration::from_secs(2), shared.events.flush()).await;
        ended
    }
}

/// Where Secrets may not be watched: everybody reads theirs again, one after the other.
async fn poll_secrets(shared: Arc<Shared>, interval: Duration) {
    loop {
        shared
            .context
            .clock
            .sleep_until(shared.context.clock.now() + interval)
            .await;
        for (key, _) in shared.connections.all() {
            shared.reread(&key);
            shared.look_at(Object::Connection(key), Lane::Rest);
        }
        for (key, _) in shared.stages.all() {
            shared.look_at(Object::Stage(key), Lane::Rest);
        }
    }
}

impl Shared {
    fn group(&self, object: &Object) -> Group {
        match object {
            Object::Connection(key) => Group::Connection(key.clone()),
            Object::Stage(key) => {
                let uid = self.stages.get(key).and_then(|stage| stage.uid()).unwrap_or_default();
                Group::StagesOf(
                    self.context
                        .claims()
                        .get(&uid)
                        .and_then(|claim| claim.connection.clone()),
                )
            }
        }
    }

    /// Has an object looked at, now.
    fn look_at(&self, object: Object, lane: Lane) {
        let controller = match object {
            Object::Stage(_) => metrics::Controller::Stage,
            Object::Connection(_) => metrics::Controller::Connection,
        };
        self.metrics.queue_added(controller);
        let group = self.group(&object);
        self.queue.add(object, group, lane, self.context.clock.now());
    }

    fn memory(&self, uid: &str) -> Kept<Memory> {
        let mut memories = self.memories.lock().unwrap_or_else(PoisonError::into_inner);
        Arc::clone(memories.entry(uid.to_owned()).or_default())
    }

    fn connection_memory(&self, uid: &str) -> Kept<ConnectionMemory> {
        let mut memories = self.connection_memories.lock().unwrap_or_else(PoisonError::into_inner);
        Arc::clone(memories.entry(uid.to_owned()).or_default())
    }

    // === what the watches bring ===

    /// Forgets that a resource did not deserialize.
    fn is_readable(&self, object: &Object) -> Option<ObjectMeta> {
        self.invalid
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .remove(object)
    }

    fn is_unreadable(&self, object: Object, metadata: ObjectMeta) {
        self.invalid
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .insert(object.clone(), metadata);
        self.look_at(object, Lane::User);
    }

    fn has_stage(&self, key: &ResourceKey, stage: Arc<AuthenticatorSMSStage>) {
        self.is_readable(&Object::Stage(key.clone()));
        let uid = stage.uid().unwrap_or_default();
        if self.context.claims().get(&uid).is_none() {
            let claim = Claim::of(&stage, self.context.settings.default_connection.as_ref());
            self.context.claims().put(&uid, claim);
        }
        let known = self.stages.get(key);
        let news = self.stages.put(key, stage);
        if let Some(before) = known.and_then(|stage| stage.uid()).filter(|before| *before != uid) {
            self.forget(&before);
        }
        match news {
            News::None => {}
            // A crowd of new resources waits behind what a user edits meanwhile.
            News::Other => self.look_at(Object::Stage(key.clone()), Lane::Rest),
            News::User => self.look_at(Object::Stage(key.clone()), Lane::User),
        }
    }

    fn has_invalid_stage(&self, key: &ResourceKey, metadata: ObjectMeta) {
        self.is_unreadable(Object::Stage(key.clone()), metadata);
    }

    fn stage_is_gone(&self, key: &ResourceKey) {
        let invalid = self.is_readable(&Object::Stage(key.clone()));
        let Some(stage) = self.stages.remove(key) else {
            if let Some(uid) = invalid.and_then(|metadata| metadata.uid) {
                self.forget(&uid);
            }
            return;
        };
        self.queue.forget(&Object::Stage(key.clone()));
        if let Some(since) = &stage.metadata.deletion_timestamp {
            self.metrics
                .deleted(self.context.clock.wall().duration_since(since.0).unsigned_abs());
        }
        let uid = stage.uid().unwrap_or_default();
        self.forget(&uid);
    }

    /// A stage found its server out of order: the connection's own round is the probe that finds it in order again.
    fn connection_may_be_out(&self, uid: &str) {
        let connection = self
            .context
            .claims()
            .get(uid)
            .and_then(|claim| claim.connection.clone());
        if let Some(key) = connection
            && let Some(State::Ready(server)) = self.context.servers.state(&key)
            && server.has_just_gone_out()
        {
            self.look_at(Object::Connection(key), Lane::Rest);
        }
    }

    /// A resource is gone: whoever waited for its name may have it, and its connection may go.
    fn forget(&self, uid: &str) {
        self.memories.lock().unwrap_or_else(PoisonError::into_inner).remove(uid);
        let claim = self.context.claims().remove(uid);
        let Some(claim) = claim else { return };
        let waiting = self.context.claims().wanting(&claim.name);
        for resource in waiting {
            self.look_at(Object::Stage(resource), Lane::User);
        }
        let Some(connection) = claim.connection else { return };
        let object = Object::Connection(connection.clone());
        let is_unreadable = self
            .invalid
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .contains_key(&object);
        if is_unreadable || self.connections.get(&connection).is_some() {
            self.look_at(object, Lane::Rest);
        } else if self.context.claims().through(&connection).is_empty() {
            self.context.servers.remove(&connection);
        }
    }

    fn has_connection(&self, key: &ConnectionKey, connection: Arc<AuthentikConnection>) {
        self.is_readable(&Object::Connection(key.clone()));
        self.context.servers.readable(key);
        self.context.servers.put(key, Arc::clone(&connection));
        let limit = usize::try_from(connection.spec.max_concurrent_requests)
            .unwrap_or(1)
            .max(1);
        self.queue.limit(&Group::StagesOf(Some(key.clone())), limit);
        self.queue.limit(&Group::Connection(key.clone()), 1);
        match self.connections.put(key, connection) {
            News::None => {}
            News::Other | News::User => {
                self.reread(key);
                self.look_at(Object::Connection(key.clone()), Lane::User);
            }
        }
    }

    fn has_invalid_connection(&self, key: &ConnectionKey, metadata: ObjectMeta) {
        self.is_unreadable(Object::Connection(key.clone()), metadata);
    }

    fn connection_is_gone(&self, key: &ConnectionKey) {
        self.is_readable(&Object::Connection(key.clone()));
        self.context.servers.readable(key);
        let Some(connection) = self.connections.remove(key) else {
            return;
        };
        self.queue.forget(&Object::Connection(key.clone()));
        self.queue.forget_group(&Group::Connection(key.clone()));
        self.queue.forget_group(&Group::StagesOf(Some(key.clone())));
        self.context.servers.gone(key);
        let uid = connection.uid().unwrap_or_default();
        self.connection_memories
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .remove(&uid);
        for stage in self.through(key) {
            self.look_at(Object::Stage(stage), Lane::Rest);
        }
    }

    fn through(&self, key: &ConnectionKey) -> Vec<ResourceKey> {
        self.context
            .claims()
            .through(key)
            .into_iter()
            .map(|claim| claim.resource.clone())
            .collect()
    }

    fn secret_changed(&self, namespace: &str, name: &str) {
        for (key, connection) in self.connections.all() {
            if references::connection_names_secret(&connection, namespace, name) {
                self.reread(&key);
                self.look_at(Object::Connection(key), Lane::User);
            }
        }
        for (key, stage) in self.stages.all() {
            if references::stage_names_secret(&stage, namespace, name) {
                self.look_at(Object::Stage(key), Lane::User);
            }
        }
    }

    fn namespace_has(&self, name: &str, labels: BTreeMap<String, String>) {
        if !self.context.namespaces.put(name, labels) {
            return;
        }
        let by_selector = |key: &ConnectionKey| {
            self.connections
                .get(key)
                .is_some_and(|connection| connection.spec.allowed_namespaces.from == NamespacesFrom::Selector)
        };
        for (key, stage) in self.stages.all() {
            let uid = stage.uid().unwrap_or_default();
            let connection = self
                .context
                .claims()
                .get(&uid)
                .and_then(|claim| claim.connection.clone());
            if key.namespace == name && connection.as_ref().is_some_and(by_selector) {
                self.look_at(Object::Stage(key), Lane::Rest);
            }
        }
    }

    /// The next pass of a connection reads its token and CA again.
    fn reread(&self, key: &ConnectionKey) {
        self.context.servers.reread(key);
    }

    /// What is cheaper to look up at a scrape than to keep up to date.
    fn sample_metrics(self: &Arc<Self>) {
        let shared = Arc::downgrade(self);
        self.metrics.before_scrape(move |metrics| {
            let Some(shared) = shared.upgrade() else { return };
            metrics.queue(metrics::Controller::Stage, &shared.queue.stats());
            let mut counts: HashMap<(bool, crate::api::Reason), usize> = HashMap::new();
            for (_, stage) in shared.stages.all() {
                if let Some(seen) = readiness(&stage) {
                    *counts.entry(seen).or_default() += 1;
                }
            }
            metrics.stages(counts);
            let now = shared.context.clock.now();
            let live = shared.context.servers.live();
            let ages = live.iter().filter_map(|server| {
                server
                    .snapshot()
                    .started()
                    .map(|started| now.saturating_duration_since(started))
            });
            metrics.snapshot_age(ages.max());
            metrics.breakers_open(live.iter().filter(|server| server.is_out()).count());
        });
    }
}

fn readiness(stage: &AuthenticatorSMSStage) -> Option<(bool, crate::api::Reason)> {
    let ready = crate::reconcile::status::ready(&stage.status.as_ref()?.conditions)?;
    let reason = crate::api::Reason::ALL
        .iter()
        .find(|reason| reason.as_str() == ready.reason)?;
    Some((ready.status == "True", *reason))
}

impl authentik::Observer for Metrics {
    fn called(&self, call: &authentik::Call) {
        self.called(
            call.method.as_str(),
            call.route.as_str(),
            call.outcome.as_str(),
            call.duration,
        );
    }
}
