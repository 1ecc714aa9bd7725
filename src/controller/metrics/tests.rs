use std::convert::Infallible;

use axum::body::Body;
use axum::http::{Request, Response};
use tower::{Layer, Service};

use super::*;

fn has(metrics: &Metrics, line: &str) -> bool {
    metrics.encode().lines().any(|found| found == line)
}

#[track_caller]
fn shows(metrics: &Metrics, line: &str) {
    let text = metrics.encode();
    assert!(text.lines().any(|found| found == line), "no {line:?} in:\n{text}");
}

#[test]
fn every_metric_has_the_name_that_dashboards_know() {
    let metrics = Arc::new(Metrics::new());
    metrics.pass(Controller::Stage).end(PassEnd::TerminalError);
    metrics.pass(Controller::Stage).end(PassEnd::Success);
    metrics.max_workers(Controller::Stage, 16);
    metrics.queue_added(Controller::Stage);
    metrics.queue_left(Controller::Stage, Duration::ZERO);
    metrics.queue_retried(Controller::Stage);
    metrics.queue(
        Controller::Stage,
        &Stats {
            due: 7,
            user: 2,
            rest: 9,
            ..Stats::default()
        },
    );
    metrics.kubernetes_called("GET", "200");
    metrics.called("PATCH", "stage", "ok", Duration::from_millis(20));
    metrics.drift_repaired();
    metrics.stages([((true, Reason::Available), 3)]);
    metrics.snapshot_age(Some(Duration::from_millis(1500)));
    metrics.breakers_open(1);
    metrics.became_ready(Duration::from_secs(1));
    metrics.deleted(Duration::from_secs(1));
    metrics.rotated(Duration::from_secs(1));
    metrics.watch_failed(Watched::Secrets);
    metrics.events(EventOutcome::Dropped, 4);
    for line in [
        r#"controller_runtime_reconcile_total{controller="authenticatorsmsstage",result="success"} 1"#,
        r#"controller_runtime_reconcile_total{controller="authenticatorsmsstage",result="error"} 1"#,
        r#"controller_runtime_reconcile_errors_total{controller="authenticatorsmsstage"} 1"#,
        r#"controller_runtime_terminal_reconcile_errors_total{controller="authenticatorsmsstage"} 1"#,
        r#"controller_runtime_reconcile_time_seconds_count{controller="authenticatorsmsstage"} 2"#,
        r#"controller_runtime_active_workers{controller="authenticatorsmsstage"} 0"#,
        r#"controller_runtime_max_concurrent_reconciles{controller="authenticatorsmsstage"} 16"#,
        r#"workqueue_depth{name="authenticatorsmsstage",controller="authenticatorsmsstage"} 7"#,
        r#"workqueue_adds_total{name="authenticatorsmsstage",controller="authenticatorsmsstage"} 1"#,
        r#"workqueue_retries_total{name="authenticatorsmsstage",controller="authenticatorsmsstage"} 1"#,
        r#"workqueue_queue_duration_seconds_count{name="authenticatorsmsstage",controller="authenticatorsmsstage"} 1"#,
        r#"workqueue_work_duration_seconds_count{name="authenticatorsmsstage",controller="authenticatorsmsstage"} 2"#,
        r#"workqueue_unfinished_work_seconds{name="authenticatorsmsstage",controller="authenticatorsmsstage"} 0.0"#,
        r#"workqueue_longest_running_processor_seconds{name="authenticatorsmsstage",controller="authenticatorsmsstage"} 0.0"#,
        r#"rest_client_requests_total{method="GET",code="200"} 1"#,
        r#"authentik_stage_operator_authentik_requests_total{method="PATCH",route="stage",outcome="ok"} 1"#,
        r#"authentik_stage_operator_authentik_request_duration_seconds_bucket{le="0.025",method="PATCH",route="stage"} 1"#,
        r#"authentik_stage_operator_queue_waiting{name="authenticatorsmsstage",controller="authenticatorsmsstage",lane="rest"} 9"#,
        "authentik_stage_operator_drift_repaired_total 1",
        r#"authentik_stage_operator_stages{ready="true",reason="Available"} 3"#,
        "authentik_stage_operator_snapshot_age_seconds{} 1.5",
        "authentik_stage_operator_breaker_open 1",
        "authentik_stage_operator_time_to_ready_seconds_count 1",
        "authentik_stage_operator_deletion_seconds_count 1",
        "authentik_stage_operator_rotation_latency_seconds_count 1",
        r#"authentik_stage_operator_watch_errors_total{kind="secrets"} 1"#,
        r#"authentik_stage_operator_events_total{outcome="dropped"} 4"#,
        concat!(
            r#"authentik_stage_operator_build_info{version=""#,
            env!("CARGO_PKG_VERSION"),
            r#""} 1"#
        ),
    ] {
        shows(&metrics, line);
    }
    assert!(metrics.encode().ends_with("# EOF\n"));
}

