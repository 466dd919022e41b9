//! So many sandboxes are made at once, in the order in which their pods came.
//!
//! Fifty pods that start together on two cores are all ready when the last one is, where each is given a
//! fiftieth of the machine. One after the other, as many at once as keep it busy, they need no longer
//! altogether, and half of the time on the average.
//!
//! Deviation: upstream has all of them made at once.
//!
//! **Invariant:** a call that does not return holds up nobody: its turn is over after [`LIMIT`].

use std::{thread, time::Duration};

use futures::future::{Either, select};
use tokio::sync::Semaphore;

/// Far longer than it takes where all is well.
const LIMIT: Duration = Duration::from_secs(2);
/// A sandbox waits for locks, disks and other processes about half of its time.
const PER_CORE: usize = 2;
const LEAST: usize = 4;

pub(crate) struct Turns {
    free: Semaphore,
}

impl Default for Turns {
    fn default() -> Self {
        let cores = thread::available_parallelism().map_or(1, usize::from);
        Self { free: Semaphore::new((cores * PER_CORE).max(LEAST)) }
    }
}

impl Turns {
    /// Does it when it is its turn.
    pub(crate) async fn take<T>(&self, work: impl Future<Output = T>) -> T {
        let turn = self.free.acquire().await;
        let (work, limit) = (Box::pin(work), Box::pin(tokio::time::sleep(LIMIT)));
        match select(work, limit).await {
            Either::Left((done, _)) => done,
            Either::Right(((), work)) => {
                drop(turn);
                work.await
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};

    use futures::{StreamExt, stream::FuturesUnordered};
    use tokio::time::Instant;

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn only_so_many_are_done_at_once_and_first_who_came_first() {
        let turns = Turns { free: Semaphore::new(4) };
        let (now, most) = (AtomicUsize::new(0), AtomicUsize::new(0));
        let work = |number: u64| {
            let (turns, now, most) = (&turns, &now, &most);
            turns.take(async move {
                most.fetch_max(now.fetch_add(1, Ordering::Relaxed) + 1, Ordering::Relaxed);
                tokio::time::sleep(Duration::from_millis(100 + number)).await;
                now.fetch_sub(1, Ordering::Relaxed);
                number
            })
        };
        let all: FuturesUnordered<_> = (0..50).map(work).collect();
        let order: Vec<_> = all.collect().await;
        assert_eq!((most.into_inner(), order), (4, (0..50).collect()));
    }

    #[tokio::test(start_paused = true)]
    async fn calls_that_hang_hold_up_nobody_for_long() {
        let turns = Turns { free: Semaphore::new(2) };
        let hanging =
            futures::future::join_all((0..2).map(|_| turns.take(std::future::pending::<()>())));
        let began = Instant::now();
        let other = async {
            tokio::time::sleep(Duration::from_millis(1)).await;
            turns.take(async {}).await;
        };
        tokio::select! {
            _ = hanging => {}
            () = other => {}
        }
        assert_eq!(began.elapsed(), LIMIT);
    }
}
