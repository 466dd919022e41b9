//! Pod specs and pod templates.
//!
//! Upstream: `ValidatePodSpec` in pkg/apis/core/validation.

use std::collections::HashSet;

use resources::Quantity;
use serde_json::Value;

use super::{Faults, fields, items, metadata, probes, stop_signal, text, volumes};
use crate::status::FieldError;

const RESTART_POLICIES: &[&str] = &["Always", "OnFailure", "Never"];
const DNS_POLICIES: &[&str] = &["ClusterFirst", "ClusterFirstWithHostNet", "Default", "None"];
const PULL_POLICIES: &[&str] = &["Always", "IfNotPresent", "Never"];
const PROTOCOLS: &[&str] = &["SCTP", "TCP", "UDP"];
const EFFECTS: &[&str] = &["NoSchedule", "PreferNoSchedule", "NoExecute"];

pub(super) fn template(faults: &mut Faults, at: &str, template: &Value) {
    fields::labels(faults, &format!("{at}.metadata.labels"), &template["metadata"]["labels"]);
    let annotations = &template["metadata"]["annotations"];
    metadata::annotations(faults, &format!("{at}.metadata.annotations"), annotations);
    let spec_at = format!("{at}.spec");
    if template["spec"]["ephemeralContainers"].as_array().is_some_and(|it| !it.is_empty()) {
        let why = "ephemeral containers not allowed in pod template";
        faults.add(FieldError::forbidden(format!("{spec_at}.ephemeralContainers"), why));
    }
    spec(faults, &spec_at, &template["spec"]);
}

pub(super) fn spec(faults: &mut Faults, at: &str, spec: &Value) {
    let names = volumes::validate(faults, &format!("{at}.volumes"), spec);
    let mut seen = HashSet::new();
    if spec["containers"].as_array().is_none_or(Vec::is_empty) {
        faults.required(format!("{at}.containers"));
    }
    for (index, it) in items(spec, "containers") {
        let at = format!("{at}.containers[{index}]");
        container(faults, &at, it, &names, &mut seen);
        probes::container(faults, &at, it);
    }
    for (index, it) in items(spec, "initContainers") {
        let at = format!("{at}.initContainers[{index}]");
        container(faults, &at, it, &names, &mut seen);
        init_container(faults, &at, it);
    }
    stop_signal::check(faults, at, spec);
    host_ports(faults, at, spec);
    faults.one_of(&format!("{at}.restartPolicy"), &spec["restartPolicy"], RESTART_POLICIES);
    faults.one_of(&format!("{at}.dnsPolicy"), &spec["dnsPolicy"], DNS_POLICIES);
    dns(faults, at, spec);
    fields::labels(faults, &format!("{at}.nodeSelector"), &spec["nodeSelector"]);
    seconds(faults, at, spec);
    tolerations(faults, &format!("{at}.tolerations"), spec);
    security(faults, at, spec);
    affinity(faults, &format!("{at}.affinity"), &spec["affinity"]);
    spread(faults, at, spec);
    for (field, check) in [
        ("nodeName", fields::subdomain as fn(&str) -> Vec<String>),
        ("serviceAccountName", fields::subdomain),
        ("hostname", fields::label),
        ("subdomain", fields::label),
        ("priorityClassName", fields::subdomain),
        ("runtimeClassName", fields::subdomain),
    ] {
        let value = text(spec, field);
        if !value.is_empty() {
            faults.each(&format!("{at}.{field}"), value, check(value));
        }
    }
}

fn seconds(faults: &mut Faults, at: &str, spec: &Value) {
    faults.not_negative(
        &format!("{at}.terminationGracePeriodSeconds"),
        &spec["terminationGracePeriodSeconds"],
    );
    let deadline = spec["activeDeadlineSeconds"].as_i64();
    if let Some(seconds) = deadline.filter(|it| !(1..=i64::from(i32::MAX)).contains(it)) {
        let why = "must be between 1 and 2147483647, inclusive";
        faults.invalid(format!("{at}.activeDeadlineSeconds"), seconds, why);
    }
}

