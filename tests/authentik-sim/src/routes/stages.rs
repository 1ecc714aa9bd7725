//! SMS stages, what uses them, and stages of all kinds.

use serde_json::{Map, Value, json};
use uuid::Uuid;

use super::{Context, flows, not_simulated};
use crate::{
    fields::{Input, Text},
    list::{Filter, Listing, by_uuid, list},
    message::{Reply, python_type},
    rights::Model,
    rows::{AnyStage, Binding, Device, Flow, Row, Stage},
    state::State,
    version::Version,
};

const PROVIDERS: [&str; 2] = ["twilio", "generic"];
const AUTH_TYPES: [&str; 2] = ["basic", "bearer"];

const LISTING: Listing = Listing {
    filters: &[
        ("name", Filter::Text),
        ("friendly_name", Filter::Text),
        ("provider", Filter::Choice(&PROVIDERS)),
        ("from_number", Filter::Text),
        ("account_sid", Filter::Text),
        ("auth", Filter::Text),
        ("auth_password", Filter::Text),
        ("auth_type", Filter::Choice(&AUTH_TYPES)),
        ("verify_only", Filter::Boolean),
        ("configure_flow", Filter::Reference(State::flow_exists)),
        ("mapping", Filter::Reference(State::mapping_exists)),
        ("stage_uuid", Filter::Uuid),
    ],
    search: &["name"],
    ordering: &["name"],
};

const ALL_LISTING: Listing = Listing {
    filters: &[("name", Filter::Text)],
    search: &["name"],
    ordering: &["name"],
};

pub(super) fn collection(context: &Context<'_>, state: &mut State) -> Result<Reply, Reply> {
    match context.method {
        "GET" => list(context, state, state.stages.iter(), &LISTING, |stage| {
            render(context, state, stage)
        }),
        "POST" => {
            if !context.user.may("add", Stage::MODEL) {
                return Err(Reply::forbidden());
            }
            let stage = read(context, state, blank(context.version), false, None)?;
            state.create(stage.clone(), &context.actor());
            Ok(Reply::json(201, render(context, state, &stage)))
        }
        "OPTIONS" => {
            let may_add = context.user.may("add", Stage::MODEL);
            Ok(options(
                context.version,
                "Authenticator SMS Stage List",
                may_add.then_some("POST"),
            ))
        }
        _ => Err(not_simulated(context)),
    }
}

pub(super) fn single(context: &Context<'_>, state: &mut State, pk: &str) -> Result<Reply, Reply> {
    let found = find(context, state, "view", pk);
    match context.method {
        "OPTIONS" => {
            let may_change = found.is_ok_and(|stage| context.user.may_on("change", Stage::MODEL, &stage.key()));
            Ok(options(
                context.version,
                "Authenticator SMS Stage Instance",
                may_change.then_some("PUT"),
            ))
        }
        "GET" => Ok(Reply::json(200, render(context, state, found?))),
        method @ ("PUT" | "PATCH") => {
            let old = find(context, state, "change", pk)?.clone();
            let stage = read(context, state, old.clone(), method == "PATCH", Some(old.pk))?;
            state.replace(stage.clone(), &context.actor());
            Ok(Reply::json(200, render(context, state, &stage)))
        }
        "DELETE" => {
            let pk = find(context, state, "delete", pk)?.pk;
            if context.version.protects_devices() && state.has_devices(pk) {
                // Nobody catches the database's refusal.
                return Err(Reply::crash(context.version, context.method));
            }
            state.delete::<Stage>(&pk.to_string(), &context.actor());
            Ok(Reply::no_content())
        }
        _ => Err(not_simulated(context)),
    }
}

fn find<'s>(context: &Context<'_>, state: &'s State, verb: &str, pk: &str) -> Result<&'s Stage, Reply> {
    by_uuid(context, state.stages.iter(), verb, pk)
}

pub(super) fn all(context: &Context<'_>, state: &State) -> Result<Reply, Reply> {
    let stages = state.any_stages();
    list(context, state, stages.iter(), &ALL_LISTING, |stage: &AnyStage| {
        parent(context, state, stage.pk, &stage.name, &stage.meta_model_name)
    })
}

// === writing ===

fn blank(version: &Version) -> Stage {
    Stage {
        friendly_name: (!version.nullable_friendly_name()).then(String::new),
        auth: String::new(),
        ..Stage::twilio("")
    }
}

