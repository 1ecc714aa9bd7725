//! A Kubernetes control plane: real etcd and kube-apiserver on loopback, in a directory that is removed afterwards.
//!
//! RBAC is on, and there is one administrator. There are no nodes: nothing is ever scheduled, so a Deployment can be
//! stored but has no pods. Without a controller manager, namespaces do not end and garbage is not collected.

use std::collections::BTreeMap;
use std::fs;
use std::net::{Ipv4Addr, TcpListener};
use std::path::{Path, PathBuf};
use std::sync::Mutex;
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use tokio::sync::OnceCell;

use crate::identity::{self, SigningKey};
use crate::kubectl::Kubectl;
use crate::{Error, Process, Scratch, Tool, Version};

/// Longest that the API server may take until it is ready; it takes a few seconds on an idle machine.
const START: Duration = Duration::from_secs(120);

/// Pause between two looks at a program that is starting: it sends no event when it is ready.
const LOOK: Duration = Duration::from_millis(25);

/// What kind of control plane to start.
#[derive(Clone, Copy, Debug, Default)]
pub struct Options {
    /// Release of the API server.
    pub version: Version,
    /// Whether and how much the API server writes down of every request; see [`ControlPlane::audit_events`].
    pub audit: Option<Audit>,
    /// Whether kube-controller-manager runs beside it.
    pub controller_manager: bool,
}

/// How much the audit log has of a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Audit {
    /// Who did what to which object, and the answer's code.
    Metadata,
    /// Also the bodies of request and answer.
    RequestResponse,
}

impl Audit {
    const fn level(self) -> &'static str {
        match self {
            Self::Metadata => "Metadata",
            Self::RequestResponse => "RequestResponse",
        }
    }
}

/// A running control plane. Dropping it kills its programs and removes its files.
#[derive(Debug)]
pub struct ControlPlane {
    // Fields are dropped in this order: the programs before the directory that they write to.
    controller_manager: Option<Process>,
    api_server: Mutex<ApiServer>,
    _etcd: Process,
    kubectl: Kubectl,
    url: String,
    admin_token: String,
    ca: String,
    kubeconfig: PathBuf,
    audit_log: Option<PathBuf>,
    scratch: Scratch,
}

