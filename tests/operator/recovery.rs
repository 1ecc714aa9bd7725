//! What comes after trouble: lost replies, crashes, stages that vanish, servers that fall silent.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use authentik_sim::{Answer, Call, Config, Fault, Sim, Stage, State, What};
use authentik_stage_operator::api::{
    AuthenticatorSMSStage, AuthenticatorSMSStageStatus, AuthentikConnection, Origin, RECONCILE_ANNOTATION,
};
use authentik_stage_operator::authentik::{Call as Told, Method, Observer};
use authentik_stage_operator::clock::Clock;
use authentik_stage_operator::controller::metrics::Metrics;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;
use serde_json::{Value, json};
use uuid::Uuid;

use crate::arena::{AUTH_TOKEN, Arena, NEWEST, OLDEST, PATIENCE, READABLE, RIGHTS, SID, VIEW_STAGES, client, message};
use crate::gate::{Gate, Side};

const STAGES: &str = "/stages/authenticator/sms/";
const ROTATED: &str = "fedcba9876543210fedcba9876543210";

fn status(stage: &AuthenticatorSMSStage) -> &AuthenticatorSMSStageStatus {
    stage.status.as_ref().unwrap()
}

fn ready(stage: &AuthenticatorSMSStage) -> &Condition {
    status(stage)
        .conditions
        .iter()
        .find(|condition| condition.type_ == "Ready")
        .unwrap()
}

fn posts(arena: &Arena) -> Vec<Call> {
    arena
        .writes()
        .into_iter()
        .filter(|call| call.method == "POST")
        .collect()
}

/// The one stage there is, which has to be the resource's own, and to have that name.
async fn only_stage(arena: &Arena, name: &str, case: &str) -> Stage {
    let stage = arena.is("sms", "True", "Available").await;
    let stages = arena.sim.stages();
    let [held] = stages.as_slice() else {
        panic!("{case}: {stages:?}")
    };
    assert_eq!(held.name, name, "{case}");
    let status = status(&stage);
    assert_eq!(status.stage.as_ref().unwrap().pk, held.pk.to_string(), "{case}");
    assert_eq!(status.origin, Some(Origin::Created), "{case}");
    assert!(status.pending_create.is_none(), "{case}");
    held.clone()
}

async fn deleted_without_a_trace(arena: &Arena, case: &str) {
    arena.delete("sms").await;
    arena.gone("sms").await;
    assert!(arena.sim.stages().is_empty(), "{case}: {:?}", arena.sim.stages());
}

/// An arena that meets this fault at its first create. With plain rights only the fields tell whose a stage is, with
/// those of an administrator the audit log does.
async fn create_with(version: &str, plain: bool, what: What) -> Arena {
    let mut arena = Arena::still(version).await;
    if plain {
        arena.connect_with_rights(&RIGHTS).await;
    } else {
        arena.connect().await;
    }
    arena.sim.inject(Fault::on("POST", STAGES, what));
    arena.twilio("sms", json!({})).await;
    arena.start().await;
    arena.run_clock();
    arena
}

#[tokio::test]
async fn a_create_whose_reply_is_lost_makes_one_stage() {
    let gateway_timeout = || Answer::html(504);
    for (what, effect) in [
        (What::ResetAfterEffect, true),
        (What::CutBody, true),
        (What::CrashAfterEffect, true),
        (What::AnswerAfterEffect(gateway_timeout()), true),
        (What::ResetBeforeEffect, false),
        (What::Crash, false),
        (What::Answer(gateway_timeout()), false),
    ] {
        for (version, plain) in [(READABLE, true), (NEWEST, false)] {
            let case = format!("{version}, {what:?}, plain rights: {plain}");
            let arena = create_with(version, plain, what.clone()).await;
            let held = only_stage(&arena, "sms", &case).await;
            assert_eq!(held.auth, AUTH_TOKEN);
            assert_eq!(posts(&arena).len(), if effect { 1 } else { 2 }, "{case}");
            deleted_without_a_trace(&arena, &case).await;
        }
    }
}

/// Where the operator is when it dies.
#[derive(Clone, Copy, Debug)]
enum Moment {
    Finalizer(Side),
    Intent(Side),
    Post(Side),
    Record(Side),
}

