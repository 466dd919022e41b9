//! A private `/dev`: the nodes that every Linux program expects, and none of the machine's disks.
//!
//! `/dev/kmsg` is another `/dev/null`: upstream's kubelet does not start without one, and the kernel's log is
//! the machine's, with the words of all that runs on it. Nothing is read there and what is written goes
//! nowhere; the kubelets hear of memory that runs out from the instance's own cgroup. The real
//! one is kept from whoever makes a node for it, privileged pods included.
//!
//! Deviation: the kernel's log is empty, where an EC2 instance has its own. It can still be read by
//! syslog(2) and `/proc/kmsg` (`dmesg -S`): to keep root from that takes a filter of system calls, which
//! every container would be under.

use std::{
    fs, io,
    os::unix::fs::{PermissionsExt, symlink},
    path::Path,
};

use linux_mount::{Flags, MountError};
use nix::sys::stat::{Mode, SFlag, makedev, mknod};

use crate::inside::InsideError;

/// Name, major and minor number, mode: Linux, Documentation/admin-guide/devices.txt.
const NODES: [(&str, u64, u64, u32); 8] = [
    ("null", 1, 3, 0o666),
    ("zero", 1, 5, 0o666),
    ("full", 1, 7, 0o666),
    ("random", 1, 8, 0o666),
    ("urandom", 1, 9, 0o666),
    ("kmsg", 1, 3, 0o600),
    ("tty", 5, 0, 0o666),
    ("fuse", 10, 229, 0o666),
];

const LINKS: [(&str, &str); 5] = [
    ("fd", "/proc/self/fd"),
    ("stdin", "/proc/self/fd/0"),
    ("stdout", "/proc/self/fd/1"),
    ("stderr", "/proc/self/fd/2"),
    ("ptmx", "pts/ptmx"),
];

/// Fills `dev`, which is an empty folder of the new root.
pub(crate) fn populate(dev: &Path) -> Result<(), InsideError> {
    linux_mount::filesystem("tmpfs", dev, Flags::MS_NOSUID, "mode=755,size=1m")?;
    for (name, major, minor, mode) in NODES {
        make_node(&dev.join(name), makedev(major, minor), mode)
            .map_err(|source| InsideError::Prepare { path: dev.join(name), source })?;
    }
    for (name, target) in LINKS {
        let path = dev.join(name);
        symlink(target, &path).map_err(|source| InsideError::Prepare { path, source })?;
    }
    terminals(dev)
}

fn make_node(path: &Path, device: u64, mode: u32) -> io::Result<()> {
    mknod(path, SFlag::S_IFCHR, Mode::from_bits_truncate(mode), device)?;
    // The process's umask does not apply to what is said here.
    fs::set_permissions(path, fs::Permissions::from_mode(mode))
}

fn terminals(dev: &Path) -> Result<(), InsideError> {
    let plain = Flags::MS_NOSUID | Flags::MS_NODEV | Flags::MS_NOEXEC;
    let mount = |name: &str, kind: &str, flags: Flags, options: &str| -> Result<(), InsideError> {
        let target = dev.join(name);
        fs::create_dir(&target)
            .map_err(|source| InsideError::Prepare { path: target.clone(), source })?;
        linux_mount::filesystem(kind, &target, flags, options)?;
        Ok(())
    };
    let pts = Flags::MS_NOSUID | Flags::MS_NOEXEC;
    mount("pts", "devpts", pts, "newinstance,ptmxmode=0666,mode=620,gid=5")?;
    mount("shm", "tmpfs", Flags::MS_NOSUID | Flags::MS_NODEV, "mode=1777,size=64m")?;
    match mount("mqueue", "mqueue", plain, "") {
        // A kernel without POSIX message queues is a kernel that nobody here needs them from.
        Err(InsideError::Mount(MountError::Mount { source, .. }))
            if source.raw_os_error() == Some(nix::libc::ENODEV) =>
        {
            Ok(())
        }
        other => other,
    }
}