#[test]
fn a_pair_of_readiness_and_reason_that_is_gone_shows_zero() {
    let metrics = Metrics::new();
    metrics.stages([((false, Reason::Creating), 2)]);
    metrics.stages([((true, Reason::Available), 2)]);
    shows(
        &metrics,
        r#"authentik_stage_operator_stages{ready="false",reason="Creating"} 0"#,
    );
    shows(
        &metrics,
        r#"authentik_stage_operator_stages{ready="true",reason="Available"} 2"#,
    );
}

#[test]
fn without_a_snapshot_there_is_no_age() {
    let metrics = Metrics::new();
    metrics.snapshot_age(Some(Duration::ZERO));
    metrics.snapshot_age(None);
    assert!(!metrics.encode().contains("snapshot_age"));
}

#[test]
fn a_running_pass_is_an_active_worker_and_a_panic_counts_as_one() {
    const ACTIVE: &str = r#"controller_runtime_active_workers{controller="authentikconnection"}"#;
    let metrics = Arc::new(Metrics::new());
    let pass = metrics.pass(Controller::Connection);
    shows(&metrics, &format!("{ACTIVE} 1"));
    drop(pass);
    shows(&metrics, &format!("{ACTIVE} 0"));
    assert!(
        !metrics.encode().contains("reconcile_total{"),
        "a pass that was aborted has no result"
    );

    let panicked = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
        let _pass = metrics.pass(Controller::Connection);
        panic!("a bug");
    }));
    assert!(panicked.is_err());
    shows(
        &metrics,
        r#"controller_runtime_reconcile_panics_total{controller="authentikconnection"} 1"#,
    );
    shows(
        &metrics,
        r#"controller_runtime_reconcile_total{controller="authentikconnection",result="error"} 1"#,
    );
    shows(&metrics, &format!("{ACTIVE} 0"));
}

#[test]
fn samplers_run_before_every_scrape() {
    let metrics = Metrics::new();
    let scrapes = AtomicU64::new(0);
    metrics.before_scrape(move |metrics| {
        let before = scrapes.fetch_add(1, std::sync::atomic::Ordering::SeqCst);
        metrics.breakers_open(usize::try_from(before).unwrap());
    });
    assert!(has(&metrics, "authentik_stage_operator_breaker_open 0"));
    assert!(has(&metrics, "authentik_stage_operator_breaker_open 1"));
}

#[tokio::test]
async fn requests_to_kubernetes_are_counted_by_method_and_status() {
    let metrics = Arc::new(Metrics::new());
    let server = tower::service_fn(async |request: Request<Body>| {
        let status: u16 = request.uri().path()[1..].parse().unwrap();
        Ok::<_, Infallible>(Response::builder().status(status).body(Body::empty()).unwrap())
    });
    let mut client = CountRequests::of(Arc::clone(&metrics)).layer(server);
    for (method, status) in [("GET", 200), ("GET", 404), ("PATCH", 418), ("PURGE", 507)] {
        let request = Request::builder()
            .method(method)
            .uri(format!("http://api/{status}"))
            .body(Body::empty());
        client.call(request.unwrap()).await.unwrap();
    }
    let mut broken = CountRequests::of(Arc::clone(&metrics)).layer(tower::service_fn(async |_: Request<Body>| {
        Err::<Response<Body>, _>(std::io::Error::other("reset"))
    }));
    broken.call(Request::new(Body::empty())).await.unwrap_err();
    for (method, code) in [
        ("GET", "200"),
        ("GET", "404"),
        ("PATCH", "4xx"),
        ("OTHER", "5xx"),
        ("GET", "<error>"),
    ] {
        shows(
            &metrics,
            &format!(r#"rest_client_requests_total{{method="{method}",code="{code}"}} 1"#),
        );
    }
}
