//! A node full of idle pods, with all agents that EKS has for it.

use std::time::Duration;

use anyhow::ensure;
use k8s_openapi::api::apps::v1::Deployment;
use kube::Api;

use super::{Bed, LIMIT, many};
use crate::{memory, region::Region, rows::Row};

/// With what the node runs for itself, and CoreDNS if it is there, its maxPods (110).
const PODS: usize = 105;
const AGENTS: [&str; 2] =
    ["nodestead run network-policy-agent", "nodestead run eks-pod-identity-agent"];
/// What has just been done is not idleness.
const REST: Duration = Duration::from_secs(60);

pub(super) async fn rows(region: &Region, bed: &Bed) -> anyhow::Result<Vec<Row>> {
    region.addon("eks-pod-identity-agent", "{}")?;
    region.addon("vpc-cni", r#"{"enableNetworkPolicy":"true"}"#)?;
    let deadline = tokio::time::Instant::now() + LIMIT;
    while !memory::has_all(bed.instance.pid, &AGENTS) {
        ensure!(tokio::time::Instant::now() < deadline, "the agents do not run after {LIMIT:?}");
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
    // Nodes get new aws-node pods one after another.
    tokio::time::sleep(REST).await;
    let deployments = Api::<Deployment>::default_namespaced(bed.client.clone());
    many::ready(bed, &deployments, "idle", PODS, None).await?;
    tokio::time::sleep(REST).await;
    let (mib, cpu) = memory::of_a_node(bed.instance.pid)?;
    many::gone(bed, &deployments, "idle").await?;
    Ok(vec![Row::new(
        format!("kubelet, kube-proxy, CNI, agents, init of a node with {PODS} idle pods"),
        format!("{mib:.1} MiB, {cpu:.2} % of a core"),
        "upstream on another machine: 155 MiB for kubelet and kube-proxy",
        "40 MiB, 1 %",
    )])
}
