//! The selector of a Job, which the server makes unless `manualSelector` is set.
//!
//! Upstream: pkg/registry/batch/job/strategy.go (`generateSelector`).

use api_kube::labels;
use serde_json::{Value, json};

use crate::resources::meta;

/// Labels the Job's pods with its uid and name, old and new spelling, and selects by the new uid.
pub(crate) fn generate_selector(job: &mut Value) {
    if job["spec"]["manualSelector"] == true {
        return;
    }
    let are_shared = job["metadata"]["labels"] == job["spec"]["template"]["metadata"]["labels"];
    let (uid, name) = (meta(job, "uid").to_owned(), meta(job, "name").to_owned());
    let template = &mut job["spec"]["template"];
    if !template["metadata"].is_object() {
        template["metadata"] = json!({});
    }
    if !template["metadata"]["labels"].is_object() {
        template["metadata"]["labels"] = json!({});
    }
    let target = &mut template["metadata"]["labels"];
    for (key, value) in [
        ("controller-uid", &uid),
        ("job-name", &name),
        (labels::JOB_CONTROLLER_UID, &uid),
        (labels::JOB_NAME, &name),
    ] {
        // What a client wrote itself is refused later, if it is another.
        if target[key].is_null() {
            target[key] = value.clone().into();
        }
    }
    if !job["spec"]["selector"].is_object() {
        job["spec"]["selector"] = json!({});
    }
    let selected = &mut job["spec"]["selector"]["matchLabels"];
    if selected[labels::JOB_CONTROLLER_UID].is_null() {
        selected[labels::JOB_CONTROLLER_UID] = uid.into();
    }
    if are_shared {
        // A Job without labels of its own has those of its pods.
        job["metadata"]["labels"] = job["spec"]["template"]["metadata"]["labels"].clone();
    }
}
