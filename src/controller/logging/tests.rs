use std::sync::{Arc, Mutex};

use axum::Router;
use axum::http::StatusCode;
use axum::routing::get;
use k8s_openapi::api::core::v1::Secret;
use kube::Api;
use kube::config::AuthInfo;
use secrecy::SecretString;
use tracing::instrument::WithSubscriber;

use super::*;

/// What was written, shared with the writer.
#[derive(Clone, Default)]
struct Written(Arc<Mutex<Vec<u8>>>);

impl Written {
    fn text(&self) -> String {
        String::from_utf8(self.0.lock().unwrap().clone()).unwrap()
    }
}

impl io::Write for Written {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.lock().unwrap().write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

fn log(filter: &str, format: Format, colours: bool, records: impl FnOnce()) -> String {
    let written = Written::default();
    let writer = written.clone();
    let subscriber = subscriber(filter, format, colours, move || writer.clone()).unwrap();
    tracing::subscriber::with_default(subscriber, records);
    written.text()
}

#[test]
fn json_is_one_object_a_line() {
    let text = log("info", Format::Json, true, || {
        tracing::info!(namespace = "login", "first");
        tracing::warn!("second");
        tracing::debug!("below the level");
    });
    let lines: Vec<serde_json::Value> = text.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!(lines.len(), 2, "{text}");
    assert_eq!(
        (&lines[0]["message"], &lines[0]["namespace"]),
        (&"first".into(), &"login".into())
    );
    assert_eq!(lines[1]["level"], "WARN");
}

#[test]
fn text_has_colours_only_on_a_terminal() {
    let record = || tracing::info!("hello");
    assert!(!log("info", Format::Text, false, record).contains('\x1b'));
    assert!(log("info", Format::Text, true, record).contains('\x1b'));
}

#[test]
fn the_filter_knows_targets() {
    let text = log("warn,lease=debug", Format::Text, false, || {
        tracing::debug!(target: "lease", "renewed");
        tracing::info!(target: "queue", "added");
    });
    assert!(text.contains("renewed") && !text.contains("added"), "{text}");
}

#[test]
fn a_filter_that_cannot_be_read_is_refused_with_the_remedy() {
    for (filter, cause) in [
        ("", "it is empty"),
        ("inof", "\"inof\" is not a level"),
        (
            "info,authentik_stage_operator",
            "\"authentik_stage_operator\" is not a level",
        ),
        ("info,queue=loud", "expected one of"),
    ] {
        let error = parse(filter).unwrap_err().to_string();
        assert!(error.contains(cause), "{filter:?}: {error}");
        assert!(
            error.contains("--log-level") && error.contains("write a level"),
            "{filter:?}: {error}"
        );
    }
    for filter in ["info", "off", " TRACE ", "2", "warn,a::b=debug"] {
        assert!(parse(filter).is_ok(), "{filter:?}");
    }
}

#[test]
fn libraries_stay_quiet_whatever_the_filter_says() {
    let text = log(
        "trace,hyper=trace,kube_client::client=trace,kube_runtime=trace",
        Format::Text,
        false,
        || {
            tracing::debug!(target: "hyper::proto::h1", "canary");
            tracing::debug!(target: "hyper_util::client", "canary");
            tracing::debug!(target: "h2::codec", "canary");
            tracing::debug!(target: "reqwest::connect", "canary");
            tracing::debug!(target: "rustls::client", "canary");
            tracing::debug!(target: "kube_client::client::builder", "canary");
            tracing::warn!(target: "kube_client::client", "canary");
            tracing::debug!(target: "kube_runtime::watcher", "canary");
            tracing::trace!(target: "authentik_stage_operator", "ours");
            tracing::warn!(target: "kube_runtime::watcher", "theirs");
        },
    );
    assert!(!text.contains("canary"), "{text}");
    assert!(text.contains("ours") && text.contains("theirs"), "{text}");
}

/// With real clients against a real socket, at the noisiest filter: neither a header nor the body of a reply that
/// cannot be parsed is logged.
#[tokio::test]
async fn neither_headers_nor_bodies_are_logged_at_trace() {
    let app = Router::new()
        .route(
            "/plain",
            get(async || (StatusCode::OK, [("x-reply", "canary-reply-header")], "canary-body")),
        )
        .fallback(async || {
            (
                StatusCode::OK,
                r#"{"apiVersion":"v1","kind":"Secret","data":"canary-secret"}"#,
            )
        });
    let listener = tokio::net::TcpListener::bind((std::net::Ipv4Addr::LOCALHOST, 0))
        .await
        .unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    let written = Written::default();
    let writer = written.clone();
    let subscriber = subscriber("trace", Format::Json, false, move || writer.clone()).unwrap();
    async {
        let server = tokio::spawn(async move { axum::serve(listener, app).await }.with_current_subscriber());
        tracing::trace!("the filter lets this through");

        let request = reqwest::Client::new()
            .get(format!("{url}/plain"))
            .bearer_auth("canary-token");
        let body = request.send().await.unwrap().text().await.unwrap();
        assert_eq!(body, "canary-body");

        let mut config = kube::Config::new(url.parse().unwrap());
        config.auth_info = AuthInfo {
            token: Some(SecretString::from("canary-token")),
            ..AuthInfo::default()
        };
        let secrets: Api<Secret> = Api::namespaced(kube::Client::try_from(config).unwrap(), "login");
        secrets.get("twilio").await.unwrap_err();
        server.abort();
    }
    .with_subscriber(subscriber)
    .await;
    let text = written.text();
    assert!(text.contains("the filter lets this through"), "{text}");
    assert!(!text.contains("canary"), "{text}");
}
