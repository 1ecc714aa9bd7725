//! A directory that is gone afterwards, also when the process that made it is killed.

use std::os::unix::process::CommandExt as _;
use std::path::Path;
use std::process::{Child, Command, Stdio};

use crate::Error;

// Statics are never dropped, so removal cannot be left to a destructor. Programs that are just dying may still write into
// the directory, which makes `rm` fail; it tries again then.
const REMOVE_AFTER_PARENT: &str = r#"read -r _; until rm -rf -- "$1"; do sleep 0.1; done"#;

/// A fresh directory under the system's temporary one. Dropping it removes it with all that is in it.
#[derive(Debug)]
pub struct Scratch {
    path: std::path::PathBuf,
    janitor: Child,
}

impl Scratch {
    /// Makes the directory.
    pub fn new() -> Result<Self, Error> {
        let path = tempfile::Builder::new()
            .prefix("authentik-stage-operator-")
            .tempdir()
            .map_err(Error::when("make a temporary directory"))?
            .keep();
        let janitor = Command::new("sh")
            .args(["-c", REMOVE_AFTER_PARENT, "sh"])
            .arg(&path)
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            // A key press that interrupts the tests must not interrupt the clean-up.
            .process_group(0)
            .spawn()
            .map_err(Error::when("start sh"))?;
        Ok(Self { path, janitor })
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.path
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        drop(self.janitor.stdin.take());
        // It cannot fail for a child of ours, and there is nobody to tell in a drop.
        let _ = self.janitor.wait();
    }
}