fn init_container(faults: &mut Faults, at: &str, container: &Value) {
    let policy = text(container, "restartPolicy");
    if !matches!(policy, "" | "Always" | "Never" | "OnFailure") {
        let field = format!("{at}.restartPolicy");
        faults.add(FieldError::not_supported(field, policy, &["Always"]));
    }
    if policy == "Always" {
        probes::container(faults, at, container);
        return;
    }
    for probe in ["livenessProbe", "readinessProbe", "startupProbe"] {
        if container[probe].is_object() {
            let why = "may not be set for init containers without restartPolicy=Always";
            faults.add(FieldError::forbidden(format!("{at}.{probe}"), why));
        }
    }
}

fn container(
    faults: &mut Faults,
    at: &str,
    container: &Value,
    volumes: &HashSet<String>,
    seen: &mut HashSet<String>,
) {
    let name = text(container, "name");
    if name.is_empty() {
        faults.required(format!("{at}.name"));
    } else {
        faults.each(&format!("{at}.name"), name, fields::label(name));
        if !seen.insert(name.to_owned()) {
            faults.add(FieldError::duplicate(format!("{at}.name"), name));
        }
    }
    let image = text(container, "image");
    if image.is_empty() {
        faults.required(format!("{at}.image"));
    } else if image.trim() != image {
        faults.invalid(
            format!("{at}.image"),
            image,
            "must not have leading or trailing whitespace",
        );
    }
    ports(faults, &format!("{at}.ports"), container);
    environment(faults, at, container);
    mounts(faults, &format!("{at}.volumeMounts"), container, volumes);
    resources(faults, &format!("{at}.resources"), &container["resources"]);
    let pull_policy = &container["imagePullPolicy"];
    faults.one_of(&format!("{at}.imagePullPolicy"), pull_policy, PULL_POLICIES);
    let message_policy = &container["terminationMessagePolicy"];
    faults.one_of(
        &format!("{at}.terminationMessagePolicy"),
        message_policy,
        &["FallbackToLogsOnError", "File"],
    );
    let security = &container["securityContext"];
    for field in ["runAsUser", "runAsGroup"] {
        user_id(faults, &format!("{at}.securityContext.{field}"), &security[field]);
    }
    if security["privileged"] == true && security["allowPrivilegeEscalation"] == false {
        faults.invalid(
            format!("{at}.securityContext"),
            security.clone(),
            "cannot set `allowPrivilegeEscalation` to false and `privileged` to true",
        );
    }
}

