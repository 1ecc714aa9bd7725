//! Labels of namespaces, as the watch brings them. Empty where the operator may not watch namespaces.

use std::collections::{BTreeMap, HashMap};
use std::sync::{PoisonError, RwLock};

/// Labels by namespace.
#[derive(Default)]
pub struct Namespaces(RwLock<HashMap<String, BTreeMap<String, String>>>);

impl Namespaces {
    /// Records a namespace; true if its labels are not what they were.
    pub fn put(&self, name: &str, labels: BTreeMap<String, String>) -> bool {
        let mut known = self.0.write().unwrap_or_else(PoisonError::into_inner);
        let changed = known.get(name) != Some(&labels);
        known.insert(name.to_owned(), labels);
        changed
    }

    /// Forgets a namespace.
    pub fn remove(&self, name: &str) {
        self.0.write().unwrap_or_else(PoisonError::into_inner).remove(name);
    }

    /// The labels of a namespace; none: it is not known.
    #[must_use]
    pub fn labels(&self, name: &str) -> Option<BTreeMap<String, String>> {
        self.0.read().unwrap_or_else(PoisonError::into_inner).get(name).cloned()
    }
}
