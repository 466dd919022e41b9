//! `pods/ephemeralcontainers`: they can be added and never taken away or changed.
//!
//! Upstream: `ValidatePodEphemeralContainersUpdate` in pkg/apis/core/validation.

use serde_json::Value;

use super::{MIRROR, annotations};
use crate::validation::{Faults, items, pod, text};

pub(in crate::validation) fn check(faults: &mut Faults, old: &Value, new: &Value) {
    const AT: &str = "spec.ephemeralContainers";
    if old["metadata"]["annotations"][MIRROR].is_string() {
        return faults.forbidden("[]", "static pods do not support ephemeral containers");
    }
    pod::pod(faults, new);
    annotations(faults, old, new);
    let list = |pod: &Value| {
        items(&pod["spec"], "ephemeralContainers").map(|(_, it)| it.clone()).collect::<Vec<_>>()
    };
    let after = list(new);
    for known in &list(old) {
        let name = text(known, "name");
        let did = match after.iter().find(|it| it["name"] == known["name"]) {
            Some(same) if same == known => continue,
            Some(_) => "changed",
            None => "removed",
        };
        faults.forbidden(AT, format!("existing ephemeral containers {name:?} may not be {did}\n"));
    }
}
