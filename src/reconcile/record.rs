//! All that a pass writes to Kubernetes: one resource's finalizer and status, each only if it differs.

use std::sync::Arc;

use kube::api::{Patch, PatchParams};
use kube::{Api, Client, ResourceExt};
use serde_json::{Value, json};

use crate::api::{AuthenticatorSMSStage, AuthenticatorSMSStageStatus, FIELD_MANAGER, GROUP, STAGE_FINALIZER, VERSION};

use super::kubernetes::{self, KubernetesError};
use super::status::{self, Notice, Verdict};
use super::{Context, Failure, Halt, ResourceKey};

/// One resource during a pass: as the API server has it, and as its status is to be.
pub struct Record {
    api: Api<AuthenticatorSMSStage>,
    key: ResourceKey,
    /// The resource as the API server has it, as far as we know.
    pub object: Arc<AuthenticatorSMSStage>,
    /// The status as it is to be.
    pub status: AuthenticatorSMSStageStatus,
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

impl Record {
    /// A resource at the beginning of a pass.
    #[must_use]
    pub fn new(client: Client, object: Arc<AuthenticatorSMSStage>) -> Self {
        let key = ResourceKey::of(&*object);
        let mut status = object.status.clone().unwrap_or_default();
        status.conditions = status::ours(&status.conditions);
        Self {
            api: Api::namespaced(client, &key.namespace),
            key,
            object,
            status,
            notices: Vec::new(),
        }
    }

    /// The generation that the pass works on.
    #[must_use]
    pub fn generation(&self) -> i64 {
        self.object.metadata.generation.unwrap_or_default()
    }

    /// UID of the resource.
    #[must_use]
    pub fn uid(&self) -> String {
        self.object.uid().unwrap_or_default()
    }

    /// Whether our finalizer is on it.
    #[must_use]
    pub fn has_finalizer(&self) -> bool {
        self.object
            .finalizers()
            .iter()
            .any(|finalizer| finalizer == STAGE_FINALIZER)
    }

    /// Sets the conditions that a verdict means.
    pub fn conclude(&mut self, context: &Context, verdict: &Verdict) {
        let generation = self.generation();
        let before = std::mem::take(&mut self.status.conditions);
        self.status.conditions = status::conditions(&before, verdict, generation, context.clock.wall());
        self.status.observed_generation = generation;
        self.notices
            .extend(status::notice(&before, &self.status.conditions, verdict.reason));
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
            json!({"op": "add", "path": "/metadata/finalizers", "value": [STAGE_FINALIZER]})
        } else {
            json!({"op": "add", "path": "/metadata/finalizers/-", "value": STAGE_FINALIZER})
        };
        let unchanged =
            json!({"op": "test", "path": "/metadata/resourceVersion", "value": self.object.resource_version()});
        let doing = format!("put the finalizer on AuthenticatorSMSStage {}", self.key);
        self.patch(json!([unchanged, add]), &doing).await
    }

    /// Takes our finalizer off the resource, if it is there.
    ///
    /// # Errors
    /// [`Halt::Again`] if the finalizers changed since they were read.
    pub async fn release_finalizer(&mut self) -> Result<(), Halt> {
        let Some(index) = self
            .object
            .finalizers()
            .iter()
            .position(|finalizer| finalizer == STAGE_FINALIZER)
        else {
            return Ok(());
        };
        let ours = format!("/metadata/finalizers/{index}");
        let patch = json!([
            {"op": "test", "path": "/metadata/uid", "value": self.uid()},
            {"op": "test", "path": ours, "value": STAGE_FINALIZER},
            {"op": "remove", "path": ours},
        ]);
        let doing = format!("take the finalizer off AuthenticatorSMSStage {}", self.key);
        self.patch(patch, &doing).await
    }

    async fn patch(&mut self, patch: Value, doing: &str) -> Result<(), Halt> {
        let patch = serde_json::from_value(patch).map_err(|_| internal("cannot write a JSON patch"))?;
        let written = kubernetes::answer(self.api.patch(
            &self.key.name,
            &PatchParams::default(),
            &Patch::<AuthenticatorSMSStage>::Json(patch),
        ))
        .await;
        self.written(written, doing, "patch on authenticatorsmsstages")
    }

    /// Writes the status if it differs from what the API server has.
    ///
    /// # Errors
    /// [`Halt::Again`] if a fenced write lost to another; an API server that cannot be written to.
    pub async fn write_status(&mut self, fenced: Fenced) -> Result<(), Halt> {
        let mut before = self.object.status.clone().unwrap_or_default();
        before.conditions = status::ours(&before.conditions);
        if before == self.status {
            return Ok(());
        }
        let mut metadata = json!({"name": self.key.name, "namespace": self.key.namespace, "uid": self.uid()});
        if fenced == Fenced::Yes {
            metadata["resourceVersion"] = json!(self.object.resource_version());
        }
        let body = json!({
            "apiVersion": format!("{GROUP}/{VERSION}"),
            "kind": "AuthenticatorSMSStage",
            "metadata": metadata,
            "status": self.status,
        });
        let params = PatchParams::apply(FIELD_MANAGER).force();
        let written = kubernetes::answer(self.api.patch_status(&self.key.name, &params, &Patch::Apply(body))).await;
        let doing = format!("write the status of AuthenticatorSMSStage {}", self.key);
        self.written(written, &doing, "patch on authenticatorsmsstages/status")
    }

    fn written(
        &mut self,
        written: Result<AuthenticatorSMSStage, KubernetesError>,
        doing: &str,
        right: &str,
    ) -> Result<(), Halt> {
        match written {
            Ok(object) => {
                self.object = Arc::new(object);
                Ok(())
            }
            Err(error) if error.is_not_found() => Err(Halt::Gone),
            // A failed "test" of a JSON patch is 422, a stale resourceVersion or another UID 409.
            Err(error) if matches!(error.status(), Some(409 | 422)) => Err(Halt::Again(doing.to_owned())),
            Err(error) => Err(kubernetes::failure(&error, doing, right).into()),
        }
    }

    /// The resource as the API server has it now.
    ///
    /// # Errors
    /// [`Halt::Gone`] if it is gone, or another one has its name.
    pub async fn read_again(&mut self) -> Result<(), Halt> {
        let doing = format!("read AuthenticatorSMSStage {}", self.key);
        let read = kubernetes::answer(self.api.get_opt(&self.key.name))
            .await
            .map_err(|error| kubernetes::failure(&error, &doing, "get on authenticatorsmsstages"))?;
        match read {
            Some(object) if object.uid() == self.object.uid() => {
                self.object = Arc::new(object);
                Ok(())
            }
            Some(_) | None => Err(Halt::Gone),
        }
    }
}

fn internal(what: &str) -> Failure {
    Failure::new(
        crate::api::Reason::InternalError,
        format!("{what}: this is a bug, please report it"),
    )
}
