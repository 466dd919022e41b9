//! The steps that rest on the cluster.

use jiff::{SignedDuration, Timestamp};
use k8s_openapi::api::{
    certificates::v1::CertificateSigningRequest,
    core::v1::{ContainerStatus, Node, Pod},
};
use kube::ResourceExt;

use super::{
    Facts, Instance, Mapping, Verdict,
    aws::{complaint, plain},
    fails, good, unknown,
};

const NODES: &str = "system:nodes";
const USERNAME: &str = "system:node:{{EC2PrivateDNSName}}";
const ENTRY_TYPES: [&str; 4] = ["EC2_LINUX", "EC2_WINDOWS", "EC2", "HYBRID_LINUX"];
const SERVING: &str = "kubernetes.io/kubelet-serving";
/// How long the approver may take.
const PATIENCE: SignedDuration = SignedDuration::from_secs(60);

pub(super) fn mapping(facts: &Facts, instance: &Instance) -> Verdict {
    let Some(role) = &instance.role else { return unknown("there is no role") };
    let cluster = &facts.cluster;
    let arn = &role.arn;
    let create = format!(
        "aws eks create-access-entry --cluster-name {} --principal-arn {arn} --type EC2_LINUX",
        cluster.name
    );
    let map = format!(
        "map {arn} in the ConfigMap kube-system/aws-auth, with username {USERNAME} and the groups \
         system:bootstrappers and {NODES}"
    );
    let next = if cluster.has_entries { create } else { map };
    let Some(found) = &facts.known.mapping else {
        let refused = complaint(&instance.kubelet_log, &["unauthorized", "401"]);
        let heard = if refused.is_some() { ", and refuses its kubelet" } else { "" };
        let place = if cluster.has_entries { "no access entry" } else { "not mapped in aws-auth" };
        return fails(format!("the cluster does not know {arn} ({place}){heard}"), next);
    };
    match found {
        Mapping { entry: Some(kind), .. } if ENTRY_TYPES.contains(&kind.as_str()) => {
            good(format!("an access entry of type {kind}"))
        }
        Mapping { entry: Some(kind), .. } => fails(
            format!("the access entry of {arn} is of type {kind}, which makes no node of it"),
            format!(
                "aws eks delete-access-entry --cluster-name {} --principal-arn {arn}, then {next}",
                cluster.name
            ),
        ),
        Mapping { username, .. } if !username.starts_with("system:node:") => fails(
            format!("aws-auth maps {arn} to {username}, which is no node's name"),
            format!("its username must be {USERNAME}"),
        ),
        Mapping { groups, .. } if !groups.iter().any(|it| it == NODES) => fails(
            format!("aws-auth maps {arn} without the group {NODES}"),
            format!("add {NODES} and system:bootstrappers to its groups"),
        ),
        Mapping { .. } => good("aws-auth maps the role"),
    }
}

pub(super) fn registration(facts: &Facts) -> Verdict {
    match (&facts.known.node, &facts.instance) {
        (Some(node), _) => good(format!("Node {}", node.name_any())),
        (None, Some(instance)) if has_registered(&instance.kubelet_log) => fails(
            "its kubelet registered it, and somebody has deleted the Node since: a kubelet registers when it \
             starts, and not again",
            format!(
                "aws ec2 reboot-instances --instance-ids {0}, or terminate-instances to be rid of it",
                instance.id
            ),
        ),
        (None, Some(instance)) => {
            let said = complaint(&instance.kubelet_log, &[""]);
            let said = said.map(|it| format!("; the kubelet says: {it}")).unwrap_or_default();
            let next = format!("nodestead logs {}/kubelet", instance.id);
            fails(format!("there is no Node for it{said}"), next)
        }
        (None, None) => fails("there is no such Node", "kubectl get nodes"),
    }
}

/// Whether the kubelet says that it did, in the words of its `node::register`, for its last start.
fn has_registered(log: &str) -> bool {
    let mut lines = log.lines().rev().map(plain);
    let told = lines.find_map(|line| match line {
        line if line.contains("the node was not registered") => Some(false),
        line if line.contains("the node was registered before") => Some(true),
        line if line.contains(" registered node=") => Some(true),
        _ => None,
    });
    told.unwrap_or_default()
}

/// The kubelet's serving certificate: without one nobody sees logs.
pub(super) fn certificate(
    node: &Node,
    requests: &[CertificateSigningRequest],
    now: Timestamp,
) -> Verdict {
    let user = format!("system:node:{}", node.name_any());
    let mut own: Vec<_> = requests
        .iter()
        .filter(|it| it.spec.signer_name == SERVING && it.spec.username.as_ref() == Some(&user))
        .collect();
    own.sort_by_key(|it| it.metadata.creation_timestamp.as_ref().map(|it| it.0));
    let Some(last) = own.last() else {
        return unknown("no request is there any more (they go after an hour)");
    };
    let status = last.status.clone().unwrap_or_default();
    let name = last.name_any();
    let refused = status.conditions.iter().flatten().find(|it| it.type_ != "Approved");
    let is_approved = status.conditions.iter().flatten().any(|it| it.type_ == "Approved");
    let age = last.metadata.creation_timestamp.as_ref().map(|it| now.duration_since(it.0));
    match refused {
        Some(it) => fails(
            format!(
                "request {name} is {}: {}",
                it.type_,
                it.message.clone().or(it.reason.clone()).unwrap_or_default()
            ),
            format!("kubectl describe csr {name}"),
        ),
        None if status.certificate.is_some() => good(format!("request {name} is signed")),
        None if age.is_some_and(|it| it < PATIENCE) => unknown(format!("request {name} is new")),
        None => {
            let stage = if is_approved { "approved and not signed" } else { "not approved" };
            fails(format!("request {name} is {stage}"), format!("kubectl describe csr {name}"))
        }
    }
}

