//! The decisions of the queue, without lock, clock or waiting: time is an argument.
//!
//! ```text
//! slots:   object ─► waiting (group, lane, due time, number)  or  running (what is wanted after it)
//! groups:  group  ─► per lane: (due time, number) ─► object, in the order in which they run
//! ready:   turn   ─► group that can run something now: the one with the lowest turn is next
//! timers:  time   ─► group that can run something then
//! ```
//!
//! A group is in `ready`, in `timers`, or in neither while it has nothing to run or may not. Every change of a group
//! ends with `Schedule::settle`, which puts it where it belongs.

use std::collections::{BTreeMap, HashMap};
use std::hash::Hash;
use std::time::{Duration, Instant};

use super::{Lane, Stats};

/// A lane that resumes at a bounded rate is free again after it had nothing to do for so long.
const QUIET: Duration = Duration::from_secs(1);

/// What to do next.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Next<K> {
    /// Run this.
    Pass(Pass<K>),
    /// Nothing before this time.
    At(Instant),
    /// Nothing until something changes.
    Nothing,
    /// Nothing ever again.
    Closed,
}

/// A pass that begins.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Pass<K> {
    pub key: K,
    pub run: u64,
    pub lane: Lane,
    pub due: Instant,
}

pub(super) struct Schedule<K, G> {
    default_limit: usize,
    closed: bool,
    slots: HashMap<K, Slot<G>>,
    groups: HashMap<G, Group<K>>,
    ready: BTreeMap<u64, G>,
    timers: BTreeMap<(Instant, u64), G>,
    /// By number, so that the first is the oldest.
    running: BTreeMap<u64, Run<K, G>>,
    numbers: u64,
}

/// The one slot of an object.
enum Slot<G> {
    Waiting {
        group: G,
        lane: Lane,
        place: Place,
    },
    Running {
        /// What was asked for since the pass began.
        again: Option<Wanted<G>>,
        /// The object is gone: what the pass itself asks for at its end does not count.
        forgotten: bool,
    },
}

/// Due time, and a number that keeps objects of one due time in the order in which they came.
type Place = (Instant, u64);

struct Wanted<G> {
    group: G,
    lane: Lane,
    at: Instant,
}

struct Run<K, G> {
    key: K,
    group: G,
    since: Instant,
}

struct Group<K> {
    user: BTreeMap<Place, K>,
    rest: BTreeMap<Place, K>,
    running: usize,
    limit: Option<usize>,
    paused: bool,
    rate: Option<Rate>,
    stands: Stands,
}

/// A bound on the `Rest` lane.
struct Rate {
    gap: Duration,
    /// Earliest time of the next pass.
    next: Instant,
}

/// Where a group stands.
enum Stands {
    Nowhere,
    Ready(u64),
    Timer((Instant, u64)),
}

impl<K: Clone + Eq + Hash, G: Clone + Eq + Hash> Schedule<K, G> {
    pub fn new(default_limit: usize) -> Self {
        Self {
            default_limit,
            closed: false,
            slots: HashMap::new(),
            groups: HashMap::new(),
            ready: BTreeMap::new(),
            timers: BTreeMap::new(),
            running: BTreeMap::new(),
            numbers: 0,
        }
    }

    pub fn add(&mut self, key: K, group: G, lane: Lane, at: Instant, now: Instant) {
        if self.closed {
            return;
        }
        let wanted = Wanted {
            group,
            lane,
            at: at.max(now),
        };
        match self.slots.get_mut(&key) {
            None => self.wait(key, wanted, now),
            Some(Slot::Running { again, .. }) => *again = Some(wanted.or(again.take())),
            Some(Slot::Waiting { group, lane, place }) => {
                let gains_nothing = *group == wanted.group && lane.or(wanted.lane) == *lane && place.0 <= wanted.at;
                if gains_nothing {
                    return;
                }
                let (group, lane, place) = (group.clone(), *lane, *place);
                self.take_out(&group, lane, place);
                let moves = group != wanted.group;
                let mut wanted = wanted.or(Some(Wanted {
                    group: group.clone(),
                    lane,
                    at: place.0,
                }));
                // An object that moves up does not overtake what users changed before: it joins the lane now.
                wanted.at = wanted.at.max(now);
                self.wait(key, wanted, now);
                if moves {
                    self.settle(&group, now);
                }
            }
        }
    }

