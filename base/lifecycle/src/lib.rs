//! Named tasks with a parent, and orderly shutdown.
//!
//! A [`Scope`] owns the tasks that are spawned on it. Cancelling it cancels them and those of its
//! children; [`Scope::drain`] waits for them, the children's included. A panic in a task is logged with the task's name and
//! takes nothing else down.
//!
//! **Invariant:** no other crate calls `tokio::spawn`; `clippy.toml` bans it.

use std::{future::Future, io, pin::Pin, sync::Arc, time::Duration};

use tokio::{
    signal::unix::{SignalKind, signal},
    task::JoinHandle,
};
use tokio_util::{sync::CancellationToken, task::TaskTracker};
use tracing::Instrument;

type Boxed<T> = Pin<Box<dyn Future<Output = T> + Send>>;

/// The owner of a set of tasks. Clones share the set.
#[derive(Clone, Debug, Default)]
pub struct Scope {
    token: CancellationToken,
    tasks: TaskTracker,
    /// The tasks of the scopes above, which wait for this one's too.
    above: Arc<[TaskTracker]>,
}

impl Scope {
    pub fn new() -> Self {
        Self::default()
    }

    /// A scope that is cancelled with this one, and can be cancelled alone.
    pub fn child(&self) -> Self {
        let above = self.above.iter().chain([&self.tasks]).cloned().collect();
        Self { token: self.token.child_token(), tasks: TaskTracker::new(), above }
    }

    /// Runs `task` until it ends or the scope is cancelled.
    pub fn spawn<F>(&self, name: &str, task: F) -> JoinHandle<Option<F::Output>>
    where
        F: Future + Send + 'static,
        F::Output: Send + 'static,
    {
        self.spawn_boxed(name, Box::pin(task))
    }

    #[expect(clippy::disallowed_methods, reason = "the one place that spawns")]
    fn spawn_boxed<T: Send + 'static>(&self, name: &str, task: Boxed<T>) -> JoinHandle<Option<T>> {
        tokio::spawn(self.tracked(name, task))
    }

    /// What is spawned for a task, which is boxed: each layer around it has room for it twice, as what
    /// it was given and as what it waits for, and together they would take six times as much.
    fn tracked<T: Send + 'static>(
        &self,
        name: &str,
        task: Boxed<T>,
    ) -> impl Future<Output = Option<T>> + Send + use<T> {
        let span = tracing::info_span!("task", name);
        let token = self.token.clone();
        let task = async move { token.run_until_cancelled(task).await }.instrument(span);
        let above: Vec<_> = self.above.iter().map(TaskTracker::token).collect();
        let task = self.tasks.track_future(task);
        async move {
            let output = task.await;
            drop(above);
            output
        }
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

    /// Cancels, and waits for the tasks, those of children included, for at most `limit`. Says whether all of them ended.
    pub async fn drain(&self, limit: Duration) -> bool {
        self.cancel();
        self.tasks.close();
        tokio::time::timeout(limit, self.tasks.wait()).await.is_ok()
    }
}

/// Ends when the process is told to: by SIGTERM, as service managers and container runtimes say it,
/// or by SIGINT.
pub async fn asked_to_end() -> io::Result<()> {
    let (mut terminated, mut interrupted) =
        (signal(SignalKind::terminate())?, signal(SignalKind::interrupt())?);
    tokio::select! {
        _ = terminated.recv() => {}
        _ = interrupted.recv() => {}
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicBool, Ordering};

    use super::*;

    /// Set when a task is dropped.
    struct Ended(Arc<AtomicBool>);

    impl Drop for Ended {
        fn drop(&mut self) {
            self.0.store(true, Ordering::Relaxed);
        }
    }

    #[tokio::test]
    async fn a_parent_that_is_drained_has_waited_for_its_childrens_tasks() {
        let parent = Scope::new();
        let flag = Arc::new(AtomicBool::new(false));
        let ended = Ended(flag.clone());
        let task = parent.child().child().spawn("holds something", async move {
            let _held = ended;
            std::future::pending::<()>().await;
        });
        assert!(parent.drain(Duration::from_secs(5)).await);
        assert!(flag.load(Ordering::Relaxed), "what a grandchild held is free");
        assert_eq!(task.await.unwrap(), None);
    }

    #[tokio::test]
    async fn a_child_is_drained_alone() {
        let parent = Scope::new();
        let task = parent.spawn("forever", std::future::pending::<()>());
        let child = parent.child();
        drop(child.spawn("forever", std::future::pending::<()>()));
        assert!(child.drain(Duration::from_secs(5)).await);
        assert!(!parent.is_cancelled() && !task.is_finished());
    }

    /// The signal goes to this process: the one test here that may do that, and it is caught.
    #[tokio::test]
    async fn a_service_managers_signal_is_heard() {
        let mut asked = std::pin::pin!(asked_to_end());
        // Polled once, it listens.
        assert!(tokio::time::timeout(Duration::ZERO, &mut asked).await.is_err());
        let own = std::process::id().to_string();
        let killed = std::process::Command::new("kill").args(["-TERM", &own]).status().unwrap();
        assert!(killed.success());
        tokio::time::timeout(Duration::from_secs(5), asked).await.unwrap().unwrap();
    }

    #[test]
    fn a_large_task_is_held_once() {
        let large = [0_u8; 100_000];
        let task = Scope::new().tracked("large", Box::pin(async move { large.len() }));
        assert!(size_of_val(&task) < 1000, "{} bytes around it", size_of_val(&task));
    }

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
