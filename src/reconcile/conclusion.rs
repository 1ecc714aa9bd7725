//! The end of a pass: the outcome becomes a status, and the time of the next pass.

use std::sync::Arc;
use std::time::Duration;

use super::memory::Failing;
use super::record::Fenced;
use super::status::{self, Verdict};
use super::{Failure, Halt, Object, Pass, Work, failure, resolve};
use crate::api::Reason;

impl Work<'_> {
    /// A failure of another generation says nothing of this one.
    pub(super) fn drop_stale_failures(&mut self) {
        let generation = self.record.generation();
        if self
            .memory
            .failing
            .is_some_and(|failing| failing.generation != generation)
        {
            self.memory.failing = None;
        }
    }

    /// Writes what the pass came to, and says when to look again.
    pub(super) async fn finish(mut self, outcome: Result<Verdict, Halt>) -> Pass {
        let was_ready = status::was_ready(&self.record.status.conditions, self.record.generation());
        let outcome = match outcome {
            Err(Halt::Again(doing)) => Err(status::keeps_refusing(&doing).into()),
            outcome => outcome,
        };
        let verdict = match outcome {
            Ok(verdict) if verdict.abnormal.is_some() => {
                self.pass.failure = Some(verdict.reason);
                self.pass.next = Some(self.retry(verdict.reason, None));
                verdict
            }
            Ok(verdict) => {
                self.memory.failing = None;
                verdict
            }
            Err(Halt::Working(verdict, delay)) => {
                self.pass.next = Some(delay);
                self.pass.failure = Some(verdict.reason);
                verdict
            }
            Err(Halt::Failed(failure)) => {
                let failure = self.of_the_connection(failure);
                self.pass.failure = Some(failure.reason);
                self.pass.next = Some(self.retry(failure.reason, failure.retry_after));
                let (failing_for, unwell_for) = self.failing_for();
                let graced = was_ready && failure::has_grace(failure.reason);
                if graced && unwell_for < status::GRACE {
                    let left = status::GRACE.saturating_sub(unwell_for);
                    self.pass.next = self.pass.next.map(|next| next.min(left));
                    return self.end();
                }
                let mut verdict = Verdict::failed(&failure);
                if status::says_since_when(failure.reason) {
                    let since = self.context.clock.wall() - failing_for;
                    verdict.message = status::since(&verdict.message, &self.record.status.conditions, since);
                }
                verdict
            }
            Err(Halt::Later | Halt::ConnectionSuspended | Halt::Again(_)) => return self.end(),
            Err(Halt::Gone) => {
                self.memory.latest = None;
                self.pass.notices = self.record.notices;
                return self.pass;
            }
        };
        self.record.conclude(self.context, &verdict);
        if let Some(forced) = self.forced.clone() {
            self.record.status.last_handled_reconcile_at = Some(forced);
        }
        let written = self.record.write_status(Fenced::No).await;
        // A stage that is only looked at is known by the status alone: from now on rounds are to keep its row.
        self.claim_again();
        match written {
            Ok(()) => {}
            Err(Halt::Gone) => return self.end(),
            Err(halt) => {
                tracing::warn!(resource = %self.key, ?halt, "cannot write the status");
                let again = if matches!(halt, Halt::Again(_)) { 1 } else { 30 };
                self.pass.next = Some(Duration::from_secs(again));
                return self.end();
            }
        }
        // What owns nothing has to be deletable at once.
        let owns_nothing = self.record.status.origin.is_none() && self.record.status.pending_create.is_none();
        if owns_nothing
            && !self.record.is_leaving()
            && let Err(halt) = self.record.release_finalizer().await
        {
            tracing::debug!(resource = %self.key, ?halt, "cannot take the finalizer off yet");
            self.pass.next.get_or_insert(Duration::from_secs(5));
        }
        self.end()
    }

    /// What turns out to be the connection's trouble is shown as that, and the connection is looked at.
    fn of_the_connection(&mut self, failure: Failure) -> Failure {
        let Some(pinned) = self
            .context
            .claims()
            .get(&self.record.uid())
            .and_then(|claim| claim.connection.clone())
        else {
            return failure;
        };
        if failure.reason == Reason::Forbidden || failure::is_of_the_connection(failure.reason) {
            // An expired token and a missing right look alike to a stage.
            self.context.servers.recheck(&pinned);
            self.pass.wake.push(Object::Connection(pinned.clone()));
        }
        if failure::is_of_the_connection(failure.reason) {
            return resolve::not_ready(&pinned, &failure);
        }
        failure
    }

    pub(super) fn end(mut self) -> Pass {
        self.memory.latest = Some(Arc::clone(&self.record.object));
        self.pass.notices = std::mem::take(&mut self.record.notices);
        self.pass
    }

    /// For how long the resource has failed at what it fails at now, and at anything.
    pub(super) fn failing_for(&self) -> (Duration, Duration) {
        let now = self.context.clock.now();
        let for_ = |since| now.saturating_duration_since(since);
        self.memory
            .failing
            .map(|failing| (for_(failing.since), for_(failing.first)))
            .unwrap_or_default()
    }

    /// The time to the next try: from how long `Ready` has been False for this reason and generation, which survives a
    /// restart, else from when this process first saw it.
    pub(super) fn retry(&mut self, reason: Reason, not_before: Option<Duration>) -> Duration {
        let now = self.context.clock.now();
        let failing = Failing::at(
            reason,
            self.record.generation(),
            self.memory.failing,
            &self.record.status.conditions,
            (now, self.context.clock.wall()),
        );
        self.memory.failing = Some(failing);
        failing.delay(&self.record.uid(), not_before, now)
    }
}
