//! A create that survives a crash at any point.
//!
//! ```text
//!   finalizer -> intent in status -> POST -> pk in status
//!                     |                |
//!                     |                +- reply lost: the intent tells, by name and fields, whether a stage is ours
//!                     +- crash before the POST: as if the reply were lost
//! ```
//!
//! authentik's stage has no field for an owner, but its name is unique. An intent is one request: nothing else is sent,
//! no name is changed and no resource let go before it has shown its stage or can take effect no more. Otherwise a
//! request that lands late would find its name free again, and leave a stage that nobody knows.

use super::permission;
use std::time::{Duration, Instant};

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use k8s_openapi::jiff::Timestamp;
use uuid::Uuid;

use crate::api::{Origin, PendingCreate, Reason};
use crate::authentik::{Error, StageRow};

use super::apply::{self, Created};
use super::goal::{Goal, is_intended};
use super::observe::{self, Freshness, Observed};
use super::record::Fenced;
use super::server::Server;
use super::status::{self, Notice, Verdict};
use super::{Failure, Halt, Work, connection};

/// After this time, or twice the connection's time-out if that is longer, a POST takes effect no more.
const LATEST_EFFECT: Duration = Duration::from_secs(60);

/// Time between two looks for the stage of a request whose reply was lost.
const LOOK: Duration = Duration::from_secs(5);

/// Creates the stage.
pub(super) async fn create(work: &mut Work<'_>, server: &Server, goal: &Goal) -> Result<Observed, Halt> {
    work.stand_back(server)?;
    work.was_refused_before(server, goal)?;
    connection::hold(work.context, &server.key).await?;
    let fields = goal.intended()?;
    work.record.take_finalizer().await?;
    work.record.status.pending_create = Some(PendingCreate {
        name: goal.name.clone(),
        connection: server.key.to_string(),
        url: server.url(),
        nonce: Uuid::new_v4().simple().to_string(),
        started_at: Time(work.context.clock.wall()),
        fields,
    });
    if work.record.status.origin.is_none() {
        work.pin(server);
    }
    // A create that is tried again and again is one trouble, not a change of condition at each try.
    if !status::is_false(&work.record.status.conditions, work.record.generation()) {
        let creating = Verdict::working(Reason::Creating, format!("creating stage {:?}", goal.name));
        work.record.conclude(work.context, &creating);
    }
    work.record.write_status(Fenced::Yes).await?;
    work.claim_again();
    post(work, server, goal).await
}

/// Finishes an intent that an earlier pass left. None: it came to nothing, and the spec is looked at as it is.
pub(super) async fn settle(work: &mut Work<'_>, server: &Server) -> Result<Option<Observed>, Halt> {
    let Some(intent) = work.record.status.pending_create.clone() else {
        return Ok(None);
    };
    same_server(&intent, server)?;
    // Before the look: what lands while it lasts is not seen by it.
    let left = effect_still_possible(&intent, server, work.context.clock.wall());
    match find(work, server, &intent).await? {
        Found::Ours(row) => Ok(Some(created(work, server, &row)?)),
        Found::Foreign => {
            work.record.status.pending_create = None;
            Ok(None)
        }
        Found::Nothing => {
            let waiting = || Verdict::working(Reason::Creating, reply_lost(&intent));
            wait_for_effect(work, left, waiting)?;
            Ok(None)
        }
    }
}

fn reply_lost(intent: &PendingCreate) -> String {
    format!(
        "the reply to the request that creates stage {:?} was lost: waiting until the stage appears or the request can \
         take effect no more",
        intent.name
    )
}

/// Gives up an intent of which nothing is to be seen once it can take effect no more.
///
/// # Errors
/// [`Halt::Working`] with this verdict until then.
pub(super) fn wait_for_effect(
    work: &mut Work<'_>,
    left: Option<Duration>,
    verdict: impl FnOnce() -> Verdict,
) -> Result<(), Halt> {
    if let Some(left) = left {
        return Err(Halt::Working(verdict(), left.min(LOOK)));
    }
    work.record.status.pending_create = None;
    Ok(())
}

/// What an intent whose outcome nobody knows came to.
#[allow(clippy::large_enum_variant)] // one at a time, and moved on at once
pub(super) enum Found {
    /// The stage is there, and it is ours.
    Ours(StageRow),
    /// A stage of the name is there, and it is not ours.
    Foreign,
    /// No SMS stage has the name.
    Nothing,
}

/// Looks for the stage of an intent.
pub(super) async fn find(work: &Work<'_>, server: &Server, intent: &PendingCreate) -> Result<Found, Failure> {
    let now = work.context.clock.now();
    let Some(row) = observe::by_name(server, &intent.name, Freshness::Live, now).await? else {
        return Ok(Found::Nothing);
    };
    let owner = work.context.claims().owner_of(row.pk, &work.record.uid());
    if owner.is_some() {
        return Ok(Found::Foreign);
    }
    let ours = match written_by(server, row.pk, now).await? {
        Some(user_agent) => user_agent.contains(&intent.nonce),
        None => is_intended(&row, &intent.fields),
    };
    Ok(if ours { Found::Ours(row) } else { Found::Foreign })
}

