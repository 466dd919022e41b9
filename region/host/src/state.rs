//! What is known of an instance between two runs of whoever looks after it.

use std::{
    fs,
    io::{self, Write},
    path::{Path, PathBuf},
};

use linux_process::Identity;
use serde::{Deserialize, Serialize, de::DeserializeOwned};

/// The instance's PID 1, as the machine sees it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct State {
    pub(crate) init: Identity,
    /// The number of the boot that runs or ran last ([`crate::HostSpec::boot`]).
    pub(crate) boots: u64,
    /// The network namespace was made anew since the instance last ran.
    #[serde(default)]
    pub(crate) is_netns_fresh: bool,
    /// It is frozen as a whole: it keeps its memory and does nothing.
    #[serde(default)]
    pub(crate) is_hibernated: bool,
}

/// A file of the instance's folder that could not be used.
#[derive(Debug, thiserror::Error)]
pub enum FileError {
    #[error("failed to {verb} `{}`", path.display())]
    Io {
        verb: &'static str,
        path: PathBuf,
        #[source]
        source: io::Error,
    },
    #[error("`{}` is damaged", path.display())]
    Damaged {
        path: PathBuf,
        #[source]
        source: serde_json::Error,
    },
}

impl FileError {
    pub(crate) fn io(verb: &'static str, path: &Path) -> impl FnOnce(io::Error) -> Self {
        let path = path.to_owned();
        move |source| Self::Io { verb, path, source }
    }
}

impl State {
    pub(crate) fn file(folder: &Path) -> PathBuf {
        folder.join("state.json")
    }

    pub(crate) fn load(folder: &Path) -> Result<Option<Self>, FileError> {
        load(&Self::file(folder))
    }

    pub(crate) fn save(&self, folder: &Path) -> Result<(), FileError> {
        save(&Self::file(folder), self)
    }
}

impl State {
    /// As if it had never been started.
    pub(crate) fn forget(folder: &Path) -> Result<(), FileError> {
        let file = Self::file(folder);
        match fs::remove_file(&file) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                Err(FileError::io("remove", &file)(error))
            }
            _ => Ok(()),
        }
    }
}

/// Reads a JSON file; `None` when there is none.
pub(crate) fn load<T: DeserializeOwned>(path: &Path) -> Result<Option<T>, FileError> {
    let text = match fs::read(path) {
        Ok(text) => text,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(FileError::io("read", path)(error)),
    };
    let parsed = serde_json::from_slice(&text);
    parsed.map(Some).map_err(|source| FileError::Damaged { path: path.to_owned(), source })
}

/// Writes a JSON file so that a reader, or a crash, sees the old or the new content.
pub(crate) fn save<T: Serialize>(path: &Path, value: &T) -> Result<(), FileError> {
    let text = serde_json::to_vec_pretty(value)
        .map_err(|source| FileError::Damaged { path: path.to_owned(), source })?;
    let partial = path.with_extension("part");
    let put = || {
        let mut file = create(&partial)?;
        file.write_all(&text)?;
        file.sync_all()?;
        fs::rename(&partial, path)
    };
    put().map_err(FileError::io("write", path))
}

/// Writes a file that can be made again: whole for a reader, but perhaps lost in a power failure.
pub(crate) fn write(path: &Path, content: &[u8]) -> Result<(), FileError> {
    let partial = path.with_extension("part");
    let put = || {
        create(&partial)?.write_all(content)?;
        fs::rename(&partial, path)
    };
    put().map_err(FileError::io("write", path))
}

/// A new file in the place of what is there: in a layer that an instance can write to it may be a link
/// that leads out of it.
fn create(path: &Path) -> io::Result<fs::File> {
    if let Err(error) = fs::remove_file(path)
        && error.kind() != io::ErrorKind::NotFound
    {
        return Err(error);
    }
    fs::File::options().write(true).create_new(true).open(path)
}

pub(crate) fn make_folder(path: &Path) -> Result<(), FileError> {
    fs::create_dir_all(path).map_err(FileError::io("create", path))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_is_written_where_it_is_and_nowhere_that_a_link_leads() {
        let folder = tempfile::tempdir().unwrap();
        let at = |name: &str| folder.path().join(name);
        fs::write(at("other"), "other").unwrap();
        for link in ["hosts", "hosts.part"] {
            std::os::unix::fs::symlink(at("other"), at(link)).unwrap();
        }
        write(&at("hosts"), b"hosts").unwrap();
        assert_eq!(fs::read_to_string(at("other")).unwrap(), "other");
        assert_eq!(fs::read_to_string(at("hosts")).unwrap(), "hosts");
        assert!(fs::symlink_metadata(at("hosts")).unwrap().is_file());
    }

    #[test]
    fn a_state_is_read_as_it_was_written_and_damage_is_told() {
        let folder = tempfile::tempdir().unwrap();
        assert_eq!(State::load(folder.path()).unwrap(), None);
        let init = Identity { pid: 7, start_time: 9 };
        let state = State { init, boots: 2, is_netns_fresh: false, is_hibernated: true };
        state.save(folder.path()).unwrap();
        assert_eq!(State::load(folder.path()).unwrap(), Some(state));
        fs::write(State::file(folder.path()), "{").unwrap();
        assert!(matches!(State::load(folder.path()), Err(FileError::Damaged { .. })));
    }
}
