//! Writes single-layer container images as OCI archives: what `nodestead image load`, docker and
//! podman read.
//!
//! The same image always gives the same bytes, so a digest says whether anything changed.
//!
//! Source: OCI image specification 1.0, image-layout.md.

mod layer;

use std::{fs::File, io, path::Path, sync::Arc};

use serde_json::{Value, json};
use sha2::{Digest, Sha256};
use tar::{Builder, Header};

pub use layer::Layer;

const MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";
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
    pub layer: Arc<[u8]>,
}

/// Writes an archive of `images` beside `path` and renames it there. What they share is in it once.
pub fn write(images: &[Image], path: &Path) -> io::Result<()> {
    let temporary = path.with_extension("part");
    let mut archive = Archive { tar: Builder::new(File::create(&temporary)?), written: Vec::new() };
    append(&mut archive.tar, "oci-layout", br#"{"imageLayoutVersion":"1.0.0"}"#)?;
    let manifests = images.iter().map(|it| archive.add(it)).collect::<io::Result<Vec<_>>>()?;
    let index = serde_json::to_vec(&json!({"schemaVersion": 2, "manifests": manifests}))?;
    append(&mut archive.tar, "index.json", &index)?;
    archive.tar.into_inner()?;
    std::fs::rename(temporary, path)
}

struct Archive {
    tar: Builder<File>,
    /// Blobs that are in it, with their digests: images share layers.
    written: Vec<(Arc<[u8]>, String)>,
}

impl Archive {
    /// The image's entry in the index.
    fn add(&mut self, image: &Image) -> io::Result<Value> {
        let layer = self.blob(&image.layer)?;
        let config = Arc::from(serde_json::to_vec(&image.config(&layer))?);
        let config_digest = self.blob(&config)?;
        let (config_type, layer_type) =
            ("application/vnd.oci.image.config.v1+json", "application/vnd.oci.image.layer.v1.tar");
        let manifest = Arc::from(serde_json::to_vec(&json!({
            "schemaVersion": 2,
            "mediaType": MANIFEST,
            "config": descriptor(config_type, &config_digest, &config),
            "layers": [descriptor(layer_type, &layer, &image.layer)],
        }))?);
        let mut entry = descriptor(MANIFEST, &self.blob(&manifest)?, &manifest);
        entry["annotations"] = json!({
            "io.containerd.image.name": image.name,
            "org.opencontainers.image.ref.name": image.name,
        });
        entry["platform"] = json!({"architecture": "amd64", "os": "linux"});
        Ok(entry)
    }

    /// Puts a blob in, unless it is there, and returns its digest.
    fn blob(&mut self, blob: &Arc<[u8]>) -> io::Result<String> {
        if let Some((_, digest)) = self.written.iter().find(|(known, _)| known == blob) {
            return Ok(digest.clone());
        }
        let digest = hex::encode(Sha256::digest(blob));
        append(&mut self.tar, &format!("blobs/sha256/{digest}"), blob)?;
        self.written.push((blob.clone(), digest.clone()));
        Ok(digest)
    }
}

impl Image {
    /// Writes an archive of this image alone.
    pub fn write(&self, path: &Path) -> io::Result<()> {
        write(std::slice::from_ref(self), path)
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

fn descriptor(media_type: &str, digest: &str, blob: &[u8]) -> Value {
    json!({ "mediaType": media_type, "digest": format!("sha256:{digest}"), "size": blob.len() })
}

fn append(tar: &mut Builder<File>, path: &str, data: &[u8]) -> io::Result<()> {
    let mut header = Header::new_gnu();
    header.set_mode(0o644);
    header.set_size(data.len() as u64);
    tar.append_data(&mut header, path, data)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_same_image_gives_the_same_bytes() {
        let folder = tempfile::tempdir().unwrap();
        let image =
            Image { name: "a:1".into(), layer: b"layer".as_slice().into(), ..Image::default() };
        let (one, two) = (folder.path().join("one.tar"), folder.path().join("two.tar"));
        image.write(&one).unwrap();
        image.write(&two).unwrap();
        assert_eq!(std::fs::read(one).unwrap(), std::fs::read(two).unwrap());
    }

    #[test]
    fn images_share_their_layer() {
        let folder = tempfile::tempdir().unwrap();
        let image = |name: &str| Image {
            name: name.to_owned(),
            layer: b"layer".as_slice().into(),
            ..Image::default()
        };
        let path = folder.path().join("both.tar");
        write(&[image("a:1"), image("b:1")], &path).unwrap();
        let mut archive = tar::Archive::new(File::open(path).unwrap());
        let sizes = archive.entries().unwrap().map(|it| it.unwrap().size());
        assert_eq!(sizes.filter(|&it| it == 5).count(), 1);
    }
}
