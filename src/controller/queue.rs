//! The work queue: which object has its next pass, and when.
//!
//! - An object has one slot. Triggers that come while it waits are one pass; a trigger that comes while its pass runs
//!   is one more pass after it. No object ever has two passes at once.
//! - Each group (one for each connection) has its own lanes and a bound on the passes that run at once, and groups
//!   take turns: one that hangs, fails or is flooded delays no other.
//! - Within a group, what a user changed goes before everything else.
//!
//! What to run next is decided by `schedule`, which is pure; this file adds the lock, the clock and the waiting.

mod schedule;

#[cfg(test)]
mod model;
#[cfg(test)]
mod tests;

use std::fmt::{self, Debug};
use std::hash::Hash;
use std::pin::pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use tokio::sync::Notify;

use crate::clock::Clock;

use schedule::{Next, Schedule};

/// How urgent a pass is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Lane {
    /// A user changed something and may be watching.
    User,
    /// Everything else: drift, retries, changed references, the first look after a start.
    Rest,
}

impl Lane {
    /// Both lanes.
    pub const ALL: [Self; 2] = [Self::User, Self::Rest];

    /// The word for a metric label.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::User => "user",
            Self::Rest => "rest",
        }
    }

    /// The more urgent of two.
    const fn or(self, other: Self) -> Self {
        match (self, other) {
            (Self::User, _) | (_, Self::User) => Self::User,
            (Self::Rest, Self::Rest) => Self::Rest,
        }
    }
}

/// What the queue holds at a moment.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Stats {
    /// Objects that wait though their time has come.
    pub due: usize,
    /// Objects that wait, due or not, because a user changed them.
    pub user: usize,
    /// Objects that wait, due or not, for any other reason.
    pub rest: usize,
    /// Passes that run.
    pub running: usize,
    /// Age of the oldest pass that runs.
    pub longest_running: Duration,
    /// Ages of all passes that run, added up.
    pub unfinished: Duration,
}

/// The right to run one pass of one object, until it is given back with [`Queue::done`].
///
/// A ticket that is dropped instead (its task was aborted) frees the object and the place in its group, and plans no
/// further pass beyond those that were asked for meanwhile.
#[must_use = "the object has no further pass until its ticket is given back"]
pub struct Ticket {
    run: u64,
    lane: Lane,
    started: Instant,
    waited: Duration,
    home: Option<Arc<dyn Home>>,
}

/// Where a lost ticket goes.
trait Home: Send + Sync {
    fn give_back(&self, run: u64);
}

impl Ticket {
    /// The lane that the object waited in.
    pub const fn lane(&self) -> Lane {
        self.lane
    }

    /// When the pass began.
    pub const fn started(&self) -> Instant {
        self.started
    }

    /// How long the object waited after its time had come.
    pub const fn waited(&self) -> Duration {
        self.waited
    }
}

impl Debug for Ticket {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Ticket")
            .field("run", &self.run)
            .field("lane", &self.lane)
            .finish_non_exhaustive()
    }
}

impl Drop for Ticket {
    fn drop(&mut self) {
        if let Some(home) = self.home.take() {
            home.give_back(self.run);
        }
    }
}

/// The queue. Clones are handles to the same one.
///
/// `K` names an object, `G` the group that it belongs to. Every operation but [`Queue::stats`] and [`Queue::depth`]
/// takes time logarithmic in what waits.
pub struct Queue<K, G> {
    shared: Arc<Shared<K, G>>,
}

struct Shared<K, G> {
    clock: Arc<dyn Clock>,
    schedule: Mutex<Schedule<K, G>>,
    changed: Notify,
}

impl<K, G> Clone for Queue<K, G> {
    fn clone(&self) -> Self {
        Self {
            shared: Arc::clone(&self.shared),
        }
    }
}

