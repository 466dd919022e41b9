//! What instances' consoles have shown: from the instance's folder, and from a copy once that is gone,
//! for as long as EC2 still describes the instance.

use std::{
    fs,
    io::{self, Read, Seek, SeekFrom},
    path::{Path, PathBuf},
};

use tracing::warn;

use crate::layout::{Layout, write_atomically};

/// EC2 keeps the last 64 KiB of a console.
const LIMIT: u64 = 64 << 10;

/// See the module. Clones are the same.
#[derive(Clone, Debug)]
pub(crate) struct Consoles {
    instances: PathBuf,
    kept: PathBuf,
}

impl Consoles {
    pub(crate) fn new(layout: &Layout) -> Self {
        Self { instances: layout.instances(), kept: layout.consoles() }
    }

    /// The end of it; `None` where nothing was ever shown.
    pub(crate) fn read(&self, id: &str) -> Option<Vec<u8>> {
        end_of(&self.live(id)).or_else(|_| end_of(&self.kept.join(id))).ok()
    }

    /// Keeps it, before the instance's folder goes.
    pub(crate) fn keep(&self, id: &str) {
        let copied = match end_of(&self.live(id)) {
            // It never booted, or an earlier try has come further.
            Err(error) if error.kind() == io::ErrorKind::NotFound => return,
            Err(error) => Err(anyhow::Error::new(error)),
            Ok(text) => fs::create_dir_all(&self.kept)
                .map_err(anyhow::Error::new)
                .and_then(|()| write_atomically(&self.kept.join(id), &text)),
        };
        if let Err(error) = copied {
            warn!(instance = id, "its console is not kept: {error:#}");
        }
    }

    /// Drops those of instances that are not known any more.
    pub(crate) fn forget(&self, is_known: impl Fn(&str) -> bool) {
        for entry in fs::read_dir(&self.kept).into_iter().flatten().flatten() {
            let is_over = entry.file_name().to_str().is_none_or(|id| !is_known(id));
            if is_over && let Err(error) = fs::remove_file(entry.path()) {
                warn!(file = %entry.path().display(), %error, "an old console stays");
            }
        }
    }

    fn live(&self, id: &str) -> PathBuf {
        self.instances.join(id).join("console.log")
    }
}

fn end_of(path: &Path) -> io::Result<Vec<u8>> {
    let mut file = fs::File::open(path)?;
    let length = file.metadata()?.len();
    file.seek(SeekFrom::Start(length.saturating_sub(LIMIT)))?;
    let mut text = Vec::new();
    file.take(LIMIT).read_to_end(&mut text)?;
    Ok(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_console_is_kept_until_the_instance_is_forgotten() {
        let folder = tempfile::tempdir().unwrap();
        let layout = Layout::new(folder.path()).unwrap();
        let consoles = Consoles::new(&layout);
        assert_eq!(consoles.read("i-1"), None);
        consoles.keep("i-1");
        let live = layout.instances().join("i-1");
        fs::create_dir_all(&live).unwrap();
        let shown = [vec![b'x'; 64 << 10], b"the end".to_vec()].concat();
        fs::write(live.join("console.log"), &shown).unwrap();
        let last = consoles.read("i-1").unwrap();
        assert_eq!((last.len(), last.ends_with(b"the end")), (64 << 10, true));
        consoles.keep("i-1");
        fs::remove_dir_all(&live).unwrap();
        assert_eq!(consoles.read("i-1"), Some(last));
        // A second try of the same termination finds no folder, and takes nothing away.
        consoles.keep("i-1");
        consoles.forget(|id| id == "i-1");
        assert!(consoles.read("i-1").is_some());
        consoles.forget(|_| false);
        assert_eq!(consoles.read("i-1"), None);
    }
}
