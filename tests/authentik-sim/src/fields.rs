//! Checks request bodies field by field with the rules and texts of Django REST framework.

use serde_json::{Map, Value, json};
use uuid::Uuid;

use crate::message::{Reply, python_type};

/// How Python's `str.strip()` trims: Unicode white space and four separators that Unicode does not count as such.
pub(crate) fn strip(text: &str) -> &str {
    text.trim_matches(|c: char| c.is_whitespace() || ('\u{1c}'..='\u{1f}').contains(&c))
}

/// How a text field is declared.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Text {
    pub(crate) required: bool,
    pub(crate) blank: bool,
    pub(crate) null: bool,
    pub(crate) longest: Option<usize>,
}

/// What a nullable field was given.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Sent<T> {
    Null,
    Value(T),
}

impl<T> Sent<T> {
    pub(crate) fn into_option(self) -> Option<T> {
        match self {
            Self::Null => None,
            Self::Value(value) => Some(value),
        }
    }
}

/// A request body under examination. Readers return what was sent and is right, and note what is wrong.
pub(crate) struct Input {
    body: Map<String, Value>,
    /// PATCH: nothing is required.
    partial: bool,
    errors: Map<String, Value>,
}

impl Input {
    pub(crate) fn new(body: Map<String, Value>, partial: bool) -> Self {
        Self {
            body,
            partial,
            errors: Map::new(),
        }
    }

    pub(crate) fn sent(&self, name: &str) -> Option<&Value> {
        self.body.get(name)
    }

    pub(crate) fn reject(&mut self, name: &str, text: impl Into<Value>) {
        self.errors.insert(name.to_owned(), json!([text.into()]));
    }

    /// Notes an error that is not one list of texts.
    pub(crate) fn reject_with(&mut self, name: &str, error: Value) {
        self.errors.insert(name.to_owned(), error);
    }

    /// All errors of the body in one answer.
    pub(crate) fn finish(self) -> Result<(), Reply> {
        if self.errors.is_empty() {
            Ok(())
        } else {
            Err(Reply::json(400, Value::Object(self.errors)))
        }
    }

    pub(crate) fn errors(self) -> Map<String, Value> {
        self.errors
    }

    pub(crate) fn is_right(&self) -> bool {
        self.errors.is_empty()
    }

    /// What was sent, unless it is absent or a null that may not be.
    fn value(&mut self, name: &str, required: bool, null: bool) -> Option<Value> {
        match self.body.get(name).cloned() {
            None => {
                if required && !self.partial {
                    self.reject(name, "This field is required.");
                }
                None
            }
            Some(Value::Null) if !null => {
                self.reject(name, "This field may not be null.");
                None
            }
            Some(value) => Some(value),
        }
    }

    /// A trimmed string.
    pub(crate) fn text(&mut self, name: &str, rule: Text) -> Option<String> {
        self.nullable_text(name, rule).and_then(Sent::into_option)
    }

    /// A trimmed string, or null where the rule allows it.
    pub(crate) fn nullable_text(&mut self, name: &str, rule: Text) -> Option<Sent<String>> {
        let text = match self.value(name, rule.required, rule.null)? {
            Value::Null => return Some(Sent::Null),
            Value::String(text) => strip(&text).to_owned(),
            Value::Number(number) => number.to_string(),
            Value::Bool(_) | Value::Array(_) | Value::Object(_) => {
                self.reject(name, "Not a valid string.");
                return None;
            }
        };
        if text.is_empty() && !rule.blank {
            self.reject(name, "This field may not be blank.");
        } else if text.contains('\0') {
            self.reject(name, "Null characters are not allowed.");
        } else if let Some(longest) = rule.longest.filter(|&longest| text.chars().count() > longest) {
            self.reject(
                name,
                format!("Ensure this field has no more than {longest} characters."),
            );
        } else {
            return Some(Sent::Value(text));
        }
        None
    }

    pub(crate) fn choice(&mut self, name: &str, required: bool, among: &[&str]) -> Option<String> {
        let value = self.value(name, required, false)?;
        let sent = value.as_str().map_or_else(|| value.to_string(), str::to_owned);
        if among.contains(&sent.as_str()) {
            return Some(sent);
        }
        self.reject(name, format!("\"{sent}\" is not a valid choice."));
        None
    }

    pub(crate) fn boolean(&mut self, name: &str) -> Option<bool> {
        let value = self.value(name, false, false)?;
        let read = match &value {
            Value::Bool(value) => Some(*value),
            Value::Number(number) => match number.as_f64() {
                Some(1.0) => Some(true),
                Some(0.0) => Some(false),
                Some(_) | None => None,
            },
            Value::String(text) => match text.as_str() {
                "t" | "T" | "y" | "Y" | "yes" | "Yes" | "YES" | "true" | "True" | "TRUE" | "on" | "On" | "ON" | "1" => {
                    Some(true)
                }
                "f" | "F" | "n" | "N" | "no" | "No" | "NO" | "false" | "False" | "FALSE" | "off" | "Off" | "OFF"
                | "0" => Some(false),
                _ => None,
            },
            Value::Null | Value::Array(_) | Value::Object(_) => None,
        };
        if read.is_none() {
            self.reject(name, "Must be a valid boolean.");
        }
        read
    }

    pub(crate) fn integer(&mut self, name: &str, required: bool) -> Option<i64> {
        let value = self.value(name, required, false)?;
        let read = value
            .as_i64()
            .or_else(|| value.as_str().and_then(|text| strip(text).parse().ok()));
        match read {
            None => self.reject(name, "A valid integer is required."),
            Some(number) if number > i64::from(i32::MAX) => {
                self.reject(name, "Ensure this value is less than or equal to 2147483647.");
            }
            Some(number) if number < i64::from(i32::MIN) => {
                self.reject(name, "Ensure this value is greater than or equal to -2147483648.");
            }
            Some(number) => return Some(number),
        }
        None
    }

    /// The key of another row, required.
    pub(crate) fn reference(&mut self, name: &str, exists: impl Fn(Uuid) -> bool) -> Option<Uuid> {
        let value = self.value(name, true, false)?;
        self.key(name, &value, exists)
    }

    /// The key of another row or null, which `""` means too.
    pub(crate) fn nullable_reference(&mut self, name: &str, exists: impl Fn(Uuid) -> bool) -> Option<Sent<Uuid>> {
        let value = self.value(name, false, true)?;
        if value.is_null() || value == "" {
            return Some(Sent::Null);
        }
        self.key(name, &value, exists).map(Sent::Value)
    }

    fn key(&mut self, name: &str, value: &Value, exists: impl Fn(Uuid) -> bool) -> Option<Uuid> {
        let Some(text) = value.as_str() else {
            self.reject(
                name,
                format!("Incorrect type. Expected pk value, received {}.", python_type(value)),
            );
            return None;
        };
        match Uuid::parse_str(text) {
            Err(_) => self.reject(name, format!("“{text}” is not a valid UUID.")),
            Ok(pk) if exists(pk) => return Some(pk),
            Ok(_) => self.reject(name, format!("Invalid pk \"{text}\" - object does not exist.")),
        }
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn white_space_is_what_python_thinks_it_is() {
        assert_eq!(strip("\u{a0}\u{2003} a b \n\u{1c}\u{85}"), "a b");
        assert_eq!(strip("\u{200b}a"), "\u{200b}a", "a zero-width space is no white space");
    }
}