/// Has the operator die at that moment of its first create.
async fn die_at(arena: &mut Arena, moment: Moment) {
    let (gate, reached) = match moment {
        Moment::Finalizer(side) => Gate::at_patch("/sms", 1, side),
        Moment::Intent(side) => Gate::at_patch("/sms/status", 1, side),
        Moment::Record(side) => Gate::at_patch("/sms/status", 2, side),
        Moment::Post(side) => {
            let what = match side {
                Side::Before => What::Hang,
                Side::After => What::HangAfterEffect,
            };
            arena.sim.inject(Fault::on("POST", STAGES, what));
            arena.start().await;
            let sent = |calls: &[Call]| calls.iter().any(|call| call.method == "POST");
            arena.sim.wait_for_calls(PATIENCE, sent).await.unwrap();
            if side == Side::After {
                arena
                    .holds("the stage", |state| state.stage_named("sms").map(|_| ()))
                    .await;
            }
            arena.crash().await;
            return;
        }
    };
    arena.start_behind(&gate).await;
    tokio::time::timeout(PATIENCE, reached)
        .await
        .expect("the call is made")
        .unwrap();
    arena.crash().await;
}

/// With nothing done, with the finalizer on, with the intent written, with the request on its way, with a stage that
/// nobody recorded, and with all done.
const MOMENTS: [Moment; 6] = [
    Moment::Finalizer(Side::Before),
    Moment::Finalizer(Side::After),
    Moment::Intent(Side::After),
    Moment::Post(Side::Before),
    Moment::Post(Side::After),
    Moment::Record(Side::After),
];

/// An arena whose operator has died in its first create.
async fn dead(moment: Moment, plain: bool) -> Arena {
    let mut arena = Arena::still(READABLE).await;
    if plain {
        arena.connect_with_rights(&RIGHTS).await;
    } else {
        arena.connect().await;
    }
    arena.twilio("sms", json!({})).await;
    die_at(&mut arena, moment).await;
    arena.run_clock();
    arena
}

#[tokio::test]
async fn an_operator_that_dies_in_a_create_makes_one_stage_when_it_is_back() {
    let with_audit_log = [(Moment::Post(Side::After), false)];
    for (moment, plain) in MOMENTS.map(|moment| (moment, true)).into_iter().chain(with_audit_log) {
        let case = format!("{moment:?}, plain rights: {plain}");
        let mut arena = dead(moment, plain).await;
        arena.start().await;
        only_stage(&arena, "sms", &case).await;
        let effects = posts(&arena).into_iter().filter(|call| call.effect).count();
        assert_eq!(effects, 1, "{case}");
        deleted_without_a_trace(&arena, &case).await;
    }
}

#[tokio::test]
async fn a_resource_that_was_renamed_while_the_operator_was_dead_has_one_stage() {
    for moment in MOMENTS {
        let case = format!("{moment:?}");
        let mut arena = dead(moment, true).await;
        arena
            .edit_stage("sms", json!({"name": "renamed", "fromNumber": "+1777"}))
            .await;
        arena.start().await;
        let held = only_stage(&arena, "renamed", &case).await;
        assert_eq!(held.from_number, "+1777", "{case}");
        deleted_without_a_trace(&arena, &case).await;
    }
}

#[tokio::test]
async fn a_resource_that_was_deleted_while_the_operator_was_dead_leaves_no_stage() {
    for moment in MOMENTS {
        let mut arena = dead(moment, true).await;
        arena.delete("sms").await;
        arena.start().await;
        arena.gone("sms").await;
        assert!(arena.sim.stages().is_empty(), "{moment:?}");
    }
}

#[tokio::test]
async fn a_secret_that_was_rotated_while_the_operator_was_dead_reaches_a_server_that_hides_credentials() {
    let mut arena = Arena::still(NEWEST).await;
    arena.connect().await;
    arena.twilio("sms", json!({})).await;
    die_at(&mut arena, Moment::Post(Side::After)).await;
    arena.rotate("twilio", "auth-token", ROTATED).await;
    arena.run_clock();
    arena.start().await;
    arena.is("sms", "True", "Available").await;
    assert_eq!(arena.sim.stage_named("sms").unwrap().auth, ROTATED);
}

/// Long enough for an operator that does not wait to go astray, and well before its patience ends: a second of the
/// arena's time passes every ten milliseconds.
const LATE: Duration = Duration::from_millis(300);

