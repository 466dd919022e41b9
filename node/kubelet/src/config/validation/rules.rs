//! The rules about fields that depend on others, and about words.

use std::collections::BTreeSet;

use super::super::KubeletConfiguration;
use crate::{duration, eviction, quantity};

const POLICIES: [&str; 4] = ["none", "best-effort", "restricted", "single-numa-node"];
const PULL_POLICIES: [&str; 4] =
    ["NeverVerify", "NeverVerifyPreloadedImages", "NeverVerifyAllowlistedImages", "AlwaysVerify"];
const EFFECTS: [&str; 3] = ["NoSchedule", "PreferNoSchedule", "NoExecute"];

/// Everything that is wrong, as upstream lists it.
pub(in super::super) fn validate(config: &KubeletConfiguration) -> Vec<String> {
    let mut wrong = Vec::new();
    let mut refuse = |message: String| wrong.push(format!("invalid configuration: {message}"));
    images(config, &mut refuse);
    shutdown(config, &mut refuse);
    words(config, &mut refuse);
    allocatable(config, &mut refuse);
    reserved_memory(config, &mut refuse);
    logs(config, &mut refuse);
    if !config.system_cgroups.is_empty() && config.cgroup_root.is_empty() {
        refuse("systemCgroups (--system-cgroups) was specified and cgroupRoot (--cgroup-root) was not specified".to_owned());
    }
    if config.server_tls_bootstrap && !config.gate("RotateKubeletServerCertificate", true) {
        refuse(
            "serverTLSBootstrap true requires feature gate RotateKubeletServerCertificate"
                .to_owned(),
        );
    }
    if config.run_once {
        refuse(
            "runOnce (--runOnce) true, Runonce mode has been deprecated and should not be set"
                .to_owned(),
        );
    }
    let factor = config.memory_throttling_factor;
    if factor <= 0.0 || factor > 1.0 {
        refuse(format!(
            "memoryThrottlingFactor {factor} must be greater than 0 and less than or equal to 1.0"
        ));
    }
    cpu_period(config, &mut refuse);
    if let Some(error) = taints(config) {
        wrong.push(error);
    }
    wrong.extend(reserved(config));
    wrong.extend(eviction::thresholds(config).err());
    wrong
}

fn images(config: &KubeletConfiguration, refuse: &mut impl FnMut(String)) {
    let (low, high) =
        (config.image_gc_low_threshold_percent, config.image_gc_high_threshold_percent);
    if low >= high {
        refuse(format!(
            "imageGCLowThresholdPercent (--image-gc-low-threshold) {low} must be less than imageGCHighThresholdPercent (--image-gc-high-threshold) {high}"
        ));
    }
    let (least, most) = (config.image_minimum_gc_age.0, config.image_maximum_gc_age.0);
    if !most.is_zero() && most <= least {
        refuse(format!(
            "imageMaximumGCAge {} must be greater than imageMinimumGCAge {}",
            duration::format(most),
            duration::format(least)
        ));
    }
    if config.serialize_image_pulls && config.max_parallel_image_pulls.is_some_and(|it| it > 1) {
        refuse("maxParallelImagePulls cannot be larger than 1 unless SerializeImagePulls (--serialize-image-pulls) is set to false".to_owned());
    }
    let policy = config.image_pull_credentials_verification_policy.as_str();
    if !PULL_POLICIES.contains(&policy) {
        refuse(format!(
            "option {policy:?} specified for imagePullCredentialsVerificationPolicy. Valid options are {:?}, {:?}, {:?} or {:?}",
            PULL_POLICIES[0], PULL_POLICIES[1], PULL_POLICIES[2], PULL_POLICIES[3]
        ));
    }
    if !config.preloaded_images_verification_allowlist.is_empty()
        && policy != "NeverVerifyAllowlistedImages"
    {
        refuse("can't set `preloadedImagesVerificationAllowlist` if `imagePullCredentialsVertificationPolicy` is not \"NeverVerifyAllowlistedImages\"".to_owned());
    }
}

