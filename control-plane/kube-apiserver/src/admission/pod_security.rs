//! PodSecurity: what the labels of a Namespace, or the server's configuration, let its pods do.
//!
//! A pod that violates the level to enforce is refused; one that violates the level to warn of is
//! warned of, as are the objects that make pods. Who tightens a Namespace is told which of its pods
//! would be refused now.
//!
//! What violates the level to audit is told in the request's audit event.
//!
//! Upstream: k8s.io/pod-security-admission.

mod baseline;
mod config;
mod policy;
mod restricted;

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use serde_json::Value;

pub use self::config::{PodSecurity, PodSecurityError};
use self::policy::{Level, PREFIX, Policies, Policy, faults};
use super::{Attributes, Operation};
use crate::{
    audit::Annotations,
    authz::{Objects, items, text},
    status::Status,
};

/// What of a pod changes nothing that is looked at.
const IGNORED: [&str; 8] =
    ["exec", "attach", "binding", "eviction", "log", "portforward", "proxy", "status"];
/// Of a Namespace no more pods than these are looked at when it is tightened.
const MOST_PODS: usize = 3000;

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
    settings: &PodSecurity,
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
        return settings.namespace(objects, attributes, new);
    }
    if info.group.is_empty() && info.resource == "pods" {
        if IGNORED.contains(&info.subresource.as_str()) {
            return Ok(Vec::new());
        }
        return settings.judge(objects, attributes, (&new["metadata"], &new["spec"]), notes);
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
    settings.judge(objects, attributes, (&template["metadata"], &template["spec"]), notes)
}

impl PodSecurity {
    /// A pod, or what pods are made from: of that nothing is enforced.
    fn judge(
        &self,
        objects: &dyn Objects,
        attributes: &Attributes<'_>,
        (metadata, spec): (&Value, &Value),
        notes: &Annotations,
    ) -> Result<Vec<String>, Status> {
        let info = attributes.info;
        let note = |key: &str, text: &str| notes.add([(format!("{PREFIX}{key}"), text.to_owned())]);
        let exempt = |what: &str| {
            note("exempt", what);
            Ok(Vec::new())
        };
        if self.exemptions.namespaces.contains(&info.namespace) {
            return exempt("namespace");
        }
        if self.exemptions.usernames.contains(&attributes.user.username) {
            return exempt("user");
        }
        let Some(namespace) = objects.get("namespaces", "", &info.namespace) else {
            return Ok(Vec::new());
        };
        let policies = Policies::of(&namespace, &self.defaults);
        let is_pod = info.resource == "pods";
        let errors = faults(&namespace);
        if is_pod && errors.is_empty() && policies.are_privileged() {
            note("enforce-policy", "privileged:latest");
            return Ok(Vec::new());
        }
        let is_quiet =
            [policies.audit, policies.warn].iter().all(|it| it.level == Level::Privileged);
        if !is_pod && errors.is_empty() && is_quiet {
            return Ok(Vec::new());
        }
        let is_same = |old: &Value| !is_significant(&old["spec"], spec);
        if is_pod && attributes.old.is_some_and(is_same) {
            return Ok(Vec::new());
        }
        if self.is_exempt(spec) {
            return exempt("runtimeClass");
        }
        if !errors.is_empty() {
            let all: Vec<String> = errors.iter().map(ToString::to_string).collect();
            let all = if all.len() == 1 { all.concat() } else { format!("[{}]", all.join(", ")) };
            note("error", &format!("Failed to parse policy: {all}"));
        }
        let would = |policy: Policy| {
            let found = policy.violations(metadata, spec);
            let text = || format!("would violate PodSecurity \"{policy}\": {}", told(&found));
            (!found.is_empty()).then(text)
        };
        if let Some(violations) = would(policies.audit) {
            note("audit-violations", &violations);
        }
        if is_pod {
            let enforced = policies.enforce;
            note("enforce-policy", &enforced.to_string());
            let found = enforced.violations(metadata, spec);
            if !found.is_empty() {
                let why = format!("violates PodSecurity \"{enforced}\": {}", told(&found));
                return Err(Status::forbidden("pods", text(metadata, "/name"), &why));
            }
        }
        Ok(would(policies.warn).into_iter().collect())
    }

    fn is_exempt(&self, spec: &Value) -> bool {
        let class = text(spec, "/runtimeClassName");
        self.exemptions.runtime_classes.iter().any(|it| it == class)
    }

    /// The labels of a Namespace must be good; if they are tightened, its pods are looked at.
    fn namespace(
        &self,
        objects: &dyn Objects,
        attributes: &Attributes<'_>,
        new: &Value,
    ) -> Result<Vec<String>, Status> {
        let (name, errors) = (text(new, "/metadata/name"), faults(new));
        // What was bad before may stay: other parts of such a Namespace can be changed.
        if !errors.is_empty() && attributes.old.is_none_or(|old| faults(old) != errors) {
            return Err(Status::invalid("Namespace", name, &errors));
        }
        let policies = Policies::of(new, &self.defaults);
        let (after, is_new) = (policies.enforce, attributes.old.is_none());
        if let Some(old) = attributes.old {
            let before = Policies::of(old, &self.defaults).enforce;
            let is_looser = before.level > after.level && before.version == after.version;
            if before == after || after.level == Level::Privileged || is_looser {
                return Ok(Vec::new());
            }
        }
        if self.exemptions.namespaces.iter().any(|it| it == name) {
            let says_nothing = policies.are_privileged() || policies == self.defaults;
            let warning = || {
                format!(
                    "namespace \"{name}\" is exempt from Pod Security, and the policy ({}) will be \
                     ignored",
                    policies.named_by(new)
                )
            };
            return Ok((!says_nothing).then(warning).into_iter().collect());
        }
        if is_new {
            return Ok(Vec::new());
        }
        let mut pods = objects.list("pods", name);
        pods.retain(|it| !self.is_exempt(&it["spec"]));
        Ok(violators(&one_of_each_first(pods), name, after))
    }
}

/// Of the pods of one controller the first one stands before all others of theirs.
fn one_of_each_first(pods: Vec<Arc<Value>>) -> Vec<Arc<Value>> {
    let mut seen = BTreeSet::new();
    let mut is_first = |pod: &Arc<Value>| {
        let owner =
            items(pod, "/metadata/ownerReferences").iter().find(|it| it["controller"] == true);
        owner.is_none_or(|it| seen.insert(text(it, "/uid").to_owned()))
    };
    let (mut first, others): (Vec<_>, Vec<_>) = pods.into_iter().partition(&mut is_first);
    first.extend(others);
    first
}

/// Whether an update changes what runs: of all that can be changed only images and ephemeral
/// containers matter.
fn is_significant(old: &Value, new: &Value) -> bool {
    let images = |spec: &Value| -> Vec<[String; 2]> {
        let all = containers(spec);
        all.map(|it| [text(it, "/name").to_owned(), text(it, "/image").to_owned()]).collect()
    };
    images(old) != images(new)
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
    let mut lines = Vec::new();
    if pods.len() > MOST_PODS {
        lines.push(format!(
            "new PodSecurity enforce level only checked against the first {MOST_PODS} of {} \
             existing pods",
            pods.len()
        ));
    }
    if !by_reason.is_empty() {
        lines.push(format!(
            "existing pods in namespace \"{namespace}\" violate the new PodSecurity enforce level \
             \"{policy}\""
        ));
    }
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
