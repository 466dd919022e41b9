//! Security groups for pods: who is selected by a SecurityGroupPolicy asks for a branch interface,
//! and nobody but the controller of VPC resources says which branch a pod has.
//!
//! Where SecurityGroupPolicies are not defined, there is none of this.
//!
//! Upstream: `webhooks/core` of aws/amazon-vpc-resource-controller-k8s, `mpod.vpc.k8s.aws`,
//! `vpod.vpc.k8s.aws` and `vnode.vpc.k8s.aws`; EKS installs them as
//! `vpc-resource-mutating-webhook` and `vpc-resource-validating-webhook`.
//! Deviation: a plug-in of the API server, which answers in those webhooks' words: their
//! configurations are not there to be listed or changed, and none of them can fail to be reached. No
//! Fargate or Windows pods.

use std::collections::BTreeMap;

use api_kube::vpc_resources::{CONTROLLER_USERS, POD_ENI, TRUNK_LABEL};
use http::StatusCode;
use serde_json::{Value, json};

use super::{Attributes, Operation};
use crate::{
    authz::{Objects, items, text},
    selectors::Labels,
    status::Status,
};

const POLICIES: &str = "securitygrouppolicies.vpcresources.k8s.aws";
const DEFINITIONS: &str = "customresourcedefinitions.apiextensions.k8s.io";
const AWS_NODE: &str = "system:serviceaccount:kube-system:aws-node";
/// Labels of a Node that `aws-node` may change.
const NODE_LABELS: [&str; 2] = [TRUNK_LABEL, "vpc.amazonaws.com/eniConfig"];

/// Has a pod's first container ask for a branch, if a policy selects the pod.
pub(super) fn mutate(
    objects: &dyn Objects,
    attributes: &Attributes<'_>,
    pod: &mut Value,
) -> Result<(), Status> {
    let is_on_host = pod.pointer("/spec/hostNetwork").is_some_and(|it| it == true);
    if is_on_host || is_windows(pod) {
        return Ok(());
    }
    let namespace = &attributes.info.namespace;
    let policies = objects.list(POLICIES, namespace);
    if policies.is_empty() {
        return Ok(());
    }
    let name = text(pod, "/spec/serviceAccountName");
    let Some(account) = objects.get("serviceaccounts", namespace, name) else {
        let why = "Failed to get Matching SGP for Pods, rejecting event";
        return Err(denied("mpod.vpc.k8s.aws", why));
    };
    if policies.iter().any(|it| selects(&it["spec"], pod, &account))
        && let Some(container) = pod.pointer_mut("/spec/containers/0")
    {
        for list in ["limits", "requests"] {
            put(container, list);
        }
    }
    Ok(())
}

fn put(container: &mut Value, list: &str) {
    if !container["resources"].is_object() {
        container["resources"] = json!({});
    }
    let list = &mut container["resources"][list];
    if !list.is_object() {
        *list = json!({});
    }
    list[POD_ENI] = "1".into();
}

/// With both selectors, both have to select; one that is not there has no say. A policy without
/// either, or without groups, is none.
fn selects(spec: &Value, pod: &Value, account: &Value) -> bool {
    let (by_pod, by_account) = (&spec["podSelector"], &spec["serviceAccountSelector"]);
    let is_valid = by_pod.is_object() || by_account.is_object();
    let matches = |selector: &Value, object: &Value| {
        !selector.is_object() || Labels::of(selector).is_ok_and(|it| it.matches(&labels_of(object)))
    };
    is_valid
        && !items(spec, "/securityGroups/groupIds").is_empty()
        && matches(by_pod, pod)
        && matches(by_account, account)
}

fn labels_of(object: &Value) -> BTreeMap<String, String> {
    let labels = object["metadata"]["labels"].as_object().into_iter().flatten();
    labels.filter_map(|(key, it)| Some((key.clone(), it.as_str()?.to_owned()))).collect()
}

fn is_windows(pod: &Value) -> bool {
    let node = &pod["spec"]["nodeSelector"];
    ["kubernetes.io/os", "beta.kubernetes.io/os"].iter().any(|it| node[it] == "windows")
}

/// Refuses what only the controller may write.
pub(super) fn validate(
    objects: &dyn Objects,
    attributes: &Attributes<'_>,
    new: &Value,
) -> Result<(), Status> {
    let refused = if attributes.is(Operation::Create, "", "pods") {
        new_pod(new)
    } else if attributes.is(Operation::Update, "", "pods") {
        changed_pod(attributes, new)
    } else if attributes.is(Operation::Update, "", "nodes") {
        changed_node(attributes, new)
    } else {
        None
    };
    match refused {
        Some(status) if objects.get(DEFINITIONS, "", POLICIES).is_some() => Err(status),
        _ => Ok(()),
    }
}

fn annotation(pod: &Value) -> Option<&str> {
    pod.get("metadata")?.get("annotations")?.get(POD_ENI)?.as_str()
}

fn new_pod(pod: &Value) -> Option<Status> {
    annotation(pod)?;
    let why = format!("pod cannot be created with {POD_ENI} annotation");
    Some(denied("vpod.vpc.k8s.aws", &why))
}

fn changed_pod(attributes: &Attributes<'_>, pod: &Value) -> Option<Status> {
    let is_same = attributes.old.and_then(annotation) == annotation(pod);
    let is_controller = CONTROLLER_USERS.contains(&attributes.user.username.as_str());
    let why = "annotation is not set by vpc-resource-controller";
    (!is_same && !is_controller).then(|| denied("vpod.vpc.k8s.aws", why))
}

fn changed_node(attributes: &Attributes<'_>, node: &Value) -> Option<Status> {
    if attributes.user.username != AWS_NODE {
        return None;
    }
    let rest = |node: &Value| {
        let mut node = node.clone();
        let mut labels = labels_of(&node);
        labels.retain(|key, _| !NODE_LABELS.contains(&key.as_str()));
        if let Some(metadata) = node["metadata"].as_object_mut() {
            metadata.remove("managedFields");
            metadata.insert("labels".to_owned(), json!(labels));
        }
        node
    };
    let is_same = attributes.old.is_some_and(|old| rest(old) == rest(node));
    let why = "aws-node can only update limited fields on the Node Object";
    (!is_same).then(|| denied("vnode.vpc.k8s.aws", why))
}

/// As the API server words a webhook's refusal.
fn denied(webhook: &str, why: &str) -> Status {
    let message = format!("admission webhook \"{webhook}\" denied the request: {why}");
    Status::new(StatusCode::FORBIDDEN, "Forbidden", message)
}

#[cfg(test)]
mod tests;
