//! Reasons of references that do not resolve: Secrets, connections, flows, mappings.

use std::time::Duration;

use authentik_stage_operator::api::Reason;
use authentik_stage_operator::clock::Clock as _;
use k8s_openapi::ByteString;
use k8s_openapi::api::core::v1::Secret;
use k8s_openapi::jiff::Timestamp;
use kube::api::{DeleteParams, Patch, PatchParams, PostParams};
use kube::{Api, ResourceExt};
use serde_json::json;
use uuid::Uuid;

use super::{Connection, RECONCILING, STAGES, Stage, available, seen, shown, usable};
use crate::arena::{AUTH_TOKEN, Arena, NEWEST, SID, message};

pub async fn a_secret_that_is_not_there_shows_at_once(reason: Reason) {
    // No time passes here.
    let mut arena = Arena::still(NEWEST).await;
    arena.connect().await;
    arena.start().await;
    arena
        .twilio(
            "sms",
            json!({"twilio": {"accountSid": SID, "authTokenSecretRef": {"name": "absent", "key": "auth-token"}}}),
        )
        .await;
    let secret = format!("Secret {}/absent does not exist", arena.namespace);
    let says = [secret.as_str(), "create it with the key auth-token", "(since "];
    let stage: Stage = seen(&arena, "sms", "False", reason, RECONCILING, &says).await;
    assert_eq!(
        stage.finalizers(),
        [] as [&str; 0],
        "what owns nothing can be deleted at once"
    );
    assert_eq!(arena.sim.count("POST", STAGES), 0, "nothing is created by halves");
    arena.secret("absent", &[("auth-token", AUTH_TOKEN)]).await;
    available(&arena, "sms").await;
}

pub async fn a_secret_that_goes_shows_after_a_minute(reason: Reason) {
    let arena = Arena::new(NEWEST).await;
    arena.twilio("sms", json!({})).await;
    available(&arena, "sms").await;
    let gone = arena.clock.wall();
    arena
        .api::<Secret>()
        .delete("twilio", &DeleteParams::default())
        .await
        .unwrap();
    let secret = format!("Secret {}/twilio does not exist", arena.namespace);
    let stage: Stage = seen(&arena, "sms", "False", reason, RECONCILING, &[&secret, "(since "]).await;
    assert_a_minute_after(gone, &stage);
    let told = since(&message(&stage));
    // It is told in whole seconds.
    assert!(
        told.as_second() >= gone.as_second() && told < ready_since(&stage),
        "it says since when the Secret is missing: {told}"
    );
    // What is broken holds back only itself.
    arena.edit_stage("sms", json!({"friendlyName": "Text message"})).await;
    arena
        .holds("the new name", |state| {
            state
                .stage_named("sms")
                .filter(|stage| stage.friendly_name.as_deref() == Some("Text message"))
                .map(|_| ())
        })
        .await;
    let _: Stage = shown(&arena, "sms", "False", reason, RECONCILING, &[&secret]).await;
    arena.secret("twilio", &[("auth-token", AUTH_TOKEN)]).await;
    available(&arena, "sms").await;
}

/// The time that a message gives.
fn since(message: &str) -> Timestamp {
    let (_, since) = message.rsplit_once("(since ").unwrap();
    since.trim_end_matches(')').parse().unwrap()
}

/// Since when `Ready` is as it is.
pub fn ready_since(stage: &Stage) -> Timestamp {
    let conditions = &stage.status.as_ref().unwrap().conditions;
    conditions
        .iter()
        .find(|condition| condition.type_ == "Ready")
        .unwrap()
        .last_transition_time
        .0
}

/// `Ready` changed no sooner than a minute after that time. It may be later: time runs fast here, and calls do not.
pub fn assert_a_minute_after(start: Timestamp, stage: &Stage) {
    let changed = ready_since(stage);
    // Conditions have whole seconds.
    let waited = changed.duration_since(start).unsigned_abs() + Duration::from_secs(1);
    assert!(
        changed > start && waited >= Duration::from_secs(60),
        "news after {waited:?}"
    );
}

