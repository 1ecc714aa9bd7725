//! What the operator reports of a stage, and what it has to remember across restarts.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, Time};
use kube::KubeSchema;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::schema;
use super::stage::{AuthType, Provider};

/// The stage as it is. Nothing in it moves while nothing happens, and no credential is ever in it.
#[derive(Serialize, Deserialize, Clone, Debug, PartialEq, KubeSchema)]
#[serde(rename_all = "camelCase")]
// The API server fills this in on every read, so a resource that nobody looked at yet is never "current" by accident.
#[schemars(extend("default" = serde_json::json!({"observedGeneration": -1})))]
pub struct AuthenticatorSMSStageStatus {
    /// Generation of the resource that the last pass worked on; -1 before the first.
    #[serde(default = "never_observed")]
    pub observed_generation: i64,
    /// `Ready`, and beside `Ready=False` either `Reconciling` or `Stalled`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(schema_with = "schema::conditions")]
    pub conditions: Vec<Condition>,
    /// The server that the stage lives on. Pinned: it changes only when the stage is found elsewhere.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub connection: Option<PinnedConnection>,
    /// Whether the operator created the stage or took it over.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub origin: Option<Origin>,
    /// What authentik tells of the stage, except credentials.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub stage: Option<ObservedStage>,
    /// Fields in which authentik differs from the spec.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 32))]
    #[x_kube(merge_strategy = ListMerge::Atomic)]
    pub drift: Vec<Drift>,
    /// What is not wrong but will surprise; never a reason for not being ready.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 16))]
    #[x_kube(merge_strategy = ListMerge::Atomic)]
    pub warnings: Vec<Warning>,
    /// Where the credentials that were last written came from.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 4))]
    #[x_kube(merge_strategy = ListMerge::Atomic)]
    pub credentials: Vec<CredentialMarker>,
    /// The intent that is recorded before a stage is created, until its outcome is known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pending_create: Option<PendingCreate>,
    /// What blocks the deletion of the stage.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 8))]
    #[x_kube(merge_strategy = ListMerge::Atomic)]
    pub dependents: Vec<Dependent>,
    /// Value of the annotation `stages.authentik-operator.dev/reconcile-requested-at` that was last acted on.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "schema::optional_status_string::<256>")]
    pub last_handled_reconcile_at: Option<String>,
}

const fn never_observed() -> i64 {
    -1
}

impl Default for AuthenticatorSMSStageStatus {
    fn default() -> Self {
        Self {
            observed_generation: never_observed(),
            conditions: Vec::new(),
            connection: None,
            origin: None,
            stage: None,
            drift: Vec::new(),
            warnings: Vec::new(),
            credentials: Vec::new(),
            pending_create: None,
            dependents: Vec::new(),
            last_handled_reconcile_at: None,
        }
    }
}

/// The server that a stage lives on.
#[derive(Serialize, Deserialize, Clone, Debug, PartialEq, Eq, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct PinnedConnection {
    /// Namespace of the AuthentikConnection.
    #[schemars(schema_with = "schema::status_string::<63>")]
    pub namespace: String,
    /// Name of the AuthentikConnection.
    #[schemars(schema_with = "schema::status_string::<253>")]
    pub name: String,
    /// UID of the AuthentikConnection.
    #[schemars(schema_with = "schema::status_string::<64>")]
    pub uid: String,
    /// URL of the server.
    #[schemars(schema_with = "schema::status_string::<{schema::STATUS_URL}>")]
    pub url: String,
    /// Version of the server.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "schema::optional_status_string::<{schema::STATUS_WORD}>")]
    pub server_version: Option<String>,
}

/// How the resource came by its stage.
#[derive(Serialize, Deserialize, Clone, Copy, Debug, PartialEq, Eq, JsonSchema)]
pub enum Origin {
    /// The operator created it.
    Created,
    /// It was there before.
    Adopted,
}

