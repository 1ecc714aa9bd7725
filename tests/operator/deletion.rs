//! The end of a resource: what it takes along, what blocks it and how it says so, and that it ends.

use authentik_sim::{Sim, Stage};
use authentik_stage_operator::api::{
    AuthenticatorSMSStage, AuthentikConnection, Dependent, Origin, RECONCILE_ANNOTATION, STAGE_FINALIZER,
};
use k8s_openapi::api::core::v1::Secret;
use kube::ResourceExt;
use kube::api::DeleteParams;
use serde_json::{Value, json};
use uuid::Uuid;

use crate::arena::{Arena, NEWEST, OLDEST, READABLE, RIGHTS, SID, VIEW_DEVICES, VIEW_VALIDATE, message};

/// The last line of releases that delete users' devices with their stage.
const UNPROTECTING: &str = "2025.10.0";

/// An arena in which resource `sms` has a stage.
async fn managed(version: &str, spec: Value) -> (Arena, Uuid) {
    let arena = Arena::new(version).await;
    arena.twilio("sms", spec).await;
    arena.is("sms", "True", "Available").await;
    let pk = arena.sim.stage_named("sms").unwrap().pk;
    (arena, pk)
}

fn dependents(stage: &AuthenticatorSMSStage) -> &[Dependent] {
    &stage.status.as_ref().unwrap().dependents
}

fn is_stalled(stage: &AuthenticatorSMSStage) -> bool {
    stage
        .status
        .as_ref()
        .unwrap()
        .conditions
        .iter()
        .any(|condition| condition.type_ == "Stalled")
}

async fn edit_connection(arena: &Arena, spec: Value) {
    arena
        .edit::<AuthentikConnection>("authentik", json!({"spec": spec}))
        .await;
}

#[tokio::test]
async fn the_policies_do_to_a_stage_with_devices_what_they_say() {
    for version in [UNPROTECTING, NEWEST] {
        for (policy, ends, stage_stays) in [
            ("Delete", false, true),
            ("Orphan", true, true),
            ("ForceDelete", true, false),
        ] {
            let case = format!("{version}, {policy}");
            let (arena, pk) = managed(version, json!({"deletionPolicy": policy})).await;
            arena.sim.with(|state| state.enrol(pk, "+15551234"));
            arena.delete("sms").await;
            if ends {
                arena.gone("sms").await;
            } else {
                let blocked = arena.is("sms", "False", "DeletionBlocked").await;
                let [devices] = dependents(&blocked) else {
                    panic!("{case}: {:?}", dependents(&blocked))
                };
                assert_eq!((devices.kind.as_str(), devices.count), ("devices", 1), "{case}");
                assert!(
                    devices.names.is_empty(),
                    "{case}: names of devices are users' own words"
                );
                assert!(
                    message(&blocked).contains("1 enrolled device"),
                    "{case}: {}",
                    message(&blocked)
                );
                arena.rounds(2).await;
            }
            assert_eq!(arena.sim.stages().len(), usize::from(stage_stays), "{case}");
            assert_eq!(arena.sim.devices().len(), usize::from(stage_stays), "{case}");
        }
    }
}

