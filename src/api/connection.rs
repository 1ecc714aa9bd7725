//! `AuthentikConnection`: one authentik server and how to talk to it.

use std::collections::BTreeMap;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;
use kube::{CustomResource, KubeSchema};
use schemars::JsonSchema;
use serde::{Deserialize, Deserializer, Serialize};

use super::reference::{ConfigMapKeyRef, SecretKeyRef};
use super::{rules, schema};

/// One authentik server: where it is, whose token to use, and who may use the connection.
#[derive(CustomResource, Serialize, Deserialize, Clone, Debug, PartialEq, KubeSchema)]
#[kube(
    group = "stages.authentik-operator.dev",
    version = "v1alpha1",
    kind = "AuthentikConnection",
    plural = "authentikconnections",
    singular = "authentikconnection",
    shortname = "akconn",
    category = "authentik",
    namespaced,
    status = "AuthentikConnectionStatus",
    derive = "PartialEq",
    doc = "An authentik server, the token to talk to it, and the namespaces that may use it.",
    printcolumn(
        name = "Ready",
        type_ = "string",
        description = "Whether stages can be kept through it",
        json_path = ".status.conditions[?(@.type=='Ready')].status"
    ),
    printcolumn(
        name = "Reason",
        type_ = "string",
        description = "Why",
        json_path = ".status.conditions[?(@.type=='Ready')].reason"
    ),
    printcolumn(name = "URL", type_ = "string", json_path = ".spec.url"),
    printcolumn(
        name = "Version",
        type_ = "string",
        description = "Version of the server",
        json_path = ".status.serverVersion"
    ),
    printcolumn(
        name = "Stages",
        type_ = "integer",
        description = "Resources that use it",
        json_path = ".status.stages"
    ),
    printcolumn(name = "Age", type_ = "date", json_path = ".metadata.creationTimestamp")
)]
#[serde(rename_all = "camelCase")]
#[x_kube(
    validation = Rule::new("!isURL(self.url) || url(self.url).getScheme() != 'http' || self.allowInsecureHTTP")
        .message("write https://, or set allowInsecureHTTP to send the token in clear text")
        .reason(Reason::FieldValueForbidden)
        .field_path(".url")
)]
pub struct AuthentikConnectionSpec {
    /// URL of authentik, with its sub-path if it has one: `https://sso.example.com/authentik`.
    #[schemars(schema_with = "schema::guarded_text::<1, 2048>")]
    #[x_kube(
        validation = rules::absolute_url("https://sso.example.com"),
        validation = Rule::new("!self.matches('^[^/?#]*//[^/?#]*@') && !self.contains('?') && !self.contains('#')")
            .message("remove user, password, query and fragment from the URL: the token belongs into tokenSecretRef")
            .reason(Reason::FieldValueForbidden),
        // Their usual spellings, as early as can be; what a name leads to is looked at when a connection is made.
        validation = Rule::new(r"!self.matches('(?i)^[^/?#]*//([^/?#]*@)?(169[.]254[.]|\\[(fe[89ab][0-9a-f]:|::ffff:(169[.]254[.]|a9fe:)))')")
            .message("link-local addresses are refused: cloud metadata services live there")
            .reason(Reason::FieldValueForbidden)
    )]
    pub url: String,

    /// API token (intent `api`) in a Secret of the connection's namespace.
    pub token_secret_ref: SecretKeyRef,

    /// Certificates to trust besides the public roots.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ca_bundle: Option<CaBundle>,

    /// Allow `http://`: the token and all credentials travel in clear text.
    #[serde(default, rename = "allowInsecureHTTP")]
    pub allow_insecure_http: bool,

    /// Who else may name this connection, and how far they may go.
    #[serde(default)]
    pub allowed_namespaces: AllowedNamespaces,

    /// How often all SMS stages are read and compared: 10s to 24h, or 0s for only when something happens.
    #[serde(default = "default_sync_interval")]
    #[schemars(schema_with = "schema::duration")]
    #[x_kube(validation = Rule::new("self.matches('^([0-9]{1,5}(ms|s|m|h))+$') && (duration(self) == duration('0s') || (duration(self) >= duration('10s') && duration(self) <= duration('24h')))")
        .message("write a duration from 10s to 24h such as 60s or 5m, or 0s for none")
        .reason(Reason::FieldValueInvalid))]
    pub sync_interval: String,

    /// Longest time that one request may take: 1s to 15s.
    #[serde(default = "default_timeout")]
    #[schemars(schema_with = "schema::duration")]
    #[x_kube(validation = Rule::new("self.matches('^([0-9]{1,5}(ms|s|m|h))+$') && duration(self) >= duration('1s') && duration(self) <= duration('15s')")
        .message("write a duration from 1s to 15s such as 10s")
        .reason(Reason::FieldValueInvalid))]
    pub timeout: String,

    /// Most requests at a time.
    #[serde(default = "default_concurrency")]
    #[schemars(range(min = 1, max = 64))]
    pub max_concurrent_requests: i32,

    /// Everything that goes through this connection rests; deletions wait.
    #[serde(default)]
    pub suspend: bool,
}

