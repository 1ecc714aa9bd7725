//! Every reason that a condition can have: what provokes it, what is to be seen of it in conditions and events, and
//! the way back that its message tells, without a restart.

mod connections;
mod policies;
mod references;
mod servers;
mod specs;
mod working;

use std::fmt::Debug;

use authentik_stage_operator::api::Reason;
pub use authentik_stage_operator::api::{AuthenticatorSMSStage as Stage, AuthentikConnection as Connection};
use futures::StreamExt;
use k8s_openapi::api::events::v1::Event;
use kube::core::NamespaceResourceScope;
use kube::runtime::{WatchStreamExt, watcher};
use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::arena::{Arena, PATIENCE};

/// What stands beside `Ready=False`.
const RECONCILING: Option<&str> = Some("Reconciling");
/// What stands beside `Ready=False` where only an edit of the resource helps.
const STALLED: Option<&str> = Some("Stalled");

/// Path of the stages in authentik's API.
const STAGES: &str = "/stages/authenticator/sms/";

/// Each case becomes a test and is told which reason it is to provoke.
macro_rules! cases {
    ($($reason:ident => $($module:ident::$case:ident),+;)+) => {
        $($(
            #[tokio::test]
            async fn $case() {
                Box::pin($module::$case(Reason::$reason)).await;
            }
        )+)+

        const PROVOKED: &[Reason] = &[$(Reason::$reason),+];
    };
}

cases! {
    Available => working::a_stage_that_is_as_declared_says_so;
    Creating => working::the_intent_to_create_shows_before_the_stage, working::an_edit_waits_for_a_create_whose_reply_was_lost;
    Updating => working::a_takeover_shows_until_all_is_corrected, working::a_server_that_keeps_nothing_is_asked_again;
    Deleting => working::a_deletion_waits_for_a_create_whose_reply_was_lost;
    Contested => working::the_fourth_correction_waits;
    InternalError => working::an_api_server_that_fails_is_no_fault_of_the_resource;

    Observed => policies::an_observed_stage_that_equals_is_never_written;
    DriftDetected => policies::an_observed_stage_that_differs_says_where;
    StageNotFound => policies::an_observed_stage_that_is_not_there_is_waited_for;
    Suspended => policies::a_suspended_resource_says_whether_its_spec_is_applied, policies::a_suspended_connection_rests_with_its_stages;

    SecretNotFound => references::a_secret_that_is_not_there_shows_at_once, references::a_secret_that_goes_shows_after_a_minute;
    SecretKeyMissing => references::a_key_that_is_not_there_or_empty_is_named;
    SecretInvalid => references::what_no_server_could_use_is_refused_before_it_is_sent;
    ConnectionNotFound => references::a_connection_that_is_not_there_is_named;
    ConnectionNotReady => references::a_connection_that_is_not_ready_says_why_to_its_stages;
    ConnectionNotAllowed => references::a_connection_of_another_namespace_has_to_allow_it;
    FlowNotFound => references::a_flow_that_is_not_there_holds_back_only_itself;
    MappingNotFound => references::a_mapping_that_is_not_there_holds_back_only_itself;

    CABundleNotFound => connections::a_ca_bundle_that_is_not_there_is_named;
    CABundleInvalid => connections::a_ca_bundle_without_a_certificate_is_named;
    TLSError => connections::a_server_of_an_unknown_ca_is_not_spoken_to;
    NotAuthentik => connections::what_is_not_authentik_is_told_from_it;
    Unauthorized => connections::a_token_that_is_not_accepted_is_asked_for_anew;
    Forbidden => connections::a_right_that_a_connection_lacks_is_named, connections::a_right_that_only_one_stage_needs_is_named_there;

    ServerUnreachable => servers::a_server_that_is_down_is_news_after_a_minute;
    ServerError => servers::a_server_that_fails_is_news_after_a_minute;
    RateLimited => servers::a_server_that_asks_for_a_pause_gets_it, servers::a_pause_is_news_after_a_minute;
    ServerStarting => servers::a_server_that_starts_is_news_after_a_minute;
    ServerReadOnly => servers::a_server_without_a_licence_is_news_where_something_is_to_be_written;

    InvalidSpec => specs::a_slug_that_the_server_is_too_old_for_is_refused, specs::what_a_loosened_schema_lets_through_is_refused;
    Rejected => specs::what_authentik_refuses_is_told_in_its_own_words;
    NameConflict => specs::the_older_of_two_resources_has_the_name, specs::a_stage_of_another_kind_keeps_its_name,
        specs::a_stage_that_may_not_be_taken_over_shows_no_values;
    ServerChanged => specs::another_server_is_not_written_to;
    DeletionBlocked => specs::what_depends_on_a_stage_blocks_its_deletion, specs::a_connection_stays_while_stages_need_it;
}

