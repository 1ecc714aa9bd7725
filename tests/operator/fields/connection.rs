//! Every field of an AuthentikConnection.

use std::time::{Duration, Instant};

use authentik_sim::{Config, Fault, TlsIdentity, What};
use authentik_stage_operator::api::AuthentikConnection;
use k8s_openapi::api::core::v1::ConfigMap;
use kube::api::{Patch, PatchParams, PostParams};

use super::*;
use crate::arena::{PATIENCE, is_list};

async fn started(config: Config) -> Arena {
    let mut arena = Arena::still_with(config).await;
    arena.connect().await;
    arena.start().await;
    arena
}

async fn edit(arena: &Arena, spec: Value) {
    arena
        .edit::<AuthentikConnection>("authentik", json!({ "spec": spec }))
        .await;
}

/// Whether a call missed the API or the right; a 400 is the answer to a probe.
fn is_refused(call: &authentik_sim::Call) -> bool {
    call.status.is_some_and(|status| status > 400)
}

fn lists(arena: &Arena) -> usize {
    arena.sim.calls().iter().filter(|call| is_list(call)).count()
}

#[tokio::test]
async fn authentik_may_live_under_a_sub_path() {
    for version in [OLDEST, NEWEST] {
        let arena = started(Config {
            base_path: "/sso/authentik/".to_owned(),
            ..Config::new(version)
        })
        .await;
        arena.twilio("sms", json!({"configureFlow": {"slug": FLOW}})).await;
        let stage = arena.is("sms", "True", "Available").await;
        let pinned = stage.status.unwrap().connection.unwrap();
        assert_eq!(pinned.url, arena.sim.url());
        assert!(pinned.url.ends_with("/sso/authentik"));
        let calls = arena.sim.calls();
        assert!(!calls.iter().any(is_refused), "{version}: {calls:?}");

        // With a slash at the end it is the same.
        edit(&arena, json!({"url": format!("{}/", arena.sim.url())})).await;
        arena.connection_is("authentik", "True", "Available").await;
        arena.edit_stage("sms", json!({"fromNumber": "Acme"})).await;
        arena.is("sms", "True", "Available").await;
        assert_eq!(arena.sim.stages().len(), 1, "{version}");
        assert_eq!(arena.sim.count("PATCH", ""), 1, "{version}");
    }
}

#[tokio::test]
async fn a_token_rotates_without_a_gap_and_a_revoked_one_is_told() {
    let arena = started(Config::new(READABLE)).await;
    arena.twilio("sms", json!({})).await;
    arena.is("sms", "True", "Available").await;
    let second = arena.sim.add_token("second", &[], true);
    arena.rotate("authentik-token", "token", &second).await;
    let by = |name: &'static str| {
        move |calls: &[authentik_sim::Call]| calls.iter().any(|call| call.username.as_deref() == Some(name))
    };
    arena.sim.wait_for_calls(PATIENCE, by("second")).await.unwrap();
    arena.quiet().await;
    assert!(arena.sim.revoke(arena.sim.admin_token()));
    let seen = arena.sim.calls().len();
    arena.edit_stage("sms", json!({"fromNumber": "Acme"})).await;
    arena.is("sms", "True", "Available").await;
    arena.round().await;
    let after = arena.sim.calls_after(seen);
    assert!(
        after.iter().all(|call| call.username.as_deref() == Some("second")),
        "{after:?}"
    );
    assert_eq!(arena.sim.count("PATCH", ""), 1);
    assert!(!arena.sim.calls().iter().any(is_refused));

    assert!(arena.sim.revoke(&second));
    arena.clock.advance(Duration::from_secs(60));
    arena.connection_is("authentik", "False", "Unauthorized").await;
    arena.is("sms", "False", "ConnectionNotReady").await;
    let third = arena.sim.add_token("third", &[], true);
    arena.rotate("authentik-token", "token", &third).await;
    arena.connection_is("authentik", "True", "Available").await;
    arena.is("sms", "True", "Available").await;
    assert_eq!(arena.sim.count("POST", ""), 1, "and the stage is still the same");
}

