//! The control plane keeps what it promises to the tests that stand on it.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use world::{Audit, ControlPlane, Options, Scratch, Version};

/// Waits until `done`, and panics with `what` if that takes longer than it ever should.
fn until(what: &str, mut done: impl FnMut() -> bool) {
    let deadline = Instant::now() + Duration::from_secs(30);
    while !done() {
        assert!(Instant::now() < deadline, "{what}");
        std::thread::sleep(Duration::from_millis(20));
    }
}

#[tokio::test]
async fn the_administrator_may_all_and_a_service_account_nothing() {
    let world = ControlPlane::shared().await;
    let namespace = world.create_namespace().await;
    assert_eq!(world.kubectl_ok(&["auth", "can-i", "*", "*"]).await.trim(), "yes");

    let kubeconfig = world.service_account_kubeconfig(&namespace, "operator").await;
    let flag = format!("--kubeconfig={}", kubeconfig.display());
    let who = world
        .kubectl_ok(&["auth", "whoami", "-o", "jsonpath={.status.userInfo.username}", &flag])
        .await;
    assert_eq!(who, format!("system:serviceaccount:{namespace}:operator"));
    let refused = world
        .kubectl(&["get", "secrets", "--namespace", &namespace, &flag])
        .await;
    assert!(
        String::from_utf8_lossy(&refused.stderr).contains("Forbidden"),
        "{refused:?}"
    );
    // A second time for the same account is no error.
    world.service_account_kubeconfig(&namespace, "operator").await;
}

#[tokio::test]
async fn what_is_stored_survives_a_restart_of_the_api_server() {
    let world = ControlPlane::start(Options::default()).await.unwrap();
    world
        .apply("{apiVersion: v1, kind: ConfigMap, metadata: {name: kept, namespace: default}}")
        .await;
    world.stop_api_server();
    assert!(!world.kubectl(&["get", "configmap", "kept"]).await.status.success());
    world.restart_api_server().await.unwrap();
    world.kubectl_ok(&["get", "configmap", "kept"]).await;
}

#[tokio::test]
async fn a_frozen_api_server_answers_late_and_not_wrong() {
    let world = ControlPlane::start(Options::default()).await.unwrap();
    world.freeze_api_server();
    let late = world
        .kubectl(&["get", "--raw", "/version", "--request-timeout=1s"])
        .await;
    assert!(!late.status.success(), "{late:?}");
    world.thaw_api_server();
    world.kubectl_ok(&["get", "--raw", "/version"]).await;
}

#[tokio::test]
async fn with_a_controller_manager_namespaces_end_and_audit_has_every_request() {
    let options = Options {
        audit: Some(Audit::Metadata),
        controller_manager: true,
        version: Version::Newest,
    };
    let world = ControlPlane::start(options).await.unwrap();
    let namespace = world.create_namespace().await;
    let manifest = format!("{{apiVersion: v1, kind: ConfigMap, metadata: {{name: a, namespace: {namespace}}}}}");
    world.apply(&manifest).await;
    // Returns when the namespace is gone, which only a controller can bring about.
    world
        .kubectl_ok(&["delete", "namespace", &namespace, "--timeout=60s"])
        .await;

    let by_us = |event: &&serde_json::Value| {
        event["user"]["username"] == "admin" && event["objectRef"]["resource"] == "namespaces"
    };
    let events = world.audit_events();
    let verbs: Vec<_> = events
        .iter()
        .filter(by_us)
        .map(|event| event["verb"].as_str().unwrap())
        .collect();
    assert!(verbs.contains(&"create") && verbs.contains(&"delete"), "{verbs:?}");
    assert!(
        events.iter().all(|event| event.get("requestObject").is_none()),
        "a body in a log without bodies"
    );
}

#[test]
fn nothing_is_left_when_the_one_who_started_it_is_killed() {
    let report = Scratch::new().unwrap();
    let file = report.path().join("report");
    // This very test binary, so that there is somebody to kill.
    let mut parent = Command::new(std::env::current_exe().unwrap())
        .args(["--ignored", "--exact", "start_and_wait_to_be_killed"])
        .env("WORLD_TEST_REPORT", &file)
        .stdout(Stdio::null())
        .spawn()
        .unwrap();
    until("the control plane did not start", || {
        std::fs::read_to_string(&file).is_ok_and(|text| text.ends_with('\n'))
    });
    let directory = std::fs::read_to_string(&file).unwrap().trim().to_owned();
    let programs = runs_in(&directory);
    for name in ["etcd\0", "kube-apiserver\0"] {
        let runs = programs
            .iter()
            .any(|command| command.split_inclusive('\0').next().unwrap().ends_with(name));
        assert!(runs, "{name} does not run: {programs:?}");
    }

    parent.kill().unwrap();
    parent.wait().unwrap();
    until("a program is left", || runs_in(&directory).is_empty());
    until("files are left", || !Path::new(&directory).exists());
}

/// Command lines, as NUL-separated words, of the processes that name the directory.
fn runs_in(directory: &str) -> Vec<String> {
    let processes = std::fs::read_dir("/proc").unwrap().flatten();
    let commands = processes.filter_map(|process| std::fs::read(process.path().join("cmdline")).ok());
    let texts = commands.map(|command| String::from_utf8_lossy(&command).into_owned());
    texts.filter(|command| command.contains(directory)).collect()
}

#[tokio::test]
#[ignore = "the part of the test above that is killed"]
async fn start_and_wait_to_be_killed() {
    let world = ControlPlane::start(Options::default()).await.unwrap();
    let report = std::env::var("WORLD_TEST_REPORT").unwrap();
    std::fs::write(report, format!("{}\n", world.directory().display())).unwrap();
    std::future::pending::<()>().await;
}
