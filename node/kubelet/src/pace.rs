//! Time as it passes, whatever is done to the date.
//!
//! Back-offs are kept in it. It begins as the date and goes on evenly; a host's date may be set back by
//! a day and hold no container back for a day.

use std::{collections::HashMap, time::Duration};

use clock::Clock;
use jiff::Timestamp;
use tokio::time::Instant;

use crate::observed::{RuntimePod, State};

#[derive(Clone, Copy, Debug)]
pub(crate) struct Pace {
    clock: Clock,
    base: Timestamp,
    began: Instant,
}

impl Pace {
    pub(crate) fn new(clock: Clock) -> Self {
        Self { clock, base: clock.now(), began: Instant::now() }
    }

    pub(crate) fn now(&self) -> Timestamp {
        self.base + self.began.elapsed()
    }

    /// Now, less what has passed since a date; a date that has not come yet is now.
    fn at(&self, date: Timestamp) -> Timestamp {
        let passed = self.clock.now().duration_since(date);
        self.now() - Duration::try_from(passed).unwrap_or_default()
    }

    /// The date, if it is left alone, when this time comes.
    pub(crate) fn date_of(&self, at: Timestamp) -> Timestamp {
        self.clock.now() + at.duration_since(self.now())
    }
}

/// When the containers of a pod ended: each at the pace at which that was seen first.
#[derive(Debug, Default)]
pub(crate) struct Exits(HashMap<String, Timestamp>);

impl Exits {
    pub(crate) fn note(&mut self, observed: &RuntimePod, pace: &Pace) {
        self.0.retain(|id, _| observed.containers.iter().any(|it| it.id == *id));
        for container in &observed.containers {
            if let State::Exited { finished, .. } = container.state {
                self.0.entry(container.id.clone()).or_insert_with(|| pace.at(finished));
            }
        }
    }

    /// The pod with those ends in the place of their dates.
    pub(crate) fn paced(&self, observed: &RuntimePod) -> RuntimePod {
        let mut observed = observed.clone();
        for container in &mut observed.containers {
            if let State::Exited { finished, .. } = &mut container.state
                && let Some(at) = self.0.get(&container.id)
            {
                *finished = *at;
            }
        }
        observed
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_date_that_jumps_does_not_hurry_or_stop_it() {
        let (clock, shift) = Clock::movable(Timestamp::UNIX_EPOCH);
        let pace = Pace::new(clock);
        let second = Duration::from_secs(1);
        tokio::time::sleep(5 * second).await;
        let ended = clock.now() - 2 * second;
        assert_eq!(pace.at(ended), Timestamp::UNIX_EPOCH + 3 * second);
        shift.jump(-3600);
        tokio::time::sleep(second).await;
        assert_eq!(pace.now(), Timestamp::UNIX_EPOCH + 6 * second);
        assert_eq!(pace.at(ended), pace.now(), "a date to come is now");
        assert_eq!(pace.date_of(pace.now() + second), clock.now() + second);
    }
}
