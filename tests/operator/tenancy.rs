//! Several namespaces and one operator: who may use what, and who is in nobody's way.

use std::time::Duration;

use authentik_sim::Stage;
use authentik_stage_operator::api::{AuthenticatorSMSStage, AuthentikConnection, Origin, STAGE_FINALIZER};
use k8s_openapi::api::core::v1::Namespace;
use k8s_openapi::api::rbac::v1::Role;
use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use kube::api::{DeleteParams, DynamicObject, Patch, PatchParams, PostParams};
use kube::runtime::wait::await_condition;
use kube::{Api, ResourceExt};
use serde_json::{Value, json};
use world::{Audit, Options};

use crate::arena::{AUTH_TOKEN, Arena, PATIENCE, READABLE, SID, message};

/// A stage that somebody made by hand, equal to what [`Arena::twilio`] asks.
fn by_hand(name: &str) -> Stage {
    Stage {
        from_number: "+15550100".to_owned(),
        account_sid: SID.to_owned(),
        auth: AUTH_TOKEN.to_owned(),
        ..Stage::twilio(name)
    }
}

/// A home with a connection that is open so far, and a namespace beside it, in which everything happens from here on.
/// Its resources name no connection: they go through the operator's default.
async fn next_door(allowed: Value) -> (Arena, String) {
    let mut arena = Arena::still(READABLE).await;
    arena.connect().await;
    arena.connection(json!({"allowedNamespaces": allowed})).await;
    let neighbour = arena.neighbour("team=login").await;
    arena.start().await;
    arena.run_clock();
    let home = arena.go_to(&neighbour);
    (arena, home)
}

async fn allow(arena: &mut Arena, home: &str, allowed: Value) {
    let here = arena.go_to(home);
    arena.connection(json!({"allowedNamespaces": allowed})).await;
    arena.go_to(&here);
}

#[tokio::test]
async fn a_neighbour_uses_the_default_connection_as_far_as_its_owner_says() {
    let (mut arena, home) = next_door(json!({"from": "Same"})).await;
    arena.twilio("sms", json!({"adoptionPolicy": "Never"})).await;
    let refused = arena.is("sms", "False", "ConnectionNotAllowed").await;
    let text = message(&refused);
    assert!(
        text.contains(&format!("{home}/authentik")) && text.contains("spec.allowedNamespaces"),
        "{text}"
    );
    assert!(refused.finalizers().is_empty());
    assert!(arena.sim.stages().is_empty());

    allow(&mut arena, &home, json!({"from": "All"})).await;
    let created = arena.is("sms", "True", "Available").await;
    let pinned = created.status.unwrap().connection.unwrap();
    assert_eq!((pinned.namespace, pinned.name), (home.clone(), "authentik".to_owned()));

    // Who is shut out later keeps what is his, and can still have it deleted.
    allow(&mut arena, &home, json!({"from": "Same"})).await;
    let shut_out = arena.is("sms", "False", "ConnectionNotAllowed").await;
    assert!(
        shut_out
            .finalizers()
            .iter()
            .any(|finalizer| finalizer == STAGE_FINALIZER)
    );
    assert_eq!(arena.sim.stages().len(), 1);
    arena.delete("sms").await;
    arena.gone("sms").await;
    assert!(arena.sim.stages().is_empty());
}

