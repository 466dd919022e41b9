//! What is worth another attempt, and when.

use std::time::Duration;

use super::CallError;

const FIRST: Duration = Duration::from_millis(100);
const LONGEST: Duration = Duration::from_secs(20);

pub(super) fn may_pass(error: &CallError) -> bool {
    match error {
        CallError::Service { fault, .. } => fault.is_transient(),
        CallError::Transport { .. } | CallError::Credentials { .. } => true,
        CallError::Request { .. } | CallError::Response { .. } => false,
    }
}

/// Exponential, with full jitter so that many callers do not return together.
pub(super) fn pause(attempt: u32) -> Duration {
    let ceiling = FIRST.saturating_mul(1 << attempt.min(16)).min(LONGEST);
    let millis = u64::try_from(ceiling.as_millis()).unwrap_or(u64::MAX);
    Duration::from_millis(entropy::below(millis.max(1)))
}
