//! Compares a recorded answer with a real one, value by value.
//!
//! Server-made values (uuids, integer keys, request ids) need not be equal, but the same recorded value must always
//! stand for the same real one, and two recorded values never for one.

use std::collections::{BTreeSet, HashMap};

use serde_json::Value;
use uuid::Uuid;

use crate::recording::{Answer, Exchange};

/// What the recorded names and server-made values stand for on this server.
#[derive(Clone, Debug, Default)]
pub struct Known(HashMap<String, String>);

impl Known {
    pub fn set(&mut self, name: &str, value: &str) {
        self.0.insert(name.to_owned(), value.to_owned());
    }

    /// Puts values in the place of `{{name}}`.
    pub fn fill(&self, text: &str) -> String {
        let mut filled = text.to_owned();
        while let Some((before, name, after)) = placeholder(&filled) {
            let value = self
                .0
                .get(name)
                .unwrap_or_else(|| panic!("nothing stands for {name} yet in {text:?}"));
            filled = format!("{before}{value}{after}");
        }
        filled
    }

    pub fn fill_in(&self, value: &Value) -> Value {
        match value {
            Value::String(text) => Value::String(self.fill(text)),
            Value::Array(values) => values.iter().map(|value| self.fill_in(value)).collect(),
            Value::Object(members) => members
                .iter()
                .map(|(key, value)| (key.clone(), self.fill_in(value)))
                .collect(),
            Value::Null | Value::Bool(_) | Value::Number(_) => value.clone(),
        }
    }

    /// Binds a name at first sight and demands the same value from then on.
    fn bind(&mut self, name: &str, value: &str) -> Result<(), String> {
        match self.0.get(name) {
            Some(bound) if bound == value => Ok(()),
            Some(bound) => Err(format!("{name} was {bound} and is now {value}")),
            None => {
                let space = name.split(':').next().unwrap_or("").len();
                let rival = self.0.iter().find(|(other, bound)| {
                    *bound == value && name.contains(':') && other.get(..=space) == name.get(..=space)
                });
                if let Some((other, _)) = rival {
                    return Err(format!("{name} and {other} both stand for {value}"));
                }
                self.0.insert(name.to_owned(), value.to_owned());
                Ok(())
            }
        }
    }
}

fn placeholder(text: &str) -> Option<(&str, &str, &str)> {
    let (before, rest) = text.split_once("{{")?;
    let (name, after) = rest.split_once("}}")?;
    Some((before, name, after))
}

/// How much of a body was recorded.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Cut {
    /// All of it.
    Whole,
    /// Some members of each object.
    SomeMembers,
    /// Which members there are and of what type: the values are this server's own.
    TypesOnly,
}

/// All differences between what was recorded and what came; empty if there is none.
pub fn differences(exchange: &Exchange, came: &Answer, cut: Cut, known: &mut Known) -> Vec<String> {
    let recorded = &exchange.answer;
    let mut found = Vec::new();
    if recorded.status != came.status {
        found.push(format!("status {} for {}", came.status, recorded.status));
    }
    let media_type = |header: &Option<String>| {
        header
            .as_deref()
            .and_then(|text| text.split(';').next())
            .map(str::to_owned)
    };
    if media_type(&recorded.content_type) != media_type(&came.content_type) {
        found.push(format!(
            "content type {:?} for {:?}",
            came.content_type, recorded.content_type
        ));
    }
    let set = |header: &Option<String>| -> BTreeSet<String> {
        header
            .as_deref()
            .unwrap_or("")
            .split(',')
            .map(|word| word.trim().to_owned())
            .collect()
    };
    if set(&recorded.allow) != set(&came.allow) {
        found.push(format!("allow {:?} for {:?}", came.allow, recorded.allow));
    }
    if recorded.vary.is_some() && recorded.vary != came.vary {
        found.push(format!("vary {:?} for {:?}", came.vary, recorded.vary));
    }
    walk(&recorded.body, &came.body, cut, "", known, &mut found);
    found
}

