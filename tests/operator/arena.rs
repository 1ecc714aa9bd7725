//! One test's world: a namespace, an authentik, an operator for both, and a clock that runs fast.

use std::ops::Deref;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use authentik_sim::{Config, Sim};
use authentik_stage_operator::api::{AuthenticatorSMSStage, AuthentikConnection};
use authentik_stage_operator::authentik::Observer;
use authentik_stage_operator::clock::{Clock, ManualClock};
use authentik_stage_operator::controller::events::Events;
use authentik_stage_operator::controller::health::Health;
use authentik_stage_operator::controller::metrics::{CountRequests, Metrics};
use authentik_stage_operator::controller::{self, Options, SecretAccess};
use authentik_stage_operator::reconcile::fingerprint::Fingerprints;
use authentik_stage_operator::reconcile::{ConnectionKey, Context, Settings};
use k8s_openapi::api::core::v1::Secret;
use k8s_openapi::api::events::v1::Event;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;
use k8s_openapi::jiff::Timestamp;
use kube::api::{DeleteParams, DynamicObject, Patch, PatchParams, PostParams};
use kube::client::ClientBuilder;
use kube::config::{KubeConfigOptions, Kubeconfig};
use kube::runtime::wait::await_condition;
use kube::{Api, Client};
use serde::de::DeserializeOwned;
use serde_json::{Value, json};
use tokio::sync::{OnceCell, oneshot};

use tokio::task::JoinHandle;
use world::ControlPlane;

use crate::gate::Gate;
use crate::lint;

/// Longest time that anything here is waited for, in real time.
pub const PATIENCE: Duration = Duration::from_secs(60);

/// The Account SID and the credentials that fixtures use.
pub const SID: &str = "AC0123456789abcdef0123456789abcdef";
pub const AUTH_TOKEN: &str = "7f83b1657ff1fc53b92dc18148a1d65d";

/// Oldest and newest authentik that every field is tried on; the newest never tells a credential.
pub const OLDEST: &str = "2023.10.2";
pub const READABLE: &str = "2026.5.0";
pub const NEWEST: &str = "2026.8.2";

/// Everything that the operator needs of a token, and not what is only of use to it: events, stages of other kinds.
pub const RIGHTS: [&str; 9] = [
    VIEW_STAGES,
    "authentik_stages_authenticator_sms.add_authenticatorsmsstage",
    "authentik_stages_authenticator_sms.change_authenticatorsmsstage",
    "authentik_stages_authenticator_sms.delete_authenticatorsmsstage",
    VIEW_DEVICES,
    "authentik_stages_authenticator_sms.delete_smsdevice",
    VIEW_VALIDATE,
    "authentik_flows.view_flow",
    "authentik_events.view_notificationwebhookmapping",
];
pub const VIEW_STAGES: &str = "authentik_stages_authenticator_sms.view_authenticatorsmsstage";
pub const VIEW_DEVICES: &str = "authentik_stages_authenticator_sms.view_smsdevice";
pub const VIEW_VALIDATE: &str = "authentik_stages_authenticator_validate.view_authenticatorvalidatestage";

pub struct Arena {
    pub plane: Plane,
    pub kube: Client,
    pub namespace: String,
    /// Those that the operator watches: the arena's own, and neighbours.
    namespaces: Vec<String>,
    pub sim: Sim,
    pub clock: ManualClock,
    /// Those of the operator that was started last.
    pub metrics: Arc<Metrics>,
    /// The operator's own.
    pub kubeconfig: std::path::PathBuf,
    operator: Option<Running>,
    ticker: Option<JoinHandle<()>>,
}

/// The control plane that all tests share, or one that a test has for itself.
pub enum Plane {
    Shared(&'static ControlPlane),
    Own(Box<ControlPlane>),
}

impl Deref for Plane {
    type Target = ControlPlane;

    fn deref(&self) -> &ControlPlane {
        match self {
            Self::Shared(plane) => plane,
            Self::Own(plane) => plane,
        }
    }
}

struct Running {
    stop: oneshot::Sender<()>,
    task: JoinHandle<Result<(), controller::WatchEnded>>,
}

impl Drop for Arena {
    fn drop(&mut self) {
        if let Some(ticker) = &self.ticker {
            ticker.abort();
        }
        if let Some(operator) = &self.operator {
            operator.task.abort();
        }
    }
}

fn crds() -> std::path::PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("crds")
}

