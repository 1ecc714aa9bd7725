//! `authentik-stage-operator crd`: the two `CustomResourceDefinition`s as YAML.

use std::io::Write;

use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use kube::CustomResourceExt;

use crate::api::{AuthenticatorSMSStage, AuthentikConnection};

/// Both definitions with the file names that they have under `crds/`.
#[must_use]
pub fn definitions() -> [(&'static str, CustomResourceDefinition); 2] {
    [
        ("authenticatorsmsstages.yaml", AuthenticatorSMSStage::crd()),
        ("authentikconnections.yaml", AuthentikConnection::crd()),
    ]
}

/// One definition as a YAML document.
///
/// # Errors
/// If the definition cannot be written as YAML, which would be a bug.
pub fn to_yaml(definition: &CustomResourceDefinition) -> Result<String, serde_yaml::ser::Error> {
    serde_yaml::to_string(definition)
}

/// Writes both definitions to `out`, or each to its file in `directory`.
///
/// # Errors
/// If `out` or the directory cannot be written to.
pub fn run(directory: Option<&std::path::Path>, mut out: impl Write) -> std::io::Result<()> {
    for (file, definition) in definitions() {
        let yaml = to_yaml(&definition).map_err(std::io::Error::other)?;
        match directory {
            Some(directory) => std::fs::write(directory.join(file), yaml)?,
            None => write!(out, "---\n{yaml}")?,
        }
    }
    Ok(())
}
