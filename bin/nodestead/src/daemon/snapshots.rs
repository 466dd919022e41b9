//! Root file systems behind EC2's snapshots: brought onto the machine, and removed when neither a snapshot
//! nor an instance has them any more.
//!
//! **Invariant:** a folder is never changed once its snapshot is completed: instances lie over it.

use std::{
    collections::BTreeSet,
    fs, io,
    os::unix::fs::DirBuilderExt,
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use anyhow::Context;
use region_ec2::{Ec2, State, records::InstanceState};
use region_host::image;
use serde::{Deserialize, Serialize};
use tracing::{info, warn};

use crate::layout::Layout;

/// Nobody waits for the room that is made: changes often come many at a time.
const REST: Duration = Duration::from_secs(10);

/// What to bring, by its path on this machine.
#[derive(Debug, Deserialize, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Import {
    pub(crate) path: PathBuf,
    pub(crate) description: String,
}

/// A snapshot of it.
#[derive(Debug, Deserialize, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Imported {
    pub(crate) snapshot_id: String,
    pub(crate) size_gib: i64,
}

pub(crate) fn root_of(snapshots: &Path, id: &str) -> PathBuf {
    snapshots.join(id).join("root")
}

/// Copies a root file system and makes a snapshot of it; takes as long as the copy does.
pub(crate) async fn import(
    layout: &Layout,
    ec2: &Arc<Ec2>,
    import: Import,
) -> anyhow::Result<Imported> {
    // Programs of images that run as their owner are nobody's on this machine.
    fs::DirBuilder::new().recursive(true).mode(0o700).create(layout.snapshots())?;
    let id = ec2.begin_snapshot(&import.description)?;
    let (root, ec2) = (root_of(&layout.snapshots(), &id), ec2.clone());
    // All of it on the thread, which goes on when whoever asked has left.
    let taken = tokio::task::spawn_blocking(move || {
        let taken = take(&ec2, &import.path, &root, id.clone());
        if taken.is_err()
            && let Err(error) = ec2.abandon_snapshot(&id)
        {
            warn!(%error, snapshot = id, "a snapshot that failed stays pending");
        }
        taken
    });
    taken.await?.context("the root file system was not taken")
}

fn take(ec2: &Ec2, source: &Path, root: &Path, id: String) -> anyhow::Result<Imported> {
    let bytes = image::import(source, root)?;
    let size_gib = i64::try_from(bytes.div_ceil(1 << 30).max(1))?;
    ec2.complete_snapshot(&id, size_gib)?;
    info!(snapshot = id, size_gib, "imported a root file system");
    Ok(Imported { snapshot_id: id, size_gib })
}

/// Removes what nobody has any more, for as long as it runs.
pub(crate) async fn keep_clean(snapshots: PathBuf, ec2: Arc<Ec2>) {
    let mut changes = ec2.changes();
    loop {
        changes.mark_unchanged();
        let (folder, ec2) = (snapshots.clone(), ec2.clone());
        let cleaned = move || remove_unused(&folder, || used(&ec2.view()));
        match tokio::task::spawn_blocking(cleaned).await {
            Ok(Ok(())) => {}
            Ok(Err(error)) => warn!("snapshots are not cleaned: {error:#}"),
            Err(error) => warn!(%error, "snapshots are not cleaned"),
        }
        if changes.changed().await.is_err() {
            return;
        }
        tokio::time::sleep(REST).await;
    }
}

fn used(state: &State) -> BTreeSet<String> {
    let alive = state.instances.iter().filter(|it| it.state != InstanceState::Terminated);
    let started = alive.filter_map(|it| it.root_snapshot.clone());
    state.snapshots.iter().map(|it| it.id.clone()).chain(started).collect()
}

/// Who is in use is asked after the folders were listed: a record is always older than its folder.
fn remove_unused(snapshots: &Path, used: impl FnOnce() -> BTreeSet<String>) -> anyhow::Result<()> {
    let entries = match fs::read_dir(snapshots) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        entries => entries.context("listing snapshots")?,
    };
    let entries = entries.collect::<io::Result<Vec<_>>>().context("listing snapshots")?;
    let used = used();
    let mut removed = Ok(());
    for entry in entries {
        if !entry.file_name().to_str().is_some_and(|it| used.contains(it)) {
            let done = fs::remove_dir_all(entry.path())
                .with_context(|| format!("removing `{}`", entry.path().display()));
            // One that stays keeps no other.
            removed = removed.and(done);
        }
    }
    removed
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_neither_a_snapshot_nor_an_instance_has_is_removed() {
        let folder = tempfile::tempdir().unwrap();
        for id in ["snap-1", "snap-2"] {
            fs::create_dir_all(root_of(folder.path(), id).join("etc")).unwrap();
        }
        remove_unused(folder.path(), || ["snap-1".to_owned()].into()).unwrap();
        assert!(folder.path().join("snap-1").exists());
        assert!(!folder.path().join("snap-2").exists());
        remove_unused(&folder.path().join("none"), BTreeSet::new).unwrap();
    }
}