    pub fn next(&mut self, now: Instant) -> Next<K> {
        if self.closed {
            return Next::Closed;
        }
        while let Some(timer) = self.timers.first_entry().filter(|timer| timer.key().0 <= now) {
            let group = timer.remove();
            if let Some(held) = self.groups.get_mut(&group) {
                held.stands = Stands::Nowhere;
            }
            self.settle(&group, now);
        }
        while let Some((_, group)) = self.ready.pop_first() {
            let Some(held) = self.groups.get_mut(&group) else {
                continue;
            };
            held.stands = Stands::Nowhere;
            let taken = held.take(now);
            held.running += usize::from(taken.is_some());
            self.settle(&group, now);
            if let Some((lane, (due, _), key)) = taken {
                let run = self.number();
                self.running.insert(
                    run,
                    Run {
                        key: key.clone(),
                        group,
                        since: now,
                    },
                );
                self.slots.insert(
                    key.clone(),
                    Slot::Running {
                        again: None,
                        forgotten: false,
                    },
                );
                return Next::Pass(Pass { key, run, lane, due });
            }
        }
        self.timers
            .first_key_value()
            .map_or(Next::Nothing, |((at, _), _)| Next::At(*at))
    }

    pub fn done(&mut self, run: u64, requeue: Option<(Lane, Instant)>, now: Instant) {
        let Some(Run { key, group, .. }) = self.running.remove(&run) else {
            return;
        };
        if let Some(held) = self.groups.get_mut(&group) {
            held.running -= 1;
        }
        let (again, forgotten) = match self.slots.remove(&key) {
            Some(Slot::Running { again, forgotten }) => (again, forgotten),
            Some(Slot::Waiting { .. }) | None => (None, false),
        };
        let requeue = requeue.filter(|_| !forgotten).map(|(lane, at)| Wanted {
            group: group.clone(),
            lane,
            at: at.max(now),
        });
        let wanted = match (again, requeue) {
            (Some(again), requeue) => Some(again.or(requeue)),
            (None, requeue) => requeue,
        };
        if let Some(wanted) = wanted.filter(|_| !self.closed) {
            self.wait(key, wanted, now);
        }
        self.settle(&group, now);
    }

    pub fn forget(&mut self, key: &K, now: Instant) {
        match self.slots.get_mut(key) {
            None => {}
            Some(Slot::Running { again, forgotten }) => {
                *again = None;
                *forgotten = true;
            }
            Some(Slot::Waiting { group, lane, place }) => {
                let (group, lane, place) = (group.clone(), *lane, *place);
                self.slots.remove(key);
                self.take_out(&group, lane, place);
                self.settle(&group, now);
            }
        }
    }

    pub fn limit(&mut self, group: &G, max_in_flight: usize, now: Instant) {
        self.group(group).limit = Some(max_in_flight);
        self.settle(group, now);
    }

    pub fn pause(&mut self, group: &G, now: Instant) {
        let held = self.group(group);
        held.paused = true;
        held.rate = None;
        self.settle(group, now);
    }

    pub fn resume(&mut self, group: &G, per_second: u32, now: Instant) {
        if let Some(held) = self.groups.get_mut(group).filter(|held| held.paused) {
            held.paused = false;
            held.rate = Some(Rate {
                gap: Duration::from_secs(1) / per_second.max(1),
                next: now,
            });
            self.settle(group, now);
        }
    }

    pub fn forget_group(&mut self, group: &G, now: Instant) {
        if let Some(held) = self.groups.get_mut(group) {
            (held.limit, held.paused, held.rate) = (None, false, None);
            self.settle(group, now);
        }
    }

    pub fn close(&mut self) {
        self.closed = true;
        self.slots.retain(|_, slot| matches!(slot, Slot::Running { .. }));
        self.groups.clear();
        self.ready.clear();
        self.timers.clear();
    }

    pub fn in_flight(&self) -> usize {
        self.running.len()
    }

    pub fn waiting(&self, lane: Lane) -> usize {
        self.groups.values().map(|group| group.lane(lane).len()).sum()
    }

    pub fn stats(&self, now: Instant) -> Stats {
        let due = |group: &Group<K>, lane| group.lane(lane).range(..=(now, u64::MAX)).count();
        let age = |run: &Run<K, G>| now.saturating_duration_since(run.since);
        Stats {
            due: self
                .groups
                .values()
                .flat_map(|group| Lane::ALL.map(|lane| due(group, lane)))
                .sum(),
            user: self.waiting(Lane::User),
            rest: self.waiting(Lane::Rest),
            running: self.running.len(),
            longest_running: self
                .running
                .first_key_value()
                .map(|(_, run)| age(run))
                .unwrap_or_default(),
            unfinished: self.running.values().map(age).sum(),
        }
    }

    fn wait(&mut self, key: K, Wanted { group, lane, at }: Wanted<G>, now: Instant) {
        let place = (at, self.number());
        self.group(&group).lane_mut(lane).insert(place, key.clone());
        self.settle(&group, now);
        self.slots.insert(key, Slot::Waiting { group, lane, place });
    }

    /// Leaves the group unsettled, so that one whose object only changes its place keeps its turn.
    fn take_out(&mut self, group: &G, lane: Lane, place: Place) {
        if let Some(held) = self.groups.get_mut(group) {
            held.lane_mut(lane).remove(&place);
        }
    }