#[tokio::test]
async fn a_neighbour_takes_over_only_as_far_as_the_owner_says() {
    let (mut arena, home) = next_door(json!({"from": "All"})).await;
    let equal = by_hand("equal");
    let other = Stage {
        from_number: "+15559999".to_owned(),
        ..by_hand("other")
    };
    arena.sim.with(|state| {
        state.add_stage(equal.clone());
        state.add_stage(other.clone());
    });
    arena.twilio("equal", json!({})).await;
    let refused = arena.is("equal", "False", "ConnectionNotAllowed").await;
    let text = message(&refused);
    assert!(
        text.contains("adoptionPolicy") && text.contains("spec.allowedNamespaces.adoption"),
        "{text}"
    );
    arena
        .twilio(
            "other",
            json!({"adoptionPolicy": "Never", "managementPolicy": "Observe"}),
        )
        .await;
    let blind = arena.is("other", "False", "ConnectionNotAllowed").await;
    assert!(
        blind.status.unwrap().stage.is_none(),
        "to look at others' stages is to go as far as to adopt them"
    );

    allow(&mut arena, &home, json!({"from": "All", "adoption": "IfMatch"})).await;
    let adopted = arena.is("equal", "True", "Available").await;
    assert_eq!(adopted.status.unwrap().origin, Some(Origin::Adopted));
    arena.is("other", "True", "DriftDetected").await;
    arena
        .edit_stage("other", json!({"managementPolicy": "Full", "adoptionPolicy": "Always"}))
        .await;
    arena.is("other", "False", "ConnectionNotAllowed").await;
    assert_eq!(arena.sim.stage_named("other").as_ref(), Some(&other), "untouched");

    allow(&mut arena, &home, json!({"from": "All", "adoption": "Always"})).await;
    arena.is("other", "True", "Available").await;
    assert_eq!(arena.sim.stage_named("other").unwrap().from_number, "+15550100");
}

#[tokio::test]
async fn a_neighbour_deletes_devices_only_if_the_owner_lets_it() {
    let (mut arena, home) = next_door(json!({"from": "All"})).await;
    arena.twilio("sms", json!({"adoptionPolicy": "Never"})).await;
    arena.is("sms", "True", "Available").await;
    arena.sim.with(|state| {
        let pk = state.stage_named("sms").unwrap().pk;
        state.enrol(pk, "+15551234")
    });
    arena.delete("sms").await;
    arena.is("sms", "False", "DeletionBlocked").await;
    // The policy can be changed while the resource is being deleted: the limit holds then too.
    arena.edit_stage("sms", json!({"deletionPolicy": "ForceDelete"})).await;
    let blocked = arena.is("sms", "False", "DeletionBlocked").await;
    assert!(
        message(&blocked).contains("spec.allowedNamespaces.forceDelete"),
        "{}",
        message(&blocked)
    );
    assert_eq!(arena.sim.devices().len(), 1);
    allow(&mut arena, &home, json!({"from": "All", "forceDelete": true})).await;
    arena.gone("sms").await;
    assert!(arena.sim.stages().is_empty() && arena.sim.devices().is_empty());
}

#[tokio::test]
async fn who_may_not_use_a_connection_keeps_no_name_from_anybody() {
    let (mut arena, home) = next_door(json!({"from": "Same"})).await;
    arena
        .twilio("old", json!({"name": "shared", "adoptionPolicy": "Never"}))
        .await;
    arena.is("old", "False", "ConnectionNotAllowed").await;
    let neighbour = arena.go_to(&home);
    // Ages are told in whole seconds.
    tokio::time::sleep(Duration::from_millis(1100)).await;
    arena.twilio("young", json!({"name": "shared"})).await;
    arena.is("young", "True", "Available").await;

    allow(&mut arena, &home, json!({"from": "All"})).await;
    arena.go_to(&neighbour);
    let refused = arena.is("old", "False", "NameConflict").await;
    assert!(message(&refused).contains("\"shared\""), "{}", message(&refused));
    assert_eq!(arena.sim.count("POST", ""), 1);
}

#[tokio::test]
async fn a_name_belongs_to_the_older_resource_whatever_its_namespace() {
    let (mut arena, home) = next_door(json!({"from": "All"})).await;
    arena.twilio("sms", json!({"adoptionPolicy": "Never"})).await;
    arena.is("sms", "True", "Available").await;
    let neighbour = arena.go_to(&home);
    arena
        .twilio("sms", json!({"adoptionPolicy": "Always", "fromNumber": "+1666"}))
        .await;
    let refused = arena.is("sms", "False", "NameConflict").await;
    assert!(
        message(&refused).contains(&format!("{neighbour}/sms")),
        "{}",
        message(&refused)
    );
    assert_eq!(arena.sim.stages().len(), 1);
    assert_eq!(arena.sim.stages()[0].from_number, "+15550100");
}

