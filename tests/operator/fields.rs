//! Every field of both kinds: what it becomes in authentik, changed both ways and by both sides.

mod connection;
mod references;
mod shown;

use authentik_sim::Stage;
use futures::future::join_all;
use serde_json::{Map, Value, json};
use uuid::Uuid;

use crate::arena::{AUTH_TOKEN, Arena, NEWEST, OLDEST, READABLE, SID, STAGES};

const OTHER_SID: &str = "ACfedcba9876543210fedcba9876543210";
const OTHER_TOKEN: &str = "fedcba9876543210fedcba9876543210";
const GATEWAY: &str = "https://sms.example.com/send";
const OTHER_GATEWAY: &str = "https://other.example.com/send?key=k";
const FLOW: &str = "default-authenticator-sms-setup";

/// Fields that are changed together or not at all.
const GROUP: [&str; 5] = ["provider", "account_sid", "auth_type", "auth", "auth_password"];

/// A resource and what authentik is to hold for it; the rest is as the two functions below say.
#[derive(Clone)]
struct Side {
    provider: &'static str,
    spec: Value,
    holds: Value,
}

fn twilio(spec: Value, holds: Value) -> Side {
    let provider = "twilio";
    Side { provider, spec, holds }
}

fn generic(spec: Value, holds: Value) -> Side {
    let provider = "generic";
    Side { provider, spec, holds }
}

impl Side {
    async fn apply(&self, arena: &Arena, name: &str) {
        match self.provider {
            "twilio" => arena.twilio(name, self.spec.clone()).await,
            _ => arena.generic(name, self.spec.clone()).await,
        }
    }

    /// All that authentik is to hold.
    fn holds(&self, name: &str) -> Value {
        let mut held = json!({
            "name": name, "friendly_name": "", "configure_flow": null, "from_number": "+15550100",
            "verify_only": false, "mapping": null, "auth_type": "basic",
        });
        let credentials = match self.provider {
            "twilio" => json!({"provider": "twilio", "account_sid": SID, "auth": AUTH_TOKEN, "auth_password": ""}),
            _ => json!({"provider": "generic", "account_sid": GATEWAY, "auth": "sms", "auth_password": "hunter2"}),
        };
        for overlay in [&credentials, &self.holds] {
            for (field, value) in overlay.as_object().unwrap() {
                held[field] = value.clone();
            }
        }
        held
    }
}

/// A field, at two values.
struct Field {
    name: &'static str,
    from: Side,
    to: Side,
    /// What a change sends to a server that tells credentials.
    sends: &'static [&'static str],
}