fn default_sync_interval() -> String {
    "60s".to_owned()
}

fn default_timeout() -> String {
    "10s".to_owned()
}

const fn default_concurrency() -> i32 {
    8
}

/// PEM certificates, in exactly one place of the connection's namespace.
#[derive(Serialize, Deserialize, Clone, Debug, PartialEq, Eq, KubeSchema)]
#[serde(rename_all = "camelCase")]
#[x_kube(
    validation = rules::one_of("configMapKeyRef", "secretKeyRef"),
    validation = rules::not_both("configMapKeyRef", "secretKeyRef")
)]
pub struct CaBundle {
    /// In a ConfigMap.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub config_map_key_ref: Option<ConfigMapKeyRef>,
    /// In a Secret.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub secret_key_ref: Option<SecretKeyRef>,
}

/// Who else may name a connection, and how far those namespaces may go. The connection's own namespace may do all.
#[derive(Serialize, Deserialize, Clone, Debug, Default, PartialEq, Eq, KubeSchema)]
#[serde(rename_all = "camelCase")]
#[schemars(extend("default" = serde_json::json!({"from": "Same", "adoption": "Never", "forceDelete": false})))]
#[x_kube(
    validation = rules::needed("from", "Selector", "selector"),
    validation = rules::only_with("from", "Selector", "selector")
)]
pub struct AllowedNamespaces {
    /// `Same`: only the connection's own; `All`; or those that `selector` matches.
    #[serde(default)]
    pub from: NamespacesFrom,
    /// Labels of the namespaces. Exactly when `from` is `Selector`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub selector: Option<LabelSelector>,
    /// How far other namespaces may take over, or look at, stages that they did not create.
    #[serde(default)]
    pub adoption: ForeignAdoption,
    /// Whether other namespaces may delete a stage with the users' devices.
    #[serde(default)]
    pub force_delete: bool,
}

/// Which namespaces.
#[derive(Serialize, Deserialize, Clone, Copy, Debug, Default, PartialEq, Eq, JsonSchema)]
pub enum NamespacesFrom {
    /// Only the connection's own.
    #[default]
    Same,
    /// All.
    All,
    /// Those that a selector matches.
    Selector,
}

/// The most that other namespaces may ask of `adoptionPolicy`; `Observe` counts as adoption.
#[derive(Serialize, Deserialize, Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, JsonSchema)]
pub enum ForeignAdoption {
    /// Only stages that they create.
    #[default]
    Never,
    /// Also stages that already equal their spec.
    IfMatch,
    /// Any stage.
    Always,
}

/// Labels that an object has to have, as everywhere in Kubernetes. Empty: every object.
#[derive(Serialize, Deserialize, Clone, Debug, Default, PartialEq, Eq, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct LabelSelector {
    /// Labels that have to have these values.
    #[serde(
        default,
        deserialize_with = "null_as_none",
        skip_serializing_if = "BTreeMap::is_empty"
    )]
    #[schemars(schema_with = "schema::labels")]
    pub match_labels: BTreeMap<String, String>,
    /// Requirements, all of which have to hold.
    #[serde(default, deserialize_with = "null_as_none", skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 16), extend("nullable" = true))]
    #[x_kube(merge_strategy = ListMerge::Atomic)]
    pub match_expressions: Vec<SelectorRequirement>,
}

