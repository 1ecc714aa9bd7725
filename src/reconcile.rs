//! One level-triggered pass over one resource, as a list of steps.
//!
//! ```text
//!   validate   raw resource -> ValidStage                         pure
//!   resolve    connection, Secrets, flow, mapping -> Goal         reads Kubernetes, cached look-ups
//!   observe    what authentik holds -> Observed                   the connection's snapshot, or one GET
//!   plan       Goal, Observed, Policy -> Plan                     pure
//!   apply      carries the plan out, one action at a time         writes to authentik
//!   status     outcome -> conditions, events, next look           pure
//! ```
//!
//! Only [`record`] writes to Kubernetes, only [`apply`] and [`deletion`] to authentik.

pub mod access;
pub mod apply;
pub mod breaker;
pub mod claims;
mod conclusion;
pub mod connection;
mod correction;
mod create;
pub mod deletion;
pub mod failure;
pub mod fingerprint;
pub mod goal;
mod key;
pub mod kubernetes;
pub mod lookups;
pub mod memory;
pub mod namespaces;
pub mod observe;
mod ownership;
pub mod permission;
pub mod plan;
pub mod record;
pub mod resolve;
pub mod secrets;
pub mod server;
pub mod status;
mod suspended;
pub mod validate;

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use uuid::Uuid;

use crate::api::{AuthenticatorSMSStage, ManagementPolicy, Reason};
use crate::authentik::{Observer, StageRow, WriteTag};
use crate::clock::Clock;

use claims::Claims;
use fingerprint::Fingerprints;
use goal::Goal;
use memory::Memory;
use namespaces::Namespaces;
use observe::{Freshness, Observed};
use plan::{Action, Policy};
use record::Record;
use server::{Server, Servers, State};
use status::{Notice, Verdict};
use suspended::{References, Rest};
use validate::ValidStage;

pub use failure::Failure;
pub use key::{ConnectionKey, ResourceKey};

/// What every pass may use.
pub struct Context {
    /// The API server.
    pub kube: kube::Client,
    /// Time.
    pub clock: Arc<dyn Clock>,
    /// All connections.
    pub servers: Servers,
    /// Who has which stage.
    claims: Mutex<Claims>,
    /// Compares credentials without keeping them.
    pub fingerprints: Fingerprints,
    /// Labels of namespaces.
    pub namespaces: Namespaces,
    /// Told of every call to authentik.
    pub observer: Arc<dyn Observer>,
    /// What the operator was started with.
    pub settings: Settings,
}

/// What the operator was started with, as far as passes need it.
#[derive(Clone, Debug)]
pub struct Settings {
    /// Connection of resources that name none.
    pub default_connection: Option<ConnectionKey>,
    /// Tells this cluster from others in authentik's audit log.
    pub cluster_id: String,
}

impl Context {
    /// A context in which nothing is known yet.
    #[must_use]
    pub fn new(
        kube: kube::Client,
        clock: Arc<dyn Clock>,
        fingerprints: Fingerprints,
        observer: Arc<dyn Observer>,
        settings: Settings,
    ) -> Self {
        Self {
            kube,
            clock,
            servers: Servers::default(),
            claims: Mutex::default(),
            fingerprints,
            namespaces: Namespaces::default(),
            observer,
            settings,
        }
    }