#[tokio::test]
async fn a_private_authority_is_trusted_from_a_config_map_and_from_a_secret() {
    let issued = rcgen::generate_simple_self_signed(["127.0.0.1".to_owned()]).unwrap();
    let pem = issued.cert.pem();
    let tls = TlsIdentity {
        cert_pem: pem.clone(),
        key_pem: issued.signing_key.serialize_pem(),
    };
    let mut arena = started(Config {
        tls: Some(tls),
        ..Config::new(NEWEST)
    })
    .await;
    arena.run_clock();
    edit(&arena, json!({"allowInsecureHTTP": false})).await;
    arena.twilio("sms", json!({})).await;
    arena.connection_is("authentik", "False", "TLSError").await;
    assert_eq!(arena.sim.calls().len(), 0, "no token goes to whom nobody vouches for");

    let map = json!({"configMapKeyRef": {"name": "ca", "key": "ca.crt"}});
    edit(&arena, json!({ "caBundle": map })).await;
    arena.connection_is("authentik", "False", "CABundleNotFound").await;
    let map = json!({"metadata": {"name": "ca"}, "data": {"ca.crt": "no certificate"}});
    let maps = arena.api::<ConfigMap>();
    maps.create(&PostParams::default(), &serde_json::from_value(map).unwrap())
        .await
        .unwrap();
    arena.connection_is("authentik", "False", "CABundleInvalid").await;
    let right = Patch::Merge(json!({"data": {"ca.crt": pem}}));
    maps.patch("ca", &PatchParams::default(), &right).await.unwrap();
    arena.connection_is("authentik", "True", "Available").await;
    arena.is("sms", "True", "Available").await;

    edit(&arena, json!({"caBundle": null})).await;
    arena.connection_is("authentik", "False", "TLSError").await;
    arena.secret("ca", &[("ca.crt", &pem)]).await;
    edit(
        &arena,
        json!({"caBundle": {"secretKeyRef": {"name": "ca", "key": "ca.crt"}}}),
    )
    .await;
    arena.connection_is("authentik", "True", "Available").await;
    arena.is("sms", "True", "Available").await;
    assert_eq!(arena.sim.count("POST", ""), 1);
}

#[tokio::test]
async fn http_is_refused_unless_it_is_allowed() {
    let arena = Arena::still(READABLE).await;
    arena.connect().await;
    let connections = arena.dynamic("AuthentikConnection");
    let patch = Patch::Merge(json!({"spec": {"allowInsecureHTTP": false}}));
    let error = connections
        .patch("authentik", &PatchParams::default(), &patch)
        .await
        .unwrap_err();
    assert!(
        error.to_string().contains("write https://, or set allowInsecureHTTP"),
        "{error}"
    );
}

#[tokio::test]
async fn rounds_come_as_often_as_asked_for() {
    let arena = started(Config::new(READABLE)).await;
    arena.twilio("sms", json!({})).await;
    arena.is("sms", "True", "Available").await;
    let pk = arena.sim.stage_named("sms").unwrap().pk;
    for (interval, step, rounds) in [("10s", 10, 12), ("60s", 60, 4), ("1h30m", 5400, 2)] {
        edit(&arena, json!({"syncInterval": interval})).await;
        arena.connection_is("authentik", "True", "Available").await;
        arena.quiet().await;
        let before = lists(&arena);
        for _ in 0..rounds {
            // Half of it is too soon.
            arena.clock.advance(Duration::from_secs(step / 2));
            arena.quiet().await;
            arena.clock.advance(Duration::from_secs(step - step / 2));
            arena.quiet().await;
        }
        assert_eq!(lists(&arena) - before, rounds, "{interval}");
    }

    edit(&arena, json!({"syncInterval": "0s"})).await;
    arena.connection_is("authentik", "True", "Available").await;
    arena.quiet().await;
    let before = lists(&arena);
    arena.sim.edit(pk, |stage| stage.verify_only = true);
    for _ in 0..12 {
        arena.clock.advance(Duration::from_secs(7200));
        arena.quiet().await;
    }
    assert_eq!(lists(&arena), before, "no round of its own in a day");
    assert!(arena.sim.stage_named("sms").unwrap().verify_only, "nobody looked");
    arena.edit_stage("sms", json!({"fromNumber": "Acme"})).await;
    arena.is("sms", "True", "Available").await;
    let held = arena.sim.stage_named("sms").unwrap();
    assert_eq!(
        (held.from_number.as_str(), held.verify_only),
        ("Acme", false),
        "an edit looks at all of it"
    );
}

