//! Validation of the built-in types, with upstream's field paths and messages.
//!
//! Each module looks at one family of types; [`fields`] holds the formats that they share. A
//! validator gathers all faults rather than stopping at the first.
//!
//! Upstream: pkg/apis/*/validation.

mod admission;
mod autoscaler;
mod batch;
mod certificates;
mod cluster;
mod config;
mod custom;
mod endpoints;
mod events;
mod fields;
mod flow;
mod ingress;
mod metadata;
mod network_policy;
mod node_selector;
mod pod;
mod pod_update;
mod policies;
mod probes;
mod ranges;
mod rbac;
mod resource;
mod service;
mod signing_requests;
mod stop_signal;
mod storage;
mod usage;
mod volumes;
mod webhook_client;
mod workloads;

pub(crate) use self::custom::{formats, rules};
use serde_json::Value;

use crate::{resources::Resource, status::FieldError, strategy::Part};

/// The faults found so far, and where we are.
#[derive(Debug, Default)]
pub(super) struct Faults {
    found: Vec<FieldError>,
    /// What is wrong as it was before: the client is warned of it.
    left: Vec<FieldError>,
}

impl Faults {
    pub(super) fn count(&self) -> usize {
        self.found.len()
    }

    pub(super) fn add(&mut self, error: FieldError) {
        self.found.push(error);
    }

    pub(super) fn required(&mut self, field: impl Into<String>) {
        self.add(FieldError::required(field, ""));
    }

    pub(super) fn invalid(
        &mut self,
        field: impl Into<String>,
        value: impl Into<Value>,
        why: impl Into<String>,
    ) {
        self.add(FieldError::invalid(field, value, why));
    }

    pub(super) fn forbidden(&mut self, field: impl Into<String>, why: impl Into<String>) {
        self.add(FieldError::forbidden(field, why));
    }

    /// One `Invalid value` per message.
    pub(super) fn each(&mut self, field: &str, value: &str, messages: Vec<String>) {
        for message in messages {
            self.invalid(field, value, message);
        }
    }

    /// A text that must be one of these; empty is `Required`.
    pub(super) fn one_of(&mut self, field: &str, value: &Value, supported: &[&str]) {
        match value.as_str().unwrap_or_default() {
            "" => self.required(field),
            text if supported.contains(&text) => {}
            text => self.add(FieldError::not_supported(field, text, supported)),
        }
    }

    /// Required, not empty.
    pub(super) fn text(&mut self, field: impl Into<String>, value: &Value) {
        if value.as_str().unwrap_or_default().is_empty() {
            self.required(field);
        }
    }

    /// A number that may be absent and must not be negative.
    pub(super) fn not_negative(&mut self, field: &str, value: &Value) {
        if let Some(number) = value.as_i64().filter(|it| *it < 0) {
            self.invalid(field, number, "must be greater than or equal to 0");
        }
    }

    /// Two values that must be the same.
    pub(super) fn immutable(&mut self, field: &str, old: &Value, new: &Value) {
        if old != new {
            self.invalid(field, new.clone(), "field is immutable");
        }
    }
}

/// Items of a list, with their indices.
pub(super) fn items<'a>(
    object: &'a Value,
    field: &str,
) -> impl Iterator<Item = (usize, &'a Value)> {
    object[field].as_array().into_iter().flatten().enumerate()
}

/// A text field, empty where it is absent.
pub(super) fn text<'a>(object: &'a Value, field: &str) -> &'a str {
    object[field].as_str().unwrap_or_default()
}

pub(crate) fn create(resource: &Resource, object: &Value) -> Vec<FieldError> {
    let mut faults = Faults::default();
    metadata::object(&mut faults, resource, object);
    if let Some(custom) = &resource.custom {
        custom::validate(&mut faults, custom, object, None);
        return faults.found;
    }
    body(&mut faults, resource, object, None);
    created(&mut faults, resource, object);
    faults.found
}

/// What is wrong with an update, and what it leaves wrong, of which its client is warned.
pub(crate) fn update(
    resource: &Resource,
    part: Part,
    old: &Value,
    new: &Value,
) -> (Vec<FieldError>, Vec<String>) {
    let mut faults = Faults::default();
    metadata::update(&mut faults, resource, new);
    match &resource.custom {
        Some(custom) => custom::validate(&mut faults, custom, new, Some(old)),
        None => updated(&mut faults, resource, part, old, new),
    }
    (faults.found, faults.left.iter().map(ToString::to_string).collect())
}

