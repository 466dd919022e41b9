//! Which of the resizes that wait for room comes first.
//!
//! Upstream: `sortPendingResizes` in `pkg/kubelet/allocation/allocation_manager.go`: by priority, then
//! by class, then who has waited longest.

use std::{cmp::Reverse, sync::Arc};

use k8s_openapi::api::core::v1::Pod;
use tokio::time::Instant;

use crate::{
    pod::{PodExt, PodUid},
    qos::{self, QosClass},
};

/// A pod as it would be, and since when it waits.
pub(in crate::pod_workers) type Waiting = (Arc<Pod>, Instant);

/// Lower comes first. Of those who came at once the name decides, so that there is one answer.
fn rank(pod: &Pod, since: Instant) -> (Reverse<i32>, QosClass, Instant, PodUid) {
    let priority = PodExt::spec(pod).priority.unwrap_or(0);
    (Reverse(priority), qos::qos_class(pod), since, pod.uid())
}

/// Those of `waiting` that come before `pod`, in their order. One that asks for the first time waits
/// since now.
pub(super) fn ahead_of(pod: &Pod, since: Option<Instant>, waiting: Vec<Waiting>) -> Vec<Arc<Pod>> {
    let own = rank(pod, since.unwrap_or_else(Instant::now));
    let ranked = waiting.into_iter().map(|(pod, since)| (rank(&pod, since), pod));
    let mut ahead: Vec<_> =
        ranked.filter(|(rank, other)| *rank < own && other.uid() != pod.uid()).collect();
    ahead.sort_by(|a, b| a.0.cmp(&b.0));
    ahead.into_iter().map(|(_, pod)| pod).collect()
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use serde_json::json;

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn priority_comes_before_class_and_class_before_patience() {
        let now = Instant::now();
        let pod = |name: &str, priority: i32, limits: serde_json::Value| -> Arc<Pod> {
            let resources = json!({ "limits": limits, "requests": limits });
            let container = json!({ "name": "c", "resources": resources });
            let spec = json!({ "priority": priority, "containers": [container] });
            let pod = json!({ "metadata": { "name": name, "uid": name }, "spec": spec });
            Arc::new(serde_json::from_value(pod).unwrap())
        };
        let (some, all) = (json!({ "cpu": "1" }), json!({ "cpu": "1", "memory": "1Gi" }));
        let waiting = [
            (pod("patient", 0, some.clone()), now - Duration::from_secs(60)),
            (pod("guaranteed", 0, all.clone()), now - Duration::from_secs(5)),
            (pod("important", 9, some.clone()), now),
            (pod("late", 0, some.clone()), now),
        ];
        let ask = |pod: &Pod, since| -> Vec<_> {
            let ahead = ahead_of(pod, since, waiting.to_vec());
            ahead.iter().map(|it| it.name().to_owned()).collect()
        };
        let all_of_them = ["important", "guaranteed", "patient", "late"];
        assert_eq!(ask(&pod("z", 0, some.clone()), None), all_of_them);
        assert_eq!(ask(&waiting[0].0, Some(waiting[0].1)), all_of_them[..2]);
        assert_eq!(ask(&pod("z", 0, all), None), all_of_them[..2]);
        assert!(ask(&pod("z", 10, some), None).is_empty());
    }
}
