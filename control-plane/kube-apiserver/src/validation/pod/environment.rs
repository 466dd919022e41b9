//! Environment variables, and what of a pod can be told to its own containers.
//!
//! Upstream: `ValidateEnv`, `validateObjectFieldSelector` in pkg/apis/core/validation.

use serde_json::Value;

use super::Scope;
use crate::{
    status::FieldError,
    validation::{Faults, fields, items, text, volumes},
};

const SOURCES: [&str; 5] =
    ["fieldRef", "resourceFieldRef", "configMapKeyRef", "secretKeyRef", "fileKeyRef"];
const NONE: &str = "must specify one of: `fieldRef`, `resourceFieldRef`, `configMapKeyRef`, `secretKeyRef` or `fileKeyRef`";
const SEVERAL: &str = "may not have more than one field specified at a time";

/// Fields of a pod that a variable can have.
const VARIABLES: &[&str] = &[
    "metadata.name",
    "metadata.namespace",
    "metadata.uid",
    "spec.nodeName",
    "spec.serviceAccountName",
    "status.hostIP",
    "status.hostIPs",
    "status.podIP",
    "status.podIPs",
];
/// Fields of a pod that a file can have.
pub(in crate::validation) const FILES: &[&str] = &[
    "metadata.annotations",
    "metadata.labels",
    "metadata.name",
    "metadata.namespace",
    "metadata.uid",
];
/// Fields that have a name for it in the downward API, of whichever use.
const KNOWN: [&str; 5] = [
    "metadata.annotations",
    "metadata.labels",
    "spec.restartPolicy",
    "spec.schedulerName",
    "status.phase",
];
const RESOURCES: &[&str] = &[
    "limits.cpu",
    "limits.ephemeral-storage",
    "limits.memory",
    "requests.cpu",
    "requests.ephemeral-storage",
    "requests.memory",
];
const DIVISORS: [&str; 13] =
    ["1", "1k", "1M", "1G", "1T", "1P", "1E", "1Ki", "1Mi", "1Gi", "1Ti", "1Pi", "1Ei"];

pub(super) fn check(faults: &mut Faults, at: &str, container: &Value, scope: &Scope<'_>) {
    for (index, variable) in items(container, "env") {
        let at = format!("{at}.env[{index}]");
        let name = text(variable, "name");
        if name.is_empty() {
            faults.required(format!("{at}.name"));
        } else {
            faults.each(&format!("{at}.name"), name, fields::environment_name(name));
        }
        if variable["valueFrom"].is_object() {
            source(faults, &format!("{at}.valueFrom"), variable, scope);
        }
    }
    let list = format!("{at}.envFrom");
    for (index, from) in items(container, "envFrom") {
        let at = format!("{list}[{index}]");
        let prefix = text(from, "prefix");
        if !prefix.is_empty() {
            faults.each(&format!("{at}.prefix"), prefix, fields::environment_name(prefix));
        }
        let kinds = ["configMapRef", "secretRef"].into_iter().filter(|it| from[*it].is_object());
        let kinds: Vec<&str> = kinds.collect();
        for kind in &kinds {
            fields::object_name(faults, &format!("{at}.{kind}.name"), &from[*kind]["name"]);
        }
        // Of the list, as upstream tells it.
        match kinds.len() {
            0 => faults.invalid(&*list, "", "must specify one of: `configMapRef` or `secretRef`"),
            1 => {}
            _ => faults.invalid(&*list, "", SEVERAL),
        }
    }
}

fn source(faults: &mut Faults, at: &str, variable: &Value, scope: &Scope<'_>) {
    let source = &variable["valueFrom"];
    let count = SOURCES.iter().filter(|it| source[**it].is_object()).count();
    if source["fieldRef"].is_object() {
        field(faults, &format!("{at}.fieldRef"), &source["fieldRef"], VARIABLES);
    }
    if source["resourceFieldRef"].is_object() {
        resource(faults, &format!("{at}.resourceFieldRef"), &source["resourceFieldRef"], false);
    }
    for kind in ["configMapKeyRef", "secretKeyRef"] {
        if source[kind].is_object() {
            key(faults, &format!("{at}.{kind}"), &source[kind]);
        }
    }
    if source["fileKeyRef"].is_object() {
        file_key(faults, &format!("{at}.fileKeyRef"), &source["fileKeyRef"], scope);
    }
    if count == 0 {
        faults.invalid(at, "", NONE);
    } else if !text(variable, "value").is_empty() {
        faults.invalid(at, "", "may not be specified when `value` is not empty");
    } else if count > 1 {
        faults.invalid(at, "", SEVERAL);
    }
}

