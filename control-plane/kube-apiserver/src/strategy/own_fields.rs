//! Fields that a type's strategy fills in, beyond its status.
//!
//! Upstream: `PrepareForCreate` and `PrepareForUpdate` in pkg/registry/{apps/daemonset,
//! apps/statefulset,core/persistentvolume,core/persistentvolumeclaim,core/namespace}; `NormalizeDataSources` in
//! pkg/api/persistentvolumeclaim.

use api_kube::finalizers;
use serde_json::{Value, json};

/// How often a DaemonSet's template has changed, counted from one.
const TEMPLATE_GENERATION: &str = "deprecated.daemonset.template.generation";

pub(super) fn first_template(daemon_set: &mut Value) {
    let known = template_generation(daemon_set);
    set_template_generation(daemon_set, known.max(1));
}

pub(super) fn next_template(old: &Value, new: &mut Value) {
    let known = template_generation(old);
    let has_changed = old["spec"]["template"] != new["spec"]["template"];
    set_template_generation(new, known + i64::from(has_changed));
}

fn template_generation(daemon_set: &Value) -> i64 {
    let text = daemon_set["metadata"]["annotations"][TEMPLATE_GENERATION].as_str();
    text.and_then(|it| it.parse().ok()).unwrap_or_default()
}

fn set_template_generation(daemon_set: &mut Value, generation: i64) {
    if !daemon_set["metadata"]["annotations"].is_object() {
        daemon_set["metadata"]["annotations"] = json!({});
    }
    daemon_set["metadata"]["annotations"][TEMPLATE_GENERATION] = generation.to_string().into();
}

/// A Namespace is held until the namespace controller has emptied it.
pub(super) fn hold_namespace(namespace: &mut Value) {
    let own = json!(finalizers::NAMESPACE);
    match namespace["spec"]["finalizers"].as_array_mut() {
        Some(all) if all.contains(&own) => {}
        Some(all) => all.push(own),
        None => namespace["spec"]["finalizers"] = json!([own]),
    }
}

/// `maxUnavailable` of a StatefulSet is behind a switch that is off in 1.36: nobody sets it who had
/// not.
///
/// Upstream: `dropStatefulSetDisabledFields`, feature `MaxUnavailableStatefulSet`.
pub(super) fn drop_max_unavailable(old: Option<&Value>, stateful_set: &mut Value) {
    let at = "/spec/updateStrategy/rollingUpdate";
    let had = old.and_then(|it| it.pointer(at)).is_some_and(|it| !it["maxUnavailable"].is_null());
    if let Some(rolling) = stateful_set.pointer_mut(at).and_then(Value::as_object_mut)
        && !had
    {
        rolling.remove("maxUnavailable");
    }
}

/// When a volume came into its phase.
pub(super) fn date_phase(old: Option<&Value>, volume: &mut Value, now: &str) {
    let field = "lastPhaseTransitionTime";
    let Some(old) = old.map(|it| &it["status"]) else {
        volume["status"][field] = now.into();
        return;
    };
    let status = &mut volume["status"];
    if old["phase"] != status["phase"] && (status[field].is_null() || status[field] == old[field]) {
        status[field] = now.into();
    }
}

/// A device that a claim no longer has says nothing in its status any more.
///
/// Upstream: `dropDeallocatedStatusDevices`.
pub(super) fn forget_freed(old: &Value, new: &mut Value) {
    let id = |it: &Value| ["driver", "pool", "device", "shareID"].map(|name| it[name].clone());
    let had = |claim: &Value| -> Vec<_> {
        let results = claim.pointer("/status/allocation/devices/results");
        results.and_then(Value::as_array).into_iter().flatten().map(id).collect()
    };
    let (before, after) = (had(old), had(new));
    let Some(status) = new.get_mut("status").and_then(Value::as_object_mut) else { return };
    let Some(devices) = status.get_mut("devices").and_then(Value::as_array_mut) else { return };
    devices.retain(|it| after.contains(&id(it)) || !before.contains(&id(it)));
    if devices.is_empty() {
        status.remove("devices");
    }
}

/// Attributes of devices have one value each: the switch for lists of them is off in 1.36
/// (`DRAListTypeAttributes`). Who has some keeps them.
pub(super) fn drop_value_lists(old: Option<&Value>, slice: &mut Value) {
    const LISTS: [&str; 4] = ["bools", "ints", "strings", "versions"];
    let has_lists = |slice: &Value| {
        let devices = slice["spec"]["devices"].as_array().into_iter().flatten();
        let mut all = devices.filter_map(|it| it["attributes"].as_object()).flatten();
        all.any(|(_, it)| LISTS.iter().any(|list| !it[*list].is_null()))
    };
    if old.is_some_and(has_lists) {
        return;
    }
    let devices = slice["spec"]["devices"].as_array_mut();
    for device in devices.into_iter().flatten() {
        let attributes = device.get_mut("attributes").and_then(Value::as_object_mut);
        for attribute in attributes.into_iter().flatten().filter_map(|(_, it)| it.as_object_mut()) {
            attribute.retain(|name, _| !LISTS.contains(&name.as_str()));
        }
    }
}

/// When a device got its taints.
pub(super) fn date_taints(slice: &mut Value, now: &str) {
    let devices = slice["spec"]["devices"].as_array_mut();
    for device in devices.into_iter().flatten() {
        let taints = device.get_mut("taints").and_then(Value::as_array_mut);
        for taint in taints.into_iter().flatten().filter(|it| it["timeAdded"].is_null()) {
            taint["timeAdded"] = now.into();
        }
    }
}

