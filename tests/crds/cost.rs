//! What the rules cost. An API server estimates that from the bounds and refuses a definition that could cost too much;
//! the budgets are the same in all releases, the estimates are not.

use serde_json::{Value, json};

use crate::schema::Kind;
use crate::server::Server;

/// How many times over each rule has to fit into its budget, and all rules into theirs.
const TIMES: usize = 100;

/// The definition with every rule made to count `TIMES` times.
fn made_dear(schema: &mut Value) {
    let ten = "[0,1,2,3,4,5,6,7,8,9]";
    assert_eq!(TIMES, 10 * 10);
    let rules = schema.get_mut("x-kubernetes-validations").and_then(Value::as_array_mut);
    for rule in rules.into_iter().flatten() {
        let expression = rule["rule"].as_str().unwrap();
        rule["rule"] = json!(format!("{ten}.all(outer, {ten}.all(inner, {expression}))"));
    }
    match schema {
        Value::Object(members) => members.values_mut().for_each(made_dear),
        Value::Array(items) => items.iter_mut().for_each(made_dear),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {}
    }
}

#[tokio::test]
async fn the_rules_take_a_hundredth_of_what_is_allowed() {
    let server = Server::new().await;
    for kind in Kind::ALL {
        let mut definition = kind.definition();
        made_dear(&mut definition["spec"]["versions"][0]["schema"]);
        let answer = server.try_definition(&definition).await;
        assert!(answer.is_ok(), "{kind:?}: {answer:#?}");
    }
}
