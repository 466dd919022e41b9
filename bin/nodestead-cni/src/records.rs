//! Which pods have which host ports, on disk beside ipamd's socket.
//!
//! Only ADD is told of them. So that they come back when somebody takes the table away that leads to
//! them (`nft flush ruleset`), ipamd executes the plug-in with [`RESTORE`] and the folder from time to time.
//!
//! **Invariant:** a record whose pod is gone without a DEL gives nobody its port: only that is put back to
//! which the node's routes lead by the pod's own link.

use std::{
    fs, io,
    net::IpAddr,
    path::{Path, PathBuf},
};

use api_cni::{Invocation, PortMapping, backend::SOCKET};
use linux_netlink::{Netlink, OpenError, RequestError};
use serde_json::{Value, json};

use crate::hostports::{self, HostPortError};

/// The argument that asks for [`restore`].
pub(crate) const RESTORE: &str = "restore-host-ports";

#[derive(Debug, thiserror::Error)]
pub(crate) enum RestoreError {
    #[error("failed to read the folder `{}`", path.display())]
    Read {
        path: PathBuf,
        #[source]
        source: io::Error,
    },
    #[error("failed to look at the node's routes")]
    Open(#[from] OpenError),
    #[error("the kernel refused to tell its links or routes")]
    Routes(#[from] RequestError),
    #[error("failed to put host ports back")]
    HostPorts(#[from] HostPortError),
}

struct Record {
    pod: IpAddr,
    link: String,
    mappings: Vec<PortMapping>,
}

/// Where a sandbox's record is.
pub(crate) fn place(invocation: &Invocation) -> PathBuf {
    let socket = Path::new(invocation.config.text("ipamdSocket", SOCKET));
    let folder = socket.parent().unwrap_or(Path::new("/")).join("hostports");
    folder.join(format!("{}-{}", invocation.container_id, invocation.ifname))
}

pub(crate) fn keep(
    place: &Path,
    mappings: &[PortMapping],
    pod: IpAddr,
    link: &str,
) -> io::Result<()> {
    if mappings.iter().all(|it| it.host_port == 0) {
        return Ok(());
    }
    if let Some(folder) = place.parent() {
        fs::create_dir_all(folder)?;
    }
    fs::write(place, json!({ "pod": pod, "link": link, "mappings": mappings }).to_string())
}

pub(crate) fn forget(place: &Path) -> io::Result<()> {
    match fs::remove_file(place) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        done => done,
    }
}

/// Puts back what is missing of the tables of pods that are still there: the newest pods last, to whom
/// a port belongs that an older one had.
pub(crate) fn restore(folder: &Path) -> Result<(), RestoreError> {
    let missing = hostports::missing().map_err(HostPortError::from)?;
    if missing.is_empty() {
        return Ok(());
    }
    let node = Netlink::here()?;
    let (links, routes) = (node.links()?, node.routes()?);
    for record in read(folder)? {
        let device = links.iter().find(|it| it.name == record.link).map(|it| it.index);
        let to_pod = |it: &&linux_netlink::Route| it.destination == record.pod.into();
        let is_there = routes.iter().filter(to_pod).any(|it| it.device == device);
        if device.is_some() && is_there && missing.contains(&hostports::family(record.pod)) {
            hostports::add(&record.mappings, record.pod, &record.link)?;
        }
    }
    Ok(())
}

fn read(folder: &Path) -> Result<Vec<Record>, RestoreError> {
    let failed = |source| RestoreError::Read { path: folder.to_owned(), source };
    let mut found = Vec::new();
    let entries = match fs::read_dir(folder) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        entries => entries.map_err(failed)?,
    };
    for entry in entries {
        let entry = entry.map_err(failed)?;
        // One that goes meanwhile, or was not written to its end, is nobody's.
        let Ok(text) = fs::read_to_string(entry.path()) else { continue };
        let Some(record) = parse(&text) else { continue };
        let changed = entry.metadata().and_then(|it| it.modified()).map_err(failed)?;
        found.push((changed, record));
    }
    found.sort_by_key(|(changed, _)| *changed);
    Ok(found.into_iter().map(|(_, record)| record).collect())
}

fn parse(text: &str) -> Option<Record> {
    let mut value: Value = serde_json::from_str(text).ok()?;
    Some(Record {
        pod: value["pod"].as_str()?.parse().ok()?,
        link: value["link"].as_str()?.to_owned(),
        mappings: serde_json::from_value(value["mappings"].take()).ok()?,
    })
}
