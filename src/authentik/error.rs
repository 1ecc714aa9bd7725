//! What a call can come to besides its result: one variant per cause.
//!
//! No variant holds a credential. Texts of the server are kept short and without control characters.

use std::collections::BTreeMap;
use std::time::Duration;

use serde_json::Value;

use super::changes::StageChanges;
use super::credential::Redactor;

/// Whether a write that failed may have taken effect all the same.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Effect {
    /// It has not.
    None,
    /// Nobody knows, but a look tells: the server is done with the request.
    Over,
    /// Nobody knows, and it may still do so.
    Unknown,
}

/// Longest text of a server that an error keeps, in characters.
const TEXT_MAX: usize = 500;

/// Why a call brought nothing.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// No connection could be made: name, route, port.
    #[error("cannot connect: {why}")]
    Unreachable {
        /// What the network said.
        why: String,
    },
    /// The connection broke, or no answer came in time, after the request was sent.
    #[error("no answer: {why}")]
    NoAnswer {
        /// What the network said.
        why: String,
    },
    /// The certificate is not trusted, or TLS failed otherwise.
    #[error("TLS failed: {why}")]
    Tls {
        /// What the TLS library said.
        why: String,
    },
    /// The CA bundle cannot be used.
    #[error("the CA bundle is not usable: {why}")]
    CaBundle {
        /// What is wrong with it.
        why: String,
    },
    /// The token cannot stand in a header.
    #[error("the token has characters that cannot stand in an HTTP header")]
    TokenUnusable,
    /// authentik is starting or migrating.
    #[error("authentik is starting")]
    Starting {
        /// How long it asks to wait.
        retry_after: Option<Duration>,
    },
    /// Too many requests, says authentik or a proxy before it.
    #[error("too many requests")]
    RateLimited {
        /// How long it asks to wait.
        retry_after: Option<Duration>,
    },
    /// An error of the server: 5xx, or the empty 405 that older versions give for one.
    #[error("the server failed with status {status}{}", id(.request_id.as_ref()))]
    Server {
        /// HTTP status.
        status: u16,
        /// authentik's request id.
        request_id: Option<String>,
        /// How long it asks to wait.
        retry_after: Option<Duration>,
    },
    /// The token is not accepted.
    #[error("the token is not accepted")]
    Unauthorized,
    /// The token, or its rights, do not allow the call; authentik has one status for both.
    #[error("not allowed: {detail}{}", id(.request_id.as_ref()))]
    Forbidden {
        /// The server's words.
        detail: String,
        /// authentik's request id.
        request_id: Option<String>,
    },
    /// No such object, says the API itself.
    #[error("no such object{}", id(.request_id.as_ref()))]
    NotFound {
        /// authentik's request id.
        request_id: Option<String>,
    },
    /// Values were refused, by field.
    #[error("refused: {}{}", fields_text(.fields), id(.request_id.as_ref()))]
    Validation {
        /// The server's words by field.
        fields: BTreeMap<String, Vec<String>>,
        /// authentik's request id.
        request_id: Option<String>,
    },
    /// authentik refuses writes because its licence has expired.
    #[error("authentik is read-only: its enterprise licence has expired")]
    ReadOnly,
    /// Refused, but not for the value of a field.
    #[error("refused with status {status}: {detail}{}", id(.request_id.as_ref()))]
    Refused {
        /// HTTP status.
        status: u16,
        /// The server's words.
        detail: String,
        /// authentik's request id.
        request_id: Option<String>,
    },
    /// What answers is not authentik's API.
    #[error("what answers there is not authentik's API: {why}")]
    NotAuthentik {
        /// What it answered.
        why: String,
    },
    /// An answer that cannot be used: too large, cut short, not JSON, not of the expected form.
    #[error("unusable answer: {why}{}", id(.request_id.as_ref()))]
    InvalidResponse {
        /// What is wrong with it.
        why: String,
        /// authentik's request id.
        request_id: Option<String>,
    },
}

impl Error {
    /// Whether a write that ended so may have taken effect.
    #[must_use]
    pub const fn effect(&self) -> Effect {
        match self {
            // What authentik itself says of an exception, by status. Other 5xx come from what stands before it, and that
            // may have lost its patience with a request that goes on.
            Self::Server { status: 405 | 500, .. } => Effect::Over,
            Self::NoAnswer { .. }
            | Self::Starting { .. }
            | Self::Server { .. }
            | Self::NotAuthentik { .. }
            | Self::InvalidResponse { .. } => Effect::Unknown,
            Self::Unreachable { .. }
            | Self::Tls { .. }
            | Self::CaBundle { .. }
            | Self::TokenUnusable
            | Self::RateLimited { .. }
            | Self::Unauthorized
            | Self::Forbidden { .. }
            | Self::NotFound { .. }
            | Self::Validation { .. }
            | Self::ReadOnly
            | Self::Refused { .. } => Effect::None,
        }
    }

