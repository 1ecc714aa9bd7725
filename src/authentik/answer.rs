//! What an answer means, by status, media type and body.
//!
//! ```text
//! 2xx JSON          a result           4xx JSON   refused: by field, by right, by licence, as unknown
//! 2xx {"error": …}  it is starting     4xx HTML   not the API, but for the empty 405 of a server error
//! 2xx HTML          not the API        5xx        the server failed, or {"error": …}: it is starting
//! 3xx               not the API        401, 407   not the API: authentik says 403
//! ```

use std::time::Duration;

use serde::Deserialize;
use serde_json::Value;

use super::credential::Redactor;
use super::error::{Error, bounded, refused_fields};

/// What is kept of an answer's head.
#[derive(Clone, Debug, Default)]
pub(super) struct Head {
    pub status: u16,
    /// Media type without its parameters, in lower case.
    pub media_type: String,
    pub retry_after: Option<Duration>,
    /// authentik's id of the request.
    pub request_id: Option<String>,
    /// Where a redirect leads: scheme, host and port, never a path or a query.
    pub redirect_to: Option<String>,
    /// Whether authentik's own server, not a proxy before it, has answered.
    pub is_from_authentik: bool,
}

impl Head {
    fn is_json(&self) -> bool {
        self.media_type == "application/json"
    }

    fn is_html(&self) -> bool {
        self.media_type == "text/html"
    }

    fn has_no_content(&self) -> bool {
        self.status == 204
    }

    /// What a person would call the body.
    fn body_kind(&self) -> &str {
        match self.media_type.as_str() {
            "" => "no content type",
            "text/html" => "an HTML page",
            other => other,
        }
    }
}

/// Whether the answer is a result, and else which failure it is.
pub(super) fn check(head: &Head, body: &[u8], redactor: &Redactor<'_>) -> Result<(), Error> {
    match head.status {
        200..=299 => check_success(head, body),
        300..=399 => Err(Error::NotAuthentik {
            why: match &head.redirect_to {
                Some(origin) => format!("it redirects to {origin} (status {})", head.status),
                None => format!("it redirects (status {})", head.status),
            },
        }),
        429 => Err(Error::RateLimited {
            retry_after: head.retry_after,
        }),
        500..=599 => Err(server_error(head, body)),
        status => Err(client_error(status, head, body, redactor)),
    }
}

fn check_success(head: &Head, body: &[u8]) -> Result<(), Error> {
    if head.has_no_content() || (head.is_json() && !is_starting(body)) {
        return Ok(());
    }
    if is_starting(body) {
        // 2025.10.0 says so with 200.
        return Err(Error::Starting {
            retry_after: head.retry_after,
        });
    }
    if head.is_html() {
        return Err(not_authentik(head));
    }
    Err(Error::InvalidResponse {
        why: format!(
            "status {} with {} instead of JSON",
            head.status,
            bounded(head.body_kind())
        ),
        request_id: head.request_id.clone(),
    })
}

fn server_error(head: &Head, body: &[u8]) -> Error {
    // Its outer server answers while the inner one starts: as JSON, and up to 2025.8 called text.
    let starting = matches!(head.status, 502 | 503)
        && (is_starting(body) || (!head.is_html() && String::from_utf8_lossy(body).contains("authentik starting")));
    if starting {
        return Error::Starting {
            retry_after: head.retry_after,
        };
    }
    Error::Server {
        status: head.status,
        request_id: head.request_id.clone(),
        retry_after: head.retry_after,
    }
}

