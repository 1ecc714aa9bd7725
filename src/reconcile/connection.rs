//! One pass over an `AuthentikConnection`: token and CA, what the server says of itself and of the token, and the
//! round that sees the drift of all its stages.

pub mod check;
pub mod ingredients;
pub mod sync;

use super::permission;
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::memory::Failing;
use super::record::{Fenced, Record, is_newer};
use super::server::{Ingredients, Server, State};
use super::status::{self, Verdict};
use super::{ConnectionKey, Context, Failure, Halt, Pass, failure};
use crate::api::{AuthentikConnection, AuthentikConnectionSpec, Reason, VerifiedWith, schema};
use check::Needs;

/// How often a server is looked at that answers nothing, or whose connection asks for no rounds.
pub const PROBE_INTERVAL: Duration = Duration::from_secs(60);

/// How often version and rights are read again while all is well.
const CHECK_INTERVAL: Duration = Duration::from_secs(3600);

/// Version and rights are looked at again, because a stage met what may be the connection's trouble, at most so often.
const SUSPICION: Duration = Duration::from_secs(30);

/// A round that misses many stages at once is repeated after this time.
const AGREEMENT: Duration = Duration::from_secs(5);

/// After so many lost writes in a row it is no coincidence.
const CONFLICTS: u32 = 4;

/// A change of `status.stages` alone waits this long, so that a crowd costs one write.
const COUNT_INTERVAL: Duration = Duration::from_secs(10);

/// What is remembered of a connection between passes.
#[derive(Default)]
pub struct ConnectionMemory {
    latest: Option<Arc<AuthentikConnection>>,
    server: Option<Arc<Server>>,
    username: check::Username,
    checked: Option<Instant>,
    needs: Needs,
    /// Whether the right to change was asked for, which takes a stage that is there.
    may_change: bool,
    synced: Option<Instant>,
    repeat: Option<Instant>,
    lacking: Option<Failure>,
    conflicts: u32,
    username_due: bool,
    failing: Option<Failing>,
    counted: Option<Instant>,
    told: Option<Told>,
}

impl ConnectionMemory {
    /// The connection as our own last write left it.
    #[must_use]
    pub fn latest(&self) -> Option<Arc<AuthentikConnection>> {
        self.latest.clone()
    }
}

/// What stages were last told of their connection: they are woken when it changes, and not before.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Told {
    made_of: Option<Ingredients>,
    suspended: bool,
    usable: bool,
    reason: Reason,
}

/// The time between rounds that a connection asks for; none: no rounds of their own.
#[must_use]
pub fn sync_interval(context: &Context, key: &ConnectionKey) -> Option<Duration> {
    let connection = context.servers.resource(key)?;
    interval_of(&connection.spec).filter(|interval| !interval.is_zero())
}

/// `syncInterval`, if it is a valid one.
fn interval_of(spec: &AuthentikConnectionSpec) -> Option<Duration> {
    ingredients::duration(&spec.sync_interval).filter(|interval| {
        interval.is_zero() || (Duration::from_secs(10)..=Duration::from_secs(24 * 3600)).contains(interval)
    })
}

/// One pass over an `AuthentikConnection`.
pub async fn connection(context: &Context, object: Arc<AuthentikConnection>, memory: &mut ConnectionMemory) -> Pass {
    let object = match memory.latest.take() {
        Some(latest) if is_newer(&*latest, &*object) => latest,
        _ => object,
    };
    let key = ConnectionKey::of(&*object);
    context.servers.put(&key, Arc::clone(&object));
    let record = Record::new(context.kube.clone(), object);
    let mut work = Work {
        context,
        memory,
        key,
        record,
        pass: Pass::default(),
    };
    let outcome = work.run().await;
    work.finish(outcome).await
}

struct Work<'a> {
    context: &'a Context,
    memory: &'a mut ConnectionMemory,
    key: ConnectionKey,
    record: Record<AuthentikConnection>,
    pass: Pass,
}