/// A key of a ConfigMap or Secret.
fn key(faults: &mut Faults, at: &str, selector: &Value) {
    let (name, key) = (text(selector, "name"), text(selector, "key"));
    faults.each(&format!("{at}.name"), name, fields::subdomain(name));
    if key.is_empty() {
        faults.required(format!("{at}.key"));
    } else {
        faults.each(&format!("{at}.key"), key, fields::config_key(key));
    }
}

/// A key of a file that another container wrote.
fn file_key(faults: &mut Faults, at: &str, selector: &Value, scope: &Scope<'_>) {
    let (volume, key) = (text(selector, "volumeName"), text(selector, "key"));
    if key.is_empty() {
        faults.required(format!("{at}.key"));
    } else {
        faults.each(&format!("{at}.key"), key, fields::environment_name(key));
    }
    if volume.is_empty() {
        faults.required(format!("{at}.volumeName"));
    } else if !scope.volumes.contains_key(volume) {
        faults.add(FieldError::not_found(format!("{at}.volumeName"), volume));
    }
    volumes::local_path(faults, format!("{at}.path"), text(selector, "path"));
}

/// A field of the pod itself.
pub(in crate::validation) fn field(
    faults: &mut Faults,
    at: &str,
    selector: &Value,
    supported: &[&str],
) {
    let (version, path) = (text(selector, "apiVersion"), text(selector, "fieldPath"));
    if version.is_empty() {
        return faults.required(format!("{at}.apiVersion"));
    }
    if path.is_empty() {
        return faults.required(format!("{at}.fieldPath"));
    }
    let told = format!("{at}.fieldPath");
    if version != "v1" {
        let why = format!("error converting fieldPath: unsupported pod version: {version}");
        return faults.invalid(told, path, why);
    }
    match subscripted(path) {
        Some(("metadata.annotations", key)) => {
            faults.each(at, key, fields::qualified_name(&key.to_lowercase()));
        }
        Some(("metadata.labels", key)) => faults.each(at, key, fields::qualified_name(key)),
        Some(_) => {
            let why = format!(
                "error converting fieldPath: field label does not support subscript: {path}"
            );
            faults.invalid(told, path, why);
        }
        None if supported.contains(&path) => {}
        None if VARIABLES.contains(&path) || KNOWN.contains(&path) => {
            faults.add(FieldError::not_supported(told, path, supported));
        }
        None => {
            let why = format!("error converting fieldPath: field label not supported: {path}");
            faults.invalid(told, path, why);
        }
    }
}

/// `metadata.labels['app']`
fn subscripted(path: &str) -> Option<(&str, &str)> {
    path.strip_suffix("']")?.split_once("['")
}

/// A resource of a container of the pod.
pub(in crate::validation) fn resource(
    faults: &mut Faults,
    at: &str,
    selector: &Value,
    is_file: bool,
) {
    let name = text(selector, "resource");
    let is_pages = name.starts_with("limits.hugepages-") || name.starts_with("requests.hugepages-");
    if is_file && text(selector, "containerName").is_empty() {
        faults.required(format!("{at}.containerName"));
    } else if name.is_empty() {
        faults.required(format!("{at}.resource"));
    } else if !RESOURCES.contains(&name) && !is_pages {
        faults.add(FieldError::not_supported(format!("{at}.resource"), name, RESOURCES));
    }
    let divisor = text(selector, "divisor");
    if fields::quantity(&selector["divisor"]).is_none_or(|it| it.is_zero()) {
        return;
    }
    let what = match name.split_once('.').map(|(_, it)| it) {
        Some("cpu") if !matches!(divisor, "1m" | "1") => {
            let why = "only divisor's values 1m and 1 are supported with the cpu resource";
            return faults.invalid(format!("{at}.divisor"), name, why);
        }
        Some("memory") => "memory",
        Some("ephemeral-storage") => "local ephemeral storage",
        _ if is_pages => "hugepages",
        _ => return,
    };
    if !DIVISORS.contains(&divisor) {
        let why = format!(
            "only divisor's values {} are supported with the {what} resource",
            DIVISORS.join(", ")
        );
        faults.invalid(format!("{at}.divisor"), name, why);
    }
}