#[test]
fn every_reason_has_a_case() {
    let left: Vec<_> = Reason::ALL.iter().filter(|reason| !PROVOKED.contains(reason)).collect();
    assert!(left.is_empty(), "nothing provokes {left:?}");
}

/// Either of our kinds.
pub trait Kind:
    kube::Resource<Scope = NamespaceResourceScope, DynamicType = ()>
    + Clone
    + Debug
    + DeserializeOwned
    + Serialize
    + Send
    + 'static
{
}

impl Kind for Stage {}
impl Kind for Connection {}

/// Waits until a resource shows this, in its current generation, in a message with all these parts, and until an event
/// tells the same.
async fn seen<K: Kind>(
    arena: &Arena,
    name: &str,
    ready: &str,
    reason: Reason,
    beside: Option<&str>,
    says: &[&str],
) -> K {
    let object = shown(arena, name, ready, reason, beside, says).await;
    let work = [Reason::Creating, Reason::Updating, Reason::Deleting, Reason::Suspended].contains(&reason);
    let type_ = if ready == "True" || work { "Normal" } else { "Warning" };
    told::<K>(arena, name, type_, reason, says).await;
    object
}

/// The same without the event, for what goes on with other words.
async fn shown<K: Kind>(
    arena: &Arena,
    name: &str,
    ready: &str,
    reason: Reason,
    beside: Option<&str>,
    says: &[&str],
) -> K {
    let reason = reason.as_str();
    let what = format!("show Ready={ready} for {reason} beside {beside:?}, saying {says:?}");
    let as_wanted = |object: &K| {
        let object = serde_json::to_value(object).unwrap();
        let conditions = object["status"]["conditions"].as_array().cloned().unwrap_or_default();
        let types: Vec<_> = conditions
            .iter()
            .filter_map(|condition| condition["type"].as_str())
            .filter(|type_| *type_ != "Ready")
            .collect();
        conditions.iter().any(|condition| {
            let message = condition["message"].as_str().unwrap_or_default();
            condition["type"] == "Ready"
                && condition["status"] == ready
                && condition["reason"] == reason
                && condition["observedGeneration"] == object["metadata"]["generation"]
                && says.iter().all(|part| message.contains(part))
        }) && types == beside.into_iter().collect::<Vec<_>>()
    };
    arena
        .wait(name, &what, |object: Option<&K>| object.is_some_and(as_wanted))
        .await
        .unwrap()
}

/// Waits for an event about a resource whose note has all these parts.
async fn told<K: Kind>(arena: &Arena, name: &str, type_: &str, reason: Reason, says: &[&str]) {
    let api = arena.api::<Event>();
    let wanted = |event: &Event| {
        let note = event.note.as_deref().unwrap_or_default();
        event.regarding.as_ref().is_some_and(|object| {
            object.kind.as_deref() == Some(&*K::kind(&())) && object.name.as_deref() == Some(name)
        }) && event.type_.as_deref() == Some(type_)
            && event.reason.as_deref() == Some(reason.as_str())
            && says.iter().all(|part| note.contains(part))
    };
    let found = async {
        let mut events = std::pin::pin!(watcher(api.clone(), watcher::Config::default()).applied_objects());
        while let Some(event) = events.next().await {
            if event.is_ok_and(|event| wanted(&event)) {
                return;
            }
        }
    };
    if tokio::time::timeout(PATIENCE, found).await.is_err() {
        let all = api.list(&kube::api::ListParams::default()).await.unwrap().items;
        let all: Vec<_> = all
            .iter()
            .map(|event| (&event.type_, &event.reason, &event.note))
            .collect();
        panic!(
            "no {type_} event {} about {name} that says {says:?}: {all:#?}",
            reason.as_str()
        );
    }
}

/// The way back: the resource is as declared.
async fn available(arena: &Arena, name: &str) -> Stage {
    seen(arena, name, "True", Reason::Available, None, &["is as declared"]).await
}

/// The connection can be used.
async fn usable(arena: &Arena, name: &str) -> Connection {
    seen(arena, name, "True", Reason::Available, None, &["the server answers"]).await
}
