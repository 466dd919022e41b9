//! Priority: a pod's number from its PriorityClass.

use serde_json::{Value, json};

use super::Attributes;
use crate::{
    authz::{Objects, text},
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

pub(super) fn admit(
    objects: &dyn Objects,
    attributes: &Attributes<'_>,
    pod: &mut Value,
) -> Result<(), Status> {
    let class = match text(pod, "/spec/priorityClassName") {
        "" => {
            let classes = objects.list(CLASSES, "");
            let defaults = classes.into_iter().filter(|it| it["globalDefault"] == true);
            // With several defaults the smallest counts, as upstream.
            let class = defaults.min_by_key(|it| it["value"].as_i64());
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
