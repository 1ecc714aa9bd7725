//! Whose a stage is: adoption, rivals for one name, renames.

use authentik_sim::{Fault, Stage, What};
use authentik_stage_operator::api::{AuthenticatorSMSStage, AuthenticatorSMSStageStatus, Origin};
use kube::ResourceExt;
use serde_json::{Value, json};

use crate::arena::{AUTH_TOKEN, Arena, NEWEST, OLDEST, READABLE, SID, message};

/// A stage that somebody made by hand, equal to what [`Arena::twilio`] asks in all that shows, its credentials aside.
fn by_hand(name: &str) -> Stage {
    Stage {
        from_number: "+15550100".to_owned(),
        account_sid: SID.to_owned(),
        auth: "of somebody else".to_owned(),
        ..Stage::twilio(name)
    }
}

fn status(stage: &AuthenticatorSMSStage) -> &AuthenticatorSMSStageStatus {
    stage.status.as_ref().unwrap()
}

fn origin(stage: &AuthenticatorSMSStage) -> Option<Origin> {
    status(stage).origin
}

fn shown_pk(stage: &AuthenticatorSMSStage) -> Option<&str> {
    status(stage).stage.as_ref().map(|stage| stage.pk.as_str())
}

fn has(stage: &AuthenticatorSMSStage, condition: &str) -> bool {
    status(stage)
        .conditions
        .iter()
        .any(|found| found.type_ == condition && found.status == "True")
}

fn differing(stage: &AuthenticatorSMSStage) -> Vec<&str> {
    status(stage).drift.iter().map(|drift| drift.field.as_str()).collect()
}

/// Waits until a resource that owns nothing can be deleted at once.
async fn unhindered(arena: &Arena, name: &str) {
    let free = |stage: Option<&AuthenticatorSMSStage>| stage.is_some_and(|stage| stage.finalizers().is_empty());
    arena.wait(name, "have no finalizer", free).await;
}

/// An arena whose authentik has a stage made by hand, and a resource of its name.
async fn beside(version: &str, stage: Stage, spec: Value) -> Arena {
    let arena = Arena::new(version).await;
    let name = stage.name.clone();
    arena.sim.with(|state| state.add_stage(stage));
    arena.twilio(&name, spec).await;
    arena
}

#[tokio::test]
async fn never_takes_nothing_over() {
    let stage = by_hand("sms");
    let arena = beside(READABLE, stage.clone(), json!({"adoptionPolicy": "Never"})).await;
    let refused = arena.is("sms", "False", "NameConflict").await;
    assert!(has(&refused, "Stalled"), "only an edit of the resource helps");
    let message = message(&refused);
    assert!(
        message.contains("\"sms\"") && message.contains("adoptionPolicy"),
        "{message}"
    );
    assert_eq!(shown_pk(&refused), None, "a stage of somebody else is nobody's to read");
    assert_eq!(origin(&refused), None);
    unhindered(&arena, "sms").await;
    arena.rounds(2).await;
    assert_eq!(arena.sim.stages(), [stage]);
    assert!(arena.writes().is_empty(), "{:?}", arena.writes());
}

#[tokio::test]
async fn an_equal_stage_is_taken_over_and_given_the_credentials() {
    for version in [OLDEST, READABLE, NEWEST] {
        // Twilio makes no use of the type, so it says nothing about whose the stage is.
        let stage = Stage {
            auth_type: "bearer".to_owned(),
            ..by_hand("sms")
        };
        let arena = beside(version, stage.clone(), json!({})).await;
        let adopted = arena.is("sms", "True", "Available").await;
        assert_eq!(origin(&adopted), Some(Origin::Adopted), "{version}");
        assert_eq!(shown_pk(&adopted), Some(stage.pk.to_string().as_str()));
        assert!(!adopted.finalizers().is_empty());
        assert_eq!(arena.sim.count("POST", ""), 0, "{version}: nothing is created");
        let held = arena.sim.stage_named("sms").unwrap();
        assert_eq!(held.auth, AUTH_TOKEN, "{version}: also where it cannot be compared");
        assert_eq!(
            held.auth_type, "basic",
            "{version}: what nobody uses is held at its default"
        );
        assert_eq!(arena.writes().len(), 1, "{version}: {:?}", arena.writes());
        arena.rounds(2).await;
        assert_eq!(arena.writes().len(), 1, "{version}: silent once it is done");
    }
}

