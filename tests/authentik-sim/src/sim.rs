//! The handle that tests hold: starts a server, looks into it and meddles with it.

use std::{
    fmt,
    net::SocketAddr,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use tokio::{net::TcpListener, sync::watch, task::JoinHandle, time::timeout};
use tokio_rustls::TlsAcceptor;
use uuid::Uuid;

use crate::{
    calls::Call,
    faults::Fault,
    routes::Settings,
    rows::{Device, Stage},
    seed,
    server::{TlsIdentity, serve},
    state::State,
    traffic::{Inner, Server},
    version::Version,
};

/// How to start a server.
#[derive(Clone)]
pub struct Config {
    /// The release to play.
    pub version: Version,
    /// Where to listen; port 0 takes a free one.
    pub listen: SocketAddr,
    /// Speak TLS.
    pub tls: Option<TlsIdentity>,
    /// `AUTHENTIK_WEB__PATH`, e.g. `/authentik/`.
    pub base_path: String,
    /// Token of the superuser; drawn if absent.
    pub admin_token: Option<String>,
    /// Rows on a page where the caller does not say; what the version has if absent.
    pub default_page_size: Option<usize>,
    /// Most rows on a page; what the version has if absent.
    pub maximum_page_size: Option<usize>,
    /// URLs of flow backgrounds carry a signature that differs at every read.
    pub signed_backgrounds: bool,
}

impl Config {
    /// A server of that version on a free port of the loopback interface, without TLS.
    ///
    /// # Panics
    /// If the text is no version.
    pub fn new(version: &str) -> Self {
        Self::of(version.parse().expect("a version like 2026.5.0"))
    }

    /// The same for a version that has been read already.
    pub fn of(version: Version) -> Self {
        Self {
            version,
            listen: SocketAddr::from(([127, 0, 0, 1], 0)),
            tls: None,
            base_path: "/".to_owned(),
            admin_token: None,
            default_page_size: None,
            maximum_page_size: None,
            signed_backgrounds: false,
        }
    }
}

/// A running server. It ends, with all its connections, when the handle is dropped.
pub struct Sim {
    server: Arc<Server>,
    address: SocketAddr,
    tls: Option<TlsAcceptor>,
    base_path: String,
    admin_token: String,
    listening: Mutex<Option<JoinHandle<()>>>,
}

/// What was waited for did not come in time.
pub struct TimedOut {
    waited: Duration,
    calls: Vec<Call>,
}

impl fmt::Display for TimedOut {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "not within {:?}; calls so far:", self.waited)?;
        for call in &self.calls {
            write!(
                f,
                "\n  {} {} {} -> {:?}",
                call.index, call.method, call.path, call.status
            )?;
        }
        Ok(())
    }
}

impl fmt::Debug for TimedOut {
    /// As `Display`, for `unwrap` to be readable; bodies stay out.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl std::error::Error for TimedOut {}

// === impl Sim ===

impl Sim {
    /// Starts a server and returns when it listens.
    ///
    /// # Panics
    /// If the address is taken, or the TLS identity is no PEM.
    pub async fn start(config: Config) -> Self {
        let Config {
            version,
            listen,
            tls,
            base_path,
            admin_token,
            default_page_size,
            maximum_page_size,
            signed_backgrounds,
        } = config;
        assert!(
            base_path.starts_with('/') && base_path.ends_with('/'),
            "base path {base_path:?} needs both slashes"
        );
        let admin_token = admin_token.unwrap_or_else(|| format!("admin-{}", Uuid::new_v4().simple()));
        let settings = Settings {
            base_path: base_path.clone(),
            default_page_size,
            maximum_page_size,
            signed_backgrounds,
            starting: false,
            read_only: false,
        };
        let server = Arc::new(Server::new(seed::fresh(&version, &admin_token), settings, version));
        let tls = tls.as_ref().map(TlsIdentity::acceptor);
        let listener = TcpListener::bind(listen)
            .await
            .unwrap_or_else(|error| panic!("failed to listen on {listen}: {error}"));
        let address = listener.local_addr().expect("a bound listener has an address");
        let task = tokio::spawn(serve(listener, tls.clone(), Arc::clone(&server)));
        let listening = Mutex::new(Some(task));
        Self {
            server,
            address,
            tls,
            base_path,
            admin_token,
            listening,
        }
    }

