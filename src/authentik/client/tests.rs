//! The calls: what is sent, and that filters are not believed.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use serde_json::{Value, json};

use super::*;
use crate::authentik::changes::PRODUCT;
use crate::authentik::scripted::{Received, Scripted, json_answer, page};

fn stage(pk: u128, name: &str) -> Value {
    json!({"pk": Uuid::from_u128(pk), "name": name})
}

fn tag() -> WriteTag {
    WriteTag {
        cluster: "c".into(),
        resource_uid: "u".into(),
        nonce: "n".into(),
    }
}

/// Serves one row a page, whatever the filter, as a server does that does not know it.
async fn unfiltered(rows: Vec<Value>) -> Scripted {
    Scripted::start(move |request| {
        let number = page_number(request);
        let next = if number < rows.len() { number + 1 } else { 0 };
        page(&rows[number - 1..number], u32::try_from(next).unwrap(), rows.len())
    })
    .await
}

fn page_number(request: &Received) -> usize {
    let (_, query) = request.line.split_once('?').unwrap();
    let mut pairs = url::form_urlencoded::parse(query.as_bytes());
    pairs
        .find(|(key, _)| key == "page")
        .map_or(1, |(_, number)| number.parse().unwrap())
}

#[tokio::test]
async fn a_filter_that_the_server_ignores_is_applied_here() {
    let server = unfiltered(vec![stage(1, "other"), stage(2, "SMS"), stage(3, "sms")]).await;
    let client = server.client();
    assert_eq!(
        client.stage_by_name("sms").await.unwrap().unwrap().pk,
        Uuid::from_u128(3)
    );
    assert!(client.stage_by_name("none").await.unwrap().is_none());
    assert_eq!(client.any_stages_by_name("SMS").await.unwrap().len(), 1);
    assert_eq!(
        client.mapping_by_name("sms").await.unwrap().unwrap().pk,
        Uuid::from_u128(3)
    );
}

#[tokio::test]
async fn flows_are_found_by_slug_and_by_uuid() {
    let flow = |pk: u128, slug: &str| json!({"pk": Uuid::from_u128(pk), "slug": slug, "stages": [Uuid::nil()]});
    let server = unfiltered(vec![flow(1, "Setup"), flow(2, "setup")]).await;
    let client = server.client();
    assert_eq!(
        client.flow_by_slug("setup").await.unwrap().unwrap().pk,
        Uuid::from_u128(2)
    );
    assert_eq!(
        client.flow_by_uuid(Uuid::from_u128(1)).await.unwrap().unwrap().slug,
        "Setup"
    );
    assert!(client.flow_by_uuid(Uuid::from_u128(9)).await.unwrap().is_none());
}

#[tokio::test]
async fn dependents_of_other_stages_are_none_of_ours() {
    let (ours, other) = (Uuid::from_u128(1), Uuid::from_u128(2));
    let validate = |pk: u128, stages: &[Uuid]| {
        json!({
            "pk": Uuid::from_u128(pk), "name": "v", "configuration_stages": stages, "device_classes": ["sms", 7],
        })
    };
    let server = unfiltered(vec![
        validate(1, &[other]),
        validate(2, &[other, ours]),
        validate(3, &[]),
    ])
    .await;
    let found = server.client().validate_stages_with(ours).await.unwrap();
    assert_eq!(
        found.iter().map(|validate| validate.pk).collect::<Vec<_>>(),
        [Uuid::from_u128(2)]
    );
    assert_eq!(found[0].device_classes, ["sms"]);
    assert_eq!(server.client().validate_stages().await.unwrap().len(), 3);
}

#[tokio::test]
async fn a_dependent_that_cannot_be_read_is_not_overlooked() {
    let server = unfiltered(vec![json!({"pk": "?"})]).await;
    for error in [
        server.client().bindings_of(Uuid::nil()).await.unwrap_err(),
        server.client().validate_stages_with(Uuid::nil()).await.unwrap_err(),
    ] {
        assert!(matches!(error, Error::InvalidResponse { .. }), "{error:?}");
    }
}

