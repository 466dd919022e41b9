//! The CRI configuration of a pod's sandbox and containers.
//!
//! Everything here is computed from values; files that a container mounts (hosts, termination
//! message, subpaths) are made by the caller.

use api_cri::v1;
use k8s_openapi::api::core::v1::{Container, Pod, VolumeMount};

use crate::{
    expand::expand,
    labels,
    observed::RuntimePod,
    pod::{Kind, PodExt},
    qos, runtime_features, security,
};

/// What the sandbox needs beside the pod.
pub(crate) struct SandboxParts {
    pub attempt: u32,
    pub hostname: String,
    pub log_directory: String,
    pub dns: v1::DnsConfig,
    pub cgroup_parent: String,
    pub users: v1::UserNamespace,
}

pub(crate) fn sandbox(pod: &Pod, parts: SandboxParts) -> v1::PodSandboxConfig {
    // On the host's network the runtime must not set the host's name.
    let hostname = if pod.is_host_network() { String::new() } else { parts.hostname };
    let requests = qos::pod_requests(pod);
    let (limits, all_cpu, all_memory) = qos::pod_limits(pod);
    v1::PodSandboxConfig {
        metadata: Some(v1::PodSandboxMetadata {
            name: pod.name().to_owned(),
            uid: pod.uid().0,
            namespace: pod.namespace().to_owned(),
            attempt: parts.attempt,
        }),
        hostname,
        log_directory: parts.log_directory,
        dns_config: Some(parts.dns),
        port_mappings: port_mappings(pod),
        labels: labels::sandbox_labels(pod),
        annotations: labels::sandbox_annotations(pod),
        linux: Some(v1::LinuxPodSandboxConfig {
            cgroup_parent: parts.cgroup_parent,
            security_context: Some(security::sandbox(pod, parts.users)),
            sysctls: crate::hosts::sysctls(pod).into_iter().collect(),
            overhead: Some(overhead(pod)),
            resources: Some(v1::LinuxContainerResources {
                cpu_shares: qos::cpu_shares(requests.cpu_milli),
                cpu_quota: if all_cpu { qos::cpu_quota(limits.cpu_milli) } else { 0 },
                cpu_period: qos::CPU_PERIOD,
                memory_limit_in_bytes: if all_memory { limits.memory } else { 0 },
                ..Default::default()
            }),
        }),
    }
}

/// What the sandbox itself takes, as its RuntimeClass says.
fn overhead(pod: &Pod) -> v1::LinuxContainerResources {
    let list = PodExt::spec(pod).overhead.as_ref();
    let cpu = list.and_then(|it| it.get("cpu")).and_then(crate::quantity::milli).unwrap_or(0);
    let memory = list.and_then(|it| it.get("memory")).and_then(crate::quantity::value);
    if list.is_none_or(std::collections::BTreeMap::is_empty) {
        return v1::LinuxContainerResources::default();
    }
    v1::LinuxContainerResources {
        cpu_shares: qos::cpu_shares(cpu),
        cpu_quota: qos::cpu_quota(cpu),
        cpu_period: qos::CPU_PERIOD,
        memory_limit_in_bytes: memory.unwrap_or(0),
        ..Default::default()
    }
}

fn port_mappings(pod: &Pod) -> Vec<v1::PortMapping> {
    if pod.is_host_network() {
        return Vec::new();
    }
    let all = pod.all_containers();
    let ports = all.iter().flat_map(|(_, it)| it.ports.iter().flatten());
    let mapping = |port: &k8s_openapi::api::core::v1::ContainerPort| v1::PortMapping {
        protocol: match port.protocol.as_deref() {
            Some("UDP") => v1::Protocol::Udp,
            Some("SCTP") => v1::Protocol::Sctp,
            _ => v1::Protocol::Tcp,
        } as i32,
        container_port: port.container_port,
        host_port: port.host_port.unwrap_or(0),
        host_ip: port.host_ip.clone().unwrap_or_default(),
    };
    ports.map(mapping).collect()
}

