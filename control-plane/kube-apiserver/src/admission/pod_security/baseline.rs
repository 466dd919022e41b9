//! The checks of the level `baseline`, in the order of upstream's names for them.

use std::collections::BTreeSet;

use serde_json::Value;

use super::{Policy, Violation, add, containers, named, plural, quoted, setters, shown};
use crate::authz::{items, text};

pub(super) const APP_ARMOR: &str = "container.apparmor.security.beta.kubernetes.io/";

const CAPABILITIES: [&str; 13] = [
    "AUDIT_WRITE",
    "CHOWN",
    "DAC_OVERRIDE",
    "FOWNER",
    "FSETID",
    "KILL",
    "MKNOD",
    "NET_BIND_SERVICE",
    "SETFCAP",
    "SETGID",
    "SETPCAP",
    "SETUID",
    "SYS_CHROOT",
];

/// Each with the minor version that first allowed it.
const SYSCTLS: [(&str, u32); 12] = [
    ("kernel.shm_rmid_forced", 0),
    ("net.ipv4.ip_local_port_range", 0),
    ("net.ipv4.ip_unprivileged_port_start", 0),
    ("net.ipv4.tcp_syncookies", 0),
    ("net.ipv4.ping_group_range", 0),
    ("net.ipv4.ip_local_reserved_ports", 27),
    ("net.ipv4.tcp_keepalive_time", 29),
    ("net.ipv4.tcp_fin_timeout", 29),
    ("net.ipv4.tcp_keepalive_intvl", 29),
    ("net.ipv4.tcp_keepalive_probes", 29),
    ("net.ipv4.tcp_rmem", 32),
    ("net.ipv4.tcp_wmem", 32),
];

const SECCOMP: &str = "/securityContext/seccompProfile/type";

pub(super) fn check(policy: &Policy, metadata: &Value, spec: &Value, found: &mut Vec<Violation>) {
    let is_restricted = policy.level == super::Level::Restricted;
    app_armor(metadata, spec, found);
    // A stricter check of the same things stands for these.
    if !(is_restricted && policy.is_since(22)) {
        capabilities(spec, found);
    }
    host_namespaces(spec, found);
    if !is_restricted {
        host_paths(spec, found);
    }
    host_ports(spec, found);
    if policy.is_since(34) {
        probe_hosts(spec, found);
    }
    privileged(spec, found);
    proc_mount(spec, found);
    se_linux(policy, spec, found);
    if policy.is_since(19) && !is_restricted {
        seccomp(spec, found);
    }
    sysctls(policy, spec, found);
    windows_host_process(spec, found);
}

fn app_armor(metadata: &Value, spec: &Value, found: &mut Vec<Violation>) {
    const TYPE: &str = "/securityContext/appArmorProfile/type";
    let is_bad = |kind: &str| !matches!(kind, "" | "RuntimeDefault" | "Localhost");
    let bad = named(spec, |it| is_bad(text(it, TYPE)));
    let setters = setters(is_bad(text(spec, TYPE)), &bad);
    let annotations = metadata["annotations"].as_object().into_iter().flatten();
    let annotations: Vec<String> = annotations
        .filter(|it| it.0.starts_with(APP_ARMOR))
        .filter_map(|(key, value)| Some((key, value.as_str()?)))
        .filter(|(_, value)| {
            !value.is_empty() && *value != "runtime/default" && !value.starts_with("localhost/")
        })
        .map(|(key, value)| format!("{key}=\"{value}\""))
        .collect();
    let mut details = Vec::new();
    let mut count = annotations.len();
    if let Some(setters) = setters {
        let all = containers(spec).chain([spec]).map(|it| text(it, TYPE));
        let kinds: BTreeSet<&str> = all.filter(|it| is_bad(it)).collect();
        let kinds: Vec<&str> = kinds.into_iter().collect();
        details.push(format!("{setters} must not set AppArmor profile type to {}", quoted(&kinds)));
        count += kinds.len();
    }
    if !annotations.is_empty() {
        let word = plural("annotation", "annotations", annotations.len());
        details.push(format!("{word} {}", annotations.join(", ")));
    }
    if count > 0 {
        let reason = plural("forbidden AppArmor profile", "forbidden AppArmor profiles", count);
        add(found, reason, details.join(" and "));
    }
}

