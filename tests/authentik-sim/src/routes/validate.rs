//! Stages that validate a second factor: which of them offer an SMS stage. Read-only here.

use serde_json::{Value, json};

use super::{Context, stages};
use crate::{
    list::{Filter, Listing, by_uuid, list},
    message::Reply,
    rows::{Row, ValidateStage},
    state::State,
};

const LISTING: Listing = Listing {
    filters: &[
        ("name", Filter::Text),
        ("not_configured_action", Filter::Choice(&["skip", "deny", "configure"])),
        ("configuration_stages", Filter::Among(State::any_stage_exists)),
    ],
    search: &["name"],
    ordering: &["name"],
};

pub(super) fn collection(context: &Context<'_>, state: &State) -> Result<Reply, Reply> {
    list(context, state, state.validate_stages.iter(), &LISTING, |stage| {
        render(context, state, stage)
    })
}

pub(super) fn single(context: &Context<'_>, state: &State, pk: &str) -> Result<Reply, Reply> {
    let stage = by_uuid(context, state.validate_stages.iter(), "view", pk)?;
    Ok(Reply::json(200, render(context, state, stage)))
}

fn render(context: &Context<'_>, state: &State, stage: &ValidateStage) -> Value {
    let mut body = stages::parent(context, state, stage.pk, &stage.name, ValidateStage::META_MODEL_NAME);
    body["not_configured_action"] = json!(stage.not_configured_action);
    body["device_classes"] = json!(stage.device_classes);
    body["configuration_stages"] = stage.column("configuration_stages").unwrap_or_default();
    body["last_auth_threshold"] = json!("seconds=0");
    body["webauthn_user_verification"] = json!("preferred");
    body
}
