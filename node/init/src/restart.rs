//! When a service that has ended is started again: pure.

use std::time::Duration;

/// The first pause, and the one that a long run earns again.
const FIRST: Duration = Duration::from_millis(100);
const LONGEST: Duration = Duration::from_secs(10);
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
        if lived >= WELL_AFTER {
            self.next = FIRST;
        }
        let pause = self.next;
        self.next = (pause * 2).min(LONGEST);
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
}