fn shutdown(config: &KubeletConfiguration, refuse: &mut impl FnMut(String)) {
    let (all, critical) =
        (config.shutdown_grace_period.0, config.shutdown_grace_period_critical_pods.0);
    let is_configured = !all.is_zero() || !critical.is_zero();
    let (shown_all, shown_critical) = (duration::format(all), duration::format(critical));
    if !config.gate("GracefulNodeShutdown", true) {
        if is_configured {
            refuse("specifying shutdownGracePeriod or shutdownGracePeriodCriticalPods requires feature gate GracefulNodeShutdown".to_owned());
        }
        return;
    }
    if critical > all {
        refuse(format!(
            "shutdownGracePeriodCriticalPods {{{shown_critical}}} must be <= shutdownGracePeriod {{{shown_all}}}"
        ));
    }
    for (field, value) in [("", all), ("CriticalPods", critical)] {
        if !value.is_zero() && value.as_secs() == 0 {
            let shown = duration::format(value);
            refuse(format!(
                "shutdownGracePeriod{field} {{{shown}}} must be either zero or otherwise >= 1 sec"
            ));
        }
    }
    if !config.shutdown_grace_period_by_pod_priority.is_empty() {
        if !config.gate("GracefulNodeShutdownBasedOnPodPriority", true) {
            refuse("Specifying shutdownGracePeriodByPodPriority requires feature gate GracefulNodeShutdownBasedOnPodPriority".to_owned());
        } else if is_configured {
            refuse("Cannot specify both shutdownGracePeriodByPodPriority and shutdownGracePeriod at the same time".to_owned());
        }
    }
}

fn words(config: &KubeletConfiguration, refuse: &mut impl FnMut(String)) {
    let policy = config.topology_manager_policy.as_str();
    if !POLICIES.contains(&policy) {
        let all: Vec<_> = POLICIES.iter().map(|it| format!("{it:?}")).collect();
        refuse(format!(
            "topologyManagerPolicy (--topology-manager-policy) {policy:?} must be one of: [{}]",
            all.join(" ")
        ));
    }
    let scope = config.topology_manager_scope.as_str();
    if !matches!(scope, "container" | "pod") {
        refuse(format!(
            "topologyManagerScope (--topology-manager-scope) {scope:?} must be one of: \"container\", or \"pod\""
        ));
    }
    let hairpin = config.hairpin_mode.as_str();
    if !matches!(hairpin, "none" | "hairpin-veth" | "promiscuous-bridge") {
        refuse(format!(
            "option {hairpin:?} specified for hairpinMode (--hairpin-mode). Valid options are \"none\", \"hairpin-veth\" or \"promiscuous-bridge\""
        ));
    }
    let swap = config.memory_swap.swap_behavior.as_str();
    if !matches!(swap, "" | "NoSwap" | "LimitedSwap") {
        refuse(format!(
            "memorySwap.swapBehavior {swap:?} must be one of: \"\", \"LimitedSwap\" or \"NoSwap\""
        ));
    }
    let reservation = config.memory_reservation_policy.as_str();
    match reservation {
        "None" => {}
        "TieredReservation" if config.gate("MemoryQoS", false) => {}
        "TieredReservation" => refuse(format!(
            "memoryReservationPolicy {reservation:?} requires MemoryQoS feature gate to be enabled"
        )),
        _ => refuse(format!(
            "option {reservation:?} specified for memoryReservationPolicy. Valid options are \"None\" or \"TieredReservation\""
        )),
    }
    let mode = config.authorization.mode.as_str();
    if !matches!(mode, "AlwaysAllow" | "Webhook") {
        refuse(format!("unknown authorization mode {mode}"));
    }
    let driver = config.cgroup_driver.as_str();
    match driver {
        "cgroupfs" | "systemd" => {}
        _ => refuse(format!("unknown cgroup driver {driver:?}")),
    }
}

fn cpu_period(config: &KubeletConfiguration, refuse: &mut impl FnMut(String)) {
    let period = config.cpu_cfs_quota_period.0;
    let shown = duration::format(period);
    let is_custom = config.gate("CustomCPUCFSQuotaPeriod", false);
    let name = "cpuCFSQuotaPeriod (--cpu-cfs-quota-period)";
    if !is_custom && period.as_millis() != 100 {
        refuse(format!("{name} {{{shown}}} requires feature gate CustomCPUCFSQuotaPeriod"));
    }
    if is_custom && !(1..=1000).contains(&period.as_millis()) {
        refuse(format!("{name} {{{shown}}} must be between 1ms and 1sec, inclusive"));
    }
}

