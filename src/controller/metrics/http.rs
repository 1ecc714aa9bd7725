//! Counts the requests to the Kubernetes API, as a layer of its client.

use std::sync::Arc;
use std::task::{Context, Poll};

use futures::future::{BoxFuture, FutureExt};
use reqwest::{Method, StatusCode};
use tower::{Layer, Service};

use super::Metrics;

/// Counts every request of a Kubernetes client: `ClientBuilder::try_from(config)?.with_layer(&CountRequests::of(..))`.
#[derive(Clone, Debug)]
pub struct CountRequests {
    metrics: Arc<Metrics>,
}

impl CountRequests {
    /// A layer that counts in `metrics`.
    #[must_use]
    pub fn of(metrics: Arc<Metrics>) -> Self {
        Self { metrics }
    }
}

impl<S> Layer<S> for CountRequests {
    type Service = Counted<S>;

    fn layer(&self, inner: S) -> Counted<S> {
        Counted {
            inner,
            metrics: Arc::clone(&self.metrics),
        }
    }
}

/// A client whose requests are counted.
#[derive(Clone, Debug)]
pub struct Counted<S> {
    inner: S,
    metrics: Arc<Metrics>,
}

impl<S, B, R> Service<axum::http::Request<B>> for Counted<S>
where
    S: Service<axum::http::Request<B>, Response = axum::http::Response<R>>,
    S::Future: Send + 'static,
{
    type Response = S::Response;
    type Error = S::Error;
    type Future = BoxFuture<'static, Result<S::Response, S::Error>>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, request: axum::http::Request<B>) -> Self::Future {
        let (metrics, method) = (Arc::clone(&self.metrics), word_of_method(request.method()));
        let reply = self.inner.call(request);
        async move {
            let reply = reply.await;
            metrics.kubernetes_called(
                method,
                reply.as_ref().map_or(NO_ANSWER, |reply| word_of_code(reply.status())),
            );
            reply
        }
        .boxed()
    }
}

/// What client-go writes where there is no status.
const NO_ANSWER: &str = "<error>";

fn word_of_method(method: &Method) -> &'static str {
    match *method {
        Method::GET => "GET",
        Method::POST => "POST",
        Method::PUT => "PUT",
        Method::PATCH => "PATCH",
        Method::DELETE => "DELETE",
        _ => "OTHER",
    }
}

/// The status, if it is one of those that an API server gives, else its class.
#[allow(clippy::match_overlapping_arm)] // the classes are for what no arm above them names
fn word_of_code(status: StatusCode) -> &'static str {
    match status.as_u16() {
        101 => "101",
        200 => "200",
        201 => "201",
        202 => "202",
        400 => "400",
        401 => "401",
        403 => "403",
        404 => "404",
        405 => "405",
        406 => "406",
        409 => "409",
        410 => "410",
        413 => "413",
        415 => "415",
        422 => "422",
        429 => "429",
        500 => "500",
        502 => "502",
        503 => "503",
        504 => "504",
        200..300 => "2xx",
        300..400 => "3xx",
        400..500 => "4xx",
        _ => "5xx",
    }
}
