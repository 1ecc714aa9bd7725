//! What a client is made of: URL, token, CA bundle, limits.

use std::time::Duration;

use k8s_openapi::api::core::v1::{ConfigMap, Secret};
use kube::{Api, ResourceExt};
use secrecy::SecretString;

use crate::api::{AuthentikConnection, CaBundle, Reason};
use crate::authentik::{Client, ClientConfig, Endpoint};
use crate::reconcile::secrets::Secrets;
use crate::reconcile::server::Ingredients;
use crate::reconcile::{ConnectionKey, Context, Failure, failure, kubernetes};

/// Everything that a client needs.
pub struct Gathered {
    /// What tells one client from another.
    pub made_of: Ingredients,
    endpoint: Endpoint,
    token: SecretString,
    ca_bundle: Option<Vec<u8>>,
    timeout: Duration,
    max_concurrent: usize,
}

/// Reads what the connection names.
///
/// # Errors
/// `InvalidSpec`, a token or a CA bundle that is not there or not usable.
pub async fn gather(context: &Context, connection: &AuthentikConnection) -> Result<Gathered, Failure> {
    let spec = &connection.spec;
    let namespace = connection.namespace().unwrap_or_default();
    let invalid = |field: &str, fix: &str| Failure::new(Reason::InvalidSpec, format!("spec.{field}: {fix}"));
    let endpoint = Endpoint::try_from(spec.url.trim()).map_err(|error| invalid("url", &error.to_string()))?;
    if !endpoint.is_https() && !spec.allow_insecure_http {
        return Err(invalid(
            "url",
            "write https://, or set allowInsecureHTTP to send the token in clear text",
        ));
    }
    let timeout = duration(&spec.timeout)
        .filter(|timeout| (Duration::from_secs(1)..=Duration::from_secs(15)).contains(timeout))
        .ok_or_else(|| invalid("timeout", "write a duration from 1s to 15s such as 10s"))?;
    if super::interval_of(spec).is_none() {
        return Err(invalid(
            "syncInterval",
            "write a duration from 10s to 24h such as 60s, or 0s for none",
        ));
    }
    let token = Secrets::new(context.kube.clone(), &namespace)
        .value(&spec.token_secret_ref)
        .await?;
    let ca = match &spec.ca_bundle {
        Some(bundle) => Some(ca_bundle(context, &namespace, bundle).await?),
        None => None,
    };
    let (ca_bundle, ca) = ca.map_or((None, None), |ca| (Some(ca.pem), Some(ca.version)));
    Ok(Gathered {
        made_of: Ingredients {
            generation: connection.metadata.generation.unwrap_or_default(),
            url: endpoint.to_string(),
            token: (token.uid, token.resource_version),
            ca,
        },
        endpoint,
        token: token.value,
        ca_bundle,
        timeout,
        max_concurrent: usize::try_from(spec.max_concurrent_requests).unwrap_or(1).max(1),
    })
}

impl Gathered {
    /// The client.
    ///
    /// # Errors
    /// A CA bundle without a certificate, or a token that cannot stand in a header.
    pub fn client(self, context: &Context, key: &ConnectionKey) -> Result<Client, Failure> {
        Client::new(ClientConfig {
            endpoint: self.endpoint,
            token: self.token,
            ca_bundle: self.ca_bundle,
            timeout: self.timeout,
            max_concurrent: self.max_concurrent,
            observer: std::sync::Arc::clone(&context.observer),
        })
        .map_err(|error| failure::of_call(&error, "talk to authentik", "", key))
    }
}

struct Ca {
    pem: Vec<u8>,
    version: (String, String),
}

async fn ca_bundle(context: &Context, namespace: &str, bundle: &CaBundle) -> Result<Ca, Failure> {
    let not_found = |what: String| {
        Failure::new(
            Reason::CABundleNotFound,
            format!("{what}: create it with the PEM certificates of the server's CA"),
        )
    };
    match (&bundle.config_map_key_ref, &bundle.secret_key_ref) {
        (Some(reference), None) => {
            let what = format!("ConfigMap {namespace}/{}", reference.name);
            let api: Api<ConfigMap> = Api::namespaced(context.kube.clone(), namespace);
            let map = kubernetes::answer(api.get_opt(&reference.name))
                .await
                .map_err(|error| kubernetes::failure(&error, &format!("read {what}"), "get on configmaps"))?
                .ok_or_else(|| not_found(format!("{what} does not exist")))?;
            let version = version_of(&map);
            let pem = map
                .data
                .and_then(|mut data| data.remove(&reference.key))
                .map(String::into_bytes)
                .or_else(|| {
                    map.binary_data
                        .and_then(|mut data| data.remove(&reference.key))
                        .map(|bytes| bytes.0)
                })
                .ok_or_else(|| not_found(format!("key {} of {what} does not exist", reference.key)))?;
            Ok(Ca { pem, version })
        }
        (None, Some(reference)) => {
            let what = format!("Secret {namespace}/{}", reference.name);
            let api: Api<Secret> = Api::namespaced(context.kube.clone(), namespace);
            let secret = kubernetes::answer(api.get_opt(&reference.name))
                .await
                .map_err(|error| kubernetes::failure(&error, &format!("read {what}"), "get on secrets"))?
                .ok_or_else(|| not_found(format!("{what} does not exist")))?;
            let version = version_of(&secret);
            let pem = secret
                .data
                .and_then(|mut data| data.remove(&reference.key))
                .map(|bytes| bytes.0)
                .ok_or_else(|| not_found(format!("key {} of {what} does not exist", reference.key)))?;
            Ok(Ca { pem, version })
        }
        (None, None) | (Some(_), Some(_)) => Err(Failure::new(
            Reason::InvalidSpec,
            "spec.caBundle: set exactly one of configMapKeyRef and secretKeyRef",
        )),
    }
}

fn version_of(object: &impl ResourceExt) -> (String, String) {
    (
        object.uid().unwrap_or_default(),
        object.resource_version().unwrap_or_default(),
    )
}

/// A duration such as `60s` or `1h30m`.
#[must_use]
pub fn duration(text: &str) -> Option<Duration> {
    let mut rest = text.trim();
    let mut total = Duration::ZERO;
    if rest.is_empty() {
        return None;
    }
    while !rest.is_empty() {
        let digits = rest.find(|c: char| !c.is_ascii_digit())?;
        let number: u64 = rest[..digits].parse().ok()?;
        rest = &rest[digits..];
        let unit_end = rest.find(|c: char| c.is_ascii_digit()).unwrap_or(rest.len());
        let millis = match &rest[..unit_end] {
            "ms" => 1,
            "s" => 1_000,
            "m" => 60_000,
            "h" => 3_600_000,
            _ => return None,
        };
        total += Duration::from_millis(number.checked_mul(millis)?);
        rest = &rest[unit_end..];
    }
    Some(total)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_read_as_they_are_written() {
        for (text, seconds) in [
            ("60s", Some(60.0)),
            ("1h30m", Some(5400.0)),
            ("1500ms", Some(1.5)),
            ("0s", Some(0.0)),
        ] {
            assert_eq!(duration(text).map(|d| d.as_secs_f64()), seconds, "{text}");
        }
        for text in ["", "60", "s", "1d", "-1s", "1 s"] {
            assert_eq!(duration(text), None, "{text}");
        }
    }
}
