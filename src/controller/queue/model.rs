//! The schedule against a model that is too simple to be wrong: one flat list, searched from end to end.

use proptest::collection::vec;
use proptest::prelude::*;

use super::schedule::{Next, Schedule};
use super::*;

const KEYS: u32 = 12;
const GROUPS: u8 = 3;
const LIMIT: usize = 2;

#[derive(Clone, Debug)]
enum Step {
    Add {
        key: u32,
        group: u8,
        lane: Lane,
        delay: u64,
    },
    Next,
    Done {
        which: usize,
        requeue: Option<(Lane, u64)>,
    },
    Forget {
        key: u32,
    },
    Limit {
        group: u8,
        limit: usize,
    },
    Pause {
        group: u8,
    },
    Resume {
        group: u8,
        per_second: u32,
    },
    Advance {
        millis: u64,
    },
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let lane = || prop_oneof![Just(Lane::User), Just(Lane::Rest)];
    let delay = || prop_oneof![3 => Just(0_u64), 2 => 0_u64..3000];
    let requeue = proptest::option::of((lane(), delay()));
    let step = prop_oneof![
        8 => (0..KEYS, 0..GROUPS, lane(), delay())
            .prop_map(|(key, group, lane, delay)| Step::Add { key, group, lane, delay }),
        8 => Just(Step::Next),
        6 => (0..8_usize, requeue).prop_map(|(which, requeue)| Step::Done { which, requeue }),
        1 => (0..KEYS).prop_map(|key| Step::Forget { key }),
        1 => (0..GROUPS, 0..4_usize).prop_map(|(group, limit)| Step::Limit { group, limit }),
        1 => (0..GROUPS).prop_map(|group| Step::Pause { group }),
        1 => (0..GROUPS, 1..5_u32).prop_map(|(group, per_second)| Step::Resume { group, per_second }),
        4 => (0..1500_u64).prop_map(|millis| Step::Advance { millis }),
    ];
    vec(step, 1..200)
}

#[derive(Clone, Copy, Debug)]
struct Waits {
    key: u32,
    group: u8,
    lane: Lane,
    at: Instant,
}

#[derive(Debug)]
struct Runs {
    run: u64,
    key: u32,
    group: u8,
    again: Option<(u8, Lane, Instant)>,
    forgotten: bool,
}

#[derive(Clone, Copy, Debug)]
struct Group {
    limit: usize,
    paused: bool,
    /// Gap and earliest next pass.
    rate: Option<(Duration, Instant)>,
    /// Passes of others since it could have run one.
    passed_over: usize,
}

struct Model {
    now: Instant,
    waiting: Vec<Waits>,
    running: Vec<Runs>,
    groups: [Group; GROUPS as usize],
}

impl Model {
    fn new(now: Instant) -> Self {
        let group = Group {
            limit: LIMIT,
            paused: false,
            rate: None,
            passed_over: 0,
        };
        Self {
            now,
            waiting: Vec::new(),
            running: Vec::new(),
            groups: [group; GROUPS as usize],
        }
    }

    fn group(&mut self, group: u8) -> &mut Group {
        &mut self.groups[usize::from(group)]
    }

    fn add(&mut self, key: u32, group: u8, lane: Lane, at: Instant) {
        let at = at.max(self.now);
        if let Some(runs) = self.running.iter_mut().find(|runs| runs.key == key) {
            let (lane, at) = match runs.again {
                Some((_, before, earlier)) => (lane.or(before), at.min(earlier)),
                None => (lane, at),
            };
            runs.again = Some((group, lane, at));
            return;
        }
        let new = match self.waiting.iter().position(|waits| waits.key == key) {
            None => Waits { key, group, lane, at },
            Some(index) => {
                let old = self.waiting[index];
                if old.group == group && old.lane.or(lane) == old.lane && old.at <= at {
                    return;
                }
                self.waiting.remove(index);
                Waits {
                    key,
                    group,
                    lane: lane.or(old.lane),
                    at: at.min(old.at).max(self.now),
                }
            }
        };
        self.waiting.push(new);
    }

    /// What a group would run at this moment: users before the rest, then the earlier, then who came first.
    fn best(&self, group: u8) -> Option<Waits> {
        let held = self.groups[usize::from(group)];
        if self.running.iter().filter(|runs| runs.group == group).count() >= held.limit {
            return None;
        }
        let first = |lane| {
            let mine = self
                .waiting
                .iter()
                .filter(|waits| waits.group == group && waits.lane == lane);
            mine.min_by_key(|waits| waits.at).copied()
        };
        if let Some(user) = first(Lane::User).filter(|waits| waits.at <= self.now) {
            return Some(user);
        }
        let rest = first(Lane::Rest).filter(|waits| waits.at <= self.now && !held.paused)?;
        match held.rate {
            Some((_, next)) if rest.at < next + Duration::from_secs(1) && next > self.now => None,
            Some(_) | None => Some(rest),
        }
    }

