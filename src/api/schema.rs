//! Schemas of the scalar fields: each string has its bounds, and the rules that hold for every string of a spec.
//!
//! They are written out instead of derived so that no string can be forgotten: a field names the function that
//! describes it, and a test walks the generated schema for anything unbounded.

use schemars::{Schema, SchemaGenerator};
use serde_json::{Value, json};

/// Longest text that authentik may put into a status field, in characters; longer ones are cut.
pub const STATUS_TEXT: usize = 1024;
/// Longest enum value or short identifier of authentik in a status field, in characters.
pub const STATUS_WORD: usize = 64;
/// Longest URL in a status field, in characters.
pub const STATUS_URL: usize = 2048;
/// Most flows that `status.stage.flowSet` lists.
pub const STATUS_FLOWS: usize = 32;
/// Most dependents that `status.dependents` lists by name.
pub const STATUS_DEPENDENTS: usize = 32;

fn schema(value: Value) -> Schema {
    // A literal object is always a schema; the fallback only spares an unwrap.
    Schema::try_from(value).unwrap_or_default()
}

fn spec_string(min: usize, max: usize, nullable: bool, reason: &str) -> Value {
    let mut string = json!({
        "type": "string",
        "minLength": min,
        "maxLength": max,
        "x-kubernetes-validations": [
            {"rule": "self == self.trim()", "reason": reason,
             "message": "remove the white space before or after the value: authentik would cut it off"},
            {"rule": "!self.matches('[\\\\p{Cc}]')", "reason": reason,
             "message": "remove the control characters (tab, line feed, NUL, ...) from the value"},
        ],
    });
    if nullable {
        string["nullable"] = json!(true);
    }
    string
}

/// A required text of the spec.
pub fn text<const MIN: usize, const MAX: usize>(_: &mut SchemaGenerator) -> Schema {
    schema(spec_string(MIN, MAX, false, "FieldValueInvalid"))
}

/// An optional text of the spec; `null` is the same as absent.
pub fn optional_text<const MIN: usize, const MAX: usize>(_: &mut SchemaGenerator) -> Schema {
    schema(spec_string(MIN, MAX, true, "FieldValueInvalid"))
}

/// A required text that may hold a credential: its rules use a reason for which no API server prints the value.
pub fn guarded_text<const MIN: usize, const MAX: usize>(_: &mut SchemaGenerator) -> Schema {
    schema(spec_string(MIN, MAX, false, "FieldValueForbidden"))
}

/// An optional text that may hold a credential: its rules use a reason for which no API server prints the value.
pub fn optional_guarded_text<const MIN: usize, const MAX: usize>(_: &mut SchemaGenerator) -> Schema {
    schema(spec_string(MIN, MAX, true, "FieldValueForbidden"))
}

// Names and keys in references get a reason for which no API server prints the value: someone will paste a credential
// where the reference to one belongs.
fn name_string(max: usize, nullable: bool, pattern: &str, message: &str) -> Value {
    let mut string = json!({
        "type": "string",
        "minLength": 1,
        "maxLength": max,
        "x-kubernetes-validations": [
            {"rule": format!("self.matches('{pattern}')"), "reason": "FieldValueForbidden", "message": message},
        ],
    });
    if nullable {
        string["nullable"] = json!(true);
    }
    string
}

/// The name of an object in Kubernetes.
pub fn object_name(_: &mut SchemaGenerator) -> Schema {
    schema(name_string(
        253,
        false,
        r"^[a-z0-9]([-a-z0-9]*[a-z0-9])?([.][a-z0-9]([-a-z0-9]*[a-z0-9])?)*$",
        "write the name of an object in Kubernetes: lower-case letters, digits, - and . only",
    ))
}

/// An optional name of a namespace.
pub fn optional_namespace(_: &mut SchemaGenerator) -> Schema {
    schema(name_string(
        63,
        true,
        r"^[a-z0-9]([-a-z0-9]*[a-z0-9])?$",
        "write the name of a namespace: lower-case letters, digits and - only",
    ))
}

/// A key in the data of a Secret or ConfigMap.
pub fn data_key(_: &mut SchemaGenerator) -> Schema {
    schema(name_string(
        253,
        false,
        r"^[-._a-zA-Z0-9]+$",
        "write a key of the object's data: letters, digits, -, _ and . only",
    ))
}