async fn plane() -> &'static ControlPlane {
    static READY: OnceCell<()> = OnceCell::const_new();
    let plane = ControlPlane::shared().await;
    READY
        .get_or_init(async || {
            plane.install_crds(&crds()).await;
        })
        .await;
    plane
}

/// What a client is made of that tries nothing twice by itself.
pub async fn config(kubeconfig: &Path) -> kube::Config {
    let kubeconfig = Kubeconfig::read_from(kubeconfig).unwrap();
    let mut config = kube::Config::from_custom_kubeconfig(kubeconfig, &KubeConfigOptions::default())
        .await
        .unwrap();
    config.default_retry = false;
    config
}

/// A client as the operator has it.
pub async fn client(kubeconfig: &Path, metrics: &Arc<Metrics>) -> Client {
    ClientBuilder::try_from(config(kubeconfig).await)
        .unwrap()
        .with_layer(&CountRequests::of(Arc::clone(metrics)))
        .build()
}

/// Gives the operator of `namespace` its rights in those that it watches.
async fn grant(plane: &ControlPlane, namespace: &str, watched: &[String]) {
    // Rendered by the real Helm from the chart that users install: a missing rule fails tests.
    let chart = Path::new(env!("CARGO_MANIFEST_DIR")).join("charts/authentik-stage-operator");
    let values = json!({"watchNamespaces": watched, "clusterId": "test", "fullnameOverride": "operator"});
    let rights = world::helm_template(
        &chart,
        &values,
        &[
            "--namespace",
            namespace,
            "--show-only",
            "templates/rbac.yaml",
            "--show-only",
            "templates/serviceaccount.yaml",
        ],
    )
    .await;
    plane.apply(&rights).await;
}

impl Arena {
    /// A namespace with an authentik of that version, a connection named `authentik` to it, and Secret `twilio`;
    /// the operator runs, and a second of its time passes every ten milliseconds.
    pub async fn new(version: &str) -> Self {
        let mut arena = Self::still(version).await;
        arena.connect().await;
        arena.start().await;
        arena.run_clock();
        arena
    }

    /// The same without operator and connection, and with a clock that stands still.
    pub async fn still(version: &str) -> Self {
        Self::still_with(Config::new(version)).await
    }

    /// The same with an authentik of the test's own.
    pub async fn still_with(config: Config) -> Self {
        Self::on(plane().await, config).await
    }

    /// The same on a control plane that several tests share, which has the definitions already.
    pub async fn on(plane: &'static ControlPlane, config: Config) -> Self {
        Self::at(Plane::Shared(plane), config).await
    }

    /// The same in a control plane of the test's own, for what would reach other tests: an operator for the whole
    /// cluster, other definitions.
    pub async fn apart(version: &str, options: world::Options) -> Self {
        let plane = ControlPlane::start(options)
            .await
            .unwrap_or_else(|error| panic!("{error}"));
        plane.install_crds(&crds()).await;
        Self::at(Plane::Own(Box::new(plane)), Config::new(version)).await
    }

    async fn at(plane: Plane, config: Config) -> Self {
        let namespace = plane.create_namespace().await;
        grant(&plane, &namespace, std::slice::from_ref(&namespace)).await;
        let kubeconfig = plane.service_account_kubeconfig(&namespace, "operator").await;
        let kube = client(plane.kubeconfig_path(), &Arc::new(Metrics::new())).await;
        let sim = Sim::start(config).await;
        sim.with(|state| {
            state.add_flow("default-authenticator-sms-setup", "stage_configuration");
        });
        let arena = Self {
            plane,
            kube,
            namespaces: vec![namespace.clone()],
            namespace,
            sim,
            clock: ManualClock::new(Timestamp::now()),
            metrics: Arc::new(Metrics::new()),
            kubeconfig,
            operator: None,
            ticker: None,
        };
        arena.secret("twilio", &[("auth-token", AUTH_TOKEN)]).await;
        arena
    }

