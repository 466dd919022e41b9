//! The data directory: what lies where, and the settings that a region was brought up with.

use std::{
    fs,
    io::{self, Write},
    os::unix::fs::OpenOptionsExt,
    path::{Path, PathBuf},
};

use anyhow::Context;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use crate::failure::Failure;

/// A data directory's paths. Cheap to clone.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Layout {
    root: PathBuf,
}

impl Layout {
    /// `root` need not exist; the same folder always gives the same [`Layout::id`].
    pub(crate) fn new(root: &Path) -> io::Result<Self> {
        let absolute = std::path::absolute(root)?;
        // Components, so that a final slash makes no other folder of it.
        let plain = absolute.components().collect();
        Ok(Self { root: fs::canonicalize(&absolute).unwrap_or(plain) })
    }

    pub(crate) fn root(&self) -> &Path {
        &self.root
    }

    /// Six hexadecimal digits that tell this region's namespaces, links and cgroups from those of
    /// another region on the same machine.
    pub(crate) fn id(&self) -> String {
        let digest = Sha256::digest(self.root.as_os_str().as_encoded_bytes());
        hex::encode(&digest[..3])
    }

    pub(crate) fn settings(&self) -> PathBuf {
        self.root.join("settings.json")
    }

    pub(crate) fn admin_socket(&self) -> PathBuf {
        self.root.join("admin.sock")
    }

    pub(crate) fn daemon_log(&self) -> PathBuf {
        self.root.join("daemon.log")
    }

    pub(crate) fn daemon_state(&self) -> PathBuf {
        self.root.join("daemon.json")
    }

    pub(crate) fn lock(&self) -> PathBuf {
        self.root.join("lock")
    }

    pub(crate) fn kubeconfig(&self) -> PathBuf {
        self.root.join("kubeconfig")
    }

    pub(crate) fn binaries(&self) -> PathBuf {
        self.root.join("bin")
    }

    pub(crate) fn instances(&self) -> PathBuf {
        self.root.join("instances")
    }

    /// What the consoles of terminated instances have shown.
    pub(crate) fn consoles(&self) -> PathBuf {
        self.root.join("consoles")
    }

    pub(crate) fn amis(&self) -> PathBuf {
        self.root.join("ami")
    }

    /// Root file systems that users have brought.
    pub(crate) fn snapshots(&self) -> PathBuf {
        self.amis().join("snapshots")
    }

    pub(crate) fn clusters(&self) -> PathBuf {
        self.root.join("clusters")
    }

    pub(crate) fn region_store(&self) -> PathBuf {
        self.root.join("region.redb")
    }

    /// The root user's access key.
    pub(crate) fn root_key(&self) -> PathBuf {
        self.root.join("root-key.json")
    }

    pub(crate) fn registry(&self) -> PathBuf {
        self.root.join("registry")
    }

    pub(crate) fn pki(&self) -> PathBuf {
        self.root.join("pki")
    }

    pub(crate) fn aws_log(&self) -> PathBuf {
        self.root.join("aws.jsonl")
    }

    /// What the log of AWS calls becomes when it is full.
    pub(crate) fn aws_log_before(&self) -> PathBuf {
        self.aws_log().with_extension("1")
    }
}

/// What `up` was asked for; kept, so that a second `up` without flags means the same region.
#[derive(Clone, Debug, Deserialize, PartialEq, Eq, Serialize)]
pub(crate) struct Settings {
    pub(crate) name: String,
    pub(crate) nodes: u32,
    pub(crate) instance_type: String,
    pub(crate) aws_port: u16,
    pub(crate) api_port: u16,
    pub(crate) egress: bool,
    /// Who answers AWS calls that the region does not serve.
    #[serde(default)]
    pub(crate) proxy_unowned: Option<String>,
    #[serde(default)]
    pub(crate) latency: latency::Profile,
    /// What the market of Spot Instances follows from; without, its capacity has no end.
    #[serde(default)]
    pub(crate) spot_seed: Option<u64>,
    /// Where clusters' state is, if not in the data directory.
    #[serde(default)]
    pub(crate) etcd: Option<Etcd>,
    /// Parts of the control plane whose work others do.
    #[serde(default)]
    pub(crate) without: Vec<String>,
}