    /// Puts a group where it belongs after anything about it changed. One that still is ready keeps its turn.
    fn settle(&mut self, group: &G, now: Instant) {
        let number = self.number();
        let Some(held) = self.groups.get_mut(group) else { return };
        let can_run = held.can_run_at(self.default_limit);
        let stands = match (can_run, &held.stands) {
            (Some(at), Stands::Ready(_)) if at <= now => return,
            (Some(at), Stands::Nowhere | Stands::Timer(_)) if at <= now => Stands::Ready(number),
            (Some(at), Stands::Nowhere | Stands::Timer(_) | Stands::Ready(_)) => Stands::Timer((at, number)),
            (None, Stands::Nowhere | Stands::Timer(_) | Stands::Ready(_)) => Stands::Nowhere,
        };
        match held.stands {
            Stands::Nowhere => {}
            Stands::Ready(turn) => {
                self.ready.remove(&turn);
            }
            Stands::Timer(timer) => {
                self.timers.remove(&timer);
            }
        }
        match stands {
            Stands::Nowhere => {}
            Stands::Ready(turn) => {
                self.ready.insert(turn, group.clone());
            }
            Stands::Timer(timer) => {
                self.timers.insert(timer, group.clone());
            }
        }
        held.stands = stands;
        if held.holds_nothing() {
            self.groups.remove(group);
        }
    }

    fn group(&mut self, group: &G) -> &mut Group<K> {
        self.groups.entry(group.clone()).or_default()
    }

    fn number(&mut self) -> u64 {
        self.numbers += 1;
        self.numbers
    }
}

// === impl Wanted ===

impl<G> Wanted<G> {
    /// Both in one: the earlier time, the more urgent lane, and the group of the newer one.
    fn or(self, older: Option<Self>) -> Self {
        match older {
            None => self,
            Some(older) => Self {
                group: self.group,
                lane: self.lane.or(older.lane),
                at: self.at.min(older.at),
            },
        }
    }
}

// === impl Group ===

impl<K> Default for Group<K> {
    fn default() -> Self {
        Self {
            user: BTreeMap::new(),
            rest: BTreeMap::new(),
            running: 0,
            limit: None,
            paused: false,
            rate: None,
            stands: Stands::Nowhere,
        }
    }
}

impl<K> Group<K> {
    const fn lane(&self, lane: Lane) -> &BTreeMap<Place, K> {
        match lane {
            Lane::User => &self.user,
            Lane::Rest => &self.rest,
        }
    }

    const fn lane_mut(&mut self, lane: Lane) -> &mut BTreeMap<Place, K> {
        match lane {
            Lane::User => &mut self.user,
            Lane::Rest => &mut self.rest,
        }
    }

    /// Earliest time at which it can run something, as things are.
    fn can_run_at(&self, default_limit: usize) -> Option<Instant> {
        if self.running >= self.limit.unwrap_or(default_limit) {
            return None;
        }
        self.user_at().into_iter().chain(self.rest_at()).min()
    }

    fn user_at(&self) -> Option<Instant> {
        self.user.first_key_value().map(|((at, _), _)| *at)
    }

    fn rest_at(&self) -> Option<Instant> {
        let ((at, _), _) = self.rest.first_key_value().filter(|_| !self.paused)?;
        Some(self.rate.as_ref().map_or(*at, |rate| rate.earliest(*at)))
    }

    /// Takes out what is to run at `now`.
    fn take(&mut self, now: Instant) -> Option<(Lane, Place, K)> {
        if self.user_at().is_some_and(|at| at <= now) {
            let (place, key) = self.user.pop_first()?;
            return Some((Lane::User, place, key));
        }
        if self.rest_at().is_some_and(|at| at <= now) {
            let (place, key) = self.rest.pop_first()?;
            self.rate = self.rate.take().and_then(|rate| rate.after(place.0, now));
            return Some((Lane::Rest, place, key));
        }
        None
    }

    fn holds_nothing(&self) -> bool {
        let Self {
            user,
            rest,
            running,
            limit,
            paused,
            rate,
            stands: _,
        } = self;
        user.is_empty() && rest.is_empty() && *running == 0 && limit.is_none() && !paused && rate.is_none()
    }
}

// === impl Rate ===

impl Rate {
    /// When an object that is due at `at` may run.
    fn earliest(&self, at: Instant) -> Instant {
        if self.is_over(at) { at } else { at.max(self.next) }
    }

    /// The rate after an object that was due at `at` has begun at `now`.
    fn after(self, at: Instant, now: Instant) -> Option<Self> {
        let next = self.next.max(now) + self.gap;
        (!self.is_over(at)).then_some(Self { next, ..self })
    }

    /// Whether nothing was due for a while before `at`.
    fn is_over(&self, at: Instant) -> bool {
        at >= self.next + QUIET
    }
}
