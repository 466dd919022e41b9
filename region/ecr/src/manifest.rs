//! What a manifest refers to.

use serde_json::Value;

use crate::Digest;

pub(crate) const OCI_MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";
pub(crate) const OCI_INDEX: &str = "application/vnd.oci.image.index.v1+json";
const DOCKER_MANIFEST: &str = "application/vnd.docker.distribution.manifest.v2+json";
const DOCKER_LIST: &str = "application/vnd.docker.distribution.manifest.list.v2+json";

/// A manifest, read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Manifest {
    pub(crate) media_type: String,
    /// Configuration and layers, with their sizes.
    pub(crate) blobs: Vec<(Digest, u64)>,
    /// The manifests of an index.
    pub(crate) manifests: Vec<Digest>,
}

/// Why it is none.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ManifestError {
    #[error("the manifest is not JSON")]
    NotJson,
    #[error("`{media_type}` is not a supported manifest type")]
    MediaType { media_type: String },
    #[error("the manifest refers to something that is not a sha256 digest")]
    Reference,
}

impl Manifest {
    /// `declared` is the type that came along; the manifest's own counts more.
    pub(crate) fn read(bytes: &[u8], declared: Option<&str>) -> Result<Self, ManifestError> {
        let json: Value = serde_json::from_slice(bytes).map_err(|_| ManifestError::NotJson)?;
        let own = json.get("mediaType").and_then(Value::as_str);
        let declared = declared.filter(|it| known(it).is_some());
        let is_index = json.get("manifests").is_some_and(Value::is_array);
        let fallback = if is_index { OCI_INDEX } else { OCI_MANIFEST };
        let media_type = own.or(declared).unwrap_or(fallback).to_owned();
        let Some(wants_index) = known(&media_type) else {
            return Err(ManifestError::MediaType { media_type });
        };
        if wants_index {
            let manifests = references(&json["manifests"])?;
            let manifests = manifests.into_iter().map(|(digest, _)| digest).collect();
            return Ok(Self { media_type, blobs: Vec::new(), manifests });
        }
        let mut blobs = vec![reference(&json["config"])?];
        blobs.extend(references(&json["layers"])?);
        Ok(Self { media_type, blobs, manifests: Vec::new() })
    }
}

/// Whether a manifest of the type lists others.
pub(crate) fn is_index(media_type: &str) -> bool {
    known(media_type) == Some(true)
}

/// Whether the type is an index's; `None` when it is no manifest's at all.
fn known(media_type: &str) -> Option<bool> {
    match media_type {
        OCI_MANIFEST | DOCKER_MANIFEST => Some(false),
        OCI_INDEX | DOCKER_LIST => Some(true),
        _ => None,
    }
}

fn references(list: &Value) -> Result<Vec<(Digest, u64)>, ManifestError> {
    list.as_array().into_iter().flatten().map(reference).collect()
}

fn reference(descriptor: &Value) -> Result<(Digest, u64), ManifestError> {
    let digest = descriptor.get("digest").and_then(Value::as_str).and_then(Digest::parse);
    let size = descriptor.get("size").and_then(Value::as_u64).unwrap_or(0);
    Ok((digest.ok_or(ManifestError::Reference)?, size))
}
