//! What was sent, what has to be sent again, and how often somebody else changes it back.

use std::time::Duration;

use uuid::Uuid;

use super::goal::{Credentials, Goal};
use super::memory::{Contest, Refusal};
use super::observe::Observed;
use super::plan::{Policy, Update};
use super::server::Server;
use super::status::Notice;
use super::validate::ValidStage;
use super::{Failure, Work};
use crate::api::{ManagementPolicy, Reason};

/// A refusal is believed for so long.
const REFUSAL: Duration = Duration::from_secs(3600);

impl Work<'_> {
    /// Leaves out what somebody else keeps changing back; everything else goes on.
    pub(super) fn without_contested(&mut self, update: Update, was_ready: bool) -> (Update, Option<Failure>) {
        let edited = self.record.status.observed_generation != self.record.generation();
        if edited || self.forced.is_some() {
            self.memory.contest = Contest::default();
            return (update, None);
        }
        let Some((fields, left)) = self.memory.contest.held_back(self.context.clock.now()) else {
            return (update, None);
        };
        let changed = update.changes.fields();
        let held: Vec<_> = fields
            .into_iter()
            .filter(|field| changed.contains(&field.as_str()))
            .collect();
        if held.is_empty() || !(was_ready || self.memory.contest.is_on()) {
            return (update, None);
        }
        let failure = Failure::new(
            Reason::Contested,
            format!(
                "{} was corrected three times in ten minutes and is changed back each time: find the other writer in \
                 authentik's audit log (a blueprint, Terraform, a person), or set managementPolicy to Observe; the \
                 operator corrects it more and more seldom",
                held.join(", ")
            ),
        )
        .not_before(Some(left));
        (
            held.iter().fold(update, |update, field| update.without(field)),
            Some(failure),
        )
    }

    /// Tells of a change, and counts it if it was a correction of what somebody else did.
    pub(super) fn corrected(&mut self, changed: &[&'static str], goal: &Goal, was_ready: bool) {
        if changed.is_empty() {
            return;
        }
        let rotated = goal
            .credentials
            .as_ref()
            .is_ok_and(|credentials| self.record.status.credentials != credentials.markers);
        let secret = |field: &str| matches!(field, "auth" | "auth_password");
        let drifted: Vec<String> = self
            .record
            .status
            .drift
            .iter()
            .map(|drift| drift.field.clone())
            .filter(|field| changed.contains(&field.as_str()) && !(secret(field) && (rotated || self.memory.resend)))
            .collect();
        let by_somebody_else = (was_ready || self.memory.contest.is_on()) && !drifted.is_empty();
        if by_somebody_else {
            self.memory
                .contest
                .corrected(drifted.iter().map(String::as_str), self.context.clock.now());
            self.pass.repaired += drifted.len();
        }
        self.pass.rotated |= rotated && changed.iter().any(|field| secret(field)) && was_ready;
        let note = if by_somebody_else {
            format!(
                "corrected {}, changed in authentik by somebody else",
                drifted.join(", ")
            )
        } else {
            format!("changed {} in authentik", changed.join(", "))
        };
        self.record.notices.push(Notice {
            warning: false,
            reason: Reason::Updating,
            note,
        });
    }

    /// Remembers that authentik refused to create this.
    pub(super) fn refused(&mut self, server: &Server, goal: &Goal, failure: &Failure) {
        if let (Some(asked), Ok(credentials)) = (asked(server, goal), &goal.credentials) {
            let sent = credentials.fingerprint(&self.context.fingerprints);
            let at = self.context.clock.now();
            self.memory.refused = Some(Refusal {
                asked,
                sent,
                failure: failure.clone(),
                at,
            });
        }
    }

    /// What authentik refused is not sent again before something is different, or an hour has passed.
    ///
    /// # Errors
    /// The refusal.
    pub(super) fn was_refused_before(&mut self, server: &Server, goal: &Goal) -> Result<(), Failure> {
        let now = self.context.clock.now();
        let stands = |refusal: &Refusal| {
            self.forced.is_none()
                && now.saturating_duration_since(refusal.at) < REFUSAL
                && asked(server, goal).as_ref() == Some(&refusal.asked)
                && goal
                    .credentials
                    .as_ref()
                    .is_ok_and(|now| now.fingerprint(&self.context.fingerprints) == refusal.sent)
        };
        match self.memory.refused.as_ref().filter(|refusal| stands(refusal)) {
            Some(refusal) => Err(refusal.failure.clone()),
            None => Ok(()),
        }
    }

    /// From now on these credentials are known to be in authentik.
    pub(super) fn sent(&mut self, server: &Server, pk: Uuid, goal: &Goal) {
        if let Ok(credentials) = &goal.credentials {
            self.sent_credentials(server, pk, credentials);
        }
    }

    pub(super) fn sent_credentials(&mut self, server: &Server, pk: Uuid, credentials: &Credentials) {
        self.memory.sent = Some((pk, credentials.fingerprint(&self.context.fingerprints)));
        self.memory.resend = false;
        self.record.status.credentials.clone_from(&credentials.markers);
        server.wrote_by_others(pk, false);
    }

    pub(super) fn policy(&self, server: &Server, stage: &ValidStage, goal: &Goal, observed: &Observed) -> Policy {
        let credentials_stale = match (observed, &goal.credentials) {
            (Observed::Owned(row), Ok(credentials)) if stage.management == ManagementPolicy::Full => {
                let today = credentials.fingerprint(&self.context.fingerprints);
                let source_changed = match &self.memory.sent {
                    Some((pk, sent)) if *pk == row.pk => *sent != today,
                    _ => self.record.status.credentials != credentials.markers,
                };
                source_changed || self.memory.resend || server.was_written_by_others(row.pk)
            }
            _ => false,
        };
        Policy {
            adoption: stage.adoption,
            management: stage.management,
            credentials_stale,
        }
    }
}

/// What authentik was asked to create, and which authentik, but for the credentials.
fn asked(server: &Server, goal: &Goal) -> Option<String> {
    let fields = goal.intended().ok()?;
    let version = server.version().map(|version| version.to_string());
    Some(format!("{:?} {fields:?} at {} {version:?}", goal.name, server.url()))
}
