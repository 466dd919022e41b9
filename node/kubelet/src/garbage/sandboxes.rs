//! Which dead sandboxes go.
//!
//! Upstream: `evictSandboxes` in `pkg/kubelet/kuberuntime/kuberuntime_gc.go`.

use std::collections::{HashMap, HashSet};

use api_cri::v1;

use crate::labels;

/// The newest of a pod stays: it tells how the pod was. So does one that has containers.
pub(super) fn plan(sandboxes: &[v1::PodSandbox], containers: &[v1::Container]) -> Vec<String> {
    let held: HashSet<&str> = containers.iter().map(|it| it.pod_sandbox_id.as_str()).collect();
    let owner = |it: &v1::PodSandbox| it.labels.get(labels::POD_UID).cloned();
    let mut newest: HashMap<String, i64> = HashMap::new();
    for it in sandboxes {
        let Some(uid) = owner(it) else { continue };
        let known = newest.entry(uid).or_default();
        *known = it.created_at.max(*known);
    }
    let is_dead = |it: &&v1::PodSandbox| {
        let is_older = owner(it).is_some_and(|uid| newest.get(&uid) > Some(&it.created_at));
        let is_ready = it.state == v1::PodSandboxState::SandboxReady as i32;
        is_older && !is_ready && !held.contains(it.id.as_str())
    };
    sandboxes.iter().filter(is_dead).map(|it| it.id.clone()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn of_dead_sandboxes_the_newest_stays_and_those_with_containers() {
        let sandbox = |id: &str, uid: &str, created_at, is_ready: bool| v1::PodSandbox {
            id: id.to_owned(),
            state: i32::from(!is_ready),
            created_at,
            labels: [(labels::POD_UID.to_owned(), uid.to_owned())].into(),
            ..Default::default()
        };
        let all = [
            sandbox("a0", "a", 1, false),
            sandbox("a1", "a", 2, false),
            sandbox("a2", "a", 3, false),
            sandbox("b0", "b", 1, true),
            sandbox("b1", "b", 2, true),
            sandbox("other", "", 1, false),
        ];
        let container = v1::Container { pod_sandbox_id: "a1".to_owned(), ..Default::default() };
        assert_eq!(plan(&all, &[container]), ["a0"]);
        assert_eq!(plan(&all, &[]), ["a0", "a1"]);
    }
}
