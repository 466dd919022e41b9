//! Pod specs and pod templates.
//!
//! Upstream: `ValidatePodSpec` in pkg/apis/core/validation.

pub(super) mod environment;
pub(super) mod requirements;

mod annotations;
mod containers;
mod mounts;
mod restarts;
mod scheduling;
mod security;
mod windows;

use std::collections::{BTreeSet, HashMap};

use serde_json::Value;

use super::{Faults, fields, items, metadata, node_selector, stop_signal, text, volumes};
use crate::{resources::meta, status::FieldError};

const RESTART_POLICIES: &[&str] = &["Always", "OnFailure", "Never"];
const DNS_POLICIES: &[&str] = &["ClusterFirstWithHostNet", "ClusterFirst", "Default", "None"];
const LONGEST_HOST_NAME: usize = 64;

/// What the parts of a pod's spec must know of the whole.
pub(super) struct Scope<'a> {
    spec: &'a Value,
    /// The volumes in which nothing is wrong.
    volumes: HashMap<&'a str, &'a Value>,
    claims: BTreeSet<&'a str>,
    /// A pod itself rather than the template of some.
    is_pod: bool,
}

impl Scope<'_> {
    fn grace(&self) -> Option<i64> {
        self.spec["terminationGracePeriodSeconds"].as_i64()
    }
}

/// A pod by itself, as it must be at each time.
pub(super) fn pod(faults: &mut Faults, object: &Value) {
    let spec = &object["spec"];
    annotations::check(faults, "metadata.annotations", &object["metadata"]["annotations"], spec);
    self::spec(faults, "spec", spec, Some(object));
    if text(spec, "serviceAccountName").is_empty() {
        tokens_of_nobody(faults, spec);
    }
    for list in ["containers", "initContainers"] {
        for (index, it) in items(spec, list) {
            containers::image_of_pod(faults, &format!("spec.{list}[{index}]"), it);
        }
    }
}

pub(super) fn create(faults: &mut Faults, object: &Value) {
    pod(faults, object);
    let spec = &object["spec"];
    if items(spec, "ephemeralContainers").next().is_some() {
        faults.forbidden("spec.ephemeralContainers", "cannot be set on create");
    }
    if !text(spec, "nodeName").is_empty() && items(spec, "schedulingGates").next().is_some() {
        let why = "cannot be set until all schedulingGates have been cleared";
        faults.forbidden("spec.nodeName", why);
    }
    annotations::agree(faults, "spec", &object["metadata"]["annotations"], spec);
}

pub(super) fn template(faults: &mut Faults, at: &str, template: &Value) {
    let spec_at = format!("{at}.spec");
    let known = template_metadata(faults, at, template);
    spec(faults, &spec_at, &template["spec"], None);
    annotations::agree(faults, &spec_at, known, &template["spec"]);
    if items(&template["spec"], "ephemeralContainers").next().is_some() {
        let why = "ephemeral containers not allowed in pod template";
        faults.forbidden(format!("{spec_at}.ephemeralContainers"), why);
    }
}

/// Labels and annotations of a template, which upstream tells as if they were its own fields.
pub(super) fn template_metadata<'a>(
    faults: &mut Faults,
    at: &str,
    template: &'a Value,
) -> &'a Value {
    let metadata = &template["metadata"];
    fields::labels(faults, &format!("{at}.labels"), &metadata["labels"]);
    let field = format!("{at}.annotations");
    metadata::annotations(faults, &field, &metadata["annotations"]);
    annotations::check(faults, &field, &metadata["annotations"], &template["spec"]);
    &metadata["annotations"]
}

fn spec(faults: &mut Faults, at: &str, spec: &Value, pod: Option<&Value>) {
    if spec["terminationGracePeriodSeconds"].is_null() {
        faults.required(format!("{at}.terminationGracePeriodSeconds"));
    }
    let name = pod.map_or("", |it| meta(it, "name"));
    let volumes = volumes::validate(faults, &format!("{at}.volumes"), spec, name);
    requirements::pod_claims(faults, &format!("{at}.resourceClaims"), spec);
    let claims = items(spec, "resourceClaims").map(|(_, it)| text(it, "name"));
    let claims = claims.filter(|it| !it.is_empty()).collect();
    let scope = Scope { spec, volumes, claims, is_pod: pod.is_some() };
    containers::all(faults, at, &scope);
    stop_signal::check(faults, at, spec);
    requirements::of_pod(faults, &format!("{at}.resources"), spec);
    security::host_network(faults, at, &scope);
    faults.one_of(&format!("{at}.restartPolicy"), &spec["restartPolicy"], RESTART_POLICIES);
    faults.one_of(&format!("{at}.dnsPolicy"), &spec["dnsPolicy"], DNS_POLICIES);
    fields::labels(faults, &format!("{at}.nodeSelector"), &spec["nodeSelector"]);
    security::pod(faults, &format!("{at}.securityContext"), spec);
    scheduling::affinity(faults, &format!("{at}.affinity"), &spec["affinity"]);
    dns(faults, &format!("{at}.dnsConfig"), spec);
    for (index, gate) in items(spec, "readinessGates") {
        let kind = text(gate, "conditionType");
        let field = format!("{at}.readinessGates[{index}].conditionType");
        faults.each(&field, kind, fields::qualified_name(kind));
    }
    scheduling::gates(faults, &format!("{at}.schedulingGates"), spec);
    scheduling::spread(faults, &format!("{at}.topologySpreadConstraints"), spec);
    windows::host_processes(faults, at, spec);
    security::own_users(faults, at, spec);
    names(faults, at, spec);
    seconds(faults, at, spec);
    node_selector::tolerations(faults, &format!("{at}.tolerations"), spec);
    host_aliases(faults, &format!("{at}.hostAliases"), spec);
    if spec["preemptionPolicy"].is_string() {
        let known = &["PreemptLowerPriority", "Never"];
        faults.one_of(&format!("{at}.preemptionPolicy"), &spec["preemptionPolicy"], known);
    }
    if spec["overhead"].is_object() {
        let limits = serde_json::json!({ "limits": spec["overhead"] });
        requirements::check(faults, &format!("{at}.overhead"), &limits, None);
    }
    windows::system(faults, at, spec);
}

