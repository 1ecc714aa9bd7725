//! The life of a stage, from its first apply to its end.

use serde_json::json;

use crate::arena::{Arena, NEWEST, OLDEST, READABLE, SID};

#[tokio::test]
async fn a_stage_is_created_follows_its_secret_is_put_right_and_goes() {
    for version in [OLDEST, READABLE, NEWEST] {
        let arena = Arena::new(version).await;
        arena
            .twilio(
                "sms",
                json!({"friendlyName": "Text message", "configureFlow": {"slug": "default-authenticator-sms-setup"}}),
            )
            .await;
        let stage = arena.is("sms", "True", "Available").await;
        let held = arena.sim.stage_named("sms").expect("a stage of the resource's name");
        assert_eq!(held.friendly_name.as_deref(), Some("Text message"), "{version}");
        assert_eq!(held.account_sid, SID);
        let status = stage.status.unwrap();
        assert_eq!(status.stage.unwrap().pk, held.pk.to_string());
        assert!(status.pending_create.is_none());
        assert_eq!(
            arena.sim.count("POST", "/stages/authenticator/sms/"),
            1,
            "{version}: one POST"
        );

        arena
            .rotate("twilio", "auth-token", "fedcba9876543210fedcba9876543210")
            .await;
        arena
            .holds("the rotated token", |state| {
                state
                    .stage_named("sms")
                    .filter(|stage| stage.auth == "fedcba9876543210fedcba9876543210")
                    .map(|_| ())
            })
            .await;
        arena.is("sms", "True", "Available").await;

        arena
            .sim
            .edit(held.pk, |stage| stage.from_number = "+15559999".to_owned());
        arena
            .holds("the number of the spec", |state| {
                state
                    .stage_named("sms")
                    .filter(|stage| stage.from_number == "+15550100")
                    .map(|_| ())
            })
            .await;

        arena.delete("sms").await;
        arena.gone("sms").await;
        assert!(
            arena.sim.stage_named("sms").is_none(),
            "{version}: the stage goes with its resource"
        );
    }
}
