//! Volumes that the host mounts: `local`, and NFS through the host's `mount(8)`.
//!
//! Upstream: `pkg/volume/local`, `pkg/volume/nfs`, `k8s.io/mount-utils`.
//!
//! Deviation: a `local` volume
//! whose path is a block device is given to pods as a device only, never formatted.

use std::{
    os::unix::fs::FileTypeExt,
    path::{Path, PathBuf},
    process::Stdio,
    time::Duration,
};

use k8s_openapi::api::core::v1::{LocalVolumeSource, NFSVolumeSource};
use tokio::process::Command;

use super::{MountVolumeError, create_dir, io_error, mounts, ownership::Group};

/// How long a server may take to answer a mount.
const LIMIT: Duration = Duration::from_secs(120);

fn text(message: String) -> MountVolumeError {
    MountVolumeError::Text(message)
}

/// Checks what can be checked before anything is done.
pub(super) fn check_local(source: &LocalVolumeSource) -> Result<(), MountVolumeError> {
    let path = &source.path;
    if Path::new(path).components().any(|it| it.as_os_str() == "..") {
        return Err(text(format!("invalid path: {path} must not contain '..'")));
    }
    if !Path::new(path).exists() {
        return Err(text(format!("path \"{path}\" does not exist")));
    }
    Ok(())
}

pub(super) fn mount_local(
    source: &LocalVolumeSource,
    target: PathBuf,
    read_only: bool,
    group: Option<Group>,
) -> Result<PathBuf, MountVolumeError> {
    let from = Path::new(&source.path);
    if !from.is_dir() {
        return Err(text(format!("`{}` is not a directory", source.path)));
    }
    create_dir(&target)?;
    if !mounts::is_mounted(&target) {
        mounts::bind_one(from, &target).map_err(io_error("mount", &target))?;
        if let Some(group) = group.filter(|_| !read_only) {
            group.apply(&target).map_err(io_error("set the group of", &target))?;
        }
    }
    if read_only {
        mounts::make_read_only(&target).map_err(io_error("make read-only", &target))?;
    }
    Ok(target)
}

/// The device of a `local` volume in block mode.
pub(super) fn device_of(source: &LocalVolumeSource) -> Result<PathBuf, MountVolumeError> {
    let path = PathBuf::from(&source.path).canonicalize();
    let path = path.map_err(io_error("resolve", Path::new(&source.path)))?;
    let is_device = path.metadata().is_ok_and(|it| it.file_type().is_block_device());
    if is_device { Ok(path) } else { Err(text(format!("{} is not a block device", source.path))) }
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
async fn run(program: &str, arguments: &[String]) -> Result<(), MountVolumeError> {
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

    #[test]
    fn a_local_path_has_to_be_there_and_stay_where_it_is() {
        let of = |path: &str| LocalVolumeSource { path: path.to_owned(), fs_type: None };
        let error = check_local(&of("/nst/none")).unwrap_err().to_string();
        assert_eq!(error, "path \"/nst/none\" does not exist");
        assert!(check_local(&of("/tmp/../etc")).is_err());
        assert!(check_local(&of("/")).is_ok());
        assert_eq!(device_of(&of("/")).unwrap_err().to_string(), "/ is not a block device");
    }
}
