//! What authentik answers, as Rust types.
//!
//! Only `pk` and `name` must be there; enums are open sets, kept as texts. What is no JSON or not of the expected form
//! is described by its place, never by its content, which may hold a credential.

use std::collections::HashMap;
use std::ops::ControlFlow;

use secrecy::SecretString;
use serde::Deserialize;
use serde::de::{DeserializeOwned, Deserializer, IgnoredAny};
use serde_json::value::RawValue;
use uuid::Uuid;

use super::lenient;

/// authentik's name of the model in audit events.
const STAGE_MODEL: &str = "authentik_stages_authenticator_sms.authenticatorsmsstage";

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

/// Changes of SMS stages since an earlier look.
#[derive(Clone, Debug, Default)]
pub struct RecentEvents {
    /// Newest first.
    pub events: Vec<StageEvent>,
    /// Up to where this look reaches, for the next one to begin after; empty if there is no event at all.
    pub newest: String,
}

impl RecentEvents {
    /// Takes in the next page, down to the event `seen`; breaks if that is there.
    pub(super) fn take(&mut self, page: Page<Event>, action: &str, seen: Option<&str>) -> ControlFlow<()> {
        for event in page.items {
            if self.newest.is_empty() {
                self.newest.clone_from(&event.pk);
            }
            if !event.pk.is_empty() && seen == Some(event.pk.as_str()) {
                return ControlFlow::Break(());
            }
            self.events.extend(event.of_stage(action));
        }
        ControlFlow::Continue(())
    }
}

/// An event of any model.
#[derive(Debug)]
pub(super) struct Event {
    /// authentik's key of the event.
    pub pk: String,
    /// `app.model`.
    pub model: String,
    pub about: StageEvent,
}

impl Event {
    /// What it tells of an SMS stage, if that is what it is about.
    pub fn of_stage(self, action: &str) -> Option<StageEvent> {
        (self.model == STAGE_MODEL && self.about.action == action).then_some(self.about)
    }
}

