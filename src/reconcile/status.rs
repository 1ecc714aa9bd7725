//! Step 6: what a pass came to, as conditions, events and the time of the next look. One table, pure.

use std::time::Duration;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, Time};
use k8s_openapi::jiff::Timestamp;

use crate::api::{Abnormal, FlowSet, ObservedStage, READY, RECONCILING, Reason, STALLED, schema};
use crate::authentik::{FlowSetEntry, StageRow};

use super::{Failure, fingerprint};

/// For so long a trouble that mostly passes by itself is no news on a resource that is as declared.
pub const GRACE: Duration = Duration::from_secs(60);

/// Shortest and longest time to the next try.
const RETRY: (Duration, Duration) = (Duration::from_secs(1), Duration::from_secs(300));

/// Longest message of a condition, in characters.
const MESSAGE_MAX: usize = 4096;

/// What is the case, in the words of a condition.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Verdict {
    /// Whether it is as declared.
    pub ready: bool,
    /// Why.
    pub reason: Reason,
    /// What and how, for people.
    pub message: String,
    /// What stands beside `Ready=False`.
    pub abnormal: Option<Abnormal>,
}

impl Verdict {
    /// As declared.
    pub fn ready(reason: Reason, message: impl Into<String>) -> Self {
        Self {
            ready: true,
            reason,
            message: message.into(),
            abnormal: None,
        }
    }

    /// Not yet as declared, and work goes on.
    pub fn working(reason: Reason, message: impl Into<String>) -> Self {
        Self {
            ready: false,
            reason,
            message: message.into(),
            abnormal: Some(Abnormal::Reconciling),
        }
    }

    /// Hands off: neither condition stands beside it.
    pub fn suspended(applied: bool, message: impl Into<String>) -> Self {
        Self {
            ready: applied,
            reason: Reason::Suspended,
            message: message.into(),
            abnormal: None,
        }
    }

    /// Not as declared.
    #[must_use]
    pub fn failed(failure: &Failure) -> Self {
        Self {
            ready: false,
            reason: failure.reason,
            message: failure.message.clone(),
            abnormal: Some(failure.abnormal),
        }
    }
}

/// Our conditions after a verdict: exactly one `Ready`, and beside `Ready=False` at most one other.
///
/// `lastTransitionTime` moves only when `status` does.
#[must_use]
pub fn conditions(before: &[Condition], verdict: &Verdict, generation: i64, now: Timestamp) -> Vec<Condition> {
    let Verdict {
        ready,
        reason,
        message,
        abnormal,
    } = verdict;
    let condition = |type_: &str, status: &str| {
        let since = before
            .iter()
            .find(|condition| condition.type_ == type_ && condition.status == status)
            .map_or_else(
                || Time(seconds(now)),
                |condition| condition.last_transition_time.clone(),
            );
        Condition {
            type_: type_.to_owned(),
            status: status.to_owned(),
            reason: reason.as_str().to_owned(),
            message: bounded(message, MESSAGE_MAX),
            observed_generation: Some(generation),
            last_transition_time: since,
        }
    };
    let mut conditions = vec![condition(READY, if *ready { "True" } else { "False" })];
    match abnormal {
        Some(Abnormal::Reconciling) => conditions.push(condition(RECONCILING, "True")),
        Some(Abnormal::Stalled) => conditions.push(condition(STALLED, "True")),
        None => {}
    }
    conditions
}

/// The conditions that are ours to write.
#[must_use]
pub fn ours(conditions: &[Condition]) -> Vec<Condition> {
    conditions
        .iter()
        .filter(|condition| [READY, RECONCILING, STALLED].contains(&condition.type_.as_str()))
        .cloned()
        .collect()
}

/// The `Ready` condition.
#[must_use]
pub fn ready(conditions: &[Condition]) -> Option<&Condition> {
    conditions.iter().find(|condition| condition.type_ == READY)
}

/// Whether the resource was shown as declared in this generation.
#[must_use]
pub fn was_ready(conditions: &[Condition], generation: i64) -> bool {
    ready(conditions).is_some_and(|ready| ready.status == "True" && ready.observed_generation == Some(generation))
}

/// Whether the resource was shown as not as declared in this generation.
#[must_use]
pub fn is_false(conditions: &[Condition], generation: i64) -> bool {
    ready(conditions).is_some_and(|ready| ready.status == "False" && ready.observed_generation == Some(generation))
}

