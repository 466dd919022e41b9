//! Projected volumes: files from several sources.
//!
//! Upstream: `validateProjectionSources` in pkg/apis/core/validation.

use std::collections::HashSet;

use serde_json::Value;

use super::{downward_file, keys, local_path, mode};
use crate::{
    status::FieldError,
    validation::{Faults, certificates, items, text},
};

const CONFLICT: &str = "conflicting duplicate paths";
const KINDS: [&str; 6] = [
    "secret",
    "configMap",
    "downwardAPI",
    "serviceAccountToken",
    "clusterTrustBundle",
    "podCertificate",
];

pub(super) fn check(faults: &mut Faults, at: &str, projected: &Value) {
    mode(faults, format!("{at}.defaultMode"), &projected["defaultMode"]);
    let mut paths = HashSet::new();
    for (index, source) in items(projected, "sources") {
        let of = format!("{at}.sources[{index}]");
        for kind in ["secret", "configMap"] {
            let it = &source[kind];
            if it.is_object() {
                faults.text(format!("{of}.{kind}.name"), &it["name"]);
                keys(faults, &format!("{of}.{kind}"), it);
                files(faults, at, it, &mut paths, Some(text(it, "name")));
            }
        }
        for (_, file) in items(&source["downwardAPI"], "items") {
            downward_file(faults, &format!("{of}.downwardAPI"), file);
        }
        files(faults, at, &source["downwardAPI"], &mut paths, None);
        if source["serviceAccountToken"].is_object() {
            token(faults, at, &of, &source["serviceAccountToken"]);
        }
        if source["clusterTrustBundle"].is_object() {
            // Upstream's path has this name.
            let at = format!("{of}.clusterTrustBundlePEM");
            certificates::trust_bundle_projection(faults, &at, &source["clusterTrustBundle"]);
        }
        for kind in ["serviceAccountToken", "clusterTrustBundle"] {
            let path = text(&source[kind], "path");
            if !path.is_empty() && !paths.insert(path) {
                faults.invalid(at, path, CONFLICT);
            }
        }
        if KINDS.iter().filter(|it| source[**it].is_object()).count() > 1 {
            let why = "may not specify more than 1 volume type per source";
            faults.forbidden(of, why);
        }
    }
}

/// No two sources write the same file. What is told is the source, if it has a name.
fn files<'a>(
    faults: &mut Faults,
    at: &str,
    source: &'a Value,
    paths: &mut HashSet<&'a str>,
    name: Option<&str>,
) {
    for (_, item) in items(source, "items") {
        let path = text(item, "path");
        if !path.is_empty() && !paths.insert(path) {
            faults.invalid(at, name.unwrap_or(path), CONFLICT);
        }
    }
}

fn token(faults: &mut Faults, at: &str, of: &str, token: &Value) {
    let field = format!("{of}.serviceAccountToken.expirationSeconds");
    let seconds = token["expirationSeconds"].as_i64().unwrap_or_default();
    if seconds < 600 {
        let why = "may not specify a duration less than 10 minutes";
        faults.invalid(&*field, seconds, why);
    }
    if seconds > 1 << 32 {
        let why = "may not specify a duration larger than 2^32 seconds";
        faults.invalid(&*field, seconds, why);
    }
    // Of the volume, as upstream tells it.
    let path = text(token, "path");
    if path.is_empty() {
        faults.add(FieldError::required(format!("{at}.path"), ""));
    } else {
        local_path(faults, format!("{at}.path"), path);
    }
}
