//! A request as the routes see it, and what they answer.

use hyper::body::Bytes;
use serde_json::{Map, Value, json};

use crate::version::Version;

/// A request whose body has been read whole.
#[derive(Clone, Debug)]
pub(crate) struct Request {
    pub(crate) method: String,
    /// Path with everything before it, without query.
    pub(crate) path: String,
    pub(crate) query: Vec<(String, String)>,
    pub(crate) authorization: Option<String>,
    pub(crate) user_agent: String,
    pub(crate) accept: String,
    pub(crate) accept_language: String,
    pub(crate) content_type: Option<String>,
    pub(crate) body: Bytes,
    /// 32 hexadecimal digits, sent back as `X-authentik-id`.
    pub(crate) id: String,
}

impl Request {
    /// A query parameter; of several with one name the last, as Django has it.
    pub(crate) fn parameter(&self, name: &str) -> Option<&str> {
        self.query
            .iter()
            .rev()
            .find(|(key, _)| key == name)
            .map(|(_, value)| value.as_str())
    }

    /// The body as an object, or the answer to what is none.
    pub(crate) fn object(&self) -> Result<Map<String, Value>, Reply> {
        if self.body.is_empty() {
            return Ok(Map::new());
        }
        let content_type = self.content_type.as_deref().unwrap_or("");
        if content_type.split(';').next().unwrap_or("").trim() != "application/json" {
            return Err(Reply::detail(
                415,
                &format!("Unsupported media type \"{content_type}\" in request."),
            ));
        }
        match serde_json::from_slice(&self.body) {
            Ok(Value::Object(object)) => Ok(object),
            Ok(other) => {
                let text = format!("Invalid data. Expected a dictionary, but got {}.", python_type(&other));
                Err(Reply::json(400, json!({"non_field_errors": [text]})))
            }
            Err(error) => Err(Reply::detail(400, &format!("JSON parse error - {error}"))),
        }
    }
}

/// What Python calls the type of a JSON value.
pub(crate) fn python_type(value: &Value) -> &'static str {
    match value {
        Value::Null => "NoneType",
        Value::Bool(_) => "bool",
        Value::Number(number) if number.is_f64() => "float",
        Value::Number(_) => "int",
        Value::String(_) => "str",
        Value::Array(_) => "list",
        Value::Object(_) => "dict",
    }
}

/// The body of an answer.
#[derive(Clone, Debug)]
pub(crate) enum Content {
    Empty,
    Json(Value),
    /// Any other text with its content type; none if the server lets the client guess.
    Text(Option<&'static str>, String),
}

/// An answer, before faults.
#[derive(Clone, Debug)]
pub(crate) struct Reply {
    pub(crate) status: u16,
    pub(crate) allow: Option<&'static str>,
    pub(crate) retry_after: Option<u64>,
    pub(crate) location: Option<String>,
    pub(crate) content: Content,
}

impl Reply {
    pub(crate) fn new(status: u16, content: Content) -> Self {
        Self {
            status,
            allow: None,
            retry_after: None,
            location: None,
            content,
        }
    }

    pub(crate) fn json(status: u16, body: Value) -> Self {
        Self::new(status, Content::Json(body))
    }

    pub(crate) fn detail(status: u16, text: &str) -> Self {
        Self::json(status, json!({"detail": text}))
    }

    pub(crate) fn no_content() -> Self {
        Self::new(204, Content::Empty)
    }

    pub(crate) fn forbidden() -> Self {
        Self::detail(403, "You do not have permission to perform this action.")
    }

    /// No row of that class has the key.
    pub(crate) fn missing(version: &Version, class: &str) -> Self {
        if version.names_what_is_missing() {
            Self::detail(404, &format!("No {class} matches the given query."))
        } else {
            Self::not_found()
        }
    }

    pub(crate) fn not_found() -> Self {
        Self::detail(404, "Not found.")
    }

    pub(crate) fn html(status: u16, title: &str) -> Self {
        let page =
            format!("<!DOCTYPE html>\n<html><head><title>{title}</title></head><body><h1>{title}</h1></body></html>\n");
        Self::new(status, Content::Text(Some("text/html; charset=utf-8"), page))
    }

    /// What an unhandled exception becomes.
    pub(crate) fn crash(version: &Version, method: &str) -> Self {
        if version.crashes_with_500() || matches!(method, "GET" | "HEAD" | "OPTIONS") {
            Self::html(500, "Server error - authentik")
        } else {
            Self::only_get()
        }
    }

    /// No URL of the API matches.
    pub(crate) fn unknown_url(version: &Version, method: &str) -> Self {
        if version.crashes_with_500() || matches!(method, "GET" | "HEAD" | "OPTIONS") {
            Self::html(404, "Not Found - authentik")
        } else {
            Self::only_get()
        }
    }

    /// The error view that has only `get`: an empty 405.
    fn only_get() -> Self {
        let empty = Content::Text(Some("text/html; charset=utf-8"), String::new());
        Self {
            allow: Some("GET, HEAD, OPTIONS"),
            ..Self::new(405, empty)
        }
    }
}
