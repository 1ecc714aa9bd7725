//! `null` is the same as absent, for every optional field of a spec, however it is applied: manifests that are rendered
//! from templates are full of it.

use authentik_stage_operator::api::{AuthenticatorSMSStage, AuthentikConnection};
use serde_json::Value;

use crate::samples::{self, Sample};
use crate::schema::{Kind, Node, Path};
use crate::server::Server;

/// Each resource as a sample has it without one optional field, and with `null` in its place.
fn pairs() -> Vec<(Kind, Path, Value, Value)> {
    let mut pairs = Vec::new();
    for Sample { kind, resource, .. } in samples::all() {
        for Node { path, required, .. } in kind.nodes() {
            let Some((parent, name)) = path.split_field() else {
                continue;
            };
            if required || !path.is_in("spec") || path.find(&resource).is_none() {
                continue;
            }
            let mut absent = resource.clone();
            parent
                .find_mut(&mut absent)
                .unwrap()
                .as_object_mut()
                .unwrap()
                .remove(name);
            let mut null = resource.clone();
            *path.find_mut(&mut null).unwrap() = Value::Null;
            pairs.push((kind, path.clone(), absent, null));
        }
    }
    pairs
}

#[tokio::test]
async fn null_is_accepted_exactly_where_absence_is() {
    let server = Server::new().await;
    for (kind, path, absent, null) in pairs() {
        let absent = server.try_create(kind, &absent).await;
        for answer in [
            server.try_create(kind, &null).await,
            server.try_apply(kind, &null).await,
        ] {
            match (&absent, answer) {
                (Ok(absent), Ok(answer)) => assert_eq!(read(kind, absent), read(kind, &answer), "{kind:?} {path}"),
                (Err(absent), Err(causes)) => assert_eq!(absent, &causes, "{kind:?} {path}"),
                (absent, answer) => panic!("{kind:?} {path}: absent {absent:#?}\nnull {answer:#?}"),
            }
        }
    }
}

/// The spec as the operator reads it, in a form that can be compared.
fn read(kind: Kind, resource: &Value) -> Value {
    let resource = resource.clone();
    match kind {
        Kind::Stage => {
            serde_json::to_value(serde_json::from_value::<AuthenticatorSMSStage>(resource).unwrap().spec).unwrap()
        }
        Kind::Connection => {
            serde_json::to_value(serde_json::from_value::<AuthentikConnection>(resource).unwrap().spec).unwrap()
        }
    }
}
