//! What the level `restricted` checks besides, in the order of upstream's names for them.

use std::collections::BTreeSet;

use serde_json::Value;

use super::{Policy, Violation, add, baseline, is_windows, named, plural, quoted, setters, shown};
use crate::authz::{items, text};

const VOLUMES: [&str; 8] = [
    "configMap",
    "csi",
    "downwardAPI",
    "emptyDir",
    "ephemeral",
    "persistentVolumeClaim",
    "projected",
    "secret",
];

pub(super) fn check(policy: &Policy, spec: &Value, found: &mut Vec<Violation>) {
    // Windows knows no privileges, capabilities and seccomp of this kind.
    let is_linux = !(policy.is_since(25) && is_windows(spec));
    if is_linux && policy.is_since(8) {
        privilege_escalation(spec, found);
    }
    if is_linux && policy.is_since(22) {
        capabilities(spec, found);
    }
    volumes(spec, found);
    run_as_non_root(spec, found);
    if policy.is_since(23) {
        run_as_user(spec, found);
    }
    if is_linux && policy.is_since(19) {
        seccomp(spec, found);
    }
}

fn privilege_escalation(spec: &Value, found: &mut Vec<Violation>) {
    let names = named(spec, |it| it["securityContext"]["allowPrivilegeEscalation"] != false);
    if !names.is_empty() {
        let names = shown(&names);
        let detail = format!("{names} must set securityContext.allowPrivilegeEscalation=false");
        add(found, "allowPrivilegeEscalation != false", detail);
    }
}

fn capabilities(spec: &Value, found: &mut Vec<Violation>) {
    let drops_all = |container: &Value| {
        items(container, "/securityContext/capabilities/drop").iter().any(|it| it == "ALL")
    };
    let mut details = Vec::new();
    let keeping = named(spec, |it| !drops_all(it));
    if !keeping.is_empty() {
        let names = shown(&keeping);
        details.push(format!("{names} must set securityContext.capabilities.drop=[\"ALL\"]"));
    }
    let (adding, added) = baseline::forbidden_capabilities(spec, &["NET_BIND_SERVICE"]);
    if !adding.is_empty() {
        details.push(format!(
            "{} must not include {} in securityContext.capabilities.add",
            shown(&adding),
            quoted(&added)
        ));
    }
    if !details.is_empty() {
        add(found, "unrestricted capabilities", details.join("; "));
    }
}

fn volumes(spec: &Value, found: &mut Vec<Violation>) {
    let kind = |volume: &Value| -> Option<String> {
        let fields = volume.as_object().into_iter().flatten();
        let mut kinds = fields.filter(|(name, value)| *name != "name" && value.is_object());
        kinds.next().map(|(name, _)| name.clone())
    };
    let bad: Vec<(&str, String)> = items(spec, "/volumes")
        .iter()
        .filter_map(|it| Some((text(it, "/name"), kind(it)?)))
        .filter(|(_, kind)| !VOLUMES.contains(&kind.as_str()))
        .collect();
    if bad.is_empty() {
        return;
    }
    let names: Vec<&str> = bad.iter().map(|it| it.0).collect();
    let kinds: BTreeSet<&str> = bad.iter().map(|it| it.1.as_str()).collect();
    let kinds: Vec<&str> = kinds.into_iter().collect();
    let detail = format!(
        "{} {} {} {} {}",
        plural("volume", "volumes", names.len()),
        quoted(&names),
        plural("uses", "use", names.len()),
        plural("restricted volume type", "restricted volume types", kinds.len()),
        quoted(&kinds)
    );
    add(found, "restricted volume types", detail);
}

fn run_as_non_root(spec: &Value, found: &mut Vec<Violation>) {
    const REASON: &str = "runAsNonRoot != true";
    let of = |it: &Value| it["securityContext"]["runAsNonRoot"].as_bool();
    let explicit = named(spec, |it| of(it) == Some(false));
    if let Some(setters) = setters(of(spec) == Some(false), &explicit) {
        let detail = format!("{setters} must not set securityContext.runAsNonRoot=false");
        return add(found, REASON, detail);
    }
    if of(spec) == Some(true) {
        return;
    }
    let implicit = named(spec, |it| of(it).is_none());
    if !implicit.is_empty() {
        let names = shown(&implicit);
        add(found, REASON, format!("pod or {names} must set securityContext.runAsNonRoot=true"));
    }
}

fn run_as_user(spec: &Value, found: &mut Vec<Violation>) {
    let is_root = |it: &Value| it["securityContext"]["runAsUser"] == 0;
    if let Some(setters) = setters(is_root(spec), &named(spec, is_root)) {
        add(found, "runAsUser=0", format!("{setters} must not set runAsUser=0"));
    }
}

fn seccomp(spec: &Value, found: &mut Vec<Violation>) {
    const REASON: &str = "seccompProfile";
    if let Some(detail) = baseline::bad_seccomp(spec) {
        return add(found, REASON, detail);
    }
    let is_set = |it: &Value| !text(it, "/securityContext/seccompProfile/type").is_empty();
    if is_set(spec) {
        return;
    }
    let implicit = named(spec, |it| !is_set(it));
    if !implicit.is_empty() {
        let detail = format!(
            "pod or {} must set securityContext.seccompProfile.type to \"RuntimeDefault\" or \
             \"Localhost\"",
            shown(&implicit)
        );
        add(found, REASON, detail);
    }
}
