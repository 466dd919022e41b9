//! What a start makes on the host, so that one that fails can take it away.
//!
//! **Invariant:** only what was not there before goes, and of that only empty folders and the state
//! of managers that have managed nothing yet: a certificate that was asked for stays.

use std::{
    fs, io,
    path::{Path, PathBuf},
};

use tracing::warn;

use crate::settings::Settings;

const STATES: [&str; 2] = ["cpu_manager_state", "memory_manager_state"];

/// The folders that a start would have to make.
pub(super) struct Footprint {
    folders: Vec<PathBuf>,
}

impl Footprint {
    pub(super) fn before(settings: &Settings) -> Self {
        let logs = PathBuf::from(&settings.config.pod_logs_dir);
        let wanted = [PathBuf::from(&settings.root_dir), settings.certificates(), logs];
        Self { folders: wanted.iter().filter_map(|it| missing(it)).collect() }
    }

    pub(super) fn remove(self) {
        for folder in &self.folders {
            if let Err(error) = clear(folder) {
                warn!(folder = %folder.display(), %error, "a folder of the failed start stays");
            }
        }
    }
}

/// The uppermost folder of a path that is not there.
fn missing(path: &Path) -> Option<PathBuf> {
    path.ancestors().take_while(|it| !it.exists()).last().map(Path::to_owned)
}

fn clear(folder: &Path) -> io::Result<()> {
    let entries = match fs::read_dir(folder) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        entries => entries?,
    };
    for entry in entries {
        let entry = entry?;
        if entry.file_type()?.is_dir() {
            clear(&entry.path())?;
        } else if STATES.iter().any(|it| entry.file_name() == *it) {
            fs::remove_file(entry.path())?;
        }
    }
    match fs::remove_dir(folder) {
        Err(error) if error.kind() == io::ErrorKind::DirectoryNotEmpty => Ok(()),
        removed => removed,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_there_and_what_is_of_worth_stays() {
        let parent = tempfile::tempdir().unwrap();
        let at = |name: &str| parent.path().join(name);
        assert_eq!(missing(&at("a/b/c")), Some(at("a")));
        assert_eq!(missing(parent.path()), None);
        for folder in ["a/b/pods", "kept/pki", "kept/pods"] {
            fs::create_dir_all(at(folder)).unwrap();
        }
        fs::write(at("a/b/cpu_manager_state"), "{}").unwrap();
        fs::write(at("kept/pki/kubelet-client-current.pem"), "pem").unwrap();
        Footprint { folders: vec![at("a"), at("kept"), at("none")] }.remove();
        assert!(!at("a").exists() && !at("kept/pods").exists());
        assert!(at("kept/pki/kubelet-client-current.pem").exists());
    }
}
