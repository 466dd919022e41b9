//! Images from archives: OCI layouts and what `docker save` writes.
//!
//! What is wrong with an archive is told from what is wrong with this machine
//! ([`ImportError::is_of_archive`]): whoever made the former can mend it. The archive is read once, front to back. Each file goes to disk under its digest; afterwards
//! the archive's index says which of them are images, and by what names.

use std::{
    cell::Cell,
    collections::{BTreeMap, BTreeSet},
    io::{self, BufReader, Read},
};

use flate2::read::MultiGzDecoder;
use region_store::CommitError;
use serde_json::{Value, json};

use crate::{
    Digest, Ecr,
    blobs::StoreError,
    catalog::PutManifestError,
    manifest::{self, Manifest, ManifestError},
    names::{self, RepositoryId},
};

const GZIP: [u8; 2] = [0x1f, 0x8b];

/// Why an archive was not taken in.
#[derive(Debug, thiserror::Error)]
pub enum ImportError {
    #[error("failed to read the archive's file")]
    Read {
        #[source]
        source: io::Error,
    },
    #[error("failed to keep or read the archive's content in the registry")]
    Blobs {
        #[source]
        source: io::Error,
    },
    #[error("the archive is cut off or broken: {reason}")]
    Broken { reason: String },
    #[error("it is no archive of images: tar cannot read it, or gzip cannot unpack it")]
    NotAnArchive,
    #[error("the archive holds neither an OCI layout (`index.json`) nor `manifest.json`")]
    NoImages,
    #[error("`{file}` of the archive is not readable")]
    Malformed { file: String },
    #[error("`{file}`, which the archive's index refers to, is not in the archive")]
    Missing { file: String },
    #[error("the content of `{file}` does not have the digest of its name")]
    Digest { file: String },
    #[error("`{name}` is not an image name")]
    Name { name: String },
    #[error("the archive's images have no names")]
    Unnamed,
    #[error("a manifest of the archive is not usable")]
    Manifest {
        #[source]
        source: ManifestError,
    },
    #[error("the image `{name}` was not accepted: {reason}")]
    Refused { name: String, reason: String },
    #[error("failed to write to the region's state")]
    Commit {
        #[source]
        source: CommitError,
    },
}

impl ImportError {
    /// Whether the archive is to blame, and not the machine that is to take it in.
    pub fn is_of_archive(&self) -> bool {
        !matches!(self, Self::Read { .. } | Self::Blobs { .. } | Self::Commit { .. })
    }
}

/// The archive's file. What tar and gzip make of its bytes fails in the same way as reading them does:
/// this remembers whether it was the latter.
struct Watched<'a, R> {
    inner: R,
    failed: &'a Cell<Option<io::ErrorKind>>,
}

impl<R: Read> Read for Watched<'_, R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let result = self.inner.read(buffer);
        match &result {
            Err(error) if error.kind() != io::ErrorKind::Interrupted => {
                self.failed.set(Some(error.kind()));
            }
            _ => {}
        }
        result
    }
}

/// The archive's files: path → digest, size, and whether it is gzip.
#[derive(Default)]
struct Files(BTreeMap<String, (Digest, u64, bool)>);

/// An image of the archive: its top manifest and its names.
struct Found {
    digest: Digest,
    names: BTreeSet<String>,
}

impl Ecr {
    /// Takes in all images of an archive, and returns their names in full
    /// (`docker.io/library/nginx:1.27`). Blocks.
    pub fn import_archive(&self, reader: impl Read) -> Result<Vec<String>, ImportError> {
        let files = self.unpack(reader)?;
        let mut found = self.layout_images(&files)?;
        if found.iter().all(|image| image.names.is_empty()) {
            let saved = self.saved_images(&files)?;
            if saved.is_empty() && files.0.contains_key("index.json") {
                return Err(ImportError::Unnamed);
            }
            found = saved;
        }
        if found.is_empty() {
            return Err(ImportError::NoImages);
        }
        let mut names = Vec::new();
        for image in found {
            for name in &image.names {
                names.push(self.name_image(&image.digest, name)?);
            }
        }
        if names.is_empty() { Err(ImportError::Unnamed) } else { Ok(names) }
    }

