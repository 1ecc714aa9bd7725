//! What a fresh authentik holds: the default blueprints' flows and stages, as far as anything here can see them.

use crate::{
    rows::{Binding, Flow, OtherStage, ValidateStage},
    state::{ADMINISTRATOR, State},
    version::Version,
};
use uuid::Uuid;

/// Slug, name, title, designation, who may run it.
const FLOWS: [(&str, &str, &str, &str, &str); 9] = [
    (
        "initial-setup",
        "default-oobe-setup",
        "Welcome to authentik!",
        "stage_configuration",
        "require_superuser",
    ),
    (
        "default-authentication-flow",
        "Welcome to authentik!",
        "Welcome to authentik!",
        "authentication",
        "none",
    ),
    (
        "default-invalidation-flow",
        "Logout",
        "Default Invalidation Flow",
        "invalidation",
        "require_authenticated",
    ),
    (
        "default-authenticator-static-setup",
        "default-authenticator-static-setup",
        "Set up Static OTP Tokens",
        "stage_configuration",
        "require_authenticated",
    ),
    (
        "default-authenticator-totp-setup",
        "default-authenticator-totp-setup",
        "Set up Two-Factor authentication",
        "stage_configuration",
        "require_authenticated",
    ),
    (
        "default-authenticator-webauthn-setup",
        "default-authenticator-webauthn-setup",
        "Set up WebAuthn",
        "stage_configuration",
        "require_authenticated",
    ),
    (
        "default-password-change",
        "Change Password",
        "Change password",
        "stage_configuration",
        "require_authenticated",
    ),
    (
        "default-user-settings-flow",
        "User settings",
        "Update your info",
        "stage_configuration",
        "require_authenticated",
    ),
    (
        "default-provider-authorization-implicit-consent",
        "Authorize Application",
        "Redirecting to %(app)s",
        "authorization",
        "require_authenticated",
    ),
];

/// Slugs of flows, and the places that a stage has in them.
type Bound = &'static [(&'static str, i64)];

/// Name, kind, and the flows that bind it with their orders.
const STAGES: [(&str, &str, Bound); 8] = [
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
        "default-authenticator-static-setup",
        "authentik_stages_authenticator_static.authenticatorstaticstage",
        &[("default-authenticator-static-setup", 0)],
    ),
    (
        "default-authenticator-totp-setup",
        "authentik_stages_authenticator_totp.authenticatortotpstage",
        &[("default-authenticator-totp-setup", 0)],
    ),
    (
        "default-authenticator-webauthn-setup",
        "authentik_stages_authenticator_webauthn.authenticatorwebauthnstage",
        &[("default-authenticator-webauthn-setup", 0)],
    ),
    (
        "default-password-change-prompt",
        "authentik_stages_prompt.promptstage",
        &[("default-password-change", 0)],
    ),
];

/// A fresh server of that version, with a superuser who holds `admin_token`.
pub(crate) fn fresh(version: &Version, admin_token: &str) -> State {
    let mut state = State::default();
    state.accounts.ensure("AnonymousUser", false);
    state.accounts.ensure("ak-outpost", false);
    let administrator = state.accounts.ensure(ADMINISTRATOR, true);
    state.accounts.issue(admin_token.to_owned(), administrator);

    for (slug, name, title, designation, authentication) in FLOWS {
        let title = if version.is_2023() {
            title.replacen("Set up", "Setup", 1)
        } else {
            title.to_owned()
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
