//! CEL rules that more than one field needs.
//!
//! On a field that may hold a credential the reason is `FieldValueRequired` or `FieldValueForbidden`: for
//! `FieldValueInvalid`, API servers from 1.37 on print the rejected value with the message.

use kube::core::{Message, Reason, Rule};

/// An absolute http or https URL with a host, and with a port that exists if it names one.
#[must_use]
pub fn absolute_url(example: &str) -> Rule {
    let port = "url(self).getPort()";
    Rule::new(format!(
        "isURL(self) && url(self).getScheme() in ['http', 'https'] && url(self).getHostname() != '' \
         && ({port} == '' || (size({port}) <= 5 && int({port}) <= 65535))"
    ))
    .message(Message::Message(format!("write an absolute URL such as {example}")))
    .reason(Reason::FieldValueForbidden)
}

/// One of two members has to be set. The error stands at the first.
#[must_use]
pub fn one_of(first: &str, second: &str) -> Rule {
    Rule::new(format!("has(self.{first}) || has(self.{second})"))
        .message(Message::Message(format!("set exactly one of {first} and {second}")))
        .reason(Reason::FieldValueRequired)
        .field_path(format!(".{first}"))
}

/// Not both of two members. The error stands at the second.
#[must_use]
pub fn not_both(first: &str, second: &str) -> Rule {
    Rule::new(format!("!(has(self.{first}) && has(self.{second}))"))
        .message(Message::Message(format!(
            "set exactly one of {first} and {second}: remove one of them"
        )))
        .reason(Reason::FieldValueForbidden)
        .field_path(format!(".{second}"))
}

/// A member that a discriminator's value demands.
#[must_use]
pub fn needed(discriminator: &str, value: &str, member: &str) -> Rule {
    Rule::new(format!("self.{discriminator} != '{value}' || has(self.{member})"))
        .message(Message::Message(format!(
            "set {member}: {discriminator} {value} needs it"
        )))
        .reason(Reason::FieldValueRequired)
        .field_path(format!(".{member}"))
}

/// A member that only one value of a discriminator allows.
#[must_use]
pub fn only_with(discriminator: &str, value: &str, member: &str) -> Rule {
    Rule::new(format!("!has(self.{member}) || self.{discriminator} == '{value}'"))
        .message(Message::Message(format!(
            "remove {member}, or set {discriminator} to {value}: it is used with no other"
        )))
        .reason(Reason::FieldValueForbidden)
        .field_path(format!(".{member}"))
}
