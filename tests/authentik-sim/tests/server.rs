//! What the recordings do not show: versions between them, rights, upgrades, start-up, and the handles of tests.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

#[path = "support/world.rs"]
mod support;

use std::time::Duration;

use authentik_sim::{Action, Config, Stage, TlsIdentity};
use reqwest::{Client, Method};
use serde_json::{Value, json};
use support::{SOON, STAGES, World, stage};

#[tokio::test]
async fn versions_differ_where_the_table_says() {
    // Version, credentials returned, status of a null friendly name, status of a delete with devices.
    for (version, returned, null, delete) in [
        ("2023.10.2", true, 200, 204),
        ("2025.8.6", true, 200, 204),
        ("2025.10.0", true, 400, 204),
        ("2026.2.7", false, 400, 204),
        ("2026.5.6", true, 400, 204),
        ("2026.5.7", false, 400, 204),
        ("2026.8.0", true, 400, 500),
        ("2026.8.2", false, 400, 500),
    ] {
        let world = World::of(version).await;
        let body: Value = world.create("sms").await.json().await.unwrap();
        assert_eq!(body.get("auth").is_some(), returned, "{version}");
        assert_eq!(
            world.sim.stage_named("sms").unwrap().auth,
            "token",
            "{version}: kept, shown or not"
        );
        let pk = world.sim.stage_named("sms").unwrap().pk;
        let path = format!("{STAGES}{pk}/");
        let patched = world.send(Method::PATCH, &path, &json!({"friendly_name": null})).await;
        assert_eq!(patched.status().as_u16(), null, "{version}");
        world.sim.with(|state| state.enrol(pk, "+15550100"));
        let deleted = world.send(Method::DELETE, &path, &Value::Null).await;
        assert_eq!(deleted.status().as_u16(), delete, "{version}");
        assert_eq!(world.sim.devices().is_empty(), delete == 204, "{version}");
    }
}

#[tokio::test]
async fn flow_set_in_a_request_crashes_until_it_is_ignored() {
    for (version, status) in [("2025.10.0", 405), ("2025.12.0", 201)] {
        let world = World::of(version).await;
        let mut body = stage("sms");
        body["flow_set"] = json!([]);
        let answer = world.send(Method::POST, STAGES, &body).await;
        assert_eq!(answer.status().as_u16(), status, "{version}");
        assert_eq!(world.sim.stages().len(), usize::from(status == 201), "{version}");
    }
    let world = World::of("2025.10.0").await;
    let mut body = stage("sms");
    for (sent, error) in [
        (
            json!(["x"]),
            json!([{"non_field_errors": ["Invalid data. Expected a dictionary, but got str."]}]),
        ),
        (
            json!([{"name": "x", "slug": "initial-setup", "title": "x", "designation": "recovery"}]),
            json!([{"slug": ["Flow with this slug already exists."]}]),
        ),
    ] {
        body["flow_set"] = sent;
        let answer: Value = world.send(Method::POST, STAGES, &body).await.json().await.unwrap();
        assert_eq!(answer, json!({"flow_set": error}));
    }
}

#[tokio::test]
async fn pages_have_the_size_of_the_version_or_of_the_tenant() {
    for (config, shown, at_most) in [
        (Config::new("2025.10.0"), 100, 130),
        (Config::new("2026.5.0"), 20, 100),
        (
            Config {
                default_page_size: Some(3),
                maximum_page_size: Some(7),
                ..Config::new("2026.5.0")
            },
            3,
            7,
        ),
    ] {
        let world = World::with(config).await;
        world.sim.with(|state| {
            for n in 0..130 {
                state.add_stage(Stage::twilio(&format!("s{n:03}")));
            }
        });
        assert_eq!(world.get(STAGES).await.1["results"].as_array().unwrap().len(), shown);
        let (_, page) = world.get(&format!("{STAGES}?page_size=1000")).await;
        assert_eq!(page["results"].as_array().unwrap().len(), at_most);
        for garbage in ["0", "-1", "x"] {
            let (_, page) = world.get(&format!("{STAGES}?page_size={garbage}")).await;
            assert_eq!(
                page["results"].as_array().unwrap().len(),
                shown,
                "{garbage} is the default"
            );
        }
    }
}

