//! Step 2: follows every reference of a valid spec: connection, Secrets, flow, mapping.

use super::permission;
use std::sync::Arc;
use std::time::Instant;

use k8s_openapi::api::core::v1::Namespace;
use kube::Api;
use kube::core::PartialObjectMeta;
use secrecy::SecretString;
use uuid::Uuid;

use crate::api::{
    AuthType, AuthenticatorSMSStageSpec, CredentialMarker, PinnedConnection, Provider, Reason, SecretKeyRef,
};
use crate::authentik::Error;

use super::access::{self, NamespaceLabels};
use super::goal::{Credentials, Goal, Resolved};
use super::secrets::{SecretValue, Secrets};
use super::server::{self, Server, State};
use super::validate::{self, CredentialSources, FlowRef, MappingRef, Source, ValidStage};
use super::{ConnectionKey, Context, Failure, Halt, fingerprint, kubernetes};

/// Which connection a resource goes through. The operator's default matters only until the first one is pinned.
///
/// # Errors
/// `ConnectionNotFound` if neither the resource nor the operator names one.
pub fn connection_key(
    spec: &AuthenticatorSMSStageSpec,
    namespace: &str,
    pinned: Option<&PinnedConnection>,
    default: Option<&ConnectionKey>,
) -> Result<ConnectionKey, Failure> {
    match (&spec.connection_ref, pinned, default) {
        (Some(reference), _, _) => Ok(ConnectionKey {
            namespace: reference.namespace.clone().unwrap_or_else(|| namespace.to_owned()),
            name: reference.name.clone(),
        }),
        (None, Some(pinned), _) => Ok(ConnectionKey {
            namespace: pinned.namespace.clone(),
            name: pinned.name.clone(),
        }),
        (None, None, Some(default)) => Ok(default.clone()),
        (None, None, None) => Err(Failure::new(
            Reason::ConnectionNotFound,
            "the resource names no connection and the operator has no default one: create the resource anew with \
             spec.connectionRef, or start the operator with --default-connection",
        )),
    }
}

/// The live server of a connection that this resource may use.
///
/// # Errors
/// A connection that does not exist, is not ready, rests, or does not allow it; [`Halt::Later`] before its first check.
pub async fn server(
    context: &Context,
    key: &ConnectionKey,
    namespace: &str,
    spec: &AuthenticatorSMSStageSpec,
) -> Result<Arc<Server>, Halt> {
    let (Some(state), Some(connection)) = (context.servers.state(key), context.servers.resource(key)) else {
        return Err(context.servers.missing(key).into());
    };
    if matches!(&state, State::NotReady(failure) if failure.reason == Reason::ConnectionNotFound) {
        return Err(server::not_found(key).into());
    }
    let allowed = &connection.spec.allowed_namespaces;
    let labels = if namespace == key.namespace || allowed.selector.is_none() {
        None
    } else {
        namespace_labels(context, namespace).await?
    };
    access::check(allowed, key, namespace, &labels, spec)?;
    match state {
        State::Ready(server) => Ok(server),
        State::Unchecked => Err(Halt::Later),
        State::Suspended => Err(Halt::ConnectionSuspended),
        State::NotReady(failure) => Err(not_ready(key, &failure).into()),
    }
}

/// That a connection cannot be used now. An outage is told as what it is: it passes by itself.
#[must_use]
pub fn not_ready(key: &ConnectionKey, failure: &Failure) -> Failure {
    if super::failure::is_outage(failure.reason) || failure.reason == Reason::ServerReadOnly {
        return failure.clone();
    }
    Failure::new(
        Reason::ConnectionNotReady,
        format!(
            "AuthentikConnection {key} is not ready ({}): {}",
            failure.reason.as_str(),
            failure.message
        ),
    )
    .not_before(failure.retry_after)
}

async fn namespace_labels(context: &Context, namespace: &str) -> Result<NamespaceLabels, Failure> {
    if let Some(labels) = context.namespaces.labels(namespace) {
        return Ok(Some(labels));
    }
    let api: Api<PartialObjectMeta<Namespace>> = Api::all(context.kube.clone());
    let namespaced = kubernetes::answer(api.get_opt(namespace))
        .await
        .map_err(|error| kubernetes::failure(&error, &format!("read Namespace {namespace}"), "get on namespaces"))?;
    Ok(namespaced.map(|namespace| namespace.metadata.labels.unwrap_or_default()))
}

/// What authentik is to hold.
pub async fn goal(context: &Context, server: &Server, namespace: &str, stage: &ValidStage, now: Instant) -> Goal {
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
    let mut secrets = Secrets::new(context.kube.clone(), namespace);
    Goal {
        name: name.clone(),
        friendly_name: friendly_name.clone(),
        configure_flow: match configure_flow {
            Some(by) => flow(server, by, now).await.map(Some),
            None => Ok(None),
        },
        from_number: from_number.clone(),
        verify_only: *verify_only,
        credentials: resolve_credentials(&mut secrets, credentials).await,
        mapping: match mapping {
            Some(by) => self::mapping(server, by, now).await.map(Some),
            None => Ok(None),
        },
    }
}

