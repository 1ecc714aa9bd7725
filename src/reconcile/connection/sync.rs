//! One round: all SMS stages of a server, read once for everybody.

use crate::reconcile::permission;
use std::collections::{HashMap, HashSet};

use uuid::Uuid;

use crate::authentik::{Lookup, Round, StageRow, WriteTag, list_all};
use crate::reconcile::server::Server;
use crate::reconcile::{ConnectionKey, Context, Failure, Object};

/// Rows that are asked for at a time: the most that newer servers give.
const PAGE_SIZE: u32 = 100;

/// What a round saw.
#[derive(Debug, Default)]
pub struct Synced {
    /// Resources to look at.
    pub wake: Vec<Object>,
    /// Whether so many stages went at once that another round has to agree, now.
    pub repeat: bool,
}

/// Reads all stages and tells which resources have to be looked at.
///
/// # Errors
/// A server that cannot be asked; the last complete round stays as it is.
pub async fn sync(context: &Context, server: &Server) -> Result<Synced, Failure> {
    let started = context.clock.now();
    let managed = context.claims().managed(&server.key);
    let mut rows: Vec<StageRow> = Vec::new();
    let mut names = HashMap::new();
    let mut seen = HashSet::new();
    let mut write_only = false;
    // Rows that nobody here manages may hold other people's credentials: dropped, and with that zeroized, at once.
    list_all(&server.client, PAGE_SIZE, |row| {
        names.insert(row.name.clone(), row.pk);
        seen.insert(row.pk);
        if managed.contains(&row.pk) {
            write_only |= row.auth.is_none();
            rows.push(row);
        }
    })
    .await
    .map_err(|error| server.failure(&error, "list SMS stages", permission::VIEW, started))?;
    server.answered();
    server.permitted(permission::VIEW);
    if !rows.is_empty() {
        server.showed_a_stage();
    }

    let mut wake = names_that_changed(context, server, &names);
    let changes = server.snapshot().complete(Round {
        started,
        rows,
        names,
        seen,
    });
    let mut pks = changes.changed;
    server.doubt_absence(changes.suspicious);
    if !changes.suspicious {
        pks.extend(changes.missing);
    }
    if write_only && server.may_view_events() {
        pks.extend(written_by_others(context, server).await);
    }
    let claims = context.claims();
    wake.extend(
        pks.into_iter()
            .flat_map(|pk| claims.interested_in(pk))
            .map(Object::Stage),
    );
    Ok(Synced {
        wake,
        repeat: changes.suspicious,
    })
}

/// Resources without a stage whose name has come or gone.
fn names_that_changed(context: &Context, server: &Server, names: &HashMap<String, Uuid>) -> Vec<Object> {
    let waiting = context.claims().without_a_stage(&server.key);
    let snapshot = server.snapshot();
    waiting
        .into_iter()
        .filter(|(name, _)| match snapshot.pk_of_name(name) {
            Lookup::Unknown => false,
            Lookup::Absent => names.contains_key(name),
            Lookup::Present(pk) => names.get(name) != Some(&pk),
        })
        .map(|(_, resource)| Object::Stage(resource))
        .collect()
}

/// Stages whose newest change is not ours: what newer servers do not show may have been changed with it.
async fn written_by_others(context: &Context, server: &Server) -> Vec<Uuid> {
    let seen = server.newest_event();
    let recent = match server.client.stage_events_since("model_updated", seen.as_deref()).await {
        Ok(recent) => recent,
        Err(error) => {
            tracing::debug!(connection = %server.key, %error, "cannot read the audit events, the next round does");
            return Vec::new();
        }
    };
    let cluster = &context.settings.cluster_id;
    let mut newest: HashMap<Uuid, bool> = HashMap::new();
    for event in recent.events {
        if let Some(pk) = event.model_pk {
            newest
                .entry(pk)
                .or_insert_with(|| WriteTag::is_of(cluster, &event.user_agent));
        }
    }
    server.saw_event(recent.newest);
    let managed = context.claims().managed(&server.key);
    let others: Vec<Uuid> = newest
        .into_iter()
        .filter(|(pk, ours)| !ours && managed.contains(pk))
        .map(|(pk, _)| pk)
        .collect();
    for pk in &others {
        server.wrote_by_others(*pk, true);
    }
    others
}

/// What waits for a connection.
#[must_use]
pub fn everybody(context: &Context, key: &ConnectionKey) -> Vec<Object> {
    context
        .claims()
        .through(key)
        .into_iter()
        .map(|claim| Object::Stage(claim.resource.clone()))
        .collect()
}
