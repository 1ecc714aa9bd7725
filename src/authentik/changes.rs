//! What a write sends: exactly the fields that are to change, and who writes.

use bytes::Bytes;
use secrecy::SecretString;
use uuid::Uuid;

use super::credential::{self, SecretJson};

/// Name and version of the operator, as reads send them.
pub(super) const PRODUCT: &str = concat!(env!("CARGO_PKG_NAME"), "/", env!("CARGO_PKG_VERSION"));

/// Fields of a stage to set. `None` leaves a field as it is; `Some(None)` empties it.
///
/// Never `flow_set`, and never a body that a server sent: older servers fail on both.
#[derive(Clone, Default, Debug)]
#[allow(missing_docs)] // authentik's own names
pub struct StageChanges {
    pub name: Option<String>,
    /// `""` clears it. Which JSON value does that differs by version; the client knows.
    pub friendly_name: Option<String>,
    pub configure_flow: Option<Option<Uuid>>,
    pub from_number: Option<String>,
    pub verify_only: Option<bool>,
    pub provider: Option<String>,
    pub account_sid: Option<SecretString>,
    pub auth_type: Option<String>,
    pub auth: Option<SecretString>,
    pub auth_password: Option<SecretString>,
    pub mapping: Option<Option<Uuid>>,
}

/// authentik's name of the field that is cleared in two ways.
pub(super) const FRIENDLY_NAME: &str = "friendly_name";

impl StageChanges {
    /// authentik's names of all fields that can be written, in the order in which they are sent.
    pub(super) const FIELDS: [&'static str; 11] = [
        "name",
        FRIENDLY_NAME,
        "configure_flow",
        "from_number",
        "verify_only",
        "provider",
        "account_sid",
        "auth_type",
        "auth",
        "auth_password",
        "mapping",
    ];

    /// Whether nothing changes.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.fields().is_empty()
    }

    /// authentik's names of the fields that change, in the order in which they are sent.
    #[must_use]
    pub fn fields(&self) -> Vec<&'static str> {
        let Self {
            name,
            friendly_name,
            configure_flow,
            from_number,
            verify_only,
            provider,
            account_sid,
            auth_type,
            auth,
            auth_password,
            mapping,
        } = self;
        let changes = [
            name.is_some(),
            friendly_name.is_some(),
            configure_flow.is_some(),
            from_number.is_some(),
            verify_only.is_some(),
            provider.is_some(),
            account_sid.is_some(),
            auth_type.is_some(),
            auth.is_some(),
            auth_password.is_some(),
            mapping.is_some(),
        ];
        Self::FIELDS
            .into_iter()
            .zip(changes)
            .filter_map(|(field, changes)| changes.then_some(field))
            .collect()
    }

    /// The same without one field; a name that is no field's changes nothing.
    #[must_use]
    pub fn without(mut self, field: &str) -> Self {
        match field {
            "name" => self.name = None,
            FRIENDLY_NAME => self.friendly_name = None,
            "configure_flow" => self.configure_flow = None,
            "from_number" => self.from_number = None,
            "verify_only" => self.verify_only = None,
            "provider" => self.provider = None,
            "account_sid" => self.account_sid = None,
            "auth_type" => self.auth_type = None,
            "auth" => self.auth = None,
            "auth_password" => self.auth_password = None,
            "mapping" => self.mapping = None,
            _ => {}
        }
        self
    }

    /// Whether the friendly name is cleared.
    pub(super) fn clears_friendly_name(&self) -> bool {
        self.friendly_name.as_deref() == Some("")
    }

    /// What must not come back in a text of the server.
    pub(super) fn credentials(&self) -> impl Iterator<Item = &SecretString> {
        [&self.account_sid, &self.auth, &self.auth_password]
            .into_iter()
            .flatten()
    }

    /// The request's body.
    pub(super) fn to_json(&self, clear_friendly_name_with_null: bool) -> Bytes {
        let Self {
            name,
            friendly_name,
            configure_flow,
            from_number,
            verify_only,
            provider,
            account_sid,
            auth_type,
            auth,
            auth_password,
            mapping,
        } = self;
        let text_bytes = [name, friendly_name, from_number, provider, auth_type]
            .into_iter()
            .flatten()
            .map(String::len)
            .chain(self.credentials().map(credential::len))
            .chain(
                [configure_flow, mapping]
                    .into_iter()
                    .flatten()
                    .map(|_| uuid::fmt::Hyphenated::LENGTH),
            )
            .sum();
        let mut json = SecretJson::object(self.fields().len(), text_bytes);
        if let Some(name) = name {
            json.member("name", name);
        }
        if let Some(friendly_name) = friendly_name {
            let value = (!friendly_name.is_empty() || !clear_friendly_name_with_null).then_some(friendly_name);
            json.member(FRIENDLY_NAME, &value);
        }
        if let Some(configure_flow) = configure_flow {
            json.member("configure_flow", configure_flow);
        }
        if let Some(from_number) = from_number {
            json.member("from_number", from_number);
        }
        if let Some(verify_only) = verify_only {
            json.member("verify_only", verify_only);
        }
        if let Some(provider) = provider {
            json.member("provider", provider);
        }
        if let Some(account_sid) = account_sid {
            json.credential("account_sid", account_sid);
        }
        if let Some(auth_type) = auth_type {
            json.member("auth_type", auth_type);
        }
        if let Some(auth) = auth {
            json.credential("auth", auth);
        }
        if let Some(auth_password) = auth_password {
            json.credential("auth_password", auth_password);
        }
        if let Some(mapping) = mapping {
            json.member("mapping", mapping);
        }
        json.into_bytes()
    }
}