/// A reference that does not resolve: the message says since when.
#[must_use]
pub fn says_since_when(reason: Reason) -> bool {
    matches!(
        reason,
        Reason::SecretNotFound
            | Reason::SecretKeyMissing
            | Reason::SecretInvalid
            | Reason::ConnectionNotFound
            | Reason::ConnectionNotReady
            | Reason::ConnectionNotAllowed
            | Reason::FlowNotFound
            | Reason::MappingNotFound
    )
}

/// The message with since when it is so; the same message keeps its time.
#[must_use]
pub fn since(message: &str, before: &[Condition], since: Timestamp) -> String {
    let told = ready(before).map(|ready| ready.message.as_str()).unwrap_or_default();
    if told
        .strip_prefix(message)
        .is_some_and(|rest| rest.starts_with(" (since "))
    {
        return told.to_owned();
    }
    format!("{message} (since {})", seconds(since))
}

/// What happened to `Ready`, if it is worth telling: an event for each transition, none for what goes on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Notice {
    /// Whether somebody should look.
    pub warning: bool,
    /// Reason of the closed list.
    pub reason: Reason,
    /// What happened, and what to do.
    pub note: String,
}

/// The event that a change of conditions is.
#[must_use]
pub fn notice(before: &[Condition], after: &[Condition], reason: Reason) -> Option<Notice> {
    let after = ready(after)?;
    let same = ready(before).is_some_and(|before| before.status == after.status && before.reason == after.reason);
    let warning = after.status == "False"
        && !matches!(
            reason,
            Reason::Creating | Reason::Updating | Reason::Deleting | Reason::Suspended
        );
    (!same).then(|| Notice {
        warning,
        reason,
        note: after.message.clone(),
    })
}

/// Somebody, most likely an admission policy, refuses a write of ours again and again, or always writes before us.
#[must_use]
pub fn keeps_refusing(doing: &str) -> Failure {
    Failure::new(
        Reason::InternalError,
        format!(
            "the API server keeps refusing to {doing}: look for an admission policy that denies it to the operator, or for \
             somebody who writes the resource all the time; the operator tries again"
        ),
    )
}

/// How long to wait after a failure that has gone on for so long: as long again, from one second to five minutes, with
/// a jitter that is the resource's own, so that a crowd spreads.
#[must_use]
pub fn retry_delay(failing_for: Duration, uid: &str) -> Duration {
    let (shortest, longest) = RETRY;
    let base = failing_for.clamp(shortest, longest);
    base.mul_f64(0.75 + f64::from(spread(uid, 1000)) / 4000.0).max(shortest)
}

/// A number below `of` that is a resource's own, so that a crowd does not go in step.
#[must_use]
pub fn spread(uid: &str, of: u32) -> u32 {
    uid.bytes()
        .fold(0_u32, |hash, byte| hash.wrapping_mul(31).wrapping_add(byte.into()))
        % of
}

/// What a resource shows of its stage. `account_in_clear` is what the spec itself shows.
#[must_use]
pub fn stage_view(row: &StageRow, account_in_clear: Option<&str>) -> ObservedStage {
    let StageRow {
        pk,
        name,
        component,
        verbose_name,
        verbose_name_plural,
        meta_model_name,
        friendly_name,
        configure_flow,
        provider,
        from_number,
        account_sid,
        auth: _,
        auth_password: _,
        auth_type,
        verify_only,
        mapping,
        flow_set,
    } = row;
    let text = |value: &str| bounded(value, schema::STATUS_TEXT);
    let word = |value: &str| bounded(value, schema::STATUS_WORD);
    let mut flows: Vec<_> = flow_set.iter().map(flow_view).collect();
    flows.sort();
    flows.dedup_by(|one, other| one.pk == other.pk);
    flows.truncate(schema::STATUS_FLOWS);
    ObservedStage {
        pk: pk.to_string(),
        name: text(name),
        component: text(component),
        verbose_name: text(verbose_name),
        verbose_name_plural: text(verbose_name_plural),
        meta_model_name: text(meta_model_name),
        friendly_name: text(friendly_name),
        configure_flow: configure_flow.map(|pk| pk.to_string()),
        provider: word(provider),
        from_number: text(from_number),
        account_sid: fingerprint::shown(account_sid, account_in_clear).map(|sid| bounded(&sid, schema::STATUS_URL)),
        auth_type: word(auth_type),
        verify_only: *verify_only,
        mapping: mapping.map(|pk| pk.to_string()),
        flow_set: flows,
    }
}

