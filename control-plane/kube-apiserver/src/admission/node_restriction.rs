//! NodeRestriction: what a node may write, where the Node authorizer could only see the path.
//!
//! Upstream: plugin/pkg/admission/noderestriction.
//! Deviation: no dynamic kubelet configuration, no resizing of claims.

use std::collections::BTreeSet;

use base64::{Engine, engine::general_purpose::STANDARD};
use serde_json::Value;

use super::{Attributes, Operation};
use crate::{
    authz::{Objects, items, node_name, text},
    request::{RequestInfo, UserInfo},
    status::Status,
};

const RESTRICTED: &str = "node-restriction.kubernetes.io";

/// Upstream: pkg/kubelet/apis/well_known_labels.go.
const KUBELET_LABELS: [&str; 13] = [
    "kubernetes.io/hostname",
    "kubernetes.io/arch",
    "kubernetes.io/os",
    "topology.kubernetes.io/zone",
    "topology.kubernetes.io/region",
    "failure-domain.beta.kubernetes.io/zone",
    "failure-domain.beta.kubernetes.io/region",
    "node.kubernetes.io/instance-type",
    "node.kubernetes.io/windows-build",
    "beta.kubernetes.io/instance-type",
    "beta.kubernetes.io/os",
    "beta.kubernetes.io/arch",
    "failure-domain.kubernetes.io/zone",
];
const KUBELET_LABEL_NAMESPACES: [&str; 2] = ["kubelet.kubernetes.io", "node.kubernetes.io"];

type Verdict = Result<(), String>;

pub(super) fn check(
    objects: &dyn Objects,
    attributes: &Attributes<'_>,
    object: &Value,
) -> Result<(), Status> {
    if !attributes.user.is_in("system:nodes") {
        return Ok(());
    }
    let Some(node) = node_name(attributes.user) else {
        let why = format!("could not determine node from user {:?}", attributes.user.username);
        return Err(attributes.forbidden(object, &why));
    };
    let info = attributes.info;
    let verdict = match (info.group.as_str(), info.resource.as_str(), info.subresource.as_str()) {
        ("", "pods", "") => pod(objects, attributes, node, object),
        ("", "pods", "status") => pod_status(attributes, node, object),
        ("", "pods", "eviction") => eviction(objects, info, node, object),
        ("", "nodes", "" | "status") => node_object(attributes, node, object),
        ("coordination.k8s.io", "leases", "") => lease(info, node, object),
        ("storage.k8s.io", "csinodes", "") => csi_node(node, info, object),
        ("resource.k8s.io", "resourceslices", "") => slice(attributes, node, object),
        ("certificates.k8s.io", "certificatesigningrequests", "") => {
            signing_request(attributes, node, object)
        }
        _ => Ok(()),
    };
    verdict.map_err(|why| attributes.forbidden(object, &why))
}

// === Pods ===

fn pod(objects: &dyn Objects, attributes: &Attributes<'_>, node: &str, object: &Value) -> Verdict {
    match attributes.operation {
        Operation::Create => new_pod(objects, node, object),
        Operation::Delete if text(object, "/spec/nodeName") == node => Ok(()),
        Operation::Delete => {
            Err(format!("node {node:?} can only delete pods with spec.nodeName set to itself"))
        }
        // Nobody updates a pod as a whole by way of being its node.
        Operation::Update => Err("unexpected operation UPDATE".to_owned()),
    }
}

/// A node makes mirror pods of its own static pods, and those refer to nothing.
fn new_pod(objects: &dyn Objects, node: &str, pod: &Value) -> Verdict {
    if pod.pointer("/metadata/annotations/kubernetes.io~1config.mirror").is_none() {
        return Err(format!(
            "pod does not have \"kubernetes.io/config.mirror\" annotation, node {node:?} can only \
             create mirror pods"
        ));
    }
    if text(pod, "/spec/nodeName") != node {
        return Err(format!("node {node:?} can only create pods with spec.nodeName set to itself"));
    }
    check_owner(objects, node, pod)?;
    if !text(pod, "/spec/serviceAccountName").is_empty() {
        return Err(format!("node {node:?} can not create pods that reference a service account"));
    }
    let spec = pod.get("spec").unwrap_or(&Value::Null);
    for (keys, what) in [
        (&["secret", "secretName", "secretRef", "secretKeyRef", "imagePullSecrets"][..], "secrets"),
        (&["configMap", "configMapRef", "configMapKeyRef"], "configmaps"),
        (&["persistentVolumeClaim", "ephemeral"], "persistentvolumeclaims"),
        (&["serviceAccountToken"], "service account tokens"),
        (&["resourceClaims"], "resourceclaims"),
    ] {
        if mentions(spec, keys) {
            return Err(format!("node {node:?} can not create pods that reference {what}"));
        }
    }
    Ok(())
}

