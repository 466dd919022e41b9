//! PodSecurity: what the labels of a Namespace let its pods do.
//!
//! A pod that violates the level to enforce is refused; one that violates the level to warn of is
//! warned of, as are the objects that make pods. Who tightens a Namespace is told which of its pods
//! would be refused now.
//!
//! What violates the level to audit is told in the request's audit event.
//!
//! Deviation: no exemptions.
//!
//! Upstream: k8s.io/pod-security-admission.

mod baseline;
mod restricted;

use std::{collections::BTreeMap, fmt, sync::Arc};

use serde_json::Value;

use super::{Attributes, Operation};
use crate::{
    audit::Annotations,
    authz::{Objects, items, text},
    status::{FieldError, Status},
};

const PREFIX: &str = "pod-security.kubernetes.io/";
const MODES: [&str; 3] = ["enforce", "audit", "warn"];
/// What of a pod changes nothing that is looked at.
const IGNORED: [&str; 8] =
    ["exec", "attach", "binding", "eviction", "log", "portforward", "proxy", "status"];
/// Of a Namespace no more pods than these are looked at when it is tightened.
const MOST_PODS: usize = 3000;

/// From what is least to what is most restricted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
enum Level {
    #[default]
    Privileged,
    Baseline,
    Restricted,
}

/// A level, as of a minor version of Kubernetes; `None` is the latest.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Policy {
    level: Level,
    version: Option<u32>,
}

impl fmt::Display for Policy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let level = match self.level {
            Level::Privileged => "privileged",
            Level::Baseline => "baseline",
            Level::Restricted => "restricted",
        };
        match self.version {
            None => write!(f, "{level}:latest"),
            Some(minor) => write!(f, "{level}:v1.{minor}"),
        }
    }
}

impl Policy {
    /// Of a Namespace; what cannot be read is as strict as can be, as upstream's.
    fn of(namespace: &Value, mode: &str) -> Self {
        let labels = &namespace["metadata"]["labels"];
        let level = match labels[format!("{PREFIX}{mode}")].as_str() {
            None | Some("privileged") => Level::Privileged,
            Some("baseline") => Level::Baseline,
            Some(_) => Level::Restricted,
        };
        let version = labels[format!("{PREFIX}{mode}-version")].as_str();
        Self { level, version: version.and_then(minor).flatten() }
    }

    /// Whether the policy is at least of this minor version.
    fn is_since(&self, minor: u32) -> bool {
        self.version.is_none_or(|it| it >= minor)
    }

    fn violations(&self, metadata: &Value, spec: &Value) -> Vec<Violation> {
        let mut found = Vec::new();
        if self.level >= Level::Baseline {
            baseline::check(self, metadata, spec, &mut found);
        }
        if self.level == Level::Restricted {
            restricted::check(self, spec, &mut found);
        }
        found
    }
}

/// `latest` is `Some(None)`.
fn minor(version: &str) -> Option<Option<u32>> {
    if version == "latest" {
        return Some(None);
    }
    let minor = version.strip_prefix("v1.")?;
    let is_plain = minor == "0" || !minor.starts_with('0');
    let is_number = !minor.is_empty() && minor.bytes().all(|it| it.is_ascii_digit());
    (is_plain && is_number).then(|| minor.parse().ok().map(Some)).flatten()
}

/// What a pod does that it may not.
#[derive(Debug)]
struct Violation {
    reason: String,
    detail: String,
}

fn told(violations: &[Violation]) -> String {
    let each = violations.iter().map(|it| match it.detail.as_str() {
        "" => it.reason.clone(),
        detail => format!("{} ({detail})", it.reason),
    });
    each.collect::<Vec<_>>().join(", ")
}

