//! `pods/binding`: the scheduler's decision, written once.
//!
//! Upstream: `BindingREST` in pkg/registry/core/pod/storage.

use http::StatusCode;
use serde_json::{Value, json};

use crate::{
    admission::{self, Operation},
    conditions,
    render::Answer,
    resources::meta,
    server::Call,
    status::{FieldError, Status},
    verbs::{modify, write},
};

pub(crate) async fn bind(call: &mut Call) -> Result<Answer, Status> {
    let validation = write::field_validation(call)?;
    let decoded = crate::decode::body(call.header(http::header::CONTENT_TYPE), &call.body)?;
    let bindings = call.server.catalog().find("", "v1", "bindings");
    let bindings = bindings.ok_or_else(Status::no_such_path)?;
    let (mut binding, warnings) = crate::decode::object(&bindings, decoded, validation)?;
    call.warnings.extend(warnings);
    admission::admit(call, Operation::Create, None, &mut binding).await?;
    let name = match call.name() {
        "" => meta(&binding, "name").to_owned(),
        name => name.to_owned(),
    };
    let node = node(&binding, &name)?;
    call.resource =
        call.server.catalog().find("", "v1", "pods").ok_or_else(Status::no_such_path)?;
    let now = call.now();
    let objects = call.server.objects.clone();
    modify::modify(call, &name, super::WHOLE, |pod| {
        let mut pod = bound(pod, &binding, &node, &now)?;
        admission::label_with_topology(&objects, &node, &mut pod);
        Ok(pod)
    })
    .await?;
    Ok(super::success(StatusCode::CREATED))
}

fn node(binding: &Value, name: &str) -> Result<String, Status> {
    let target = &binding["target"];
    let kind = target["kind"].as_str().unwrap_or_default();
    if !matches!(kind, "" | "Node") {
        let error = FieldError::not_supported("target.kind", kind, &["", "Node"]);
        return Err(Status::invalid("Binding", name, &[error]));
    }
    match target["name"].as_str() {
        Some(node) if !node.is_empty() => Ok(node.to_owned()),
        _ => Err(Status::invalid("Binding", name, &[FieldError::required("target.name", "")])),
    }
}

fn bound(pod: &Value, binding: &Value, node: &str, now: &str) -> Result<Value, Status> {
    let name = meta(pod, "name");
    let uid = meta(binding, "uid");
    let refused = |why: String| Status::conflict("pods/binding", name, &why);
    if !uid.is_empty() && uid != meta(pod, "uid") {
        return Err(refused(format!(
            "Precondition failed: UID in precondition: {uid}, UID in object meta: {}",
            meta(pod, "uid")
        )));
    }
    if !meta(pod, "deletionTimestamp").is_empty() {
        return Err(refused(format!("pod {name} is being deleted, cannot be assigned to a host")));
    }
    if let Some(current) = pod["spec"]["nodeName"].as_str().filter(|it| !it.is_empty()) {
        return Err(refused(format!("pod {name} is already assigned to node \"{current}\"")));
    }
    if pod["spec"]["schedulingGates"].as_array().is_some_and(|it| !it.is_empty()) {
        return Err(refused(format!("pod {name} has non-empty .spec.schedulingGates")));
    }
    let mut pod = pod.clone();
    pod["spec"]["nodeName"] = node.into();
    for (key, value) in binding["metadata"]["annotations"].as_object().into_iter().flatten() {
        pod["metadata"]["annotations"][key] = value.clone();
    }
    conditions::set(&mut pod, json!({ "type": "PodScheduled", "status": "True" }), now);
    // It was a promise until now.
    if let Some(status) = pod["status"].as_object_mut() {
        status.remove("nominatedNodeName");
    }
    Ok(pod)
}