#[tokio::test]
async fn values_are_read_as_django_reads_them() {
    let world = World::of("2026.5.0").await;
    let mut body = stage("\u{a0} sms \n");
    body["from_number"] = json!(15_551_234_567_u64);
    body["verify_only"] = json!("yes");
    body["configure_flow"] = json!("");
    body["pk"] = json!("11111111-1111-1111-1111-111111111111");
    let created: Value = world.send(Method::POST, STAGES, &body).await.json().await.unwrap();
    assert_eq!(
        (&created["name"], &created["from_number"]),
        (&json!("sms"), &json!("15551234567"))
    );
    assert_eq!(
        (&created["verify_only"], &created["configure_flow"]),
        (&json!(true), &Value::Null)
    );
    assert_ne!(created["pk"], body["pk"]);

    let again = world.create("  sms  ").await;
    assert_eq!(
        again.json::<Value>().await.unwrap(),
        json!({"name": ["stage with this name already exists."]})
    );
    let german = world
        .call(Method::POST, STAGES)
        .header("accept-language", "de")
        .json(&stage("sms"));
    let german: Value = german.send().await.unwrap().json().await.unwrap();
    assert_eq!(
        german,
        json!({"name": ["stage mit diesem Wert für das Feld name existiert bereits."]})
    );
    let form = world
        .call(Method::POST, STAGES)
        .header("content-type", "text/plain")
        .body("x");
    assert_eq!(form.send().await.unwrap().status(), 415);
}

#[tokio::test]
async fn what_vanishes_is_forgotten_by_stages() {
    let world = World::of("2026.5.0").await;
    let pk = world.sim.with(|state| {
        let flow = state.add_flow("setup", "stage_configuration");
        let mapping = Some(state.add_mapping("text"));
        state.add_stage(Stage {
            configure_flow: Some(flow),
            mapping,
            ..Stage::twilio("sms")
        })
    });
    world
        .sim
        .with(|state| assert!(state.remove_flow("setup") && state.remove_mapping("text")));
    let (_, stage) = world.get(&format!("{STAGES}{pk}/")).await;
    assert_eq!(
        (&stage["configure_flow"], &stage["mapping"]),
        (&Value::Null, &Value::Null)
    );
}

#[tokio::test]
async fn the_device_list_is_for_superusers_up_to_2024_8() {
    let permission = "authentik_stages_authenticator_sms.view_smsdevice";
    for (version, status) in [("2024.8.3", 403), ("2025.2.0", 200)] {
        let mut world = World::of(version).await;
        assert_eq!(
            world.get("/authenticators/admin/sms/").await.0,
            200,
            "{version}: the superuser may"
        );
        world.token = world.sim.add_token("operator", &[permission], false);
        assert_eq!(world.get("/authenticators/admin/sms/").await.0, status, "{version}");
    }
}

#[tokio::test]
async fn rights_can_change_while_a_token_is_used() {
    let mut world = World::of("2026.5.0").await;
    let pk = world.sim.with(|state| state.add_stage(Stage::twilio("sms")));
    let view = "authentik_stages_authenticator_sms.view_authenticatorsmsstage";
    let token = world.sim.add_token("operator", &[view], false);
    world.token.clone_from(&token);
    assert_eq!(world.get(STAGES).await.0, 200);
    world.sim.set_permissions(&token, &[]);
    assert_eq!(world.get(STAGES).await.0, 403);
    world.sim.grant_on(&token, view, pk);
    assert_eq!(world.get(STAGES).await.1["pagination"]["count"], 1);
    assert!(world.sim.revoke(&token));
    assert_eq!(
        world.get("/admin/version/").await,
        (403, json!({"detail": "Token invalid/expired"}))
    );
    assert_eq!(
        world
            .sim
            .calls()
            .iter()
            .map(|call| call.username.is_some())
            .collect::<Vec<_>>(),
        [true, true, true, false]
    );
}

#[tokio::test]
async fn versions_can_change_and_alternate() {
    let world = World::of("2026.5.6").await;
    let pk = world.sim.with(|state| state.add_stage(Stage::twilio("sms")));
    let path = format!("{STAGES}{pk}/");
    assert!(world.get(&path).await.1.get("auth").is_some());
    world.sim.set_version("2026.5.7");
    assert!(world.get(&path).await.1.get("auth").is_none());
    world.sim.set_versions(&["2026.5.6", "2026.5.7"]);
    let mut seen = Vec::new();
    for _ in 0..4 {
        seen.push(world.get(&path).await.1.get("auth").is_some());
    }
    assert!(
        seen == [true, false, true, false] || seen == [false, true, false, true],
        "{seen:?}"
    );
}