impl<'de> Deserialize<'de> for Event {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        #[derive(Deserialize)]
        struct Reply {
            #[serde(default, deserialize_with = "lenient::text")]
            pk: String,
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
            pk,
            action,
            user,
            context: Context { model, http_request },
        } = Reply::deserialize(deserializer)?;
        Ok(Self {
            pk,
            model: format!("{}.{}", model.app, model.model_name),
            about: StageEvent {
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

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use secrecy::ExposeSecret;
    use serde_json::{Value, json};

    use super::*;

    fn row() -> Value {
        json!({
            "pk": Uuid::from_u128(1), "name": "sms", "component": "ak-stage-authenticator-sms-form",
            "verbose_name": "SMS Authenticator Setup Stage", "verbose_name_plural": "SMS Authenticator Setup Stages",
            "meta_model_name": "authentik_stages_authenticator_sms.authenticatorsmsstage",
            "flow_set": [{
                "pk": Uuid::from_u128(2), "policybindingmodel_ptr_id": Uuid::from_u128(3), "name": "f", "slug": "f",
                "title": "F", "designation": "stage_configuration", "background_url": "/bg.jpg?sig=1",
                "policy_engine_mode": "any", "compatibility_mode": false, "export_url": "/api/export/#x",
                "layout": "stacked", "denied_action": "message_continue",
            }],
            "configure_flow": null, "friendly_name": null, "provider": "twilio", "from_number": "+1",
            "account_sid": "AC0", "auth": "t0ken", "auth_password": "", "auth_type": "basic", "verify_only": true,
            "mapping": Uuid::from_u128(4),
        })
    }

    #[test]
    fn a_stage_is_read_whole() {
        let stage: StageRow = one(row().to_string().as_bytes()).unwrap();
        assert_eq!((stage.pk, stage.name.as_str()), (Uuid::from_u128(1), "sms"));
        assert_eq!(stage.friendly_name, "", "null and empty are the same");
        assert_eq!(stage.auth.as_ref().unwrap().expose_secret(), "t0ken");
        assert_eq!(stage.auth_password.as_ref().unwrap().expose_secret(), "");
        assert_eq!((stage.configure_flow, stage.mapping), (None, Some(Uuid::from_u128(4))));
        assert!(stage.verify_only);
        let flow = &stage.flow_set[0];
        assert_eq!(
            (flow.background.as_str(), flow.export_url.as_str()),
            ("/bg.jpg", "/api/export/")
        );
    }

    #[test]
    fn the_background_has_two_names_and_may_have_both() {
        for (fields, background) in [
            (json!({"pk": Uuid::nil(), "background": "/old.jpg?sig=1"}), "/old.jpg"),
            (json!({"pk": Uuid::nil(), "background_url": "/new.jpg"}), "/new.jpg"),
            (
                json!({"pk": Uuid::nil(), "background": "", "background_url": "/new.jpg"}),
                "/new.jpg",
            ),
        ] {
            assert_eq!(
                one::<FlowSetEntry>(fields.to_string().as_bytes()).unwrap().background,
                background
            );
        }
    }

    #[test]
    fn a_write_only_server_tells_no_credential_and_an_old_one_an_empty_one() {
        let mut written = row();
        written
            .as_object_mut()
            .unwrap()
            .retain(|key, _| !key.starts_with("auth"));
        let stage: StageRow = one(written.to_string().as_bytes()).unwrap();
        assert!(stage.auth.is_none() && stage.auth_password.is_none());
    }

    #[test]
    fn only_pk_and_name_must_be_there() {
        assert!(one::<StageRow>(json!({"pk": Uuid::nil(), "name": "x"}).to_string().as_bytes()).is_ok());
        for (missing, why) in [("pk", "no identity"), ("name", "no name")] {
            let mut row = row();
            row.as_object_mut().unwrap().remove(missing);
            assert!(one::<StageRow>(row.to_string().as_bytes()).is_err(), "{why}");
        }
    }

    #[test]
    fn debug_shows_no_credential() {
        let shown = format!("{:?}", one::<StageRow>(row().to_string().as_bytes()).unwrap());
        assert!(!shown.contains("t0ken") && !shown.contains("AC0"), "{shown}");
    }

    #[test]
    fn an_odd_row_spoils_no_page() {
        let body = json!({"pagination": {"next": 2.0, "count": 3}, "results": [row(), {"pk": "?", "name": "x"}, 7]});
        let page: Page<StageRow> = page(body.to_string().as_bytes()).unwrap();
        assert_eq!(
            (page.items.len(), page.skipped, page.next, page.count),
            (1, 2, Some(2), 3)
        );
    }

    #[test]
    fn page_zero_is_no_page() {
        let body = json!({"pagination": {"next": 0, "count": 0}, "results": []});
        assert_eq!(page::<StageRow>(body.to_string().as_bytes()).unwrap().next, None);
    }

    #[test]
    fn what_refers_to_a_stage_is_never_overlooked() {
        let body =
            json!([{"app": "a", "model_name": "smsdevice", "pk": 7, "name": null, "action": "CASCADE_MANY"}, {}]);
        let used_by: Vec<UsedBy> = every(body.to_string().as_bytes()).unwrap();
        assert_eq!(used_by.len(), 2);
        assert_eq!(
            (used_by[0].pk.as_str(), used_by[0].action.as_str()),
            ("7", "cascade_many")
        );
        assert!(every::<UsedBy>(b"[7]").is_err());
    }

    #[test]
    fn options_tells_what_is_allowed() {
        assert_eq!(offers(br#"{"actions":{"POST":{"name":{}}}}"#, "POST"), Ok(true));
        assert_eq!(offers(br#"{"actions":{"PUT":{}}}"#, "POST"), Ok(false));
        assert_eq!(offers(br#"{"name":"x"}"#, "POST"), Ok(false));
        assert_eq!(offers(br#"{"actions":[]}"#, "POST"), Ok(false));
    }

    #[test]
    fn an_event_tells_whose_it_is() {
        let body = json!({
            "pk": "e", "action": "model_updated", "user": {"username": "op"},
            "context": {
                "model": {"pk": "00000000000000000000000000000001", "app": "a", "model_name": "m", "name": "x"},
                "http_request": {"request_id": "r", "user_agent": "agent", "args": {}},
            },
        });
        let Event {
            pk,
            model,
            about: event,
        } = one(body.to_string().as_bytes()).unwrap();
        assert_eq!((pk.as_str(), model.as_str()), ("e", "a.m"));
        assert_eq!(event.model_pk, Some(Uuid::from_u128(1)));
        assert_eq!((event.user_agent.as_str(), event.username.as_str()), ("agent", "op"));
        // A device's id is a number.
        let device = json!({"action": "model_deleted", "user": null, "context": {"model": {"pk": 7}}});
        assert_eq!(
            one::<Event>(device.to_string().as_bytes()).unwrap().about.model_pk,
            None
        );
    }

    #[test]
    fn deep_nesting_is_an_error_and_no_overflow() {
        let deep = format!("{{\"pk\": {}1{}}}", "[".repeat(100_000), "]".repeat(100_000));
        assert!(one::<StageRow>(deep.as_bytes()).is_err());
    }

    fn any_json() -> impl Strategy<Value = Value> {
        let leaf = prop_oneof![
            Just(Value::Null),
            any::<bool>().prop_map(Value::from),
            any::<i64>().prop_map(Value::from),
            any::<f64>().prop_map(Value::from),
            ".*".prop_map(Value::from),
            any::<u128>().prop_map(|id| Value::from(Uuid::from_u128(id).to_string())),
        ];
        leaf.prop_recursive(3, 24, 4, |inner| {
            prop_oneof![
                proptest::collection::vec(inner.clone(), 0..4).prop_map(Value::from),
                proptest::collection::btree_map("[a-z_]{1,8}", inner, 0..4).prop_map(|map| json!(map)),
            ]
        })
    }

    /// Reads the bytes as everything there is.
    fn read_all(json: &[u8]) {
        let _ = one::<StageRow>(json);
        let _ = one::<Flow>(json);
        let _ = one::<Me>(json);
        let _ = one::<Version>(json);
        let _ = every::<UsedBy>(json);
        let _ = offers(json, "POST");
        let _ = page::<StageRow>(json);
        let _ = page::<Event>(json);
        let _ = page::<ValidateStage>(json);
        let _ = page::<Binding>(json);
    }

    proptest! {
        #[test]
        fn no_bytes_make_it_panic(bytes in proptest::collection::vec(any::<u8>(), 0..256)) {
            read_all(&bytes);
        }

        #[test]
        fn a_row_is_readable_whatever_one_other_field_becomes(index in 0usize..17, value in any_json()) {
            let mut row = row();
            let fields = row.as_object_mut().unwrap();
            let key = fields.keys().nth(index).unwrap().clone();
            fields.insert(key.clone(), value);
            read_all(row.to_string().as_bytes());
            if key != "pk" && key != "name" {
                prop_assert!(one::<StageRow>(row.to_string().as_bytes()).is_ok(), "{}", key);
            }
            let list = json!({"pagination": {"count": 2}, "results": [row, self::row()]});
            prop_assert!(!page::<StageRow>(list.to_string().as_bytes()).unwrap().items.is_empty());
        }
    }
}
