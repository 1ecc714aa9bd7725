//! Flows and mappings by what a spec calls them: each asked once, for everybody who names it.

use std::collections::HashMap;
use std::hash::Hash;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use uuid::Uuid;

use crate::authentik::{Client, Error, Flow, Mapping};

use super::validate::{FlowRef, MappingRef};

/// How long an answer is believed. A wrong one does no harm: authentik refuses a key that is gone, and then it is
/// asked again.
const FOUND: Duration = Duration::from_secs(600);

/// How long "there is none" is believed: long enough for a crowd that waits for the same flow, too short to notice.
const MISSING: Duration = Duration::from_secs(1);

/// One question and its answer; the lock makes everybody else who asks the same wait for the first.
type Slot<T> = Arc<tokio::sync::Mutex<Option<(Instant, Option<T>)>>>;

/// The look-ups of one server.
#[derive(Default)]
pub struct Lookups {
    flows: Mutex<HashMap<FlowRef, Slot<Flow>>>,
    mappings: Mutex<HashMap<MappingRef, Slot<Mapping>>>,
}

impl Lookups {
    /// The flow that a spec names.
    ///
    /// # Errors
    /// Those of the call.
    pub async fn flow(&self, client: &Client, by: &FlowRef, now: Instant) -> Result<Option<Flow>, Error> {
        answer(&self.flows, by, now, async || match by {
            FlowRef::Slug(slug) => client.flow_by_slug(slug).await,
            FlowRef::Uuid(pk) => client.flow_by_uuid(*pk).await,
        })
        .await
    }

    /// The webhook mapping that a spec names.
    ///
    /// # Errors
    /// Those of the call.
    pub async fn mapping(&self, client: &Client, by: &MappingRef, now: Instant) -> Result<Option<Mapping>, Error> {
        answer(&self.mappings, by, now, async || match by {
            MappingRef::Name(name) => client.mapping_by_name(name).await,
            MappingRef::Uuid(pk) => client.mapping_by_uuid(*pk).await,
        })
        .await
    }

    /// Forgets everything that led to this key, since authentik does not know it any more.
    pub async fn forget(&self, pk: Uuid) {
        forget(&self.flows, |flow| flow.pk == pk).await;
        forget(&self.mappings, |mapping| mapping.pk == pk).await;
    }
}

async fn answer<K: Clone + Eq + Hash, T: Clone>(
    slots: &Mutex<HashMap<K, Slot<T>>>,
    by: &K,
    now: Instant,
    ask: impl AsyncFnOnce() -> Result<Option<T>, Error>,
) -> Result<Option<T>, Error> {
    let slot = Arc::clone(
        slots
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .entry(by.clone())
            .or_default(),
    );
    let mut known = slot.lock().await;
    if let Some((at, value)) = known.as_ref() {
        let lasts = if value.is_some() { FOUND } else { MISSING };
        if now.saturating_duration_since(*at) < lasts {
            return Ok(value.clone());
        }
    }
    let value = ask().await?;
    *known = Some((now, value.clone()));
    Ok(value)
}

async fn forget<K, T>(slots: &Mutex<HashMap<K, Slot<T>>>, stale: impl Fn(&T) -> bool) {
    let all: Vec<Slot<T>> = slots
        .lock()
        .unwrap_or_else(PoisonError::into_inner)
        .values()
        .cloned()
        .collect();
    for slot in all {
        let mut known = slot.lock().await;
        if matches!(known.as_ref(), Some((_, Some(value))) if stale(value)) {
            *known = None;
        }
    }
}
