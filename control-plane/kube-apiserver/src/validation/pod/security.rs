//! Security contexts of pods and containers.
//!
//! Upstream: `ValidateSecurityContext`, `validatePodSpecSecurityContext` in pkg/apis/core/validation.

use std::collections::HashSet;

use serde_json::Value;

use super::{Scope, windows};
use crate::{
    status::FieldError,
    validation::{Faults, items, text, volumes},
};

const PROFILES: &[&str] = &["Localhost", "RuntimeDefault", "Unconfined"];
const PROC_MOUNTS: &[&str] = &["Default", "Unmasked"];
const LONGEST_PROFILE: usize = 4095;

pub(super) fn pod(faults: &mut Faults, at: &str, spec: &Value) {
    let context = &spec["securityContext"];
    for field in ["fsGroup", "runAsUser", "runAsGroup"] {
        user_id(faults, &format!("{at}.{field}"), &context[field]);
    }
    for (index, group) in items(context, "supplementalGroups") {
        user_id(faults, &format!("{at}.supplementalGroups[{index}]"), group);
    }
    if spec["shareProcessNamespace"] == true && spec["hostPID"] == true {
        let why = "ShareProcessNamespace and HostPID cannot both be enabled";
        faults.invalid(format!("{at}.shareProcessNamespace"), true, why);
    }
    sysctls(faults, &format!("{at}.sysctls"), spec);
    for (field, supported) in [
        ("fsGroupChangePolicy", &["Always", "OnRootMismatch"]),
        ("supplementalGroupsPolicy", &["Merge", "Strict"]),
        ("seLinuxChangePolicy", &["MountOption", "Recursive"]),
    ] {
        if let Some(policy) = context[field].as_str().filter(|it| !supported.contains(it)) {
            let field = format!("{at}.{field}");
            faults.add(FieldError::not_supported(field, policy, supported));
        }
    }
    seccomp(faults, &format!("{at}.seccompProfile"), &context["seccompProfile"]);
    windows::options(faults, &format!("{at}.windowsOptions"), &context["windowsOptions"]);
    app_armor(faults, &format!("{at}.appArmorProfile"), &context["appArmorProfile"]);
}

pub(super) fn container(faults: &mut Faults, at: &str, container: &Value, scope: &Scope<'_>) {
    let context = &container["securityContext"];
    if !context.is_object() {
        return;
    }
    for field in ["runAsUser", "runAsGroup"] {
        user_id(faults, &format!("{at}.{field}"), &context[field]);
    }
    if let Some(mount) = context["procMount"].as_str() {
        let field = format!("{at}.procMount");
        if !PROC_MOUNTS.contains(&mount) {
            faults.add(FieldError::not_supported(field, mount, PROC_MOUNTS));
        } else if mount == "Unmasked" && scope.spec["hostUsers"] != false {
            faults.invalid(field, mount, "`hostUsers` must be false to use `Unmasked`");
        }
    }
    seccomp(faults, &format!("{at}.seccompProfile"), &context["seccompProfile"]);
    if context["allowPrivilegeEscalation"] == false {
        let wrong =
            |told: &str| format!("cannot set `allowPrivilegeEscalation` to false and {told}");
        if context["privileged"] == true {
            faults.invalid(at, context.clone(), wrong("`privileged` to true"));
        }
        if items(&context["capabilities"], "add").any(|(_, it)| it == "CAP_SYS_ADMIN") {
            faults.invalid(at, context.clone(), wrong("`capabilities.Add` CAP_SYS_ADMIN"));
        }
    }
    windows::options(faults, &format!("{at}.windowsOptions"), &context["windowsOptions"]);
    app_armor(faults, &format!("{at}.appArmorProfile"), &context["appArmorProfile"]);
}

fn user_id(faults: &mut Faults, field: &str, id: &Value) {
    if let Some(id) = id.as_i64().filter(|it| !(0..=i64::from(i32::MAX)).contains(it)) {
        faults.invalid(field, id, "must be between 0 and 2147483647, inclusive");
    }
}

fn seccomp(faults: &mut Faults, at: &str, profile: &Value) {
    if !profile.is_object() {
        return;
    }
    let (kind, field) = (text(profile, "type"), format!("{at}.localhostProfile"));
    let file = profile["localhostProfile"].as_str();
    if kind.is_empty() {
        let why = "type is required when seccompProfile is set";
        faults.add(FieldError::required(format!("{at}.type"), why));
    } else if !PROFILES.contains(&kind) {
        faults.add(FieldError::not_supported(format!("{at}.type"), kind, PROFILES));
    }
    match (kind, file) {
        ("Localhost", None) => {
            let why = "must be set when seccomp type is Localhost";
            faults.add(FieldError::required(field, why));
        }
        ("Localhost", Some(file)) => volumes::descending_path(faults, &field, file),
        (_, Some(_)) => {
            let why = "can only be set when seccomp type is Localhost";
            faults.invalid(field, profile.clone(), why);
        }
        (_, None) => {}
    }
}

