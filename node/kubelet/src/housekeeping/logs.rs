//! Rotates the logs of running containers: `0.log` becomes `0.log.TIME`, and the runtime opens a new
//! `0.log`.
//!
//! Deviation: rotated files are not compressed.

use std::{
    fs, io,
    path::{Path, PathBuf},
};

use tracing::{debug, warn};

use crate::{context::Context, quantity};

pub(super) async fn rotate(context: &Context) {
    let config = &context.settings.config;
    let Some(limit) = quantity::parse(&config.container_log_max_size).filter(|it| *it > 0) else {
        return;
    };
    let limit = u64::try_from(limit).unwrap_or(u64::MAX);
    let Ok(containers) = context.runtime.list_containers(None).await else { return };
    let running = api_cri::v1::ContainerState::ContainerRunning as i32;
    for container in containers.into_iter().filter(|it| it.state == running) {
        let Ok(status) = context.runtime.container_status(&container.id).await else { continue };
        let path = PathBuf::from(status.log_path);
        if fs::metadata(&path).is_ok_and(|it| it.len() < limit) || !path.exists() {
            continue;
        }
        let stamp = context.clock.now().strftime("%Y%m%d-%H%M%S").to_string();
        if let Err(error) = rename(&path, &stamp) {
            warn!(path = %path.display(), %error, "a log was not rotated");
            continue;
        }
        if let Err(error) = context.runtime.reopen_log(&container.id).await {
            // The runtime still writes into the renamed file: it gets its name back.
            warn!(id = container.id, %error, "the runtime did not open a new log");
            drop(fs::rename(rotated(&path, &stamp), &path));
            continue;
        }
        remove_oldest(&path, config.container_log_max_files);
    }
}

fn rotated(path: &Path, stamp: &str) -> PathBuf {
    let mut name = path.file_name().unwrap_or_default().to_owned();
    name.push(format!(".{stamp}"));
    path.with_file_name(name)
}

fn rename(path: &Path, stamp: &str) -> io::Result<()> {
    fs::rename(path, rotated(path, stamp))
}

/// Keeps `count` files, the current one included.
fn remove_oldest(path: &Path, count: u32) {
    let Some((folder, name)) = path.parent().zip(path.file_name()) else { return };
    let prefix = format!("{}.", name.to_string_lossy());
    let mut old: Vec<_> = fs::read_dir(folder)
        .into_iter()
        .flatten()
        .flatten()
        .filter(|it| it.file_name().to_string_lossy().starts_with(&prefix))
        .map(|it| it.path())
        .collect();
    // The stamps sort by time.
    old.sort();
    let kept = usize::try_from(count).unwrap_or(usize::MAX).saturating_sub(1).max(1);
    let surplus = old.len().saturating_sub(kept);
    for path in old.into_iter().take(surplus) {
        if let Err(error) = fs::remove_file(&path) {
            debug!(path = %path.display(), %error, "an old log was not removed");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn as_many_files_as_configured_stay_the_newest() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("0.log");
        for name in
            ["0.log", "0.log.20260101-000000", "0.log.20260102-000000", "1.log.20250101-000000"]
        {
            fs::write(folder.path().join(name), "x").unwrap();
        }
        rename(&path, "20260103-000000").unwrap();
        remove_oldest(&path, 3);
        let mut names: Vec<_> = fs::read_dir(folder.path())
            .unwrap()
            .map(|it| it.unwrap().file_name().into_string().unwrap())
            .collect();
        names.sort();
        assert_eq!(
            names,
            ["0.log.20260102-000000", "0.log.20260103-000000", "1.log.20250101-000000"]
        );
    }
}