fn client_error(status: u16, head: &Head, body: &[u8], redactor: &Redactor<'_>) -> Error {
    let request_id = head.request_id.clone();
    let json: Option<Value> = head.is_json().then(|| serde_json::from_slice(body).ok()).flatten();
    let text = |key: &str| {
        let text = json.as_ref().and_then(|json| json.get(key)).and_then(Value::as_str);
        text.map(|text| bounded(&redactor.clean(text)))
    };
    let detail = text("detail");
    match (status, &json) {
        // Up to 2026.5 an exception in anything but a GET ends so. A proxy's time-out is the server's failure too.
        (405, None) if body.is_empty() => server_error(head, body),
        (408, _) => server_error(head, body),
        (413 | 415, _) => Error::Refused {
            status,
            detail: detail.unwrap_or_default(),
            request_id,
        },
        (401 | 407, _) | (_, None) => not_authentik(head),
        (400, Some(_)) if text("code").as_deref() == Some("denied_license") => Error::ReadOnly,
        (400, Some(json)) => match refused_fields(json, redactor) {
            Some(fields) => Error::Validation { fields, request_id },
            None => Error::Refused {
                status,
                detail: detail.unwrap_or_default(),
                request_id,
            },
        },
        (403, Some(_)) => Error::Forbidden {
            detail: detail.unwrap_or_default(),
            request_id,
        },
        (404, Some(_)) => match detail {
            Some(_) => Error::NotFound { request_id },
            None => not_authentik(head),
        },
        (_, Some(_)) => Error::Refused {
            status,
            detail: detail.unwrap_or_default(),
            request_id,
        },
    }
}

fn not_authentik(head: &Head) -> Error {
    let (status, kind) = (head.status, bounded(head.body_kind()));
    Error::NotAuthentik {
        why: if head.is_from_authentik {
            format!("status {status} with {kind} from authentik's web server: no API under this path")
        } else {
            format!("status {status} with {kind}")
        },
    }
}

