//! Why volumes of a pod could not be made or taken away, in upstream's words.

use std::{io, path::PathBuf};

use k8s_openapi::api::core::v1::Volume;
use tokio::time::Instant;

use super::{csi, node_affinity};
use crate::{downward::FieldError, objects::ReadObjectError};

#[derive(Debug, thiserror::Error)]
pub(crate) enum MountVolumeError {
    #[error(transparent)]
    Object(ReadObjectError),
    #[error("{text}: {key}")]
    NoKey { text: &'static str, key: String },
    #[error(transparent)]
    Field(FieldError),
    #[error("failed to fetch token: {message}")]
    Token { message: String },
    #[error("hostPath type check failed: {path} {problem}")]
    HostPath { path: String, problem: &'static str },
    #[error("`{path}` is no path inside of a volume")]
    BadPath { path: String },
    #[error("{0}")]
    Text(String),
    #[error("failed to {action} `{}`: {source}", path.display())]
    Io {
        action: &'static str,
        path: PathBuf,
        #[source]
        source: io::Error,
    },
}

/// Why a pod has not all of its volumes.
#[derive(Debug, Default)]
pub(crate) struct Unmounted {
    /// What is to be told. Of a volume that was not tried now there is nothing.
    pub errors: Vec<MountError>,
    /// When the next one is tried; `None` where that is up to who asks.
    pub again: Option<Instant>,
}

/// A volume that could not be made, as it is told in the pod's events.
#[derive(Debug, thiserror::Error)]
pub(crate) enum MountError {
    #[error(
        "Unable to attach or mount volumes: unmounted volumes=[{volume}], unattached volumes=[], failed to process volumes=[{volume}]: {message}"
    )]
    Process { volume: String, message: String },
    #[error(
        "Unable to attach or mount volumes: unmounted volumes=[{volume}], unattached volumes=[{volume}], failed to process volumes=[]: {message}"
    )]
    Unattached { volume: String, message: String },
    /// The pod cannot run on this node.
    #[error(
        "Node has reached its volume attachment limit, rejecting pod: unmounted volumes=[{volume}], unattached volumes=[{volume}], failed to process volumes=[]"
    )]
    LimitExceeded { volume: String },
    #[error("{step} failed for volume \"{volume}\" : {source}")]
    Step {
        step: &'static str,
        volume: String,
        #[source]
        source: MountVolumeError,
    },
}

impl MountError {
    /// The reason of its event.
    pub(crate) fn reason(&self) -> &'static str {
        match self {
            Self::Step { step: node_affinity::OF_DEVICE, .. } => "FailedMount",
            Self::Step { step, .. } if step.starts_with("MapVolume") => "FailedMapVolume",
            Self::LimitExceeded { .. } => "VolumeAttachmentLimitExceeded",
            _ => "FailedMount",
        }
    }

    /// Whether no other try can help: the pod has to go elsewhere.
    pub(crate) fn is_final(&self) -> bool {
        matches!(self, Self::LimitExceeded { .. })
    }

    /// Whether the volume is tried again later and later. Whoever waits for a claim, or for an attachment,
    /// asks all the time.
    pub(super) fn is_paced(&self) -> bool {
        matches!(self, Self::Step { .. })
    }

    pub(super) fn process(volume: &Volume, error: impl ToString) -> Self {
        Self::Process { volume: volume.name.clone(), message: error.to_string() }
    }
}

#[derive(Debug, thiserror::Error)]
pub(crate) enum UnmountError {
    #[error(transparent)]
    Csi(csi::UnpublishError),
    #[error(transparent)]
    Io(#[from] io::Error),
}
