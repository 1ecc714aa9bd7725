//! Reasons of work that goes on, ends well, or is stopped by a fault of ours.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll};
use std::time::Duration;

use authentik_sim::{Answer, Fault, State, What};
use authentik_stage_operator::api::Reason;
use authentik_stage_operator::controller::metrics::Metrics;
use axum::http::{Request, Response};
use futures::future::{BoxFuture, FutureExt};
use kube::client::{Body, ClientBuilder};
use serde_json::json;
use tower::{Layer, Service};

use super::{Connection, RECONCILING, STAGES, Stage, available, seen, shown, told};
use crate::arena::{Arena, NEWEST, READABLE, SID, config, message};

/// Longer than a request may take effect after its client gave up.
const LATEST_EFFECT: Duration = Duration::from_secs(61);

pub async fn a_stage_that_is_as_declared_says_so(reason: Reason) {
    let arena = Arena::new(NEWEST).await;
    arena.twilio("sms", json!({"name": "Text message"})).await;
    let stage: Stage = seen(
        &arena,
        "sms",
        "True",
        reason,
        None,
        &["\"Text message\"", "as declared"],
    )
    .await;
    let pk = arena.sim.stage_named("Text message").unwrap().pk.to_string();
    assert_eq!(stage.status.unwrap().stage.unwrap().pk, pk);
    let _: Connection = seen(&arena, "authentik", "True", reason, None, &["the server answers"]).await;
}

pub async fn the_intent_to_create_shows_before_the_stage(reason: Reason) {
    let arena = Arena::new(NEWEST).await;
    arena.connection(json!({"timeout": "1s"})).await;
    arena.sim.inject(Fault::on("POST", STAGES, What::Hang));
    arena.twilio("sms", json!({})).await;
    let stage: Stage = seen(&arena, "sms", "False", reason, RECONCILING, &["creating stage \"sms\""]).await;
    let intent = stage
        .status
        .unwrap()
        .pending_create
        .expect("the intent stands in the status");
    assert_eq!(intent.name, "sms");
    assert!(arena.sim.stage_named("sms").is_none(), "the request hangs");
    available(&arena, "sms").await;
    assert_eq!(
        arena.sim.count("POST", STAGES),
        2,
        "the one without a reply, and the one after it"
    );
}

pub async fn an_edit_waits_for_a_create_whose_reply_was_lost(reason: Reason) {
    let mut arena = Arena::still(NEWEST).await;
    arena.connect().await;
    arena.start().await;
    arena.sim.inject(Fault::on("POST", STAGES, What::ResetBeforeEffect));
    arena.twilio("sms", json!({})).await;
    let _: Stage = shown(
        &arena,
        "sms",
        "False",
        Reason::ServerUnreachable,
        RECONCILING,
        &["create stage \"sms\""],
    )
    .await;
    arena.edit_stage("sms", json!({"fromNumber": "+15550199"})).await;
    let says = ["the reply", "creates stage \"sms\"", "was lost", "waiting until"];
    let stage: Stage = seen(&arena, "sms", "False", reason, RECONCILING, &says).await;
    assert!(stage.status.unwrap().pending_create.is_some());
    assert_eq!(
        arena.sim.count("POST", STAGES),
        1,
        "the first request may still take effect"
    );

    arena.clock.advance(LATEST_EFFECT);
    available(&arena, "sms").await;
    assert_eq!(arena.sim.stages().len(), 1);
    assert_eq!(
        arena.sim.stage_named("sms").unwrap().from_number,
        "+15550199",
        "today's spec"
    );
}

