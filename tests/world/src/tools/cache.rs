//! Built programs on disk. Any number of processes may ask at once: one builds, the others wait for it.

use std::env;
use std::fmt::Write as _;
use std::fs::{self, File};
use std::io::Write as _;
use std::path::{Path, PathBuf};

use aws_lc_rs::digest;

use super::{Source, build};
use crate::Error;

/// The program's place in the cache, after building it if it is not there.
pub(super) fn get_or_build(source: &Source) -> Result<PathBuf, Error> {
    let root = root()?;
    let place = root.join(format!("{}-{}-{}", source.binary, source.version, key(source)?));
    let program = place.join(source.binary);
    if program.is_file() {
        return Ok(program);
    }
    fs::create_dir_all(&root).map_err(Error::when(format!("make {}", root.display())))?;
    let _lock = lock(&root.join("lock"), source.binary)?;
    // Another process may have built it while this one waited.
    if program.is_file() {
        return Ok(program);
    }
    // Whoever holds the lock owns this directory, and what a killed build left in it.
    let unfinished = root.join("unfinished");
    let _ = fs::remove_dir_all(&unfinished);
    fs::create_dir(&unfinished).map_err(Error::when(format!("make {}", unfinished.display())))?;
    build::run(source, &unfinished.join(source.binary)).inspect_err(|_| {
        let _ = fs::remove_dir_all(&unfinished);
    })?;
    // The directory appears under its name only with the whole program in it.
    fs::rename(&unfinished, &place).map_err(Error::when(format!("rename to {}", place.display())))?;
    Ok(program)
}

fn root() -> Result<PathBuf, Error> {
    let cache = env::var_os("XDG_CACHE_HOME")
        .filter(|value| !value.is_empty())
        .map(PathBuf::from);
    cache
        .or_else(|| Some(PathBuf::from(env::var_os("HOME")?).join(".cache")))
        .map(|cache| cache.join("authentik-stage-operator"))
        .ok_or_else(|| Error::new("no place for built tools: set HOME or XDG_CACHE_HOME"))
}

/// Changes with everything that makes the program another one.
fn key(source: &Source) -> Result<String, Error> {
    let mut digest = digest::Context::new(&digest::SHA256);
    for file in ["go.mod", "go.sum", "main.go"] {
        let path = source.directory.join(file);
        if path.is_file() {
            digest.update(&fs::read(&path).map_err(Error::when(format!("read {}", path.display())))?);
        }
    }
    for word in [source.package, &source.link, env::consts::OS, env::consts::ARCH] {
        digest.update(word.as_bytes());
    }
    let mut key = String::new();
    for byte in digest.finish().as_ref().iter().take(4) {
        let _ = write!(key, "{byte:02x}");
    }
    Ok(key)
}

/// Holds the lock until the file is dropped. One for all programs: each build keeps every core busy by itself.
fn lock(path: &Path, binary: &str) -> Result<File, Error> {
    let what = format!("lock {}", path.display());
    let file = File::create(path).map_err(Error::when(&what))?;
    if file.try_lock().is_err() {
        // Not `eprintln`, which the test harness hides from whoever waits.
        let _ = writeln!(
            std::io::stderr(),
            "waiting for another process that builds tools, maybe {binary} too ..."
        );
        file.lock().map_err(Error::when(&what))?;
    }
    Ok(file)
}
