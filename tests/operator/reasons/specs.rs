//! Reasons that an edit of the resource mends, and those of its end.

use std::path::Path;

use authentik_sim::{Answer, Config, Fault, Sim, What};
use authentik_stage_operator::api::Reason;
use kube::api::DeleteParams;
use serde_json::{Value, json};
use tokio::sync::OnceCell;
use world::{ControlPlane, Options};

use super::{Connection, RECONCILING, STAGES, STALLED, Stage, available, seen, shown, usable};
use crate::arena::{Arena, NEWEST, SID};

/// Newest authentik whose slugs have at most 50 characters.
const SHORT_SLUGS: &str = "2025.10.1";

pub async fn a_slug_that_the_server_is_too_old_for_is_refused(reason: Reason) {
    let arena = Arena::new(SHORT_SLUGS).await;
    let slug = "s".repeat(51);
    arena.twilio("sms", json!({"configureFlow": {"slug": slug}})).await;
    let says = [
        "spec.configureFlow.slug",
        SHORT_SLUGS,
        "at most 50 characters",
        "write a shorter one",
        "upgrade to 2025.12",
    ];
    // An upgrade mends it too.
    let _: Stage = seen(&arena, "sms", "False", reason, RECONCILING, &says).await;
    assert_eq!(arena.sim.count("POST", STAGES), 0);
    arena
        .edit_stage(
            "sms",
            json!({"configureFlow": {"slug": "default-authenticator-sms-setup"}}),
        )
        .await;
    available(&arena, "sms").await;
}

/// A control plane whose definitions let through what ours refuse.
async fn loosened() -> &'static ControlPlane {
    static LOOSE: OnceCell<ControlPlane> = OnceCell::const_new();
    LOOSE
        .get_or_init(async || {
            let plane = ControlPlane::start(Options::default()).await.unwrap();
            let crds = Path::new(env!("CARGO_MANIFEST_DIR")).join("crds");
            plane.install_crds(&crds).await;
            for kind in ["authenticatorsmsstages", "authentikconnections"] {
                let name = format!("{kind}.stages.authentik-operator.dev");
                // Selectable fields have to be there.
                let provider = json!({"provider": {"type": "string"}});
                let anything =
                    json!({"type": "object", "properties": provider, "x-kubernetes-preserve-unknown-fields": true});
                let patch = json!([{"op": "replace", "path": "/spec/versions/0/schema/openAPIV3Schema/properties/spec", "value": anything}]);
                plane.kubectl_ok(&["patch", "crd", &name, "--type=json", "--patch", &patch.to_string()]).await;
            }
            plane
        })
        .await
}

pub async fn what_a_loosened_schema_lets_through_is_refused(reason: Reason) {
    let mut arena = Arena::on(loosened().await, Config::new(NEWEST)).await;
    arena.connect().await;
    arena.start().await;
    arena.run_clock();
    arena.twilio("good", json!({})).await;
    available(&arena, "good").await;

    // It does not deserialize.
    let pigeon = "carrier-pigeon";
    arena
        .apply(
            "AuthenticatorSMSStage",
            "sms",
            json!({"fromNumber": "+15550100", "provider": pigeon}),
        )
        .await;
    let says = [
        "not of this version's schema",
        "kubectl explain authenticatorsmsstage.spec",
        "apply it anew",
    ];
    let stage = seen_loosely(&arena, "sms", reason, "Stalled", &says).await;
    assert!(
        !stage.contains("unknown variant"),
        "what is wrong may be a credential in the wrong place: {stage}"
    );
    arena.twilio("sms", json!({})).await;
    available(&arena, "sms").await;

    // It does, and makes no sense.
    for (name, spec, says) in [
        (
            "blank",
            json!({"fromNumber": " "}),
            ["spec.fromNumber", "write a value"],
        ),
        (
            "slug",
            json!({"configureFlow": {"slug": "no slug"}}),
            ["spec.configureFlow.slug", "only letters, digits, - and _"],
        ),
        (
            "member",
            json!({"provider": "generic"}),
            ["spec.provider", "set generic, and not twilio"],
        ),
    ] {
        arena.twilio(name, spec).await;
        let _: Stage = seen(&arena, name, "False", reason, STALLED, &says).await;
        arena.twilio(name, json!({})).await;
        available(&arena, name).await;
    }
    for (spec, says) in [
        (json!({"syncInterval": "1s"}), ["spec.syncInterval", "10s to 24h"]),
        (json!({"timeout": "1h"}), ["spec.timeout", "1s to 15s"]),
        (
            json!({"allowInsecureHTTP": false}),
            ["spec.url", "set allowInsecureHTTP"],
        ),
    ] {
        arena.connection(spec).await;
        let _: Connection = seen(&arena, "authentik", "False", reason, STALLED, &says).await;
        let _: Stage = shown(
            &arena,
            "sms",
            "False",
            Reason::ConnectionNotReady,
            RECONCILING,
            &["(InvalidSpec)", says[0]],
        )
        .await;
        arena.connection(json!({})).await;
        usable(&arena, "authentik").await;
        available(&arena, "sms").await;
    }
}

