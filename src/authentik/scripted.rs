//! A server for tests that says exactly what a test tells it to, byte by byte, also what no sane server would.

use std::fmt::Write as _;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use serde_json::{Value, json};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::TcpListener;
use tokio_rustls::TlsAcceptor;

use super::client::Client;
use super::endpoint::Endpoint;
use super::observer::{Call, Method, Observer, Outcome, Route};
use super::transport::ClientConfig;

pub(super) const TOKEN: &str = "t0ken-of-the-operator";

/// A request as it came.
#[derive(Clone, Debug)]
pub(super) struct Received {
    /// Number of the connection, from 1.
    pub connection: usize,
    /// `GET /path?query`
    pub line: String,
    /// All header lines.
    pub head: String,
    pub body: String,
}

impl Received {
    pub fn header(&self, name: &str) -> Option<&str> {
        self.head
            .lines()
            .filter_map(|line| line.split_once(": "))
            .find(|(key, _)| key.eq_ignore_ascii_case(name))
            .map(|(_, value)| value)
    }

    pub fn json(&self) -> Value {
        serde_json::from_str(&self.body).unwrap()
    }
}

/// What to do about a request.
pub(super) enum Reply {
    /// Answer, and keep the connection.
    Bytes(Vec<u8>),
    /// Answer, and close the connection.
    Last(Vec<u8>),
    /// Close the connection.
    Close,
    /// Say nothing until the client goes away.
    Silence,
}

/// A complete answer with a content type (none if empty) and further header lines.
pub(super) fn answer(status: u16, content_type: &str, headers: &[&str], body: impl AsRef<[u8]>) -> Reply {
    let body = body.as_ref();
    let mut head = format!("HTTP/1.1 {status} Scripted\r\nContent-Length: {}\r\n", body.len());
    if !content_type.is_empty() {
        let _ = write!(head, "Content-Type: {content_type}\r\n");
    }
    for header in headers {
        let _ = write!(head, "{header}\r\n");
    }
    Reply::Bytes([head.as_bytes(), b"\r\n", body].concat())
}

pub(super) fn json_answer(status: u16, body: &Value) -> Reply {
    answer(status, "application/json", &["X-authentik-id: req-1"], body.to_string())
}

/// A page as authentik sends it.
pub(super) fn page(rows: &[Value], next: u32, count: usize) -> Reply {
    let pagination = json!({"next": next, "previous": 0, "count": count, "current": 1, "total_pages": 1});
    json_answer(
        200,
        &json!({"pagination": pagination, "results": rows, "autocomplete": {}}),
    )
}

/// The server, what it got, and what was told of the calls.
pub(super) struct Scripted {
    address: std::net::SocketAddr,
    scheme: &'static str,
    received: Arc<Mutex<Vec<Received>>>,
    calls: Arc<Calls>,
}

#[derive(Default)]
pub(super) struct Calls(Mutex<Vec<(Method, Route, Outcome)>>);

impl Observer for Calls {
    fn called(&self, call: &Call) {
        self.0.lock().unwrap().push((call.method, call.route, call.outcome));
    }
}

impl Scripted {
    /// Starts a server that answers as `script` says.
    pub async fn start(script: impl FnMut(&Received) -> Reply + Send + 'static) -> Self {
        Self::listen(script, None).await
    }

    /// The same over TLS.
    pub async fn start_tls(
        script: impl FnMut(&Received) -> Reply + Send + 'static,
        tls: tokio_rustls::rustls::ServerConfig,
    ) -> Self {
        Self::listen(script, Some(TlsAcceptor::from(Arc::new(tls)))).await
    }

    async fn listen(script: impl FnMut(&Received) -> Reply + Send + 'static, tls: Option<TlsAcceptor>) -> Self {
        let listener = TcpListener::bind(("127.0.0.1", 0)).await.unwrap();
        let address = listener.local_addr().unwrap();
        let received = Arc::new(Mutex::new(Vec::new()));
        let scheme = if tls.is_some() { "https" } else { "http" };
        let (script, log) = (Arc::new(Mutex::new(script)), Arc::clone(&received));
        tokio::spawn(async move {
            for connection in 1.. {
                let (socket, _) = listener.accept().await.unwrap();
                let (script, log, tls) = (Arc::clone(&script), Arc::clone(&log), tls.clone());
                tokio::spawn(async move {
                    let decide = |request: Received| {
                        log.lock().unwrap().push(request.clone());
                        script.lock().unwrap()(&request)
                    };
                    match tls {
                        None => serve(connection, socket, decide).await,
                        Some(tls) => {
                            if let Ok(socket) = tls.accept(socket).await {
                                serve(connection, socket, decide).await;
                            }
                        }
                    }
                });
            }
        });
        Self {
            address,
            scheme,
            received,
            calls: Arc::default(),
        }
    }

    /// What has come so far.
    pub fn received(&self) -> Vec<Received> {
        self.received.lock().unwrap().clone()
    }

    /// What the observer was told so far.
    pub fn calls(&self) -> Vec<(Method, Route, Outcome)> {
        self.calls.0.lock().unwrap().clone()
    }

    /// How to reach it.
    pub fn config(&self) -> ClientConfig {
        let Self {
            address, scheme, calls, ..
        } = self;
        ClientConfig {
            endpoint: Endpoint::try_from(format!("{scheme}://{address}").as_str()).unwrap(),
            token: TOKEN.into(),
            ca_bundle: None,
            timeout: Duration::from_secs(5),
            max_concurrent: 4,
            observer: Arc::clone(calls) as Arc<dyn Observer>,
        }
    }

    /// A client of it.
    pub fn client(&self) -> Client {
        Client::new(self.config()).unwrap()
    }
}

async fn serve(
    connection: usize,
    mut socket: impl AsyncRead + AsyncWrite + Unpin,
    mut decide: impl FnMut(Received) -> Reply,
) {
    let mut pending = Vec::new();
    while let Some(request) = read_request(connection, &mut socket, &mut pending).await {
        match decide(request) {
            Reply::Bytes(bytes) => {
                if socket.write_all(&bytes).await.is_err() {
                    return;
                }
            }
            Reply::Last(bytes) => {
                let _ = socket.write_all(&bytes).await;
                let _ = socket.shutdown().await;
                return;
            }
            Reply::Close => return,
            Reply::Silence => {
                let _ = socket.read_u8().await;
                return;
            }
        }
        let _ = socket.flush().await;
    }
}

async fn read_request(
    connection: usize,
    socket: &mut (impl AsyncRead + Unpin),
    pending: &mut Vec<u8>,
) -> Option<Received> {
    let end = loop {
        if let Some(end) = pending.windows(4).position(|window| window == b"\r\n\r\n") {
            break end + 4;
        }
        if socket.read_buf(pending).await.ok()? == 0 {
            return None;
        }
    };
    let head = String::from_utf8(pending.drain(..end).collect()).unwrap();
    let line = head.lines().next().unwrap().trim_end_matches(" HTTP/1.1").to_owned();
    let mut request = Received {
        connection,
        line,
        head,
        body: String::new(),
    };
    let length = request
        .header("content-length")
        .map_or(0, |length| length.parse().unwrap());
    while pending.len() < length {
        if socket.read_buf(pending).await.ok()? == 0 {
            return None;
        }
    }
    request.body = String::from_utf8(pending.drain(..length).collect()).unwrap();
    Some(request)
}
