//! Compares credentials without keeping them.
//!
//! Newer servers never tell a stored credential. What was last sent is remembered as a keyed hash: the key is made at
//! start and never leaves the process, so that a memory dump of hashes alone tells nothing. It is one of the two
//! places that look into a credential; the other writes it into a request.

use aws_lc_rs::hmac;
use secrecy::{ExposeSecret, SecretString};

pub use crate::authentik::same_credential as same;

/// A keyed hash of one credential.
#[derive(Clone, Copy)]
pub struct Fingerprint(hmac::Tag);

impl PartialEq for Fingerprint {
    fn eq(&self, other: &Self) -> bool {
        aws_lc_rs::constant_time::verify_slices_are_equal(self.0.as_ref(), other.0.as_ref()).is_ok()
    }
}

impl Eq for Fingerprint {}

/// Makes fingerprints under a key of this process.
pub struct Fingerprints(hmac::Key);

impl Fingerprints {
    /// A new random key.
    ///
    /// # Errors
    /// If the system has no randomness.
    pub fn new() -> Result<Self, aws_lc_rs::error::Unspecified> {
        Ok(Self(hmac::Key::generate(
            hmac::HMAC_SHA256,
            &aws_lc_rs::rand::SystemRandom::new(),
        )?))
    }

    /// The fingerprint of a credential.
    #[must_use]
    pub fn of(&self, credential: &SecretString) -> Fingerprint {
        Fingerprint(hmac::sign(&self.0, credential.expose_secret().as_bytes()))
    }
}

/// Whether a credential keeps a rule of the field that it is for. The rule's text names no part of it.
///
/// # Errors
/// What to write instead.
pub fn keeps(credential: &SecretString, rule: impl Fn(&str) -> Result<(), &'static str>) -> Result<(), &'static str> {
    rule(credential.expose_secret())
}

/// The value itself, if it is one that may be shown: an Account SID, or what the spec gives in clear text.
#[must_use]
pub fn shown(account: &SecretString, clear: Option<&str>) -> Option<String> {
    let value = account.expose_secret();
    (super::validate::account_sid(value).is_ok() || clear == Some(value)).then(|| value.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fingerprints_tell_equal_from_different_and_nothing_across_processes() {
        let here = Fingerprints::new().unwrap();
        let there = Fingerprints::new().unwrap();
        let one = SecretString::from("one");
        assert!(here.of(&one) == here.of(&SecretString::from("one")));
        assert!(here.of(&one) != here.of(&SecretString::from("two")));
        assert!(here.of(&one) != there.of(&one), "another process has another key");
    }

    #[test]
    fn a_gateway_url_is_shown_only_if_the_spec_shows_it() {
        let url = SecretString::from("https://h/key");
        assert_eq!(shown(&url, None), None);
        assert_eq!(shown(&url, Some("https://h/key")).as_deref(), Some("https://h/key"));
        let sid = SecretString::from("AC0123456789abcdef0123456789abcdef");
        assert!(shown(&sid, None).is_some(), "an Account SID is no credential");
    }
}