#[tokio::test]
async fn a_blocked_deletion_goes_on_once_nothing_depends_on_the_stage() {
    for version in [UNPROTECTING, NEWEST] {
        let (arena, pk) = managed(version, json!({})).await;
        let (device, validate, binding) = arena.sim.with(|state| {
            let login = state.flow("default-authentication-flow").unwrap().pk;
            let setup = state.flow("default-authenticator-sms-setup").unwrap().pk;
            // What only configures the stage goes with it without harm.
            state.add_binding(setup, pk, 0);
            (
                state.enrol(pk, "+15551234"),
                state.add_validate_stage("second factor", &[pk], &["sms"]),
                state.add_binding(login, pk, 40),
            )
        });
        arena.delete("sms").await;
        let blocked = arena.is("sms", "False", "DeletionBlocked").await;
        let found: Vec<_> = dependents(&blocked)
            .iter()
            .map(|found| (found.kind.as_str(), found.count, found.names.as_slice()))
            .collect();
        let flows = ["default-authentication-flow".to_owned()];
        let stages = ["second factor".to_owned()];
        let expected = [
            ("devices", 1, &[][..]),
            ("bindings", 1, &flows[..]),
            ("validateStages", 1, &stages[..]),
        ];
        assert_eq!(found, expected, "{version}");
        let text = message(&blocked);
        for part in [
            "1 enrolled device",
            "default-authentication-flow",
            "second factor",
            "Orphan",
            "ForceDelete",
        ] {
            assert!(text.contains(part), "{version}: {text}");
        }
        assert!(!text.contains("default-authenticator-sms-setup"), "{version}: {text}");
        assert!(
            !is_stalled(&blocked),
            "{version}: authentik can be mended, so it is no failure for good"
        );
        arena.event("sms", "DeletionBlocked").await;

        arena.sim.with(|state| {
            state.remove_device(device);
            state.edit_validate_stage(validate, |stage| stage.configuration_stages.clear());
            state.remove_binding(binding);
        });
        arena.gone("sms").await;
        assert!(arena.sim.stages().is_empty(), "{version}");
    }
}

#[tokio::test]
async fn each_kind_of_dependent_blocks_by_itself() {
    let (arena, pk) = managed(READABLE, json!({})).await;
    let validate = arena
        .sim
        .with(|state| state.add_validate_stage("second factor", &[pk], &["sms"]));
    arena.delete("sms").await;
    let blocked = |kind: &'static str| {
        move |stage: Option<&AuthenticatorSMSStage>| {
            stage.is_some_and(|stage| matches!(dependents(stage), [only] if only.kind == kind))
        }
    };
    arena
        .wait("sms", "be blocked by a validation stage", blocked("validateStages"))
        .await;
    arena.sim.with(|state| {
        let login = state.flow("default-authentication-flow").unwrap().pk;
        state.add_binding(login, pk, 40)
    });
    let by_both = |stage: Option<&AuthenticatorSMSStage>| stage.is_some_and(|stage| dependents(stage).len() == 2);
    arena.wait("sms", "be blocked by both", by_both).await;
    arena.sim.with(|state| state.remove_other_stage(validate));
    arena.wait("sms", "be blocked by a binding", blocked("bindings")).await;
    assert_eq!(arena.sim.stages().len(), 1);
}

#[tokio::test]
async fn the_policy_can_be_changed_while_the_deletion_is_blocked() {
    for (policy, stage_stays) in [("Orphan", true), ("ForceDelete", false)] {
        let (arena, pk) = managed(READABLE, json!({})).await;
        arena.sim.with(|state| state.enrol(pk, "+15551234"));
        arena.delete("sms").await;
        arena.is("sms", "False", "DeletionBlocked").await;
        arena.edit_stage("sms", json!({"deletionPolicy": policy})).await;
        arena.gone("sms").await;
        assert_eq!(arena.sim.stages().len(), usize::from(stage_stays), "{policy}");
    }
}

