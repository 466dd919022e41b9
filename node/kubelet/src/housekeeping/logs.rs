//! Rotates the logs of running containers: `0.log` becomes `0.log.TIME`, the runtime opens a new
//! `0.log`, and what was rotated before is compressed to `0.log.TIME.gz`.
//!
//! The log that was rotated last stays as it is, since whoever follows it may not have read its end.
//!
//! Upstream: `pkg/kubelet/logs/container_log_manager.go`.
//!
//! **Invariant:** at most `containerLogMaxFiles` files per container, the current one included; a file
//! is compressed beside the original and takes its place only when it is whole.

use std::{
    fs::{self, File},
    io,
    path::{Path, PathBuf},
    sync::Arc,
};

use flate2::{Compression, write::GzEncoder};
use futures::{StreamExt, stream};
use tokio::time::MissedTickBehavior;
use tracing::{debug, warn};

use crate::{context::Context, logs::open_inside, pod::PodExt, pod_workers::PodWorkers, quantity};

const COMPRESSED: &str = ".gz";
const UNFINISHED: &str = ".tmp";

/// A container whose log may have grown too large.
struct Watched {
    id: String,
    path: PathBuf,
}

/// Looks every `containerLogMonitorInterval`, as long as the scope lives.
pub(super) async fn run(context: Arc<Context>, workers: Arc<PodWorkers>) {
    let config = &context.settings.config;
    let size = quantity::parse(&config.container_log_max_size).filter(|it| *it > 0);
    let Some(limit) = size.and_then(|it| u64::try_from(it).ok()) else { return };
    let parallel = usize::try_from(config.container_log_max_workers).unwrap_or(1).max(1);
    let mut ticks = tokio::time::interval(config.container_log_monitor_interval.0);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        ticks.tick().await;
        let full = too_large(&workers, limit);
        stream::iter(full).for_each_concurrent(parallel, |it| rotate(&context, it)).await;
    }
}

fn too_large(workers: &PodWorkers, limit: u64) -> Vec<Watched> {
    let mut found = Vec::new();
    for pod in workers.pods() {
        let observed = workers.observed(&pod.uid()).unwrap_or_default();
        for it in observed.containers.iter().filter(|it| it.is_running()) {
            let path = PathBuf::from(&it.log_path);
            if fs::metadata(&path).is_ok_and(|it| it.len() >= limit) {
                found.push(Watched { id: it.id.clone(), path });
            }
        }
    }
    found
}

async fn rotate(context: &Context, of: Watched) {
    let Watched { id, path } = of;
    let files = context.settings.config.container_log_max_files;
    let stamp = context.clock.now().strftime("%Y%m%d-%H%M%S").to_string();
    let at = path.clone();
    // Compressing takes its time, and no other task should wait for it.
    let prepared = tokio::task::spawn_blocking(move || prepare(&at, files)).await;
    match prepared {
        Ok(Ok(())) => {}
        Ok(Err(error)) => warn!(path = %path.display(), %error, "old logs were not cleaned up"),
        Err(error) => warn!(path = %path.display(), %error, "old logs were not cleaned up"),
    }
    if let Err(error) = fs::rename(&path, rotated(&path, &stamp)) {
        warn!(path = %path.display(), %error, "a log was not rotated");
        return;
    }
    if let Err(error) = context.runtime.reopen_log(&id).await {
        // The runtime still writes into the renamed file: it gets its name back.
        warn!(id, %error, "the runtime did not open a new log");
        if let Err(error) = fs::rename(rotated(&path, &stamp), &path) {
            warn!(path = %path.display(), %error, "a log did not get its name back");
        }
    }
}

fn rotated(path: &Path, stamp: &str) -> PathBuf {
    with_suffix(path, &format!(".{stamp}"))
}

fn with_suffix(path: &Path, suffix: &str) -> PathBuf {
    let mut name = path.file_name().unwrap_or_default().to_owned();
    name.push(suffix);
    path.with_file_name(name)
}

