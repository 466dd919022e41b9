//! Repositories, their images and tags, in the region's store.

use std::{collections::BTreeMap, sync::Arc};

use region_store::{Bucket, CommitError, OpenStoreError, Store};

pub(crate) use crate::records::PolicyRun;
use crate::{
    Digest,
    manifest::{self, Manifest, ManifestError},
    names::RepositoryId,
    records::{Image, Layer, Repository, Upload},
};

/// See the module.
pub(crate) struct Catalog {
    pub(crate) store: Store,
    pub(crate) repositories: Bucket<Repository>,
    images: Bucket<Image>,
    layers: Bucket<Layer>,
    /// `REGISTRY/NAME:TAG` → digest.
    tags: Bucket<Digest>,
    pub(crate) uploads: Bucket<Upload>,
}

/// Why a manifest was not accepted.
#[derive(Debug, thiserror::Error)]
pub(crate) enum PutManifestError {
    #[error("{source}")]
    Manifest {
        #[source]
        source: ManifestError,
    },
    #[error("`{digest}`, which the manifest refers to, is not in the repository")]
    Missing { digest: Digest },
    #[error("tag `{tag}` exists and the repository is immutable")]
    Immutable { tag: String, digest: Digest },
    #[error(transparent)]
    Commit(#[from] CommitError),
}

/// Why an image was not deleted.
#[derive(Debug, thiserror::Error)]
pub(crate) enum DeleteImageError {
    #[error("the image is referenced by the manifest list `{by}`")]
    Listed { by: Digest },
    #[error("a manifest list cannot be read")]
    Unreadable(#[from] std::io::Error),
    #[error(transparent)]
    Commit(#[from] CommitError),
}

impl Catalog {
    pub(crate) fn open(store: &Store) -> Result<Self, OpenStoreError> {
        Ok(Self {
            store: store.clone(),
            repositories: store.bucket("ecr/repositories")?,
            images: store.bucket("ecr/images")?,
            layers: store.bucket("ecr/layers")?,
            tags: store.bucket("ecr/tags")?,
            uploads: store.bucket("ecr/uploads")?,
        })
    }

    pub(crate) fn repository(&self, id: &RepositoryId) -> Option<Arc<Repository>> {
        self.repositories.get(&id.key())
    }

    /// The repository, made if it is not there.
    pub(crate) fn ensure_repository(&self, id: &RepositoryId, now: f64) -> Result<(), CommitError> {
        self.store.transaction(|change| {
            if change.get(&self.repositories, &id.key()).is_none() {
                change.put(&self.repositories, id.key(), repository(id, now));
            }
            Ok(())
        })
    }

    /// Finds a manifest by its digest or tag.
    pub(crate) fn resolve(
        &self,
        id: &RepositoryId,
        reference: &str,
    ) -> Option<(Digest, Arc<Image>)> {
        let digest = match Digest::parse(reference) {
            Some(digest) => digest,
            None => (*self.tags.get(&tag_key(id, reference))?).clone(),
        };
        let image = self.images.get(&digest_key(id, &digest))?;
        Some((digest, image))
    }

    pub(crate) fn layer(&self, id: &RepositoryId, digest: &Digest) -> Option<Arc<Layer>> {
        self.layers.get(&digest_key(id, digest))
    }

    /// A blob whose bytes are on disk becomes part of the repository.
    pub(crate) fn add_layer(
        &self,
        id: &RepositoryId,
        digest: &Digest,
        size: u64,
    ) -> Result<(), CommitError> {
        self.store.transaction(|change| {
            change.put(&self.layers, digest_key(id, digest), Layer { size });
            Ok(())
        })
    }

    /// Takes in a manifest whose bytes are on disk, and points `tag` to it.
    pub(crate) fn put_manifest(
        &self,
        id: &RepositoryId,
        bytes: &[u8],
        media_type: Option<&str>,
        tag: Option<&str>,
        now: f64,
    ) -> Result<Digest, PutManifestError> {
        let manifest = Manifest::read(bytes, media_type)
            .map_err(|source| PutManifestError::Manifest { source })?;
        let digest = Digest::of(bytes);
        self.store.transaction(|change| {
            let mut size = bytes.len() as u64;
            for (blob, _) in &manifest.blobs {
                let found = change.get(&self.layers, &digest_key(id, blob));
                let missing = || PutManifestError::Missing { digest: blob.clone() };
                size += found.ok_or_else(missing)?.size;
            }
            for child in &manifest.manifests {
                if change.get(&self.images, &digest_key(id, child)).is_none() {
                    return Err(PutManifestError::Missing { digest: child.clone() });
                }
            }
            if let Some(tag) = tag {
                let known = change.get(&self.tags, &tag_key(id, tag));
                let repository = change.get(&self.repositories, &id.key());
                let is_immutable = repository.is_some_and(|it| it.is_immutable);
                if let Some(known) = known.filter(|known| is_immutable && **known != digest) {
                    let (tag, digest) = (tag.to_owned(), (*known).clone());
                    return Err(PutManifestError::Immutable { tag, digest });
                }
                change.put(&self.tags, tag_key(id, tag), digest.clone());
            }
            let key = digest_key(id, &digest);
            if change.get(&self.images, &key).is_none() {
                let media_type = manifest.media_type.clone();
                let lists = Some(manifest.manifests.clone());
                change.put(&self.images, key, Image { media_type, size, pushed_at: now, lists });
            }
            Ok(digest.clone())
        })
    }

    /// All images of a repository with their digests, in the order of these.
    pub(crate) fn images(&self, id: &RepositoryId) -> Vec<(Digest, Arc<Image>)> {
        let prefix = format!("{}@", id.key());
        let found = self.images.under(&prefix).into_iter();
        found
            .filter_map(|(key, image)| Some((Digest::parse(&key[prefix.len()..])?, image)))
            .collect()
    }

    /// All tags of a repository with their digests, in the order of their names.
    pub(crate) fn tags(&self, id: &RepositoryId) -> Vec<(String, Arc<Digest>)> {
        let prefix = format!("{}:", id.key());
        let found = self.tags.under(&prefix).into_iter();
        found.map(|(key, digest)| (key[prefix.len()..].to_owned(), digest)).collect()
    }

    pub(crate) fn delete_tag(&self, id: &RepositoryId, tag: &str) -> Result<(), CommitError> {
        self.store.transaction(|change| {
            change.delete(&self.tags, &tag_key(id, tag));
            Ok(())
        })
    }

    /// What the indexes of the repository list, with the index: without it they could not be pulled.
    /// `read` gives what is in a manifest.
    pub(crate) fn listed(
        &self,
        id: &RepositoryId,
        read: &dyn Fn(&Digest) -> std::io::Result<Vec<u8>>,
    ) -> std::io::Result<BTreeMap<Digest, Digest>> {
        let mut listed = BTreeMap::new();
        let images = self.images(id).into_iter();
        for (index, image) in images.filter(|(_, it)| manifest::is_index(&it.media_type)) {
            let parts = match &image.lists {
                Some(parts) => parts.clone(),
                None => {
                    let manifest = Manifest::read(&read(&index)?, None);
                    manifest.map_err(std::io::Error::other)?.manifests
                }
            };
            listed.extend(parts.into_iter().map(|it| (it, index.clone())));
        }
        Ok(listed)
    }

    /// Removes an image and every tag that points to it, unless an index lists it.
    pub(crate) fn delete_image(
        &self,
        id: &RepositoryId,
        digest: &Digest,
        read: &dyn Fn(&Digest) -> std::io::Result<Vec<u8>>,
    ) -> Result<(), DeleteImageError> {
        self.store.transaction(|change| {
            // Nobody else writes here: what is there now is what there is.
            let listed = self.listed(id, read)?;
            if let Some(index) = listed.get(digest) {
                return Err(DeleteImageError::Listed { by: index.clone() });
            }
            let tags = self.tags(id);
            for (tag, _) in tags.iter().filter(|(_, target)| **target == *digest) {
                change.delete(&self.tags, &tag_key(id, tag));
            }
            change.delete(&self.images, &digest_key(id, digest));
            Ok(())
        })
    }

    /// One that is gone meanwhile stays gone.
    pub(crate) fn set_lifecycle(
        &self,
        id: &RepositoryId,
        run: Option<PolicyRun>,
    ) -> Result<(), CommitError> {
        self.store.transaction(|change| {
            change.update(&self.repositories, &id.key(), |it| it.lifecycle = run);
            Ok(())
        })
    }

    /// Notes when a policy was applied, unless another one has taken its place, or none.
    pub(crate) fn note_lifecycle(
        &self,
        id: &RepositoryId,
        applied: &str,
        at: f64,
    ) -> Result<(), CommitError> {
        self.store.transaction(|change| {
            change.update(&self.repositories, &id.key(), |it| {
                if let Some(run) = it.lifecycle.as_mut().filter(|run| run.text == applied) {
                    run.evaluated_at = Some(at);
                }
            });
            Ok(())
        })
    }

    /// Removes a repository with all that is in it.
    pub(crate) fn delete_repository(&self, id: &RepositoryId) -> Result<(), CommitError> {
        let (images, tags) = (self.images(id), self.tags(id));
        let layers = self.layers.under(&format!("{}@", id.key()));
        self.store.transaction(|change| {
            tags.iter().for_each(|(tag, _)| change.delete(&self.tags, &tag_key(id, tag)));
            images.iter().for_each(|(it, _)| change.delete(&self.images, &digest_key(id, it)));
            layers.iter().for_each(|(key, _)| change.delete(&self.layers, key));
            change.delete(&self.repositories, &id.key());
            Ok(())
        })
    }
}

pub(crate) fn repository(id: &RepositoryId, now: f64) -> Repository {
    Repository {
        registry: id.registry.clone(),
        name: id.name.clone(),
        created_at: now,
        is_immutable: false,
        tags: Default::default(),
        policy: None,
        lifecycle: None,
    }
}

fn digest_key(id: &RepositoryId, digest: &Digest) -> String {
    format!("{}@{digest}", id.key())
}

fn tag_key(id: &RepositoryId, tag: &str) -> String {
    format!("{}:{tag}", id.key())
}
