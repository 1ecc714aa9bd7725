//! Step 1: the raw spec becomes a [`ValidStage`], once. Pure; it sees no Secret.
//!
//! The API server has refused most of what is refused here: the same rules stand in the schema. They are repeated
//! because a resource may be older than a rule, and because a schema can be edited in a cluster.

use url::Url;
use uuid::Uuid;

use crate::api::{
    AdoptionPolicy, AuthType, AuthenticatorSMSStageSpec, DeletionPolicy, Generic, ManagementPolicy, Provider, Reason,
    SecretKeyRef, Twilio,
};

use super::Failure;

/// A spec that has been checked, with every default filled in.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ValidStage {
    /// Name in authentik.
    pub name: String,
    /// What users see; empty for none.
    pub friendly_name: String,
    /// The flow with which users enrol.
    pub configure_flow: Option<FlowRef>,
    /// Sender of the message.
    pub from_number: String,
    /// Whether only hashes of numbers are kept.
    pub verify_only: bool,
    /// Provider, account and where the credentials come from.
    pub credentials: CredentialSources,
    /// The webhook mapping.
    pub mapping: Option<MappingRef>,
    /// What to do with a stage of that name that is not ours.
    pub adoption: AdoptionPolicy,
    /// Whether to write at all.
    pub management: ManagementPolicy,
    /// Hands off.
    pub suspend: bool,
}

/// A flow by one of its two identities.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum FlowRef {
    /// By slug.
    Slug(String),
    /// By primary key.
    Uuid(Uuid),
}

/// A webhook mapping by one of its two identities.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum MappingRef {
    /// By name.
    Name(String),
    /// By primary key.
    Uuid(Uuid),
}

/// Where the fields of the credential group come from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CredentialSources {
    /// Who sends the message.
    pub provider: Provider,
    /// Account SID or gateway URL.
    pub account: Source,
    /// How authentik proves itself to a gateway; `basic` for Twilio, which has no use for it.
    pub auth_type: AuthType,
    /// Auth Token, user name or bearer token.
    pub auth: Source,
    /// Password for `basic`; none is the empty password.
    pub auth_password: Option<SecretKeyRef>,
}

/// A value in clear text, or in a Secret.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Source {
    /// From the spec.
    Clear(String),
    /// From a Secret.
    Secret(SecretKeyRef),
}

/// Checks a spec; `resource_name` is the default for the stage's name.
///
/// # Errors
/// `InvalidSpec` with the field and what to write instead.
pub fn validate(spec: &AuthenticatorSMSStageSpec, resource_name: &str) -> Result<ValidStage, Failure> {
    // Listed without `..`: a field that is added to the spec has to be dealt with here.
    let AuthenticatorSMSStageSpec {
        connection_ref: _,
        name,
        friendly_name,
        configure_flow,
        from_number,
        verify_only,
        provider,
        twilio,
        generic,
        mapping,
        adoption_policy,
        deletion_policy: _,
        management_policy,
        suspend,
    } = spec;

    let configure_flow = configure_flow
        .as_ref()
        .map(
            |flow| match (trimmed(flow.slug.as_ref()), trimmed(flow.uuid.as_ref())) {
                (Some(slug), None) => {
                    clean("configureFlow.slug", &slug)?;
                    if slug.chars().all(|c| c.is_ascii_alphanumeric() || c == '-' || c == '_') {
                        Ok(FlowRef::Slug(slug))
                    } else {
                        Err(invalid(
                            "configureFlow.slug",
                            "a slug has only letters, digits, - and _",
                        ))
                    }
                }
                (None, Some(uuid)) => Ok(FlowRef::Uuid(parse_uuid("configureFlow.uuid", &uuid)?)),
                (None, None) | (Some(_), Some(_)) => Err(invalid("configureFlow", "set exactly one of slug and uuid")),
            },
        )
        .transpose()?;
    let mapping = mapping
        .as_ref()
        .map(
            |mapping| match (trimmed(mapping.name.as_ref()), trimmed(mapping.uuid.as_ref())) {
                (Some(name), None) => Ok(MappingRef::Name(name)),
                (None, Some(uuid)) => Ok(MappingRef::Uuid(parse_uuid("mapping.uuid", &uuid)?)),
                (None, None) | (Some(_), Some(_)) => Err(invalid("mapping", "set exactly one of name and uuid")),
            },
        )
        .transpose()?;
    let credentials = match (provider, twilio, generic) {
        (Provider::Twilio, Some(twilio), None) => twilio_sources(twilio)?,
        (Provider::Generic, None, Some(generic)) => generic_sources(generic)?,
        (Provider::Twilio, _, _) => {
            return Err(invalid("provider", "set twilio, and not generic, for provider twilio"));
        }
        (Provider::Generic, _, _) => {
            return Err(invalid("provider", "set generic, and not twilio, for provider generic"));
        }
    };

    Ok(ValidStage {
        name: text("name", name.as_deref().unwrap_or(resource_name))?,
        friendly_name: clean("friendlyName", friendly_name.as_deref().unwrap_or_default().trim())?.to_owned(),
        configure_flow,
        from_number: text("fromNumber", from_number)?,
        verify_only: *verify_only,
        credentials,
        mapping,
        adoption: *adoption_policy,
        management: *management_policy,
        suspend: *suspend,
    })
}

