//! The server about itself and about the caller.

use serde_json::json;

use super::Context;
use crate::{message::Reply, version::Version};

const SYSTEM_PERMISSIONS: [&str; 16] = [
    "access_admin_interface",
    "add_initialpermissions",
    "add_role",
    "assign_role_permissions",
    "change_initialpermissions",
    "change_role",
    "delete_initialpermissions",
    "delete_role",
    "edit_system_settings",
    "manage_media_files",
    "unassign_role_permissions",
    "view_initialpermissions",
    "view_media_files",
    "view_role",
    "view_system_info",
    "view_system_settings",
];

pub(super) fn version(context: &Context<'_>) -> Reply {
    let version = context.version.to_string();
    let mut body = json!({"version_current": version, "version_latest": version, "build_hash": "", "outdated": false});
    if !context.version.is_2023() {
        body["version_latest_valid"] = json!(true);
        body["outpost_outdated"] = json!(false);
    }
    Reply::json(200, body)
}

pub(super) fn root_config(version: &Version) -> Reply {
    let mut body = json!({
        "error_reporting": {
            "enabled": false,
            "sentry_dsn": "https://public@error-reporting.invalid/1",
            "environment": "customer",
            "send_pii": false,
            "traces_sample_rate": 0.1,
        },
        "capabilities": ["can_impersonate", "is_enterprise"],
        "cache_timeout": 300,
        "cache_timeout_flows": 300,
        "cache_timeout_policies": 300,
    });
    if version.has_reputation_cache() {
        body["cache_timeout_reputation"] = json!(300);
    }
    Reply::json(200, body)
}

pub(super) fn me(context: &Context<'_>) -> Reply {
    let user = &context.user;
    let listed = |permission: &&str| context.version.has_media_permissions() || !permission.contains("media");
    let system_permissions: Vec<&str> = if user.superuser && !context.version.is_2023() {
        SYSTEM_PERMISSIONS.into_iter().filter(listed).collect()
    } else {
        Vec::new()
    };
    let mut body = json!({"user": {
        "pk": user.pk,
        "username": user.username,
        "name": user.username,
        "is_active": user.active,
        "is_superuser": user.superuser,
        "groups": [],
        "email": "",
        "avatar": "data:image/svg+xml;base64,PHN2Zy8+",
        "uid": user.uid,
        "settings": {},
        "type": if user.superuser { "internal" } else { "service_account" },
        "system_permissions": system_permissions,
    }});
    if context.version.users_have_roles() {
        body["user"]["roles"] = json!([]);
    }
    Reply::json(200, body)
}