pub async fn a_key_that_is_not_there_or_empty_is_named(reason: Reason) {
    let arena = Arena::new(NEWEST).await;
    arena.secret("keys", &[("other", AUTH_TOKEN)]).await;
    arena
        .twilio(
            "sms",
            json!({"twilio": {"accountSid": SID, "authTokenSecretRef": {"name": "keys", "key": "auth-token"}}}),
        )
        .await;
    let key = format!("key auth-token of Secret {}/keys", arena.namespace);
    let says = [
        key.as_str(),
        "does not exist",
        "write the credential into it",
        "(since ",
    ];
    let _: Stage = seen(&arena, "sms", "False", reason, RECONCILING, &says).await;
    // Only Unicode white space, which authentik would cut off.
    arena.rotate("keys", "auth-token", "\u{2003}\n").await;
    let _: Stage = shown(
        &arena,
        "sms",
        "False",
        reason,
        RECONCILING,
        &[&key, "is empty", "write the credential into it"],
    )
    .await;
    assert_eq!(arena.sim.count("POST", STAGES), 0);
    arena.rotate("keys", "auth-token", AUTH_TOKEN).await;
    available(&arena, "sms").await;
    // Where it was applied this is no trouble that passes by itself, so it shows at once.
    arena.rotate("keys", "auth-token", " ").await;
    let _: Stage = seen(&arena, "sms", "False", reason, RECONCILING, &[&key, "is empty"]).await;
    arena.rotate("keys", "auth-token", AUTH_TOKEN).await;
    available(&arena, "sms").await;
    assert_eq!(arena.sim.stage_named("sms").unwrap().auth, AUTH_TOKEN);
}

pub async fn what_no_server_could_use_is_refused_before_it_is_sent(reason: Reason) {
    let arena = Arena::new(NEWEST).await;
    let in_secret = |name: &str| json!({"name": name, "key": "value"});
    let url = "https://sms.example.com/send";
    let cases = [
        (
            "sid",
            json!({"provider": "twilio", "twilio": {"accountSidSecretRef": in_secret("sid"), "authTokenSecretRef": in_secret("sid-token")}}),
            "SK0123456789abcdef0123456789abcdef",
            SID,
            "an Account SID is AC and 32 hexadecimal digits",
        ),
        (
            "url",
            json!({"provider": "generic", "generic": {"urlSecretRef": in_secret("url"), "username": "sms"}}),
            "sms.example.com/hook-5up3r",
            url,
            "write an absolute URL",
        ),
        (
            "userinfo",
            json!({"provider": "generic", "generic": {"urlSecretRef": in_secret("userinfo"), "username": "sms"}}),
            "https://me:5up3r@sms.example.com/",
            url,
            "remove user, password and fragment",
        ),
        (
            "bearer",
            json!({"provider": "generic", "generic": {"url": url, "authType": "bearer", "tokenSecretRef": in_secret("bearer")}}),
            "5up3r\r\nX-Evil: 1",
            "5up3r",
            "printable ASCII characters only",
        ),
        (
            "user",
            json!({"provider": "generic", "generic": {"url": url, "usernameSecretRef": in_secret("user")}}),
            "me:5up3r",
            "me",
            "remove the colon",
        ),
        (
            "password",
            json!({"provider": "generic", "generic": {"url": url, "username": "sms", "passwordSecretRef": in_secret("password")}}),
            "5up3r-\u{43f}\u{430}\u{440}\u{43e}\u{43b}\u{44c}",
            "5up3r",
            "Latin-1 characters only",
        ),
    ];
    arena.secret("sid-token", &[("value", AUTH_TOKEN)]).await;
    for (name, spec, bad, good, fix) in cases {
        arena.secret(name, &[("value", bad)]).await;
        let mut spec = spec;
        spec["fromNumber"] = json!("+15550100");
        arena.apply("AuthenticatorSMSStage", name, spec).await;
        let key = format!("key value of Secret {}/{name}", arena.namespace);
        let stage: Stage = seen(&arena, name, "False", reason, RECONCILING, &[&key, fix, "(since "]).await;
        assert!(!message(&stage).contains(bad), "{name}: the value is nobody's to read");
        assert!(arena.sim.stage_named(name).is_none(), "{name}: it is not sent");
        arena.rotate(name, "value", good).await;
        available(&arena, name).await;
    }

    arena.secret("bytes", &[]).await;
    let secrets: Api<Secret> = arena.api();
    let mut secret = secrets.get("bytes").await.unwrap();
    secret.data = Some([("auth-token".to_owned(), ByteString(vec![0xff, 0xfe, 0x00]))].into());
    secrets.replace("bytes", &PostParams::default(), &secret).await.unwrap();
    arena
        .twilio(
            "bytes",
            json!({"twilio": {"accountSid": SID, "authTokenSecretRef": {"name": "bytes", "key": "auth-token"}}}),
        )
        .await;
    let _: Stage = seen(
        &arena,
        "bytes",
        "False",
        reason,
        RECONCILING,
        &["is not UTF-8 text", "write the credential as text"],
    )
    .await;
    arena.rotate("bytes", "auth-token", AUTH_TOKEN).await;
    available(&arena, "bytes").await;
}

