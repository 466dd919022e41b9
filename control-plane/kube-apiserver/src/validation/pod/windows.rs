//! What a pod may say on which operating system.
//!
//! Upstream: `validateOS`, `validateLinux`, `validateWindows`, `validateWindowsHostProcessPod` in
//! pkg/apis/core/validation.

use serde_json::Value;

use crate::{
    status::FieldError,
    validation::{Faults, fields, items, text},
};

const LISTS: [&str; 3] = ["initContainers", "containers", "ephemeralContainers"];
const SYSTEMS: &[&str] = &["linux", "windows"];
const NOT_ON_WINDOWS: &str = "cannot be set for a windows pod";
const LARGEST_SPEC: usize = 64 * 1024;
/// What only Linux has: of a pod's security context.
const OF_PODS: [&str; 11] = [
    "appArmorProfile",
    "seLinuxOptions",
    "seccompProfile",
    "fsGroup",
    "fsGroupChangePolicy",
    "sysctls",
    "runAsUser",
    "runAsGroup",
    "supplementalGroups",
    "supplementalGroupsPolicy",
    "seLinuxChangePolicy",
];
/// The same of a container's.
const OF_CONTAINERS: [&str; 10] = [
    "appArmorProfile",
    "seLinuxOptions",
    "seccompProfile",
    "capabilities",
    "readOnlyRootFilesystem",
    "privileged",
    "allowPrivilegeEscalation",
    "procMount",
    "runAsUser",
    "runAsGroup",
];

pub(super) fn system(faults: &mut Faults, at: &str, spec: &Value) {
    if !spec["os"].is_object() {
        return;
    }
    match text(&spec["os"], "name") {
        "" => faults.add(FieldError::required(format!("{at}.os.name"), "cannot be empty")),
        "linux" => linux(faults, at, spec),
        "windows" => windows(faults, at, spec),
        other => faults.add(FieldError::not_supported(format!("{at}.os"), other, SYSTEMS)),
    }
}

/// Every container with its path.
fn containers<'a>(at: &str, spec: &'a Value) -> Vec<(String, &'a Value)> {
    let of_list = |list: &'static str| {
        items(spec, list).map(move |(index, it)| (format!("{at}.{list}[{index}]"), it))
    };
    LISTS.into_iter().flat_map(of_list).collect()
}

fn linux(faults: &mut Faults, at: &str, spec: &Value) {
    let why = "windows options cannot be set for a linux pod";
    let own = std::iter::once((at.to_owned(), spec));
    for (at, it) in own.chain(containers(at, spec)) {
        if !it["securityContext"]["windowsOptions"].is_null() {
            faults.forbidden(format!("{at}.securityContext.windowsOptions"), why);
        }
    }
}

fn windows(faults: &mut Faults, at: &str, spec: &Value) {
    for field in OF_PODS.iter().filter(|it| !spec["securityContext"][**it].is_null()) {
        faults.forbidden(format!("{at}.securityContext.{field}"), NOT_ON_WINDOWS);
    }
    for field in ["hostUsers", "shareProcessNamespace"] {
        if !spec[field].is_null() {
            faults.forbidden(format!("{at}.{field}"), NOT_ON_WINDOWS);
        }
    }
    for field in ["hostPID", "hostIPC"] {
        if spec[field] == true {
            faults.forbidden(format!("{at}.{field}"), NOT_ON_WINDOWS);
        }
    }
    for (at, it) in containers(at, spec) {
        for field in OF_CONTAINERS.iter().filter(|field| !it["securityContext"][**field].is_null())
        {
            faults.forbidden(format!("{at}.securityContext.{field}"), NOT_ON_WINDOWS);
        }
    }
}