    /// Another namespace that an operator watches which is started after this, with Secret `twilio`.
    pub async fn neighbour(&mut self, labels: &str) -> String {
        let name = self.plane.create_namespace().await;
        self.plane.kubectl_ok(&["label", "namespace", &name, labels]).await;
        let token = format!("--from-literal=auth-token={AUTH_TOKEN}");
        let secret = ["create", "secret", "generic", "twilio", &token, "--namespace", &name];
        self.plane.kubectl_ok(&secret).await;
        self.namespaces.push(name.clone());
        grant(&self.plane, &self.namespace, &self.namespaces).await;
        name
    }

    /// From now on everything is about that namespace; the operator and its default connection stay where they are.
    /// Returns the one before.
    pub fn go_to(&mut self, namespace: &str) -> String {
        std::mem::replace(&mut self.namespace, namespace.to_owned())
    }

    /// An operator that is started after this watches all namespaces.
    pub async fn watch_everything(&mut self) {
        self.namespaces.clear();
        grant(&self.plane, &self.namespace, &[]).await;
    }

    /// Lets time run a hundred times as fast as it does.
    pub fn run_clock(&mut self) {
        let clock = self.clock.clone();
        self.ticker = Some(tokio::spawn(async move {
            let mut ticks = tokio::time::interval(Duration::from_millis(10));
            loop {
                ticks.tick().await;
                clock.advance(Duration::from_secs(1));
            }
        }));
    }

    /// Lets time stand still.
    pub fn stop_clock(&mut self) {
        if let Some(ticker) = self.ticker.take() {
            ticker.abort();
        }
    }

    /// Starts the operator, as its ServiceAccount.
    pub async fn start(&mut self) {
        let metrics = Arc::new(Metrics::new());
        let client = client(&self.kubeconfig, &metrics).await;
        self.start_with(client, metrics);
    }

    /// Starts the operator with a gate between it and the API server.
    pub async fn start_behind(&mut self, gate: &Gate) {
        let metrics = Arc::new(Metrics::new());
        let config = config(&self.kubeconfig).await;
        let client = ClientBuilder::try_from(config).unwrap().with_layer(gate).build();
        self.start_with(client, metrics);
    }

    /// Starts the operator with a client of the test's own.
    pub fn start_with(&mut self, client: Client, metrics: Arc<Metrics>) {
        let observer: Arc<dyn Observer> = Arc::<Metrics>::clone(&metrics);
        self.start_observed(client, metrics, observer);
    }

    /// Starts the operator with somebody who is told of every call to authentik.
    pub fn start_observed(&mut self, client: Client, metrics: Arc<Metrics>, observer: Arc<dyn Observer>) {
        self.metrics = Arc::clone(&metrics);
        let clock: Arc<dyn Clock> = Arc::new(self.clock.clone());
        let events = Events::new(client.clone(), "test".to_owned(), Arc::clone(&metrics));
        let settings = Settings {
            default_connection: Some(ConnectionKey {
                namespace: self.namespace.clone(),
                name: "authentik".to_owned(),
            }),
            cluster_id: format!("cluster-of-{}", self.namespace),
        };
        let context = Context::new(
            client,
            Arc::clone(&clock),
            Fingerprints::new().unwrap(),
            observer,
            settings,
        );
        let options = Options {
            namespaces: self.namespaces.clone(),
            secrets: SecretAccess::Watch,
            shutdown: Duration::from_secs(5),
        };
        let health = Health::new(clock);
        let (stop, stopped) = oneshot::channel();
        let task = tokio::spawn(controller::run(context, options, events, metrics, health, async {
            let _ = stopped.await;
        }));
        self.operator = Some(Running { stop, task });
    }

    /// Stops the operator as SIGTERM does.
    pub async fn stop(&mut self) {
        let Running { stop, task } = self.operator.take().unwrap();
        let _ = stop.send(());
        task.await.unwrap().unwrap();
    }

    /// Ends the operator as SIGKILL does: whatever it is doing is cut off where it is.
    pub async fn crash(&mut self) {
        let Running { stop: _, task } = self.operator.take().unwrap();
        task.abort();
        assert!(task.await.is_err_and(|end| end.is_cancelled()), "it ended by itself");
    }

