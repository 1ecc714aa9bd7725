//! A way to the API server on which one call can be stopped, before or after it has its effect.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll};

use axum::http::{Method, Request, Response};
use futures::FutureExt;
use futures::future::BoxFuture;
use tokio::sync::oneshot;
use tower::{Layer, Service};

/// On which side of its effect a call is stopped.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Side {
    /// The API server never hears of it.
    Before,
    /// The API server has done it, and the operator never hears of it.
    After,
}

/// Stops one call for ever. All others pass.
#[derive(Clone)]
pub struct Gate(Arc<Inner>);

struct Inner {
    path_ends: String,
    passes: AtomicUsize,
    side: Side,
    reached: Mutex<Option<oneshot::Sender<()>>>,
}

impl Gate {
    /// Stops the `nth` PATCH (1 is the first) of a path that ends so. The other half tells when it has come.
    pub fn at_patch(path_ends: &str, nth: usize, side: Side) -> (Self, oneshot::Receiver<()>) {
        let (reached, told) = oneshot::channel();
        let inner = Inner {
            path_ends: path_ends.to_owned(),
            passes: AtomicUsize::new(nth),
            side,
            reached: Mutex::new(Some(reached)),
        };
        (Self(Arc::new(inner)), told)
    }

    fn stops<B>(&self, request: &Request<B>) -> bool {
        request.method() == Method::PATCH
            && request.uri().path().ends_with(&self.0.path_ends)
            && self.0.passes.fetch_sub(1, Ordering::SeqCst) == 1
    }

    fn tell(&self) {
        if let Some(reached) = self.0.reached.lock().unwrap().take() {
            let _ = reached.send(());
        }
    }
}

impl<S> Layer<S> for Gate {
    type Service = Gated<S>;

    fn layer(&self, inner: S) -> Gated<S> {
        Gated {
            inner,
            gate: self.clone(),
        }
    }
}

/// A client whose calls pass the gate.
#[derive(Clone)]
pub struct Gated<S> {
    inner: S,
    gate: Gate,
}

impl<S, B, R> Service<Request<B>> for Gated<S>
where
    S: Service<Request<B>, Response = Response<R>>,
    S::Future: Send + 'static,
    S::Error: Send,
    R: Send,
{
    type Response = S::Response;
    type Error = S::Error;
    type Future = BoxFuture<'static, Result<S::Response, S::Error>>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, request: Request<B>) -> Self::Future {
        if !self.gate.stops(&request) {
            return self.inner.call(request).boxed();
        }
        let gate = self.gate.clone();
        // A call that is never polled is never sent.
        let call = (gate.0.side == Side::After).then(|| self.inner.call(request));
        async move {
            if let Some(call) = call {
                let _ = call.await;
            }
            gate.tell();
            std::future::pending().await
        }
        .boxed()
    }
}