fn field(name: &'static str, from: Side, to: Side, sends: &'static [&'static str]) -> Field {
    Field { name, from, to, sends }
}

/// What flows and mappings are called by authentik.
struct Keys {
    flow: Uuid,
    other_flow: Uuid,
    mapping: Uuid,
    other_mapping: Uuid,
}

/// Each row of the table of fields in both of its forms, and no field twice for its own sake.
#[allow(clippy::too_many_lines)] // a table
fn fields(keys: &Keys) -> Vec<Field> {
    let plain = || twilio(json!({}), json!({}));
    let gateway = || generic(json!({}), json!({}));
    let account = |member: &str, value: Value| json!({"twilio": {member: value, "authTokenSecretRef": {"name": "twilio", "key": "auth-token"}}});
    let token = |name: &str, key: &str| json!({"twilio": {"accountSid": SID, "authTokenSecretRef": {"name": name, "key": key}}});
    let password = || json!({"name": "gateway", "key": "password"});
    let bearer = |key: &str| json!({"generic": {"url": GATEWAY, "authType": "bearer", "tokenSecretRef": {"name": "gateway", "key": key}}});
    let named = |spec: Value, pk: Uuid, field: &str| twilio(spec, json!({field: pk.to_string()}));
    let flow = "configure_flow";
    let friendly = || {
        twilio(
            json!({"friendlyName": "Text message"}),
            json!({"friendly_name": "Text message"}),
        )
    };
    vec![
        field(
            "name",
            plain(),
            twilio(
                json!({"name": "A stage with spaces"}),
                json!({"name": "A stage with spaces"}),
            ),
            &["name"],
        ),
        field("friendly-name-absent", plain(), friendly(), &["friendly_name"]),
        field(
            "friendly-name-empty",
            twilio(json!({"friendlyName": ""}), json!({})),
            friendly(),
            &["friendly_name"],
        ),
        field(
            "flow-by-slug",
            plain(),
            named(json!({"configureFlow": {"slug": FLOW}}), keys.flow, flow),
            &["configure_flow"],
        ),
        field(
            "flow-by-uuid",
            plain(),
            named(json!({"configureFlow": {"uuid": keys.flow}}), keys.flow, flow),
            &["configure_flow"],
        ),
        field(
            "flow-other",
            named(json!({"configureFlow": {"slug": FLOW}}), keys.flow, flow),
            named(
                json!({"configureFlow": {"uuid": keys.other_flow}}),
                keys.other_flow,
                flow,
            ),
            &["configure_flow"],
        ),
        field(
            "from-number",
            plain(),
            twilio(
                json!({"fromNumber": "whatsapp:+15550199"}),
                json!({"from_number": "whatsapp:+15550199"}),
            ),
            &["from_number"],
        ),
        field(
            "verify-only",
            plain(),
            twilio(json!({"verifyOnly": true}), json!({"verify_only": true})),
            &["verify_only"],
        ),
        field("provider", plain(), gateway(), &GROUP),
        field(
            "account-sid",
            plain(),
            twilio(
                account("accountSid", json!(OTHER_SID)),
                json!({"account_sid": OTHER_SID}),
            ),
            &GROUP,
        ),
        field(
            "account-sid-secret",
            plain(),
            twilio(
                account("accountSidSecretRef", json!({"name": "accounts", "key": "sid"})),
                json!({"account_sid": OTHER_SID}),
            ),
            &GROUP,
        ),
        field(
            "auth-token-secret",
            plain(),
            twilio(token("accounts", "token"), json!({"auth": OTHER_TOKEN})),
            &["auth"],
        ),
        field(
            "auth-token-key",
            plain(),
            twilio(token("twilio", "spare"), json!({"auth": "spare"})),
            &["auth"],
        ),
        field(
            "url",
            gateway(),
            generic(
                json!({"generic": {"url": OTHER_GATEWAY, "username": "sms", "passwordSecretRef": password()}}),
                json!({"account_sid": OTHER_GATEWAY}),
            ),
            &GROUP,
        ),
        field(
            "url-secret",
            gateway(),
            generic(
                json!({"generic": {"urlSecretRef": {"name": "gateway", "key": "url"}, "username": "sms",
                                   "passwordSecretRef": password()}}),
                json!({"account_sid": OTHER_GATEWAY}),
            ),
            &GROUP,
        ),
        field(
            "auth-type",
            gateway(),
            generic(
                bearer("token"),
                json!({"auth_type": "bearer", "auth": "bearer-token", "auth_password": ""}),
            ),
            &GROUP,
        ),
        field(
            "username",
            gateway(),
            generic(
                json!({"generic": {"url": GATEWAY, "username": "other", "passwordSecretRef": password()}}),
                json!({"auth": "other"}),
            ),
            &["auth"],
        ),
        field(
            "username-secret",
            gateway(),
            generic(
                json!({"generic": {"url": GATEWAY, "usernameSecretRef": {"name": "gateway", "key": "user"},
                                   "passwordSecretRef": password()}}),
                json!({"auth": "secret-user"}),
            ),
            &["auth"],
        ),
        field(
            "password-removed",
            gateway(),
            generic(
                json!({"generic": {"url": GATEWAY, "username": "sms"}}),
                json!({"auth_password": ""}),
            ),
            &["auth_password"],
        ),
        field(
            "password-key",
            gateway(),
            generic(
                json!({"generic": {"url": GATEWAY, "username": "sms",
                                   "passwordSecretRef": {"name": "gateway", "key": "spare"}}}),
                json!({"auth_password": "spare password"}),
            ),
            &["auth_password"],
        ),
        field(
            "token",
            generic(
                bearer("token"),
                json!({"auth_type": "bearer", "auth": "bearer-token", "auth_password": ""}),
            ),
            generic(
                bearer("token2"),
                json!({"auth_type": "bearer", "auth": "bearer-token-2", "auth_password": ""}),
            ),
            &["auth"],
        ),
        field(
            "mapping-by-name",
            plain(),
            named(json!({"mapping": {"name": "SMS text"}}), keys.mapping, "mapping"),
            &["mapping"],
        ),
        field(
            "mapping-by-uuid",
            plain(),
            named(json!({"mapping": {"uuid": keys.mapping}}), keys.mapping, "mapping"),
            &["mapping"],
        ),
        field(
            "mapping-other",
            named(json!({"mapping": {"name": "SMS text"}}), keys.mapping, "mapping"),
            named(
                json!({"mapping": {"uuid": keys.other_mapping}}),
                keys.other_mapping,
                "mapping",
            ),
            &["mapping"],
        ),
        field(
            "two-at-once",
            plain(),
            twilio(
                json!({"fromNumber": "Acme", "verifyOnly": true}),
                json!({"from_number": "Acme", "verify_only": true}),
            ),
            &["from_number", "verify_only"],
        ),
    ]
}

/// All that authentik holds of a stage, by authentik's names.
fn held(stage: &Stage) -> Value {
    let key = |pk: Option<Uuid>| pk.map(|pk| pk.to_string());
    json!({
        "name": stage.name, "friendly_name": stage.friendly_name.clone().unwrap_or_default(),
        "configure_flow": key(stage.configure_flow), "from_number": stage.from_number,
        "verify_only": stage.verify_only, "mapping": key(stage.mapping), "provider": stage.provider,
        "account_sid": stage.account_sid, "auth_type": stage.auth_type, "auth": stage.auth,
        "auth_password": stage.auth_password,
    })
}

fn stage(arena: &Arena, pk: Uuid) -> Stage {
    arena
        .sim
        .with(|state| state.stage(pk).cloned())
        .expect("a stage of this key")
}

/// The bodies of all changes of a stage, in order.
fn patches(arena: &Arena, pk: Uuid) -> Vec<Value> {
    let path = format!("{STAGES}{pk}/");
    let calls = arena.sim.calls();
    calls
        .iter()
        .filter(|call| call.method == "PATCH" && call.path == path)
        .map(|call| call.body.clone())
        .collect()
}

/// What a change sends so that authentik holds `to`.
fn body(version: &str, sends: &[&str], to: &Value) -> Value {
    let hidden: &[&str] = if version == NEWEST {
        &["auth", "auth_password"]
    } else {
        &[]
    };
    let mut body = Map::new();
    for field in sends.iter().chain(hidden) {
        // The oldest stores null for a name that is not there, and takes no empty one.
        let cleared = version == OLDEST && *field == "friendly_name" && to[*field] == "";
        body.insert(
            (*field).to_owned(),
            if cleared { Value::Null } else { to[*field].clone() },
        );
    }
    Value::Object(body)
}

async fn world(version: &str) -> (Arena, Keys) {
    let mut arena = Arena::still(version).await;
    let keys = arena.sim.with(|state| Keys {
        flow: state.flow(FLOW).unwrap().pk,
        other_flow: state.add_flow("another-flow", "stage_configuration"),
        mapping: state.add_mapping("SMS text"),
        other_mapping: state.add_mapping("Another text"),
    });
    arena
        .secret("twilio", &[("auth-token", AUTH_TOKEN), ("spare", "spare")])
        .await;
    arena
        .secret("accounts", &[("sid", OTHER_SID), ("token", OTHER_TOKEN)])
        .await;
    let gateway = [
        ("password", "hunter2"),
        ("spare", "spare password"),
        ("url", OTHER_GATEWAY),
        ("user", "secret-user"),
        ("token", "bearer-token"),
        ("token2", "bearer-token-2"),
    ];
    arena.secret("gateway", &gateway).await;
    arena.connect().await;
    arena.start().await;
    (arena, keys)
}

async fn every_field_goes_both_ways(version: &str) {
    let (arena, keys) = world(version).await;
    let fields = fields(&keys);
    join_all(fields.iter().map(|field| field.from.apply(&arena, field.name))).await;
    let ready = || join_all(fields.iter().map(|field| arena.is(field.name, "True", "Available")));
    let created = ready().await;
    let pks: Vec<Uuid> = created
        .iter()
        .map(|stage| {
            stage
                .status
                .as_ref()
                .unwrap()
                .stage
                .as_ref()
                .unwrap()
                .pk
                .parse()
                .unwrap()
        })
        .collect();
    let all = || -> Vec<Stage> { pks.iter().map(|pk| stage(&arena, *pk)).collect() };

    let mut wrong = Vec::new();
    let mut check = |when: &str, changes: usize, side: fn(&Field) -> &Side| {
        for (field, pk) in fields.iter().zip(&pks) {
            let name = field.name;
            let wanted = side(field).holds(name);
            let holds = held(&stage(&arena, *pk));
            if holds != wanted {
                wrong.push(format!("{name}, {when}: authentik holds\n  {holds}, not\n  {wanted}"));
            }
            let sent = patches(&arena, *pk);
            let last = body(version, field.sends, &wanted);
            if sent.len() != changes || sent.last().is_some_and(|sent| *sent != last) {
                wrong.push(format!(
                    "{name}, {when}: {changes} changes, the last\n  {last}, but\n  {sent:?}"
                ));
            }
        }
    };
    check("created", 0, |field| &field.from);
    let before = all();

    join_all(fields.iter().map(|field| field.to.apply(&arena, field.name))).await;
    ready().await;
    check("edited", 1, |field| &field.to);
    let after = all();

    for (pk, stage) in pks.iter().zip(&before) {
        arena.sim.edit(*pk, |now| now.clone_from(stage));
    }
    arena.round().await;
    check("edited in authentik", 2, |field| &field.to);

    join_all(fields.iter().map(|field| field.from.apply(&arena, field.name))).await;
    ready().await;
    check("edited back", 3, |field| &field.from);

    for (pk, stage) in pks.iter().zip(&after) {
        arena.sim.edit(*pk, |now| now.clone_from(stage));
    }
    arena.round().await;
    check("edited back in authentik", 4, |field| &field.from);

    arena.round().await;
    check("left alone", 4, |field| &field.from);
    assert!(wrong.is_empty(), "{version}:\n{}", wrong.join("\n"));
    assert_eq!(
        arena.sim.count("POST", ""),
        fields.len(),
        "{version}: each was created once"
    );
    assert_eq!(
        arena.sim.count("DELETE", "") + arena.sim.count("PUT", ""),
        0,
        "{version}"
    );
    for (now, then) in ready().await.iter().zip(&created) {
        let pk = |stage: &authentik_stage_operator::api::AuthenticatorSMSStage| {
            stage.status.as_ref().unwrap().stage.as_ref().unwrap().pk.clone()
        };
        assert_eq!(pk(now), pk(then));
    }
}

#[tokio::test]
async fn every_field_goes_both_ways_in_the_oldest() {
    every_field_goes_both_ways(OLDEST).await;
}

#[tokio::test]
async fn every_field_goes_both_ways_where_credentials_are_told() {
    every_field_goes_both_ways(READABLE).await;
}

#[tokio::test]
async fn every_field_goes_both_ways_where_credentials_are_never_told() {
    every_field_goes_both_ways(NEWEST).await;
}
