//! How many nodes of a pool may be disrupted now, by reason.
//!
//! Of all budgets that are active and name the reason (or none) the smallest holds; a percentage is
//! of the pool's nodes and rounds up; nodes that are not ready or on their way out already count. A
//! budget that cannot be read allows nothing.

use api_kube::karpenter::{Budget, DisruptionReason, NodePool};
use jiff::Timestamp;

use super::cron::Schedule;

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
        (Some(schedule), Some(_)) => match (Schedule::parse(schedule), budget.duration()) {
            (Some(schedule), Some(duration)) => schedule.is_active(now, duration),
            _ => true,
        },
        _ => true,
    }
}

fn most(budget: &Budget, nodes: u32) -> u32 {
    let is_readable = match (&budget.schedule, &budget.duration) {
        (None, None) => true,
        (Some(schedule), Some(_)) => {
            Schedule::parse(schedule).is_some() && budget.duration().is_some()
        }
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
