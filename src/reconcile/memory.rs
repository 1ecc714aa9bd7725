//! What the process remembers of one resource between passes. Losing it costs a request or a little patience, never
//! correctness: what must survive stands in `status`.

use std::collections::{BTreeSet, VecDeque};
use std::sync::Arc;
use std::time::{Duration, Instant};

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;
use k8s_openapi::jiff::Timestamp;
use uuid::Uuid;

use super::goal::Sent;
use super::{Failure, status};
use crate::api::{AuthenticatorSMSStage, Reason};

/// As many corrections of one field within [`CONTEST_WINDOW`] make a contest.
const CONTEST_CORRECTIONS: usize = 3;
/// See [`CONTEST_CORRECTIONS`].
const CONTEST_WINDOW: Duration = Duration::from_secs(600);
/// How long a contested field is left alone, the longer the oftener.
const CONTEST_PAUSES: [Duration; 4] = [
    Duration::from_secs(300),
    Duration::from_secs(600),
    Duration::from_secs(1200),
    Duration::from_secs(1800),
];

/// What is remembered of one resource.
#[derive(Default)]
pub struct Memory {
    /// The resource as our own last write left it: newer than what the watch may have brought.
    pub latest: Option<Arc<AuthenticatorSMSStage>>,
    /// Keyed hashes of the credentials that the stage was last seen to hold, or given.
    pub sent: Option<(Uuid, Sent)>,
    /// Since when the resource fails, and at what.
    pub failing: Option<Failing>,
    /// Corrections of what somebody else keeps changing.
    pub contest: Contest,
    /// A forced round is to send what cannot be compared, and none has got that far yet.
    pub resend: bool,
    /// The forced round of the last pass, until it is acknowledged.
    pub forced: Option<String>,
    /// A create that authentik refused, and with which fields: sent again only when something is different.
    pub refused: Option<Refusal>,
}

impl Memory {
    /// A user changed something: the next failure is tried again soon, however long it has gone on.
    pub fn begin_anew(&mut self, now: Instant) {
        if let Some(failing) = &mut self.failing {
            failing.since = now;
        }
    }
}

/// A create that authentik refused.
pub struct Refusal {
    /// What it was asked, but for the credentials.
    pub asked: String,
    /// Keyed hashes of those.
    pub sent: Sent,
    /// What it said.
    pub failure: Failure,
    /// When.
    pub at: Instant,
}

/// A failure that goes on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Failing {
    /// At what.
    pub reason: Reason,
    /// In which generation.
    pub generation: i64,
    /// Since when at this.
    pub since: Instant,
    /// Since when at anything: troubles that take turns are one trouble.
    pub first: Instant,
}

impl Failing {
    /// A failure at `reason`, after whatever failed `before` in this process.
    ///
    /// Where nothing did, `conditions` tell since when it goes on: so a restart keeps the distance between tries.
    #[must_use]
    pub fn at(
        reason: Reason,
        generation: i64,
        before: Option<Self>,
        conditions: &[Condition],
        (now, wall): (Instant, Timestamp),
    ) -> Self {
        match before {
            Some(before) if before.reason == reason && before.generation == generation => before,
            Some(before) => Self {
                reason,
                generation,
                since: now,
                first: before.first,
            },
            None => {
                let told = status::ready(conditions).filter(|ready| {
                    ready.status == "False"
                        && ready.reason == reason.as_str()
                        && ready.observed_generation == Some(generation)
                });
                let since = told.map_or(now, |ready| {
                    let age = wall.duration_since(ready.last_transition_time.0);
                    now.checked_sub(age.unsigned_abs()).unwrap_or(now)
                });
                Self {
                    reason,
                    generation,
                    since,
                    first: since,
                }
            }
        }
    }

    /// How long until the next try, at the earliest after `not_before`.
    #[must_use]
    pub fn delay(&self, uid: &str, not_before: Option<Duration>, now: Instant) -> Duration {
        let delay = status::retry_delay(now.saturating_duration_since(self.since), uid);
        not_before.map_or(delay, |pause| delay.max(pause))
    }
}

