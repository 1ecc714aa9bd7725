//! Reasons of connections that are wrong: CA, TLS, URL, token, rights. Their stages show `ConnectionNotReady`.

use authentik_sim::{Config, TlsIdentity};
use authentik_stage_operator::api::Reason;
use k8s_openapi::api::core::v1::ConfigMap;
use kube::api::{Patch, PatchParams};
use serde_json::{Value, json};

use super::{Connection, RECONCILING, STAGES, Stage, available, seen, shown, usable};
use crate::arena::{Arena, NEWEST};

const VIEW: &str = "authentik_stages_authenticator_sms.view_authenticatorsmsstage";
const ADD: &str = "authentik_stages_authenticator_sms.add_authenticatorsmsstage";
const CHANGE: &str = "authentik_stages_authenticator_sms.change_authenticatorsmsstage";
const VIEW_FLOW: &str = "authentik_flows.view_flow";

/// The connection shows this; a stage through it, that it is not ready, and why; and nothing is created.
async fn not_ready(arena: &Arena, reason: Reason, says: &[&str]) -> Connection {
    let connection: Connection = seen(arena, "authentik", "False", reason, RECONCILING, says).await;
    // Not earlier: it would be created while the connection as it was before can still be used.
    arena.twilio("sms", json!({})).await;
    let why = format!(
        "AuthentikConnection {}/authentik is not ready ({})",
        arena.namespace,
        reason.as_str()
    );
    let says = [&[why.as_str()], says].concat();
    let _: Stage = seen(arena, "sms", "False", Reason::ConnectionNotReady, RECONCILING, &says).await;
    assert_eq!(arena.sim.count("POST", STAGES), 0);
    connection
}

async fn mended(arena: &Arena) {
    usable(arena, "authentik").await;
    available(arena, "sms").await;
}

async fn config_map(arena: &Arena, name: &str, data: Value) {
    let map = json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": name}, "data": data});
    let params = PatchParams::apply("test").force();
    arena
        .api::<ConfigMap>()
        .patch(name, &params, &Patch::Apply(map))
        .await
        .unwrap();
}

/// A certificate for the loopback address that nobody vouches for, and its key.
fn self_signed() -> TlsIdentity {
    let certified = rcgen::generate_simple_self_signed(["127.0.0.1".to_owned()]).unwrap();
    TlsIdentity {
        cert_pem: certified.cert.pem(),
        key_pem: certified.signing_key.serialize_pem(),
    }
}

pub async fn a_ca_bundle_that_is_not_there_is_named(reason: Reason) {
    let arena = Arena::new(NEWEST).await;
    usable(&arena, "authentik").await;
    arena
        .connection(json!({"caBundle": {"configMapKeyRef": {"name": "company-ca", "key": "ca.crt"}}}))
        .await;
    let map = format!("ConfigMap {}/company-ca", arena.namespace);
    not_ready(
        &arena,
        reason,
        &[&map, "does not exist", "create it with the PEM certificates"],
    )
    .await;
    config_map(&arena, "company-ca", json!({"other": "x"})).await;
    let _: Connection = shown(&arena, "authentik", "False", reason, RECONCILING, &[&map, "key ca.crt"]).await;
    config_map(&arena, "company-ca", json!({"ca.crt": self_signed().cert_pem})).await;
    mended(&arena).await;

    arena
        .connection(json!({"caBundle": {"secretKeyRef": {"name": "company-ca", "key": "ca.crt"}}}))
        .await;
    let secret = format!("Secret {}/company-ca", arena.namespace);
    let says = [secret.as_str(), "does not exist"];
    let _: Connection = seen(&arena, "authentik", "False", reason, RECONCILING, &says).await;
    arena.secret("company-ca", &[("ca.crt", &self_signed().cert_pem)]).await;
    mended(&arena).await;
}

/// An arena whose authentik speaks TLS, with that identity, and which no operator watches yet.
async fn with_tls(identity: &TlsIdentity) -> Arena {
    let arena = Arena::still_with(Config {
        tls: Some(identity.clone()),
        ..Config::new(NEWEST)
    })
    .await;
    arena
        .secret("authentik-token", &[("token", arena.sim.admin_token())])
        .await;
    arena
}

/// A connection by https only that trusts what the ConfigMap holds, besides the public roots.
fn trusting(map: &str) -> Value {
    json!({"allowInsecureHTTP": null, "caBundle": {"configMapKeyRef": {"name": map, "key": "ca.crt"}}})
}

pub async fn a_ca_bundle_without_a_certificate_is_named(reason: Reason) {
    let identity = self_signed();
    let mut arena = with_tls(&identity).await;
    let nonsense = "-----BEGIN CERTIFICATE-----\nbm9uc2Vuc2U=\n-----END CERTIFICATE-----\n";
    config_map(&arena, "no-pem", json!({"ca.crt": "nonsense"})).await;
    config_map(&arena, "no-certificate", json!({"ca.crt": nonsense})).await;
    arena.connection(trusting("no-pem")).await;
    arena.start().await;
    arena.run_clock();
    let connection = format!("AuthentikConnection {}/authentik", arena.namespace);
    let says = [connection.as_str(), "PEM certificates", "spec.caBundle"];
    not_ready(&arena, reason, &says).await;
    arena.connection(trusting("no-certificate")).await;
    let _: Connection = shown(&arena, "authentik", "False", reason, RECONCILING, &says).await;
    config_map(&arena, "no-certificate", json!({"ca.crt": identity.cert_pem})).await;
    mended(&arena).await;
}

