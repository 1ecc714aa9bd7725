//! What the operator asks of authentik and of Kubernetes, counted.

use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use authentik_sim::{Call, Fault, Stage, What};
use authentik_stage_operator::api::AuthenticatorSMSStage;
use authentik_stage_operator::controller::metrics::{CountRequests, Metrics};
use axum::http::Request;
use futures::future::join_all;
use futures::stream::{self, StreamExt};
use kube::client::{Body, ClientBuilder};
use serde_json::{Value, json};
use tower::util::MapRequestLayer;
use uuid::Uuid;

use crate::arena::{AUTH_TOKEN, Arena, NEWEST, OLDEST, PATIENCE, READABLE, SID, STAGES, config, is_list};

/// Resources that are created at once.
const CROWD: usize = 60;
/// Stages in authentik that are none of ours.
const OTHERS: usize = 140;
/// Pages of a list of all stages, at a hundred a page.
const PAGES: usize = (CROWD + OTHERS).div_ceil(100);

/// The requests to the API server, but for watches and the lists that they begin with.
#[derive(Clone, Default)]
struct Kubernetes(Arc<Mutex<Vec<String>>>);

impl Kubernetes {
    /// Starts the operator with a client whose requests are seen.
    async fn of(arena: &mut Arena) -> Self {
        let seen = Self::default();
        let metrics = Arc::new(Metrics::new());
        let log = Arc::clone(&seen.0);
        let layer = MapRequestLayer::new(move |request: Request<Body>| {
            let of_watch = request
                .uri()
                .query()
                .is_some_and(|query| query.contains("watch=") || query.contains("limit="));
            if !of_watch {
                log.lock()
                    .unwrap()
                    .push(format!("{} {}", request.method(), request.uri().path()));
            }
            request
        });
        let client = ClientBuilder::try_from(config(&arena.kubeconfig).await)
            .unwrap()
            .with_layer(&CountRequests::of(Arc::clone(&metrics)))
            .with_layer(&layer)
            .build();
        arena.start_with(client, metrics);
        seen
    }

    /// What was asked since this was last asked.
    fn take(&self) -> Vec<String> {
        std::mem::take(&mut self.0.lock().unwrap())
    }
}

/// Writes but for events, which are written behind.
fn writes(calls: &[String]) -> Vec<&String> {
    calls
        .iter()
        .filter(|call| !call.starts_with("GET ") && !call.contains("/events"))
        .collect()
}

fn count(calls: &[Call], wanted: impl Fn(&Call) -> bool) -> usize {
    calls.iter().filter(|call| wanted(call)).count()
}

fn names(count: usize) -> Vec<String> {
    (0..count).map(|n| format!("sms-{n:03}")).collect()
}

/// What the crowd's resource of that number says besides: three flows and two mappings between them.
fn besides(arena: &Arena, n: usize) -> Value {
    let flow = arena.sim.with(|state| state.flow("flow-2").unwrap().pk);
    let flow = match n % 3 {
        0 => json!({"slug": "flow-0"}),
        1 => json!({"slug": "flow-1"}),
        _ => json!({"uuid": flow}),
    };
    json!({"configureFlow": flow, "mapping": {"name": format!("mapping-{}", n % 2)}})
}

/// An authentik with other people's stages, and the crowd's resources, waiting for an operator.
async fn crowd(version: &str) -> Arena {
    let arena = Arena::still(version).await;
    arena.sim.with(|state| {
        for n in 0..OTHERS {
            state.add_stage(Stage::twilio(&format!("other-{n}")));
        }
        for n in 0..3 {
            state.add_flow(&format!("flow-{n}"), "stage_configuration");
        }
        for n in 0..2 {
            state.add_mapping(&format!("mapping-{n}"));
        }
    });
    arena.connect().await;
    let all = names(CROWD);
    join_all(
        all.iter()
            .enumerate()
            .map(|(n, name)| arena.twilio(name, besides(&arena, n))),
    )
    .await;
    arena
}