#[tokio::test]
async fn a_stage_that_hides_its_credentials_is_sent_them_once_it_is_adopted() {
    let arena = beside(NEWEST, by_hand("sms"), json!({})).await;
    arena.is("sms", "True", "Available").await;
    assert_eq!(arena.sim.stage_named("sms").unwrap().auth, AUTH_TOKEN);
    let writes = arena.writes();
    assert_eq!(writes.len(), 1, "{writes:?}");
    let sent: Vec<_> = writes[0].body.as_object().unwrap().keys().collect();
    assert_eq!(sent, ["auth", "auth_password"], "and nothing that does not differ");
}

#[tokio::test]
async fn a_stage_that_differs_is_refused_by_if_match_and_taken_over_by_always() {
    let stage = Stage {
        from_number: "+15559999".to_owned(),
        verify_only: true,
        ..by_hand("sms")
    };
    let arena = beside(READABLE, stage.clone(), json!({})).await;
    let refused = arena.is("sms", "False", "NameConflict").await;
    let text = message(&refused);
    assert!(text.contains("from_number") && text.contains("verify_only"), "{text}");
    assert!(text.contains("Always"), "{text}");
    assert!(
        !text.contains("+15559999"),
        "no values of somebody else's stage: {text}"
    );
    assert!(
        status(&refused)
            .drift
            .iter()
            .all(|d| d.desired.is_none() && d.observed.is_none())
    );
    assert!(differing(&refused).contains(&"from_number"));
    assert_eq!(arena.sim.stages(), std::slice::from_ref(&stage));

    arena.edit_stage("sms", json!({"adoptionPolicy": "Always"})).await;
    let adopted = arena.is("sms", "True", "Available").await;
    assert_eq!(origin(&adopted), Some(Origin::Adopted));
    let held = arena.sim.stage_named("sms").unwrap();
    assert_eq!(
        (held.pk, held.from_number.as_str(), held.verify_only),
        (stage.pk, "+15550100", false)
    );
    assert!(differing(&adopted).is_empty());
}

#[tokio::test]
async fn a_stage_that_is_made_equal_later_is_taken_over_without_an_edit() {
    let stage = Stage {
        from_number: "+15559999".to_owned(),
        ..by_hand("sms")
    };
    let arena = beside(READABLE, stage.clone(), json!({})).await;
    arena.is("sms", "False", "NameConflict").await;
    arena
        .sim
        .edit(stage.pk, |stage| stage.from_number = "+15550100".to_owned());
    let adopted = arena.is("sms", "True", "Available").await;
    assert_eq!(origin(&adopted), Some(Origin::Adopted));
}

#[tokio::test]
async fn an_adopted_stage_outlives_its_resource_unless_the_spec_says_otherwise() {
    let arena = beside(READABLE, by_hand("sms"), json!({})).await;
    arena.sim.with(|state| state.add_stage(by_hand("doomed")));
    arena.twilio("doomed", json!({"deletionPolicy": "Delete"})).await;
    for name in ["sms", "doomed"] {
        arena.is(name, "True", "Available").await;
        arena.delete(name).await;
        arena.gone(name).await;
    }
    assert!(
        arena.sim.stage_named("sms").is_some(),
        "unset means Orphan for what was adopted"
    );
    assert!(arena.sim.stage_named("doomed").is_none());
}

