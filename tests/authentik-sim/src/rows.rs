//! The rows that the simulator keeps, one plain struct for each table.

use serde_json::{Value, json};
use uuid::Uuid;

use crate::rights::Model;

/// What lists, permissions and the audit need to know of a row.
pub(crate) trait Row {
    const MODEL: Model;
    /// The key as text: a uuid with dashes, or an integer.
    fn key(&self) -> String;
    /// How the audit log calls it.
    fn title(&self) -> String;
    /// A column by the name that filters and `ordering` use; `None` if there is no such column.
    fn column(&self, name: &str) -> Option<Value>;
}

/// An `AuthenticatorSMSStage` as the database holds it, credentials included.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Stage {
    /// Key of the stage.
    pub pk: Uuid,
    /// Unique over all kinds of stages.
    pub name: String,
    /// Flow by which users enrol.
    pub configure_flow: Option<Uuid>,
    /// Shown to users; `None` only where the version stores null.
    pub friendly_name: Option<String>,
    /// `twilio` or `generic`.
    pub provider: String,
    /// Sender.
    pub from_number: String,
    /// Account SID of Twilio, or URL of the gateway.
    pub account_sid: String,
    /// Token or user name.
    pub auth: String,
    /// Password; empty if none.
    pub auth_password: String,
    /// `basic` or `bearer`.
    pub auth_type: String,
    /// Store only a hash of each number.
    pub verify_only: bool,
    /// Webhook mapping.
    pub mapping: Option<Uuid>,
}

impl Stage {
    pub(crate) const META_MODEL_NAME: &str = "authentik_stages_authenticator_sms.authenticatorsmsstage";

    /// A Twilio stage with every optional field at its default.
    pub fn twilio(name: &str) -> Self {
        Self {
            pk: Uuid::new_v4(),
            name: name.to_owned(),
            configure_flow: None,
            friendly_name: None,
            provider: "twilio".to_owned(),
            from_number: "+15005550006".to_owned(),
            account_sid: "AC00000000000000000000000000000000".to_owned(),
            auth: "token".to_owned(),
            auth_password: String::new(),
            auth_type: "basic".to_owned(),
            verify_only: false,
            mapping: None,
        }
    }
}

impl Row for Stage {
    const MODEL: Model = Model {
        app: "authentik_stages_authenticator_sms",
        name: "authenticatorsmsstage",
        class: "AuthenticatorSMSStage",
    };

    fn key(&self) -> String {
        self.pk.to_string()
    }

    fn title(&self) -> String {
        self.name.clone()
    }

    fn column(&self, name: &str) -> Option<Value> {
        Some(match name {
            "pk" | "stage_uuid" => json!(self.pk.to_string()),
            "name" => json!(self.name),
            "configure_flow" => json!(self.configure_flow.map(|pk| pk.to_string())),
            "friendly_name" => json!(self.friendly_name),
            "provider" => json!(self.provider),
            "from_number" => json!(self.from_number),
            "account_sid" => json!(self.account_sid),
            "auth" => json!(self.auth),
            "auth_password" => json!(self.auth_password),
            "auth_type" => json!(self.auth_type),
            "verify_only" => json!(self.verify_only),
            "mapping" => json!(self.mapping.map(|pk| pk.to_string())),
            _ => return None,
        })
    }
}

/// A stage of any other kind; only what `/stages/all/` shows of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OtherStage {
    /// Key of the stage.
    pub pk: Uuid,
    /// Unique over all kinds of stages.
    pub name: String,
    /// `<app>.<model>`, e.g. `authentik_stages_user_login.userloginstage`.
    pub meta_model_name: String,
}

/// A stage that asks for a second factor at login.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ValidateStage {
    /// Key of the stage.
    pub pk: Uuid,
    /// Unique over all kinds of stages.
    pub name: String,
    /// `skip`, `deny` or `configure`.
    pub not_configured_action: String,
    /// Kinds of devices it accepts, e.g. `sms`.
    pub device_classes: Vec<String>,
    /// Stages it offers to users without a device.
    pub configuration_stages: Vec<Uuid>,
}

impl ValidateStage {
    pub(crate) const META_MODEL_NAME: &str = "authentik_stages_authenticator_validate.authenticatorvalidatestage";
}

impl Row for ValidateStage {
    const MODEL: Model = Model {
        app: "authentik_stages_authenticator_validate",
        name: "authenticatorvalidatestage",
        class: "AuthenticatorValidateStage",
    };

    fn key(&self) -> String {
        self.pk.to_string()
    }

    fn title(&self) -> String {
        self.name.clone()
    }

    fn column(&self, name: &str) -> Option<Value> {
        Some(match name {
            "pk" | "stage_uuid" => json!(self.pk.to_string()),
            "name" => json!(self.name),
            "not_configured_action" => json!(self.not_configured_action),
            "configuration_stages" => json!(
                self.configuration_stages
                    .iter()
                    .map(Uuid::to_string)
                    .collect::<Vec<_>>()
            ),
            _ => return None,
        })
    }
}

/// A stage of any kind, as `/stages/all/` lists it.
#[derive(Clone, Debug)]
pub(crate) struct AnyStage {
    pub(crate) pk: Uuid,
    pub(crate) name: String,
    pub(crate) meta_model_name: String,
}

impl Row for AnyStage {
    const MODEL: Model = Model {
        app: "authentik_flows",
        name: "stage",
        class: "Stage",
    };

    fn key(&self) -> String {
        self.pk.to_string()
    }

    fn title(&self) -> String {
        self.name.clone()
    }

    fn column(&self, name: &str) -> Option<Value> {
        match name {
            "pk" | "stage_uuid" => Some(json!(self.pk.to_string())),
            "name" => Some(json!(self.name)),
            _ => None,
        }
    }
}

