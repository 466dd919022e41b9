//! What the API server knows of pods, Services and policies.

use std::{collections::BTreeMap, net::IpAddr};

use anyhow::Context;
use api_kube::policy_endpoint::PolicyEndpoint;
use ipnet::Ipv4Net;
use k8s_openapi::api::{
    apps::v1::DaemonSet,
    core::v1::{Container, Node, Pod, Service},
    discovery::v1::EndpointSlice,
};
use kube::{Api, Client, api::ListParams};

use super::parties::Party;

/// See the module.
pub(super) struct Cluster {
    pub(super) pods: Vec<Pod>,
    pub(super) nodes: Vec<Node>,
    pub(super) services: Vec<Service>,
    pub(super) slices: Vec<EndpointSlice>,
    /// `None`: no agent enforces them.
    pub(super) policies: Option<Vec<PolicyEndpoint>>,
    pub(super) is_strict: bool,
    pub(super) cni: Cni,
}

/// What of the VPC CNI's configuration shapes a packet's way.
#[derive(Debug, Default)]
pub(super) struct Cni {
    pub(super) is_external_snat: bool,
    pub(super) exclude_snat_cidrs: Vec<Ipv4Net>,
    /// Pods with branches stay on the node where they can (`POD_SECURITY_GROUP_ENFORCING_MODE`).
    pub(super) has_standard_branches: bool,
}

impl Cni {
    /// Whether all that the party sends and gets passes its branch, and with that its groups.
    pub(super) fn is_by_branch(&self, party: &Party) -> bool {
        party.has_branch && !self.has_standard_branches
    }
}

impl Cluster {
    pub(super) async fn read(client: &Client) -> anyhow::Result<Self> {
        let all = ListParams::default();
        let pods = Api::<Pod>::all(client.clone()).list(&all).await.context("the pods")?;
        let nodes = Api::<Node>::all(client.clone()).list(&all).await.context("the nodes")?;
        let services = Api::<Service>::all(client.clone()).list(&all).await.context("Services")?;
        let slices = Api::<EndpointSlice>::all(client.clone()).list(&all).await;
        let slices = slices.context("the EndpointSlices")?;
        let aws_node = Api::<DaemonSet>::namespaced(client.clone(), "kube-system");
        let aws_node = aws_node.get_opt("aws-node").await.context("the DaemonSet aws-node")?;
        let containers = containers(aws_node.as_ref());
        let has_agent = containers.iter().any(|it| it.name == "aws-eks-nodeagent");
        let policies = if has_agent { Some(policies(client).await?) } else { None };
        let env = environment(&containers);
        let flag = |name: &str| env.get(name).map(String::as_str);
        let excluded = flag("AWS_VPC_K8S_CNI_EXCLUDE_SNAT_CIDRS").unwrap_or_default();
        Ok(Self {
            pods: pods.items,
            nodes: nodes.items,
            services: services.items,
            slices: slices.items,
            policies,
            is_strict: flag("NETWORK_POLICY_ENFORCING_MODE") == Some("strict"),
            cni: Cni {
                has_standard_branches: flag("POD_SECURITY_GROUP_ENFORCING_MODE")
                    == Some("standard"),
                is_external_snat: flag("AWS_VPC_K8S_CNI_EXTERNALSNAT") == Some("true"),
                exclude_snat_cidrs: excluded
                    .split(',')
                    .filter_map(|it| it.trim().parse().ok())
                    .collect(),
            },
        })
    }

    /// Who has that address: a pod of its own, or a node.
    pub(super) fn party_at(&self, address: IpAddr) -> Option<Party> {
        let has_it = |it: &&Pod| !is_host(it) && pod_address(it) == Some(address);
        let running = self.pods.iter().filter(|it| !has_ended(it)).find(has_it);
        let pod = running.map(|it| self.pod_party(it));
        pod.or_else(|| {
            let node = self.nodes.iter().find(|it| node_addresses(it).contains(&address))?;
            Some(node_party(node))
        })
    }

    pub(super) fn pod_party(&self, pod: &Pod) -> Party {
        let metadata = &pod.metadata;
        let namespace = metadata.namespace.clone().unwrap_or_default();
        let node = pod.spec.as_ref().and_then(|it| it.node_name.clone());
        let host = node.as_ref().and_then(|name| self.node(name)).and_then(node_address);
        Party {
            name: format!("{namespace}/{}", metadata.name.clone().unwrap_or_default()),
            address: pod_address(pod),
            node,
            node_address: host,
            is_host: is_host(pod),
            has_branch: has_branch(pod),
        }
    }

    pub(super) fn node(&self, name: &str) -> Option<&Node> {
        self.nodes.iter().find(|it| it.metadata.name.as_deref() == Some(name))
    }
}

pub(super) fn node_party(node: &Node) -> Party {
    let name = node.metadata.name.clone().unwrap_or_default();
    let address = node_address(node);
    Party {
        name: format!("node/{name}"),
        address,
        node: Some(name),
        node_address: address,
        is_host: true,
        has_branch: false,
    }
}

async fn policies(client: &Client) -> anyhow::Result<Vec<PolicyEndpoint>> {
    let found = Api::<PolicyEndpoint>::all(client.clone()).list(&ListParams::default()).await;
    Ok(found.context("the PolicyEndpoints")?.items)
}

fn containers(set: Option<&DaemonSet>) -> Vec<Container> {
    let spec = set.and_then(|it| it.spec.as_ref()?.template.spec.as_ref());
    spec.map(|it| it.containers.clone()).unwrap_or_default()
}

fn environment(containers: &[Container]) -> BTreeMap<String, String> {
    let all = containers.iter().flat_map(|it| it.env.iter().flatten());
    all.filter_map(|it| Some((it.name.clone(), it.value.clone()?))).collect()
}

pub(super) fn is_host(pod: &Pod) -> bool {
    pod.spec.as_ref().and_then(|it| it.host_network) == Some(true)
}

fn has_branch(pod: &Pod) -> bool {
    let annotations = pod.metadata.annotations.as_ref();
    annotations.is_some_and(|it| it.contains_key("vpc.amazonaws.com/pod-eni"))
}

pub(super) fn has_ended(pod: &Pod) -> bool {
    let phase = pod.status.as_ref().and_then(|it| it.phase.as_deref());
    matches!(phase, Some("Succeeded" | "Failed"))
}

pub(super) fn pod_address(pod: &Pod) -> Option<IpAddr> {
    pod.status.as_ref()?.pod_ip.as_ref()?.parse().ok()
}

/// The first one is what it is known by.
fn node_address(node: &Node) -> Option<IpAddr> {
    node_addresses(node).first().copied()
}

pub(super) fn node_addresses(node: &Node) -> Vec<IpAddr> {
    let addresses = node.status.iter().flat_map(|it| it.addresses.iter().flatten());
    let own = addresses.filter(|it| it.type_ == "InternalIP");
    own.filter_map(|it| it.address.parse().ok()).collect()
}