/// Reads a body over `stage`; `existing` is the key of the row that it changes.
fn read(
    context: &Context<'_>,
    state: &State,
    mut stage: Stage,
    partial: bool,
    existing: Option<Uuid>,
) -> Result<Stage, Reply> {
    let version = context.version;
    let mut input = Input::new(context.request.object()?, partial);
    let required = Text {
        required: true,
        ..Text::default()
    };
    let optional = Text {
        blank: true,
        ..Text::default()
    };
    let friendly = Text {
        null: version.nullable_friendly_name(),
        blank: !version.nullable_friendly_name(),
        ..Text::default()
    };

    if let Some(name) = input.text("name", required) {
        if state.name_taken(&name, existing) {
            input.reject("name", name_taken(context));
        }
        stage.name = name;
    }
    for (name, rule, field) in [
        ("from_number", required, &mut stage.from_number),
        ("account_sid", required, &mut stage.account_sid),
        ("auth", required, &mut stage.auth),
        ("auth_password", optional, &mut stage.auth_password),
    ] {
        if let Some(text) = input.text(name, rule) {
            *field = text;
        }
    }
    if let Some(text) = input.nullable_text("friendly_name", friendly) {
        stage.friendly_name = text.into_option();
    }
    if let Some(provider) = input.choice("provider", true, &PROVIDERS) {
        stage.provider = provider;
    }
    if let Some(auth_type) = input.choice("auth_type", false, &AUTH_TYPES) {
        stage.auth_type = auth_type;
    }
    if let Some(verify_only) = input.boolean("verify_only") {
        stage.verify_only = verify_only;
    }
    if let Some(flow) = input.nullable_reference("configure_flow", |pk| state.flow_exists(pk)) {
        stage.configure_flow = flow.into_option();
    }
    if let Some(mapping) = input.nullable_reference("mapping", |pk| state.mapping_exists(pk)) {
        stage.mapping = mapping.into_option();
    }
    let flow_set = input.sent("flow_set").cloned().filter(|_| !version.ignores_flow_set());
    if let Some(errors) = flow_set.as_ref().and_then(|sent| flow_set_errors(context, state, sent)) {
        input.reject_with("flow_set", errors);
    }
    input.finish()?;
    if flow_set.is_some() {
        // The serializer asserts that no nested write comes this far.
        return Err(Reply::crash(version, &context.request.method));
    }
    Ok(stage)
}