#[tokio::test]
async fn a_request_takes_no_longer_than_it_may() {
    let mut arena = Arena::still(READABLE).await;
    arena.sim.inject(Fault::every(What::Hang));
    arena.connect().await;
    edit(&arena, json!({"timeout": "1s"})).await;
    let asked = Instant::now();
    arena.start().await;
    arena.connection_is("authentik", "False", "ServerUnreachable").await;
    let took = asked.elapsed();
    assert!(
        took > Duration::from_millis(900) && took < Duration::from_secs(8),
        "{took:?}"
    );
    let calls = arena.sim.calls();
    let spread = calls.last().unwrap().at - calls[0].at;
    assert!(
        spread < Duration::from_secs(1),
        "what is tried again has to fit in: {calls:?}"
    );
}

#[tokio::test]
async fn no_more_requests_are_under_way_than_allowed() {
    for limit in [1, 3] {
        let mut arena = Arena::still(READABLE).await;
        arena.connect().await;
        edit(&arena, json!({"maxConcurrentRequests": limit})).await;
        arena.sim.inject(Fault::every(What::Delay(Duration::from_millis(100))));
        let names: Vec<String> = (0..20).map(|n| format!("sms-{n}")).collect();
        for name in &names {
            arena.twilio(name, json!({})).await;
        }
        arena.start().await;
        let mut changed = arena.sim.changed();
        let mut most = 0;
        let begun = Instant::now();
        while arena.sim.stages().len() < names.len() {
            let next = tokio::time::timeout(PATIENCE, changed.changed()).await;
            next.expect("calls go on").unwrap();
            let under_way = arena.sim.calls().iter().filter(|call| call.status.is_none()).count();
            most = most.max(under_way);
        }
        assert_eq!(most, limit, "after {:?}", begun.elapsed());
    }
}

#[tokio::test]
async fn a_suspended_connection_rests() {
    let arena = started(Config::new(NEWEST)).await;
    arena.twilio("sms", json!({})).await;
    arena.is("sms", "True", "Available").await;
    edit(&arena, json!({"suspend": true})).await;
    arena.connection_is("authentik", "True", "Suspended").await;
    arena.is("sms", "True", "Suspended").await;
    arena.quiet().await;
    let seen = arena.sim.calls().len();
    let pk = arena.sim.stage_named("sms").unwrap().pk;
    arena.sim.edit(pk, |stage| stage.verify_only = true);
    arena.twilio("sms", json!({"fromNumber": "Acme"})).await;
    arena.twilio("new", json!({})).await;
    arena.is("sms", "False", "Suspended").await;
    arena.is("new", "False", "Suspended").await;
    arena.rotate("twilio", "auth-token", OTHER_TOKEN).await;
    for _ in 0..10 {
        arena.clock.advance(Duration::from_secs(60));
        arena.quiet().await;
    }
    let calls = arena.sim.calls_after(seen);
    assert!(calls.is_empty(), "{calls:?}");
    arena.delete("sms").await;
    for _ in 0..3 {
        arena.clock.advance(Duration::from_secs(60));
        arena.quiet().await;
    }
    assert!(arena.sim.calls_after(seen).is_empty(), "a deletion waits");

    edit(&arena, json!({"suspend": false})).await;
    arena.gone("sms").await;
    arena.is("new", "True", "Available").await;
    let stages = arena.sim.stages();
    assert_eq!(stages.len(), 1, "{stages:?}");
    assert_eq!(stages[0].auth, OTHER_TOKEN);
}

