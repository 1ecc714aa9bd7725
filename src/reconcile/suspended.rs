//! Hands off, and what there is to say of it without asking anybody. Pure.

use uuid::Uuid;

use crate::api::{AuthenticatorSMSStageStatus, CredentialMarker};

use super::ConnectionKey;
use super::status::Verdict;
use super::validate::{CredentialSources, FlowRef, MappingRef, Source, ValidStage};

/// Who asks for rest.
pub(super) enum Rest<'a> {
    /// The resource itself.
    Resource,
    /// Its connection.
    Connection(&'a ConnectionKey),
}

/// Where slug and name of a spec lead, if somebody could be asked.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct References {
    /// The flow.
    pub flow: Option<Uuid>,
    /// The webhook mapping.
    pub mapping: Option<Uuid>,
}

/// The verdict on a resource that is not to be touched: ready if its spec is what was last applied.
pub(super) fn verdict(
    stage: &ValidStage,
    status: &AuthenticatorSMSStageStatus,
    known: References,
    rest: &Rest<'_>,
) -> Verdict {
    let (why, whose) = match rest {
        Rest::Resource => ("spec.suspend is set".to_owned(), "its"),
        Rest::Connection(key) => (format!("AuthentikConnection {key} is suspended"), "the connection's"),
    };
    match difference(stage, status, known) {
        None => Verdict::suspended(
            true,
            format!("hands off, since {why}; the spec is what was last applied"),
        ),
        Some(what) => Verdict::suspended(
            false,
            format!("hands off, since {why}: {what} is not applied; set {whose} spec.suspend to false to go on"),
        ),
    }
}

/// The first field of the spec that is not what was last applied, as far as status tells.
fn difference(stage: &ValidStage, status: &AuthenticatorSMSStageStatus, known: References) -> Option<&'static str> {
    let ValidStage {
        name,
        friendly_name,
        configure_flow,
        from_number,
        verify_only,
        credentials,
        mapping,
        adoption: _,
        management: _,
        suspend: _,
    } = stage;
    let Some(applied) = status.stage.as_ref().filter(|_| status.origin.is_some()) else {
        return Some("the stage");
    };
    let CredentialSources {
        provider,
        account,
        auth_type,
        auth,
        auth_password,
    } = credentials;
    let flow = match configure_flow {
        None => applied.configure_flow.is_none(),
        Some(FlowRef::Slug(_)) => leads_to(known.flow, applied.configure_flow.as_ref()),
        Some(FlowRef::Uuid(pk)) => leads_to(Some(*pk), applied.configure_flow.as_ref()),
    };
    let mapped = match mapping {
        None => applied.mapping.is_none(),
        Some(MappingRef::Name(_)) => leads_to(known.mapping, applied.mapping.as_ref()),
        Some(MappingRef::Uuid(pk)) => leads_to(Some(*pk), applied.mapping.as_ref()),
    };
    let account_applied = match account {
        Source::Clear(value) => applied.account_sid.as_ref() == Some(value),
        Source::Secret(_) => true,
    };
    let password = auth_password.clone().map(Source::Secret);
    [
        (*name == applied.name, "spec.name"),
        (*friendly_name == applied.friendly_name, "spec.friendlyName"),
        (flow, "spec.configureFlow"),
        (*from_number == applied.from_number, "spec.fromNumber"),
        (*verify_only == applied.verify_only, "spec.verifyOnly"),
        (provider.as_str() == applied.provider, "spec.provider"),
        (auth_type.as_str() == applied.auth_type, "spec.generic.authType"),
        (account_applied, "the account"),
        (is_marked(&status.credentials, "auth", Some(auth)), "the credential"),
        (
            is_marked(&status.credentials, "auth_password", password.as_ref()),
            "the password",
        ),
        (mapped, "spec.mapping"),
    ]
    .into_iter()
    .find_map(|(applied, field)| (!applied).then_some(field))
}

/// Whether a reference leads to what was applied; one of which nobody can be asked is taken to.
fn leads_to(pk: Option<Uuid>, applied: Option<&String>) -> bool {
    pk.map_or(applied.is_some(), |pk| applied == Some(&pk.to_string()))
}

/// Whether a credential was last taken from this source.
fn is_marked(markers: &[CredentialMarker], field: &str, source: Option<&Source>) -> bool {
    markers
        .iter()
        .find(|marker| marker.field == field)
        .is_some_and(|marker| match source {
            None => marker.cleared == Some(true),
            Some(Source::Clear(value)) => marker.value.as_ref() == Some(value),
            Some(Source::Secret(reference)) => {
                marker.secret_name.as_ref() == Some(&reference.name) && marker.key.as_ref() == Some(&reference.key)
            }
        })
}
