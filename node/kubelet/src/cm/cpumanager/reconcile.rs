//! Brings the CPUs of running containers to what the state says.
//!
//! Upstream: `reconcileState` in `pkg/kubelet/cm/cpumanager/cpu_manager.go`.

use std::{collections::BTreeMap, time::Duration};

use api_cri::v1;
use tracing::{debug, warn};

use crate::{cri::Runtime, labels, pod::PodUid};

/// What containers are known to run on, by their ids.
pub(crate) type Applied = BTreeMap<String, String>;

/// One round over all containers that run.
pub(crate) async fn apply(
    runtime: &Runtime,
    applied: &mut Applied,
    affinity: impl Fn(&PodUid, &str) -> Option<String>,
) {
    let containers = match runtime.list_containers(None).await {
        Ok(containers) => containers,
        Err(error) => {
            debug!(%error, "the CPUs of containers cannot be looked at");
            return;
        }
    };
    applied.retain(|id, _| containers.iter().any(|it| it.id == *id));
    for (id, cpus) in plan(&containers, applied, affinity) {
        let resources = v1::LinuxContainerResources {
            cpuset_cpus: cpus.clone(),
            ..v1::LinuxContainerResources::default()
        };
        match runtime.update_container_resources(&id, resources).await {
            Ok(()) => drop(applied.insert(id, cpus)),
            Err(error) => warn!(id, cpus, %error, "the CPUs of a container were not changed"),
        }
    }
}

/// How often containers are looked at again.
pub(crate) fn period(configured: Duration) -> Duration {
    configured.max(Duration::from_millis(100))
}

/// The containers that run, and do not yet run on their CPUs.
fn plan(
    containers: &[v1::Container],
    applied: &Applied,
    affinity: impl Fn(&PodUid, &str) -> Option<String>,
) -> Vec<(String, String)> {
    let running =
        containers.iter().filter(|it| it.state == v1::ContainerState::ContainerRunning as i32);
    running
        .filter_map(|it| {
            let uid = PodUid(it.labels.get(labels::POD_UID)?.clone());
            let cpus = affinity(&uid, it.labels.get(labels::CONTAINER_NAME)?)?;
            (applied.get(&it.id) != Some(&cpus)).then(|| (it.id.clone(), cpus))
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_running_containers_on_the_wrong_cpus_are_changed() {
        let container = |id: &str, state: v1::ContainerState| v1::Container {
            id: id.to_owned(),
            state: state as i32,
            labels: [
                (labels::POD_UID.to_owned(), "p".to_owned()),
                (labels::CONTAINER_NAME.to_owned(), id.to_owned()),
            ]
            .into(),
            ..v1::Container::default()
        };
        use v1::ContainerState::{ContainerExited, ContainerRunning};
        let containers = [
            container("right", ContainerRunning),
            container("wrong", ContainerRunning),
            container("dead", ContainerExited),
        ];
        let applied = [("right", "0-1"), ("wrong", "0-3")];
        let applied = applied.map(|(k, v)| (k.to_owned(), v.to_owned())).into();
        let planned = plan(&containers, &applied, |_, _| Some("0-1".to_owned()));
        assert_eq!(planned, [("wrong".to_owned(), "0-1".to_owned())]);
    }
}
