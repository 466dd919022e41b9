//! What a mutation changes: an apply configuration that is laid over the object, or a JSON patch.
//!
//! **Invariant:** an apply configuration has no lists, maps or structures that can be replaced only as
//! a whole: who means to set one field of them would take the others away.
//!
//! Upstream: k8s.io/apiserver/pkg/admission/plugin/policy/mutating/patch.

use std::sync::Arc;

use serde_json::Value;

use crate::{
    admission::round::Round,
    apply::typed::{self, Kind},
    decode, json_patches,
    resources::Resource,
};

pub(super) enum Patch {
    Apply(Value),
    Operations(json_patch::Patch),
}

/// The patch that the list of an expression is. An empty `from` is none.
pub(super) fn operations(list: Value) -> Result<Patch, String> {
    let Value::Array(mut operations) = list else {
        return Err("type mismatch: JSONPatchType.expression should evaluate to array".to_owned());
    };
    for operation in &mut operations {
        let Some(fields) = operation.as_object_mut() else { continue };
        if fields.get("from").is_some_and(|it| it == "") {
            fields.remove("from");
        }
        // What no operation can do without.
        fields.entry("op").or_insert_with(|| "".into());
        fields.entry("path").or_insert_with(|| "".into());
    }
    let patch = serde_json::from_value(Value::Array(operations));
    patch.map(Patch::Operations).map_err(|error| format!("JSONPath: {error}"))
}

/// The object with a patch, in the stored form.
pub(super) fn apply(
    round: &Round<'_>,
    resource: &Arc<Resource>,
    object: &Value,
    patch: Patch,
) -> Result<Value, String> {
    let mut changed = round.shown(object, resource);
    match patch {
        Patch::Apply(configuration) => merge(resource, &mut changed, configuration)?,
        Patch::Operations(patch) => match json_patches::apply(&mut changed, &patch) {
            Ok(()) => {}
            // One that tests in vain is no patch.
            Err(fault) if fault.is_failed_test() => return Ok(object.clone()),
            Err(fault) => return Err(format!("JSONPath: {fault}")),
        },
    }
    round.taken(resource, object, changed, decode::FieldValidation::Strict)
}

fn merge(resource: &Resource, object: &mut Value, mut configuration: Value) -> Result<(), String> {
    if let Some(fields) = configuration.as_object_mut() {
        for field in ["apiVersion", "kind"] {
            fields.insert(field.to_owned(), object[field].clone());
        }
    }
    let kind = Kind::root(decode::shape(resource));
    let (mut undeclared, mut atomics) = (Vec::new(), Vec::new());
    look(&configuration, &kind, "", &mut undeclared, &mut atomics);
    if !undeclared.is_empty() {
        return Err(format!(
            "error applying patch: failed to convert patch object to typed object: {}",
            undeclared.join(", ")
        ));
    }
    if !atomics.is_empty() {
        return Err(format!(
            "error applying patch: invalid ApplyConfiguration: may not mutate atomic arrays, maps or \
             structs: {}",
            atomics.join(", ")
        ));
    }
    typed::merge(object, &configuration, &kind);
    Ok(())
}

/// Finds fields that the type does not have, and what is replaced as a whole.
fn look(
    value: &Value,
    kind: &Kind,
    path: &str,
    undeclared: &mut Vec<String>,
    atomics: &mut Vec<String>,
) {
    match (value, kind) {
        (Value::Array(_) | Value::Object(_), Kind::Atomic) => atomics.push(path.to_owned()),
        (Value::Object(fields), kind) => {
            for (name, it) in fields {
                let path = format!("{path}.{name}");
                if kind.lacks(name) {
                    undeclared.push(format!("{path}: field not declared in schema"));
                } else {
                    look(it, &kind.child(name), &path, undeclared, atomics);
                }
            }
        }
        (Value::Array(items), kind) => {
            for (at, it) in items.iter().enumerate() {
                look(it, &kind.child(""), &format!("{path}[{at}]"), undeclared, atomics);
            }
        }
        _ => {}
    }
}