    /// Who has which stage.
    pub fn claims(&self) -> MutexGuard<'_, Claims> {
        self.claims.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Something that can be reconciled.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Object {
    /// An `AuthenticatorSMSStage`.
    Stage(ResourceKey),
    /// An `AuthentikConnection`.
    Connection(ConnectionKey),
}

/// Why a pass ended before its end.
#[derive(Debug)]
pub enum Halt {
    /// Something is in the way.
    Failed(Failure),
    /// The connection has not been looked at yet; whoever looks wakes the resource.
    Later,
    /// The connection rests.
    ConnectionSuspended,
    /// The resource changed while the pass wrote to it: what was tried.
    Again(String),
    /// The resource is gone.
    Gone,
    /// The work goes on, after this time.
    Working(Verdict, Duration),
}

impl From<Failure> for Halt {
    fn from(failure: Failure) -> Self {
        Self::Failed(failure)
    }
}

/// What a pass came to.
#[derive(Debug, Default)]
pub struct Pass {
    /// When to look again; none: when something happens.
    pub next: Option<Duration>,
    /// Events to tell.
    pub notices: Vec<Notice>,
    /// What else has to be looked at now.
    pub wake: Vec<Object>,
    /// Why the resource is not as declared, if it is not.
    pub failure: Option<Reason>,
    /// Fields that somebody had changed in authentik and that were put right.
    pub repaired: usize,
    /// Whether a rotated credential was sent.
    pub rotated: bool,
}

/// A snapshot that is older is no witness: rounds are rare, or fail.
const SNAPSHOT: Duration = Duration::from_secs(120);

/// As often as this a pass begins again at once when the resource changes under it.
const ATTEMPTS: usize = 4;

/// One pass over an `AuthenticatorSMSStage`.
pub async fn stage(context: &Context, object: Arc<AuthenticatorSMSStage>, memory: &mut Memory) -> Pass {
    let object = match memory.latest.take() {
        Some(latest) if record::is_newer(&*latest, &*object) => latest,
        _ => object,
    };
    let mut work = Work::new(context, object, memory);
    let mut outcome = Err(Halt::Later);
    for attempt in 0..ATTEMPTS {
        if attempt > 0 {
            outcome = match work.begin_again().await {
                Ok(()) => work.run().await,
                Err(halt) => Err(halt),
            };
        } else {
            outcome = work.run().await;
        }
        if !matches!(outcome, Err(Halt::Again(_))) {
            break;
        }
    }
    work.finish(outcome).await
}

/// Reports a failure that no step of a pass could tell of: it panicked.
pub async fn report(
    context: &Context,
    object: Arc<AuthenticatorSMSStage>,
    memory: &mut Memory,
    failure: Failure,
) -> Pass {
    let mut work = Work::new(context, object, memory);
    // What the pass wrote before it panicked, an intent or a key, must not be written over.
    let outcome = work.begin_again().await;
    let outcome = outcome.and_then(|()| Err(failure.into()));
    work.finish(outcome).await
}

/// A pass in the making.
struct Work<'a> {
    context: &'a Context,
    memory: &'a mut Memory,
    record: Record<AuthenticatorSMSStage>,
    key: ResourceKey,
    /// The value of the annotation that asks for a round, if it has not been acted on.
    forced: Option<String>,
    pass: Pass,
}

impl<'a> Work<'a> {
    fn new(context: &'a Context, object: Arc<AuthenticatorSMSStage>, memory: &'a mut Memory) -> Self {
        let key = ResourceKey::of(&*object);
        let record = Record::new(context.kube.clone(), object);
        let forced = record.forced();
        memory.resend |= forced.is_some() && memory.forced != forced;
        memory.forced.clone_from(&forced);
        Self {
            context,
            memory,
            record,
            key,
            forced,
            pass: Pass::default(),
        }
    }

    async fn begin_again(&mut self) -> Result<(), Halt> {
        self.record.read_again().await?;
        self.record = Record::new(self.context.kube.clone(), Arc::clone(&self.record.object));
        Ok(())
    }

    async fn run(&mut self) -> Result<Verdict, Halt> {
        if self.record.is_leaving() {
            deletion::run(self).await
        } else {
            self.keep().await
        }
    }

    /// The stage is to be as declared.
    async fn keep(&mut self) -> Result<Verdict, Halt> {
        self.claim_again();
        self.drop_stale_failures();
        let spec = self.record.object.spec.clone();
        let stage = validate::validate(&spec, &self.key.name)?;
        let pinned = self.record.status.connection.clone();
        let key = resolve::connection_key(
            &spec,
            &self.key.namespace,
            pinned.as_ref(),
            self.context.settings.default_connection.as_ref(),
        );
        if stage.suspend {
            let known = self.known_references(&stage, key.as_ref().ok()).await;
            return Ok(suspended::verdict(&stage, &self.record.status, known, &Rest::Resource));
        }
        let key = key?;
        let server = match resolve::server(self.context, &key, &self.key.namespace, &spec).await {
            Ok(server) => server,
            Err(Halt::ConnectionSuspended) => {
                let rest = Rest::Connection(&key);
                return Ok(suspended::verdict(
                    &stage,
                    &self.record.status,
                    References::default(),
                    &rest,
                ));
            }
            Err(halt) => {
                if matches!(&halt, Halt::Failed(failure) if failure.reason == Reason::ConnectionNotAllowed) {
                    self.stand_aside(&stage.name);
                }
                return Err(halt);
            }
        };
        self.context.claims().admit(&self.record.uid());
        if let Some(failure) = server.refusal() {
            return Err(failure.into());
        }
        self.converge(&server, &stage).await
    }

    /// Where the references of a resource that is not to be touched lead, as far as that can be known without harm.
    async fn known_references(&self, stage: &ValidStage, key: Option<&ConnectionKey>) -> References {
        let admitted = self
            .context
            .claims()
            .get(&self.record.uid())
            .is_some_and(|claim| claim.admitted);
        let Some(State::Ready(server)) = key.filter(|_| admitted).and_then(|key| self.context.servers.state(key))
        else {
            return References::default();
        };
        let now = self.context.clock.now();
        References {
            flow: match &stage.configure_flow {
                Some(by) => resolve::flow(&server, by, now).await.ok(),
                None => None,
            },
            mapping: match &stage.mapping {
                Some(by) => resolve::mapping(&server, by, now).await.ok(),
                None => None,
            },
        }
    }

