//! What this machine cannot give its instances. Each is worked around; `status` tells.

use std::path::Path;

use linux_cgroup::Layout;

/// One thing that could not be had.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Limit {
    pub what: &'static str,
    pub consequence: &'static str,
}

/// The limits of this machine, as root on it is now.
pub fn limits() -> Vec<Limit> {
    let layout = Layout::detect().ok();
    let counts = layout.as_ref().is_none_or(|it| it.hierarchy("pids").is_some());
    let denies = layout.as_ref().is_none_or(Layout::can_deny_devices_of_machine);
    let mut found = from(linux_process::has_sys_resource(), layout.is_some(), counts, denies);
    if !Path::new("/usr/sbin/sshd").exists() {
        found.push(Limit {
            what: "the package openssh-server is not installed",
            consequence: "nobody can log in to instances with a key pair",
        });
    }
    found
}

fn from(
    has_sys_resource: bool,
    has_cgroups: bool,
    counts_processes: bool,
    denies_devices: bool,
) -> Vec<Limit> {
    let mut found = Vec::new();
    if !counts_processes {
        found.push(Limit {
            what: "no cgroup hierarchy has the `pids` controller",
            consequence: "a fork bomb in a pod can take the whole machine",
        });
    }
    if !has_sys_resource {
        found.push(Limit {
            what: "root lacks CAP_SYS_RESOURCE",
            consequence: "containers cannot get a lower OOM score than their runtime, and limits \
                          cannot be raised",
        });
    }
    if !denies_devices {
        found.push(Limit {
            what: "root may load no eBPF program, which keeps a cgroup of v2 from devices",
            consequence: "privileged pods can reach the machine's disks and its kernel's log",
        });
    }
    if !has_cgroups {
        found.push(Limit {
            what: "no cgroup hierarchy is mounted",
            consequence: "no instance can be started",
        });
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_whole_root_has_no_limits() {
        assert!(from(true, true, true, true).is_empty());
        assert_eq!(from(false, false, false, false).len(), 4);
    }
}