    /// Waits until that many more complete rounds over all stages of authentik have begun.
    pub async fn rounds(&self, count: usize) {
        let is_round = |call: &&authentik_sim::Call| call.method == "GET" && call.parameter("ordering") == Some("pk");
        let made = self.sim.calls().iter().filter(is_round).count();
        self.sim
            .wait_for_calls(PATIENCE, |calls| calls.iter().filter(is_round).count() >= made + count)
            .await
            .unwrap();
    }

    /// The calls that were to change something in authentik, oldest first.
    pub fn writes(&self) -> Vec<authentik_sim::Call> {
        self.sim
            .calls()
            .into_iter()
            .filter(authentik_sim::Call::is_write)
            .collect()
    }

    /// The token's Secret and the connection.
    pub async fn connect(&self) {
        self.secret("authentik-token", &[("token", self.sim.admin_token())])
            .await;
        self.connection(json!({})).await;
    }

    /// The same with a token that has exactly these rights, which is returned.
    pub async fn connect_with_rights(&self, rights: &[&str]) -> String {
        let token = self.sim.add_token("operator", rights, false);
        self.secret("authentik-token", &[("token", &token)]).await;
        self.connection(json!({})).await;
        token
    }

    /// Applies connection `authentik`, with these members of the spec besides or instead.
    pub async fn connection(&self, besides: Value) {
        let mut spec = json!({
            "url": self.sim.url(),
            "allowInsecureHTTP": true,
            "tokenSecretRef": {"name": "authentik-token", "key": "token"},
        });
        merge(&mut spec, besides);
        self.apply("AuthentikConnection", "authentik", spec).await;
    }

    /// Applies a Twilio stage, with these members of the spec besides or instead.
    pub async fn twilio(&self, name: &str, besides: Value) {
        let mut spec = json!({
            "fromNumber": "+15550100",
            "provider": "twilio",
            "twilio": {"accountSid": SID, "authTokenSecretRef": {"name": "twilio", "key": "auth-token"}},
        });
        merge(&mut spec, besides);
        self.apply("AuthenticatorSMSStage", name, spec).await;
    }

    /// Applies a stage for a gateway, with these members of the spec besides or instead.
    pub async fn generic(&self, name: &str, besides: Value) {
        let mut spec = json!({
            "fromNumber": "+15550100",
            "provider": "generic",
            "generic": {"url": "https://sms.example.com/send", "username": "sms",
                        "passwordSecretRef": {"name": "gateway", "key": "password"}},
        });
        merge(&mut spec, besides);
        self.apply("AuthenticatorSMSStage", name, spec).await;
    }

    /// Applies a resource of one of the two kinds.
    pub async fn apply(&self, kind: &str, name: &str, spec: Value) {
        let api = self.dynamic(kind);
        let object = json!({
            "apiVersion": "stages.authentik-operator.dev/v1alpha1", "kind": kind,
            "metadata": {"name": name, "namespace": self.namespace}, "spec": spec,
        });
        api.patch(name, &PatchParams::apply("test").force(), &Patch::Apply(object))
            .await
            .unwrap();
    }

    /// Any of the two kinds without its type.
    pub fn dynamic(&self, kind: &str) -> Api<DynamicObject> {
        let plural = format!("{}s", kind.to_lowercase());
        let gvk = kube::core::GroupVersionKind::gvk("stages.authentik-operator.dev", "v1alpha1", kind);
        let resource = kube::api::ApiResource::from_gvk_with_plural(&gvk, &plural);
        Api::namespaced_with(self.kube.clone(), &self.namespace, &resource)
    }

    /// Creates or replaces a Secret.
    pub async fn secret(&self, name: &str, data: &[(&str, &str)]) {
        let api: Api<Secret> = self.api();
        let data: serde_json::Map<_, _> = data
            .iter()
            .map(|(key, value)| ((*key).to_owned(), json!(value)))
            .collect();
        let secret = json!({"apiVersion": "v1", "kind": "Secret", "metadata": {"name": name}, "stringData": data});
        match api.delete(name, &DeleteParams::default()).await {
            Ok(_) | Err(_) => {}
        }
        api.create(&PostParams::default(), &serde_json::from_value(secret).unwrap())
            .await
            .unwrap();
    }

