use std::future::Future;

use axum::body::Body;
use axum::http::{Method, Request, Response};
use kube::client::Body as KubeBody;
use serde_json::{Value, json};
use tokio::sync::mpsc;

use super::*;

const OK: u16 = 200;

/// A client whose server answers with `status(method)`, and every request that it got: method, path, body.
fn client<F>(
    status: impl Fn(Method) -> F + Clone + Send + 'static,
) -> (Client, mpsc::UnboundedReceiver<(Method, String, Value)>)
where
    F: Future<Output = u16> + Send,
{
    let (tell, told) = mpsc::unbounded_channel();
    let service = tower::service_fn(move |request: Request<KubeBody>| {
        let (tell, status) = (tell.clone(), status.clone());
        async move {
            let (head, body) = request.into_parts();
            let body: Value = serde_json::from_slice(&body.collect_bytes().await?).unwrap();
            tell.send((head.method.clone(), head.uri.path().to_owned(), body.clone()))
                .unwrap();
            let status = status(head.method).await;
            let reply = if status == OK {
                body
            } else {
                json!({"apiVersion": "v1", "kind": "Status", "status": "Failure", "message": "no", "reason": "no", "code": status})
            };
            let reply = Response::builder().status(status).body(Body::from(reply.to_string()));
            Ok::<_, kube::Error>(reply.unwrap())
        }
    });
    (Client::new(service, "default"), told)
}

fn object(name: &str) -> ObjectReference {
    ObjectReference {
        api_version: Some("stages.authentik-operator.dev/v1alpha1".to_owned()),
        kind: Some("AuthenticatorSMSStage".to_owned()),
        namespace: Some("login".to_owned()),
        name: Some(name.to_owned()),
        uid: Some(format!("uid of {name}")),
        ..ObjectReference::default()
    }
}

fn event(note: &str) -> Event {
    Event {
        kind: Kind::Warning,
        reason: "SecretNotFound",
        note: note.to_owned(),
        action: "Resolve",
    }
}

fn counted(metrics: &Metrics, outcome: EventOutcome) -> String {
    let prefix = format!(
        "authentik_stage_operator_events_total{{outcome=\"{}\"}} ",
        outcome.as_str()
    );
    let text = metrics.encode();
    text.lines()
        .find_map(|line| line.strip_prefix(&prefix))
        .unwrap_or("0")
        .to_owned()
}

#[tokio::test]
async fn an_event_has_what_kubectl_describe_shows() {
    let (client, mut told) = client(async |_| OK);
    let events = Events::new(client, "pod-1".to_owned(), Arc::default());
    events.publish(&object("sms"), event("Secret login/twilio does not exist"));
    events.flush().await;
    let (method, path, body) = told.try_recv().unwrap();
    assert_eq!(
        (method, path.as_str()),
        (Method::POST, "/apis/events.k8s.io/v1/namespaces/login/events")
    );
    assert_eq!(body["type"], "Warning");
    assert_eq!(body["reason"], "SecretNotFound");
    assert_eq!(body["note"], "Secret login/twilio does not exist");
    assert_eq!(body["action"], "Resolve");
    assert_eq!(body["reportingController"], CONTROLLER);
    assert_eq!(body["reportingInstance"], "pod-1");
    assert_eq!(body["regarding"]["uid"], "uid of sms");
}

#[tokio::test]
async fn repeats_are_folded_and_another_text_is_another_event() {
    let (client, mut told) = client(async |_| OK);
    let metrics = Arc::new(Metrics::new());
    let events = Events::new(client, "pod-1".to_owned(), Arc::clone(&metrics));
    for note in [
        "no Secret a",
        "no Secret b",
        "no Secret a",
        "no Secret b",
        "no Secret a",
    ] {
        events.publish(&object("sms"), event(note));
    }
    events.publish(&object("other"), event("no Secret a"));
    events.flush().await;
    let sent: Vec<_> = std::iter::from_fn(|| told.try_recv().ok())
        .map(|(method, _, body)| (method, body["note"].clone(), body["series"]["count"].clone()))
        .collect();
    let expected = [
        (Method::POST, json!("no Secret a"), Value::Null),
        (Method::POST, json!("no Secret b"), Value::Null),
        (Method::PATCH, json!("no Secret a"), json!(2)),
        (Method::PATCH, json!("no Secret b"), json!(2)),
        (Method::PATCH, json!("no Secret a"), json!(3)),
        (Method::POST, json!("no Secret a"), Value::Null),
    ];
    assert_eq!(sent, expected);
    assert_eq!(counted(&metrics, EventOutcome::Published), "6");
}

