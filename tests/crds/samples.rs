//! Resources that are right, and that together have every field: what a case changes to make it wrong.

use serde_json::{Value, json};

use crate::schema::Kind;

/// A resource that the API server takes.
#[derive(Clone, Debug)]
pub struct Sample {
    pub kind: Kind,
    pub name: &'static str,
    /// Without `status`.
    pub resource: Value,
}

impl Sample {
    /// The sample changed by a JSON merge patch of its spec.
    pub fn with(&self, spec: &Value) -> Value {
        let mut resource = self.resource.clone();
        merge(&mut resource["spec"], spec);
        resource
    }
}

/// Merges as RFC 7386 says: `null` removes.
fn merge(target: &mut Value, patch: &Value) {
    let Value::Object(members) = patch else {
        *target = patch.clone();
        return;
    };
    if !target.is_object() {
        *target = json!({});
    }
    for (name, value) in members {
        if value.is_null() {
            target.as_object_mut().unwrap().remove(name);
        } else {
            merge(&mut target[name], value);
        }
    }
}

/// The sample of that name.
pub fn sample(name: &str) -> Sample {
    all()
        .into_iter()
        .find(|sample| sample.name == name)
        .unwrap_or_else(|| panic!("no sample {name}"))
}

/// Every sample.
pub fn all() -> Vec<Sample> {
    [stages(), connections()].concat()
}

const UUID: &str = "0f9b5c0e-6d2c-4b52-9d3c-0b5d9a3f6c11";

/// A reference to a key of an object.
fn key_of(name: &str) -> Value {
    json!({"name": name, "key": "value"})
}

fn stages() -> Vec<Sample> {
    let stage = |name, spec: Value| build(Kind::Stage, name, &spec);
    vec![
        stage(
            "twilio",
            json!({
                "connectionRef": {"name": "authentik", "namespace": "login"},
                "name": "sms",
                "friendlyName": "Text message",
                "configureFlow": {"slug": "default-authenticator-sms-setup"},
                "fromNumber": "+15550100",
                "verifyOnly": true,
                "provider": "twilio",
                "twilio": {
                    "accountSid": "AC0123456789abcdef0123456789abcdef",
                    "authTokenSecretRef": key_of("twilio"),
                },
                "mapping": {"name": "message"},
                "adoptionPolicy": "Always",
                "deletionPolicy": "Delete",
                "managementPolicy": "Observe",
                "suspend": true,
            }),
        ),
        stage(
            "twilio-secret",
            json!({
                "configureFlow": {"uuid": UUID},
                "fromNumber": "+15550100",
                "provider": "twilio",
                "twilio": {"accountSidSecretRef": key_of("twilio"), "authTokenSecretRef": key_of("twilio")},
                "mapping": {"uuid": UUID},
            }),
        ),
        stage(
            "basic",
            json!({
                "fromNumber": "+15550100",
                "provider": "generic",
                "generic": {
                    "url": "https://sms.example.com/send",
                    "authType": "basic",
                    "username": "sms",
                    "passwordSecretRef": key_of("gateway"),
                },
            }),
        ),
        stage(
            "basic-secret",
            json!({
                "fromNumber": "+15550100",
                "provider": "generic",
                "generic": {"urlSecretRef": key_of("gateway"), "usernameSecretRef": key_of("gateway")},
            }),
        ),
        stage(
            "bearer",
            json!({
                "fromNumber": "+15550100",
                "provider": "generic",
                "generic": {
                    "url": "https://sms.example.com/send",
                    "authType": "bearer",
                    "tokenSecretRef": key_of("gateway"),
                },
            }),
        ),
    ]
}

fn connections() -> Vec<Sample> {
    let connection = |name, spec: Value| build(Kind::Connection, name, &spec);
    vec![
        connection(
            "connection",
            json!({
                "url": "https://sso.example.com/authentik",
                "tokenSecretRef": key_of("authentik"),
                "caBundle": {"configMapKeyRef": key_of("roots")},
                "allowInsecureHTTP": true,
                "allowedNamespaces": {
                    "from": "Selector",
                    "selector": {
                        "matchLabels": {"team": "login"},
                        "matchExpressions": [
                            {"key": "kubernetes.io/metadata.name", "operator": "NotIn", "values": ["kube-system"]},
                        ],
                    },
                    "adoption": "IfMatch",
                    "forceDelete": true,
                },
                "syncInterval": "5m",
                "timeout": "15s",
                "maxConcurrentRequests": 4,
                "suspend": true,
            }),
        ),
        connection(
            "connection-secret",
            json!({
                "url": "https://sso.example.com",
                "tokenSecretRef": key_of("authentik"),
                "caBundle": {"secretKeyRef": key_of("roots")},
            }),
        ),
    ]
}

