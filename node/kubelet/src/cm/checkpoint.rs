//! Files in which the managers keep who holds what, in upstream's formats.
//!
//! A checkpoint ends with a checksum: FNV-1a of the object in the notation of Go's `spew` (`%#v`). What
//! upstream's kubelet wrote is read here, and what is written here it reads.
//!
//! Upstream: `pkg/kubelet/checkpointmanager`, `pkg/util/hash`.
//!
//! **Invariant:** a file is replaced as a whole: after a crash it is the old or the new one.

use std::{
    fs, io,
    path::{Path, PathBuf},
};

/// Why a checkpoint cannot be used.
#[derive(Debug, thiserror::Error)]
pub(crate) enum CheckpointError {
    #[error("failed to read `{path}`")]
    Read {
        path: PathBuf,
        #[source]
        source: io::Error,
    },
    #[error("checkpoint is corrupted")]
    Corrupt,
    #[error("{0}")]
    Refused(String),
}

pub(crate) fn checksum(text: &str) -> u32 {
    text.bytes().fold(0x811c_9dc5, |hash, byte| (hash ^ u32::from(byte)).wrapping_mul(0x0100_0193))
}

/// `None` where there is no file.
pub(crate) fn read(path: &Path) -> Result<Option<String>, CheckpointError> {
    match fs::read_to_string(path) {
        Ok(text) => Ok(Some(text)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(source) => Err(CheckpointError::Read { path: path.to_owned(), source }),
    }
}

pub(crate) fn write(path: &Path, text: &str) -> io::Result<()> {
    if let Some(parent) = path.parent() {
        fs::create_dir_all(parent)?;
    }
    let beside = path.with_extension("tmp");
    fs::write(&beside, text)?;
    fs::rename(&beside, path)
}

/// `map[key:value …]` of `spew`, for keys that are already in order.
pub(crate) fn spew_map<K, V>(
    entries: impl IntoIterator<Item = (K, V)>,
    write: impl Fn(K, V) -> String,
) -> String {
    let entries: Vec<_> = entries.into_iter().map(|(key, value)| write(key, value)).collect();
    format!("map[{}]", entries.join(" "))
}

/// `[a b …]` of `spew`.
pub(crate) fn spew_list<T: ToString>(items: &[T]) -> String {
    let items: Vec<_> = items.iter().map(ToString::to_string).collect();
    format!("[{}]", items.join(" "))
}
