//! Containers: those of a pod, those that come before them, and those that are added later.
//!
//! Upstream: `validateContainers`, `validateInitContainers`, `validateEphemeralContainers` in
//! pkg/apis/core/validation.

use std::collections::HashSet;

use serde_json::Value;

use super::{Scope, environment, mounts, requirements, restarts, security};
use crate::{
    status::FieldError,
    validation::{Faults, fields, items, probes, text},
};

const PULL_POLICIES: &[&str] = &["Always", "IfNotPresent", "Never"];
const MESSAGE_POLICIES: &[&str] = &["File", "FallbackToLogsOnError"];
const PROTOCOLS: &[&str] = &["SCTP", "TCP", "UDP"];
const RESIZABLE: &[&str] = &["cpu", "memory"];
const RESIZE_POLICIES: &[&str] = &["NotRequired", "RestartContainer"];

/// What an ephemeral container may say of itself.
const EPHEMERAL: [&str; 16] = [
    "name",
    "image",
    "command",
    "args",
    "workingDir",
    "envFrom",
    "env",
    "volumeMounts",
    "volumeDevices",
    "terminationMessagePath",
    "terminationMessagePolicy",
    "imagePullPolicy",
    "securityContext",
    "stdin",
    "stdinOnce",
    "tty",
];

pub(super) fn all(faults: &mut Faults, at: &str, scope: &Scope<'_>) {
    let mut names = HashSet::new();
    if items(scope.spec, "containers").next().is_none() {
        faults.required(format!("{at}.containers"));
    }
    for (index, it) in items(scope.spec, "containers") {
        let at = format!("{at}.containers[{index}]");
        common(faults, &at, it, scope);
        unique(faults, &at, it, &mut names);
        probes::container(faults, &at, it, scope.grace());
        restarts::check(faults, &at, it);
    }
    let ports = format!("{at}.containers");
    host_ports(faults, &ports, items(scope.spec, "containers"));
    for (index, it) in items(scope.spec, "initContainers") {
        let list = format!("{at}.initContainers");
        let at = format!("{list}[{index}]");
        common(faults, &at, it, scope);
        restarts::check(faults, &at, it);
        unique(faults, &at, it, &mut names);
        // They run one after the other.
        host_ports(faults, &list, std::iter::once((0, it)));
        init(faults, &at, it, scope);
    }
    let regular = names.clone();
    for (index, it) in items(scope.spec, "ephemeralContainers") {
        let at = format!("{at}.ephemeralContainers[{index}]");
        common(faults, &at, it, scope);
        image_of_pod(faults, &at, it);
        unique(faults, &at, it, &mut names);
        ephemeral(faults, &at, it, &regular);
    }
}

fn unique<'a>(faults: &mut Faults, at: &str, container: &'a Value, names: &mut HashSet<&'a str>) {
    let name = text(container, "name");
    if !name.is_empty() && !names.insert(name) {
        faults.add(FieldError::duplicate(format!("{at}.name"), name));
    }
}

fn init(faults: &mut Faults, at: &str, container: &Value, scope: &Scope<'_>) {
    if text(container, "restartPolicy") == "Always" {
        return probes::container(faults, at, container, scope.grace());
    }
    for field in ["lifecycle", "livenessProbe", "readinessProbe", "startupProbe"] {
        if container[field].is_object() {
            let why = "may not be set for init containers without restartPolicy=Always";
            faults.forbidden(format!("{at}.{field}"), why);
        }
    }
}

fn ephemeral(faults: &mut Faults, at: &str, container: &Value, others: &HashSet<&str>) {
    const WHY: &str = "cannot be set for an Ephemeral Container";
    let target = text(container, "targetContainerName");
    if !target.is_empty() && !others.contains(target) {
        faults.add(FieldError::not_found(format!("{at}.targetContainerName"), target));
    }
    for (field, value) in container.as_object().into_iter().flatten() {
        let is_known = EPHEMERAL.contains(&field.as_str()) || field == "targetContainerName";
        if !is_known && !fields::is_unset(value) {
            faults.forbidden(format!("{at}.{field}"), WHY);
        }
    }
    for (index, mount) in items(container, "volumeMounts") {
        for field in ["subPath", "subPathExpr"] {
            if !text(mount, field).is_empty() {
                faults.forbidden(format!("{at}.volumeMounts[{index}].{field}"), WHY);
            }
        }
    }
}

