//! Sends one request and brings its answer, within bounds: time, size, number at once.
//!
//! No redirect is followed, no credential is in a URL, and what goes wrong is told without the URL. A connection that
//! the server closes while it is idle is nobody's failure: idle connections are given up before servers usually do
//! so, what can be repeated is sent once more, and a POST, which cannot, never travels on a used connection.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use reqwest::header::{self, HeaderMap, HeaderValue};
use secrecy::SecretString;
use tokio::sync::Semaphore;
use tokio::time::{Instant, timeout_at};
use url::Url;
use zeroize::Zeroizing;

use super::answer::{self, Head};
use super::changes::{PRODUCT, StageChanges, WriteTag};
use super::credential::{self, Redactor};
use super::endpoint::Endpoint;
use super::error::{Effect, Error, bounded};
use super::observer::{Call, Method, Observer, Outcome, Route};

/// Largest body that is read, in bytes: a page of 100 stages with all their flows has a fraction of it.
const BODY_MAX: usize = 4 << 20;

/// Largest CA bundle, in bytes: what fits into a ConfigMap.
const CA_BUNDLE_MAX: usize = 1 << 20;

/// How long a connection may be idle. Servers and proxies close theirs after 5 s at the earliest.
const IDLE_MAX: Duration = Duration::from_secs(3);

/// Longest wait that a server may ask for.
const RETRY_AFTER_MAX: Duration = Duration::from_secs(3600);

/// How to reach one authentik.
pub struct ClientConfig {
    /// Where it is.
    pub endpoint: Endpoint,
    /// API token.
    pub token: SecretString,
    /// PEM certificates that are trusted besides the public roots.
    pub ca_bundle: Option<Vec<u8>>,
    /// How long a call may take in all, with waiting for its turn and with its repetition.
    pub timeout: Duration,
    /// How many calls may be under way at once; at least one.
    pub max_concurrent: usize,
    /// Who is told of every call.
    pub observer: Arc<dyn Observer>,
}

/// A connection pool to one authentik.
pub(super) struct Transport {
    /// For what can be repeated.
    pooled: reqwest::Client,
    /// For POST: each on a connection of its own.
    fresh: reqwest::Client,
    endpoint: Endpoint,
    token: SecretString,
    authorization: HeaderValue,
    timeout: Duration,
    turns: Semaphore,
    observer: Arc<dyn Observer>,
}

/// What is sent.
pub(super) struct Request<'a> {
    pub method: Method,
    pub route: Route,
    pub url: Url,
    /// Who writes; nobody for a read.
    pub tag: Option<&'a WriteTag>,
    /// What is written: the fields, and they as JSON.
    pub body: Option<(&'a StageChanges, Bytes)>,
    /// When the call must have ended.
    pub deadline: Instant,
}

impl Transport {
    pub fn new(config: ClientConfig) -> Result<Self, Error> {
        let ClientConfig {
            endpoint,
            token,
            ca_bundle,
            timeout,
            max_concurrent,
            observer,
        } = config;
        let authorization = credential::bearer(&token).ok_or(Error::TokenUnusable)?;
        let roots = ca_bundle.as_deref().map(certificates).transpose()?.unwrap_or_default();
        let client = |idle_connections| {
            let builder = reqwest::Client::builder()
                .redirect(reqwest::redirect::Policy::none())
                .referer(false)
                // The rest is for the answer; a server that takes no connection is told from one that is slow.
                .connect_timeout(timeout.mul_f32(0.75))
                .pool_idle_timeout(IDLE_MAX)
                .pool_max_idle_per_host(idle_connections);
            let builder = if endpoint.is_https() {
                builder.tls_certs_merge(roots.clone())
            } else {
                // Loading the public roots costs time, and fails where there are none; http needs none.
                builder.tls_certs_only([])
            };
            builder.build().map_err(|error| unusable_roots(&roots, &error))
        };
        Ok(Self {
            pooled: client(max_concurrent.max(1))?,
            fresh: client(0)?,
            endpoint,
            token,
            authorization,
            timeout,
            turns: Semaphore::new(max_concurrent.max(1)),
            observer,
        })
    }