/// A region's place in an etcd cluster.
#[derive(Clone, Debug, Deserialize, PartialEq, Eq, Serialize)]
pub(crate) struct Etcd {
    pub(crate) endpoints: Vec<String>,
    pub(crate) ca_file: Option<PathBuf>,
    pub(crate) cert_file: Option<PathBuf>,
    pub(crate) key_file: Option<PathBuf>,
    /// Before every key of the region: drawn when it is first brought up, so that regions of many
    /// machines can share one etcd.
    pub(crate) prefix: String,
}

impl Etcd {
    /// The part of etcd below `name`: a cluster, or the whole region for an empty one.
    pub(crate) fn config(&self, name: &str) -> anyhow::Result<mvcc::EtcdConfig> {
        let read = |path: &PathBuf| {
            fs::read_to_string(path).with_context(|| format!("cannot read `{}`", path.display()))
        };
        let identity = match (&self.cert_file, &self.key_file) {
            (Some(certificate), Some(key)) => Some(transport::tls::Identity {
                certificate_pem: read(certificate)?,
                key_pem: read(key)?,
            }),
            _ => None,
        };
        let ca_pem = self.ca_file.as_ref().map(read).transpose()?;
        let folder = if name.is_empty() { String::new() } else { format!("{name}/") };
        Ok(mvcc::EtcdConfig {
            endpoints: self.endpoints.clone(),
            tls: ca_pem.map(|ca_pem| mvcc::Tls { ca_pem, identity }),
            prefix: format!("{}/{folder}", self.prefix),
        })
    }
}

impl Settings {
    pub(crate) fn load(layout: &Layout) -> anyhow::Result<Option<Self>> {
        let path = layout.settings();
        let text = match fs::read_to_string(&path) {
            Ok(text) => text,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) if error.kind() == io::ErrorKind::InvalidData => String::new(),
            Err(error) => return Err(error).context(format!("cannot read `{}`", path.display())),
        };
        serde_json::from_str(&text).map(Some).map_err(|error| {
            let next = "put a copy of it back, or remove the region and its state with `nodestead down \
                        --purge`";
            Failure::new(format!("`{}` is damaged ({error})", path.display()), next).into()
        })
    }

    pub(crate) fn save(&self, layout: &Layout) -> anyhow::Result<()> {
        write_atomically(&layout.settings(), &serde_json::to_vec_pretty(self)?)
    }
}

/// Writes beside the file and renames, so that a reader sees the old or the new content. Nobody but
/// the owner may read it, at no time.
pub(crate) fn write_atomically(path: &Path, content: &[u8]) -> anyhow::Result<()> {
    let temporary = path.with_extension("part");
    private(&temporary)
        .and_then(|mut file| file.write_all(content))
        .and_then(|()| fs::rename(&temporary, path))
        .with_context(|| format!("cannot write `{}`", path.display()))
}

/// An empty file that only its owner may read, made anew: one that is there may be anyone's.
fn private(path: &Path) -> io::Result<fs::File> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    fs::File::options().write(true).create_new(true).mode(0o600).open(path)
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    #[test]
    fn what_is_written_is_its_owners_alone() {
        let folder = tempfile::tempdir().unwrap();
        let (path, part) = (folder.path().join("ca.key"), folder.path().join("ca.part"));
        // Left by a run that was killed, and readable by all.
        fs::write(&part, "old").unwrap();
        write_atomically(&path, b"key").unwrap();
        assert_eq!(fs::read(&path).unwrap(), b"key");
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        assert!(!part.exists());
    }

    #[test]
    fn two_data_directories_have_two_ids_and_one_has_one() {
        let a = Layout::new(Path::new("/var/lib/a")).unwrap();
        let b = Layout::new(Path::new("/var/lib/b")).unwrap();
        assert_ne!(a.id(), b.id());
        assert_eq!(a.id(), Layout::new(Path::new("/var/lib/a/")).unwrap().id());
        assert_eq!(a.id().len(), 6);
    }
}