/// User-Agent of the request that created a stage, where the audit log tells.
async fn written_by(server: &Server, pk: Uuid, now: Instant) -> Result<Option<String>, Failure> {
    if !server.may_view_events() {
        return Ok(None);
    }
    match server.client.newest_stage_events("model_created", Some(pk), 1).await {
        Ok(events) => Ok(events
            .into_iter()
            .find(|event| event.model_pk == Some(pk))
            .map(|event| event.user_agent)),
        Err(Error::Forbidden { .. }) => {
            server.set_may_view_events(false);
            Ok(None)
        }
        Err(error) => Err(server.failure(
            &error,
            &format!("read who created stage {pk}"),
            permission::VIEW_EVENTS,
            now,
        )),
    }
}

/// How long the POST of an intent may still take effect; none: no more.
pub(super) fn effect_still_possible(intent: &PendingCreate, server: &Server, now: Timestamp) -> Option<Duration> {
    let latest = LATEST_EFFECT.max(server.client.timeout() * 2);
    let age = now.duration_since(intent.started_at.0);
    let age = if age.is_negative() {
        Duration::ZERO
    } else {
        age.unsigned_abs()
    };
    latest.checked_sub(age).filter(|left| !left.is_zero())
}

/// An intent can be settled only where it was sent.
pub(super) fn same_server(intent: &PendingCreate, server: &Server) -> Result<(), Failure> {
    if intent.url == server.url() {
        return Ok(());
    }
    Err(Failure::new(
        Reason::ServerChanged,
        format!(
            "a stage {:?} may have been created at {}, and AuthentikConnection {} leads to {} now: set its url back \
             until the stage is found, or let go of the stage by deleting this resource with deletionPolicy Orphan",
            intent.name,
            intent.url,
            server.key,
            server.url()
        ),
    ))
}

/// Sends the intent that stands in status.
async fn post(work: &mut Work<'_>, server: &Server, goal: &Goal) -> Result<Observed, Halt> {
    let Some(intent) = work.record.status.pending_create.clone() else {
        return Err(Halt::Again("send an intent".to_owned()));
    };
    let fields = goal.all_fields(&intent.name)?;
    match apply::create(work.context, server, &fields, &work.tag(Some(&intent.nonce))).await {
        Created::Stage(row) => {
            let observed = created(work, server, &row)?;
            work.sent(server, row.pk, goal);
            Ok(observed)
        }
        Created::NameTaken => {
            // A clean refusal proves the stage foreign: nothing of this intent was sent before.
            work.record.status.pending_create = None;
            name_taken(work, server, &intent.name).await
        }
        Created::Refused(failure) => {
            work.record.status.pending_create = None;
            work.refused(server, goal, &failure);
            Err(failure.into())
        }
        Created::Nothing(failure) => {
            work.record.status.pending_create = None;
            Err(failure.into())
        }
        Created::Over(failure) => match find(work, server, &intent).await? {
            Found::Ours(row) => Ok(created(work, server, &row)?),
            Found::Foreign => {
                work.record.status.pending_create = None;
                name_taken(work, server, &intent.name).await
            }
            Found::Nothing => {
                work.record.status.pending_create = None;
                Err(failure.into())
            }
        },
        Created::Unknown(failure) => Err(failure.into()),
    }
}

fn created(work: &mut Work<'_>, server: &Server, row: &StageRow) -> Result<Observed, Failure> {
    let again = work.record.status.origin.is_some();
    work.own(server, row, Origin::Created)?;
    tracing::info!(resource = %work.key, pk = %row.pk, "created the stage");
    if again {
        let note = format!(
            "stage {:?} was gone and has been created again as {}: users have to enrol their phones anew",
            row.name, row.pk
        );
        work.record.notices.push(Notice {
            warning: true,
            reason: Reason::Creating,
            note,
        });
    }
    Ok(Observed::Owned(row.clone()))
}

/// The name is taken by a stage that is not ours.
async fn name_taken(work: &Work<'_>, server: &Server, name: &str) -> Result<Observed, Halt> {
    let now = work.context.clock.now();
    if let Some(row) = observe::by_name(server, name, Freshness::Live, now).await? {
        let owner = work.context.claims().owner_of(row.pk, &work.record.uid());
        return Ok(match owner {
            Some(rival) => observe::taken_by(name, &rival.resource, rival.deleting),
            None => Observed::Unowned(row),
        });
    }
    let refused = observe::holder(server, name, now).await?.refused(name);
    Ok(Observed::Taken(if work.owned_pk().is_some() {
        // It may be our own stage, which the token sees no more.
        refused.mended_elsewhere()
    } else {
        refused
    }))
}