fn common(faults: &mut Faults, at: &str, container: &Value, scope: &Scope<'_>) {
    let name = text(container, "name");
    if name.is_empty() {
        faults.required(format!("{at}.name"));
    } else {
        faults.each(&format!("{at}.name"), name, fields::label(name));
    }
    faults.text(format!("{at}.image"), &container["image"]);
    let policy = &container["terminationMessagePolicy"];
    faults.one_of(&format!("{at}.terminationMessagePolicy"), policy, MESSAGE_POLICIES);
    ports(faults, &format!("{at}.ports"), container);
    environment::check(faults, at, container, scope);
    mounts::check(faults, at, container, scope);
    let policy = &container["imagePullPolicy"];
    faults.one_of(&format!("{at}.imagePullPolicy"), policy, PULL_POLICIES);
    requirements::check(faults, &format!("{at}.resources"), &container["resources"], Some(scope));
    resize_policy(faults, &format!("{at}.resizePolicy"), container, scope);
    security::container(faults, &format!("{at}.securityContext"), container, scope);
}

/// Templates may have anything there: some tools fill it in later.
pub(super) fn image_of_pod(faults: &mut Faults, at: &str, container: &Value) {
    let image = text(container, "image");
    if image.trim() != image {
        let why = "must not have leading or trailing whitespace";
        faults.invalid(format!("{at}.image"), image, why);
    }
}

fn ports(faults: &mut Faults, at: &str, container: &Value) {
    let mut names = HashSet::new();
    for (index, port) in items(container, "ports") {
        let at = format!("{at}[{index}]");
        let name = text(port, "name");
        let why = fields::port_name(name);
        if !name.is_empty() && !why.is_empty() {
            faults.each(&format!("{at}.name"), name, why);
        } else if !name.is_empty() && !names.insert(name) {
            faults.add(FieldError::duplicate(format!("{at}.name"), name));
        }
        match port["containerPort"].as_i64().unwrap_or_default() {
            0 => faults.required(format!("{at}.containerPort")),
            _ => fields::port(faults, &format!("{at}.containerPort"), &port["containerPort"]),
        }
        if port["hostPort"].as_i64().unwrap_or_default() != 0 {
            fields::port(faults, &format!("{at}.hostPort"), &port["hostPort"]);
        }
        faults.one_of(&format!("{at}.protocol"), &port["protocol"], PROTOCOLS);
    }
}

/// No two containers that run together can have one port of the host.
fn host_ports<'a>(
    faults: &mut Faults,
    list: &str,
    containers: impl Iterator<Item = (usize, &'a Value)>,
) {
    let mut taken = HashSet::new();
    for (index, container) in containers {
        for (port_index, port) in items(container, "ports") {
            let number = port["hostPort"].as_i64().unwrap_or_default();
            if number == 0 {
                continue;
            }
            let key = format!("{}/{}/{number}", text(port, "protocol"), text(port, "hostIP"));
            if !taken.insert(key.clone()) {
                let field = format!("{list}[{index}].ports[{port_index}].hostPort");
                faults.add(FieldError::duplicate(field, key));
            }
        }
    }
}

fn resize_policy(faults: &mut Faults, at: &str, container: &Value, scope: &Scope<'_>) {
    let mut seen = HashSet::new();
    for (index, policy) in items(container, "resizePolicy") {
        let (name, restart) = (text(policy, "resourceName"), text(policy, "restartPolicy"));
        if !seen.insert(name) {
            faults.add(FieldError::duplicate(format!("{at}[{index}]"), name));
        }
        faults.one_of(at, &policy["resourceName"], RESIZABLE);
        faults.one_of(at, &policy["restartPolicy"], RESIZE_POLICIES);
        if text(scope.spec, "restartPolicy") == "Never" && restart != "NotRequired" {
            let why = "must be 'NotRequired' when `restartPolicy` is 'Never'";
            faults.invalid(at, restart, why);
        }
    }
}
