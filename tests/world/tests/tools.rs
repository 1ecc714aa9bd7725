//! Tools are built once, whoever asks, and what is missing is named with the ways to get it.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::process::{Command, Output, Stdio};

use serde_json::json;
use world::{Scratch, helm_template, kstatus};

/// Stands where Go is looked for: takes its time, writes down each call, and makes the file that it is asked for.
const SLOW_GO: &str = r#"#!/bin/sh
while [ "$1" != -o ]; do shift; done
echo "${2##*/}" >> "$CALLS"
/bin/sleep 0.1
echo program > "$2"
"#;

/// `world tools` with a cache of its own and nothing but `path` to find programs in.
fn tools(cache: &Path, path: &Path) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_world"));
    command
        .arg("tools")
        .env_remove("KUBEBUILDER_ASSETS")
        .env("XDG_CACHE_HOME", cache)
        .env("PATH", path)
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    command
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

#[test]
fn without_go_one_message_names_what_is_missing_and_both_remedies() {
    let scratch = Scratch::new().unwrap();
    let Output { status, stdout, stderr } = tools(scratch.path(), scratch.path()).output().unwrap();
    assert!(!status.success());
    assert!(stdout.is_empty(), "{}", text(&stdout));
    let message = text(&stderr);
    for part in ["etcd v3", "https://go.dev/dl", "KUBEBUILDER_ASSETS"] {
        assert!(message.contains(part), "{part} is not in: {message}");
    }
}

#[test]
fn assets_are_taken_as_they_are() {
    let scratch = Scratch::new().unwrap();
    for name in ["etcd", "kube-apiserver", "kubectl"] {
        fs::write(scratch.path().join(name), "").unwrap();
    }
    let output = tools(scratch.path(), scratch.path())
        .env("KUBEBUILDER_ASSETS", scratch.path())
        .output()
        .unwrap();
    let printed = text(&output.stdout);
    let found: Vec<_> = printed.lines().map(|line| line.split('\t').next().unwrap()).collect();
    assert_eq!(
        found,
        ["etcd", "kube-apiserver", "kubectl"],
        "the next one needs Go: {}",
        text(&output.stderr)
    );
    assert!(
        text(&output.stderr).contains("kube-controller-manager"),
        "{}",
        text(&output.stderr)
    );
}

#[test]
fn whoever_asks_at_once_each_tool_is_built_once() {
    let scratch = Scratch::new().unwrap();
    let go = scratch.path().join("go");
    fs::write(&go, SLOW_GO).unwrap();
    fs::set_permissions(&go, fs::Permissions::from_mode(0o755)).unwrap();
    let calls = scratch.path().join("calls");
    let processes: Vec<_> = (0..4)
        .map(|_| {
            tools(scratch.path(), scratch.path())
                .env("CALLS", &calls)
                .spawn()
                .unwrap()
        })
        .collect();
    let outputs: Vec<_> = processes
        .into_iter()
        .map(|process| process.wait_with_output().unwrap())
        .collect();

    for output in &outputs {
        assert!(output.status.success(), "{}", text(&output.stderr));
        assert_eq!(output.stdout, outputs[0].stdout, "all find the same");
    }
    let calls = fs::read_to_string(calls).unwrap();
    let mut built: Vec<_> = calls.lines().collect();
    built.sort_unstable();
    let mut printed = text(&outputs[0].stdout).lines().map(str::to_owned).collect::<Vec<_>>();
    printed.sort_unstable();
    let names: Vec<_> = printed.iter().map(|line| line.split('\t').next().unwrap()).collect();
    assert_eq!(built, names);
    for line in &printed {
        let program = Path::new(line.split('\t').nth(1).unwrap());
        assert_eq!(fs::read_to_string(program).unwrap(), "program\n", "a whole program");
    }
    assert!(
        !scratch.path().join("authentik-stage-operator/unfinished").exists(),
        "half a build is left"
    );
}

#[test]
fn a_build_that_fails_says_why_and_leaves_nothing() {
    let scratch = Scratch::new().unwrap();
    let go = scratch.path().join("go");
    fs::write(&go, "#!/bin/sh\necho 'no space left on device' >&2\nexit 1\n").unwrap();
    fs::set_permissions(&go, fs::Permissions::from_mode(0o755)).unwrap();
    let output = tools(scratch.path(), scratch.path()).output().unwrap();
    assert!(!output.status.success());
    let message = text(&output.stderr);
    assert!(
        message.contains("failed to build etcd") && message.contains("no space left on device"),
        "{message}"
    );
    let left = fs::read_dir(scratch.path().join("authentik-stage-operator"))
        .unwrap()
        .flatten();
    let left: Vec<_> = left.map(|entry| entry.file_name()).collect();
    assert_eq!(left, ["lock"]);
}

#[tokio::test]
async fn helm_renders_with_the_values_that_it_is_given() {
    let scratch = Scratch::new().unwrap();
    fs::write(
        scratch.path().join("Chart.yaml"),
        "{apiVersion: v2, name: chart, version: 0.1.0}",
    )
    .unwrap();
    fs::create_dir(scratch.path().join("templates")).unwrap();
    let template =
        "{apiVersion: v1, kind: ConfigMap, metadata: {name: {{ .Values.name }}, namespace: {{ .Release.Namespace }}}}";
    fs::write(scratch.path().join("templates/a.yaml"), template).unwrap();
    let rendered = helm_template(scratch.path(), &json!({"name": "given"}), &["--namespace=login"]).await;
    assert!(rendered.contains("{name: given, namespace: login}"), "{rendered}");
}

#[tokio::test]
async fn the_judge_tells_a_stale_status_from_a_current_one() {
    let object = |observed: i64| {
        json!({
            "apiVersion": "stages.authentik-operator.dev/v1alpha1",
            "kind": "AuthenticatorSMSStage",
            "metadata": {"name": "sms", "namespace": "login", "generation": 2},
            "status": {
                "observedGeneration": observed,
                "conditions": [{"type": "Ready", "status": "True", "reason": "Available", "message": "as declared"}],
            },
        })
    };
    assert_eq!(kstatus(&object(-1)).await.status, "InProgress");
    assert_eq!(kstatus(&object(1)).await.status, "InProgress");
    assert_eq!(kstatus(&object(2)).await.status, "Current");
}