/// What a resource that does not deserialize shows, as text.
async fn seen_loosely(arena: &Arena, name: &str, reason: Reason, beside: &str, says: &[&str]) -> String {
    let condition = format!(
        "jsonpath={{.status.conditions[?(@.type=='{beside}')].reason}}={}",
        reason.as_str()
    );
    let resource = format!("authenticatorsmsstage/{name}");
    let namespace = format!("--namespace={}", arena.namespace);
    let wait = format!("--for={condition}");
    arena
        .plane
        .kubectl_ok(&["wait", &namespace, &resource, &wait, "--timeout=30s"])
        .await;
    let text = arena
        .plane
        .kubectl_ok(&["get", &namespace, &resource, "--output=json"])
        .await;
    let object: Value = serde_json::from_str(&text).unwrap();
    crate::lint::status(&object);
    let ready = object["status"]["conditions"]
        .as_array()
        .unwrap()
        .iter()
        .find(|condition| condition["type"] == "Ready")
        .unwrap();
    assert_eq!(ready["observedGeneration"], object["metadata"]["generation"]);
    let message = ready["message"].as_str().unwrap().to_owned();
    assert!(says.iter().all(|part| message.contains(part)), "{message}");
    super::told::<Stage>(arena, name, "Warning", reason, says).await;
    message
}

pub async fn what_authentik_refuses_is_told_in_its_own_words(reason: Reason) {
    let mut arena = Arena::still(NEWEST).await;
    arena.connect().await;
    arena.start().await;
    let refuse = |field: &str| {
        let body = json!({field: ["Enter a valid number."]});
        What::Answer(Answer {
            body: body.to_string(),
            ..Answer::json(400, "")
        })
    };
    let says = [
        "authentik refuses spec.fromNumber: Enter a valid number.",
        "correct the spec",
    ];
    arena.sim.inject(Fault::on("POST", STAGES, refuse("from_number")));
    arena.twilio("sms", json!({})).await;
    let stage: Stage = seen(&arena, "sms", "False", reason, STALLED, &says).await;
    assert!(
        stage.status.unwrap().pending_create.is_none(),
        "for certain nothing was created"
    );
    arena.edit_stage("sms", json!({"fromNumber": "+15550199"})).await;
    available(&arena, "sms").await;

    // On a stage that is ours, one value holds back only itself.
    arena.sim.inject(Fault::on("PATCH", STAGES, refuse("from_number")));
    arena
        .edit_stage("sms", json!({"fromNumber": "x", "friendlyName": "Text message"}))
        .await;
    let stage: Stage = seen(&arena, "sms", "False", reason, STALLED, &says).await;
    let drift: Vec<_> = stage
        .status
        .unwrap()
        .drift
        .into_iter()
        .map(|drift| drift.field)
        .collect();
    assert_eq!(drift, ["from_number"]);
    let held = arena.sim.stage_named("sms").unwrap();
    assert_eq!(
        (held.from_number.as_str(), held.friendly_name.as_deref()),
        ("+15550199", Some("Text message"))
    );
    arena.edit_stage("sms", json!({"fromNumber": "+15550177"})).await;
    available(&arena, "sms").await;
    assert_eq!(arena.sim.stage_named("sms").unwrap().from_number, "+15550177");
}