#[tokio::test]
async fn to_begin_to_manage_an_observed_stage_is_an_adoption() {
    let stage = Stage {
        from_number: "+15559999".to_owned(),
        ..by_hand("sms")
    };
    let arena = beside(READABLE, stage.clone(), json!({"managementPolicy": "Observe"})).await;
    let observed = arena.is("sms", "True", "DriftDetected").await;
    assert_eq!(shown_pk(&observed), Some(stage.pk.to_string().as_str()));
    assert_eq!(origin(&observed), None, "to look at a stage is not to own it");
    assert!(observed.finalizers().is_empty());
    assert!(differing(&observed).contains(&"from_number"));

    arena
        .edit_stage("sms", json!({"managementPolicy": "Full", "adoptionPolicy": "Never"}))
        .await;
    let refused = arena.is("sms", "False", "NameConflict").await;
    assert_eq!(shown_pk(&refused), None);
    arena.edit_stage("sms", json!({"adoptionPolicy": "IfMatch"})).await;
    arena.is("sms", "False", "NameConflict").await;
    assert_eq!(
        arena.sim.stages(),
        std::slice::from_ref(&stage),
        "nothing has been written yet"
    );
    arena.edit_stage("sms", json!({"adoptionPolicy": "Always"})).await;
    let adopted = arena.is("sms", "True", "Available").await;
    assert_eq!(origin(&adopted), Some(Origin::Adopted));
    assert_eq!(arena.sim.stage_named("sms").unwrap().from_number, "+15550100");
}

#[tokio::test]
async fn of_two_new_resources_for_one_name_the_older_has_it() {
    let mut arena = Arena::still(READABLE).await;
    arena.connect().await;
    for resource in ["one", "two"] {
        arena.twilio(resource, json!({"name": "shared"})).await;
    }
    let claim = |stage: &AuthenticatorSMSStage| (stage.creation_timestamp(), stage.uid());
    let (one, two) = (arena.get("one").await, arena.get("two").await);
    let (winner, loser) = if claim(&one) < claim(&two) {
        ("one", "two")
    } else {
        ("two", "one")
    };
    arena.start().await;
    arena.run_clock();
    let won = arena.is(winner, "True", "Available").await;
    let lost = arena.is(loser, "False", "NameConflict").await;
    assert!(
        message(&lost).contains(&format!("{}/{winner}", arena.namespace)),
        "{}",
        message(&lost)
    );
    assert!(has(&lost, "Stalled"));
    unhindered(&arena, loser).await;
    assert_eq!(arena.sim.count("POST", ""), 1);

    // While the winner leaves, waiting helps.
    let pk = arena.sim.stage_named("shared").unwrap().pk;
    let device = arena.sim.with(|state| state.enrol(pk, "+15551234"));
    arena.delete(winner).await;
    arena.is(winner, "False", "DeletionBlocked").await;
    arena
        .wait(loser, "be reconciling", |stage: Option<&AuthenticatorSMSStage>| {
            stage.is_some_and(|stage| has(stage, "Reconciling"))
        })
        .await;
    arena.sim.with(|state| state.remove_device(device));
    arena.gone(winner).await;
    let second = arena.is(loser, "True", "Available").await;
    assert_eq!(origin(&second), Some(Origin::Created));
    assert_ne!(shown_pk(&second), shown_pk(&won), "the winner's stage went with it");
    assert_eq!(arena.sim.stages().len(), 1);
}

#[tokio::test]
async fn whoever_has_the_stage_keeps_it_from_an_older_resource() {
    let arena = Arena::new(READABLE).await;
    arena.twilio("old", json!({"suspend": true, "name": "shared"})).await;
    arena.is("old", "False", "Suspended").await;
    arena.twilio("young", json!({"name": "shared"})).await;
    let young = arena.is("young", "True", "Available").await;
    arena
        .edit_stage("old", json!({"suspend": false, "adoptionPolicy": "Always"}))
        .await;
    let old = arena.is("old", "False", "NameConflict").await;
    assert!(message(&old).contains("/young"), "{}", message(&old));
    arena.rounds(2).await;
    assert_eq!(
        arena.writes().len(),
        1,
        "the create of the younger: {:?}",
        arena.writes()
    );
    assert_eq!(shown_pk(&arena.get("young").await), shown_pk(&young));
}

/// A second connection to the same server.
async fn second_connection(arena: &Arena) {
    let spec = json!({
        "url": arena.sim.url(), "allowInsecureHTTP": true,
        "tokenSecretRef": {"name": "authentik-token", "key": "token"},
    });
    arena.apply("AuthentikConnection", "second", spec).await;
}

