//! All that a pass writes to Kubernetes: one resource's finalizer and status, each only if it differs.

use std::fmt::Debug;
use std::sync::Arc;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;
use kube::api::{Patch, PatchParams};
use kube::core::NamespaceResourceScope;
use kube::core::object::HasStatus;
use kube::{Api, Client, Resource, ResourceExt};
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};

use super::kubernetes::{self, KubernetesError};
use super::status::{self, Notice, Verdict};
use super::{Context, Failure, Halt};
use crate::api::{
    AuthenticatorSMSStage, AuthenticatorSMSStageStatus, AuthentikConnection, AuthentikConnectionStatus,
    CONNECTION_FINALIZER, FIELD_MANAGER, RECONCILE_ANNOTATION, Reason, STAGE_FINALIZER,
};

/// One of our two kinds, as far as writing to it is concerned.
pub trait Kind:
    Resource<Scope = NamespaceResourceScope, DynamicType = ()>
    + HasStatus<Status: Conditions>
    + Clone
    + Debug
    + DeserializeOwned
    + Serialize
{
    /// Our finalizer on it.
    const FINALIZER: &'static str;
}

/// The part of a status that both kinds have.
pub trait Conditions: Clone + Default + PartialEq + Serialize {
    /// Generation that the last pass worked on.
    fn observed_generation(&mut self) -> &mut i64;
    /// Conditions.
    fn conditions(&mut self) -> &mut Vec<Condition>;
    /// The forced round that was last acted on.
    fn last_handled(&self) -> Option<&String>;
}

impl Kind for AuthenticatorSMSStage {
    const FINALIZER: &'static str = STAGE_FINALIZER;
}

impl Kind for AuthentikConnection {
    const FINALIZER: &'static str = CONNECTION_FINALIZER;
}

impl Conditions for AuthenticatorSMSStageStatus {
    fn observed_generation(&mut self) -> &mut i64 {
        &mut self.observed_generation
    }

    fn conditions(&mut self) -> &mut Vec<Condition> {
        &mut self.conditions
    }

    fn last_handled(&self) -> Option<&String> {
        self.last_handled_reconcile_at.as_ref()
    }
}

impl Conditions for AuthentikConnectionStatus {
    fn observed_generation(&mut self) -> &mut i64 {
        &mut self.observed_generation
    }

    fn conditions(&mut self) -> &mut Vec<Condition> {
        &mut self.conditions
    }

    fn last_handled(&self) -> Option<&String> {
        self.last_handled_reconcile_at.as_ref()
    }
}

/// One resource during a pass: as the API server has it, and as its status is to be.
pub struct Record<K: Kind> {
    api: Api<K>,
    /// The resource as the API server has it, as far as we know.
    pub object: Arc<K>,
    /// The status as it is to be, with no conditions but ours.
    pub status: K::Status,
    /// Events that the pass has to tell.
    pub notices: Vec<Notice>,
}

/// Whether a write may only go on top of what we read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fenced {
    /// Refused if anything of the resource changed since.
    Yes,
    /// The fields are ours alone.
    No,
}

impl<K: Kind> Record<K> {
    /// A resource at the beginning of a pass.
    #[must_use]
    pub fn new(client: Client, object: Arc<K>) -> Self {
        let api = Api::namespaced(client, &object.namespace().unwrap_or_default());
        Self {
            api,
            status: written(&*object),
            object,
            notices: Vec::new(),
        }
    }

    /// The generation that the pass works on.
    #[must_use]
    pub fn generation(&self) -> i64 {
        self.object.meta().generation.unwrap_or_default()
    }

    /// UID of the resource.
    #[must_use]
    pub fn uid(&self) -> String {
        self.object.uid().unwrap_or_default()
    }

    /// Whether it is being deleted.
    #[must_use]
    pub fn is_leaving(&self) -> bool {
        self.object.meta().deletion_timestamp.is_some()
    }

    /// The value of the annotation that asks for a round, if it has not been acted on.
    #[must_use]
    pub fn forced(&self) -> Option<String> {
        let asked = self.object.annotations().get(RECONCILE_ANNOTATION)?;
        let asked = status::bounded(asked, 256);
        (self.status.last_handled() != Some(&asked)).then_some(asked)
    }

    /// Whether our finalizer is on it.
    #[must_use]
    pub fn has_finalizer(&self) -> bool {
        self.finalizer().is_some()
    }

    fn finalizer(&self) -> Option<usize> {
        self.object
            .finalizers()
            .iter()
            .position(|finalizer| finalizer == K::FINALIZER)
    }

    /// Sets the conditions that a verdict means.
    pub fn conclude(&mut self, context: &Context, verdict: &Verdict) {
        let generation = self.generation();
        let before = std::mem::take(self.status.conditions());
        let after = status::conditions(&before, verdict, generation, context.clock.wall());
        self.notices.extend(status::notice(&before, &after, verdict.reason));
        *self.status.conditions() = after;
        *self.status.observed_generation() = generation;
    }

