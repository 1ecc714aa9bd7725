//! Notification webhook mappings.

use serde_json::{Value, json};
use uuid::Uuid;

use super::{Context, not_simulated};
use crate::{
    fields::{Input, Text},
    list::{Filter, Listing, by_uuid, list},
    message::Reply,
    rows::{Mapping, Row},
    state::State,
};

const LISTING: Listing = Listing {
    filters: &[("name", Filter::Text)],
    search: &["name"],
    ordering: &["name"],
};

pub(super) fn collection(context: &Context<'_>, state: &mut State) -> Result<Reply, Reply> {
    match context.method {
        "GET" => list(context, state, state.mappings.iter(), &LISTING, render),
        "POST" => create(context, state),
        _ => Err(not_simulated(context)),
    }
}

pub(super) fn single(context: &Context<'_>, state: &mut State, pk: &str) -> Result<Reply, Reply> {
    let find = |verb| by_uuid(context, state.mappings.iter(), verb, pk);
    match context.method {
        "GET" => Ok(Reply::json(200, render(find("view")?))),
        "DELETE" => {
            let key = find("delete")?.key();
            state.delete::<Mapping>(&key, &context.actor());
            Ok(Reply::no_content())
        }
        _ => Err(not_simulated(context)),
    }
}

fn create(context: &Context<'_>, state: &mut State) -> Result<Reply, Reply> {
    if !context.user.may("add", Mapping::MODEL) {
        return Err(Reply::forbidden());
    }
    let mut input = Input::new(context.request.object()?, false);
    let required = Text {
        required: true,
        ..Text::default()
    };
    let name = input.text("name", required).unwrap_or_default();
    let expression = input.text("expression", required).unwrap_or_default();
    if state.mappings.iter().any(|mapping| mapping.name == name) {
        input.reject("name", "Property Mapping with this name already exists.");
    }
    input.finish()?;
    let mapping = Mapping {
        pk: Uuid::new_v4(),
        name,
        expression,
    };
    let body = render(&mapping);
    state.create(mapping, &context.actor());
    Ok(Reply::json(201, body))
}

fn render(mapping: &Mapping) -> Value {
    json!({"pk": mapping.pk.to_string(), "name": mapping.name, "expression": mapping.expression})
}