/// What a container needs beside the pod.
pub(crate) struct ContainerParts<'a> {
    pub kind: Kind,
    pub restart_count: u32,
    pub image: &'a v1::Image,
    pub env: Vec<(String, String)>,
    pub mounts: Vec<v1::Mount>,
    pub message_host_path: &'a str,
    pub node_memory: i64,
    pub seccomp_root: &'a str,
    pub seccomp_default: bool,
    pub users: Option<v1::UserNamespace>,
    pub observed: &'a RuntimePod,
}

pub(crate) fn container(
    pod: &Pod,
    it: &Container,
    parts: ContainerParts<'_>,
) -> v1::ContainerConfig {
    let lookup = |name: &str| {
        parts.env.iter().rev().find(|(known, _)| known == name).map(|(_, value)| value.as_str())
    };
    let expanded = |list: &Option<Vec<String>>| {
        list.iter().flatten().map(|text| expand(text, lookup)).collect::<Vec<_>>()
    };
    let given = security::Given {
        image: parts.image,
        target: target(pod, &it.name),
        seccomp_root: parts.seccomp_root,
        seccomp_default: parts.seccomp_default,
        users: parts.users,
        observed: parts.observed,
    };
    let context = security::container(pod, parts.kind, it, &given);
    v1::ContainerConfig {
        metadata: Some(v1::ContainerMetadata {
            name: it.name.clone(),
            attempt: parts.restart_count,
        }),
        image: Some(v1::ImageSpec {
            image: parts.image.id.clone(),
            annotations: Default::default(),
        }),
        command: expanded(&it.command),
        args: expanded(&it.args),
        working_dir: it.working_dir.clone().unwrap_or_default(),
        labels: labels::container_labels(pod, it),
        annotations: labels::container_annotations(
            pod,
            it,
            parts.restart_count,
            parts.message_host_path,
        ),
        log_path: format!("{}/{}.log", it.name, parts.restart_count),
        stdin: it.stdin.unwrap_or(false),
        stdin_once: it.stdin_once.unwrap_or(false),
        tty: it.tty.unwrap_or(false),
        linux: Some(v1::LinuxContainerConfig {
            resources: Some(resources(pod, it, parts.node_memory)),
            security_context: Some(context),
        }),
        envs: parts.env.into_iter().map(|(key, value)| v1::KeyValue { key, value }).collect(),
        mounts: parts.mounts,
        devices: Vec::new(),
        cdi_devices: Vec::new(),
        stop_signal: 0,
    }
}

/// The container whose processes a debugger sees.
fn target<'a>(pod: &'a Pod, debugger: &str) -> Option<&'a str> {
    let all = PodExt::spec(pod).ephemeral_containers.iter().flatten();
    let own = all.filter(|it| it.name == debugger);
    own.filter_map(|it| it.target_container_name.as_deref()).find(|it| !it.is_empty())
}

/// A debugger waits for the container whose processes it is to see.
pub(crate) fn check_target(pod: &Pod, debugger: &str, observed: &RuntimePod) -> Result<(), String> {
    match target(pod, debugger).filter(|it| observed.latest(it).is_none()) {
        None => Ok(()),
        Some(missing) => Err(format!("unable to find target container {missing}")),
    }
}

/// Whether a runtime gives containers CDI devices: containerd does since 1.7.
pub(crate) fn has_cdi(runtime: &str, version: &str) -> bool {
    match (runtime, runtime_features::number(version)) {
        ("containerd", Some(number)) => number >= (1, 7),
        _ => true,
    }
}

