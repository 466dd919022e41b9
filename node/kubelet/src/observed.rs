//! What the runtime holds of one pod.
//!
//! **Invariant:** sandboxes and containers are sorted newest first, so that "the" container of a name
//! is the first one found. Attempts say what is newer: a date may have been set back meanwhile.

use std::{cmp::Reverse, collections::BTreeSet, net::IpAddr};

use api_cri::v1;
use futures::future::try_join_all;
use jiff::Timestamp;
use k8s_openapi::api::core::v1::LinuxContainerUser;

use crate::{
    context::Context,
    cri::{CriError, Runtime},
    labels,
    pod::PodUid,
    stop_signal::StopSignal,
};

#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct RuntimePod {
    pub sandboxes: Vec<Sandbox>,
    pub containers: Vec<RuntimeContainer>,
}

#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Sandbox {
    pub id: String,
    pub attempt: u32,
    pub is_ready: bool,
    pub created: Timestamp,
    pub ips: Vec<IpAddr>,
    /// Shares the node's network.
    pub is_host_network: bool,
}

#[derive(Clone, Debug, PartialEq)]
pub(crate) struct RuntimeContainer {
    pub id: String,
    pub sandbox_id: String,
    pub name: String,
    pub restart_count: u32,
    pub hash: String,
    pub image: String,
    pub image_ref: String,
    pub created: Timestamp,
    pub state: State,
    /// Where its termination message is on this host.
    pub message_path: Option<String>,
    pub log_path: String,
    /// How it is asked to end, where that is known.
    pub stop_signal: Option<StopSignal>,
    /// Whose its first process is, where the runtime says so.
    pub user: Option<LinuxContainerUser>,
    /// Mounts, by their paths in it, below which everything is read-only.
    pub recursive_read_only: BTreeSet<String>,
}

#[derive(Clone, Debug, PartialEq)]
pub(crate) enum State {
    Created,
    Running { started: Timestamp },
    Exited { started: Timestamp, finished: Timestamp, code: i32, reason: String, message: String },
    Unknown,
}

impl RuntimeContainer {
    pub(crate) fn is_running(&self) -> bool {
        matches!(self.state, State::Running { .. })
    }
}

impl RuntimePod {
    /// The newest container of this name, in whichever sandbox.
    pub(crate) fn latest(&self, name: &str) -> Option<&RuntimeContainer> {
        self.containers.iter().find(|it| it.name == name)
    }

    /// The one before the newest.
    pub(crate) fn previous(&self, name: &str) -> Option<&RuntimeContainer> {
        self.containers.iter().filter(|it| it.name == name).nth(1)
    }

    pub(crate) fn latest_in(&self, sandbox: &str, name: &str) -> Option<&RuntimeContainer> {
        self.containers.iter().find(|it| it.name == name && it.sandbox_id == sandbox)
    }

    pub(crate) fn ready_sandbox(&self) -> Option<&Sandbox> {
        self.sandboxes.first().filter(|it| it.is_ready)
    }

    pub(crate) fn ips(&self) -> &[IpAddr] {
        self.ready_sandbox().map_or(&[], |it| &it.ips)
    }

    /// What is left when these containers have been removed.
    pub(crate) fn without(&self, removed: &[String]) -> Self {
        let mut left = self.clone();
        left.containers.retain(|it| !removed.contains(&it.id));
        left
    }

    /// A container that was made but never started has nothing that could live on without its
    /// sandbox, and no runtime ends it.
    pub(crate) fn has_live_parts(&self) -> bool {
        let may_live = |it: &State| matches!(it, State::Running { .. } | State::Unknown);
        self.sandboxes.iter().any(|it| it.is_ready)
            || self.containers.iter().any(|it| may_live(&it.state))
    }
}

/// Asks the runtime for everything it holds of a pod.
pub(crate) async fn observe(context: &Context, uid: &PodUid) -> Result<RuntimePod, CriError> {
    let (runtime, nodes) = (&context.runtime, context.node_ips.as_slice());
    let label = Some((labels::POD_UID, uid.0.as_str()));
    let (sandboxes, containers) =
        tokio::try_join!(runtime.list_sandboxes(label), runtime.list_containers(label))?;
    let sandboxes = sandboxes.into_iter().map(|it| sandbox(runtime, it, nodes));
    let containers = containers.into_iter().map(|it| container(runtime, it));
    let (sandboxes, containers) =
        tokio::try_join!(try_join_all(sandboxes), try_join_all(containers))?;
    Ok(sorted(
        sandboxes.into_iter().flatten().collect(),
        containers.into_iter().flatten().collect(),
    ))
}

pub(crate) fn sorted(
    mut sandboxes: Vec<Sandbox>,
    mut containers: Vec<RuntimeContainer>,
) -> RuntimePod {
    sandboxes.sort_by_key(|it| Reverse((it.attempt, it.created)));
    let attempt = |id: &str| sandboxes.iter().find(|it| it.id == id).map(|it| it.attempt);
    // The count of an init container begins anew in a new sandbox.
    containers
        .sort_by_cached_key(|it| Reverse((attempt(&it.sandbox_id), it.restart_count, it.created)));
    RuntimePod { sandboxes, containers }
}

/// `None` when it was removed meanwhile.
async fn sandbox(
    runtime: &Runtime,
    it: v1::PodSandbox,
    nodes: &[IpAddr],
) -> Result<Option<Sandbox>, CriError> {
    match runtime.sandbox_status(&it.id).await {
        Ok(status) => Ok(Some(sandbox_from(status, nodes))),
        Err(error) if error.is_not_found() => Ok(None),
        Err(error) => Err(error),
    }
}

