//! Permissions of authentik that the operator's token may need, by their names there.

/// Permission to read stages.
pub const VIEW: &str = "authentik_stages_authenticator_sms.view_authenticatorsmsstage";
/// Permission to create a stage.
pub const ADD: &str = "authentik_stages_authenticator_sms.add_authenticatorsmsstage";
/// Permission to change a stage.
pub const CHANGE: &str = "authentik_stages_authenticator_sms.change_authenticatorsmsstage";
/// Permission to delete a stage.
pub const DELETE: &str = "authentik_stages_authenticator_sms.delete_authenticatorsmsstage";
/// Permission to delete enrolled devices.
pub const DELETE_DEVICES: &str = "authentik_stages_authenticator_sms.delete_smsdevice";
/// Permission to read stages of every kind.
pub const VIEW_ANY: &str = "authentik_flows.view_stage";
/// Permission to see enrolled devices, without which "none" and "not allowed" look alike.
pub const VIEW_DEVICES: &str = "authentik_stages_authenticator_sms.view_smsdevice";
/// Permission to read audit events: of use, never needed.
pub const VIEW_EVENTS: &str = "authentik_events.view_event";
/// Permission to find a flow by its slug.
pub const VIEW_FLOW: &str = "authentik_flows.view_flow";
/// Permission to find a webhook mapping by its name.
pub const VIEW_MAPPING: &str = "authentik_events.view_notificationwebhookmapping";
/// Permission to see the validation stages that enrol with the stage.
pub const VIEW_VALIDATE: &str = "authentik_stages_authenticator_validate.view_authenticatorvalidatestage";