    /// Where it answers, with the base path and without a final slash.
    pub fn url(&self) -> String {
        let scheme = if self.tls.is_some() { "https" } else { "http" };
        format!("{scheme}://{}{}", self.address, self.base_path.trim_end_matches('/'))
    }

    /// Its port on the loopback interface.
    pub fn port(&self) -> u16 {
        self.address.port()
    }

    /// The token of the superuser.
    pub fn admin_token(&self) -> &str {
        &self.admin_token
    }

    // --- accounts ---

    /// A token for the user, who is made if need be, with exactly those global permissions
    /// (`authentik_flows.view_flow`, ...).
    pub fn add_token(&self, username: &str, permissions: &[&str], superuser: bool) -> String {
        let key = format!("token-{}", Uuid::new_v4().simple());
        self.with(|state| {
            let user = state.accounts.ensure(username, superuser);
            state.accounts.issue(key.clone(), user);
        });
        self.set_permissions(&key, permissions);
        key
    }

    /// Replaces the global permissions of the token's user.
    pub fn set_permissions(&self, token: &str, permissions: &[&str]) {
        self.with(|state| {
            let user = state.accounts.by_token_mut(token).expect("no such token");
            user.permissions = permissions.iter().map(|&permission| permission.to_owned()).collect();
        });
    }

    /// Gives the token's user one permission on one row.
    pub fn grant_on(&self, token: &str, permission: &str, key: impl fmt::Display) {
        self.with(|state| {
            let user = state.accounts.by_token_mut(token).expect("no such token");
            user.object_permissions.insert((permission.to_owned(), key.to_string()));
        });
    }

    /// Makes a token unknown. False if it was.
    pub fn revoke(&self, token: &str) -> bool {
        self.with(|state| state.accounts.revoke(token))
    }

    // --- the server as a whole ---

    /// Upgrades (or downgrades) in place.
    pub fn set_version(&self, version: &str) {
        self.set_versions(&[version]);
    }

    /// Several versions take turns, call by call, as replicas do while an upgrade rolls.
    pub fn set_versions(&self, versions: &[&str]) {
        assert!(!versions.is_empty(), "at least one version");
        let versions = versions
            .iter()
            .map(|version| version.parse().expect("a version like 2026.5.0"))
            .collect();
        self.server.lock().versions = versions;
    }

    /// The outer server answers, the application behind it does not yet.
    pub fn set_starting(&self, starting: bool) {
        self.server.lock().settings.starting = starting;
    }

    /// The enterprise licence has expired: writes are refused with a 400.
    pub fn set_read_only(&self, read_only: bool) {
        self.server.lock().settings.read_only = read_only;
    }

    /// Stops listening and breaks all connections; returns when connections are refused.
    pub async fn stop(&self) {
        let task = self.listening.lock().unwrap_or_else(PoisonError::into_inner).take();
        if let Some(task) = task {
            task.abort();
            task.await.ok();
        }
    }

    /// Listens again, on the same port.
    ///
    /// # Panics
    /// If something else took the port.
    pub async fn restart(&self) {
        self.stop().await;
        let listener = TcpListener::bind(self.address)
            .await
            .unwrap_or_else(|error| panic!("{} is gone: {error}", self.address));
        let task = tokio::spawn(serve(listener, self.tls.clone(), Arc::clone(&self.server)));
        *self.listening.lock().unwrap_or_else(PoisonError::into_inner) = Some(task);
    }

    // --- state ---

    /// Looks at the state or changes it, outside the API. Must not call the simulator's own methods.
    pub fn with<R>(&self, look: impl FnOnce(&mut State) -> R) -> R {
        let result = look(&mut self.server.lock().state);
        self.server.announce();
        result
    }

