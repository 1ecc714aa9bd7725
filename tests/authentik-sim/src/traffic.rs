//! The way of a request through record, hooks, faults and routes, up to its answer.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::{
    sync::watch,
    time::{Instant, sleep},
};

use crate::{
    answering,
    calls::Call,
    faults::{Faults, What},
    message::{Content, Reply, Request},
    routes::{self, Settings, below_api},
    server::Answered,
    state::State,
    version::Version,
};

pub(crate) type Hook = Box<dyn FnMut(&Call, &mut State) + Send>;

/// What all connections share.
pub(crate) struct Server {
    inner: Mutex<Inner>,
    /// Moves with every call that arrives or is answered, and with every change of state.
    pub(crate) changed: watch::Sender<u64>,
}

/// Everything behind the one lock.
pub(crate) struct Inner {
    pub(crate) state: State,
    pub(crate) settings: Settings,
    /// One version, or several that take turns as in a rolling upgrade.
    pub(crate) versions: Vec<Version>,
    pub(crate) calls: Vec<Call>,
    pub(crate) next_index: u64,
    pub(crate) faults: Faults,
    pub(crate) hooks: Vec<Hook>,
    next_serial: u64,
}

/// What a call came to before its answer goes out.
struct Arrived {
    serial: u64,
    version: Version,
    fault: Option<What>,
}

// === impl Server ===

impl Server {
    pub(crate) fn new(state: State, settings: Settings, version: Version) -> Self {
        let inner = Inner {
            state,
            settings,
            versions: vec![version],
            calls: Vec::new(),
            next_index: 0,
            faults: Faults::default(),
            hooks: Vec::new(),
            next_serial: 0,
        };
        Self {
            inner: Mutex::new(inner),
            changed: watch::Sender::new(0),
        }
    }

    pub(crate) fn lock(&self) -> MutexGuard<'_, Inner> {
        // A hook that panics fails its test; the server must not fail all others.
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn announce(&self) {
        self.changed.send_modify(|count| *count += 1);
    }

    /// Notes the call, runs the hooks, and finds out what lies in wait for it.
    fn arrive(&self, request: &Request) -> Arrived {
        let mut inner = self.lock();
        let inner = &mut *inner;
        let token = request
            .authorization
            .as_deref()
            .and_then(|header| header.split_once(' '))
            .map(|(_, key)| key);
        let path = below_api(&inner.settings.base_path, &request.path).unwrap_or(&request.path);
        let call = Call {
            index: inner.next_index,
            method: request.method.clone(),
            path: path.to_owned(),
            query: request.query.clone(),
            user_agent: request.user_agent.clone(),
            accept: request.accept.clone(),
            username: token
                .and_then(|key| inner.state.user_of(key))
                .map(|user| user.username.clone()),
            body: serde_json::from_slice(&request.body).unwrap_or_default(),
            status: None,
            effect: false,
            at: Instant::now(),
            serial: inner.next_serial,
        };
        let turn = usize::try_from(inner.next_serial).unwrap_or(0) % inner.versions.len();
        inner.next_index += 1;
        inner.next_serial += 1;
        for hook in &mut inner.hooks {
            hook(&call, &mut inner.state);
        }
        let fault = inner.faults.meet(&call);
        let arrived = Arrived {
            serial: call.serial,
            version: inner.versions[turn].clone(),
            fault,
        };
        inner.calls.push(call);
        arrived
    }

    /// Lets the request have its effect.
    fn effect(&self, arrived: &Arrived, request: &Request) -> Reply {
        let mut inner = self.lock();
        let Inner {
            state, settings, calls, ..
        } = &mut *inner;
        let before = state.revision();
        let reply = routes::answer(state, settings, &arrived.version, request);
        if let Some(call) = calls.iter_mut().find(|call| call.serial == arrived.serial) {
            call.effect |= state.revision() != before;
        }
        reply
    }

    /// Notes what the client is told.
    fn told(&self, arrived: &Arrived, status: u16) {
        if let Some(call) = self.lock().calls.iter_mut().find(|call| call.serial == arrived.serial) {
            call.status = Some(status);
        }
        self.announce();
    }

    /// Answers a request, or spoils the answer.
    pub(crate) async fn answer(self: Arc<Self>, mut request: Request) -> Answered {
        let arrived = self.arrive(&request);
        self.announce();
        let fault = arrived.fault.clone();
        let reply = match &fault {
            Some(What::Delay(time)) => {
                sleep(*time).await;
                self.effect(&arrived, &request)
            }
            Some(What::Hang) => return Answered::never(),
            Some(What::HangAfterEffect) => {
                self.effect(&arrived, &request);
                self.announce();
                return Answered::never();
            }
            Some(What::Answer(answer)) => {
                self.told(&arrived, answer.status);
                return answering::given(answer);
            }
            Some(What::AnswerAfterEffect(answer)) => {
                self.effect(&arrived, &request);
                self.told(&arrived, answer.status);
                return answering::given(answer);
            }
            Some(What::Crash) => Reply::crash(&arrived.version, &request.method),
            Some(What::CrashAfterEffect) => {
                self.effect(&arrived, &request);
                Reply::crash(&arrived.version, &request.method)
            }
            Some(What::ResetBeforeEffect) => return Answered::reset(),
            Some(What::ResetAfterEffect) => {
                self.effect(&arrived, &request);
                self.announce();
                return Answered::reset();
            }
            Some(What::CommitLater(time)) => {
                let time = *time;
                tokio::spawn(async move {
                    sleep(time).await;
                    self.effect(&arrived, &request);
                    self.announce();
                });
                return Answered::reset();
            }
            Some(What::EndlessPages) => self.endless(&arrived, &mut request),
            Some(
                What::CutBody
                | What::SlowBody(_)
                | What::HugeBody(_)
                | What::DeepJson(_)
                | What::WrongContentType
                | What::NotJson
                | What::CloseAfterAnswer
                | What::StaleConnection,
            )
            | None => self.effect(&arrived, &request),
        };
        self.told(&arrived, reply.status);
        answering::respond(&arrived.version, &request, reply, fault.as_ref())
    }

    /// A page that exists, under the number that was asked for, with a promise of more.
    fn endless(&self, arrived: &Arrived, request: &mut Request) -> Reply {
        let asked: u64 = request
            .parameter("page")
            .and_then(|page| page.parse().ok())
            .unwrap_or(1);
        request.query.retain(|(key, _)| key != "page");
        let mut reply = self.effect(arrived, request);
        if let Content::Json(body) = &mut reply.content
            && let Some(pagination) = body.get_mut("pagination")
        {
            pagination["current"] = asked.into();
            pagination["previous"] = asked.saturating_sub(1).into();
            pagination["next"] = (asked + 1).into();
            pagination["total_pages"] = (asked + 1).into();
        }
        reply
    }
}
