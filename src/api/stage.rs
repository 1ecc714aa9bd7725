//! `AuthenticatorSMSStage`: one SMS authenticator stage, as it should be.

use kube::{CustomResource, KubeSchema};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::reference::{ConnectionRef, SecretKeyRef};
use super::stage_status::AuthenticatorSMSStageStatus;
use super::{rules, schema};

/// The stage as it should be. A field that is absent has the stated default and is enforced like any other: the
/// resource is the whole truth about the stage.
#[derive(CustomResource, Serialize, Deserialize, Clone, Debug, PartialEq, KubeSchema)]
#[kube(
    group = "stages.authentik-operator.dev",
    version = "v1alpha1",
    kind = "AuthenticatorSMSStage",
    plural = "authenticatorsmsstages",
    singular = "authenticatorsmsstage",
    shortname = "aksms",
    category = "authentik",
    namespaced,
    status = "AuthenticatorSMSStageStatus",
    derive = "PartialEq",
    doc = "An SMS authenticator stage in authentik: a login step that lets a user enrol a phone number and get codes by SMS, sent through Twilio or a generic HTTP gateway.",
    selectable = ".spec.provider",
    printcolumn(
        name = "Ready",
        type_ = "string",
        description = "Whether the stage is as declared",
        json_path = ".status.conditions[?(@.type=='Ready')].status"
    ),
    printcolumn(
        name = "Reason",
        type_ = "string",
        description = "Why",
        json_path = ".status.conditions[?(@.type=='Ready')].reason"
    ),
    printcolumn(
        name = "Stage",
        type_ = "string",
        description = "Name of the stage in authentik",
        json_path = ".status.stage.name"
    ),
    printcolumn(
        name = "Provider",
        type_ = "string",
        description = "Who sends the message",
        json_path = ".spec.provider"
    ),
    printcolumn(
        name = "PK",
        type_ = "string",
        description = "Primary key of the stage in authentik",
        json_path = ".status.stage.pk",
        priority = 1
    ),
    printcolumn(
        name = "Server",
        type_ = "string",
        description = "URL of the authentik that the stage lives on",
        json_path = ".status.connection.url",
        priority = 1
    ),
    printcolumn(
        name = "Message",
        type_ = "string",
        description = "What is the case, and what to do about it",
        json_path = ".status.conditions[?(@.type=='Ready')].message",
        priority = 1
    ),
    printcolumn(name = "Age", type_ = "date", json_path = ".metadata.creationTimestamp")
)]
#[serde(rename_all = "camelCase")]
#[x_kube(
    validation = Rule::new("has(self.connectionRef) == has(oldSelf.connectionRef)")
        .message("connectionRef cannot be set or removed later: create another resource, and delete this one with deletionPolicy Orphan")
        .reason(Reason::FieldValueForbidden)
        .field_path(".connectionRef"),
    validation = rules::needed("provider", "twilio", "twilio"),
    validation = rules::only_with("provider", "twilio", "twilio"),
    validation = rules::needed("provider", "generic", "generic"),
    validation = rules::only_with("provider", "generic", "generic")
)]
pub struct AuthenticatorSMSStageSpec {
    /// Which authentik, by its AuthentikConnection. Absent: the operator's default connection. Cannot be changed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    // Field by field: as a whole, `namespace: null` would be a change from no namespace.
    #[x_kube(validation = Rule::new("self.name == oldSelf.name && has(self.__namespace__) == has(oldSelf.__namespace__) \
            && (!has(self.__namespace__) || self.__namespace__ == oldSelf.__namespace__)")
        .message("connectionRef cannot be changed: create another resource, and delete this one with deletionPolicy Orphan")
        .reason(Reason::FieldValueForbidden))]
    pub connection_ref: Option<ConnectionRef>,

    /// Name of the stage in authentik, unique there over all kinds of stages. Default: `metadata.name`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "schema::optional_text::<1, 253>")]
    pub name: Option<String>,

    /// What users see as the name of this way to log in. Absent or empty clears it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "schema::optional_text::<0, 255>")]
    pub friendly_name: Option<String>,

    /// Flow with which a logged-in user enrols a phone number; it should bind this stage. Absent: none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub configure_flow: Option<ConfigureFlow>,

    /// Sender of the message: a phone number such as "+15550100" (quote it, or YAML reads an integer), a short code,
    /// an alphanumeric sender or a channel address.
    #[schemars(schema_with = "schema::text::<1, 64>")]
    pub from_number: String,

    /// Keep only a hash of each enrolled number: proof of the number, of no use for logging in.
    #[serde(default)]
    pub verify_only: bool,

    /// Who sends the message: `twilio` or `generic`, an HTTP gateway.
    pub provider: Provider,

    /// Twilio's account. Exactly when `provider` is `twilio`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub twilio: Option<Twilio>,

    /// The HTTP gateway. Exactly when `provider` is `generic`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub generic: Option<Generic>,

    /// Webhook mapping that shapes the message. Absent: none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mapping: Option<Mapping>,

    /// What to do with a stage of that name that this resource did not create: `Never` touch it, take it over
    /// `IfMatch`, that is if every readable field already equals the spec, or `Always` take it over and correct it.
    #[serde(default)]
    pub adoption_policy: AdoptionPolicy,

    /// What deleting this resource does to the stage: `Delete` it unless something depends on it, `Orphan` it, or
    /// `ForceDelete` it with the users' devices. Absent: `Delete` for a stage that was created, `Orphan` for one that
    /// was adopted.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "schema::optional_choice")]
    #[x_kube(validation = Rule::new("self in ['Delete', 'Orphan', 'ForceDelete']")
        .message("write Delete, Orphan or ForceDelete, or leave it out")
        .reason(Reason::FieldValueInvalid))]
    pub deletion_policy: Option<DeletionPolicy>,

    /// `Full`: keep the stage as declared. `Observe`: report only, never write or delete in authentik.
    #[serde(default)]
    pub management_policy: ManagementPolicy,

    /// Hands off: nothing is written in authentik. Deleting a suspended resource leaves the stage alone.
    #[serde(default)]
    pub suspend: bool,
}

