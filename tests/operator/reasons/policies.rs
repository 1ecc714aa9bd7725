//! Reasons of resources that are not to be written.

use authentik_stage_operator::api::Reason;
use serde_json::json;

use super::{Connection, RECONCILING, STAGES, Stage, available, seen, shown, usable};
use crate::arena::{Arena, NEWEST, SID};

/// A stage that equals what the fixtures declare, but for credentials, which the newest server never tells.
fn equal(name: &str) -> authentik_sim::Stage {
    authentik_sim::Stage {
        account_sid: SID.to_owned(),
        from_number: "+15550100".to_owned(),
        ..authentik_sim::Stage::twilio(name)
    }
}

fn writes(arena: &Arena) -> usize {
    arena.sim.calls().iter().filter(|call| call.is_write()).count()
}

pub async fn an_observed_stage_that_equals_is_never_written(reason: Reason) {
    let arena = Arena::new(NEWEST).await;
    arena.sim.with(|state| state.add_stage(equal("sms")));
    arena.twilio("sms", json!({"managementPolicy": "Observe"})).await;
    let stage: Stage = seen(&arena, "sms", "True", reason, None, &["\"sms\"", "equals the spec"]).await;
    let status = stage.status.unwrap();
    assert_eq!(status.drift, []);
    assert_eq!(status.origin, None, "it is not ours");
    assert_eq!(writes(&arena), 0);
    arena.edit_stage("sms", json!({"managementPolicy": "Full"})).await;
    available(&arena, "sms").await;
    assert_eq!(
        arena.sim.count("POST", STAGES),
        0,
        "the stage that was observed is taken over"
    );
}

pub async fn an_observed_stage_that_differs_says_where(reason: Reason) {
    let arena = Arena::new(NEWEST).await;
    let pk = arena.sim.with(|state| state.add_stage(equal("sms")));
    arena.twilio("sms", json!({"managementPolicy": "Observe"})).await;
    let _: Stage = shown(&arena, "sms", "True", Reason::Observed, None, &[]).await;
    arena.sim.edit(pk, |stage| stage.from_number = "+15559999".into());
    let says = [
        "\"sms\"",
        "differs from the spec in from_number",
        "status.drift",
        "managementPolicy Full",
    ];
    let stage: Stage = seen(&arena, "sms", "True", reason, None, &says).await;
    let drift = &stage.status.unwrap().drift[0];
    assert_eq!(drift.desired.as_deref(), Some("+15550100"));
    assert_eq!(drift.observed.as_deref(), Some("+15559999"));
    assert_eq!(writes(&arena), 0);
    arena
        .edit_stage("sms", json!({"managementPolicy": "Full", "adoptionPolicy": "Always"}))
        .await;
    available(&arena, "sms").await;
    assert_eq!(arena.sim.stage_named("sms").unwrap().from_number, "+15550100");
}

pub async fn an_observed_stage_that_is_not_there_is_waited_for(reason: Reason) {
    let arena = Arena::new(NEWEST).await;
    arena.twilio("sms", json!({"managementPolicy": "Observe"})).await;
    let says = ["no SMS stage \"sms\"", "create it there", "managementPolicy to Full"];
    let _: Stage = seen(&arena, "sms", "False", reason, RECONCILING, &says).await;
    assert_eq!(writes(&arena), 0);
    let pk = arena.sim.with(|state| state.add_stage(equal("sms")));
    let _: Stage = shown(&arena, "sms", "True", Reason::Observed, None, &[]).await;
    arena.sim.remove(pk);
    let _: Stage = shown(&arena, "sms", "False", reason, RECONCILING, &says).await;
    arena.edit_stage("sms", json!({"managementPolicy": "Full"})).await;
    available(&arena, "sms").await;
}

pub async fn a_suspended_resource_says_whether_its_spec_is_applied(reason: Reason) {
    let arena = Arena::new(NEWEST).await;
    arena.twilio("fresh", json!({"suspend": true})).await;
    let says = [
        "hands off",
        "spec.suspend is set",
        "the stage is not applied",
        "set its spec.suspend to false",
    ];
    let _: Stage = seen(&arena, "fresh", "False", reason, None, &says).await;

    arena.twilio("sms", json!({})).await;
    available(&arena, "sms").await;
    arena.edit_stage("sms", json!({"suspend": true})).await;
    let says = ["hands off", "the spec is what was last applied"];
    let _: Stage = seen(&arena, "sms", "True", reason, None, &says).await;
    let calls = writes(&arena);
    arena.edit_stage("sms", json!({"fromNumber": "+15550199"})).await;
    let says = [
        "hands off",
        "spec.fromNumber is not applied",
        "set its spec.suspend to false",
    ];
    let _: Stage = seen(&arena, "sms", "False", reason, None, &says).await;
    assert_eq!(writes(&arena), calls, "hands off");

    for name in ["sms", "fresh"] {
        arena.edit_stage(name, json!({"suspend": false})).await;
        available(&arena, name).await;
    }
    assert_eq!(arena.sim.stage_named("sms").unwrap().from_number, "+15550199");
}

pub async fn a_suspended_connection_rests_with_its_stages(reason: Reason) {
    let arena = Arena::new(NEWEST).await;
    arena.twilio("sms", json!({})).await;
    available(&arena, "sms").await;
    arena.connection(json!({"suspend": true})).await;
    let _: Connection = seen(
        &arena,
        "authentik",
        "True",
        reason,
        None,
        &["rests", "spec.suspend is set"],
    )
    .await;
    let connection = format!("AuthentikConnection {}/authentik is suspended", arena.namespace);
    let says = [connection.as_str(), "the spec is what was last applied"];
    let _: Stage = seen(&arena, "sms", "True", reason, None, &says).await;
    arena.edit_stage("sms", json!({"fromNumber": "+15550199"})).await;
    // The remedy is the connection's, not this resource's.
    let says = [
        connection.as_str(),
        "spec.fromNumber is not applied",
        "the connection's spec.suspend to false",
    ];
    let _: Stage = seen(&arena, "sms", "False", reason, None, &says).await;
    arena.connection(json!({})).await;
    usable(&arena, "authentik").await;
    available(&arena, "sms").await;
    assert_eq!(arena.sim.stage_named("sms").unwrap().from_number, "+15550199");
}
