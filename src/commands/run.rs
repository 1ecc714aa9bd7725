//! `authentik-stage-operator run`: the controller.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use clap::{Args, ValueEnum};
use k8s_openapi::api::core::v1::Namespace;
use kube::client::ClientBuilder;
use kube::{Api, Config, ResourceExt};
use tokio::signal::unix::{SignalKind, signal};

use crate::clock::{Clock, SystemClock};
use crate::controller::events::Events;
use crate::controller::health::{self, Health};
use crate::controller::logging::{self, Format};
use crate::controller::metrics::{CountRequests, Metrics};
use crate::controller::{self, Options, SecretAccess};
use crate::reconcile::connection::ingredients::duration;
use crate::reconcile::fingerprint::Fingerprints;
use crate::reconcile::{ConnectionKey, Context, Settings, kubernetes};

/// How the operator learns that a Secret changed.
#[derive(Clone, Copy, Debug, ValueEnum)]
pub enum SecretAccessFlag {
    /// Watch them: needs list and watch on Secrets.
    Watch,
    /// Read those in use again from time to time: needs get only.
    Get,
}

/// Flags of `run`, each also as an environment variable.
#[derive(Args, Debug)]
pub struct RunArgs {
    /// Connection of resources that name none, as NAMESPACE/NAME
    #[arg(long, env = "AUTHENTIK_STAGE_OPERATOR_DEFAULT_CONNECTION", value_parser = connection_key)]
    default_connection: Option<ConnectionKey>,

    /// Namespaces to watch, with commas between; none: all
    #[arg(long, env = "AUTHENTIK_STAGE_OPERATOR_WATCH_NAMESPACES", value_delimiter = ',')]
    watch_namespaces: Vec<String>,

    /// How to learn that a Secret changed
    #[arg(
        long,
        env = "AUTHENTIK_STAGE_OPERATOR_SECRET_ACCESS",
        value_enum,
        default_value = "watch"
    )]
    secret_access: SecretAccessFlag,

    /// How often Secrets are read again with --secret-access=get
    #[arg(long, env = "AUTHENTIK_STAGE_OPERATOR_SECRET_POLL_INTERVAL", value_parser = positive, default_value = "60s")]
    secret_poll_interval: Duration,

    /// Address of /livez, /readyz and /metrics
    #[arg(long, env = "AUTHENTIK_STAGE_OPERATOR_LISTEN", default_value = "0.0.0.0:8080")]
    listen: SocketAddr,

    /// Level of the log, or levels by target as in "info,authentik_stage_operator=debug"
    #[arg(long, env = "AUTHENTIK_STAGE_OPERATOR_LOG_LEVEL", default_value = "info")]
    log_level: String,

    /// Form of the log
    #[arg(
        long,
        env = "AUTHENTIK_STAGE_OPERATOR_LOG_FORMAT",
        value_enum,
        default_value = "json"
    )]
    log_format: Format,

    /// Tells this cluster from others in authentik's audit log; default: the UID of the namespace kube-system
    #[arg(long, env = "AUTHENTIK_STAGE_OPERATOR_CLUSTER_ID")]
    cluster_id: Option<String>,

    /// Longest time that running passes may take to end after a signal to stop
    #[arg(long, env = "AUTHENTIK_STAGE_OPERATOR_SHUTDOWN_TIMEOUT", value_parser = positive, default_value = "20s")]
    shutdown_timeout: Duration,

    /// Name of this process in events; default: the pod's
    #[arg(long, env = "HOSTNAME", default_value = "authentik-stage-operator", hide = true)]
    instance: String,
}

fn connection_key(text: &str) -> Result<ConnectionKey, String> {
    match text.split_once('/') {
        Some((namespace, name)) if !namespace.is_empty() && !name.is_empty() && !name.contains('/') => {
            Ok(ConnectionKey {
                namespace: namespace.to_owned(),
                name: name.to_owned(),
            })
        }
        _ => Err("write NAMESPACE/NAME".to_owned()),
    }
}

fn positive(text: &str) -> Result<Duration, String> {
    duration(text)
        .filter(|time| !time.is_zero())
        .ok_or_else(|| "write a duration such as 20s".to_owned())
}

