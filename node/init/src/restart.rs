//! When a service that has ended is started again: pure.

use std::time::Duration;

/// The first pause, and the one that a long run earns again.
const FIRST: Duration = Duration::from_millis(100);
const LONGEST: Duration = Duration::from_secs(10);
/// The pauses of a service that ends where there is nothing for it to do: that seldom changes.
const FIRST_REST: Duration = Duration::from_secs(1);
const LONGEST_REST: Duration = Duration::from_secs(300);
/// A service that ran this long was well.
const WELL_AFTER: Duration = Duration::from_secs(30);

/// The pauses between the starts of one service.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Backoff {
    next: Duration,
}

impl Default for Backoff {
    fn default() -> Self {
        Self { next: FIRST }
    }
}

impl Backoff {
    /// The pause after a run that lasted `lived`.
    pub(crate) fn after(&mut self, lived: Duration) -> Duration {
        self.pause(lived, FIRST, LONGEST)
    }

    /// The pause after a run that found nothing to do.
    pub(crate) fn rest(&mut self, lived: Duration) -> Duration {
        self.pause(lived, FIRST_REST, LONGEST_REST)
    }

    fn pause(&mut self, lived: Duration, first: Duration, longest: Duration) -> Duration {
        if lived >= WELL_AFTER {
            self.next = first;
        }
        let pause = self.next.clamp(first, longest);
        self.next = pause * 2;
        pause
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_double_to_a_limit_and_a_long_run_resets_them() {
        let mut backoff = Backoff::default();
        let short = Duration::from_secs(1);
        assert_eq!(backoff.after(short), Duration::from_millis(100));
        assert_eq!(backoff.after(short), Duration::from_millis(200));
        for _ in 0..20 {
            backoff.after(short);
        }
        assert_eq!(backoff.after(short), LONGEST);
        assert_eq!(backoff.after(WELL_AFTER), FIRST);
    }

    #[test]
    fn who_finds_nothing_to_do_is_started_ever_more_seldom_and_soon_after_a_failure() {
        let mut backoff = Backoff::default();
        let rests: Vec<_> = (0..10).map(|_| backoff.rest(Duration::ZERO).as_secs()).collect();
        assert_eq!(rests, [1, 2, 4, 8, 16, 32, 64, 128, 256, 300]);
        assert_eq!(backoff.after(Duration::ZERO), LONGEST);
        assert_eq!(backoff.rest(WELL_AFTER), FIRST_REST, "it was asked to end");
    }
}