    /// Puts our finalizer on the resource, unless it is there.
    ///
    /// # Errors
    /// [`Halt::Again`] if the resource changed since it was read.
    pub async fn take_finalizer(&mut self) -> Result<(), Halt> {
        if self.has_finalizer() {
            return Ok(());
        }
        let add = if self.object.finalizers().is_empty() {
            json!({"op": "add", "path": "/metadata/finalizers", "value": [K::FINALIZER]})
        } else {
            json!({"op": "add", "path": "/metadata/finalizers/-", "value": K::FINALIZER})
        };
        let unchanged =
            json!({"op": "test", "path": "/metadata/resourceVersion", "value": self.object.resource_version()});
        self.patch(json!([unchanged, add]), "put the finalizer on").await
    }

    /// Takes our finalizer off the resource, if it is there.
    ///
    /// # Errors
    /// [`Halt::Again`] if the finalizers changed since they were read.
    pub async fn release_finalizer(&mut self) -> Result<(), Halt> {
        let Some(index) = self.finalizer() else { return Ok(()) };
        let ours = format!("/metadata/finalizers/{index}");
        let patch = json!([
            {"op": "test", "path": "/metadata/uid", "value": self.uid()},
            {"op": "test", "path": ours, "value": K::FINALIZER},
            {"op": "remove", "path": ours},
        ]);
        self.patch(patch, "take the finalizer off").await
    }

    async fn patch(&mut self, patch: Value, doing: &str) -> Result<(), Halt> {
        let patch = serde_json::from_value(patch).map_err(|_| {
            Failure::new(
                Reason::InternalError,
                format!("cannot {doing}: this is a bug, please report it"),
            )
        })?;
        let name = self.object.name_any();
        let written =
            kubernetes::answer(self.api.patch(&name, &PatchParams::default(), &Patch::<K>::Json(patch))).await;
        self.written(written, doing, "")
    }

    /// Writes the status if it differs from what the API server has.
    ///
    /// # Errors
    /// [`Halt::Again`] if a fenced write lost to another; an API server that cannot be written to.
    pub async fn write_status(&mut self, fenced: Fenced) -> Result<(), Halt> {
        if written(&*self.object) == self.status {
            return Ok(());
        }
        let name = self.object.name_any();
        let mut metadata = json!({"name": name, "namespace": self.object.namespace(), "uid": self.uid()});
        if fenced == Fenced::Yes {
            metadata["resourceVersion"] = json!(self.object.resource_version());
        }
        let body = json!({
            "apiVersion": K::api_version(&()),
            "kind": K::kind(&()),
            "metadata": metadata,
            "status": self.status,
        });
        let params = PatchParams::apply(FIELD_MANAGER).force();
        let written = kubernetes::answer(self.api.patch_status(&name, &params, &Patch::Apply(body))).await;
        self.written(written, "write the status of", "/status")
    }

    fn written(&mut self, written: Result<K, KubernetesError>, doing: &str, subresource: &str) -> Result<(), Halt> {
        let doing = format!("{doing} {}", self.describe());
        match written {
            Ok(object) => {
                self.object = Arc::new(object);
                Ok(())
            }
            Err(error) if error.is_not_found() => Err(Halt::Gone),
            Err(error) if error.status() == Some(422) && !subresource.is_empty() => Err(Failure::new(
                Reason::InternalError,
                format!("the API server does not take what the operator wants to {doing}: install the definitions of this version"),
            )
            .into()),
            // A failed "test" of a JSON patch is 422, a stale resourceVersion or another UID 409.
            Err(error) if matches!(error.status(), Some(409 | 422)) => Err(Halt::Again(doing)),
            Err(error) => {
                let right = format!("patch on {}{subresource}", K::plural(&()));
                Err(kubernetes::failure(&error, &doing, &right).into())
            }
        }
    }

    /// Reads the resource as the API server has it now.
    ///
    /// # Errors
    /// [`Halt::Gone`] if it is gone, or another one has its name.
    pub async fn read_again(&mut self) -> Result<(), Halt> {
        let right = format!("get on {}", K::plural(&()));
        let read = kubernetes::answer(self.api.get_opt(&self.object.name_any()))
            .await
            .map_err(|error| kubernetes::failure(&error, &format!("read {}", self.describe()), &right))?;
        match read {
            Some(object) if object.uid() == self.object.uid() => {
                self.object = Arc::new(object);
                Ok(())
            }
            Some(_) | None => Err(Halt::Gone),
        }
    }

    fn describe(&self) -> String {
        format!(
            "{} {}/{}",
            K::kind(&()),
            self.object.namespace().unwrap_or_default(),
            self.object.name_any()
        )
    }
}

/// Whether one is a newer copy of the same object: resourceVersions of one object grow.
#[must_use]
pub fn is_newer<K: ResourceExt>(one: &K, other: &K) -> bool {
    let version = |object: &K| object.resource_version().and_then(|text| text.parse::<u64>().ok());
    one.uid() == other.uid() && version(one) > version(other)
}

/// The status that an object has, with no conditions but ours.
fn written<K: Kind>(object: &K) -> K::Status {
    let mut status = object.status().cloned().unwrap_or_default();
    let ours = status::ours(status.conditions());
    *status.conditions() = ours;
    status
}