    /// How long the server asks to wait.
    #[must_use]
    pub const fn retry_after(&self) -> Option<Duration> {
        match self {
            Self::Starting { retry_after } | Self::RateLimited { retry_after } | Self::Server { retry_after, .. } => {
                *retry_after
            }
            Self::Unreachable { .. }
            | Self::NoAnswer { .. }
            | Self::Tls { .. }
            | Self::CaBundle { .. }
            | Self::TokenUnusable
            | Self::Unauthorized
            | Self::Forbidden { .. }
            | Self::NotFound { .. }
            | Self::Validation { .. }
            | Self::ReadOnly
            | Self::Refused { .. }
            | Self::NotAuthentik { .. }
            | Self::InvalidResponse { .. } => None,
        }
    }
}

fn id(request_id: Option<&String>) -> String {
    request_id.map(|id| format!(" (request {id})")).unwrap_or_default()
}

fn fields_text(fields: &BTreeMap<String, Vec<String>>) -> String {
    fields
        .iter()
        .map(|(field, texts)| format!("{field}: {}", texts.join(" ")))
        .collect::<Vec<_>>()
        .join("; ")
}

/// A server's text, short and printable.
pub(super) fn bounded(text: &str) -> String {
    text.chars().filter(|c| !c.is_control()).take(TEXT_MAX).collect()
}

/// The refused fields of a 400, if that is what its body has, without credentials that the server echoes.
///
/// `{"detail": ...}` alone is no field: it is how the API refuses what never reached a field.
pub(super) fn refused_fields(body: &Value, redactor: &Redactor<'_>) -> Option<BTreeMap<String, Vec<String>>> {
    let object = body.as_object()?;
    let fields: BTreeMap<_, _> = object
        .iter()
        .filter(|(key, _)| !matches!(key.as_str(), "detail" | "code"))
        .take(64)
        .map(|(key, value)| (field_name(key, redactor), texts(value, redactor)))
        .collect();
    (!fields.is_empty()).then_some(fields)
}

/// A name of ours stays as it is even where a credential happens to be the same word.
fn field_name(key: &str, redactor: &Redactor<'_>) -> String {
    if key == "non_field_errors" || StageChanges::FIELDS.contains(&key) {
        return key.to_owned();
    }
    bounded(&redactor.clean(key))
}

fn texts(value: &Value, redactor: &Redactor<'_>) -> Vec<String> {
    match value {
        Value::String(text) => vec![bounded(&redactor.clean(text))],
        Value::Array(items) => items
            .iter()
            .take(16)
            .flat_map(|item| texts(item, redactor))
            .take(16)
            .collect(),
        // Nested serializers give nested objects.
        Value::Object(members) => members
            .iter()
            .take(16)
            .flat_map(|(key, value)| {
                let key = field_name(key, redactor);
                texts(value, redactor)
                    .into_iter()
                    .map(move |text| format!("{key}: {text}"))
            })
            .take(16)
            .collect(),
        Value::Null | Value::Bool(_) | Value::Number(_) => vec![bounded(&redactor.clean(&value.to_string()))],
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_400_without_field_keys_refuses_no_field() {
        let refused = |body| refused_fields(&body, &Redactor::new([]));
        assert_eq!(refused(json!({"detail": "JSON parse error - x"})), None);
        assert_eq!(refused(json!({"detail": "expired", "code": "denied_license"})), None);
        assert_eq!(refused(json!(["x"])), None);
    }

    #[test]
    fn fields_keep_the_servers_words_also_from_nested_objects() {
        let body = json!({
            "name": ["stage with this name already exists."],
            "flow_set": [{"slug": ["Flow with this slug already exists."]}],
        });
        let fields = refused_fields(&body, &Redactor::new([])).unwrap();
        assert_eq!(fields["name"], ["stage with this name already exists."]);
        assert_eq!(fields["flow_set"], ["slug: Flow with this slug already exists."]);
    }

    #[test]
    fn what_a_server_echoes_is_redacted_but_a_field_keeps_its_name() {
        let (user, password) = ("name".into(), "s3cret".into());
        let body = json!({"name": ["s3cret is taken"], "auth_password": [{"s3cret": ["bad name"]}]});
        let fields = refused_fields(&body, &Redactor::new([&user, &password])).unwrap();
        assert_eq!(fields["name"], ["(sensitive) is taken"]);
        assert_eq!(fields["auth_password"], ["(sensitive): bad (sensitive)"]);
    }
}