#[tokio::test]
async fn starting_is_told_as_each_version_tells_it() {
    for (version, status, retry_after, error) in [
        (
            "2025.8.6",
            502,
            None,
            "failed to connect to authentik backend: authentik starting",
        ),
        ("2025.10.0", 200, Some("5"), "authentik starting"),
        ("2025.10.1", 503, Some("5"), "authentik starting"),
        ("2026.8.2", 503, Some("5"), "authentik starting"),
    ] {
        let world = World::of(version).await;
        world.sim.set_starting(true);
        let answer = world.create("sms").await;
        assert_eq!(answer.status().as_u16(), status, "{version}");
        assert_eq!(
            answer.headers().get("retry-after").map(|value| value.to_str().unwrap()),
            retry_after,
            "{version}"
        );
        assert_eq!(
            answer.json::<Value>().await.unwrap(),
            json!({"error": error}),
            "{version}"
        );
        world.sim.set_starting(false);
        assert_eq!(world.create("sms").await.status(), 201, "{version}");
    }
}

#[tokio::test]
async fn an_expired_licence_refuses_writes_only() {
    let world = World::of("2026.5.0").await;
    world.sim.set_read_only(true);
    let refused = world.create("sms").await;
    assert_eq!(refused.status(), 400);
    assert_eq!(refused.json::<Value>().await.unwrap()["code"], "denied_license");
    assert_eq!(world.get(STAGES).await.0, 200);
}

#[tokio::test]
async fn a_sub_path_moves_the_whole_server() {
    let config = Config {
        base_path: "/authentik/".to_owned(),
        ..Config::new("2026.5.0")
    };
    let world = World::with(config).await;
    assert!(world.sim.url().ends_with("/authentik"));
    let (status, flow) = world.get("/flows/instances/initial-setup/").await;
    assert_eq!(status, 200);
    assert_eq!(
        flow["export_url"],
        "/authentik/api/v3/flows/instances/initial-setup/export/"
    );
    let root = format!("http://127.0.0.1:{}", world.sim.port());
    for (path, status) in [
        ("/api/v3/root/config/", 404),
        ("/authentik/api/v3/root/config/", 200),
        ("/authentik/-/health/ready/", 200),
        ("/authentik/api/v3/no/such/url/", 404),
    ] {
        let answer = world.client.get(format!("{root}{path}")).send().await.unwrap();
        assert_eq!(answer.status().as_u16(), status, "{path}");
    }
    assert_eq!(
        world.sim.calls()[0].path,
        "/flows/instances/initial-setup/",
        "calls are told below the API's root"
    );
}

#[tokio::test]
async fn backgrounds_can_be_signed_afresh_at_every_read() {
    for (version, key) in [("2025.10.0", "background"), ("2026.5.0", "background_url")] {
        let world = World::with(Config {
            signed_backgrounds: true,
            ..Config::new(version)
        })
        .await;
        let path = "/flows/instances/initial-setup/";
        let (one, two) = (world.get(path).await.1, world.get(path).await.1);
        assert_ne!(one[key], two[key], "{version}");
        let bare = |flow: &Value| flow[key].as_str().unwrap().split('?').next().unwrap().to_owned();
        assert_eq!(bare(&one), bare(&two), "{version}");
    }
}

#[tokio::test]
async fn writes_are_audited_with_their_user_agent() {
    let world = World::of("2026.5.0").await;
    world
        .call(Method::POST, STAGES)
        .header("user-agent", "one")
        .json(&stage("sms"))
        .send()
        .await
        .unwrap();
    let pk = world.sim.stage_named("sms").unwrap().pk;
    world.create("sms").await;
    assert!(world.sim.edit(pk, |stage| stage.verify_only = true));
    assert!(
        world
            .sim
            .with(|state| state.edit_silently(pk, |stage| stage.verify_only = false))
    );
    let events = world.sim.with(|state| state.events().to_vec());
    let told: Vec<_> = events
        .iter()
        .map(|event| (event.action, event.actor.user_agent.as_str()))
        .collect();
    assert_eq!(
        told,
        [(Action::Created, "one"), (Action::Updated, "Mozilla/5.0")],
        "no event for a refusal or a silent edit"
    );
    let filter = format!("/events/events/?action=model_created&context_model_pk={pk}");
    let (_, page) = world.get(&filter).await;
    assert_eq!(page["results"][0]["context"]["http_request"]["user_agent"], "one");
}

