//! The status of an autoscaler in the making.

use controller::object;
use jiff::Timestamp;
use k8s_openapi::api::autoscaling::v2::{
    HorizontalPodAutoscaler, HorizontalPodAutoscalerCondition,
};
use serde_json::{Value, json};

use super::behavior;

/// See the module.
pub(super) struct Report {
    pub(super) status: Value,
    conditions: Vec<HorizontalPodAutoscalerCondition>,
    now: Timestamp,
}

impl Report {
    pub(super) fn new(it: &HorizontalPodAutoscaler, now: Timestamp) -> Self {
        let known = it.status.clone().unwrap_or_default();
        let conditions = known.conditions.clone().unwrap_or_default();
        let mut status = json!(known);
        status["observedGeneration"] = json!(it.metadata.generation);
        status["desiredReplicas"] = json!(known.desired_replicas);
        Self { status, conditions, now }
    }

    pub(super) fn limited(&mut self, limited: &behavior::Limited, current: i32, desired: i32) {
        let (reason, message) = match limited.is_stabilized {
            true if desired < current => (
                "ScaleDownStabilized",
                "recent recommendations were higher than current one, applying the highest recent recommendation",
            ),
            true => (
                "ScaleUpStabilized",
                "recent recommendations were lower than current one, applying the lowest recent recommendation",
            ),
            false => ("ReadyForNewScale", "recommended size matches current size"),
        };
        self.set("AbleToScale", "True", reason, message);
        let is_limited = if limited.is_limited { "True" } else { "False" };
        self.set("ScalingLimited", is_limited, limited.reason, limited.message);
    }

    pub(super) fn set(&mut self, kind: &str, status: &str, reason: &str, message: &str) {
        let old = self.conditions.iter().position(|it| it.type_ == kind);
        let new = HorizontalPodAutoscalerCondition {
            type_: kind.into(),
            status: status.into(),
            reason: Some(reason.into()),
            message: Some(message.into()),
            last_transition_time: Some(object::time(self.now)),
        };
        match old {
            None => self.conditions.push(new),
            Some(at) => {
                let old = &mut self.conditions[at];
                let since = old.last_transition_time.take().filter(|_| old.status == status);
                *old = HorizontalPodAutoscalerCondition {
                    last_transition_time: since.or(new.last_transition_time),
                    ..new
                };
            }
        }
        self.status["conditions"] = json!(self.conditions);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_conditions_date_changes_with_its_status_only() {
        let it = HorizontalPodAutoscaler::default();
        let mut report = Report::new(&it, Timestamp::UNIX_EPOCH);
        report.set("ScalingActive", "True", "A", "a");
        report.now = Timestamp::from_second(60).unwrap();
        report.set("ScalingActive", "True", "B", "b");
        let condition = &report.status["conditions"][0];
        assert_eq!(condition["reason"], "B");
        assert_eq!(condition["lastTransitionTime"], "1970-01-01T00:00:00Z");
        report.set("ScalingActive", "False", "C", "c");
        assert_eq!(report.status["conditions"][0]["lastTransitionTime"], "1970-01-01T00:01:00Z");
    }
}