/// A flow.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Flow {
    /// Key of the flow.
    pub pk: Uuid,
    /// Key of its policy binding model.
    pub policybindingmodel: Uuid,
    /// Name.
    pub name: String,
    /// Unique, part of URLs.
    pub slug: String,
    /// Shown to users.
    pub title: String,
    /// `stage_configuration`, `authentication`, ...
    pub designation: String,
    /// Path or URL of its picture; empty for the default one.
    pub background: String,
    /// `all` or `any`.
    pub policy_engine_mode: String,
    /// Compatible with password managers.
    pub compatibility_mode: bool,
    /// How it is laid out.
    pub layout: String,
    /// What happens when a policy denies.
    pub denied_action: String,
    /// Who may run it.
    pub authentication: String,
}

impl Flow {
    /// A flow whose name and title are its slug, and everything else default.
    pub fn new(slug: &str, designation: &str) -> Self {
        Self {
            pk: Uuid::new_v4(),
            policybindingmodel: Uuid::new_v4(),
            name: slug.to_owned(),
            slug: slug.to_owned(),
            title: slug.to_owned(),
            designation: designation.to_owned(),
            background: String::new(),
            policy_engine_mode: "any".to_owned(),
            compatibility_mode: false,
            layout: "stacked".to_owned(),
            denied_action: "message_continue".to_owned(),
            authentication: "none".to_owned(),
        }
    }
}

impl Row for Flow {
    const MODEL: Model = Model {
        app: "authentik_flows",
        name: "flow",
        class: "Flow",
    };

    fn key(&self) -> String {
        self.pk.to_string()
    }

    fn title(&self) -> String {
        self.name.clone()
    }

    fn column(&self, name: &str) -> Option<Value> {
        Some(match name {
            "pk" | "flow_uuid" => json!(self.pk.to_string()),
            "name" => json!(self.name),
            "slug" => json!(self.slug),
            "title" => json!(self.title),
            "designation" => json!(self.designation),
            "denied_action" => json!(self.denied_action),
            _ => return None,
        })
    }
}

/// One stage at one place of a flow.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Binding {
    /// Key of the binding.
    pub pk: Uuid,
    /// Key of its policy binding model.
    pub policybindingmodel: Uuid,
    /// The flow.
    pub target: Uuid,
    /// The stage, of any kind.
    pub stage: Uuid,
    /// Place in the flow.
    pub order: i64,
    /// Evaluate policies when the flow is planned.
    pub evaluate_on_plan: bool,
    /// Evaluate policies when the stage is run.
    pub re_evaluate_policies: bool,
    /// `all` or `any`.
    pub policy_engine_mode: String,
    /// `retry`, `restart` or `restart_with_context`.
    pub invalid_response_action: String,
}

impl Binding {
    /// A binding with every optional field at its default.
    pub fn new(target: Uuid, stage: Uuid, order: i64) -> Self {
        Self {
            pk: Uuid::new_v4(),
            policybindingmodel: Uuid::new_v4(),
            target,
            stage,
            order,
            evaluate_on_plan: false,
            re_evaluate_policies: true,
            policy_engine_mode: "any".to_owned(),
            invalid_response_action: "retry".to_owned(),
        }
    }
}

impl Row for Binding {
    const MODEL: Model = Model {
        app: "authentik_flows",
        name: "flowstagebinding",
        class: "FlowStageBinding",
    };

    fn key(&self) -> String {
        self.pk.to_string()
    }

    fn title(&self) -> String {
        format!("Flow-stage binding #{} to {}", self.order, self.target)
    }

    fn column(&self, name: &str) -> Option<Value> {
        Some(match name {
            "pk" | "fsb_uuid" => json!(self.pk.to_string()),
            "pbm_uuid" => json!(self.policybindingmodel.to_string()),
            "target" => json!(self.target.to_string()),
            "stage" => json!(self.stage.to_string()),
            "order" => json!(self.order),
            "evaluate_on_plan" => json!(self.evaluate_on_plan),
            "re_evaluate_policies" => json!(self.re_evaluate_policies),
            "policy_engine_mode" => json!(self.policy_engine_mode),
            "invalid_response_action" => json!(self.invalid_response_action),
            _ => return None,
        })
    }
}

/// A notification webhook mapping.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mapping {
    /// Key of the mapping.
    pub pk: Uuid,
    /// Unique over all property mappings.
    pub name: String,
    /// Python.
    pub expression: String,
}

impl Row for Mapping {
    const MODEL: Model = Model {
        app: "authentik_events",
        name: "notificationwebhookmapping",
        class: "NotificationWebhookMapping",
    };

    fn key(&self) -> String {
        self.pk.to_string()
    }

    fn title(&self) -> String {
        self.name.clone()
    }

    fn column(&self, name: &str) -> Option<Value> {
        match name {
            "pk" => Some(json!(self.pk.to_string())),
            "name" => Some(json!(self.name)),
            _ => None,
        }
    }
}

/// A phone that a user enrolled.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Device {
    /// Key of the device.
    pub pk: i64,
    /// Name.
    pub name: String,
    /// Number.
    pub phone_number: String,
    /// The SMS stage by which it was enrolled.
    pub stage: Uuid,
    /// Key of its user.
    pub user: i64,
}

impl Row for Device {
    const MODEL: Model = Model {
        app: "authentik_stages_authenticator_sms",
        name: "smsdevice",
        class: "SMSDevice",
    };

    fn key(&self) -> String {
        self.pk.to_string()
    }

    fn title(&self) -> String {
        self.name.clone()
    }

    fn column(&self, name: &str) -> Option<Value> {
        match name {
            "pk" => Some(json!(self.pk)),
            "name" => Some(json!(self.name)),
            _ => None,
        }
    }
}