fn walk(recorded: &Value, came: &Value, cut: Cut, at: &str, known: &mut Known, found: &mut Vec<String>) {
    match (recorded, came) {
        (Value::Object(recorded), Value::Object(came)) => {
            for (key, value) in recorded {
                let at = format!("{at}.{key}");
                match came.get(key) {
                    Some(other) => walk(value, other, cut, &at, known, found),
                    None => found.push(format!("{at} is missing")),
                }
            }
            for key in came
                .keys()
                .filter(|key| cut != Cut::SomeMembers && !recorded.contains_key(*key))
            {
                found.push(format!("{at}.{key} should not be there"));
            }
        }
        (Value::Array(recorded), Value::Array(came)) if last(at) == "system_permissions" => {
            let set = |values: &Vec<Value>| values.iter().map(Value::to_string).collect::<BTreeSet<_>>();
            if set(recorded) != set(came) {
                found.push(format!("{at} is another set"));
            }
        }
        (Value::Array(recorded), Value::Array(came)) => {
            if recorded.len() != came.len() {
                found.push(format!("{at} has {} elements for {}", came.len(), recorded.len()));
            }
            for (index, (value, other)) in recorded.iter().zip(came).enumerate() {
                walk(value, other, cut, &format!("{at}[{index}]"), known, found);
            }
        }
        (Value::String(text), _) if text == "..." => {}
        (Value::String(text), Value::String(other)) => {
            if let Err(problem) = same_text(text, other, cut, at, known) {
                found.push(format!("{at}: {problem}"));
            }
        }
        (Value::Number(number), Value::Number(other)) if last(at) == "pk" => {
            let kind = if at.ends_with("user.pk") { "user" } else { "device" };
            if let Err(problem) = known.bind(&format!("{kind}:{number}"), &other.to_string()) {
                found.push(format!("{at}: {problem}"));
            }
        }
        _ if cut == Cut::TypesOnly && std::mem::discriminant(recorded) == std::mem::discriminant(came) => {}
        _ if recorded == came => {}
        _ => found.push(format!("{at}: {came} for {recorded}")),
    }
}

/// The last member's name of a path like `.results[0].user.pk`.
fn last(at: &str) -> &str {
    at.rsplit('.').next().unwrap_or(at)
}

fn same_text(recorded: &str, came: &str, cut: Cut, at: &str, known: &mut Known) -> Result<(), String> {
    const PARSE_ERROR: &str = "JSON parse error - ";
    let is_hex = |text: &str| text.len() == 32 && text.bytes().all(|byte| byte.is_ascii_hexdigit());
    if recorded.starts_with("<text/html; charset=utf-8, ") {
        let html = came.starts_with("<text/html; charset=utf-8, ");
        return if html {
            Ok(())
        } else {
            Err(format!("{came:?} is no HTML page"))
        };
    }
    if cut == Cut::TypesOnly || recorded.starts_with(PARSE_ERROR) && came.starts_with(PARSE_ERROR) {
        return Ok(());
    }
    if last(at) == "uid" {
        return known.bind(&format!("uid:{recorded}"), came);
    }
    if last(at) == "request_id" && is_hex(recorded) && is_hex(came) {
        return known.bind(&format!("request:{recorded}"), came);
    }
    if at.ends_with("].pk") && recorded.parse::<u64>().is_ok() && came.parse::<u64>().is_ok() {
        return known.bind(&format!("device:{recorded}"), came);
    }
    if Uuid::parse_str(recorded).is_ok_and(|uuid| !uuid.is_nil()) && Uuid::parse_str(came).is_ok() {
        return known.bind(&format!("uuid:{recorded}"), came);
    }
    matches(recorded, came, known)
}

/// Matches text with placeholders: each stands for a uuid, with dashes or (in events) without.
fn matches(recorded: &str, came: &str, known: &mut Known) -> Result<(), String> {
    let Some((before, name, after)) = placeholder(recorded) else {
        return if recorded == came {
            Ok(())
        } else {
            Err(format!("{came:?} for {recorded:?}"))
        };
    };
    let wrong = || format!("{came:?} for {recorded:?}");
    let rest = came.strip_prefix(before).ok_or_else(wrong)?;
    let tail = if let Some(value) = known.0.get(name) {
        let hex = value.replace('-', "");
        rest.strip_prefix(value.as_str())
            .or_else(|| rest.strip_prefix(&hex))
            .ok_or_else(wrong)?
    } else {
        let value = rest
            .get(..36)
            .filter(|text| Uuid::parse_str(text).is_ok())
            .ok_or_else(wrong)?;
        if known.0.values().any(|bound| bound == value) {
            return Err(format!("{name} and another name both stand for {value}"));
        }
        known.set(name, value);
        &rest[36..]
    };
    matches(after, tail, known)
}
