//! The files of an image in containerd, as a read-only snapshot.
//!
//! CRI cannot mount an image before containerd 2.1; containerd's own services, on the same socket, can
//! show one. Other runtimes answer `Unimplemented`.
//!
//! **Invariant:** a snapshot that was made here is named by its pod and volume, and stays until it is
//! removed by this name, whatever containerd's garbage collection does.

use std::{collections::HashMap, time::Duration};

use api_cri::{Channel, ContentClient, SnapshotsClient, content, snapshots as v1};
use serde_json::Value;
use sha2::{Digest, Sha256};
use tonic::{Code, Request, Status};

use super::Runtime;

/// The namespace in which containerd's CRI plug-in works.
const NAMESPACE: &str = "k8s.io";
const LIMIT: Duration = Duration::from_secs(120);
/// No image's configuration is as long.
const LONGEST: usize = 8 * 1024 * 1024;

#[derive(Debug, thiserror::Error)]
pub(crate) enum SnapshotError {
    #[error("{call}: {message}")]
    Call { call: &'static str, code: Code, message: String },
    #[error("the configuration of image {image} names no layers")]
    NoLayers { image: String },
}

impl SnapshotError {
    /// The runtime is not containerd.
    pub(crate) fn is_unsupported(&self) -> bool {
        matches!(self, Self::Call { code: Code::Unimplemented, .. })
    }
}

/// Cheap to clone.
#[derive(Clone)]
pub(crate) struct Snapshots {
    runtime: Runtime,
    content: ContentClient,
    snapshots: SnapshotsClient,
}

pub(super) fn in_namespace<T>(message: T) -> Request<T> {
    let mut request = Request::new(message);
    let namespace = tonic::metadata::MetadataValue::from_static(NAMESPACE);
    request.metadata_mut().insert("containerd-namespace", namespace);
    request
}

async fn within<T>(
    call: &'static str,
    asked: impl Future<Output = Result<T, Status>>,
) -> Result<T, SnapshotError> {
    let failed =
        |code, message: &str| Err(SnapshotError::Call { call, code, message: message.to_owned() });
    match tokio::time::timeout(LIMIT, asked).await {
        Ok(Ok(reply)) => Ok(reply),
        Ok(Err(status)) => failed(status.code(), status.message()),
        Err(_) => failed(Code::DeadlineExceeded, "context deadline exceeded"),
    }
}

impl Snapshots {
    pub(crate) fn new(runtime: Runtime, channel: Channel) -> Self {
        let content = ContentClient::new(channel.clone());
        Self { runtime, content, snapshots: SnapshotsClient::new(channel) }
    }

    pub(crate) fn runtime(&self) -> &Runtime {
        &self.runtime
    }

    /// How to mount the files of an image, given the digest of its configuration.
    pub(crate) async fn view(
        &self,
        key: &str,
        image: &str,
        now: jiff::Timestamp,
    ) -> Result<Vec<v1::Mount>, SnapshotError> {
        let config = within("Read", self.read(image)).await?;
        let parent =
            chain(&config).ok_or_else(|| SnapshotError::NoLayers { image: image.to_owned() })?;
        let snapshotter = self.snapshotter().await;
        // Not referred to by anything that containerd knows, so it has to be told to keep it.
        let labels = HashMap::from([("containerd.io/gc.root".to_owned(), now.to_string())]);
        let request = v1::ViewSnapshotRequest {
            snapshotter: snapshotter.clone(),
            key: key.to_owned(),
            parent,
            labels,
        };
        let mut client = self.snapshots.clone();
        match within("View", client.view(in_namespace(request))).await {
            Ok(reply) => Ok(reply.into_inner().mounts),
            Err(SnapshotError::Call { code: Code::AlreadyExists, .. }) => {
                let request = v1::MountsRequest { snapshotter, key: key.to_owned() };
                let reply = within("Mounts", client.mounts(in_namespace(request))).await?;
                Ok(reply.into_inner().mounts)
            }
            Err(error) => Err(error),
        }
    }

    /// Nothing there is no error.
    pub(crate) async fn remove(&self, key: &str) -> Result<(), SnapshotError> {
        let snapshotter = self.snapshotter().await;
        let request = v1::RemoveSnapshotRequest { snapshotter, key: key.to_owned() };
        let mut client = self.snapshots.clone();
        match within("Remove", client.remove(in_namespace(request))).await {
            Ok(_) | Err(SnapshotError::Call { code: Code::NotFound, .. }) => Ok(()),
            Err(error) => Err(error),
        }
    }

    async fn read(&self, digest: &str) -> Result<Vec<u8>, Status> {
        let request = content::ReadContentRequest { digest: digest.to_owned(), offset: 0, size: 0 };
        let mut parts = self.content.clone().read(in_namespace(request)).await?.into_inner();
        let mut all = Vec::new();
        while let Some(part) = parts.message().await? {
            all.extend(part.data);
            if all.len() > LONGEST {
                return Err(Status::out_of_range("the content is too long"));
            }
        }
        Ok(all)
    }

    /// The snapshotter that containers use.
    async fn snapshotter(&self) -> String {
        let info = self.runtime.info().await.unwrap_or_default();
        let config = info.get("config").and_then(|it| serde_json::from_str::<Value>(it).ok());
        let named = config.as_ref().and_then(|it| it["containerd"]["snapshotter"].as_str());
        named.filter(|it| !it.is_empty()).unwrap_or("overlayfs").to_owned()
    }
}

/// The name of the snapshot that holds all layers of an image, from the image's configuration.
fn chain(config: &[u8]) -> Option<String> {
    let config: Value = serde_json::from_slice(config).ok()?;
    let layers = config["rootfs"]["diff_ids"].as_array()?;
    layers.iter().filter_map(Value::as_str).map(str::to_owned).reduce(|below, layer| {
        let sum = Sha256::digest(format!("{below} {layer}"));
        let hex: String = sum.iter().map(|byte| format!("{byte:02x}")).collect();
        format!("sha256:{hex}")
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_chain_is_named_by_all_layers_below() {
        let of = |layers: &[&str]| {
            chain(serde_json::json!({ "rootfs": { "diff_ids": layers } }).to_string().as_bytes())
        };
        assert_eq!(of(&["sha256:a"]).as_deref(), Some("sha256:a"));
        let two = of(&["sha256:a", "sha256:b"]).unwrap();
        assert_ne!(two, of(&["sha256:b", "sha256:a"]).unwrap());
        assert_eq!(two.len(), "sha256:".len() + 64);
        assert_eq!(of(&[]), None);
        assert_eq!(chain(b"no json"), None);
    }
}