#[tokio::test]
async fn a_stage_has_one_owner_over_two_connections_to_its_server() {
    let arena = Arena::new(READABLE).await;
    second_connection(&arena).await;
    arena.connection_is("second", "True", "Available").await;
    arena.twilio("sms", json!({})).await;
    arena.is("sms", "True", "Available").await;
    let rival =
        json!({"name": "sms", "connectionRef": {"name": "second"}, "adoptionPolicy": "Always", "fromNumber": "+1666"});
    arena.twilio("rival", rival).await;
    let refused = arena.is("rival", "False", "NameConflict").await;
    assert!(message(&refused).contains("/sms"), "{}", message(&refused));
    arena.rounds(4).await;
    assert_eq!(arena.sim.stage_named("sms").unwrap().from_number, "+15550100");
    assert_eq!(arena.writes().len(), 1, "no write is fought over: {:?}", arena.writes());

    arena.edit_stage("sms", json!({"deletionPolicy": "Orphan"})).await;
    arena.delete("sms").await;
    arena.gone("sms").await;
    let adopted = arena.is("rival", "True", "Available").await;
    assert_eq!(origin(&adopted), Some(Origin::Adopted));
    assert_eq!(arena.sim.stage_named("sms").unwrap().from_number, "+1666");
}

#[tokio::test]
async fn of_two_that_would_take_over_one_stage_through_two_connections_one_does() {
    let mut arena = Arena::still(READABLE).await;
    arena.connect().await;
    second_connection(&arena).await;
    let stage = by_hand("shared");
    arena.sim.with(|state| state.add_stage(stage.clone()));
    let spec = |connection: &str, number: &str| json!({"name": "shared", "connectionRef": {"name": connection}, "adoptionPolicy": "Always", "fromNumber": number});
    arena.twilio("one", spec("authentik", "+1111")).await;
    arena.twilio("two", spec("second", "+1222")).await;
    arena.start().await;
    arena.run_clock();
    let claim = |stage: &AuthenticatorSMSStage| (stage.creation_timestamp(), stage.uid());
    let (one, two) = (arena.get("one").await, arena.get("two").await);
    let (winner, loser) = if claim(&one) < claim(&two) {
        ("one", "two")
    } else {
        ("two", "one")
    };
    arena.is(winner, "True", "Available").await;
    arena.is(loser, "False", "NameConflict").await;
    arena.rounds(4).await;
    assert_eq!(arena.writes().len(), 1, "{:?}", arena.writes());
}

#[tokio::test]
async fn the_name_of_a_stage_of_another_type_cannot_be_had() {
    let arena = Arena::new(READABLE).await;
    let other = arena
        .sim
        .with(|state| state.add_other_stage("sms", "authentik_stages_user_login.userloginstage"));
    arena.twilio("sms", json!({"adoptionPolicy": "Always"})).await;
    let refused = arena.is("sms", "False", "NameConflict").await;
    let text = message(&refused);
    assert!(
        text.contains("authentik_stages_user_login.userloginstage") && text.contains("choose another name"),
        "{text}"
    );
    unhindered(&arena, "sms").await;
    assert!(
        status(&refused).pending_create.is_none(),
        "a clean refusal proves that nothing was created"
    );
    assert!(arena.sim.stages().is_empty());

    arena.rounds(2).await;
    assert_eq!(
        arena.sim.count("POST", ""),
        1,
        "what is known to be taken is not asked for by a create again"
    );

    arena.sim.with(|state| state.remove_other_stage(other));
    arena.is("sms", "True", "Available").await;
    assert_eq!(arena.sim.stages().len(), 1);
}

