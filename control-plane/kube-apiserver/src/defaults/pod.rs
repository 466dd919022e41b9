//! Defaults of pods and pod templates.

mod level;

use serde_json::{Value, json};

use super::{at, each, or, or_text, sources};

/// What a pod has beyond its template: a template without it stays as it was written.
pub(super) fn pod(pod: &mut Value) {
    of_pod(at(pod, "spec"));
    let Some(status) = pod.get_mut("status") else { return };
    for list in ["initContainerStatuses", "containerStatuses", "ephemeralContainerStatuses"] {
        for container in each(status, list) {
            at(container, "state");
            at(container, "lastState");
        }
    }
}

fn of_pod(spec: &mut Value) {
    self::spec(spec);
    // A template keeps what it says, with a warning.
    if spec["terminationGracePeriodSeconds"].as_i64().is_some_and(|it| it < 0) {
        spec["terminationGracePeriodSeconds"] = 1.into();
    }
    or(spec, "enableServiceLinks", json!(true));
    let is_host_network = spec["hostNetwork"] == true;
    for list in ["initContainers", "containers"] {
        for container in each(spec, list) {
            requests(container);
            for port in each(container, "ports").filter(|_| is_host_network) {
                if port["hostPort"].as_i64().unwrap_or_default() == 0 {
                    port["hostPort"] = port["containerPort"].clone();
                }
            }
        }
    }
    level::apply(spec);
}

pub(super) fn template(template: &mut Value) {
    at(template, "metadata");
    spec(at(template, "spec"));
}

fn spec(spec: &mut Value) {
    or_text(spec, "restartPolicy", "Always");
    or_text(spec, "dnsPolicy", "ClusterFirst");
    or_text(spec, "schedulerName", "default-scheduler");
    or(spec, "terminationGracePeriodSeconds", json!(30));
    or(spec, "securityContext", json!({}));
    mirror_service_account(spec);
    for list in ["initContainers", "containers", "ephemeralContainers"] {
        each(spec, list).for_each(container);
    }
    super::round(spec, "overhead");
    if spec["resources"].is_object() {
        amounts(at(spec, "resources"));
    }
    for volume in each(spec, "volumes") {
        self::volume(volume);
    }
}

/// The old name of the same field.
fn mirror_service_account(spec: &mut Value) {
    let text = |field: &str| spec[field].as_str().unwrap_or_default().to_owned();
    let (new, old) = (text("serviceAccountName"), text("serviceAccount"));
    let name = if new.is_empty() { old } else { new };
    if !name.is_empty() {
        spec["serviceAccountName"] = name.clone().into();
        spec["serviceAccount"] = name.into();
    }
}

fn container(container: &mut Value) {
    or_text(container, "terminationMessagePath", "/dev/termination-log");
    or_text(container, "terminationMessagePolicy", "File");
    let policy = pull_policy(container["image"].as_str().unwrap_or_default());
    or_text(container, "imagePullPolicy", policy);
    amounts(at(container, "resources"));
    for port in each(container, "ports") {
        or_text(port, "protocol", "TCP");
    }
    for variable in each(container, "env") {
        if let Some(field) = variable.pointer_mut("/valueFrom/fieldRef") {
            or_text(field, "apiVersion", "v1");
        }
        if let Some(file) = variable.pointer_mut("/valueFrom/fileKeyRef") {
            or(file, "optional", json!(false));
        }
    }
    for name in ["livenessProbe", "readinessProbe", "startupProbe"] {
        if container[name].is_object() {
            probe(at(container, name));
        }
    }
    for hook in ["postStart", "preStop"] {
        if let Some(get) = container.pointer_mut(&format!("/lifecycle/{hook}/httpGet")) {
            http_get(get);
        }
    }
}

/// `Always` for `latest` and untagged images without a digest.
fn pull_policy(image: &str) -> &'static str {
    if image.contains('@') {
        return "IfNotPresent";
    }
    let last = image.rsplit('/').next().unwrap_or_default();
    match last.split_once(':') {
        None | Some((_, "latest")) => "Always",
        Some(_) => "IfNotPresent",
    }
}

/// Requests follow limits where they are absent.
fn requests(container: &mut Value) {
    let resources = at(container, "resources");
    let limits = resources["limits"].as_object().cloned().unwrap_or_default();
    for (name, limit) in limits {
        or(at(resources, "requests"), &name, limit);
    }
}

fn amounts(resources: &mut Value) {
    for kind in ["limits", "requests"] {
        let amounts = resources.get_mut(kind).and_then(Value::as_object_mut);
        for (_, amount) in amounts.into_iter().flatten() {
            if let Value::Number(number) = amount {
                *amount = number.to_string().into();
            }
        }
        super::round(resources, kind);
    }
}

fn probe(probe: &mut Value) {
    for (field, value) in [
        ("timeoutSeconds", 1),
        ("periodSeconds", 10),
        ("successThreshold", 1),
        ("failureThreshold", 3),
    ] {
        if probe[field].as_i64().unwrap_or_default() == 0 {
            probe[field] = value.into();
        }
    }
    if probe["httpGet"].is_object() {
        http_get(at(probe, "httpGet"));
    }
    if probe["grpc"].is_object() {
        or(at(probe, "grpc"), "service", json!(""));
    }
}

fn http_get(get: &mut Value) {
    or_text(get, "path", "/");
    or_text(get, "scheme", "HTTP");
}

/// Octal 0644, the mode of files made from configuration.
const FILE_MODE: i64 = 0o644;

fn volume(volume: &mut Value) {
    let has_source = volume.as_object().is_some_and(|it| it.keys().any(|key| key != "name"));
    if !has_source {
        volume["emptyDir"] = json!({});
    }
    for source in ["secret", "configMap", "downwardAPI", "projected"] {
        if volume[source].is_object() {
            or(at(volume, source), "defaultMode", json!(FILE_MODE));
        }
    }
    if volume["image"].is_object() {
        let image = at(volume, "image");
        let policy = pull_policy(image["reference"].as_str().unwrap_or_default());
        or_text(image, "pullPolicy", policy);
    }
    sources::apply(volume);
    for source in
        volume.pointer_mut("/projected/sources").and_then(Value::as_array_mut).into_iter().flatten()
    {
        if source["serviceAccountToken"].is_object() {
            or(at(source, "serviceAccountToken"), "expirationSeconds", json!(3600));
        }
        if source["downwardAPI"].is_object() {
            field_references(at(source, "downwardAPI"));
        }
    }
    if volume["downwardAPI"].is_object() {
        field_references(at(volume, "downwardAPI"));
    }
    if let Some(claim) = volume.pointer_mut("/ephemeral/volumeClaimTemplate") {
        sources::claim(at(claim, "spec"));
    }
}

fn field_references(source: &mut Value) {
    for item in each(source, "items") {
        if item["fieldRef"].is_object() {
            or_text(at(item, "fieldRef"), "apiVersion", "v1");
        }
    }
}
