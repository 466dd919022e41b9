//! Priority: a pod's number from its PriorityClass, of which one is the default at most.
//!
//! Upstream: plugin/pkg/admission/priority.

use std::sync::Arc;

use serde_json::{Value, json};

use super::{Attributes, Operation};
use crate::{
    authz::{Objects, text},
    resources::Resource,
    status::Status,
};

const CLASSES: &str = "priorityclasses.scheduling.k8s.io";

/// The classes that exist from the start.
pub(crate) fn bootstrap_objects() -> Vec<Value> {
    let class = |name: &str, value: i64, description: &str| {
        json!({
            "apiVersion": "scheduling.k8s.io/v1", "kind": "PriorityClass",
            "metadata": {"name": name}, "value": value,
            "description": description, "preemptionPolicy": "PreemptLowerPriority",
        })
    };
    vec![
        class(
            "system-cluster-critical",
            2_000_000_000,
            "Used for system critical pods that must run in the cluster, but can be moved to \
             another node if necessary.",
        ),
        class(
            "system-node-critical",
            2_000_001_000,
            "Used for system critical pods that must not be moved from their current node.",
        ),
    ]
}

/// What the system brings stays. As upstream, a deletion of all is not held up.
pub(crate) fn check_deletable(resource: &Resource, name: &str) -> Result<(), Status> {
    let is_class = resource.is("scheduling.k8s.io", "priorityclasses");
    if is_class && bootstrap_objects().iter().any(|it| it["metadata"]["name"] == name) {
        let why = "this is a system priority class and cannot be deleted";
        return Err(Status::forbidden(&resource.qualified(), name, why));
    }
    Ok(())
}

/// Refuses a second default.
pub(super) fn check_class(
    objects: &dyn Objects,
    attributes: &Attributes<'_>,
    class: &Value,
) -> Result<(), Status> {
    let is_asked = attributes.is_about("scheduling.k8s.io", "priorityclasses")
        && matches!(attributes.operation, Operation::Create | Operation::Update);
    if !is_asked || class["globalDefault"] != true {
        return Ok(());
    }
    let Some(default) = default_class(objects) else { return Ok(()) };
    let default = text(&default, "/metadata/name");
    if attributes.operation == Operation::Create || default != text(class, "/metadata/name") {
        let why = format!(
            "PriorityClass {default} is already marked as default. Only one default can exist"
        );
        return Err(attributes.forbidden(class, &why));
    }
    Ok(())
}

/// With several defaults the smallest counts, as upstream.
fn default_class(objects: &dyn Objects) -> Option<Arc<Value>> {
    let classes = objects.list(CLASSES, "");
    let defaults = classes.into_iter().filter(|it| it["globalDefault"] == true);
    defaults.min_by_key(|it| it["value"].as_i64())
}

pub(super) fn admit(
    objects: &dyn Objects,
    attributes: &Attributes<'_>,
    pod: &mut Value,
) -> Result<(), Status> {
    let class = match text(pod, "/spec/priorityClassName") {
        "" => {
            let class = default_class(objects);
            if let Some(class) = &class {
                pod["spec"]["priorityClassName"] = class["metadata"]["name"].clone();
            }
            class
        }
        name => match objects.get(CLASSES, "", name) {
            Some(class) => Some(class),
            None => {
                let why = format!("no PriorityClass with name {name} was found");
                return Err(attributes.forbidden(pod, &why));
            }
        },
    };
    let value = class.as_ref().and_then(|it| it["value"].as_i64()).unwrap_or(0);
    if let Some(given) = pod["spec"]["priority"].as_i64()
        && given != value
    {
        let why = format!(
            "the integer value of priority ({given}) must not be provided in pod spec; priority \
             admission controller computed {value} from the given PriorityClass name"
        );
        return Err(attributes.forbidden(pod, &why));
    }
    let policy = class.as_ref().and_then(|it| it["preemptionPolicy"].as_str());
    let policy = policy.unwrap_or("PreemptLowerPriority");
    if let Some(given) = pod["spec"]["preemptionPolicy"].as_str()
        && given != policy
    {
        let why = format!(
            "the string value of PreemptionPolicy ({given}) must not be provided in pod spec; \
             priority admission controller computed {policy} from the given PriorityClass name"
        );
        return Err(attributes.forbidden(pod, &why));
    }
    pod["spec"]["priority"] = value.into();
    pod["spec"]["preemptionPolicy"] = policy.into();
    Ok(())
}
