//! `vol_data.json`: what a later kubelet has to know of a volume that this one staged or published.
//!
//! Names and keys are upstream's, so that either kubelet can take over from the other.

use std::{collections::BTreeMap, fs, io, path::Path};

use super::{CsiVolume, Key, volume};
use crate::paths::make_private;

pub(super) const FILE: &str = "vol_data.json";

/// The content of a file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Data(BTreeMap<String, String>);

impl Data {
    /// Of a staged volume.
    pub(super) fn staged(volume: &CsiVolume) -> Self {
        Self(texts(&[("driverName", &volume.driver), ("volumeHandle", &volume.handle)]))
    }

    /// Of a volume that is published for a pod.
    pub(super) fn published(it: &CsiVolume, node: &str) -> Self {
        Self(texts(&[
            ("specVolID", &it.spec_name),
            ("volumeHandle", &it.handle),
            ("driverName", &it.driver),
            ("nodeName", node),
            ("attachmentID", &volume::attachment_name(&it.key(), node)),
            ("volumeLifecycleMode", it.lifecycle_mode()),
        ]))
    }

    pub(super) fn key(&self) -> Key {
        let text = |key: &str| self.0.get(key).cloned().unwrap_or_default();
        Key { driver: text("driverName"), handle: text("volumeHandle") }
    }

    /// Writes the file of `folder`, whole or not at all.
    pub(super) fn save(&self, folder: &Path) -> io::Result<()> {
        make_private(folder)?;
        let temporary = folder.join(format!("{FILE}.tmp"));
        fs::write(&temporary, serde_json::to_vec(&self.0)?)?;
        fs::rename(temporary, folder.join(FILE))
    }

    pub(super) fn load(folder: &Path) -> io::Result<Self> {
        let text = fs::read(folder.join(FILE))?;
        let texts = serde_json::from_slice(&text)?;
        Ok(Self(texts))
    }
}

fn texts(pairs: &[(&str, &str)]) -> BTreeMap<String, String> {
    pairs.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_is_read_again() {
        let folder = tempfile::tempdir().unwrap();
        let volume = CsiVolume {
            driver: "d".to_owned(),
            handle: "h".to_owned(),
            spec_name: "pv".to_owned(),
            ..CsiVolume::default()
        };
        let data = Data::published(&volume, "node");
        data.save(&folder.path().join("new")).unwrap();
        let read = Data::load(&folder.path().join("new")).unwrap();
        assert_eq!(read, data);
        assert_eq!(read.key(), volume.key());
        assert_eq!(read.0["volumeLifecycleMode"], "Persistent");
        assert!(Data::load(folder.path()).is_err());
    }
}
