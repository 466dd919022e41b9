//! What the user should know about a pod, or the template of one.
//!
//! Upstream: pkg/api/pod/warnings.go.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::Value;

const SECCOMP: &str = "seccomp.security.alpha.kubernetes.io/pod";

/// Annotations that do nothing any more, and what does it now.
const ANNOTATIONS: [(&str, &str); 3] = [
    (
        "scheduler.alpha.kubernetes.io/critical-pod",
        "non-functional in v1.16+; use the \"priorityClassName\" field instead",
    ),
    (
        "security.alpha.kubernetes.io/sysctls",
        "non-functional in v1.11+; use the \"sysctls\" field instead",
    ),
    (
        "security.alpha.kubernetes.io/unsafe-sysctls",
        "non-functional in v1.11+; use the \"sysctls\" field instead",
    ),
];

/// Kinds of volumes that are on their way out.
const VOLUMES: [(&str, &str); 9] = [
    ("photonPersistentDisk", "deprecated in v1.11, non-functional in v1.16+"),
    ("gitRepo", "deprecated in v1.11"),
    ("scaleIO", "deprecated in v1.16, non-functional in v1.22+"),
    ("flocker", "deprecated in v1.22, non-functional in v1.25+"),
    ("storageos", "deprecated in v1.22, non-functional in v1.25+"),
    ("quobyte", "deprecated in v1.22, non-functional in v1.25+"),
    ("glusterfs", "deprecated in v1.25, non-functional in v1.26+"),
    ("cephfs", "deprecated in v1.28, non-functional in v1.31+"),
    ("rbd", "deprecated in v1.28, non-functional in v1.31+"),
];

/// Of the pod or template at `path`.
pub(super) fn of(path: &str, pod: &Value) -> Vec<String> {
    let dot = if path.is_empty() { "" } else { "." };
    let (spec, spec_path) = (&pod["spec"], format!("{path}{dot}spec"));
    let mut warnings = Vec::new();
    for (at, spread) in list(spec, "topologySpreadConstraints") {
        if spread["labelSelector"].is_null() {
            warnings.push(format!(
                "{spec_path}.topologySpreadConstraints[{at}].labelSelector: a null labelSelector \
                 results in matching no pod"
            ));
        }
    }
    let annotations = &pod["metadata"]["annotations"];
    let mut told = ANNOTATIONS.to_vec();
    if spec["securityContext"]["seccompProfile"].is_null() {
        told.push((SECCOMP, "non-functional in v1.27+; use the \"seccompProfile\" field instead"));
    }
    for (key, why) in told.into_iter().filter(|(key, _)| annotations[*key].is_string()) {
        warnings.push(format!("{path}{dot}metadata.annotations[{key}]: {why}"));
    }
    for (at, volume) in list(spec, "volumes") {
        for (field, why) in VOLUMES.iter().filter(|(field, _)| !volume[*field].is_null()) {
            warnings.push(format!("{spec_path}.volumes[{at}].{field}: {why}"));
        }
    }
    if spec["terminationGracePeriodSeconds"].as_i64().is_some_and(|it| it < 0) {
        warnings.push(format!(
            "{spec_path}.terminationGracePeriodSeconds: must be >= 0; negative values are invalid \
             and will be treated as 1"
        ));
    }
    twins(spec, &spec_path, "hostAliases", "ip", &mut warnings);
    twins(spec, &spec_path, "imagePullSecrets", "name", &mut warnings);
    let mut ports = BTreeMap::new();
    for containers in ["initContainers", "containers"] {
        for (at, container) in list(spec, containers) {
            let path = format!("{spec_path}.{containers}[{at}]");
            variables(container, &path, &mut warnings);
            same_ports(container, &path, &mut ports, &mut warnings);
        }
    }
    warnings
}

fn list<'a>(spec: &'a Value, field: &str) -> impl Iterator<Item = (usize, &'a Value)> {
    spec[field].as_array().into_iter().flatten().enumerate()
}

/// Elements of which applying keeps one.
fn twins(spec: &Value, path: &str, field: &str, key: &str, warnings: &mut Vec<String>) {
    let mut seen = BTreeSet::new();
    for (at, item) in list(spec, field) {
        let name = item[key].as_str().unwrap_or_default();
        if !seen.insert(name) {
            warnings.push(format!("{path}.{field}[{at}].{key}: duplicate {key} {name:?}"));
        }
        if field == "imagePullSecrets" && name.is_empty() {
            warnings.push(format!("{path}.{field}[{at}].{key}: invalid empty {key} {name:?}"));
        }
    }
}

/// A variable may be set again from its value before; to hide that is most likely a mistake.
fn variables(container: &Value, path: &str, warnings: &mut Vec<String>) {
    let mut seen = BTreeSet::new();
    for (at, variable) in list(container, "env") {
        let text = |field: &str| variable[field].as_str().unwrap_or_default();
        let (name, value) = (text("name"), text("value"));
        let before = format!("$({name})");
        let uses_it = variable["valueFrom"].is_null() && value != before && value.contains(&before);
        if !seen.insert(name) && !uses_it {
            warnings.push(format!(
                "{path}.env[{at}]: hides previous definition of {name:?}, which may be dropped \
                 when using apply"
            ));
        }
    }
}

type Ports<'a> = BTreeMap<(i64, &'a str), Vec<(String, &'a Value)>>;

/// The same port of the pod, named twice.
fn same_ports<'a>(
    container: &'a Value,
    path: &str,
    ports: &mut Ports<'a>,
    warnings: &mut Vec<String>,
) {
    for (at, port) in list(container, "ports") {
        let path = format!("{path}.ports[{at}]");
        let number = |port: &Value, field: &str| port[field].as_i64().unwrap_or_default();
        let protocol = port["protocol"].as_str().unwrap_or("TCP");
        let others = ports.entry((number(port, "containerPort"), protocol)).or_default();
        for (place, other) in &*others {
            let (host, other_host) = (number(port, "hostPort"), number(other, "hostPort"));
            if host == other_host && port["hostIP"] == other["hostIP"] {
                warnings.push(format!("{path}: duplicate port definition with {place}"));
            } else if host == 0 || other_host == 0 {
                warnings.push(format!("{path}: overlapping port definition with {place}"));
            }
        }
        others.push((path, port));
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn what_is_taken_for_something_else_is_told() {
        let template = json!({"spec": {"terminationGracePeriodSeconds": -1}});
        assert_eq!(
            of("spec.template", &template),
            [
                "spec.template.spec.terminationGracePeriodSeconds: must be >= 0; negative values are \
                 invalid and will be treated as 1",
            ]
        );
    }

    #[test]
    fn what_applying_would_drop_is_told() {
        let variable = |value: &str| json!({"name": "A", "value": value});
        let port = json!({"containerPort": 80, "protocol": "TCP"});
        let template = json!({"spec": {
            "hostAliases": [{"ip": "1.2.3.4"}, {"ip": "1.2.3.4"}],
            "containers": [{"name": "c", "env": [variable("1"), variable("$(A)2"), variable("3")],
                "ports": [port, port]}],
        }});
        assert_eq!(
            of("spec.template", &template),
            [
                "spec.template.spec.hostAliases[1].ip: duplicate ip \"1.2.3.4\"",
                "spec.template.spec.containers[0].env[2]: hides previous definition of \"A\", which \
                 may be dropped when using apply",
                "spec.template.spec.containers[0].ports[1]: duplicate port definition with \
                 spec.template.spec.containers[0].ports[0]",
            ]
        );
    }
}
