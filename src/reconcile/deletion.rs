//! Deletes what a resource owns, and ends, or says what blocks it. It looks at no more of the spec than the policies,
//! so that a wrong spec blocks nothing, and it goes by key, never by name.

use super::permission;
use std::sync::Arc;

use uuid::Uuid;

use crate::api::{DeletionPolicy, Dependent, Origin, Reason, schema};
use crate::authentik::{Error, StageRow, UsedBy};

use super::create::{self, Found};
use super::observe::{self, Freshness};
use super::server::{Server, State};
use super::status::Verdict;
use super::validate::deletion_policy;
use super::{ConnectionKey, Failure, Halt, Work, resolve};

/// A flow that only configures the stage dies with it without harm.
const HARMLESS_DESIGNATION: &str = "stage_configuration";

/// One pass over a resource that is being deleted.
pub(super) async fn run(work: &mut Work<'_>) -> Result<Verdict, Halt> {
    work.record.status.drift.clear();
    if !work.record.has_finalizer() {
        return Err(Halt::Gone);
    }
    work.claim_again();
    if policy(work) == DeletionPolicy::Orphan || !owns_anything(work) {
        return release(work).await;
    }
    let key = match work.record.status.connection.as_ref() {
        Some(pinned) => ConnectionKey {
            namespace: pinned.namespace.clone(),
            name: pinned.name.clone(),
        },
        None => resolve::connection_key(
            &work.record.object.spec,
            &work.key.namespace,
            None,
            work.context.settings.default_connection.as_ref(),
        )?,
    };
    let server = server(work, &key)?;
    let deleted = match settle_intent(work, &server).await {
        Ok(()) => match work.owned_pk() {
            Some(pk) => delete(work, &server, pk).await,
            None => Ok(()),
        },
        Err(halt) => Err(halt),
    };
    match deleted {
        Ok(()) => release(work).await,
        Err(Halt::Failed(failure)) => Err(blocked(failure).into()),
        Err(halt) => Err(halt),
    }
}

fn policy(work: &Work<'_>) -> DeletionPolicy {
    let adopted = work.record.status.origin == Some(Origin::Adopted);
    deletion_policy(&work.record.object.spec, adopted)
}

fn owns_anything(work: &Work<'_>) -> bool {
    work.owned_pk().is_some() || work.record.status.pending_create.is_some()
}

async fn release(work: &mut Work<'_>) -> Result<Verdict, Halt> {
    work.record.release_finalizer().await?;
    Err(Halt::Gone)
}

/// How to talk to the server: if the connection, or its token, went first, as it was when it last could be used.
fn server(work: &Work<'_>, key: &ConnectionKey) -> Result<Arc<Server>, Halt> {
    let state = work.context.servers.state(key);
    let now = work.context.clock.now();
    let is_ready = matches!(state, Some(State::Ready(_)));
    let server = match state {
        Some(State::Ready(server)) => server,
        Some(State::Unchecked) => return Err(Halt::Later),
        Some(State::Suspended) => {
            return Err(Failure::new(
                Reason::DeletionBlocked,
                format!(
                    "AuthentikConnection {key} is suspended: set its spec.suspend to false, or set deletionPolicy to \
                     Orphan to leave the stage in authentik"
                ),
            )
            .into());
        }
        Some(State::NotReady(failure)) => match work.context.servers.last_good(key) {
            Some(server) => server,
            None => return Err(blocked(resolve::not_ready(key, &failure)).into()),
        },
        None => return Err(blocked(super::server::not_found(key)).into()),
    };
    // Where the connection cannot look any more, a deletion is the only one who asks.
    let refusal = if is_ready {
        server.refusal()
    } else {
        server.refusal_of_a_probe(now)
    };
    match refusal {
        Some(failure) => Err(blocked(failure).into()),
        None => Ok(server),
    }
}

/// What keeps the stage from being deleted, with the way out.
fn blocked(failure: Failure) -> Failure {
    if failure.reason == Reason::DeletionBlocked {
        return failure;
    }
    let only_an_edit_helps = failure.reason == Reason::ServerChanged;
    let blocked = Failure::new(
        Reason::DeletionBlocked,
        format!(
            "{}; or set deletionPolicy to Orphan to leave the stage in authentik",
            failure.message
        ),
    )
    .not_before(failure.retry_after);
    if only_an_edit_helps {
        blocked.mended_here()
    } else {
        blocked
    }
}