/// What deleting the resource does to its stage, without a look at the rest of the spec: a wrong spec must not keep a
/// resource from being deleted.
#[must_use]
pub fn deletion_policy(spec: &AuthenticatorSMSStageSpec, adopted: bool) -> DeletionPolicy {
    if spec.suspend || spec.management_policy == ManagementPolicy::Observe {
        return DeletionPolicy::Orphan;
    }
    spec.deletion_policy.unwrap_or(if adopted {
        DeletionPolicy::Orphan
    } else {
        DeletionPolicy::Delete
    })
}

fn twilio_sources(twilio: &Twilio) -> Result<CredentialSources, Failure> {
    let account = source(
        "twilio.accountSid",
        twilio.account_sid.as_ref(),
        twilio.account_sid_secret_ref.as_ref(),
    )?;
    if let Source::Clear(sid) = &account {
        account_sid(sid).map_err(|fix| invalid("twilio.accountSid", fix))?;
    }
    Ok(CredentialSources {
        provider: Provider::Twilio,
        account,
        auth_type: AuthType::Basic,
        auth: Source::Secret(twilio.auth_token_secret_ref.clone()),
        auth_password: None,
    })
}

fn generic_sources(generic: &Generic) -> Result<CredentialSources, Failure> {
    let account = source("generic.url", generic.url.as_ref(), generic.url_secret_ref.as_ref())?;
    if let Source::Clear(url) = &account {
        gateway_url(url).map_err(|fix| invalid("generic.url", fix))?;
    }
    let (auth, auth_password) = match generic.auth_type {
        AuthType::Basic => {
            if generic.token_secret_ref.is_some() {
                return Err(invalid(
                    "generic.tokenSecretRef",
                    "remove it, or set authType to bearer",
                ));
            }
            let auth = source(
                "generic.username",
                generic.username.as_ref(),
                generic.username_secret_ref.as_ref(),
            )?;
            if let Source::Clear(name) = &auth {
                user_name(name).map_err(|fix| invalid("generic.username", fix))?;
            }
            (auth, generic.password_secret_ref.clone())
        }
        AuthType::Bearer => {
            if generic.username.is_some()
                || generic.username_secret_ref.is_some()
                || generic.password_secret_ref.is_some()
            {
                return Err(invalid(
                    "generic.authType",
                    "remove username, usernameSecretRef and passwordSecretRef, or set authType to basic",
                ));
            }
            let token = generic
                .token_secret_ref
                .clone()
                .ok_or_else(|| invalid("generic.tokenSecretRef", "set it: authType bearer needs it"))?;
            (Source::Secret(token), None)
        }
    };
    Ok(CredentialSources {
        provider: Provider::Generic,
        account,
        auth_type: generic.auth_type,
        auth,
        auth_password,
    })
}

fn source(field: &str, clear: Option<&String>, secret: Option<&SecretKeyRef>) -> Result<Source, Failure> {
    match (clear, secret) {
        (Some(value), None) => Ok(Source::Clear(text(field, value)?)),
        (None, Some(reference)) => Ok(Source::Secret(reference.clone())),
        (None, None) => Err(invalid(field, "set it, or its SecretRef")),
        (Some(_), Some(_)) => Err(invalid(field, "set it or its SecretRef, not both")),
    }
}