#[tokio::test]
async fn a_create_that_lands_late_makes_one_stage() {
    for plain in [false, true] {
        let arena = create_with(READABLE, plain, What::CommitLater(LATE)).await;
        only_stage(&arena, "sms", "late").await;
        arena.rounds(2).await;
        only_stage(&arena, "sms", "late").await;
        deleted_without_a_trace(&arena, "late").await;
    }
}

#[tokio::test]
async fn a_create_that_lands_after_the_resource_was_renamed_makes_one_stage() {
    for edit in [
        json!({"name": "renamed"}),
        json!({"name": "renamed", "fromNumber": "+1777"}),
    ] {
        let arena = create_with(READABLE, true, What::CommitLater(LATE)).await;
        arena
            .sim
            .wait_for_calls(PATIENCE, |calls| calls.iter().any(|call| call.method == "POST"))
            .await
            .unwrap();
        arena.edit_stage("sms", edit.clone()).await;
        arena.is("sms", "True", "Available").await;
        arena.rounds(2).await;
        only_stage(&arena, "renamed", &edit.to_string()).await;
    }
}

#[tokio::test]
async fn a_create_that_lands_after_the_resource_was_deleted_leaves_no_stage() {
    let arena = create_with(READABLE, true, What::CommitLater(LATE)).await;
    arena
        .sim
        .wait_for_calls(PATIENCE, |calls| calls.iter().any(|call| call.method == "POST"))
        .await
        .unwrap();
    arena.delete("sms").await;
    arena.gone("sms").await;
    let landed = |calls: &[Call]| calls.iter().any(|call| call.method == "POST" && call.effect);
    arena.sim.wait_for_calls(PATIENCE, landed).await.unwrap();
    assert!(arena.sim.stages().is_empty(), "{:?}", arena.sim.stages());
}

#[tokio::test]
async fn a_name_that_is_lost_between_intent_and_create_is_somebody_elses() {
    let mut arena = Arena::still(READABLE).await;
    arena.connect_with_rights(&RIGHTS).await;
    let foreign = Stage {
        from_number: "+15559999".to_owned(),
        ..Stage::twilio("sms")
    };
    let mut other = Some(foreign.clone());
    arena.sim.on_call(move |call, state| {
        if call.method == "POST"
            && let Some(stage) = other.take()
        {
            state.add_stage(stage);
        }
    });
    arena.twilio("sms", json!({})).await;
    arena.start().await;
    arena.run_clock();
    let refused = arena.is("sms", "False", "NameConflict").await;
    assert!(status(&refused).pending_create.is_none());
    assert_eq!(status(&refused).origin, None);
    arena.rounds(2).await;
    assert_eq!(arena.sim.stages(), [foreign]);
    assert_eq!(posts(&arena).len(), 1);
}

// === stages that vanish ===

#[tokio::test]
async fn a_stage_that_is_deleted_by_hand_is_confirmed_gone_and_created_again() {
    let arena = Arena::new(READABLE).await;
    arena.twilio("sms", json!({})).await;
    let before = arena.is("sms", "True", "Available").await;
    let pk = arena.sim.stage_named("sms").unwrap().pk;
    arena.sim.reset_calls();
    arena.sim.remove(pk);
    let new = arena
        .holds("the stage again", |state| {
            state.stage_named("sms").map(|stage| stage.pk)
        })
        .await;
    assert_ne!(new, pk);
    arena
        .wait("sms", "show the new stage", |stage: Option<&AuthenticatorSMSStage>| {
            stage.is_some_and(|stage| {
                status(stage)
                    .stage
                    .as_ref()
                    .is_some_and(|stage| stage.pk == new.to_string())
                    && ready(stage).status == "True"
            })
        })
        .await;
    let note = arena.event("sms", "Creating").await;
    assert!(note.contains("created") || note.contains("creating"), "{note}");
    let calls = arena.sim.calls();
    let at = |wanted: &dyn Fn(&&Call) -> bool| calls.iter().position(|call| wanted(&call));
    let confirmed = at(&|call| call.path.contains(&pk.to_string()) && call.status == Some(404));
    let created = at(&|call| call.method == "POST");
    assert!(
        confirmed.is_some() && confirmed < created,
        "absence from a list is a hint: {calls:?}"
    );
    only_stage(&arena, "sms", "again").await;
    assert_eq!(status(&before).origin, Some(Origin::Created));
}

