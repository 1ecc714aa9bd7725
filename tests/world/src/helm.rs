//! Helm, run for real: what it renders is what a user gets.

use std::path::Path;
use std::process::Output;

use serde_json::Value;
use tokio::process::Command;

use crate::kubectl::{expect_success, run};
use crate::{ControlPlane, Error, Scratch, Tool};

async fn helm_with(arguments: &[&str], input: Option<&str>, kubeconfig: Option<&Path>) -> Result<Output, Error> {
    let program = tokio::task::spawn_blocking(|| Tool::Helm.path())
        .await
        .map_err(Error::when("look for helm"))??;
    // Helm keeps repositories, plugins and caches in the user's home; neither side is to see the other's.
    let home = Scratch::new()?;
    let mut command = Command::new(program);
    command
        .args(arguments)
        .env("HELM_CACHE_HOME", home.path().join("cache"))
        .env("HELM_CONFIG_HOME", home.path().join("config"))
        .env("HELM_DATA_HOME", home.path().join("data"))
        // Without one it must reach no cluster, least of all the user's.
        .env("KUBECONFIG", kubeconfig.unwrap_or(Path::new("/dev/null")));
    run(&mut command, input).await
}

/// Runs Helm without any cluster, whatever comes of it.
///
/// # Panics
/// With the cause, if Helm cannot be started.
pub async fn helm(arguments: &[&str], input: Option<&str>) -> Output {
    helm_with(arguments, input, None).await.unwrap()
}

/// The manifests that a chart renders with `values` (`null` for its own) and further arguments such as `--namespace=x`.
///
/// # Panics
/// With Helm's message, if it fails.
pub async fn helm_template(chart: &Path, values: &Value, arguments: &[&str]) -> String {
    let chart = chart.display().to_string();
    let values = if values.is_null() {
        "{}".to_owned()
    } else {
        values.to_string()
    };
    let mut all = vec!["template", "authentik-stage-operator", &chart, "--values=-"];
    all.extend(arguments);
    expect_success("helm template", helm(&all, Some(&values)).await)
}

impl ControlPlane {
    /// Runs Helm against this control plane as the administrator, whatever comes of it.
    ///
    /// # Panics
    /// With the cause, if Helm cannot be started.
    pub async fn helm(&self, arguments: &[&str], input: Option<&str>) -> Output {
        helm_with(arguments, input, Some(self.kubeconfig_path())).await.unwrap()
    }
}
