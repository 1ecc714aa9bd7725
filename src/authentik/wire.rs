//! What authentik answers, as Rust types.
//!
//! Only `pk` and `name` must be there; enums are open sets, kept as texts. What is no JSON or not of the expected form
//! is described by its place, never by its content, which may hold a credential.

use std::collections::HashMap;

use secrecy::SecretString;
use serde::Deserialize;
use serde::de::{DeserializeOwned, Deserializer, IgnoredAny};
use serde_json::value::RawValue;
use uuid::Uuid;

use super::lenient;

/// An SMS authenticator stage. Texts and ids that a reply lacks are empty.
#[derive(Clone, Debug, Deserialize)]
pub struct StageRow {
    /// Identity.
    pub pk: Uuid,
    /// Unique over all stage types.
    pub name: String,
    /// Name of the form in the web interface.
    #[serde(default, deserialize_with = "lenient::text")]
    pub component: String,
    /// Name of the type, in the token's language.
    #[serde(default, deserialize_with = "lenient::text")]
    pub verbose_name: String,
    /// Plural of it.
    #[serde(default, deserialize_with = "lenient::text")]
    pub verbose_name_plural: String,
    /// `app.model`.
    #[serde(default, deserialize_with = "lenient::text")]
    pub meta_model_name: String,
    /// What users see; `null` and `""` are the same.
    #[serde(default, deserialize_with = "lenient::text")]
    pub friendly_name: String,
    /// Flow in which users enrol.
    #[serde(default, deserialize_with = "lenient::uuid")]
    pub configure_flow: Option<Uuid>,
    /// `twilio` or `generic`, or what a later version adds.
    #[serde(default, deserialize_with = "lenient::text")]
    pub provider: String,
    /// Sender.
    #[serde(default, deserialize_with = "lenient::text")]
    pub from_number: String,
    /// Account SID, or the gateway's URL, which may hold a key.
    #[serde(default, deserialize_with = "lenient::credential")]
    pub account_sid: SecretString,
    /// Auth token, user name or bearer token. `None` if the reply does not have it: newer servers never tell.
    #[serde(default, deserialize_with = "lenient::told_credential")]
    pub auth: Option<SecretString>,
    /// Password for basic authentication. `None` as for `auth`.
    #[serde(default, deserialize_with = "lenient::told_credential")]
    pub auth_password: Option<SecretString>,
    /// `basic` or `bearer`.
    #[serde(default, deserialize_with = "lenient::text")]
    pub auth_type: String,
    /// Keep only hashes of numbers.
    #[serde(default, deserialize_with = "lenient::flag")]
    pub verify_only: bool,
    /// Mapping of what is sent.
    #[serde(default, deserialize_with = "lenient::uuid")]
    pub mapping: Option<Uuid>,
    /// Flows that bind the stage, one a binding.
    #[serde(default, deserialize_with = "lenient::elements")]
    pub flow_set: Vec<FlowSetEntry>,
}

/// A flow that binds the stage.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Deserialize)]
#[serde(from = "FlowSetFields")]
#[allow(missing_docs)] // authentik's own names
pub struct FlowSetEntry {
    pub pk: Uuid,
    pub policybindingmodel_ptr_id: String,
    pub name: String,
    pub slug: String,
    pub title: String,
    pub designation: String,
    /// Path of the picture, `background` or `background_url` by version, without the signature that changes at every read.
    pub background: String,
    pub policy_engine_mode: String,
    pub compatibility_mode: bool,
    /// Without query and fragment.
    pub export_url: String,
    pub layout: String,
    pub denied_action: String,
}

#[derive(Deserialize)]
struct FlowSetFields {
    pk: Uuid,
    #[serde(default, deserialize_with = "lenient::text")]
    policybindingmodel_ptr_id: String,
    #[serde(default, deserialize_with = "lenient::text")]
    name: String,
    #[serde(default, deserialize_with = "lenient::text")]
    slug: String,
    #[serde(default, deserialize_with = "lenient::text")]
    title: String,
    #[serde(default, deserialize_with = "lenient::text")]
    designation: String,
    #[serde(default, deserialize_with = "lenient::unsigned_url")]
    background: String,
    #[serde(default, deserialize_with = "lenient::unsigned_url")]
    background_url: String,
    #[serde(default, deserialize_with = "lenient::text")]
    policy_engine_mode: String,
    #[serde(default, deserialize_with = "lenient::flag")]
    compatibility_mode: bool,
    #[serde(default, deserialize_with = "lenient::unsigned_url")]
    export_url: String,
    #[serde(default, deserialize_with = "lenient::text")]
    layout: String,
    #[serde(default, deserialize_with = "lenient::text")]
    denied_action: String,
}