fn name_taken(context: &Context<'_>) -> &'static str {
    let german = context.version.translates() && context.request.accept_language.starts_with("de");
    if german {
        "stage mit diesem Wert für das Feld name existiert bereits."
    } else {
        "stage with this name already exists."
    }
}

fn flow_set_errors(context: &Context<'_>, state: &State, sent: &Value) -> Option<Value> {
    if sent.is_null() {
        return Some(json!(["This field may not be null."]));
    }
    let Some(elements) = sent.as_array() else {
        let text = format!("Expected a list of items but got type \"{}\".", python_type(sent));
        return Some(json!({"non_field_errors": [text]}));
    };
    let errors: Vec<Map<String, Value>> = elements
        .iter()
        .map(|element| {
            if let Some(flow) = element.as_object() {
                flows::nested_errors(context, state, flow)
            } else {
                let text = format!("Invalid data. Expected a dictionary, but got {}.", python_type(element));
                Map::from_iter([("non_field_errors".to_owned(), json!([text]))])
            }
        })
        .collect();
    errors.iter().any(|error| !error.is_empty()).then(|| json!(errors))
}

// === reading ===

fn render(context: &Context<'_>, state: &State, stage: &Stage) -> Value {
    let mut body = parent(context, state, stage.pk, &stage.name, Stage::META_MODEL_NAME);
    for name in [
        "configure_flow",
        "friendly_name",
        "provider",
        "from_number",
        "account_sid",
        "auth_type",
        "verify_only",
        "mapping",
    ] {
        body[name] = stage.column(name).unwrap_or_default();
    }
    if stage.friendly_name.is_none() && !context.version.nullable_friendly_name() {
        body["friendly_name"] = json!("");
    }
    if !context.version.hides_credentials() {
        body["auth"] = json!(stage.auth);
        body["auth_password"] = json!(stage.auth_password);
    }
    body
}

/// What stages of all kinds have.
pub(super) fn parent(context: &Context<'_>, state: &State, pk: Uuid, name: &str, meta_model_name: &str) -> Value {
    let (component, verbose_name) = kind(meta_model_name);
    let flow_set: Vec<Value> = state.flows_of(pk).map(|flow| flows::nested(context, flow)).collect();
    json!({
        "pk": pk.to_string(),
        "name": name,
        "component": component,
        "verbose_name": verbose_name,
        "verbose_name_plural": format!("{verbose_name}s"),
        "meta_model_name": meta_model_name,
        "flow_set": flow_set,
    })
}

pub(super) fn any_parent(context: &Context<'_>, state: &State, pk: Uuid) -> Value {
    let stages = state.any_stages();
    match stages.iter().find(|stage| stage.pk == pk) {
        Some(stage) => parent(context, state, pk, &stage.name, &stage.meta_model_name),
        None => Value::Null,
    }
}

/// The web component and the title of a kind of stage.
fn kind(meta_model_name: &str) -> (String, String) {
    let known = match meta_model_name {
        Stage::META_MODEL_NAME => ("ak-stage-authenticator-sms-form", "SMS Authenticator Setup Stage"),
        "authentik_stages_authenticator_validate.authenticatorvalidatestage" => {
            ("ak-stage-authenticator-validate-form", "Authenticator Validation Stage")
        }
        "authentik_stages_authenticator_totp.authenticatortotpstage" => {
            ("ak-stage-authenticator-totp-form", "TOTP Authenticator Setup Stage")
        }
        "authentik_stages_user_login.userloginstage" => ("ak-stage-user-login-form", "User Login Stage"),
        "authentik_stages_user_logout.userlogoutstage" => ("ak-stage-user-logout-form", "User Logout Stage"),
        "authentik_stages_identification.identificationstage" => {
            ("ak-stage-identification-form", "Identification Stage")
        }
        "authentik_stages_password.passwordstage" => ("ak-stage-password-form", "Password Stage"),
        other => {
            let app = other
                .split('.')
                .next()
                .unwrap_or(other)
                .trim_start_matches("authentik_stages_");
            return (
                format!("ak-stage-{}-form", app.replace('_', "-")),
                format!("{} Stage", app.replace('_', " ")),
            );
        }
    };
    (known.0.to_owned(), known.1.to_owned())
}

/// Who uses the stage, as far as the caller may view it. Validate stages that list it are never named.
pub(super) fn used_by(context: &Context<'_>, state: &State, pk: &str) -> Result<Reply, Reply> {
    let stage = find(context, state, "view", pk)?;
    let everything = !context.version.used_by_follows_permissions();
    let seen = |model: Model, key: &str| everything || context.user.may_on("view", model, key);
    let item = |model: Model, key: &str, name: String, action: &str| {
        let action = if context.version.upper_case_actions() {
            action.to_uppercase()
        } else {
            action.to_owned()
        };
        json!({"app": model.app, "model_name": model.name, "pk": key, "name": name, "action": action})
    };

    let mut users = Vec::new();
    for flow in state.flows_of(stage.pk).filter(|flow| seen(Flow::MODEL, &flow.key())) {
        users.push(item(
            Flow::MODEL,
            &flow.key(),
            format!("Flow {} ({})", flow.name, flow.slug),
            "cascade_many",
        ));
    }
    let mut bindings: Vec<&Binding> = state
        .bindings
        .iter()
        .filter(|binding| binding.stage == stage.pk)
        .collect();
    bindings.sort_by_key(|binding| (binding.target, binding.order));
    for binding in bindings
        .into_iter()
        .filter(|binding| seen(Binding::MODEL, &binding.key()))
    {
        users.push(item(Binding::MODEL, &binding.key(), binding.title(), "cascade"));
    }
    for device in state.devices.iter().filter(|device| device.stage == stage.pk) {
        if seen(Device::MODEL, &device.key()) {
            users.push(item(Device::MODEL, &device.key(), device.name.clone(), "cascade"));
        }
    }
    Ok(Reply::json(200, json!(users)))
}

/// The description of a URL; `action` is the write that the caller may do there, with its fields.
fn options(version: &Version, name: &str, action: Option<&str>) -> Reply {
    let mut body = json!({
        "name": name,
        "description": "AuthenticatorSMSStage Viewset",
        "renders": ["application/json"],
        "parses": ["application/json"],
    });
    if let Some(action) = action {
        let flow_set_read_only = version.ignores_flow_set();
        let fields = [
            ("pk", "string", false, true),
            ("name", "string", true, false),
            ("component", "field", false, true),
            ("verbose_name", "field", false, true),
            ("verbose_name_plural", "field", false, true),
            ("meta_model_name", "field", false, true),
            ("flow_set", "field", false, flow_set_read_only),
            ("configure_flow", "field", false, false),
            ("friendly_name", "string", false, false),
            ("provider", "choice", true, false),
            ("from_number", "string", true, false),
            ("account_sid", "string", true, false),
            ("auth", "string", true, false),
            ("auth_password", "string", false, false),
            ("auth_type", "choice", false, false),
            ("verify_only", "boolean", false, false),
            ("mapping", "field", false, false),
        ];
        let described = fields.into_iter().map(|(name, kind, required, read_only)| {
            (
                name.to_owned(),
                json!({"type": kind, "required": required, "read_only": read_only}),
            )
        });
        body["actions"] = json!({action: described.collect::<Map<_, _>>()});
    }
    Reply::json(200, body)
}
