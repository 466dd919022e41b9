//! Files by digest, and uploads on their way to become such files.
//!
//! A blob is written beside its place, synced, and renamed into it: a file under its digest is
//! always whole.

use std::{
    fs::{self, File},
    io::{self, Read, Write},
    path::{Path, PathBuf},
};

use sha2::{Digest as _, Sha256};
use tempfile::NamedTempFile;

use crate::Digest;

const CHUNK: usize = 256 * 1024;

/// See the module.
#[derive(Clone, Debug)]
pub(crate) struct Blobs {
    blobs: PathBuf,
    uploads: PathBuf,
}

/// Why an upload did not become a blob.
#[derive(Debug, thiserror::Error)]
pub(crate) enum FinishError {
    #[error("the upload's digest is `{found}`, not `{wanted}`")]
    Mismatch { found: Digest, wanted: Digest },
    #[error("failed to read or move an upload")]
    Io {
        #[source]
        source: io::Error,
    },
}

/// Why something was not stored.
#[derive(Debug, thiserror::Error)]
pub(crate) enum StoreError {
    #[error("failed to read what is to be stored")]
    Read {
        #[source]
        source: io::Error,
    },
    #[error("failed to write a blob")]
    Write {
        #[source]
        source: io::Error,
    },
}

impl From<StoreError> for io::Error {
    fn from(error: StoreError) -> Self {
        match error {
            StoreError::Read { source } | StoreError::Write { source } => source,
        }
    }
}

impl Blobs {
    pub(crate) fn open(folder: &Path) -> io::Result<Self> {
        let (blobs, uploads) = (folder.join("blobs/sha256"), folder.join("uploads"));
        fs::create_dir_all(&blobs)?;
        fs::create_dir_all(&uploads)?;
        Ok(Self { blobs, uploads })
    }

    pub(crate) fn path(&self, digest: &Digest) -> PathBuf {
        self.blobs.join(digest.hex())
    }

    /// The size of a blob that is here.
    pub(crate) fn size(&self, digest: &Digest) -> Option<u64> {
        fs::metadata(self.path(digest)).ok().map(|it| it.len())
    }

    pub(crate) fn read(&self, digest: &Digest) -> io::Result<Vec<u8>> {
        fs::read(self.path(digest))
    }

    /// Stores all that `reader` gives, under its digest.
    pub(crate) fn store(&self, reader: &mut dyn Read) -> Result<(Digest, u64), StoreError> {
        let failed = |source| StoreError::Write { source };
        let mut file = NamedTempFile::new_in(&self.uploads).map_err(failed)?;
        let mut hash = Sha256::new();
        let mut buffer = vec![0; CHUNK];
        let mut size = 0;
        loop {
            let count = match reader.read(&mut buffer) {
                Ok(0) => break,
                Ok(count) => count,
                Err(source) if source.kind() == io::ErrorKind::Interrupted => continue,
                Err(source) => return Err(StoreError::Read { source }),
            };
            hash.update(&buffer[..count]);
            file.write_all(&buffer[..count]).map_err(failed)?;
            size += count as u64;
        }
        let digest = Digest::from_hash(hash.finalize().as_slice());
        if self.size(&digest) != Some(size) {
            self.keep(file, &digest).map_err(failed)?;
        }
        Ok((digest, size))
    }

    /// Makes a blob of a file that is whole.
    fn keep(&self, file: NamedTempFile, digest: &Digest) -> io::Result<()> {
        file.as_file().sync_all()?;
        file.persist(self.path(digest)).map_err(|error| error.error)?;
        File::open(&self.blobs)?.sync_all()
    }

    // === Uploads ===

    /// The folder of all uploads.
    pub(crate) fn uploads(&self) -> &Path {
        &self.uploads
    }

    /// The file of an upload. `id` is one of ours: the store knows it.
    pub(crate) fn upload(&self, id: &str) -> PathBuf {
        self.uploads.join(id)
    }

    /// Makes the upload a blob, if its digest is right. The upload is gone in either case.
    pub(crate) fn finish(&self, id: &str, wanted: &Digest) -> Result<u64, FinishError> {
        let failed = |source| FinishError::Io { source };
        let path = self.upload(id);
        let mut file = File::open(&path).map_err(failed)?;
        let mut hash = Sha256::new();
        let mut buffer = vec![0; CHUNK];
        let mut size = 0;
        loop {
            let count = file.read(&mut buffer).map_err(failed)?;
            if count == 0 {
                break;
            }
            hash.update(&buffer[..count]);
            size += count as u64;
        }
        let found = Digest::from_hash(hash.finalize().as_slice());
        if found != *wanted {
            fs::remove_file(&path).map_err(failed)?;
            return Err(FinishError::Mismatch { found, wanted: wanted.clone() });
        }
        file.sync_all().map_err(failed)?;
        fs::rename(&path, self.path(wanted)).map_err(failed)?;
        File::open(&self.blobs).and_then(|it| it.sync_all()).map_err(failed)?;
        Ok(size)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_upload_with_another_digest_becomes_nothing() {
        let folder = tempfile::tempdir().unwrap();
        let blobs = Blobs::open(folder.path()).unwrap();
        fs::write(blobs.upload("u"), b"bytes").unwrap();
        let wanted = Digest::of(b"other bytes");
        assert!(matches!(blobs.finish("u", &wanted), Err(FinishError::Mismatch { .. })));
        assert_eq!(blobs.size(&wanted), None);
        assert!(!blobs.upload("u").exists());
    }

    #[test]
    fn what_is_stored_is_found_by_its_digest() {
        let folder = tempfile::tempdir().unwrap();
        let blobs = Blobs::open(folder.path()).unwrap();
        let (digest, size) = blobs.store(&mut &b"bytes"[..]).unwrap();
        assert_eq!((digest.clone(), size), (Digest::of(b"bytes"), 5));
        assert_eq!(blobs.read(&digest).unwrap(), b"bytes");
    }
}
