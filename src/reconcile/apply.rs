//! Step 5: carries out one action in authentik. The only writer there.

use super::permission;
use std::collections::BTreeMap;

use uuid::Uuid;

use crate::api::Reason;
use crate::authentik::{Effect, Error, StageChanges, StageRow, WriteTag};

use super::plan::Update;
use super::server::Server;
use super::{Context, Failure};

/// What a create came to.
#[allow(clippy::large_enum_variant)] // one at a time, and moved on at once
pub enum Created {
    /// The stage is there, and ours.
    Stage(StageRow),
    /// The name is taken, and nothing was created by this request.
    NameTaken,
    /// authentik refused a value, and would again.
    Refused(Failure),
    /// Nothing was created, for certain.
    Nothing(Failure),
    /// A look tells: the request is over.
    Over(Failure),
    /// Nobody knows: the reply was lost, and the request may still take effect.
    Unknown(Failure),
}

/// What a change came to.
pub struct Updated {
    /// The stage after it; none if nothing could be changed.
    pub row: Option<StageRow>,
    /// Fields that were changed.
    pub changed: Vec<&'static str>,
    /// Fields that authentik refused, each holding back only itself.
    pub refused: Vec<Failure>,
    /// authentik does not know a flow or mapping that a look-up gave.
    pub stale_reference: bool,
}

/// Sends a create.
pub async fn create(context: &Context, server: &Server, fields: &StageChanges, tag: &WriteTag) -> Created {
    let now = context.clock.now();
    let name = fields.name.clone().unwrap_or_default();
    match server.client.create_stage(fields, &server.features(), tag).await {
        Ok(row) => {
            server.answered();
            server.permitted(permission::ADD);
            server.showed_a_stage();
            server.wrote(row.pk, Some(row.clone()), context.clock.now());
            Created::Stage(row)
        }
        Err(Error::Validation { fields, .. }) if fields.contains_key("name") => Created::NameTaken,
        Err(Error::Validation {
            fields: refused,
            request_id,
        }) => {
            forget_references(server, fields).await;
            rejected(&refused, request_id.as_deref())
                .pop()
                .map_or(Created::NameTaken, Created::Refused)
        }
        Err(error) => {
            let failure = server.failure(&error, &format!("create stage {name:?}"), permission::ADD, now);
            match error.effect() {
                Effect::None => Created::Nothing(failure),
                Effect::Over => Created::Over(failure),
                Effect::Unknown => Created::Unknown(failure),
            }
        }
    }
}

/// Sends a change; what authentik refuses is left out of a second try, so that it holds back nothing else. None: the
/// stage is not there.
///
/// # Errors
/// A server that cannot be asked.
pub async fn update(
    context: &Context,
    server: &Server,
    pk: Uuid,
    update: Update,
    tag: &WriteTag,
) -> Result<Option<Updated>, Failure> {
    let changes = update.changes.clone();
    let refused = match send(context, server, pk, &changes, tag).await? {
        Sent::Row(row) => {
            return Ok(Some(Updated {
                row: Some(row),
                changed: changes.fields(),
                refused: Vec::new(),
                stale_reference: false,
            }));
        }
        Sent::Gone => return Ok(None),
        Sent::Refused(refused) => refused,
    };
    let stale_reference = ["configure_flow", "mapping"]
        .iter()
        .any(|field| refused.fields.contains_key(*field))
        && forget_references(server, &changes).await;
    let refused_ours = changes
        .fields()
        .into_iter()
        .filter(|field| refused.fields.contains_key(*field));
    let rest = refused_ours.clone().fold(update, Update::without);
    let none_was_ours = refused_ours.count() == 0;
    let mut updated = Updated {
        row: None,
        changed: Vec::new(),
        refused: refused.failures(&changes),
        stale_reference,
    };
    if !rest.is_empty() && !none_was_ours {
        match send(context, server, pk, &rest.changes, tag).await? {
            Sent::Row(row) => {
                updated.row = Some(row);
                updated.changed = rest.changes.fields();
            }
            Sent::Gone => return Ok(None),
            Sent::Refused(again) => updated.refused.extend(again.failures(&rest.changes)),
        }
    }
    Ok(Some(updated))
}

