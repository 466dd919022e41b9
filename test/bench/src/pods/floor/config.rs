//! What a kubelet asks of the runtime for the measured pod: its cgroups, its log, its files, its
//! isolation. Without them the runtime has less to do than any kubelet lets it do.

use api_cri::v1::{
    ContainerConfig, ContainerMetadata, DnsConfig, ImageSpec, LinuxContainerConfig,
    LinuxContainerResources, LinuxContainerSecurityContext, LinuxPodSandboxConfig,
    LinuxSandboxSecurityContext, Mount, NamespaceMode, NamespaceOption, PodSandboxConfig,
    PodSandboxMetadata, SecurityProfile, security_profile::ProfileType,
};

/// A file of every instance, for those that the kubelet makes for each pod.
const FILE: &str = "/etc/hosts";
/// Each is a mount of its own.
const MASKED: [&str; 11] = [
    "/proc/asound",
    "/proc/acpi",
    "/proc/interrupts",
    "/proc/kcore",
    "/proc/keys",
    "/proc/latency_stats",
    "/proc/timer_list",
    "/proc/timer_stats",
    "/proc/sched_debug",
    "/proc/scsi",
    "/sys/firmware",
];
const READ_ONLY: [&str; 5] =
    ["/proc/bus", "/proc/fs", "/proc/irq", "/proc/sys", "/proc/sysrq-trigger"];

pub(super) fn sandbox(name: &str) -> PodSandboxConfig {
    PodSandboxConfig {
        metadata: Some(PodSandboxMetadata {
            name: name.to_owned(),
            uid: name.to_owned(),
            namespace: "floor".to_owned(),
            attempt: 0,
        }),
        hostname: name.to_owned(),
        log_directory: format!("/var/log/pods/floor_{name}_{name}"),
        dns_config: Some(DnsConfig {
            servers: vec!["10.100.0.10".to_owned()],
            searches: vec!["default.svc.cluster.local".to_owned()],
            options: vec!["ndots:5".to_owned()],
        }),
        linux: Some(LinuxPodSandboxConfig {
            // The kubelet clears such a group away when it knows of no such pod.
            cgroup_parent: format!("/kubepods/besteffort/pod{name}"),
            security_context: Some(LinuxSandboxSecurityContext {
                namespace_options: Some(namespaces()),
                // Upstream's kubelet asks for it too, whatever the pod says: its `pause` needs no more.
                seccomp: Some(SecurityProfile {
                    profile_type: ProfileType::RuntimeDefault as i32,
                    ..SecurityProfile::default()
                }),
                ..LinuxSandboxSecurityContext::default()
            }),
            ..LinuxPodSandboxConfig::default()
        }),
        ..PodSandboxConfig::default()
    }
}

/// Its process sleeps for so many seconds, by which it is found.
pub(super) fn container(name: &str, image: &str, mark: u32) -> ContainerConfig {
    ContainerConfig {
        metadata: Some(ContainerMetadata { name: "sleep".to_owned(), attempt: 0 }),
        image: Some(ImageSpec { image: image.to_owned(), ..ImageSpec::default() }),
        command: vec!["sleep".to_owned(), mark.to_string()],
        log_path: format!("{name}.log"),
        mounts: ["/etc/hosts", "/dev/termination-log"].map(mount).into(),
        linux: Some(LinuxContainerConfig {
            resources: Some(LinuxContainerResources {
                cpu_period: 100_000,
                cpu_shares: 2,
                oom_score_adj: 1000,
                ..LinuxContainerResources::default()
            }),
            security_context: Some(LinuxContainerSecurityContext {
                namespace_options: Some(namespaces()),
                masked_paths: MASKED.map(str::to_owned).into(),
                readonly_paths: READ_ONLY.map(str::to_owned).into(),
                ..LinuxContainerSecurityContext::default()
            }),
        }),
        ..ContainerConfig::default()
    }
}

fn mount(container_path: &str) -> Mount {
    Mount {
        container_path: container_path.to_owned(),
        host_path: FILE.to_owned(),
        ..Mount::default()
    }
}

fn namespaces() -> NamespaceOption {
    NamespaceOption { pid: NamespaceMode::Container as i32, ..NamespaceOption::default() }
}
