//! Annotations of pods that mean something to the server.
//!
//! Upstream: `ValidatePodSpecificAnnotations`, `validateSeccompAnnotationsAndFields`,
//! `validateAppArmorAnnotationsAndFieldsMatchOnCreate` in pkg/apis/core/validation.

use serde_json::Value;

use crate::validation::{Faults, items, text, volumes};

pub(in crate::validation) const MIRROR: &str = "kubernetes.io/config.mirror";
pub(in crate::validation) const APP_ARMOR: &str = "container.apparmor.security.beta.kubernetes.io/";
const DELETION_COST: &str = "controller.kubernetes.io/pod-deletion-cost";
const SECCOMP: &str = "seccomp.security.alpha.kubernetes.io/pod";
const SECCOMP_OF_CONTAINER: &str = "container.seccomp.security.alpha.kubernetes.io/";
const LISTS: [&str; 3] = ["initContainers", "containers", "ephemeralContainers"];

pub(super) fn check(faults: &mut Faults, at: &str, annotations: &Value, spec: &Value) {
    for (key, value) in annotations.as_object().into_iter().flatten() {
        let (field, value) = (format!("{at}[{key}]"), value.as_str().unwrap_or_default());
        match key.as_str() {
            MIRROR if text(spec, "nodeName").is_empty() => {
                let why = "must set spec.nodeName if mirror pod annotation is set";
                faults.invalid(field, value, why);
            }
            DELETION_COST if !is_cost(value) => {
                faults.invalid(field, value, "must be a 32bit integer");
            }
            SECCOMP => seccomp(faults, &format!("{at}.{key}"), value),
            key if key.starts_with(SECCOMP_OF_CONTAINER) => {
                seccomp(faults, &format!("{at}.{key}"), value);
            }
            key => {
                if let Some(container) = key.strip_prefix(APP_ARMOR) {
                    app_armor(faults, &field, container, value, spec);
                }
            }
        }
    }
}

/// A number in its shortest form.
fn is_cost(value: &str) -> bool {
    let is_padded = value.len() > 1 && (value.starts_with('0') || value.starts_with("-0"));
    !is_padded && !value.starts_with('+') && value.parse::<i32>().is_ok()
}

fn seccomp(faults: &mut Faults, field: &str, profile: &str) {
    match profile {
        "runtime/default" | "docker/default" | "unconfined" => {}
        it => match it.strip_prefix("localhost/") {
            Some(path) => volumes::descending_path(faults, field, path),
            None => faults.invalid(field, it, "must be a valid seccomp profile"),
        },
    }
}

fn app_armor(faults: &mut Faults, field: &str, container: &str, profile: &str, spec: &Value) {
    let is_there = |list: &&str| items(spec, list).any(|(_, it)| text(it, "name") == container);
    if !LISTS.iter().any(is_there) {
        faults.invalid(field, container, "container not found");
    }
    let is_known = matches!(profile, "" | "runtime/default" | "unconfined")
        || profile.starts_with("localhost/");
    if !is_known {
        faults.invalid(field, profile, format!("invalid AppArmor profile name: {profile:?}"));
    }
}

/// What is said in both ways, the old and the new, is said the same.
pub(super) fn agree(faults: &mut Faults, at: &str, annotations: &Value, spec: &Value) {
    let own = &spec["securityContext"];
    let profile = &own["seccompProfile"];
    let field = format!("{at}.securityContext.seccompProfile");
    same(faults, "seccomp", &field, &annotations[SECCOMP], profile);
    for list in LISTS {
        for (index, container) in items(spec, list) {
            let context = &container["securityContext"];
            let at = format!("{at}.{list}[{index}].securityContext");
            let name = text(container, "name");
            let told = &annotations[format!("{SECCOMP_OF_CONTAINER}{name}")];
            let field = format!("{at}.seccompProfile");
            same(faults, "seccomp", &field, told, &context["seccompProfile"]);
            if spec["os"]["name"] == "windows" {
                continue;
            }
            let told = &annotations[format!("{APP_ARMOR}{name}")];
            let of_pod = &own["appArmorProfile"];
            let profile = Some(&context["appArmorProfile"]).filter(|it| it.is_object());
            let field = format!("{at}.appArmorProfile");
            same(faults, "apparmor", &field, told, profile.unwrap_or(of_pod));
        }
    }
}

fn same(faults: &mut Faults, what: &str, at: &str, annotation: &Value, profile: &Value) {
    let Some(told) = annotation.as_str().filter(|_| profile.is_object()) else { return };
    let file = told.strip_prefix("localhost/");
    let agrees = match text(profile, "type") {
        "Unconfined" => told == "unconfined",
        "RuntimeDefault" => {
            told == "runtime/default" || what == "seccomp" && told == "docker/default"
        }
        "Localhost" => file.is_some(),
        _ => true,
    };
    if !agrees {
        let why = format!("{what} type in annotation and field must match");
        faults.forbidden(format!("{at}.type"), why);
    } else if profile["type"] == "Localhost" && profile["localhostProfile"].as_str() != file {
        let why = format!("{what} profile in annotation and field must match");
        faults.forbidden(format!("{at}.localhostProfile"), why);
    }
}
