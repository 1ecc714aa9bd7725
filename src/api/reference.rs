//! References to other objects. None to a Secret or a `ConfigMap` has a namespace: both are read only where the
//! resource that names them lives.

use kube::KubeSchema;
use serde::{Deserialize, Serialize};

use super::schema;

/// One key of a Secret in the same namespace.
#[derive(Serialize, Deserialize, Clone, Debug, PartialEq, Eq, Hash, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct SecretKeyRef {
    /// Name of the Secret.
    #[schemars(schema_with = "schema::object_name")]
    pub name: String,
    /// Key in the Secret's data.
    #[schemars(schema_with = "schema::data_key")]
    pub key: String,
}

/// One key of a ConfigMap in the same namespace.
#[derive(Serialize, Deserialize, Clone, Debug, PartialEq, Eq, Hash, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct ConfigMapKeyRef {
    /// Name of the ConfigMap.
    #[schemars(schema_with = "schema::object_name")]
    pub name: String,
    /// Key in the ConfigMap's data.
    #[schemars(schema_with = "schema::data_key")]
    pub key: String,
}

/// The AuthentikConnection that leads to the server.
#[derive(Serialize, Deserialize, Clone, Debug, PartialEq, Eq, Hash, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct ConnectionRef {
    /// Name of the AuthentikConnection.
    #[schemars(schema_with = "schema::object_name")]
    pub name: String,
    /// Namespace of the AuthentikConnection; absent: that of this resource. Another namespace's connection has to
    /// allow this one in its `allowedNamespaces`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "schema::optional_namespace")]
    pub namespace: Option<String>,
}
