//! Which kernel parameters a pod may set.
//!
//! Upstream: `pkg/kubelet/sysctl` (the safe ones, the namespaces of the others, the messages).

use k8s_openapi::api::core::v1::Pod;

use super::refused;
use crate::{pod::PodExt, status::Verdict};

/// Confined to a pod, and without an effect on others.
const SAFE: [&str; 12] = [
    "kernel.shm_rmid_forced",
    "net.ipv4.ip_local_port_range",
    "net.ipv4.tcp_syncookies",
    "net.ipv4.ping_group_range",
    "net.ipv4.ip_unprivileged_port_start",
    "net.ipv4.ip_local_reserved_ports",
    "net.ipv4.tcp_keepalive_time",
    "net.ipv4.tcp_fin_timeout",
    "net.ipv4.tcp_keepalive_intvl",
    "net.ipv4.tcp_keepalive_probes",
    "net.ipv4.tcp_rmem",
    "net.ipv4.tcp_wmem",
];

pub(super) fn check(pod: &Pod, allowed: &[String]) -> Result<(), Verdict> {
    let spec = PodExt::spec(pod);
    let listed = spec.security_context.as_ref().and_then(|it| it.sysctls.as_ref());
    for sysctl in listed.into_iter().flatten() {
        let name = normalized(&sysctl.name);
        let shared = |kind: &str| {
            format!("forbidden sysctl: \"{name}\" not allowed with host {kind} enabled")
        };
        let is_allowed = SAFE.contains(&name.as_str()) || allowed.iter().any(|it| fits(it, &name));
        let message = match namespace(&name) {
            Some("IPC") if is_allowed && spec.host_ipc == Some(true) => shared("IPC"),
            Some("Net") if is_allowed && pod.is_host_network() => shared("Net"),
            Some(_) if is_allowed => continue,
            _ => format!("forbidden sysctl: \"{name}\" not allowlisted"),
        };
        return Err(refused("SysctlForbidden", message));
    }
    Ok(())
}

/// Slashes separate as dots do, when the first separator is one.
pub(crate) fn normalized(name: &str) -> String {
    match name.find(['.', '/']) {
        Some(at) if name.as_bytes()[at] == b'/' => name
            .chars()
            .map(|it| match it {
                '/' => '.',
                '.' => '/',
                it => it,
            })
            .collect(),
        _ => name.to_owned(),
    }
}

/// Allowed ones are named, or a prefix that ends in `*`.
fn fits(pattern: &str, name: &str) -> bool {
    let pattern = normalized(pattern);
    match pattern.strip_suffix('*') {
        Some(prefix) => name.starts_with(prefix),
        None => pattern == name,
    }
}

fn namespace(name: &str) -> Option<&'static str> {
    let is_ipc = name == "kernel.sem"
        || ["kernel.shm", "kernel.msg", "fs.mqueue."].iter().any(|it| name.starts_with(it));
    match name {
        _ if is_ipc => Some("IPC"),
        name if name.starts_with("net.") => Some("Net"),
        _ => None,
    }
}
