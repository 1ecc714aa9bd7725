use k8s_openapi::jiff::Timestamp;
use tokio::sync::oneshot;
use tokio::task::JoinHandle;

use crate::clock::ManualClock;

use super::*;

struct Server {
    url: String,
    stop: oneshot::Sender<()>,
    task: JoinHandle<Result<(), ServeError>>,
}

async fn start(health: &Health, metrics: Arc<Metrics>) -> Server {
    let listener = TcpListener::bind((std::net::Ipv4Addr::LOCALHOST, 0)).await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    let (stop, stopped) = oneshot::channel();
    let stopped = async move { stopped.await.unwrap() };
    let task = tokio::spawn(serve_on(listener, health.clone(), metrics, stopped));
    Server { url, stop, task }
}

impl Server {
    async fn get(&self, path: &str) -> (u16, String) {
        let reply = reqwest::get(format!("{}{path}", self.url)).await.unwrap();
        (reply.status().as_u16(), reply.text().await.unwrap())
    }
}

#[tokio::test]
async fn readiness_waits_for_everything_that_is_expected_and_names_what_is_missing() {
    let health = Health::new(Arc::new(ManualClock::new(Timestamp::UNIX_EPOCH)));
    let stages = health.expect("stages listed");
    let crds = health.expect("CRDs present");
    let server = start(&health, Arc::default()).await;
    crds.set();
    assert_eq!(server.get("/readyz").await, (503, "not ready\n".to_owned()));
    let verbose = "[+] CRDs present\n[-] stages listed is missing\nnot ready\n";
    assert_eq!(server.get("/readyz?verbose").await, (503, verbose.to_owned()));
    assert_eq!(server.get("/livez").await.0, 200, "waiting is no reason for a restart");
    stages.set();
    assert_eq!(server.get("/readyz").await, (200, "ready\n".to_owned()));
    assert_eq!(
        server.get("/readyz?verbose=1").await.1,
        "[+] CRDs present\n[+] stages listed\nready\n"
    );
}

#[tokio::test]
async fn a_dropped_promise_is_never_ready() {
    let health = Health::new(Arc::new(ManualClock::new(Timestamp::UNIX_EPOCH)));
    drop(health.expect("stages listed"));
    assert_eq!(health.expected(), [("stages listed", false)]);
}

#[tokio::test]
async fn a_loop_that_stands_still_is_not_alive() {
    let clock = ManualClock::new(Timestamp::UNIX_EPOCH);
    let health = Health::new(Arc::new(clock.clone()));
    let server = start(&health, Arc::default()).await;
    health.beat("queue", Duration::from_secs(30));
    health.beat("watch", Duration::from_secs(300));
    clock.advance(Duration::from_secs(30));
    assert_eq!(server.get("/livez").await, (200, "ok\n".to_owned()));
    clock.advance(Duration::from_secs(1));
    assert_eq!(
        server.get("/livez").await,
        (503, "queue has not gone round for 31 s\n".to_owned())
    );
    health.beat("queue", Duration::from_secs(30));
    assert_eq!(server.get("/livez").await.0, 200);
    clock.advance(Duration::from_secs(31));
    health.ended("queue");
    assert_eq!(
        server.get("/livez").await.0,
        200,
        "a loop that ended as it should is not missed"
    );
}

#[tokio::test]
async fn metrics_are_served_as_what_they_are() {
    let metrics = Arc::new(Metrics::new());
    metrics.drift_repaired();
    let health = Health::new(Arc::new(ManualClock::new(Timestamp::UNIX_EPOCH)));
    let server = start(&health, metrics).await;
    let reply = reqwest::get(format!("{}/metrics", server.url)).await.unwrap();
    let content_type = reply.headers()["content-type"].to_str().unwrap().to_owned();
    assert_eq!(
        content_type,
        "application/openmetrics-text; version=1.0.0; charset=utf-8"
    );
    let text = reply.text().await.unwrap();
    assert!(
        text.contains("authentik_stage_operator_drift_repaired_total 1\n"),
        "{text}"
    );
    assert!(text.ends_with("# EOF\n"));
}

#[tokio::test]
async fn nothing_else_is_served_and_nothing_can_be_sent() {
    let health = Health::new(Arc::new(ManualClock::new(Timestamp::UNIX_EPOCH)));
    let server = start(&health, Arc::default()).await;
    assert_eq!(server.get("/").await.0, 404);
    let reply = reqwest::Client::new()
        .post(format!("{}/livez", server.url))
        .send()
        .await
        .unwrap();
    assert_eq!(reply.status().as_u16(), 405);
}

#[tokio::test]
async fn it_ends_when_told_to() {
    let health = Health::new(Arc::new(ManualClock::new(Timestamp::UNIX_EPOCH)));
    let server = start(&health, Arc::default()).await;
    assert_eq!(server.get("/livez").await.0, 200);
    server.stop.send(()).unwrap();
    server.task.await.unwrap().unwrap();
}

#[tokio::test]
async fn an_address_that_is_taken_is_named_with_the_flag_that_changes_it() {
    let taken = TcpListener::bind((std::net::Ipv4Addr::LOCALHOST, 0)).await.unwrap();
    let addr = taken.local_addr().unwrap();
    let health = Health::new(Arc::new(ManualClock::new(Timestamp::UNIX_EPOCH)));
    let error = serve(addr, health, Arc::default(), std::future::pending())
        .await
        .unwrap_err()
        .to_string();
    assert!(
        error.contains(&addr.to_string()) && error.contains("--listen"),
        "{error}"
    );
}
