//! Which pods end together, and how long they may take.
//!
//! Upstream: `migrateConfig` and `groupByPriority` in `pkg/kubelet/nodeshutdown`.

use crate::{config::KubeletConfiguration, pod::PodUid};

/// `system-cluster-critical`; what is at least as important ends last.
const CRITICAL: i32 = 2_000_000_000;

#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Pod {
    pub uid: PodUid,
    pub priority: i32,
    /// Its own grace, in seconds.
    pub grace: i64,
}

/// The pods from this priority up to that of the next group.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Group {
    pub priority: i32,
    pub seconds: i64,
    pub pods: Vec<Pod>,
}

/// The empty groups of a configuration, in the order in which they end.
pub(super) fn groups(config: &KubeletConfiguration) -> Vec<Group> {
    if !config.gate("GracefulNodeShutdown", true) {
        return Vec::new();
    }
    let of = |priority, seconds| Group { priority, seconds, pods: Vec::new() };
    let listed = &config.shutdown_grace_period_by_pod_priority;
    if !listed.is_empty() {
        let mut groups: Vec<_> =
            listed.iter().map(|it| of(it.priority, it.shutdown_grace_period_seconds)).collect();
        groups.sort_by_key(|it| it.priority);
        return groups;
    }
    let seconds = |it: crate::GoDuration| i64::try_from(it.0.as_secs()).unwrap_or(i64::MAX);
    let all = seconds(config.shutdown_grace_period);
    if all == 0 {
        return Vec::new();
    }
    let critical = seconds(config.shutdown_grace_period_critical_pods);
    vec![of(0, all - critical), of(CRITICAL, critical)]
}

/// Puts each pod into the group of the highest priority that is not above its own; one below all
/// groups into the lowest.
pub(super) fn by_priority(groups: &[Group], pods: Vec<Pod>) -> Vec<Group> {
    let mut groups = groups.to_vec();
    for pod in pods {
        let index = groups.iter().rposition(|it| it.priority <= pod.priority).unwrap_or(0);
        if let Some(group) = groups.get_mut(index) {
            group.pods.push(pod);
        }
    }
    groups
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{GoDuration, config::ShutdownGracePeriodByPodPriority as ByPriority};

    fn pod(uid: &str, priority: i32) -> Pod {
        Pod { uid: PodUid(uid.to_owned()), priority, grace: 30 }
    }

    fn filled(config: &KubeletConfiguration, pods: Vec<Pod>) -> Vec<(i64, Vec<String>)> {
        by_priority(&groups(config), pods)
            .into_iter()
            .map(|it| (it.seconds, it.pods.into_iter().map(|it| it.uid.0).collect()))
            .collect()
    }

    #[test]
    fn critical_pods_end_last_with_their_part_of_the_time() {
        let config = KubeletConfiguration {
            shutdown_grace_period: GoDuration::seconds(30),
            shutdown_grace_period_critical_pods: GoDuration::seconds(10),
            ..KubeletConfiguration::default()
        };
        let pods = vec![pod("critical", CRITICAL + 1000), pod("web", 0), pod("batch", -5)];
        let expected =
            [(20, vec!["web".to_owned(), "batch".to_owned()]), (10, vec!["critical".to_owned()])];
        assert_eq!(filled(&config, pods), expected);
        assert!(groups(&KubeletConfiguration::default()).is_empty());
    }

    #[test]
    fn priorities_in_between_belong_to_the_lower_group() {
        let of = |priority, shutdown_grace_period_seconds| ByPriority {
            priority,
            shutdown_grace_period_seconds,
        };
        let config = KubeletConfiguration {
            shutdown_grace_period_by_pod_priority: vec![of(10_000, 20), of(0, 30), of(100, 5)],
            ..KubeletConfiguration::default()
        };
        let pods =
            vec![pod("a", 99), pod("b", 100), pod("c", 9999), pod("d", 10_000), pod("e", -1)];
        let expected = [
            (30, vec!["a".to_owned(), "e".to_owned()]),
            (5, vec!["b".to_owned(), "c".to_owned()]),
            (20, vec!["d".to_owned()]),
        ];
        assert_eq!(filled(&config, pods), expected);
    }
}