/// A node offers its own devices only. Of an update the Node authorizer has seen whose slice it is, and
/// that it stays so is a matter of validation.
fn slice(attributes: &Attributes<'_>, node: &str, object: &Value) -> Verdict {
    let verb = match attributes.operation {
        Operation::Create => "create",
        Operation::Delete => "delete",
        Operation::Update => return Ok(()),
    };
    if text(object, "/spec/nodeName") == node {
        return Ok(());
    }
    Err(format!("can only {verb} ResourceSlice with the same NodeName as the requesting node"))
}

fn check_owner(objects: &dyn Objects, node: &str, pod: &Value) -> Verdict {
    let owners = items(pod, "/metadata/ownerReferences");
    let [owner] = owners else {
        return Err(format!(
            "node {node:?} can only create pods with an owner reference set to itself"
        ));
    };
    let is_itself = text(owner, "/apiVersion") == "v1"
        && text(owner, "/kind") == "Node"
        && text(owner, "/name") == node
        && owner["controller"] == true
        && owner["blockOwnerDeletion"] != true;
    let uid = text(owner, "/uid");
    let is_current = objects
        .get("nodes", "", node)
        .is_some_and(|it| !uid.is_empty() && text(&it, "/metadata/uid") == uid);
    if is_itself && is_current {
        return Ok(());
    }
    Err(format!("node {node:?} can only create pods with an owner reference set to itself"))
}

/// Whether any of the keys occurs, at any depth, with something in it.
fn mentions(value: &Value, keys: &[&str]) -> bool {
    match value {
        Value::Object(fields) => fields.iter().any(|(key, value)| {
            let is_empty = value.is_null() || value.as_array().is_some_and(Vec::is_empty);
            (keys.contains(&key.as_str()) && !is_empty) || mentions(value, keys)
        }),
        Value::Array(values) => values.iter().any(|value| mentions(value, keys)),
        _ => false,
    }
}

fn pod_status(attributes: &Attributes<'_>, node: &str, object: &Value) -> Verdict {
    // What is stored decides; the object that came may say anything.
    let stored = attributes.old.unwrap_or(object);
    if text(stored, "/spec/nodeName") != node {
        return Err(format!(
            "node {node:?} can only update pod status for pods with spec.nodeName set to itself"
        ));
    }
    if stored.pointer("/metadata/labels") != object.pointer("/metadata/labels") {
        return Err(format!("node {node:?} can not update labels through pod status"));
    }
    Ok(())
}

fn eviction(objects: &dyn Objects, info: &RequestInfo, node: &str, eviction: &Value) -> Verdict {
    let named = match text(eviction, "/metadata/name") {
        "" => info.name.as_str(),
        name => name,
    };
    let is_own = |name: &str| {
        let pod = objects.get("pods", &info.namespace, name);
        pod.is_some_and(|pod| text(&pod, "/spec/nodeName") == node)
    };
    if named == info.name && is_own(named) {
        return Ok(());
    }
    Err(format!("node {node} can only evict pods with spec.nodeName set to itself"))
}

// === Nodes ===

