//! Live connections: what a pass needs of a server, and where it finds it.

use std::collections::{BTreeSet, HashMap, HashSet};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock};
use std::time::{Duration, Instant};

use uuid::Uuid;

use crate::api::{AuthentikConnection, Reason};
use crate::authentik::{Client, Endpoint, Error, Features, ServerVersion, Snapshot, StageRow};

use super::breaker::Breaker;
use super::lookups::Lookups;
use super::{ConnectionKey, Failure, failure, resolve};

/// One authentik under one URL and token.
pub struct Server {
    /// The connection that leads to it.
    pub key: ConnectionKey,
    /// UID of the connection.
    pub uid: String,
    /// How to talk to it.
    pub client: Client,
    /// What the client was made of: another token or CA makes another server.
    pub made_of: Ingredients,
    /// Answers to what specs call flows and mappings.
    pub lookups: Lookups,
    version: RwLock<Option<ServerVersion>>,
    snapshot: Arc<Mutex<Snapshot>>,
    breaker: Mutex<Breaker>,
    has_shown_a_stage: AtomicBool,
    doubts_absence: AtomicBool,
    may_view_events: AtomicBool,
    written_by_others: Mutex<HashSet<Uuid>>,
    newest_event: Mutex<Option<String>>,
    lacking: Mutex<BTreeSet<&'static str>>,
}

/// What a client is made of. Compared, never shown.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ingredients {
    /// Generation of the connection.
    pub generation: i64,
    /// URL.
    pub url: String,
    /// UID and version of the token's Secret.
    pub token: (String, String),
    /// UID and version of the object with the CA bundle.
    pub ca: Option<(String, String)>,
}

impl Server {
    /// A server that nobody has asked anything yet.
    #[must_use]
    pub fn new(key: ConnectionKey, uid: String, client: Client, made_of: Ingredients) -> Self {
        Self {
            key,
            uid,
            client,
            made_of,
            lookups: Lookups::default(),
            version: RwLock::default(),
            snapshot: Arc::default(),
            breaker: Mutex::default(),
            has_shown_a_stage: AtomicBool::new(false),
            doubts_absence: AtomicBool::new(false),
            may_view_events: AtomicBool::new(false),
            written_by_others: Mutex::default(),
            newest_event: Mutex::default(),
            lacking: Mutex::default(),
        }
    }

    /// The same server under another token or other limits: what it holds, and what was written to it, stays known.
    #[must_use]
    pub fn after(mut self, before: &Self) -> Self {
        if before.made_of.url == self.made_of.url {
            self.snapshot = Arc::clone(&before.snapshot);
        }
        self
    }

    /// URL as users wrote it, without a slash at the end.
    #[must_use]
    pub fn url(&self) -> String {
        self.client.endpoint().to_string()
    }