/// A stage as authentik tells it, without credentials.
#[derive(Serialize, Deserialize, Clone, Debug, Default, PartialEq, Eq, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct ObservedStage {
    /// Primary key.
    #[schemars(schema_with = "schema::status_string::<{schema::STATUS_WORD}>")]
    pub pk: String,
    /// Name, unique over all kinds of stages.
    #[schemars(schema_with = "schema::status_string::<{schema::STATUS_TEXT}>")]
    pub name: String,
    /// Form that authentik's admin interface edits it with.
    #[serde(default)]
    #[schemars(schema_with = "schema::status_string::<{schema::STATUS_TEXT}>")]
    pub component: String,
    /// Kind of stage, for people.
    #[serde(default)]
    #[schemars(schema_with = "schema::status_string::<{schema::STATUS_TEXT}>")]
    pub verbose_name: String,
    /// Kind of stage in the plural, for people.
    #[serde(default)]
    #[schemars(schema_with = "schema::status_string::<{schema::STATUS_TEXT}>")]
    pub verbose_name_plural: String,
    /// Kind of stage, for programs.
    #[serde(default)]
    #[schemars(schema_with = "schema::status_string::<{schema::STATUS_TEXT}>")]
    pub meta_model_name: String,
    /// What users see.
    #[serde(default)]
    #[schemars(schema_with = "schema::status_string::<{schema::STATUS_TEXT}>")]
    pub friendly_name: String,
    /// Primary key of the flow with which users enrol.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "schema::optional_status_string::<{schema::STATUS_WORD}>")]
    pub configure_flow: Option<String>,
    /// Who sends the message.
    #[serde(default)]
    #[schemars(schema_with = "schema::status_string::<{schema::STATUS_WORD}>")]
    pub provider: String,
    /// Sender of the message.
    #[serde(default)]
    #[schemars(schema_with = "schema::status_string::<{schema::STATUS_TEXT}>")]
    pub from_number: String,
    /// Account SID or gateway URL: only if it is an Account SID, or what the spec gives in clear text.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "schema::optional_status_string::<{schema::STATUS_URL}>")]
    pub account_sid: Option<String>,
    /// How authentik proves itself to a gateway.
    #[serde(default)]
    #[schemars(schema_with = "schema::status_string::<{schema::STATUS_WORD}>")]
    pub auth_type: String,
    /// Whether only hashes of numbers are kept.
    #[serde(default)]
    pub verify_only: bool,
    /// Primary key of the webhook mapping.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "schema::optional_status_string::<{schema::STATUS_WORD}>")]
    pub mapping: Option<String>,
    /// Flows that bind the stage, each once, by primary key.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = schema::STATUS_FLOWS))]
    #[x_kube(merge_strategy = ListMerge::Atomic)]
    pub flow_set: Vec<FlowSet>,
}

/// A flow that binds the stage.
#[derive(Serialize, Deserialize, Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct FlowSet {
    /// Primary key.
    #[schemars(schema_with = "schema::status_string::<{schema::STATUS_WORD}>")]
    pub pk: String,
    /// Primary key as the target of policy bindings.
    #[serde(default)]
    #[schemars(schema_with = "schema::status_string::<{schema::STATUS_WORD}>")]
    pub policybindingmodel_ptr_id: String,
    /// Name.
    #[serde(default)]
    #[schemars(schema_with = "schema::status_string::<{schema::STATUS_TEXT}>")]
    pub name: String,
    /// Slug.
    #[serde(default)]
    #[schemars(schema_with = "schema::status_string::<{schema::STATUS_TEXT}>")]
    pub slug: String,
    /// Title that users see.
    #[serde(default)]
    #[schemars(schema_with = "schema::status_string::<{schema::STATUS_TEXT}>")]
    pub title: String,
    /// What the flow is for.
    #[serde(default)]
    #[schemars(schema_with = "schema::status_string::<{schema::STATUS_WORD}>")]
    pub designation: String,
    /// Background image, without query and fragment: newer servers sign it afresh at every read.
    #[serde(default)]
    #[schemars(schema_with = "schema::status_string::<{schema::STATUS_URL}>")]
    pub background: String,
    /// Whether all or any policy has to pass.
    #[serde(default)]
    #[schemars(schema_with = "schema::status_string::<{schema::STATUS_WORD}>")]
    pub policy_engine_mode: String,
    /// Whether the flow is shown in compatibility mode.
    #[serde(default)]
    pub compatibility_mode: bool,
    /// Where the flow can be exported, without query and fragment.
    #[serde(default)]
    #[schemars(schema_with = "schema::status_string::<{schema::STATUS_URL}>")]
    pub export_url: String,
    /// Layout of the page.
    #[serde(default)]
    #[schemars(schema_with = "schema::status_string::<{schema::STATUS_WORD}>")]
    pub layout: String,
    /// What a user sees whom a policy denies.
    #[serde(default)]
    #[schemars(schema_with = "schema::status_string::<{schema::STATUS_WORD}>")]
    pub denied_action: String,
}

/// A field in which authentik differs from the spec.
#[derive(Serialize, Deserialize, Clone, Debug, PartialEq, Eq, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct Drift {
    /// The field as authentik names it.
    #[schemars(schema_with = "schema::status_string::<{schema::STATUS_WORD}>")]
    pub field: String,
    /// What the spec asks; `(sensitive)` for a credential, absent for a stage that may not be taken over.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "schema::optional_status_string::<{schema::STATUS_URL}>")]
    pub desired: Option<String>,
    /// What authentik holds, likewise.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "schema::optional_status_string::<{schema::STATUS_URL}>")]
    pub observed: Option<String>,
}

/// Something that is not wrong but will surprise.
#[derive(Serialize, Deserialize, Clone, Debug, PartialEq, Eq, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct Warning {
    /// Which of the known surprises.
    pub code: WarningCode,
    /// What it means here and how to be rid of it.
    #[schemars(schema_with = "schema::status_string::<{schema::STATUS_TEXT}>")]
    pub message: String,
}