#[allow(clippy::large_enum_variant)] // one at a time, and moved on at once
enum Sent {
    Row(StageRow),
    Refused(Refused),
    Gone,
}

struct Refused {
    fields: BTreeMap<String, Vec<String>>,
    request_id: Option<String>,
}

impl Refused {
    /// One failure for each thing that a user has to mend.
    fn failures(&self, sent: &StageChanges) -> Vec<Failure> {
        let mut fields = self.fields.clone();
        let mut failures = Vec::new();
        if fields.remove("name").is_some() {
            let name = sent.name.clone().unwrap_or_default();
            failures.push(Failure::new(
                Reason::NameConflict,
                format!("authentik does not take the name {name:?}, since a stage has it or it is not a name; everything else is kept: choose another name"),
            ));
        }
        failures.extend(rejected(&fields, self.request_id.as_deref()));
        failures
    }
}

async fn send(
    context: &Context,
    server: &Server,
    pk: Uuid,
    changes: &StageChanges,
    tag: &WriteTag,
) -> Result<Sent, Failure> {
    let now = context.clock.now();
    match server.client.update_stage(pk, changes, &server.features(), tag).await {
        Ok(row) => {
            server.answered();
            server.permitted(permission::CHANGE);
            server.showed_a_stage();
            server.wrote(pk, Some(row.clone()), context.clock.now());
            Ok(Sent::Row(row))
        }
        Err(Error::Validation { fields, request_id }) => Ok(Sent::Refused(Refused { fields, request_id })),
        Err(Error::NotFound { .. }) => {
            server.answered();
            server.wrote(pk, None, context.clock.now());
            Ok(Sent::Gone)
        }
        Err(error) => Err(server.failure(&error, &format!("change stage {pk}"), permission::CHANGE, now)),
    }
}

/// authentik refused values: what that means for each reference, and `Rejected` with its own words for the rest.
fn rejected(refused: &BTreeMap<String, Vec<String>>, request_id: Option<&str>) -> Vec<Failure> {
    let request = request_id.map(|id| format!(" (request {id})")).unwrap_or_default();
    let words = |field: &str| {
        let texts = refused.get(field).map(|texts| texts.join(" ")).unwrap_or_default();
        format!("{}: {texts}", spec_field(field))
    };
    let mut failures = Vec::new();
    for (field, reason, remedy) in [
        (
            "configure_flow",
            Reason::FlowNotFound,
            "create the flow, or correct the reference",
        ),
        (
            "mapping",
            Reason::MappingNotFound,
            "create the webhook mapping, or correct the reference",
        ),
    ] {
        if refused.contains_key(field) {
            failures.push(Failure::new(
                reason,
                format!("authentik refuses {}{request}: {remedy}", words(field)),
            ));
        }
    }
    let rest: Vec<_> = refused
        .keys()
        .filter(|field| !matches!(field.as_str(), "configure_flow" | "mapping"))
        .map(|field| words(field))
        .collect();
    if !rest.is_empty() {
        let message = format!("authentik refuses {}{request}: correct the spec", rest.join("; "));
        failures.push(Failure::new(Reason::Rejected, message));
    }
    failures
}

/// Where a field of authentik stands in the spec.
fn spec_field(field: &str) -> &str {
    match field {
        "name" => "spec.name",
        "friendly_name" => "spec.friendlyName",
        "configure_flow" => "spec.configureFlow",
        "from_number" => "spec.fromNumber",
        "verify_only" => "spec.verifyOnly",
        "provider" => "spec.provider",
        "account_sid" => "the account (spec.twilio.accountSid or spec.generic.url)",
        "auth_type" => "spec.generic.authType",
        "auth" => "the credential",
        "auth_password" => "the password",
        "mapping" => "spec.mapping",
        other => other,
    }
}

/// Forgets what look-ups gave for the references just sent; true if there was any.
async fn forget_references(server: &Server, sent: &StageChanges) -> bool {
    let mut any = false;
    for pk in [sent.configure_flow, sent.mapping].into_iter().flatten().flatten() {
        server.lookups.forget(pk).await;
        any = true;
    }
    any
}