    /// Changes one key of a Secret.
    pub async fn rotate(&self, name: &str, key: &str, value: &str) {
        let api: Api<Secret> = self.api();
        let patch = json!({"stringData": {key: value}});
        api.patch(name, &PatchParams::default(), &Patch::Merge(patch))
            .await
            .unwrap();
    }

    /// An API of this namespace, as administrator.
    pub fn api<K>(&self) -> Api<K>
    where
        K: kube::Resource<Scope = kube::core::NamespaceResourceScope, DynamicType = ()>,
    {
        Api::namespaced(self.kube.clone(), &self.namespace)
    }

    /// Merges a patch into a resource.
    pub async fn edit<K>(&self, name: &str, patch: Value)
    where
        K: kube::Resource<Scope = kube::core::NamespaceResourceScope, DynamicType = ()>
            + Clone
            + DeserializeOwned
            + std::fmt::Debug,
    {
        self.api::<K>()
            .patch(name, &PatchParams::default(), &Patch::Merge(patch))
            .await
            .unwrap();
    }

    /// Merges a patch into a stage's spec.
    pub async fn edit_stage(&self, name: &str, spec: Value) {
        self.edit::<AuthenticatorSMSStage>(name, json!({"spec": spec})).await;
    }

    /// The stage resource as it is.
    pub async fn get(&self, name: &str) -> AuthenticatorSMSStage {
        self.api().get(name).await.unwrap()
    }

    /// Deletes a stage resource without waiting for its end.
    pub async fn delete(&self, name: &str) {
        self.api::<AuthenticatorSMSStage>()
            .delete(name, &DeleteParams::default())
            .await
            .unwrap();
    }

    /// Waits until a stage resource is gone.
    pub async fn gone(&self, name: &str) {
        self.wait::<AuthenticatorSMSStage>(name, "be gone", |stage| stage.is_none())
            .await;
    }

    /// Waits until the stage resource is so; `Ready` is `status` for `reason`, in its current generation.
    pub async fn is(&self, name: &str, status: &str, reason: &str) -> AuthenticatorSMSStage {
        let what = format!("be Ready={status} for {reason}");
        self.wait(name, &what, |stage: Option<&AuthenticatorSMSStage>| {
            let told = stage.and_then(|stage| Some((&stage.metadata, &stage.status.as_ref()?.conditions)));
            told.is_some_and(|(metadata, conditions)| is_so(conditions, metadata.generation, status, reason))
        })
        .await
        .unwrap()
    }

    /// The same for a connection.
    pub async fn connection_is(&self, name: &str, status: &str, reason: &str) -> AuthentikConnection {
        let what = format!("be Ready={status} for {reason}");
        self.wait(name, &what, |connection: Option<&AuthentikConnection>| {
            let told = connection.and_then(|one| Some((&one.metadata, &one.status.as_ref()?.conditions)));
            told.is_some_and(|(metadata, conditions)| is_so(conditions, metadata.generation, status, reason))
        })
        .await
        .unwrap()
    }

    /// Waits until something is the case with a resource.
    pub async fn wait<K>(&self, name: &str, what: &str, condition: impl Fn(Option<&K>) -> bool) -> Option<K>
    where
        K: kube::Resource<Scope = kube::core::NamespaceResourceScope, DynamicType = ()>
            + Clone
            + DeserializeOwned
            + std::fmt::Debug
            + serde::Serialize
            + Send
            + 'static,
    {
        let api: Api<K> = self.api();
        let met = await_condition(api.clone(), name, |object: Option<&K>| {
            if let Some(object) = object {
                lint::status(object);
            }
            condition(object)
        });
        if let Ok(met) = tokio::time::timeout(PATIENCE, met).await {
            return met.unwrap();
        }
        let now = api.get_opt(name).await.unwrap();
        let mut shown = serde_json::to_value(&now).unwrap();
        if let Some(metadata) = shown.get_mut("metadata").and_then(Value::as_object_mut) {
            metadata.remove("managedFields");
        }
        let calls: Vec<String> = self
            .sim
            .calls()
            .iter()
            .map(|call| format!("{} {} {:?}", call.method, call.path, call.status))
            .collect();
        panic!(
            "{} {name} does not {what}; it is {}\nauthentik was asked:\n{}",
            K::kind(&()),
            serde_json::to_string_pretty(&shown).unwrap(),
            calls.join("\n")
        );
    }