pub async fn the_older_of_two_resources_has_the_name(reason: Reason) {
    let arena = Arena::new(NEWEST).await;
    arena.twilio("first", json!({"name": "shared"})).await;
    available(&arena, "first").await;
    arena.twilio("second", json!({"name": "shared"})).await;
    let owner = format!("belongs to AuthenticatorSMSStage {}/first", arena.namespace);
    let says = [
        "stage \"shared\"",
        &owner,
        "choose another name",
        "delete one of the two",
    ];
    let stage: Stage = seen(&arena, "second", "False", reason, STALLED, &says).await;
    assert!(stage.status.unwrap().stage.is_none());
    arena.edit_stage("second", json!({"name": "another"})).await;
    available(&arena, "second").await;

    // Ours again, but the name is to change to one that another has: only the name is held back.
    arena
        .edit_stage("second", json!({"name": "shared", "fromNumber": "+15550199"}))
        .await;
    let _: Stage = seen(&arena, "second", "False", reason, STALLED, &says).await;
    assert_eq!(arena.sim.stage_named("another").unwrap().from_number, "+15550199");
    // While the other is on its way out, waiting helps.
    let pk = arena.sim.stage_named("shared").unwrap().pk;
    let device = arena.sim.with(|state| state.enrol(pk, "+15551234"));
    arena.delete("first").await;
    let _: Stage = shown(&arena, "first", "False", Reason::DeletionBlocked, RECONCILING, &[]).await;
    let _: Stage = shown(&arena, "second", "False", reason, RECONCILING, &says).await;
    arena.sim.with(|state| state.remove_device(device));
    arena.gone("first").await;
    available(&arena, "second").await;
    assert_eq!(arena.sim.stages().len(), 1);
}

pub async fn a_stage_of_another_kind_keeps_its_name(reason: Reason) {
    let arena = Arena::new(NEWEST).await;
    let kind = "authentik_stages_user_login.userloginstage";
    let pk = arena.sim.with(|state| state.add_other_stage("sms", kind));
    arena.twilio("sms", json!({})).await;
    let says = [
        "a stage of another kind",
        kind,
        "has the name \"sms\"",
        "choose another name",
    ];
    let _: Stage = seen(&arena, "sms", "False", reason, STALLED, &says).await;
    arena.edit_stage("sms", json!({"name": "text-message"})).await;
    available(&arena, "sms").await;
    // It may also go by itself.
    arena.twilio("other", json!({"name": "sms"})).await;
    let _: Stage = seen(&arena, "other", "False", reason, STALLED, &says).await;
    arena.sim.with(|state| state.remove_other_stage(pk));
    available(&arena, "other").await;
}

pub async fn a_stage_that_may_not_be_taken_over_shows_no_values(reason: Reason) {
    let arena = Arena::new(NEWEST).await;
    let theirs = |name: &str, from_number: &str| authentik_sim::Stage {
        from_number: from_number.to_owned(),
        ..authentik_sim::Stage::twilio(name)
    };
    arena.sim.with(|state| {
        state.add_stage(theirs("never", "+15559999"));
        state.add_stage(theirs("if-match", "+15559999"));
        state.add_stage(theirs("account", "+15550100"));
    });
    arena.twilio("never", json!({"adoptionPolicy": "Never"})).await;
    arena.twilio("if-match", json!({})).await;
    arena.twilio("account", json!({})).await;
    // That an account differs is told only where nothing else does, and not where: a guess is not to be confirmed.
    for (name, says, drift) in [
        (
            "never",
            ["choose another name", "IfMatch or Always"],
            &["from_number"][..],
        ),
        (
            "if-match",
            ["it differs in from_number:", "adoptionPolicy to Always"],
            &["from_number"],
        ),
        (
            "account",
            ["it differs in its account:", "adoptionPolicy to Always"],
            &[],
        ),
    ] {
        let says = ["that this resource did not create", says[0], says[1]];
        let stage: Stage = seen(&arena, name, "False", reason, STALLED, &says).await;
        let status = stage.status.unwrap();
        assert_eq!(status.stage, None, "{name}: nobody's to read");
        let fields: Vec<_> = status.drift.iter().map(|drift| drift.field.as_str()).collect();
        assert_eq!(fields, drift, "{name}");
        let values = status.drift.iter().flat_map(|drift| [&drift.desired, &drift.observed]);
        assert_eq!(values.flatten().count(), 0, "{name}");
        arena.edit_stage(name, json!({"adoptionPolicy": "Always"})).await;
        available(&arena, name).await;
        assert_eq!(arena.sim.stage_named(name).unwrap().account_sid, SID);
    }
    assert_eq!(arena.sim.count("POST", STAGES), 0);
}