#[tokio::test]
async fn a_hook_changes_the_list_between_two_pages() {
    let world = World::of("2026.5.0").await;
    world
        .sim
        .with(|state| ["a", "b", "c", "d"].map(|name| state.add_stage(Stage::twilio(name))));
    world.sim.on_call(|call, state| {
        if call.parameter("page") == Some("2") {
            let gone = state.stage_named("a").map(|stage| stage.pk);
            gone.map(|pk| state.remove(pk));
        }
    });
    let mut seen = Vec::new();
    for page in 1..=2 {
        let (_, body) = world.get(&format!("{STAGES}?page_size=2&page={page}")).await;
        seen.extend(
            body["results"]
                .as_array()
                .unwrap()
                .iter()
                .map(|stage| stage["name"].as_str().unwrap().to_owned()),
        );
    }
    assert_eq!(seen, ["a", "b", "d"], "c slid onto the page that was read already");
    world.sim.clear_hooks();
}

#[tokio::test]
async fn calls_are_recorded_and_can_be_awaited() {
    let world = World::of("2026.5.0").await;
    let (waited, _) = tokio::join!(
        world.sim.wait_for_calls(SOON, |calls| calls
            .iter()
            .any(|call| call.is_write() && call.status == Some(201))),
        world.create("sms"),
    );
    let calls = waited.unwrap();
    assert_eq!(
        (calls[0].index, calls[0].path.as_str(), calls[0].effect),
        (0, STAGES, true)
    );
    assert_eq!(
        (calls[0].username.as_deref(), &calls[0].body["name"]),
        (Some("akadmin"), &json!("sms"))
    );
    assert_eq!(
        (world.sim.count("POST", STAGES), world.sim.count("", "/flows/")),
        (1, 0)
    );
    let late = world
        .sim
        .wait_for_calls(Duration::from_millis(10), |calls| calls.len() > 1)
        .await
        .unwrap_err();
    assert!(
        late.to_string()
            .contains("0 POST /stages/authenticator/sms/ -> Some(201)"),
        "{late}"
    );
}

#[tokio::test]
async fn tls_with_a_certificate_of_its_own() {
    let certified = rcgen::generate_simple_self_signed(["127.0.0.1".to_owned()]).unwrap();
    let tls = TlsIdentity {
        cert_pem: certified.cert.pem(),
        key_pem: certified.signing_key.serialize_pem(),
    };
    let world = World::with(Config {
        tls: Some(tls.clone()),
        ..Config::new("2026.5.0")
    })
    .await;
    assert!(world.sim.url().starts_with("https://"));
    let config = format!("{}/api/v3/root/config/", world.sim.url());
    assert!(world.client.get(&config).send().await.is_err(), "nobody trusts it");
    let root = reqwest::Certificate::from_pem(tls.cert_pem.as_bytes()).unwrap();
    let trusting = Client::builder().tls_certs_only([root]).build().unwrap();
    assert_eq!(trusting.get(&config).send().await.unwrap().status(), 200);
}

#[tokio::test]
async fn what_is_not_simulated_says_so() {
    let world = World::of("2026.5.0").await;
    let answer = world
        .send(Method::PATCH, "/flows/instances/initial-setup/", &json!({"title": "x"}))
        .await;
    assert_eq!(answer.status(), 501);
    let answer = world.send(Method::OPTIONS, "/flows/bindings/", &Value::Null).await;
    assert_eq!(answer.status(), 501);
    let answer = world.send(Method::POST, "/no/such/url/", &json!({})).await;
    assert_eq!(answer.status(), 405, "as the error view of that version answers");
}

#[tokio::test]
async fn keys_are_read_as_uuids_wherever_they_are_uuids() {
    let world = World::of("2026.5.0").await;
    let (mapping, binding) = world
        .sim
        .with(|state| (state.add_mapping("text"), state.bindings()[0].pk));
    for (path, pk) in [
        ("/propertymappings/notification/", mapping),
        ("/flows/bindings/", binding),
    ] {
        let shouted = pk.to_string().to_uppercase();
        assert_eq!(
            world.get(&format!("{path}{shouted}/")).await.1["pk"],
            json!(pk.to_string())
        );
        assert_eq!(
            world.get(&format!("{path}xyz/")).await,
            (404, json!({"detail": "Not found."}))
        );
    }
}
