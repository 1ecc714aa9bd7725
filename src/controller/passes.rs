//! One pass of one object, with everything around it: time, panics, events, metrics, the next pass.

use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::time::Duration;

use futures::FutureExt;
use k8s_openapi::api::core::v1::ObjectReference;
use kube::{Resource, ResourceExt};

use super::events::{Event, Kind};
use super::metrics::{Controller, PassEnd};
use super::queue::{Lane, Ticket};
use super::store::News;
use super::{Group, Shared, invalid};
use crate::api::{Abnormal, Reason};
use crate::reconcile::status::Notice;
use crate::reconcile::{self, ConnectionKey, Failure, Object, Pass, ResourceKey, connection};

/// Resources that go on after an outage of their server, each second.
const RESUME_PER_SECOND: u32 = 20;

/// What an event says that the operator was doing.
const ACTION: &str = "Reconcile";

/// Runs a pass and plans the next.
pub(super) async fn run(shared: Arc<Shared>, object: Object, ticket: Ticket) {
    let controller = match &object {
        Object::Stage(_) => Controller::Stage,
        Object::Connection(_) => Controller::Connection,
    };
    shared.metrics.queue_left(controller, ticket.waited());
    let timer = shared.metrics.pass(controller);
    let lane = ticket.lane();
    let (pass, news, panicked) = match (invalid::reference(&shared, &object), &object) {
        (Some(reference), _) => {
            let pass = invalid::report(&shared, &object).await;
            tell(&shared, &reference, &pass.notices);
            (pass, News::None, false)
        }
        (None, Object::Stage(key)) => stage(&shared, key, lane).await,
        (None, Object::Connection(key)) => connection(&shared, key).await,
    };
    timer.end(end_of(&pass, panicked));
    if pass.failure.is_some() {
        shared.metrics.queue_retried(controller);
    }
    if pass.rotated {
        let took = shared.context.clock.now().saturating_duration_since(ticket.started());
        shared.metrics.rotated(ticket.waited() + took);
    }
    for other in pass.wake {
        if other != object {
            shared.look_at(other, Lane::Rest);
        }
    }
    let now = shared.context.clock.now();
    let next = match news {
        News::User => Some((Lane::User, now)),
        News::Other => Some((Lane::Rest, now)),
        News::None => pass.next.map(|delay| (Lane::Rest, now + delay)),
    };
    shared.queue.done(ticket, next);
}

fn end_of(pass: &Pass, panicked: bool) -> PassEnd {
    match pass.failure {
        _ if panicked => PassEnd::Panic,
        Some(reason) if Failure::new(reason, "").abnormal == Abnormal::Stalled => PassEnd::TerminalError,
        Some(_) => PassEnd::Error,
        None if pass.next.is_some() => PassEnd::Requeued,
        None => PassEnd::Success,
    }
}

fn panicked() -> Failure {
    Failure::new(
        Reason::InternalError,
        "a bug in the operator stopped this pass: please report it with the log of that moment; the operator tries again",
    )
}

async fn stage(shared: &Arc<Shared>, key: &ResourceKey, lane: Lane) -> (Pass, News, bool) {
    let Some(object) = shared.stages.begin(key) else {
        return (Pass::default(), News::None, false);
    };
    let reference = object.object_ref(&());
    let uid = object.uid().unwrap_or_default();
    let memory = shared.memory(&uid);
    let mut memory = memory.lock().await;
    if lane == Lane::User {
        memory.begin_anew(shared.context.clock.now());
    }
    let was_ready = is_ready(&object);
    let pass = AssertUnwindSafe(reconcile::stage(&shared.context, Arc::clone(&object), &mut memory));
    let (pass, panicked) = match pass.catch_unwind().await {
        Ok(pass) => (pass, false),
        Err(_) => (
            reconcile::report(&shared.context, object.clone(), &mut memory, panicked()).await,
            true,
        ),
    };
    let left = memory.latest.clone();
    if let Some(left) = &left
        && !was_ready
        && is_ready(left)
    {
        let since = object
            .creation_timestamp()
            .map(|time| shared.context.clock.wall().duration_since(time.0));
        if let Some(age) = since.filter(|_| object.status.as_ref().is_none_or(|s| s.observed_generation < 0)) {
            shared.metrics.became_ready(age.unsigned_abs());
        }
    }
    for _ in 0..pass.repaired {
        shared.metrics.drift_repaired();
    }
    tell(shared, &reference, &pass.notices);
    let news = shared.stages.end(key, left);
    if shared.stages.get(key).and_then(|stage| stage.uid()).as_deref() != Some(&uid) {
        shared.forget(&uid);
    }
    shared.connection_may_be_out(&uid);
    (pass, news, panicked)
}

fn is_ready(stage: &crate::api::AuthenticatorSMSStage) -> bool {
    stage.status.as_ref().is_some_and(|status| {
        reconcile::status::was_ready(&status.conditions, stage.metadata.generation.unwrap_or_default())
    })
}

async fn connection(shared: &Arc<Shared>, key: &ConnectionKey) -> (Pass, News, bool) {
    let Some(object) = shared.connections.begin(key) else {
        return (Pass::default(), News::None, false);
    };
    let reference = object.object_ref(&());
    let memory = shared.connection_memory(&object.uid().unwrap_or_default());
    let mut memory = memory.lock().await;
    let stages = Group::StagesOf(Some(key.clone()));
    let was_open = shared
        .context
        .servers
        .last_good(key)
        .is_some_and(|server| server.is_out());
    if was_open {
        shared.queue.pause(&stages);
    }
    let pass = AssertUnwindSafe(connection::connection(
        &shared.context,
        Arc::clone(&object),
        &mut memory,
    ));
    let (pass, panicked) = match pass.catch_unwind().await {
        Ok(pass) => (pass, false),
        Err(_) => (
            Pass {
                next: Some(Duration::from_secs(60)),
                failure: Some(panicked().reason),
                ..Pass::default()
            },
            true,
        ),
    };
    if was_open {
        shared.queue.resume(&stages, RESUME_PER_SECOND);
    }
    tell(shared, &reference, &pass.notices);
    let news = shared.connections.end(key, memory.latest());
    if shared.connections.get(key).is_none() {
        // It went while the pass ran, which may have declared it ready.
        shared.context.servers.gone(key);
    }
    (pass, news, panicked)
}

fn tell(shared: &Shared, reference: &ObjectReference, notices: &[Notice]) {
    for Notice { warning, reason, note } in notices {
        tracing::info!(
            kind = reference.kind.as_deref().unwrap_or_default(),
            namespace = reference.namespace.as_deref().unwrap_or_default(),
            name = reference.name.as_deref().unwrap_or_default(),
            reason = reason.as_str(),
            "{note}"
        );
        let kind = if *warning { Kind::Warning } else { Kind::Normal };
        shared.events.publish(
            reference,
            Event {
                kind,
                reason: reason.as_str(),
                note: note.clone(),
                action: ACTION,
            },
        );
    }
}