/// Five managed stages.
async fn crowd(arena: &Arena) -> Vec<Stage> {
    for n in 0..5 {
        arena.twilio(&format!("sms-{n}"), json!({})).await;
    }
    for n in 0..5 {
        arena.is(&format!("sms-{n}"), "True", "Available").await;
    }
    // What was just written is not judged by a round that began before.
    arena.rounds(2).await;
    arena.sim.stages()
}

fn is_round(call: &Call) -> bool {
    call.method == "GET" && call.parameter("ordering") == Some("pk")
}

#[tokio::test]
async fn many_stages_that_go_at_once_are_created_again_only_after_a_second_look() {
    let arena = Arena::new(READABLE).await;
    let stages = crowd(&arena).await;
    arena.sim.with(|state| {
        for stage in &stages {
            state.remove(stage.pk);
        }
    });
    let seen = arena.sim.calls().len();
    arena
        .holds("all five again", |state| (state.stages().len() == 5).then_some(()))
        .await;
    let calls = arena.sim.calls_after(seen);
    let rounds = calls
        .iter()
        .take_while(|call| call.method != "POST")
        .filter(|call| is_round(call))
        .count();
    assert!(rounds >= 2, "{calls:?}");
}

#[tokio::test]
async fn many_stages_that_are_back_at_the_second_look_are_left_alone() {
    let arena = Arena::new(READABLE).await;
    let stages = crowd(&arena).await;
    let written = arena.writes().len();
    let (mut rounds, mut hidden) = (0, stages.clone());
    arena.sim.on_call(move |call: &Call, state: &mut State| {
        if !is_round(call) {
            return;
        }
        rounds += 1;
        match rounds {
            1 => hidden.iter().for_each(|stage| {
                state.remove(stage.pk);
            }),
            2 => hidden.drain(..).for_each(|stage| {
                state.add_stage(stage);
            }),
            _ => {}
        }
    });
    arena.rounds(4).await;
    assert_eq!(arena.sim.stages().len(), 5);
    assert_eq!(arena.writes().len(), written, "nothing is created, nothing changed");
    for n in 0..5 {
        let name = format!("sms-{n}");
        let stage = arena.is(&name, "True", "Available").await;
        let pk: Uuid = status(&stage).stage.as_ref().unwrap().pk.parse().unwrap();
        assert!(stages.iter().any(|stage| stage.pk == pk));
    }
}

#[tokio::test]
async fn a_token_that_loses_its_sight_creates_nothing_and_forgets_nothing() {
    // Without any right the server says so; with rights on single objects it shows less, and answers 404 for the rest.
    for on_another in [false, true] {
        let mut arena = Arena::still(READABLE).await;
        let token = arena.connect_with_rights(&RIGHTS).await;
        arena.start().await;
        arena.run_clock();
        arena.twilio("sms", json!({})).await;
        let before = arena.is("sms", "True", "Available").await;
        let blind: Vec<_> = RIGHTS.into_iter().filter(|right| *right != VIEW_STAGES).collect();
        if on_another {
            let other = arena.sim.with(|state| state.add_stage(Stage::twilio("other")));
            arena.sim.grant_on(&token, VIEW_STAGES, other);
        }
        arena.sim.set_permissions(&token, &blind);
        arena
            .wait("sms", "notice", |stage: Option<&AuthenticatorSMSStage>| {
                stage.is_some_and(|stage| ready(stage).status == "False")
            })
            .await;
        arena.rounds(3).await;
        let stages = arena.sim.stages();
        assert_eq!(stages.iter().filter(|stage| stage.name == "sms").count(), 1);
        assert_eq!(stages.len(), if on_another { 2 } else { 1 });

        arena.sim.set_permissions(&token, &RIGHTS);
        let after = arena.is("sms", "True", "Available").await;
        let shown = |stage: &AuthenticatorSMSStage| status(stage).stage.as_ref().unwrap().pk.clone();
        assert_eq!(shown(&after), shown(&before), "on another: {on_another}");
        assert_eq!(status(&after).origin, Some(Origin::Created), "on another: {on_another}");
    }
}

// === servers that fall silent ===