// A label's key has an optional DNS prefix, and a name like a value's.
const LABEL_KEY: &str = r"^([a-z0-9]([-a-z0-9.]*[a-z0-9])?/)?[A-Za-z0-9]([-A-Za-z0-9_.]*[A-Za-z0-9])?$";
const LABEL_VALUE: &str = r"^([A-Za-z0-9]([-A-Za-z0-9_.]*[A-Za-z0-9])?)?$";

fn label(min: usize, max: usize, pattern: &str, message: &str) -> Value {
    json!({
        "type": "string",
        "minLength": min,
        "maxLength": max,
        "x-kubernetes-validations": [
            {"rule": format!("self.matches('{pattern}')"), "reason": "FieldValueInvalid", "message": message},
        ],
    })
}

fn label_value() -> Value {
    label(
        0,
        63,
        LABEL_VALUE,
        "write the value of a label: letters, digits, -, _ and . only, at most 63",
    )
}

/// The key of a label.
pub fn label_key(_: &mut SchemaGenerator) -> Schema {
    schema(label(
        1,
        317,
        LABEL_KEY,
        "write the key of a label, such as kubernetes.io/metadata.name",
    ))
}

/// An optional list of values of labels.
pub fn label_values(_: &mut SchemaGenerator) -> Schema {
    schema(json!({
        "type": "array",
        "nullable": true,
        "maxItems": 16,
        "items": label_value(),
        "x-kubernetes-list-type": "atomic",
    }))
}

/// An optional map of labels.
pub fn labels(_: &mut SchemaGenerator) -> Schema {
    schema(json!({
        "type": "object",
        "nullable": true,
        "maxProperties": 16,
        "additionalProperties": label_value(),
        // A schema cannot bound the keys of a map, and without a bound a pattern on them is too dear for a rule.
        "x-kubernetes-validations": [
            {"rule": "self.all(key, size(key) <= 317)", "reason": "FieldValueInvalid",
             "message": "write labels whose keys have at most 317 characters"},
        ],
    }))
}

/// An optional choice among a few words, which a rule at the field lists; `null` is the same as absent.
///
/// Not an `enum`: API servers refuse `null` where there is one, nullable or not.
pub fn optional_choice(_: &mut SchemaGenerator) -> Schema {
    schema(json!({"type": "string", "nullable": true, "maxLength": 32}))
}

/// An optional UUID of the spec, with or without dashes, in either case.
pub fn optional_uuid(_: &mut SchemaGenerator) -> Schema {
    schema(json!({"type": "string", "nullable": true, "format": "uuid", "minLength": 32, "maxLength": 36}))
}

/// A duration of the spec such as `60s` or `1h30m`; the rules on its range stand at the field.
pub fn duration(_: &mut SchemaGenerator) -> Schema {
    schema(json!({"type": "string", "minLength": 2, "maxLength": 32}))
}

/// A string of a status: bounded, and nothing else is asked of it.
pub fn status_string<const MAX: usize>(_: &mut SchemaGenerator) -> Schema {
    schema(json!({"type": "string", "maxLength": MAX}))
}

/// An optional string of a status.
pub fn optional_status_string<const MAX: usize>(_: &mut SchemaGenerator) -> Schema {
    schema(json!({"type": "string", "nullable": true, "maxLength": MAX}))
}

/// A list of names in a status.
pub fn status_names<const ITEMS: usize>(_: &mut SchemaGenerator) -> Schema {
    schema(json!({
        "type": "array",
        "maxItems": ITEMS,
        "items": {"type": "string", "maxLength": STATUS_TEXT},
        "x-kubernetes-list-type": "atomic",
    }))
}

/// `status.conditions`: the Kubernetes condition with its documented bounds, merged by type.
pub fn conditions(_: &mut SchemaGenerator) -> Schema {
    schema(json!({
        "type": "array",
        "maxItems": 16,
        "x-kubernetes-list-type": "map",
        "x-kubernetes-list-map-keys": ["type"],
        "items": {
            "type": "object",
            "required": ["type", "status", "reason", "message", "lastTransitionTime"],
            "properties": {
                "type": {"type": "string", "minLength": 1, "maxLength": 316},
                "status": {"type": "string", "enum": ["True", "False", "Unknown"]},
                "reason": {"type": "string", "minLength": 1, "maxLength": 1024,
                           "pattern": "^[A-Za-z]([A-Za-z0-9_,:]*[A-Za-z0-9_])?$"},
                "message": {"type": "string", "maxLength": 32768},
                "lastTransitionTime": {"type": "string", "format": "date-time", "maxLength": 64},
                "observedGeneration": {"type": "integer", "format": "int64", "minimum": 0},
            },
        },
    }))
}
