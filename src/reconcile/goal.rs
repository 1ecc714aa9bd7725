//! What authentik is to hold: a valid spec with every reference followed.

use secrecy::SecretString;
use uuid::Uuid;

use crate::api::{AuthType, CredentialMarker, IntendedFields, Provider};
use crate::authentik::{StageChanges, StageRow};

use super::Failure;
use super::fingerprint::{self, Fingerprint, Fingerprints};

/// A value that a reference leads to, or why it does not.
pub type Resolved<T> = Result<T, Failure>;

/// What authentik is to hold.
#[derive(Clone, Debug)]
pub struct Goal {
    /// Name, unique over all kinds of stages.
    pub name: String,
    /// What users see; empty for none.
    pub friendly_name: String,
    /// The flow with which users enrol.
    pub configure_flow: Resolved<Option<Uuid>>,
    /// Sender of the message.
    pub from_number: String,
    /// Whether only hashes of numbers are kept.
    pub verify_only: bool,
    /// Who sends the message, and the credentials for it: changed together or not at all.
    pub credentials: Resolved<Credentials>,
    /// The webhook mapping.
    pub mapping: Resolved<Option<Uuid>>,
}

/// The fields that make sense only together.
#[derive(Clone, Debug)]
pub struct Credentials {
    /// Who sends the message.
    pub provider: Provider,
    /// Account SID or gateway URL.
    pub account_sid: SecretString,
    /// The same, if the spec gives it in clear text.
    pub account_in_clear: Option<String>,
    /// How authentik proves itself to a gateway.
    pub auth_type: AuthType,
    /// Auth Token, user name or bearer token.
    pub auth: SecretString,
    /// Password; empty for none.
    pub auth_password: SecretString,
    /// Where `auth` and `auth_password` come from, in this order.
    pub markers: Vec<CredentialMarker>,
}

/// Keyed hashes of account and credentials, of which newer servers never tell the latter.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Sent {
    account_sid: Fingerprint,
    auth: Fingerprint,
    auth_password: Fingerprint,
}

impl Credentials {
    /// Keyed hashes of the credentials, for remembering what was sent.
    #[must_use]
    pub fn fingerprint(&self, fingerprints: &Fingerprints) -> Sent {
        Sent {
            account_sid: fingerprints.of(&self.account_sid),
            auth: fingerprints.of(&self.auth),
            auth_password: fingerprints.of(&self.auth_password),
        }
    }
}

impl Goal {
    /// The first reference that does not resolve.
    #[must_use]
    pub fn unresolved(&self) -> Option<&Failure> {
        let Self {
            name: _,
            friendly_name: _,
            configure_flow,
            from_number: _,
            verify_only: _,
            credentials,
            mapping,
        } = self;
        credentials
            .as_ref()
            .err()
            .or_else(|| configure_flow.as_ref().err())
            .or_else(|| mapping.as_ref().err())
    }

    /// Every field, for a create under `name`.
    ///
    /// # Errors
    /// The first reference that does not resolve: nothing is created by halves.
    pub fn all_fields(&self, name: &str) -> Result<StageChanges, Failure> {
        let credentials = self.credentials.clone()?;
        Ok(StageChanges {
            name: Some(name.to_owned()),
            friendly_name: (!self.friendly_name.is_empty()).then(|| self.friendly_name.clone()),
            configure_flow: Some(self.configure_flow.clone()?),
            from_number: Some(self.from_number.clone()),
            verify_only: Some(self.verify_only),
            provider: Some(credentials.provider.as_str().to_owned()),
            account_sid: Some(credentials.account_sid),
            auth_type: Some(credentials.auth_type.as_str().to_owned()),
            auth: Some(credentials.auth),
            auth_password: Some(credentials.auth_password),
            mapping: Some(self.mapping.clone()?),
        })
    }

    /// What a record of the intent to create says: all that is readable and not from a Secret.
    ///
    /// # Errors
    /// The first reference that does not resolve.
    pub fn intended(&self) -> Result<IntendedFields, Failure> {
        let credentials = self.credentials.as_ref().map_err(Clone::clone)?;
        Ok(IntendedFields {
            friendly_name: self.friendly_name.clone(),
            configure_flow: self.configure_flow.clone()?.map(|pk| pk.to_string()),
            from_number: self.from_number.clone(),
            verify_only: self.verify_only,
            provider: credentials.provider,
            account_sid: credentials.account_in_clear.clone(),
            auth_type: credentials.auth_type,
            mapping: self.mapping.clone()?.map(|pk| pk.to_string()),
        })
    }
}

/// Whether a stage is what an intent says. An account from a Secret is not written down, and so not compared.
#[must_use]
pub fn is_intended(row: &StageRow, intended: &IntendedFields) -> bool {
    let IntendedFields {
        friendly_name,
        configure_flow,
        from_number,
        verify_only,
        provider,
        account_sid,
        auth_type,
        mapping,
    } = intended;
    let account_fits = account_sid
        .as_ref()
        .is_none_or(|clear| fingerprint::same(&row.account_sid, &SecretString::from(clear.as_str())));
    account_fits
        && row.friendly_name == *friendly_name
        && row.configure_flow.map(|pk| pk.to_string()) == *configure_flow
        && row.from_number == *from_number
        && row.verify_only == *verify_only
        && row.provider == provider.as_str()
        && row.auth_type == auth_type.as_str()
        && row.mapping.map(|pk| pk.to_string()) == *mapping
}