#[tokio::test]
async fn a_restart_of_authentik_is_no_news_for_a_minute_and_then_it_is() {
    let arena = Arena::new(READABLE).await;
    arena.twilio("sms", json!({})).await;
    arena.is("sms", "True", "Available").await;
    let stopped = arena.clock.wall();
    arena.sim.stop().await;
    let down = arena.is("sms", "False", "ServerUnreachable").await;
    let told = ready(&down).last_transition_time.0;
    let graced = told.duration_since(stopped).as_secs();
    // The API keeps whole seconds.
    assert!(graced >= 59, "told after {graced} s");
    assert!(
        status(&down)
            .conditions
            .iter()
            .any(|condition| condition.type_ == "Reconciling")
    );
    arena.connection_is("authentik", "False", "ServerUnreachable").await;
    arena.sim.restart().await;
    arena.is("sms", "True", "Available").await;
    arena.connection_is("authentik", "True", "Available").await;
    assert_eq!(arena.writes().len(), 1, "{:?}", arena.writes());
}

#[tokio::test]
async fn a_short_restart_of_authentik_leaves_no_trace() {
    let mut arena = Arena::new(READABLE).await;
    arena.twilio("sms", json!({})).await;
    let before = arena.is("sms", "True", "Available").await;
    arena.stop_clock();
    arena.sim.stop().await;
    for _ in 0..5 {
        arena.clock.advance(Duration::from_secs(10));
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    arena.sim.restart().await;
    arena.run_clock();
    arena.rounds(2).await;
    let after = arena.get("sms").await;
    assert_eq!(
        before.metadata.resource_version, after.metadata.resource_version,
        "no write at all"
    );
}

#[tokio::test]
async fn a_server_that_is_down_is_asked_once_an_interval() {
    let arena = Arena::new(READABLE).await;
    for n in 0..10 {
        arena.twilio(&format!("sms-{n}"), json!({})).await;
    }
    for n in 0..10 {
        arena.is(&format!("sms-{n}"), "True", "Available").await;
    }
    arena.sim.inject(Fault::every(What::Answer(Answer::html(503))));
    for n in 0..10 {
        arena.is(&format!("sms-{n}"), "False", "ServerError").await;
    }
    let (seen, from) = (arena.sim.calls().len(), arena.clock.now());
    arena
        .sim
        .wait_for_calls(PATIENCE, |calls| calls.len() >= seen + 5)
        .await
        .unwrap();
    let calls = u32::try_from(arena.sim.calls().len() - seen).unwrap();
    // The interval is 60 s, up to a tenth shorter.
    assert!(
        arena.clock.now() - from >= Duration::from_secs(54) * (calls - 1),
        "{calls} calls"
    );
    arena.sim.clear_faults();
    for n in 0..10 {
        arena.is(&format!("sms-{n}"), "True", "Available").await;
    }
}

#[tokio::test]
async fn a_server_that_hangs_delays_no_other() {
    let arena = Arena::new(READABLE).await;
    let sick = Sim::start(Config {
        admin_token: Some(arena.sim.admin_token().to_owned()),
        ..Config::new(READABLE)
    })
    .await;
    let spec = json!({
        "url": sick.url(), "allowInsecureHTTP": true,
        "tokenSecretRef": {"name": "authentik-token", "key": "token"},
    });
    arena.apply("AuthentikConnection", "sick", spec).await;
    arena.connection_is("sick", "True", "Available").await;
    let patients: Vec<String> = (0..20).map(|n| format!("patient-{n}")).collect();
    for name in &patients {
        arena.twilio(name, json!({"connectionRef": {"name": "sick"}})).await;
    }
    for name in &patients {
        arena.is(name, "True", "Available").await;
    }
    let seen = sick.calls().len();
    sick.inject(Fault::every(What::Hang));
    for name in &patients {
        arena.edit_stage(name, json!({"fromNumber": "+1777"})).await;
    }
    let hangs = |calls: &[Call]| calls.len() >= seen + 8;
    sick.wait_for_calls(PATIENCE, hangs).await.unwrap();
    arena.twilio("healthy", json!({})).await;
    arena.is("healthy", "True", "Available").await;
    let waiting = sick.calls_after(seen);
    assert!(
        waiting.iter().all(|call| call.status.is_none()),
        "they hang all the while"
    );
    assert!(
        waiting.len() < patients.len(),
        "not one of them had timed out: {}",
        waiting.len()
    );
}

// === what goes on meanwhile ===

#[tokio::test]
async fn a_rotation_goes_through_whatever_else_is_broken() {
    for version in [OLDEST, NEWEST] {
        let arena = Arena::new(version).await;
        let flow = json!({"configureFlow": {"slug": "default-authenticator-sms-setup"}});
        arena.twilio("sms", flow).await;
        arena.is("sms", "True", "Available").await;
        arena
            .edit_stage("sms", json!({"configureFlow": {"slug": "none-such"}}))
            .await;
        arena.is("sms", "False", "FlowNotFound").await;
        arena.rotate("twilio", "auth-token", ROTATED).await;
        arena
            .holds("the rotated token", |state| {
                state
                    .stage_named("sms")
                    .filter(|stage| stage.auth == ROTATED)
                    .map(|_| ())
            })
            .await;
        let held = arena.sim.stage_named("sms").unwrap();
        assert!(
            held.configure_flow.is_some(),
            "{version}: what does not resolve is left as it is"
        );
        let stage = arena.get("sms").await;
        assert_eq!(ready(&stage).reason, "FlowNotFound", "{version}: and still told");

        // A flow that comes to be mends it.
        arena
            .sim
            .with(|state| state.add_flow("none-such", "stage_configuration"));
        arena.is("sms", "True", "Available").await;
    }
}

#[tokio::test]
async fn a_rotation_goes_through_while_another_field_is_refused() {
    let arena = Arena::new(READABLE).await;
    arena.twilio("sms", json!({})).await;
    arena.is("sms", "True", "Available").await;
    let body = json!({"from_number": ["Enter a valid phone number."]}).to_string();
    let refusal = Answer {
        body,
        ..Answer::json(400, "")
    };
    let seen = arena.writes().len();
    arena.sim.inject(Fault::on("PATCH", STAGES, What::Answer(refusal)));
    arena.secret("rotated", &[("auth-token", ROTATED)]).await;
    let edit = json!({"fromNumber": "wrong", "twilio": {"authTokenSecretRef": {"name": "rotated"}}});
    arena.edit_stage("sms", edit).await;
    arena
        .holds("the other token", |state| {
            state
                .stage_named("sms")
                .filter(|stage| stage.auth == ROTATED)
                .map(|_| ())
        })
        .await;
    let sent = arena.writes().split_off(seen);
    assert!(
        sent[0].body.get("from_number").is_some() && sent[0].body.get("auth").is_some(),
        "{sent:?}"
    );
    assert!(
        sent[1].body.get("from_number").is_none() && sent[1].body.get("auth").is_some(),
        "{sent:?}"
    );
    arena.is("sms", "True", "Available").await;
}

#[tokio::test]
async fn a_change_of_provider_sends_all_that_belongs_together() {
    for version in [OLDEST, NEWEST] {
        let arena = Arena::new(version).await;
        arena.secret("gateway", &[("password", "s3cret")]).await;
        arena.twilio("sms", json!({})).await;
        arena.is("sms", "True", "Available").await;
        let generic = json!({
            "provider": "generic", "twilio": null,
            "generic": {"url": "https://sms.example.com/send", "username": "sms",
                        "passwordSecretRef": {"name": "gateway", "key": "password"}},
        });
        arena.edit_stage("sms", generic).await;
        arena.is("sms", "True", "Available").await;
        let held = arena.sim.stage_named("sms").unwrap();
        let shown = (
            held.provider.as_str(),
            held.account_sid.as_str(),
            held.auth.as_str(),
            held.auth_password.as_str(),
        );
        assert_eq!(
            shown,
            ("generic", "https://sms.example.com/send", "sms", "s3cret"),
            "{version}"
        );
        let writes = arena.writes();
        assert_eq!(writes.len(), 2, "{version}: one create, one change: {writes:?}");
        let sent: Vec<_> = writes[1].body.as_object().unwrap().keys().map(String::as_str).collect();
        assert_eq!(
            sent,
            ["account_sid", "auth", "auth_password", "auth_type", "provider"],
            "{version}"
        );

        let twilio = json!({
            "provider": "twilio", "generic": null,
            "twilio": {"accountSid": SID, "authTokenSecretRef": {"name": "twilio", "key": "auth-token"}},
        });
        arena.edit_stage("sms", twilio).await;
        arena.is("sms", "True", "Available").await;
        let held = arena.sim.stage_named("sms").unwrap();
        assert_eq!(
            (held.auth.as_str(), held.auth_password.as_str()),
            (AUTH_TOKEN, ""),
            "{version}: nothing is left behind"
        );
    }
}

async fn force<K>(arena: &Arena, name: &str, value: &str)
where
    K: kube::Resource<Scope = kube::core::NamespaceResourceScope, DynamicType = ()>
        + Clone
        + serde::de::DeserializeOwned
        + std::fmt::Debug,
{
    let annotation: Value = json!({"metadata": {"annotations": {RECONCILE_ANNOTATION: value}}});
    arena.edit::<K>(name, annotation).await;
}

#[tokio::test]
async fn a_forced_round_is_acknowledged_and_sends_what_cannot_be_compared_once() {
    for (version, again) in [(READABLE, 0), (NEWEST, 1)] {
        let arena = Arena::new(version).await;
        arena.twilio("sms", json!({})).await;
        arena.is("sms", "True", "Available").await;
        let written = arena.writes().len();
        force::<AuthenticatorSMSStage>(&arena, "sms", "2026-11-25T00:00:00Z").await;
        arena
            .wait("sms", "acknowledge", |stage: Option<&AuthenticatorSMSStage>| {
                stage.is_some_and(|stage| {
                    status(stage).last_handled_reconcile_at.as_deref() == Some("2026-11-25T00:00:00Z")
                })
            })
            .await;
        arena.rounds(2).await;
        assert_eq!(arena.writes().len(), written + again, "{version}: {:?}", arena.writes());
        assert_eq!(ready(&arena.get("sms").await).status, "True");

        force::<AuthentikConnection>(&arena, "authentik", "once").await;
        arena
            .wait(
                "authentik",
                "acknowledge",
                |connection: Option<&AuthentikConnection>| {
                    let status = connection.and_then(|connection| connection.status.as_ref());
                    status.is_some_and(|status| status.last_handled_reconcile_at.as_deref() == Some("once"))
                },
            )
            .await;
    }
}

#[tokio::test]
async fn a_forced_round_is_acknowledged_though_it_fails() {
    let arena = Arena::new(READABLE).await;
    arena.twilio("sms", json!({})).await;
    arena.is("sms", "True", "Available").await;
    arena.sim.inject(Fault::every(What::Answer(Answer::html(503))));
    force::<AuthenticatorSMSStage>(&arena, "sms", "now").await;
    let failed = arena
        .wait("sms", "acknowledge", |stage: Option<&AuthenticatorSMSStage>| {
            stage.is_some_and(|stage| status(stage).last_handled_reconcile_at.as_deref() == Some("now"))
        })
        .await
        .unwrap();
    assert_eq!(ready(&failed).reason, "ServerError");
    assert!(message(&failed).contains("503"), "{}", message(&failed));
}

/// Panics once, when the reply to a create is there and nobody has looked at it yet.
struct Bug(AtomicBool);

impl Observer for Bug {
    fn called(&self, call: &Told) {
        let created = call.method == Method::Post;
        assert!(
            !created || !self.0.swap(false, Ordering::SeqCst),
            "a bug in the operator"
        );
    }
}

#[tokio::test]
async fn a_panic_in_one_pass_is_told_and_harms_nobody() {
    let mut arena = Arena::still(READABLE).await;
    arena.connect().await;
    let metrics = Arc::new(Metrics::new());
    let client = client(&arena.kubeconfig, &metrics).await;
    arena.start_observed(client, metrics, Arc::new(Bug(AtomicBool::new(true))));
    arena.run_clock();
    arena.twilio("sms", json!({})).await;
    let told = arena.is("sms", "False", "InternalError").await;
    assert!(status(&told).pending_create.is_some(), "the intent is not written over");
    assert!(arena.event("sms", "InternalError").await.contains("report it"));
    arena.twilio("other", json!({})).await;
    arena.is("other", "True", "Available").await;
    arena.is("sms", "True", "Available").await;
    assert_eq!(
        arena.sim.count("POST", STAGES),
        2,
        "one for each, and none again after the panic"
    );
    assert!(
        arena
            .metrics
            .encode()
            .contains("controller_runtime_reconcile_panics_total{controller=\"authenticatorsmsstage\"} 1")
    );
}
