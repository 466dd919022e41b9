//! The disk of a `local` volume that is used as a file system: looked at, formatted where nothing is on it,
//! checked and mended otherwise, mounted.
//!
//! **Invariant:** a disk is formatted only if `blkid` finds nothing at all on it.
//!
//! Upstream: `SafeFormatAndMount` of `k8s.io/mount-utils`.

use std::{
    path::Path,
    process::{Output, Stdio},
    time::Duration,
};

use tokio::process::Command;

use crate::volumes::host_mount;

/// A large disk takes its time to be formatted or checked.
const LIMIT: Duration = Duration::from_secs(600);
/// `blkid` found nothing.
const NOTHING: i32 = 2;
/// `fsck` found errors and left them.
const UNCORRECTED: i32 = 4;

pub(super) struct Disk<'a> {
    pub device: &'a str,
    pub file_system: &'a str,
    pub read_only: bool,
    pub options: &'a [String],
}

impl Disk<'_> {
    pub(super) async fn mount(&self, place: &Path) -> Result<(), String> {
        let found = format_of(self.device).await?;
        match &found {
            None if self.read_only => {
                return Err(format!(
                    "cannot mount unformatted disk {} as it is read-only",
                    self.device
                ));
            }
            None => self.format().await?,
            Some(_) if !self.read_only => check(self.device).await?,
            Some(_) => {}
        }
        let mut options = vec!["defaults"];
        if self.read_only {
            options.push("ro");
        }
        options.extend(self.options.iter().map(String::as_str));
        let (options, at) = (options.join(","), place.display().to_string());
        let arguments = ["-t", self.file_system, "-o", &options, self.device, &at];
        let arguments = arguments.map(str::to_owned);
        host_mount::run("mount", &arguments).await.map_err(|error| match found {
            Some(found) if found != self.file_system => format!(
                "failed to mount the volume as {:?}, it already contains {found}. Mount error: {error}",
                self.file_system
            ),
            _ => error.to_string(),
        })
    }

    async fn format(&self) -> Result<(), String> {
        let flags: &[&str] = match self.file_system {
            "ext3" | "ext4" => &["-F", "-m0"],
            "xfs" => &["-f"],
            _ => &[],
        };
        let program = format!("mkfs.{}", self.file_system);
        let arguments = [flags, &[self.device]].concat();
        let done = output(&program, &arguments).await?;
        if done.status.success() {
            return Ok(());
        }
        let (device, kind, said) = (self.device, self.file_system, told(&done));
        Err(format!(
            "format of disk {device:?} failed: type:({kind:?}) errcode:({}) output:({said})",
            done.status
        ))
    }
}

/// What is on a disk: a file system by its name, or something else.
async fn format_of(device: &str) -> Result<Option<String>, String> {
    let arguments = ["-p", "-s", "TYPE", "-s", "PTTYPE", "-o", "export", device];
    let done = output("blkid", &arguments).await?;
    if done.status.code() == Some(NOTHING) {
        return Ok(None);
    }
    if !done.status.success() {
        return Err(format!(
            "could not determine if disk {device:?} is formatted: {}",
            told(&done)
        ));
    }
    Ok(Some(format_in(&String::from_utf8_lossy(&done.stdout))))
}

/// A disk that has partitions has no file system, and is not empty either.
fn format_in(exported: &str) -> String {
    let value = |key: &str| exported.lines().find_map(|it| it.strip_prefix(key)).map(str::to_owned);
    match (value("TYPE="), value("PTTYPE=")) {
        (Some(file_system), None) => file_system,
        _ => "unknown data, probably partitions".to_owned(),
    }
}

/// Mends what can be mended without asking. A disk is mounted where nobody can check it.
async fn check(device: &str) -> Result<(), String> {
    let Ok(done) = output("fsck", &["-a", device]).await else { return Ok(()) };
    if done.status.code() == Some(UNCORRECTED) {
        let said = told(&done);
        return Err(format!(
            "'fsck' found errors on device {device} but could not correct them: {said}"
        ));
    }
    Ok(())
}

async fn output(program: &str, arguments: &[&str]) -> Result<Output, String> {
    let mut command = Command::new(program);
    command.args(arguments).stdin(Stdio::null()).kill_on_drop(true);
    match tokio::time::timeout(LIMIT, command.output()).await {
        Ok(Ok(output)) => Ok(output),
        Ok(Err(error)) => Err(format!("exec: {program:?}: {error}")),
        Err(_) => Err(format!("exec: {program:?}: context deadline exceeded")),
    }
}

fn told(output: &Output) -> String {
    let said = [output.stdout.as_slice(), &output.stderr].concat();
    String::from_utf8_lossy(&said).trim_end().to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn partitions_are_no_file_system_and_no_empty_disk() {
        assert_eq!(format_in("DEVNAME=/dev/x\nTYPE=ext4\n"), "ext4");
        let partitions = "unknown data, probably partitions";
        assert_eq!(format_in("DEVNAME=/dev/x\nPTTYPE=gpt\n"), partitions);
        assert_eq!(format_in("TYPE=vfat\nPTTYPE=dos\n"), partitions);
    }
}
