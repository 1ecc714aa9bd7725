//! Bindings of stages into flows.

use serde_json::{Value, json};
use uuid::Uuid;

use super::{Context, flows::ENGINE_MODES, not_simulated, stages};
use crate::{
    fields::Input,
    list::{Filter, Listing, by_uuid, list},
    message::Reply,
    rows::{Binding, Row},
    state::State,
};

const RESPONSES: [&str; 3] = ["retry", "restart", "restart_with_context"];

const LISTING: Listing = Listing {
    filters: &[
        ("target", Filter::Reference(State::flow_exists)),
        ("stage", Filter::Reference(State::any_stage_exists)),
        ("order", Filter::Integer),
        ("fsb_uuid", Filter::Uuid),
        ("pbm_uuid", Filter::Uuid),
        ("policy_engine_mode", Filter::Choice(&ENGINE_MODES)),
        ("evaluate_on_plan", Filter::Boolean),
        ("re_evaluate_policies", Filter::Boolean),
        ("invalid_response_action", Filter::Choice(&RESPONSES)),
    ],
    search: &[],
    ordering: &["order", "pk"],
};

pub(super) fn collection(context: &Context<'_>, state: &mut State) -> Result<Reply, Reply> {
    match context.method {
        "GET" => list(context, state, state.bindings.iter(), &LISTING, |binding| {
            render(context, state, binding)
        }),
        "POST" => {
            if !context.user.may("add", Binding::MODEL) {
                return Err(Reply::forbidden());
            }
            let blank = Binding::new(Uuid::nil(), Uuid::nil(), 0);
            let binding = read(context, state, blank, false)?;
            state.create(binding.clone(), &context.actor());
            let mut body = render(context, state, &binding);
            // The real answer to a POST shows the stage as its parent class.
            body["stage_obj"]["component"] = json!("");
            body["stage_obj"]["verbose_name"] = json!("stage");
            body["stage_obj"]["verbose_name_plural"] = json!("stages");
            body["stage_obj"]["meta_model_name"] = json!("authentik_flows.stage");
            Ok(Reply::json(201, body))
        }
        _ => Err(not_simulated(context)),
    }
}

pub(super) fn single(context: &Context<'_>, state: &mut State, pk: &str) -> Result<Reply, Reply> {
    let find = |verb| by_uuid(context, state.bindings.iter(), verb, pk);
    match context.method {
        "GET" => Ok(Reply::json(200, render(context, state, find("view")?))),
        "PATCH" => {
            let old = find("change")?.clone();
            let binding = read(context, state, old, true)?;
            let body = render(context, state, &binding);
            state.replace(binding, &context.actor());
            Ok(Reply::json(200, body))
        }
        "DELETE" => {
            let key = find("delete")?.key();
            state.delete::<Binding>(&key, &context.actor());
            Ok(Reply::no_content())
        }
        _ => Err(not_simulated(context)),
    }
}

fn read(context: &Context<'_>, state: &State, mut binding: Binding, partial: bool) -> Result<Binding, Reply> {
    let mut input = Input::new(context.request.object()?, partial);
    if let Some(target) = input.reference("target", |pk| state.flow_exists(pk)) {
        binding.target = target;
    }
    if let Some(stage) = input.reference("stage", |pk| state.any_stage_exists(pk)) {
        binding.stage = stage;
    }
    if let Some(order) = input.integer("order", true) {
        binding.order = order;
    }
    let plan = input.boolean("evaluate_on_plan");
    let run = input.boolean("re_evaluate_policies");
    if let Some(mode) = input.choice("policy_engine_mode", false, &ENGINE_MODES) {
        binding.policy_engine_mode = mode;
    }
    if let Some(action) = input.choice("invalid_response_action", false, &RESPONSES) {
        binding.invalid_response_action = action;
    }
    if input.is_right() {
        let same = |other: &Binding| {
            other.pk != binding.pk
                && (other.target, other.stage, other.order) == (binding.target, binding.stage, binding.order)
        };
        if state.bindings.iter().any(same) {
            input.reject(
                "non_field_errors",
                "The fields target, stage, order must make a unique set.",
            );
        } else if !plan.unwrap_or(false) && !run.unwrap_or(true) {
            // The real check looks at what was sent and at defaults, not at what is stored.
            input.reject(
                "non_field_errors",
                "Either evaluation on plan or evaluation on run must be enabled",
            );
        }
    }
    input.finish()?;
    binding.evaluate_on_plan = plan.unwrap_or(binding.evaluate_on_plan);
    binding.re_evaluate_policies = run.unwrap_or(binding.re_evaluate_policies);
    Ok(binding)
}

fn render(context: &Context<'_>, state: &State, binding: &Binding) -> Value {
    json!({
        "pk": binding.pk.to_string(),
        "policybindingmodel_ptr_id": binding.policybindingmodel.to_string(),
        "target": binding.target.to_string(),
        "stage": binding.stage.to_string(),
        "stage_obj": stages::any_parent(context, state, binding.stage),
        "evaluate_on_plan": binding.evaluate_on_plan,
        "re_evaluate_policies": binding.re_evaluate_policies,
        "order": binding.order,
        "policy_engine_mode": binding.policy_engine_mode,
        "invalid_response_action": binding.invalid_response_action,
    })
}