/// A create whose outcome nobody knows comes first: its POST may land after its client gave up.
async fn settle_intent(work: &mut Work<'_>, server: &Server) -> Result<(), Halt> {
    let Some(intent) = work.record.status.pending_create.clone() else {
        return Ok(());
    };
    create::same_server(&intent, server)?;
    let left = create::effect_still_possible(&intent, server, work.context.clock.wall());
    match create::find(work, server, &intent).await? {
        Found::Ours(row) => {
            work.own(server, &row, Origin::Created)?;
            Ok(())
        }
        Found::Foreign => {
            work.record.status.pending_create = None;
            Ok(())
        }
        Found::Nothing => {
            let message = format!(
                "the reply to the request that creates stage {:?} was lost: waiting until it can take effect no more",
                intent.name
            );
            create::wait_for_effect(work, left, || Verdict::working(Reason::Deleting, message))
        }
    }
}

/// Deletes the stage, after a look at what depends on it.
async fn delete(work: &mut Work<'_>, server: &Server, pk: Uuid) -> Result<(), Halt> {
    let now = work.context.clock.now();
    let pinned = work.record.status.connection.clone();
    let Some(row) = observe::by_pk(server, pk, pinned.as_ref(), Freshness::Live, now).await? else {
        return Ok(out_of_sight(work, server, pk).await?);
    };
    // The last word of the resource itself: it may have been let go of in between.
    work.record.read_again().await?;
    match policy(work) {
        DeletionPolicy::Orphan => return Ok(()),
        DeletionPolicy::Delete => look_for_dependents(work, server, &row).await?,
        DeletionPolicy::ForceDelete => {
            may_force(work, server)?;
            if !server.features().deletes_devices_with_stage {
                delete_devices(work, server, pk).await?;
            }
        }
    }
    let doing = format!("delete stage {pk}");
    match server.client.delete_stage(pk, &work.tag(None)).await {
        Ok(()) => {
            server.answered();
            server.permitted(permission::DELETE);
        }
        Err(Error::NotFound { .. }) => observe::absent(server, pk, pinned.as_ref())?,
        Err(error) => {
            let failure = server.failure(&error, &doing, permission::DELETE, now);
            // A server that protects devices has no better answer than an error.
            let devices = devices(work, server, pk).await.unwrap_or_default();
            if devices > 0 {
                return Err(depended_on(work, vec![of_devices(devices)]).into());
            }
            if !server.features().deletes_devices_with_stage {
                sees_devices(work, server).await?;
            }
            return Err(failure.into());
        }
    }
    server.wrote(pk, None, work.context.clock.now());
    Ok(())
}

/// A stage that is gone, unless it is only the token that sees it no more.
///
/// # Errors
/// The permission that the token has lost.
async fn out_of_sight(work: &Work<'_>, server: &Server, pk: Uuid) -> Result<(), Failure> {
    let now = work.context.clock.now();
    let name = work
        .record
        .status
        .stage
        .as_ref()
        .map(|stage| stage.name.clone())
        .unwrap_or_default();
    match server.client.any_stages_by_name(&name).await {
        Ok(stages) if stages.iter().any(|stage| stage.pk == pk) => {
            server.lacks(permission::VIEW);
            Err(Failure::new(
                Reason::Forbidden,
                format!(
                    "stage {name:?} ({pk}) is there, but the token may not see it: grant {} to a role of the token's user, \
                     for all objects",
                    permission::VIEW
                ),
            ))
        }
        // Gone, or nobody here may look any closer.
        Ok(_) | Err(Error::Forbidden { .. }) => Ok(()),
        Err(error) => Err(server.failure(&error, &format!("look for stage {name:?}"), permission::VIEW_ANY, now)),
    }
}

fn may_force(work: &Work<'_>, server: &Server) -> Result<(), Failure> {
    let allowed = work.key.namespace == server.key.namespace
        || work
            .context
            .servers
            .resource(&server.key)
            .is_some_and(|c| c.spec.allowed_namespaces.force_delete);
    if allowed {
        return Ok(());
    }
    Err(Failure::new(
        Reason::DeletionBlocked,
        format!(
            "AuthentikConnection {} does not let other namespaces delete users' devices: set deletionPolicy to Delete \
             or Orphan, or have its owner set spec.allowedNamespaces.forceDelete",
            server.key
        ),
    ))
}