async fn all_are_ready(arena: &Arena, names: &[String]) -> Vec<AuthenticatorSMSStage> {
    stream::iter(names)
        .map(|name| arena.is(name, "True", "Available"))
        .buffered(16)
        .collect()
        .await
}

/// The crowd and whoever keeps it.
struct Crowd {
    version: &'static str,
    arena: Arena,
    all: Vec<String>,
    kubernetes: Kubernetes,
}

impl Crowd {
    async fn of(version: &'static str) -> Self {
        let mut arena = crowd(version).await;
        let all = names(CROWD);
        let started = Instant::now();
        let kubernetes = Kubernetes::of(&mut arena).await;
        all_are_ready(&arena, &all).await;
        let took = started.elapsed();
        println!("{version}: {CROWD} resources from start to ready in {took:?}");
        assert!(took < Duration::from_secs(15), "{version}: {took:?}");
        arena.quiet().await;
        Self {
            version,
            arena,
            all,
            kubernetes,
        }
    }

    /// What creating all of them costs.
    async fn creation(&self) {
        let Self {
            version,
            arena,
            all: _,
            kubernetes,
        } = self;
        let calls = arena.sim.calls();
        let first_look_up = calls
            .iter()
            .position(|call| call.is_write() || call.path.contains("/flows/"))
            .unwrap();
        let start = calls[..first_look_up].len();
        assert!(
            start <= 10,
            "{version}: {start} reads at a connection's start: {calls:?}"
        );
        assert_eq!(count(&calls, |call| call.method == "POST"), CROWD, "{version}");
        let look_ups = |path: &str| count(&calls, |call| call.path.starts_with(path));
        assert_eq!(look_ups("/flows/instances/"), 3, "{version}: one for each flow");
        assert_eq!(look_ups("/propertymappings/"), 2, "{version}: one for each mapping");
        assert_eq!(
            count(&calls, |call| call.parameter("name").is_some() && call.path == STAGES),
            0,
            "{version}"
        );
        let reads = count(&calls, |call| !call.is_write());
        assert!(reads <= 10 + 5 + PAGES, "{version}: {reads} reads");
        let asked = kubernetes.take();
        let of_stages: Vec<_> = writes(&asked)
            .into_iter()
            .filter(|call| call.contains("/authenticatorsmsstages/"))
            .collect();
        let status = of_stages.iter().filter(|call| call.ends_with("/status")).count();
        assert_eq!(of_stages.len() - status, CROWD, "{version}: a finalizer each");
        assert_eq!(status, 2 * CROWD, "{version}: the intent and the end, each");
        println!("{version}: {start} reads at the start, {reads} in all");
        // How many use the connection is told at most every ten seconds.
        arena.round().await;
        kubernetes.take();
    }

    /// Nothing happens, and nothing is asked but the lists.
    async fn silence(&self) {
        let Self {
            version,
            arena,
            all: _,
            kubernetes,
        } = self;
        for _ in 0..5 {
            let seen = arena.sim.calls().len();
            arena.round().await;
            let calls = arena.sim.calls_after(seen);
            let events = usize::from(*version == NEWEST);
            assert_eq!(count(&calls, is_list), PAGES, "{version}: {calls:?}");
            assert_eq!(
                count(&calls, |call| call.path == "/events/events/"),
                events,
                "{version}: {calls:?}"
            );
            assert_eq!(calls.len(), PAGES + events, "{version}: {calls:?}");
        }
        assert_eq!(kubernetes.take(), [] as [String; 0], "{version}: nothing happens");
    }

