//! Resources that are not of this version's schema: older than a rule, or of a CRD that somebody changed. They stop no
//! other resource, say what is wrong with them, and can be deleted.

use std::sync::{Arc, PoisonError};
use std::time::Duration;

use k8s_openapi::api::core::v1::ObjectReference;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;
use kube::api::{ApiResource, DynamicObject, Patch, PatchParams};
use kube::core::GroupVersionKind;
use kube::{Api, ResourceExt};
use serde_json::{Value, json};

use super::Shared;
use crate::api::{FIELD_MANAGER, GROUP, Reason, STAGE_FINALIZER, VERSION};
use crate::reconcile::claims::Claim;
use crate::reconcile::status::{self, Verdict};
use crate::reconcile::{Failure, Pass, ResourceKey, kubernetes};

const KIND: &str = "AuthenticatorSMSStage";

/// What events are to name, if the resource is known only as one that does not deserialize.
pub(super) fn reference(shared: &Shared, key: &ResourceKey) -> Option<ObjectReference> {
    let invalid = shared.invalid.lock().unwrap_or_else(PoisonError::into_inner);
    invalid.get(key).map(|metadata| ObjectReference {
        api_version: Some(format!("{GROUP}/{VERSION}")),
        kind: Some(KIND.to_owned()),
        namespace: metadata.namespace.clone(),
        name: metadata.name.clone(),
        uid: metadata.uid.clone(),
        ..ObjectReference::default()
    })
}

fn api(shared: &Shared, namespace: &str) -> Api<DynamicObject> {
    let kind = GroupVersionKind::gvk(GROUP, VERSION, KIND);
    let resource = ApiResource::from_gvk_with_plural(&kind, "authenticatorsmsstages");
    Api::namespaced_with(shared.context.kube.clone(), namespace, &resource)
}

/// The status as it is: what this version does not know must be neither lost nor overlooked.
fn status_of(object: &DynamicObject) -> Value {
    object.data.get("status").cloned().unwrap_or_else(|| json!({}))
}

/// Before the first pass: what their records say that they own is theirs, though nobody can read their specs. No other
/// resource takes it over, and their connections stay.
pub(super) async fn claim_what_they_have(shared: &Shared) {
    let keys: Vec<ResourceKey> = {
        let invalid = shared.invalid.lock().unwrap_or_else(PoisonError::into_inner);
        invalid.keys().cloned().collect()
    };
    for key in keys {
        loop {
            match kubernetes::answer(api(shared, &key.namespace).get_opt(&key.name)).await {
                Ok(Some(object)) => claim(shared, &key, &object),
                Ok(None) => {}
                // Nobody may begin before it is known what this one has.
                Err(error) => {
                    tracing::warn!(resource = %key, status = ?error.status(), "cannot read a resource of another schema yet");
                    shared
                        .context
                        .clock
                        .sleep_until(shared.context.clock.now() + Duration::from_secs(1))
                        .await;
                    continue;
                }
            }
            break;
        }
    }
}

fn claim(shared: &Shared, key: &ResourceKey, object: &DynamicObject) {
    let uid = object.uid().unwrap_or_default();
    let created_at = object.creation_timestamp().map(|time| time.0).unwrap_or_default();
    let mut claims = shared.context.claims();
    if claims.get(&uid).is_none()
        && let Some(claim) = Claim::of_record(key.clone(), created_at, &status_of(object))
    {
        claims.put(&uid, claim);
    }
}

/// Says so in the resource's status. The text of the error is not repeated: it may quote values.
pub(super) async fn report(shared: &Arc<Shared>, key: &ResourceKey) -> Pass {
    let api = api(shared, &key.namespace);
    let mut pass = Pass {
        failure: Some(Reason::InvalidSpec),
        ..Pass::default()
    };
    let Ok(Some(object)) = kubernetes::answer(api.get_opt(&key.name)).await else {
        pass.next = Some(Duration::from_secs(30));
        return pass;
    };
    claim(shared, key, &object);
    let before = status_of(&object);
    let leaving = object.metadata.deletion_timestamp.is_some();
    let finalizers = object.metadata.finalizers.clone().unwrap_or_default();
    let ours = finalizers.iter().position(|finalizer| finalizer == STAGE_FINALIZER);
    if let Some(index) = ours.filter(|_| leaving && leaves_no_stage_behind(&object.data, &before)) {
        let place = format!("/metadata/finalizers/{index}");
        let release = json!([{"op": "test", "path": place, "value": STAGE_FINALIZER}, {"op": "remove", "path": place}]);
        let Ok(patch) = serde_json::from_value(release) else {
            return pass;
        };
        let params = PatchParams::default();
        let released = kubernetes::answer(api.patch(&key.name, &params, &Patch::<DynamicObject>::Json(patch))).await;
        pass.next = released.is_err().then_some(Duration::from_secs(5));
        return pass;
    }
    let failure = if leaving {
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
    let conditions: Vec<Condition> = before
        .get("conditions")
        .and_then(|told| serde_json::from_value(told.clone()).ok())
        .unwrap_or_default();
    let generation = object.metadata.generation.unwrap_or_default();
    let told = status::conditions(
        &status::ours(&conditions),
        &Verdict::failed(&failure),
        generation,
        shared.context.clock.wall(),
    );
    let mut after = before.clone();
    after["observedGeneration"] = json!(generation);
    after["conditions"] = json!(told);
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
    pass.notices.extend(status::notice(&conditions, &told, failure.reason));
    pass
}

/// Whether the resource may go without a look at authentik.
fn leaves_no_stage_behind(object: &Value, status: &Value) -> bool {
    let text = |pointer| object.pointer(pointer).and_then(Value::as_str);
    let owns = status.get("origin").is_some() || status.get("pendingCreate").is_some();
    let adopted = status.get("origin").and_then(Value::as_str) == Some("Adopted");
    !owns || text("/spec/deletionPolicy") == Some("Orphan") || (adopted && text("/spec/deletionPolicy").is_none())
}