fn trimmed(value: Option<&String>) -> Option<String> {
    value
        .map(|value| value.trim().to_owned())
        .filter(|value| !value.is_empty())
}

fn text(field: &str, value: &str) -> Result<String, Failure> {
    let value = clean(field, value.trim())?;
    if value.is_empty() {
        return Err(invalid(field, "write a value: it is empty"));
    }
    Ok(value.to_owned())
}

fn clean<'a>(field: &str, value: &'a str) -> Result<&'a str, Failure> {
    if value.chars().any(char::is_control) {
        return Err(invalid(field, "remove the control characters"));
    }
    Ok(value)
}

fn parse_uuid(field: &str, value: &str) -> Result<Uuid, Failure> {
    Uuid::try_parse(value).map_err(|_| invalid(field, "write the primary key as a UUID, as authentik shows it"))
}

/// Twilio's Account SID is user and account in one; nothing else works there.
///
/// # Errors
/// What to write instead.
pub(super) fn account_sid(sid: &str) -> Result<(), &'static str> {
    let digits = sid.strip_prefix("AC").unwrap_or_default();
    if digits.len() == 32 && digits.bytes().all(|b| b.is_ascii_hexdigit()) {
        Ok(())
    } else {
        Err("an Account SID is AC and 32 hexadecimal digits (an API key SK... cannot be used)")
    }
}

/// authentik hands the URL to an HTTP library unchecked; what that library cannot use fails at every login.
///
/// # Errors
/// What to write instead.
pub(super) fn gateway_url(url: &str) -> Result<(), &'static str> {
    let parsed = Url::parse(url).map_err(|_| "write an absolute URL such as https://sms.example.com/send")?;
    if !matches!(parsed.scheme(), "http" | "https") || parsed.host_str().is_none_or(str::is_empty) {
        return Err("write an absolute http or https URL with a host");
    }
    if !parsed.username().is_empty() || parsed.password().is_some() || parsed.fragment().is_some() {
        return Err("remove user, password and fragment from the URL");
    }
    Ok(())
}

/// A user name for HTTP basic authentication.
///
/// # Errors
/// What to write instead.
pub(super) fn user_name(name: &str) -> Result<(), &'static str> {
    if name.contains(':') {
        return Err("remove the colon: HTTP basic authentication has no user name with one");
    }
    latin_1(name)
}

/// What goes into an HTTP header has to be Latin-1 without control characters.
///
/// # Errors
/// What to write instead.
pub(super) fn latin_1(value: &str) -> Result<(), &'static str> {
    if value.chars().all(|c| !c.is_control() && u32::from(c) <= 0xff) {
        Ok(())
    } else {
        Err("use Latin-1 characters only, and no line breaks: the value goes into an HTTP header")
    }
}

/// A bearer token has to be printable ASCII.
///
/// # Errors
/// What to write instead.
pub(super) fn header_safe(value: &str) -> Result<(), &'static str> {
    if value.bytes().all(|b| b.is_ascii_graphic()) {
        Ok(())
    } else {
        Err("use printable ASCII characters only: the value goes into an HTTP header")
    }
}

