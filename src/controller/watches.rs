//! One task for each watched kind and namespace, each with its own backoff: a kind that may not be watched delays no
//! other.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::fmt::Debug;
use std::hash::Hash;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use futures::{StreamExt, TryStreamExt};
use k8s_openapi::api::core::v1::{Namespace, Secret};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use kube::core::{DeserializeGuard, PartialObjectMeta};
use kube::runtime::watcher::{self, Event};
use kube::runtime::{WatchStreamExt, watcher as watch};
use kube::{Api, Resource, ResourceExt};
use serde::de::DeserializeOwned;

use super::Shared;
use super::first_lists::FirstList;
use super::metrics::Watched;
use crate::api::{AuthenticatorSMSStage, AuthentikConnection};

/// What a watch brings to whoever listens.
trait Listener<K>: Send {
    /// A list begins.
    fn begins(&mut self);
    /// An object of a list, or one that changed.
    fn has(&mut self, object: K);
    /// An object is gone.
    fn gone(&mut self, object: K);
    /// The list is complete: what it did not bring is gone.
    fn complete(&mut self);
    /// The API server does not let us list.
    fn refused(&mut self) {}
}

/// Watches for ever. Errors are counted and told, and the watch is begun anew after a pause that grows.
async fn watch_all<K>(api: Api<K>, watched: Watched, shared: Arc<Shared>, mut listener: impl Listener<K>)
where
    K: Resource + Clone + DeserializeOwned + Debug + Send + 'static,
{
    let metrics = Arc::clone(&shared.metrics);
    let begun = Arc::new(AtomicBool::new(false));
    let begins = Arc::clone(&begun);
    let events = watch::watcher(api, watcher::Config::default())
        .inspect_err(move |error| {
            metrics.watch_failed(watched);
            tracing::warn!(kind = watched.as_str(), error = %describe(error), "the watch failed and is begun anew");
        })
        .try_filter_map(move |event| {
            let told = match event {
                // Not passed on: a list that fails again and again would reset the backoff with each beginning.
                Event::Init => {
                    begins.store(true, Ordering::Relaxed);
                    None
                }
                Event::InitApply(object) | Event::Apply(object) => Some(Told::Has(object)),
                Event::Delete(object) => Some(Told::Gone(object)),
                Event::InitDone => Some(Told::Complete),
            };
            std::future::ready(Ok(told))
        })
        .default_backoff();
    let mut events = std::pin::pin!(events);
    while let Some(event) = events.next().await {
        if event.is_ok() && begun.swap(false, Ordering::Relaxed) {
            listener.begins();
        }
        match event {
            Ok(Told::Has(object)) => listener.has(object),
            Ok(Told::Gone(object)) => listener.gone(object),
            Ok(Told::Complete) => listener.complete(),
            // Told and counted above; the stream goes on after its pause.
            Err(error) => {
                if is_refusal(&error) {
                    listener.refused();
                }
            }
        }
    }
}

enum Told<K> {
    Has(K),
    Gone(K),
    Complete,
}

/// Whether the API server does not let us list, and will not for now.
fn is_refusal(error: &watcher::Error) -> bool {
    match error {
        watcher::Error::InitialListFailed(kube::Error::Api(status)) => matches!(status.code, 401 | 403),
        watcher::Error::InitialListFailed(_)
        | watcher::Error::WatchStartFailed(_)
        | watcher::Error::WatchFailed(_)
        | watcher::Error::WatchError(_)
        | watcher::Error::NoResourceVersion => false,
    }
}

/// A watch error without what a server may have put into it.
fn describe(error: &watcher::Error) -> String {
    let of = |error: &kube::Error| {
        if let kube::Error::Api(status) = error {
            format!("the API server answered {} {}", status.code, status.reason)
        } else {
            "the API server could not be reached".to_owned()
        }
    };
    match error {
        watcher::Error::InitialListFailed(error)
        | watcher::Error::WatchStartFailed(error)
        | watcher::Error::WatchFailed(error) => of(error),
        watcher::Error::WatchError(status) => format!("the API server ended it: {} {}", status.code, status.reason),
        watcher::Error::NoResourceVersion => "an answer without resourceVersion".to_owned(),
    }
}

/// Where a watch looks: one namespace, or all.
pub type Scope = Option<String>;

fn api<K>(shared: &Shared, scope: &Scope) -> Api<K>
where
    K: Resource<Scope = kube::core::NamespaceResourceScope, DynamicType = ()>,
{
    let client = shared.context.kube.clone();
    match scope {
        Some(namespace) => Api::namespaced(client, namespace),
        None => Api::all(client),
    }
}

fn is_within(scope: &Scope, namespace: &str) -> bool {
    scope.as_ref().is_none_or(|scope| scope == namespace)
}

/// Watches stages; those that do not deserialize are told of, and stop no other.
pub async fn stages(shared: Arc<Shared>, scope: Scope, first: FirstList) {
    let listener = Ours {
        shared: Arc::clone(&shared),
        scope: scope.clone(),
        listed: HashSet::new(),
        first,
        has: Shared::has_stage,
        invalid: Shared::has_invalid_stage,
        gone: Shared::stage_is_gone,
        absent: |shared, listed, scope| {
            shared
                .stages
                .absent_from(listed, |key| is_within(scope, &key.namespace))
        },
    };
    watch_all(
        api::<DeserializeGuard<AuthenticatorSMSStage>>(&shared, &scope),
        Watched::Stages,
        shared,
        listener,
    )
    .await;
}

