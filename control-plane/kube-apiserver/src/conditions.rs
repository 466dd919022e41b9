//! Conditions in a status.

use serde_json::{Value, json};

/// Sets a condition; its transition time moves only when its status changes.
pub(crate) fn set(object: &mut Value, mut condition: Value, now: &str) {
    if !object["status"].is_object() {
        object["status"] = json!({});
    }
    if !object["status"]["conditions"].is_array() {
        object["status"]["conditions"] = json!([]);
    }
    condition["lastTransitionTime"] = now.into();
    let Some(all) = object["status"]["conditions"].as_array_mut() else { return };
    match all.iter_mut().find(|it| it["type"] == condition["type"]) {
        None => all.push(condition),
        Some(known) => {
            if known["status"] == condition["status"] && !known["lastTransitionTime"].is_null() {
                condition["lastTransitionTime"] = known["lastTransitionTime"].clone();
            }
            *known = condition;
        }
    }
}