#[tokio::test]
async fn a_token_that_cannot_see_what_depends_on_a_stage_blocks_with_the_permissions_name() {
    for (version, hidden) in [
        (UNPROTECTING, VIEW_DEVICES),
        (UNPROTECTING, VIEW_VALIDATE),
        (NEWEST, VIEW_VALIDATE),
    ] {
        let mut arena = Arena::still(version).await;
        let rights: Vec<_> = RIGHTS.into_iter().filter(|right| *right != hidden).collect();
        let token = arena.sim.add_token("operator", &rights, false);
        arena.secret("authentik-token", &[("token", &token)]).await;
        arena.connection(json!({})).await;
        arena.start().await;
        arena.run_clock();
        arena.twilio("sms", json!({})).await;
        arena.is("sms", "True", "Available").await;
        let missing = |connection: Option<&AuthentikConnection>| {
            let status = connection.and_then(|connection| connection.status.as_ref());
            status.is_some_and(|status| status.missing_permissions == [hidden])
        };
        arena.wait("authentik", "name the missing permission", missing).await;

        arena.delete("sms").await;
        let blocked = arena.is("sms", "False", "DeletionBlocked").await;
        assert!(message(&blocked).contains(hidden), "{version}: {}", message(&blocked));
        assert!(message(&blocked).contains("Orphan"), "{version}: {}", message(&blocked));
        assert_eq!(arena.sim.count("DELETE", ""), 0, "{version}: nothing is deleted unseen");

        arena.sim.set_permissions(&token, &RIGHTS);
        arena.gone("sms").await;
        assert!(arena.sim.stages().is_empty());
    }
}

#[tokio::test]
async fn old_servers_show_devices_to_superusers_only_and_the_message_says_so() {
    let mut arena = Arena::still(OLDEST).await;
    arena.connect_with_rights(&RIGHTS).await;
    arena.start().await;
    arena.run_clock();
    arena.twilio("sms", json!({})).await;
    arena.is("sms", "True", "Available").await;
    arena.delete("sms").await;
    let blocked = arena.is("sms", "False", "DeletionBlocked").await;
    assert!(
        message(&blocked).contains("a superuser's token"),
        "{}",
        message(&blocked)
    );
    arena
        .secret("authentik-token", &[("token", arena.sim.admin_token())])
        .await;
    arena.gone("sms").await;
    assert!(arena.sim.stages().is_empty());
}

#[tokio::test]
async fn devices_that_the_token_cannot_see_are_named_where_the_server_protects_them() {
    let mut arena = Arena::still(NEWEST).await;
    let rights: Vec<_> = RIGHTS.into_iter().filter(|right| *right != VIEW_DEVICES).collect();
    let token = arena.sim.add_token("operator", &rights, false);
    arena.secret("authentik-token", &[("token", &token)]).await;
    arena.connection(json!({})).await;
    arena.start().await;
    arena.run_clock();
    arena.twilio("sms", json!({})).await;
    arena.is("sms", "True", "Available").await;
    arena.sim.with(|state| {
        let pk = state.stage_named("sms").unwrap().pk;
        state.enrol(pk, "+15551234")
    });
    arena.delete("sms").await;
    let blocked = arena.is("sms", "False", "DeletionBlocked").await;
    assert!(message(&blocked).contains(VIEW_DEVICES), "{}", message(&blocked));
    assert_eq!(arena.sim.devices().len(), 1);
}

#[tokio::test]
async fn a_device_that_is_enrolled_at_the_last_moment_is_not_lost_where_the_server_protects_it() {
    let (arena, pk) = managed(NEWEST, json!({})).await;
    let mut enrolled = false;
    arena.sim.on_call(move |call, state| {
        if call.method == "DELETE" && !std::mem::replace(&mut enrolled, true) {
            state.enrol(pk, "+15551234");
        }
    });
    arena.delete("sms").await;
    let blocked = arena.is("sms", "False", "DeletionBlocked").await;
    assert!(message(&blocked).contains("1 enrolled device"), "{}", message(&blocked));
    assert_eq!(dependents(&blocked)[0].count, 1);
    assert_eq!((arena.sim.stages().len(), arena.sim.devices().len()), (1, 1));
}

#[tokio::test]
async fn a_stage_that_is_gone_already_is_no_obstacle() {
    let (arena, pk) = managed(READABLE, json!({})).await;
    arena.sim.with(|state| {
        state.remove(pk);
        // Its name may belong to somebody else by now, whose stage it is not for us to delete.
        state.add_stage(Stage::twilio("sms"))
    });
    arena.delete("sms").await;
    arena.gone("sms").await;
    assert_eq!(arena.sim.stages().len(), 1);
    assert_eq!(arena.sim.count("DELETE", ""), 0);
}

