//! Volumes of a pod.

use std::collections::HashSet;

use serde_json::Value;

use super::{Faults, certificates, fields, items, text};
use crate::status::FieldError;

/// Checks a spec's volumes, and returns their names.
pub(super) fn validate(faults: &mut Faults, at: &str, spec: &Value) -> HashSet<String> {
    let mut names = HashSet::new();
    for (index, volume) in items(spec, "volumes") {
        let at = format!("{at}[{index}]");
        let name = text(volume, "name");
        if name.is_empty() {
            faults.required(format!("{at}.name"));
        } else {
            faults.each(&format!("{at}.name"), name, fields::label(name));
            if !names.insert(name.to_owned()) {
                faults.add(FieldError::duplicate(format!("{at}.name"), name));
            }
        }
        source(faults, &at, volume);
    }
    names
}

fn source(faults: &mut Faults, at: &str, volume: &Value) {
    let sources = volume.as_object().into_iter().flatten();
    let sources: Vec<&String> = sources.map(|(key, _)| key).filter(|key| *key != "name").collect();
    if sources.is_empty() {
        faults.add(FieldError::required(at, "must specify a volume type"));
    }
    for extra in sources.iter().skip(1) {
        let field = format!("{at}.{extra}");
        faults.add(FieldError::forbidden(field, "may not specify more than 1 volume type"));
    }
    for (kind, field) in [
        ("secret", "secretName"),
        ("configMap", "name"),
        ("persistentVolumeClaim", "claimName"),
        ("hostPath", "path"),
        ("nfs", "server"),
        ("csi", "driver"),
    ] {
        if volume[kind].is_object() {
            faults.text(format!("{at}.{kind}.{field}"), &volume[kind][field]);
        }
    }
    for kind in ["secret", "configMap"] {
        keys(faults, &format!("{at}.{kind}"), &volume[kind]);
    }
    let path = text(&volume["hostPath"], "path");
    if path.split('/').any(|it| it == "..") {
        faults.invalid(format!("{at}.hostPath.path"), path, "must not contain '..'");
    }
    distinct_paths(faults, &format!("{at}.projected"), &volume["projected"]);
    for (index, source) in items(&volume["projected"], "sources") {
        let at = format!("{at}.projected.sources[{index}]");
        let token = &source["serviceAccountToken"];
        if token.is_object() {
            faults.text(format!("{at}.serviceAccountToken.path"), &token["path"]);
            let seconds = token["expirationSeconds"].as_i64().unwrap_or(3600);
            if seconds < 600 {
                let field = format!("{at}.serviceAccountToken.expirationSeconds");
                faults.invalid(field, seconds, "may not specify a duration less than 10 minutes");
            }
        }
        if source["clusterTrustBundle"].is_object() {
            // Upstream's path has this name.
            let at = format!("{at}.clusterTrustBundlePEM");
            certificates::trust_bundle_projection(faults, &at, &source["clusterTrustBundle"]);
        }
        for kind in ["secret", "configMap"] {
            if source[kind].is_object() {
                faults.text(format!("{at}.{kind}.name"), &source[kind]["name"]);
                keys(faults, &format!("{at}.{kind}"), &source[kind]);
            }
        }
    }
}

/// `items` of a ConfigMap or Secret: a key and a path within the volume.
fn keys(faults: &mut Faults, at: &str, source: &Value) {
    let mode = source["defaultMode"].as_i64().unwrap_or_default();
    if !(0..=0o777).contains(&mode) {
        let why = "must be a number between 0 and 0777 (octal), both inclusive";
        faults.invalid(format!("{at}.defaultMode"), mode, why);
    }
    for (index, item) in items(source, "items") {
        let at = format!("{at}.items[{index}]");
        faults.text(format!("{at}.key"), &item["key"]);
        local_path(faults, format!("{at}.path"), text(item, "path"));
    }
}

/// Of a file within a volume; names that begin with two dots are the kubelet's own.
pub(super) fn local_path(faults: &mut Faults, field: String, path: &str) {
    if path.is_empty() {
        return faults.required(field);
    }
    if path.starts_with('/') {
        faults.invalid(&field, path, "must be a relative path");
    }
    if path.split('/').any(|it| it == "..") {
        faults.invalid(&field, path, "must not contain '..'");
    }
    if path.starts_with("..") && !path.starts_with("../") {
        faults.invalid(&field, path, "must not start with '..'");
    }
}

/// No two sources of a projected volume write the same file.
fn distinct_paths(faults: &mut Faults, at: &str, projected: &Value) {
    let mut paths = HashSet::new();
    for (_, source) in items(projected, "sources") {
        for kind in ["secret", "configMap", "downwardAPI"] {
            for (_, item) in items(&source[kind], "items") {
                let path = text(item, "path");
                if !path.is_empty() && !paths.insert(path) {
                    let told =
                        if kind == "downwardAPI" { path } else { text(&source[kind], "name") };
                    faults.invalid(at, told, "conflicting duplicate paths");
                }
            }
        }
        for kind in ["serviceAccountToken", "clusterTrustBundle"] {
            let path = text(&source[kind], "path");
            if !path.is_empty() && !paths.insert(path) {
                faults.invalid(at, path, "conflicting duplicate paths");
            }
        }
    }
}
