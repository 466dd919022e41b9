//! What changes a group's sizes without its user: scheduled actions and scaling policies.

use aws_autoscaling::policy::StepAdjustment;
use jiff::Timestamp;
use serde::{Deserialize, Serialize};

/// Sizes that the group gets at a certain time, or at certain times.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize)]
pub struct Scheduled {
    pub name: String,
    pub arn: String,
    pub start: Option<Timestamp>,
    pub end: Option<Timestamp>,
    pub recurrence: Option<String>,
    pub time_zone: Option<String>,
    pub min: Option<i64>,
    pub max: Option<i64>,
    pub desired: Option<i64>,
    /// When it runs next.
    pub next: Timestamp,
}

/// How the size is changed when the policy is carried out.
#[derive(Clone, Debug, PartialEq, Deserialize, Serialize)]
pub struct Policy {
    pub name: String,
    pub arn: String,
    pub adjustment_type: AdjustmentType,
    /// Of a percentage: as many instances at least.
    pub least: Option<i64>,
    pub kind: PolicyKind,
    pub is_enabled: bool,
}

#[derive(Clone, Debug, PartialEq, Deserialize, Serialize)]
pub enum PolicyKind {
    Simple {
        adjustment: i64,
        /// In seconds; `None`: the group's default.
        cooldown: Option<i64>,
    },
    /// By how far a metric is beyond its threshold.
    Step { steps: Vec<StepAdjustment>, aggregation: String, warmup: Option<i64> },
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, Serialize)]
pub enum AdjustmentType {
    ChangeInCapacity,
    ExactCapacity,
    PercentChangeInCapacity,
}

impl AdjustmentType {
    pub const ALL: [Self; 3] =
        [Self::ChangeInCapacity, Self::ExactCapacity, Self::PercentChangeInCapacity];

    pub fn name(self) -> &'static str {
        match self {
            Self::ChangeInCapacity => "ChangeInCapacity",
            Self::ExactCapacity => "ExactCapacity",
            Self::PercentChangeInCapacity => "PercentChangeInCapacity",
        }
    }
}

impl Policy {
    /// The capacity that follows from `current`, before the group's bounds.
    ///
    /// Source: user guide, "Step and simple scaling policies": what is less than one instance is one, and
    /// the rest of a fraction counts for nothing.
    pub fn adjusted(&self, current: i64, by: i64) -> i64 {
        match self.adjustment_type {
            AdjustmentType::ChangeInCapacity => current.saturating_add(by),
            AdjustmentType::ExactCapacity => by,
            AdjustmentType::PercentChangeInCapacity => {
                let product = current.saturating_mul(by);
                let whole = match product / 100 {
                    0 => product.signum(),
                    whole => whole,
                };
                let least = self.least.unwrap_or(0);
                let change = if whole.abs() < least { whole.signum() * least } else { whole };
                current.saturating_add(change)
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn policy(adjustment_type: AdjustmentType, least: Option<i64>) -> Policy {
        let kind = PolicyKind::Simple { adjustment: 0, cooldown: None };
        let (name, arn) = (String::new(), String::new());
        Policy { name, arn, adjustment_type, least, kind, is_enabled: true }
    }

    #[test]
    fn a_part_of_an_instance_is_one_and_the_rest_of_a_fraction_is_nothing() {
        let percent = policy(AdjustmentType::PercentChangeInCapacity, None);
        for (current, by, expected) in
            [(10, 25, 12), (3, 10, 4), (10, -25, 8), (3, -10, 2), (4, 0, 4), (0, 50, 0)]
        {
            assert_eq!(percent.adjusted(current, by), expected, "{current} by {by} %");
        }
        let two = policy(AdjustmentType::PercentChangeInCapacity, Some(2));
        assert_eq!((two.adjusted(4, 25), two.adjusted(4, -25), two.adjusted(4, 100)), (6, 2, 8));
        assert_eq!(policy(AdjustmentType::ChangeInCapacity, None).adjusted(3, -2), 1);
        assert_eq!(policy(AdjustmentType::ExactCapacity, None).adjusted(3, 7), 7);
    }
}