    fn unpack(&self, reader: impl Read) -> Result<Files, ImportError> {
        let has_failed = Cell::new(None);
        let failed = |source: io::Error| match has_failed.get() {
            Some(_) => ImportError::Read { source },
            None => ImportError::Broken { reason: source.to_string() },
        };
        let watched = Watched { inner: reader, failed: &has_failed };
        let mut archive = tar::Archive::new(unzipped(watched).map_err(failed)?);
        let mut files = Files::default();
        let mut is_archive = false;
        for entry in archive.entries().map_err(failed)? {
            // What fails at once is of another kind; what fails later is broken, and says at what.
            let mut entry = match entry {
                Err(_) if !is_archive && has_failed.get().is_none() => {
                    return Err(ImportError::NotAnArchive);
                }
                entry => entry.map_err(failed)?,
            };
            is_archive = true;
            let path = entry.path().map_err(failed)?.to_string_lossy().into_owned();
            let path = path.trim_start_matches("./").to_owned();
            match entry.header().entry_type() {
                tar::EntryType::Regular => {}
                tar::EntryType::Symlink | tar::EntryType::Link => {
                    // Older versions of `docker save` link layers that occur twice.
                    let target = entry.link_name().map_err(failed)?.unwrap_or_default();
                    let target = resolve(&path, &target.to_string_lossy());
                    if let Some(known) = files.0.get(&target).cloned() {
                        files.0.insert(path, known);
                    }
                    continue;
                }
                _ => continue,
            }
            let mut head = [0; 2];
            let count = read_up_to(&mut entry, &mut head).map_err(failed)?;
            let mut whole = head[..count].chain(&mut entry);
            let stored = self.blobs.store(&mut whole).map_err(|error| match error {
                StoreError::Read { source } => failed(source),
                StoreError::Write { source } => ImportError::Blobs { source },
            });
            let (digest, size) = stored?;
            let is_mislabelled =
                path.strip_prefix("blobs/sha256/").is_some_and(|name| name != digest.hex());
            if is_mislabelled {
                return Err(ImportError::Digest { file: path });
            }
            files.0.insert(path, (digest, size, head == GZIP));
        }
        Ok(files)
    }

    /// The images of `index.json`, with the names that its annotations give.
    fn layout_images(&self, files: &Files) -> Result<Vec<Found>, ImportError> {
        let Some(index) = self.json(files, "index.json")? else { return Ok(Vec::new()) };
        let mut found = Vec::new();
        for entry in index["manifests"].as_array().into_iter().flatten() {
            let digest = entry["digest"].as_str().and_then(Digest::parse);
            let malformed = || ImportError::Malformed { file: "index.json".into() };
            let digest = digest.ok_or_else(malformed)?;
            let annotation = |key: &str| entry["annotations"][key].as_str().map(str::to_owned);
            // containerd's annotation is a whole name; the specification's may be a tag alone.
            let name = annotation("io.containerd.image.name").or_else(|| {
                annotation("org.opencontainers.image.ref.name")
                    .filter(|name| name.contains('/') || name.contains(':'))
            });
            found.push(Found { digest, names: name.into_iter().collect() });
        }
        Ok(found)
    }

    /// The images of `manifest.json`, each with a manifest made of its parts.
    fn saved_images(&self, files: &Files) -> Result<Vec<Found>, ImportError> {
        let Some(list) = self.json(files, "manifest.json")? else { return Ok(Vec::new()) };
        let mut found = Vec::new();
        for image in list.as_array().into_iter().flatten() {
            let config = image["Config"].as_str().unwrap_or_default();
            let (config, size, _) = files.need(config)?;
            let mut layers = Vec::new();
            for path in image["Layers"].as_array().into_iter().flatten() {
                let (digest, size, is_gzip) = files.need(path.as_str().unwrap_or_default())?;
                let kind = if is_gzip { "tar+gzip" } else { "tar" };
                layers.push(json!({
                    "mediaType": format!("application/vnd.oci.image.layer.v1.{kind}"),
                    "digest": digest.as_str(), "size": size,
                }));
            }
            let manifest = json!({
                "schemaVersion": 2,
                "mediaType": manifest::OCI_MANIFEST,
                "config": {
                    "mediaType": "application/vnd.oci.image.config.v1+json",
                    "digest": config.as_str(), "size": size,
                },
                "layers": layers,
            });
            let bytes = manifest.to_string().into_bytes();
            let stored = self.blobs.store(&mut &bytes[..]);
            let (digest, _) = stored.map_err(|it| ImportError::Blobs { source: it.into() })?;
            let tags = image["RepoTags"].as_array().into_iter().flatten();
            let names = tags.filter_map(Value::as_str).map(str::to_owned).collect();
            found.push(Found { digest, names });
        }
        Ok(found)
    }