#[tokio::test]
async fn a_stage_that_was_renamed_in_authentik_is_deleted_and_its_successor_is_not() {
    let (arena, pk) = managed(READABLE, json!({})).await;
    let other = arena.sim.with(|state| {
        state.edit(pk, |stage| stage.name = "renamed".to_owned());
        state.add_stage(Stage::twilio("sms"))
    });
    arena.delete("sms").await;
    arena.gone("sms").await;
    let left: Vec<_> = arena.sim.stages().iter().map(|stage| stage.pk).collect();
    assert_eq!(left, [other]);
}

#[tokio::test]
async fn what_is_wrong_with_the_spec_blocks_nothing() {
    let flow = json!({"configureFlow": {"slug": "default-authenticator-sms-setup"}});
    let (arena, _) = managed(READABLE, flow).await;
    arena
        .api::<Secret>()
        .delete("twilio", &DeleteParams::default())
        .await
        .unwrap();
    arena
        .sim
        .with(|state| state.remove_flow("default-authenticator-sms-setup"));
    let broken = json!({"fromNumber": "+1999", "configureFlow": {"slug": "none-such"}});
    arena.edit_stage("sms", broken).await;
    arena.is("sms", "False", "SecretNotFound").await;
    arena.delete("sms").await;
    arena.gone("sms").await;
    assert!(arena.sim.stages().is_empty());
}

#[tokio::test]
async fn hands_off_means_that_the_stage_stays() {
    for hands_off in [json!({"suspend": true}), json!({"managementPolicy": "Observe"})] {
        let (arena, pk) = managed(READABLE, json!({"deletionPolicy": "ForceDelete"})).await;
        arena.edit_stage("sms", hands_off.clone()).await;
        arena.delete("sms").await;
        arena.gone("sms").await;
        assert!(arena.sim.stages().iter().any(|stage| stage.pk == pk), "{hands_off}");
    }
}

#[tokio::test]
async fn what_owns_nothing_is_deleted_at_once_without_the_operators_help() {
    let mut arena = Arena::new(READABLE).await;
    arena
        .twilio(
            "sms",
            json!({"twilio": {"accountSid": SID,
        "authTokenSecretRef": {"name": "none-such", "key": "token"}}}),
        )
        .await;
    let waiting = arena.is("sms", "False", "SecretNotFound").await;
    assert!(waiting.finalizers().is_empty());
    arena.stop().await;
    arena.delete("sms").await;
    assert!(
        arena
            .api::<AuthenticatorSMSStage>()
            .get_opt("sms")
            .await
            .unwrap()
            .is_none()
    );
}

#[tokio::test]
async fn a_connection_stays_until_nothing_needs_it() {
    let (arena, pk) = managed(READABLE, json!({})).await;
    arena.sim.with(|state| state.enrol(pk, "+15551234"));
    let connections = arena.api::<AuthentikConnection>();
    connections.delete("authentik", &DeleteParams::default()).await.unwrap();
    let waiting = arena.connection_is("authentik", "False", "DeletionBlocked").await;
    let conditions = &waiting.status.as_ref().unwrap().conditions;
    assert!(
        conditions[0].message.contains(&format!("{}/sms", arena.namespace)),
        "{conditions:?}"
    );

    // Meanwhile it does its work: the stage is kept, and its deletion is looked into.
    arena.sim.edit(pk, |stage| stage.from_number = "+15559999".to_owned());
    arena
        .holds("the number of the spec", |state| {
            state
                .stage(pk)
                .filter(|stage| stage.from_number == "+15550100")
                .map(|_| ())
        })
        .await;
    arena.delete("sms").await;
    arena.is("sms", "False", "DeletionBlocked").await;
    arena.edit_stage("sms", json!({"deletionPolicy": "ForceDelete"})).await;
    arena.gone("sms").await;
    assert!(arena.sim.stages().is_empty());
    arena
        .wait::<AuthentikConnection>("authentik", "be gone", |connection| connection.is_none())
        .await;
}