    fn begin(&mut self, pass: &schedule::Pass<u32>) -> Result<(), TestCaseError> {
        let index = self.waiting.iter().position(|waits| waits.key == pass.key);
        let Some(index) = index else {
            return Err(TestCaseError::fail("runs what does not wait"));
        };
        let waits = self.waiting[index];
        let best = self.best(waits.group);
        prop_assert_eq!(
            best.map(|best| best.key),
            Some(pass.key),
            "not what its group runs first"
        );
        prop_assert_eq!((waits.lane, waits.at), (pass.lane, pass.due));
        for group in 0..GROUPS {
            let could = group != waits.group && self.best(group).is_some();
            let held = self.group(group);
            held.passed_over = if could { held.passed_over + 1 } else { 0 };
            prop_assert!(
                held.passed_over < usize::from(GROUPS),
                "a group was passed over twice by another"
            );
        }
        self.waiting.remove(index);
        let now = self.now;
        let held = self.group(waits.group);
        if pass.lane == Lane::Rest {
            held.rate = held
                .rate
                .filter(|(_, next)| waits.at < *next + Duration::from_secs(1))
                .map(|(gap, next)| (gap, next.max(now) + gap));
        }
        let Waits { key, group, .. } = waits;
        self.running.push(Runs {
            run: pass.run,
            key,
            group,
            again: None,
            forgotten: false,
        });
        Ok(())
    }

    fn end(&mut self, which: usize, requeue: Option<(Lane, Instant)>) -> u64 {
        let Runs {
            run,
            key,
            group,
            again,
            forgotten,
        } = self.running.remove(which);
        let requeue = requeue.filter(|_| !forgotten);
        let wanted = match (again, requeue) {
            (Some((group, lane, at)), Some((other, time))) => Some((group, lane.or(other), at.min(time))),
            (Some(again), None) => Some(again),
            (None, requeue) => requeue.map(|(lane, at)| (group, lane, at)),
        };
        self.waiting
            .extend(wanted.map(|(group, lane, at)| Waits { key, group, lane, at }));
        run
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 400, ..ProptestConfig::default() })]

    #[test]
    fn the_schedule_does_what_the_model_allows(steps in steps()) {
        let start = Instant::now();
        let mut model = Model::new(start);
        let mut schedule = Schedule::new(LIMIT);
        for step in steps {
            let now = model.now;
            match step {
                Step::Add { key, group, lane, delay } => {
                    let at = now + Duration::from_millis(delay);
                    model.add(key, group, lane, at);
                    schedule.add(key, group, lane, at, now);
                }
                Step::Next => match schedule.next(now) {
                    Next::Pass(pass) => model.begin(&pass)?,
                    Next::At(at) => {
                        prop_assert!(at > now);
                        prop_assert!((0..GROUPS).all(|group| model.best(group).is_none()), "sleeps though something is due");
                    }
                    Next::Nothing => {
                        prop_assert!((0..GROUPS).all(|group| model.best(group).is_none()), "rests though something is due");
                    }
                    Next::Closed => prop_assert!(false, "nobody closed it"),
                },
                Step::Done { which, requeue } if !model.running.is_empty() => {
                    let requeue = requeue.map(|(lane, delay)| (lane, now + Duration::from_millis(delay)));
                    let run = model.end(which % model.running.len(), requeue);
                    schedule.done(run, requeue, now);
                }
                Step::Done { .. } => {}
                Step::Forget { key } => {
                    model.waiting.retain(|waits| waits.key != key);
                    for runs in model.running.iter_mut().filter(|runs| runs.key == key) {
                        (runs.again, runs.forgotten) = (None, true);
                    }
                    schedule.forget(&key, now);
                }
                Step::Limit { group, limit } => {
                    model.group(group).limit = limit;
                    schedule.limit(&group, limit, now);
                }
                Step::Pause { group } => {
                    (model.group(group).paused, model.group(group).rate) = (true, None);
                    schedule.pause(&group, now);
                }
                Step::Resume { group, per_second } => {
                    if std::mem::take(&mut model.group(group).paused) {
                        model.group(group).rate = Some((Duration::from_secs(1) / per_second, now));
                    }
                    schedule.resume(&group, per_second, now);
                }
                Step::Advance { millis } => model.now += Duration::from_millis(millis),
            }
            for group in 0..GROUPS {
                // A group that had nothing to run for a moment has no turn to lose.
                if model.best(group).is_none() {
                    model.group(group).passed_over = 0;
                }
            }
            prop_assert_eq!(schedule.in_flight(), model.running.len());
            for lane in Lane::ALL {
                let waiting = model.waiting.iter().filter(|waits| waits.lane == lane).count();
                prop_assert_eq!(schedule.waiting(lane), waiting);
            }
        }

        // Whatever happened, what waits and may run does run once its time has come.
        for group in 0..GROUPS {
            schedule.forget_group(&group, model.now);
        }
        let mut runs: Vec<_> = model.running.iter().map(|runs| runs.run).collect();
        let owed: std::collections::HashSet<_> = model.waiting.iter().map(|waits| waits.key)
            .chain(model.running.iter().filter(|runs| runs.again.is_some()).map(|runs| runs.key)).collect();
        for run in runs.drain(..) {
            schedule.done(run, None, model.now);
        }
        let later = model.now + Duration::from_secs(10);
        let mut ran = std::collections::HashSet::new();
        while let Next::Pass(pass) = schedule.next(later) {
            prop_assert!(ran.insert(pass.key), "runs again though nobody asked");
            schedule.done(pass.run, None, later);
        }
        prop_assert_eq!(ran, owed);
    }
}