#[tokio::test]
async fn other_namespaces_go_as_far_as_they_may() {
    let mut arena = Arena::still(READABLE).await;
    arena.connect().await;
    let near = arena.neighbour("team=login").await;
    let far = arena.neighbour("team=other").await;
    arena.start().await;
    let reference = json!({"name": "authentik", "namespace": arena.namespace});
    let apply = async |namespace: &str, name: &str, besides: Value| {
        let mut spec = json!({
            "connectionRef": reference, "fromNumber": "+15550100", "provider": "twilio", "adoptionPolicy": "Never",
            "twilio": {"accountSid": SID, "authTokenSecretRef": {"name": "twilio", "key": "auth-token"}},
        });
        spec.as_object_mut()
            .unwrap()
            .extend(besides.as_object().unwrap().clone());
        let stage = json!({
            "apiVersion": "stages.authentik-operator.dev/v1alpha1", "kind": "AuthenticatorSMSStage",
            "metadata": {"name": name, "namespace": namespace}, "spec": spec,
        });
        arena.plane.apply(&stage.to_string()).await;
    };
    apply(&near, "near", json!({})).await;
    apply(&near, "adopts", json!({"adoptionPolicy": "IfMatch"})).await;
    apply(&near, "forces", json!({"deletionPolicy": "ForceDelete"})).await;
    apply(&far, "far", json!({})).await;

    let all = |more: Value| {
        let mut allowed = json!({"from": "All"});
        allowed
            .as_object_mut()
            .unwrap()
            .extend(more.as_object().unwrap().clone());
        allowed
    };
    let team = json!({"matchLabels": {"team": "login"}});
    for (allowed, ready) in [
        (json!({"from": "Same"}), vec![]),
        (json!({"from": "Selector", "selector": team}), vec!["near"]),
        (all(json!({})), vec!["near", "far"]),
        (all(json!({"adoption": "IfMatch"})), vec!["near", "far", "adopts"]),
        (
            all(json!({"adoption": "Always", "forceDelete": true})),
            vec!["near", "far", "adopts", "forces"],
        ),
        (json!({"from": "Same"}), vec![]),
    ] {
        edit(&arena, json!({"allowedNamespaces": null})).await;
        edit(&arena, json!({ "allowedNamespaces": allowed })).await;
        for (namespace, name) in [(&near, "near"), (&near, "adopts"), (&near, "forces"), (&far, "far")] {
            let reason = if ready.contains(&name) {
                "Available"
            } else {
                "ConnectionNotAllowed"
            };
            let wait = format!("--for=jsonpath={{.status.conditions[?(@.type==\"Ready\")].reason}}={reason}");
            let arguments = [
                "wait",
                &wait,
                "--timeout=20s",
                "--namespace",
                namespace,
                &format!("aksms/{name}"),
            ];
            let waited = arena.plane.kubectl(&arguments).await;
            assert!(waited.status.success(), "{allowed}: {name} is not {reason}: {waited:?}");
        }
    }
    assert_eq!(arena.sim.count("POST", ""), 4);
    assert_eq!(
        arena.sim.stages().len(),
        4,
        "what is no longer allowed is left as it is"
    );
}

#[tokio::test]
async fn an_edit_while_a_round_is_under_way_is_not_lost() {
    let arena = started(Config::new(READABLE)).await;
    arena.connection_is("authentik", "True", "Available").await;
    arena.quiet().await;
    let token = arena.sim.add_token("second", &[], true);
    arena.secret("second", &[("token", &token)]).await;
    arena.sim.inject(Fault::next(What::Delay(Duration::from_millis(700))));
    let seen = arena.sim.calls().len();
    arena.clock.advance(Duration::from_secs(60));
    arena
        .sim
        .wait_for_calls(PATIENCE, |calls| calls.len() > seen)
        .await
        .unwrap();
    edit(&arena, json!({"tokenSecretRef": {"name": "second", "key": "token"}})).await;
    assert_eq!(arena.sim.calls_after(seen)[0].status, None, "the round is under way");
    let by_second = |calls: &[authentik_sim::Call]| calls.iter().any(|call| call.username.as_deref() == Some("second"));
    arena.sim.wait_for_calls(PATIENCE, by_second).await.unwrap();
    arena.connection_is("authentik", "True", "Available").await;
}
