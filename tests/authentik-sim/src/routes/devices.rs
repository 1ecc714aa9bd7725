//! Phones of users, as an administrator sees them: no stage in the answer, no filter by stage.

use serde_json::{Value, json};

use super::{Context, not_simulated};
use crate::{
    list::{Filter, Listing, list, one},
    message::Reply,
    rows::{Device, Row},
    state::State,
};

const LISTING: Listing = Listing {
    filters: &[("name", Filter::Text)],
    search: &["name"],
    ordering: &["name"],
};

pub(super) fn collection(context: &Context<'_>, state: &State) -> Result<Reply, Reply> {
    guard(context)?;
    if context.method != "GET" {
        return Err(not_simulated(context));
    }
    list(context, state, state.devices.iter(), &LISTING, |device| {
        render(context, state, device)
    })
}

pub(super) fn single(context: &Context<'_>, state: &mut State, pk: &str) -> Result<Reply, Reply> {
    guard(context)?;
    let find = |verb| {
        one(context, state.devices.iter(), verb, |device: &Device| {
            device.key() == pk
        })
    };
    match context.method {
        "GET" => Ok(Reply::json(200, render(context, state, find("view")?))),
        "DELETE" => {
            let key = find("delete")?.key();
            state.delete::<Device>(&key, &context.actor());
            Ok(Reply::no_content())
        }
        _ => Err(not_simulated(context)),
    }
}

fn guard(context: &Context<'_>) -> Result<(), Reply> {
    if context.user.superuser || context.version.device_list_by_permission() {
        Ok(())
    } else {
        Err(Reply::forbidden())
    }
}

fn render(context: &Context<'_>, state: &State, device: &Device) -> Value {
    let mut body = json!({"pk": device.pk, "name": device.name, "phone_number": device.phone_number});
    if let Some(user) = state
        .accounts
        .user(device.user)
        .filter(|_| context.version.devices_have_user())
    {
        body["user"] = json!({
            "pk": user.pk,
            "username": user.username,
            "name": "",
            "is_active": user.active,
            "last_login": null,
            "email": "",
            "attributes": {},
            "uid": user.uid,
        });
    }
    body
}