fn app_armor(faults: &mut Faults, at: &str, profile: &Value) {
    const LACKS: &str = "must be set when AppArmor type is Localhost";
    if !profile.is_object() {
        return;
    }
    let field = format!("{at}.localhostProfile");
    let name = profile["localhostProfile"].as_str();
    match (text(profile, "type"), name) {
        ("Localhost", None) => faults.add(FieldError::required(field, LACKS)),
        ("Localhost", Some(name)) => {
            if name.trim() != name {
                faults.invalid(&*field, name, "must not be padded with whitespace");
            } else if name.is_empty() {
                faults.add(FieldError::required(&*field, LACKS));
            }
            if name.len() > LONGEST_PROFILE {
                faults.add(FieldError::too_long(field, LONGEST_PROFILE));
            }
        }
        ("RuntimeDefault" | "Unconfined", Some(name)) => {
            faults.invalid(field, name, "can only be set when AppArmor type is Localhost");
        }
        ("RuntimeDefault" | "Unconfined", None) => {}
        ("", _) => {
            let why = "type is required when appArmorProfile is set";
            faults.add(FieldError::required(format!("{at}.type"), why));
        }
        (other, _) => {
            faults.add(FieldError::not_supported(format!("{at}.type"), other, PROFILES));
        }
    }
}

fn sysctls(faults: &mut Faults, at: &str, spec: &Value) {
    let mut names = HashSet::new();
    for (index, sysctl) in items(&spec["securityContext"], "sysctls") {
        let (field, name) = (format!("{at}[{index}].name"), text(sysctl, "name"));
        if name.is_empty() {
            faults.required(&*field);
        } else if !is_sysctl(name) {
            let why = "must have at most 253 characters and match regex \
                       ^([a-z0-9]([-_a-z0-9]*[a-z0-9])?[\\./])*[a-z0-9]([-_a-z0-9]*[a-z0-9])?$";
            faults.invalid(&*field, name, why);
        } else if !names.insert(name) {
            faults.add(FieldError::duplicate(&*field, name));
        }
        let dotted = name.replace('/', ".");
        let is_of_ipc = ["kernel.shm", "kernel.msg", "fs.mqueue."];
        let is_ipc = dotted == "kernel.sem" || is_of_ipc.iter().any(|it| dotted.starts_with(it));
        if spec["hostNetwork"] == true && dotted.starts_with("net.") {
            faults.invalid(field, name, "may not be specified when 'hostNetwork' is true");
        } else if spec["hostIPC"] == true && is_ipc {
            faults.invalid(field, name, "may not be specified when 'hostIPC' is true");
        }
    }
}

fn is_sysctl(name: &str) -> bool {
    let is_outer = |it: &u8| it.is_ascii_lowercase() || it.is_ascii_digit();
    let is_segment = |segment: &str| {
        let bytes = segment.as_bytes();
        bytes.iter().all(|it| is_outer(it) || matches!(it, b'-' | b'_'))
            && bytes.first().is_some_and(is_outer)
            && bytes.last().is_some_and(is_outer)
    };
    name.len() <= 253 && name.split(['.', '/']).all(is_segment)
}

/// A pod with users of its own has no other namespace of the host.
pub(super) fn own_users(faults: &mut Faults, at: &str, spec: &Value) {
    const WHY: &str = "when `hostUsers` is false";
    if spec["hostUsers"] != false {
        return;
    }
    // Two of the names are written so by upstream.
    for (field, told) in
        [("hostNetwork", "hostNetwork"), ("hostPID", "HostPID"), ("hostIPC", "HostIPC")]
    {
        if spec[field] == true {
            faults.forbidden(format!("{at}.{told}"), WHY);
        }
    }
    for list in ["initContainers", "containers"] {
        for (index, container) in items(spec, list) {
            if items(container, "volumeDevices").next().is_some() {
                faults.forbidden(format!("{at}.{list}[{index}].volumeDevices"), WHY);
            }
        }
    }
}

/// On the host's network a container's ports are the host's.
pub(super) fn host_network(faults: &mut Faults, at: &str, scope: &Scope<'_>) {
    if scope.spec["hostNetwork"] != true {
        return;
    }
    for (index, container) in items(scope.spec, "containers") {
        for (port_index, port) in items(container, "ports") {
            let own = port["hostPort"].as_i64().unwrap_or_default();
            let is_open = !scope.is_pod && own == 0;
            if !is_open && own != port["containerPort"].as_i64().unwrap_or_default() {
                let field = format!("{at}.containers[{index}].ports[{port_index}].hostPort");
                let why = "must match `containerPort` when `hostNetwork` is true";
                faults.invalid(field, own, why);
            }
        }
    }
}