    pub fn endpoint(&self) -> &Endpoint {
        &self.endpoint
    }

    pub fn timeout(&self) -> Duration {
        self.timeout
    }

    /// When a call that starts now must have ended.
    pub fn deadline(&self) -> Instant {
        Instant::now() + self.timeout
    }

    /// Sends a request, and once more if its connection was lost before an answer, and reads the answer.
    ///
    /// `read` gets the body of a success and says what is wrong with it, without its content.
    pub async fn call<T>(&self, request: Request<'_>, read: impl Fn(&[u8]) -> Result<T, String>) -> Result<T, Error> {
        let Ok(Ok(_turn)) = timeout_at(request.deadline, self.turns.acquire()).await else {
            return Err(Error::Unreachable {
                why: format!("no turn within {:?}: others still wait", self.timeout),
            });
        };
        match self.attempt(&request, &read).await {
            // reqwest does not tell whether the connection was a used one; on a new one a repetition does no harm.
            Err(Attempt::Lost(error)) if request.method.is_repeatable() || error.effect() == Effect::None => {
                self.attempt(&request, &read).await.map_err(Attempt::into_error)
            }
            result => result.map_err(Attempt::into_error),
        }
    }

    async fn attempt<T>(
        &self,
        request: &Request<'_>,
        read: &impl Fn(&[u8]) -> Result<T, String>,
    ) -> Result<T, Attempt> {
        let started = Instant::now();
        let mut status = None;
        let result = self.exchange(request, read, &mut status).await;
        let outcome = match &result {
            Ok(_) => Outcome::Ok,
            Err(attempt) => outcome(attempt.error()),
        };
        let (method, route) = (request.method, request.route);
        let (verb, place, end) = (method.as_str(), route.as_str(), outcome.as_str());
        tracing::debug!(method = verb, route = place, status, outcome = end, "called authentik");
        self.observer.called(&Call {
            method,
            route,
            outcome,
            duration: started.elapsed(),
        });
        result
    }

    async fn exchange<T>(
        &self,
        request: &Request<'_>,
        read: &impl Fn(&[u8]) -> Result<T, String>,
        status: &mut Option<u16>,
    ) -> Result<T, Attempt> {
        let http = if request.method.is_repeatable() {
            &self.pooled
        } else {
            &self.fresh
        };
        let method = match request.method {
            Method::Get => reqwest::Method::GET,
            Method::Options => reqwest::Method::OPTIONS,
            Method::Post => reqwest::Method::POST,
            Method::Patch => reqwest::Method::PATCH,
            Method::Delete => reqwest::Method::DELETE,
        };
        let agent = request.tag.map_or_else(|| PRODUCT.to_owned(), WriteTag::user_agent);
        let mut builder = http
            .request(method, request.url.clone())
            .timeout(request.deadline.saturating_duration_since(Instant::now()))
            // Exactly this: else a starting server answers with a page. And English, else texts are translated.
            .header(header::ACCEPT, "application/json")
            .header(header::ACCEPT_LANGUAGE, "en")
            .header(header::AUTHORIZATION, self.authorization.clone())
            .header(header::USER_AGENT, agent);
        if let Some((_, json)) = &request.body {
            builder = builder
                .header(header::CONTENT_TYPE, "application/json")
                .body(json.clone());
        }
        let mut response = builder.send().await.map_err(|error| self.unsent(&error))?;
        let head = head(&response);
        *status = Some(head.status);
        let sent = request.body.iter().flat_map(|(changes, _)| changes.credentials());
        let redactor = Redactor::new(sent.chain([&self.token]));
        let body = match read_body(&mut response).await {
            Ok(body) => body,
            // A page of a failed server says no more than its status.
            Err(_) if head.status >= 500 => Zeroizing::default(),
            Err(Unread::TooLarge) => {
                let why = format!("status {} with more than {} MiB", head.status, BODY_MAX >> 20);
                return Err(Error::InvalidResponse {
                    why,
                    request_id: head.request_id,
                }
                .into());
            }
            Err(Unread::Broken(error)) if error.is_timeout() => {
                return Err(Error::NoAnswer {
                    why: format!("half an answer within {:?}", self.timeout),
                }
                .into());
            }
            Err(Unread::Broken(error)) => {
                let why = format!("cut short: {}", causes(&error));
                return Err(Error::InvalidResponse {
                    why,
                    request_id: head.request_id,
                }
                .into());
            }
        };
        answer::check(&head, &body, &redactor)?;
        read(&body).map_err(|why| {
            Error::InvalidResponse {
                why,
                request_id: head.request_id,
            }
            .into()
        })
    }

