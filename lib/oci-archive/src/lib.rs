//! Writes single-layer container images as OCI archives: what `nodestead image load`, docker and
//! podman read.
//!
//! The same image always gives the same bytes, so a digest says whether anything changed.
//!
//! Source: OCI image specification 1.0, image-layout.md.

mod layer;

use std::{fs::File, io, path::Path};

use serde_json::{Value, json};
use sha2::{Digest, Sha256};
use tar::{Builder, Header};

pub use layer::Layer;

const PATH: &str = "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// An image for linux/amd64 with one uncompressed layer.
#[derive(Clone, Debug, Default)]
pub struct Image {
    /// `docker.io/library/redis:7.0`.
    pub name: String,
    pub entrypoint: Vec<String>,
    pub cmd: Vec<String>,
    /// `UID:GID`; empty is root.
    pub user: String,
    /// The layer: a tar archive.
    pub layer: Vec<u8>,
}

impl Image {
    /// Writes the archive beside `path` and renames it there.
    pub fn write(&self, path: &Path) -> io::Result<()> {
        let temporary = path.with_extension("part");
        let mut tar = Builder::new(File::create(&temporary)?);
        let layer = digest(&self.layer);
        let config = serde_json::to_vec(&self.config(&layer))?;
        let manifest = serde_json::to_vec(&json!({
            "schemaVersion": 2,
            "mediaType": "application/vnd.oci.image.manifest.v1+json",
            "config": descriptor("application/vnd.oci.image.config.v1+json", &config),
            "layers": [descriptor("application/vnd.oci.image.layer.v1.tar", &self.layer)],
        }))?;
        append(&mut tar, "oci-layout", br#"{"imageLayoutVersion":"1.0.0"}"#)?;
        append(&mut tar, "index.json", &serde_json::to_vec(&self.index(&manifest))?)?;
        for blob in [manifest.as_slice(), config.as_slice(), self.layer.as_slice()] {
            append(&mut tar, &format!("blobs/sha256/{}", digest(blob)), blob)?;
        }
        tar.into_inner()?.sync_all()?;
        std::fs::rename(temporary, path)
    }

    fn index(&self, manifest: &[u8]) -> Value {
        let mut entry = descriptor("application/vnd.oci.image.manifest.v1+json", manifest);
        entry["annotations"] = json!({
            "io.containerd.image.name": self.name,
            "org.opencontainers.image.ref.name": self.name,
        });
        entry["platform"] = json!({"architecture": "amd64", "os": "linux"});
        json!({"schemaVersion": 2, "manifests": [entry]})
    }

    fn config(&self, layer: &str) -> Value {
        json!({
            "architecture": "amd64",
            "os": "linux",
            "config": {
                "Env": [PATH],
                "Entrypoint": self.entrypoint,
                "Cmd": self.cmd,
                "User": self.user,
                "WorkingDir": "/",
            },
            "rootfs": {"type": "layers", "diff_ids": [format!("sha256:{layer}")]},
        })
    }
}

fn descriptor(media_type: &str, blob: &[u8]) -> Value {
    json!({
        "mediaType": media_type,
        "digest": format!("sha256:{}", digest(blob)),
        "size": blob.len(),
    })
}

fn append(tar: &mut Builder<File>, path: &str, data: &[u8]) -> io::Result<()> {
    let mut header = Header::new_gnu();
    header.set_mode(0o644);
    header.set_size(data.len() as u64);
    tar.append_data(&mut header, path, data)
}

fn digest(blob: &[u8]) -> String {
    hex::encode(Sha256::digest(blob))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_same_image_gives_the_same_bytes() {
        let folder = tempfile::tempdir().unwrap();
        let image = Image { name: "a:1".into(), layer: b"layer".to_vec(), ..Image::default() };
        let (one, two) = (folder.path().join("one.tar"), folder.path().join("two.tar"));
        image.write(&one).unwrap();
        image.write(&two).unwrap();
        assert_eq!(std::fs::read(one).unwrap(), std::fs::read(two).unwrap());
    }
}