pub async fn another_server_is_not_written_to(reason: Reason) {
    let arena = Arena::new(NEWEST).await;
    for name in ["sms", "orphan"] {
        arena.twilio(name, json!({})).await;
        available(&arena, name).await;
    }
    let pk = arena.sim.stage_named("sms").unwrap().pk.to_string();
    let token = Some(arena.sim.admin_token().to_owned());
    let another = Sim::start(Config {
        admin_token: token,
        ..Config::new(NEWEST)
    })
    .await;
    arena.connection(json!({"url": another.url()})).await;
    let (here, there) = (another.url(), arena.sim.url());
    let connection = format!("AuthentikConnection {}/authentik back", arena.namespace);
    let says = [
        &here,
        "does not know stage",
        &pk,
        &there,
        "set url and token of",
        &connection,
        "deletionPolicy Orphan",
    ];
    let _: Stage = seen(&arena, "sms", "False", reason, STALLED, &says).await;

    // Nor is anything deleted there; only an edit lets go.
    arena.delete("orphan").await;
    let says = ["does not know stage", "set deletionPolicy to Orphan"];
    let _: Stage = seen(&arena, "orphan", "False", Reason::DeletionBlocked, STALLED, &says).await;
    arena.edit_stage("orphan", json!({"deletionPolicy": "Orphan"})).await;
    arena.gone("orphan").await;
    assert!(another.calls().iter().all(|call| !call.is_write()));

    arena.connection(json!({})).await;
    available(&arena, "sms").await;
    assert_eq!(arena.sim.count("POST", STAGES), 2, "one for each resource");
}

pub async fn what_depends_on_a_stage_blocks_its_deletion(reason: Reason) {
    let arena = Arena::new(NEWEST).await;
    for name in ["used", "left", "rests"] {
        arena.twilio(name, json!({})).await;
        available(&arena, name).await;
    }
    let pk = |name| arena.sim.stage_named(name).unwrap().pk;
    let (used, left) = (pk("used"), pk("left"));
    let (device, validate) = arena.sim.with(|state| {
        (
            state.enrol(used, "+15551234"),
            state.add_validate_stage("mfa", &[used, left], &["sms"]),
        )
    });
    let binding = arena.sim.with(|state| {
        let flow = state.flow("default-authentication-flow").unwrap().pk;
        state.add_binding(flow, used, 30)
    });
    arena.delete("used").await;
    let says = [
        "in use by 1 enrolled device(s)",
        "flow(s) default-authentication-flow",
        "validation stage(s) mfa",
        "remove them in authentik",
        "deletionPolicy to Orphan",
        "ForceDelete",
    ];
    let stage: Stage = seen(&arena, "used", "False", reason, RECONCILING, &says).await;
    let dependents = stage.status.unwrap().dependents;
    let kinds: Vec<_> = dependents
        .iter()
        .map(|dependent| (dependent.kind.as_str(), dependent.count))
        .collect();
    assert_eq!(kinds, [("devices", 1), ("bindings", 1), ("validateStages", 1)]);
    assert!(!format!("{dependents:?}").contains("+1555"), "users' data is not shown");

    arena.delete("left").await;
    let _: Stage = seen(
        &arena,
        "left",
        "False",
        reason,
        RECONCILING,
        &["validation stage(s) mfa", "deletionPolicy to Orphan"],
    )
    .await;
    arena.edit_stage("left", json!({"deletionPolicy": "Orphan"})).await;
    arena.gone("left").await;
    assert!(arena.sim.stage_named("left").is_some());

    arena.sim.with(|state| {
        state.remove_device(device);
        state.remove_binding(binding);
        state.edit_validate_stage(validate, |stage| stage.configuration_stages.clear());
    });
    arena.gone("used").await;
    assert!(arena.sim.stage_named("used").is_none());

    arena.connection(json!({"suspend": true})).await;
    let _: Connection = shown(&arena, "authentik", "True", Reason::Suspended, None, &[]).await;
    arena.delete("rests").await;
    let connection = format!("AuthentikConnection {}/authentik is suspended", arena.namespace);
    let says = [connection.as_str(), "spec.suspend to false", "deletionPolicy to Orphan"];
    let _: Stage = seen(&arena, "rests", "False", reason, RECONCILING, &says).await;
    arena.connection(json!({})).await;
    arena.gone("rests").await;
    assert!(arena.sim.stage_named("rests").is_none());
}

pub async fn a_connection_stays_while_stages_need_it(reason: Reason) {
    let arena = Arena::new(NEWEST).await;
    arena.twilio("sms", json!({})).await;
    available(&arena, "sms").await;
    arena
        .api::<Connection>()
        .delete("authentik", &DeleteParams::default())
        .await
        .unwrap();
    let stage = format!("{}/sms", arena.namespace);
    let says = [
        "1 AuthenticatorSMSStage(s) still own stages",
        "delete them first",
        "deletionPolicy to Orphan",
        &stage,
    ];
    let _: Connection = seen(&arena, "authentik", "False", reason, RECONCILING, &says).await;
    let _: Stage = shown(&arena, "sms", "True", Reason::Available, None, &[]).await;
    arena.delete("sms").await;
    arena.gone("sms").await;
    assert!(arena.sim.stage_named("sms").is_none(), "it could still be deleted");
    arena
        .wait::<Connection>("authentik", "be gone", |connection| connection.is_none())
        .await;
}