    /// Why there is no answer.
    fn unsent(&self, error: &reqwest::Error) -> Attempt {
        if error.is_connect() {
            let tls = chain(error).find_map(|cause| cause.downcast_ref::<rustls::Error>());
            return match tls {
                Some(rustls::Error::InvalidMessage(_)) => Error::Tls {
                    why: "the server does not speak TLS on that port".to_owned(),
                },
                Some(tls) => Error::Tls {
                    why: bounded(&tls.to_string()),
                },
                None if error.is_timeout() => Error::Unreachable {
                    why: "no connection in time".to_owned(),
                },
                None => Error::Unreachable { why: causes(error) },
            }
            .into();
        }
        if error.is_timeout() {
            return Error::NoAnswer {
                why: format!("nothing within {:?}", self.timeout),
            }
            .into();
        }
        match chain(error).find_map(|cause| cause.downcast_ref::<hyper::Error>()) {
            Some(http) if http.is_parse() => Error::NotAuthentik {
                why: format!("it does not speak HTTP: {}", bounded(&http.to_string())),
            }
            .into(),
            // It never left its queue.
            Some(http) if http.is_canceled() => Attempt::Lost(Error::Unreachable { why: causes(error) }),
            _ => Attempt::Lost(Error::NoAnswer { why: causes(error) }),
        }
    }
}

/// How one attempt failed.
enum Attempt {
    /// The connection was lost before an answer began.
    Lost(Error),
    /// Anything else.
    Failed(Error),
}

impl From<Error> for Attempt {
    fn from(error: Error) -> Self {
        Self::Failed(error)
    }
}

impl Attempt {
    fn error(&self) -> &Error {
        match self {
            Self::Lost(error) | Self::Failed(error) => error,
        }
    }

    fn into_error(self) -> Error {
        match self {
            Self::Lost(error) | Self::Failed(error) => error,
        }
    }
}

fn outcome(error: &Error) -> Outcome {
    match error {
        Error::Unreachable { .. } | Error::NoAnswer { .. } | Error::Tls { .. } => Outcome::NoAnswer,
        Error::Starting { .. } | Error::Server { .. } => Outcome::ServerError,
        Error::RateLimited { .. } => Outcome::RateLimited,
        Error::Unauthorized
        | Error::Forbidden { .. }
        | Error::NotFound { .. }
        | Error::Validation { .. }
        | Error::ReadOnly
        | Error::Refused { .. } => Outcome::ClientError,
        Error::CaBundle { .. } | Error::TokenUnusable | Error::NotAuthentik { .. } | Error::InvalidResponse { .. } => {
            Outcome::Invalid
        }
    }
}

/// The certificates of a PEM bundle.
fn certificates(pem: &[u8]) -> Result<Vec<reqwest::Certificate>, Error> {
    let unusable = |why: &str| Error::CaBundle { why: why.to_owned() };
    if pem.len() > CA_BUNDLE_MAX {
        return Err(unusable("it has more than 1 MiB"));
    }
    let certificates = reqwest::Certificate::from_pem_bundle(pem).map_err(|_| unusable("it is not PEM"))?;
    if certificates.is_empty() {
        return Err(unusable(
            "it has no certificate: a line \"-----BEGIN CERTIFICATE-----\" must begin each",
        ));
    }
    Ok(certificates)
}

