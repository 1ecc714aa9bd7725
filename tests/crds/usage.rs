//! What a user sees of both kinds through kubectl, and what a tool reads before the operator has looked.

use serde_json::{Value, json};

use crate::samples::{self, sample};
use crate::schema::Kind;
use crate::server::{Server, world};

/// The cells of a table that `kubectl get` prints, by column; cells stand under their heads.
fn table(text: &str) -> Vec<Vec<(String, String)>> {
    let mut lines = text.lines();
    let head = lines.next().unwrap_or_default();
    let mut starts = Vec::new();
    for (i, _) in head.match_indices(|c: char| c != ' ') {
        if i == 0 || head[..i].ends_with("  ") {
            starts.push(i);
        }
    }
    lines
        .map(|line| {
            let ends = starts.iter().skip(1).copied().chain([usize::MAX]);
            let cells = starts.iter().zip(ends).map(|(&start, end)| {
                let cell = |text: &str| text[start.min(text.len())..end.min(text.len())].trim().to_owned();
                (cell(head), cell(line))
            });
            cells.collect()
        })
        .collect()
}

async fn get(server: &Server, arguments: &[&str]) -> Vec<Vec<(String, String)>> {
    let mut all = vec!["get", "--namespace", &server.namespace];
    all.extend(arguments);
    table(&world().await.kubectl_ok(&all).await)
}

fn cells(expected: &[(&str, &str)]) -> Vec<(String, String)> {
    expected
        .iter()
        .map(|(head, cell)| ((*head).to_owned(), (*cell).to_owned()))
        .collect()
}

/// All but the age, which depends on when one looks.
fn without_age(mut row: Vec<(String, String)>) -> Vec<(String, String)> {
    let (head, age) = row.pop().unwrap();
    assert_eq!(head, "AGE");
    assert!(age.ends_with('s'), "{age} is no age");
    row
}

#[tokio::test]
async fn the_columns_of_a_stage_tell_what_is_the_case() {
    let server = Server::new().await;
    server.create(Kind::Stage, &sample("twilio").resource).await.unwrap();
    server
        .set_status(Kind::Stage, "twilio", &samples::status(Kind::Stage))
        .await
        .unwrap();
    let [row] = get(&server, &["aksms"]).await.try_into().unwrap();
    let narrow = [
        ("NAME", "twilio"),
        ("READY", "True"),
        ("REASON", "Available"),
        ("STAGE", "sms"),
        ("PROVIDER", "twilio"),
    ];
    assert_eq!(without_age(row), cells(&narrow));

    let [row] = get(&server, &["authenticatorsmsstage", "--output=wide"])
        .await
        .try_into()
        .unwrap();
    let wide = [
        ("PK", "0f9b5c0e-6d2c-4b52-9d3c-0b5d9a3f6c11"),
        ("SERVER", "https://sso.example.com"),
        ("MESSAGE", "the stage is as declared"),
    ];
    assert_eq!(without_age(row), cells(&[narrow.as_slice(), &wide].concat()));
}

#[tokio::test]
async fn the_columns_of_a_connection_tell_what_is_the_case() {
    let server = Server::new().await;
    server
        .create(Kind::Connection, &sample("connection").resource)
        .await
        .unwrap();
    server
        .set_status(Kind::Connection, "connection", &samples::status(Kind::Connection))
        .await
        .unwrap();
    for arguments in [["akconn", "--output="], ["authentikconnection", "--output=wide"]] {
        let [row] = get(&server, &arguments).await.try_into().unwrap();
        let expected = [
            ("NAME", "connection"),
            ("READY", "True"),
            ("REASON", "Available"),
            ("URL", "https://sso.example.com/authentik"),
            ("VERSION", "2026.5.1"),
            ("STAGES", "3"),
        ];
        assert_eq!(without_age(row), cells(&expected));
    }
}

#[tokio::test]
async fn one_word_lists_both_kinds_and_a_selector_picks_a_provider() {
    let server = Server::new().await;
    for name in ["twilio", "basic", "connection"] {
        let sample = sample(name);
        server.create(sample.kind, &sample.resource).await.unwrap();
    }
    let world = world().await;
    let names = async |arguments: &[&str]| {
        let mut all = vec!["get", "--namespace", &server.namespace, "--output=name"];
        all.extend(arguments);
        world.kubectl_ok(&all).await
    };
    let group = "stages.authentik-operator.dev";
    assert_eq!(
        names(&["authentik"]).await,
        format!(
            "authenticatorsmsstage.{group}/basic\nauthenticatorsmsstage.{group}/twilio\nauthentikconnection.{group}/connection\n"
        )
    );
    assert_eq!(
        names(&["aksms", "--field-selector=spec.provider=generic"]).await,
        format!("authenticatorsmsstage.{group}/basic\n")
    );
}