impl ControlPlane {
    /// The control plane of this test binary, started by the first test that asks: the newest release, nothing else.
    ///
    /// # Panics
    /// With the cause, if it cannot be started.
    pub async fn shared() -> &'static Self {
        static SHARED: OnceCell<ControlPlane> = OnceCell::const_new();
        SHARED
            .get_or_init(async || {
                Self::start(Options::default())
                    .await
                    .unwrap_or_else(|error| panic!("{error}"))
            })
            .await
    }

    /// Starts a control plane and returns when it is ready.
    pub async fn start(options: Options) -> Result<Self, Error> {
        let tools = tokio::task::spawn_blocking(move || Tools::find(options))
            .await
            .map_err(Error::when("look for the tools"))??;
        // Between choosing a free port and using it, another program may take it.
        let mut attempts = 3;
        loop {
            attempts -= 1;
            match Self::start_once(options, &tools).await {
                Err(error) if attempts > 0 && error.to_string().contains("address already in use") => {}
                result => return result,
            }
        }
    }

    async fn start_once(options: Options, tools: &Tools) -> Result<Self, Error> {
        let scratch = Scratch::new()?;
        let directory = scratch.path();
        let [etcd_port, peer_port, port] = free_ports()?;
        let url = format!("https://127.0.0.1:{port}");
        let admin_token = identity::random_token()?;
        let key = SigningKey::create_in(directory)?;

        let etcd = start_etcd(&tools.etcd, directory, etcd_port, peer_port)?;
        let audit_log = options.audit.map(|_| directory.join("audit.log"));
        let mut api_server = ApiServer {
            program: tools.api_server.clone(),
            flags: api_server_flags(options, directory, etcd_port, port, &admin_token, &key)?,
            log: directory.join("kube-apiserver.log"),
            process: None,
        };
        api_server.start()?;

        let deadline = Instant::now() + START;
        let ca = api_server.certificate(directory, deadline).await?;
        let kubeconfig = directory.join("kubeconfig");
        identity::write(
            &kubeconfig,
            identity::kubeconfig(&url, &ca, "admin", &admin_token, "default").to_string(),
        )?;
        let kubectl = Kubectl::new(
            tools.kubectl.clone(),
            kubeconfig.clone(),
            directory.join("kubectl-cache"),
        );
        let mut world = Self {
            controller_manager: None,
            api_server: Mutex::new(api_server),
            _etcd: etcd,
            kubectl,
            url,
            admin_token,
            ca,
            kubeconfig,
            audit_log,
            scratch,
        };
        world.ready(deadline).await?;
        if let Some(program) = &tools.controller_manager {
            world.controller_manager = Some(start_controller_manager(program, world.scratch.path(), &key)?);
        }
        Ok(world)
    }

    /// Waits until the API server serves everything.
    async fn ready(&self, deadline: Instant) -> Result<(), Error> {
        loop {
            let answer = self.kubectl.run(&["get", "--raw", "/readyz"], None).await?;
            if answer.status.success() {
                return Ok(());
            }
            self.lock().check(deadline, &String::from_utf8_lossy(&answer.stderr))?;
            tokio::time::sleep(LOOK).await;
        }
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, ApiServer> {
        // A panic elsewhere leaves the state as it was before or after one start or stop: both are fine.
        self.api_server
            .lock()
            .unwrap_or_else(std::sync::PoisonError::into_inner)
    }

    /// Kubeconfig of the administrator.
    pub fn kubeconfig_path(&self) -> &Path {
        &self.kubeconfig
    }

    /// URL of the API server, `https://127.0.0.1:<port>`.
    pub fn url(&self) -> &str {
        &self.url
    }

    /// Bearer token of the administrator.
    pub fn admin_token(&self) -> &str {
        &self.admin_token
    }

    /// Certificates that vouch for the API server, as PEM.
    pub fn ca(&self) -> &str {
        &self.ca
    }

    /// The directory of this control plane, for more files that are to go with it.
    pub fn directory(&self) -> &Path {
        self.scratch.path()
    }

    pub(crate) const fn client(&self) -> &Kubectl {
        &self.kubectl
    }

    /// Kills the API server. What it stored stays; connections break.
    pub fn stop_api_server(&self) {
        self.lock().process = None;
    }

    /// Starts the API server again at the same address, after [`Self::stop_api_server`], and waits until it is ready.
    pub async fn start_api_server(&self) -> Result<(), Error> {
        self.lock().start()?;
        self.ready(Instant::now() + START).await
    }

    /// Kills the API server, starts it again at the same address, and waits until it is ready.
    pub async fn restart_api_server(&self) -> Result<(), Error> {
        self.stop_api_server();
        self.start_api_server().await
    }

    /// Freezes the API server: connections stay open and nothing is answered, until [`Self::thaw_api_server`].
    pub fn freeze_api_server(&self) {
        self.lock().signal("STOP");
    }

    /// Lets a frozen API server go on.
    pub fn thaw_api_server(&self) {
        self.lock().signal("CONT");
    }

    /// Every request that was answered so far, oldest first, as `audit.k8s.io/v1` events. Complete: the API server
    /// writes an event before it answers.
    ///
    /// # Panics
    /// If the control plane was started without [`Options::audit`].
    pub fn audit_events(&self) -> Vec<Value> {
        let log = self.audit_log.as_ref().expect("start the control plane with `audit`");
        let text = fs::read_to_string(log).unwrap_or_default();
        text.lines()
            .filter_map(|line| serde_json::from_str(line).ok())
            .collect()
    }

    /// Kills everything and removes all files, as a drop does.
    pub fn stop(self) {
        drop(self);
    }
}

/// The programs that a control plane consists of.
struct Tools {
    etcd: PathBuf,
    api_server: PathBuf,
    kubectl: PathBuf,
    controller_manager: Option<PathBuf>,
}

impl Tools {
    fn find(options: Options) -> Result<Self, Error> {
        Ok(Self {
            etcd: Tool::Etcd.path()?,
            api_server: Tool::ApiServer(options.version).path()?,
            kubectl: Tool::Kubectl.path()?,
            controller_manager: options
                .controller_manager
                .then(|| Tool::ControllerManager.path())
                .transpose()?,
        })
    }
}

/// The API server, which can be stopped and started again.
#[derive(Debug)]
struct ApiServer {
    program: PathBuf,
    flags: Vec<String>,
    log: PathBuf,
    process: Option<Process>,
}

impl ApiServer {
    fn start(&mut self) -> Result<(), Error> {
        self.process = Some(Process::start(&self.program, &self.flags, &[], &self.log)?);
        Ok(())
    }

    fn signal(&self, name: &str) {
        self.process.as_ref().expect("the API server is stopped").signal(name);
    }

    /// An error if it has ended by itself or the time is over; `last` is what it answered last.
    fn check(&mut self, deadline: Instant, last: &str) -> Result<(), Error> {
        let Some(process) = &mut self.process else {
            return Err(Error::new("kube-apiserver was stopped while it started"));
        };
        let end = process.exited();
        if end.is_none() && Instant::now() < deadline {
            return Ok(());
        }
        let how = end.map_or_else(
            || format!("not ready after {} s", START.as_secs()),
            |status| format!("ended with {status}"),
        );
        let output = process.output();
        let lines: Vec<_> = output.lines().collect();
        let tail = lines[lines.len().saturating_sub(20)..].join("\n");
        Err(Error::new(format!("kube-apiserver {how}: {last}\n{tail}")))
    }