/// The primary key of a flow.
///
/// # Errors
/// `FlowNotFound`, or a server that cannot be asked.
pub async fn flow(server: &Server, by: &FlowRef, now: Instant) -> Resolved<Uuid> {
    let (what, field) = match by {
        FlowRef::Slug(slug) => (format!("flow with slug {slug:?}"), "spec.configureFlow.slug"),
        FlowRef::Uuid(pk) => (format!("flow {pk}"), "spec.configureFlow.uuid"),
    };
    if let (FlowRef::Slug(slug), Some(max)) = (by, server.features().flow_slug_max)
        && slug.len() > max
    {
        let version = server.version().map(|version| version.to_string()).unwrap_or_default();
        return Err(Failure::new(
                Reason::InvalidSpec,
                format!("{field}: authentik {version} knows slugs of at most {max} characters: write a shorter one, or upgrade to 2025.12"),
            )
            .mended_elsewhere());
    }
    match (server.lookups.flow(&server.client, by, now).await, by) {
        (Ok(Some(flow)), _) => {
            server.permitted(permission::VIEW_FLOW);
            Ok(flow.pk)
        }
        (Ok(None), _) => Err(Failure::new(
            Reason::FlowNotFound,
            format!(
                "authentik at {} has no {what}: create the flow, or correct {field}",
                server.url()
            ),
        )),
        // authentik itself checks a key that nobody here may look up.
        (Err(Error::Forbidden { .. }), FlowRef::Uuid(pk)) => Ok(*pk),
        (Err(error), _) => Err(server.failure(&error, &format!("find the {what}"), permission::VIEW_FLOW, now)),
    }
}

/// The primary key of a webhook mapping.
///
/// # Errors
/// `MappingNotFound`, or a server that cannot be asked.
pub async fn mapping(server: &Server, by: &MappingRef, now: Instant) -> Resolved<Uuid> {
    let (what, field) = match by {
        MappingRef::Name(name) => (format!("webhook mapping named {name:?}"), "spec.mapping.name"),
        MappingRef::Uuid(pk) => (format!("webhook mapping {pk}"), "spec.mapping.uuid"),
    };
    match (server.lookups.mapping(&server.client, by, now).await, by) {
        (Ok(Some(mapping)), _) => {
            server.permitted(permission::VIEW_MAPPING);
            Ok(mapping.pk)
        }
        (Ok(None), _) => Err(Failure::new(
            Reason::MappingNotFound,
            format!(
                "authentik at {} has no {what}: create it, or correct {field}",
                server.url()
            ),
        )),
        (Err(Error::Forbidden { .. }), MappingRef::Uuid(pk)) => Ok(*pk),
        (Err(error), _) => Err(server.failure(&error, &format!("find the {what}"), permission::VIEW_MAPPING, now)),
    }
}

async fn resolve_credentials(secrets: &mut Secrets, sources: &CredentialSources) -> Resolved<Credentials> {
    let CredentialSources {
        provider,
        account,
        auth_type,
        auth,
        auth_password,
    } = sources;
    let account_rule = match provider {
        Provider::Twilio => validate::account_sid,
        Provider::Generic => validate::gateway_url,
    };
    let auth_rule = match (provider, auth_type) {
        (Provider::Twilio, _) => validate::latin_1,
        (Provider::Generic, AuthType::Basic) => validate::user_name,
        (Provider::Generic, AuthType::Bearer) => validate::header_safe,
    };
    let (account_sid, account_in_clear) = match account {
        Source::Clear(value) => (SecretString::from(value.as_str()), Some(value.clone())),
        Source::Secret(reference) => (checked(secrets, reference, account_rule).await?.value, None),
    };
    let (auth, auth_marker) = match auth {
        Source::Clear(value) => (SecretString::from(value.as_str()), clear_marker("auth", value)),
        Source::Secret(reference) => {
            let secret = checked(secrets, reference, auth_rule).await?;
            let marker = secret_marker("auth", reference, &secret);
            (secret.value, marker)
        }
    };
    let (auth_password, password_marker) = match auth_password {
        Some(reference) => {
            let secret = checked(secrets, reference, validate::latin_1).await?;
            let marker = secret_marker("auth_password", reference, &secret);
            (secret.value, marker)
        }
        None => (SecretString::from(""), cleared_marker("auth_password")),
    };
    Ok(Credentials {
        provider: *provider,
        account_sid,
        account_in_clear,
        auth_type: *auth_type,
        auth,
        auth_password,
        markers: vec![auth_marker, password_marker],
    })
}

async fn checked(
    secrets: &mut Secrets,
    reference: &SecretKeyRef,
    rule: fn(&str) -> Result<(), &'static str>,
) -> Result<SecretValue, Failure> {
    let secret = secrets.value(reference).await?;
    fingerprint::keeps(&secret.value, rule).map_err(|fix| {
        Failure::new(
            Reason::SecretInvalid,
            format!(
                "key {} of Secret {}/{}: {fix}",
                reference.key,
                secrets.namespace(),
                reference.name
            ),
        )
    })?;
    Ok(secret)
}

fn secret_marker(field: &str, reference: &SecretKeyRef, secret: &SecretValue) -> CredentialMarker {
    CredentialMarker {
        field: field.to_owned(),
        secret_name: Some(reference.name.clone()),
        secret_uid: Some(secret.uid.clone()),
        resource_version: Some(secret.resource_version.clone()),
        key: Some(reference.key.clone()),
        value: None,
        cleared: None,
    }
}

fn clear_marker(field: &str, value: &str) -> CredentialMarker {
    CredentialMarker {
        value: Some(value.to_owned()),
        ..empty_marker(field)
    }
}

fn cleared_marker(field: &str) -> CredentialMarker {
    CredentialMarker {
        cleared: Some(true),
        ..empty_marker(field)
    }
}

fn empty_marker(field: &str) -> CredentialMarker {
    CredentialMarker {
        field: field.to_owned(),
        secret_name: None,
        secret_uid: None,
        resource_version: None,
        key: None,
        value: None,
        cleared: None,
    }
}
