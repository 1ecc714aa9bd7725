//! What tests do to the control plane through kubectl, as a user would.

use std::path::{Path, PathBuf};
use std::process::{Output, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};

use serde_json::json;
use tokio::io::AsyncWriteExt as _;
use tokio::process::Command;

use crate::{ControlPlane, Error, identity};

/// The program, and whose kubeconfig it uses.
#[derive(Debug)]
pub(crate) struct Kubectl {
    program: PathBuf,
    kubeconfig: PathBuf,
    cache: PathBuf,
}

impl Kubectl {
    pub(crate) const fn new(program: PathBuf, kubeconfig: PathBuf, cache: PathBuf) -> Self {
        Self {
            program,
            kubeconfig,
            cache,
        }
    }

    pub(crate) async fn run(&self, arguments: &[&str], input: Option<&str>) -> Result<Output, Error> {
        let mut command = Command::new(&self.program);
        command
            .args(arguments)
            .env("KUBECONFIG", &self.kubeconfig)
            // Not the user's cache, which is keyed by an address that the next run may have too.
            .env("KUBECACHEDIR", &self.cache);
        run(&mut command, input).await
    }
}

/// Runs a command to its end with `input` on its standard input.
pub(crate) async fn run(command: &mut Command, input: Option<&str>) -> Result<Output, Error> {
    let what = format!("run {}", command.as_std().get_program().display());
    let mut child = command
        .stdin(if input.is_some() { Stdio::piped() } else { Stdio::null() })
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .kill_on_drop(true)
        .spawn()
        .map_err(Error::when(&what))?;
    let stdin = child.stdin.take();
    let feed = async {
        if let (Some(mut stdin), Some(input)) = (stdin, input) {
            // A program that ends without reading all says why by itself.
            let _ = stdin.write_all(input.as_bytes()).await;
        }
    };
    let ((), output) = tokio::join!(feed, child.wait_with_output());
    output.map_err(Error::when(&what))
}

/// Standard output of a command that has to succeed.
pub(crate) fn expect_success(what: &str, output: Output) -> String {
    assert!(
        output.status.success(),
        "{what}: {}\n{}{}",
        output.status,
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr)
    );
    String::from_utf8(output.stdout).expect("output is UTF-8")
}

/// All of these panic if kubectl cannot be started.
impl ControlPlane {
    /// Runs kubectl as the administrator, whatever comes of it.
    pub async fn kubectl(&self, arguments: &[&str]) -> Output {
        self.client().run(arguments, None).await.unwrap()
    }

    /// The same with text on its standard input.
    pub async fn kubectl_stdin(&self, arguments: &[&str], input: &str) -> Output {
        self.client().run(arguments, Some(input)).await.unwrap()
    }

    /// Runs kubectl as the administrator and returns what it prints.
    ///
    /// # Panics
    /// With kubectl's message, if it fails.
    pub async fn kubectl_ok(&self, arguments: &[&str]) -> String {
        expect_success(
            &format!("kubectl {}", arguments.join(" ")),
            self.kubectl(arguments).await,
        )
    }

    /// Applies manifests, server-side, and returns what kubectl prints.
    ///
    /// # Panics
    /// With the API server's message, if it refuses one.
    pub async fn apply(&self, manifests: &str) -> String {
        let arguments = ["apply", "--server-side", "--filename=-"];
        expect_success("kubectl apply", self.kubectl_stdin(&arguments, manifests).await)
    }

    /// Applies the CustomResourceDefinitions of a directory and waits until they are served.
    ///
    /// # Panics
    /// With the API server's message, if it refuses one.
    pub async fn install_crds(&self, directory: &Path) {
        let files = format!("--filename={}", directory.display());
        self.kubectl_ok(&["apply", "--server-side", &files]).await;
        self.kubectl_ok(&["wait", "--for=condition=Established", "--timeout=60s", &files])
            .await;
    }

    /// Makes a namespace that no other test uses, and returns its name.
    pub async fn create_namespace(&self) -> String {
        static NEXT: AtomicU32 = AtomicU32::new(1);
        let name = format!("test-{}", NEXT.fetch_add(1, Ordering::Relaxed));
        self.kubectl_ok(&["create", "namespace", &name]).await;
        name
    }

    /// Kubeconfig of a ServiceAccount, which is made if it is not there. Its token is good for a day.
    ///
    /// # Panics
    /// If the namespace does not exist.
    pub async fn service_account_kubeconfig(&self, namespace: &str, name: &str) -> PathBuf {
        let account = json!({
            "apiVersion": "v1",
            "kind": "ServiceAccount",
            "metadata": {"name": name, "namespace": namespace},
        });
        // Client-side: an account that a chart installed keeps its fields and their owner.
        let created = self
            .kubectl_stdin(&["create", "--filename=-"], &account.to_string())
            .await;
        if !String::from_utf8_lossy(&created.stderr).contains("AlreadyExists") {
            expect_success("kubectl create serviceaccount", created);
        }
        let token = self
            .kubectl_ok(&["create", "token", name, "--namespace", namespace, "--duration=24h"])
            .await;
        let path = self.directory().join(format!("kubeconfig-{namespace}-{name}"));
        let config = identity::kubeconfig(self.url(), self.ca(), name, token.trim(), namespace);
        identity::write(&path, config.to_string()).unwrap();
        path
    }
}
