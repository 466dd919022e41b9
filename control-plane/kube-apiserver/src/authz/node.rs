//! The Node authorizer: a kubelet may read what its own pods need, and no more.
//!
//! Secrets, ConfigMaps, volumes and tokens are allowed only along the path from an object to a pod
//! that is bound to the node. Mirror pods open no path: a kubelet makes them itself, so it could
//! name any secret.
//!
//! Upstream: plugin/pkg/auth/authorizer/node, with `AuthorizeNodeWithSelectors` (on since 1.34).
//! Deviation: the graph is read from the pods of the namespace at each question instead of being
//! kept up to date.

use serde_json::{Value, json};

use super::{Decision, Objects, Rule, items, text};
use crate::request::{RequestInfo, UserInfo};

/// The name of the node that a user is, if it is one.
pub(crate) fn node_name(user: &UserInfo) -> Option<&str> {
    let name = user.username.strip_prefix("system:node:")?;
    (user.is_in("system:nodes") && !name.is_empty()).then_some(name)
}

pub(super) struct NodeAuthorizer<'a> {
    objects: &'a dyn Objects,
}

/// What a pod may lead to.
#[derive(Clone, Copy)]
enum Target<'a> {
    Secret(&'a str),
    ConfigMap(&'a str),
    Claim(&'a str),
    ServiceAccount(&'a str),
    ResourceClaim(&'a str),
}

impl<'a> Target<'a> {
    /// What stands in each pod that leads to it. An ephemeral volume's claim has a name that is made of
    /// two.
    fn word(self) -> Option<&'a str> {
        match self {
            Self::Claim(_) => None,
            Self::Secret(name)
            | Self::ConfigMap(name)
            | Self::ServiceAccount(name)
            | Self::ResourceClaim(name) => Some(name),
        }
    }
}

impl<'a> NodeAuthorizer<'a> {
    pub(super) fn new(objects: &'a dyn Objects) -> Self {
        Self { objects }
    }

    pub(super) fn authorize(&self, user: &UserInfo, info: &RequestInfo) -> Decision {
        let Some(node) = node_name(user) else {
            return Decision::NoOpinion(String::new());
        };
        if !info.is_resource {
            return Decision::NoOpinion(String::new());
        }
        let verdict = match (info.group.as_str(), info.resource.as_str()) {
            ("", "secrets") => self.read(node, info, Target::Secret(&info.name)),
            ("", "configmaps") => self.read(node, info, Target::ConfigMap(&info.name)),
            ("", "persistentvolumeclaims") if info.subresource == "status" => {
                self.write_status(node, info, Target::Claim(&info.name))
            }
            ("", "persistentvolumeclaims") => self.get(node, info, Target::Claim(&info.name)),
            ("", "persistentvolumes") => self.volume(node, info),
            ("", "serviceaccounts") if info.subresource == "token" => self.token(node, info),
            ("", "serviceaccounts") => self.get(node, info, Target::ServiceAccount(&info.name)),
            ("", "nodes") => own_node(node, info),
            ("", "pods") => self.pod(node, info),
            ("coordination.k8s.io", "leases") => own_lease(node, info),
            ("storage.k8s.io", "csinodes") => own_csi_node(node, info),
            ("storage.k8s.io", "volumeattachments") => self.attachment(node, info),
            ("resource.k8s.io", "resourceclaims") => {
                self.get(node, info, Target::ResourceClaim(&info.name))
            }
            ("resource.k8s.io", "resourceslices") => self.slice(node, info),
            _ => return by_rules(info),
        };
        match verdict {
            Ok(()) => Decision::Allow(String::new()),
            Err(reason) => Decision::NoOpinion(reason),
        }
    }

    /// `get`, `list` or `watch` of one named object.
    fn read(&self, node: &str, info: &RequestInfo, target: Target<'_>) -> Result<(), String> {
        if !matches!(info.verb.as_str(), "get" | "list" | "watch") {
            return Err("can only read resources of this type".into());
        }
        self.reach(node, info, target)
    }

    fn get(&self, node: &str, info: &RequestInfo, target: Target<'_>) -> Result<(), String> {
        if info.verb != "get" {
            return Err("can only get individual resources of this type".into());
        }
        self.reach(node, info, target)
    }

    fn write_status(
        &self,
        node: &str,
        info: &RequestInfo,
        target: Target<'_>,
    ) -> Result<(), String> {
        if !matches!(info.verb.as_str(), "update" | "patch") {
            return Err("can only get/update/patch this type".into());
        }
        let whole = RequestInfo { subresource: String::new(), ..info.clone() };
        self.reach(node, &whole, target)
    }

    fn token(&self, node: &str, info: &RequestInfo) -> Result<(), String> {
        if info.verb != "create" {
            return Err("can only create tokens for individual service accounts".into());
        }
        let account = RequestInfo { subresource: String::new(), ..info.clone() };
        self.reach(node, &account, Target::ServiceAccount(&info.name))
    }

    fn reach(&self, node: &str, info: &RequestInfo, target: Target<'_>) -> Result<(), String> {
        if !info.subresource.is_empty() {
            return Err("cannot read subresource".into());
        }
        if info.name.is_empty() {
            return Err("No Object name found".into());
        }
        if info.namespace.is_empty() {
            return Err("can only read namespaced object of this type".into());
        }
        self.a_pod_leads(node, &info.namespace, target)
    }

    fn volume(&self, node: &str, info: &RequestInfo) -> Result<(), String> {
        if info.verb != "get" || !info.subresource.is_empty() || info.name.is_empty() {
            return Err("can only get individual resources of this type".into());
        }
        let volume = self.objects.get("persistentvolumes", "", &info.name);
        let volume = volume.ok_or_else(|| no_relationship(node))?;
        let (namespace, claim) =
            (text(&volume, "/spec/claimRef/namespace"), text(&volume, "/spec/claimRef/name"));
        if namespace.is_empty() || claim.is_empty() {
            return Err(no_relationship(node));
        }
        self.a_pod_leads(node, namespace, Target::Claim(claim))
    }

    fn attachment(&self, node: &str, info: &RequestInfo) -> Result<(), String> {
        if info.verb != "get" || !info.subresource.is_empty() || info.name.is_empty() {
            return Err("can only get individual resources of this type".into());
        }
        let found = self.objects.get("volumeattachments.storage.k8s.io", "", &info.name);
        match found {
            Some(it) if text(&it, "/spec/nodeName") == node => Ok(()),
            _ => Err(no_relationship(node)),
        }
    }

    /// What the drivers on a node offer, whom the kubelet lends its name.
    fn slice(&self, node: &str, info: &RequestInfo) -> Result<(), String> {
        if !info.subresource.is_empty() {
            return Err("cannot authorize ResourceSlice subresources".into());
        }
        match info.verb.as_str() {
            // NodeRestriction looks at the object.
            "create" => Ok(()),
            "get" | "update" | "patch" | "delete" => {
                match self.objects.get("resourceslices.resource.k8s.io", "", &info.name) {
                    Some(it) if text(&it, "/spec/nodeName") == node => Ok(()),
                    _ => Err(no_relationship(node)),
                }
            }
            "list" | "watch" | "deletecollection" if selects_node(info, node) => Ok(()),
            "list" | "watch" | "deletecollection" => Err(
                "can only list/watch/deletecollection resourceslices with nodeName field selector"
                    .into(),
            ),
            _ => Err("only the following verbs are allowed for a ResourceSlice: get, watch, \
                      list, create, update, patch, delete, deletecollection"
                .into()),
        }
    }

    fn pod(&self, node: &str, info: &RequestInfo) -> Result<(), String> {
        match (info.subresource.as_str(), info.verb.as_str()) {
            // NodeRestriction looks at the object.
            ("", "create" | "delete") | ("status", "update" | "patch") => Ok(()),
            ("", "get") | ("eviction", "create") => {
                let pod = self.objects.get("pods", &info.namespace, &info.name);
                let is_own = pod.is_some_and(|pod| text(&pod, "/spec/nodeName") == node);
                if is_own { Ok(()) } else { Err(no_relationship(node)) }
            }
            ("", "list" | "watch") => {
                if selects_node(info, node) {
                    return Ok(());
                }
                Err("can only list/watch pods with spec.nodeName field selector".into())
            }
            ("" | "status" | "eviction", verb) => Err(format!("cannot {verb} pods as a node")),
            (subresource, _) => Err(format!("unsupported pod subresource {subresource}")),
        }
    }

    /// Whether a pod on the node needs it.
    fn a_pod_leads(&self, node: &str, namespace: &str, target: Target<'_>) -> Result<(), String> {
        let words: Vec<_> = std::iter::once(node).chain(target.word()).collect();
        let mut leads = |pod: &Value| {
            text(pod, "/spec/nodeName") == node
                && pod.pointer("/metadata/annotations/kubernetes.io~1config.mirror").is_none()
                && leads_to(pod, target)
        };
        if self.objects.any_mentioning("pods", namespace, &words, &mut leads) {
            return Ok(());
        }
        Err(no_relationship(node))
    }
}

/// Whether only objects of this node are asked for.
fn selects_node(info: &RequestInfo, node: &str) -> bool {
    let selects = |term: &str| {
        let (field, value) = term.split_once('=').unwrap_or((term, ""));
        field == "spec.nodeName" && value.trim_start_matches('=') == node
    };
    info.field_selector.split(',').any(selects)
}

fn no_relationship(node: &str) -> String {
    format!("no relationship found between node '{node}' and this object")
}

fn own_node(node: &str, info: &RequestInfo) -> Result<(), String> {
    match (info.subresource.as_str(), info.verb.as_str()) {
        // NodeRestriction looks at the object.
        ("", "create" | "update" | "patch") | ("status", "update" | "patch") => Ok(()),
        ("", "get" | "list" | "watch") if info.name == node => Ok(()),
        ("", "list" | "watch") if info.name.is_empty() => {
            Err(format!("node '{node}' cannot read all nodes, only its own Node object"))
        }
        ("", "get" | "list" | "watch") => {
            let other = &info.name;
            Err(format!("node '{node}' cannot read '{other}', only its own Node object"))
        }
        _ => Err(String::new()),
    }
}

fn own_lease(node: &str, info: &RequestInfo) -> Result<(), String> {
    let verbs = ["get", "create", "update", "patch", "delete"];
    if !verbs.contains(&info.verb.as_str()) {
        return Err("can only get, create, update, patch, or delete a node lease".into());
    }
    if info.namespace != "kube-node-lease" {
        return Err("can only access leases in the \"kube-node-lease\" system namespace".into());
    }
    if info.verb != "create" && info.name != node {
        return Err("can only access node lease with the same name as the requesting node".into());
    }
    Ok(())
}

fn own_csi_node(node: &str, info: &RequestInfo) -> Result<(), String> {
    let verbs = ["get", "create", "update", "patch", "delete"];
    if !verbs.contains(&info.verb.as_str()) {
        return Err("can only get, create, update, patch, or delete a CSINode".into());
    }
    if !info.subresource.is_empty() {
        return Err("cannot authorize CSINode subresources".into());
    }
    if info.verb != "create" && info.name != node {
        return Err("can only access CSINode with the same name as the requesting node".into());
    }
    Ok(())
}

/// Upstream: `bootstrappolicy.NodeRules`, without what is decided above.
fn by_rules(info: &RequestInfo) -> Decision {
    let rule = |groups: &[&str], resources: &[&str], verbs: &[&str]| -> Rule {
        let rule = json!({"apiGroups": groups, "resources": resources, "verbs": verbs});
        serde_json::from_value(rule).expect("the literal above is a rule")
    };
    let rules = [
        rule(&["authentication.k8s.io"], &["tokenreviews"], &["create"]),
        rule(
            &["authorization.k8s.io"],
            &["subjectaccessreviews", "localsubjectaccessreviews"],
            &["create"],
        ),
        rule(&[""], &["services"], &["get", "list", "watch"]),
        rule(&["", "events.k8s.io"], &["events"], &["create", "patch", "update"]),
        rule(
            &["certificates.k8s.io"],
            &["certificatesigningrequests"],
            &["create", "get", "list", "watch"],
        ),
        rule(&["certificates.k8s.io"], &["clustertrustbundles"], &["get", "list", "watch"]),
        rule(&["storage.k8s.io"], &["csidrivers"], &["get", "list", "watch"]),
        rule(&["node.k8s.io"], &["runtimeclasses"], &["get", "list", "watch"]),
        rule(&[""], &["endpoints"], &["get"]),
    ];
    if rules.iter().any(|rule| rule.allows(info)) {
        return Decision::Allow(String::new());
    }
    Decision::NoOpinion(String::new())
}

// === What a pod refers to ===

fn leads_to(pod: &Value, target: Target<'_>) -> bool {
    match target {
        Target::ServiceAccount(name) => text(pod, "/spec/serviceAccountName") == name,
        Target::Claim(name) => volumes(pod).any(|volume| claim_of(pod, volume) == name),
        Target::ResourceClaim(name) => resource_claims(pod).any(|it| it == name),
        Target::Secret(name) => refers(pod, &SECRET, name),
        Target::ConfigMap(name) => refers(pod, &CONFIG_MAP, name),
    }
}

/// Where a pod names Secrets or ConfigMaps.
struct References {
    volume: &'static [&'static str],
    projected: &'static str,
    env: &'static str,
    env_from: &'static str,
    pull: bool,
}

const SECRET: References = References {
    volume: &[
        "/secret/secretName",
        "/csi/nodePublishSecretRef/name",
        "/iscsi/secretRef/name",
        "/rbd/secretRef/name",
        "/cephfs/secretRef/name",
        "/flexVolume/secretRef/name",
        "/azureFile/secretName",
        "/scaleIO/secretRef/name",
        "/storageos/secretRef/name",
    ],
    projected: "/secret/name",
    env: "/valueFrom/secretKeyRef/name",
    env_from: "/secretRef/name",
    pull: true,
};

const CONFIG_MAP: References = References {
    volume: &["/configMap/name"],
    projected: "/configMap/name",
    env: "/valueFrom/configMapKeyRef/name",
    env_from: "/configMapRef/name",
    pull: false,
};

fn refers(pod: &Value, places: &References, name: &str) -> bool {
    let names = |value: &Value, pointer: &str| text(value, pointer) == name;
    let in_volume = |volume: &Value| {
        places.volume.iter().any(|pointer| names(volume, pointer))
            || items(volume, "/projected/sources").iter().any(|it| names(it, places.projected))
    };
    let in_container = |container: &Value| {
        items(container, "/env").iter().any(|it| names(it, places.env))
            || items(container, "/envFrom").iter().any(|it| names(it, places.env_from))
    };
    volumes(pod).any(in_volume)
        || containers(pod).any(in_container)
        || (places.pull && items(pod, "/spec/imagePullSecrets").iter().any(|it| names(it, "/name")))
}

fn volumes(pod: &Value) -> impl Iterator<Item = &Value> {
    items(pod, "/spec/volumes").iter()
}

fn containers(pod: &Value) -> impl Iterator<Item = &Value> {
    ["/spec/containers", "/spec/initContainers", "/spec/ephemeralContainers"]
        .into_iter()
        .flat_map(|pointer| items(pod, pointer))
}

/// Those that the pod names, and those that were made for it.
fn resource_claims(pod: &Value) -> impl Iterator<Item = &str> {
    let entries = items(pod, "/spec/resourceClaims").iter();
    let made = items(pod, "/status/resourceClaimStatuses").iter();
    let extended = text(pod, "/status/extendedResourceClaimStatus/resourceClaimName");
    let named = entries.chain(made).map(|it| text(it, "/resourceClaimName"));
    named.chain([extended]).filter(|it| !it.is_empty())
}

fn claim_of(pod: &Value, volume: &Value) -> String {
    if volume.get("ephemeral").is_some() {
        return format!("{}-{}", text(pod, "/metadata/name"), text(volume, "/name"));
    }
    text(volume, "/persistentVolumeClaim/claimName").to_owned()
}

#[cfg(test)]
mod tests;