#[tokio::test]
async fn a_connection_that_only_an_observer_uses_is_deleted_at_once() {
    let arena = Arena::new(READABLE).await;
    arena.twilio("sms", json!({"managementPolicy": "Observe"})).await;
    arena.is("sms", "False", "StageNotFound").await;
    let connections = arena.api::<AuthentikConnection>();
    connections.delete("authentik", &DeleteParams::default()).await.unwrap();
    arena
        .wait::<AuthentikConnection>("authentik", "be gone", |connection| connection.is_none())
        .await;
    let orphaned = arena.is("sms", "False", "ConnectionNotFound").await;
    assert!(message(&orphaned).contains("/authentik"), "{}", message(&orphaned));
}

#[tokio::test]
async fn the_last_good_client_deletes_when_the_token_went_first() {
    let (arena, _) = managed(READABLE, json!({})).await;
    arena
        .api::<Secret>()
        .delete("authentik-token", &DeleteParams::default())
        .await
        .unwrap();
    arena.connection_is("authentik", "False", "SecretNotFound").await;
    arena.delete("sms").await;
    arena.gone("sms").await;
    assert!(arena.sim.stages().is_empty());
}

#[tokio::test]
async fn without_any_way_to_the_server_the_deletion_says_what_to_edit() {
    let (mut arena, _) = managed(READABLE, json!({})).await;
    arena.stop().await;
    arena
        .api::<Secret>()
        .delete("authentik-token", &DeleteParams::default())
        .await
        .unwrap();
    arena.delete("sms").await;
    // This process has never seen the token.
    arena.start().await;
    let blocked = arena.is("sms", "False", "DeletionBlocked").await;
    let text = message(&blocked);
    assert!(text.contains("authentik-token") && text.contains("Orphan"), "{text}");
    assert!(
        blocked
            .finalizers()
            .iter()
            .any(|finalizer| finalizer == STAGE_FINALIZER)
    );

    arena
        .secret("authentik-token", &[("token", arena.sim.admin_token())])
        .await;
    arena.gone("sms").await;
    assert!(arena.sim.stages().is_empty());
}

#[tokio::test]
async fn a_deletion_waits_while_the_connection_rests() {
    let (arena, _) = managed(READABLE, json!({})).await;
    edit_connection(&arena, json!({"suspend": true})).await;
    arena.connection_is("authentik", "True", "Suspended").await;
    arena.sim.reset_calls();
    arena.delete("sms").await;
    let blocked = arena.is("sms", "False", "DeletionBlocked").await;
    let text = message(&blocked);
    assert!(text.contains("spec.suspend") && text.contains("Orphan"), "{text}");
    assert_eq!(arena.sim.calls().len(), 0, "hands off");
    edit_connection(&arena, json!({"suspend": false})).await;
    arena.gone("sms").await;
    assert!(arena.sim.stages().is_empty());
}

