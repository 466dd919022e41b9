//! Small questions of a worker about its pod.

use std::{fs, io::Read, path::Path};

use k8s_openapi::api::core::v1::{ContainerState, Pod, PodStatus};

use crate::{
    labels, logs,
    observed::{RuntimeContainer, State},
    pod::PodExt,
};

/// Upstream's bounds of a termination message.
const MESSAGE_LIMIT: u64 = 4096;
const LOG_LIMIT: usize = 2048;
const LOG_LINES: usize = 80;

/// The termination message of a container that has ended.
pub(super) fn termination_message(
    pod: &Pod,
    container: &RuntimeContainer,
    logs_root: &Path,
) -> String {
    let mut text = String::new();
    if let Some(path) = &container.message_path
        && let Ok(file) = fs::File::open(path)
    {
        let mut raw = Vec::new();
        if file.take(MESSAGE_LIMIT).read_to_end(&mut raw).is_ok() {
            text = String::from_utf8_lossy(&raw).into_owned();
        }
    }
    let has_failed = matches!(container.state, State::Exited { code, .. } if code != 0);
    let policy = pod
        .find_container(&container.name)
        .map(|(_, it)| labels::message_policy(&it).to_owned())
        .unwrap_or_default();
    if text.is_empty() && has_failed && policy == "FallbackToLogsOnError" {
        text = logs::tail_text(logs_root, Path::new(&container.log_path), LOG_LINES, LOG_LIMIT);
    }
    text
}

/// How often a container ran, as the API tells: one more than it was restarted.
pub(super) fn earlier_runs(status: &PodStatus, name: &str) -> u32 {
    let lists = [&status.init_container_statuses, &status.container_statuses];
    let Some(known) = lists.into_iter().flatten().flatten().find(|it| it.name == name) else {
        return 0;
    };
    let has_run = |it: &Option<ContainerState>| {
        it.as_ref().is_some_and(|it| it.running.is_some() || it.terminated.is_some())
    };
    let count = u32::try_from(known.restart_count).unwrap_or(0);
    if has_run(&known.state) { count + 1 } else { count }
}

/// The same as its log files tell: they are numbered by its restarts.
pub(super) fn logged_runs(folder: &Path) -> u32 {
    let names = fs::read_dir(folder).into_iter().flatten().flatten().map(|it| it.file_name());
    let number = |name: std::ffi::OsString| -> Option<u32> {
        name.to_string_lossy().split_once(".log")?.0.parse().ok()
    };
    names.filter_map(number).max().map_or(0, |it| it + 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_logs_tell_how_often_a_container_ran() {
        let folder = tempfile::tempdir().unwrap();
        assert_eq!(logged_runs(folder.path()), 0);
        for name in ["0.log", "3.log", "2.log.20261123-100000.gz", "other"] {
            fs::write(folder.path().join(name), "").unwrap();
        }
        assert_eq!(logged_runs(folder.path()), 4);
    }
}