/// Of a built-in type.
fn updated(faults: &mut Faults, resource: &Resource, part: Part, old: &Value, new: &Value) {
    if resource.is("events.k8s.io", "events") {
        events::update(faults, old, new);
    } else if resource.is("certificates.k8s.io", "certificatesigningrequests") {
        signing_requests::update(faults, part, old, new);
    } else {
        match part {
            Part::Main => {
                body(faults, resource, new, Some(old));
                changes(faults, resource, old, new);
            }
            Part::Status => status(faults, resource, old, new),
            Part::EphemeralContainers => pod_update::ephemeral(faults, old, new),
            Part::Resize => pod_update::resize(faults, old, new),
            Part::Finalize => metadata::namespace_finalizers(faults, new),
            Part::Approval | Part::Whole => {}
        }
    }
}

/// Labels or annotations that a program has changed; upstream speaks of a field `annotation`.
pub(crate) fn converted(field: &str, value: &Value) -> Result<(), String> {
    let mut faults = Faults::default();
    match field {
        "labels" => fields::labels(&mut faults, "metadata.labels", value),
        _ => metadata::annotations(&mut faults, "metadata.annotation", value),
    }
    let all: Vec<String> = faults.found.iter().map(ToString::to_string).collect();
    match all.as_slice() {
        [] => Ok(()),
        [one] => Err(one.clone()),
        many => Err(format!("[{}]", many.join(", "))),
    }
}

/// Why a text cannot be the name of a Namespace.
pub(crate) fn namespace_name(name: &str) -> Vec<String> {
    fields::label(name)
}

/// Why a text cannot be the name of an object.
pub(crate) fn object_name(name: &str) -> Vec<String> {
    fields::subdomain(name)
}

/// Why an address cannot be an endpoint of a Service.
pub(crate) fn endpoint_address(address: std::net::IpAddr) -> Option<&'static str> {
    endpoints::special(address)
}

/// What must hold of an object by itself; some of what was accepted before stays accepted.
fn body(faults: &mut Faults, resource: &Resource, object: &Value, old: Option<&Value>) {
    match (resource.group.as_str(), resource.plural.as_str()) {
        ("", "pods") if old.is_none() => pod::create(faults, object),
        ("", "pods") => pod::pod(faults, object),
        ("", "podtemplates") => pod::template(faults, "template", &object["template"]),
        ("", "replicationcontrollers") => workloads::replication_controller(faults, object),
        ("", "services") => service::check(faults, object),
        ("", "endpoints") => endpoints::endpoints(faults, object),
        ("", "configmaps") => config::config_map(faults, object),
        ("", "secrets") => config::secret(faults, object),
        ("", "nodes") => cluster::node(faults, object),
        ("", "persistentvolumes") => storage::volume(faults, object),
        ("", "persistentvolumeclaims") => storage::claim(faults, "spec", &object["spec"]),
        ("", "events") => events::event(faults, object, false),
        ("events.k8s.io", _) => events::create(faults, object),
        ("", "limitranges") => usage::limit_range(faults, object),
        ("", "resourcequotas") => usage::quota(faults, object),
        ("", "namespaces") => metadata::namespace_finalizers(faults, object),
        ("apps", _) => workloads::validate(faults, resource, object),
        ("batch", "jobs") => batch::job(faults, object),
        ("autoscaling", _) => autoscaler::check(faults, object, autoscaler::lowest(old)),
        ("policy", _) => workloads::budget(faults, object),
        ("discovery.k8s.io", _) => endpoints::slice(faults, object),
        ("networking.k8s.io", "networkpolicies") => network_policy::check(faults, object),
        ("networking.k8s.io", "ingresses") => ingress::check(faults, object, old),
        ("networking.k8s.io", "ingressclasses") => ingress::class(faults, object),
        ("networking.k8s.io", "ipaddresses") => ranges::address(faults, object),
        ("networking.k8s.io", "servicecidrs") => ranges::range(faults, object),
        ("flowcontrol.apiserver.k8s.io", "flowschemas") => flow::schema(faults, object),
        ("flowcontrol.apiserver.k8s.io", _) => flow::level(faults, object),
        ("rbac.authorization.k8s.io", _) => rbac::validate(faults, resource, object),
        ("coordination.k8s.io", _) => cluster::lease(faults, object),
        ("scheduling.k8s.io", _) => cluster::priority_class(faults, object),
        ("certificates.k8s.io", "clustertrustbundles") => {
            certificates::trust_bundle(faults, object);
        }
        ("storage.k8s.io", plural) => storage::class(faults, plural, object),
        ("node.k8s.io", _) => cluster::runtime_class(faults, object),
        ("admissionregistration.k8s.io", plural) => match plural {
            "validatingadmissionpolicies" => policies::policy(faults, object),
            "mutatingadmissionpolicies" => policies::mutating_policy(faults, object),
            "validatingadmissionpolicybindings" => policies::binding(faults, object, true),
            "mutatingadmissionpolicybindings" => policies::binding(faults, object, false),
            plural => admission::webhooks(faults, plural, object, old),
        },
        // What is checked against the old state, too, is checked with it.
        ("apiextensions.k8s.io", _) => {}
        ("apiregistration.k8s.io", _) => cluster::api_service(faults, object),
        ("resource.k8s.io", plural) => resource::validate(faults, plural, object, old),
        _ => {}
    }
}

