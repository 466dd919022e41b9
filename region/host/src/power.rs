//! Whether an instance switches itself off, or has done so: its init says it in its status file.
//!
//! The file is the instance's own ([`layer`]), and read to a limit. What it can say is no more than that
//! the instance wants to be off.

use std::{io::Read, path::Path, time::SystemTime};

use linux_inotify::Watch;
use serde::Deserialize;

use crate::layer;

/// Where `node_init::Status` is, from the instance's root.
const FOLDER: &str = "var/lib/nodestead";
const STATUS: &str = "var/lib/nodestead/init.json";
const LIMIT: u64 = 1 << 20;

#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct Said {
    powering_off: bool,
    powered_off: bool,
    #[serde(skip)]
    written: Option<SystemTime>,
}

/// For an instance whose PID 1 has ended; `upper` is its writable layer.
pub(crate) fn is_switched_off(upper: &Path) -> bool {
    read(upper).is_some_and(|it| it.powered_off)
}

/// Ends when an instance that runs since `booted` has begun to switch itself off: maybe never. What an
/// earlier boot has said does not count.
pub(crate) async fn switches_off(upper: &Path, booted: SystemTime) {
    let mut watch = Watch::new();
    let Some(folder) = layer::folder(upper, FOLDER) else { return std::future::pending().await };
    watch.add_open(&folder);
    while !read(upper).is_some_and(|it| it.powering_off && it.written >= Some(booted)) {
        watch.changed().await;
    }
}

fn read(upper: &Path) -> Option<Said> {
    let file = layer::own_file(upper, STATUS)?;
    let metadata = file.metadata().ok()?;
    let mut text = Vec::new();
    file.take(LIMIT).read_to_end(&mut text).ok()?;
    let said: Said = serde_json::from_slice(&text).ok()?;
    Some(Said { written: metadata.modified().ok(), ..said })
}

#[cfg(test)]
mod tests {
    use std::{fs, os::unix::fs::symlink};

    use super::*;

    #[test]
    fn an_instance_is_off_when_its_init_says_so() {
        let upper = tempfile::tempdir().unwrap();
        let file = upper.path().join(STATUS);
        assert!(!is_switched_off(upper.path()));
        fs::create_dir_all(file.parent().unwrap()).unwrap();
        fs::write(&file, r#"{"phase": "stopped", "poweredOff": true}"#).unwrap();
        assert!(is_switched_off(upper.path()));
        fs::write(&file, r#"{"phase": "stopped"}"#).unwrap();
        assert!(!is_switched_off(upper.path()));
    }

    #[test]
    fn no_file_of_the_machine_is_read_in_the_place_of_the_instances_own() {
        let outside = tempfile::tempdir().unwrap();
        let (upper, said) = (outside.path().join("upper"), outside.path().join("said"));
        fs::create_dir_all(upper.join("var/lib/nodestead")).unwrap();
        fs::write(&said, r#"{"poweredOff": true}"#).unwrap();
        let status = upper.join(STATUS);
        symlink(&said, &status).unwrap();
        assert!(!is_switched_off(&upper));
        // A pipe that nobody writes to holds nothing up.
        fs::remove_file(&status).unwrap();
        nix::unistd::mkfifo(&status, nix::sys::stat::Mode::S_IRUSR).unwrap();
        assert!(!is_switched_off(&upper));
    }

    #[tokio::test]
    async fn an_instance_that_begins_to_switch_itself_off_is_noticed() {
        let upper = tempfile::tempdir().unwrap();
        let folder = upper.path().join(FOLDER);
        fs::create_dir_all(&folder).unwrap();
        let says = |text: &str| {
            fs::write(folder.join("init.part"), text).unwrap();
            fs::rename(folder.join("init.part"), upper.path().join(STATUS)).unwrap();
        };
        says(r#"{"phase": "running"}"#);
        let before = fs::metadata(upper.path().join(STATUS)).unwrap().modified().unwrap();
        let path = upper.path().to_owned();
        let noticed = switches_off(&path, before);
        tokio::pin!(noticed);
        let soon = std::time::Duration::from_millis(50);
        says(r#"{"phase": "stopping"}"#);
        assert!(tokio::time::timeout(soon, &mut noticed).await.is_err(), "a reboot is no end");
        says(r#"{"phase": "stopping", "poweringOff": true}"#);
        let limit = std::time::Duration::from_secs(5);
        tokio::time::timeout(limit, noticed).await.unwrap();
        // The next boot has not said it.
        let next = before + limit;
        assert!(tokio::time::timeout(soon, switches_off(upper.path(), next)).await.is_err());
    }
}
