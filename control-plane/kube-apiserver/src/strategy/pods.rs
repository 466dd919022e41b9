//! What the server writes into pods: label keys as the selectors that they stand for, and what a
//! kubelet leaves out.
//!
//! Upstream: `mutatePodAffinity`, `mutateTopologySpreadConstraints` and `podStatusStrategy` in
//! pkg/registry/core/pod/strategy.go; `Convert_v1_PodStatus_To_core_PodStatus` in pkg/apis/core/v1.

use serde_json::{Value, json};

const REQUIRED: &str = "requiredDuringSchedulingIgnoredDuringExecution";
const PREFERRED: &str = "preferredDuringSchedulingIgnoredDuringExecution";

/// `matchLabelKeys: [app]` selects pods with the pod's own value of `app`.
pub(super) fn apply_label_keys(pod: &mut Value) {
    let labels = pod["metadata"]["labels"].clone();
    let spec = &mut pod["spec"];
    for kind in ["podAffinity", "podAntiAffinity"] {
        let required = spec.pointer_mut(&format!("/affinity/{kind}/{REQUIRED}"));
        each(required, |term| apply(term, &labels));
        let preferred = spec.pointer_mut(&format!("/affinity/{kind}/{PREFERRED}"));
        each(preferred, |weighted| {
            if let Some(term) = weighted.get_mut("podAffinityTerm") {
                apply(term, &labels);
            }
        });
    }
    each(spec.get_mut("topologySpreadConstraints"), |constraint| apply(constraint, &labels));
}

fn each(list: Option<&mut Value>, change: impl FnMut(&mut Value)) {
    list.and_then(Value::as_array_mut).into_iter().flatten().for_each(change);
}

fn apply(term: &mut Value, labels: &Value) {
    for (list, operator) in [("matchLabelKeys", "In"), ("mismatchLabelKeys", "NotIn")] {
        let keys = term[list].as_array().cloned().unwrap_or_default();
        let Some(selector) = term.get_mut("labelSelector").filter(|it| it.is_object()) else {
            return;
        };
        for key in keys.iter().filter_map(Value::as_str) {
            let value = &labels[key];
            if value.is_null() {
                continue;
            }
            let made = json!({ "key": key, "operator": operator, "values": [value] });
            match selector.get_mut("matchExpressions").and_then(Value::as_array_mut) {
                Some(all) => all.push(made),
                None => selector["matchExpressions"] = json!([made]),
            }
        }
    }
}

/// A status names what the server decided, and the addresses in both of their forms.
pub(super) fn complete_status(old: &Value, new: &mut Value) {
    let class = old["status"]["qosClass"].clone();
    let owners = old["metadata"]["ownerReferences"].clone();
    if let Some(metadata) = new["metadata"].as_object_mut() {
        metadata.remove("ownerReferences");
        if !owners.is_null() {
            metadata.insert("ownerReferences".into(), owners);
        }
    }
    let Some(status) = new.get_mut("status").filter(|it| it.is_object()) else { return };
    if status["qosClass"].as_str().unwrap_or_default().is_empty() && !class.is_null() {
        status["qosClass"] = class;
    }
    super::first_of(status, "podIP", "podIPs", Some("ip"));
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn label_keys_become_expressions_of_the_pods_own_values() {
        let term = json!({
            "labelSelector": {}, "matchLabelKeys": ["app", "none"], "mismatchLabelKeys": ["tenant"],
        });
        let mut pod = json!({
            "metadata": { "labels": { "app": "a", "tenant": "t" } },
            "spec": {
                "affinity": { "podAntiAffinity": { REQUIRED: [term] } },
                "topologySpreadConstraints": [
                    { "labelSelector": { "matchLabels": { "x": "y" } }, "matchLabelKeys": ["app"] },
                    { "matchLabelKeys": ["app"] },
                ],
            },
        });
        apply_label_keys(&mut pod);
        let own = json!({ "key": "app", "operator": "In", "values": ["a"] });
        let made = pod.pointer(&format!("/spec/affinity/podAntiAffinity/{REQUIRED}/0"));
        assert_eq!(
            made.unwrap()["labelSelector"]["matchExpressions"],
            json!([own, { "key": "tenant", "operator": "NotIn", "values": ["t"] }])
        );
        let spread = &pod["spec"]["topologySpreadConstraints"];
        assert_eq!(spread[0]["labelSelector"]["matchExpressions"], json!([own]));
        assert_eq!(spread[1], json!({ "matchLabelKeys": ["app"] }));
    }

    #[test]
    fn a_status_keeps_its_class_and_has_its_address_in_both_forms() {
        let old = json!({ "metadata": { "ownerReferences": [{ "uid": "u" }] },
            "status": { "qosClass": "Burstable" } });
        let mut new = json!({ "metadata": {}, "status": { "podIP": "10.0.0.1" } });
        complete_status(&old, &mut new);
        assert_eq!(new["metadata"], old["metadata"]);
        assert_eq!(new["status"]["qosClass"], "Burstable");
        assert_eq!(new["status"]["podIPs"], json!([{ "ip": "10.0.0.1" }]));
        new["status"]["podIP"] = Value::Null;
        complete_status(&old, &mut new);
        assert_eq!(new["status"]["podIP"], "10.0.0.1");
    }
}
