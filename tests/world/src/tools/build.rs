//! Runs `go build` and shows that it lives.

use std::io::{self, IsTerminal as _, Read as _, Write as _};
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::mpsc::{self, RecvTimeoutError};
use std::thread;
use std::time::{Duration, Instant};

use super::Source;
use crate::Error;

/// Builds the program into the file `output`.
pub(super) fn run(source: &Source, output: &Path) -> Result<(), Error> {
    let name = format!("{} {}", source.binary, source.version);
    let mut go = Command::new("go")
        .args([
            "build",
            "-mod=readonly",
            "-trimpath",
            "-buildvcs=false",
            "-ldflags",
            &source.link,
            "-o",
        ])
        .arg(output)
        .arg(source.package)
        .current_dir(&source.directory)
        .env("CGO_ENABLED", "0")
        // Whatever else the machine builds must not change what is built here.
        .env("GOWORK", "off")
        .env("GOFLAGS", "")
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .map_err(|cause| missing(&name, &cause))?;

    let mut messages = go.stderr.take().ok_or_else(|| Error::new("go has no error stream"))?;
    let (ended, end) = mpsc::channel();
    let reader = thread::spawn(move || {
        let mut text = String::new();
        let _ = messages.read_to_string(&mut text);
        let _ = ended.send(());
        text
    });
    show_progress(&name, &end);

    let status = go.wait().map_err(Error::when("wait for go"))?;
    let text = reader.join().unwrap_or_default();
    if status.success() {
        return Ok(());
    }
    Err(Error::new(format!(
        "failed to build {name} in {}: go build ended with {status}\n{text}",
        source.directory.display()
    )))
}

fn missing(name: &str, cause: &io::Error) -> Error {
    Error::new(format!(
        "{name} is needed and not there, and it cannot be built because `go` does not start ({cause}). Either\n\
         - install Go (https://go.dev/dl); it is then built once, which takes some minutes, or\n\
         - for etcd, kube-apiserver and kubectl, set KUBEBUILDER_ASSETS to a directory that has them."
    ))
}

/// Tells what is being built and for how long, until `end`: one line that is rewritten on a terminal, else now and then.
fn show_progress(name: &str, end: &mpsc::Receiver<()>) {
    let start = Instant::now();
    // Not `eprint`, which the test harness hides from whoever waits.
    let mut err = io::stderr();
    let terminal = err.is_terminal();
    let pause = Duration::from_secs(if terminal { 1 } else { 30 });
    let (before, after) = if terminal { ("\r\x1b[2K", "") } else { ("", "\n") };
    loop {
        let _ = write!(
            err,
            "{before}building {name} ... {} s{after}",
            start.elapsed().as_secs()
        );
        let _ = err.flush();
        match end.recv_timeout(pause) {
            Err(RecvTimeoutError::Timeout) => {}
            Ok(()) | Err(RecvTimeoutError::Disconnected) => break,
        }
    }
    let _ = writeln!(err, "{before}built {name} in {} s", start.elapsed().as_secs());
}