/// Those that add a capability that is not in the list, and what they add.
pub(super) fn forbidden_capabilities<'a>(
    spec: &'a Value,
    allowed: &[&str],
) -> (Vec<&'a str>, Vec<&'a str>) {
    let bad = |container: &'a Value| {
        let added = items(container, "/securityContext/capabilities/add").iter();
        added.filter_map(Value::as_str).filter(|it| !allowed.contains(it))
    };
    let names = named(spec, |it| bad(it).next().is_some());
    let all: BTreeSet<&str> = containers(spec).flat_map(bad).collect();
    (names, all.into_iter().collect())
}

fn capabilities(spec: &Value, found: &mut Vec<Violation>) {
    let (names, added) = forbidden_capabilities(spec, &CAPABILITIES);
    if !names.is_empty() {
        let (names, added) = (shown(&names), quoted(&added));
        let detail =
            format!("{names} must not include {added} in securityContext.capabilities.add");
        add(found, "non-default capabilities", detail);
    }
}

fn host_namespaces(spec: &Value, found: &mut Vec<Violation>) {
    let shared = ["hostNetwork", "hostPID", "hostIPC"].into_iter().filter(|it| spec[it] == true);
    let shared: Vec<String> = shared.map(|it| format!("{it}=true")).collect();
    if !shared.is_empty() {
        add(found, "host namespaces", shared.join(", "));
    }
}

fn host_paths(spec: &Value, found: &mut Vec<Violation>) {
    let volumes = items(spec, "/volumes").iter().filter(|it| it["hostPath"].is_object());
    let names: Vec<&str> = volumes.map(|it| text(it, "/name")).collect();
    if !names.is_empty() {
        let word = plural("volume", "volumes", names.len());
        add(found, "hostPath volumes", format!("{word} {}", quoted(&names)));
    }
}

fn host_ports(spec: &Value, found: &mut Vec<Violation>) {
    fn ports(container: &Value) -> impl Iterator<Item = u64> {
        let ports = items(container, "/ports").iter();
        ports.filter_map(|it| it["hostPort"].as_u64()).filter(|it| *it != 0)
    }
    let names = named(spec, |it| ports(it).next().is_some());
    if names.is_empty() {
        return;
    }
    let all: BTreeSet<String> = containers(spec).flat_map(ports).map(|it| it.to_string()).collect();
    let all: Vec<String> = all.into_iter().collect();
    let (uses, word) =
        (plural("uses", "use", names.len()), plural("hostPort", "hostPorts", all.len()));
    add(found, "hostPort", format!("{} {uses} {word} {}", shown(&names), all.join(", ")));
}

fn probe_hosts(spec: &Value, found: &mut Vec<Violation>) {
    fn hosts(container: &Value) -> impl Iterator<Item = &str> {
        const HANDLERS: [&str; 5] = [
            "/livenessProbe",
            "/readinessProbe",
            "/startupProbe",
            "/lifecycle/postStart",
            "/lifecycle/preStop",
        ];
        let handlers = HANDLERS.into_iter().filter_map(|it| container.pointer(it));
        let hosts =
            handlers.flat_map(|it| [text(it, "/httpGet/host"), text(it, "/tcpSocket/host")]);
        hosts.filter(|it| !matches!(*it, "" | "127.0.0.1" | "::1"))
    }
    let names = named(spec, |it| hosts(it).next().is_some());
    if names.is_empty() {
        return;
    }
    let all: BTreeSet<&str> = containers(spec).flat_map(hosts).collect();
    let all: Vec<&str> = all.into_iter().collect();
    let uses = plural("uses", "use", names.len());
    let word = plural("probe or lifecycle host", "probe or lifecycle hosts", all.len());
    let detail = format!("{} {uses} {word} {}", shown(&names), quoted(&all));
    add(found, "probe or lifecycle host", detail);
}

fn privileged(spec: &Value, found: &mut Vec<Violation>) {
    let names = named(spec, |it| it["securityContext"]["privileged"] == true);
    if !names.is_empty() {
        let detail = format!("{} must not set securityContext.privileged=true", shown(&names));
        add(found, "privileged", detail);
    }
}