fn invalid(field: &str, fix: &str) -> Failure {
    Failure::new(Reason::InvalidSpec, format!("spec.{field}: {fix}"))
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn twilio() -> Value {
        json!({
            "fromNumber": "+15550100", "provider": "twilio",
            "twilio": {"accountSid": "AC0123456789abcdef0123456789abcdef",
                       "authTokenSecretRef": {"name": "twilio", "key": "token"}},
        })
    }

    fn generic() -> Value {
        json!({
            "fromNumber": "+15550100", "provider": "generic",
            "generic": {"url": "https://sms.example.com/send", "username": "sms",
                        "passwordSecretRef": {"name": "gateway", "key": "password"}},
        })
    }

    fn with(mut spec: Value, pointer: &str, value: Value) -> AuthenticatorSMSStageSpec {
        let (parent, key) = pointer.rsplit_once('/').unwrap();
        spec.pointer_mut(parent).unwrap()[key] = value;
        serde_json::from_value(spec).unwrap()
    }

    #[test]
    fn an_absent_field_has_its_default() {
        let stage = validate(&serde_json::from_value(twilio()).unwrap(), "sms").unwrap();
        assert_eq!(stage.name, "sms", "the name defaults to the resource's");
        assert_eq!(stage.friendly_name, "");
        assert_eq!(
            stage.credentials.auth_type,
            AuthType::Basic,
            "Twilio holds auth_type at basic"
        );
        assert_eq!(stage.adoption, AdoptionPolicy::IfMatch);
    }

    #[test]
    fn values_are_trimmed_as_authentik_trims_them() {
        let stage = validate(&with(twilio(), "/name", json!("\u{2003}sms one\u{a0}")), "x").unwrap();
        assert_eq!(
            stage.name, "sms one",
            "Unicode white space goes, inner white space stays"
        );
    }

    #[test]
    fn what_the_schema_refuses_is_refused_here_too() {
        let bearer = json!({"url": "https://h/", "authType": "bearer", "username": "x",
                            "tokenSecretRef": {"name": "a", "key": "b"}});
        let cases = [
            (with(twilio(), "/fromNumber", json!("  ")), "spec.fromNumber", "blank"),
            (
                with(twilio(), "/fromNumber", json!("a\u{0}b")),
                "spec.fromNumber",
                "NUL",
            ),
            (
                with(twilio(), "/configureFlow", json!({})),
                "spec.configureFlow",
                "no identity",
            ),
            (
                with(twilio(), "/configureFlow", json!({"slug": "a b"})),
                "spec.configureFlow.slug",
                "blank in slug",
            ),
            (
                with(twilio(), "/configureFlow", json!({"uuid": "zz"})),
                "spec.configureFlow.uuid",
                "no uuid",
            ),
            (
                with(twilio(), "/mapping", json!({"name": "a", "uuid": "b"})),
                "spec.mapping",
                "both identities",
            ),
            (
                with(twilio(), "/provider", json!("generic")),
                "spec.provider",
                "member of the other provider",
            ),
            (
                with(twilio(), "/twilio/accountSid", json!("SK00")),
                "spec.twilio.accountSid",
                "an API key",
            ),
            (
                with(generic(), "/generic/url", json!("sms.example.com")),
                "spec.generic.url",
                "not absolute",
            ),
            (
                with(generic(), "/generic/url", json!("ftp://h/")),
                "spec.generic.url",
                "scheme",
            ),
            (
                with(generic(), "/generic/url", json!("https://u:p@h/")),
                "spec.generic.url",
                "userinfo",
            ),
            (
                with(generic(), "/generic/url", json!("https://h/#f")),
                "spec.generic.url",
                "fragment",
            ),
            (
                with(generic(), "/generic/username", json!("a:b")),
                "spec.generic.username",
                "colon",
            ),
            (
                with(generic(), "/generic/tokenSecretRef", json!({"name": "a", "key": "b"})),
                "spec.generic.tokenSecretRef",
                "token with basic",
            ),
            (
                with(generic(), "/generic", bearer),
                "spec.generic.authType",
                "user name with bearer",
            ),
        ];
        for (spec, field, why) in cases {
            let failure = validate(&spec, "sms").unwrap_err();
            assert_eq!(failure.reason, Reason::InvalidSpec, "{why}");
            assert!(
                failure.message.starts_with(&format!("{field}: ")),
                "{why}: {}",
                failure.message
            );
        }
    }

    #[test]
    fn an_unset_deletion_policy_keeps_what_was_adopted() {
        let spec = serde_json::from_value(twilio()).unwrap();
        assert_eq!(deletion_policy(&spec, false), DeletionPolicy::Delete);
        assert_eq!(deletion_policy(&spec, true), DeletionPolicy::Orphan);
        for (pointer, value) in [("/suspend", json!(true)), ("/managementPolicy", json!("Observe"))] {
            let mut spec = with(twilio(), pointer, value);
            spec.deletion_policy = Some(DeletionPolicy::ForceDelete);
            assert_eq!(
                deletion_policy(&spec, false),
                DeletionPolicy::Orphan,
                "{pointer} leaves the stage alone"
            );
        }
    }
}
