//! Named tasks with a parent, and orderly shutdown.
//!
//! A [`Scope`] owns the tasks that are spawned on it. Cancelling it cancels them and those of its
//! children; [`Scope::drain`] waits for them. A panic in a task is logged with the task's name and
//! takes nothing else down.
//!
//! **Invariant:** no other crate calls `tokio::spawn`; `clippy.toml` bans it.

use std::{future::Future, time::Duration};

use tokio::task::JoinHandle;
use tokio_util::{sync::CancellationToken, task::TaskTracker};
use tracing::Instrument;

/// The owner of a set of tasks. Clones share the set.
#[derive(Clone, Debug, Default)]
pub struct Scope {
    token: CancellationToken,
    tasks: TaskTracker,
}

impl Scope {
    pub fn new() -> Self {
        Self::default()
    }

    /// A scope that is cancelled with this one, and can be cancelled alone.
    pub fn child(&self) -> Self {
        Self { token: self.token.child_token(), tasks: TaskTracker::new() }
    }

    /// Runs `task` until it ends or the scope is cancelled.
    pub fn spawn<F>(&self, name: &str, task: F) -> JoinHandle<Option<F::Output>>
    where
        F: Future + Send + 'static,
        F::Output: Send + 'static,
    {
        let span = tracing::info_span!("task", name);
        let token = self.token.clone();
        self.spawn_tracked(async move { token.run_until_cancelled(task).await }.instrument(span))
    }

    #[expect(clippy::disallowed_methods, reason = "the one place that spawns")]
    fn spawn_tracked<F>(&self, task: F) -> JoinHandle<F::Output>
    where
        F: Future + Send + 'static,
        F::Output: Send + 'static,
    {
        tokio::spawn(self.tasks.track_future(task))
    }

    /// Asks all tasks to stop. They are dropped at their next await.
    pub fn cancel(&self) {
        self.token.cancel();
    }

    pub fn is_cancelled(&self) -> bool {
        self.token.is_cancelled()
    }

    /// Ends when the scope is cancelled.
    pub async fn cancelled(&self) {
        self.token.cancelled().await;
    }

    /// Cancels, and waits for the tasks for at most `limit`. Says whether all of them ended.
    pub async fn drain(&self, limit: Duration) -> bool {
        self.cancel();
        self.tasks.close();
        tokio::time::timeout(limit, self.tasks.wait()).await.is_ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn cancelling_a_parent_ends_the_tasks_of_its_children() {
        let parent = Scope::new();
        let child = parent.child();
        let task = child.spawn("forever", std::future::pending::<()>());
        parent.cancel();
        assert_eq!(task.await.unwrap(), None);
        assert!(child.drain(Duration::from_secs(1)).await);
    }
}