/// The closed set of warnings.
#[derive(Serialize, Deserialize, Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, JsonSchema)]
pub enum WarningCode {
    /// `configureFlow` does not bind this stage.
    FlowDoesNotBindStage,
    /// There is no `configureFlow`, so users find no link to enrol.
    NoConfigureFlow,
    /// `configureFlow` is not meant for configuring a stage.
    FlowDesignation,
    /// Devices of a `verifyOnly` stage are not offered at login.
    VerifyOnlyNotUsableAtLogin,
    /// The server ignores a mapping for this provider.
    MappingIgnored,
    /// No authenticator validation stage accepts SMS devices.
    NoValidateStage,
    /// The gateway's URL is `http`.
    InsecureGateway,
    /// The gateway's URL has a query.
    UrlHasQuery,
    /// The sender is of no shape that Twilio knows.
    UnusualSender,
    /// The sender is a messaging service, which authentik cannot use.
    MessagingServiceSid,
    /// The Auth Token is not of Twilio's shape.
    AuthTokenShape,
    /// The stage was gone and has been created again.
    Recreated,
}

/// Where a credential that was last written came from: exactly one of a Secret, clear text, or nothing.
#[derive(Serialize, Deserialize, Clone, Debug, PartialEq, Eq, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct CredentialMarker {
    /// `auth` or `auth_password`.
    #[schemars(schema_with = "schema::status_string::<{schema::STATUS_WORD}>")]
    pub field: String,
    /// Name of the Secret.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "schema::optional_status_string::<253>")]
    pub secret_name: Option<String>,
    /// UID of the Secret.
    #[serde(default, rename = "secretUID", skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "schema::optional_status_string::<64>")]
    pub secret_uid: Option<String>,
    /// Version of the Secret.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "schema::optional_status_string::<64>")]
    pub resource_version: Option<String>,
    /// Key in the Secret.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "schema::optional_status_string::<253>")]
    pub key: Option<String>,
    /// Clear text from the spec (a user name).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "schema::optional_status_string::<255>")]
    pub value: Option<String>,
    /// True if the field was emptied.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cleared: Option<bool>,
}

/// The intent to create a stage, written before the request is sent.
///
/// authentik has no field for an owner; this record is what tells, after a crash or a lost reply, whether a stage of
/// that name is ours.
#[derive(Serialize, Deserialize, Clone, Debug, PartialEq, Eq, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct PendingCreate {
    /// Name of the stage.
    #[schemars(schema_with = "schema::status_string::<253>")]
    pub name: String,
    /// Namespace and name of the AuthentikConnection, with a slash between.
    #[schemars(schema_with = "schema::status_string::<320>")]
    pub connection: String,
    /// URL of the server.
    #[schemars(schema_with = "schema::status_string::<{schema::STATUS_URL}>")]
    pub url: String,
    /// Random text that the request carries in its User-Agent, and authentik's audit log after it.
    #[schemars(schema_with = "schema::status_string::<64>")]
    pub nonce: String,
    /// When the intent was written.
    #[schemars(extend("maxLength" = 64))]
    pub started_at: Time,
    /// What the stage was to be, as far as it is readable and not from a Secret.
    pub fields: IntendedFields,
}

/// The readable fields of an intended stage.
#[derive(Serialize, Deserialize, Clone, Debug, PartialEq, Eq, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct IntendedFields {
    /// Name that users see; empty for none.
    #[serde(default)]
    #[schemars(schema_with = "schema::status_string::<255>")]
    pub friendly_name: String,
    /// Primary key of the flow.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "schema::optional_status_string::<{schema::STATUS_WORD}>")]
    pub configure_flow: Option<String>,
    /// Sender of the message.
    #[schemars(schema_with = "schema::status_string::<64>")]
    pub from_number: String,
    /// Whether only hashes of numbers are kept.
    #[serde(default)]
    pub verify_only: bool,
    /// Who sends the message.
    pub provider: Provider,
    /// Account SID or gateway URL, if the spec gives it in clear text.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "schema::optional_status_string::<{schema::STATUS_URL}>")]
    pub account_sid: Option<String>,
    /// How authentik proves itself to the gateway.
    pub auth_type: AuthType,
    /// Primary key of the webhook mapping.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "schema::optional_status_string::<{schema::STATUS_WORD}>")]
    pub mapping: Option<String>,
}

/// What blocks the deletion of a stage: one kind of dependent.
#[derive(Serialize, Deserialize, Clone, Debug, PartialEq, Eq, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct Dependent {
    /// Kind: `devices`, `bindings` or `validateStages`.
    #[schemars(schema_with = "schema::status_string::<{schema::STATUS_WORD}>")]
    pub kind: String,
    /// How many.
    #[schemars(range(min = 0))]
    pub count: i64,
    /// Their names as far as they are worth listing: never those of devices, which tell users' names.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(schema_with = "schema::status_names::<{schema::STATUS_DEPENDENTS}>")]
    pub names: Vec<String>,
}
