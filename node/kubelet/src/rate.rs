//! How often something may be done: so often a second, and so often at once after a pause.
//!
//! Upstream: the token bucket of `k8s.io/client-go/util/flowcontrol`.
//!
//! **Invariant:** nobody who waits is refused, and turns are given in the order in which they were
//! asked for.

use std::time::Duration;

use parking_lot::Mutex;
use tokio::time::Instant;

pub(crate) struct Rate {
    /// Between two turns; zero where there is no limit.
    interval: Duration,
    /// How far turns may be ahead of their interval.
    ahead: Duration,
    /// When the next turn would be, were there no bursts.
    next: Mutex<Instant>,
}

impl Rate {
    /// Zero a second is no limit.
    pub(crate) fn new(per_second: i32, burst: i32) -> Self {
        let per_second = u32::try_from(per_second).unwrap_or(0);
        let interval = Duration::from_secs(1).checked_div(per_second).unwrap_or_default();
        let burst = u32::try_from(burst).unwrap_or(1).max(1);
        Self { interval, ahead: interval * (burst - 1), next: Mutex::new(Instant::now()) }
    }

    /// Ends when it is the caller's turn. A caller that goes away leaves its turn unused.
    pub(crate) async fn turn(&self) {
        if self.interval.is_zero() {
            return;
        }
        let at = {
            let mut next = self.next.lock();
            let own = Instant::now().max(*next);
            *next = own + self.interval;
            own - self.ahead
        };
        tokio::time::sleep_until(at).await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_burst_is_had_at_once_and_then_again_after_a_pause() {
        let rate = Rate::new(5, 10);
        let take = async |count: u32| {
            let began = Instant::now();
            for _ in 0..count {
                rate.turn().await;
            }
            began.elapsed().as_millis() / 100
        };
        assert_eq!(take(10).await, 0);
        assert_eq!(take(5).await, 10);
        tokio::time::sleep(Duration::from_secs(60)).await;
        assert_eq!(take(10).await, 0);
        assert_eq!(take(1).await, 2);
    }

    #[tokio::test(start_paused = true)]
    async fn zero_a_second_is_no_limit() {
        let (rate, began) = (Rate::new(0, 1), Instant::now());
        for _ in 0..1000 {
            rate.turn().await;
        }
        assert_eq!(began.elapsed(), Duration::ZERO);
    }
}
