//! CustomResourceDefinitions, and custom resources against their schemas.
//!
//! Upstream: k8s.io/apiextensions-apiserver/pkg/apis/apiextensions/validation, and the strategies of
//! pkg/registry/customresource.

mod definition;
mod embedded;
pub(crate) mod formats;
mod keywords;
mod lists;
mod ratchet;
pub(crate) mod rules;
mod structure;
mod values;

use serde_json::Value;

pub(super) use self::definition::{
    create as definition_create, status as definition_status, update as definition_update,
};
use super::{Faults, text};
use crate::{
    resources::custom::Custom,
    status::{Fault, FieldError},
};

/// A custom resource against the schema of its version; `old` is what an update replaces.
pub(super) fn validate(faults: &mut Faults, custom: &Custom, object: &Value, old: Option<&Value>) {
    let root = custom.node();
    let mut found = Vec::new();
    values::check(&mut found, "", values::Place { node: root, old }, object);
    scale(&mut found, custom, object);
    embedded::check(&mut found, "", root, object);
    if old.is_none_or(|it| lists_of(custom, it).is_empty()) {
        found.extend(lists_of(custom, object));
    }
    if root.has_rules {
        let is_blocking = |it: &FieldError| {
            matches!(
                it.fault,
                Fault::NotSupported
                    | Fault::Required
                    | Fault::TooLong
                    | Fault::TooMany
                    | Fault::TypeInvalid
            )
        };
        if found.iter().any(is_blocking) {
            let why = "some validation rules were not checked because the object was invalid; \
                       correct the existing errors to complete validation";
            found.push(FieldError::invalid("<nil>", Value::Null, why));
        } else {
            let rules::Found { faults: broken, left } = rules::check(custom, object, old);
            found.extend(broken);
            faults.left.extend(left);
        }
    }
    found.into_iter().for_each(|it| faults.add(it));
}

fn lists_of(custom: &Custom, object: &Value) -> Vec<FieldError> {
    let mut found = Vec::new();
    lists::check(&mut found, "", custom.node(), object);
    found
}

/// The numbers of replicas that the scale subresource shows.
fn scale(found: &mut Vec<FieldError>, custom: &Custom, object: &Value) {
    for field in ["specReplicasPath", "statusReplicasPath"] {
        let path = text(&custom.scale, field);
        let pointer = path.replace('.', "/");
        let replicas = object.pointer(&pointer).and_then(Value::as_i64).unwrap_or_default();
        if !path.is_empty() && replicas < 0 {
            found.push(FieldError::invalid(path, replicas, "should be a non-negative integer"));
        }
    }
}

#[cfg(test)]
mod tests;