#[tokio::test]
async fn a_connection_that_does_not_exist_or_is_out_of_reach_is_named() {
    let (mut arena, home) = next_door(json!({"from": "All"})).await;
    let unwatched = arena.plane.create_namespace().await;
    for (name, reference, named) in [
        (
            "near",
            json!({"name": "authentik"}),
            format!("{}/authentik", arena.namespace),
        ),
        (
            "far",
            json!({"name": "authentik", "namespace": unwatched}),
            format!("{unwatched}/authentik"),
        ),
    ] {
        arena.twilio(name, json!({"connectionRef": reference})).await;
        let lost = arena.is(name, "False", "ConnectionNotFound").await;
        assert!(message(&lost).contains(&named), "{}", message(&lost));
    }
    // It comes to be, in the neighbour's own namespace and with its own token.
    arena.connect().await;
    arena.is("near", "True", "Available").await;
    let neighbour = arena.go_to(&home);
    arena.connection_is("authentik", "True", "Available").await;
    arena.go_to(&neighbour);
    arena.connection_is("authentik", "True", "Available").await;
}

#[tokio::test]
async fn a_secret_is_looked_for_in_the_resources_own_namespace_only() {
    let mut arena = Arena::apart(
        READABLE,
        Options {
            audit: Some(Audit::Metadata),
            ..Options::default()
        },
    )
    .await;
    arena.connect().await;
    arena.connection(json!({"allowedNamespaces": {"from": "All"}})).await;
    arena.secret("treasure", &[("token", AUTH_TOKEN)]).await;
    arena.watch_everything().await;
    arena.start().await;
    arena.run_clock();
    let neighbour = arena.plane.create_namespace().await;
    let home = arena.go_to(&neighbour);
    let thief = json!({
        "adoptionPolicy": "Never",
        "twilio": {"accountSid": SID, "authTokenSecretRef": {"name": "treasure", "key": "token"}},
    });
    arena.twilio("thief", thief).await;
    let refused = arena.is("thief", "False", "SecretNotFound").await;
    assert!(
        message(&refused).contains(&format!("{neighbour}/treasure")),
        "{}",
        message(&refused)
    );
    arena
        .secret("treasure", &[("token", "fedcba9876543210fedcba9876543210")])
        .await;
    arena.is("thief", "True", "Available").await;
    assert_eq!(
        arena.sim.stage_named("thief").unwrap().auth,
        "fedcba9876543210fedcba9876543210"
    );

    let operator = format!("system:serviceaccount:{home}:operator");
    let read: Vec<(String, String)> = arena
        .plane
        .audit_events()
        .iter()
        .filter(|event| event["user"]["username"] == operator && event["objectRef"]["resource"] == "secrets")
        .filter(|event| event["verb"] == "get")
        .map(|event| {
            let text = |field: &str| event["objectRef"][field].as_str().unwrap_or_default().to_owned();
            (text("namespace"), text("name"))
        })
        .collect();
    assert!(read.contains(&(neighbour.clone(), "treasure".to_owned())), "{read:?}");
    let named = [(neighbour, "treasure".to_owned()), (home, "authentik-token".to_owned())];
    assert!(
        read.iter().all(|secret| named.contains(secret)),
        "only what resources name is read: {read:?}"
    );
}

#[tokio::test]
async fn a_label_opens_a_connection_to_a_namespace_at_once() {
    let mut arena = Arena::apart(READABLE, Options::default()).await;
    arena.connect().await;
    let selector = json!({"from": "Selector", "selector": {"matchLabels": {"team": "login"}}});
    arena.connection(json!({"allowedNamespaces": selector})).await;
    arena.watch_everything().await;
    arena.start().await;
    let neighbour = arena.plane.create_namespace().await;
    let home = arena.go_to(&neighbour);
    arena.secret("twilio", &[("auth-token", AUTH_TOKEN)]).await;
    arena.twilio("sms", json!({"adoptionPolicy": "Never"})).await;
    arena.is("sms", "False", "ConnectionNotAllowed").await;
    // The clock stands still: nothing but the label itself has the resource looked at.
    let namespaces: Api<Namespace> = Api::all(arena.kube.clone());
    let label = |value: Value| Patch::Merge(json!({"metadata": {"labels": {"team": value}}}));
    namespaces
        .patch(&neighbour, &PatchParams::default(), &label(json!("login")))
        .await
        .unwrap();
    arena.is("sms", "True", "Available").await;
    namespaces
        .patch(&neighbour, &PatchParams::default(), &label(json!(null)))
        .await
        .unwrap();
    arena.is("sms", "False", "ConnectionNotAllowed").await;
    assert_eq!(arena.sim.stages().len(), 1, "it is nobody else's to delete");
    arena.go_to(&home);
    arena.connection_is("authentik", "True", "Available").await;
}

