//! The transport against a server that misbehaves.

use std::time::Duration;

use rcgen::{CertifiedKey, generate_simple_self_signed};
use serde_json::json;
use tokio_rustls::rustls::ServerConfig;
use tokio_rustls::rustls::pki_types::PrivateKeyDer;
use uuid::Uuid;

use super::*;
use crate::authentik::client::Client;
use crate::authentik::error::Effect;
use crate::authentik::scripted::{Reply, Scripted, TOKEN, answer, json_answer};
use crate::authentik::version::Features;

fn version_answer() -> Reply {
    json_answer(200, &json!({"version_current": "2026.5.0"}))
}

fn tag() -> WriteTag {
    WriteTag {
        cluster: "c".into(),
        resource_uid: "u".into(),
        nonce: "n".into(),
    }
}

fn features() -> Features {
    Features::of(None)
}

async fn version_error(script: impl FnMut() -> Reply + Send + 'static) -> Error {
    let mut script = script;
    let server = Scripted::start(move |_| script()).await;
    server.client().version().await.unwrap_err()
}

#[tokio::test]
async fn a_read_says_who_asks_and_what_it_takes() {
    let server = Scripted::start(|_| version_answer()).await;
    assert_eq!(server.client().version().await.unwrap().to_string(), "2026.5.0");
    let [request] = &server.received()[..] else {
        panic!("one request")
    };
    assert_eq!(request.line, "GET /api/v3/admin/version/");
    for (name, value) in [
        ("accept", "application/json"),
        ("accept-language", "en"),
        ("authorization", "Bearer t0ken-of-the-operator"),
        ("user-agent", PRODUCT),
    ] {
        assert_eq!(request.header(name), Some(value), "{name}");
    }
    assert_eq!(server.calls(), [(Method::Get, Route::Version, Outcome::Ok)]);
}

#[tokio::test]
async fn a_dropped_idle_connection_is_not_seen_by_what_can_be_repeated() {
    let mut on_first = 0;
    let server = Scripted::start(move |request| {
        on_first += usize::from(request.connection == 1);
        // The first connection answers once and drops the next request unanswered.
        if request.connection == 1 && on_first > 1 {
            Reply::Close
        } else {
            version_answer()
        }
    })
    .await;
    let client = server.client();
    client.version().await.unwrap();
    client.version().await.unwrap();
    let connections: Vec<_> = server.received().iter().map(|request| request.connection).collect();
    assert_eq!(connections, [1, 1, 2]);
    assert_eq!(
        server.calls().iter().map(|call| call.2).collect::<Vec<_>>(),
        [Outcome::Ok, Outcome::NoAnswer, Outcome::Ok]
    );
}

#[tokio::test]
async fn what_is_dropped_twice_has_no_answer() {
    let server = Scripted::start(|_| Reply::Close).await;
    let error = server.client().version().await.unwrap_err();
    assert!(matches!(error, Error::NoAnswer { .. }), "{error:?}");
    assert_eq!(server.received().len(), 2);
}

#[tokio::test]
async fn a_create_has_a_connection_of_its_own_and_is_never_repeated() {
    let server = Scripted::start(|request| {
        if request.line.starts_with("POST") {
            Reply::Close
        } else {
            version_answer()
        }
    })
    .await;
    let client = server.client();
    client.version().await.unwrap();
    let error = client
        .create_stage(&StageChanges::default(), &features(), &tag())
        .await
        .unwrap_err();
    assert!(matches!(error, Error::NoAnswer { .. }), "{error:?}");
    assert_eq!(error.effect(), Effect::Unknown);
    let connections: Vec<_> = server.received().iter().map(|request| request.connection).collect();
    assert_eq!(connections, [1, 2]);
}

#[tokio::test]
async fn connections_are_shared_by_repeatable_calls() {
    let server = Scripted::start(|_| version_answer()).await;
    let client = server.client();
    for _ in 0..5 {
        client.version().await.unwrap();
    }
    assert!(server.received().iter().all(|request| request.connection == 1));
}

#[tokio::test]
async fn a_redirect_is_not_followed_and_tells_the_host_alone() {
    let other = Scripted::start(|_| version_answer()).await;
    let location = format!("Location: {}/next?code=s3cret", other.client().endpoint());
    let error = version_error(move || answer(302, "", &[&location], "")).await;
    let Error::NotAuthentik { why } = &error else {
        panic!("{error:?}")
    };
    assert!(why.contains(&other.client().endpoint().to_string()), "{why}");
    assert!(!why.contains("next") && !why.contains("s3cret"), "{why}");
    assert!(other.received().is_empty(), "the token went to another host");
}

