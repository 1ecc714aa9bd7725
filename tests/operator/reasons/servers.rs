//! Reasons of a server that cannot answer, or not write. On what is as declared they are no news for a minute.

use std::time::Duration;

use authentik_sim::{Answer, Fault, What};
use authentik_stage_operator::api::Reason;
use authentik_stage_operator::clock::Clock as _;
use serde_json::json;

use super::references::assert_a_minute_after;
use super::{Connection, RECONCILING, Stage, available, seen, shown, usable};
use crate::arena::{Arena, NEWEST};

/// A stage that is as declared keeps saying so for a minute of the trouble; then it, its connection and a resource that
/// was never applied tell of it.
async fn news_after_a_minute(
    reason: Reason,
    begin: impl AsyncFnOnce(&Arena),
    end: impl AsyncFnOnce(&Arena),
    says: &[&str],
) {
    let mut arena = Arena::new(NEWEST).await;
    arena.twilio("sms", json!({})).await;
    available(&arena, "sms").await;
    usable(&arena, "authentik").await;
    let connection = format!("AuthentikConnection {}/authentik", arena.namespace);
    let says = [&[connection.as_str(), "tries again"], says].concat();

    arena.stop_clock();
    let start = arena.clock.wall();
    begin(&arena).await;
    // Another version of the token is tried out at once; whatever is new tells of the trouble at once.
    arena.rotate("authentik-token", "touched", "just now").await;
    for (name, later) in [("fresh", 50), ("late", 0)] {
        arena.twilio(name, json!({})).await;
        let _: Stage = seen(&arena, name, "False", reason, RECONCILING, &says).await;
        arena.clock.advance(Duration::from_secs(later));
    }
    arena.run_clock();
    let stage: Stage = seen(&arena, "sms", "False", reason, RECONCILING, &says).await;
    assert_a_minute_after(start, &stage);
    let _: Connection = seen(&arena, "authentik", "False", reason, RECONCILING, &says).await;
    end(&arena).await;
    usable(&arena, "authentik").await;
    for name in ["sms", "fresh", "late"] {
        available(&arena, name).await;
    }
    assert_eq!(arena.sim.stages().len(), 3);
}

pub async fn a_server_that_is_down_is_news_after_a_minute(reason: Reason) {
    let begin = async |arena: &Arena| arena.sim.stop().await;
    let end = async |arena: &Arena| arena.sim.restart().await;
    news_after_a_minute(reason, begin, end, &["check that the server runs"]).await;
}

pub async fn a_server_that_fails_is_news_after_a_minute(reason: Reason) {
    let begin = async |arena: &Arena| arena.sim.inject(Fault::every(What::Answer(Answer::html(500))));
    let end = async |arena: &Arena| arena.sim.clear_faults();
    news_after_a_minute(reason, begin, end, &["failed with status 500", "authentik's log"]).await;
}

pub async fn a_server_that_starts_is_news_after_a_minute(reason: Reason) {
    let begin = async |arena: &Arena| arena.sim.set_starting(true);
    let end = async |arena: &Arena| arena.sim.set_starting(false);
    news_after_a_minute(reason, begin, end, &["starting"]).await;
}

pub async fn a_server_that_asks_for_a_pause_gets_it(reason: Reason) {
    let mut arena = Arena::still(NEWEST).await;
    arena.connect().await;
    arena.sim.inject(Fault::next(What::Answer(Answer::throttled(120))));
    arena.start().await;
    let connection = format!("AuthentikConnection {}/authentik", arena.namespace);
    let says = [
        connection.as_str(),
        "too many requests",
        "tries again when the server allows it",
    ];
    let _: Connection = seen(&arena, "authentik", "False", reason, RECONCILING, &says).await;
    arena.twilio("sms", json!({})).await;
    let _: Stage = seen(&arena, "sms", "False", reason, RECONCILING, &says).await;
    arena.clock.advance(Duration::from_secs(119));
    // Whatever is edited meanwhile waits like the rest.
    arena.edit_stage("sms", json!({"fromNumber": "+15550199"})).await;
    let _: Stage = shown(&arena, "sms", "False", reason, RECONCILING, &says).await;
    assert_eq!(
        arena.sim.count("", ""),
        1,
        "nobody asks before the time that the server named"
    );
    arena.clock.advance(Duration::from_secs(2));
    usable(&arena, "authentik").await;
    arena.run_clock();
    available(&arena, "sms").await;
}

pub async fn a_pause_is_news_after_a_minute(reason: Reason) {
    let begin = async |arena: &Arena| arena.sim.inject(Fault::every(What::Answer(Answer::throttled(10))));
    let end = async |arena: &Arena| arena.sim.clear_faults();
    news_after_a_minute(reason, begin, end, &["too many requests", "when the server allows it"]).await;
}

pub async fn a_server_without_a_licence_is_news_where_something_is_to_be_written(reason: Reason) {
    let arena = Arena::new(NEWEST).await;
    arena.twilio("sms", json!({})).await;
    available(&arena, "sms").await;
    arena.sim.set_read_only(true);
    arena.twilio("fresh", json!({})).await;
    let connection = format!("AuthentikConnection {}/authentik", arena.namespace);
    let says = [
        connection.as_str(),
        "create stage \"fresh\"",
        "licence has expired",
        "renew the licence",
        "tries again",
    ];
    let _: Stage = seen(&arena, "fresh", "False", reason, RECONCILING, &says).await;
    // What was never applied is news at once, and a correction after a minute.
    arena.edit_stage("sms", json!({"friendlyName": "Text message"})).await;
    let pk = arena.sim.stage_named("sms").unwrap().pk.to_string();
    let says = [connection.as_str(), "change stage", &pk, "renew the licence"];
    let _: Stage = seen(&arena, "sms", "False", reason, RECONCILING, &says).await;
    usable(&arena, "authentik").await;
    arena.sim.set_read_only(false);
    available(&arena, "sms").await;
    available(&arena, "fresh").await;

    arena.sim.set_read_only(true);
    let start = arena.clock.wall();
    let pk = arena.sim.stage_named("sms").unwrap().pk;
    arena.sim.edit(pk, |stage| stage.from_number = "+15559999".into());
    let stage: Stage = shown(&arena, "sms", "False", reason, RECONCILING, &says).await;
    assert_a_minute_after(start, &stage);
    arena.sim.set_read_only(false);
    available(&arena, "sms").await;
    assert_eq!(arena.sim.stages().len(), 2);
}