impl Work<'_> {
    async fn run(&mut self) -> Result<Verdict, Halt> {
        let leaving = self.record.is_leaving();
        let holders = self.context.claims().holding(&self.key);
        if leaving && holders.is_empty() {
            self.context
                .servers
                .set(&self.key, State::NotReady(super::server::not_found(&self.key)));
            self.record.release_finalizer().await?;
            return Err(Halt::Gone);
        }
        if !leaving && self.needs().writes {
            self.record.take_finalizer().await?;
        }
        if self.record.object.spec.suspend {
            self.context.servers.set(&self.key, State::Suspended);
            return Ok(Verdict::suspended(
                true,
                "everything that goes through this connection rests, since spec.suspend is set",
            ));
        }
        let server = self.server().await?;
        if let Some((wait, failure)) = server.pause(self.context.clock.now()) {
            return Err(failure.not_before(Some(wait)).into());
        }
        let was_open = server.is_out();
        let lacking = self.check_and_sync(&server).await?;
        if was_open {
            self.pass.wake.extend(sync::everybody(self.context, &self.key));
        }
        self.context.servers.set(&self.key, State::Ready(Arc::clone(&server)));
        if std::mem::take(&mut self.memory.username_due) {
            self.memory.username = check::username(&server).await.or(self.memory.username.take());
        }
        // What one right is missing for is told here; what does not need it goes on.
        if let Some(failure) = lacking {
            self.pass.next = Some(PROBE_INTERVAL);
            return Ok(Verdict::failed(&failure));
        }
        Ok(Verdict::ready(
            Reason::Available,
            "the server answers and the token may do what is needed",
        ))
    }

    /// The live server: the one there is if it is made of the same, else a new one.
    async fn server(&mut self) -> Result<Arc<Server>, Failure> {
        // A round costs no call to the API server: what has not changed is not read again.
        let generation = self.record.generation();
        let reread = self.context.servers.is_to_be_reread(&self.key) || self.memory.failing.is_some();
        let check_due = self
            .memory
            .checked
            .is_none_or(|at| self.context.clock.now().saturating_duration_since(at) >= CHECK_INTERVAL);
        // The generation tells of an edit that came while a pass was under way.
        let as_it_was = self
            .memory
            .server
            .as_ref()
            .filter(|server| !reread && !check_due && server.made_of.generation == generation);
        if let Some(server) = as_it_was {
            return Ok(Arc::clone(server));
        }
        let gathered = ingredients::gather(self.context, &self.record.object).await?;
        if let Some(server) = self
            .memory
            .server
            .as_ref()
            .filter(|server| server.made_of == gathered.made_of)
        {
            return Ok(Arc::clone(server));
        }
        let made_of = gathered.made_of.clone();
        let client = gathered.client(self.context, &self.key)?;
        let server = Server::new(self.key.clone(), self.record.uid(), client, made_of.clone());
        let verified = self.record.status.verified_with.as_ref();
        if verified == Some(&verified_with(&made_of)) {
            server.showed_a_stage();
        }
        let server = Arc::new(match &self.memory.server {
            Some(before) => server.after(before),
            None => server,
        });
        self.memory.server = Some(Arc::clone(&server));
        self.memory.checked = None;
        self.memory.synced = None;
        self.memory.repeat = None;
        self.memory.lacking = None;
        self.memory.username = None;
        Ok(server)
    }

    /// Looks at version and rights, and reads all stages, each if it is due. A right that only some stages need and
    /// the token lacks is no obstacle to the others.
    async fn check_and_sync(&mut self, server: &Server) -> Result<Option<Failure>, Failure> {
        let now = self.context.clock.now();
        let is_due =
            |at: Option<Instant>, every: Duration| at.is_none_or(|at| now.saturating_duration_since(at) >= every);
        let needs = self.needs();
        let suspected = self.context.servers.is_to_be_rechecked(&self.key) && is_due(self.memory.checked, SUSPICION);
        let anew = self.memory.failing.is_some() || self.record.forced().is_some() || server.is_out();
        let interval = interval_of(&self.record.object.spec).unwrap_or(PROBE_INTERVAL);
        let sync_due = anew
            || self.memory.repeat.is_some_and(|at| now >= at)
            || match interval {
                Duration::ZERO => self.memory.synced.is_none(),
                interval => is_due(self.memory.synced, jittered(interval, &self.record.uid())),
            };
        let check_due = anew
            || suspected
            || needs != self.memory.needs
            || self.memory.lacking.is_some()
            || is_due(self.memory.checked, CHECK_INTERVAL);
        // The round first: it finds a stage on which the right to change can be probed.
        if sync_due {
            let round = match sync::sync(self.context, server).await {
                // Told apart from a missing right by the look at the version, which needs none.
                Err(failure) if failure.reason == Reason::Forbidden => {
                    check::version(self.context, server).await?;
                    server.lacks(permission::VIEW);
                    return Err(failure);
                }
                round => round?,
            };
            self.pass.wake.extend(round.wake);
            self.memory.synced = Some(now);
            self.memory.repeat = round.repeat.then(|| now + AGREEMENT);
        }
        let probe = check::probe_of_changes(server).filter(|_| needs.writes);
        if check_due {
            self.memory.checked = None;
            self.memory.lacking = check::check(self.context, server, needs).await?;
            self.memory.checked = Some(now);
            self.memory.username_due = true;
            self.memory.needs = needs;
            self.memory.may_change = probe.is_some();
        } else if let Some(pk) = probe.filter(|_| !self.memory.may_change) {
            self.memory.lacking = check::may_change(self.context, server, pk).await?;
            self.memory.may_change = true;
        }
        Ok(self.memory.lacking.clone())
    }

    fn needs(&self) -> Needs {
        let claims = self.context.claims();
        let through = claims.through(&self.key);
        Needs {
            writes: through.iter().any(|claim| claim.admitted && claim.writes),
            deletes: through
                .iter()
                .any(|claim| claim.admitted && claim.writes && claim.deletes),
        }
    }

    async fn finish(mut self, outcome: Result<Verdict, Halt>) -> Pass {
        let now = self.context.clock.now();
        let was_ready = status::was_ready(&self.record.status.conditions, self.record.generation());
        let forced = self.record.forced();
        let outcome = match outcome {
            Err(Halt::Again(doing)) if self.memory.conflicts >= CONFLICTS => Err(status::keeps_refusing(&doing).into()),
            outcome => outcome,
        };
        self.memory.conflicts = if matches!(outcome, Err(Halt::Again(_))) {
            self.memory.conflicts + 1
        } else {
            0
        };
        let verdict = match outcome {
            Ok(verdict) => {
                self.memory.failing = None;
                let next = self.next_round(now);
                self.pass.next = self.pass.next.into_iter().chain(next).min();
                verdict
            }
            Err(Halt::Failed(failure)) => {
                self.pass.failure = Some(failure.reason);
                let (delay, unwell_for) = self.retry(&failure);
                self.pass.next = Some(delay);
                if was_ready && failure::has_grace(failure.reason) && unwell_for < status::GRACE && forced.is_none() {
                    // A blip: the stages meet it themselves, if they have anything to ask, and have a grace of their own.
                    self.pass.next = Some(delay.min(status::GRACE.saturating_sub(unwell_for)));
                    return self.end();
                }
                self.context.servers.set(&self.key, State::NotReady(failure.clone()));
                Verdict::failed(&failure)
            }
            Err(Halt::Gone) => return self.pass,
            Err(Halt::Again(_) | Halt::Later | Halt::ConnectionSuspended | Halt::Working(..)) => {
                // Changed since it was read; the watch brings the change, and with it the next pass.
                self.pass.next = Some(Duration::from_secs(1));
                return self.end();
            }
        };
        self.tell_stages(&verdict);
        let verdict = self.blocked(verdict);
        self.record.conclude(self.context, &verdict);
        self.describe(forced);
        if let Err(halt) = self.record.write_status(Fenced::No).await {
            tracing::warn!(connection = %self.key, ?halt, "cannot write the status");
            self.pass.next = Some(Duration::from_secs(1));
        }
        self.end()
    }

    /// What keeps a connection that is being deleted comes before everything else there is to say of it.
    fn blocked(&self, verdict: Verdict) -> Verdict {
        let holders = self.context.claims().holding(&self.key);
        if !self.record.is_leaving() || holders.is_empty() {
            return verdict;
        }
        let names: Vec<_> = holders.iter().take(16).map(ToString::to_string).collect();
        let besides = if verdict.ready && verdict.reason == Reason::Available {
            String::new()
        } else {
            format!("; besides, {}", verdict.message)
        };
        Verdict::working(
            Reason::DeletionBlocked,
            format!(
                "{} AuthenticatorSMSStage(s) still own stages through this connection: delete them first, or set their \
                 deletionPolicy to Orphan: {}{besides}",
                holders.len(),
                names.join(", ")
            ),
        )
    }

    fn end(mut self) -> Pass {
        self.memory.latest = Some(Arc::clone(&self.record.object));
        self.pass.notices = self.record.notices;
        self.pass
    }

    /// Time to the next try, and how long the connection has failed at anything.
    fn retry(&mut self, failure: &Failure) -> (Duration, Duration) {
        let now = self.context.clock.now();
        let failing = Failing::at(
            failure.reason,
            self.record.generation(),
            self.memory.failing,
            &self.record.status.conditions,
            (now, self.context.clock.wall()),
        );
        self.memory.failing = Some(failing);
        let delay = failing.delay(&self.record.uid(), failure.retry_after, now);
        let open = self.memory.server.as_ref().is_some_and(|server| server.is_out());
        let probe = interval_of(&self.record.object.spec).filter(|interval| !interval.is_zero());
        // Where the server names a time, that is when it is asked again.
        let delay = if open && failure.retry_after.is_none() {
            delay.max(probe.unwrap_or(PROBE_INTERVAL).min(PROBE_INTERVAL))
        } else {
            delay
        };
        (delay, now.saturating_duration_since(failing.first))
    }

    /// The time to the next round, counted from the last one, whatever other passes came in between; none: a
    /// connection that rests is woken by its next edit.
    fn next_round(&self, now: Instant) -> Option<Duration> {
        if self.record.object.spec.suspend {
            return None;
        }
        if let Some(at) = self.memory.repeat {
            return Some(at.saturating_duration_since(now));
        }
        let interval = interval_of(&self.record.object.spec).filter(|interval| !interval.is_zero());
        let Some(interval) = interval else {
            return Some(CHECK_INTERVAL);
        };
        let interval = jittered(interval, &self.record.uid());
        let last = self.memory.synced.unwrap_or(now);
        Some((last + interval).saturating_duration_since(now))
    }

    /// Wakes the stages if something changed that is of interest to them.
    fn tell_stages(&mut self, verdict: &Verdict) {
        let told = Told {
            made_of: self.memory.server.as_ref().map(|server| server.made_of.clone()),
            suspended: self.record.object.spec.suspend,
            usable: matches!(self.context.servers.state(&self.key), Some(State::Ready(_))),
            reason: verdict.reason,
        };
        if self.memory.told.as_ref() != Some(&told) {
            self.pass.wake.extend(sync::everybody(self.context, &self.key));
            self.memory.told = Some(told);
        }
    }

    fn describe(&mut self, forced: Option<String>) {
        let now = self.context.clock.now();
        let status = &mut self.record.status;
        if let Some(server) = &self.memory.server {
            status.server_version = server.version().map(|version| version.to_string());
            status.missing_permissions = server.missing_permissions();
            if server.has_shown_a_stage() {
                status.verified_with = Some(verified_with(&server.made_of));
            }
        }
        if let Some(name) = &self.memory.username {
            status.username = Some(status::bounded(name, schema::STATUS_TEXT));
        }
        if forced.is_some() {
            status.last_handled_reconcile_at = forced;
        }
        let stages = self
            .context
            .claims()
            .through(&self.key)
            .iter()
            .filter(|claim| claim.admitted)
            .count();
        let stages = i64::try_from(stages).unwrap_or(i64::MAX);
        if stages == status.stages {
            return;
        }
        if self
            .memory
            .counted
            .is_none_or(|at| now.saturating_duration_since(at) >= COUNT_INTERVAL)
        {
            status.stages = stages;
            self.memory.counted = Some(now);
        } else {
            self.pass.next = Some(self.pass.next.map_or(COUNT_INTERVAL, |next| next.min(COUNT_INTERVAL)));
        }
    }
}

