//! Time as a value that is passed in: whatever waits or measures takes a [`Clock`], so that a test steps time by hand.

use std::time::{Duration, Instant};

use futures::FutureExt;
use futures::future::BoxFuture;
use k8s_openapi::jiff::Timestamp;
use tokio::sync::watch;

/// Where time comes from.
pub trait Clock: Send + Sync + 'static {
    /// Monotonic time, for delays and ages.
    fn now(&self) -> Instant;

    /// Time of day, for what is written into an object. It may jump; nothing is measured with it.
    fn wall(&self) -> Timestamp;

    /// Ends once [`Clock::now`] has reached `at`.
    fn sleep_until(&self, at: Instant) -> BoxFuture<'static, ()>;
}

/// The time of the machine.
#[derive(Clone, Copy, Debug, Default)]
pub struct SystemClock;

impl Clock for SystemClock {
    fn now(&self) -> Instant {
        Instant::now()
    }

    fn wall(&self) -> Timestamp {
        Timestamp::now()
    }

    fn sleep_until(&self, at: Instant) -> BoxFuture<'static, ()> {
        tokio::time::sleep_until(at.into()).boxed()
    }
}

/// A clock for tests, which stands still until it is told to go on. Clones show the same time.
#[derive(Clone, Debug)]
pub struct ManualClock {
    time: watch::Sender<(Instant, Timestamp)>,
}

impl ManualClock {
    /// A clock whose time of day is `wall`.
    #[must_use]
    pub fn new(wall: Timestamp) -> Self {
        Self {
            time: watch::Sender::new((Instant::now(), wall)),
        }
    }

    /// Moves both times on and wakes every sleeper whose time has come.
    ///
    /// The time of day stops at the last moment that it can show.
    pub fn advance(&self, by: Duration) {
        self.time.send_modify(|(now, wall)| {
            *now += by;
            *wall = wall.checked_add(by).unwrap_or(Timestamp::MAX);
        });
    }
}

impl Clock for ManualClock {
    fn now(&self) -> Instant {
        self.time.borrow().0
    }

    fn wall(&self) -> Timestamp {
        self.time.borrow().1
    }

    fn sleep_until(&self, at: Instant) -> BoxFuture<'static, ()> {
        let mut time = self.time.subscribe();
        async move {
            // A clock that is gone never shows the time that is waited for.
            if time.wait_for(|(now, _)| *now >= at).await.is_err() {
                std::future::pending::<()>().await;
            }
        }
        .boxed()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    #[test]
    fn both_times_move_together_and_clones_share_them() {
        let clock = ManualClock::new(Timestamp::UNIX_EPOCH);
        let other = clock.clone();
        let start = clock.now();
        clock.advance(90 * SECOND);
        assert_eq!(other.now(), start + 90 * SECOND);
        assert_eq!(other.wall().as_second(), 90);
    }

    #[tokio::test]
    async fn a_sleeper_wakes_when_its_time_has_come_and_not_before() {
        let clock = ManualClock::new(Timestamp::UNIX_EPOCH);
        let mut sleep = clock.sleep_until(clock.now() + 2 * SECOND);
        assert!((&mut sleep).now_or_never().is_none());
        clock.advance(SECOND);
        assert!((&mut sleep).now_or_never().is_none(), "one of two seconds has passed");
        clock.advance(SECOND);
        assert!(sleep.now_or_never().is_some());
    }

    #[tokio::test]
    async fn a_time_in_the_past_is_no_wait() {
        let clock = ManualClock::new(Timestamp::UNIX_EPOCH);
        assert!(clock.sleep_until(clock.now()).now_or_never().is_some());
        SystemClock.sleep_until(SystemClock.now()).await;
    }

    #[tokio::test]
    async fn advancing_wakes_a_task_that_sleeps() {
        let clock = ManualClock::new(Timestamp::UNIX_EPOCH);
        let sleeper = tokio::spawn(clock.sleep_until(clock.now() + SECOND));
        clock.advance(SECOND);
        sleeper.await.unwrap();
    }
}
