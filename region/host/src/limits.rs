//! What this machine cannot give its instances. Each is worked around; `status` tells.

use std::path::Path;

use linux_cgroup::{Kind, Layout};

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
    let kind = layout.map(|layout| layout.kind());
    let mut found = from(linux_process::has_sys_resource(), kind, counts);
    if !Path::new("/usr/sbin/sshd").exists() {
        found.push(Limit {
            what: "the package openssh-server is not installed",
            consequence: "nobody can log in to instances with a key pair",
        });
    }
    found
}

fn from(has_sys_resource: bool, cgroups: Option<Kind>, counts_processes: bool) -> Vec<Limit> {
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
    if cgroups == Some(Kind::V2) {
        found.push(Limit {
            what: "cgroup v2 has no list of devices",
            consequence: "privileged pods can reach the machine's disks and its kernel's log",
        });
    }
    if cgroups.is_none() {
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
    fn a_whole_root_on_v1_has_no_limits() {
        assert!(from(true, Some(Kind::Hybrid), true).is_empty());
        assert_eq!(from(false, Some(Kind::V2), false).len(), 3);
    }
}