pub async fn a_server_of_an_unknown_ca_is_not_spoken_to(reason: Reason) {
    let identity = self_signed();
    let mut arena = with_tls(&identity).await;
    arena.connection(json!({"allowInsecureHTTP": null})).await;
    arena.start().await;
    arena.run_clock();
    not_ready(
        &arena,
        reason,
        &["certificate", "present a certificate for its name", "spec.caBundle"],
    )
    .await;
    assert_eq!(arena.sim.count("", ""), 0, "no request, and with it no token, is sent");
    config_map(&arena, "company-ca", json!({"ca.crt": identity.cert_pem})).await;
    arena.connection(trusting("company-ca")).await;
    mended(&arena).await;
}

pub async fn what_is_not_authentik_is_told_from_it(reason: Reason) {
    let arena = Arena::new(NEWEST).await;
    arena
        .connection(json!({"url": format!("{}/elsewhere", arena.sim.url())}))
        .await;
    let connection = format!("AuthentikConnection {}/authentik", arena.namespace);
    not_ready(
        &arena,
        reason,
        &[&connection, "is not authentik's API", "correct spec.url", "sub-path"],
    )
    .await;
    arena.connection(json!({})).await;
    mended(&arena).await;
}

pub async fn a_token_that_is_not_accepted_is_asked_for_anew(reason: Reason) {
    let arena = Arena::new(NEWEST).await;
    arena.secret("authentik-token", &[("token", "no-such-token")]).await;
    let connection = format!("AuthentikConnection {}/authentik", arena.namespace);
    let says = [
        connection.as_str(),
        "the token is not accepted",
        "intent API",
        "spec.tokenSecretRef",
    ];
    let shown = not_ready(&arena, reason, &says).await;
    assert!(!serde_json::to_string(&shown.status).unwrap().contains("no-such-token"));
    arena.rotate("authentik-token", "token", arena.sim.admin_token()).await;
    mended(&arena).await;

    // It expires while all is well.
    let token = arena.sim.admin_token().to_owned();
    arena.sim.revoke(&token);
    let _: Connection = seen(&arena, "authentik", "False", reason, RECONCILING, &says).await;
    let _: Stage = seen(
        &arena,
        "sms",
        "False",
        Reason::ConnectionNotReady,
        RECONCILING,
        &["(Unauthorized)"],
    )
    .await;
    let another = arena.sim.add_token("akadmin", &[], true);
    arena.rotate("authentik-token", "token", &another).await;
    mended(&arena).await;
}

pub async fn a_right_that_a_connection_lacks_is_named(reason: Reason) {
    let arena = Arena::new(NEWEST).await;
    let token = arena.sim.add_token("operator", &[], false);
    arena.secret("authentik-token", &[("token", &token)]).await;
    let grant = |permission| ["grant", permission, "to a role of the token's user", "for all objects"];
    let lacks = |connection: Connection, permission: &str| {
        let missing = connection.status.unwrap().missing_permissions;
        assert!(
            missing.iter().any(|one| one == permission),
            "{permission} among {missing:?}"
        );
    };
    lacks(not_ready(&arena, reason, &grant(VIEW)).await, VIEW);
    arena.sim.set_permissions(&token, &[VIEW]);
    lacks(
        shown(&arena, "authentik", "False", reason, RECONCILING, &grant(ADD)).await,
        ADD,
    );
    assert_eq!(arena.sim.count("POST", STAGES), 0, "what would fail is not tried");
    arena.sim.set_permissions(&token, &[VIEW, ADD]);
    // The right to change can be probed only on a stage that is there.
    arena
        .holds("the stage", |state| state.stage_named("sms").map(|_| ()))
        .await;
    lacks(
        shown(&arena, "authentik", "False", reason, RECONCILING, &grant(CHANGE)).await,
        CHANGE,
    );
    arena.sim.set_permissions(&token, &[VIEW, ADD, CHANGE]);
    mended(&arena).await;
}

pub async fn a_right_that_only_one_stage_needs_is_named_there(reason: Reason) {
    let arena = Arena::new(NEWEST).await;
    let token = arena.sim.add_token("operator", &[VIEW, ADD, CHANGE], false);
    arena.secret("authentik-token", &[("token", &token)]).await;
    arena.twilio("plain", json!({})).await;
    available(&arena, "plain").await;
    arena
        .twilio(
            "sms",
            json!({"configureFlow": {"slug": "default-authenticator-sms-setup"}}),
        )
        .await;
    let says = [
        "find the flow with slug \"default-authenticator-sms-setup\"",
        "grant",
        VIEW_FLOW,
        "to a role of the token's user",
    ];
    let _: Stage = seen(&arena, "sms", "False", reason, RECONCILING, &says).await;
    let missing = |connection: Option<&Connection>| {
        let status = connection.and_then(|connection| connection.status.as_ref());
        status.is_some_and(|status| status.missing_permissions.iter().any(|one| one == VIEW_FLOW))
    };
    arena
        .wait::<Connection>("authentik", "name the missing right", missing)
        .await;
    usable(&arena, "authentik").await;
    available(&arena, "plain").await;
    arena.sim.set_permissions(&token, &[VIEW, ADD, CHANGE, VIEW_FLOW]);
    available(&arena, "sms").await;
    arena
        .wait::<Connection>("authentik", "miss nothing that was granted", |connection| {
            !missing(connection)
        })
        .await;
}
