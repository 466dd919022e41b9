//! The user's scripts, each run once in the life of an instance.
//!
//! As cloud-init does: in order, with their output in `/var/log/cloud-init-output.log`, and a
//! failing one stops neither the others nor the boot. There is no time limit.

use std::{
    fs::{self, File},
    io,
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

use tracing::{info, warn};

use crate::{
    files::{below, write},
    user_data::Script,
};

const OUTPUT: &str = "/var/log/cloud-init-output.log";
const FOLDER: &str = "/var/lib/cloud/instances";

/// A script could not be kept or started.
#[derive(Debug, thiserror::Error)]
pub enum ScriptError {
    #[error("failed to prepare `{}`", path.display())]
    Prepare {
        path: PathBuf,
        #[source]
        source: io::Error,
    },
}

/// Runs what has not been run on this instance yet.
pub(crate) fn run_once(root: &Path, instance: &str, scripts: &[Script]) -> Result<(), ScriptError> {
    let folder = below(root, FOLDER).join(instance);
    for (index, script) in scripts.iter().enumerate() {
        let number = index + 1;
        let done = folder.join("sem").join(format!("script-{number:03}"));
        if done.exists() {
            continue;
        }
        let failed = |path: &Path| {
            let path = path.to_owned();
            move |source| ScriptError::Prepare { path, source }
        };
        let file = folder.join("scripts").join(format!("part-{number:03}"));
        write(&file, &script.content, 0o700).map_err(failed(&file))?;
        let output = below(root, OUTPUT);
        let log = open_log(&output).map_err(failed(&output))?;
        run(script, &file, log);
        // Written after the run: one that a power loss cut short is run again.
        write(&done, b"", 0o644).map_err(failed(&done))?;
    }
    Ok(())
}

fn run(script: &Script, file: &Path, log: (File, File)) {
    info!(script = script.name, "running a user script");
    let mut command = Command::new(file);
    let command = command.stdin(Stdio::null()).stdout(log.0).stderr(log.1).current_dir("/");
    match command.status() {
        Ok(status) if status.success() => info!(script = script.name, "the script succeeded"),
        Ok(status) => warn!(script = script.name, %status, "the script failed"),
        Err(error) => warn!(script = script.name, %error, "the script cannot be run"),
    }
}

fn open_log(path: &Path) -> io::Result<(File, File)> {
    if let Some(folder) = path.parent() {
        fs::create_dir_all(folder)?;
    }
    let file = File::options().create(true).append(true).open(path)?;
    Ok((file.try_clone()?, file))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_script_runs_once_per_instance_and_a_failure_stops_nothing() {
        let root = tempfile::tempdir().unwrap();
        let count = root.path().join("count");
        let script = |text: &str| Script {
            name: "x".to_owned(),
            content: format!("#!/bin/sh\necho said\n{text}\n").into_bytes(),
        };
        let scripts = [script("exit 3"), script(&format!("echo x >> {}", count.display()))];
        run_once(root.path(), "i-1", &scripts).unwrap();
        run_once(root.path(), "i-1", &scripts).unwrap();
        assert_eq!(fs::read_to_string(&count).unwrap(), "x\n");
        run_once(root.path(), "i-2", &scripts).unwrap();
        assert_eq!(fs::read_to_string(&count).unwrap(), "x\nx\n");
        let output = fs::read_to_string(below(root.path(), OUTPUT)).unwrap();
        assert_eq!(output, "said\n".repeat(4));
    }
}
