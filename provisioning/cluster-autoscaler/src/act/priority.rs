//! Pods that go in groups: those of least priority first, each group with a grace period of its own.
//!
//! Upstream: `core/scaledown/actuation/priority.go`, and the kubelet's `groupByPriority`.

use std::time::Duration;

use crate::{
    options::{Drain, PriorityGrace},
    world::PodFact,
};

/// Pods that go together, and the longest grace period that they get.
pub(super) struct Group {
    pub(super) grace: Duration,
    pub(super) pods: Vec<PodFact>,
}

/// `PRIORITY:SECONDS,…`; none in an empty text.
pub(crate) fn parse(text: &str) -> Result<Vec<PriorityGrace>, String> {
    if text.is_empty() {
        return Ok(Vec::new());
    }
    let each = text.split(',').map(|pair| {
        let (priority, seconds) = pair.split_once(':')?;
        let grace = Duration::from_secs(seconds.trim().parse().ok()?);
        Some(PriorityGrace { priority: priority.trim().parse().ok()?, grace })
    });
    let mut all: Vec<PriorityGrace> = each
        .collect::<Option<_>>()
        .ok_or_else(|| format!("invalid configuration, parsing --drain-priority-config={text}"))?;
    all.sort_unstable();
    Ok(all)
}

/// In the order in which they go; all at once, where priorities say nothing.
pub(super) fn groups(pods: Vec<PodFact>, drain: &Drain) -> Vec<Group> {
    let group = |grace: Duration| Group { grace, pods: Vec::new() };
    let mut groups: Vec<Group> = match drain.priorities.as_slice() {
        [] => vec![group(drain.max_graceful_termination)],
        all => all.iter().map(|it| group(it.grace)).collect(),
    };
    for pod in pods {
        let priority = pod.pod.spec.as_ref().and_then(|it| it.priority).unwrap_or(0);
        // Of less priority than any is the first.
        let from = drain.priorities.iter().rposition(|it| it.priority <= priority);
        groups[from.unwrap_or(0)].pods.push(pod);
    }
    groups.retain(|it| !it.pods.is_empty());
    groups
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn pod(priority: i32) -> PodFact {
        let pod = json!({ "metadata": { "name": priority.to_string() },
            "spec": { "priority": priority, "containers": [] } });
        PodFact::new(serde_json::from_value(pod).unwrap())
    }

    #[test]
    fn pods_go_by_priority_and_each_group_has_its_grace_period() {
        let drain =
            Drain { priorities: parse("1000:100,-5:60,10000:20").unwrap(), ..Drain::default() };
        let pods = [2_000_000_000, -10, 999, 1000, 0].map(pod).into();
        let found: Vec<(u64, Vec<String>)> = groups(pods, &drain)
            .into_iter()
            .map(|it| (it.grace.as_secs(), it.pods.iter().map(|it| it.info.name.clone()).collect()))
            .collect();
        let named = |all: &[&str]| all.iter().map(ToString::to_string).collect::<Vec<_>>();
        assert_eq!(
            found,
            [
                (60, named(&["-10", "999", "0"])),
                (100, named(&["1000"])),
                (20, named(&["2000000000"])),
            ]
        );
    }

    #[test]
    fn without_priorities_all_go_at_once() {
        let found = groups([5, -5].map(pod).into(), &Drain::default());
        assert_eq!((found.len(), found[0].pods.len(), found[0].grace.as_secs()), (1, 2, 600));
        assert!(groups(Vec::new(), &Drain::default()).is_empty());
    }

    #[test]
    fn what_is_no_pair_of_numbers_is_refused() {
        for wrong in ["1", "1:", "a:1", "1:1,", "1:-1"] {
            assert!(parse(wrong).is_err(), "{wrong}");
        }
    }
}
