//! `kubectl apply --server-side` after `kubectl apply`, and the other way round: the annotation in
//! which the client-side one keeps what it applied.
//!
//! Upstream: `lastappliedmanager.go` and `lastappliedupdater.go` of
//! k8s.io/apimachinery/pkg/util/managedfields/internal.

use api_kube::annotations::LAST_APPLIED;
use serde_json::Value;

use super::{Request, field_set::FieldSet, typed};

/// The manager whose conflicts with its own client-side applies are none.
pub(crate) const KUBECTL: &str = "kubectl";

/// What was applied client-side, as far as the live object still has it.
pub(crate) fn unchanged_in(live: &Value, request: &Request) -> FieldSet {
    let text = live["metadata"]["annotations"][LAST_APPLIED].as_str().unwrap_or_default();
    let applied: Value = serde_json::from_str(text).unwrap_or_default();
    if applied["apiVersion"] != request.owner.api_version.as_str() {
        return FieldSet::default();
    }
    let change = typed::difference(&applied, live, &request.kind);
    let set = typed::fields_of(&applied, &request.kind);
    set.without(&change.set).without(&change.removed)
}

/// Writes what `kubectl` applied into the annotation, where there is one.
pub(crate) fn renew(object: &mut Value, request: &Request) {
    let annotations = object.pointer_mut("/metadata/annotations");
    let annotation = annotations.and_then(|it| it.get_mut(LAST_APPLIED));
    let Some(annotation) = annotation.filter(|_| request.owner.manager == KUBECTL) else { return };
    let mut applied = request.applied.clone();
    let own = applied.pointer_mut("/metadata/annotations").and_then(Value::as_object_mut);
    own.map(|it| it.remove(LAST_APPLIED));
    *annotation = format!("{applied}\n").into();
}