/// Who sends the message.
#[derive(Serialize, Deserialize, Clone, Copy, Debug, PartialEq, Eq, Hash, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Provider {
    /// Twilio's own API.
    Twilio,
    /// An HTTP gateway.
    Generic,
}

impl Provider {
    /// The value as authentik and the resource spell it.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Provider::Twilio => "twilio",
            Provider::Generic => "generic",
        }
    }
}

/// The flow with which a user enrols, by exactly one of its two identities.
#[derive(Serialize, Deserialize, Clone, Debug, PartialEq, Eq, Hash, KubeSchema)]
#[serde(rename_all = "camelCase")]
#[x_kube(validation = rules::one_of("slug", "uuid"), validation = rules::not_both("slug", "uuid"))]
pub struct ConfigureFlow {
    /// Slug of the flow: letters, digits, `-` and `_`. More than 50 characters need authentik 2025.12.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "schema::optional_text::<1, 255>")]
    #[x_kube(validation = Rule::new("self.matches('^[-a-zA-Z0-9_]+$')")
        .message("a slug has only letters, digits, - and _: write the last part of the flow's URL")
        .reason(Reason::FieldValueInvalid))]
    pub slug: Option<String>,
    /// Primary key of the flow.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "schema::optional_uuid")]
    pub uuid: Option<String>,
}

/// A webhook mapping, by exactly one of its two identities.
#[derive(Serialize, Deserialize, Clone, Debug, PartialEq, Eq, Hash, KubeSchema)]
#[serde(rename_all = "camelCase")]
#[x_kube(validation = rules::one_of("name", "uuid"), validation = rules::not_both("name", "uuid"))]
pub struct Mapping {
    /// Name of the webhook mapping.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "schema::optional_text::<1, 255>")]
    pub name: Option<String>,
    /// Primary key of the webhook mapping.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "schema::optional_uuid")]
    pub uuid: Option<String>,
}

/// Twilio's account.
#[derive(Serialize, Deserialize, Clone, Debug, PartialEq, Eq, Hash, KubeSchema)]
#[serde(rename_all = "camelCase")]
#[x_kube(
    validation = rules::one_of("accountSid", "accountSidSecretRef"),
    validation = rules::not_both("accountSid", "accountSidSecretRef")
)]
pub struct Twilio {
    /// The Account SID: `AC` and 32 hexadecimal digits. An API key (`SK...`) cannot work here.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "schema::optional_guarded_text::<1, 255>")]
    #[x_kube(validation = Rule::new("self.matches('^AC[0-9a-fA-F]{32}$')")
        .message("an Account SID is AC and 32 hexadecimal digits: copy it from Twilio's console (an API key SK... cannot be used)")
        .reason(Reason::FieldValueForbidden))]
    pub account_sid: Option<String>,
    /// The Account SID in a Secret.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub account_sid_secret_ref: Option<SecretKeyRef>,
    /// The account's Auth Token in a Secret.
    pub auth_token_secret_ref: SecretKeyRef,
}

