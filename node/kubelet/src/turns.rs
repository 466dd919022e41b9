//! So many sandboxes and containers are made at once, sandboxes in the order in which their pods came.
//!
//! Fifty pods that start together on two cores are all ready when the last one is, where each is given a
//! fiftieth of the machine. One after the other, as many at once as keep it busy, they need less
//! altogether, and half of the time on the average. What is begun is finished first: a container goes
//! before all sandboxes that wait.
//!
//! Deviation: upstream has all of them made at once.
//!
//! **Invariant:** a call that does not return holds up nobody: its turn is over after [`LIMIT`].

use std::{collections::VecDeque, sync::Arc, thread, time::Duration};

use futures::future::{Either, select};
use parking_lot::Mutex;
use tokio::sync::oneshot;

/// Far longer than it takes where all is well.
const LIMIT: Duration = Duration::from_secs(2);
/// What is made waits for locks, disks and other processes about half of its time.
const PER_CORE: usize = 2;
const LEAST: usize = 4;

pub(crate) struct Turns(Arc<Shared>);

/// What is made.
#[derive(Clone, Copy)]
pub(crate) enum Made {
    Sandbox,
    Container,
}

struct Shared(Mutex<State>);

/// While anybody waits, none is free.
struct State {
    free: usize,
    containers: VecDeque<oneshot::Sender<Turn>>,
    sandboxes: VecDeque<oneshot::Sender<Turn>>,
}

/// Goes to whoever is next when it is dropped. `None`: it has been passed on.
struct Turn(Option<Arc<Shared>>);

impl Drop for Turn {
    fn drop(&mut self) {
        if let Some(shared) = self.0.take() {
            shared.pass_on();
        }
    }
}

impl Shared {
    fn pass_on(self: Arc<Self>) {
        let mut state = self.0.lock();
        while let Some(next) = state.next() {
            match next.send(Turn(Some(self.clone()))) {
                Ok(()) => return,
                // Nobody waits for it any more.
                Err(mut turn) => turn.0 = None,
            }
        }
        state.free += 1;
    }
}

impl State {
    fn next(&mut self) -> Option<oneshot::Sender<Turn>> {
        self.containers.pop_front().or_else(|| self.sandboxes.pop_front())
    }
}

impl Default for Turns {
    fn default() -> Self {
        let cores = thread::available_parallelism().map_or(1, usize::from);
        Self::new((cores * PER_CORE).max(LEAST))
    }
}

impl Turns {
    fn new(free: usize) -> Self {
        let (containers, sandboxes) = (VecDeque::new(), VecDeque::new());
        Self(Arc::new(Shared(Mutex::new(State { free, containers, sandboxes }))))
    }

    /// Makes it when it is its turn.
    pub(crate) async fn take<T>(&self, made: Made, work: impl Future<Output = T>) -> T {
        let turn = self.turn(made).await;
        let (work, limit) = (Box::pin(work), Box::pin(tokio::time::sleep(LIMIT)));
        match select(work, limit).await {
            Either::Left((done, _)) => done,
            Either::Right(((), work)) => {
                drop(turn);
                work.await
            }
        }
    }

    /// `None`, which limits nothing, cannot be: whoever is dropped passes the turn on.
    async fn turn(&self, made: Made) -> Option<Turn> {
        let given = {
            let mut state = self.0.0.lock();
            if state.free > 0 {
                state.free -= 1;
                return Some(Turn(Some(self.0.clone())));
            }
            let (give, given) = oneshot::channel();
            match made {
                Made::Sandbox => state.sandboxes.push_back(give),
                Made::Container => state.containers.push_back(give),
            }
            given
        };
        given.await.ok()
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};

    use futures::{FutureExt, StreamExt, future::join_all, stream::FuturesUnordered};
    use tokio::time::Instant;

    use super::{Made::*, *};

    #[tokio::test(start_paused = true)]
    async fn only_so_many_are_made_at_once_and_first_who_came_first() {
        let turns = Turns::new(4);
        let (now, most) = (AtomicUsize::new(0), AtomicUsize::new(0));
        let work = |number: u64| {
            let (turns, now, most) = (&turns, &now, &most);
            turns.take(Sandbox, async move {
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
    async fn a_container_goes_before_sandboxes_that_wait_longer() {
        let turns = Turns::new(1);
        let order = Mutex::new(Vec::new());
        let work = |made, name| {
            let (turns, order) = (&turns, &order);
            turns.take(made, async move {
                order.lock().push(name);
                tokio::time::sleep(Duration::from_millis(100)).await;
            })
        };
        let all = [(Sandbox, "a"), (Sandbox, "b"), (Container, "of a"), (Sandbox, "c")];
        join_all(all.map(|(made, name)| work(made, name))).await;
        assert_eq!(order.into_inner(), ["a", "of a", "b", "c"]);
    }

    #[tokio::test(start_paused = true)]
    async fn calls_that_hang_hold_up_nobody_for_long() {
        let turns = Turns::new(2);
        let hanging = (0..2).map(|_| turns.take(Sandbox, std::future::pending::<()>()));
        let hanging = join_all(hanging);
        let began = Instant::now();
        let other = async {
            tokio::time::sleep(Duration::from_millis(1)).await;
            turns.take(Sandbox, async {}).await;
        };
        tokio::select! {
            _ = hanging => {}
            () = other => {}
        }
        assert_eq!(began.elapsed(), LIMIT);
    }

    #[tokio::test]
    async fn whoever_no_longer_waits_takes_no_turn_with_it() {
        let turns = Turns::new(1);
        let held = turns.turn(Sandbox).await;
        let mut before = Box::pin(turns.turn(Sandbox));
        let mut given = Box::pin(turns.turn(Sandbox));
        let mut last = Box::pin(turns.turn(Sandbox));
        for waiting in [&mut before, &mut given, &mut last] {
            assert!(waiting.now_or_never().is_none(), "one is held");
        }
        drop(before);
        drop(held);
        // It has its turn and has not seen it yet.
        drop(given);
        assert!(last.now_or_never().flatten().is_some(), "the turn went to who waits still");
        assert!(turns.turn(Container).now_or_never().flatten().is_some(), "and was given back");
    }
}
