//! Takes keys from a queue and reconciles them, some at a time, in one task per controller.
//!
//! A pass that fails or panics is logged and its key comes back with back-off; the controller goes
//! on with the others. Conflicts are expected where caches are stale, so they are retried silently.

use std::{fmt::Debug, future::Future, hash::Hash, panic::AssertUnwindSafe, time::Duration};

use futures::{FutureExt, StreamExt, stream::FuturesUnordered};
use tracing::{debug, error, warn};

use crate::{ApplyError, Queue};

/// No pass takes this long unless a peer hangs; it is given up and tried again.
const PASS_LIMIT: Duration = Duration::from_secs(5 * 60);

/// What to do with a key after a pass that succeeded.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Action {
    /// Nothing until something changes.
    Done,
    /// Look again after this time, or when something changes.
    After(Duration),
}

/// How a pass ended.
enum Outcome {
    Succeeded(Action),
    Failed,
}

/// Reconciles keys of `queue` for ever, at most `limit` at a time.
pub async fn run<T, F, Fut>(name: &'static str, queue: Queue<T>, limit: usize, reconcile: F)
where
    T: Clone + Debug + Eq + Hash + Send + 'static,
    F: Fn(T) -> Fut,
    Fut: Future<Output = Result<Action, ApplyError>>,
{
    queue.show(name);
    let mut passes = FuturesUnordered::new();
    loop {
        tokio::select! {
            key = queue.next(), if passes.len() < limit => {
                let pass = AssertUnwindSafe(within_limit(reconcile(key.clone()))).catch_unwind();
                passes.push(pass.map(|result| (key, result)));
            }
            Some((key, result)) = passes.next() => {
                let outcome = outcome(name, &key, result);
                finish(&queue, key, &outcome);
                // Passes that wait for nothing must not keep a thread of the runtime for ever.
                tokio::task::coop::consume_budget().await;
            }
        }
    }
}

async fn within_limit(
    pass: impl Future<Output = Result<Action, ApplyError>>,
) -> Result<Action, ApplyError> {
    match tokio::time::timeout(PASS_LIMIT, pass).await {
        Ok(result) => result,
        Err(_) => Err(ApplyError::other(format!("the pass took longer than {PASS_LIMIT:?}"))),
    }
}

fn outcome<T: Debug>(
    name: &str,
    key: &T,
    result: std::thread::Result<Result<Action, ApplyError>>,
) -> Outcome {
    match result {
        Ok(Ok(action)) => Outcome::Succeeded(action),
        Ok(Err(error)) => {
            let chain = telemetry::chain(&error);
            if error.is_conflict() {
                debug!(controller = name, ?key, error = %chain, "pass met a conflict");
            } else {
                warn!(controller = name, ?key, error = %chain, "pass failed");
            }
            Outcome::Failed
        }
        Err(_) => {
            error!(controller = name, ?key, "pass panicked");
            Outcome::Failed
        }
    }
}

fn finish<T: Clone + Eq + Hash>(queue: &Queue<T>, key: T, outcome: &Outcome) {
    match outcome {
        Outcome::Succeeded(action) => {
            queue.done(&key, true);
            if let Action::After(delay) = action {
                queue.add_after(key, *delay);
            }
        }
        Outcome::Failed => {
            queue.done(&key, false);
            queue.retry(key);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use parking_lot::Mutex;

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_pass_that_hangs_is_given_up_and_tried_again() {
        let queue = Queue::new();
        let passes = Arc::new(Mutex::new(0));
        queue.add("hangs once");
        let count = passes.clone();
        let controller = run("test", queue, 1, move |_: &'static str| {
            let pass = {
                let mut count = count.lock();
                *count += 1;
                *count
            };
            async move {
                if pass == 1 {
                    std::future::pending::<()>().await;
                }
                Ok(Action::Done)
            }
        });
        drop(tokio::time::timeout(PASS_LIMIT * 2, controller).await);
        assert_eq!(*passes.lock(), 2);
    }

    #[tokio::test(start_paused = true)]
    async fn a_pass_that_panics_comes_back_and_stops_nobody() {
        let queue = Queue::new();
        let seen = Arc::new(Mutex::new(Vec::new()));
        queue.add("bad");
        queue.add("good");
        let log = seen.clone();
        let controller = run("test", queue, 2, move |key: &'static str| {
            let log = log.clone();
            async move {
                let times = {
                    let mut log = log.lock();
                    log.push(key);
                    log.iter().filter(|it| **it == key).count()
                };
                assert!(!(key == "bad" && times == 1), "the first pass of `bad` panics");
                Ok(Action::Done)
            }
        });
        drop(tokio::time::timeout(Duration::from_secs(1), controller).await);
        let seen = seen.lock();
        assert_eq!(seen.iter().filter(|it| **it == "bad").count(), 2);
        assert_eq!(seen.iter().filter(|it| **it == "good").count(), 1);
    }
}