#[tokio::test(start_paused = true)]
async fn a_repeat_after_the_folding_time_is_a_new_event() {
    let (client, mut told) = client(async |_| OK);
    let events = Events::new(client, "pod-1".to_owned(), Arc::default());
    events.publish(&object("sms"), event("no Secret"));
    events.flush().await;
    tokio::time::advance(FOLD).await;
    events.publish(&object("sms"), event("no Secret"));
    events.flush().await;
    assert_eq!(told.try_recv().unwrap().0, Method::POST);
    assert_eq!(told.try_recv().unwrap().0, Method::POST);
}

#[tokio::test]
async fn a_repeat_of_an_event_that_somebody_deleted_is_a_new_event() {
    let (client, mut told) = client(async |method| if method == Method::PATCH { 404 } else { OK });
    let metrics = Arc::new(Metrics::new());
    let events = Events::new(client, "pod-1".to_owned(), Arc::clone(&metrics));
    events.publish(&object("sms"), event("no Secret"));
    events.publish(&object("sms"), event("no Secret"));
    events.flush().await;
    let methods: Vec<_> = std::iter::from_fn(|| told.try_recv().ok())
        .map(|(method, ..)| method)
        .collect();
    assert_eq!(methods, [Method::POST, Method::PATCH, Method::POST]);
    assert_eq!(counted(&metrics, EventOutcome::Failed), "0");
}

#[tokio::test]
async fn a_refused_event_is_counted_and_does_not_stop_the_next() {
    let (client, mut told) = client(async |_| 403);
    let metrics = Arc::new(Metrics::new());
    let events = Events::new(client, "pod-1".to_owned(), Arc::clone(&metrics));
    events.publish(&object("sms"), event("one"));
    events.publish(&object("sms"), event("two"));
    events.flush().await;
    assert_eq!(counted(&metrics, EventOutcome::Failed), "2");
    assert!(told.try_recv().is_ok() && told.try_recv().is_ok());
}

/// The time is tokio's own, paused: it moves on when everything waits, and nothing here is real I/O.
#[tokio::test(start_paused = true)]
async fn an_api_server_that_hangs_delays_no_pass_and_costs_the_oldest_events() {
    let (client, mut told) = client(async |_| std::future::pending().await);
    let metrics = Arc::new(Metrics::new());
    let events = Events::new(client, "pod-1".to_owned(), Arc::clone(&metrics));
    events.publish(&object("sms"), event("first"));
    assert_eq!(told.recv().await.unwrap().2["note"], "first");
    for index in 0..WAITING + 10 {
        events.publish(&object("sms"), event(&format!("note {index}")));
    }
    assert_eq!(
        told.recv().await.unwrap().2["note"],
        "note 10",
        "the oldest ten are dropped"
    );
    assert_eq!(counted(&metrics, EventOutcome::Dropped), "10");
    events.flush().await;
    assert_eq!(counted(&metrics, EventOutcome::Failed), (WAITING + 1).to_string());
}

#[test]
fn a_long_note_is_cut_at_a_character_and_says_so() {
    assert_eq!(shorten("short".to_owned()), "short");
    assert_eq!(shorten("a".repeat(NOTE)), "a".repeat(NOTE));
    let cut = shorten("ä".repeat(NOTE));
    assert!(
        cut.len() <= NOTE && cut.len() > NOTE - 4 && cut.ends_with("ä…"),
        "{} bytes",
        cut.len()
    );
}
