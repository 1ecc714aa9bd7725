//! What holds for every node of both schemas.

use std::collections::BTreeSet;

use crate::samples;
use crate::schema::{Kind, Node};

/// Keywords that a structural schema may have and that we use. Among those that are missing here: `oneOf` and its like,
/// whose messages nobody understands, and whatever an API server would drop in silence.
const KEYWORDS: [&str; 21] = [
    "additionalProperties",
    "default",
    "description",
    "enum",
    "format",
    "items",
    "maxItems",
    "maxLength",
    "maxProperties",
    "maximum",
    "minLength",
    "minimum",
    "nullable",
    "pattern",
    "properties",
    "required",
    "title",
    "type",
    "x-kubernetes-list-map-keys",
    "x-kubernetes-list-type",
    "x-kubernetes-validations",
];

/// Where a credential belongs, or where somebody may put one by mistake.
const CREDENTIALS: [&str; 5] = [
    "spec.twilio",
    "spec.generic",
    "spec.tokenSecretRef",
    "spec.caBundle",
    "spec.url",
];

fn every_node(check: impl Fn(Kind, &Node)) {
    for kind in Kind::ALL {
        let nodes = kind.nodes();
        assert!(nodes.len() > 20, "the walk sees only {} nodes of {kind:?}", nodes.len());
        for node in &nodes {
            check(kind, node);
        }
    }
}

#[test]
fn every_node_is_typed_and_has_known_keywords_only() {
    every_node(|kind, Node { path, schema, .. }| {
        for keyword in schema.as_object().unwrap().keys() {
            assert!(KEYWORDS.contains(&keyword.as_str()), "{kind:?} {path}: {keyword}");
        }
        assert!(schema["type"].is_string(), "{kind:?} {path} has no type");
        // The message of a pattern is the pattern; in a spec, rules say what to write instead.
        assert!(
            !path.is_in("spec") || schema.get("pattern").is_none(),
            "{kind:?} {path} has a pattern"
        );
    });
}

#[test]
fn everything_is_bounded() {
    every_node(|kind, node| {
        let Node { path, schema, .. } = node;
        let has = |keyword: &str| schema.get(keyword).is_some();
        let bounded = match node.kind() {
            "string" => has("enum") || has("maxLength"),
            "array" => has("maxItems") && has("items") && has("x-kubernetes-list-type"),
            // A fixed set of fields, or a map.
            "object" => has("properties") != has("additionalProperties") && (has("properties") || has("maxProperties")),
            "integer" => {
                let signed = schema["format"] == "int32" || schema["format"] == "int64";
                signed && (!path.is_in("spec") || has("minimum") && has("maximum"))
            }
            "boolean" => true,
            other => panic!("{kind:?} {path}: unexpected type {other}"),
        };
        assert!(bounded, "{kind:?} {path} lacks a bound: {schema}");
    });
}

#[test]
fn every_field_is_described() {
    every_node(|kind, Node { path, schema, .. }| {
        // Those of Kubernetes itself are known to everybody.
        let foreign = path.to_string().starts_with("status.conditions[]");
        let described = schema["description"].as_str().is_some_and(|text| text.len() > 2);
        assert!(
            foreign || described || path.split_field().is_none(),
            "{kind:?} {path} has no description"
        );
    });
}

#[test]
fn every_rule_says_why_where_and_what_to_do() {
    every_node(|kind, node| {
        for rule in node.rules() {
            let at = format!("{kind:?} {}: {}", rule.at, rule.expression);
            assert!(rule.message.len() > 10, "{at} has no message");
            let reasons = ["FieldValueRequired", "FieldValueForbidden", "FieldValueInvalid"];
            assert!(reasons.contains(&rule.reason.as_str()), "{at} has no reason");
            // An object's rule says at which of its fields the error stands.
            assert!(
                node.kind() != "object"
                    || !rule.field_path.is_empty()
                    || node
                        .path
                        .split_field()
                        .is_some_and(|(_, name)| ["connectionRef", "matchLabels"].contains(&name)),
                "{at} has no field path"
            );
            // API servers from 1.37 on print the value with `FieldValueInvalid`.
            let secret = CREDENTIALS.iter().any(|path| rule.at.to_string().starts_with(path));
            assert!(
                !secret || rule.reason != "FieldValueInvalid",
                "{at} would print a credential"
            );
        }
    });
}

#[test]
fn the_samples_have_every_field() {
    for kind in Kind::ALL {
        let mut samples: Vec<_> = samples::all()
            .into_iter()
            .filter(|s| s.kind == kind)
            .map(|s| s.resource)
            .collect();
        samples.push(serde_json::json!({"status": samples::status(kind)}));
        let missing: BTreeSet<_> = kind
            .nodes()
            .into_iter()
            .filter(|node| samples.iter().all(|sample| node.path.find(sample).is_none()))
            .map(|node| node.path.to_string())
            .collect();
        assert!(
            missing.is_empty(),
            "no sample of {kind:?} has {missing:?}: add them, or they go untested"
        );
    }
}
