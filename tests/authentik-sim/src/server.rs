//! The listener and its connections: real sockets, so that a reset is a reset and a cut body is cut.

use std::{
    future::pending,
    io,
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    task::{Context, Poll},
};

use http_body_util::{BodyExt, Limited};
use hyper::{
    Response,
    body::{Bytes, Incoming},
    header::{self, HeaderMap, HeaderName},
    server::conn::http1,
    service::service_fn,
};
use hyper_util::rt::TokioIo;
use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    net::{TcpListener, TcpStream},
    sync::Notify,
    task::JoinSet,
};
use tokio_rustls::{
    TlsAcceptor,
    rustls::{
        ServerConfig,
        crypto::aws_lc_rs,
        pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject},
    },
};
use uuid::Uuid;

use crate::{
    body::{Broken, Wire},
    message::Request,
    traffic::Server,
};

/// What authentik's outer server takes at most.
const LARGEST_BODY: usize = 32 * 1024 * 1024;

/// A certificate chain and its key, both PEM.
#[derive(Clone)]
pub struct TlsIdentity {
    /// The server's certificate, then its issuers.
    pub cert_pem: String,
    /// Its private key.
    pub key_pem: String,
}

impl TlsIdentity {
    pub(crate) fn acceptor(&self) -> TlsAcceptor {
        let chain: Vec<CertificateDer<'static>> = CertificateDer::pem_slice_iter(self.cert_pem.as_bytes())
            .collect::<Result<_, _>>()
            .expect("the certificate is not PEM");
        let key = PrivateKeyDer::from_pem_slice(self.key_pem.as_bytes()).expect("the private key is not PEM");
        let config = ServerConfig::builder_with_provider(Arc::new(aws_lc_rs::default_provider()))
            .with_safe_default_protocol_versions()
            .and_then(|builder| builder.with_no_client_auth().with_single_cert(chain, key))
            .expect("certificate and key do not fit");
        TlsAcceptor::from(Arc::new(config))
    }
}

/// Serves connections until it is dropped, and breaks those that are open then.
pub(crate) async fn serve(listener: TcpListener, tls: Option<TlsAcceptor>, server: Arc<Server>) {
    let mut connections = JoinSet::new();
    loop {
        tokio::select! {
            accepted = listener.accept() => {
                let Ok((stream, _peer)) = accepted else { continue };
                connections.spawn(connection(stream, tls.clone(), Arc::clone(&server)));
            }
            Some(_ended) = connections.join_next() => {}
        }
    }
}

async fn connection(stream: TcpStream, tls: Option<TlsAcceptor>, server: Arc<Server>) {
    let fate = Arc::new(Fate::default());
    // Without this a small answer can wait for the client's acknowledgement.
    stream.set_nodelay(true).ok();
    let socket = Socket {
        stream,
        fate: Arc::clone(&fate),
    };
    match tls {
        None => requests(socket, fate, server).await,
        Some(tls) => {
            if let Ok(stream) = tls.accept(socket).await {
                requests(stream, fate, server).await;
            }
        }
    }
}

async fn requests<S>(stream: S, fate: Arc<Fate>, server: Arc<Server>)
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let service = service_fn(|request| {
        let (fate, server) = (Arc::clone(&fate), Arc::clone(&server));
        async move {
            if fate.stale.load(Ordering::SeqCst) {
                fate.reset.store(true, Ordering::SeqCst);
                return Err(Broken);
            }
            let request = read(request).await?;
            // A task of its own: authentik finishes a request whose client has left, too.
            let answer = tokio::spawn(async move { server.answer(request).await })
                .await
                .map_err(|_| Broken)?;
            match answer.ending {
                Ending::Keep => {}
                Ending::CloseUnannounced => fate.close.store(true, Ordering::SeqCst),
                Ending::Stale => fate.stale.store(true, Ordering::SeqCst),
                Ending::Never => return pending().await,
                Ending::Reset => {
                    fate.reset.store(true, Ordering::SeqCst);
                    return Err(Broken);
                }
            }
            Ok::<Response<Wire>, Broken>(answer.response)
        }
    });
    let connection = http1::Builder::new().serve_connection(TokioIo::new(stream), service);
    tokio::select! {
        // How a connection ends is the client's affair, or a fault's.
        _ended = connection => {}
        () = fate.flushed.notified() => {}
    }
}

/// What becomes of the connection after an answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Ending {
    Keep,
    CloseUnannounced,
    Stale,
    Reset,
    /// The client waits until it gives up.
    Never,
}

/// An answer and what follows it.
pub(crate) struct Answered {
    pub(crate) response: Response<Wire>,
    pub(crate) ending: Ending,
}

impl Answered {
    pub(crate) fn reset() -> Self {
        Self::without_response(Ending::Reset)
    }

    pub(crate) fn never() -> Self {
        Self::without_response(Ending::Never)
    }

    fn without_response(ending: Ending) -> Self {
        Self {
            response: Response::new(Wire::Whole(Bytes::new())),
            ending,
        }
    }
}

async fn read(request: hyper::Request<Incoming>) -> Result<Request, Broken> {
    let (parts, body) = request.into_parts();
    let body = Limited::new(body, LARGEST_BODY)
        .collect()
        .await
        .map_err(|_| Broken)?
        .to_bytes();
    let text = |name: HeaderName| text(&parts.headers, &name);
    Ok(Request {
        method: parts.method.as_str().to_owned(),
        path: parts.uri.path().to_owned(),
        query: form_urlencoded::parse(parts.uri.query().unwrap_or("").as_bytes())
            .into_owned()
            .collect(),
        authorization: text(header::AUTHORIZATION),
        user_agent: text(header::USER_AGENT).unwrap_or_default(),
        accept: text(header::ACCEPT).unwrap_or_default(),
        accept_language: text(header::ACCEPT_LANGUAGE).unwrap_or_default(),
        content_type: text(header::CONTENT_TYPE),
        body,
        id: Uuid::new_v4().simple().to_string(),
    })
}

fn text(headers: &HeaderMap, name: &HeaderName) -> Option<String> {
    headers
        .get(name)
        .map(|value| String::from_utf8_lossy(value.as_bytes()).into_owned())
}

/// What a fault has decided for a connection.
#[derive(Default)]
struct Fate {
    /// Send a reset when the socket closes.
    reset: AtomicBool,
    /// Close once the answer is out.
    close: AtomicBool,
    /// The answer after which to close is out.
    flushed: Notify,
    /// Reset when the next request comes.
    stale: AtomicBool,
}

/// A socket that ends as its fate says.
struct Socket {
    stream: TcpStream,
    fate: Arc<Fate>,
}

impl Drop for Socket {
    fn drop(&mut self) {
        if self.fate.reset.load(Ordering::SeqCst) {
            self.stream.set_zero_linger().ok();
        }
    }
}

impl AsyncRead for Socket {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_read(context, buffer)
    }
}

impl AsyncWrite for Socket {
    fn poll_write(mut self: Pin<&mut Self>, context: &mut Context<'_>, buffer: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(context, buffer)
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        let flushed = Pin::new(&mut self.stream).poll_flush(context);
        if flushed.is_ready() && self.fate.close.load(Ordering::SeqCst) {
            self.fate.flushed.notify_one();
        }
        flushed
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(context)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffers: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write_vectored(context, buffers)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }
}