/// Why no client could be made. Only the roots can be the reason: all else is constant.
fn unusable_roots(roots: &[reqwest::Certificate], error: &reqwest::Error) -> Error {
    let is_unusable = |root: &reqwest::Certificate| {
        reqwest::Client::builder()
            .tls_certs_only([root.clone()])
            .build()
            .is_err()
    };
    match roots.iter().position(is_unusable) {
        Some(index) => Error::CaBundle {
            why: format!("certificate {} cannot be read", index + 1),
        },
        None => Error::Tls { why: causes(error) },
    }
}

fn head(response: &reqwest::Response) -> Head {
    let headers = response.headers();
    let text = |name| headers.get(name).and_then(|value: &HeaderValue| value.to_str().ok());
    let media_type = text(header::CONTENT_TYPE.as_str())
        .and_then(|value| value.split(';').next())
        .unwrap_or_default();
    let redirect_to = text(header::LOCATION.as_str()).and_then(|location| response.url().join(location).ok());
    Head {
        status: response.status().as_u16(),
        media_type: media_type.trim().to_ascii_lowercase(),
        retry_after: retry_after(headers),
        request_id: text("x-authentik-id").map(|id| id.chars().filter(|c| !c.is_control()).take(64).collect()),
        redirect_to: redirect_to.map(|url| bounded(&url.origin().ascii_serialization())),
        is_from_authentik: text("x-powered-by").is_some_and(|by| by.eq_ignore_ascii_case("authentik")),
    }
}

/// `Retry-After` in seconds, or as a date, which is measured from the answer's own `Date`: clocks differ.
fn retry_after(headers: &HeaderMap) -> Option<Duration> {
    let text = |name| headers.get(name).and_then(|value| value.to_str().ok()).map(str::trim);
    let value = text(header::RETRY_AFTER)?;
    let wait = if let Ok(seconds) = value.parse() {
        Duration::from_secs(seconds)
    } else {
        let until = httpdate::parse_http_date(value).ok()?;
        let now = httpdate::parse_http_date(text(header::DATE)?).ok()?;
        until.duration_since(now).unwrap_or_default()
    };
    Some(wait.min(RETRY_AFTER_MAX))
}

enum Unread {
    TooLarge,
    Broken(reqwest::Error),
}

/// Reads a body of at most [`BODY_MAX`] bytes.
async fn read_body(response: &mut reqwest::Response) -> Result<Zeroizing<Vec<u8>>, Unread> {
    let announced = usize::try_from(response.content_length().unwrap_or_default()).unwrap_or(usize::MAX);
    if announced > BODY_MAX {
        return Err(Unread::TooLarge);
    }
    let mut body = Zeroizing::new(Vec::with_capacity(announced));
    while let Some(chunk) = response.chunk().await.map_err(Unread::Broken)? {
        let len = body.len() + chunk.len();
        if len > BODY_MAX {
            return Err(Unread::TooLarge);
        }
        if len > body.capacity() {
            // A vector that grows by itself leaves its old memory as it was.
            let mut larger = Zeroizing::new(Vec::with_capacity(len.next_power_of_two()));
            larger.extend_from_slice(&body);
            body = larger;
        }
        body.extend_from_slice(&chunk);
    }
    Ok(body)
}

/// An error and what caused it. I/O errors hide the inner one from `source`.
fn chain<'a>(error: &'a reqwest::Error) -> impl Iterator<Item = &'a (dyn std::error::Error + 'static)> {
    let first: &'a (dyn std::error::Error + 'static) = error;
    std::iter::successors(Some(first), |cause| {
        let cause = *cause;
        match cause.downcast_ref::<io::Error>().and_then(io::Error::get_ref) {
            Some(inner) => Some(inner),
            None => cause.source(),
        }
    })
}

/// The causes of an error as text, without its URL.
fn causes(error: &reqwest::Error) -> String {
    // The first one says only that a request failed, and for which URL.
    let mut causes: Vec<String> = chain(error).skip(1).map(ToString::to_string).collect();
    // Which part of the library says so helps nobody.
    causes.retain(|cause| !cause.starts_with("client error ("));
    // Some repeat what caused them.
    causes.dedup();
    if causes.is_empty() {
        "the connection failed".to_owned()
    } else {
        bounded(&causes.join(": "))
    }
}

#[cfg(test)]
mod tests;
