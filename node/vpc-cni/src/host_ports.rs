//! Host ports come back when somebody takes away the table that leads to them (`nft flush ruleset`).
//!
//! They are the plug-in's, which has a record of each pod that has some and is executed once for every
//! pod: here it is asked from time to time to look after what is recorded.

use std::{
    path::{Path, PathBuf},
    time::Duration,
};

use tokio::process::Command;
use tracing::warn;

const LOOK: Duration = Duration::from_secs(30);
/// What the plug-in has to do, as it is told by an argument.
const RESTORE: &str = "restore-host-ports";

/// Has `plugin` look after the records in `folder` until it is dropped.
pub async fn keep(plugin: PathBuf, folder: PathBuf) {
    loop {
        tokio::time::sleep(LOOK).await;
        if !is_empty(&folder) {
            restore(&plugin, &folder).await;
        }
    }
}

fn is_empty(folder: &Path) -> bool {
    std::fs::read_dir(folder).map_or(true, |mut it| it.next().is_none())
}

async fn restore(plugin: &Path, folder: &Path) {
    let mut command = Command::new(plugin);
    command.arg(RESTORE).arg(folder).kill_on_drop(true);
    match command.output().await {
        Ok(done) if done.status.success() => {}
        Ok(done) => {
            let said = String::from_utf8_lossy(&done.stderr);
            warn!(said = said.trim(), "the plug-in did not look after host ports");
        }
        Err(error) => warn!(%error, plugin = %plugin.display(), "failed to execute the plug-in"),
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use lifecycle::Scope;

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn the_plug_in_looks_after_host_ports_where_there_are_any() {
        let folder = tempfile::tempdir().unwrap();
        let (plugin, asked) = (folder.path().join("plugin"), folder.path().join("asked"));
        std::fs::write(&plugin, format!("#!/bin/sh\necho \"$@\" > {}\n", asked.display())).unwrap();
        std::fs::set_permissions(&plugin, std::fs::Permissions::from_mode(0o755)).unwrap();
        let records = folder.path().join("hostports");
        let scope = Scope::new();
        drop(scope.spawn("host-ports", keep(plugin, records.clone())));
        tokio::time::sleep(2 * LOOK).await;
        assert!(!asked.exists(), "no pod has any");
        std::fs::create_dir(&records).unwrap();
        std::fs::write(records.join("a-eth0"), "{}").unwrap();
        tokio::time::advance(LOOK).await;
        tokio::time::resume();
        assert_eq!(restored(&asked).await, format!("{RESTORE} {}\n", records.display()));
        scope.cancel();
    }

    /// What the plug-in was told, once it was: it is another process, which takes real time.
    async fn restored(asked: &Path) -> String {
        for _ in 0..1000 {
            match std::fs::read_to_string(asked) {
                Ok(text) if !text.is_empty() => return text,
                _ => tokio::time::sleep(Duration::from_millis(10)).await,
            }
        }
        panic!("it was not asked");
    }
}
