//! The audit log: one event for each row that a request writes, with the request beside it.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use serde_json::{Value, json};
use uuid::Uuid;

use crate::{rights::Model, rows::Row};

/// Who writes, and by which request.
#[derive(Clone, Debug)]
pub struct Actor {
    /// Key of the user.
    pub user: i64,
    /// Name of the user.
    pub username: String,
    /// Path with the API's prefix, without query.
    pub path: String,
    /// HTTP method.
    pub method: String,
    /// As in the answer's `X-authentik-id`.
    pub request_id: String,
    /// `User-Agent` of the request.
    pub user_agent: String,
    /// Query parameters.
    pub args: Vec<(String, String)>,
}

/// What was done to a row.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Action {
    /// `model_created`
    Created,
    /// `model_updated`
    Updated,
    /// `model_deleted`
    Deleted,
}

impl Action {
    /// As the API spells it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Created => "model_created",
            Self::Updated => "model_updated",
            Self::Deleted => "model_deleted",
        }
    }
}

/// One entry of the audit log.
#[derive(Clone, Debug)]
pub struct Event {
    /// Key of the event.
    pub pk: Uuid,
    /// Running number, the order in which events were written.
    pub number: u64,
    /// What was done.
    pub action: Action,
    /// To which kind of row.
    pub model: Model,
    /// Key of the row: 32 hexadecimal digits, or an integer for a device.
    pub model_pk: Value,
    /// Name of the row.
    pub model_name: String,
    /// By whom.
    pub actor: Actor,
    /// When.
    pub created: SystemTime,
}

impl Event {
    pub(crate) fn render(&self) -> Value {
        let args: serde_json::Map<String, Value> = self
            .actor
            .args
            .iter()
            .map(|(key, value)| (key.clone(), json!(value)))
            .collect();
        json!({
            "pk": self.pk.to_string(),
            "user": {"pk": self.actor.user, "username": self.actor.username, "email": ""},
            "action": self.action.as_str(),
            "app": "authentik.events.middleware",
            "context": {
                "model": {
                    "pk": self.model_pk,
                    "app": self.model.app,
                    "name": self.model_name,
                    "model_name": self.model.name,
                },
                "http_request": {
                    "args": args,
                    "path": self.actor.path,
                    "method": self.actor.method,
                    "request_id": self.actor.request_id,
                    "user_agent": self.actor.user_agent,
                },
            },
            "client_ip": "127.0.0.1",
            "created": timestamp(self.created),
            "expires": timestamp(self.created + Duration::from_secs(365 * 86_400)),
            "brand": {},
        })
    }
}

impl Row for Event {
    const MODEL: Model = Model {
        app: "authentik_events",
        name: "event",
        class: "Event",
    };

    fn key(&self) -> String {
        self.pk.to_string()
    }

    fn title(&self) -> String {
        self.action.as_str().to_owned()
    }

    fn column(&self, name: &str) -> Option<Value> {
        Some(match name {
            "pk" | "event_uuid" => json!(self.pk.to_string()),
            "action" => json!(self.action.as_str()),
            "context_model_pk" => match &self.model_pk {
                Value::Number(number) => json!(number.to_string()),
                Value::String(_) | Value::Null | Value::Bool(_) | Value::Array(_) | Value::Object(_) => {
                    self.model_pk.clone()
                }
            },
            "context_model_app" => json!(self.model.app),
            "context_model_name" => json!(self.model.name),
            "username" => json!(self.actor.username),
            // Two events of one microsecond would tie; the running number does not.
            "created" => json!(self.number),
            _ => return None,
        })
    }
}

/// RFC 3339 in UTC with microseconds.
fn timestamp(time: SystemTime) -> String {
    let since = time.duration_since(UNIX_EPOCH).unwrap_or_default();
    let (days, seconds) = (since.as_secs() / 86_400, since.as_secs() % 86_400);
    let (year, month, day) = civil(days);
    format!(
        "{year:04}-{month:02}-{day:02}T{:02}:{:02}:{:02}.{:06}Z",
        seconds / 3600,
        seconds / 60 % 60,
        seconds % 60,
        since.subsec_micros(),
    )
}

/// Date of the given day since 1970-01-01, counted in years that begin in March so that a leap day comes last.
fn civil(days: u64) -> (u64, u64, u64) {
    let days = days + 719_468;
    let (era, day) = (days / 146_097, days % 146_097);
    let year = (day - day / 1460 + day / 36_524 - day / 146_096) / 365;
    let day = day - (365 * year + year / 4 - year / 100);
    let month = (5 * day + 2) / 153;
    let day = day - (153 * month + 2) / 5 + 1;
    let month = if month < 10 { month + 3 } else { month - 9 };
    (era * 400 + year + u64::from(month <= 2), month, day)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn days_become_dates() {
        assert_eq!(civil(0), (1970, 1, 1));
        assert_eq!(civil(19_782), (2024, 2, 29));
        assert_eq!(civil(20_819), (2027, 1, 1));
    }
}