/// What would be lost with the stage, or stop working.
async fn look_for_dependents(work: &mut Work<'_>, server: &Server, row: &StageRow) -> Result<(), Failure> {
    let now = work.context.clock.now();
    let mut dependents = Vec::new();
    let flows: Vec<_> = row
        .flow_set
        .iter()
        .filter(|flow| flow.designation != HARMLESS_DESIGNATION)
        .collect();
    dependents.extend(dependent("bindings", flows.iter().map(|flow| flow.slug.clone())));

    let doing = format!("look for validation stages that enrol with stage {}", row.pk);
    let validate = server
        .client
        .validate_stages_with(row.pk)
        .await
        .map_err(|error| server.failure(&error, &doing, permission::VIEW_VALIDATE, now))?;
    server.permitted(permission::VIEW_VALIDATE);
    dependents.extend(dependent(
        "validateStages",
        validate.iter().map(|stage| stage.name.clone()),
    ));

    if server.features().deletes_devices_with_stage {
        sees_devices(work, server).await?;
    }
    let devices = devices(work, server, row.pk).await?;
    if devices > 0 {
        dependents.insert(0, of_devices(devices));
    }
    if dependents.is_empty() {
        work.record.status.dependents.clear();
        return Ok(());
    }
    Err(depended_on(work, dependents))
}

/// Whether the token sees devices at all: the look at what uses a stage leaves out what it may not see.
async fn sees_devices(work: &Work<'_>, server: &Server) -> Result<(), Failure> {
    let now = work.context.clock.now();
    let doing = "look for devices that users enrolled with the stage";
    match server.client.device_count().await {
        Ok(_) => Ok(()),
        Err(Error::Forbidden { .. }) if server.features().device_list_needs_superuser => Err(Failure::new(
            Reason::Forbidden,
            format!(
                "cannot {doing}: authentik before 2025.2 shows them to superusers only, so put a superuser's token into \
                 the Secret of AuthentikConnection {}",
                server.key
            ),
        )),
        Err(error) => Err(server.failure(&error, doing, permission::VIEW_DEVICES, now)),
    }
}

fn dependent(kind: &str, names: impl Iterator<Item = String>) -> Option<Dependent> {
    let mut names: Vec<_> = names
        .map(|name| super::status::bounded(&name, schema::STATUS_TEXT))
        .collect();
    names.sort();
    let count = i64::try_from(names.len()).unwrap_or(i64::MAX);
    names.dedup();
    names.truncate(schema::STATUS_DEPENDENTS);
    (count > 0).then(|| Dependent {
        kind: kind.to_owned(),
        count,
        names,
    })
}

fn of_devices(count: usize) -> Dependent {
    // Their names are users' own words, so only their number is told.
    Dependent {
        kind: "devices".to_owned(),
        count: i64::try_from(count).unwrap_or(i64::MAX),
        names: Vec::new(),
    }
}

fn depended_on(work: &mut Work<'_>, dependents: Vec<Dependent>) -> Failure {
    let what: Vec<_> = dependents
        .iter()
        .map(|dependent| match dependent.kind.as_str() {
            "devices" => format!("{} enrolled device(s)", dependent.count),
            "bindings" => format!("flow(s) {}", dependent.names.join(", ")),
            _ => format!("validation stage(s) {}", dependent.names.join(", ")),
        })
        .collect();
    work.record.status.dependents = dependents;
    Failure::new(
        Reason::DeletionBlocked,
        format!(
            "the stage is in use by {}: remove them in authentik, or set deletionPolicy to Orphan to leave the stage, or \
             to ForceDelete to delete it with users' devices",
            what.join(" and ")
        ),
    )
}

async fn used_by_devices(work: &Work<'_>, server: &Server, pk: Uuid) -> Result<Vec<UsedBy>, Failure> {
    let now = work.context.clock.now();
    let doing = format!("look what uses stage {pk}");
    let used_by = server
        .client
        .used_by(pk)
        .await
        .map_err(|error| server.failure(&error, &doing, permission::VIEW, now))?;
    server.answered();
    Ok(used_by
        .into_iter()
        .filter(|user| user.model_name == "smsdevice")
        .collect())
}

async fn devices(work: &Work<'_>, server: &Server, pk: Uuid) -> Result<usize, Failure> {
    used_by_devices(work, server, pk).await.map(|devices| devices.len())
}

/// Where the server refuses to delete devices with their stage, they go first.
async fn delete_devices(work: &Work<'_>, server: &Server, pk: Uuid) -> Result<(), Failure> {
    let now = work.context.clock.now();
    for device in used_by_devices(work, server, pk).await? {
        match server.client.delete_device(&device.pk, &work.tag(None)).await {
            Ok(()) | Err(Error::NotFound { .. }) => server.permitted(permission::DELETE_DEVICES),
            Err(error) => {
                return Err(server.failure(
                    &error,
                    &format!("delete device {}", device.pk),
                    permission::DELETE_DEVICES,
                    now,
                ));
            }
        }
    }
    Ok(())
}
