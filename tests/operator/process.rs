//! The program itself: its flags, probes, metrics, logs and signals.

use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::path::Path;
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use world::{Process, Scratch};

use crate::arena::{Arena, PATIENCE, READABLE};

const BINARY: &str = env!("CARGO_BIN_EXE_authentik-stage-operator");

struct Program {
    process: Process,
    address: SocketAddr,
    _scratch: Scratch,
}

impl Program {
    /// Starts the operator as a pod would, with one option from the environment.
    fn start(arena: &Arena) -> Self {
        let scratch = Scratch::new().unwrap();
        let address = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))
            .unwrap()
            .local_addr()
            .unwrap();
        let default = format!("{}/authentik", arena.namespace);
        let process = Process::start(
            Path::new(BINARY),
            [
                "run".to_owned(),
                format!("--watch-namespaces={}", arena.namespace),
                format!("--listen={address}"),
                "--cluster-id=test".to_owned(),
                "--log-level=debug".to_owned(),
            ],
            &[
                ("KUBECONFIG", &arena.kubeconfig.to_string_lossy()),
                ("AUTHENTIK_STAGE_OPERATOR_DEFAULT_CONNECTION", &default),
            ],
            &scratch.path().join("log"),
        )
        .unwrap();
        Self {
            process,
            address,
            _scratch: scratch,
        }
    }

    async fn get(&self, path: &str) -> Option<(u16, String)> {
        let response = reqwest::get(format!("http://{}{path}", self.address)).await.ok()?;
        Some((response.status().as_u16(), response.text().await.ok()?))
    }

    /// Waits until the probe says so; what else could be waited for is inside the process.
    async fn ready(&self) -> Duration {
        let began = Instant::now();
        loop {
            if let Some((200, listed)) = self.get("/readyz?verbose").await {
                // Also of the first yes: a probe that comes early must not find that nothing is waited for.
                assert!(
                    listed.contains("AuthentikConnections listed"),
                    "ready for nothing: {listed:?}"
                );
                return began.elapsed();
            }
            assert!(began.elapsed() < PATIENCE, "not ready: {}", self.process.output());
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    }

    async fn ended(&mut self) -> std::process::ExitStatus {
        let began = Instant::now();
        loop {
            if let Some(status) = self.process.exited() {
                return status;
            }
            assert!(began.elapsed() < PATIENCE, "it does not end: {}", self.process.output());
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    }
}

#[tokio::test]
async fn it_gets_ready_tells_what_it_does_and_ends_when_told() {
    let arena = Arena::still(READABLE).await;
    arena.connect().await;
    let mut program = Program::start(&arena);
    let took = program.ready().await;
    println!("ready after {} ms (debug build)", took.as_millis());

    arena.twilio("sms", json!({})).await;
    arena.is("sms", "True", "Available").await;
    let (status, _) = program.get("/livez").await.unwrap();
    assert_eq!(status, 200);
    let (_, verbose) = program.get("/readyz?verbose").await.unwrap();
    assert!(verbose.contains("AuthenticatorSMSStages listed"), "{verbose}");
    let (_, metrics) = program.get("/metrics").await.unwrap();
    for line in [
        r#"authentik_stage_operator_authentik_requests_total{method="POST",route="stages",outcome="ok"} 1"#,
        r#"authentik_stage_operator_stages{ready="true",reason="Available"} 1"#,
        r#"controller_runtime_reconcile_total{controller="authenticatorsmsstage",result="success"}"#,
        r#"rest_client_requests_total{method="PATCH",code="200"}"#,
    ] {
        assert!(metrics.contains(line), "{line} is not in\n{metrics}");
    }

    program.process.signal("TERM");
    let status = program.ended().await;
    assert!(status.success(), "{status}: {}", program.process.output());
    let log = program.process.output();
    for line in log.lines() {
        let line: Value = serde_json::from_str(line).unwrap_or_else(|_| panic!("not JSON: {line}"));
        assert!(line["level"].is_string() && line["timestamp"].is_string(), "{line}");
    }
    assert!(log.contains("stopped"), "{log}");
}

#[tokio::test]
async fn killed_and_started_again_it_goes_on_where_it_was() {
    let arena = Arena::still(READABLE).await;
    arena.connect().await;
    let mut program = Program::start(&arena);
    program.ready().await;
    arena.twilio("sms", json!({})).await;
    arena.is("sms", "True", "Available").await;
    program.process.kill();

    arena.edit_stage("sms", json!({"fromNumber": "+15550199"})).await;
    let program = Program::start(&arena);
    program.ready().await;
    arena.is("sms", "True", "Available").await;
    assert_eq!(arena.sim.stage_named("sms").unwrap().from_number, "+15550199");
    assert_eq!(arena.sim.count("POST", "/stages/authenticator/sms/"), 1);
}

#[tokio::test]
async fn what_keeps_it_from_running_is_told_with_the_remedy() {
    for (arguments, says) in [
        (vec!["run", "--default-connection", "authentik"], "NAMESPACE/NAME"),
        (vec!["run", "--shutdown-timeout", "soon"], "a duration such as 20s"),
        (vec!["run", "--log-level", "inof"], "inof"),
        (vec!["run", "--secret-access", "none"], "possible values: watch, get"),
        (vec!["walk"], "unrecognized subcommand"),
    ] {
        let output = std::process::Command::new(BINARY)
            .args(&arguments)
            .env("KUBECONFIG", "/nonexistent")
            .output()
            .unwrap();
        let said = String::from_utf8_lossy(&output.stderr);
        assert!(!output.status.success(), "{arguments:?}");
        assert!(said.contains(says), "{arguments:?}: {said}");
        assert!(!said.contains("panicked"), "{arguments:?}: {said}");
    }
    let output = std::process::Command::new(BINARY)
        .arg("run")
        .env("KUBECONFIG", "/nonexistent")
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(said.contains("KUBECONFIG"), "{said}");
}
