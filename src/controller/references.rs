//! Whom a Secret touches. Pure.

use kube::ResourceExt;

use crate::api::{AuthenticatorSMSStage, AuthentikConnection, SecretKeyRef};

/// Whether a stage takes a value from this Secret of its namespace.
#[must_use]
pub fn stage_names_secret(stage: &AuthenticatorSMSStage, namespace: &str, name: &str) -> bool {
    stage.namespace().as_deref() == Some(namespace)
        && secrets_of(stage)
            .into_iter()
            .flatten()
            .any(|reference| reference.name == name)
}

/// Whether a connection takes its token or its CA from this Secret of its namespace.
#[must_use]
pub fn connection_names_secret(connection: &AuthentikConnection, namespace: &str, name: &str) -> bool {
    let ca = connection
        .spec
        .ca_bundle
        .as_ref()
        .and_then(|bundle| bundle.secret_key_ref.as_ref());
    connection.namespace().as_deref() == Some(namespace)
        && [Some(&connection.spec.token_secret_ref), ca]
            .into_iter()
            .flatten()
            .any(|reference| reference.name == name)
}

fn secrets_of(stage: &AuthenticatorSMSStage) -> [Option<&SecretKeyRef>; 6] {
    let twilio = stage.spec.twilio.as_ref();
    let generic = stage.spec.generic.as_ref();
    [
        twilio.and_then(|twilio| twilio.account_sid_secret_ref.as_ref()),
        twilio.map(|twilio| &twilio.auth_token_secret_ref),
        generic.and_then(|generic| generic.url_secret_ref.as_ref()),
        generic.and_then(|generic| generic.username_secret_ref.as_ref()),
        generic.and_then(|generic| generic.password_secret_ref.as_ref()),
        generic.and_then(|generic| generic.token_secret_ref.as_ref()),
    ]
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn only_the_same_namespace_counts() {
        let stage: AuthenticatorSMSStage = serde_json::from_value(json!({
            "apiVersion": "stages.authentik-operator.dev/v1alpha1", "kind": "AuthenticatorSMSStage",
            "metadata": {"name": "sms", "namespace": "login"},
            "spec": {"fromNumber": "+1", "provider": "generic", "generic": {
                "url": "https://h", "username": "u", "passwordSecretRef": {"name": "gateway", "key": "password"}}},
        }))
        .unwrap();
        assert!(stage_names_secret(&stage, "login", "gateway"));
        assert!(!stage_names_secret(&stage, "shop", "gateway"));
        assert!(!stage_names_secret(&stage, "login", "other"));
    }
}
