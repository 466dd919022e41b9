//! RuntimeClass: what a pod's class says of overhead and placement becomes the pod's.
//!
//! Upstream: plugin/pkg/admission/runtimeclass.

use serde_json::{Value, json};

use super::Attributes;
use crate::{
    authz::{Objects, text},
    status::Status,
};

const CLASSES: &str = "runtimeclasses.node.k8s.io";

pub(super) fn admit(
    objects: &dyn Objects,
    attributes: &Attributes<'_>,
    pod: &mut Value,
) -> Result<(), Status> {
    let name = text(pod, "/spec/runtimeClassName").to_owned();
    let overhead = pod.pointer("/spec/overhead").filter(|it| !it.is_null()).cloned();
    let class = match name.as_str() {
        "" => None,
        name => Some(objects.get(CLASSES, "", name).ok_or_else(|| {
            let why = format!("pod rejected: RuntimeClass \"{name}\" not found");
            attributes.forbidden(pod, &why)
        })?),
    };
    let defined = class.as_deref().and_then(|it| it.pointer("/overhead/podFixed"));
    match (defined, overhead) {
        (None, None) => {}
        (None, Some(_)) => {
            let why = "pod rejected: Pod Overhead set without corresponding RuntimeClass defined \
                       Overhead";
            return Err(attributes.forbidden(pod, why));
        }
        (Some(defined), Some(given)) if *defined != given => {
            let why = "pod rejected: Pod's Overhead doesn't match RuntimeClass's defined Overhead";
            return Err(attributes.forbidden(pod, why));
        }
        (Some(defined), _) => pod["spec"]["overhead"] = defined.clone(),
    }
    if let Some(scheduling) = class.as_deref().and_then(|it| it.get("scheduling")) {
        select_nodes(attributes, pod, scheduling)?;
        tolerate(pod, scheduling);
    }
    Ok(())
}

fn select_nodes(
    attributes: &Attributes<'_>,
    pod: &mut Value,
    scheduling: &Value,
) -> Result<(), Status> {
    for (key, value) in scheduling["nodeSelector"].as_object().into_iter().flatten() {
        let known = pod["spec"]["nodeSelector"].get(key).and_then(Value::as_str);
        let wanted = value.as_str().unwrap_or_default();
        if let Some(known) = known.filter(|it| *it != wanted) {
            let why = format!(
                "conflict: runtimeClass.scheduling.nodeSelector[{key}] = {wanted}; \
                 pod.spec.nodeSelector[{key}] = {known}"
            );
            return Err(attributes.forbidden(pod, &why));
        }
        pod["spec"]["nodeSelector"][key] = value.clone();
    }
    Ok(())
}

fn tolerate(pod: &mut Value, scheduling: &Value) {
    let wanted = scheduling["tolerations"].as_array().cloned().unwrap_or_default();
    let mut all = pod["spec"]["tolerations"].as_array().cloned().unwrap_or_default();
    let before = all.len();
    let new: Vec<_> = wanted.into_iter().filter(|it| !all.contains(it)).collect();
    all.extend(new);
    if all.len() > before {
        pod["spec"]["tolerations"] = json!(all);
    }
}