    /// Resolves, observes, plans and applies until there is nothing left to do.
    async fn converge(&mut self, server: &Arc<Server>, stage: &ValidStage) -> Result<Verdict, Halt> {
        let now = self.context.clock.now();
        let was_ready = status::was_ready(&self.record.status.conditions, self.record.generation());
        let mut goal = resolve::goal(self.context, server, &self.key.namespace, stage, now).await;
        let mut resolved_again = false;
        let mut sent: Vec<&'static str> = Vec::new();
        let mut held: Vec<Failure> = Vec::new();
        let settled = match stage.management {
            ManagementPolicy::Full => create::settle(self, server).await?,
            ManagementPolicy::Observe => None,
        };
        let mut observed = match settled {
            Some(observed) => observed,
            None => self.observe(server, stage).await?,
        };
        // A create or an adoption, then a correction, once more after a stale look-up: no plan takes more steps.
        for _ in 0..5 {
            let policy = self.policy(server, stage, &goal, &observed);
            let plan = plan::plan(&goal, &observed, policy);
            self.show(server, &goal, &observed, stage);
            self.record.status.drift = plan.drift;
            match plan.action {
                Action::Nothing => {
                    held.extend(plan.held);
                    return self.settled(server, stage, &goal, &observed, held);
                }
                Action::Refuse(failure) => return Err(failure.into()),
                Action::Create => observed = create::create(self, server, &goal).await?,
                Action::Adopt(_) => observed = self.adopt(server, observed).await?,
                Action::Update(pk, update) => {
                    let (update, contested) = self.without_contested(update, was_ready);
                    let (update, conflict) = self.without_a_rivals_name(server, update);
                    held.extend(conflict.into_iter().chain(contested));
                    if update.is_empty() {
                        held.extend(plan.held);
                        return self.settled(server, stage, &goal, &observed, held);
                    }
                    if update.changes.fields() == sent {
                        let failure = Failure::new(
                            Reason::Updating,
                            format!(
                                "authentik does not keep what it is sent in {}: the operator tries again",
                                sent.join(", ")
                            ),
                        );
                        return Err(failure.into());
                    }
                    sent = update.changes.fields();
                    let updated = apply::update(self.context, server, pk, update, &self.tag(None)).await?;
                    let Some(updated) = updated else {
                        // Gone since the last round: look before anything else is done.
                        observed = self.observe(server, stage).await?;
                        sent.clear();
                        continue;
                    };
                    self.corrected(&updated.changed, &goal, was_ready);
                    if updated.changed.contains(&"auth") {
                        self.sent(server, pk, &goal);
                    }
                    if let Some(row) = updated.row {
                        observed = Observed::Owned(row);
                    }
                    if updated.stale_reference && !resolved_again {
                        resolved_again = true;
                        goal = resolve::goal(self.context, server, &self.key.namespace, stage, now).await;
                        sent.clear();
                        continue;
                    }
                    held.extend(updated.refused);
                    if !held.is_empty() {
                        let left = plan::plan(
                            &goal,
                            &observed,
                            Policy {
                                credentials_stale: false,
                                ..policy
                            },
                        );
                        self.show(server, &goal, &observed, stage);
                        self.record.status.drift = left.drift;
                        held.extend(left.held);
                        return self.settled(server, stage, &goal, &observed, held);
                    }
                }
            }
        }
        Err(Failure::new(
            Reason::Updating,
            "the stage keeps changing in authentik: the operator tries again",
        )
        .into())
    }

    /// Nothing is left to do, or nothing that can be done.
    fn settled(
        &mut self,
        server: &Server,
        stage: &ValidStage,
        goal: &Goal,
        observed: &Observed,
        held: Vec<Failure>,
    ) -> Result<Verdict, Halt> {
        if stage.management == ManagementPolicy::Observe {
            self.memory.resend = false;
            return match held.into_iter().next() {
                Some(failure) => Err(failure.into()),
                None => Ok(observed_verdict(stage, observed, &self.record.status.drift)),
            };
        }
        if let (Observed::Owned(row), Ok(credentials)) = (observed, &goal.credentials) {
            let refused = held.iter().any(|failure| failure.reason == Reason::Rejected);
            let readable = row.auth.is_some();
            let unsent = self.policy(server, stage, goal, observed).credentials_stale;
            if !refused && (readable || !unsent) {
                self.sent_credentials(server, row.pk, credentials);
            }
        }
        if let Some(failure) = held.into_iter().next() {
            return Err(failure.into());
        }
        let interval = connection::sync_interval(self.context, &server.key).unwrap_or(connection::PROBE_INTERVAL);
        self.pass.next = self.memory.contest.quiet(interval, self.context.clock.now());
        Ok(Verdict::ready(
            Reason::Available,
            format!("stage {:?} is as declared", goal.name),
        ))
    }