/// Corrections of fields that somebody else keeps changing back.
#[derive(Default)]
pub struct Contest {
    corrections: VecDeque<(String, Instant)>,
    fields: BTreeSet<String>,
    pauses: usize,
    until: Option<Instant>,
}

impl Contest {
    /// The fields that are to be left alone, and for how long; none: everything may be corrected.
    #[must_use]
    pub fn held_back(&self, now: Instant) -> Option<(Vec<String>, Duration)> {
        let left = self.until?.checked_duration_since(now).filter(|left| !left.is_zero())?;
        Some((self.fields.iter().cloned().collect(), left))
    }

    /// Whether somebody else is known to change it back.
    #[must_use]
    pub const fn is_on(&self) -> bool {
        self.pauses > 0
    }

    /// Fields have been corrected.
    pub fn corrected<'a>(&mut self, fields: impl IntoIterator<Item = &'a str>, now: Instant) {
        self.corrections
            .retain(|(_, at)| now.saturating_duration_since(*at) < CONTEST_WINDOW);
        self.corrections
            .extend(fields.into_iter().map(|field| (field.to_owned(), now)));
        let often: BTreeSet<String> = self
            .corrections
            .iter()
            .map(|(field, _)| field)
            .filter(|field| {
                self.fields.contains(*field)
                    || self.corrections.iter().filter(|(other, _)| other == *field).count() >= CONTEST_CORRECTIONS
            })
            .cloned()
            .collect();
        if !often.is_empty() {
            self.fields.extend(often);
            let pause = CONTEST_PAUSES[self.pauses.min(CONTEST_PAUSES.len() - 1)];
            self.pauses += 1;
            self.until = Some(now + pause);
        }
    }

    /// Nothing differs: after one quiet interval past the pause the contest is over. Until then, when to look again.
    pub fn quiet(&mut self, interval: Duration, now: Instant) -> Option<Duration> {
        let over = self.until? + interval;
        let left = over.checked_duration_since(now).filter(|left| !left.is_zero());
        if left.is_none() {
            *self = Self::default();
        }
        left
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MINUTE: Duration = Duration::from_secs(60);

    fn pause(contest: &Contest, now: Instant) -> Option<Duration> {
        contest.held_back(now).map(|(_, left)| left)
    }

    #[test]
    fn the_third_correction_of_one_field_in_ten_minutes_begins_a_pause() {
        let start = Instant::now();
        let mut contest = Contest::default();
        contest.corrected(["from_number"], start);
        contest.corrected(["name"], start + MINUTE);
        contest.corrected(["from_number"], start + 2 * MINUTE);
        assert_eq!(
            pause(&contest, start + 2 * MINUTE),
            None,
            "two of one field and one of another"
        );
        contest.corrected(["from_number"], start + 3 * MINUTE);
        assert_eq!(pause(&contest, start + 3 * MINUTE), Some(5 * MINUTE));
        assert_eq!(pause(&contest, start + 8 * MINUTE), None);
    }

    #[test]
    fn corrections_that_are_far_apart_are_no_contest() {
        let start = Instant::now();
        let mut contest = Contest::default();
        for n in 0..9 {
            contest.corrected(["from_number"], start + n * 6 * MINUTE);
        }
        assert!(!contest.is_on());
    }

    #[test]
    fn pauses_grow_to_half_an_hour_and_end_with_one_quiet_interval() {
        let mut now = Instant::now();
        let mut contest = Contest::default();
        contest.corrected(["a"], now);
        contest.corrected(["a"], now);
        let mut pauses = Vec::new();
        for _ in 0..5 {
            contest.corrected(["a"], now);
            let pause = pause(&contest, now).unwrap();
            pauses.push(pause.as_secs() / 60);
            now += pause;
        }
        assert_eq!(pauses, [5, 10, 20, 30, 30]);
        assert_eq!(contest.quiet(MINUTE, now), Some(MINUTE));
        assert!(contest.is_on(), "the interval has not passed");
        assert_eq!(contest.quiet(MINUTE, now + MINUTE), None);
        assert!(!contest.is_on());
    }
}