#[tokio::test]
async fn another_server_behind_the_connection_is_not_taken_for_the_stages_own() {
    let (arena, pk) = managed(READABLE, json!({})).await;
    let other = Sim::start(authentik_sim::Config {
        admin_token: Some(arena.sim.admin_token().to_owned()),
        ..authentik_sim::Config::new(READABLE)
    })
    .await;
    edit_connection(&arena, json!({"url": other.url()})).await;
    let lost = arena.is("sms", "False", "ServerChanged").await;
    assert!(is_stalled(&lost));
    let text = message(&lost);
    for part in [arena.sim.url(), other.url(), pk.to_string(), "Orphan".to_owned()] {
        assert!(text.contains(&part), "{part} in {text}");
    }
    let status = lost.status.as_ref().unwrap();
    assert_eq!(status.connection.as_ref().unwrap().url, arena.sim.url(), "pinned");
    assert!(lost.finalizers().iter().any(|finalizer| finalizer == STAGE_FINALIZER));
    assert!(other.stages().is_empty(), "nothing is created there");

    // Back, and all is well.
    edit_connection(&arena, json!({"url": arena.sim.url()})).await;
    arena.is("sms", "True", "Available").await;

    edit_connection(&arena, json!({"url": other.url()})).await;
    arena.is("sms", "False", "ServerChanged").await;
    arena.delete("sms").await;
    let blocked = arena.is("sms", "False", "DeletionBlocked").await;
    assert!(is_stalled(&blocked), "only an edit helps");
    assert!(message(&blocked).contains(&arena.sim.url()), "{}", message(&blocked));
    arena.edit_stage("sms", json!({"deletionPolicy": "Orphan"})).await;
    arena.gone("sms").await;
    assert_eq!(arena.sim.stages().len(), 1, "let go of");
    assert_eq!(other.count("DELETE", ""), 0);
}

#[tokio::test]
async fn the_same_server_under_another_address_keeps_its_stages() {
    let (arena, pk) = managed(READABLE, json!({})).await;
    let address = format!("http://localhost:{}", arena.sim.port());
    edit_connection(&arena, json!({"url": address})).await;
    let moved = |stage: Option<&AuthenticatorSMSStage>| {
        let pinned = stage.and_then(|stage| stage.status.as_ref()?.connection.clone());
        pinned.is_some_and(|pinned| pinned.url == address)
    };
    arena.wait("sms", "have its record moved", moved).await;
    arena.is("sms", "True", "Available").await;
    assert_eq!(arena.writes().len(), 1, "the create: {:?}", arena.writes());
    arena.delete("sms").await;
    arena.gone("sms").await;
    assert!(!arena.sim.stages().iter().any(|stage| stage.pk == pk));
}

#[tokio::test]
async fn a_resource_that_is_created_again_is_another_one() {
    let (arena, pk) = managed(READABLE, json!({"deletionPolicy": "Orphan"})).await;
    let first = arena.get("sms").await;
    // As a user does who has lost patience.
    arena
        .edit::<AuthenticatorSMSStage>("sms", json!({"metadata": {"finalizers": null}}))
        .await;
    arena.delete("sms").await;
    arena.twilio("sms", json!({})).await;
    let second = arena.is("sms", "True", "Available").await;
    assert_ne!(first.uid(), second.uid());
    let status = second.status.as_ref().unwrap();
    assert_eq!(status.origin, Some(Origin::Adopted), "its stage is no longer anybody's");
    assert_eq!(status.stage.as_ref().unwrap().pk, pk.to_string());
    assert_eq!(arena.sim.stages().len(), 1);
}

#[tokio::test]
async fn a_forced_round_looks_again_at_what_blocks() {
    let (mut arena, pk) = managed(READABLE, json!({})).await;
    let device = arena.sim.with(|state| state.enrol(pk, "+15551234"));
    arena.delete("sms").await;
    arena.is("sms", "False", "DeletionBlocked").await;
    // From here on nothing comes up by itself once the pass that may run has ended.
    arena.stop_clock();
    force(&arena, "first").await;
    let handled = |stage: Option<&AuthenticatorSMSStage>| {
        let status = stage.and_then(|stage| stage.status.as_ref());
        status.is_some_and(|status| status.last_handled_reconcile_at.as_deref() == Some("first"))
    };
    arena.wait("sms", "acknowledge the round", handled).await;
    arena.sim.with(|state| state.remove_device(device));
    force(&arena, "second").await;
    arena.gone("sms").await;
}

async fn force(arena: &Arena, value: &str) {
    let annotation = json!({"metadata": {"annotations": {RECONCILE_ANNOTATION: value}}});
    arena.edit::<AuthenticatorSMSStage>("sms", annotation).await;
}
