//! `metadata`: names, labels, annotations, owners.
//!
//! Upstream: k8s.io/apimachinery/pkg/api/validation/objectmeta.go.

use serde_json::Value;

use super::{Faults, certificates, fields, items, ranges, text};
use crate::{resources::Resource, status::FieldError};

/// All annotations of an object together.
const ANNOTATION_LIMIT: usize = 256 * 1024;

/// How objects of a resource may be called.
fn name_faults(resource: &Resource, object: &Value, name: &str) -> Vec<String> {
    match (resource.group.as_str(), resource.plural.as_str()) {
        ("", "namespaces") => fields::label(name),
        // Relaxed in 1.36 only for Services that ask for it; the stricter form is safe for DNS.
        ("", "services") => fields::label_1035(name),
        ("rbac.authorization.k8s.io" | "apiregistration.k8s.io", _) => fields::path_segment(name),
        // Upstream does not mind what these are called.
        ("certificates.k8s.io", "certificatesigningrequests") | ("policy", _) => {
            fields::path_segment(name)
        }
        ("apps", "statefulsets") => fields::label(name),
        ("certificates.k8s.io", "clustertrustbundles") => {
            certificates::trust_bundle_name(text(&object["spec"], "signerName"), name)
        }
        ("networking.k8s.io", "ipaddresses") => ranges::address_name(name),
        _ => fields::subdomain(name),
    }
}

/// A prefix may end with a dash: something follows it.
fn masked(prefix: &str) -> String {
    let Some(rest) = prefix.strip_suffix('-') else { return prefix.to_owned() };
    let mut rest = rest.to_owned();
    if rest.pop().is_none() {
        return prefix.to_owned();
    }
    rest + "a"
}

pub(super) fn object(faults: &mut Faults, resource: &Resource, object: &Value) {
    let metadata = &object["metadata"];
    let (name, prefix) = (text(metadata, "name"), text(metadata, "generateName"));
    if name.is_empty() && prefix.is_empty() {
        faults.add(FieldError::required("metadata.name", "name or generateName is required"));
    } else if !name.is_empty() {
        faults.each("metadata.name", name, name_faults(resource, object, name));
    }
    if !prefix.is_empty() {
        let form = masked(prefix);
        for why in name_faults(resource, object, &form) {
            faults.invalid("metadata.generateName", prefix, why);
        }
    }
    if resource.is("", "events") {
        return;
    }
    shared(faults, resource, metadata);
}

pub(super) fn update(faults: &mut Faults, resource: &Resource, new: &Value) {
    shared(faults, resource, &new["metadata"]);
}

/// Names of the legacy kind, of which there are few.
fn kube_finalizer(faults: &mut Faults, field: &str, name: &str) {
    const STANDARD: [&str; 3] = ["kubernetes", "orphan", "foregroundDeletion"];
    if !name.contains('/') && !STANDARD.contains(&name) {
        let why = "name is neither a standard finalizer name nor is it fully qualified";
        faults.invalid(field, name, why);
    }
}

pub(super) fn namespace_finalizers(faults: &mut Faults, object: &Value) {
    for (index, name) in items(&object["spec"], "finalizers") {
        let (field, name) =
            (format!("spec.finalizers[{index}]"), name.as_str().unwrap_or_default());
        faults.each(&field, name, fields::qualified_name(name));
        kube_finalizer(faults, &field, name);
    }
}

/// A Namespace ends when it is deleted, and then only.
pub(super) fn namespace_phase(faults: &mut Faults, object: &Value) {
    let (phase, field) = (text(&object["status"], "phase"), "status.Phase");
    let is_going = object["metadata"]["deletionTimestamp"].is_string();
    if !is_going && phase != "Active" {
        let why = "may only be 'Active' if `deletionTimestamp` is empty";
        faults.invalid(field, phase, why);
    } else if is_going && phase != "Terminating" {
        let why = "may only be 'Terminating' if `deletionTimestamp` is not empty";
        faults.invalid(field, phase, why);
    }
}