#[tokio::test]
async fn a_rename_keeps_the_stage() {
    for version in [OLDEST, NEWEST] {
        let arena = Arena::new(version).await;
        arena.twilio("sms", json!({})).await;
        let before = arena.is("sms", "True", "Available").await;
        let device = arena.sim.with(|state| {
            let pk = state.stage_named("sms").unwrap().pk;
            state.enrol(pk, "+15551234")
        });
        arena.edit_stage("sms", json!({"name": "Text message"})).await;
        let after = arena.is("sms", "True", "Available").await;
        assert_eq!(shown_pk(&before), shown_pk(&after), "{version}");
        assert_eq!(arena.sim.stages().len(), 1);
        assert_eq!(arena.sim.stages()[0].name, "Text message");
        assert!(
            arena.sim.devices().iter().any(|found| found.pk == device),
            "{version}: devices stay"
        );
        assert_eq!(status(&after).stage.as_ref().unwrap().name, "Text message");
    }
}

#[tokio::test]
async fn a_name_that_is_taken_holds_back_the_name_alone() {
    for version in [READABLE, NEWEST] {
        let arena = Arena::new(version).await;
        let foreign = by_hand("taken");
        arena.sim.with(|state| state.add_stage(foreign.clone()));
        arena.twilio("sms", json!({})).await;
        let before = arena.is("sms", "True", "Available").await;
        arena
            .edit_stage("sms", json!({"name": "taken", "fromNumber": "+1777"}))
            .await;
        let held = arena.is("sms", "False", "NameConflict").await;
        assert!(message(&held).contains("\"taken\""), "{}", message(&held));
        assert_eq!(shown_pk(&held), shown_pk(&before));
        assert_eq!(differing(&held), ["name"], "{version}: all else is as declared");
        assert_eq!(arena.sim.stage_named("sms").unwrap().from_number, "+1777");

        arena
            .rotate("twilio", "auth-token", "fedcba9876543210fedcba9876543210")
            .await;
        arena
            .holds("the rotated token", |state| {
                state
                    .stage_named("sms")
                    .filter(|stage| stage.auth.starts_with("fedcba"))
                    .map(|_| ())
            })
            .await;
        assert_eq!(
            arena.sim.stage_named("taken").as_ref(),
            Some(&foreign),
            "{version}: untouched"
        );

        arena.sim.remove(foreign.pk);
        let renamed = arena.is("sms", "True", "Available").await;
        assert_eq!(shown_pk(&renamed), shown_pk(&before));
        assert_eq!(arena.sim.stages().len(), 1);
    }
}

#[tokio::test]
async fn a_name_that_another_resource_has_holds_back_the_name_alone() {
    let arena = Arena::new(READABLE).await;
    for name in ["sms", "other"] {
        arena.twilio(name, json!({})).await;
        arena.is(name, "True", "Available").await;
    }
    arena
        .edit_stage("sms", json!({"name": "other", "fromNumber": "+1777"}))
        .await;
    let held = arena.is("sms", "False", "NameConflict").await;
    assert!(message(&held).contains("/other"), "{}", message(&held));
    assert_eq!(arena.sim.stage_named("sms").unwrap().from_number, "+1777");
    arena
        .rotate("twilio", "auth-token", "fedcba9876543210fedcba9876543210")
        .await;
    arena
        .holds("the rotated token on both", |state| {
            state
                .stages()
                .iter()
                .all(|stage| stage.auth.starts_with("fedcba"))
                .then_some(())
        })
        .await;
    arena.is("other", "True", "Available").await;

    arena.delete("other").await;
    arena.gone("other").await;
    arena.is("sms", "True", "Available").await;
    assert_eq!(arena.sim.stages().len(), 1);
    assert_eq!(arena.sim.stages()[0].name, "other");
}

#[tokio::test]
async fn a_name_that_another_resource_waits_for_is_restored_to_its_stage() {
    let arena = Arena::new(READABLE).await;
    for name in ["waiting", "sms"] {
        arena.twilio(name, json!({})).await;
        arena.is(name, "True", "Available").await;
    }
    arena.edit_stage("waiting", json!({"name": "sms"})).await;
    arena.is("waiting", "False", "NameConflict").await;
    let pk = arena.sim.stage_named("sms").unwrap().pk;
    arena.sim.edit(pk, |stage| stage.name = "by hand".to_owned());
    arena
        .holds("the name of the spec", |state| {
            state.stage_named("sms").filter(|stage| stage.pk == pk).map(|_| ())
        })
        .await;
    arena.rounds(2).await;
    arena.is("sms", "True", "Available").await;
    arena.is("waiting", "False", "NameConflict").await;
}

