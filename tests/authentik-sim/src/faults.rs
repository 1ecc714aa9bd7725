//! What can go wrong, and when: faults are laid in wait for calls by number or by what the calls are.

use std::time::Duration;

use crate::calls::Call;

/// One thing that goes wrong.
#[derive(Clone, Debug)]
pub struct Fault {
    /// Which calls it meets.
    pub when: When,
    /// How many such calls pass unharmed first.
    pub skip: u64,
    /// How many calls it meets before it is over.
    pub times: u64,
    /// What happens to them.
    pub what: What,
}

impl Fault {
    /// The next call, once.
    pub fn next(what: What) -> Self {
        Self::once(When::Every, what)
    }

    /// The call of that number (the first call after the last reset is 0), once.
    pub fn at(index: u64, what: What) -> Self {
        Self::once(When::Index(index), what)
    }

    /// Every call from now on.
    pub fn every(what: What) -> Self {
        Self::once(When::Every, what).always()
    }

    /// Calls of that method (empty: any) whose path contains the text, once.
    pub fn on(method: &str, path_contains: &str, what: What) -> Self {
        let when = When::Matching {
            method: method.to_owned(),
            path_contains: path_contains.to_owned(),
        };
        Self::once(when, what)
    }

    fn once(when: When, what: What) -> Self {
        Self {
            when,
            skip: 0,
            times: 1,
            what,
        }
    }

    /// Lets that many calls pass that would be met.
    #[must_use]
    pub fn after(mut self, calls: u64) -> Self {
        self.skip = calls;
        self
    }

    /// Meets that many calls.
    #[must_use]
    pub fn times(mut self, times: u64) -> Self {
        assert!(times > 0, "a fault that meets no call");
        self.times = times;
        self
    }

    /// Meets every such call.
    #[must_use]
    pub fn always(self) -> Self {
        self.times(u64::MAX)
    }
}

/// Which calls a fault meets.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum When {
    /// The call of that number.
    Index(u64),
    /// All calls.
    Every,
    /// Calls of that method (empty: any) whose path contains the text.
    Matching {
        /// `GET`, `POST`, ...; empty for any.
        method: String,
        /// Part of the path below the API's root, without query.
        path_contains: String,
    },
}

/// What happens to a call.
#[derive(Clone, Debug)]
pub enum What {
    /// The call has its effect and its answer, but later. The effect comes even if the client has left by then.
    Delay(Duration),
    /// No effect and no answer, until the client leaves.
    Hang,
    /// The effect, and no answer until the client leaves.
    HangAfterEffect,
    /// No effect, and this answer.
    Answer(Answer),
    /// The effect, and this answer, as from a proxy that lost its patience.
    AnswerAfterEffect(Answer),
    /// An unhandled exception before the effect: an HTML page, or what the version makes of it on a write.
    Crash,
    /// The same after the effect.
    CrashAfterEffect,
    /// The connection is reset; no effect.
    ResetBeforeEffect,
    /// The connection is reset; the effect took place.
    ResetAfterEffect,
    /// The connection is reset at once; the effect takes place after that time.
    CommitLater(Duration),
    /// The effect, and half of the answer before the connection closes.
    CutBody,
    /// The effect, and the answer at that many bytes a second.
    SlowBody(u64),
    /// The effect, and that many bytes of well-formed JSON without end in sight.
    HugeBody(u64),
    /// A list that always has a next page.
    EndlessPages,
    /// The effect, and arrays nested that deep.
    DeepJson(usize),
    /// The effect, and the right answer that says it is plain text.
    WrongContentType,
    /// The effect, and a page that says it is JSON.
    NotJson,
    /// The effect and the answer, without a word that the connection closes after it.
    CloseAfterAnswer,
    /// The effect and the answer; the next request on this connection is reset unread and is no call.
    StaleConnection,
}

/// An answer that does not come from the routes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Answer {
    /// Status code.
    pub status: u16,
    /// Seconds or a date for `Retry-After`.
    pub retry_after: Option<String>,
    /// `Content-Type`.
    pub content_type: String,
    /// Body.
    pub body: String,
}

impl Answer {
    /// A JSON answer with `detail`.
    pub fn json(status: u16, detail: &str) -> Self {
        Self {
            status,
            retry_after: None,
            content_type: "application/json".to_owned(),
            body: serde_json::json!({"detail": detail}).to_string(),
        }
    }

    /// An HTML page, as a proxy sends it.
    pub fn html(status: u16) -> Self {
        Self {
            status,
            retry_after: None,
            content_type: "text/html".to_owned(),
            body: format!(
                "<html><head><title>{status}</title></head><body><center><h1>{status}</h1></center></body></html>"
            ),
        }
    }

    /// What authentik or a proxy says to too many requests.
    pub fn throttled(seconds: u64) -> Self {
        let text = format!("Request was throttled. Expected available in {seconds} seconds.");
        Self {
            retry_after: Some(seconds.to_string()),
            ..Self::json(429, &text)
        }
    }

    /// The same answer with `Retry-After`.
    #[must_use]
    pub fn retry_after(mut self, value: &str) -> Self {
        self.retry_after = Some(value.to_owned());
        self
    }
}

/// The faults that lie in wait.
#[derive(Debug, Default)]
pub(crate) struct Faults(Vec<Fault>);

impl Faults {
    pub(crate) fn add(&mut self, fault: Fault) {
        self.0.push(fault);
    }

    pub(crate) fn clear(&mut self) {
        self.0.clear();
    }

    /// The oldest fault that meets the call. Those that let some calls pass count it.
    pub(crate) fn meet(&mut self, call: &Call) -> Option<What> {
        let mut met = None;
        for fault in self.0.iter_mut().filter(|fault| fault.when.meets(call)) {
            if fault.skip > 0 {
                fault.skip -= 1;
            } else if met.is_none() {
                fault.times -= 1;
                met = Some(fault.what.clone());
            }
        }
        self.0.retain(|fault| fault.times > 0);
        met
    }
}

impl When {
    fn meets(&self, call: &Call) -> bool {
        match self {
            Self::Index(index) => *index == call.index,
            Self::Every => true,
            Self::Matching { method, path_contains } => {
                (method.is_empty() || *method == call.method) && call.path.contains(path_contains.as_str())
            }
        }
    }
}