    /// Version, once it is known.
    #[must_use]
    pub fn version(&self) -> Option<ServerVersion> {
        self.version.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// What a server of that version does.
    #[must_use]
    pub fn features(&self) -> Features {
        Features::of(self.version.read().unwrap_or_else(PoisonError::into_inner).as_ref())
    }

    /// Records what the server says of its version.
    pub fn set_version(&self, version: ServerVersion) {
        *self.version.write().unwrap_or_else(PoisonError::into_inner) = Some(version);
    }

    /// What the last rounds saw.
    pub fn snapshot(&self) -> MutexGuard<'_, Snapshot> {
        self.snapshot.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn breaker(&self) -> MutexGuard<'_, Breaker> {
        self.breaker.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The server answered.
    pub fn answered(&self) {
        self.breaker().succeeded();
    }

    /// Why nobody but the connection's own round may ask now.
    #[must_use]
    pub fn refusal(&self) -> Option<Failure> {
        self.breaker().refusal().cloned()
    }

    /// Why not even the connection's own round may ask now, and for how long: the server said so.
    #[must_use]
    pub fn pause(&self, now: Instant) -> Option<(Duration, Failure)> {
        let breaker = self.breaker();
        breaker.probe_wait(now).zip(breaker.refusal().cloned())
    }

    /// Whether it was found out of order since this was last asked.
    #[must_use]
    pub fn has_just_gone_out(&self) -> bool {
        self.breaker().has_just_opened()
    }

    /// Why a deletion may not ask now. Where the connection itself cannot, a deletion is the probe.
    #[must_use]
    pub fn refusal_of_a_probe(&self, now: Instant) -> Option<Failure> {
        let breaker = self.breaker();
        breaker.refusal().filter(|_| !breaker.lets_probe(now)).cloned()
    }

    /// Whether the server is taken to be out of order.
    #[must_use]
    pub fn is_out(&self) -> bool {
        self.breaker().is_open()
    }

    /// Records that the server showed a stage that a resource owns: from now on its "no such stage" means that.
    pub fn showed_a_stage(&self) {
        self.has_shown_a_stage.store(true, Ordering::Release);
    }

    /// Whether "no such stage" of this server means that the stage is gone.
    ///
    /// A token with rights on single objects gets the same answer for what it may not see, and so does the token of
    /// another server behind the same URL.
    #[must_use]
    pub fn is_believed_about_absence(&self) -> bool {
        self.has_shown_a_stage.load(Ordering::Acquire) && !self.doubts_absence.load(Ordering::Acquire)
    }

    /// Whether the server has ever shown a stage that a resource owns.
    #[must_use]
    pub fn has_shown_a_stage(&self) -> bool {
        self.has_shown_a_stage.load(Ordering::Acquire)
    }

    /// So many stages went at once that a second round has to agree.
    pub fn doubt_absence(&self, doubt: bool) {
        self.doubts_absence.store(doubt, Ordering::Release);
    }

    /// Whether the token may read audit events.
    #[must_use]
    pub fn may_view_events(&self) -> bool {
        self.may_view_events.load(Ordering::Acquire)
    }

    /// Records whether the token may read audit events.
    pub fn set_may_view_events(&self, may: bool) {
        self.may_view_events.store(may, Ordering::Release);
    }

    /// Records whether somebody else wrote a stage last, so that what the server does not show may have changed.
    pub fn wrote_by_others(&self, pk: Uuid, others: bool) {
        let mut written = self.written_by_others.lock().unwrap_or_else(PoisonError::into_inner);
        if others {
            written.insert(pk);
        } else {
            written.remove(&pk);
        }
    }

    /// Whether somebody else wrote a stage last.
    #[must_use]
    pub fn was_written_by_others(&self, pk: Uuid) -> bool {
        self.written_by_others
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .contains(&pk)
    }

    /// The audit event up to which changes of others are known, empty if there was none; none: nobody has looked.
    #[must_use]
    pub fn newest_event(&self) -> Option<String> {
        self.newest_event.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Records up to which audit event changes of others are known.
    pub fn saw_event(&self, event: String) {
        *self.newest_event.lock().unwrap_or_else(PoisonError::into_inner) = Some(event);
    }

    /// The token turned out to lack a permission.
    pub fn lacks(&self, permission: &'static str) {
        self.lacking
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .insert(permission);
    }

    /// The token turned out to have a permission.
    pub fn permitted(&self, permission: &'static str) {
        self.lacking
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .remove(permission);
    }

    /// Permissions that the token lacks, as far as anybody has found out.
    #[must_use]
    pub fn missing_permissions(&self) -> Vec<String> {
        let lacking = self.lacking.lock().unwrap_or_else(PoisonError::into_inner);
        lacking.iter().map(|permission| (*permission).to_owned()).collect()
    }

    /// Remembers the reply to a write of ours: newer than any round that began before.
    pub fn wrote(&self, pk: Uuid, row: Option<StageRow>, ended: Instant) {
        self.snapshot().wrote(pk, row, ended);
    }

    /// What a failed call means, after the breaker has been told of it.
    pub fn failure(&self, error: &Error, doing: &str, permission: &'static str, now: Instant) -> Failure {
        let failure = failure::of_call(error, doing, permission, &self.key);
        if failure.reason == Reason::Forbidden && permission.starts_with("authentik_") {
            self.lacks(permission);
        }
        if failure::is_outage(failure.reason) && !matches!(error, Error::NotFound { .. }) {
            self.breaker().failed(&failure, now);
        } else {
            self.breaker().succeeded();
        }
        failure
    }
}

/// What is known of one connection.
#[derive(Clone)]
pub enum State {
    /// Nobody has looked yet.
    Unchecked,
    /// It can be used.
    Ready(Arc<Server>),
    /// It cannot, and why.
    NotReady(Failure),
    /// Its owner asks for rest.
    Suspended,
}

struct Entry {
    resource: Arc<AuthentikConnection>,
    state: State,
    last_good: Option<Arc<Server>>,
    reread: bool,
    recheck: bool,
}

/// All connections of the cluster that the operator sees.
#[derive(Default)]
pub struct Servers {
    entries: Mutex<HashMap<ConnectionKey, Entry>>,
    unreadable: Mutex<HashMap<ConnectionKey, Failure>>,
}

impl Servers {
    fn entries(&self) -> MutexGuard<'_, HashMap<ConnectionKey, Entry>> {
        self.entries.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Records a connection as the API server has it now.
    pub fn put(&self, key: &ConnectionKey, resource: Arc<AuthentikConnection>) {
        let mut entries = self.entries();
        match entries.get_mut(key) {
            Some(entry) => {
                let uid = |connection: &AuthentikConnection| connection.metadata.uid.clone();
                if uid(&entry.resource) != uid(&resource) {
                    // Another connection of that name: nothing of the old one is true of it.
                    entry.state = State::Unchecked;
                    entry.reread = true;
                }
                entry.resource = resource;
            }
            None => {
                entries.insert(
                    key.clone(),
                    Entry {
                        resource,
                        state: State::Unchecked,
                        last_good: None,
                        reread: true,
                        recheck: false,
                    },
                );
            }
        }
    }

    /// Forgets a connection that is gone from the API server, but not how to talk to its server: what has to be
    /// deleted there still can be.
    pub fn gone(&self, key: &ConnectionKey) {
        if let Some(entry) = self.entries().get_mut(key) {
            entry.state = State::NotReady(not_found(key));
        }
    }

    /// A stage met what may be the connection's trouble: the next pass is to look at version and rights again.
    pub fn recheck(&self, key: &ConnectionKey) {
        if let Some(entry) = self.entries().get_mut(key) {
            entry.recheck = true;
        }
    }

    /// Whether version and rights are to be looked at again.
    #[must_use]
    pub fn is_to_be_rechecked(&self, key: &ConnectionKey) -> bool {
        self.entries()
            .get_mut(key)
            .is_some_and(|entry| std::mem::take(&mut entry.recheck))
    }

    /// Records that a connection's spec cannot be read: it is there, and can be used for nothing new.
    pub fn unreadable(&self, key: &ConnectionKey, failure: Failure) {
        self.set(key, State::NotReady(failure.clone()));
        self.unreadable
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .insert(key.clone(), failure);
    }

    /// Records that it can be read, or is gone.
    pub fn readable(&self, key: &ConnectionKey) {
        self.unreadable
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .remove(key);
    }

    /// That there is no such connection, or only one that cannot be read.
    #[must_use]
    pub fn missing(&self, key: &ConnectionKey) -> Failure {
        let unreadable = self.unreadable.lock().unwrap_or_else(PoisonError::into_inner);
        unreadable
            .get(key)
            .map_or_else(|| not_found(key), |failure| resolve::not_ready(key, failure))
    }

    /// Forgets a connection for good: nobody needs its server any more.
    pub fn remove(&self, key: &ConnectionKey) {
        self.entries().remove(key);
    }

    /// Token, CA or spec may have changed: the next pass is to read them again.
    pub fn reread(&self, key: &ConnectionKey) {
        if let Some(entry) = self.entries().get_mut(key) {
            entry.reread = true;
        }
    }

    /// Whether token, CA or spec may have changed since this was last asked.
    #[must_use]
    pub fn is_to_be_reread(&self, key: &ConnectionKey) -> bool {
        self.entries()
            .get_mut(key)
            .is_some_and(|entry| std::mem::take(&mut entry.reread))
    }

    /// Records what a look at the connection came to.
    pub fn set(&self, key: &ConnectionKey, state: State) {
        if let Some(entry) = self.entries().get_mut(key) {
            if let State::Ready(server) = &state {
                entry.last_good = Some(Arc::clone(server));
            }
            entry.state = state;
        }
    }

    /// The connection as the API server had it last.
    #[must_use]
    pub fn resource(&self, key: &ConnectionKey) -> Option<Arc<AuthentikConnection>> {
        self.entries().get(key).map(|entry| Arc::clone(&entry.resource))
    }

    /// What is known of a connection; none: there is no such connection.
    #[must_use]
    pub fn state(&self, key: &ConnectionKey) -> Option<State> {
        self.entries().get(key).map(|entry| entry.state.clone())
    }

    /// The server of the last time that the connection could be used.
    #[must_use]
    pub fn last_good(&self, key: &ConnectionKey) -> Option<Arc<Server>> {
        self.entries().get(key).and_then(|entry| entry.last_good.clone())
    }

    /// The connections that lead to this server, as far as their URLs tell.
    #[must_use]
    pub fn leading_to(&self, server: &Server) -> HashSet<ConnectionKey> {
        let leads_there = |entry: &Entry| {
            Endpoint::try_from(entry.resource.spec.url.trim())
                .is_ok_and(|endpoint| endpoint == *server.client.endpoint())
        };
        let mut keys = HashSet::from([server.key.clone()]);
        keys.extend(
            self.entries()
                .iter()
                .filter(|(_, entry)| leads_there(entry))
                .map(|(key, _)| key.clone()),
        );
        keys
    }

    /// Every live server.
    #[must_use]
    pub fn live(&self) -> Vec<Arc<Server>> {
        self.entries()
            .values()
            .filter_map(|entry| match &entry.state {
                State::Ready(server) => Some(Arc::clone(server)),
                State::Unchecked | State::NotReady(_) | State::Suspended => None,
            })
            .collect()
    }
}

/// That a connection does not exist.
#[must_use]
pub fn not_found(key: &ConnectionKey) -> Failure {
    Failure::new(
        Reason::ConnectionNotFound,
        format!(
            "AuthentikConnection {key} does not exist: create it, under the name that spec.connectionRef or the operator's default has"
        ),
    )
}
