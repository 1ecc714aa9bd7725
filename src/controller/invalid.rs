//! Resources that are not of this version's schema: older than a rule, or of a CRD that somebody changed. They stop no
//! other resource, say what is wrong with them, and can be deleted.

use std::sync::{Arc, PoisonError};
use std::time::Duration;

use kube::Api;
use kube::api::{ApiResource, DynamicObject, Patch, PatchParams};
use kube::core::GroupVersionKind;
use serde_json::json;

use super::Shared;
use crate::api::{
    AuthenticatorSMSStageStatus, DeletionPolicy, FIELD_MANAGER, GROUP, Origin, Reason, STAGE_FINALIZER, VERSION,
};
use crate::reconcile::status::{self, Verdict};
use crate::reconcile::{Failure, Pass, ResourceKey, kubernetes};

const KIND: &str = "AuthenticatorSMSStage";

/// Whether the resource is known only as one that does not deserialize.
pub(super) fn is_invalid(shared: &Shared, key: &ResourceKey) -> bool {
    shared
        .invalid
        .lock()
        .unwrap_or_else(PoisonError::into_inner)
        .contains_key(key)
}

/// Says so in the resource's status. The text of the error is not repeated: it may quote values.
pub(super) async fn report(shared: &Arc<Shared>, key: &ResourceKey) -> Pass {
    let resource =
        ApiResource::from_gvk_with_plural(&GroupVersionKind::gvk(GROUP, VERSION, KIND), "authenticatorsmsstages");
    let api: Api<DynamicObject> = Api::namespaced_with(shared.context.kube.clone(), &key.namespace, &resource);
    let mut pass = Pass {
        failure: Some(Reason::InvalidSpec),
        ..Pass::default()
    };
    let Ok(Some(object)) = kubernetes::answer(api.get_opt(&key.name)).await else {
        pass.next = Some(Duration::from_secs(30));
        return pass;
    };
    let before: AuthenticatorSMSStageStatus = object
        .data
        .get("status")
        .and_then(|status| serde_json::from_value(status.clone()).ok())
        .unwrap_or_default();
    let deleting = object.metadata.deletion_timestamp.is_some();
    let finalizers = object.metadata.finalizers.clone().unwrap_or_default();
    if let Some(index) = finalizers
        .iter()
        .position(|finalizer| finalizer == STAGE_FINALIZER)
        .filter(|_| deleting)
    {
        let orphan = object
            .data
            .pointer("/spec/deletionPolicy")
            .and_then(|policy| policy.as_str())
            == Some(&format!("{:?}", DeletionPolicy::Orphan));
        let owns_nothing = before.origin.is_none() && before.pending_create.is_none();
        if orphan || owns_nothing || before.origin == Some(Origin::Adopted) {
            let ours = format!("/metadata/finalizers/{index}");
            let patch = json!([{"op": "test", "path": ours, "value": STAGE_FINALIZER}, {"op": "remove", "path": ours}]);
            if let Ok(patch) = serde_json::from_value(patch) {
                let released = kubernetes::answer(api.patch(
                    &key.name,
                    &PatchParams::default(),
                    &Patch::<DynamicObject>::Json(patch),
                ))
                .await;
                pass.next = released.is_err().then_some(Duration::from_secs(5));
                return pass;
            }
        }
    }
    let failure = if deleting {
        Failure::new(
            Reason::DeletionBlocked,
            "the spec is not of this version's schema, so its policies cannot be read: apply a valid spec, or set \
             deletionPolicy to Orphan to leave the stage in authentik",
        )
        .mended_here()
    } else {
        Failure::new(
            Reason::InvalidSpec,
            "the spec is not of this version's schema: compare it with `kubectl explain authenticatorsmsstage.spec` and \
             apply it anew",
        )
    };
    let generation = object.metadata.generation.unwrap_or_default();
    let mut after = before.clone();
    after.observed_generation = generation;
    after.conditions = status::conditions(
        &status::ours(&before.conditions),
        &Verdict::failed(&failure),
        generation,
        shared.context.clock.wall(),
    );
    if before == after {
        return pass;
    }
    let body = json!({
        "apiVersion": format!("{GROUP}/{VERSION}"),
        "kind": KIND,
        "metadata": {"name": key.name, "namespace": key.namespace},
        "status": after,
    });
    let params = PatchParams::apply(FIELD_MANAGER).force();
    if kubernetes::answer(api.patch_status(&key.name, &params, &Patch::Apply(body)))
        .await
        .is_err()
    {
        pass.next = Some(Duration::from_secs(30));
    }
    pass.notices
        .extend(status::notice(&before.conditions, &after.conditions, failure.reason));
    pass
}