pub(super) fn options(faults: &mut Faults, at: &str, options: &Value) {
    if let Some(name) = options["gmsaCredentialSpecName"].as_str() {
        faults.each(&format!("{at}.gmsaCredentialSpecName"), name, fields::subdomain(name));
    }
    let field = format!("{at}.gmsaCredentialSpec");
    match options["gmsaCredentialSpec"].as_str() {
        Some("") => faults.invalid(field, "", "gmsaCredentialSpec cannot be an empty string"),
        Some(it) if it.len() > LARGEST_SPEC => {
            faults.invalid(field, it, "gmsaCredentialSpec size must be under 64 KiB");
        }
        _ => {}
    }
    if let Some(name) = options["runAsUserName"].as_str() {
        for why in user_name(name) {
            faults.invalid(format!("{at}.runAsUserName"), name, why);
        }
    }
}

fn user_name(name: &str) -> Vec<&'static str> {
    if name.is_empty() {
        return vec!["runAsUserName cannot be an empty string"];
    }
    if name.contains(|it: char| it.is_ascii_control()) {
        return vec!["runAsUserName cannot contain control characters"];
    }
    let parts: Vec<&str> = name.split('\\').collect();
    let (domain, user) = match parts[..] {
        [user] => (None, user),
        [domain, user] => (Some(domain), user),
        _ => return vec!["runAsUserName cannot contain more than one backslash"],
    };
    let mut faults = Vec::new();
    if domain.is_some_and(|it| it.len() >= 256) {
        faults.push("runAsUserName's Domain length must be under 256 characters");
    }
    if domain.is_some_and(|it| !is_domain(it)) {
        faults.push("runAsUserName's Domain doesn't match the NetBios nor the DNS format");
    }
    if user.is_empty() {
        faults.push("runAsUserName's User cannot be empty");
    } else if user.len() > 104 {
        faults.push("runAsUserName's User length must not be longer than 104 characters");
    }
    if !user.is_empty() && user.chars().all(|it| matches!(it, '.' | ' ')) {
        faults.push("runAsUserName's User cannot contain only periods or spaces");
    }
    if user
        .contains(['"', '/', '\\', ':', ';', '|', '=', ',', '+', '*', '?', '<', '>', '@', '[', ']'])
    {
        faults.push(
            "runAsUserName's User cannot contain the following characters: \"/\\:;|=,+*?<>@[]",
        );
    }
    faults
}

fn is_domain(domain: &str) -> bool {
    let is_net_bios = !domain.starts_with('.')
        && (1..=15).contains(&domain.chars().count())
        && !domain.contains(['\\', '/', ':', '*', '?', '"', '<', '>', '|']);
    let is_edge = |it: char| it.is_ascii_alphanumeric();
    let is_label = |it: &str| {
        (1..=63).contains(&it.len())
            && it.starts_with(is_edge)
            && it.ends_with(is_edge)
            && it.chars().all(|it| is_edge(it) || it == '-')
    };
    is_net_bios || domain.split('.').all(is_label)
}

/// Containers that are processes of the host: all of a pod's, or none.
pub(super) fn host_processes(faults: &mut Faults, at: &str, spec: &Value) {
    let asked = |it: &Value| it["securityContext"]["windowsOptions"]["hostProcess"].as_bool();
    let (of_pod, all) = (asked(spec), containers(at, spec));
    let mut count = 0;
    for (at, it) in &all {
        let own = asked(it);
        if let (Some(of_pod), Some(own)) = (of_pod, own)
            && of_pod != own
        {
            let why = format!(
                "pod hostProcess value must be identical if both are specified, was {of_pod}"
            );
            faults.invalid(format!("{at}.securityContext.windowsOptions.hostProcess"), own, why);
        }
        count += usize::from(own.or(of_pod) == Some(true));
    }
    if count == 0 {
        return;
    }
    if count != all.len() {
        let why = "If pod contains any hostProcess containers then all containers must be HostProcess containers";
        faults.invalid(at, "", why);
    }
    if spec["hostNetwork"] != true {
        let why = "hostNetwork must be true if pod contains any hostProcess containers";
        faults.invalid(format!("{at}.hostNetwork"), false, why);
    }
}
