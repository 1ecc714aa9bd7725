//! Fields that come from Secrets: each follows its Secret, and nothing is sent for a value that is the same.

use authentik_stage_operator::api::RECONCILE_ANNOTATION;

use super::*;

/// A stage with one value from the Secret of its own name.
struct Source {
    name: &'static str,
    spec: fn(Value) -> Side,
    /// authentik's name of the field.
    field: &'static str,
    values: [&'static str; 2],
    sends: &'static [&'static str],
}

fn of_gateway(members: &Value) -> Value {
    let mut spec = json!({"url": GATEWAY});
    spec.as_object_mut()
        .unwrap()
        .extend(members.as_object().unwrap().clone());
    json!({ "generic": spec })
}

const SOURCES: [Source; 6] = [
    Source {
        name: "account-sid",
        spec: |secret| {
            let token = json!({"name": "twilio", "key": "auth-token"});
            twilio(
                json!({"twilio": {"accountSidSecretRef": secret, "authTokenSecretRef": token}}),
                json!({}),
            )
        },
        field: "account_sid",
        values: [SID, OTHER_SID],
        sends: &GROUP,
    },
    Source {
        name: "auth-token",
        spec: |secret| {
            twilio(
                json!({"twilio": {"accountSid": SID, "authTokenSecretRef": secret}}),
                json!({}),
            )
        },
        field: "auth",
        values: [AUTH_TOKEN, OTHER_TOKEN],
        sends: &["auth"],
    },
    Source {
        name: "url",
        spec: |secret| {
            generic(
                json!({"generic": {"urlSecretRef": secret, "username": "sms"}}),
                json!({"auth_password": ""}),
            )
        },
        field: "account_sid",
        values: [GATEWAY, OTHER_GATEWAY],
        sends: &GROUP,
    },
    Source {
        name: "username",
        spec: |secret| {
            generic(
                of_gateway(&json!({"usernameSecretRef": secret})),
                json!({"auth_password": ""}),
            )
        },
        field: "auth",
        values: ["one", "two"],
        sends: &["auth"],
    },
    Source {
        name: "password",
        spec: |secret| {
            generic(
                of_gateway(&json!({"username": "sms", "passwordSecretRef": secret})),
                json!({}),
            )
        },
        field: "auth_password",
        values: ["pass word", "päss:word"],
        sends: &["auth_password"],
    },
    Source {
        name: "token",
        spec: |secret| {
            let bearer = of_gateway(&json!({"authType": "bearer", "tokenSecretRef": secret}));
            generic(bearer, json!({"auth_type": "bearer", "auth_password": ""}))
        },
        field: "auth",
        values: ["eyJ.one", "eyJ.two"],
        sends: &["auth"],
    },
];

async fn every_source_is_followed(version: &str) {
    let (arena, _) = world(version).await;
    let sides: Vec<Side> = SOURCES
        .iter()
        .map(|source| (source.spec)(json!({"name": source.name, "key": "it"})))
        .collect();
    for (source, side) in SOURCES.iter().zip(&sides) {
        arena.secret(source.name, &[("it", source.values[0])]).await;
        side.apply(&arena, source.name).await;
    }
    for source in &SOURCES {
        arena.is(source.name, "True", "Available").await;
    }
    // Written anew, with what an editor or `echo` leaves behind a value: nothing that authentik would keep.
    for source in &SOURCES {
        arena
            .rotate(source.name, "it", &format!(" \u{a0}{}\r\n", source.values[0]))
            .await;
    }
    arena.rotate(SOURCES[1].name, "unused", "x").await;
    for (source, side) in SOURCES.iter().zip(&sides) {
        arena
            .rotate(source.name, "it", &format!("{}\n", source.values[1]))
            .await;
        let mut wanted = side.holds(source.name);
        wanted[source.field] = json!(source.values[1]);
        let pk = arena
            .holds(source.name, |state| {
                state
                    .stage_named(source.name)
                    .filter(|now| held(now) == wanted)
                    .map(|now| now.pk)
            })
            .await;
        arena.quiet().await;
        assert_eq!(
            patches(&arena, pk),
            [body(version, source.sends, &wanted)],
            "{version}, {}",
            source.name
        );
    }
    for _ in 0..3 {
        arena.round().await;
    }
    for source in &SOURCES {
        let stage = arena.sim.stage_named(source.name).unwrap();
        assert_eq!(
            patches(&arena, stage.pk).len(),
            1,
            "{version}: {} is sent again and again",
            source.name
        );
        arena.is(source.name, "True", "Available").await;
    }
}