#[tokio::test]
async fn a_missing_right_to_secrets_delays_only_what_needs_it() {
    let mut arena = Arena::still(READABLE).await;
    arena.connect().await;
    arena.connection(json!({"allowedNamespaces": {"from": "All"}})).await;
    let neighbour = arena.neighbour("team=login").await;
    let home = arena.go_to(&neighbour);
    let roles: Api<Role> = arena.api();
    let mut role = roles.get("operator").await.unwrap();
    let granted = role.rules.clone();
    role.rules
        .as_mut()
        .unwrap()
        .retain(|rule| rule.resources.as_ref().is_none_or(|kinds| *kinds != ["secrets"]));
    assert_ne!(role.rules, granted, "the chart grants secrets by a rule of its own");
    role.metadata.managed_fields = None;
    roles.replace("operator", &PostParams::default(), &role).await.unwrap();
    arena.twilio("sms", json!({"adoptionPolicy": "Never"})).await;
    arena.go_to(&home);
    arena.start().await;
    arena.run_clock();
    arena.go_to(&neighbour);
    let refused = arena.is("sms", "False", "Forbidden").await;
    let text = message(&refused);
    assert!(
        text.contains(&format!("{neighbour}/twilio")) && text.contains("get on secrets"),
        "{text}"
    );

    arena.go_to(&home);
    arena.twilio("at-home", json!({})).await;
    arena.is("at-home", "True", "Available").await;
    arena
        .rotate("twilio", "auth-token", "fedcba9876543210fedcba9876543210")
        .await;
    arena
        .holds("the rotated token", |state| {
            state
                .stage_named("at-home")
                .filter(|stage| stage.auth.starts_with("fedcba"))
                .map(|_| ())
        })
        .await;

    arena.go_to(&neighbour);
    let mut role = roles.get("operator").await.unwrap();
    role.rules = granted;
    role.metadata.managed_fields = None;
    roles.replace("operator", &PostParams::default(), &role).await.unwrap();
    arena.is("sms", "True", "Available").await;
    // The watch, too, comes back by itself.
    arena
        .rotate("twilio", "auth-token", "fedcba9876543210fedcba9876543210")
        .await;
    arena
        .holds("the rotated token", |state| {
            state
                .stage_named("sms")
                .filter(|stage| stage.auth.starts_with("fedcba"))
                .map(|_| ())
        })
        .await;
}

/// Waits until a stage resource of any form is so.
async fn wait_raw(api: &Api<DynamicObject>, name: &str, what: &str, wanted: impl Fn(Option<&DynamicObject>) -> bool) {
    let met = await_condition(api.clone(), name, |object: Option<&DynamicObject>| wanted(object));
    let met = tokio::time::timeout(PATIENCE, met).await;
    assert!(met.is_ok(), "{name} does not {what}: {:?}", api.get_opt(name).await);
}

fn ready(object: &DynamicObject) -> Option<(&str, &str)> {
    let conditions = object.data.pointer("/status/conditions")?.as_array()?;
    let ready = conditions.iter().find(|condition| condition["type"] == "Ready")?;
    Some((ready["reason"].as_str()?, ready["message"].as_str()?))
}

/// Lets any spec pass, as a definition of another version may.
async fn loosen(arena: &Arena) {
    loosen_kind(arena, "AuthenticatorSMSStage", &json!({"provider": "pigeon"})).await;
}

