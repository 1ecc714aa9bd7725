//! The world that the demo plays in: a control plane, an authentik and the operator, each as users have it.

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use authentik_sim::{Config, Sim};
use serde_json::{Value, json};

use crate::{ControlPlane, Error, Options, Process, helm_template};

/// Namespace of the demo's resources.
pub const NAMESPACE: &str = "login";

/// Namespace of the operator.
const HOME: &str = "authentik-stage-operator";

/// Release of authentik that is played.
pub const AUTHENTIK: &str = "2026.5.0";

/// Longest time that a step may take.
const PATIENCE: Duration = Duration::from_secs(60);

/// Everything that runs. Dropping it ends it all.
pub struct Scene {
    /// The operator.
    pub operator: Process,
    /// authentik.
    pub sim: Sim,
    /// Kubernetes.
    pub plane: ControlPlane,
}

/// The repository that this program was built from.
#[must_use]
pub fn repository() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..")
}

impl Scene {
    /// Starts everything; `tell` says what is being done.
    pub async fn start(tell: impl Fn(&str)) -> Result<Self, Error> {
        tell("starting etcd and kube-apiserver");
        let plane = ControlPlane::start(Options::default()).await?;
        tell(&format!("starting a simulated authentik {AUTHENTIK}"));
        let sim = Sim::start(Config::new(AUTHENTIK)).await;
        sim.with(|state| {
            state.add_flow("default-authenticator-sms-setup", "stage_configuration");
        });
        tell("installing definitions and rights from the chart");
        plane.install_crds(&repository().join("crds")).await;
        for namespace in [NAMESPACE, HOME] {
            plane.kubectl_ok(&["create", "namespace", namespace]).await;
        }
        let rendered = helm_template(
            &repository().join("charts/authentik-stage-operator"),
            &json!({"fullnameOverride": "operator"}),
            &[
                "--namespace",
                HOME,
                "--show-only",
                "templates/rbac.yaml",
                "--show-only",
                "templates/serviceaccount.yaml",
            ],
        )
        .await;
        plane.apply(&rendered).await;
        tell("starting the operator under its own ServiceAccount");
        let kubeconfig = plane.service_account_kubeconfig(HOME, "operator").await;
        let kubeconfig = kubeconfig.to_string_lossy();
        let operator = Process::start(
            &operator_binary()?,
            ["run", "--listen", "127.0.0.1:0", "--log-format", "text"],
            &[("KUBECONFIG", &kubeconfig)],
            &plane.directory().join("operator.log"),
        )?;
        Ok(Self { operator, sim, plane })
    }

    /// The connection `authentik` to the simulator, with its token.
    pub async fn connect(&self) {
        let manifests = [
            json!({
                "apiVersion": "v1", "kind": "Secret",
                "metadata": {"name": "authentik-token", "namespace": NAMESPACE},
                "stringData": {"token": self.sim.admin_token()},
            }),
            json!({
                "apiVersion": "stages.authentik-operator.dev/v1alpha1", "kind": "AuthentikConnection",
                "metadata": {"name": "authentik", "namespace": NAMESPACE},
                // Drift is to be seen soon; 60s is the default.
                "spec": {"url": self.sim.url(), "allowInsecureHTTP": true, "syncInterval": "10s",
                         "tokenSecretRef": {"name": "authentik-token", "key": "token"}},
            }),
        ];
        self.plane.apply(&list(&manifests)).await;
    }

    /// Runs kubectl in the demo's namespace.
    pub async fn kubectl(&self, arguments: &[&str]) -> String {
        self.plane
            .kubectl_ok(&[&["--namespace", NAMESPACE], arguments].concat())
            .await
    }

    /// Waits until authentik holds what is wanted; how long it took.
    pub async fn until(&self, wanted: impl Fn(&authentik_sim::State) -> bool) -> Result<Duration, Error> {
        let began = Instant::now();
        self.sim
            .wait_for(PATIENCE, |state| wanted(state).then_some(()))
            .await
            .map_err(|_| Error::new(format!("it does not come within {} s", PATIENCE.as_secs())))?;
        Ok(began.elapsed())
    }
}

fn list(manifests: &[Value]) -> String {
    json!({"apiVersion": "v1", "kind": "List", "items": manifests}).to_string()
}

/// The operator's binary, beside this program.
fn operator_binary() -> Result<PathBuf, Error> {
    let here = std::env::current_exe().map_err(Error::when("find this program"))?;
    let binary = here.with_file_name("authentik-stage-operator");
    if binary.is_file() {
        return Ok(binary);
    }
    Err(Error::new(format!(
        "{} is not built: run `make demo` or `make dev`, which build it first",
        binary.display()
    )))
}
