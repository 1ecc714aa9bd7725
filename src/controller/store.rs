//! The objects of one kind as the watch brings them, and what of a change is news.
//!
//! The watch also brings the echo of our own writes. It is told from a change of somebody else by its
//! resourceVersion, so that a write of ours causes no further pass.

use std::collections::{HashMap, HashSet};
use std::hash::Hash;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use kube::ResourceExt;
use kube::core::object::HasStatus;

use crate::api::RECONCILE_ANNOTATION;
use crate::reconcile::record::is_newer;

/// What is new about an object.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum News {
    /// Nothing: an echo, or fields that no pass looks at.
    None,
    /// It is new here, or somebody changed its status or finalizers.
    Other,
    /// A user changed it: another spec, a forced round, a deletion.
    User,
}

struct Slot<T> {
    object: Arc<T>,
    /// Brought by the watch while a pass ran: whether it is news shows when the pass has ended.
    arrived: Option<Arc<T>>,
    running: bool,
}

/// All objects of a kind.
pub struct Store<K, T> {
    slots: Mutex<HashMap<K, Slot<T>>>,
}

impl<K, T> Default for Store<K, T> {
    fn default() -> Self {
        Self {
            slots: Mutex::new(HashMap::new()),
        }
    }
}

impl<K, T> Store<K, T>
where
    K: Clone + Eq + Hash,
    T: ResourceExt + HasStatus,
    T::Status: PartialEq,
{
    fn lock(&self) -> MutexGuard<'_, HashMap<K, Slot<T>>> {
        self.slots.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes in what the watch brought.
    pub fn put(&self, key: &K, object: Arc<T>) -> News {
        let mut slots = self.lock();
        match slots.get_mut(key) {
            None => {
                slots.insert(
                    key.clone(),
                    Slot {
                        object,
                        arrived: None,
                        running: false,
                    },
                );
                News::Other
            }
            Some(slot) if slot.running => {
                slot.arrived = Some(object);
                News::None
            }
            Some(slot) => {
                let news = news(&*slot.object, &*object);
                if is_later(&*object, &*slot.object) {
                    slot.object = object;
                }
                news
            }
        }
    }

    /// The object, for a pass that begins now.
    pub fn begin(&self, key: &K) -> Option<Arc<T>> {
        let mut slots = self.lock();
        let slot = slots.get_mut(key)?;
        slot.running = true;
        Some(Arc::clone(&slot.object))
    }

    /// A pass has ended, with the object as our last write left it: what has become news meanwhile.
    pub fn end(&self, key: &K, left: Option<Arc<T>>) -> News {
        let mut slots = self.lock();
        let Some(slot) = slots.get_mut(key) else {
            return News::None;
        };
        slot.running = false;
        let mut found = News::None;
        for object in [
            left.map(|object| (object, true)),
            slot.arrived.take().map(|object| (object, false)),
        ]
        .into_iter()
        .flatten()
        {
            let (object, ours) = object;
            if ours && object.uid() != slot.object.uid() {
                // The pass was about one that is gone; another has its name.
                found = found.max(News::Other);
                continue;
            }
            if is_later(&*object, &*slot.object) {
                // What is ours carries whatever users wrote before it.
                found = found.max(match news(&*slot.object, &*object) {
                    News::Other if ours => News::None,
                    news @ (News::None | News::Other | News::User) => news,
                });
                slot.object = object;
            }
        }
        found
    }

    /// The object is gone.
    pub fn remove(&self, key: &K) -> Option<Arc<T>> {
        self.lock().remove(key).map(|slot| slot.object)
    }

    /// The object as it is known now.
    pub fn get(&self, key: &K) -> Option<Arc<T>> {
        self.lock().get(key).map(|slot| Arc::clone(&slot.object))
    }

    /// All objects.
    pub fn all(&self) -> Vec<(K, Arc<T>)> {
        self.lock()
            .iter()
            .map(|(key, slot)| (key.clone(), Arc::clone(&slot.object)))
            .collect()
    }

    /// Those that a complete list did not bring.
    pub fn absent_from(&self, listed: &HashSet<K>, within: impl Fn(&K) -> bool) -> Vec<K> {
        self.lock()
            .keys()
            .filter(|key| within(key) && !listed.contains(key))
            .cloned()
            .collect()
    }
}

fn news<T>(before: &T, after: &T) -> News
where
    T: ResourceExt + HasStatus,
    T::Status: PartialEq,
{
    if before.uid() != after.uid() {
        return News::User;
    }
    if !is_later(after, before) {
        return News::None;
    }
    let forced = |object: &T| object.annotations().get(RECONCILE_ANNOTATION).cloned();
    let leaves = |object: &T| object.meta().deletion_timestamp.is_some();
    if before.meta().generation != after.meta().generation
        || forced(before) != forced(after)
        || leaves(before) != leaves(after)
    {
        return News::User;
    }
    if before.status() != after.status() || before.finalizers() != after.finalizers() {
        return News::Other;
    }
    News::None
}

/// A newer copy; another object of the name counts as one.
fn is_later<T: ResourceExt>(one: &T, other: &T) -> bool {
    one.uid() != other.uid() || is_newer(one, other)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::api::AuthenticatorSMSStage;

    fn stage(version: u64, generation: u64, status: &serde_json::Value) -> Arc<AuthenticatorSMSStage> {
        Arc::new(
            serde_json::from_value(json!({
                "apiVersion": "stages.authentik-operator.dev/v1alpha1", "kind": "AuthenticatorSMSStage",
                "metadata": {"name": "sms", "namespace": "login", "uid": "u",
                             "resourceVersion": version.to_string(), "generation": generation},
                "spec": {"fromNumber": "+1", "provider": "twilio",
                         "twilio": {"accountSid": "AC", "authTokenSecretRef": {"name": "a", "key": "b"}}},
                "status": status,
            }))
            .unwrap(),
        )
    }

    fn plain() -> serde_json::Value {
        json!({"observedGeneration": 1})
    }

    fn shown() -> serde_json::Value {
        json!({"observedGeneration": 1, "conditions": [], "lastHandledReconcileAt": "x"})
    }

    #[test]
    fn the_echo_of_our_own_write_is_no_news() {
        let store = Store::default();
        assert_eq!(store.put(&1, stage(1, 1, &plain())), News::Other, "new here");
        store.begin(&1);
        assert_eq!(store.put(&1, stage(2, 1, &shown())), News::None, "a pass runs");
        assert_eq!(store.end(&1, Some(stage(2, 1, &shown()))), News::None);
        assert_eq!(store.put(&1, stage(2, 1, &shown())), News::None, "late echo");
    }

    #[test]
    fn an_edit_during_a_pass_is_news_when_it_ends() {
        let store = Store::default();
        store.put(&1, stage(1, 1, &plain()));
        store.begin(&1);
        store.put(&1, stage(2, 2, &plain()));
        assert_eq!(
            store.end(&1, Some(stage(3, 2, &shown()))),
            News::User,
            "our write went on top of it"
        );
        store.begin(&1);
        store.put(&1, stage(5, 3, &shown()));
        assert_eq!(
            store.end(&1, Some(stage(4, 2, &shown()))),
            News::User,
            "it went on top of our write"
        );
    }

    #[test]
    fn a_status_that_somebody_else_wrote_is_looked_at() {
        let store = Store::default();
        store.put(&1, stage(1, 1, &shown()));
        assert_eq!(store.put(&1, stage(2, 1, &plain())), News::Other);
        assert_eq!(
            store.put(&1, stage(3, 1, &plain())),
            News::None,
            "labels are nobody's business"
        );
    }
}
