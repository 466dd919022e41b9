//! Certificates on disk: each in a file named by its time, and a link to the one that counts.
//!
//! Upstream: `client-go/util/certificate/certificate_store.go`.
//!
//! **Invariant:** the link changes at once from one whole file to the next, and keys are for root only.

use std::{
    fs,
    io::Write,
    os::unix::fs::{OpenOptionsExt, symlink},
    path::{Path, PathBuf},
};

use jiff::Timestamp;
use tracing::debug;

use super::CertificateError;

/// How many files that no longer count are kept.
const KEPT: usize = 1;

/// The files of one certificate (`kubelet-client`, `kubelet-server`).
#[derive(Clone, Debug)]
pub(crate) struct Store {
    folder: PathBuf,
    name: &'static str,
}

impl Store {
    pub(crate) fn new(folder: &Path, name: &'static str) -> Self {
        Self { folder: folder.to_owned(), name }
    }

    /// The link.
    pub(crate) fn current(&self) -> PathBuf {
        self.folder.join(format!("{}-current.pem", self.name))
    }

    /// Certificate and key that count, in PEM.
    pub(crate) fn read(&self) -> Option<String> {
        fs::read_to_string(self.current()).ok()
    }

    /// Keeps a certificate and its key, and makes them those that count.
    pub(crate) fn write(&self, pem: &str, now: Timestamp) -> Result<(), CertificateError> {
        let io = |path: &Path| {
            let path = path.to_owned();
            move |source| CertificateError::Io { path, source }
        };
        fs::create_dir_all(&self.folder).map_err(io(&self.folder))?;
        let stamp = now.strftime("%Y-%m-%d-%H-%M-%S");
        let path = self.folder.join(format!("{}-{stamp}.pem", self.name));
        let mut file = fs::OpenOptions::new()
            .create(true)
            .write(true)
            .truncate(true)
            .mode(0o600)
            .open(&path)
            .map_err(io(&path))?;
        file.write_all(pem.as_bytes()).and_then(|()| file.sync_all()).map_err(io(&path))?;
        let staged = self.folder.join(format!("{}-updated.pem", self.name));
        if let Err(error) = fs::remove_file(&staged)
            && error.kind() != std::io::ErrorKind::NotFound
        {
            return Err(io(&staged)(error));
        }
        symlink(&path, &staged).map_err(io(&staged))?;
        fs::rename(&staged, self.current()).map_err(io(&staged))?;
        self.remove_old(&path);
        Ok(())
    }

    fn remove_old(&self, current: &Path) {
        let prefix = format!("{}-2", self.name);
        let mut old: Vec<_> = fs::read_dir(&self.folder)
            .into_iter()
            .flatten()
            .flatten()
            .filter(|it| it.file_name().to_string_lossy().starts_with(&prefix))
            .map(|it| it.path())
            .filter(|it| it != current)
            .collect();
        old.sort();
        let surplus = old.len().saturating_sub(KEPT);
        for path in old.into_iter().take(surplus) {
            if let Err(error) = fs::remove_file(&path) {
                debug!(path = %path.display(), %error, "an old certificate was not removed");
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    #[test]
    fn the_newest_certificate_counts_and_old_ones_go() {
        let folder = tempfile::tempdir().unwrap();
        let store = Store::new(folder.path(), "kubelet-client");
        assert_eq!(store.read(), None);
        for second in 0..4 {
            let now = Timestamp::from_second(1_800_000_000 + second).unwrap();
            store.write(&format!("pem {second}"), now).unwrap();
        }
        assert_eq!(store.read().unwrap(), "pem 3");
        let target = fs::read_link(store.current()).unwrap();
        assert_eq!(target.file_name().unwrap(), "kubelet-client-2027-01-15-08-00-03.pem");
        let mode = fs::metadata(&target).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 3, "two files and the link");
    }
}
