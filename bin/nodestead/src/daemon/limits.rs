//! What this machine cannot give, in words: shown by `nodestead status`.

use linux_cgroup::{Kind, Layout};

pub(crate) fn of_this_machine() -> Vec<String> {
    let mut limits = vec![
        "vCPUs and memory of instance types are shown to workloads, not enforced beyond what this \
         machine has"
            .to_owned(),
        "privileged pods are root on this machine".to_owned(),
    ];
    let (part, all) = region_host::processes_of_an_instance();
    limits.push(format!(
        "process ids are this machine's: an instance has at most {part} of {all} processes and threads"
    ));
    let missing = region_host::limits().into_iter();
    limits.extend(missing.map(|it| format!("{}: {}", it.what, it.consequence)));
    if Layout::detect().is_ok_and(|it| it.kind() != Kind::V2) {
        limits.push("cgroup v1: memory QoS and pressure metrics are not available".to_owned());
    }
    limits.push(
        "AppArmor profiles are not enforced: instances have none, as those of Amazon Linux"
            .to_owned(),
    );
    limits
}