/// `{"error": "authentik starting"}` and its like: an object of that one member.
fn is_starting(body: &[u8]) -> bool {
    #[derive(Deserialize)]
    #[serde(deny_unknown_fields)]
    struct Starting {
        #[serde(rename = "error")]
        _error: String,
    }
    serde_json::from_slice::<Starting>(body).is_ok()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::json;

    use super::*;

    fn meaning(status: u16, media_type: &str, body: &str) -> Result<(), Error> {
        let head = Head {
            status,
            media_type: media_type.to_owned(),
            retry_after: Some(Duration::from_secs(5)),
            request_id: Some("r".to_owned()),
            redirect_to: Some("https://elsewhere".to_owned()),
            is_from_authentik: false,
        };
        check(&head, body.as_bytes(), &Redactor::new([]))
    }

    const JSON: &str = "application/json";
    const HTML: &str = "text/html";
    const DETAIL: &str = r#"{"detail":"words"}"#;
    const PAGE: &str = "<!DOCTYPE html><title>Not Found</title>";

    #[test]
    #[allow(clippy::too_many_lines)] // one table
    fn every_answer_that_authentik_or_a_proxy_gives_has_one_meaning() {
        let request_id = || Some("r".to_owned());
        let retry_after = Some(Duration::from_secs(5));
        let server = |status| Error::Server {
            status,
            request_id: request_id(),
            retry_after,
        };
        let refused = |status, detail: &str| Error::Refused {
            status,
            detail: detail.into(),
            request_id: request_id(),
        };
        let starting = || Error::Starting { retry_after };
        for (status, media_type, body, error, why) in [
            (
                200,
                JSON,
                r#"{"error":"authentik starting"}"#,
                starting(),
                "2025.10.0 while it starts",
            ),
            (
                200,
                "text/plain",
                r#"{"error":"authentik starting"}"#,
                starting(),
                "the same, its type guessed",
            ),
            (
                503,
                JSON,
                r#"{"error":"authentik starting"}"#,
                starting(),
                "2025.10.1 and later",
            ),
            (
                502,
                JSON,
                r#"{"error":"failed to connect to authentik backend: x"}"#,
                starting(),
                "up to 2025.8",
            ),
            (
                502,
                "text/plain",
                r#"{"error":"failed to connect: x"}"#,
                starting(),
                "the same, its type guessed",
            ),
            (503, "text/plain", "authentik starting", starting(), "as text"),
            (503, "text/plain", "no healthy upstream", server(503), "a proxy's own"),
            (503, HTML, PAGE, server(503), "a proxy's own page"),
            (500, HTML, PAGE, server(500), "an exception"),
            (
                500,
                JSON,
                r#"{"error":"x"}"#,
                server(500),
                "only 502 and 503 mean that it starts",
            ),
            (405, HTML, "", server(405), "an exception, up to 2026.5"),
            (408, HTML, "", server(408), "a proxy lost patience"),
            (405, JSON, DETAIL, refused(405, "words"), "a method that is not allowed"),
            (400, JSON, DETAIL, refused(400, "words"), "never reached a field"),
            (400, JSON, "[]", refused(400, ""), "no object"),
            (413, HTML, PAGE, refused(413, ""), "a proxy's limit"),
            (415, JSON, DETAIL, refused(415, "words"), "a wrong media type"),
            (409, JSON, DETAIL, refused(409, "words"), "what later versions may say"),
            (
                400,
                JSON,
                r#"{"detail":"x","code":"denied_license"}"#,
                Error::ReadOnly,
                "the licence expired",
            ),
            (
                429,
                HTML,
                PAGE,
                Error::RateLimited { retry_after },
                "a proxy's limit of requests",
            ),
            (
                403,
                JSON,
                DETAIL,
                Error::Forbidden {
                    detail: "words".into(),
                    request_id: request_id(),
                },
                "a missing right, or a bad token",
            ),
            (
                404,
                JSON,
                DETAIL,
                Error::NotFound {
                    request_id: request_id(),
                },
                "the API itself knows no such object",
            ),
        ] {
            assert_eq!(
                meaning(status, media_type, body),
                Err(error),
                "{status} {media_type} {body}: {why}"
            );
        }
    }

    #[test]
    fn what_authentiks_api_never_says_is_not_authentiks_api() {
        for (status, media_type, body, why) in [
            (200, HTML, PAGE, "a page where JSON should be"),
            (
                204 + 1,
                HTML,
                PAGE,
                "another success with a page: no delete is believed from it",
            ),
            (301, "", "", "a redirect"),
            (302, HTML, PAGE, "a login page of a proxy"),
            (400, HTML, PAGE, "http spoken to an https port"),
            (401, JSON, DETAIL, "authentik says 403"),
            (403, HTML, PAGE, "a firewall"),
            (404, HTML, PAGE, "a wrong base path"),
            (404, JSON, r#"{"message":"no route"}"#, "a gateway's 404"),
            (405, HTML, PAGE, "a web server with static files"),
            (407, JSON, DETAIL, "a proxy wants credentials"),
        ] {
            let result = meaning(status, media_type, body);
            assert!(
                matches!(result, Err(Error::NotAuthentik { .. })),
                "{status}: {why}: {result:?}"
            );
        }
    }

    #[test]
    fn results_are_json_or_nothing() {
        assert_eq!(meaning(200, JSON, "{}"), Ok(()));
        assert_eq!(
            meaning(201, JSON, r#"{"error":"x","pk":1}"#),
            Ok(()),
            "a field may have that name"
        );
        assert_eq!(meaning(204, "", ""), Ok(()));
        for media_type in ["text/plain", "", "application/octet-stream"] {
            let result = meaning(200, media_type, "{}");
            assert!(
                matches!(result, Err(Error::InvalidResponse { .. })),
                "{media_type}: {result:?}"
            );
        }
    }

    #[test]
    fn refused_fields_come_through() {
        let body = json!({"name": ["stage with this name already exists."]}).to_string();
        let Err(Error::Validation { fields, request_id }) = meaning(400, JSON, &body) else {
            panic!("{body}")
        };
        assert_eq!(fields["name"], ["stage with this name already exists."]);
        assert_eq!(request_id.as_deref(), Some("r"));
    }

    proptest! {
        #[test]
        fn any_answer_has_a_meaning(
            status in 100u16..=999,
            media_type in prop_oneof![Just(JSON), Just(HTML), Just(""), Just("text/plain")],
            body in prop_oneof![".{0,64}", r#"\{"[a-z]{1,6}":(\[|\{|"|[0-9]).{0,32}"#],
        ) {
            let result = meaning(status, media_type, &body);
            prop_assert!(result.is_err() || (200..300).contains(&status));
        }
    }
}