#[tokio::test]
async fn a_list_that_is_read_again_tells_nothing_twice() {
    let mut call = 0;
    let server = Scripted::start(move |_| {
        call += 1;
        match call {
            1 => page(&[stage(1, "v")], 2, 2),
            2 => json_answer(404, &json!({"detail": "Invalid page."})),
            _ => page(&[stage(1, "v")], 0, 1),
        }
    })
    .await;
    assert_eq!(server.client().validate_stages().await.unwrap().len(), 1);
}

#[tokio::test]
async fn a_stage_that_is_gone_has_no_dependents() {
    let server = Scripted::start(|request| {
        let field = if request.line.contains("bindings") {
            "stage"
        } else {
            "configuration_stages"
        };
        json_answer(400, &json!({field: ["Select a valid choice."]}))
    })
    .await;
    assert!(server.client().bindings_of(Uuid::nil()).await.unwrap().is_empty());
    assert!(
        server
            .client()
            .validate_stages_with(Uuid::nil())
            .await
            .unwrap()
            .is_empty()
    );
}

#[tokio::test]
async fn a_bad_token_is_told_from_a_missing_right() {
    let server = Scripted::start(|_| json_answer(403, &json!({"detail": "Token invalid/expired"}))).await;
    let client = server.client();
    assert_eq!(client.version().await.unwrap_err(), Error::Unauthorized);
    assert_eq!(client.me().await.unwrap_err(), Error::Unauthorized);
    assert!(matches!(
        client.stage(Uuid::nil()).await.unwrap_err(),
        Error::Forbidden { .. }
    ));
}

#[tokio::test]
async fn a_write_is_signed_and_sends_only_what_changes() {
    let server = Scripted::start(|_| json_answer(200, &stage(1, "sms"))).await;
    let pk = Uuid::from_u128(1);
    let changes = StageChanges {
        auth: Some("new".into()),
        ..Default::default()
    };
    server
        .client()
        .update_stage(pk, &changes, &Features::of(None), &tag())
        .await
        .unwrap();
    let [request] = &server.received()[..] else {
        panic!("one request")
    };
    assert_eq!(request.line, format!("PATCH /api/v3/stages/authenticator/sms/{pk}/"));
    assert_eq!(request.header("content-type"), Some("application/json"));
    assert_eq!(
        request.header("user-agent"),
        Some(format!("{PRODUCT} (cluster=c; resource=u; nonce=n)").as_str())
    );
    assert_eq!(request.json(), json!({"auth": "new"}));
}

/// A server that takes one form of clearing only.
async fn clears_with(accepted: Value) -> Scripted {
    Scripted::start(move |request| {
        if request.json()["friendly_name"] == accepted {
            json_answer(200, &stage(1, "sms"))
        } else {
            json_answer(400, &json!({"friendly_name": ["This field may not be null."]}))
        }
    })
    .await
}

#[tokio::test]
async fn the_friendly_name_is_cleared_in_the_form_that_the_server_takes() {
    let clear = StageChanges {
        friendly_name: Some(String::new()),
        ..Default::default()
    };
    let features = |text| Features::of(Some(&ServerVersion::parse(text)));
    for (accepted, version, requests, why) in [
        (json!(null), "2025.8.1", 1, "null up to 2025.8"),
        (json!(""), "2025.10.0", 1, "an empty text from 2025.10"),
        (json!(""), "2025.8.1", 2, "upgraded since its version was read"),
        (json!(null), "2025.10.0", 2, "an older replica answers"),
    ] {
        let server = clears_with(accepted).await;
        server
            .client()
            .update_stage(Uuid::from_u128(1), &clear, &features(version), &tag())
            .await
            .expect(why);
        assert_eq!(server.received().len(), requests, "{why}");
    }
}

#[tokio::test]
async fn a_refusal_of_something_else_is_not_tried_twice() {
    let server = Scripted::start(|_| json_answer(400, &json!({"friendly_name": ["no"], "name": ["no"]}))).await;
    let clear = StageChanges {
        friendly_name: Some(String::new()),
        ..Default::default()
    };
    let error = server
        .client()
        .update_stage(Uuid::nil(), &clear, &Features::of(None), &tag())
        .await
        .unwrap_err();
    assert!(matches!(error, Error::Validation { .. }));
    assert_eq!(server.received().len(), 1);
}