    /// One field of one stage differs.
    async fn a_drift(&self) {
        let Self {
            version,
            arena,
            all,
            kubernetes,
        } = self;
        let seen = arena.sim.calls().len();
        let pk = arena.sim.stage_named(&all[17]).unwrap().pk;
        arena.sim.edit(pk, |stage| stage.verify_only = true);
        arena.round().await;
        let calls = arena.sim.calls_after(seen);
        let body = if *version == NEWEST {
            json!({"verify_only": false, "auth": AUTH_TOKEN, "auth_password": ""})
        } else {
            json!({"verify_only": false})
        };
        let sent: Vec<_> = calls
            .iter()
            .filter(|call| call.is_write())
            .map(|call| (call.path.clone(), call.body.clone()))
            .collect();
        assert_eq!(sent, [(format!("{STAGES}{pk}/"), body)], "{version}");
        assert_eq!(
            count(&calls, |call| !call.is_write()
                && !is_list(call)
                && call.path != "/events/events/"),
            0,
            "{version}"
        );
        arena.round().await;
        let asked = kubernetes.take();
        assert_eq!(writes(&asked), [] as [&String; 0], "{version}: it is as it was");
    }

    /// Edits of nothing that authentik holds, and of nothing at all.
    async fn edits_of_nothing(&self) {
        let Self {
            version,
            arena,
            all,
            kubernetes,
        } = self;
        let seen = arena.sim.calls().len();
        arena.edit_stage(&all[3], json!({"deletionPolicy": "Orphan"})).await;
        arena.is(&all[3], "True", "Available").await;
        let metadata = json!({"metadata": {"labels": {"team": "login"}, "annotations": {"note": "x"}}});
        arena.edit::<AuthenticatorSMSStage>(&all[4], metadata).await;
        arena.twilio(&all[5], besides(arena, 5)).await;
        arena
            .edit_stage(&all[6], json!({"suspend": false, "deletionPolicy": "Delete"}))
            .await;
        arena.is(&all[6], "True", "Available").await;
        arena.quiet().await;
        assert!(!arena.sim.calls_after(seen).iter().any(Call::is_write), "{version}");
        let asked = kubernetes.take();
        let written = writes(&asked);
        assert_eq!(
            written.len(),
            2,
            "{version}: one status for each that has another generation: {written:?}"
        );
        assert!(
            written.iter().all(|call| call.ends_with("/status")),
            "{version}: {written:?}"
        );
    }

    /// A Secret that is written, with the value that is used as it was.
    async fn a_secret_with_the_same_value(&self) {
        let Self {
            version,
            arena,
            all,
            kubernetes,
        } = self;
        let seen = arena.sim.calls().len();
        arena.rotate("twilio", "unused", "x").await;
        arena.rotate("twilio", "auth-token", &format!("{AUTH_TOKEN}\n")).await;
        arena
            .secret("barrier", &[("auth-token", "fedcba9876543210fedcba9876543210")])
            .await;
        let token =
            json!({"twilio": {"accountSid": SID, "authTokenSecretRef": {"name": "barrier", "key": "auth-token"}}});
        arena.edit_stage(&all[7], token).await;
        arena.is(&all[7], "True", "Available").await;
        arena.quiet().await;
        let calls = arena.sim.calls_after(seen);
        assert_eq!(
            count(&calls, Call::is_write),
            1,
            "{version}: that of the barrier: {calls:?}"
        );
        let asked = kubernetes.take();
        let written = writes(&asked).len();
        println!(
            "{version}: a Secret of {CROWD} resources written twice without another value: {written} status writes"
        );
        assert!(written <= 2 * CROWD + 1, "{version}: {written}");
    }

    /// The operator starts anew, and finds all as it is to be.
    async fn a_restart(&mut self) {
        let version = self.version;
        self.arena.round().await;
        let before = resource_versions(&self.arena, &self.all).await;
        self.arena.stop().await;
        let seen = self.arena.sim.calls().len();
        let started = Instant::now();
        let kubernetes = Kubernetes::of(&mut self.arena).await;
        self.arena
            .sim
            .wait_for_calls(PATIENCE, |calls| calls.len() > seen)
            .await
            .unwrap();
        self.arena.quiet().await;
        let took = started.elapsed();
        let calls = self.arena.sim.calls_after(seen);
        assert_eq!(count(&calls, Call::is_write), 0, "{version}: {calls:?}");
        assert!(
            calls.len() <= 10 + 5 + PAGES,
            "{version}: {} calls: {calls:?}",
            calls.len()
        );
        for _ in 0..3 {
            self.arena.round().await;
        }
        let asked = kubernetes.take();
        let written = writes(&asked);
        assert_eq!(written, [] as [&String; 0], "{version}: {written:?}");
        assert_eq!(count(&self.arena.sim.calls_after(seen), Call::is_write), 0, "{version}");
        assert_eq!(resource_versions(&self.arena, &self.all).await, before, "{version}");
        println!(
            "{version}: a restart takes {took:?} and {} calls, {} of Kubernetes",
            calls.len(),
            asked.len()
        );
    }
}

