//! What a fresh authentik holds: the default blueprints' flows and stages, as far as anything here can see them.

use crate::{
    rows::{Binding, Flow, OtherStage, ValidateStage},
    state::{ADMINISTRATOR, State},
    version::Version,
};
use uuid::Uuid;

/// Slug, name, title, designation.
const FLOWS: [(&str, &str, &str, &str); 6] = [
    ("initial-setup", "default-oobe-setup", WELCOME, "stage_configuration"),
    ("default-authentication-flow", WELCOME, WELCOME, "authentication"),
    (
        "default-invalidation-flow",
        "Logout",
        "Default Invalidation Flow",
        "invalidation",
    ),
    (
        "default-password-change",
        "Change Password",
        "Change password",
        "stage_configuration",
    ),
    (WEBAUTHN, WEBAUTHN, "Set up WebAuthn", "stage_configuration"),
    (TOTP, TOTP, "Set up Two-Factor authentication", "stage_configuration"),
];

const WELCOME: &str = "Welcome to authentik!";
/// Name of a flow and of the stage in it.
const TOTP: &str = "default-authenticator-totp-setup";
/// Name of a flow and of the stage in it.
const WEBAUTHN: &str = "default-authenticator-webauthn-setup";

/// Slugs of flows, and the places that a stage has in them.
type Bound = &'static [(&'static str, i64)];

/// Name, kind, and the flows that bind it with their orders.
const STAGES: [(&str, &str, Bound); 7] = [
    (
        "default-authentication-identification",
        "authentik_stages_identification.identificationstage",
        &[("default-authentication-flow", 10)],
    ),
    (
        "default-authentication-password",
        "authentik_stages_password.passwordstage",
        &[("default-authentication-flow", 20)],
    ),
    (
        "default-authentication-login",
        "authentik_stages_user_login.userloginstage",
        &[("initial-setup", 100), ("default-authentication-flow", 100)],
    ),
    (
        "default-invalidation-logout",
        "authentik_stages_user_logout.userlogoutstage",
        &[("default-invalidation-flow", 0)],
    ),
    (
        "default-password-change-prompt",
        "authentik_stages_prompt.promptstage",
        &[("default-password-change", 0)],
    ),
    (
        TOTP,
        "authentik_stages_authenticator_totp.authenticatortotpstage",
        &[(TOTP, 0)],
    ),
    (
        WEBAUTHN,
        "authentik_stages_authenticator_webauthn.authenticatorwebauthnstage",
        &[(WEBAUTHN, 0)],
    ),
];

/// A fresh server of that version, with a superuser who holds `admin_token`.
pub(crate) fn fresh(version: &Version, admin_token: &str) -> State {
    let mut state = State::default();
    state.accounts.ensure("AnonymousUser", false);
    state.accounts.ensure("ak-outpost", false);
    let administrator = state.accounts.ensure(ADMINISTRATOR, true);
    state.accounts.issue(admin_token.to_owned(), administrator);

    for (slug, name, title, designation) in FLOWS {
        let title = if version.is_2023() {
            title.replacen("Set up", "Setup", 1)
        } else {
            title.to_owned()
        };
        let authentication = if designation == "authentication" {
            "none"
        } else {
            "require_authenticated"
        };
        state.flows.push(Flow {
            name: name.to_owned(),
            title,
            authentication: authentication.to_owned(),
            ..Flow::new(slug, designation)
        });
    }
    for (name, kind, bound) in STAGES {
        let pk = Uuid::new_v4();
        state.other_stages.push(OtherStage {
            pk,
            name: name.to_owned(),
            meta_model_name: kind.to_owned(),
        });
        for &(slug, order) in bound {
            if slug != "initial-setup" || version.setup_flow_logs_in() {
                bind(&mut state, slug, pk, order);
            }
        }
    }
    let pk = Uuid::new_v4();
    state.validate_stages.push(ValidateStage {
        pk,
        name: "default-authentication-mfa-validation".to_owned(),
        not_configured_action: "skip".to_owned(),
        device_classes: ["static", "totp", "webauthn", "duo", "sms"].map(str::to_owned).to_vec(),
        configuration_stages: Vec::new(),
    });
    bind(&mut state, "default-authentication-flow", pk, 30);
    state
}

fn bind(state: &mut State, slug: &str, stage: Uuid, order: i64) {
    if let Some(flow) = state.flow(slug).map(|flow| flow.pk) {
        state.bindings.push(Binding::new(flow, stage, order));
    }
}