fn statuses(pod: &Pod) -> impl Iterator<Item = &ContainerStatus> {
    let status = pod.status.iter();
    status.flat_map(|it| {
        let init = it.init_container_statuses.iter().flatten();
        init.chain(it.container_statuses.iter().flatten())
    })
}

fn waiting(status: &ContainerStatus) -> Option<(String, String)> {
    let waiting = status.state.as_ref()?.waiting.as_ref()?;
    Some((waiting.reason.clone()?, waiting.message.clone().unwrap_or_default()))
}

/// Whether the node gets its images.
pub(super) fn registry(pods: &[Pod]) -> Verdict {
    const PULLS: [&str; 4] =
        ["ErrImagePull", "ImagePullBackOff", "InvalidImageName", "RegistryUnavailable"];
    for pod in pods {
        let stuck = statuses(pod).filter_map(|it| Some((it, waiting(it)?)));
        let stuck = stuck.into_iter().find(|(_, (reason, _))| PULLS.contains(&reason.as_str()));
        if let Some((status, (reason, message))) = stuck {
            let at = format!("{}/{}", pod.namespace().unwrap_or_default(), pod.name_any());
            return fails(
                format!("{at} waits for image {}: {reason} {message}", status.image),
                format!("nodestead explain pod {at}"),
            );
        }
    }
    match pods.iter().any(|it| statuses(it).any(|it| it.started == Some(true) || it.ready)) {
        true => good("images were pulled"),
        false => unknown("no container of the node has started yet"),
    }
}

fn condition<'a>(
    node: &'a Node,
    kind: &str,
) -> Option<&'a k8s_openapi::api::core::v1::NodeCondition> {
    let conditions = node.status.as_ref().and_then(|it| it.conditions.as_ref());
    conditions.into_iter().flatten().find(|it| it.type_ == kind)
}

pub(super) fn cni(node: &Node, pods: &[Pod]) -> Verdict {
    let message = condition(node, "Ready")
        .filter(|it| it.status == "False")
        .and_then(|it| it.message.clone())
        .unwrap_or_default();
    let is_missing = ["cni", "network plugin", "networkready"]
        .iter()
        .any(|it| message.to_ascii_lowercase().contains(it));
    if !is_missing {
        return good("the runtime has a network");
    }
    let Some(agent) = pods.iter().find(|it| it.name_any().starts_with("aws-node-")) else {
        return fails(
            "no CNI is configured, and no pod of aws-node is on the node",
            "kubectl -n kube-system get daemonset aws-node",
        );
    };
    let at = format!("kube-system/{}", agent.name_any());
    let why = statuses(agent).find_map(waiting);
    let restarts: i32 = statuses(agent).map(|it| it.restart_count).sum();
    let detail = match why {
        Some((reason, message)) => format!("{at} waits: {reason} {message}"),
        None if restarts > 0 => {
            format!("{at} does not become Ready and was restarted {restarts} times")
        }
        None => format!("{at} is not Ready yet"),
    };
    let next = format!("kubectl -n kube-system logs {} -c aws-node", agent.name_any());
    fails(format!("no CNI is configured: {}", detail.trim()), next)
}

pub(super) fn dns((pods, ready): (usize, usize)) -> Verdict {
    match (pods, ready) {
        (0, _) => fails(
            "the cluster has no pod of CoreDNS",
            "aws eks create-addon --addon-name coredns --cluster-name …",
        ),
        (_, 0) => fails(
            format!("none of {pods} pods of CoreDNS is Ready"),
            "kubectl -n kube-system get pods -l k8s-app=kube-dns",
        ),
        (pods, ready) => good(format!("{ready} of {pods} pods of CoreDNS are Ready")),
    }
}

pub(super) fn ready(node: &Node) -> Verdict {
    let Some(found) = condition(node, "Ready") else {
        return fails("the kubelet has not said anything of itself", "look again in a moment");
    };
    let said = || {
        let text = |it: &Option<String>| it.clone().unwrap_or_default();
        format!("{}: {}", text(&found.reason), text(&found.message))
    };
    match found.status.as_str() {
        "True" => good("the node is Ready"),
        "False" => fails(said(), format!("kubectl describe node {}", node.name_any())),
        _ => fails(
            format!("nothing is heard of the kubelet ({})", said()),
            "see whether the instance runs, and `nodestead logs INSTANCE/kubelet`",
        ),
    }
}