fn node_object(attributes: &Attributes<'_>, node: &str, object: &Value) -> Verdict {
    let named = match text(object, "/metadata/name") {
        "" => attributes.info.name.as_str(),
        name => name,
    };
    if named != node {
        return Err(format!("node {node:?} is not allowed to modify node {named:?}"));
    }
    let forbidden = forbidden_labels(&changed_labels(attributes.old, object));
    match attributes.operation {
        Operation::Create if !forbidden.is_empty() => Err(format!(
            "node {node:?} is not allowed to set the following labels: {}",
            forbidden.join(", ")
        )),
        Operation::Create if !items(object, "/metadata/ownerReferences").is_empty() => {
            Err(format!("node {node:?} is not allowed to set ownerReferences"))
        }
        Operation::Create => Ok(()),
        Operation::Update => node_update(attributes, node, object, &forbidden),
        Operation::Delete => Err(format!("node {node:?} is not allowed to delete node {named:?}")),
    }
}

fn node_update(
    attributes: &Attributes<'_>,
    node: &str,
    object: &Value,
    forbidden: &[String],
) -> Verdict {
    if !forbidden.is_empty() {
        let labels = forbidden.join(", ");
        return Err(format!("is not allowed to modify labels: {labels}"));
    }
    let differs = |pointer: &str| {
        let old = attributes.old.map(|old| items(old, pointer)).unwrap_or_default();
        old != items(object, pointer)
    };
    if differs("/spec/taints") {
        return Err(format!("node {node:?} is not allowed to modify taints"));
    }
    if differs("/metadata/ownerReferences") {
        return Err(format!("node {node:?} is not allowed to modify ownerReferences"));
    }
    Ok(())
}

fn changed_labels(old: Option<&Value>, new: &Value) -> BTreeSet<String> {
    let labels = |object: &Value| {
        let labels = object.pointer("/metadata/labels").and_then(Value::as_object);
        labels.cloned().unwrap_or_default()
    };
    let (old, new) = (old.map(labels).unwrap_or_default(), labels(new));
    let all = old.keys().chain(new.keys());
    all.filter(|key| old.get(*key) != new.get(*key)).cloned().collect()
}

fn forbidden_labels(changed: &BTreeSet<String>) -> Vec<String> {
    changed.iter().filter(|label| is_forbidden(label)).cloned().collect()
}

fn is_forbidden(label: &str) -> bool {
    let namespace = label.split_once('/').map_or("", |(namespace, _)| namespace);
    let is_within = |parent: &str| {
        namespace == parent
            || namespace.strip_suffix(parent).is_some_and(|head| head.ends_with('.'))
    };
    if is_within(RESTRICTED) {
        return true;
    }
    let is_kubernetes = is_within("kubernetes.io") || is_within("k8s.io");
    let is_kubelets = KUBELET_LABELS.contains(&label)
        || KUBELET_LABEL_NAMESPACES.iter().any(|namespace| is_within(namespace));
    is_kubernetes && !is_kubelets
}

// === The rest ===

fn lease(info: &RequestInfo, node: &str, lease: &Value) -> Verdict {
    if info.namespace != "kube-node-lease" {
        return Err("can only access leases in the \"kube-node-lease\" system namespace".to_owned());
    }
    own_name(
        node,
        info,
        lease,
        "can only access node lease with the same name as the requesting node",
    )
}

fn csi_node(node: &str, info: &RequestInfo, object: &Value) -> Verdict {
    own_name(
        node,
        info,
        object,
        "can only access CSINode with the same name as the requesting node",
    )
}

fn own_name(node: &str, info: &RequestInfo, object: &Value, why: &str) -> Verdict {
    let named = match text(object, "/metadata/name") {
        "" => info.name.as_str(),
        name => name,
    };
    if named == node { Ok(()) } else { Err(why.to_owned()) }
}

fn signing_request(attributes: &Attributes<'_>, node: &str, object: &Value) -> Verdict {
    let signer = text(object, "/spec/signerName");
    let is_nodes = matches!(
        signer,
        "kubernetes.io/kubelet-serving" | "kubernetes.io/kube-apiserver-client-kubelet"
    );
    if attributes.operation != Operation::Create || !is_nodes {
        return Ok(());
    }
    let unreadable = || "unable to parse csr".to_owned();
    let pem = STANDARD.decode(text(object, "/spec/request")).map_err(|_| unreadable())?;
    let pem = String::from_utf8(pem).map_err(|_| unreadable())?;
    let contents = pki::parse_csr(&pem).map_err(|_| unreadable())?;
    let expected = format!("system:node:{node}");
    if contents.subject.common_name == expected {
        return Ok(());
    }
    Err(format!("can only create a node CSR with CN={expected}"))
}