/// Lets the definition of a kind take any spec, such as this one.
async fn loosen_kind(arena: &Arena, kind: &str, pigeon: &Value) {
    let definitions: Api<CustomResourceDefinition> = Api::all(arena.kube.clone());
    let name = format!("{}s.stages.authentik-operator.dev", kind.to_lowercase());
    // What can be selected by has to stand in the schema.
    let spec = json!({"type": "object", "properties": {"provider": {"type": "string"}},
                      "x-kubernetes-preserve-unknown-fields": true});
    let patch =
        json!([{"op": "replace", "path": "/spec/versions/0/schema/openAPIV3Schema/properties/spec", "value": spec}]);
    let patch = Patch::<CustomResourceDefinition>::Json(serde_json::from_value(patch).unwrap());
    definitions.patch(&name, &PatchParams::default(), &patch).await.unwrap();
    // The API server takes up a changed definition a moment later.
    let stages = arena.dynamic(kind);
    let mut probe = object("probe", pigeon);
    kind.clone_into(&mut probe.types.as_mut().unwrap().kind);
    let started = std::time::Instant::now();
    while let Err(error) = stages.create(&PostParams::default(), &probe).await {
        assert!(started.elapsed() < PATIENCE, "{error}");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    stages.delete("probe", &DeleteParams::default()).await.unwrap();
}

fn object(name: &str, spec: &Value) -> DynamicObject {
    serde_json::from_value(json!({
        "apiVersion": "stages.authentik-operator.dev/v1alpha1", "kind": "AuthenticatorSMSStage",
        "metadata": {"name": name}, "spec": spec,
    }))
    .unwrap()
}

#[tokio::test]
async fn a_resource_that_does_not_deserialize_stops_no_other_and_can_be_deleted() {
    let mut arena = Arena::apart(READABLE, Options::default()).await;
    loosen(&arena).await;
    let stages = arena.dynamic("AuthenticatorSMSStage");
    let pigeon = json!({"provider": "pigeon", "fromNumber": 7});
    stages
        .create(&PostParams::default(), &object("pigeon", &pigeon))
        .await
        .unwrap();
    arena.connect().await;
    // Also as part of the first list.
    arena.start().await;
    arena.run_clock();
    arena.twilio("sms", json!({})).await;
    arena.twilio("doomed", json!({})).await;
    arena.is("sms", "True", "Available").await;
    arena.is("doomed", "True", "Available").await;
    let invalid = |object: Option<&DynamicObject>| {
        object
            .and_then(ready)
            .is_some_and(|(reason, message)| reason == "InvalidSpec" && !message.contains("pigeon"))
    };
    wait_raw(&stages, "pigeon", "tell that its spec is invalid", invalid).await;
    arena.event("pigeon", "InvalidSpec").await;

    stages.delete("pigeon", &DeleteParams::default()).await.unwrap();
    wait_raw(&stages, "pigeon", "be gone", |object| object.is_none()).await;

    // One that owns a stage keeps it, and its deletion says what to do.
    let merge = |spec: Value| Patch::Merge(json!({"spec": spec}));
    stages
        .patch("sms", &PatchParams::default(), &merge(json!({"provider": "pigeon"})))
        .await
        .unwrap();
    wait_raw(&stages, "sms", "tell that its spec is invalid", invalid).await;
    stages
        .patch(
            "sms",
            &PatchParams::default(),
            &merge(json!({"provider": "twilio", "fromNumber": "+1777"})),
        )
        .await
        .unwrap();
    arena.is("sms", "True", "Available").await;
    assert_eq!(arena.sim.stage_named("sms").unwrap().from_number, "+1777");

    for name in ["sms", "doomed"] {
        stages
            .patch(name, &PatchParams::default(), &merge(json!({"provider": "pigeon"})))
            .await
            .unwrap();
        wait_raw(&stages, name, "tell that its spec is invalid", invalid).await;
        stages.delete(name, &DeleteParams::default()).await.unwrap();
        let blocked = |object: Option<&DynamicObject>| {
            object
                .and_then(ready)
                .is_some_and(|(reason, message)| reason == "DeletionBlocked" && message.contains("Orphan"))
        };
        wait_raw(&stages, name, "say that its deletion is blocked", blocked).await;
    }
    stages
        .patch(
            "sms",
            &PatchParams::default(),
            &merge(json!({"deletionPolicy": "Orphan"})),
        )
        .await
        .unwrap();
    wait_raw(&stages, "sms", "be gone", |object| object.is_none()).await;
    stages
        .patch("doomed", &PatchParams::default(), &merge(json!({"provider": "twilio"})))
        .await
        .unwrap();
    wait_raw(&stages, "doomed", "be gone", |object| object.is_none()).await;
    let left: Vec<_> = arena.sim.stages().into_iter().map(|stage| stage.name).collect();
    assert_eq!(left, ["sms"]);

    // What the invalid one has left behind is in nobody's way.
    arena
        .twilio("again", json!({"name": "sms", "fromNumber": "+1777"}))
        .await;
    arena.is("again", "True", "Available").await;
    let connections = arena.api::<AuthentikConnection>();
    arena.delete("again").await;
    arena.gone("again").await;
    connections.delete("authentik", &DeleteParams::default()).await.unwrap();
    arena
        .wait::<AuthentikConnection>("authentik", "be gone", |connection| connection.is_none())
        .await;
    assert!(
        arena
            .api::<AuthenticatorSMSStage>()
            .list(&kube::api::ListParams::default())
            .await
            .unwrap()
            .items
            .is_empty()
    );
}

#[tokio::test]
async fn a_resource_that_does_not_deserialize_keeps_its_stage_and_its_connection_over_a_restart() {
    let mut arena = Arena::apart(READABLE, Options::default()).await;
    loosen(&arena).await;
    arena.connect().await;
    arena.start().await;
    arena.run_clock();
    arena.twilio("sms", json!({})).await;
    arena.is("sms", "True", "Available").await;
    let stages = arena.dynamic("AuthenticatorSMSStage");
    let broken = Patch::Merge(json!({"spec": {"provider": "pigeon"}}));
    stages.patch("sms", &PatchParams::default(), &broken).await.unwrap();
    let invalid = |object: Option<&DynamicObject>| {
        object
            .and_then(ready)
            .is_some_and(|(reason, _)| reason == "InvalidSpec")
    };
    wait_raw(&stages, "sms", "tell that its spec is invalid", invalid).await;
    arena.stop().await;
    arena.start().await;
    arena.rounds(2).await;

    arena
        .twilio("rival", json!({"name": "sms", "adoptionPolicy": "Always"}))
        .await;
    let refused = arena.is("rival", "False", "NameConflict").await;
    assert!(message(&refused).contains("/sms"), "{}", message(&refused));
    let connections = arena.api::<AuthentikConnection>();
    connections.delete("authentik", &DeleteParams::default()).await.unwrap();
    arena.connection_is("authentik", "False", "DeletionBlocked").await;
}

#[tokio::test]
async fn a_connection_that_does_not_deserialize_says_so_keeps_its_stages_and_can_be_deleted() {
    let mut arena = Arena::apart(READABLE, Options::default()).await;
    arena.connect().await;
    arena.start().await;
    arena.run_clock();
    arena.twilio("sms", json!({})).await;
    arena.is("sms", "True", "Available").await;
    loosen_kind(&arena, "AuthentikConnection", &json!({"url": 7})).await;
    let connections = arena.dynamic("AuthentikConnection");
    let url = |url: Value| Patch::Merge(json!({"spec": {"url": url}}));
    connections
        .patch("authentik", &PatchParams::default(), &url(json!(7)))
        .await
        .unwrap();
    let is = |wanted: &'static str| {
        move |object: Option<&DynamicObject>| object.and_then(ready).is_some_and(|(reason, _)| reason == wanted)
    };
    wait_raw(
        &connections,
        "authentik",
        "tell that its spec is invalid",
        is("InvalidSpec"),
    )
    .await;
    arena.event("authentik", "InvalidSpec").await;
    let stage = arena.is("sms", "False", "ConnectionNotReady").await;
    assert!(
        message(&stage).contains("kubectl explain authentikconnection.spec"),
        "{}",
        message(&stage)
    );

    connections.delete("authentik", &DeleteParams::default()).await.unwrap();
    wait_raw(
        &connections,
        "authentik",
        "say that its deletion is blocked",
        is("DeletionBlocked"),
    )
    .await;
    arena.edit_stage("sms", json!({"deletionPolicy": "Orphan"})).await;
    arena.delete("sms").await;
    arena.gone("sms").await;
    wait_raw(&connections, "authentik", "be gone", |object| object.is_none()).await;
    assert!(arena.sim.stage_named("sms").is_some());
}
