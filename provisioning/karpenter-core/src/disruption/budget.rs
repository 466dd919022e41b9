//! How many nodes of a pool may be disrupted now, by reason.
//!
//! Of all budgets that are active and name the reason (or none) the smallest holds; a percentage is
//! of the pool's nodes and rounds up; nodes that are not ready or on their way out already count. A
//! budget that cannot be read allows nothing.

use std::time::Duration;

use api_kube::karpenter::{Budget, DisruptionReason, NodePool};
use cron::{Dialect, ParseError, Schedule};
use jiff::{SignedDuration, Timestamp, tz::TimeZone};

/// How many more may go. `nodes`: how many the pool has; `disrupted`: how many are gone in effect.
pub fn allowed(
    pool: &NodePool,
    reason: DisruptionReason,
    now: Timestamp,
    nodes: u32,
    disrupted: u32,
) -> u32 {
    let budgets = pool.spec.disruption.budgets.iter();
    let budgets = budgets.filter(|it| it.reasons.is_empty() || it.reasons.contains(&reason));
    let least = budgets.filter(|it| is_active(it, now)).map(|it| most(it, nodes)).min();
    least.unwrap_or(u32::MAX).saturating_sub(disrupted)
}

fn is_active(budget: &Budget, now: Timestamp) -> bool {
    match (&budget.schedule, &budget.duration) {
        (None, None) => true,
        (Some(text), Some(_)) => match (schedule(text), budget.duration()) {
            (Ok(schedule), Some(duration)) => has_come(&schedule, now, duration),
            _ => true,
        },
        _ => true,
    }
}

/// In UTC.
pub(crate) fn schedule(text: &str) -> Result<Schedule, ParseError> {
    Schedule::parse(text, Dialect::KARPENTER)
}

/// Whether it came within `duration` before `now` (or now).
fn has_come(schedule: &Schedule, now: Timestamp, duration: Duration) -> bool {
    let duration = SignedDuration::try_from(duration).ok();
    let from = duration.and_then(|it| now.checked_sub(it).ok());
    let next = from.and_then(|from| schedule.next(from, &TimeZone::UTC));
    next.is_some_and(|it| it <= now)
}

fn most(budget: &Budget, nodes: u32) -> u32 {
    let is_readable = match (&budget.schedule, &budget.duration) {
        (None, None) => true,
        (Some(text), Some(_)) => schedule(text).is_ok() && budget.duration().is_some(),
        _ => false,
    };
    if !is_readable {
        return 0;
    }
    match budget.nodes.strip_suffix('%') {
        None => budget.nodes.parse().unwrap_or(0),
        Some(percent) => {
            percent.parse::<u32>().map_or(0, |it| nodes.saturating_mul(it).div_ceil(100))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pool(budgets: &str) -> NodePool {
        let budgets: serde_json::Value = serde_json::from_str(budgets).unwrap();
        serde_json::from_value(serde_json::json!({ "metadata": { "name": "a" },
            "spec": { "disruption": { "budgets": budgets } } }))
        .unwrap()
    }

    #[test]
    fn a_schedule_is_active_for_its_duration_after_each_time() {
        let hours = |it: u64| Duration::from_secs(it * 3600);
        for (text, now, duration, expected) in [
            ("0 9 * * mon-fri", "2026-11-27T09:00:00Z", 8, true),
            ("0 9 * * mon-fri", "2026-11-27T16:59:00Z", 8, true),
            ("0 9 * * mon-fri", "2026-11-27T17:00:00Z", 8, false),
            ("0 9 * * mon-fri", "2026-11-28T09:30:00Z", 8, false),
            ("@daily", "2026-11-28T00:30:00Z", 1, true),
            ("@daily", "2026-11-28T01:30:00Z", 1, false),
            ("*/15 * * * *", "2026-11-28T01:59:00Z", 1, true),
            ("0 0 1 * *", "2026-11-28T01:59:00Z", 24 * 27, false),
            ("0 0 1 * *", "2026-11-28T01:59:00Z", 24 * 28, true),
        ] {
            let schedule = schedule(text).unwrap();
            let now = now.parse().unwrap();
            assert_eq!(has_come(&schedule, now, hours(duration)), expected, "{text} {now}");
        }
        assert!(schedule("TZ=Europe/Paris 0 9 * * *").is_err(), "they are in UTC");
    }

    #[test]
    fn the_smallest_active_budget_for_the_reason_holds() {
        use DisruptionReason::{Drifted, Empty, Underutilized};
        let now: Timestamp = "2026-11-27T12:00:00Z".parse().unwrap();
        let window = r#"[{"nodes":"0","schedule":"0 9 * * *","duration":"8h"},{"nodes":"50%"}]"#;
        let night = r#"[{"nodes":"0","schedule":"0 22 * * *","duration":"8h"},{"nodes":"50%"}]"#;
        for (budgets, reason, gone, expected) in [
            (r#"[{"nodes":"10%"}]"#, Underutilized, 0, 2),
            (r#"[{"nodes":"10%"}]"#, Underutilized, 1, 1),
            (r#"[{"nodes":"10%"}]"#, Underutilized, 5, 0),
            (r#"[{"nodes":"3"},{"nodes":"0","reasons":["Drifted"]}]"#, Empty, 0, 3),
            (r#"[{"nodes":"3"},{"nodes":"0","reasons":["Drifted"]}]"#, Drifted, 0, 0),
            (window, Empty, 0, 0),
            (night, Empty, 0, 6),
            (r#"[{"nodes":"5","schedule":"0 9 * * *"}]"#, Empty, 0, 0),
            (r#"[{"nodes":"5","schedule":"nonsense","duration":"8h"}]"#, Empty, 0, 0),
            (r#"[{"nodes":"4294967295%"}]"#, Empty, 0, 42_949_673),
            ("[]", Empty, 0, u32::MAX),
        ] {
            assert_eq!(allowed(&pool(budgets), reason, now, 11, gone), expected, "{budgets}");
        }
    }
}