/// What a claim is filled from is said in both fields, the old and the new, as far as the old one can.
pub(super) fn both_sources(claim: &mut Value) {
    let spec = &mut claim["spec"];
    let (old, new) = (spec["dataSource"].clone(), spec["dataSourceRef"].clone());
    let is_set = |it: &Value| it.as_str().is_some_and(|it| !it.is_empty());
    if old.is_object() && !new.is_object() && is_known_source(&old) {
        spec["dataSourceRef"] = old;
    } else if old.is_object() && !is_known_source(&old) && !new.is_object() {
        spec.as_object_mut().map(|it| it.remove("dataSource"));
    } else if new.is_object() && !old.is_object() && !is_set(&new["namespace"]) {
        spec["dataSource"] = new;
        spec["dataSource"].as_object_mut().map(|it| it.remove("namespace"));
    }
}

fn is_known_source(source: &Value) -> bool {
    let group = source["apiGroup"].as_str().unwrap_or_default();
    match source["kind"].as_str() {
        Some("PersistentVolumeClaim") => group.is_empty(),
        Some("VolumeSnapshot") => group == "snapshot.storage.k8s.io",
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_daemon_sets_template_is_counted() {
        let mut first = json!({ "metadata": {}, "spec": { "template": { "a": 1 } } });
        first_template(&mut first);
        assert_eq!(template_generation(&first), 1);
        let mut same = json!({ "metadata": {}, "spec": { "template": { "a": 1 } } });
        next_template(&first, &mut same);
        assert_eq!(template_generation(&same), 1);
        let mut other = json!({ "metadata": {}, "spec": { "template": { "a": 2 } } });
        next_template(&first, &mut other);
        assert_eq!(template_generation(&other), 2);
    }

    #[test]
    fn what_a_set_lets_be_unavailable_is_kept_only_where_it_was_before() {
        let set = |rolling: Value| json!({ "spec": { "updateStrategy": rolling } });
        let with = set(json!({ "rollingUpdate": { "partition": 1, "maxUnavailable": 2 } }));
        let without = set(json!({ "rollingUpdate": { "partition": 1 } }));
        for (old, kept) in [(None, &without), (Some(&without), &without), (Some(&with), &with)] {
            let mut new = with.clone();
            drop_max_unavailable(old, &mut new);
            assert_eq!(new, *kept, "{old:?}");
        }
    }

    #[test]
    fn an_attribute_gets_no_list_of_values_unless_one_is_there() {
        let slice = |value: Value| json!({ "spec": { "devices": [{ "name": "d" }, { "attributes": { "a": value } }] } });
        let (one, both) = (json!({ "int": 1 }), json!({ "int": 1, "strings": ["x"] }));
        for (old, kept) in
            [(None, &one), (Some(slice(one.clone())), &one), (Some(slice(both.clone())), &both)]
        {
            let mut new = slice(both.clone());
            drop_value_lists(old.as_ref(), &mut new);
            assert_eq!(new, slice(kept.clone()), "{old:?}");
        }
    }

    #[test]
    fn a_claims_source_is_in_both_fields() {
        let snapshot =
            json!({ "apiGroup": "snapshot.storage.k8s.io", "kind": "VolumeSnapshot", "name": "s" });
        let mut claim = json!({ "spec": { "dataSource": snapshot } });
        both_sources(&mut claim);
        assert_eq!(claim["spec"]["dataSourceRef"], snapshot);
        let other = json!({ "apiGroup": "example.com", "kind": "Any", "name": "s" });
        let mut claim = json!({ "spec": { "dataSourceRef": other } });
        both_sources(&mut claim);
        assert_eq!(claim["spec"]["dataSource"], other);
        let mut claim = json!({ "spec": { "dataSource": other } });
        both_sources(&mut claim);
        assert_eq!(claim["spec"], json!({}), "an old client cannot name it");
    }

    #[test]
    fn a_volumes_phase_has_a_date() {
        let mut volume = json!({ "status": { "phase": "Pending" } });
        date_phase(None, &mut volume, "t1");
        let mut bound = json!({ "status": { "phase": "Bound", "lastPhaseTransitionTime": "t1" } });
        date_phase(Some(&volume), &mut bound, "t2");
        assert_eq!(bound["status"]["lastPhaseTransitionTime"], "t2");
        let mut same = bound.clone();
        date_phase(Some(&bound), &mut same, "t3");
        assert_eq!(same, bound);
    }

    #[test]
    fn a_device_that_a_claim_no_longer_has_is_forgotten_and_others_are_left_to_validation() {
        let device = |name: &str| json!({ "driver": "d", "pool": "p", "device": name });
        let allocated = |names: &[&str]| {
            let results: Vec<_> = names.iter().map(|it| device(it)).collect();
            json!({ "devices": { "results": results } })
        };
        let old = json!({ "status": { "allocation": allocated(&["a", "b"]) } });
        let told = json!([device("a"), device("b"), device("c")]);
        let mut new = json!({ "status": { "allocation": allocated(&["b"]), "devices": told } });
        forget_freed(&old, &mut new);
        assert_eq!(new["status"]["devices"], json!([device("b"), device("c")]));
        let mut freed = json!({ "status": { "devices": [device("a")] } });
        forget_freed(&old, &mut freed);
        assert_eq!(freed["status"], json!({}));
    }
}
