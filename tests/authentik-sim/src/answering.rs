//! From a reply to bytes: headers that authentik sets on everything, and faults that spoil the body.

use hyper::{
    Response, StatusCode,
    body::Bytes,
    header::{self, HeaderValue},
};

use crate::{
    body::Wire,
    faults::{Answer, What},
    message::{Content, Reply, Request},
    server::{Answered, Ending},
    version::Version,
};

/// The reply on the wire, spoiled as the fault says.
pub(crate) fn respond(version: &Version, request: &Request, reply: Reply, fault: Option<&What>) -> Answered {
    let Reply {
        status,
        allow,
        retry_after,
        location,
        content,
    } = reply;
    let (content_type, text) = match content {
        Content::Empty => (None, String::new()),
        Content::Json(value) => (Some(version.json_content_type()), value.to_string()),
        Content::Text(content_type, text) => (content_type, text),
    };
    let whole = Bytes::from(text);
    let mut content_type = content_type;
    let mut ending = Ending::Keep;
    let wire = match fault {
        Some(What::CutBody) => Wire::cut(&whole),
        Some(What::SlowBody(rate)) => Wire::slow(whole, *rate),
        Some(What::HugeBody(size)) => Wire::huge(*size),
        Some(What::DeepJson(depth)) => {
            let nested = "[".repeat(*depth) + &"]".repeat(*depth);
            Wire::Whole(Bytes::from(nested))
        }
        Some(What::WrongContentType) => {
            content_type = Some("text/plain; charset=utf-8");
            Wire::Whole(whole)
        }
        Some(What::NotJson) => Wire::Whole(Bytes::from_static(b"<!DOCTYPE html><html></html>")),
        Some(What::CloseAfterAnswer) => {
            ending = Ending::CloseUnannounced;
            Wire::Whole(whole)
        }
        Some(What::StaleConnection) => {
            ending = Ending::Stale;
            Wire::Whole(whole)
        }
        Some(
            What::Delay(_)
            | What::Hang
            | What::HangAfterEffect
            | What::Answer(_)
            | What::AnswerAfterEffect(_)
            | What::Crash
            | What::CrashAfterEffect
            | What::ResetBeforeEffect
            | What::ResetAfterEffect
            | What::CommitLater(_)
            | What::EndlessPages,
        )
        | None => Wire::Whole(whole),
    };

    let mut response = Response::new(wire);
    *response.status_mut() = StatusCode::from_u16(status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    let headers = response.headers_mut();
    let mut set = |name: header::HeaderName, value: &str| {
        if let Ok(value) = HeaderValue::from_str(value) {
            headers.insert(name, value);
        }
    };
    set(header::HeaderName::from_static("x-powered-by"), "authentik");
    set(header::HeaderName::from_static("x-authentik-id"), &request.id);
    if let Some(content_type) = content_type {
        set(header::CONTENT_TYPE, content_type);
    }
    if let Some(allow) = allow {
        set(header::ALLOW, allow);
    }
    if let Some(seconds) = retry_after {
        set(header::RETRY_AFTER, &seconds.to_string());
    }
    if let Some(location) = location {
        set(header::LOCATION, &location);
    }
    if version.translates() {
        set(header::VARY, "Accept-Language, Cookie");
        set(
            header::CONTENT_LANGUAGE,
            if request.accept_language.starts_with("de") {
                "de"
            } else {
                "en"
            },
        );
    } else {
        set(header::VARY, "Cookie");
    }
    Answered { response, ending }
}

/// An answer that a test wrote, without any header of authentik's: it may stand for a proxy's.
pub(crate) fn given(answer: &Answer) -> Answered {
    let mut response = Response::new(Wire::Whole(Bytes::from(answer.body.clone())));
    *response.status_mut() = StatusCode::from_u16(answer.status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    let mut set = |name: header::HeaderName, value: &str| {
        if let Ok(value) = HeaderValue::from_str(value) {
            response.headers_mut().insert(name, value);
        }
    };
    set(header::CONTENT_TYPE, &answer.content_type);
    if let Some(value) = &answer.retry_after {
        set(header::RETRY_AFTER, value);
    }
    Answered {
        response,
        ending: Ending::Keep,
    }
}
