//! Processes that never outlive the one that started them, not even when that one is killed.
//!
//! Each runs in a process group of its own together with a small shell that reads from a pipe whose other end only we
//! hold. When that end closes, by our drop, exit or death, the shell kills the group. A group's number cannot be given
//! away while a member lives, so no stranger is ever hit.

use std::ffi::OsStr;
use std::fs::{self, File};
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};

use crate::Error;

// The pipe moves to descriptor 3 because a shell gives background commands an empty standard input.
const DIE_WITH_PARENT: &str = r#"exec 3<&0; (read -r _ <&3; kill -9 0) & exec "$@" </dev/null 3<&-"#;

/// A running program whose output goes to a file. Dropping it kills it and waits until it is gone.
#[derive(Debug)]
pub struct Process {
    child: Child,
    log: PathBuf,
}

impl Process {
    /// Starts `program`; both its output streams are appended to the file `log`. The environment is ours and `environment`.
    pub fn start<A: AsRef<OsStr>>(
        program: &Path,
        arguments: impl IntoIterator<Item = A>,
        environment: &[(&str, &str)],
        log: &Path,
    ) -> Result<Self, Error> {
        let output = File::options()
            .create(true)
            .append(true)
            .open(log)
            .map_err(Error::when(format!("open {}", log.display())))?;
        let errors = output.try_clone().map_err(Error::when("share a log file"))?;
        let child = Command::new("sh")
            .args(["-c", DIE_WITH_PARENT, "sh"])
            .arg(program)
            .args(arguments)
            .envs(environment.iter().copied())
            .stdin(Stdio::piped())
            .stdout(output)
            .stderr(errors)
            .process_group(0)
            .spawn()
            .map_err(Error::when(format!("start {}", program.display())))?;
        Ok(Self {
            child,
            log: log.to_owned(),
        })
    }

    /// Number of the program's process.
    pub fn id(&self) -> u32 {
        self.child.id()
    }

    /// How the program ended, if it has.
    pub fn exited(&mut self) -> Option<ExitStatus> {
        self.child.try_wait().ok().flatten()
    }

    /// All that the program has written so far.
    pub fn output(&self) -> String {
        fs::read(&self.log).map_or_else(|_| String::new(), |bytes| String::from_utf8_lossy(&bytes).into_owned())
    }

    /// Sends a signal by name, such as `TERM`, `STOP` or `CONT`, to the program alone.
    pub fn signal(&self, name: &str) {
        // The shell's own `kill`: a program of that name is not everywhere.
        let sent = Command::new("sh")
            .args(["-c", "kill -\"$1\" \"$2\"", "sh", name])
            .arg(self.id().to_string())
            .status();
        assert!(
            sent.is_ok_and(|status| status.success()),
            "cannot send {name} to process {}",
            self.id()
        );
    }

    /// Kills the program as a power cut would, and returns when it is gone.
    pub fn kill(&mut self) {
        drop(self.child.stdin.take());
        // It cannot fail for a child of ours, and there is nobody to tell in a drop.
        let _ = self.child.wait();
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        self.kill();
    }
}
