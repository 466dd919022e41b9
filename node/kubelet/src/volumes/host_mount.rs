//! Volumes that the host's `mount(8)` mounts: NFS.
//!
//! Upstream: `pkg/volume/nfs`, `k8s.io/mount-utils`.

use std::{path::PathBuf, process::Stdio, time::Duration};

use k8s_openapi::api::core::v1::NFSVolumeSource;
use tokio::process::Command;

use super::{MountVolumeError, create_dir, mounts};

/// How long a server may take to answer a mount.
const LIMIT: Duration = Duration::from_secs(120);

fn text(message: String) -> MountVolumeError {
    MountVolumeError::Text(message)
}

pub(super) async fn mount_nfs(
    source: &NFSVolumeSource,
    target: PathBuf,
    read_only: bool,
    options: &[String],
) -> Result<PathBuf, MountVolumeError> {
    create_dir(&target)?;
    if mounts::is_mounted(&target) {
        return Ok(target);
    }
    let mut options = options.to_vec();
    if read_only {
        options.insert(0, "ro".to_owned());
    }
    let bare = source.server.trim_start_matches('[').trim_end_matches(']');
    let server = if bare.contains(':') { format!("[{bare}]") } else { bare.to_owned() };
    let mut arguments = vec!["-t".to_owned(), "nfs".to_owned()];
    if !options.is_empty() {
        arguments.extend(["-o".to_owned(), options.join(",")]);
    }
    arguments.extend([format!("{server}:{}", source.path), target.display().to_string()]);
    let mounted = run("mount", &arguments).await;
    if mounted.is_err() {
        // Only if nothing is in it: the server may have answered after all.
        drop(std::fs::remove_dir(&target));
    }
    mounted.map(|()| target)
}

/// Runs the host's `mount`, whose helpers know the file system.
pub(super) async fn run(program: &str, arguments: &[String]) -> Result<(), MountVolumeError> {
    let mut command = Command::new(program);
    command.args(arguments).stdin(Stdio::null()).kill_on_drop(true);
    let failed = |how: String, output: &str| {
        text(format!(
            "mount failed: {how}\nMounting command: {program}\nMounting arguments: {}\nOutput: {output}\n",
            arguments.join(" ")
        ))
    };
    let output = match tokio::time::timeout(LIMIT, command.output()).await {
        Ok(Ok(output)) => output,
        Ok(Err(error)) if error.kind() == std::io::ErrorKind::NotFound => {
            let how = format!("exec: \"{program}\": executable file not found in $PATH");
            return Err(failed(how, ""));
        }
        Ok(Err(error)) => return Err(failed(error.to_string(), "")),
        Err(_) => return Err(failed("context deadline exceeded".to_owned(), "")),
    };
    if output.status.success() {
        return Ok(());
    }
    let said = [output.stdout, output.stderr].concat();
    let how = match output.status.code() {
        Some(code) => format!("exit status {code}"),
        None => output.status.to_string(),
    };
    Err(failed(how, String::from_utf8_lossy(&said).trim_end()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_helper_that_is_missing_or_fails_is_told_with_its_own_words() {
        let error = run("nst-no-such-mount", &["-t".to_owned()]).await.unwrap_err().to_string();
        assert!(error.contains("executable file not found in $PATH"), "{error}");
        let error = run("false", &["a".to_owned(), "b".to_owned()]).await.unwrap_err().to_string();
        assert!(
            error.starts_with(
                "mount failed: exit status 1\nMounting command: false\nMounting arguments: a b\n"
            ),
            "{error}"
        );
    }
}
