//! What a resource shows of its stage: all but credentials, and nothing that moves while nothing changes.

use authentik_sim::Config;
use authentik_stage_operator::api::{AuthenticatorSMSStage, AuthenticatorSMSStageStatus};

use super::*;

async fn status(arena: &Arena, name: &str) -> AuthenticatorSMSStageStatus {
    arena.get(name).await.status.unwrap()
}

#[tokio::test]
async fn all_of_a_stage_is_shown_with_its_flows() {
    for version in [OLDEST, READABLE, NEWEST] {
        let mut arena = Arena::still_with(Config {
            signed_backgrounds: true,
            ..Config::new(version)
        })
        .await;
        arena.connect().await;
        arena.start().await;
        arena
            .twilio(
                "sms",
                json!({"friendlyName": "Text", "configureFlow": {"slug": FLOW}, "verifyOnly": true}),
            )
            .await;
        arena.is("sms", "True", "Available").await;
        let pk = arena.sim.stage_named("sms").unwrap().pk;
        let flow = arena.sim.with(|state| state.flow(FLOW).unwrap().pk);
        let shown = serde_json::to_value(status(&arena, "sms").await.stage).unwrap();
        assert_eq!(
            shown,
            json!({
                "pk": pk.to_string(), "name": "sms", "component": "ak-stage-authenticator-sms-form",
                "verboseName": "SMS Authenticator Setup Stage", "verboseNamePlural": "SMS Authenticator Setup Stages",
                "metaModelName": "authentik_stages_authenticator_sms.authenticatorsmsstage", "friendlyName": "Text",
                "configureFlow": flow.to_string(), "provider": "twilio", "fromNumber": "+15550100", "accountSid": SID,
                "authType": "basic", "verifyOnly": true,
            }),
            "{version}"
        );

        let mut flows: Vec<Uuid> = arena.sim.with(|state| {
            let mut flows = vec![flow];
            for n in 0..4 {
                flows.push(state.add_flow(&format!("flow-{n}"), "authentication"));
            }
            for (order, flow) in flows.iter().enumerate() {
                state.add_binding(*flow, pk, i64::try_from(order).unwrap());
            }
            // Twice in one flow.
            state.add_binding(flow, pk, 77);
            flows
        });
        arena.round().await;
        let told = arena.get("sms").await;
        let set = told.status.as_ref().unwrap().stage.as_ref().unwrap().flow_set.clone();
        flows.sort_by_key(Uuid::to_string);
        let keys: Vec<String> = flows.iter().map(Uuid::to_string).collect();
        assert_eq!(
            set.iter().map(|flow| flow.pk.clone()).collect::<Vec<_>>(),
            keys,
            "{version}: once each, by key"
        );
        let told_of = serde_json::to_value(set.iter().find(|set| set.slug == FLOW)).unwrap();
        let binding = arena.sim.with(|state| state.flow(FLOW).unwrap().policybindingmodel);
        assert_eq!(
            told_of,
            json!({
                "pk": flow.to_string(), "policybindingmodelPtrId": binding.to_string(), "name": FLOW, "slug": FLOW,
                "title": FLOW, "designation": "stage_configuration",
                "background": "/static/dist/assets/images/flow_background.jpg", "policyEngineMode": "any",
                "compatibilityMode": false, "exportUrl": format!("/api/v3/flows/instances/{FLOW}/export/"),
                "layout": "stacked", "deniedAction": "message_continue",
            }),
            "{version}"
        );

        // Backgrounds are signed afresh at every read, and flows come in another order.
        arena.sim.with(|state| {
            let first = state.bindings()[0].clone();
            state.remove_binding(state.bindings().iter().find(|binding| binding.stage == pk).unwrap().pk);
            state.add_binding(first.target, first.stage, first.order);
            state.add_binding(flow, pk, 78);
        });
        for _ in 0..3 {
            arena.round().await;
        }
        let now = arena.get("sms").await;
        assert_eq!(
            now.metadata.resource_version, told.metadata.resource_version,
            "{version}: {:?}",
            now.status
        );
        assert_eq!(arena.sim.count("PATCH", ""), 0, "{version}");

        arena
            .sim
            .with(|state| state.edit_flow("flow-0", |flow| flow.title = "Another".to_owned()));
        arena.round().await;
        let set = status(&arena, "sms").await.stage.unwrap().flow_set;
        assert_eq!(
            set.iter().find(|flow| flow.slug == "flow-0").unwrap().title,
            "Another",
            "{version}"
        );
    }
}

