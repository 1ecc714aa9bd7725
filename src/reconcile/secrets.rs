//! Reads credentials: the values of Secrets by name, each Secret at most once a pass.

use std::collections::HashMap;

use k8s_openapi::api::core::v1::Secret;
use kube::{Api, Client};
use secrecy::SecretString;

use crate::api::{Reason, SecretKeyRef};

use super::{Failure, kubernetes};

/// A credential with where it came from.
#[derive(Clone)]
pub struct SecretValue {
    /// The value, trimmed as authentik trims it.
    pub value: SecretString,
    /// UID of the Secret.
    pub uid: String,
    /// Version of the Secret.
    pub resource_version: String,
}

/// The Secrets of one namespace during one pass.
pub struct Secrets {
    api: Api<Secret>,
    namespace: String,
    read: HashMap<String, Result<Option<Secret>, Failure>>,
}

impl Secrets {
    /// Secrets of `namespace`, read when they are asked for.
    #[must_use]
    pub fn new(client: Client, namespace: &str) -> Self {
        Self {
            api: Api::namespaced(client, namespace),
            namespace: namespace.to_owned(),
            read: HashMap::new(),
        }
    }

    /// Namespace that they are in.
    #[must_use]
    pub fn namespace(&self) -> &str {
        &self.namespace
    }

    /// The value behind a reference.
    ///
    /// # Errors
    /// `SecretNotFound`, `SecretKeyMissing` (also for a value that is empty after trimming), `SecretInvalid` for one
    /// that is not text, `Forbidden` when the operator may not read the Secret, or an API server that does not answer.
    pub async fn value(&mut self, reference: &SecretKeyRef) -> Result<SecretValue, Failure> {
        let SecretKeyRef { name, key } = reference;
        if !self.read.contains_key(name) {
            let read = read(&self.api, &self.namespace, name).await;
            self.read.insert(name.clone(), read);
        }
        let namespace = &self.namespace;
        let secret = match self.read.get(name) {
            Some(Ok(Some(secret))) => secret,
            Some(Err(failure)) => return Err(failure.clone()),
            Some(Ok(None)) | None => {
                return Err(Failure::new(
                    Reason::SecretNotFound,
                    format!("Secret {namespace}/{name} does not exist: create it with the key {key}"),
                ));
            }
        };
        let missing = |what: &str| {
            Failure::new(
                Reason::SecretKeyMissing,
                format!("key {key} of Secret {namespace}/{name} {what}: write the credential into it"),
            )
        };
        let bytes = secret
            .data
            .as_ref()
            .and_then(|data| data.get(key))
            .ok_or_else(|| missing("does not exist"))?;
        let text = std::str::from_utf8(&bytes.0).map_err(|_| {
            Failure::new(
                Reason::SecretInvalid,
                format!("key {key} of Secret {namespace}/{name} is not UTF-8 text: write the credential as text"),
            )
        })?;
        let text = text.trim();
        if text.is_empty() {
            return Err(missing("is empty"));
        }
        Ok(SecretValue {
            value: SecretString::from(text),
            uid: secret.metadata.uid.clone().unwrap_or_default(),
            resource_version: secret.metadata.resource_version.clone().unwrap_or_default(),
        })
    }
}

async fn read(api: &Api<Secret>, namespace: &str, name: &str) -> Result<Option<Secret>, Failure> {
    kubernetes::answer(api.get_opt(name))
        .await
        .map_err(|error| kubernetes::failure(&error, &format!("read Secret {namespace}/{name}"), "get on secrets"))
}
