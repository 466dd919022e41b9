//! NamespaceLifecycle: nothing is made in a namespace that is missing or going.
//!
//! Upstream: apiserver/pkg/admission/plugin/namespace/lifecycle.

use serde_json::Value;

use super::{Attributes, Operation};
use crate::{
    authz::{Objects, text},
    status::Status,
};

/// Namespaces that stay as long as the cluster.
const IMMORTAL: [&str; 3] = ["default", "kube-system", "kube-public"];

pub(super) fn check(
    objects: &dyn Objects,
    attributes: &Attributes<'_>,
    object: &Value,
) -> Result<(), Status> {
    let info = attributes.info;
    if attributes.is(Operation::Delete, "", "namespaces") && IMMORTAL.contains(&&*info.name) {
        return Err(attributes.forbidden(object, "this namespace may not be deleted"));
    }
    let is_write = matches!(attributes.operation, Operation::Create | Operation::Update);
    let is_question = attributes.is_about("authorization.k8s.io", "localsubjectaccessreviews");
    let is_elsewhere = info.namespace.is_empty() || info.resource == "namespaces";
    if !is_write || is_question || is_elsewhere {
        return Ok(());
    }
    let Some(namespace) = objects.get("namespaces", "", &info.namespace) else {
        return Err(Status::not_found("namespaces", &info.namespace));
    };
    let is_going = !text(&namespace, "/metadata/deletionTimestamp").is_empty()
        || text(&namespace, "/status/phase") == "Terminating";
    if attributes.operation == Operation::Create && is_going {
        let name = &info.namespace;
        let why = format!(
            "unable to create new content in namespace {name} because it is being terminated"
        );
        let cause = format!("namespace {name} is being terminated");
        let status = attributes.forbidden(object, &why);
        return Err(status.cause("NamespaceTerminating", &cause, "metadata.namespace"));
    }
    Ok(())
}