/// Refuses, or gives what to warn of.
pub(super) fn check(
    objects: &dyn Objects,
    attributes: &Attributes<'_>,
    new: &Value,
    notes: &Annotations,
) -> Result<Vec<String>, Status> {
    let info = attributes.info;
    if attributes.operation == Operation::Delete {
        return Ok(Vec::new());
    }
    if attributes.is_about("", "namespaces") {
        return namespace(objects, attributes, new);
    }
    if info.group.is_empty() && info.resource == "pods" {
        let is_same = attributes.old.is_some_and(|old| !is_significant(old, new));
        if IGNORED.contains(&info.subresource.as_str()) || is_same {
            return Ok(Vec::new());
        }
        return pod(objects, attributes, new, notes);
    }
    if !info.subresource.is_empty() {
        return Ok(Vec::new());
    }
    let template = match (info.group.as_str(), info.resource.as_str()) {
        ("", "podtemplates") => &new["template"],
        ("", "replicationcontrollers")
        | ("apps", "replicasets" | "deployments" | "statefulsets" | "daemonsets")
        | ("batch", "jobs") => &new["spec"]["template"],
        ("batch", "cronjobs") => &new["spec"]["jobTemplate"]["spec"]["template"],
        _ => return Ok(Vec::new()),
    };
    let Some(namespace) = objects.get("namespaces", "", &info.namespace) else {
        return Ok(Vec::new());
    };
    Ok(tell(&namespace, &template["metadata"], &template["spec"], notes))
}

fn pod(
    objects: &dyn Objects,
    attributes: &Attributes<'_>,
    new: &Value,
    notes: &Annotations,
) -> Result<Vec<String>, Status> {
    let Some(namespace) = objects.get("namespaces", "", &attributes.info.namespace) else {
        return Ok(Vec::new());
    };
    if MODES.iter().all(|mode| Policy::of(&namespace, mode).level == Level::Privileged) {
        return Ok(Vec::new());
    }
    let enforced = Policy::of(&namespace, "enforce");
    notes.add([(format!("{PREFIX}enforce-policy"), enforced.to_string())]);
    let warnings = tell(&namespace, &new["metadata"], &new["spec"], notes);
    let found = enforced.violations(&new["metadata"], &new["spec"]);
    if !found.is_empty() {
        let why = format!("violates PodSecurity \"{enforced}\": {}", told(&found));
        let name = text(new, "/metadata/name");
        return Err(Status::forbidden("pods", name, &why));
    }
    Ok(warnings)
}

/// What violates the levels to audit and to warn of; the latter is what is given.
fn tell(namespace: &Value, metadata: &Value, spec: &Value, notes: &Annotations) -> Vec<String> {
    let of = |mode: &str| {
        let policy = Policy::of(namespace, mode);
        let found = policy.violations(metadata, spec);
        let text = || format!("would violate PodSecurity \"{policy}\": {}", told(&found));
        (!found.is_empty()).then(text)
    };
    notes.add(of("audit").map(|it| (format!("{PREFIX}audit-violations"), it)));
    of("warn").into_iter().collect()
}

/// Whether an update changes what runs: of all that can be changed only images and ephemeral
/// containers matter.
fn is_significant(old: &Value, new: &Value) -> bool {
    let images = |pod: &Value| -> Vec<[String; 2]> {
        let all = containers(&pod["spec"]);
        all.map(|it| [text(it, "/name").to_owned(), text(it, "/image").to_owned()]).collect()
    };
    images(old) != images(new)
}

/// The labels of a Namespace must be good; if they are tightened, its pods are looked at.
fn namespace(
    objects: &dyn Objects,
    attributes: &Attributes<'_>,
    new: &Value,
) -> Result<Vec<String>, Status> {
    let errors = faults(new);
    // What was bad before may stay: other parts of such a Namespace can be changed.
    if !errors.is_empty() && attributes.old.is_none_or(|old| faults(old) != errors) {
        return Err(Status::invalid("Namespace", text(new, "/metadata/name"), &errors));
    }
    let Some(old) = attributes.old else { return Ok(Vec::new()) };
    let (before, after) = (Policy::of(old, "enforce"), Policy::of(new, "enforce"));
    if before == after || after.level == Level::Privileged {
        return Ok(Vec::new());
    }
    let is_looser = before.level > after.level && before.version == after.version;
    if is_looser {
        return Ok(Vec::new());
    }
    let name = text(new, "/metadata/name");
    Ok(violators(&objects.list("pods", name), name, after))
}