fn names(faults: &mut Faults, at: &str, spec: &Value) {
    for (field, check) in [
        ("serviceAccountName", fields::subdomain as fn(&str) -> Vec<String>),
        ("nodeName", fields::subdomain),
        ("hostname", fields::label),
        ("subdomain", fields::label),
        ("priorityClassName", fields::subdomain),
        ("runtimeClassName", fields::subdomain),
        ("hostnameOverride", fields::subdomain),
    ] {
        let value = text(spec, field);
        let is_class = field == "runtimeClassName" && spec[field].is_string();
        if !value.is_empty() || is_class {
            faults.each(&format!("{at}.{field}"), value, check(value));
        }
    }
    let own = text(spec, "hostnameOverride");
    let field = format!("{at}.hostnameOverride");
    if own.len() > LONGEST_HOST_NAME {
        faults.add(FieldError::too_long(&*field, LONGEST_HOST_NAME));
    }
    if !own.is_empty() && spec["setHostnameAsFQDN"] == true {
        faults.forbidden(&*field, "may not be specified when `setHostnameAsFQDN` is true");
    }
    if !own.is_empty() && spec["hostNetwork"] == true {
        faults.forbidden(field, "may not be specified when `hostNetwork` is true");
    }
}

fn seconds(faults: &mut Faults, at: &str, spec: &Value) {
    let deadline = spec["activeDeadlineSeconds"].as_i64();
    if let Some(seconds) = deadline.filter(|it| !(1..=i64::from(i32::MAX)).contains(it)) {
        let why = "must be between 1 and 2147483647, inclusive";
        faults.invalid(format!("{at}.activeDeadlineSeconds"), seconds, why);
    }
}

/// A token is somebody's.
fn tokens_of_nobody(faults: &mut Faults, spec: &Value) {
    for (index, volume) in items(spec, "volumes") {
        for (at, source) in items(&volume["projected"], "sources") {
            if source["serviceAccountToken"].is_object() {
                let why = "must not be specified when serviceAccountName is not set";
                let at = format!("spec.volumes[{index}].projected.sources[{at}]");
                faults.forbidden(format!("{at}.serviceAccountToken"), why);
            }
        }
    }
}

fn host_aliases(faults: &mut Faults, list: &str, spec: &Value) {
    for (index, alias) in items(spec, "hostAliases") {
        let at = format!("{list}[{index}]");
        fields::ip(faults, &format!("{at}.ip"), text(alias, "ip"));
        for (number, name) in items(alias, "hostnames") {
            let name = name.as_str().unwrap_or_default();
            faults.each(&format!("{at}.hostnames[{number}]"), name, fields::subdomain(name));
        }
    }
}

fn dns(faults: &mut Faults, at: &str, spec: &Value) {
    const SERVERS: usize = 3;
    const SEARCHES: usize = 32;
    const SEARCH_LIST: usize = 2048;
    let config = &spec["dnsConfig"];
    let servers = items(config, "nameservers").count();
    if spec["dnsPolicy"] == "None" && !config.is_object() {
        let why = "must provide `dnsConfig` when `dnsPolicy` is None";
        return faults.add(FieldError::required(at, why));
    }
    if spec["dnsPolicy"] == "None" && servers == 0 {
        let why = "must provide at least one DNS nameserver when `dnsPolicy` is None";
        return faults.add(FieldError::required(format!("{at}.nameservers"), why));
    }
    if servers > SERVERS {
        let why = format!("must not have more than {SERVERS} nameservers");
        faults.invalid(format!("{at}.nameservers"), config["nameservers"].clone(), why);
    }
    for (index, server) in items(config, "nameservers") {
        fields::ip(
            faults,
            &format!("{at}.nameservers[{index}]"),
            server.as_str().unwrap_or_default(),
        );
    }
    let searches: Vec<&str> = items(config, "searches").filter_map(|(_, it)| it.as_str()).collect();
    let mut too_much = |why: String| {
        faults.invalid(format!("{at}.searches"), config["searches"].clone(), why);
    };
    if searches.len() > SEARCHES {
        too_much(format!("must not have more than {SEARCHES} search paths"));
    }
    if searches.join(" ").len() > SEARCH_LIST {
        too_much(format!(
            "must not have more than {SEARCH_LIST} characters (including spaces) in the search list"
        ));
    }
    for (index, search) in searches.iter().enumerate().filter(|(_, it)| **it != ".") {
        let search = search.strip_suffix('.').unwrap_or(search);
        let field = format!("{at}.searches[{index}]");
        faults.each(&field, search, fields::subdomain_with_underscore(search));
    }
    for (index, option) in items(config, "options") {
        if text(option, "name").is_empty() {
            let field = format!("{at}.options[{index}]");
            faults.add(FieldError::required(field, "must not be empty"));
        }
    }
}