pub async fn a_takeover_shows_until_all_is_corrected(reason: Reason) {
    let arena = Arena::new(NEWEST).await;
    arena.connection(json!({"timeout": "1s"})).await;
    let pk = arena
        .sim
        .with(|state| state.add_stage(authentik_sim::Stage::twilio("sms")));
    arena.sim.inject(Fault::on("PATCH", STAGES, What::Hang));
    arena.twilio("sms", json!({"adoptionPolicy": "Always"})).await;
    let says = ["taking over stage \"sms\"", &pk.to_string()];
    let _: Stage = seen(&arena, "sms", "False", reason, RECONCILING, &says).await;
    available(&arena, "sms").await;
    assert_eq!(arena.sim.stage_named("sms").unwrap().account_sid, SID);
    told::<Stage>(
        &arena,
        "sms",
        "Normal",
        reason,
        &["changed", "from_number", "account_sid", "in authentik"],
    )
    .await;
}

pub async fn a_server_that_keeps_nothing_is_asked_again(reason: Reason) {
    let arena = Arena::new(NEWEST).await;
    arena.twilio("sms", json!({})).await;
    available(&arena, "sms").await;
    let pk = arena.sim.stage_named("sms").unwrap().pk;
    let as_before = json!({
        "pk": pk, "name": "sms", "provider": "twilio", "from_number": "+15550100", "account_sid": SID, "auth_type": "basic",
    });
    let answer = Answer {
        status: 200,
        body: as_before.to_string(),
        ..Answer::json(200, "")
    };
    arena
        .sim
        .inject(Fault::on("PATCH", STAGES, What::Answer(answer)).always());
    arena.edit_stage("sms", json!({"fromNumber": "+15550199"})).await;
    let says = ["does not keep what it is sent", "tries again"];
    let _: Stage = seen(&arena, "sms", "False", reason, RECONCILING, &says).await;
    arena.sim.clear_faults();
    available(&arena, "sms").await;
    assert_eq!(arena.sim.stage_named("sms").unwrap().from_number, "+15550199");
}

pub async fn a_deletion_waits_for_a_create_whose_reply_was_lost(reason: Reason) {
    let mut arena = Arena::still(NEWEST).await;
    arena.connect().await;
    arena.start().await;
    arena.sim.inject(Fault::on("POST", STAGES, What::ResetBeforeEffect));
    arena.twilio("sms", json!({})).await;
    let _: Stage = shown(
        &arena,
        "sms",
        "False",
        Reason::ServerUnreachable,
        RECONCILING,
        &["create stage \"sms\""],
    )
    .await;
    arena.delete("sms").await;
    let says = ["the reply", "creates stage \"sms\"", "was lost", "waiting until"];
    let _: Stage = seen(&arena, "sms", "False", reason, RECONCILING, &says).await;
    // It takes effect as late as this.
    arena.sim.with(|state| {
        state.add_stage(authentik_sim::Stage {
            account_sid: SID.to_owned(),
            from_number: "+15550100".to_owned(),
            ..authentik_sim::Stage::twilio("sms")
        })
    });
    arena.clock.advance(LATEST_EFFECT);
    arena.gone("sms").await;
}

pub async fn the_fourth_correction_waits(reason: Reason) {
    let mut arena = Arena::still(READABLE).await;
    arena.connect().await;
    arena.start().await;
    arena.twilio("sms", json!({})).await;
    available(&arena, "sms").await;
    let pk = arena.sim.stage_named("sms").unwrap().pk;
    let somebody_else_edits = || arena.sim.edit(pk, |stage| stage.from_number = "+15559999".into());
    let is_corrected = async || {
        let as_declared = |state: &State| state.stage(pk).filter(|one| one.from_number == "+15550100").map(|_| ());
        arena.holds("the number of the spec", as_declared).await;
    };
    for _ in 0..3 {
        somebody_else_edits();
        round_by_round(&arena, is_corrected()).await;
    }
    let says = ["corrected from_number", "changed in authentik by somebody else"];
    told::<Stage>(&arena, "sms", "Normal", Reason::Updating, &says).await;

    somebody_else_edits();
    let says = [
        "from_number was corrected three times in ten minutes",
        "audit log",
        "managementPolicy to Observe",
    ];
    let contested = Box::pin(seen(&arena, "sms", "False", reason, RECONCILING, &says));
    let stage: Stage = round_by_round(&arena, contested).await;
    assert_eq!(stage.status.unwrap().drift[0].field, "from_number");
    // The other writer gives up: what it left is corrected when the pause is over.
    arena.clock.advance(Duration::from_secs(300));
    round_by_round(&arena, is_corrected()).await;
    round_by_round(&arena, Box::pin(available(&arena, "sms"))).await;
}

