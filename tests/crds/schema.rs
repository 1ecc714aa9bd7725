//! The schemas as a list of nodes, each with its path.

use std::fmt;

use authentik_stage_operator::commands::crd;
use serde_json::Value;

/// One of the two kinds.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Kind {
    Stage,
    Connection,
}

impl Kind {
    pub const ALL: [Self; 2] = [Self::Stage, Self::Connection];

    pub const fn name(self) -> &'static str {
        match self {
            Self::Stage => "AuthenticatorSMSStage",
            Self::Connection => "AuthentikConnection",
        }
    }

    /// The generated definition.
    pub fn definition(self) -> Value {
        let definitions = crd::definitions().map(|(_, definition)| serde_json::to_value(definition).unwrap());
        let mut matching = definitions
            .into_iter()
            .filter(|definition| definition["spec"]["names"]["kind"] == self.name());
        matching.next().expect("both kinds are generated")
    }

    /// Every node of the schema below the root, parents first.
    pub fn nodes(self) -> Vec<Node> {
        let definition = self.definition();
        let mut nodes = Vec::new();
        collect(
            &definition["spec"]["versions"][0]["schema"]["openAPIV3Schema"],
            &Path(Vec::new()),
            true,
            &mut nodes,
        );
        nodes
    }
}

/// One step from a value to a part of it.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Step {
    /// A field of an object.
    Field(String),
    /// An element of a list; where one is wanted, the first.
    Item,
    /// An entry of a map; where one is wanted, the first.
    Entry,
}

/// Where a node is: `spec.selector.matchExpressions[].key`, `spec.selector.matchLabels{}`.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Path(pub Vec<Step>);

impl fmt::Display for Path {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (i, step) in self.0.iter().enumerate() {
            match step {
                Step::Field(name) if i == 0 => write!(f, "{name}")?,
                Step::Field(name) => write!(f, ".{name}")?,
                Step::Item => write!(f, "[]")?,
                Step::Entry => write!(f, "{{}}")?,
            }
        }
        Ok(())
    }
}

impl Path {
    pub fn is_in(&self, field: &str) -> bool {
        self.0.first() == Some(&Step::Field(field.to_owned()))
    }

    fn then(&self, step: Step) -> Self {
        let mut steps = self.0.clone();
        steps.push(step);
        Self(steps)
    }

    /// The part of `value` that is here, if it has one.
    pub fn find<'a>(&self, value: &'a Value) -> Option<&'a Value> {
        self.0.iter().try_fold(value, |value, step| match step {
            Step::Field(name) => value.get(name),
            Step::Item => value.get(0),
            Step::Entry => value.as_object()?.values().next(),
        })
    }

    /// The same, to be changed.
    pub fn find_mut<'a>(&self, value: &'a mut Value) -> Option<&'a mut Value> {
        self.0.iter().try_fold(value, |value, step| match step {
            Step::Field(name) => value.get_mut(name),
            Step::Item => value.get_mut(0),
            Step::Entry => value.as_object_mut()?.values_mut().next(),
        })
    }

    /// The path as the API server writes it in an error about `value`.
    pub fn in_errors(&self, value: &Value) -> String {
        let mut text = String::new();
        for (i, step) in self.0.iter().enumerate() {
            match step {
                Step::Field(name) => {
                    text.push_str(if i == 0 { "" } else { "." });
                    text.push_str(name);
                }
                Step::Item => text.push_str("[0]"),
                Step::Entry => {
                    let map = Self(self.0[..i].to_vec()).find(value).and_then(Value::as_object);
                    let key = map.and_then(|map| map.keys().next()).expect("the map has an entry");
                    text.extend(["[", key, "]"]);
                }
            }
        }
        text
    }

    /// The parent's path and the field's name, if the last step is a field.
    pub fn split_field(&self) -> Option<(Self, &str)> {
        match self.0.split_last()? {
            (Step::Field(name), parent) => Some((Self(parent.to_vec()), name)),
            (Step::Item | Step::Entry, _) => None,
        }
    }
}

/// A part of a schema.
#[derive(Clone, Debug)]
pub struct Node {
    pub path: Path,
    pub schema: Value,
    /// Whether its object has to have it.
    pub required: bool,
}

/// A CEL rule.
#[derive(Clone, Debug)]
pub struct Rule {
    /// Of the node that has the rule.
    pub at: Path,
    /// The rule itself, in CEL.
    pub expression: String,
    pub message: String,
    pub reason: String,
    /// Where the error stands, from the node on.
    pub field_path: String,
}

impl Node {
    pub fn kind(&self) -> &str {
        self.schema["type"].as_str().unwrap_or_default()
    }

    pub fn number(&self, keyword: &str) -> Option<usize> {
        // The generator writes some whole numbers as floats.
        #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss)]
        self.schema.get(keyword)?.as_f64().map(|number| number as usize)
    }

    pub fn rules(&self) -> Vec<Rule> {
        let text = |rule: &Value, member: &str| rule[member].as_str().unwrap_or_default().to_owned();
        let rules = self.schema["x-kubernetes-validations"].as_array().into_iter().flatten();
        rules
            .map(|rule| Rule {
                at: self.path.clone(),
                expression: text(rule, "rule"),
                message: text(rule, "message"),
                reason: text(rule, "reason"),
                field_path: text(rule, "fieldPath"),
            })
            .collect()
    }
}

fn collect(schema: &Value, path: &Path, required: bool, nodes: &mut Vec<Node>) {
    if !path.0.is_empty() {
        nodes.push(Node {
            path: path.clone(),
            schema: schema.clone(),
            required,
        });
    }
    let needed = schema["required"].as_array().cloned().unwrap_or_default();
    for (name, member) in schema["properties"].as_object().into_iter().flatten() {
        let required = needed.iter().any(|needed| needed == name);
        collect(member, &path.then(Step::Field(name.clone())), required, nodes);
    }
    for (keyword, step) in [("items", Step::Item), ("additionalProperties", Step::Entry)] {
        if let Some(member) = schema.get(keyword) {
            collect(member, &path.then(step), true, nodes);
        }
    }
}