impl<K, G> Queue<K, G>
where
    K: Clone + Eq + Hash + Debug + Send + Sync + 'static,
    G: Clone + Eq + Hash + Send + Sync + 'static,
{
    /// An empty queue in which each group runs at most `default_limit` passes at once.
    #[must_use]
    pub fn new(clock: Arc<dyn Clock>, default_limit: usize) -> Self {
        let schedule = Mutex::new(Schedule::new(default_limit));
        Self {
            shared: Arc::new(Shared {
                clock,
                schedule,
                changed: Notify::new(),
            }),
        }
    }

    /// Asks for a pass of `key` at `at`, or now if that is over.
    ///
    /// An object that waits already keeps the earlier time and the more urgent lane; one whose pass runs has one more
    /// after it. An object that comes with another group than before moves there.
    pub fn add(&self, key: K, group: G, lane: Lane, at: Instant) {
        self.change(|schedule, now| schedule.add(key, group, lane, at, now));
    }

    /// Waits for the next pass to run. `None` once the queue is closed.
    ///
    /// Any number of workers may wait; dropping the future loses nothing.
    pub async fn next(&self) -> Option<(K, Ticket)> {
        loop {
            let mut changed = pin!(self.shared.changed.notified());
            // From here on no change is missed, also one that comes before the wait below.
            changed.as_mut().enable();
            let now = self.shared.clock.now();
            let next = self.shared.lock().next(now);
            match next {
                Next::Pass(pass) => {
                    let home: Arc<dyn Home> = Arc::clone(&self.shared) as Arc<dyn Home>;
                    let ticket = Ticket {
                        run: pass.run,
                        lane: pass.lane,
                        started: now,
                        waited: now.saturating_duration_since(pass.due),
                        home: Some(home),
                    };
                    return Some((pass.key, ticket));
                }
                Next::At(at) => {
                    futures::future::select(self.shared.clock.sleep_until(at), changed).await;
                }
                Next::Nothing => changed.await,
                Next::Closed => return None,
            }
        }
    }

    /// Gives a ticket back when its pass has ended, and asks for the next pass if there is to be one.
    pub fn done(&self, mut ticket: Ticket, requeue: Option<(Lane, Instant)>) {
        ticket.home = None;
        self.change(|schedule, now| schedule.done(ticket.run, requeue, now));
    }

    /// Forgets an object that is gone: it no longer waits, and a pass of it that runs is the last one, unless it is
    /// added again.
    pub fn forget(&self, key: &K) {
        self.change(|schedule, now| schedule.forget(key, now));
    }

    /// Sets how many passes of a group run at once.
    pub fn limit(&self, group: &G, max_in_flight: usize) {
        self.change(|schedule, now| schedule.limit(group, max_in_flight, now));
    }

    /// Holds the `Rest` lane of a group back. What a user changed still runs: it may be refused without asking any
    /// server, and the user wants to hear that.
    pub fn pause(&self, group: &G) {
        self.change(|schedule, now| schedule.pause(group, now));
    }

    /// Lets a paused `Rest` lane go on, at most `per_second` passes a second (0 counts as 1), until it has had nothing
    /// to do for one second. Does nothing for a group that is not paused.
    pub fn resume(&self, group: &G, per_second: u32) {
        self.change(|schedule, now| schedule.resume(group, per_second, now));
    }

    /// Forgets limit, pause and rate of a group that is gone. Its objects stay.
    pub fn forget_group(&self, group: &G) {
        self.change(|schedule, now| schedule.forget_group(group, now));
    }

    /// Ends the queue: what waits is dropped, [`Queue::next`] returns `None`, nothing is added any more. Passes that
    /// run go on.
    pub fn close(&self) {
        self.change(|schedule, _| schedule.close());
    }

    /// Waits until no pass runs.
    pub async fn idle(&self) {
        loop {
            let mut changed = pin!(self.shared.changed.notified());
            changed.as_mut().enable();
            if self.shared.lock().in_flight() == 0 {
                return;
            }
            changed.await;
        }
    }

    /// How many objects wait though their time has come.
    pub fn depth(&self) -> usize {
        self.stats().due
    }

    /// How many objects wait in a lane, due or not.
    pub fn len(&self, lane: Lane) -> usize {
        self.shared.lock().waiting(lane)
    }

    /// Whether no object waits.
    pub fn is_empty(&self) -> bool {
        Lane::ALL.into_iter().all(|lane| self.len(lane) == 0)
    }

    /// How many passes run.
    pub fn in_flight(&self) -> usize {
        self.shared.lock().in_flight()
    }

    /// Everything that metrics show, of one moment.
    pub fn stats(&self) -> Stats {
        let now = self.shared.clock.now();
        self.shared.lock().stats(now)
    }

    fn change(&self, change: impl FnOnce(&mut Schedule<K, G>, Instant)) {
        self.shared.change(change);
    }
}

impl<K, G> Shared<K, G> {
    fn lock(&self) -> MutexGuard<'_, Schedule<K, G>> {
        // No code of others runs under this lock except `Eq` and `Hash`, so a poisoned lock guards a whole schedule.
        self.schedule.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn change(&self, change: impl FnOnce(&mut Schedule<K, G>, Instant)) {
        let now = self.clock.now();
        change(&mut self.lock(), now);
        // All waiting workers look again, a few dozen at most: each then sleeps until the right moment, and no wake-up
        // hangs on one worker that is dropped while it waits.
        self.changed.notify_waiters();
    }
}

impl<K, G> Home for Shared<K, G>
where
    K: Clone + Eq + Hash + Send + Sync,
    G: Clone + Eq + Hash + Send + Sync,
{
    fn give_back(&self, run: u64) {
        self.change(|schedule, now| schedule.done(run, None, now));
    }
}