#[tokio::test]
async fn what_is_left_out_has_its_documented_default() {
    let server = Server::new().await;
    let stage = server
        .try_create(Kind::Stage, &sample("basic-secret").resource)
        .await
        .unwrap();
    let expected = json!({
        "verifyOnly": false,
        "adoptionPolicy": "IfMatch",
        "managementPolicy": "Full",
        "suspend": false,
        "fromNumber": "+15550100",
        "provider": "generic",
        "generic": {
            "authType": "basic",
            "urlSecretRef": {"name": "gateway", "key": "value"},
            "usernameSecretRef": {"name": "gateway", "key": "value"},
        },
    });
    assert_eq!(stage["spec"], expected);

    let connection = server
        .try_create(Kind::Connection, &sample("connection-secret").resource)
        .await
        .unwrap();
    let expected = json!({
        "url": "https://sso.example.com",
        "tokenSecretRef": {"name": "authentik", "key": "value"},
        "caBundle": {"secretKeyRef": {"name": "roots", "key": "value"}},
        "allowInsecureHTTP": false,
        "allowedNamespaces": {"from": "Same", "adoption": "Never", "forceDelete": false},
        "syncInterval": "60s",
        "timeout": "10s",
        "maxConcurrentRequests": 8,
        "suspend": false,
    });
    assert_eq!(connection["spec"], expected);
}

#[tokio::test]
async fn a_resource_that_nobody_looked_at_is_not_current() {
    let server = Server::new().await;
    for name in ["twilio", "connection"] {
        let sample = sample(name);
        let created = server.create(sample.kind, &sample.resource).await.unwrap();
        assert_eq!(created["status"]["observedGeneration"], json!(-1));
        assert_eq!(created["status"].get("conditions"), None);
    }
}

#[tokio::test]
async fn spec_and_status_are_written_apart_and_nothing_of_a_status_is_lost() {
    let server = Server::new().await;
    for name in ["twilio", "connection"] {
        let sample = sample(name);
        let status = samples::status(sample.kind);
        let mut with_status = sample.resource.clone();
        with_status["status"] = status.clone();
        let created = server.create(sample.kind, &with_status).await.unwrap();
        assert_eq!(
            created["status"]["observedGeneration"],
            json!(-1),
            "a user has written a status"
        );

        let stored = server.set_status(sample.kind, name, &status).await.unwrap();
        assert_eq!(stored["status"], status, "the schema lacks a field");
        assert_eq!(
            stored["metadata"]["generation"],
            json!(1),
            "a status changes no generation"
        );
        assert_eq!(stored["spec"], created["spec"]);
        assert_eq!(typed(sample.kind, &stored), status, "the types lack a field");
    }
}

/// The status after a way through our types.
fn typed(kind: Kind, resource: &Value) -> Value {
    use authentik_stage_operator::api::{AuthenticatorSMSStage, AuthentikConnection};
    let resource = resource.clone();
    match kind {
        Kind::Stage => serde_json::to_value(
            serde_json::from_value::<AuthenticatorSMSStage>(resource)
                .unwrap()
                .status,
        )
        .unwrap(),
        Kind::Connection => {
            serde_json::to_value(serde_json::from_value::<AuthentikConnection>(resource).unwrap().status).unwrap()
        }
    }
}

#[tokio::test]
async fn a_field_that_does_not_exist_is_refused_by_name() {
    let server = Server::new().await;
    let mut resource = sample("basic").resource;
    resource["spec"]["frienldyName"] = json!("x");
    let arguments = [
        "create",
        "--namespace",
        &server.namespace,
        "--dry-run=server",
        "--filename=-",
    ];
    let refused = world().await.kubectl_stdin(&arguments, &resource.to_string()).await;
    let message = String::from_utf8_lossy(&refused.stderr).into_owned();
    assert!(message.contains(r#"unknown field "spec.frienldyName""#), "{message}");
}
