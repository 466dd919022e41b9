//! `metadata.managedFields`: who owns which field.
//!
//! Every write that a client makes to an object is tracked: what it sets it owns, and what it changes
//! or takes away the others lose. What admission and the server itself add is nobody's.
//!
//! Deviation: what an owner has in another version of the resource is looked up under the same paths;
//! upstream converts the object to each owner's version. It makes a difference where a field has
//! another place there: the two versions of autoscalers and of events, and custom resources whose
//! webhook moves fields.
//!
//! Upstream: k8s.io/apimachinery/pkg/util/managedfields.

pub(crate) mod entries;

use serde_json::{Map, Value, json};

use self::entries::Owner;
use crate::{
    apply::{
        field_set::FieldSet,
        typed::{self, Change, Kind},
    },
    convert, decode,
    resources::{Resource, meta},
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
];

/// Bytes of a manager's name.
pub(crate) const NAME_LIMIT: usize = 128;

/// How the objects of the call's resource merge.
pub(crate) fn kind(call: &Call) -> Kind {
    Kind::root(decode::shape(&call.resource))
}

/// Without what nobody owns.
pub(crate) fn owned(mut set: FieldSet) -> FieldSet {
    for path in UNOWNED {
        set.prune(path);
    }
    if let Some(metadata) = set.below.get_mut("f:metadata") {
        metadata.is_member = false;
        if metadata.is_empty() {
            set.below.remove("f:metadata");
        }
    }
    set
}

/// Without what a write to this part of an object does not change: nobody owns what was not written.
///
/// Upstream: `GetResetFields` of the strategies.
pub(crate) fn within(mut set: FieldSet, resource: &Resource, part: Part) -> FieldSet {
    match part {
        Part::Main if resource.has_status() => drop(set.below.remove("f:status")),
        Part::Status => {
            let has_metadata = strategy::status_changes_metadata(resource);
            set.below
                .retain(|field, _| field == "f:status" || field == "f:metadata" && has_metadata);
        }
        _ => {}
    }
    set
}

pub(crate) fn change_within(change: Change, resource: &Resource, part: Part) -> Change {
    Change {
        set: within(change.set, resource, part),
        removed: within(change.removed, resource, part),
    }
}

/// The name under which the request's changes are owned: what it says, or what its client says of
/// itself.
pub(crate) fn manager(call: &Call) -> String {
    if let Some(name) = call.parameter("fieldManager") {
        return name.to_owned();
    }
    let agent = call.header(http::header::USER_AGENT);
    let mut name = String::new();
    for it in agent.split('/').next().unwrap_or_default().chars().filter(|it| !it.is_control()) {
        if name.len() + it.len_utf8() > NAME_LIMIT {
            break;
        }
        name.push(it);
    }
    name
}

/// Who owns what this request changes.
fn owner(call: &Call) -> Owner {
    Owner {
        manager: manager(call),
        operation: "Update",
        api_version: call.resource.api_version(),
        subresource: call.info.subresource.clone(),
    }
}

pub(crate) fn is_apply(call: &Call) -> bool {
    call.info.verb == "patch" && call.header(http::header::CONTENT_TYPE).contains("apply-patch")
}

/// Of a new object: all that the client sent is its own. An apply has written its entry already.
pub(crate) fn on_create(call: &Call, object: &mut Value) {
    if is_apply(call) {
        return;
    }
    let sent = entries::take(object);
    let known = entries::of_client(sent).unwrap_or_default();
    if known.is_empty() {
        let set = of_new(&call.resource, &convert::shown(&call.resource, object), &kind(call));
        let time = meta(object, "creationTimestamp");
        let entry = (!set.is_empty()).then(|| owner(call).entry_of(set.into(), time));
        return entries::set(object, entry.into_iter().collect());
    }
    let time = meta(object, "creationTimestamp").to_owned();
    track(call, Part::Main, known, &json!({}), object, &time);
}

/// Of what is answered and never stored (reviews, tokens): all that the client sent is its own.
pub(crate) fn on_review(call: &Call, asked: &Resource, object: &mut Value) {
    let kind = Kind::root(decode::shape(asked));
    if !object["metadata"].is_object() {
        object["metadata"] = json!({});
    }
    entries::take(object);
    let set = of_new(asked, object, &kind);
    let owner = Owner { api_version: asked.api_version(), ..owner(call) };
    let entry = (!set.is_empty()).then(|| owner.entry_of(set.into(), &call.now()));
    entries::set(object, entry.into_iter().collect());
}

/// What whoever makes an object owns of it.
fn of_new(resource: &Resource, object: &Value, kind: &Kind) -> Map<String, Value> {
    let has_status = resource.has_status();
    typed::added(object, kind, |holder, name| match holder {
        "" => matches!(name, "apiVersion" | "kind") || name == "status" && has_status,
        _ => UNOWNED.iter().any(|path| match path {
            [_, last] => last.strip_prefix("f:") == Some(name),
            _ => false,
        }),
    })
}

/// Of a changed object, before admission sees it.
pub(crate) fn on_update(call: &Call, part: Part, old: &Value, new: &mut Value) {
    if is_apply(call) {
        return;
    }
    let sent = entries::take(new);
    // What a pod's binding writes is nobody's.
    let is_tracked = part != Part::Whole || call.info.subresource == "scale";
    let is_subresource = !call.info.subresource.is_empty();
    let known = if !is_tracked || is_subresource || sent == old["metadata"]["managedFields"] {
        entries::of(old)
    } else if entries::is_reset(&sent) {
        return;
    } else {
        entries::of_client(sent).unwrap_or_else(|| entries::of(old))
    };
    if is_tracked && !known.is_empty() {
        track(call, part, known, old, new, &call.now());
    } else {
        entries::set(new, known);
    }
}

/// Gives the request's owner what it changed, and takes it from the others.
fn track(call: &Call, part: Part, known: Vec<Value>, old: &Value, new: &mut Value, time: &str) {
    let catalog = call.server.catalog();
    let known = entries::served(known, &catalog, &call.resource);
    let (old, shown) = (convert::shown(&call.resource, old), convert::shown(&call.resource, new));
    let change = typed::difference(&old, &shown, &kind(call));
    let change = change_within(change, &call.resource, part);
    let left = entries::changed(known, change, &owner(call), time);
    entries::set(new, left);
}

#[cfg(test)]
mod tests;
