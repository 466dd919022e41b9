//! Work that may block, from within async tasks.

use tokio::runtime::{Handle, RuntimeFlavor};

/// Runs `work`, which waits for a disk or a lock, here and now; the other tasks of this thread go
/// on elsewhere. A runtime of one thread (tests) has no elsewhere.
pub fn blocking<R>(work: impl FnOnce() -> R) -> R {
    let flavor = Handle::try_current().map(|it| it.runtime_flavor());
    match flavor {
        Ok(RuntimeFlavor::MultiThread) => tokio::task::block_in_place(work),
        _ => work(),
    }
}

#[cfg(test)]
mod tests {
    use std::{sync::mpsc, time::Duration};

    use lifecycle::Scope;

    use crate::{CommitError, Store};

    #[tokio::test(flavor = "multi_thread", worker_threads = 1)]
    async fn a_slow_commit_keeps_no_other_task_waiting() {
        let (scope, store) = (Scope::new(), Store::in_memory());
        let (sender, receiver) = mpsc::channel();
        let (entered, inside) = tokio::sync::oneshot::channel();
        let slow = scope.spawn("slow", async move {
            store.transaction(|_| {
                entered.send(()).unwrap();
                Ok::<_, CommitError>(receiver.recv_timeout(Duration::from_secs(10)).is_ok())
            })
        });
        let other = scope.spawn("other", async move {
            inside.await.unwrap();
            sender.send(()).unwrap();
        });
        assert!(slow.await.unwrap().unwrap().unwrap(), "the other task was kept waiting");
        other.await.unwrap();
    }
}
