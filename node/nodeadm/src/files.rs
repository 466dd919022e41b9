//! Files to write, and writing them.

use std::{
    fs, io,
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
};

/// A file that the plan wants.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PlannedFile {
    /// Absolute.
    pub path: &'static str,
    pub content: String,
    pub mode: u32,
}

/// A file that could not be written.
#[derive(Debug, thiserror::Error)]
#[error("failed to write `{}`", path.display())]
pub struct WriteError {
    pub path: PathBuf,
    #[source]
    pub source: io::Error,
}

impl PlannedFile {
    pub(crate) fn new(path: &'static str, content: impl Into<String>) -> Self {
        Self { path, content: content.into(), mode: 0o644 }
    }

    pub(crate) fn mode(mut self, mode: u32) -> Self {
        self.mode = mode;
        self
    }
}

/// Writes `files` below `root`, each as a whole.
pub(crate) fn write_all(root: &Path, files: &[PlannedFile]) -> Result<(), WriteError> {
    for file in files {
        let path = below(root, file.path);
        write(&path, file.content.as_bytes(), file.mode)
            .map_err(|source| WriteError { path, source })?;
    }
    Ok(())
}

pub(crate) fn below(root: &Path, absolute: &str) -> PathBuf {
    root.join(absolute.trim_start_matches('/'))
}

pub(crate) fn write(path: &Path, content: &[u8], mode: u32) -> io::Result<()> {
    if let Some(folder) = path.parent() {
        fs::create_dir_all(folder)?;
    }
    let mut partial = path.as_os_str().to_owned();
    partial.push(".part");
    fs::write(&partial, content)?;
    fs::set_permissions(&partial, fs::Permissions::from_mode(mode))?;
    fs::rename(&partial, path)
}
