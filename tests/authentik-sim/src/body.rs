//! Answers as they go over the wire: whole, cut, slow or endless.

use std::{
    fmt,
    pin::Pin,
    task::{Context, Poll},
    time::Duration,
};

use hyper::body::{Body, Bytes, Frame, SizeHint};
use tokio::time::{Sleep, sleep};

/// How many bytes an endless body sends at a time.
const CHUNK: usize = 64 * 1024;

/// An answer's body.
pub(crate) enum Wire {
    Whole(Bytes),
    /// Promises all, sends the first part, then breaks the connection.
    Cut {
        promised: u64,
        part: Option<Bytes>,
        sent: bool,
    },
    /// Sends a piece, waits, sends the next.
    Slow {
        rest: Bytes,
        piece: usize,
        wait: Option<Pin<Box<Sleep>>>,
    },
    /// `head`, then that many bytes of filling, then `tail`.
    Huge {
        head: Bytes,
        filling: u64,
        tail: Bytes,
    },
}

/// How long a slow body waits between two pieces.
const BEAT: Duration = Duration::from_millis(100);

impl Wire {
    pub(crate) fn cut(whole: &Bytes) -> Self {
        Self::Cut {
            promised: whole.len() as u64,
            part: Some(whole.slice(..whole.len() / 2)),
            sent: false,
        }
    }

    pub(crate) fn slow(whole: Bytes, bytes_per_second: u64) -> Self {
        let piece = usize::try_from(bytes_per_second / 10).unwrap_or(usize::MAX).max(1);
        Self::Slow {
            rest: whole,
            piece,
            wait: None,
        }
    }

    pub(crate) fn huge(bytes: u64) -> Self {
        let head = Bytes::from_static(b"{\"pagination\":{\"next\":0},\"results\":[],\"filling\":\"");
        Self::Huge {
            head,
            filling: bytes,
            tail: Bytes::from_static(b"\"}"),
        }
    }
}

/// The connection is to be broken here, on purpose.
#[derive(Debug)]
pub(crate) struct Broken;

impl fmt::Display for Broken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the connection is broken on purpose")
    }
}

impl std::error::Error for Broken {}

impl Body for Wire {
    type Data = Bytes;
    type Error = Broken;

    fn poll_frame(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Broken>>> {
        let data = match &mut *self {
            Self::Whole(whole) => std::mem::take(whole),
            Self::Cut { part, sent, .. } => match part.take() {
                Some(part) => part,
                None if *sent => return Poll::Ready(Some(Err(Broken))),
                None => {
                    // One turn for the connection to flush what it has.
                    *sent = true;
                    context.waker().wake_by_ref();
                    return Poll::Pending;
                }
            },
            Self::Slow { rest, piece, wait } => {
                if wait
                    .as_mut()
                    .is_some_and(|wait| wait.as_mut().poll(context).is_pending())
                {
                    return Poll::Pending;
                }
                *wait = Some(Box::pin(sleep(BEAT)));
                let next = rest.len().min(*piece);
                rest.split_to(next)
            }
            Self::Huge { head, filling, tail } => {
                if !head.is_empty() {
                    std::mem::take(head)
                } else if *filling > 0 {
                    let next = usize::try_from(*filling).unwrap_or(CHUNK).min(CHUNK);
                    *filling -= next as u64;
                    Bytes::from(vec![b'a'; next])
                } else {
                    std::mem::take(tail)
                }
            }
        };
        Poll::Ready((!data.is_empty()).then(|| Ok(Frame::data(data))))
    }

    fn size_hint(&self) -> SizeHint {
        match self {
            Self::Whole(bytes) | Self::Slow { rest: bytes, .. } => SizeHint::with_exact(bytes.len() as u64),
            Self::Cut { promised, .. } => SizeHint::with_exact(*promised),
            Self::Huge { .. } => SizeHint::new(),
        }
    }

    fn is_end_stream(&self) -> bool {
        match self {
            Self::Whole(bytes) => bytes.is_empty(),
            Self::Cut { .. } | Self::Slow { .. } | Self::Huge { .. } => false,
        }
    }
}