impl From<FlowSetFields> for FlowSetEntry {
    fn from(fields: FlowSetFields) -> Self {
        let FlowSetFields {
            pk,
            policybindingmodel_ptr_id,
            name,
            slug,
            title,
            designation,
            background,
            background_url,
            policy_engine_mode,
            compatibility_mode,
            export_url,
            layout,
            denied_action,
        } = fields;
        Self {
            pk,
            policybindingmodel_ptr_id,
            name,
            slug,
            title,
            designation,
            background: if background_url.is_empty() {
                background
            } else {
                background_url
            },
            policy_engine_mode,
            compatibility_mode,
            export_url,
            layout,
            denied_action,
        }
    }
}

/// A stage of any type.
#[derive(Clone, Debug, Deserialize)]
pub struct AnyStage {
    /// Identity.
    pub pk: Uuid,
    /// Unique over all types.
    pub name: String,
    /// `app.model`.
    #[serde(default, deserialize_with = "lenient::text")]
    pub meta_model_name: String,
    /// Name of the type.
    #[serde(default, deserialize_with = "lenient::text")]
    pub verbose_name: String,
}

/// A flow.
#[derive(Clone, Debug, Deserialize)]
pub struct Flow {
    /// Identity.
    pub pk: Uuid,
    /// Name in URLs, unique, case-sensitive.
    pub slug: String,
    /// Name.
    #[serde(default, deserialize_with = "lenient::text")]
    pub name: String,
    /// What it is for, such as `stage_configuration`.
    #[serde(default, deserialize_with = "lenient::text")]
    pub designation: String,
    /// Who may run it, such as `require_authenticated`.
    #[serde(default, deserialize_with = "lenient::text")]
    pub authentication: String,
    /// The stages that it binds, one a binding.
    #[serde(default, deserialize_with = "lenient::elements")]
    pub stages: Vec<Uuid>,
}

/// A webhook mapping.
#[derive(Clone, Debug, Deserialize)]
pub struct Mapping {
    /// Identity.
    pub pk: Uuid,
    /// Unique over all property mappings.
    pub name: String,
}

/// Whose token it is.
#[derive(Clone, Debug)]
pub struct Me {
    /// Name.
    pub username: String,
    /// Whether all is allowed.
    pub is_superuser: bool,
}

impl<'de> Deserialize<'de> for Me {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        #[derive(Deserialize)]
        struct Reply {
            user: User,
        }
        #[derive(Deserialize)]
        struct User {
            username: String,
            #[serde(default, deserialize_with = "lenient::flag")]
            is_superuser: bool,
        }
        let Reply {
            user: User { username, is_superuser },
        } = Reply::deserialize(deserializer)?;
        Ok(Self { username, is_superuser })
    }
}

/// Something that refers to a stage. An object with unreadable members still is one: a deletion must see it.
#[derive(Clone, Debug, Deserialize)]
pub struct UsedBy {
    /// Django app, such as `authentik_flows`.
    #[serde(default, deserialize_with = "lenient::text")]
    pub app: String,
    /// Model, such as `flowstagebinding`.
    #[serde(default, deserialize_with = "lenient::text")]
    pub model_name: String,
    /// Identity: a uuid, or a number for a device.
    #[serde(default, deserialize_with = "lenient::text")]
    pub pk: String,
    /// Name.
    #[serde(default, deserialize_with = "lenient::text")]
    pub name: String,
    /// What deleting the stage does to it, in lower case: `cascade`, `cascade_many`, `set_null`, …
    #[serde(default, deserialize_with = "lenient::lower_case")]
    pub action: String,
}

/// An authenticator validation stage.
#[derive(Clone, Debug, Deserialize)]
pub struct ValidateStage {
    /// Identity.
    pub pk: Uuid,
    /// Name.
    pub name: String,
    /// Stages in which a user without a device may enrol.
    #[serde(default, deserialize_with = "lenient::elements")]
    pub configuration_stages: Vec<Uuid>,
    /// Such as `sms`, `totp`.
    #[serde(default, deserialize_with = "lenient::elements")]
    pub device_classes: Vec<String>,
}

/// A stage in a flow.
#[derive(Clone, Debug, Deserialize)]
pub struct Binding {
    /// Identity.
    pub pk: Uuid,
    /// The flow.
    pub target: Uuid,
    /// The stage.
    pub stage: Uuid,
    /// Its place.
    #[serde(default, deserialize_with = "lenient::integer")]
    pub order: i64,
}

/// What the audit log keeps of a write of an SMS stage.
#[derive(Clone, Debug)]
pub struct StageEvent {
    /// `model_created`, `model_updated` or `model_deleted`.
    pub action: String,
    /// The stage.
    pub model_pk: Option<Uuid>,
    /// Who wrote, as the request said.
    pub user_agent: String,
    /// authentik's id of the request.
    pub request_id: String,
    /// Whose token it was.
    pub username: String,
}

/// An event of any model.
#[derive(Debug)]
pub(super) struct Event {
    /// `app.model`.
    pub model: String,
    pub event: StageEvent,
}