    /// Waits until authentik holds what is wanted.
    pub async fn holds<R>(&self, what: &str, wanted: impl Fn(&authentik_sim::State) -> Option<R>) -> R {
        match self.sim.wait_for(PATIENCE, wanted).await {
            Ok(found) => found,
            Err(error) => panic!(
                "authentik does not hold {what}: {error:?}; stages: {:?}",
                self.sim.stages()
            ),
        }
    }

    /// Waits until nothing that is due is left to do: no pass waits or runs, and none has, nor has
    /// anything been asked of anybody, for a tenth of a second.
    pub async fn quiet(&self) {
        let counted = |metrics: &str, name: &str| -> Vec<String> {
            let lines = metrics.lines().filter(|line| line.starts_with(name));
            lines.map(ToOwned::to_owned).collect()
        };
        let started = std::time::Instant::now();
        let mut before = (Vec::new(), Vec::new(), 0);
        let mut same = 0;
        while same < 10 {
            let metrics = self.metrics.encode();
            let now = (
                counted(&metrics, "controller_runtime_reconcile_total"),
                counted(&metrics, "rest_client_requests_total"),
                self.sim.calls().len(),
            );
            let idle = ["workqueue_depth", "controller_runtime_active_workers"]
                .iter()
                .all(|name| counted(&metrics, name).iter().all(|line| line.ends_with(" 0")));
            same = if idle && now == before { same + 1 } else { 0 };
            before = now;
            assert!(started.elapsed() < PATIENCE, "never quiet, with passes {:?}", before.0);
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    }

    /// Has the next round begin, on a clock that stands still, and waits until it has come to its end.
    pub async fn round(&self) {
        self.quiet().await;
        let seen = self.sim.calls().len();
        self.clock.advance(Duration::from_secs(60));
        let listed = |calls: &[authentik_sim::Call]| calls.iter().skip(seen).any(is_list);
        self.sim.wait_for_calls(PATIENCE, listed).await.unwrap();
        self.quiet().await;
    }

    /// Reasons and notes of the events about an object, waiting until one has this reason.
    pub async fn event(&self, name: &str, reason: &str) -> String {
        let api: Api<Event> = self.api();
        let started = std::time::Instant::now();
        loop {
            let events = api.list(&kube::api::ListParams::default()).await.unwrap();
            let found = events.items.iter().find(|event| {
                event.reason.as_deref() == Some(reason)
                    && event.regarding.as_ref().and_then(|object| object.name.as_deref()) == Some(name)
            });
            if let Some(event) = found {
                return event.note.clone().unwrap_or_default();
            }
            assert!(
                started.elapsed() < PATIENCE,
                "no event {reason} about {name}: {:?}",
                events.items
            );
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }
}

/// authentik's list of SMS stages.
pub const STAGES: &str = "/stages/authenticator/sms/";

/// Whether a call reads a page of the list of SMS stages.
pub fn is_list(call: &authentik_sim::Call) -> bool {
    call.method == "GET" && call.path == STAGES
}

/// Whether `Ready` is so, in this generation.
fn is_so(conditions: &[Condition], generation: Option<i64>, status: &str, reason: &str) -> bool {
    conditions.iter().any(|condition| {
        condition.type_ == "Ready"
            && condition.status == status
            && condition.reason == reason
            && condition.observed_generation == generation
    })
}

/// Members of `besides` replace those of `into`; null removes.
fn merge(into: &mut Value, besides: Value) {
    let Value::Object(besides) = besides else {
        panic!("members of an object are wanted")
    };
    for (key, value) in besides {
        if value.is_null() {
            into.as_object_mut().unwrap().remove(&key);
        } else {
            into[key] = value;
        }
    }
}

/// The `Ready` condition's message.
pub fn message(stage: &AuthenticatorSMSStage) -> String {
    let conditions = &stage.status.as_ref().unwrap().conditions;
    conditions
        .iter()
        .find(|condition| condition.type_ == "Ready")
        .unwrap()
        .message
        .clone()
}
