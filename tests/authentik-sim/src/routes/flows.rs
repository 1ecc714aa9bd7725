//! Flows: looked up by slug, written only as far as tests need.

use serde_json::{Map, Value, json};
use uuid::Uuid;

use super::{Context, not_simulated};
use crate::{
    fields::{Input, Text},
    list::{Filter, Listing, list, one},
    message::Reply,
    rows::{Flow, Row},
    state::State,
};

const DEFAULT_BACKGROUND: &str = "/static/dist/assets/images/flow_background.jpg";

const DESIGNATIONS: [&str; 7] = [
    "authentication",
    "authorization",
    "invalidation",
    "enrollment",
    "unenrollment",
    "recovery",
    "stage_configuration",
];

const DENIED_ACTIONS: [&str; 3] = ["message_continue", "message", "continue"];

pub(super) const ENGINE_MODES: [&str; 2] = ["all", "any"];

const LISTING: Listing = Listing {
    filters: &[
        ("flow_uuid", Filter::Uuid),
        ("name", Filter::Text),
        ("slug", Filter::Text),
        ("designation", Filter::Choice(&DESIGNATIONS)),
        ("denied_action", Filter::Choice(&DENIED_ACTIONS)),
    ],
    search: &["name", "slug", "designation", "title"],
    ordering: &["slug", "name"],
};

pub(super) fn collection(context: &Context<'_>, state: &mut State) -> Result<Reply, Reply> {
    match context.method {
        "GET" => list(context, state, state.flows.iter(), &LISTING, |flow| {
            render(context, state, flow)
        }),
        "POST" => create(context, state),
        _ => Err(not_simulated(context)),
    }
}

pub(super) fn single(context: &Context<'_>, state: &mut State, slug: &str) -> Result<Reply, Reply> {
    let find = |verb| one(context, state.flows.iter(), verb, |flow: &Flow| flow.slug == slug);
    match context.method {
        "GET" => Ok(Reply::json(200, render(context, state, find("view")?))),
        "DELETE" => {
            let key = find("delete")?.key();
            state.delete::<Flow>(&key, &context.actor());
            Ok(Reply::no_content())
        }
        _ => Err(not_simulated(context)),
    }
}

fn create(context: &Context<'_>, state: &mut State) -> Result<Reply, Reply> {
    if !context.user.may("add", Flow::MODEL) {
        return Err(Reply::forbidden());
    }
    let mut input = Input::new(context.request.object()?, false);
    let flow = read(context, state, &mut input);
    input.finish()?;
    let body = render(context, state, &flow);
    state.create(flow, &context.actor());
    Ok(Reply::json(201, body))
}

/// Reads a flow from a body and notes in `input` what is wrong with it.
fn read(context: &Context<'_>, state: &State, input: &mut Input) -> Flow {
    let required = Text {
        required: true,
        ..Text::default()
    };
    let mut flow = Flow::new("", "");
    flow.name = input.text("name", required).unwrap_or_default();
    flow.title = input.text("title", required).unwrap_or_default();
    let slug = Text {
        longest: context.version.longest_slug(),
        ..required
    };
    flow.slug = input.text("slug", slug).unwrap_or_default();
    if !flow
        .slug
        .chars()
        .all(|c| c.is_ascii_alphanumeric() || c == '-' || c == '_')
    {
        let slug = if context.version.curly_slug_quotes() {
            "“slug”"
        } else {
            "\"slug\""
        };
        input.reject(
            "slug",
            format!("Enter a valid {slug} consisting of letters, numbers, underscores or hyphens."),
        );
    } else if state.flow(&flow.slug).is_some() {
        input.reject("slug", "Flow with this slug already exists.");
    }
    flow.designation = input.choice("designation", true, &DESIGNATIONS).unwrap_or_default();
    let mut optional = |name, among: &[&str], field: &mut String| {
        if let Some(sent) = input.choice(name, false, among) {
            *field = sent;
        }
    };
    optional("policy_engine_mode", &ENGINE_MODES, &mut flow.policy_engine_mode);
    optional("layout", context.version.flow_layouts(), &mut flow.layout);
    optional("denied_action", &DENIED_ACTIONS, &mut flow.denied_action);
    optional(
        "authentication",
        context.version.flow_authentications(),
        &mut flow.authentication,
    );
    if let Some(sent) = input.boolean("compatibility_mode") {
        flow.compatibility_mode = sent;
    }
    flow
}

/// The errors of one element of a `flow_set` that a request should not have sent.
pub(super) fn nested_errors(context: &Context<'_>, state: &State, body: &Map<String, Value>) -> Map<String, Value> {
    let mut input = Input::new(body.clone(), false);
    read(context, state, &mut input);
    input.errors()
}

fn render(context: &Context<'_>, state: &State, flow: &Flow) -> Value {
    let mut body = nested(context, flow);
    if context.version.has_background_url() {
        body["background"] = json!(flow.background);
        body["background_themed_urls"] = Value::Null;
    }
    let stages = state.bindings.iter().filter(|binding| binding.target == flow.pk);
    body["stages"] = stages.map(|binding| json!(binding.stage.to_string())).collect();
    body["policies"] = json!([]);
    body["cache_count"] = json!(0);
    body["authentication"] = json!(flow.authentication);
    body
}

/// A flow as an element of a stage's `flow_set`.
pub(super) fn nested(context: &Context<'_>, flow: &Flow) -> Value {
    let base = context.settings.base_path.trim_end_matches('/');
    let mut picture = match flow.background.as_str() {
        "" => format!("{base}{DEFAULT_BACKGROUND}"),
        other => other.to_owned(),
    };
    if context.settings.signed_backgrounds {
        picture = format!(
            "{picture}?X-Amz-Date={}&X-Amz-Signature={}",
            flow.pk.simple(),
            Uuid::new_v4().simple()
        );
    }
    let key = if context.version.has_background_url() {
        "background_url"
    } else {
        "background"
    };
    json!({
        "pk": flow.pk.to_string(),
        "policybindingmodel_ptr_id": flow.policybindingmodel.to_string(),
        "name": flow.name,
        "slug": flow.slug,
        "title": flow.title,
        "designation": flow.designation,
        key: picture,
        "policy_engine_mode": flow.policy_engine_mode,
        "compatibility_mode": flow.compatibility_mode,
        "export_url": format!("{base}/api/v3/flows/instances/{}/export/", flow.slug),
        "layout": flow.layout,
        "denied_action": flow.denied_action,
    })
}
