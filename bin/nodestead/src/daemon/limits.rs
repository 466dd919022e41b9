//! What this machine cannot give, in words: shown by `nodestead status`.

use std::path::Path;

use linux_cgroup::{Kind, Layout};

pub(crate) fn of_this_machine() -> Vec<String> {
    let mut limits = vec![
        "vCPUs and memory of instance types are shown to workloads, not enforced beyond what this \
         machine has"
            .to_owned(),
        "privileged pods are root on this machine".to_owned(),
    ];
    if Layout::detect().is_ok_and(|it| it.kind() != Kind::V2) {
        limits.push("cgroup v1: memory QoS and pressure metrics are not available".to_owned());
    }
    if !Path::new("/sys/kernel/security/apparmor").exists() {
        limits.push("AppArmor profiles are not enforced: this kernel has none".to_owned());
    }
    limits
}