    async fn observe(&mut self, server: &Server, stage: &ValidStage) -> Result<Observed, Halt> {
        let now = self.context.clock.now();
        let round = server.snapshot().started();
        let old = round.is_none_or(|round| now.saturating_duration_since(round) > SNAPSHOT);
        let freshness = if self.forced.is_some() || self.was_refused_the_name() || old {
            Freshness::Live
        } else {
            Freshness::Snapshot
        };
        if let Some(pk) = self.owned_pk() {
            let pinned = self.record.status.connection.clone();
            return Ok(
                match observe::by_pk(server, pk, pinned.as_ref(), freshness, now).await? {
                    Some(row) => {
                        self.pin(server);
                        Observed::Owned(row)
                    }
                    None => self
                        .who_refuses(server, stage)
                        .await?
                        .map_or(Observed::Gone, Observed::Taken),
                },
            );
        }
        match observe::by_name(server, &stage.name, freshness, now).await? {
            None => {
                let refusal = self.who_refuses(server, stage).await?;
                Ok(refusal.map_or(Observed::Vacant, Observed::Taken))
            }
            Some(row) => {
                let owner = self.context.claims().owner_of(row.pk, &self.record.uid());
                Ok(match owner {
                    Some(rival) if stage.management == ManagementPolicy::Full => {
                        observe::taken_by(&stage.name, &rival.resource, rival.deleting)
                    }
                    Some(_) | None => Observed::Unowned(row),
                })
            }
        }
    }

    /// Who has the name, if the last try found out by a refused create that somebody has: this time it is asked for.
    async fn who_refuses(&self, server: &Server, stage: &ValidStage) -> Result<Option<Failure>, Failure> {
        if !self.was_refused_the_name() || stage.management != ManagementPolicy::Full {
            return Ok(None);
        }
        let holder = observe::holder(server, &stage.name, self.context.clock.now()).await?;
        Ok(holder.taken(&stage.name))
    }

    /// Records in status what authentik holds.
    fn show(&mut self, server: &Server, goal: &Goal, observed: &Observed, stage: &ValidStage) {
        let clear = goal
            .credentials
            .as_ref()
            .ok()
            .and_then(|credentials| credentials.account_in_clear.as_deref());
        let view = |row: &StageRow| Some(status::stage_view(row, clear));
        self.record.status.stage = match observed {
            Observed::Owned(row) => view(row),
            Observed::Unowned(row) if stage.management == ManagementPolicy::Observe => view(row),
            // The key of a stage that is to be created again is kept until the new one is there: the token may have lost
            // sight of it, and then the name is taken by none but itself.
            Observed::Gone => self.record.status.stage.take(),
            // Not ours to forget: the token may have lost sight of it.
            _ if self.record.status.origin.is_some() => self.record.status.stage.take(),
            Observed::Vacant | Observed::Unowned(_) | Observed::Taken(_) => None,
        };
        if stage.management == ManagementPolicy::Observe && self.record.status.origin.is_none() {
            self.pin(server);
        }
    }

    /// What every write carries in its User-Agent.
    fn tag(&self, nonce: Option<&str>) -> WriteTag {
        WriteTag {
            cluster: self.context.settings.cluster_id.clone(),
            resource_uid: self.record.uid(),
            nonce: nonce.map_or_else(|| Uuid::new_v4().simple().to_string(), ToOwned::to_owned),
        }
    }
}

fn observed_verdict(stage: &ValidStage, observed: &Observed, drift: &[crate::api::Drift]) -> Verdict {
    match observed {
        Observed::Owned(_) | Observed::Unowned(_) if drift.is_empty() => {
            Verdict::ready(Reason::Observed, format!("stage {:?} equals the spec", stage.name))
        }
        Observed::Owned(_) | Observed::Unowned(_) => {
            let fields: Vec<_> = drift.iter().map(|drift| drift.field.as_str()).collect();
            Verdict::ready(
                Reason::DriftDetected,
                format!(
                    "stage {:?} differs from the spec in {}: see status.drift; managementPolicy Full would correct it",
                    stage.name,
                    fields.join(", ")
                ),
            )
        }
        Observed::Gone | Observed::Vacant | Observed::Taken(_) => Verdict::working(
            Reason::StageNotFound,
            format!(
                "authentik has no SMS stage {:?}: create it there, or set managementPolicy to Full",
                stage.name
            ),
        ),
    }
}
