//! What holds for every status that anybody ever sees, whatever the test is about.

use authentik_stage_operator::api::Reason;
use serde::Serialize;
use serde_json::Value;

use crate::arena::AUTH_TOKEN;

/// Checks an object of one of our kinds; others have no such status.
///
/// # Panics
/// With the rule that is broken, and the object.
pub fn status(object: &impl Serialize) {
    let object = serde_json::to_value(object).unwrap();
    let Some(status) = object.get("status") else { return };
    let Some(observed) = status.get("observedGeneration").and_then(Value::as_i64) else {
        return;
    };
    let holds = |rule: bool, what: &str| assert!(rule, "{what}: {object:#}");
    let generation = object["metadata"]["generation"].as_i64().unwrap_or_default();
    holds(
        observed <= generation,
        "nobody has seen a generation that is not there yet",
    );
    holds(!status.to_string().contains(AUTH_TOKEN), "no credential is in a status");

    let conditions = status["conditions"].as_array().cloned().unwrap_or_default();
    let of = |type_: &str| -> Vec<&Value> { conditions.iter().filter(|one| one["type"] == type_).collect() };
    if observed < 0 {
        holds(conditions.is_empty(), "before the first pass there is nothing to tell");
        return;
    }
    let [ready] = of("Ready")[..] else {
        panic!("there is exactly one Ready: {object:#}");
    };
    for condition in &conditions {
        let known = Reason::ALL.iter().any(|reason| condition["reason"] == reason.as_str());
        holds(known, "every reason is of the closed set");
        holds(
            condition["observedGeneration"] == observed,
            "all conditions are of the generation that the pass worked on",
        );
        holds(condition["message"] != "", "every condition says what is the case");
    }
    let beside = [of("Reconciling"), of("Stalled")].concat();
    match &beside[..] {
        [] => holds(
            ready["status"] == "True" || ready["reason"] == "Suspended",
            "beside Ready=False stands what is to come of it, unless it is suspended",
        ),
        [one] => {
            holds(ready["status"] == "False", "nothing stands beside Ready=True");
            holds(
                one["status"] == "True" && one["reason"] == ready["reason"] && one["message"] == ready["message"],
                "what stands beside Ready=False says the same",
            );
        }
        _ => panic!("Reconciling and Stalled exclude each other: {object:#}"),
    }
}