fn flow_view(flow: &FlowSetEntry) -> FlowSet {
    let FlowSetEntry {
        pk,
        policybindingmodel_ptr_id,
        name,
        slug,
        title,
        designation,
        background,
        policy_engine_mode,
        compatibility_mode,
        export_url,
        layout,
        denied_action,
    } = flow;
    let text = |value: &str| bounded(value, schema::STATUS_TEXT);
    let word = |value: &str| bounded(value, schema::STATUS_WORD);
    FlowSet {
        pk: pk.to_string(),
        policybindingmodel_ptr_id: word(policybindingmodel_ptr_id),
        name: text(name),
        slug: text(slug),
        title: text(title),
        designation: word(designation),
        background: bounded(background, schema::STATUS_URL),
        policy_engine_mode: word(policy_engine_mode),
        compatibility_mode: *compatibility_mode,
        export_url: bounded(export_url, schema::STATUS_URL),
        layout: word(layout),
        denied_action: word(denied_action),
    }
}

/// A text of at most `max` characters, with `…` where it was cut: no text of a server can make a status unwritable.
#[must_use]
pub fn bounded(text: &str, max: usize) -> String {
    if text.chars().count() <= max {
        return text.to_owned();
    }
    text.chars().take(max.saturating_sub(1)).chain(['…']).collect()
}

/// Kubernetes keeps whole seconds.
fn seconds(time: Timestamp) -> Timestamp {
    Timestamp::from_second(time.as_second()).unwrap_or(time)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(second).unwrap()
    }

    fn failed(reason: Reason) -> Verdict {
        Verdict::failed(&Failure::new(reason, "no"))
    }

    #[test]
    fn exactly_one_ready_and_at_most_one_beside_it() {
        for (verdict, types) in [
            (Verdict::ready(Reason::Available, ""), vec![READY]),
            (Verdict::suspended(false, ""), vec![READY]),
            (failed(Reason::InvalidSpec), vec![READY, STALLED]),
            (failed(Reason::SecretNotFound), vec![READY, RECONCILING]),
        ] {
            let conditions = conditions(&[], &verdict, 3, at(1));
            assert_eq!(
                conditions.iter().map(|c| c.type_.as_str()).collect::<Vec<_>>(),
                types,
                "{verdict:?}"
            );
            assert!(conditions.iter().all(|c| c.observed_generation == Some(3)));
        }
    }

    #[test]
    fn the_transition_time_moves_only_with_the_status() {
        let first = conditions(&[], &failed(Reason::SecretNotFound), 1, at(1));
        let second = conditions(&first, &failed(Reason::InvalidSpec), 2, at(2));
        assert_eq!(second[0].last_transition_time, Time(at(1)), "still False");
        assert_eq!(second[1].last_transition_time, Time(at(2)), "Stalled is new");
        let third = conditions(&second, &Verdict::ready(Reason::Available, ""), 2, at(3));
        assert_eq!(third[0].last_transition_time, Time(at(3)));
    }

    #[test]
    fn a_message_keeps_the_time_since_when_it_is_so() {
        let told = since("Secret a/b does not exist", &[], at(60));
        let before = conditions(&[], &Verdict::working(Reason::SecretNotFound, told.clone()), 1, at(60));
        assert_eq!(since("Secret a/b does not exist", &before, at(90)), told);
        assert_ne!(since("Secret a/c does not exist", &before, at(90)), told);
    }

    #[test]
    fn only_transitions_are_told() {
        let before = conditions(&[], &failed(Reason::SecretNotFound), 1, at(1));
        let again = conditions(&before, &failed(Reason::SecretNotFound), 2, at(2));
        assert_eq!(notice(&before, &again, Reason::SecretNotFound), None);
        let ready = conditions(&again, &Verdict::ready(Reason::Available, "ok"), 2, at(2));
        assert!(!notice(&again, &ready, Reason::Available).unwrap().warning);
        assert!(notice(&ready, &before, Reason::SecretNotFound).unwrap().warning);
    }

    #[test]
    fn tries_get_rarer_and_never_rarer_than_five_minutes() {
        let mut waited = Duration::ZERO;
        let mut tries = Vec::new();
        for _ in 0..16 {
            let delay = retry_delay(waited, "0a1b");
            tries.push(delay);
            waited += delay;
        }
        assert_eq!(tries[0], Duration::from_secs(1));
        assert!(tries.windows(2).all(|pair| pair[0] <= pair[1]), "{tries:?}");
        assert!(tries[15] > Duration::from_secs(200) && tries[15] <= Duration::from_secs(300));
    }

    #[test]
    fn a_text_that_is_too_long_is_cut_and_says_so() {
        assert_eq!(bounded("abcd", 4), "abcd");
        assert_eq!(bounded("abcde", 4), "abc…");
        assert_eq!(bounded("ääää", 4), "ääää", "characters, not bytes");
    }
}