fn sysctls(faults: &mut Faults, at: &str, sysctls: &Value) {
    let mut names = HashSet::new();
    for (index, sysctl) in sysctls.as_array().into_iter().flatten().enumerate() {
        let (field, name) = (format!("{at}[{index}].name"), text(sysctl, "name"));
        if name.is_empty() {
            faults.required(field);
        } else if !is_sysctl(name) {
            let why = "must have at most 253 characters and match regex \
                       ([a-z0-9]([-_a-z0-9]*[a-z0-9])?[\\./])*[a-z0-9]([-_a-z0-9]*[a-z0-9])?";
            faults.invalid(field, name, why);
        } else if !names.insert(name) {
            faults.add(FieldError::duplicate(field, name));
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

fn user_id(faults: &mut Faults, field: &str, id: &Value) {
    if let Some(id) = id.as_i64().filter(|it| !(0..=i64::from(i32::MAX)).contains(it)) {
        faults.invalid(field, id, "must be between 0 and 2147483647, inclusive");
    }
}

fn ports(faults: &mut Faults, at: &str, container: &Value) {
    let mut names = HashSet::new();
    for (index, port) in items(container, "ports") {
        let at = format!("{at}[{index}]");
        let name = text(port, "name");
        if !name.is_empty() {
            faults.each(&format!("{at}.name"), name, fields::port_name(name));
            if !names.insert(name) {
                faults.add(FieldError::duplicate(format!("{at}.name"), name));
            }
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

/// No two containers can have one port of the host.
fn host_ports(faults: &mut Faults, at: &str, spec: &Value) {
    let mut taken = HashSet::new();
    for (index, container) in items(spec, "containers") {
        for (port_index, port) in items(container, "ports") {
            let number = port["hostPort"].as_i64().unwrap_or_default();
            if number == 0 {
                continue;
            }
            let protocol = text(port, "protocol");
            let key = format!("{protocol}/{}/{number}", text(port, "hostIP"));
            if !taken.insert(key.clone()) {
                let field = format!("{at}.containers[{index}].ports[{port_index}].hostPort");
                faults.add(FieldError::duplicate(field, key));
            }
        }
    }
}

fn environment(faults: &mut Faults, at: &str, container: &Value) {
    for (index, variable) in items(container, "env") {
        let at = format!("{at}.env[{index}]");
        let name = text(variable, "name");
        if name.is_empty() {
            faults.required(format!("{at}.name"));
        } else {
            faults.each(&format!("{at}.name"), name, fields::environment_name(name));
        }
        let source = &variable["valueFrom"];
        let Some(fields_of) = source.as_object() else { continue };
        let field = format!("{at}.valueFrom");
        if !text(variable, "value").is_empty() {
            faults.invalid(&field, "", "may not be specified when `value` is not empty");
        }
        match fields_of.len() {
            0 => faults.invalid(
                &field,
                "",
                "must specify one of: `fieldRef`, `resourceFieldRef`, `configMapKeyRef`, `secretKeyRef` or `fileKeyRef`",
            ),
            1 => {}
            _ => faults.invalid(&field, "", "may not have more than one field specified at a time"),
        }
        for kind in ["configMapKeyRef", "secretKeyRef"] {
            if source[kind].is_object() {
                faults.text(format!("{field}.{kind}.name"), &source[kind]["name"]);
                faults.text(format!("{field}.{kind}.key"), &source[kind]["key"]);
            }
        }
    }
}

fn mounts(faults: &mut Faults, at: &str, container: &Value, volumes: &HashSet<String>) {
    let mut paths = HashSet::new();
    for (index, mount) in items(container, "volumeMounts") {
        let at = format!("{at}[{index}]");
        let (name, path) = (text(mount, "name"), text(mount, "mountPath"));
        if name.is_empty() {
            faults.required(format!("{at}.name"));
        } else if !volumes.contains(name) {
            faults.add(FieldError::not_found(format!("{at}.name"), name));
        }
        if path.is_empty() {
            faults.required(format!("{at}.mountPath"));
        } else if !paths.insert(path) {
            faults.invalid(format!("{at}.mountPath"), path, "must be unique");
        }
        let sub_path = text(mount, "subPath");
        if sub_path.starts_with('/') {
            faults.invalid(format!("{at}.subPath"), sub_path, "must be a relative path");
        }
        if sub_path.split('/').any(|it| it == "..") {
            faults.invalid(format!("{at}.subPath"), sub_path, "must not contain '..'");
        }
    }
}

/// Requests within limits, nothing negative.
pub(super) fn resources(faults: &mut Faults, at: &str, resources: &Value) {
    let parse = |value: &Value| value.as_str().and_then(|it| it.parse::<Quantity>().ok());
    for kind in ["limits", "requests"] {
        for (name, amount) in resources[kind].as_object().into_iter().flatten() {
            let field = format!("{at}.{kind}[{name}]");
            faults.each(&field, name, fields::qualified_name(name));
            if parse(amount).is_some_and(|it| it.is_negative()) {
                faults.invalid(field, amount.clone(), "must be greater than or equal to 0");
            }
        }
    }
    for (name, request) in resources["requests"].as_object().into_iter().flatten() {
        let limit = &resources["limits"][name];
        let (Some(asked), Some(most)) = (parse(request), parse(limit)) else { continue };
        let is_extended = name.contains('/') && !name.starts_with("kubernetes.io/");
        if is_extended && asked != most {
            let why = format!("must be equal to {name} limit of {most}");
            faults.invalid(format!("{at}.requests"), request.clone(), why);
        } else if asked > most {
            let why = format!("must be less than or equal to {name} limit of {most}");
            faults.invalid(format!("{at}.requests"), request.clone(), why);
        }
    }
}

fn tolerations(faults: &mut Faults, at: &str, spec: &Value) {
    for (index, toleration) in items(spec, "tolerations") {
        let at = format!("{at}[{index}]");
        let (key, operator) = (text(toleration, "key"), text(toleration, "operator"));
        if !key.is_empty() {
            faults.each(&format!("{at}.key"), key, fields::qualified_name(key));
        } else if operator != "Exists" {
            let why = "operator must be Exists when `key` is empty, which means \"match all values and all keys\"";
            faults.invalid(format!("{at}.operator"), operator, why);
        }
        let effect = text(toleration, "effect");
        if toleration["tolerationSeconds"].is_number() && effect != "NoExecute" {
            let why = "effect must be 'NoExecute' when `tolerationSeconds` is set";
            faults.invalid(format!("{at}.effect"), effect, why);
        }
        match operator {
            "" | "Equal" => {
                let value = text(toleration, "value");
                faults.each(&format!("{at}.operator"), value, fields::label_value(value));
            }
            "Exists" if !text(toleration, "value").is_empty() => {
                let why = "value must be empty when `operator` is 'Exists'";
                faults.invalid(format!("{at}.operator"), toleration.clone(), why);
            }
            "Exists" => {}
            other => {
                let field = format!("{at}.operator");
                faults.add(FieldError::not_supported(field, other, &["Equal", "Exists"]));
            }
        }
        if !effect.is_empty() && !EFFECTS.contains(&effect) {
            faults.add(FieldError::not_supported(format!("{at}.effect"), effect, EFFECTS));
        }
    }
}

fn security(faults: &mut Faults, at: &str, spec: &Value) {
    let context = &spec["securityContext"];
    sysctls(faults, &format!("{at}.securityContext.sysctls"), &context["sysctls"]);
    for field in ["runAsUser", "runAsGroup", "fsGroup"] {
        user_id(faults, &format!("{at}.securityContext.{field}"), &context[field]);
    }
    own_users(faults, at, spec);
    if spec["shareProcessNamespace"] == true && spec["hostPID"] == true {
        let why = "ShareProcessNamespace and HostPID cannot both be enabled";
        faults.invalid(format!("{at}.shareProcessNamespace"), true, why);
    }
    for list in ["containers", "initContainers"] {
        for (index, container) in items(spec, list) {
            let field = format!("{at}.{list}[{index}].securityContext.procMount");
            match text(&container["securityContext"], "procMount") {
                "" | "Default" => {}
                "Unmasked" if spec["hostUsers"] == false => {}
                "Unmasked" => {
                    let why = "`hostUsers` must be false to use `Unmasked`";
                    faults.invalid(field, "Unmasked", why);
                }
                other => {
                    let known = &["Default", "Unmasked"];
                    faults.add(FieldError::not_supported(field, other, known));
                }
            }
        }
    }
    if spec["hostNetwork"] != true {
        return;
    }
    for (index, container) in items(spec, "containers") {
        for (port_index, port) in items(container, "ports") {
            if port["hostPort"] != port["containerPort"] {
                let field = format!("{at}.containers[{index}].ports[{port_index}].hostPort");
                let why = "must match `containerPort` when `hostNetwork` is true";
                faults.invalid(field, port["hostPort"].clone(), why);
            }
        }
    }
}

/// A pod with users of its own has no other namespace of the host.
fn own_users(faults: &mut Faults, at: &str, spec: &Value) {
    if spec["hostUsers"] != false {
        return;
    }
    // Two of the names are written so by upstream.
    for (field, told) in
        [("hostNetwork", "hostNetwork"), ("hostPID", "HostPID"), ("hostIPC", "HostIPC")]
    {
        if spec[field] == true {
            let field = format!("{at}.{told}");
            faults.add(FieldError::forbidden(field, "when `hostUsers` is false"));
        }
    }
    for list in ["initContainers", "containers"] {
        for (index, container) in items(spec, list) {
            if items(container, "volumeDevices").next().is_some() {
                let field = format!("{at}.{list}[{index}].volumeDevices");
                faults.add(FieldError::forbidden(field, "when `hostUsers` is false"));
            }
        }
    }
}

fn dns(faults: &mut Faults, at: &str, spec: &Value) {
    let config = &spec["dnsConfig"];
    let has_servers = config["nameservers"].as_array().is_some_and(|it| !it.is_empty());
    if spec["dnsPolicy"] == "None" && !has_servers {
        let why = "must provide at least one DNS nameserver when `dnsPolicy` is None";
        faults.add(FieldError::required(format!("{at}.dnsConfig.nameservers"), why));
    }
    for (index, server) in items(config, "nameservers") {
        let address = server.as_str().unwrap_or_default();
        if address.parse::<std::net::IpAddr>().is_err() {
            let field = format!("{at}.dnsConfig.nameservers[{index}]");
            faults.invalid(
                field,
                address,
                "must be a valid IP address, (e.g. 10.9.8.7 or 2001:db8::ffff)",
            );
        }
    }
}

fn affinity(faults: &mut Faults, at: &str, affinity: &Value) {
    for kind in ["podAffinity", "podAntiAffinity"] {
        let at = format!("{at}.{kind}");
        let required = "requiredDuringSchedulingIgnoredDuringExecution";
        let preferred = "preferredDuringSchedulingIgnoredDuringExecution";
        for (index, term) in items(&affinity[kind], required) {
            affinity_term(faults, &format!("{at}.{required}[{index}]"), term);
        }
        for (index, weighted) in items(&affinity[kind], preferred) {
            let at = format!("{at}.{preferred}[{index}]");
            weight(faults, &at, weighted);
            affinity_term(faults, &format!("{at}.podAffinityTerm"), &weighted["podAffinityTerm"]);
        }
    }
    let node = &affinity["nodeAffinity"];
    let required = &node["requiredDuringSchedulingIgnoredDuringExecution"];
    if required.is_object() && required["nodeSelectorTerms"].as_array().is_none_or(Vec::is_empty) {
        let at = format!("{at}.nodeAffinity.requiredDuringSchedulingIgnoredDuringExecution");
        let why = "must have at least one node selector term";
        faults.add(FieldError::required(format!("{at}.nodeSelectorTerms"), why));
    }
    for (index, weighted) in items(node, "preferredDuringSchedulingIgnoredDuringExecution") {
        let list = "preferredDuringSchedulingIgnoredDuringExecution";
        weight(faults, &format!("{at}.nodeAffinity.{list}[{index}]"), weighted);
    }
}

fn weight(faults: &mut Faults, at: &str, term: &Value) {
    let weight = term["weight"].as_i64().unwrap_or_default();
    if !(1..=100).contains(&weight) {
        faults.invalid(format!("{at}.weight"), weight, "must be in the range 1-100");
    }
}

fn affinity_term(faults: &mut Faults, at: &str, term: &Value) {
    let key = text(term, "topologyKey");
    if key.is_empty() {
        faults.add(FieldError::required(format!("{at}.topologyKey"), "can not be empty"));
    } else {
        faults.each(&format!("{at}.topologyKey"), key, fields::qualified_name(key));
    }
    fields::selector(faults, &format!("{at}.labelSelector"), &term["labelSelector"]);
}

fn spread(faults: &mut Faults, at: &str, spec: &Value) {
    for (index, constraint) in items(spec, "topologySpreadConstraints") {
        let at = format!("{at}.topologySpreadConstraints[{index}]");
        let skew = constraint["maxSkew"].as_i64().unwrap_or_default();
        if skew <= 0 {
            faults.invalid(format!("{at}.maxSkew"), skew, "must be greater than zero");
        }
        if text(constraint, "topologyKey").is_empty() {
            faults.add(FieldError::required(format!("{at}.topologyKey"), "can not be empty"));
        }
        let policy = text(constraint, "whenUnsatisfiable");
        let supported = &["DoNotSchedule", "ScheduleAnyway"];
        if !supported.contains(&policy) {
            let field = format!("{at}.whenUnsatisfiable");
            faults.add(FieldError::not_supported(field, policy, supported));
        }
        fields::selector(faults, &format!("{at}.labelSelector"), &constraint["labelSelector"]);
    }
}

/// `pods/ephemeralcontainers`: they can be added and never taken away or changed.
pub(super) fn ephemeral(faults: &mut Faults, old: &Value, new: &Value) {
    let at = "spec.ephemeralContainers";
    let list =
        |pod: &Value| pod["spec"]["ephemeralContainers"].as_array().cloned().unwrap_or_default();
    let (before, after) = (list(old), list(new));
    for known in &before {
        match after.iter().find(|it| it["name"] == known["name"]) {
            Some(same) if same == known => {}
            Some(_) => {
                let why = format!(
                    "existing ephemeral containers \"{}\" may not be changed\n",
                    text(known, "name")
                );
                faults.add(FieldError::forbidden(at, why));
            }
            None => {
                let why = format!(
                    "existing ephemeral containers \"{}\" may not be removed\n",
                    text(known, "name")
                );
                faults.add(FieldError::forbidden(at, why));
            }
        }
    }
    for (index, container) in after.iter().enumerate() {
        let at = format!("{at}[{index}]");
        faults.text(format!("{at}.name"), &container["name"]);
        faults.text(format!("{at}.image"), &container["image"]);
        for field in ["ports", "livenessProbe", "readinessProbe", "startupProbe", "lifecycle"] {
            if !container[field].is_null() {
                faults.add(FieldError::forbidden(
                    format!("{at}.{field}"),
                    "cannot be set for an Ephemeral Container",
                ));
            }
        }
    }
}