#[tokio::test]
async fn a_reply_about_another_stage_is_not_believed() {
    let server = Scripted::start(|_| json_answer(200, &stage(2, "sms"))).await;
    let error = server.client().stage(Uuid::from_u128(1)).await.unwrap_err();
    assert!(matches!(error, Error::InvalidResponse { .. }), "{error:?}");
}

#[tokio::test]
async fn rights_are_asked_without_changing_anything() {
    let server = Scripted::start(|request| {
        let action = if request.line.ends_with("/sms/") { "POST" } else { "PUT" };
        json_answer(200, &json!({"actions": {action: {}}}))
    })
    .await;
    assert!(server.client().may_add().await.unwrap());
    assert!(server.client().may_change(Uuid::nil()).await.unwrap());
    assert!(
        server
            .received()
            .iter()
            .all(|request| request.line.starts_with("OPTIONS"))
    );
}

#[tokio::test]
async fn a_deletion_ends_or_says_that_there_is_nothing() {
    let asked = Arc::new(AtomicU32::new(0));
    let count = Arc::clone(&asked);
    let server = Scripted::start(move |_| {
        if count.fetch_add(1, Ordering::Relaxed) == 0 {
            crate::authentik::scripted::answer(204, "", &[], "")
        } else {
            json_answer(404, &json!({"detail": "Not found."}))
        }
    })
    .await;
    let client = server.client();
    client.delete_stage(Uuid::nil(), &tag()).await.unwrap();
    assert!(matches!(
        client.delete_stage(Uuid::nil(), &tag()).await,
        Err(Error::NotFound { .. })
    ));
}

#[tokio::test]
async fn a_devices_id_cannot_lead_elsewhere() {
    let server = Scripted::start(|_| crate::authentik::scripted::answer(204, "", &[], "")).await;
    let client = server.client();
    for pk in ["", "../../sms/1", "1/", "a?b", "1 2"] {
        assert!(client.delete_device(pk, &tag()).await.is_err(), "{pk}");
    }
    client.delete_device("7", &tag()).await.unwrap();
    let [request] = &server.received()[..] else {
        panic!("one request")
    };
    assert_eq!(request.line, "DELETE /api/v3/authenticators/admin/sms/7/");
}

#[tokio::test]
async fn events_of_other_models_actions_and_stages_are_left_out() {
    let event = |action: &str, model: &str, pk: u128| {
        json!({
            "action": action, "user": {"username": "op"},
            "context": {
                "model": {"pk": Uuid::from_u128(pk).simple().to_string(), "app": STAGE_APP, "model_name": model},
                "http_request": {"user_agent": "agent"},
            },
        })
    };
    let rows = [
        event("model_updated", "authenticatorsmsstage", 1),
        event("model_updated", "authenticatorsmsstage", 2),
        event("model_created", "authenticatorsmsstage", 1),
        event("model_updated", "smsdevice", 1),
    ];
    let server = Scripted::start(move |_| page(&rows, 0, 4)).await;
    let client = server.client();
    assert_eq!(
        client
            .newest_stage_events("model_updated", Some(Uuid::from_u128(1)), 5)
            .await
            .unwrap()
            .len(),
        1
    );
    assert_eq!(
        client
            .newest_stage_events("model_updated", None, 5)
            .await
            .unwrap()
            .len(),
        2
    );
    let lines: Vec<_> = server.received().into_iter().map(|request| request.line).collect();
    assert_eq!(
        lines,
        [
            "GET /api/v3/events/events/?action=model_updated&context_model_pk=00000000-0000-0000-0000-000000000001\
         &ordering=-created&page_size=5",
            "GET /api/v3/events/events/?action=model_updated&context_model_app=authentik_stages_authenticator_sms\
         &ordering=-created&page_size=5",
        ]
    );
}

#[tokio::test]
async fn the_device_list_proves_the_right_and_keeps_no_user() {
    let server = Scripted::start(|_| page(&[json!({"pk": 1, "phone_number": "+15550000"})], 2, 2)).await;
    assert_eq!(server.client().device_count().await.unwrap(), 2);
    assert_eq!(
        server.received()[0].line,
        "GET /api/v3/authenticators/admin/sms/?page_size=1"
    );
}
