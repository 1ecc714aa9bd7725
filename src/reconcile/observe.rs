//! Step 3: what authentik holds. Reads only, from the connection's snapshot where that is enough.

use super::permission;
use std::time::Instant;

use uuid::Uuid;

use crate::api::{PinnedConnection, Reason};
use crate::authentik::{Error, Lookup, StageRow};

use super::server::Server;
use super::{Failure, ResourceKey};

/// What authentik holds, as far as one resource is concerned.
#[derive(Clone, Debug)]
pub enum Observed {
    /// The stage that is ours.
    Owned(StageRow),
    /// The stage that was ours is no more.
    Gone,
    /// Nothing is ours, and nobody has the name.
    Vacant,
    /// Nothing is ours; an SMS stage of the name is there.
    Unowned(StageRow),
    /// Nothing is ours, and the name belongs to somebody for good.
    Taken(Failure),
}

/// How fresh an answer has to be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Freshness {
    /// As of the last round, or of our own last write.
    Snapshot,
    /// As of now.
    Live,
}

/// The stage of this key; none: it is gone for certain.
///
/// # Errors
/// A server that cannot be asked, or whose "no such stage" proves nothing: `ServerChanged`.
pub async fn by_pk(
    server: &Server,
    pk: Uuid,
    pinned: Option<&PinnedConnection>,
    freshness: Freshness,
    now: Instant,
) -> Result<Option<StageRow>, Failure> {
    if freshness == Freshness::Snapshot
        && let Some(row) = server.snapshot().row(pk).cloned()
    {
        return Ok(Some(row));
    }
    match server.client.stage(pk).await {
        Ok(row) => {
            server.answered();
            server.showed_a_stage();
            Ok(Some(row))
        }
        Err(Error::NotFound { .. }) => {
            server.answered();
            absent(server, pk, pinned).map(|()| None)
        }
        Err(error) => Err(server.failure(&error, &format!("read stage {pk}"), permission::VIEW, now)),
    }
}

/// Whether "no such stage" means that it is gone.
///
/// # Errors
/// `ServerChanged` if it may as well mean another server or another token; `ServerError` while a second round has yet
/// to agree.
pub fn absent(server: &Server, pk: Uuid, pinned: Option<&PinnedConnection>) -> Result<(), Failure> {
    let here = server.url();
    let elsewhere = pinned.filter(|pinned| pinned.url != here);
    if elsewhere.is_none() && server.is_believed_about_absence() {
        return Ok(());
    }
    if elsewhere.is_none() && server.has_shown_a_stage() {
        return Err(Failure::new(
            Reason::ServerError,
            format!(
                "stage {pk} is gone from authentik at {here} together with many others: a second round has to agree \
                 before the operator acts on it"
            ),
        ));
    }
    let before = elsewhere.map_or_else(|| format!("{here} with another token"), |pinned| pinned.url.clone());
    Err(Failure::new(
        Reason::ServerChanged,
        format!(
            "authentik at {here} does not know stage {pk} of this resource, which is at {before}: set url and token of \
             AuthentikConnection {} back, or let go of the stage by deleting this resource with deletionPolicy Orphan",
            server.key
        ),
    ))
}

/// What is there under a name of which nothing is ours yet.
///
/// # Errors
/// A server that cannot be asked.
pub async fn by_name(
    server: &Server,
    name: &str,
    freshness: Freshness,
    now: Instant,
) -> Result<Option<StageRow>, Failure> {
    let known = match freshness {
        Freshness::Snapshot => server.snapshot().pk_of_name(name),
        Freshness::Live => Lookup::Unknown,
    };
    let doing = || format!("look for a stage named {name:?}");
    match known {
        Lookup::Absent => return Ok(None),
        Lookup::Present(pk) => match server.client.stage(pk).await {
            Ok(row) if row.name == name => {
                server.answered();
                return Ok(Some(row));
            }
            // Renamed or deleted since the last round: ask by name.
            Ok(_) | Err(Error::NotFound { .. }) => {}
            Err(error) => return Err(server.failure(&error, &doing(), permission::VIEW, now)),
        },
        Lookup::Unknown => {}
    }
    let row = server
        .client
        .stage_by_name(name)
        .await
        .map_err(|error| server.failure(&error, &doing(), permission::VIEW, now))?;
    server.answered();
    Ok(row)
}

/// Who has a name that no SMS stage has.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Holder {
    /// A stage of this kind.
    Kind(String),
    /// A stage that the token may not see, if any.
    Hidden,
    /// Nobody.
    Nobody,
}

impl Holder {
    /// That the name is taken; none: it may be free.
    #[must_use]
    pub fn taken(&self, name: &str) -> Option<Failure> {
        let Self::Kind(kind) = self else { return None };
        Some(of_another_kind(kind, name))
    }

    /// Why authentik said that the name is taken.
    #[must_use]
    pub fn refused(&self, name: &str) -> Failure {
        match self {
            Self::Kind(kind) => of_another_kind(kind, name),
            Self::Hidden => taken(
                &format!(
                    "a stage that the token may not see (grant {} to see it)",
                    permission::VIEW_ANY
                ),
                name,
            ),
            Self::Nobody => Failure::new(
                Reason::ServerError,
                format!(
                    "authentik says that the name {name:?} is taken, but shows no stage of that name: the operator tries again"
                ),
            ),
        }
    }
}

fn of_another_kind(kind: &str, name: &str) -> Failure {
    taken(&format!("a stage of another kind ({kind})"), name)
}

fn taken(by: &str, name: &str) -> Failure {
    Failure::new(
        Reason::NameConflict,
        format!(
            "{by} of authentik has the name {name:?}, and names are unique over all kinds of stages: choose another name"
        ),
    )
}

/// Looks among stages of all kinds for the one that has a name.
///
/// # Errors
/// A server that cannot be asked.
pub async fn holder(server: &Server, name: &str, now: Instant) -> Result<Holder, Failure> {
    match server.client.any_stages_by_name(name).await {
        Ok(stages) => Ok(stages
            .into_iter()
            .next()
            .map_or(Holder::Nobody, |stage| Holder::Kind(stage.meta_model_name))),
        Err(Error::Forbidden { .. }) => Ok(Holder::Hidden),
        Err(error) => Err(server.failure(
            &error,
            &format!("look for any stage named {name:?}"),
            permission::VIEW_ANY,
            now,
        )),
    }
}

/// The stage belongs to another resource of this operator.
#[must_use]
pub fn taken_by(name: &str, other: &ResourceKey, leaving: bool) -> Observed {
    Observed::Taken(super::failure::name_of_another(name, other, leaving))
}
