//! Keeps a sick server from being asked by everybody at once. Pure: time is an argument.

use std::time::{Duration, Instant};

use super::Failure;

/// Failures in a row after which nobody but the probe asks.
const THRESHOLD: u32 = 5;

/// Time between two requests to a server that does not answer.
const PROBE: Duration = Duration::from_secs(60);

/// What a connection's last answers say of its server.
#[derive(Debug, Default)]
pub struct Breaker {
    failures: u32,
    last: Option<Instant>,
    opened: bool,
    open: Option<Open>,
}

#[derive(Debug)]
struct Open {
    failure: Failure,
    until: Option<Instant>,
}

impl Breaker {
    /// The server answered.
    pub fn succeeded(&mut self) {
        *self = Self::default();
    }

    /// The server did not answer, or asked for a pause.
    pub fn failed(&mut self, failure: &Failure, now: Instant) {
        self.failures += 1;
        self.last = Some(now);
        let until = failure.retry_after.map(|pause| now + pause);
        if self.failures >= THRESHOLD || until.is_some() {
            self.opened |= self.open.is_none();
            self.open = Some(Open {
                failure: failure.clone(),
                until,
            });
        }
    }

    /// Why nobody may ask now; the connection's own round is the probe that closes the breaker.
    #[must_use]
    pub fn refusal(&self) -> Option<&Failure> {
        self.open.as_ref().map(|open| &open.failure)
    }

    /// Until when not even the probe may ask, since the server said so.
    #[must_use]
    pub fn probe_wait(&self, now: Instant) -> Option<Duration> {
        let until = self.open.as_ref()?.until?;
        until.checked_duration_since(now).filter(|wait| !wait.is_zero())
    }

    /// Whether a single request may go out all the same: the last one failed a while ago.
    #[must_use]
    pub fn lets_probe(&self, now: Instant) -> bool {
        self.probe_wait(now).is_none()
            && self
                .last
                .is_none_or(|last| now.saturating_duration_since(last) >= PROBE)
    }

    /// Whether it opened since this was last asked.
    pub fn has_just_opened(&mut self) -> bool {
        std::mem::take(&mut self.opened)
    }

    /// Whether it is open.
    #[must_use]
    pub const fn is_open(&self) -> bool {
        self.open.is_some()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::Reason;

    fn failure(retry_after: Option<u64>) -> Failure {
        Failure::new(Reason::ServerError, "down").not_before(retry_after.map(Duration::from_secs))
    }

    #[test]
    fn it_opens_after_some_failures_in_a_row_and_closes_at_an_answer() {
        let now = Instant::now();
        let mut breaker = Breaker::default();
        for _ in 1..THRESHOLD {
            breaker.failed(&failure(None), now);
            assert!(!breaker.is_open(), "a few failures are no outage");
        }
        breaker.failed(&failure(None), now);
        assert!(breaker.refusal().is_some());
        assert_eq!(
            breaker.probe_wait(now),
            None,
            "the probe may always ask where the server named no time"
        );
        breaker.succeeded();
        assert!(!breaker.is_open());
    }

    #[test]
    fn a_server_that_names_a_time_is_left_alone_until_then() {
        let now = Instant::now();
        let mut breaker = Breaker::default();
        breaker.failed(&failure(Some(30)), now);
        assert!(breaker.is_open(), "at once");
        assert_eq!(breaker.probe_wait(now), Some(Duration::from_secs(30)));
        assert_eq!(breaker.probe_wait(now + Duration::from_secs(30)), None);
    }
}