#[tokio::test]
async fn two_that_are_renamed_to_one_free_name_do_not_wait_for_each_other() {
    let arena = Arena::new(READABLE).await;
    for name in ["one", "two"] {
        arena.twilio(name, json!({})).await;
        arena.is(name, "True", "Available").await;
    }
    for name in ["one", "two"] {
        arena.edit_stage(name, json!({"name": "free"})).await;
    }
    let renamed = arena
        .holds("the new name", |state| {
            state.stage_named("free").map(|stage| stage.pk.to_string())
        })
        .await;
    let (winner, loser) = if shown_pk(&arena.get("one").await) == Some(&renamed) {
        ("one", "two")
    } else {
        ("two", "one")
    };
    arena.is(winner, "True", "Available").await;
    arena.is(loser, "False", "NameConflict").await;
}

#[tokio::test]
async fn two_that_swap_their_names_wait_until_one_steps_aside() {
    let arena = Arena::new(READABLE).await;
    for name in ["one", "two"] {
        arena.twilio(name, json!({})).await;
        arena.is(name, "True", "Available").await;
    }
    let pk = |name: &str| arena.sim.stage_named(name).unwrap().pk;
    let (one, two) = (pk("one"), pk("two"));
    arena.edit_stage("one", json!({"name": "two"})).await;
    arena.edit_stage("two", json!({"name": "one"})).await;
    arena.is("one", "False", "NameConflict").await;
    arena.is("two", "False", "NameConflict").await;
    arena.rounds(2).await;
    assert_eq!((pk("one"), pk("two")), (one, two), "neither takes the other's stage");

    arena.edit_stage("one", json!({"name": "aside"})).await;
    arena.is("one", "True", "Available").await;
    arena.is("two", "True", "Available").await;
    assert_eq!((pk("aside"), pk("one")), (one, two));
    arena.edit_stage("one", json!({"name": "two"})).await;
    arena.is("one", "True", "Available").await;
    assert_eq!((pk("two"), pk("one")), (one, two));
}

/// Somebody creates a stage of the name between our look and our POST; authentik's own check has passed by then, so
/// that the database refuses and the server crashes.
async fn lost_race(version: &str, foreign: Stage) -> Arena {
    let mut arena = Arena::still(version).await;
    arena.connect().await;
    let mut other = Some(foreign);
    arena.sim.on_call(move |call, state| {
        if call.method == "POST"
            && let Some(stage) = other.take()
        {
            state.add_stage(stage);
        }
    });
    arena
        .sim
        .inject(Fault::on("POST", "/stages/authenticator/sms/", What::Crash));
    arena.twilio("sms", json!({})).await;
    arena.start().await;
    arena.run_clock();
    arena
}

#[tokio::test]
async fn a_race_for_a_name_that_crashes_the_server_ends_in_a_conflict() {
    for version in [OLDEST, NEWEST] {
        let foreign = Stage {
            from_number: "+15559999".to_owned(),
            ..by_hand("sms")
        };
        let arena = lost_race(version, foreign.clone()).await;
        let refused = arena.is("sms", "False", "NameConflict").await;
        assert!(
            status(&refused).pending_create.is_none(),
            "{version}: the intent came to nothing"
        );
        unhindered(&arena, "sms").await;
        arena.rounds(2).await;
        assert_eq!(arena.sim.stages(), [foreign], "{version}");
    }
}

#[tokio::test]
async fn the_audit_log_tells_an_equal_stage_of_somebody_else_from_ours() {
    for version in [OLDEST, NEWEST] {
        let arena = lost_race(version, by_hand("sms")).await;
        let adopted = arena.is("sms", "True", "Available").await;
        assert_eq!(
            origin(&adopted),
            Some(Origin::Adopted),
            "{version}: it was not we who created it"
        );
        assert_eq!(arena.sim.stages().len(), 1);
    }
}
