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
        ("apps", "statefulsets") => fields::label(name),
        ("certificates.k8s.io", "clustertrustbundles") => {
            certificates::trust_bundle_name(text(&object["spec"], "signerName"), name)
        }
        ("networking.k8s.io", "ipaddresses") => ranges::address_name(name),
        _ => fields::subdomain(name),
    }
}

pub(super) fn object(faults: &mut Faults, resource: &Resource, object: &Value) {
    let metadata = &object["metadata"];
    let (name, prefix) = (text(metadata, "name"), text(metadata, "generateName"));
    if name.is_empty() && prefix.is_empty() {
        faults.add(FieldError::required("metadata.name", "name or generateName is required"));
    } else if !name.is_empty() {
        faults.each("metadata.name", name, name_faults(resource, object, name));
    }
    if resource.is("", "events") {
        return;
    }
    shared(faults, metadata);
}

pub(super) fn update(faults: &mut Faults, new: &Value) {
    shared(faults, &new["metadata"]);
}

fn shared(faults: &mut Faults, metadata: &Value) {
    fields::labels(faults, "metadata.labels", &metadata["labels"]);
    annotations(faults, "metadata.annotations", &metadata["annotations"]);
    for (index, finalizer) in items(metadata, "finalizers") {
        let name = finalizer.as_str().unwrap_or_default();
        let field = format!("metadata.finalizers[{index}]");
        faults.each(&field, name, fields::qualified_name(name));
    }
    owners(faults, metadata);
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

fn owners(faults: &mut Faults, metadata: &Value) {
    let mut controllers = Vec::new();
    for (index, owner) in items(metadata, "ownerReferences") {
        let at = format!("metadata.ownerReferences[{index}]");
        for field in ["apiVersion", "kind", "name", "uid"] {
            if text(owner, field).is_empty() {
                let why = if field == "apiVersion" {
                    "version must not be empty"
                } else {
                    "must not be empty"
                };
                faults.invalid(format!("{at}.{field}"), "", why);
            }
        }
        if owner["controller"] == true {
            controllers.push(text(owner, "kind").to_owned());
        }
    }
    if controllers.len() > 1 {
        let why = format!(
            "Only one reference can have Controller set to true. Found \"true\" in references for \
             {} and {}",
            controllers[0], controllers[1]
        );
        faults.invalid("metadata.ownerReferences", metadata["ownerReferences"].clone(), why);
    }
}