/// Watches connections; those that do not deserialize are told of, and stop no other.
pub async fn connections(shared: Arc<Shared>, scope: Scope, first: FirstList) {
    let listener = Ours {
        shared: Arc::clone(&shared),
        scope: scope.clone(),
        listed: HashSet::new(),
        first,
        has: Shared::has_connection,
        invalid: Shared::has_invalid_connection,
        gone: Shared::connection_is_gone,
        absent: |shared, listed, scope| {
            shared
                .connections
                .absent_from(listed, |key| is_within(scope, &key.namespace))
        },
    };
    watch_all(
        api::<DeserializeGuard<AuthentikConnection>>(&shared, &scope),
        Watched::Connections,
        shared,
        listener,
    )
    .await;
}

/// Listens for one of our kinds.
struct Ours<K, T> {
    shared: Arc<Shared>,
    scope: Scope,
    listed: HashSet<K>,
    first: FirstList,
    has: fn(&Shared, &K, Arc<T>),
    invalid: fn(&Shared, &K, ObjectMeta),
    gone: fn(&Shared, &K),
    absent: fn(&Shared, &HashSet<K>, &Scope) -> Vec<K>,
}

impl<K, T> Listener<DeserializeGuard<T>> for Ours<K, T>
where
    K: From<(String, String)> + Clone + Eq + Hash + Send,
    T: Resource<DynamicType = ()> + Send + Sync,
{
    fn begins(&mut self) {
        self.listed.clear();
    }

    fn has(&mut self, object: DeserializeGuard<T>) {
        match object.0 {
            Ok(object) => {
                let key = key(object.meta());
                self.listed.insert(K::clone(&key));
                (self.has)(&self.shared, &key, Arc::new(object));
            }
            Err(invalid) => {
                let key = key(&invalid.metadata);
                self.listed.insert(K::clone(&key));
                (self.invalid)(&self.shared, &key, invalid.metadata);
            }
        }
    }

    fn gone(&mut self, object: DeserializeGuard<T>) {
        (self.gone)(&self.shared, &key(object.meta()));
    }

    fn complete(&mut self) {
        for key in (self.absent)(&self.shared, &self.listed, &self.scope) {
            (self.gone)(&self.shared, &key);
        }
        self.first.complete();
    }

    fn refused(&mut self) {
        if self.first.refused() {
            let namespace = self.scope.as_deref().unwrap_or("any namespace");
            tracing::error!(
                namespace,
                "the operator may not list its resources there: grant its ServiceAccount the rights of the chart's Role; everything else goes on"
            );
        }
    }
}

fn key<K: From<(String, String)>>(meta: &ObjectMeta) -> K {
    K::from((
        meta.namespace.clone().unwrap_or_default(),
        meta.name.clone().unwrap_or_default(),
    ))
}

/// Watches Secrets, metadata only: their values never enter a cache.
pub async fn secrets(shared: Arc<Shared>, scope: Scope) {
    struct Secrets {
        shared: Arc<Shared>,
        known: HashMap<(String, String), Option<String>>,
        listed: HashSet<(String, String)>,
        first: bool,
    }
    impl Secrets {
        fn key(object: &PartialObjectMeta<Secret>) -> (String, String) {
            (object.namespace().unwrap_or_default(), object.name_any())
        }
    }
    impl Listener<PartialObjectMeta<Secret>> for Secrets {
        fn begins(&mut self) {
            self.listed.clear();
        }
        fn has(&mut self, object: PartialObjectMeta<Secret>) {
            let key = Self::key(&object);
            self.listed.insert(key.clone());
            let version = object.resource_version();
            let before = self.known.insert(key.clone(), version.clone());
            // What the first list brings is read by the first passes anyway, unless they came before it.
            let is_read = self.first && !self.shared.passes_have_begun.load(Ordering::Acquire);
            if !is_read && before != Some(version) {
                self.shared.secret_changed(&key.0, &key.1);
            }
        }
        fn gone(&mut self, object: PartialObjectMeta<Secret>) {
            let key = Self::key(&object);
            self.known.remove(&key);
            self.shared.secret_changed(&key.0, &key.1);
        }
        fn complete(&mut self) {
            let Self {
                shared,
                known,
                listed,
                first,
            } = self;
            *first = false;
            known.retain(|key, _| {
                let there = listed.contains(key);
                if !there {
                    shared.secret_changed(&key.0, &key.1);
                }
                there
            });
        }
    }
    let listener = Secrets {
        shared: Arc::clone(&shared),
        known: HashMap::new(),
        listed: HashSet::new(),
        first: true,
    };
    watch_all(
        api::<PartialObjectMeta<Secret>>(&shared, &scope),
        Watched::Secrets,
        shared,
        listener,
    )
    .await;
}

/// Watches namespaces, metadata only: their labels decide who may use a connection.
pub async fn namespaces(shared: Arc<Shared>) {
    struct Namespaces(Arc<Shared>);
    impl Listener<PartialObjectMeta<Namespace>> for Namespaces {
        fn begins(&mut self) {}
        fn has(&mut self, object: PartialObjectMeta<Namespace>) {
            let labels: BTreeMap<_, _> = object.labels().clone();
            self.0.namespace_has(&object.name_any(), labels);
        }
        fn gone(&mut self, object: PartialObjectMeta<Namespace>) {
            self.0.context.namespaces.remove(&object.name_any());
        }
        fn complete(&mut self) {}
    }
    let api: Api<PartialObjectMeta<Namespace>> = Api::all(shared.context.kube.clone());
    watch_all(
        api,
        Watched::Namespaces,
        Arc::clone(&shared),
        Namespaces(Arc::clone(&shared)),
    )
    .await;
}