/// A node asks for tokens only on behalf of a pod of its own, and for audiences that the pod names or that
/// somebody allowed it (`allowed`, `ServiceAccountNodeAudienceRestriction`).
pub(crate) fn check_token(
    objects: &dyn Objects,
    user: &UserInfo,
    info: &RequestInfo,
    request: &Value,
    allowed: &[String],
) -> Result<(), Status> {
    let Some(node) = node_name(user) else { return Ok(()) };
    let refused = |why: &str| Err(Status::forbidden("serviceaccounts", &info.name, why));
    let bound = request.pointer("/spec/boundObjectRef").unwrap_or(&Value::Null);
    let (kind, name, uid) = (text(bound, "/kind"), text(bound, "/name"), text(bound, "/uid"));
    if text(bound, "/apiVersion") != "v1" || kind != "Pod" || name.is_empty() {
        return refused("node requested token not bound to a pod");
    }
    if uid.is_empty() {
        return refused("node requested token with a pod binding without a uid");
    }
    let pod = objects.get("pods", &info.namespace, name);
    let Some(pod) = pod else { return Err(Status::not_found("pods", name)) };
    if text(&pod, "/metadata/uid") != uid {
        let found = text(&pod, "/metadata/uid");
        let why = format!(
            "the UID in the bound object reference ({uid}) does not match the UID in record \
             ({found}). The object might have been deleted and then recreated"
        );
        return Err(Status::conflict("pods", name, &why));
    }
    if text(&pod, "/spec/nodeName") != node {
        return refused("node requested token bound to a pod scheduled on a different node");
    }
    for audience in items(request, "/spec/audiences").iter().filter_map(Value::as_str) {
        let is_allowed = || allowed.iter().any(|it| it == audience);
        let is_named =
            || projects(&pod, audience) || drivers_ask(objects, &pod, audience) || is_allowed();
        if !audience.is_empty() && !is_named() {
            let why = format!("audience {audience:?} not found in pod spec volume");
            return refused(&why);
        }
    }
    Ok(())
}

fn projects(pod: &Value, audience: &str) -> bool {
    let sources = items(pod, "/spec/volumes").iter().flat_map(|it| items(it, "/projected/sources"));
    let mut audiences = sources.map(|source| text(source, "/serviceAccountToken/audience"));
    audiences.any(|it| it == audience)
}

/// Whether a CSI driver of one of the pod's volumes asks for tokens for this audience.
fn drivers_ask(objects: &dyn Objects, pod: &Value, audience: &str) -> bool {
    let asks = |driver: &str| {
        let driver = objects.get("csidrivers.storage.k8s.io", "", driver);
        driver.is_some_and(|it| {
            items(&it, "/spec/tokenRequests").iter().any(|it| text(it, "/audience") == audience)
        })
    };
    items(pod, "/spec/volumes").iter().any(|volume| match driver_of(objects, pod, volume) {
        Some(driver) => asks(&driver),
        None => false,
    })
}

/// The CSI driver of a volume: its own, or that of the persistent volume that its claim is bound to.
fn driver_of(objects: &dyn Objects, pod: &Value, volume: &Value) -> Option<String> {
    let inline = text(volume, "/csi/driver");
    if !inline.is_empty() {
        return Some(inline.to_owned());
    }
    let claim = if volume.get("ephemeral").is_some() {
        format!("{}-{}", text(pod, "/metadata/name"), text(volume, "/name"))
    } else {
        text(volume, "/persistentVolumeClaim/claimName").to_owned()
    };
    if claim.is_empty() {
        return None;
    }
    let namespace = text(pod, "/metadata/namespace");
    let claim = objects.get("persistentvolumeclaims", namespace, &claim)?;
    let found = objects.get("persistentvolumes", "", text(&claim, "/spec/volumeName"))?;
    let driver = text(&found, "/spec/csi/driver");
    (!driver.is_empty()).then(|| driver.to_owned())
}

#[cfg(test)]
mod tests;