pub async fn a_connection_that_is_not_there_is_named(reason: Reason) {
    let mut arena = Arena::still(NEWEST).await;
    arena.start().await;
    arena.run_clock();
    let named = format!("AuthentikConnection {}/elsewhere does not exist", arena.namespace);
    let default = format!("AuthentikConnection {}/authentik does not exist", arena.namespace);
    arena
        .twilio("named", json!({"connectionRef": {"name": "elsewhere"}}))
        .await;
    arena.twilio("unnamed", json!({})).await;
    for (name, connection) in [("named", &named), ("unnamed", &default)] {
        let says = [connection.as_str(), "create it", "spec.connectionRef", "(since "];
        let _: Stage = seen(&arena, name, "False", reason, RECONCILING, &says).await;
    }
    arena.connect().await;
    let url = arena.sim.url();
    let spec =
        json!({"url": url, "allowInsecureHTTP": true, "tokenSecretRef": {"name": "authentik-token", "key": "token"}});
    arena.apply("AuthentikConnection", "elsewhere", spec).await;
    available(&arena, "named").await;
    available(&arena, "unnamed").await;
}

pub async fn a_connection_that_is_not_ready_says_why_to_its_stages(reason: Reason) {
    let mut arena = Arena::still(NEWEST).await;
    arena.connection(json!({})).await;
    arena.start().await;
    arena.twilio("sms", json!({})).await;
    let secret = format!("Secret {}/authentik-token does not exist", arena.namespace);
    let _: Connection = seen(
        &arena,
        "authentik",
        "False",
        Reason::SecretNotFound,
        RECONCILING,
        &[&secret, "create it with the key token"],
    )
    .await;
    let connection = format!(
        "AuthentikConnection {}/authentik is not ready (SecretNotFound)",
        arena.namespace
    );
    let _: Stage = seen(
        &arena,
        "sms",
        "False",
        reason,
        RECONCILING,
        &[&connection, &secret, "(since "],
    )
    .await;
    arena
        .secret("authentik-token", &[("token", arena.sim.admin_token())])
        .await;
    usable(&arena, "authentik").await;
    available(&arena, "sms").await;
}

pub async fn a_connection_of_another_namespace_has_to_allow_it(reason: Reason) {
    let mut arena = Arena::still(NEWEST).await;
    let owner = arena.neighbour("owns=connections").await;
    arena.start().await;
    arena.run_clock();
    let secrets: Api<Secret> = Api::namespaced(arena.kube.clone(), &owner);
    let token = json!({"metadata": {"name": "token"}, "stringData": {"token": arena.sim.admin_token()}});
    secrets
        .create(&PostParams::default(), &serde_json::from_value(token).unwrap())
        .await
        .unwrap();
    let connections: Api<Connection> = Api::namespaced(arena.kube.clone(), &owner);
    let connection = json!({
        "apiVersion": "stages.authentik-operator.dev/v1alpha1", "kind": "AuthentikConnection", "metadata": {"name": "shared"},
        "spec": {"url": arena.sim.url(), "allowInsecureHTTP": true, "tokenSecretRef": {"name": "token", "key": "token"}},
    });
    connections
        .create(&PostParams::default(), &serde_json::from_value(connection).unwrap())
        .await
        .unwrap();
    let allow = async |allowed| {
        let patch = json!({"spec": {"allowedNamespaces": allowed}});
        connections
            .patch("shared", &PatchParams::default(), &Patch::Merge(patch))
            .await
            .unwrap();
    };

    arena
        .twilio(
            "sms",
            json!({"connectionRef": {"name": "shared", "namespace": owner}, "adoptionPolicy": "Never"}),
        )
        .await;
    let connection = format!("AuthentikConnection {owner}/shared");
    let denied = format!("does not let namespace {} use it", arena.namespace);
    let says = [
        connection.as_str(),
        &denied,
        "its owner has to allow the namespace in spec.allowedNamespaces",
        "(since ",
    ];
    let _: Stage = seen(&arena, "sms", "False", reason, RECONCILING, &says).await;
    assert_eq!(arena.sim.count("POST", STAGES), 0);
    allow(json!({"from": "All"})).await;
    available(&arena, "sms").await;

    for (spec, says) in [
        (
            json!({"adoptionPolicy": "IfMatch"}),
            ["adoptionPolicy to Never", "spec.allowedNamespaces.adoption to IfMatch"],
        ),
        (
            json!({"adoptionPolicy": "Never", "deletionPolicy": "ForceDelete"}),
            [
                "deletionPolicy to Delete or Orphan",
                "spec.allowedNamespaces.forceDelete",
            ],
        ),
    ] {
        arena.edit_stage("sms", spec).await;
        let says = [connection.as_str(), says[0], says[1]];
        let _: Stage = shown(&arena, "sms", "False", reason, RECONCILING, &says).await;
    }
    allow(json!({"from": "All", "forceDelete": true})).await;
    available(&arena, "sms").await;
}