impl<'de> Deserialize<'de> for Event {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        #[derive(Deserialize)]
        struct Reply {
            action: String,
            #[serde(default, deserialize_with = "lenient::or_default")]
            user: User,
            #[serde(default, deserialize_with = "lenient::or_default")]
            context: Context,
        }
        #[derive(Deserialize, Default)]
        struct User {
            #[serde(default, deserialize_with = "lenient::text")]
            username: String,
        }
        #[derive(Deserialize, Default)]
        struct Context {
            #[serde(default, deserialize_with = "lenient::or_default")]
            model: Model,
            #[serde(default, deserialize_with = "lenient::or_default")]
            http_request: HttpRequest,
        }
        #[derive(Deserialize, Default)]
        #[allow(clippy::struct_field_names)] // authentik's own names
        struct Model {
            #[serde(default, deserialize_with = "lenient::uuid")]
            pk: Option<Uuid>,
            #[serde(default, deserialize_with = "lenient::text")]
            app: String,
            #[serde(default, deserialize_with = "lenient::text")]
            model_name: String,
        }
        #[derive(Deserialize, Default)]
        struct HttpRequest {
            #[serde(default, deserialize_with = "lenient::text")]
            user_agent: String,
            #[serde(default, deserialize_with = "lenient::text")]
            request_id: String,
        }
        let Reply {
            action,
            user,
            context: Context { model, http_request },
        } = Reply::deserialize(deserializer)?;
        Ok(Self {
            model: format!("{}.{}", model.app, model.model_name),
            event: StageEvent {
                action,
                model_pk: model.pk,
                user_agent: http_request.user_agent,
                request_id: http_request.request_id,
                username: user.username,
            },
        })
    }
}

/// A page of a list.
#[derive(Clone, Debug)]
pub struct Page<T> {
    /// Its rows.
    pub items: Vec<T>,
    /// Number of the next one.
    pub next: Option<u32>,
    /// Rows of all pages, as the server says.
    pub count: u64,
    /// Rows of this page that could not be read.
    pub skipped: u64,
}

/// A row of which nothing is wanted.
#[derive(Clone, Copy, Debug)]
pub(super) struct Anything;

impl<'de> Deserialize<'de> for Anything {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        IgnoredAny::deserialize(deserializer).map(|_| Self)
    }
}

/// The version in an answer.
#[derive(Debug, Deserialize)]
pub(super) struct Version {
    pub version_current: String,
}

/// Whether `OPTIONS` offers an action: `POST` iff the token may add, `PUT` iff it may change.
pub(super) fn offers(json: &[u8], action: &str) -> Result<bool, String> {
    #[derive(Deserialize)]
    struct Reply<'a> {
        #[serde(default, borrow)]
        actions: Option<&'a RawValue>,
    }
    let Reply { actions } = borrowed(json)?;
    let actions: HashMap<String, &RawValue> = actions
        .and_then(|actions| serde_json::from_str(actions.get()).ok())
        .unwrap_or_default();
    Ok(actions.contains_key(action))
}

/// Reads one object.
pub(super) fn one<T: DeserializeOwned>(json: &[u8]) -> Result<T, String> {
    borrowed(json)
}

/// Reads an array of which every element counts.
pub(super) fn every<T: DeserializeOwned>(json: &[u8]) -> Result<Vec<T>, String> {
    one(json)
}

/// Reads a page. A row that cannot be read is counted and does not spoil the others.
pub(super) fn page<T: DeserializeOwned>(json: &[u8]) -> Result<Page<T>, String> {
    #[derive(Deserialize)]
    struct Reply<'a> {
        pagination: Pagination,
        #[serde(borrow)]
        results: Vec<&'a RawValue>,
    }
    #[derive(Deserialize)]
    struct Pagination {
        // A page number; 0 is none.
        #[serde(default, deserialize_with = "lenient::count")]
        next: u64,
        #[serde(default, deserialize_with = "lenient::count")]
        count: u64,
    }
    let Reply { pagination, results } = borrowed(json)?;
    let rows = results.len();
    let items: Vec<T> = results
        .into_iter()
        .filter_map(|row| serde_json::from_str(row.get()).ok())
        .collect();
    Ok(Page {
        skipped: (rows - items.len()) as u64,
        items,
        next: u32::try_from(pagination.next).ok().filter(|next| *next > 0),
        count: pagination.count,
    })
}

fn borrowed<'a, T: Deserialize<'a>>(json: &'a [u8]) -> Result<T, String> {
    serde_json::from_slice(json).map_err(|error| place(&error))
}

/// Where something is wrong. The library's own words may quote the value.
fn place(error: &serde_json::Error) -> String {
    let what = match error.classify() {
        serde_json::error::Category::Eof => "the JSON is cut short",
        serde_json::error::Category::Syntax | serde_json::error::Category::Io => "not JSON",
        serde_json::error::Category::Data => "a field is missing or has an unexpected form",
    };
    format!("{what} (line {}, column {})", error.line(), error.column())
}