// As for every optional field, `null` is the same as absent: manifests that are rendered from templates have it.
fn null_as_none<'de, D, T>(deserializer: D) -> Result<T, D::Error>
where
    D: Deserializer<'de>,
    T: Default + Deserialize<'de>,
{
    Option::deserialize(deserializer).map(Option::unwrap_or_default)
}

/// One requirement on a label.
#[derive(Serialize, Deserialize, Clone, Debug, PartialEq, Eq, KubeSchema)]
#[serde(rename_all = "camelCase")]
#[x_kube(
    validation = Rule::new("(self.operator in ['In', 'NotIn']) == (has(self.values) && size(self.values) > 0)")
        .message("set values exactly when operator is In or NotIn")
        .reason(Reason::FieldValueInvalid)
        .field_path(".values")
)]
pub struct SelectorRequirement {
    /// Label key.
    #[schemars(schema_with = "schema::label_key")]
    pub key: String,
    /// How the label relates to `values`.
    pub operator: SelectorOperator,
    /// Values for `In` and `NotIn`.
    #[serde(default, deserialize_with = "null_as_none", skip_serializing_if = "Vec::is_empty")]
    #[schemars(schema_with = "schema::label_values")]
    pub values: Vec<String>,
}

/// How a label relates to values.
#[derive(Serialize, Deserialize, Clone, Copy, Debug, PartialEq, Eq, JsonSchema)]
pub enum SelectorOperator {
    /// The label has one of the values.
    In,
    /// The label is absent or has none of the values.
    NotIn,
    /// The label is there.
    Exists,
    /// The label is not there.
    DoesNotExist,
}

/// The connection as it is.
#[derive(Serialize, Deserialize, Clone, Debug, PartialEq, KubeSchema)]
#[serde(rename_all = "camelCase")]
// As for the stage: a connection that nobody looked at yet is never "current" by accident.
#[schemars(extend("default" = serde_json::json!({"observedGeneration": -1})))]
pub struct AuthentikConnectionStatus {
    /// Generation of the resource that the last pass worked on; -1 before the first.
    #[serde(default = "never_observed")]
    pub observed_generation: i64,
    /// `Ready`, and beside `Ready=False` either `Reconciling` or `Stalled`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(schema_with = "schema::conditions")]
    pub conditions: Vec<Condition>,
    /// Version that the server reports.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "schema::optional_status_string::<{schema::STATUS_WORD}>")]
    pub server_version: Option<String>,
    /// User that the token belongs to.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "schema::optional_status_string::<{schema::STATUS_TEXT}>")]
    pub username: Option<String>,
    /// Permissions that the token lacks and a present resource needs.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(schema_with = "schema::status_names::<16>")]
    pub missing_permissions: Vec<String>,
    /// URL and token with which the server last showed a stage that a resource owns. With these its "no such stage"
    /// is believed, also after a restart of the operator; with others it may mean another server or fewer rights.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub verified_with: Option<VerifiedWith>,
    /// How many resources use the connection.
    #[serde(default)]
    #[schemars(range(min = 0))]
    pub stages: i64,
    /// Value of the annotation `stages.authentik-operator.dev/reconcile-requested-at` that was last acted on.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "schema::optional_status_string::<256>")]
    pub last_handled_reconcile_at: Option<String>,
}

const fn never_observed() -> i64 {
    -1
}

impl Default for AuthentikConnectionStatus {
    fn default() -> Self {
        Self {
            observed_generation: never_observed(),
            conditions: Vec::new(),
            server_version: None,
            username: None,
            missing_permissions: Vec::new(),
            verified_with: None,
            stages: 0,
            last_handled_reconcile_at: None,
        }
    }
}

/// A URL and the version of a token.
#[derive(Serialize, Deserialize, Clone, Debug, PartialEq, Eq, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct VerifiedWith {
    /// URL of the server.
    #[schemars(schema_with = "schema::status_string::<{schema::STATUS_URL}>")]
    pub url: String,
    /// UID of the token's Secret.
    #[serde(rename = "tokenSecretUID")]
    #[schemars(schema_with = "schema::status_string::<64>")]
    pub token_secret_uid: String,
    /// Version of the token's Secret.
    #[schemars(schema_with = "schema::status_string::<64>")]
    pub token_resource_version: String,
}
