//! The audit log. Read-only here.

use super::Context;
use crate::{
    audit::Event,
    list::{Filter, Listing, list},
    message::Reply,
    state::State,
};

const LISTING: Listing = Listing {
    filters: &[
        ("action", Filter::Text),
        ("username", Filter::Text),
        ("context_model_pk", Filter::Hex),
        ("context_model_app", Filter::Text),
        ("context_model_name", Filter::Text),
    ],
    search: &["username", "action", "context_model_app", "context_model_name"],
    ordering: &["-created"],
};

pub(super) fn collection(context: &Context<'_>, state: &State) -> Result<Reply, Reply> {
    list(context, state, state.events.iter(), &LISTING, Event::render)
}
