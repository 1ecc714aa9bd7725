//! The only exit of a secret in this client: into a header, into a request's body, into a comparison, out of a text.
//!
//! What is made here for a request lives in buffers that are overwritten when they are freed. What the TLS and HTTP
//! libraries copy is beyond reach.

use bytes::Bytes;
use reqwest::header::HeaderValue;
use secrecy::{ExposeSecret, SecretString};
use zeroize::Zeroizing;

const SCHEME: &[u8] = b"Bearer ";

/// What stands in a text instead of a credential.
const REDACTED: &str = "(sensitive)";

/// The `Authorization` header of a token, marked so that HTTP libraries neither print nor compress it.
///
/// `None` if the token cannot stand in a header.
pub(super) fn bearer(token: &SecretString) -> Option<HeaderValue> {
    let token = token.expose_secret();
    // A space would make two words of it.
    if token.is_empty() || !token.bytes().all(|byte| byte.is_ascii_graphic()) {
        return None;
    }
    let mut header = Zeroizing::new(Vec::with_capacity(SCHEME.len() + token.len()));
    header.extend_from_slice(SCHEME);
    header.extend_from_slice(token.as_bytes());
    let mut header = HeaderValue::from_maybe_shared(Bytes::from_owner(header)).ok()?;
    header.set_sensitive(true);
    Some(header)
}

/// Whether two credentials are equal, in a time that does not depend on where they differ.
#[must_use]
pub fn same(one: &SecretString, other: &SecretString) -> bool {
    let (one, other) = (one.expose_secret().as_bytes(), other.expose_secret().as_bytes());
    aws_lc_rs::constant_time::verify_slices_are_equal(one, other).is_ok()
}

/// Length in bytes.
pub(super) fn len(credential: &SecretString) -> usize {
    credential.expose_secret().len()
}

/// A buffer for a request's body. It has its final size from the start: one that grows leaves copies behind.
pub(super) struct SecretJson(Zeroizing<Vec<u8>>);

impl SecretJson {
    /// An object of at most so many members, whose texts have so many bytes in all.
    pub fn object(members: usize, text_bytes: usize) -> Self {
        // The longest escape is `\u0000`, six bytes for one; keys and punctuation have 40 bytes at most.
        let mut json = Vec::with_capacity(2 + members * 40 + text_bytes * 6);
        json.push(b'{');
        Self(Zeroizing::new(json))
    }

    /// Adds a member of any type that is no credential.
    pub fn member(&mut self, key: &'static str, value: &impl serde::Serialize) {
        if self.0.len() > 1 {
            self.0.push(b',');
        }
        self.0.push(b'"');
        self.0.extend_from_slice(key.as_bytes());
        self.0.extend_from_slice(b"\":");
        // Texts, booleans and nulls into memory cannot fail; `null` keeps the JSON whole if that ever changes.
        if serde_json::to_writer(&mut *self.0, value).is_err() {
            self.0.extend_from_slice(b"null");
        }
    }

    /// Adds a credential.
    pub fn credential(&mut self, key: &'static str, value: &SecretString) {
        self.member(key, &value.expose_secret());
    }

    /// The finished object.
    pub fn into_bytes(mut self) -> Bytes {
        self.0.push(b'}');
        Bytes::from_owner(self.0)
    }
}

/// Takes credentials out of the texts of a server, which may echo what it was sent.
pub(super) struct Redactor<'a>(Vec<&'a SecretString>);

impl<'a> Redactor<'a> {
    /// For these credentials.
    pub fn new(credentials: impl IntoIterator<Item = &'a SecretString>) -> Self {
        let mut credentials: Vec<_> = credentials
            .into_iter()
            .filter(|credential| !credential.expose_secret().is_empty())
            .collect();
        // The longest first: one may be a part of another.
        credentials.sort_by_key(|credential| std::cmp::Reverse(len(credential)));
        Self(credentials)
    }

    /// The text without them.
    pub fn clean(&self, text: &str) -> String {
        self.0.iter().fold(text.to_owned(), |text, credential| {
            text.replace(credential.expose_secret(), REDACTED)
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_that_cannot_stand_in_a_header_is_refused() {
        for token in ["", "two words", "line\nbreak", "ключ", "\u{7f}"] {
            assert!(bearer(&token.into()).is_none(), "{token:?}");
        }
    }

    #[test]
    fn the_header_never_shows_its_value() {
        let header = bearer(&"tok3n".into()).unwrap();
        assert_eq!(header.as_bytes(), b"Bearer tok3n");
        assert_eq!(format!("{header:?}"), "Sensitive");
    }

    #[test]
    fn a_part_of_another_credential_does_not_uncover_the_rest() {
        let (short, long) = (SecretString::from("abc"), SecretString::from("abcdef"));
        assert_eq!(
            Redactor::new([&short, &long]).clean("got abcdef and abc"),
            "got (sensitive) and (sensitive)"
        );
    }

    #[test]
    fn an_empty_credential_redacts_nothing() {
        assert_eq!(Redactor::new([&SecretString::from("")]).clean("text"), "text");
    }

    #[test]
    fn the_buffer_never_grows() {
        let worst = SecretString::from("\u{1}".repeat(1000));
        let mut json = SecretJson::object(2, 1000);
        let before = json.0.capacity();
        json.credential("auth", &worst);
        json.member("mapping", &uuid::Uuid::nil());
        assert_eq!(json.0.capacity(), before);
    }
}
