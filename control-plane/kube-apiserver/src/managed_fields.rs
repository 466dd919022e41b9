//! `metadata.managedFields`: who owns which field.
//!
//! Deviation: fields are tracked from the moment at which an object is first applied server-side;
//! objects that never were have no `managedFields`. What they had until then belongs to
//! `before-first-apply`, which is what upstream calls the owner of untracked fields. It saves a
//! third of the memory of every pod that nobody applies.
//!
//! Upstream: k8s.io/apimachinery/pkg/util/managedfields.

use serde_json::{Value, json};

use crate::{
    apply::{
        field_set::FieldSet,
        typed::{self, Kind},
    },
    decode,
    resources::Resource,
    server::Call,
    strategy::{self, Part},
};

/// Fields that nobody owns.
const UNOWNED: &[&[&str]] = &[
    &["f:apiVersion"],
    &["f:kind"],
    &["f:metadata", "f:name"],
    &["f:metadata", "f:namespace"],
    &["f:metadata", "f:creationTimestamp"],
    &["f:metadata", "f:selfLink"],
    &["f:metadata", "f:uid"],
    &["f:metadata", "f:clusterName"],
    &["f:metadata", "f:generation"],
    &["f:metadata", "f:managedFields"],
    &["f:metadata", "f:resourceVersion"],
    &["f:metadata", "f:deletionTimestamp"],
    &["f:metadata", "f:deletionGracePeriodSeconds"],
];

const USER_AGENT_LIMIT: usize = 128;

/// How the objects of the call's resource merge.
pub(crate) fn kind(call: &Call) -> Kind {
    Kind::root(decode::shape(&call.resource))
}

pub(crate) fn without_unowned(mut set: FieldSet) -> FieldSet {
    for path in UNOWNED {
        set.prune(path);
    }
    if set.below.get("f:metadata").is_some_and(FieldSet::is_empty) {
        set.below.remove("f:metadata");
    }
    set
}

/// Without what a write to this part of an object does not change: nobody owns what was not written.
/// Upstream: `GetResetFields` of the strategies.
pub(crate) fn within(mut set: FieldSet, resource: &Resource, part: Part) -> FieldSet {
    match part {
        Part::Main if resource.has_status() => set.prune(&["f:status"]),
        Part::Status => {
            let has_metadata = strategy::status_changes_metadata(resource);
            set.below
                .retain(|field, _| field == "f:status" || field == "f:metadata" && has_metadata);
        }
        _ => {}
    }
    set
}

/// The name under which the request's changes are owned.
pub(crate) fn manager(call: &Call) -> String {
    if let Some(name) = call.parameter("fieldManager") {
        return name.to_owned();
    }
    let agent = call.header(http::header::USER_AGENT);
    let name = agent.split('/').next().unwrap_or_default();
    let name: String = name.chars().take(USER_AGENT_LIMIT).collect();
    if name.is_empty() { "unknown".into() } else { name }
}

/// The entry of one owner.
pub(crate) fn entry(call: &Call, manager: &str, operation: &str, set: &FieldSet) -> Value {
    let mut entry = json!({
        "manager": manager, "operation": operation, "apiVersion": call.resource.api_version(),
        "time": call.now(), "fieldsType": "FieldsV1", "fieldsV1": set.to_json(),
    });
    if !call.info.subresource.is_empty() {
        entry["subresource"] = call.info.subresource.clone().into();
    }
    entry
}

/// Whether two entries belong to one owner.
pub(crate) fn is_same_owner(a: &Value, b: &Value) -> bool {
    ["manager", "operation", "apiVersion", "subresource"].iter().all(|field| a[field] == b[field])
}

pub(crate) fn entries(object: &Value) -> Vec<Value> {
    object["metadata"]["managedFields"].as_array().cloned().unwrap_or_default()
}

pub(crate) fn set_entries(object: &mut Value, entries: Vec<Value>) {
    let Some(metadata) = object["metadata"].as_object_mut() else { return };
    if entries.is_empty() {
        metadata.remove("managedFields");
    } else {
        metadata.insert("managedFields".into(), entries.into());
    }
}

pub(crate) fn is_apply(call: &Call) -> bool {
    call.info.verb == "patch" && call.header(http::header::CONTENT_TYPE).contains("apply-patch")
}

pub(crate) fn on_create(call: &Call, object: &mut Value) {
    if !is_apply(call) {
        set_entries(object, Vec::new());
    }
}

/// After a change: its owner gets what it changed, and the others lose it.
pub(crate) fn on_update(call: &Call, old: &Value, new: &mut Value) {
    if is_apply(call) {
        return;
    }
    let known = entries(old);
    if known.is_empty() || is_reset(new) {
        set_entries(new, Vec::new());
        return;
    }
    let (changed, removed) = typed::difference(old, new, &kind(call));
    let (changed, removed) = (without_unowned(changed), without_unowned(removed));
    if changed.is_empty() && removed.is_empty() {
        set_entries(new, known);
        return;
    }
    let mut own = entry(call, &manager(call), "Update", &changed);
    let mut lost = changed.clone();
    lost.union(&removed);
    let mut left = Vec::new();
    for mut other in known {
        let set = FieldSet::of_entry(&other);
        if is_same_owner(&other, &own) {
            let mut set = set.without(&removed);
            set.union(&changed);
            own["fieldsV1"] = set.to_json();
            continue;
        }
        let kept = set.without(&lost);
        if !kept.is_empty() {
            other["fieldsV1"] = kept.to_json();
            left.push(other);
        }
    }
    if !FieldSet::of_entry(&own).is_empty() {
        left.push(own);
    }
    set_entries(new, left);
}

/// A client clears the list by writing one empty entry.
fn is_reset(object: &Value) -> bool {
    let list = object["metadata"]["managedFields"].as_array();
    list.is_some_and(|it| it.is_empty() || *it == [json!({})])
}
