//! Whether an instance switched itself off: its init says so, last of all, in its status file.
//!
//! The file is the instance's own, and root inside may make of it what it likes: it is opened below
//! the instance's layer without following links, never waited for, and read to a limit. What it can
//! say is no more than that the instance wants to be off.

use std::{fs::File, io::Read, path::Path};

use rustix::fs::{CWD, Mode, OFlags, ResolveFlags};
use serde::Deserialize;

/// `node_init::Status`, from the instance's root.
const STATUS: &str = "var/lib/nodestead/init.json";
const LIMIT: u64 = 1 << 20;

#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct Said {
    powered_off: bool,
}

/// For an instance whose PID 1 has ended; `upper` is its writable layer.
pub(crate) fn is_switched_off(upper: &Path) -> bool {
    read(upper).is_some_and(|it| it.powered_off)
}

fn read(upper: &Path) -> Option<Said> {
    let plain = OFlags::RDONLY | OFlags::CLOEXEC;
    let folder = rustix::fs::openat(CWD, upper, plain | OFlags::DIRECTORY, Mode::empty()).ok()?;
    let below = ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS | ResolveFlags::NO_MAGICLINKS;
    let flags = plain | OFlags::NONBLOCK;
    let file = rustix::fs::openat2(&folder, STATUS, flags, Mode::empty(), below).ok()?;
    let file = File::from(file);
    if !file.metadata().ok()?.is_file() {
        return None;
    }
    let mut text = Vec::new();
    file.take(LIMIT).read_to_end(&mut text).ok()?;
    serde_json::from_slice(&text).ok()
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
        symlink(&said, upper.join(STATUS)).unwrap();
        assert!(!is_switched_off(&upper));
        // A pipe that nobody writes to holds nothing up.
        fs::remove_file(upper.join(STATUS)).unwrap();
        nix::unistd::mkfifo(&upper.join(STATUS), nix::sys::stat::Mode::S_IRUSR).unwrap();
        assert!(!is_switched_off(&upper));
    }
}
