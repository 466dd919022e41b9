//! Small questions of a worker about its pod.

use std::{fs, io::Read};

use k8s_openapi::api::core::v1::Pod;

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
pub(super) fn termination_message(pod: &Pod, container: &RuntimeContainer) -> String {
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
        text = logs::tail_text(&container.log_path, LOG_LINES, LOG_LIMIT);
    }
    text
}