#[tokio::test]
async fn an_account_is_shown_only_if_it_is_no_credential() {
    let (arena, _) = world(READABLE).await;
    let token = json!({"name": "twilio", "key": "auth-token"});
    let sid =
        json!({"twilio": {"accountSidSecretRef": {"name": "accounts", "key": "sid"}, "authTokenSecretRef": token}});
    arena.twilio("sid-in-secret", sid).await;
    arena.generic("url-in-clear", json!({})).await;
    let url = json!({"generic": {"urlSecretRef": {"name": "gateway", "key": "url"}, "username": "sms"}});
    arena.generic("url-in-secret", url).await;
    arena
        .generic("observed", json!({"managementPolicy": "Observe", "name": "theirs"}))
        .await;
    arena.sim.with(|state| {
        state.add_stage(Stage {
            provider: "generic".to_owned(),
            account_sid: OTHER_GATEWAY.to_owned(),
            auth: "a stranger's".to_owned(),
            ..Stage::twilio("theirs")
        })
    });
    for (name, reason, account) in [
        ("sid-in-secret", "Available", Some(OTHER_SID)),
        ("url-in-clear", "Available", Some(GATEWAY)),
        ("url-in-secret", "Available", None),
    ] {
        let stage = arena.is(name, "True", reason).await;
        assert_eq!(
            stage.status.unwrap().stage.unwrap().account_sid.as_deref(),
            account,
            "{name}"
        );
    }
    arena.round().await;
    let stage = arena.is("observed", "True", "DriftDetected").await;
    let status = stage.status.unwrap();
    assert_eq!(status.stage.unwrap().account_sid, None);
    let account = status.drift.iter().find(|drift| drift.field == "account_sid").unwrap();
    assert_eq!(
        (account.desired.as_deref(), account.observed.as_deref()),
        (Some(GATEWAY), Some("(sensitive)"))
    );

    let all = arena
        .dynamic("AuthenticatorSMSStage")
        .list(&kube::api::ListParams::default())
        .await
        .unwrap();
    let all = serde_json::to_string(&all.items).unwrap();
    for credential in [OTHER_GATEWAY, AUTH_TOKEN, "a stranger's", "hunter2"] {
        assert!(!all.contains(credential), "{credential} is shown: {all}");
    }
}

#[tokio::test]
async fn kubectl_shows_what_is_the_case() {
    let (arena, _) = world(READABLE).await;
    arena.twilio("sms", json!({"name": "Text message"})).await;
    let stage: AuthenticatorSMSStage = arena.is("sms", "True", "Available").await;
    let pk = stage.status.unwrap().stage.unwrap().pk;
    let get = async |what: &[&str]| {
        let arguments = [&["get", "--namespace", &arena.namespace], what].concat();
        let printed = arena.plane.kubectl_ok(&arguments).await;
        let lines: Vec<Vec<String>> = printed
            .lines()
            .map(|line| {
                line.split("  ")
                    .map(|word| word.trim().to_owned())
                    .filter(|word| !word.is_empty())
                    .collect()
            })
            .collect();
        lines
    };
    let short = get(&["aksms"]).await;
    assert_eq!(
        short[0],
        ["NAME", "READY", "REASON", "STAGE", "PROVIDER", "AGE"].map(str::to_owned)
    );
    assert_eq!(
        short[1][..5],
        ["sms", "True", "Available", "Text message", "twilio"].map(str::to_owned)
    );
    let wide = get(&["aksms", "--output", "wide"]).await;
    assert_eq!(
        wide[0],
        [
            "NAME", "READY", "REASON", "STAGE", "PROVIDER", "PK", "SERVER", "MESSAGE", "AGE"
        ]
        .map(str::to_owned)
    );
    assert_eq!(
        wide[1][5..8],
        [pk.as_str(), &arena.sim.url(), "stage \"Text message\" is as declared"].map(str::to_owned)
    );

    // How many use it is told at most every ten seconds.
    arena.round().await;
    let connections = get(&["akconn"]).await;
    assert_eq!(
        connections[0],
        ["NAME", "READY", "REASON", "URL", "VERSION", "STAGES", "AGE"].map(str::to_owned)
    );
    let told = ["authentik", "True", "Available", &arena.sim.url(), READABLE, "1"].map(str::to_owned);
    assert_eq!(connections[1][..6], told);
    let both = get(&["authentik", "--output", "name"]).await.concat();
    assert_eq!(
        both,
        [
            "authenticatorsmsstage.stages.authentik-operator.dev/sms",
            "authentikconnection.stages.authentik-operator.dev/authentik"
        ]
    );
    let selected = get(&["aksms", "--field-selector", "spec.provider=generic", "--output", "name"]).await;
    assert!(selected.is_empty(), "{selected:?}");
}