/// Why the controller could not run.
#[derive(Debug, thiserror::Error)]
pub enum RunError {
    /// The flags of the log.
    #[error(transparent)]
    Log(#[from] logging::LogError),
    /// No way to the API server.
    #[error("cannot find the Kubernetes API: run inside a cluster, or set KUBECONFIG: {0}")]
    Config(#[from] kube::config::InferConfigError),
    /// The client for it.
    #[error("cannot talk to the Kubernetes API: {0}")]
    Client(#[from] kube::Error),
    /// No randomness.
    #[error("the system has no randomness for the key that credentials are compared with")]
    Randomness,
    /// A signal handler.
    #[error("cannot listen for signals: {0}")]
    Signal(#[source] std::io::Error),
    /// The controller.
    #[error(transparent)]
    Watch(#[from] controller::WatchEnded),
    /// Probes and metrics.
    #[error(transparent)]
    Serve(#[from] health::ServeError),
}

/// Runs until SIGTERM or SIGINT; a second one ends the process at once.
///
/// # Errors
/// Whatever keeps the controller from running, with what to do about it.
pub async fn run(args: RunArgs) -> Result<(), RunError> {
    let RunArgs {
        default_connection,
        watch_namespaces,
        secret_access,
        secret_poll_interval,
        listen,
        log_level,
        log_format,
        cluster_id,
        shutdown_timeout,
        instance,
    } = args;
    logging::init(&log_level, log_format)?;
    let namespaces: Vec<String> = watch_namespaces
        .into_iter()
        .map(|name| name.trim().to_owned())
        .filter(|name| !name.is_empty())
        .collect();

    let mut config = Config::infer().await?;
    // Retries are ours: kube's would repeat a request, POST included, for minutes inside one pass.
    config.default_retry = false;
    let metrics = Arc::new(Metrics::new());
    let client = ClientBuilder::try_from(config)?
        .with_layer(&CountRequests::of(Arc::clone(&metrics)))
        .build();

    let clock: Arc<dyn Clock> = Arc::new(SystemClock);
    let health = Health::new(Arc::clone(&clock));
    let stop = signals()?;
    let (serving, served) = tokio::sync::oneshot::channel::<()>();
    let cluster_id = match cluster_id {
        Some(id) => id,
        None => cluster_uid(&client, &namespaces).await,
    };
    let fingerprints = Fingerprints::new().map_err(|_| RunError::Randomness)?;
    let events = Events::new(client.clone(), instance, Arc::clone(&metrics));
    let observer: Arc<dyn crate::authentik::Observer> = Arc::<Metrics>::clone(&metrics);
    let context = Context::new(
        client,
        Arc::clone(&clock),
        fingerprints,
        observer,
        Settings {
            default_connection,
            cluster_id,
        },
    );
    let secrets = match secret_access {
        SecretAccessFlag::Watch => SecretAccess::Watch,
        SecretAccessFlag::Get => SecretAccess::Get(secret_poll_interval),
    };
    let options = Options {
        namespaces,
        secrets,
        shutdown: shutdown_timeout,
    };
    tracing::info!(version = env!("CARGO_PKG_VERSION"), "starting");
    let running = controller::run(context, options, events, Arc::clone(&metrics), health.clone(), stop);
    let probes = tokio::spawn(health::serve(listen, health, metrics, async move {
        let _ = served.await;
    }));

    tokio::select! {
        ended = running => ended?,
        ended = probes => {
            // Only a failure ends it before it is told to.
            if let Ok(result) = ended {
                result?;
            }
            return Ok(());
        }
    }
    drop(serving);
    tracing::info!("stopped");
    Ok(())
}

/// Ends at the first signal to stop. The second ends the process.
fn signals() -> Result<impl Future<Output = ()> + Send, RunError> {
    let mut terminate = signal(SignalKind::terminate()).map_err(RunError::Signal)?;
    let mut interrupt = signal(SignalKind::interrupt()).map_err(RunError::Signal)?;
    Ok(async move {
        tokio::select! { _ = terminate.recv() => {}, _ = interrupt.recv() => {} }
        tokio::spawn(async move {
            tokio::select! { _ = terminate.recv() => {}, _ = interrupt.recv() => {} }
            tracing::warn!("a second signal: ending at once");
            std::process::exit(130);
        });
    })
}

/// What tells one cluster from another; where it may not be read, only `--cluster-id` does.
async fn cluster_uid(client: &kube::Client, namespaces: &[String]) -> String {
    let api: Api<Namespace> = Api::all(client.clone());
    let system = namespaces.is_empty().then_some("kube-system");
    let known = match system {
        Some(name) => kubernetes::answer(api.get(name))
            .await
            .ok()
            .and_then(|namespace| namespace.uid()),
        None => None,
    };
    known.unwrap_or_else(|| {
        tracing::warn!("the cluster has no id for authentik's audit log: set --cluster-id");
        "unknown".to_owned()
    })
}
