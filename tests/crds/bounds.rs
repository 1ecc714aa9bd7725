//! The bounds, enums, types and required fields of both schemas, on a real API server: each is broken once, at every
//! field of spec and status that has it.

use serde_json::{Value, json};

use crate::samples;
use crate::schema::{Kind, Node};
use crate::server::{Cause, Server};

/// A value that breaks one keyword of a schema, and the reason that the API server then gives.
struct Breach {
    keyword: &'static str,
    value: Value,
    reason: &'static str,
}

/// Every way to break the schema of a node that holds `value`.
fn breaches(node: &Node, value: &Value) -> Vec<Breach> {
    let breach = |keyword, value, reason| Breach { keyword, value, reason };
    let wrong_type = if node.kind() == "string" {
        json!(15_550_100)
    } else {
        json!("text")
    };
    let mut breaches = vec![breach("type", wrong_type, "FieldValueTypeInvalid")];
    if node.schema.get("enum").is_some() {
        breaches.push(breach("enum", json!("Other"), "FieldValueNotSupported"));
    }
    if let Some(max) = node.number("maxLength") {
        breaches.push(breach("maxLength", json!("x".repeat(max + 1)), "FieldValueTooLong"));
    }
    if node.number("minLength").is_some_and(|min| min > 0) {
        breaches.push(breach("minLength", json!(""), "FieldValueInvalid"));
    }
    match node.schema["format"].as_str() {
        Some("uuid") => breaches.push(breach("format", json!("x".repeat(36)), "FieldValueTypeInvalid")),
        Some("date-time") => breaches.push(breach("format", json!("yesterday"), "FieldValueTypeInvalid")),
        Some("int32" | "int64") | None => {}
        Some(other) => panic!("{}: no breach of format {other} is known", node.path),
    }
    if let Some(max) = node.number("maximum") {
        breaches.push(breach("maximum", json!(max + 1), "FieldValueInvalid"));
    }
    if let Some(min) = node.number("minimum") {
        breaches.push(breach(
            "minimum",
            json!(i64::try_from(min).unwrap() - 1),
            "FieldValueInvalid",
        ));
    }
    if let Some(max) = node.number("maxItems") {
        let item = value[0].clone();
        breaches.push(breach("maxItems", json!(vec![item; max + 1]), "FieldValueTooMany"));
    }
    if let Some(max) = node.number("maxProperties") {
        let entries: serde_json::Map<_, _> = (0..=max).map(|n| (format!("k{n}"), json!("v"))).collect();
        breaches.push(breach("maxProperties", Value::Object(entries), "FieldValueTooMany"));
    }
    breaches
}

fn expect(what: &str, field: &str, breach: &Breach, answer: Result<Value, Vec<Cause>>) {
    let Breach { keyword, value, reason } = breach;
    let causes = answer
        .err()
        .unwrap_or_else(|| panic!("{what}: {keyword} does not hold: {value} is accepted"));
    let named = causes.iter().any(|cause| cause.is_at(field) && cause.reason == *reason);
    assert!(named, "{what}: {keyword} at {field}: no {reason} in {causes:#?}");
}

/// Breaks everything below `root` ("spec" or "status") of `resource`, and asks the server each time.
async fn break_all(
    kind: Kind,
    root: &str,
    resources: &[Value],
    ask: impl AsyncFn(&Value) -> Result<Value, Vec<Cause>>,
) {
    for node in kind.nodes().into_iter().filter(|node| node.path.is_in(root)) {
        let Node { path, .. } = &node;
        let resource = resources.iter().find(|resource| path.find(resource).is_some());
        let resource = resource.unwrap_or_else(|| panic!("no sample of {kind:?} has {path}"));
        let value = path.find(resource).unwrap();
        let what = format!("{kind:?} {path}");
        let field = path.in_errors(resource);
        for breach in breaches(&node, value) {
            let mut broken = resource.clone();
            *path.find_mut(&mut broken).unwrap() = breach.value.clone();
            expect(&what, &field, &breach, ask(&broken).await);
        }
        let Some((parent, name)) = path.split_field().filter(|_| node.required) else {
            continue;
        };
        let mut broken = resource.clone();
        parent
            .find_mut(&mut broken)
            .unwrap()
            .as_object_mut()
            .unwrap()
            .remove(name);
        let breach = Breach {
            keyword: "required",
            value: Value::Null,
            reason: "FieldValueRequired",
        };
        expect(&what, &field, &breach, ask(&broken).await);
    }
}

#[tokio::test]
async fn no_bound_of_a_spec_can_be_passed() {
    let server = Server::new().await;
    for kind in Kind::ALL {
        let resources: Vec<_> = samples::all()
            .into_iter()
            .filter(|s| s.kind == kind)
            .map(|s| s.resource)
            .collect();
        break_all(kind, "spec", &resources, async |broken| {
            server.try_create(kind, broken).await
        })
        .await;
    }
}

#[tokio::test]
async fn no_bound_of_a_status_can_be_passed() {
    let server = Server::new().await;
    for kind in Kind::ALL {
        let sample = samples::all().into_iter().find(|sample| sample.kind == kind).unwrap();
        server.create(kind, &sample.resource).await.unwrap();
        let status = json!({"status": samples::status(kind)});
        server.try_status(kind, sample.name, &status["status"]).await.unwrap();
        let ask = async |broken: &Value| server.try_status(kind, sample.name, &broken["status"]).await;
        break_all(kind, "status", &[status], ask).await;
    }
}