fn proc_mount(spec: &Value, found: &mut Vec<Violation>) {
    const MOUNT: &str = "/securityContext/procMount";
    let is_bad = |it: &&str| !matches!(*it, "" | "Default");
    let names = named(spec, |it| is_bad(&text(it, MOUNT)));
    if names.is_empty() {
        return;
    }
    let kinds: BTreeSet<&str> = containers(spec).map(|it| text(it, MOUNT)).filter(is_bad).collect();
    let kinds: Vec<&str> = kinds.into_iter().collect();
    let (names, kinds) = (shown(&names), quoted(&kinds));
    add(found, "procMount", format!("{names} must not set securityContext.procMount to {kinds}"));
}

fn se_linux(policy: &Policy, spec: &Value, found: &mut Vec<Violation>) {
    let is_type = |kind: &str| {
        matches!(kind, "" | "container_t" | "container_init_t" | "container_kvm_t")
            || kind == "container_engine_t" && policy.is_since(31)
    };
    let options = |it: &Value, field: &str| {
        it["securityContext"]["seLinuxOptions"][field].as_str().unwrap_or_default().to_owned()
    };
    let is_bad = |it: &Value| {
        !is_type(&options(it, "type"))
            || !options(it, "user").is_empty()
            || !options(it, "role").is_empty()
    };
    let Some(setters) = setters(is_bad(spec), &named(spec, is_bad)) else { return };
    let all: Vec<&Value> = containers(spec).chain([spec]).collect();
    let kinds: BTreeSet<String> =
        all.iter().map(|it| options(it, "type")).filter(|it| !is_type(it)).collect();
    let kinds: Vec<String> = kinds.into_iter().collect();
    let mut data = Vec::new();
    if !kinds.is_empty() {
        data.push(format!("{} {}", plural("type", "types", kinds.len()), quoted(&kinds)));
    }
    for field in ["user", "role"] {
        if all.iter().any(|it| !options(it, field).is_empty()) {
            data.push(format!("{field} may not be set"));
        }
    }
    let data = data.join("; ");
    add(
        found,
        "seLinuxOptions",
        format!("{setters} set forbidden securityContext.seLinuxOptions: {data}"),
    );
}

fn is_bad_seccomp(kind: &str) -> bool {
    !matches!(kind, "" | "RuntimeDefault" | "Localhost")
}

/// Who sets a seccomp profile that is none of those that are allowed.
pub(super) fn bad_seccomp(spec: &Value) -> Option<String> {
    let names = named(spec, |it| is_bad_seccomp(text(it, SECCOMP)));
    let setters = setters(is_bad_seccomp(text(spec, SECCOMP)), &names)?;
    let all = containers(spec).chain([spec]).map(|it| text(it, SECCOMP));
    let kinds: BTreeSet<&str> = all.filter(|it| is_bad_seccomp(it)).collect();
    let kinds: Vec<&str> = kinds.into_iter().collect();
    let kinds = quoted(&kinds);
    Some(format!("{setters} must not set securityContext.seccompProfile.type to {kinds}"))
}

fn seccomp(spec: &Value, found: &mut Vec<Violation>) {
    if let Some(detail) = bad_seccomp(spec) {
        add(found, "seccompProfile", detail);
    }
}

fn sysctls(policy: &Policy, spec: &Value, found: &mut Vec<Violation>) {
    let is_allowed = |name: &str| SYSCTLS.iter().any(|it| it.0 == name && policy.is_since(it.1));
    let names = items(spec, "/securityContext/sysctls").iter().map(|it| text(it, "/name"));
    let bad: Vec<&str> = names.filter(|it| !is_allowed(it)).collect();
    if !bad.is_empty() {
        add(found, "forbidden sysctls", bad.join(", "));
    }
}

fn windows_host_process(spec: &Value, found: &mut Vec<Violation>) {
    let is_set = |it: &Value| it["securityContext"]["windowsOptions"]["hostProcess"] == true;
    if let Some(setters) = setters(is_set(spec), &named(spec, is_set)) {
        let detail =
            format!("{setters} must not set securityContext.windowsOptions.hostProcess=true");
        add(found, "hostProcess", detail);
    }
}