/// How authentik proves itself to the gateway.
#[derive(Serialize, Deserialize, Clone, Copy, Debug, Default, PartialEq, Eq, Hash, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum AuthType {
    /// User name and password.
    #[default]
    Basic,
    /// A bearer token.
    Bearer,
}

impl AuthType {
    /// The value as authentik and the resource spell it.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            AuthType::Basic => "basic",
            AuthType::Bearer => "bearer",
        }
    }
}

/// An HTTP gateway that takes a POST with the message as JSON.
#[derive(Serialize, Deserialize, Clone, Debug, PartialEq, Eq, Hash, KubeSchema)]
#[serde(rename_all = "camelCase")]
#[x_kube(
    validation = rules::one_of("url", "urlSecretRef"),
    validation = rules::not_both("url", "urlSecretRef"),
    validation = Rule::new("self.authType != 'basic' || has(self.username) || has(self.usernameSecretRef)")
        .message("set exactly one of username and usernameSecretRef: authType basic needs it")
        .reason(Reason::FieldValueRequired)
        .field_path(".username"),
    validation = rules::not_both("username", "usernameSecretRef"),
    validation = rules::only_with("authType", "basic", "username"),
    validation = rules::only_with("authType", "basic", "usernameSecretRef"),
    validation = rules::only_with("authType", "basic", "passwordSecretRef"),
    validation = rules::needed("authType", "bearer", "tokenSecretRef"),
    validation = rules::only_with("authType", "bearer", "tokenSecretRef")
)]
pub struct Generic {
    /// Absolute http or https URL of the gateway, without user, password or fragment.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "schema::optional_guarded_text::<1, 2048>")]
    #[x_kube(
        validation = rules::absolute_url("https://sms.example.com/send"),
        validation = Rule::new("!self.matches('^[^/?#]*//[^/?#]*@') && !self.contains('#')")
            .message("remove user, password and fragment from the URL: credentials belong into username and passwordSecretRef, or tokenSecretRef")
            .reason(Reason::FieldValueForbidden)
    )]
    pub url: Option<String>,
    /// The URL in a Secret, for gateways that carry a key in it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub url_secret_ref: Option<SecretKeyRef>,
    /// `basic` (default): user name and password; `bearer`: a token.
    #[serde(default)]
    pub auth_type: AuthType,
    /// User name for `basic`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "schema::optional_guarded_text::<1, 255>")]
    #[x_kube(
        validation = Rule::new("!self.contains(':')")
            .message("remove the colon: HTTP basic authentication has no user name with one")
            .reason(Reason::FieldValueForbidden),
        validation = Rule::new(r"self.matches('^[\\x{0000}-\\x{00ff}]*$')")
            .message("use Latin-1 characters only: the user name goes into an HTTP header")
            .reason(Reason::FieldValueForbidden)
    )]
    pub username: Option<String>,
    /// User name for `basic` in a Secret.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub username_secret_ref: Option<SecretKeyRef>,
    /// Password for `basic` in a Secret. Absent: the empty password.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub password_secret_ref: Option<SecretKeyRef>,
    /// Token for `bearer` in a Secret.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub token_secret_ref: Option<SecretKeyRef>,
}

/// What to do with a stage of the wanted name that this resource did not create.
#[derive(Serialize, Deserialize, Clone, Copy, Debug, Default, PartialEq, Eq, Hash, JsonSchema)]
pub enum AdoptionPolicy {
    /// Leave it alone and report the conflict.
    Never,
    /// Take it over if every readable field that the provider uses already equals the spec.
    #[default]
    IfMatch,
    /// Take it over and correct it.
    Always,
}

/// What deleting the resource does to the stage.
#[derive(Serialize, Deserialize, Clone, Copy, Debug, PartialEq, Eq, Hash, JsonSchema)]
pub enum DeletionPolicy {
    /// Delete it, unless devices, flows or other stages depend on it.
    Delete,
    /// Leave it in authentik.
    Orphan,
    /// Delete it with everything that depends on it, users' devices included.
    ForceDelete,
}

/// Whether the operator writes at all.
#[derive(Serialize, Deserialize, Clone, Copy, Debug, Default, PartialEq, Eq, Hash, JsonSchema)]
pub enum ManagementPolicy {
    /// Keep the stage as declared.
    #[default]
    Full,
    /// Report only: never write or delete in authentik.
    Observe,
}
