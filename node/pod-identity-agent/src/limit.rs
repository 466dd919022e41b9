//! How many requests are taken: a bucket that fills at a rate and holds a burst.

use std::time::Duration;

use parking_lot::Mutex;
use tokio::time::Instant;

/// See the module.
#[derive(Debug)]
pub struct Limit {
    per_second: f64,
    burst: f64,
    state: Mutex<(f64, Instant)>,
}

impl Limit {
    /// Begins full.
    pub fn new(per_second: u32, burst: u32) -> Self {
        let burst = f64::from(burst);
        let state = Mutex::new((burst, Instant::now()));
        Self { per_second: f64::from(per_second), burst, state }
    }

    /// Whether one more may be taken now.
    pub fn take(&self) -> bool {
        let now = Instant::now();
        let mut state = self.state.lock();
        let (held, since) = *state;
        let passed: Duration = now.duration_since(since);
        let held = (held + passed.as_secs_f64() * self.per_second).min(self.burst);
        let is_taken = held >= 1.0;
        *state = (if is_taken { held - 1.0 } else { held }, now);
        is_taken
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_burst_is_taken_and_then_the_rate() {
        let limit = Limit::new(1000, 500);
        assert_eq!((0..600).filter(|_| limit.take()).count(), 500);
        tokio::time::sleep(Duration::from_millis(100)).await;
        assert_eq!((0..600).filter(|_| limit.take()).count(), 100);
        tokio::time::sleep(Duration::from_secs(60)).await;
        assert_eq!((0..600).filter(|_| limit.take()).count(), 500);
    }
}
