//! The server for probes and metrics: `/livez`, `/readyz`, `/metrics`.
//!
//! Ready means that the first look at the cluster is done. Alive means that every loop still goes round. Neither
//! depends on authentik: an operator whose authentik is down works as it should, and restarting it mends nothing.

use std::collections::BTreeMap;
use std::fmt::Write;
use std::future::Future;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use axum::Router;
use axum::extract::{RawQuery, State};
use axum::http::{StatusCode, header};
use axum::response::IntoResponse;
use axum::routing::get;
use tokio::net::TcpListener;

use crate::clock::Clock;

use super::metrics::Metrics;

/// The one content type of OpenMetrics text; without it a scraper reads the older format and refuses the end mark.
const OPEN_METRICS: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

/// What readiness waits for and which loops have to go round. Clones are handles to the same state.
#[derive(Clone)]
pub struct Health {
    shared: Arc<Shared>,
}

struct Shared {
    clock: Arc<dyn Clock>,
    expected: Mutex<BTreeMap<&'static str, bool>>,
    loops: Mutex<BTreeMap<&'static str, Beat>>,
}

struct Beat {
    last: Instant,
    max_age: Duration,
}

/// One thing that readiness waits for. Never set: never ready.
#[must_use = "readiness waits for it until it is set"]
pub struct Ready {
    shared: Arc<Shared>,
    name: &'static str,
}

impl Ready {
    /// It has come.
    pub fn set(&self) {
        lock(&self.shared.expected).insert(self.name, true);
    }
}

impl Health {
    /// Ready and alive, as nothing is expected yet.
    #[must_use]
    pub fn new(clock: Arc<dyn Clock>) -> Self {
        Self {
            shared: Arc::new(Shared {
                clock,
                expected: Mutex::default(),
                loops: Mutex::default(),
            }),
        }
    }

    /// Makes readiness wait for `name`.
    pub fn expect(&self, name: &'static str) -> Ready {
        lock(&self.shared.expected).insert(name, false);
        Ready {
            shared: Arc::clone(&self.shared),
            name,
        }
    }

    /// The loop `name` goes round now, and does so again within `max_age`.
    pub fn beat(&self, name: &'static str, max_age: Duration) {
        let last = self.shared.clock.now();
        lock(&self.shared.loops).insert(name, Beat { last, max_age });
    }

    /// The loop `name` has ended as it should.
    pub fn ended(&self, name: &'static str) {
        lock(&self.shared.loops).remove(name);
    }

    /// Each expected thing, and whether it has come.
    pub fn expected(&self) -> Vec<(&'static str, bool)> {
        lock(&self.shared.expected)
            .iter()
            .map(|(name, set)| (*name, *set))
            .collect()
    }

    /// The loops that should have gone round since, with the time since they last did.
    pub fn stuck(&self) -> Vec<(&'static str, Duration)> {
        let now = self.shared.clock.now();
        let loops = lock(&self.shared.loops);
        let ages = loops
            .iter()
            .map(|(name, beat)| (*name, now.saturating_duration_since(beat.last), beat.max_age));
        ages.filter(|(_, age, max_age)| age > max_age)
            .map(|(name, age, _)| (name, age))
            .collect()
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Why the server does not serve.
#[derive(Debug, thiserror::Error)]
pub enum ServeError {
    /// The address cannot be had.
    #[error("cannot listen on {addr} for probes and metrics: choose a free address of this host with --listen")]
    Listen {
        /// The address.
        addr: SocketAddr,
        /// Why.
        source: std::io::Error,
    },
    /// The server failed while it ran.
    #[error("the server for probes and metrics failed")]
    Serve(#[source] std::io::Error),
}

/// Serves on `addr` until `shutdown` ends; requests that are being answered then are answered first.
///
/// # Errors
/// If the address cannot be listened on, or the server fails.
pub async fn serve(
    addr: SocketAddr,
    health: Health,
    metrics: Arc<Metrics>,
    shutdown: impl Future<Output = ()> + Send + 'static,
) -> Result<(), ServeError> {
    let listener = TcpListener::bind(addr)
        .await
        .map_err(|source| ServeError::Listen { addr, source })?;
    serve_on(listener, health, metrics, shutdown).await
}

/// As [`serve`], on a socket that listens already.
///
/// # Errors
/// If the server fails.
pub async fn serve_on(
    listener: TcpListener,
    health: Health,
    metrics: Arc<Metrics>,
    shutdown: impl Future<Output = ()> + Send + 'static,
) -> Result<(), ServeError> {
    axum::serve(listener, router(health, metrics))
        .with_graceful_shutdown(shutdown)
        .await
        .map_err(ServeError::Serve)
}

fn router(health: Health, metrics: Arc<Metrics>) -> Router {
    let probes = Router::new()
        .route("/livez", get(livez))
        .route("/readyz", get(readyz))
        .with_state(health);
    let scrape = get(async move || ([(header::CONTENT_TYPE, OPEN_METRICS)], metrics.encode()));
    probes.route("/metrics", scrape)
}

async fn livez(State(health): State<Health>) -> impl IntoResponse {
    let stuck = health.stuck();
    if stuck.is_empty() {
        return (StatusCode::OK, "ok\n".to_owned());
    }
    let mut text = String::new();
    for (name, age) in stuck {
        // Writing into a `String` cannot fail.
        let _ = writeln!(text, "{name} has not gone round for {} s", age.as_secs());
    }
    (StatusCode::SERVICE_UNAVAILABLE, text)
}

async fn readyz(State(health): State<Health>, RawQuery(query): RawQuery) -> impl IntoResponse {
    let expected = health.expected();
    let missing: Vec<_> = expected.iter().filter(|(_, set)| !set).map(|(name, _)| *name).collect();
    let status = if missing.is_empty() {
        StatusCode::OK
    } else {
        StatusCode::SERVICE_UNAVAILABLE
    };
    let mut text = String::new();
    if query.is_some_and(|query| {
        query
            .split('&')
            .any(|part| part == "verbose" || part.starts_with("verbose="))
    }) {
        for (name, set) in expected {
            let _ = if set {
                writeln!(text, "[+] {name}")
            } else {
                writeln!(text, "[-] {name} is missing")
            };
        }
    }
    text += if missing.is_empty() { "ready\n" } else { "not ready\n" };
    (status, text)
}

#[cfg(test)]
mod tests;