pub async fn a_flow_that_is_not_there_holds_back_only_itself(reason: Reason) {
    let arena = Arena::new(NEWEST).await;
    arena
        .twilio("sms", json!({"configureFlow": {"slug": "enrol-sms"}}))
        .await;
    let url = arena.sim.url();
    let says = [
        url.as_str(),
        "has no flow with slug \"enrol-sms\"",
        "create the flow",
        "spec.configureFlow.slug",
        "(since ",
    ];
    let _: Stage = seen(&arena, "sms", "False", reason, RECONCILING, &says).await;
    assert_eq!(arena.sim.count("POST", STAGES), 0);
    let flow = arena
        .sim
        .with(|state| state.add_flow("enrol-sms", "stage_configuration"));
    available(&arena, "sms").await;
    assert_eq!(arena.sim.stage_named("sms").unwrap().configure_flow, Some(flow));

    let unknown = Uuid::new_v4();
    arena
        .edit_stage(
            "sms",
            json!({"configureFlow": {"slug": null, "uuid": unknown}, "fromNumber": "+15550199"}),
        )
        .await;
    let what = format!("has no flow {unknown}");
    let _: Stage = seen(
        &arena,
        "sms",
        "False",
        reason,
        RECONCILING,
        &[&what, "spec.configureFlow.uuid"],
    )
    .await;
    let held = arena.sim.stage_named("sms").unwrap();
    assert_eq!(
        (held.from_number.as_str(), held.configure_flow),
        ("+15550199", Some(flow)),
        "all but the flow"
    );
    arena.edit_stage("sms", json!({"configureFlow": {"uuid": flow}})).await;
    available(&arena, "sms").await;
}

pub async fn a_mapping_that_is_not_there_holds_back_only_itself(reason: Reason) {
    let arena = Arena::new(NEWEST).await;
    arena.secret("gateway", &[("password", AUTH_TOKEN)]).await;
    arena
        .generic("sms", json!({"mapping": {"name": "gateway payload"}}))
        .await;
    let url = arena.sim.url();
    let says = [
        url.as_str(),
        "has no webhook mapping named \"gateway payload\"",
        "create it",
        "spec.mapping.name",
        "(since ",
    ];
    let _: Stage = seen(&arena, "sms", "False", reason, RECONCILING, &says).await;
    assert_eq!(arena.sim.count("POST", STAGES), 0);
    let mapping = arena.sim.with(|state| state.add_mapping("gateway payload"));
    available(&arena, "sms").await;

    let unknown = Uuid::new_v4();
    arena
        .edit_stage(
            "sms",
            json!({"mapping": {"name": null, "uuid": unknown}, "fromNumber": "+15550199"}),
        )
        .await;
    let what = format!("has no webhook mapping {unknown}");
    let _: Stage = seen(
        &arena,
        "sms",
        "False",
        reason,
        RECONCILING,
        &[&what, "spec.mapping.uuid"],
    )
    .await;
    let held = arena.sim.stage_named("sms").unwrap();
    assert_eq!(
        (held.from_number.as_str(), held.mapping),
        ("+15550199", Some(mapping)),
        "all but the mapping"
    );
    arena.edit_stage("sms", json!({"mapping": {"uuid": mapping}})).await;
    available(&arena, "sms").await;
}