/// Makes room for one more rotated file, and compresses those that are left.
fn prepare(path: &Path, max_files: u32) -> io::Result<()> {
    let mut old = rotated_files(path)?;
    remove_leftovers(&mut old);
    // The current file, and the one that it is about to become.
    let kept = usize::try_from(max_files).unwrap_or(usize::MAX).saturating_sub(2);
    let surplus = old.len().saturating_sub(kept);
    for path in old.drain(..surplus) {
        fs::remove_file(&path)?;
    }
    for path in old.iter().filter(|it| !has_suffix(it, COMPRESSED)) {
        compress(path)?;
    }
    Ok(())
}

/// Oldest first: the stamps sort by time.
fn rotated_files(path: &Path) -> io::Result<Vec<PathBuf>> {
    let Some((folder, name)) = path.parent().zip(path.file_name()) else { return Ok(Vec::new()) };
    let prefix = format!("{}.", name.to_string_lossy());
    let mut found = Vec::new();
    for entry in fs::read_dir(folder)? {
        let entry = entry?;
        if entry.file_name().to_string_lossy().starts_with(&prefix) {
            found.push(entry.path());
        }
    }
    found.sort();
    Ok(found)
}

/// What a compression that was cut short has left, and originals that were compressed already.
fn remove_leftovers(files: &mut Vec<PathBuf>) {
    let all = files.clone();
    files.retain(|it| {
        let is_done = all.contains(&with_suffix(it, COMPRESSED));
        let is_left = has_suffix(it, UNFINISHED) || is_done;
        if is_left && let Err(error) = fs::remove_file(it) {
            debug!(path = %it.display(), %error, "a leftover was not removed");
        }
        !is_left
    });
}

fn has_suffix(path: &Path, suffix: &str) -> bool {
    path.to_string_lossy().ends_with(suffix)
}

fn compress(path: &Path) -> io::Result<()> {
    let unfinished = with_suffix(path, UNFINISHED);
    let mut from = open_inside(path.parent().unwrap_or(path), path)?;
    let mut into = GzEncoder::new(File::create_new(&unfinished)?, Compression::default());
    io::copy(&mut from, &mut into)?;
    into.finish()?.sync_all()?;
    fs::set_permissions(&unfinished, from.metadata()?.permissions())?;
    fs::rename(&unfinished, with_suffix(path, COMPRESSED))?;
    fs::remove_file(path)
}

#[cfg(test)]
mod tests {
    use std::io::Read;

    use super::*;

    fn names(folder: &Path) -> Vec<String> {
        let mut names: Vec<_> = fs::read_dir(folder)
            .unwrap()
            .map(|it| it.unwrap().file_name().into_string().unwrap())
            .collect();
        names.sort();
        names
    }

    #[test]
    fn old_logs_are_compressed_and_as_many_stay_as_configured() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("0.log");
        for name in [
            "0.log",
            "0.log.20260101-000000.gz",
            "0.log.20260102-000000.gz",
            "0.log.20260103-000000",
            "0.log.20260103-000000.tmp",
            "1.log.20250101-000000",
        ] {
            fs::write(folder.path().join(name), name).unwrap();
        }
        prepare(&path, 4).unwrap();
        let expected = [
            "0.log",
            "0.log.20260102-000000.gz",
            "0.log.20260103-000000.gz",
            "1.log.20250101-000000",
        ];
        assert_eq!(names(folder.path()), expected);
        let file = File::open(folder.path().join("0.log.20260103-000000.gz")).unwrap();
        let mut text = String::new();
        flate2::read::GzDecoder::new(file).read_to_string(&mut text).unwrap();
        assert_eq!(text, "0.log.20260103-000000");
        prepare(&path, 2).unwrap();
        assert_eq!(names(folder.path()), ["0.log", "1.log.20250101-000000"]);
    }

    #[test]
    fn a_compression_that_was_cut_short_is_done_again_or_taken_as_done() {
        let folder = tempfile::tempdir().unwrap();
        let put = |name: &str| fs::write(folder.path().join(name), "x").unwrap();
        put("0.log.1");
        put("0.log.1.gz");
        put("0.log.2.tmp");
        put("0.log.2");
        prepare(&folder.path().join("0.log"), 5).unwrap();
        assert_eq!(names(folder.path()), ["0.log.1.gz", "0.log.2.gz"]);
    }
}