fn build(kind: Kind, name: &'static str, spec: &Value) -> Sample {
    let resource = json!({
        "apiVersion": "stages.authentik-operator.dev/v1alpha1",
        "kind": kind.name(),
        "metadata": {"name": name},
        "spec": spec,
    });
    Sample { kind, name, resource }
}

/// A status with every field.
pub fn status(kind: Kind) -> Value {
    let conditions = json!([{
        "type": "Ready",
        "status": "True",
        "reason": "Available",
        "message": "the stage is as declared",
        "lastTransitionTime": "2030-01-01T00:00:00Z",
        "observedGeneration": 1,
    }]);
    match kind {
        Kind::Stage => stage_status(&conditions),
        Kind::Connection => json!({
            "observedGeneration": 1,
            "conditions": conditions,
            "serverVersion": "2026.5.1",
            "username": "operator",
            "verifiedWith": {
                "url": "https://sso.example.com/authentik",
                "tokenSecretUID": UUID,
                "tokenResourceVersion": "42",
            },
            "missingPermissions": ["authentik_core.view_user"],
            "stages": 3,
            "lastHandledReconcileAt": "2030-01-01T00:00:00Z",
        }),
    }
}

fn stage_status(conditions: &Value) -> Value {
    json!({
        "observedGeneration": 1,
        "conditions": conditions,
        "connection": {
            "namespace": "login",
            "name": "authentik",
            "uid": UUID,
            "url": "https://sso.example.com",
            "serverVersion": "2026.5.1",
        },
        "origin": "Created",
        "stage": {
            "pk": UUID,
            "name": "sms",
            "component": "ak-stage-authenticator-sms-form",
            "verboseName": "SMS Authenticator Setup Stage",
            "verboseNamePlural": "SMS Authenticator Setup Stages",
            "metaModelName": "authentik_stages_authenticator_sms.authenticatorsmsstage",
            "friendlyName": "Text message",
            "configureFlow": UUID,
            "provider": "twilio",
            "fromNumber": "+15550100",
            "accountSid": "AC0123456789abcdef0123456789abcdef",
            "authType": "basic",
            "verifyOnly": true,
            "mapping": UUID,
            "flowSet": [{
                "pk": UUID,
                "policybindingmodelPtrId": UUID,
                "name": "setup",
                "slug": "setup",
                "title": "Setup",
                "designation": "stage_configuration",
                "background": "/static/dist/assets/images/flow_background.jpg",
                "policyEngineMode": "any",
                "compatibilityMode": true,
                "exportUrl": "/api/v3/flows/instances/setup/export/",
                "layout": "stacked",
                "deniedAction": "message_continue",
            }],
        },
        "drift": [{"field": "from_number", "desired": "+15550100", "observed": "+15550199"}],
        "warnings": [{"code": "NoConfigureFlow", "message": "set configureFlow"}],
        "credentials": [{
            "field": "auth",
            "secretName": "twilio",
            "secretUID": UUID,
            "resourceVersion": "42",
            "key": "value",
            "value": "sms",
            "cleared": true,
        }],
        "pendingCreate": {
            "name": "sms",
            "connection": "login/authentik",
            "url": "https://sso.example.com",
            "nonce": "n",
            "startedAt": "2030-01-01T00:00:00Z",
            "fields": {
                "friendlyName": "Text message",
                "configureFlow": UUID,
                "fromNumber": "+15550100",
                "verifyOnly": true,
                "provider": "twilio",
                "accountSid": "AC0123456789abcdef0123456789abcdef",
                "authType": "basic",
                "mapping": UUID,
            },
        },
        "dependents": [{"kind": "bindings", "count": 1, "names": ["setup"]}],
        "lastHandledReconcileAt": "2030-01-01T00:00:00Z",
    })
}