pub(crate) fn resources(
    pod: &Pod,
    container: &Container,
    node_memory: i64,
) -> v1::LinuxContainerResources {
    let own = qos::effective(container.resources.as_ref(), qos::pod_level(pod));
    let (requests, limits) = (qos::requests(Some(&own)), qos::limits(Some(&own)));
    v1::LinuxContainerResources {
        cpu_period: qos::CPU_PERIOD,
        cpu_quota: qos::cpu_quota(limits.cpu_milli),
        cpu_shares: qos::cpu_shares(requests.cpu_milli),
        memory_limit_in_bytes: limits.memory,
        oom_score_adj: qos::oom_score_adj(pod, container, node_memory),
        hugepage_limits: hugepages(container),
        ..Default::default()
    }
}

fn hugepages(container: &Container) -> Vec<v1::HugepageLimit> {
    let limits = container.resources.as_ref().and_then(|it| it.limits.as_ref());
    let listed = limits.into_iter().flatten().filter_map(|(name, quantity)| {
        let page_size = name.strip_prefix("hugepages-")?;
        let limit = u64::try_from(crate::quantity::value(quantity)?).ok()?;
        // The runtime writes sizes as the kernel names them: 2MB, 1GB.
        let page_size = page_size.trim_end_matches('i').to_owned() + "B";
        Some(v1::HugepageLimit { page_size, limit })
    });
    listed.collect()
}

/// One mount of a volume; `host_path` is the volume's or its subpath's.
pub(crate) fn mount(it: &VolumeMount, host_path: String) -> v1::Mount {
    let propagation = match it.mount_propagation.as_deref() {
        Some("HostToContainer") => v1::MountPropagation::PropagationHostToContainer,
        Some("Bidirectional") => v1::MountPropagation::PropagationBidirectional,
        _ => v1::MountPropagation::PropagationPrivate,
    };
    v1::Mount {
        container_path: container_path(it),
        host_path,
        readonly: it.read_only.unwrap_or(false),
        propagation: propagation as i32,
        ..v1::Mount::default()
    }
}

/// The files of an image, or a part of them, as the runtime mounts them itself.
pub(crate) fn image_mount(it: &VolumeMount, image: &str, part: Option<String>) -> v1::Mount {
    let image = v1::ImageSpec { image: image.to_owned(), ..v1::ImageSpec::default() };
    v1::Mount {
        container_path: container_path(it),
        readonly: true,
        image: Some(image),
        image_sub_path: part.unwrap_or_default(),
        ..v1::Mount::default()
    }
}

pub(crate) fn container_path(it: &VolumeMount) -> String {
    if it.mount_path.starts_with('/') {
        it.mount_path.clone()
    } else {
        format!("/{}", it.mount_path)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parts<'a>(image: &'a v1::Image, observed: &'a RuntimePod) -> ContainerParts<'a> {
        ContainerParts {
            kind: Kind::Regular,
            restart_count: 2,
            image,
            env: vec![("A".to_owned(), "1".to_owned())],
            mounts: Vec::new(),
            message_host_path: "/m",
            node_memory: 1 << 30,
            seccomp_root: "/s",
            seccomp_default: false,
            users: None,
            observed,
        }
    }

    #[test]
    fn containerd_has_cdi_since_1_7() {
        for (version, has) in [("1.6.20~ds1", false), ("v1.7.1", true), ("2.0.0", true)] {
            assert_eq!(has_cdi("containerd", version), has, "{version}");
        }
        assert!(has_cdi("cri-o", "1.30.0"));
    }

    #[test]
    fn a_container_is_recognisable_to_the_next_kubelet() {
        let (image, observed) = (v1::Image::default(), RuntimePod::default());
        let it = Container {
            name: "c".to_owned(),
            command: Some(vec!["echo".to_owned(), "$(A)".to_owned()]),
            ..Container::default()
        };
        let config = container(&Pod::default(), &it, parts(&image, &observed));
        assert_eq!(config.command, ["echo", "1"]);
        assert_eq!(config.log_path, "c/2.log");
        assert_eq!(config.annotations[labels::RESTART_COUNT], "2");
        assert_eq!(config.labels[labels::CONTAINER_NAME], "c");
        assert_eq!(config.annotations[labels::HASH], labels::container_hash(&it));
    }
}
