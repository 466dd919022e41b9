//! ECR: its API, and the OCI registry that container runtimes pull from.
//!
//! Manifests and layers are files by digest; names, tags and repositories are in the region's
//! store. The registry knows ECR's own hosts (`ACCOUNT.dkr.ecr.REGION.amazonaws.com`), where every
//! request is decided on by IAM, and the names of other registries, whose images were loaded from
//! archives and are public inside of the region.
//!
//! **Invariant:** a name points to a manifest only after all that the manifest refers to is on
//! disk.
//! Deviation: deleting an image frees its names, not its bytes on disk. Repository policies hold
//! at the registry; the API's own calls are decided on by identity policies alone.

mod api;
mod archive;
mod blobs;
mod catalog;
mod digest;
mod expiry;
mod faults;
mod manifest;
mod names;
mod records;
mod registry;
mod tokens;

use std::{path::Path, sync::Arc};

use clock::Clock;
use lifecycle::Scope;
use region_gateway::{Gateway, Side};
use region_store::{OpenStoreError, Store};

pub use self::{archive::ImportError, digest::Digest, registry::RegistryService};
use self::{blobs::Blobs, catalog::Catalog, tokens::Tokens};

/// What the service is made of.
pub struct Config {
    pub account: String,
    pub region: String,
    /// Decides on pulls and pushes, knows the sessions behind passwords, and keeps the log.
    pub gateway: Gateway,
    pub clock: Clock,
    /// The owner of running downloads.
    pub scope: Scope,
}

/// See the crate. Handlers of the API's operations are implemented on it.
pub struct Ecr {
    pub(crate) config: Config,
    pub(crate) catalog: Catalog,
    pub(crate) blobs: Blobs,
    pub(crate) tokens: Tokens,
}

/// Why the registry could not be opened.
#[derive(Debug, thiserror::Error)]
pub enum OpenEcrError {
    #[error("failed to open the registry's records")]
    Records {
        #[source]
        source: OpenStoreError,
    },
    #[error("failed to write the registry's first records")]
    Write {
        #[source]
        source: region_store::CommitError,
    },
    #[error("failed to make the registry's folder `{folder}`")]
    Folder {
        folder: String,
        #[source]
        source: std::io::Error,
    },
}

impl Ecr {
    /// Opens the registry whose blobs are below `folder`.
    pub fn open(config: Config, store: &Store, folder: &Path) -> Result<Arc<Self>, OpenEcrError> {
        let blobs = Blobs::open(folder).map_err(|source| OpenEcrError::Folder {
            folder: folder.display().to_string(),
            source,
        })?;
        let catalog = Catalog::open(store).map_err(|source| OpenEcrError::Records { source })?;
        let tokens = Tokens::open(store)?;
        Ok(Arc::new(Self { config, catalog, blobs, tokens }))
    }

    /// The registry as an HTTP service for all of its hosts.
    pub fn registry(self: &Arc<Self>, side: Side) -> RegistryService {
        RegistryService::new(self.clone(), side)
    }

    fn now(&self) -> f64 {
        seconds(self.config.clock.now())
    }
}

/// Seconds since 1970, as json-1.1 writes dates.
fn seconds(at: jiff::Timestamp) -> f64 {
    at.as_duration().as_secs_f64()
}