async fn a_crowd_costs_what_it_must(version: &'static str) {
    let mut crowd = Crowd::of(version).await;
    crowd.creation().await;
    crowd.silence().await;
    crowd.a_drift().await;
    crowd.edits_of_nothing().await;
    crowd.a_secret_with_the_same_value().await;
    crowd.a_restart().await;
}

async fn resource_versions(arena: &Arena, names: &[String]) -> Vec<Option<String>> {
    stream::iter(names)
        .then(async |name| arena.get(name).await.metadata.resource_version)
        .collect()
        .await
}

#[tokio::test]
async fn a_crowd_costs_what_it_must_in_the_oldest() {
    a_crowd_costs_what_it_must(OLDEST).await;
}

#[tokio::test]
async fn a_crowd_costs_what_it_must_where_credentials_are_told() {
    a_crowd_costs_what_it_must(READABLE).await;
}

#[tokio::test]
async fn a_crowd_costs_what_it_must_where_credentials_are_never_told() {
    a_crowd_costs_what_it_must(NEWEST).await;
}

#[tokio::test]
async fn an_edit_overtakes_a_crowd_that_is_being_created() {
    const BACKLOG: usize = 300;
    let mut arena = Arena::still(READABLE).await;
    arena.connect().await;
    arena.twilio("mine", json!({})).await;
    arena.start().await;
    arena.is("mine", "True", "Available").await;
    let mine = arena.sim.stage_named("mine").unwrap().pk;
    arena.stop().await;
    let all = names(BACKLOG);
    stream::iter(&all)
        .for_each_concurrent(16, |name| arena.twilio(name, json!({})))
        .await;
    arena
        .sim
        .inject(Fault::on("POST", STAGES, What::Delay(Duration::from_millis(5))).always());
    arena.start().await;

    let posts = |calls: &[Call]| count(calls, |call| call.method == "POST");
    let begun = posts(&arena.sim.calls());
    arena
        .sim
        .wait_for_calls(PATIENCE, |calls| posts(calls) > begun + 40)
        .await
        .unwrap();
    let edited = Instant::now();
    arena.edit_stage("mine", json!({"fromNumber": "Acme"})).await;
    let at_edit = posts(&arena.sim.calls());
    let is_mine = |call: &Call| call.method == "PATCH" && call.path == patch_path(mine);
    let calls = arena
        .sim
        .wait_for_calls(PATIENCE, |calls| calls.iter().any(is_mine))
        .await
        .unwrap();
    let took = edited.elapsed();
    let place = calls.iter().position(is_mine).unwrap();
    let overtaken_by = posts(&calls[..place]).saturating_sub(at_edit);
    all_are_ready(&arena, &all).await;
    println!(
        "the edit went out {took:?} later, behind {overtaken_by} creations, before {}",
        begun + BACKLOG - at_edit - overtaken_by
    );
    assert!(
        overtaken_by <= 16,
        "what is under way, at most eight at a time, and not {overtaken_by}"
    );
    assert!(
        at_edit + overtaken_by < begun + BACKLOG / 2,
        "there was no crowd left to overtake"
    );
    assert_eq!(posts(&arena.sim.calls()), begun + BACKLOG);
}

fn patch_path(pk: Uuid) -> String {
    format!("{STAGES}{pk}/")
}
