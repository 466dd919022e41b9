//! An instance's writable layer: its files are the instance's own, and root inside may make of them what
//! it likes. They are opened below the layer without following links, and never waited for.

use std::{fs::File, os::fd::OwnedFd, path::Path};

use rustix::fs::{CWD, Mode, OFlags, ResolveFlags};

const PLAIN: OFlags = OFlags::RDONLY.union(OFlags::CLOEXEC);
const BELOW: ResolveFlags =
    ResolveFlags::BENEATH.union(ResolveFlags::NO_SYMLINKS).union(ResolveFlags::NO_MAGICLINKS);

fn open(upper: &Path, path: &str, flags: OFlags) -> Option<OwnedFd> {
    let upper = rustix::fs::openat(CWD, upper, PLAIN | OFlags::DIRECTORY, Mode::empty()).ok()?;
    rustix::fs::openat2(&upper, path, PLAIN | flags, Mode::empty(), BELOW).ok()
}

/// A folder of the instance's, by its path from the instance's root.
pub(crate) fn folder(upper: &Path, path: &str) -> Option<OwnedFd> {
    open(upper, path, OFlags::DIRECTORY)
}

/// A file that an instance has written, by its path from the instance's root, if it is one: it may be
/// of any length. `upper` is the instance's writable layer.
pub fn own_file(upper: &Path, path: &str) -> Option<File> {
    let file = File::from(open(upper, path, OFlags::NONBLOCK)?);
    file.metadata().is_ok_and(|it| it.is_file()).then_some(file)
}
