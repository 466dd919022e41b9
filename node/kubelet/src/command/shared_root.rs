//! The kubelet's folder on a mount that is shared: what a container mounts in a volume there can reach
//! the host and other containers, though `/` may be private.
//!
//! Upstream: `DoMakeRShared` in `pkg/volume/util/hostutil/hostutil_linux.go`.
//!
//! Deviation: upstream's mount stays for ever. This one goes when the kubelet ends, unless there are pods
//! or other mounts in it: those go on, and the next kubelet finds it.

use std::{
    fs, io,
    path::{Path, PathBuf},
};

use nix::{
    errno::Errno,
    mount::{MntFlags, umount2},
};
use tracing::{debug, info, warn};

use crate::volumes::mounts::{self, Mount};

/// Upstream's words.
#[derive(Debug, thiserror::Error)]
#[error("error configuring root directory: failed to {action} {}: {source}", path.display())]
pub(super) struct ShareError {
    action: &'static str,
    path: PathBuf,
    #[source]
    source: io::Error,
}

/// The folder, shared by this kubelet, by an earlier one, or by whoever has set up the host.
#[derive(Debug)]
pub(super) struct SharedRoot(PathBuf);

impl SharedRoot {
    pub(super) fn make(root: &Path) -> Result<Self, ShareError> {
        let failed = |action| move |source| ShareError { action, path: root.to_owned(), source };
        let path = root.canonicalize().map_err(failed("find"))?;
        let table = mounts::table().map_err(failed("find the mount of"))?;
        if holder(&table, &path).is_some_and(|it| it.is_shared) {
            return Ok(Self(path));
        }
        info!(root = %path.display(), "mounting the root directory on itself, shared");
        mounts::bind_one(&path, &path).map_err(failed("bind-mount"))?;
        let shared = Self(path);
        match mounts::make_shared(&shared.0) {
            Ok(()) => Ok(shared),
            Err(source) => {
                shared.release();
                Err(failed("make rshared")(source))
            }
        }
    }

    /// Takes the mount away if nothing needs it.
    pub(super) fn release(self) {
        let Ok(table) = mounts::table() else { return };
        if !is_on_itself(&table, &self.0) || is_in_use(&table, &self.0) {
            return;
        }
        let root = self.0.display();
        match umount2(&self.0, MntFlags::UMOUNT_NOFOLLOW) {
            Ok(()) => debug!(%root, "the root directory is no longer mounted on itself"),
            Err(Errno::EBUSY) => debug!(%root, "the mount of the root directory is in use"),
            Err(error) => warn!(%root, %error, "the mount of the root directory stays"),
        }
    }
}

/// The mount in which a path lies.
fn holder<'a>(table: &'a [Mount], path: &Path) -> Option<&'a Mount> {
    table.iter().rfind(|it| path.starts_with(&it.target))
}

/// Whether what is mounted on a folder is that very folder, so that nobody misses it. A disk that
/// somebody has mounted there for the kubelet is not.
fn is_on_itself(table: &[Mount], path: &Path) -> bool {
    let Some(at) = table.iter().rposition(|it| it.target == path) else { return false };
    let below = holder(&table[..at], path).and_then(|it| it.shows(path));
    below.is_some() && below == table[at].shows(path)
}

fn is_in_use(table: &[Mount], root: &Path) -> bool {
    let has_mounts = table.iter().any(|it| it.target != root && it.target.starts_with(root));
    let pods = fs::read_dir(root.join("pods"));
    has_mounts || pods.is_ok_and(|mut it| it.next().is_some())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A file system that is private, as `/` is where no systemd has made it shared.
    struct Private(tempfile::TempDir);

    impl Private {
        fn new() -> Self {
            use nix::mount::{MsFlags, mount};
            let (this, none) = (Self(tempfile::tempdir().unwrap()), None::<&str>);
            let path = this.0.path();
            mount(Some("tmpfs"), path, Some("tmpfs"), MsFlags::empty(), none).unwrap();
            mount(none, path, none, MsFlags::MS_PRIVATE, none).unwrap();
            this
        }
    }

    impl Drop for Private {
        fn drop(&mut self) {
            umount2(self.0.path(), MntFlags::MNT_DETACH).ok();
        }
    }

    fn mounts_at(path: &Path) -> Vec<bool> {
        let table = mounts::table().unwrap().into_iter();
        table.filter(|it| it.target == path).map(|it| it.is_shared).collect()
    }

    #[test]
    fn a_folder_is_shared_once_and_until_neither_pods_nor_mounts_are_in_it() {
        if !nix::unistd::geteuid().is_root() {
            println!("not run: needs root");
            return;
        }
        let private = Private::new();
        let root = private.0.path().canonicalize().unwrap().join("kubelet");
        fs::create_dir_all(root.join("pods/uid")).unwrap();
        let make = || SharedRoot::make(&root).unwrap();
        make().release();
        assert_eq!(mounts_at(&root), [true], "there is a pod");
        fs::create_dir(root.join("plugins")).unwrap();
        fs::remove_dir(root.join("pods/uid")).unwrap();
        mounts::bind_one(&root.join("pods"), &root.join("plugins")).unwrap();
        make().release();
        assert_eq!(mounts_at(&root), [true], "there is a mount");
        umount2(&root.join("plugins"), MntFlags::empty()).unwrap();
        make().release();
        assert!(mounts_at(&root).is_empty());
    }

    #[test]
    fn a_disk_that_was_mounted_for_the_kubelet_stays() {
        if !nix::unistd::geteuid().is_root() {
            println!("not run: needs root");
            return;
        }
        let (private, other) = (Private::new(), Private::new());
        let at = |it: &Private| it.0.path().canonicalize().unwrap();
        let root = at(&private).join("kubelet");
        fs::create_dir(&root).unwrap();
        mounts::bind_one(&at(&other), &root).unwrap();
        mounts::make_shared(&root).unwrap();
        SharedRoot::make(&root).unwrap().release();
        assert_eq!(mounts_at(&root), [true]);
        umount2(&root, MntFlags::empty()).unwrap();
    }

    #[test]
    fn what_cannot_be_shared_is_told_in_upstreams_words() {
        let error = SharedRoot::make(Path::new("/nst-none")).unwrap_err().to_string();
        assert!(error.starts_with("error configuring root directory: failed to "), "{error}");
    }
}