#[tokio::test]
async fn every_source_is_followed_in_the_oldest() {
    every_source_is_followed(OLDEST).await;
}

#[tokio::test]
async fn every_source_is_followed_where_credentials_are_told() {
    every_source_is_followed(READABLE).await;
}

#[tokio::test]
async fn every_source_is_followed_where_credentials_are_never_told() {
    every_source_is_followed(NEWEST).await;
}

#[tokio::test]
async fn another_way_to_say_the_same_sends_nothing() {
    for version in [READABLE, NEWEST] {
        let (arena, keys) = world(version).await;
        arena
            .secret(
                "same",
                &[("sid", SID), ("token", AUTH_TOKEN), ("url", GATEWAY), ("user", "sms")],
            )
            .await;
        let same = |key: &str| json!({"name": "same", "key": key});
        let token = json!({"name": "twilio", "key": "auth-token"});
        let flow = json!({"configureFlow": {"slug": FLOW}, "mapping": {"name": "SMS text"}});
        let pairs = [
            (
                twilio(json!({}), json!({})),
                twilio(
                    json!({"name": "said-0", "friendlyName": "", "verifyOnly": false}),
                    json!({}),
                ),
            ),
            (
                twilio(json!({}), json!({})),
                twilio(
                    json!({"twilio": {"accountSidSecretRef": same("sid"), "authTokenSecretRef": token}}),
                    json!({}),
                ),
            ),
            (
                twilio(json!({}), json!({})),
                twilio(
                    json!({"twilio": {"accountSid": SID, "authTokenSecretRef": same("token")}}),
                    json!({}),
                ),
            ),
            (
                twilio(flow, json!({})),
                twilio(
                    json!({"configureFlow": {"uuid": keys.flow}, "mapping": {"uuid": keys.mapping}}),
                    json!({}),
                ),
            ),
            (
                generic(of_gateway(&json!({"username": "sms"})), json!({})),
                generic(
                    json!({"generic": {"urlSecretRef": same("url"), "usernameSecretRef": same("user")}}),
                    json!({}),
                ),
            ),
        ];
        for (at, (side, _)) in pairs.iter().enumerate() {
            side.apply(&arena, &format!("said-{at}")).await;
        }
        for at in 0..pairs.len() {
            arena.is(&format!("said-{at}"), "True", "Available").await;
        }
        for (at, (_, side)) in pairs.iter().enumerate() {
            side.apply(&arena, &format!("said-{at}")).await;
        }
        for at in 0..pairs.len() {
            arena.is(&format!("said-{at}"), "True", "Available").await;
        }
        arena.round().await;
        assert_eq!(arena.sim.count("PATCH", ""), 0, "{version}");
    }
}

#[tokio::test]
async fn what_the_spec_has_no_field_for_is_put_right_too() {
    for version in [OLDEST, READABLE, NEWEST] {
        let (arena, _) = world(version).await;
        let bearer = of_gateway(&json!({"authType": "bearer", "tokenSecretRef": {"name": "gateway", "key": "token"}}));
        let bearer = generic(
            bearer,
            json!({"auth_type": "bearer", "auth": "bearer-token", "auth_password": ""}),
        );
        let sides = [("sms", twilio(json!({}), json!({}))), ("bearer", bearer)];
        let mut pks = Vec::new();
        for (name, side) in &sides {
            side.apply(&arena, name).await;
            arena.is(name, "True", "Available").await;
            pks.push(arena.sim.stage_named(name).unwrap().pk);
        }
        for pk in &pks {
            arena
                .sim
                .edit(*pk, |stage| stage.auth_password = "left behind".to_owned());
        }
        arena.round().await;
        for ((name, side), pk) in sides.iter().zip(&pks) {
            let wanted = side.holds(name);
            assert_eq!(held(&stage(&arena, *pk)), wanted);
            assert_eq!(
                patches(&arena, *pk),
                [body(version, &["auth_password"], &wanted)],
                "{version}, {name}"
            );
        }
        arena.sim.edit(pks[0], |stage| stage.auth_type = "bearer".to_owned());
        arena.round().await;
        let wanted = sides[0].1.holds("sms");
        assert_eq!(
            patches(&arena, pks[0])[1..],
            [body(version, &GROUP, &wanted)],
            "{version}"
        );
    }
}

