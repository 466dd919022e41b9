//! Calls that make something in the runtime or in systemd: once begun they end, though nobody waits for
//! them.
//!
//! A pod that is deleted does not wait for its images, volumes and hooks. A call that is cancelled,
//! though, leaves half a thing: a container that containerd says failed with `StartError`, a sandbox or a
//! slice that only garbage collection finds. So the worker waits for what it has begun and ends that.
//!
//! Upstream: `SyncPod` in `pkg/kubelet/kubelet.go` calls the runtime `WithoutCancel`.

use std::sync::Arc;

use lifecycle::Scope;
use tokio::sync::RwLock;

/// The calls of one worker. Each holds the lock for reading.
#[derive(Default)]
pub(super) struct Underway(Arc<RwLock<()>>);

impl Underway {
    /// Makes the call, to its end even if the returned future is dropped.
    pub(super) async fn run<T: Send + 'static>(
        &self,
        scope: &Scope,
        call: impl Future<Output = T> + Send + 'static,
    ) -> T {
        let begun = self.0.clone().read_owned().await;
        let task = scope.spawn("runtime-call", async move {
            let done = call.await;
            drop(begun);
            done
        });
        match task.await {
            Ok(Some(done)) => done,
            // The kubelet stops, and with it whoever waits here.
            Ok(None) => std::future::pending().await,
            Err(error) => std::panic::resume_unwind(error.into_panic()),
        }
    }

    /// Returns when none is under way.
    pub(super) async fn ended(&self) {
        drop(self.0.write().await);
    }
}

#[cfg(test)]
mod tests {
    use std::{
        sync::atomic::{AtomicBool, Ordering},
        time::Duration,
    };

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_call_that_is_no_longer_waited_for_goes_on_and_its_end_can_be_waited_for() {
        let (underway, scope) = (Underway::default(), Scope::new());
        let is_made = Arc::new(AtomicBool::new(false));
        let made = is_made.clone();
        let call = underway.run(&scope, async move {
            tokio::time::sleep(Duration::from_secs(1)).await;
            made.store(true, Ordering::Relaxed);
        });
        assert!(tokio::time::timeout(Duration::from_millis(10), call).await.is_err());
        assert!(!is_made.load(Ordering::Relaxed));
        underway.ended().await;
        assert!(is_made.load(Ordering::Relaxed));
        assert_eq!(underway.run(&scope, async { 3 }).await, 3);
        underway.ended().await;
    }
}
