//! When a subnet runs out, by the rate at which its addresses were taken lately.

use std::time::Duration;

use jiff::Timestamp;
use serde::Serialize;

/// So many addresses were taken at this moment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Sample {
    pub at: Timestamp,
    pub taken: u32,
}

/// What the recent rate leads to.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Forecast {
    /// Over this many seconds; 0 where nothing was seen to change.
    pub over_seconds: i64,
    /// Addresses taken, less those given back, an hour.
    pub per_hour: f64,
    /// `None`: never at this rate, or it has run out, or what was seen is [too little](SHORTEST).
    pub runs_out_at: Option<Timestamp>,
}

/// A rate that was seen for less long says nothing of what comes.
pub const SHORTEST: Duration = Duration::from_secs(600);
/// Further ahead is no forecast.
const HORIZON: Duration = Duration::from_secs(366 * 24 * 3600);

/// By the samples of the last `window`, and what was taken when it began.
pub fn forecast(samples: &[Sample], free: u32, now: Timestamp, window: Duration) -> Forecast {
    let begin = now - window;
    let before = samples.iter().rev().find(|it| it.at <= begin);
    let base = before.map(|it| Sample { at: begin, taken: it.taken });
    let base = base.or_else(|| samples.first().copied());
    let (Some(base), Some(last)) = (base, samples.last()) else {
        return Forecast { over_seconds: 0, per_hour: 0.0, runs_out_at: None };
    };
    let seconds = now.duration_since(base.at).as_secs();
    if seconds <= 0 {
        return Forecast { over_seconds: 0, per_hour: 0.0, runs_out_at: None };
    }
    let grown = f64::from(last.taken) - f64::from(base.taken);
    #[expect(clippy::cast_precision_loss, reason = "a window is hours, not millennia")]
    let per_second = grown / seconds as f64;
    let is_enough = now.duration_since(base.at).unsigned_abs() >= SHORTEST;
    let runs_out_at = (per_second > 0.0 && free > 0 && is_enough)
        .then(|| f64::from(free) / per_second)
        .filter(|left| *left < HORIZON.as_secs_f64())
        .map(|left| now + Duration::from_secs_f64(left));
    Forecast { over_seconds: seconds, per_hour: per_second * 3600.0, runs_out_at }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HOUR: Duration = Duration::from_secs(3600);

    fn at(minutes: u64, taken: u32) -> Sample {
        Sample { at: Timestamp::UNIX_EPOCH + Duration::from_secs(minutes * 60), taken }
    }

    #[test]
    fn ten_a_minute_leave_thirty_minutes_for_three_hundred() {
        let found = forecast(&[at(0, 0), at(30, 300)], 300, at(30, 0).at, HOUR);
        assert_eq!(found.over_seconds, 1800);
        assert!((found.per_hour - 600.0).abs() < 1e-6, "{found:?}");
        assert_eq!(found.runs_out_at, Some(at(60, 0).at));
    }

    #[test]
    fn what_was_taken_before_the_window_does_not_count() {
        let samples = [at(0, 0), at(10, 900), at(70, 906)];
        let found = forecast(&samples, 60, at(130, 0).at, HOUR);
        assert_eq!((found.per_hour.round(), found.over_seconds), (0.0, 3600));
        let found = forecast(&samples, 60, at(71, 0).at, HOUR);
        assert_eq!(found.per_hour.round(), 6.0);
        assert_eq!(found.runs_out_at, Some(at(71 + 600, 0).at));
    }

    #[test]
    fn a_few_minutes_are_no_rate_and_a_full_subnet_has_run_out() {
        let seen = [at(0, 0), at(1, 23)];
        assert_eq!(forecast(&seen, 300, at(9, 0).at, HOUR).runs_out_at, None);
        assert!(forecast(&seen, 300, at(10, 0).at, HOUR).runs_out_at.is_some());
        assert_eq!(forecast(&seen, 0, at(30, 0).at, HOUR).runs_out_at, None);
    }

    #[test]
    fn a_subnet_that_empties_or_rests_never_runs_out() {
        for samples in [vec![], vec![at(0, 5)], vec![at(0, 9), at(5, 3)]] {
            assert_eq!(forecast(&samples, 1, at(10, 0).at, HOUR).runs_out_at, None, "{samples:?}");
        }
        assert_eq!(forecast(&[at(10, 5)], 1, at(10, 0).at, HOUR).over_seconds, 0);
    }
}