/// `nodes` are the addresses of the node.
pub(crate) fn sandbox_from(status: v1::PodSandboxStatus, nodes: &[IpAddr]) -> Sandbox {
    let mode = status
        .linux
        .and_then(|it| it.namespaces)
        .and_then(|it| it.options)
        .map_or(v1::NamespaceMode::Pod as i32, |it| it.network);
    let network = status.network.unwrap_or_default();
    let texts =
        std::iter::once(network.ip).chain(network.additional_ips.into_iter().map(|it| it.ip));
    Sandbox {
        attempt: status.metadata.map_or(0, |it| it.attempt),
        is_ready: status.state == v1::PodSandboxState::SandboxReady as i32,
        created: nanos(status.created_at),
        ips: ordered(texts.filter_map(|it| it.parse().ok()).collect(), nodes),
        is_host_network: mode == v1::NamespaceMode::Node as i32,
        id: status.id,
    }
}

/// One address of each family at most, that of the node's first address before the other.
fn ordered(found: Vec<IpAddr>, nodes: &[IpAddr]) -> Vec<IpAddr> {
    let is_v6 = nodes.first().is_some_and(IpAddr::is_ipv6);
    let of = |is_v6| found.iter().find(|it| it.is_ipv6() == is_v6).copied();
    [of(is_v6), of(!is_v6)].into_iter().flatten().collect()
}

async fn container(
    runtime: &Runtime,
    it: v1::Container,
) -> Result<Option<RuntimeContainer>, CriError> {
    match runtime.container_status(&it.id).await {
        Ok(status) => Ok(Some(container_from(status, it.pod_sandbox_id))),
        Err(error) if error.is_not_found() => Ok(None),
        Err(error) => Err(error),
    }
}

pub(crate) fn container_from(
    mut status: v1::ContainerStatus,
    sandbox_id: String,
) -> RuntimeContainer {
    let stop_signal = StopSignal::of(&status);
    let state = match v1::ContainerState::try_from(status.state) {
        Ok(v1::ContainerState::ContainerCreated) => State::Created,
        Ok(v1::ContainerState::ContainerRunning) => {
            State::Running { started: nanos(status.started_at) }
        }
        Ok(v1::ContainerState::ContainerExited) => State::Exited {
            started: nanos(status.started_at),
            finished: nanos(status.finished_at),
            code: status.exit_code,
            reason: status.reason,
            message: status.message,
        },
        Ok(v1::ContainerState::ContainerUnknown) | Err(_) => State::Unknown,
    };
    let user = status.user.take().and_then(|it| it.linux).map(|it| LinuxContainerUser {
        uid: it.uid,
        gid: it.gid,
        supplemental_groups: Some(it.supplemental_groups).filter(|it| !it.is_empty()),
    });
    let recursive = status.mounts.iter().filter(|it| it.recursive_read_only);
    let recursive_read_only = recursive.map(|it| it.container_path.clone()).collect();
    let restart_count =
        status.annotations.get(labels::RESTART_COUNT).and_then(|it| it.parse().ok()).unwrap_or(0);
    RuntimeContainer {
        name: status.labels.remove(labels::CONTAINER_NAME).unwrap_or_default(),
        hash: status.annotations.remove(labels::HASH).unwrap_or_default(),
        message_path: status.annotations.remove(labels::MESSAGE_HOST_PATH),
        image: status.image.map(|it| it.image).unwrap_or_default(),
        image_ref: status.image_ref,
        created: nanos(status.created_at),
        log_path: status.log_path,
        id: status.id,
        sandbox_id,
        restart_count,
        state,
        stop_signal,
        user,
        recursive_read_only,
    }
}

fn nanos(nanos: i64) -> Timestamp {
    Timestamp::from_nanosecond(i128::from(nanos)).unwrap_or(Timestamp::UNIX_EPOCH)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_address_of_a_pod_is_of_the_family_of_the_nodes_first() {
        let ips =
            |list: &[&str]| -> Vec<IpAddr> { list.iter().map(|it| it.parse().unwrap()).collect() };
        let found = ips(&["fd00::2", "10.0.0.2", "fd00::3"]);
        for (node, order) in [
            (&["192.168.0.1"][..], ["10.0.0.2", "fd00::2"]),
            (&["fc00::1", "192.168.0.1"][..], ["fd00::2", "10.0.0.2"]),
            (&[][..], ["10.0.0.2", "fd00::2"]),
        ] {
            assert_eq!(ordered(found.clone(), &ips(node)), ips(&order), "{node:?}");
        }
        assert_eq!(ordered(ips(&["fd00::2"]), &ips(&["192.168.0.1"])), ips(&["fd00::2"]));
    }

    #[test]
    fn a_container_that_never_started_holds_no_pod_once_its_sandbox_is_stopped() {
        let created = v1::ContainerStatus {
            state: v1::ContainerState::ContainerCreated as i32,
            ..Default::default()
        };
        let sandbox = |is_ready| {
            let state = if is_ready { 0 } else { v1::PodSandboxState::SandboxNotready as i32 };
            sandbox_from(v1::PodSandboxStatus { state, ..Default::default() }, &[])
        };
        let pod = |is_ready| {
            let containers = vec![container_from(created.clone(), String::new())];
            sorted(vec![sandbox(is_ready)], containers)
        };
        assert!(pod(true).has_live_parts());
        assert!(!pod(false).has_live_parts());
    }
}