    /// All SMS stages.
    pub fn stages(&self) -> Vec<Stage> {
        self.server.lock().state.stages().to_vec()
    }

    /// The SMS stage with exactly that name.
    pub fn stage_named(&self, name: &str) -> Option<Stage> {
        self.server.lock().state.stage_named(name).cloned()
    }

    /// All SMS devices.
    pub fn devices(&self) -> Vec<Device> {
        self.server.lock().state.devices().to_vec()
    }

    /// Changes an SMS stage as somebody does in the web interface. False if there is none.
    pub fn edit(&self, pk: Uuid, change: impl FnOnce(&mut Stage)) -> bool {
        self.with(|state| state.edit(pk, change))
    }

    /// Deletes an SMS stage and all that hangs on it. False if there is none.
    pub fn remove(&self, pk: Uuid) -> bool {
        self.with(|state| state.remove(pk))
    }

    // --- calls ---

    /// The calls since the last reset.
    pub fn calls(&self) -> Vec<Call> {
        self.server.lock().calls.clone()
    }

    /// The calls since the last reset but for the first `seen`.
    pub fn calls_after(&self, seen: usize) -> Vec<Call> {
        self.server.lock().calls.iter().skip(seen).cloned().collect()
    }

    /// Forgets all calls; the next one is number 0.
    pub fn reset_calls(&self) {
        let mut inner = self.server.lock();
        inner.calls.clear();
        inner.next_index = 0;
    }

    /// How many calls of that method (empty: any) have a path that begins so.
    pub fn count(&self, method: &str, path_prefix: &str) -> usize {
        let counts = |call: &&Call| (method.is_empty() || call.method == method) && call.path.starts_with(path_prefix);
        self.server.lock().calls.iter().filter(counts).count()
    }

    /// Moves with every call that arrives or is answered and every change of state.
    pub fn changed(&self) -> watch::Receiver<u64> {
        self.server.changed.subscribe()
    }

    /// Waits until the calls are as wanted, and returns them.
    pub async fn wait_for_calls(
        &self,
        at_most: Duration,
        wanted: impl Fn(&[Call]) -> bool,
    ) -> Result<Vec<Call>, TimedOut> {
        self.wait(at_most, |inner| wanted(&inner.calls).then(|| inner.calls.clone()))
            .await
    }

    /// Waits until something can be read off the state, and returns it.
    pub async fn wait_for<R>(&self, at_most: Duration, wanted: impl Fn(&State) -> Option<R>) -> Result<R, TimedOut> {
        self.wait(at_most, |inner| wanted(&inner.state)).await
    }

    async fn wait<R>(&self, at_most: Duration, wanted: impl Fn(&Inner) -> Option<R>) -> Result<R, TimedOut> {
        let mut changed = self.changed();
        let come = async {
            loop {
                changed.borrow_and_update();
                if let Some(found) = wanted(&self.server.lock()) {
                    return found;
                }
                // The sender lives as long as `self`.
                changed.changed().await.ok();
            }
        };
        timeout(at_most, come).await.map_err(|_| TimedOut {
            waited: at_most,
            calls: self.calls(),
        })
    }

    // --- meddling ---

    /// Lays a fault in wait. Of several that meet a call the oldest counts.
    pub fn inject(&self, fault: Fault) {
        self.server.lock().faults.add(fault);
    }

    /// Takes all faults away that have not met their calls yet.
    pub fn clear_faults(&self) {
        self.server.lock().faults.clear();
    }

    /// Runs before each call has its effect, with the lock held: for changes between two pages of a list.
    pub fn on_call(&self, hook: impl FnMut(&Call, &mut State) + Send + 'static) {
        self.server.lock().hooks.push(Box::new(hook));
    }

    /// Forgets all hooks.
    pub fn clear_hooks(&self) {
        self.server.lock().hooks.clear();
    }
}

impl Drop for Sim {
    fn drop(&mut self) {
        if let Some(task) = self.listening.lock().unwrap_or_else(PoisonError::into_inner).take() {
            task.abort();
        }
    }
}
