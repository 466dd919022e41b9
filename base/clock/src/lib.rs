//! Wall-clock time for every component.
//!
//! Timers come from Tokio; dates come from here. A simulated clock derives its date from Tokio's,
//! so that pausing Tokio pauses credentials, leases and timestamps with it.
//!
//! **Invariant:** no other crate reads the date; `clippy.toml` bans `Timestamp::now` elsewhere.

use std::{
    sync::atomic::{AtomicI64, Ordering},
    time::Duration,
};

use jiff::Timestamp;
use tokio::time::Instant;

/// A source of wall-clock time. Cheap to copy; hand it out by value.
#[derive(Clone, Copy, Debug)]
pub struct Clock(Source);

#[derive(Clone, Copy, Debug)]
enum Source {
    System,
    Simulated { epoch: Timestamp, started: Instant, shift: Option<&'static AtomicI64> },
}

/// Moves a simulated clock, as an administrator or NTP moves a host's.
#[derive(Clone, Copy, Debug)]
pub struct Shift(&'static AtomicI64);

impl Shift {
    /// Moves the date by so many seconds, forwards or back; timers do not notice.
    pub fn jump(&self, seconds: i64) {
        self.0.fetch_add(seconds, Ordering::Relaxed);
    }
}

impl Clock {
    /// Follows the host's clock, including its corrections.
    pub fn system() -> Self {
        Self(Source::System)
    }

    /// Reads `epoch` now and advances with Tokio's clock.
    pub fn simulated(epoch: Timestamp) -> Self {
        Self(Source::Simulated { epoch, started: Instant::now(), shift: None })
    }

    /// A simulated clock that can be made to jump. It keeps a few bytes for ever.
    pub fn movable(epoch: Timestamp) -> (Self, Shift) {
        let shift: &AtomicI64 = Box::leak(Box::default());
        let source = Source::Simulated { epoch, started: Instant::now(), shift: Some(shift) };
        (Self(source), Shift(shift))
    }

    pub fn now(&self) -> Timestamp {
        match self.0 {
            #[expect(clippy::disallowed_methods, reason = "the one place that reads the date")]
            Source::System => Timestamp::now(),
            Source::Simulated { epoch, started, shift } => {
                let shift = shift.map_or(0, |it| it.load(Ordering::Relaxed));
                epoch + started.elapsed() + jiff::SignedDuration::from_secs(shift)
            }
        }
    }

    /// How long until `deadline`; zero once it has passed.
    pub fn until(&self, deadline: Timestamp) -> Duration {
        deadline.duration_since(self.now()).try_into().unwrap_or_default()
    }
}

/// `time` plus `by`, and at the most the last time that can be written: how long something may
/// take is often what a user wrote, and may be any number.
pub fn later(time: Timestamp, by: Duration) -> Timestamp {
    time.checked_add(by).unwrap_or(Timestamp::MAX)
}

/// `time` less `by`, and at the least the first time that can be written.
pub fn earlier(time: Timestamp, by: Duration) -> Timestamp {
    time.checked_sub(by).unwrap_or(Timestamp::MIN)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_simulated_clock_ages_with_tokio() {
        let clock = Clock::simulated(Timestamp::UNIX_EPOCH);
        tokio::time::sleep(Duration::from_secs(3600)).await;
        assert_eq!(clock.now(), Timestamp::UNIX_EPOCH + Duration::from_secs(3600));
        assert_eq!(clock.until(Timestamp::UNIX_EPOCH), Duration::ZERO);
    }

    #[tokio::test(start_paused = true)]
    async fn a_movable_clock_jumps_both_ways() {
        let (clock, shift) = Clock::movable(Timestamp::UNIX_EPOCH);
        shift.jump(3600);
        assert_eq!(clock.now(), Timestamp::UNIX_EPOCH + Duration::from_secs(3600));
        shift.jump(-7200);
        assert_eq!(clock.now(), Timestamp::UNIX_EPOCH - Duration::from_secs(3600));
    }
}
