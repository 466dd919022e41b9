//! Groups of the Kubernetes community: whether a definition in one of them was approved there.
//!
//! Upstream: pkg/controller/apiapproval and pkg/apihelpers of k8s.io/apiextensions-apiserver.

use serde_json::{Value, json};

use super::set_condition;

pub(crate) const ANNOTATION: &str = "api-approved.kubernetes.io";

/// What the annotation of a definition says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Approval {
    Missing,
    Invalid,
    Bypassed,
    Approved,
}

/// The approval of a definition in a protected group, and that in words.
pub(crate) fn of(definition: &Value) -> Option<(Approval, String)> {
    let group = definition["spec"]["group"].as_str().unwrap_or_default();
    let is_protected = ["k8s.io", "kubernetes.io"].iter().any(|it| {
        group.strip_suffix(it).is_some_and(|rest| rest.is_empty() || rest.ends_with('.'))
    });
    let annotation = definition["metadata"]["annotations"][ANNOTATION].as_str().unwrap_or_default();
    let see = "see https://github.com/kubernetes/enhancements/pull/1111";
    let must = format!("protected groups must have approval annotation \"{ANNOTATION}\"");
    let found = match annotation {
        "" => (Approval::Missing, format!("{must}, {see}")),
        it if it.starts_with("unapproved") => (Approval::Bypassed, format!("not approved: {it:?}")),
        it if is_url(it) => (Approval::Approved, format!("approved in {it}")),
        _ => {
            let either = "with either a URL or a reason starting with \"unapproved\"";
            (Approval::Invalid, format!("{must} {either}, {see}"))
        }
    };
    is_protected.then_some(found)
}

fn is_url(text: &str) -> bool {
    let uri = text.parse::<http::Uri>().ok();
    uri.is_some_and(|it| it.scheme().is_some() && it.host().is_some_and(|host| !host.is_empty()))
}

/// Says it in the definition's conditions.
pub(super) fn write(definition: &mut Value, now: &str) {
    let Some((approval, message)) = of(definition) else { return };
    let (status, reason) = match approval {
        Approval::Missing => ("False", "MissingAnnotation"),
        Approval::Invalid => ("False", "InvalidAnnotation"),
        Approval::Bypassed => ("False", "UnapprovedAnnotation"),
        Approval::Approved => ("True", "ApprovedAnnotation"),
    };
    let condition = json!({ "type": "KubernetesAPIApprovalPolicyConformant", "status": status,
        "reason": reason, "message": message });
    set_condition(definition, condition, now);
}