/// Puts the finalizer on a connection that a stage is about to depend on, unless it is there.
///
/// # Errors
/// `ConnectionNotReady` for one that is on its way out; [`Halt::Again`] if it changed since it was read.
pub async fn hold(context: &Context, key: &ConnectionKey) -> Result<(), Halt> {
    let Some(object) = context.servers.resource(key) else {
        return Err(super::server::not_found(key).into());
    };
    let mut record = Record::new(context.kube.clone(), object);
    if record.is_leaving() {
        let message = format!("AuthentikConnection {key} is being deleted: nothing new is created through it");
        return Err(Failure::new(Reason::ConnectionNotReady, message).into());
    }
    if record.has_finalizer() {
        return Ok(());
    }
    let held = match record.take_finalizer().await {
        Err(Halt::Again(_)) => {
            record.read_again().await?;
            record.take_finalizer().await
        }
        held => held,
    };
    match held {
        Ok(()) => {
            context.servers.put(key, record.object);
            Ok(())
        }
        Err(Halt::Gone) => Err(super::server::not_found(key).into()),
        Err(halt) => Err(halt),
    }
}

fn verified_with(made_of: &Ingredients) -> VerifiedWith {
    VerifiedWith {
        url: status::bounded(&made_of.url, schema::STATUS_URL),
        token_secret_uid: made_of.token.0.clone(),
        token_resource_version: made_of.token.1.clone(),
    }
}

/// The interval, up to a tenth shorter, so that connections do not go in step.
fn jittered(interval: Duration, uid: &str) -> Duration {
    interval.mul_f64(1.0 - f64::from(status::spread(uid, 100)) / 1000.0)
}