fn faults(namespace: &Value) -> Vec<FieldError> {
    let labels = &namespace["metadata"]["labels"];
    let mut errors = Vec::new();
    for mode in MODES {
        let (level, version) = (format!("{PREFIX}{mode}"), format!("{PREFIX}{mode}-version"));
        if let Some(value) = labels[&level].as_str()
            && !matches!(value, "privileged" | "baseline" | "restricted")
        {
            let why = "must be one of privileged, baseline, restricted";
            errors.push(FieldError::invalid(format!("metadata.labels[{level}]"), value, why));
        }
        if let Some(value) = labels[&version].as_str()
            && minor(value).is_none()
        {
            let why = "must be \"latest\" or \"v1.x\"";
            errors.push(FieldError::invalid(format!("metadata.labels[{version}]"), value, why));
        }
    }
    errors
}

/// One line for all pods that violate a level, and one for each way in which some do.
fn violators(pods: &[Arc<Value>], namespace: &str, policy: Policy) -> Vec<String> {
    let mut by_reason: BTreeMap<String, Vec<&str>> = BTreeMap::new();
    for pod in pods.iter().take(MOST_PODS) {
        let found = policy.violations(&pod["metadata"], &pod["spec"]);
        if !found.is_empty() {
            let reasons: Vec<&str> = found.iter().map(|it| it.reason.as_str()).collect();
            by_reason.entry(reasons.join(", ")).or_default().push(text(pod, "/metadata/name"));
        }
    }
    if by_reason.is_empty() {
        return Vec::new();
    }
    let mut lines = vec![format!(
        "existing pods in namespace \"{namespace}\" violate the new PodSecurity enforce level \
         \"{policy}\""
    )];
    let mut each: Vec<String> = by_reason
        .into_iter()
        .map(|(reasons, mut names)| {
            names.sort_unstable();
            match names.as_slice() {
                [only] => format!("{only}: {reasons}"),
                [first, _] => format!("{first} (and 1 other pod): {reasons}"),
                [first, others @ ..] => {
                    format!("{first} (and {} other pods): {reasons}", others.len())
                }
                [] => reasons,
            }
        })
        .collect();
    each.sort();
    lines.append(&mut each);
    lines
}

// === What the checks share ===

/// All containers, as upstream visits them.
fn containers(spec: &Value) -> impl Iterator<Item = &Value> {
    let of = |list| items(spec, list).iter();
    of("/initContainers").chain(of("/containers")).chain(of("/ephemeralContainers"))
}

/// The names of the containers of which something holds.
fn named<'a>(spec: &'a Value, holds: impl Fn(&'a Value) -> bool) -> Vec<&'a str> {
    containers(spec).filter(|it| holds(it)).map(|it| text(it, "/name")).collect()
}

fn quoted<T: AsRef<str>>(names: &[T]) -> String {
    names.iter().map(|it| format!("\"{}\"", it.as_ref())).collect::<Vec<_>>().join(", ")
}

fn plural<'a>(one: &'a str, many: &'a str, count: usize) -> &'a str {
    if count == 1 { one } else { many }
}

/// `container "a"`, `containers "a", "b"`.
fn shown(names: &[&str]) -> String {
    format!("{} {}", plural("container", "containers", names.len()), quoted(names))
}

/// `pod and containers "a", "b"`, whichever set something; `None` where nobody did.
fn setters(is_pod: bool, names: &[&str]) -> Option<String> {
    let pod = is_pod.then(|| "pod".to_owned());
    let own = (!names.is_empty()).then(|| shown(names));
    let all: Vec<String> = pod.into_iter().chain(own).collect();
    (!all.is_empty()).then(|| all.join(" and "))
}

fn add(found: &mut Vec<Violation>, reason: &str, detail: String) {
    found.push(Violation { reason: reason.into(), detail });
}

/// Whether the pod says that it is one of Windows.
fn is_windows(spec: &Value) -> bool {
    text(spec, "/os/name") == "windows"
}

#[cfg(test)]
mod tests;