    /// The certificate that it makes for itself at its first start.
    async fn certificate(&mut self, directory: &Path, deadline: Instant) -> Result<String, Error> {
        // It writes the key after the certificate.
        let key = directory.join("apiserver.key");
        while !fs::metadata(&key).is_ok_and(|file| file.len() > 0) {
            self.check(deadline, "no certificate yet")?;
            tokio::time::sleep(LOOK).await;
        }
        let certificate = directory.join("apiserver.crt");
        fs::read_to_string(&certificate).map_err(Error::when(format!("read {}", certificate.display())))
    }
}

fn api_server_flags(
    options: Options,
    directory: &Path,
    etcd_port: u16,
    port: u16,
    admin_token: &str,
    key: &SigningKey,
) -> Result<Vec<String>, Error> {
    let file = |name: &str| directory.join(name).display().to_string();
    let tokens = file("tokens.csv");
    identity::write(
        Path::new(&tokens),
        format!("{admin_token},admin,admin,system:masters\n"),
    )?;
    let mut flags = BTreeMap::from([
        ("etcd-servers", format!("http://127.0.0.1:{etcd_port}")),
        ("cert-dir", directory.display().to_string()),
        ("bind-address", "127.0.0.1".to_owned()),
        ("secure-port", port.to_string()),
        ("token-auth-file", tokens),
        ("authorization-mode", "RBAC".to_owned()),
        // There is no network of pods and services; without this it waits for an address that others can reach.
        ("endpoint-reconciler-type", "none".to_owned()),
        ("service-cluster-ip-range", "10.0.0.0/24".to_owned()),
        ("service-account-issuer", "https://kubernetes.default.svc".to_owned()),
        ("service-account-signing-key-file", key.private.display().to_string()),
        ("service-account-key-file", key.public.display().to_string()),
    ]);
    if let Some(audit) = options.audit {
        let policy = json!({
            "apiVersion": "audit.k8s.io/v1",
            "kind": "Policy",
            "omitStages": ["RequestReceived"],
            "rules": [{"level": audit.level()}],
        });
        let path = file("audit-policy.json");
        identity::write(Path::new(&path), policy.to_string())?;
        flags.extend([
            ("audit-policy-file", path),
            ("audit-log-path", file("audit.log")),
            ("audit-log-mode", "blocking-strict".to_owned()),
        ]);
    }
    Ok(flags
        .into_iter()
        .map(|(name, value)| format!("--{name}={value}"))
        .collect())
}

fn start_etcd(program: &Path, directory: &Path, port: u16, peer_port: u16) -> Result<Process, Error> {
    let url = format!("http://127.0.0.1:{port}");
    let peer = format!("http://127.0.0.1:{peer_port}");
    let flags = [
        format!("--data-dir={}", directory.join("etcd").display()),
        format!("--listen-client-urls={url}"),
        format!("--advertise-client-urls={url}"),
        format!("--listen-peer-urls={peer}"),
        format!("--initial-advertise-peer-urls={peer}"),
        format!("--initial-cluster=default={peer}"),
        // What a power cut would lose is of no use afterwards anyway.
        "--unsafe-no-fsync".to_owned(),
        // Less memory than the defaults, which are made for large clusters.
        format!("--quota-backend-bytes={}", 512 * 1024 * 1024),
        "--snapshot-count=2000".to_owned(),
        "--log-level=warn".to_owned(),
    ];
    Process::start(program, flags, &[], &directory.join("etcd.log"))
}

fn start_controller_manager(program: &Path, directory: &Path, key: &SigningKey) -> Result<Process, Error> {
    let flags = [
        format!("--kubeconfig={}", directory.join("kubeconfig").display()),
        format!("--service-account-private-key-file={}", key.private.display()),
        format!("--root-ca-file={}", directory.join("apiserver.crt").display()),
        "--controllers=namespace-controller,garbage-collector-controller,serviceaccount-controller,root-ca-certificate-publisher-controller".to_owned(),
        "--leader-elect=false".to_owned(),
        // It serves nothing: whoever needs its work waits for the work.
        "--secure-port=0".to_owned(),
    ];
    Process::start(program, flags, &[], &directory.join("kube-controller-manager.log"))
}

/// Three ports of loopback that were free a moment ago.
fn free_ports() -> Result<[u16; 3], Error> {
    // All are held until all are known, so that they differ.
    let mut ports = [0; 3];
    let mut held = Vec::new();
    for port in &mut ports {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).map_err(Error::when("find a free port"))?;
        *port = listener.local_addr().map_err(Error::when("find a free port"))?.port();
        held.push(listener);
    }
    Ok(ports)
}
