//! The recordings as they lie on disk.

use serde_json::Value;

/// One request and the answer of a running authentik.
#[derive(Clone, Debug)]
pub struct Exchange {
    pub id: String,
    /// Whose rights the token had; empty for the superuser throughout.
    pub bearer: String,
    pub method: String,
    pub path: String,
    pub request: Value,
    pub answer: Answer,
}

/// What came back, or what was recorded to come back.
#[derive(Clone, Debug)]
pub struct Answer {
    pub status: u64,
    pub content_type: Option<String>,
    pub allow: Option<String>,
    pub vary: Option<String>,
    pub body: Value,
}

/// Reads one of the files beside this package.
pub fn read(name: &str) -> Vec<Exchange> {
    let path = format!("{}/recordings/{name}.json", env!("CARGO_MANIFEST_DIR"));
    let text = std::fs::read_to_string(&path).unwrap_or_else(|error| panic!("{path}: {error}"));
    let exchanges: Vec<Value> = serde_json::from_str(&text).unwrap_or_else(|error| panic!("{path}: {error}"));
    exchanges.iter().map(exchange).collect()
}

fn exchange(value: &Value) -> Exchange {
    let text = |value: &Value| value.as_str().map(str::to_owned);
    let (request, response) = (&value["request"], &value["response"]);
    let header = |name: &str| text(&response["headers"][name]);
    Exchange {
        id: text(&value["id"]).expect("an id"),
        bearer: text(&request["as"]).unwrap_or_default(),
        method: text(&request["method"]).expect("a method"),
        path: text(&request["path"]).expect("a path"),
        request: request["body"].clone(),
        answer: Answer {
            status: response["status"].as_u64().expect("a status"),
            content_type: header("content-type"),
            allow: header("allow"),
            vary: header("vary"),
            body: response["body"].clone(),
        },
    }
}