fn allocatable(config: &KubeletConfiguration, refuse: &mut impl FnMut(String)) {
    let list = &config.enforce_node_allocatable;
    let has = |name: &str| list.iter().any(|it| it == name);
    const FLAG: &str = "enforceNodeAllocatable (--enforce-node-allocatable)";
    for of in ["system-reserved", "kube-reserved"] {
        let compressible = format!("{of}-compressible");
        if has(of) && has(&compressible) {
            refuse(format!(
                "both {of:?} and {compressible:?} cannot be specified together in {FLAG}"
            ));
        }
    }
    let mut seen = BTreeSet::new();
    for value in list {
        if !seen.insert(value) {
            refuse(format!("duplicated enforcements {value:?} in {FLAG}"));
            continue;
        }
        let (of, cgroup) = match value.as_str() {
            "none" if list.len() > 1 => {
                refuse(format!(
                    "{FLAG} may not contain additional enforcements when \"none\" is specified"
                ));
                continue;
            }
            "none" => continue,
            "pods" => ("", None),
            "system-reserved" | "system-reserved-compressible" => {
                ("system", Some(&config.system_reserved_cgroup))
            }
            "kube-reserved" | "kube-reserved-compressible" => {
                ("kube", Some(&config.kube_reserved_cgroup))
            }
            _ => {
                refuse(format!(
                    "option {value:?} specified for {FLAG}. Valid options are \"pods\", \"system-reserved\", \"system-reserved-compressible\", \"kube-reserved\", \"kube-reserved-compressible\" or \"none\""
                ));
                continue;
            }
        };
        if cgroup.is_some_and(String::is_empty) {
            refuse(format!(
                "{of}ReservedCgroup (--{of}-reserved-cgroup) must be specified when \"{of}-reserved\" or \"{of}-reserved-compressible\" included in {FLAG}"
            ));
        }
        // The default goes with cgroups; without them it is no wish of anybody.
        let is_default = list.len() == 1 && value == "pods";
        if !config.cgroups_per_qos && !is_default {
            refuse(format!(
                "cgroupsPerQOS (--cgroups-per-qos) must be set to true when {value:?} contained in {FLAG}"
            ));
        }
    }
    if !config.reserved_system_cpus.is_empty() {
        let cpus = &config.reserved_system_cpus;
        if !config.system_reserved_cgroup.is_empty() || !config.kube_reserved_cgroup.is_empty() {
            refuse("can't use reservedSystemCPUs (--reserved-cpus) with systemReservedCgroup (--system-reserved-cgroup) or kubeReservedCgroup (--kube-reserved-cgroup)".to_owned());
        }
        if let Err(error) = cpu_list(cpus) {
            refuse(format!(
                "unable to parse reservedSystemCPUs (--reserved-cpus) {cpus}, error: {error}"
            ));
        }
    }
}

/// `0-3,8`.
fn cpu_list(text: &str) -> Result<(), String> {
    let number = |it: &str| {
        it.parse::<u32>().map_err(|_| format!("strconv.Atoi: parsing {it:?}: invalid syntax"))
    };
    for part in text.split(',') {
        let (first, last) = part.split_once('-').unwrap_or((part, part));
        let (first_number, last_number) = (number(first)?, number(last)?);
        if first_number > last_number {
            return Err(format!("invalid range {part:?} ({first} > {last})"));
        }
    }
    Ok(())
}

fn reserved_memory(config: &KubeletConfiguration, refuse: &mut impl FnMut(String)) {
    let mut seen = BTreeSet::new();
    for reservation in &config.reserved_memory {
        let node = reservation.numa_node;
        for (resource, amount) in &reservation.limits {
            if resource != "memory" && !resource.starts_with("hugepages-") {
                refuse(format!(
                    "the limit type {resource:?} for NUMA node {node} is not supported, only [memory hugepages-<HugePageSize>] is accepted"
                ));
            }
            if quantity::parse(amount) == Some(0) {
                refuse(format!(
                    "reserved memory may not be zero for NUMA node {node} and resource {resource:?}"
                ));
            }
            if !seen.insert((node, resource)) {
                refuse(format!(
                    "the reserved memory has a duplicate value for NUMA node {node} and resource {resource:?}"
                ));
            }
        }
    }
}

fn logs(config: &KubeletConfiguration, refuse: &mut impl FnMut(String)) {
    if config.enable_system_log_query {
        if !config.gate("NodeLogQuery", true) {
            refuse("NodeLogQuery feature gate is required for enableSystemLogQuery".to_owned());
        }
        if !config.enable_system_log_handler {
            refuse("enableSystemLogHandler is required for enableSystemLogQuery".to_owned());
        }
    }
    let folder = &config.pod_logs_dir;
    if !folder.starts_with('/') {
        refuse(format!("pod logs path {folder:?} must be absolute path"));
    }
    let parts = folder.trim_start_matches('/').split('/');
    if folder != "/" && parts.into_iter().any(|it| matches!(it, "" | "." | "..")) {
        refuse(format!("pod logs path {folder:?} must be normalized"));
    }
    if !folder.is_ascii() {
        refuse(format!("pod logs path {folder:?} mut contains ASCII characters only"));
    }
    let size = &config.container_log_max_size;
    if quantity::parse(size).is_none() {
        refuse(format!("failed to parse container log max size {size:?}"));
    }
}

fn taints(config: &KubeletConfiguration) -> Option<String> {
    let wrong = config
        .register_with_taints
        .iter()
        .find(|it| it.key.is_empty() || !EFFECTS.contains(&it.effect.as_str()))?;
    let value = wrong.value.as_deref().unwrap_or_default();
    Some(format!("invalid taint: {{{} {value} {} <nil>}}", wrong.key, wrong.effect))
}

