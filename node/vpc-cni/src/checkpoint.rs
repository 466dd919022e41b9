//! The assignments on disk: what survives a restart of ipamd.
//!
//! Upstream's file and format (`vpc-cni-ipam/1`), so that an operator's tools go on reading it. It
//! is written whole under another name and renamed, so that a reader sees one state or the other.

use std::{
    fs, io,
    net::{Ipv4Addr, Ipv6Addr},
    path::Path,
};

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::{
    datastore::{Key, PodName, Row},
    files,
};

const VERSION: &str = "vpc-cni-ipam/1";

#[derive(Serialize, Deserialize)]
struct File {
    version: String,
    allocations: Vec<Entry>,
}

#[derive(Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Entry {
    #[serde(flatten)]
    key: Key,
    ipv4: Ipv4Addr,
    /// In an IPv6 cluster. It follows from the other.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    ipv6: Option<Ipv6Addr>,
    /// Nanoseconds since 1970.
    allocation_timestamp: i64,
    #[serde(default)]
    metadata: PodName,
}

/// Why a checkpoint could not be used.
#[derive(Debug, thiserror::Error)]
pub enum CheckpointError {
    #[error("failed to read or write the checkpoint `{path}`")]
    Io {
        path: String,
        #[source]
        source: io::Error,
    },
    #[error("the checkpoint `{path}` is not readable")]
    Format {
        path: String,
        #[source]
        source: serde_json::Error,
    },
    #[error("the checkpoint `{path}` has version `{found}`, not `{VERSION}`")]
    Version { path: String, found: String },
}

/// The rows of the file; none where there is no file.
pub fn read(path: &Path) -> Result<Vec<Row>, CheckpointError> {
    let row = |entry: Entry| Row {
        key: entry.key,
        address: entry.ipv4,
        pod: entry.metadata,
        since: Timestamp::from_nanosecond(entry.allocation_timestamp.into())
            .unwrap_or(Timestamp::UNIX_EPOCH),
    };
    Ok(entries(path)?.into_iter().map(row).collect())
}

/// The IPv6 addresses that the file's sandboxes have.
pub fn read_ipv6(path: &Path) -> Result<Vec<Ipv6Addr>, CheckpointError> {
    Ok(entries(path)?.into_iter().filter_map(|it| it.ipv6).collect())
}

fn entries(path: &Path) -> Result<Vec<Entry>, CheckpointError> {
    let name = || path.display().to_string();
    let bytes = match fs::read(path) {
        Ok(bytes) => bytes,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(source) => return Err(CheckpointError::Io { path: name(), source }),
    };
    let file: File = serde_json::from_slice(&bytes)
        .map_err(|source| CheckpointError::Format { path: name(), source })?;
    if file.version != VERSION {
        return Err(CheckpointError::Version { path: name(), found: file.version });
    }
    Ok(file.allocations)
}

/// Puts `rows` in place of what the file held.
pub fn write<'a>(
    path: &Path,
    rows: impl Iterator<Item = &'a Row>,
    ipv6: impl Fn(Ipv4Addr) -> Option<Ipv6Addr>,
) -> Result<(), CheckpointError> {
    let name = || path.display().to_string();
    let entry = |row: &Row| Entry {
        key: row.key.clone(),
        ipv4: row.address,
        ipv6: ipv6(row.address),
        allocation_timestamp: i64::try_from(row.since.as_nanosecond()).unwrap_or(i64::MAX),
        metadata: row.pod.clone(),
    };
    let file = File { version: VERSION.to_owned(), allocations: rows.map(entry).collect() };
    let bytes = serde_json::to_vec(&file)
        .map_err(|source| CheckpointError::Format { path: name(), source })?;
    files::replace(path, |beside| fs::write(beside, bytes))
        .map_err(|source| CheckpointError::Io { path: name(), source })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row() -> Row {
        let key = Key {
            network_name: "aws-cni".into(),
            container_id: "a".into(),
            if_name: "eth0".into(),
        };
        let pod = PodName { namespace: "default".into(), name: "web".into() };
        let address = Ipv4Addr::new(192, 168, 0, 20);
        Row { key, address, pod, since: Timestamp::from_second(1_700_000_000).unwrap() }
    }

    #[test]
    fn rows_are_read_as_they_were_written() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("ipam.json");
        assert!(read(&path).unwrap().is_empty());
        write(&path, [row()].iter(), |_| None).unwrap();
        assert_eq!(read(&path).unwrap(), [row()]);
        let text = fs::read_to_string(&path).unwrap();
        assert!(text.contains(r#""containerID":"a""#) && text.contains("k8sPodName"), "{text}");
    }

    #[test]
    fn another_version_is_fatal() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("ipam.json");
        fs::write(&path, r#"{"version":"vpc-cni-ipam/2","allocations":[]}"#).unwrap();
        assert!(matches!(read(&path), Err(CheckpointError::Version { .. })));
    }
}