/// Of what is made from a template: labels and annotations, and nothing else.
pub(super) fn template(faults: &mut Faults, at: &str, metadata: &Value) {
    annotations(faults, &format!("{at}.annotations"), &metadata["annotations"]);
    fields::labels(faults, &format!("{at}.labels"), &metadata["labels"]);
    for (field, value) in metadata.as_object().into_iter().flatten() {
        if !matches!(&**field, "annotations" | "labels") && !fields::is_unset(value) {
            faults.forbidden(format!("{at}.{field}"), "cannot be set");
        }
    }
}

/// Of an object within another: any kind of name will do.
pub(super) fn embedded(faults: &mut Faults, at: &str, metadata: &Value) {
    let part = |field: &str| format!("{at}.{field}");
    let prefix = text(metadata, "generateName");
    faults.each(&part("generateName"), prefix, fields::path_segment(prefix));
    let name = text(metadata, "name");
    faults.each(&part("name"), name, fields::path_segment(name));
    let namespace = text(metadata, "namespace");
    if !namespace.is_empty() {
        faults.each(&part("namespace"), namespace, fields::label(namespace));
    }
    general(faults, at, metadata);
}

/// What holds for the metadata of all objects.
fn general(faults: &mut Faults, at: &str, metadata: &Value) {
    fields::labels(faults, &format!("{at}.labels"), &metadata["labels"]);
    annotations(faults, &format!("{at}.annotations"), &metadata["annotations"]);
    for (index, finalizer) in items(metadata, "finalizers") {
        let name = finalizer.as_str().unwrap_or_default();
        faults.each(&format!("{at}.finalizers[{index}]"), name, fields::qualified_name(name));
    }
    owners(faults, &format!("{at}.ownerReferences"), metadata);
}

fn shared(faults: &mut Faults, resource: &Resource, metadata: &Value) {
    // Of these groups upstream looks at the general form alone.
    const GENERAL: [&str; 4] =
        ["apiextensions.k8s.io", "apiregistration.k8s.io", "coordination.k8s.io", "policy"];
    let is_general = resource.custom.is_some() || GENERAL.contains(&&*resource.group);
    general(faults, "metadata", metadata);
    for (index, finalizer) in items(metadata, "finalizers").filter(|_| !is_general) {
        let name = finalizer.as_str().unwrap_or_default();
        kube_finalizer(faults, &format!("metadata.finalizers[{index}]"), name);
    }
}

pub(super) fn annotations(faults: &mut Faults, field: &str, annotations: &Value) {
    let mut size = 0;
    for (key, value) in annotations.as_object().into_iter().flatten() {
        faults.each(field, key, fields::qualified_name(&key.to_lowercase()));
        size += key.len() + value.as_str().map_or(0, str::len);
    }
    if size > ANNOTATION_LIMIT {
        faults.add(FieldError::too_long(field, ANNOTATION_LIMIT));
    }
}

/// Upstream tells what is wrong with an owner without its place in the list.
fn owners(faults: &mut Faults, at: &str, metadata: &Value) {
    let mut controller: Option<String> = None;
    for (_, owner) in items(metadata, "ownerReferences") {
        let version = text(owner, "apiVersion");
        let version = version.rsplit_once('/').map_or(version, |(_, it)| it);
        if version.is_empty() {
            let told = text(owner, "apiVersion");
            faults.invalid(format!("{at}.apiVersion"), told, "version must not be empty");
        }
        for field in ["kind", "name", "uid"] {
            if text(owner, field).is_empty() {
                faults.invalid(format!("{at}.{field}"), "", "must not be empty");
            }
        }
        if owner["apiVersion"] == "v1" && owner["kind"] == "Event" {
            let why = "/v1, Kind=Event is disallowed from being an owner";
            faults.invalid(at, owner.clone(), why);
        }
        if owner["controller"] != true {
            continue;
        }
        let own = format!("{}/{}", text(owner, "kind"), text(owner, "name"));
        match &controller {
            None => controller = Some(own),
            Some(first) => {
                let why = format!(
                    "Only one reference can have Controller set to true. Found \"true\" in references for {first} and {own}"
                );
                faults.invalid(at, metadata["ownerReferences"].clone(), why);
            }
        }
    }
}