/// Who writes and why. authentik keeps it in its audit events, so that a write can be recognised later.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WriteTag {
    /// Which cluster.
    pub cluster: String,
    /// UID of the resource.
    pub resource_uid: String,
    /// One intent, or one round.
    pub nonce: String,
}

impl WriteTag {
    /// The `User-Agent` of the write. Characters that cannot stand there become `_`.
    #[must_use]
    pub fn user_agent(&self) -> String {
        let Self {
            cluster,
            resource_uid,
            nonce,
        } = self;
        format!(
            "{PRODUCT} ({} resource={}; nonce={})",
            cluster_mark(cluster),
            word(resource_uid),
            word(nonce)
        )
    }

    /// Whether a `User-Agent` is that of a write from this cluster.
    #[must_use]
    pub fn is_of(cluster: &str, user_agent: &str) -> bool {
        user_agent.contains(&format!("({} ", cluster_mark(cluster)))
    }
}

fn cluster_mark(cluster: &str) -> String {
    format!("cluster={};", word(cluster))
}

fn word(text: &str) -> String {
    let fits = |c: char| c.is_ascii_alphanumeric() || "-._:".contains(c);
    text.chars().map(|c| if fits(c) { c } else { '_' }).collect()
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn all() -> StageChanges {
        StageChanges {
            name: Some("sms".into()),
            friendly_name: Some("Text".into()),
            configure_flow: Some(Some(Uuid::from_u128(1))),
            from_number: Some("+1".into()),
            verify_only: Some(true),
            provider: Some("generic".into()),
            account_sid: Some("https://gateway/?key=k\"1".into()),
            auth_type: Some("basic".into()),
            auth: Some("us\u{e9}r\n".into()),
            auth_password: Some("".into()),
            mapping: Some(None),
        }
    }

    fn sent(changes: &StageChanges, with_null: bool) -> Value {
        serde_json::from_slice(&changes.to_json(with_null)).unwrap()
    }

    #[test]
    fn only_what_changes_is_sent() {
        assert_eq!(sent(&StageChanges::default(), false), json!({}));
        let changes = StageChanges {
            mapping: Some(None),
            auth: Some("t".into()),
            ..Default::default()
        };
        assert_eq!(sent(&changes, false), json!({"auth": "t", "mapping": null}));
        assert_eq!(changes.fields(), ["auth", "mapping"]);
    }

    #[test]
    fn every_field_arrives_as_it_is() {
        assert_eq!(
            sent(&all(), true),
            json!({
                "name": "sms", "friendly_name": "Text", "configure_flow": Uuid::from_u128(1), "from_number": "+1",
                "verify_only": true, "provider": "generic", "account_sid": "https://gateway/?key=k\"1",
                "auth_type": "basic", "auth": "us\u{e9}r\n", "auth_password": "", "mapping": null,
            })
        );
    }

    #[test]
    fn clearing_the_friendly_name_has_two_forms() {
        let clear = StageChanges {
            friendly_name: Some(String::new()),
            ..Default::default()
        };
        assert_eq!(sent(&clear, true), json!({"friendly_name": null}));
        assert_eq!(sent(&clear, false), json!({"friendly_name": ""}));
    }

    #[test]
    fn fields_body_and_without_name_the_same_fields() {
        let mut changes = all();
        for field in all().fields() {
            assert!(sent(&changes, false).get(field).is_some(), "{field}");
            changes = changes.without(field);
            assert!(sent(&changes, false).get(field).is_none(), "{field}");
        }
        assert!(changes.is_empty());
        assert_eq!(all().without("nonsense").fields(), all().fields());
    }

    #[test]
    fn debug_shows_no_credential() {
        let shown = format!("{:?}", all());
        for credential in ["gateway", "us\u{e9}r"] {
            assert!(!shown.contains(credential), "{shown}");
        }
    }

    #[test]
    fn a_tag_cannot_break_out_of_its_header() {
        let tag = WriteTag {
            cluster: "c\r\nX: y".into(),
            resource_uid: "u;)".into(),
            nonce: "n-1".into(),
        };
        assert_eq!(
            tag.user_agent(),
            format!(
                "authentik-stage-operator/{} (cluster=c__X:_y; resource=u__; nonce=n-1)",
                env!("CARGO_PKG_VERSION")
            )
        );
    }

    #[test]
    fn a_cluster_knows_its_writes_whatever_it_is_called() {
        for cluster in ["c-1", "", "prod eu/1", "süd", "a;b)"] {
            let tag = WriteTag {
                cluster: cluster.into(),
                resource_uid: "u".into(),
                nonce: "n".into(),
            };
            assert!(WriteTag::is_of(cluster, &tag.user_agent()), "{cluster:?}");
            assert!(
                !WriteTag::is_of(&format!("{cluster}2"), &tag.user_agent()),
                "{cluster:?}"
            );
            assert!(!WriteTag::is_of(cluster, "Mozilla/5.0"));
        }
    }
}