/// The rights that an operator needs, and no view of audit events.
const RIGHTS: [&str; 6] = [
    "authentik_stages_authenticator_sms.view_authenticatorsmsstage",
    "authentik_stages_authenticator_sms.add_authenticatorsmsstage",
    "authentik_stages_authenticator_sms.change_authenticatorsmsstage",
    "authentik_stages_authenticator_sms.delete_authenticatorsmsstage",
    "authentik_flows.view_flow",
    "authentik_events.view_notificationwebhookmapping",
];

#[tokio::test]
async fn a_credential_that_is_never_told_is_put_right_where_events_may_be_viewed() {
    let (arena, _) = world(NEWEST).await;
    let token = arena.sim.add_token("operator", &RIGHTS, false);
    arena.rotate("authentik-token", "token", &token).await;
    let of_operator =
        |calls: &[authentik_sim::Call]| calls.iter().any(|call| call.username.as_deref() == Some("operator"));
    arena
        .sim
        .wait_for_calls(crate::arena::PATIENCE, of_operator)
        .await
        .unwrap();
    arena.twilio("sms", json!({})).await;
    arena.is("sms", "True", "Available").await;
    let pk = arena.sim.stage_named("sms").unwrap().pk;
    let spoil = || arena.sim.edit(pk, |stage| stage.auth = "a stranger's".to_owned());

    spoil();
    for _ in 0..3 {
        arena.round().await;
    }
    assert_eq!(patches(&arena, pk), [] as [Value; 0], "nobody could know");
    assert_eq!(stage(&arena, pk).auth, "a stranger's");

    // Whoever does know asks for it.
    let annotation = json!({"metadata": {"annotations": {RECONCILE_ANNOTATION: "now"}}});
    arena
        .edit::<authentik_stage_operator::api::AuthenticatorSMSStage>("sms", annotation)
        .await;
    let restored = |state: &authentik_sim::State| state.stage(pk).filter(|stage| stage.auth == AUTH_TOKEN).map(|_| ());
    arena.holds("the token", restored).await;
    arena.quiet().await;
    assert_eq!(patches(&arena, pk), [json!({"auth": AUTH_TOKEN, "auth_password": ""})]);

    // So does a drift of anything else: who changed it may have changed what does not show.
    spoil();
    arena.sim.edit(pk, |stage| stage.verify_only = true);
    arena.round().await;
    let sent = json!({"verify_only": false, "auth": AUTH_TOKEN, "auth_password": ""});
    assert_eq!(patches(&arena, pk)[1..], [sent]);

    let mut rights = RIGHTS.to_vec();
    rights.push("authentik_events.view_event");
    arena.sim.set_permissions(&token, &rights);
    // Rights are looked at again every hour.
    arena.clock.advance(std::time::Duration::from_secs(3600));
    arena.round().await;
    assert_eq!(patches(&arena, pk).len(), 2, "the newest change is ours");
    spoil();
    arena.round().await;
    assert_eq!(
        patches(&arena, pk)[2..],
        [json!({"auth": AUTH_TOKEN, "auth_password": ""})]
    );
    arena.round().await;
    assert_eq!(patches(&arena, pk).len(), 3, "once");
}

#[tokio::test]
async fn a_crowd_of_changes_hides_none_that_does_not_show() {
    let (arena, _) = world(NEWEST).await;
    let names: Vec<String> = (0..120).map(|n| format!("sms-{n:03}")).collect();
    for name in &names {
        arena.twilio(name, json!({})).await;
    }
    for name in &names {
        arena.is(name, "True", "Available").await;
    }
    arena.round().await;
    for name in &names {
        let pk = arena.sim.stage_named(name).unwrap().pk;
        arena.sim.edit(pk, |stage| stage.auth = "a stranger's".to_owned());
    }
    let seen = arena.sim.calls().len();
    arena.round().await;
    let spoilt = arena
        .sim
        .stages()
        .iter()
        .filter(|stage| stage.auth != AUTH_TOKEN)
        .count();
    assert_eq!(spoilt, 0, "stages that keep a stranger's token");
    assert_eq!(arena.sim.count("PATCH", ""), names.len());
    let looks = |seen: usize| {
        arena
            .sim
            .calls_after(seen)
            .iter()
            .filter(|call| call.path == "/events/events/")
            .count()
    };
    assert_eq!(looks(seen), 3, "the newest few, and since all were new, two pages");

    // Our own changes are as many events.
    arena.round().await;
    let seen = arena.sim.calls().len();
    arena.round().await;
    assert_eq!(looks(seen), 1, "a round in which nothing happened");
}
