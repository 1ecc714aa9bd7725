//! `world dev`: the demo's world, left running for somebody to try things in.

#![allow(clippy::print_stdout)] // its result

use world::Error;
use world::scene::{NAMESPACE, Scene, repository};

/// Starts the world and waits for Ctrl-C.
pub(crate) async fn run() -> Result<(), Error> {
    let scene = Scene::start(|what| println!("… {what}")).await?;
    scene.connect().await;
    scene
        .kubectl(&[
            "create",
            "secret",
            "generic",
            "twilio",
            "--from-literal=auth-token=0123456789abcdef0123456789abcdef",
        ])
        .await;
    let example = repository().join("examples/twilio.yaml");
    scene
        .kubectl(&["apply", "--server-side", "-f", &example.to_string_lossy()])
        .await;
    scene
        .kubectl(&["wait", "--for=condition=Ready", "--timeout=60s", "aksms/sms"])
        .await;
    println!(
        "\nexport KUBECONFIG={kubeconfig}\nkubectl get aksms,akconn --namespace {NAMESPACE}\n\nauthentik: {url}/api/v3/  \
         (header `Authorization: Bearer {token}`)\noperator's log: {log}\n\nCtrl-C ends it all.",
        kubeconfig = scene.plane.kubeconfig_path().display(),
        url = scene.sim.url(),
        token = scene.sim.admin_token(),
        log = scene.plane.directory().join("operator.log").display(),
    );
    tokio::signal::ctrl_c().await.map_err(Error::when("wait for Ctrl-C"))
}
