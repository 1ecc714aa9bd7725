//! What a server says of itself and of the token, by reads that leave no trace.

use crate::reconcile::permission;
use std::time::Duration;

use uuid::Uuid;

use crate::api::Reason;
use crate::authentik::Error;
use crate::reconcile::server::Server;
use crate::reconcile::{Context, Failure};

/// What present resources need of the server.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Needs {
    /// A resource writes.
    pub writes: bool,
    /// A resource would delete its stage.
    pub deletes: bool,
}

/// Whose token it is, if the server tells.
pub type Username = Option<String>;

/// The look at the user takes no longer: in closed networks it can be slow, since authentik renders an avatar.
const PATIENCE: Duration = Duration::from_secs(2);

/// Reads the version, for which every token is good enough.
///
/// # Errors
/// A server that cannot be asked, or that does not accept the token.
pub async fn version(context: &Context, server: &Server) -> Result<(), Failure> {
    let now = context.clock.now();
    let version = server
        .client
        .version()
        .await
        .map_err(|error| server.failure(&error, "read authentik's version", "", now))?;
    server.set_version(version);
    server.answered();
    Ok(())
}

/// The user that the token belongs to, as far as it can be known at once.
pub async fn username(server: &Server) -> Username {
    let me = tokio::time::timeout(PATIENCE, server.client.me()).await;
    me.ok().and_then(Result::ok).map(|me| me.username)
}

/// Version, and what the token may.
///
/// Returns the first right that writing needs and the token lacks.
///
/// # Errors
/// A server that cannot be asked, or that does not accept the token.
pub async fn check(context: &Context, server: &Server, needs: Needs) -> Result<Option<Failure>, Failure> {
    let now = context.clock.now();
    version(context, server).await?;
    let mut lacking = None;
    if needs.writes {
        let add = server
            .client
            .may_add()
            .await
            .map_err(|error| server.failure(&error, "ask what the token may create", permission::ADD, now))?;
        lacking = require(server, add, permission::ADD).err();
        if let Some(pk) = probe_of_changes(server) {
            lacking = lacking.or(may_change(context, server, pk).await?);
        }
    }
    if needs.deletes {
        let devices = server.client.device_count().await.map(|_| ());
        probe(server, &devices, permission::VIEW_DEVICES);
        let validate = server.client.validate_stages_with(Uuid::nil()).await.map(|_| ());
        probe(server, &validate, permission::VIEW_VALIDATE);
    }
    let events = server.client.newest_stage_events("model_updated", None, 1).await;
    tracing::debug!(connection = %server.key, permission = permission::VIEW_EVENTS, granted = events.is_ok(), "probed");
    server.set_may_view_events(events.is_ok());
    Ok(lacking)
}

/// A stage on which the right to change can be asked for: one that is there.
pub fn probe_of_changes(server: &Server) -> Option<Uuid> {
    server.snapshot().any_managed()
}

/// Whether the token may change stages.
///
/// # Errors
/// As [`check`].
pub async fn may_change(context: &Context, server: &Server, pk: Uuid) -> Result<Option<Failure>, Failure> {
    let now = context.clock.now();
    match server.client.may_change(pk).await {
        Ok(change) => Ok(require(server, change, permission::CHANGE).err()),
        // Gone since the last round: the round will tell.
        Err(Error::NotFound { .. }) => Ok(None),
        Err(error) => Err(server.failure(&error, "ask what the token may change", permission::CHANGE, now)),
    }
}

fn require(server: &Server, granted: bool, permission: &'static str) -> Result<(), Failure> {
    if granted {
        server.permitted(permission);
        return Ok(());
    }
    server.lacks(permission);
    Err(Failure::new(
        Reason::Forbidden,
        format!("the token lacks {permission}: grant it to a role of the token's user, for all objects"),
    ))
}

fn probe(server: &Server, answer: &Result<(), Error>, permission: &'static str) {
    match answer {
        Err(Error::Forbidden { .. }) => server.lacks(permission),
        // A refused filter value is an answer to somebody who may ask.
        Ok(()) | Err(Error::Validation { .. }) => server.permitted(permission),
        Err(_) => {}
    }
}