/// Lets the time between two rounds pass, and again whenever nothing comes of it for a while, until `end`.
async fn round_by_round<R>(arena: &Arena, end: impl Future<Output = R>) -> R {
    let mut end = std::pin::pin!(end);
    loop {
        arena.clock.advance(Duration::from_secs(60));
        if let Ok(result) = tokio::time::timeout(Duration::from_secs(2), &mut end).await {
            return result;
        }
    }
}

pub async fn an_api_server_that_fails_is_no_fault_of_the_resource(reason: Reason) {
    let mut arena = Arena::still(NEWEST).await;
    arena.connect().await;
    let fails = Arc::new(AtomicBool::new(true));
    let client = ClientBuilder::try_from(config(&arena.kubeconfig).await)
        .unwrap()
        .with_layer(&FailToRead {
            path: "/secrets/twilio",
            fails: Arc::clone(&fails),
        })
        .build();
    arena.start_with(client, Arc::new(Metrics::new()));
    arena.run_clock();
    arena.twilio("sms", json!({})).await;
    let secret = format!("cannot read Secret {}/twilio", arena.namespace);
    let says = [secret.as_str(), "the API server answered 500", "tries again"];
    let stage: Stage = seen(&arena, "sms", "False", reason, RECONCILING, &says).await;
    assert!(
        !message(&stage).contains("etcd"),
        "not a word of what the API server said: {stage:?}"
    );
    assert_eq!(arena.sim.count("POST", STAGES), 0);
    fails.store(false, Ordering::SeqCst);
    available(&arena, "sms").await;
}

/// An API server that fails at one read, as long as it does.
struct FailToRead {
    path: &'static str,
    fails: Arc<AtomicBool>,
}

impl<S> Layer<S> for FailToRead {
    type Service = FailingToRead<S>;

    fn layer(&self, inner: S) -> FailingToRead<S> {
        FailingToRead {
            inner,
            path: self.path,
            fails: Arc::clone(&self.fails),
        }
    }
}

struct FailingToRead<S> {
    inner: S,
    path: &'static str,
    fails: Arc<AtomicBool>,
}

impl<S, R> Service<Request<Body>> for FailingToRead<S>
where
    S: Service<Request<Body>, Response = Response<R>>,
    S::Error: Send + 'static,
    S::Future: Send + 'static,
    R: axum::body::HttpBody<Data = axum::body::Bytes> + Send + 'static,
    R::Error: Into<tower::BoxError>,
{
    type Response = Response<axum::body::Body>;
    type Error = S::Error;
    type Future = BoxFuture<'static, Result<Response<axum::body::Body>, S::Error>>;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        self.inner.poll_ready(context)
    }

    fn call(&mut self, request: Request<Body>) -> Self::Future {
        if request.uri().path().ends_with(self.path) && self.fails.load(Ordering::SeqCst) {
            let status = json!({
                "kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Failure", "reason": "InternalError",
                "message": "etcdserver: request timed out", "code": 500,
            });
            let mut response = Response::new(axum::body::Body::from(status.to_string()));
            *response.status_mut() = axum::http::StatusCode::INTERNAL_SERVER_ERROR;
            return std::future::ready(Ok(response)).boxed();
        }
        self.inner
            .call(request)
            .map(|answer| answer.map(|response| response.map(axum::body::Body::new)))
            .boxed()
    }
}