    fn json(&self, files: &Files, path: &str) -> Result<Option<Value>, ImportError> {
        let Some((digest, _, _)) = files.0.get(path) else { return Ok(None) };
        let bytes = self.blobs.read(digest).map_err(|source| ImportError::Blobs { source })?;
        let malformed = |_| ImportError::Malformed { file: path.to_owned() };
        serde_json::from_slice(&bytes).map(Some).map_err(malformed)
    }

    /// Puts an image whose blobs are on disk into the repository of its name.
    fn name_image(&self, digest: &Digest, name: &str) -> Result<String, ImportError> {
        let parsed = names::parse_image(name);
        let (id, tag) = parsed.ok_or_else(|| ImportError::Name { name: name.to_owned() })?;
        let now = self.now();
        let commit = |source| ImportError::Commit { source };
        self.catalog.ensure_repository(&id, now).map_err(commit)?;
        self.add_manifest(&id, digest, Some(&tag))?;
        Ok(format!("{}:{tag}", id.key()))
    }

    fn add_manifest(
        &self,
        id: &RepositoryId,
        digest: &Digest,
        tag: Option<&str>,
    ) -> Result<(), ImportError> {
        let missing = |digest: &Digest| ImportError::Missing { file: digest.to_string() };
        let bytes = self.blobs.read(digest).map_err(|source| match source.kind() {
            io::ErrorKind::NotFound => missing(digest),
            _ => ImportError::Blobs { source },
        })?;
        let manifest =
            Manifest::read(&bytes, None).map_err(|source| ImportError::Manifest { source })?;
        for (blob, _) in &manifest.blobs {
            let size = self.blobs.size(blob).ok_or_else(|| missing(blob))?;
            let added = self.catalog.add_layer(id, blob, size);
            added.map_err(|source| ImportError::Commit { source })?;
        }
        for child in &manifest.manifests {
            self.add_manifest(id, child, None)?;
        }
        let put = self.catalog.put_manifest(id, &bytes, None, tag, self.now());
        match put {
            Ok(_) => Ok(()),
            Err(PutManifestError::Commit(source)) => Err(ImportError::Commit { source }),
            Err(error) => Err(ImportError::Refused { name: id.key(), reason: error.to_string() }),
        }
    }
}

impl Files {
    fn need(&self, path: &str) -> Result<(Digest, u64, bool), ImportError> {
        let found = self.0.get(path).cloned();
        found.ok_or_else(|| ImportError::Missing { file: path.to_owned() })
    }
}

/// The archive itself may be compressed.
fn unzipped<'a>(reader: impl Read + 'a) -> io::Result<Box<dyn Read + 'a>> {
    let mut reader = BufReader::with_capacity(1 << 20, reader);
    let mut head = [0; 2];
    let count = read_up_to(&mut reader, &mut head)?;
    let whole = io::Cursor::new(head[..count].to_vec()).chain(reader);
    Ok(if head == GZIP { Box::new(MultiGzDecoder::new(whole)) } else { Box::new(whole) })
}

fn read_up_to(reader: &mut impl Read, buffer: &mut [u8]) -> io::Result<usize> {
    let mut count = 0;
    while count < buffer.len() {
        match reader.read(&mut buffer[count..])? {
            0 => break,
            more => count += more,
        }
    }
    Ok(count)
}

/// The path that a link in the archive means. It is only looked up, never opened.
fn resolve(link: &str, target: &str) -> String {
    let mut parts: Vec<&str> = link.split('/').collect();
    parts.pop();
    for part in target.split('/') {
        match part {
            "" | "." => {}
            ".." => {
                parts.pop();
            }
            part => parts.push(part),
        }
    }
    parts.join("/")
}

#[cfg(test)]
mod tests;
