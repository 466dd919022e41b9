//! Flags that upstream wants to be rid of: what is said when one is given, in upstream's words, and those
//! that it no longer has.
//!
//! Upstream: `AddFlags`, `AddKubeletConfigFlags` in `cmd/kubelet/app/options/options.go`,
//! `globalflags_linux.go`.

/// Of every field of the configuration file but [`FREE`].
const IN_FILE: &str = "This parameter should be set via the config file specified by the Kubelet's --config flag. See https://kubernetes.io/docs/tasks/administer-cluster/kubelet-config-file/ for more information.";

/// These may be set by flags for as long as anybody likes.
const FREE: &[&str] = &[
    "provider-id",
    "seccomp-default",
    "log-flush-frequency",
    "fail-cgroupv1",
    "vmodule",
    "runtime-cgroups",
    "housekeeping-interval",
];

const EVICTION: &str =
    "Use --eviction-hard or --eviction-soft instead. Will be removed in a future version.";
const CADVISOR: &str = "This is a cadvisor flag that was mistakenly registered with the Kubelet. Due to legacy concerns, it will follow the standard CLI deprecation timeline before being removed.";

/// Those with words of their own.
const OWN: &[(&str, &str)] = &[
    ("minimum-container-ttl-duration", EVICTION),
    ("maximum-dead-containers-per-container", EVICTION),
    ("maximum-dead-containers", EVICTION),
    ("experimental-mounter-path", "will be removed in 1.25 or later. in favor of using CSI."),
    ("experimental-allocatable-ignore-eviction", "will be removed in 1.25 or later."),
    ("application-metrics-count-limit", CADVISOR),
    ("boot-id-file", CADVISOR),
    ("container-hints", CADVISOR),
    ("containerd", CADVISOR),
    ("containerd-namespace", CADVISOR),
    ("enable-load-reader", CADVISOR),
    ("event-storage-age-limit", CADVISOR),
    ("event-storage-event-limit", CADVISOR),
    ("global-housekeeping-interval", CADVISOR),
    ("log-cadvisor-usage", CADVISOR),
    ("machine-id-file", CADVISOR),
    ("storage-driver-buffer-duration", CADVISOR),
    ("storage-driver-db", CADVISOR),
    ("storage-driver-host", CADVISOR),
    ("storage-driver-password", CADVISOR),
    ("storage-driver-secure", CADVISOR),
    ("storage-driver-table", CADVISOR),
    ("storage-driver-user", CADVISOR),
];

/// Flags of earlier versions.
pub(super) const REMOVED: &[&str] = &[
    "pod-infra-container-image",
    "cloud-config",
    "keep-terminated-pod-volumes",
    "register-schedulable",
    "iptables-masquerade-bit",
    "iptables-drop-bit",
];

/// What is to be said of a flag that was given.
pub(super) fn warning(flag: &str) -> Option<String> {
    if FREE.contains(&flag) {
        return None;
    }
    let own = OWN.iter().find(|(name, _)| *name == flag).map(|(_, words)| *words);
    Some(format!("Flag --{flag} has been deprecated, {}", own.unwrap_or(IN_FILE)))
}

pub(super) fn removed(flag: &str) -> String {
    format!("failed to parse kubelet flag: unknown flag: --{flag}\n")
}
