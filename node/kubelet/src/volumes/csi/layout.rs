//! Where CSI volumes are on this host; the layout is upstream's.
//!
//! ```text
//! plugins/kubernetes.io/csi/DRIVER/HASH/{vol_data.json,globalmount}
//! plugins/kubernetes.io/csi/volumeDevices/PV/data/vol_data.json
//! plugins/kubernetes.io/csi/volumeDevices/{staging/PV,publish/PV/POD}
//! pods/POD/volumes/kubernetes.io~csi/NAME/{vol_data.json,mount}
//! pods/POD/volumeDevices/kubernetes.io~csi/PV -> the published device
//! ```

use std::{
    fs, io,
    path::{Path, PathBuf},
};

use super::{CsiVolume, Key, data::Data, volume::hex};
use crate::{paths::Paths, pod::PodUid, volumes::mounts::is_mounted};

#[derive(Clone, Debug)]
pub(super) struct Layout {
    paths: Paths,
}

/// A volume that is or may be staged.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Staged {
    pub key: Key,
    pub place: Staging,
}

/// Where a volume is staged, and the folder of its file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Staging {
    pub path: PathBuf,
    pub data: PathBuf,
    /// The persistent volume's name, of block volumes.
    pub block: Option<String>,
}

/// A volume that is or may be published for a pod.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Target {
    pub path: PathBuf,
    /// What tells of it: a folder with a file, or the link to a device.
    pub record: PathBuf,
    pub is_block: bool,
}

impl Layout {
    pub(super) fn new(paths: Paths) -> Self {
        Self { paths }
    }

    fn root(&self) -> PathBuf {
        self.paths.root().join("plugins/kubernetes.io/csi")
    }

    fn devices(&self) -> PathBuf {
        self.root().join("volumeDevices")
    }

    pub(super) fn staging(&self, volume: &CsiVolume) -> Staging {
        if volume.is_block {
            return self.block_staging(&volume.spec_name);
        }
        let data = self.root().join(&volume.driver).join(hex(&volume.handle));
        Staging { path: data.join("globalmount"), data, block: None }
    }

    fn block_staging(&self, name: &str) -> Staging {
        Staging {
            path: self.devices().join("staging").join(name),
            data: self.devices().join(name).join("data"),
            block: Some(name.to_owned()),
        }
    }

    pub(super) fn target(&self, uid: &PodUid, volume: &CsiVolume) -> Target {
        let name = &volume.spec_name;
        if volume.is_block {
            let path = self.devices().join("publish").join(name).join(&uid.0);
            return Target { path, record: self.pod_devices(uid).join(name), is_block: true };
        }
        let record = self.pod_volumes(uid).join(name);
        Target { path: record.join("mount"), record, is_block: false }
    }

    fn pod_volumes(&self, uid: &PodUid) -> PathBuf {
        self.paths.pod(uid).join("volumes/kubernetes.io~csi")
    }

    fn pod_devices(&self, uid: &PodUid) -> PathBuf {
        self.paths.pod(uid).join("volumeDevices/kubernetes.io~csi")
    }

    /// Everything that tells of a pod's volumes.
    pub(super) fn targets(&self, uid: &PodUid) -> Vec<Target> {
        let files = children(&self.pod_volumes(uid)).into_iter().map(|record| Target {
            path: record.join("mount"),
            record,
            is_block: false,
        });
        let devices = children(&self.pod_devices(uid)).into_iter().map(|record| {
            let name = record.file_name().unwrap_or_default();
            let path = self.devices().join("publish").join(name).join(&uid.0);
            Target { path, record, is_block: true }
        });
        files.chain(devices).collect()
    }

    /// The volume that a pod's record tells of.
    pub(super) fn load(&self, target: &Target) -> io::Result<Key> {
        let folder = if target.is_block {
            let name = target.record.file_name().unwrap_or_default().to_string_lossy();
            self.block_staging(&name).data
        } else {
            target.record.clone()
        };
        Ok(Data::load(&folder)?.key())
    }

    /// All volumes with a file beside where they are staged.
    pub(super) fn staged(&self) -> Vec<Staged> {
        let mut found = Vec::new();
        for driver in children(&self.root()) {
            if driver.ends_with("volumeDevices") {
                continue;
            }
            for data in children(&driver) {
                let place = Staging { path: data.join("globalmount"), data, block: None };
                found.extend(loaded(place));
            }
        }
        for folder in children(&self.devices()) {
            let name = folder.file_name().unwrap_or_default().to_string_lossy().into_owned();
            if !matches!(name.as_str(), "staging" | "publish") {
                found.extend(loaded(self.block_staging(&name)));
            }
        }
        found
    }

    /// Whether any pod of this node has a record of a staged volume.
    pub(super) fn has_users(&self, staged: &Staged) -> bool {
        self.users(staged).next().is_some()
    }

    /// Whether another pod than this one has a record of a volume.
    pub(super) fn is_used_beside(&self, uid: &PodUid, volume: &CsiVolume) -> bool {
        let staged = Staged { key: volume.key(), place: self.staging(volume) };
        self.users(&staged).any(|it| it != *uid)
    }

    fn users(&self, staged: &Staged) -> impl Iterator<Item = PodUid> {
        let pods = children(&self.paths.pods()).into_iter();
        let uids = pods.filter_map(|it| Some(PodUid(it.file_name()?.to_string_lossy().into())));
        uids.filter(|uid| match &staged.place.block {
            Some(name) => fs::symlink_metadata(self.pod_devices(uid).join(name)).is_ok(),
            None => self
                .targets(uid)
                .iter()
                .any(|it| !it.is_block && self.load(it).is_ok_and(|key| key == staged.key)),
        })
    }
}

fn loaded(place: Staging) -> Option<Staged> {
    Data::load(&place.data).ok().map(|data| Staged { key: data.key(), place })
}

fn children(folder: &Path) -> Vec<PathBuf> {
    fs::read_dir(folder).into_iter().flatten().flatten().map(|it| it.path()).collect()
}

/// Removes an empty folder or file that a driver left. What is mounted, or not empty, is an error:
/// nothing below it is ours.
pub(super) fn remove_left(path: &Path) -> io::Result<()> {
    if is_mounted(path) {
        return Err(io::Error::other(format!("`{}` is still mounted", path.display())));
    }
    let removed = match fs::symlink_metadata(path) {
        Ok(it) if it.is_dir() => fs::remove_dir(path),
        Ok(_) => fs::remove_file(path),
        Err(error) => Err(error),
    };
    match removed {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}
