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
use super::queue::Lane;
use crate::api::{CONNECTION_FINALIZER, FIELD_MANAGER, GROUP, Reason, STAGE_FINALIZER, VERSION};
use crate::reconcile::claims::Claim;
use crate::reconcile::status::{self, Verdict};
use crate::reconcile::{Failure, Object, Pass, ResourceKey, kubernetes};

/// What has to be known of a kind without its type.
struct Kind {
    name: &'static str,
    plural: &'static str,
    finalizer: &'static str,
}

const STAGE: Kind = Kind {
    name: "AuthenticatorSMSStage",
    plural: "authenticatorsmsstages",
    finalizer: STAGE_FINALIZER,
};
const CONNECTION: Kind = Kind {
    name: "AuthentikConnection",
    plural: "authentikconnections",
    finalizer: CONNECTION_FINALIZER,
};

const fn kind(object: &Object) -> &'static Kind {
    match object {
        Object::Stage(_) => &STAGE,
        Object::Connection(_) => &CONNECTION,
    }
}

/// Namespace and name.
const fn place(object: &Object) -> (&String, &String) {
    match object {
        Object::Stage(key) => (&key.namespace, &key.name),
        Object::Connection(key) => (&key.namespace, &key.name),
    }
}

/// What events are to name, if the resource is known only as one that does not deserialize.
pub(super) fn reference(shared: &Shared, object: &Object) -> Option<ObjectReference> {
    let invalid = shared.invalid.lock().unwrap_or_else(PoisonError::into_inner);
    invalid.get(object).map(|metadata| ObjectReference {
        api_version: Some(format!("{GROUP}/{VERSION}")),
        kind: Some(kind(object).name.to_owned()),
        namespace: metadata.namespace.clone(),
        name: metadata.name.clone(),
        uid: metadata.uid.clone(),
        ..ObjectReference::default()
    })
}

fn api(shared: &Shared, object: &Object) -> Api<DynamicObject> {
    let Kind {
        name,
        plural,
        finalizer: _,
    } = kind(object);
    let resource = ApiResource::from_gvk_with_plural(&GroupVersionKind::gvk(GROUP, VERSION, name), plural);
    Api::namespaced_with(shared.context.kube.clone(), place(object).0, &resource)
}

/// The status as it is: what this version does not know must be neither lost nor overlooked.
fn status_of(object: &DynamicObject) -> Value {
    object.data.get("status").cloned().unwrap_or_else(|| json!({}))
}

/// Before the first pass: what their records say that they own is theirs, though nobody can read their specs. No other
/// resource takes it over, and their connections stay.
pub(super) async fn claim_what_they_have(shared: &Shared) {
    let stages: Vec<ResourceKey> = {
        let invalid = shared.invalid.lock().unwrap_or_else(PoisonError::into_inner);
        let stage = |object: &Object| match object {
            Object::Stage(key) => Some(key.clone()),
            Object::Connection(_) => None,
        };
        invalid.keys().filter_map(stage).collect()
    };
    for key in stages {
        loop {
            match kubernetes::answer(api(shared, &Object::Stage(key.clone())).get_opt(&key.name)).await {
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
pub(super) async fn report(shared: &Arc<Shared>, of: &Object) -> Pass {
    let api = api(shared, of);
    let Kind {
        name: kind,
        plural: _,
        finalizer,
    } = kind(of);
    let (namespace, name) = place(of);
    let mut pass = Pass {
        failure: Some(Reason::InvalidSpec),
        ..Pass::default()
    };
    let Ok(Some(object)) = kubernetes::answer(api.get_opt(name)).await else {
        pass.next = Some(Duration::from_secs(30));
        return pass;
    };
    if let Object::Stage(key) = of {
        claim(shared, key, &object);
    }
    let before = status_of(&object);
    let leaving = object.metadata.deletion_timestamp.is_some();
    let finalizers = object.metadata.finalizers.clone().unwrap_or_default();
    let ours = finalizers.iter().position(|other| other == finalizer);
    if let Some(index) = ours.filter(|_| leaving && is_free(shared, of, &object.data, &before)) {
        let place = format!("/metadata/finalizers/{index}");
        let release = json!([{"op": "test", "path": place, "value": finalizer}, {"op": "remove", "path": place}]);
        let Ok(patch) = serde_json::from_value(release) else {
            return pass;
        };
        let params = PatchParams::default();
        let released = kubernetes::answer(api.patch(name, &params, &Patch::<DynamicObject>::Json(patch))).await;
        pass.next = released.is_err().then_some(Duration::from_secs(5));
        return pass;
    }
    let failure = failure(of, leaving);
    if let Object::Connection(key) = of {
        shared.context.servers.unreadable(key, failure.clone());
        for stage in shared.through(key) {
            shared.look_at(Object::Stage(stage), Lane::Rest);
        }
    }
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
        "kind": kind,
        "metadata": {"name": name, "namespace": namespace},
        "status": after,
    });
    let params = PatchParams::apply(FIELD_MANAGER).force();
    if kubernetes::answer(api.patch_status(name, &params, &Patch::Apply(body)))
        .await
        .is_err()
    {
        pass.next = Some(Duration::from_secs(30));
    }
    pass.notices.extend(status::notice(&conditions, &told, failure.reason));
    pass
}

/// What is wrong, and the way out.
fn failure(of: &Object, leaving: bool) -> Failure {
    let explain = format!("kubectl explain {}.spec", kind(of).name.to_lowercase());
    match (of, leaving) {
        (Object::Stage(_), true) => Failure::new(
            Reason::DeletionBlocked,
            "the spec is not of this version's schema, so its policies cannot be read: apply a valid spec, or set \
             deletionPolicy to Orphan to leave the stage in authentik",
        )
        .mended_here(),
        (Object::Connection(_), true) => Failure::new(
            Reason::DeletionBlocked,
            "stages still need the connection, and its spec is not of this version's schema: apply a valid spec, or set \
             the stages' deletionPolicy to Orphan",
        ),
        (_, false) => Failure::new(
            Reason::InvalidSpec,
            format!("the spec is not of this version's schema: compare it with `{explain}` and apply it anew"),
        ),
    }
}

/// Whether the resource may go without a look at authentik.
fn is_free(shared: &Shared, of: &Object, object: &Value, status: &Value) -> bool {
    match of {
        Object::Stage(_) => leaves_no_stage_behind(object, status),
        Object::Connection(key) => shared.context.claims().holding(key).is_empty(),
    }
}

fn leaves_no_stage_behind(object: &Value, status: &Value) -> bool {
    let text = |pointer| object.pointer(pointer).and_then(Value::as_str);
    let owns = status.get("origin").is_some() || status.get("pendingCreate").is_some();
    let adopted = status.get("origin").and_then(Value::as_str) == Some("Adopted");
    !owns || text("/spec/deletionPolicy") == Some("Orphan") || (adopted && text("/spec/deletionPolicy").is_none())
}