/// What must hold of new objects alone.
fn created(faults: &mut Faults, resource: &Resource, object: &Value) {
    match (resource.group.as_str(), resource.plural.as_str()) {
        ("batch", "jobs") => batch::created(faults, object),
        ("batch", "cronjobs") => batch::cron_job(faults, object),
        ("networking.k8s.io", "ingresses") => ingress::create(faults, object),
        ("storage.k8s.io", "volumeattachments") => storage::new_attachment(faults, object),
        ("apiextensions.k8s.io", _) => custom::definition_create(faults, object),
        ("certificates.k8s.io", "certificatesigningrequests") => {
            signing_requests::create(faults, object);
        }
        ("certificates.k8s.io", "clustertrustbundles") => {
            certificates::trust_anchors(faults, object);
        }
        _ => {}
    }
}

/// What must hold between an object's old and new state.
fn changes(faults: &mut Faults, resource: &Resource, old: &Value, new: &Value) {
    match (resource.group.as_str(), resource.plural.as_str()) {
        ("", "pods") => pod_update::check(faults, old, new),
        ("", "services") => service::update(faults, old, new),
        ("", "configmaps" | "secrets") => config::update(faults, old, new),
        ("", "resourcequotas") => usage::quota_update(faults, old, new),
        ("", "nodes") => cluster::node_update(faults, old, new),
        ("", "persistentvolumes") => storage::volume_update(faults, old, new),
        ("", "persistentvolumeclaims") => storage::claim_update(faults, old, new),
        ("apps", _) => workloads::update(faults, resource, old, new),
        ("batch", "jobs") => batch::job_update(faults, old, new),
        ("batch", "cronjobs") => batch::cron_job_update(faults, old, new),
        ("discovery.k8s.io", _) => {
            faults.immutable("addressType", &old["addressType"], &new["addressType"]);
        }
        ("rbac.authorization.k8s.io", "rolebindings" | "clusterrolebindings")
            if old["roleRef"] != new["roleRef"] =>
        {
            faults.invalid("roleRef", new["roleRef"].clone(), "cannot change roleRef");
        }
        ("scheduling.k8s.io", _) => cluster::priority_class_update(faults, old, new),
        ("storage.k8s.io", plural) => storage::class_update(faults, plural, old, new),
        ("certificates.k8s.io", "clustertrustbundles") => {
            certificates::trust_bundle_update(faults, old, new);
        }
        ("networking.k8s.io", "ingressclasses") => ingress::class_update(faults, old, new),
        ("networking.k8s.io", "ipaddresses") => {
            faults.immutable(
                "spec.parentRef",
                &old["spec"]["parentRef"],
                &new["spec"]["parentRef"],
            );
        }
        ("networking.k8s.io", "servicecidrs") => ranges::range_update(faults, old, new),
        ("node.k8s.io", _) => faults.immutable("handler", &old["handler"], &new["handler"]),
        ("apiextensions.k8s.io", _) => custom::definition_update(faults, old, new),
        ("resource.k8s.io", plural) => resource::update(faults, plural, old, new),
        _ => {}
    }
}

/// What must hold of a status, and of how it changes.
fn status(faults: &mut Faults, resource: &Resource, old: &Value, new: &Value) {
    match (resource.group.as_str(), resource.plural.as_str()) {
        ("", "pods") => pod_update::status(faults, old, new),
        ("", "nodes") => cluster::node_update(faults, old, new),
        ("", "services") => service::load_balancer_status(faults, new, true),
        ("networking.k8s.io", "ingresses") => service::load_balancer_status(faults, new, false),
        ("", "namespaces") => metadata::namespace_phase(faults, new),
        ("", "persistentvolumeclaims") => storage::claim_status(faults, new),
        ("", "resourcequotas") => usage::quota_status(faults, new),
        ("batch", "jobs") => batch::status(faults, old, new),
        ("" | "apps" | "policy" | "autoscaling", _) => {
            workloads::status(faults, resource, old, new);
        }
        ("storage.k8s.io", "volumeattachments") => {
            storage::class(faults, "volumeattachments", new);
        }
        ("apiextensions.k8s.io", _) => custom::definition_status(faults, new),
        ("resource.k8s.io", "resourceclaims") => resource::claim_status(faults, old, new),
        _ => {}
    }
}

#[cfg(test)]
mod tests;
