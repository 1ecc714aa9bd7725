//! Holds the direction of the arrows in ARCHITECTURE.md, and the few rules that no compiler checks.

#![allow(clippy::unwrap_used)] // a test fails with its cause

use std::fs;
use std::path::{Path, PathBuf};

/// Room, and rooms that it may name.
const MAY_NAME: [(&str, &[&str]); 6] = [
    ("api", &["api"]),
    ("clock", &["clock"]),
    ("authentik", &["authentik"]),
    ("reconcile", &["reconcile", "authentik", "api", "clock"]),
    ("controller", &["controller", "reconcile", "authentik", "api", "clock"]),
    (
        "commands",
        &["commands", "controller", "reconcile", "authentik", "api", "clock"],
    ),
];

/// Steps that decide, and what they must not know of.
const PURE: [&str; 8] = [
    "access",
    "breaker",
    "claims",
    "failure",
    "plan",
    "status",
    "suspended",
    "validate",
];
const IMPURE: [&str; 6] = [
    "tokio::",
    "reqwest::",
    "Client",
    "tracing::",
    "SystemClock",
    "Instant::now",
];

fn source() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("src")
}

/// Files that are compiled for tests only.
fn is_of_tests(path: &Path) -> bool {
    path.file_stem().is_some_and(|stem| {
        ["tests", "scripted", "simulated", "model"]
            .iter()
            .any(|name| stem == *name)
    })
}

fn files(directory: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in fs::read_dir(directory).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            found.extend(files(&path));
        } else if path.extension().is_some_and(|extension| extension == "rs") && !is_of_tests(&path) {
            found.push(path);
        }
    }
    found.sort();
    found
}

/// A file without its tests and comments.
fn code(path: &Path) -> String {
    let text = fs::read_to_string(path).unwrap();
    let text = text.split("#[cfg(test)]\nmod tests {").next().unwrap_or_default();
    text.lines()
        .filter(|line| !line.trim_start().starts_with("//"))
        .collect::<Vec<_>>()
        .join("\n")
}

fn room_of(path: &Path) -> String {
    let relative = path.strip_prefix(source()).unwrap();
    let first = relative
        .components()
        .next()
        .unwrap()
        .as_os_str()
        .to_string_lossy()
        .into_owned();
    first.trim_end_matches(".rs").to_owned()
}

#[test]
fn arrows_point_one_way() {
    let mut seen = 0;
    for path in files(&source()) {
        let room = room_of(&path);
        let Some((_, allowed)) = MAY_NAME.iter().find(|(name, _)| *name == room) else {
            assert!(
                matches!(room.as_str(), "lib" | "main"),
                "{} is in no room",
                path.display()
            );
            continue;
        };
        let code = code(&path);
        for (other, _) in MAY_NAME {
            let names_it = code.contains(&format!("crate::{other}::")) || code.contains(&format!("crate::{other};"));
            assert!(
                !names_it || allowed.contains(&other),
                "{} names {other}",
                path.display()
            );
            seen += usize::from(names_it);
        }
    }
    assert!(seen > 50, "the test looks at the wrong place: {seen} arrows");
}

#[test]
fn the_client_of_authentik_knows_no_kubernetes() {
    for path in files(&source().join("authentik")) {
        for word in ["kube::", "k8s_openapi::"] {
            assert!(!code(&path).contains(word), "{} names {word}", path.display());
        }
    }
}

#[test]
fn what_decides_does_no_io() {
    for step in PURE {
        let path = source().join("reconcile").join(format!("{step}.rs"));
        let code = code(&path);
        for word in IMPURE {
            assert!(!code.contains(word), "{} names {word}", path.display());
        }
        assert!(!code.contains("async "), "{} waits for something", path.display());
    }
}

#[test]
fn only_controller_and_commands_touch_watches_and_the_process() {
    for path in files(&source()) {
        if matches!(room_of(&path).as_str(), "controller" | "commands" | "main") {
            continue;
        }
        for word in [
            "kube::runtime::",
            "std::process::",
            "std::env::",
            "tokio::signal",
            "tokio::spawn",
        ] {
            assert!(!code(&path).contains(word), "{} names {word}", path.display());
        }
    }
}

#[test]
fn a_credential_has_two_exits() {
    let exits: Vec<_> = files(&source())
        .into_iter()
        .filter(|path| code(path).contains("expose_secret"))
        .map(|path| path.strip_prefix(source()).unwrap().to_string_lossy().into_owned())
        .collect();
    assert_eq!(exits, ["authentik/credential.rs", "reconcile/fingerprint.rs"]);
}

/// Where real time is measured: the clock itself, the time-outs of requests, and what is only told in metrics or folded.
const MEASURE_REAL_TIME: [&str; 4] = [
    "authentik/transport.rs",
    "clock.rs",
    "controller/events.rs",
    "controller/metrics.rs",
];

#[test]
fn time_is_an_argument() {
    let readers: Vec<_> = files(&source())
        .into_iter()
        .filter(|path| {
            ["Instant::now()", "Timestamp::now()", "SystemTime::now()"]
                .iter()
                .any(|now| code(path).contains(now))
        })
        .map(|path| path.strip_prefix(source()).unwrap().to_string_lossy().into_owned())
        .collect();
    assert_eq!(readers, MEASURE_REAL_TIME);
}