fn reserved(config: &KubeletConfiguration) -> Vec<String> {
    let mut wrong = Vec::new();
    for (flag, list) in
        [("kube-reserved", &config.kube_reserved), ("system-reserved", &config.system_reserved)]
    {
        for (resource, amount) in list {
            let start = format!("--{flag} value failed to parse:");
            match quantity::parse(amount) {
                _ if !matches!(resource.as_str(), "cpu" | "memory" | "ephemeral-storage" | "pid") => {
                    wrong.push(format!("{start} cannot reserve {resource:?} resource"));
                }
                None => wrong.push(format!("{start} failed to parse quantity {amount:?} for {resource:?} resource: quantities must match the regular expression '^([+-]?[0-9.]+)([eEinumkKMGTP]*[-+]?[0-9]*)$'")),
                Some(amount_number) if amount_number < 0 => wrong.push(format!(
                    "{start} resource quantity for {resource:?} cannot be negative: {amount}"
                )),
                Some(_) => {}
            }
        }
    }
    wrong
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::GoDuration;

    fn refused(change: impl FnOnce(&mut KubeletConfiguration)) -> Vec<String> {
        let mut config = KubeletConfiguration::default();
        change(&mut config);
        validate(&config)
    }

    #[test]
    fn the_defaults_are_valid() {
        assert_eq!(refused(|_| {}), Vec::<String>::new());
    }

    #[test]
    fn each_rule_is_told_in_upstreams_words() {
        type Change = fn(&mut KubeletConfiguration);
        let cases: [(Change, &str); 14] = [
            (
                |it| it.image_gc_low_threshold_percent = 85,
                "invalid configuration: imageGCLowThresholdPercent (--image-gc-low-threshold) 85 must be less than imageGCHighThresholdPercent (--image-gc-high-threshold) 85",
            ),
            (
                |it| it.topology_manager_policy = "x".to_owned(),
                "invalid configuration: topologyManagerPolicy (--topology-manager-policy) \"x\" must be one of: [\"none\" \"best-effort\" \"restricted\" \"single-numa-node\"]",
            ),
            (
                |it| it.shutdown_grace_period_critical_pods = GoDuration::seconds(2),
                "invalid configuration: shutdownGracePeriodCriticalPods {2s} must be <= shutdownGracePeriod {0s}",
            ),
            (
                |it| it.shutdown_grace_period = GoDuration(std::time::Duration::from_millis(1)),
                "invalid configuration: shutdownGracePeriod {1ms} must be either zero or otherwise >= 1 sec",
            ),
            (
                |it| it.system_cgroups = "/".to_owned(),
                "invalid configuration: systemCgroups (--system-cgroups) was specified and cgroupRoot (--cgroup-root) was not specified",
            ),
            (
                |it| it.enforce_node_allocatable.push("kube-reserved".to_owned()),
                "invalid configuration: kubeReservedCgroup (--kube-reserved-cgroup) must be specified when \"kube-reserved\" or \"kube-reserved-compressible\" included in enforceNodeAllocatable (--enforce-node-allocatable)",
            ),
            (
                |it| it.hairpin_mode = "x".to_owned(),
                "invalid configuration: option \"x\" specified for hairpinMode (--hairpin-mode). Valid options are \"none\", \"hairpin-veth\" or \"promiscuous-bridge\"",
            ),
            (
                |it| it.pod_logs_dir = "logs".to_owned(),
                "invalid configuration: pod logs path \"logs\" must be absolute path",
            ),
            (
                |it| it.pod_logs_dir = "/a/../b".to_owned(),
                "invalid configuration: pod logs path \"/a/../b\" must be normalized",
            ),
            (
                |it| it.max_parallel_image_pulls = Some(3),
                "invalid configuration: maxParallelImagePulls cannot be larger than 1 unless SerializeImagePulls (--serialize-image-pulls) is set to false",
            ),
            (
                |it| it.reserved_system_cpus = "3-1".to_owned(),
                "invalid configuration: unable to parse reservedSystemCPUs (--reserved-cpus) 3-1, error: invalid range \"3-1\" (3 > 1)",
            ),
            (
                |it| drop(it.kube_reserved.insert("cpus".to_owned(), "1".to_owned())),
                "--kube-reserved value failed to parse: cannot reserve \"cpus\" resource",
            ),
            (
                |it| drop(it.eviction_hard.insert("disk.free".to_owned(), "1".to_owned())),
                "unsupported eviction signal disk.free",
            ),
            (
                |it| drop(it.eviction_soft.insert("memory.available".to_owned(), "1Gi".to_owned())),
                "grace period must be specified for the soft eviction threshold memory.available",
            ),
        ];
        for (change, message) in cases {
            assert_eq!(refused(change), [message]);
        }
    }
}