#[tokio::test]
async fn too_much_is_refused_whether_announced_or_not() {
    let announced = || {
        Reply::Bytes(b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 5000000\r\n\r\n".to_vec())
    };
    let unannounced = || {
        let mut reply = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\n\r\n".to_vec();
        reply.resize(5_000_000, b' ');
        Reply::Last(reply)
    };
    for error in [version_error(announced).await, version_error(unannounced).await] {
        let Error::InvalidResponse { why, .. } = &error else {
            panic!("{error:?}")
        };
        assert!(why.contains("more than 4 MiB"), "{why}");
    }
}

#[tokio::test]
async fn a_large_body_within_the_limit_arrives_whole() {
    let server = Scripted::start(|_| {
        let body = format!("{}{}", " ".repeat(3 << 20), json!({"version_current": "2026.5.0"}));
        let chunked = format!(
            "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nTransfer-Encoding: chunked\r\n\r\n{:x}\r\n{body}\r\n0\r\n\r\n",
            body.len()
        );
        Reply::Bytes(chunked.into_bytes())
    })
    .await;
    server.client().version().await.unwrap();
}

#[tokio::test]
async fn half_an_answer_is_unusable() {
    let cut = || {
        Reply::Last(b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 50\r\n\r\n{\"vers".to_vec())
    };
    let error = version_error(cut).await;
    let Error::InvalidResponse { why, .. } = &error else {
        panic!("{error:?}")
    };
    assert!(why.starts_with("cut short"), "{why}");
    assert_eq!(error.effect(), Effect::Unknown);
}

#[tokio::test]
async fn a_failed_servers_status_counts_whatever_its_body() {
    let cut =
        || Reply::Last(b"HTTP/1.1 500 Oops\r\nContent-Type: text/html\r\nContent-Length: 5000000\r\n\r\n<ht".to_vec());
    let error = version_error(cut).await;
    assert!(matches!(error, Error::Server { status: 500, .. }), "{error:?}");
}

#[tokio::test]
async fn what_is_not_http_is_not_authentik() {
    let error = version_error(|| Reply::Last(b"SSH-2.0-OpenSSH_9.9\r\n".to_vec())).await;
    assert!(matches!(error, Error::NotAuthentik { .. }), "{error:?}");
}

#[tokio::test]
async fn silence_ends_in_time() {
    let server = Scripted::start(|_| Reply::Silence).await;
    let client = Client::new(ClientConfig {
        timeout: Duration::from_millis(100),
        ..server.config()
    })
    .unwrap();
    let error = client.version().await.unwrap_err();
    assert!(matches!(error, Error::NoAnswer { .. }), "{error:?}");
    assert_eq!(server.received().len(), 1, "a time-out is not repeated");
}

#[tokio::test]
async fn half_an_answer_and_then_silence_ends_in_time() {
    let half = || {
        Reply::Bytes(b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 50\r\n\r\n{\"vers".to_vec())
    };
    let server = Scripted::start(move |_| half()).await;
    let client = Client::new(ClientConfig {
        timeout: Duration::from_millis(100),
        ..server.config()
    })
    .unwrap();
    let error = client.version().await.unwrap_err();
    assert!(matches!(error, Error::NoAnswer { .. }), "{error:?}");
}

#[tokio::test]
async fn only_so_many_calls_are_under_way() {
    let (arrived, mut arrivals) = tokio::sync::mpsc::unbounded_channel();
    let server = Scripted::start(move |_| {
        arrived.send(()).unwrap();
        Reply::Silence
    })
    .await;
    let client = Client::new(ClientConfig {
        max_concurrent: 1,
        ..server.config()
    })
    .unwrap();
    let first = tokio::spawn({
        let client = client.clone();
        async move { client.version().await }
    });
    arrivals.recv().await.unwrap();
    let second = tokio::spawn(async move { client.version().await });
    let waits = tokio::time::timeout(Duration::from_millis(200), arrivals.recv()).await;
    assert!(waits.is_err(), "the second call did not wait for the first");
    // Its turn comes when the first one ends, however it ends.
    first.abort();
    arrivals.recv().await.unwrap();
    second.abort();
}

#[tokio::test]
async fn nobody_there_is_unreachable_and_without_effect() {
    let server = Scripted::start(|_| Reply::Close).await;
    let mut config = server.config();
    // A port that was free a moment ago.
    let port = std::net::TcpListener::bind(("127.0.0.1", 0))
        .unwrap()
        .local_addr()
        .unwrap()
        .port();
    config.endpoint = Endpoint::try_from(format!("http://127.0.0.1:{port}").as_str()).unwrap();
    let client = Client::new(config).unwrap();
    let error = client
        .create_stage(&StageChanges::default(), &features(), &tag())
        .await
        .unwrap_err();
    assert!(
        matches!(&error, Error::Unreachable { why } if why.starts_with("tcp connect error: Connection refused")),
        "{error:?}"
    );
    assert_eq!(error.effect(), Effect::None);
}

// === TLS ===

fn identity(name: &str) -> (ServerConfig, Vec<u8>) {
    let CertifiedKey { cert, signing_key } = generate_simple_self_signed([name.to_owned()]).unwrap();
    let key = PrivateKeyDer::try_from(signing_key.serialize_der()).unwrap();
    let config = ServerConfig::builder()
        .with_no_client_auth()
        .with_single_cert(vec![cert.der().clone()], key);
    (config.unwrap(), cert.pem().into_bytes())
}

#[tokio::test]
async fn a_private_certificate_is_trusted_with_its_bundle_only() {
    let (tls, pem) = identity("127.0.0.1");
    let server = Scripted::start_tls(|_| version_answer(), tls).await;
    let error = server.client().version().await.unwrap_err();
    assert!(
        matches!(&error, Error::Tls { why } if why.contains("UnknownIssuer")),
        "{error:?}"
    );
    assert_eq!(error.effect(), Effect::None);
    Client::new(ClientConfig {
        ca_bundle: Some(pem),
        ..server.config()
    })
    .unwrap()
    .version()
    .await
    .unwrap();
}

#[tokio::test]
async fn a_certificate_for_another_name_is_a_tls_error() {
    let (tls, pem) = identity("elsewhere.example");
    let server = Scripted::start_tls(|_| version_answer(), tls).await;
    let client = Client::new(ClientConfig {
        ca_bundle: Some(pem),
        ..server.config()
    })
    .unwrap();
    let error = client.version().await.unwrap_err();
    assert!(matches!(&error, Error::Tls { .. }), "{error:?}");
}

#[tokio::test]
async fn a_port_without_tls_is_told_as_such() {
    let server = Scripted::start(|_| version_answer()).await;
    let mut config = server.config();
    let https = config.endpoint.to_string().replace("http:", "https:");
    config.endpoint = Endpoint::try_from(https.as_str()).unwrap();
    // A server that takes TLS's hello for a request would wait for its end; this one answers at once.
    let plain = tokio::net::TcpListener::bind(("127.0.0.1", 0)).await.unwrap();
    config.endpoint = Endpoint::try_from(format!("https://{}", plain.local_addr().unwrap()).as_str()).unwrap();
    tokio::spawn(async move {
        let (mut socket, _) = plain.accept().await.unwrap();
        tokio::io::AsyncWriteExt::write_all(&mut socket, b"HTTP/1.1 400 Bad Request\r\n\r\n")
            .await
            .unwrap();
        let _ = tokio::io::AsyncReadExt::read_u8(&mut socket).await;
    });
    let error = Client::new(config).unwrap().version().await.unwrap_err();
    assert!(
        matches!(&error, Error::Tls { why } if why.contains("does not speak TLS")),
        "{error:?}"
    );
}

#[tokio::test]
async fn a_bundle_without_a_usable_certificate_is_refused_at_once() {
    let server = Scripted::start(|_| version_answer()).await;
    let (_, good) = identity("a");
    let bad = b"-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n";
    let mut config = server.config();
    config.endpoint = Endpoint::try_from("https://h").unwrap();
    for (bundle, said) in [
        (b"".to_vec(), "no certificate"),
        (b"hello".to_vec(), "no certificate"),
        (
            b"-----BEGIN CERTIFICATE-----\n*\n-----END CERTIFICATE-----\n".to_vec(),
            "PEM",
        ),
        ([&good[..], bad].concat(), "certificate 2"),
        (vec![b' '; CA_BUNDLE_MAX + 1], "1 MiB"),
    ] {
        let config = ClientConfig {
            ca_bundle: Some(bundle),
            endpoint: config.endpoint.clone(),
            ..server.config()
        };
        match Client::new(config) {
            Err(Error::CaBundle { why }) => assert!(why.contains(said), "{why}"),
            other => panic!("{said}: {:?}", other.err()),
        }
    }
}

// === Credentials ===

#[tokio::test]
async fn no_error_has_a_credential_that_the_server_echoes() {
    let changes = StageChanges {
        auth: Some("p4ssphrase".into()),
        account_sid: Some("https://gateway/?key=k3y".into()),
        ..Default::default()
    };
    let echo = format!("you sent p4ssphrase, https://gateway/?key=k3y and {TOKEN}");
    for status in [400, 403, 404, 405, 413, 415, 418, 429, 500, 503] {
        for (content_type, body) in [
            ("application/json", json!({"detail": echo}).to_string()),
            (
                "application/json",
                json!({"auth": [echo], "p4ssphrase": {TOKEN: [echo]}}).to_string(),
            ),
            ("application/json", json!({"error": echo}).to_string()),
            ("text/html", echo.clone()),
        ] {
            let content_type = content_type.to_owned();
            let server = Scripted::start(move |_| answer(status, &content_type, &[], body.clone())).await;
            let error = server
                .client()
                .update_stage(Uuid::nil(), &changes, &features(), &tag())
                .await
                .unwrap_err();
            let shown = format!("{error} {error:?}");
            for credential in ["p4ssphrase", "k3y", TOKEN] {
                assert!(!shown.contains(credential), "{status}: {shown}");
            }
        }
    }
}

#[tokio::test]
async fn an_unreadable_success_is_told_without_its_content() {
    for body in [
        "{\"version_current\": \"s3cret",
        "\"s3cret\"",
        "{\"version_current\": [\"s3cret\"]}",
    ] {
        let error = version_error(move || answer(200, "application/json", &["X-authentik-id: r1"], body)).await;
        let Error::InvalidResponse { request_id, .. } = &error else {
            panic!("{error:?}")
        };
        assert_eq!(request_id.as_deref(), Some("r1"));
        assert!(!format!("{error} {error:?}").contains("s3cret"), "{error:?}");
    }
}

#[tokio::test]
async fn no_url_carries_a_credential() {
    let server = Scripted::start(|_| json_answer(403, &json!({"detail": "no"}))).await;
    let client = server.client();
    let changes = StageChanges {
        auth: Some("p4ssphrase".into()),
        ..Default::default()
    };
    let pk = Uuid::nil();
    let _ = client.create_stage(&changes, &features(), &tag()).await;
    let _ = client.update_stage(pk, &changes, &features(), &tag()).await;
    let _ = client.stage_by_name("sms").await;
    for request in server.received() {
        assert!(
            !request.line.contains("p4ssphrase") && !request.line.contains(TOKEN),
            "{}",
            request.line
        );
    }
}

#[tokio::test]
async fn no_log_line_has_a_credential() {
    #[derive(Clone, Default)]
    struct Log(Arc<std::sync::Mutex<Vec<u8>>>);
    impl io::Write for Log {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.lock().unwrap().extend_from_slice(bytes);
            Ok(bytes.len())
        }
        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }
    let log = Log::default();
    let writer = log.clone();
    let subscriber = tracing_subscriber::fmt()
        .with_max_level(tracing::Level::TRACE)
        .with_writer(move || writer.clone())
        .finish();
    let _guard = tracing::subscriber::set_default(subscriber);
    let server = Scripted::start(|request| json_answer(400, &json!({"auth": [request.body]}))).await;
    let changes = StageChanges {
        auth: Some("p4ssphrase".into()),
        ..Default::default()
    };
    let client = server.client();
    let said = || String::from_utf8(log.0.lock().unwrap().clone()).unwrap();
    // What a line is worth is cached for the whole process, and while another test takes up or puts down a subscriber of
    // its own, lines can be lost.
    for _ in 0..20 {
        let _ = client.create_stage(&changes, &features(), &tag()).await;
        let _ = client.update_stage(Uuid::nil(), &changes, &features(), &tag()).await;
        if said().contains("called authentik") {
            break;
        }
        tracing::callsite::rebuild_interest_cache();
    }
    let log = said();
    assert!(log.contains("called authentik"), "{log}");
    for credential in ["p4ssphrase", TOKEN] {
        assert!(!log.contains(credential), "{log}");
    }
}

// === Retry-After ===

#[test]
fn retry_after_is_seconds_or_a_date_by_the_servers_clock() {
    let headers = |pairs: &[(&'static str, &'static str)]| {
        let entries = pairs
            .iter()
            .map(|(name, value)| (header::HeaderName::from_static(name), HeaderValue::from_static(value)));
        entries.collect::<HeaderMap>()
    };
    let (date, later) = ("Sun, 06 Nov 1994 08:49:37 GMT", "Sun, 06 Nov 1994 08:50:07 GMT");
    for (pairs, wait, why) in [
        (&[("retry-after", " 60 ")][..], Some(60), "seconds"),
        (&[("retry-after", "99999999999")], Some(3600), "no more than an hour"),
        (&[("retry-after", later), ("date", date)], Some(30), "a date"),
        (
            &[("retry-after", date), ("date", later)],
            Some(0),
            "a date that is past",
        ),
        (
            &[("retry-after", later)],
            None,
            "a date, and nobody knows what time it is there",
        ),
        (&[("retry-after", "soon")], None, "nonsense"),
        (&[], None, "nothing"),
    ] {
        assert_eq!(retry_after(&headers(pairs)), wait.map(Duration::from_secs), "{why}");
    }
}
