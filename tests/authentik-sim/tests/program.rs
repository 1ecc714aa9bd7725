//! The program by itself, as the demo runs it.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::process::Stdio;

use tokio::{
    io::{AsyncBufReadExt, BufReader},
    process::Command,
};

#[tokio::test]
async fn it_prints_its_url_then_its_calls_and_ends_on_an_interrupt() {
    let mut program = Command::new(env!("CARGO_BIN_EXE_authentik-sim"))
        .args(["--version-of-authentik", "2025.10.4", "--token", "secret-token"])
        .stdout(Stdio::piped())
        .kill_on_drop(true)
        .spawn()
        .expect("the program starts");
    let mut lines = BufReader::new(program.stdout.take().unwrap()).lines();
    let url = lines.next_line().await.unwrap().expect("a first line");
    let version: serde_json::Value = reqwest::Client::new()
        .get(format!("{url}/api/v3/admin/version/"))
        .bearer_auth("secret-token")
        .header("user-agent", "a test")
        .send()
        .await
        .unwrap()
        .json()
        .await
        .unwrap();
    assert_eq!(version["version_current"], "2025.10.4");
    let told = lines.next_line().await.unwrap();
    assert_eq!(told.as_deref(), Some("200 GET /admin/version/ (a test)"));
    let pid = program.id().unwrap().to_string();
    assert!(
        Command::new("kill")
            .args(["-INT", &pid])
            .status()
            .await
            .unwrap()
            .success()
    );
    assert!(program.wait().await.unwrap().success());
    assert_eq!(
        lines.next_line().await.unwrap(),
        None,
        "and tells nothing else, the token least of all"
    );
}

#[tokio::test]
async fn a_version_that_is_none_is_refused_with_an_example() {
    let program = Command::new(env!("CARGO_BIN_EXE_authentik-sim"))
        .args(["--version-of-authentik", "latest"])
        .output()
        .await
        .unwrap();
    assert!(!program.status.success());
    let told = String::from_utf8_lossy(&program.stderr).into_owned();
    assert!(told.contains("write it like 2026.5.0"), "{told}");
}
