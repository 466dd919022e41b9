//! What is known of where pods run: instances, agents, associations, service accounts.

use std::collections::{BTreeMap, BTreeSet};

use anyhow::Context;
use aws_ec2::instance::{DescribeInstances, DescribeInstancesRequest};
use aws_eks::{
    DescribeCluster, DescribeClusterRequest, DescribePodIdentityAssociation,
    DescribePodIdentityAssociationRequest, ListPodIdentityAssociations,
    ListPodIdentityAssociationsRequest, PodIdentityAssociationSummary,
};
use aws_wire::Client as Aws;
use k8s_openapi::api::core::v1::{Node, Pod, ServiceAccount};
use kube::{Api, Client, ResourceExt, api::ListParams};
use serde::Serialize;

use crate::{admin::DaemonStatus, iam::Iam};

/// The label of the Pod Identity agent's pods.
const AGENT: &str = "app.kubernetes.io/name=eks-pod-identity-agent";
const ANNOTATION: &str = "eks.amazonaws.com/role-arn";

/// Namespace and name.
type Account = (String, String);

/// See the module.
#[derive(Clone, Debug, Default)]
pub(crate) struct Facts {
    /// `https://oidc.eks.…`, of the cluster's tokens.
    pub(crate) issuer: String,
    pub(crate) account: String,
    pub(crate) cluster_name: String,
    pub(crate) cluster_arn: String,
    /// By their node's name.
    pub(crate) instances: BTreeMap<String, Instance>,
    /// The names of nodes where the agent runs.
    pub(crate) agents: BTreeSet<String>,
    pub(crate) associations: BTreeMap<Account, Association>,
    /// Service accounts that ask for a role by annotation.
    pub(crate) annotated: BTreeMap<Account, String>,
}

/// A node's instance.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Instance {
    pub(crate) id: String,
    /// The name of its role.
    pub(crate) role: Option<String>,
    pub(crate) has_endpoint: bool,
    pub(crate) requires_tokens: bool,
    pub(crate) hop_limit: i64,
}

/// A Pod Identity association.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Association {
    pub(crate) id: String,
    pub(crate) role: Option<String>,
    /// The role that the first one assumes for the pod.
    pub(crate) target: Option<String>,
    /// Whether its sessions have tags, which the role must trust EKS with too.
    pub(crate) has_tags: bool,
}

impl Facts {
    /// What is known for these pods of this cluster.
    pub(crate) async fn read(
        client: &Client,
        aws: &Aws,
        status: &DaemonStatus,
        cluster: &str,
        pods: &[&Pod],
    ) -> anyhow::Result<Self> {
        let nodes = Api::<Node>::all(client.clone()).list(&ListParams::default()).await;
        let nodes = nodes.context("cannot list the nodes")?.items;
        let selector = ListParams::default().labels(AGENT);
        let agents = Api::<Pod>::all(client.clone()).list(&selector).await;
        let agents = agents.context("cannot list the agents of Pod Identity")?.items;
        let request = DescribeClusterRequest { name: cluster.to_owned() };
        let described = aws.call::<DescribeCluster>(request).await?.cluster.unwrap_or_default();
        let oidc = described.identity.and_then(|it| it.oidc);
        Ok(Self {
            issuer: oidc.and_then(|it| it.issuer).unwrap_or_default(),
            account: status.account.clone(),
            cluster_arn: described.arn,
            cluster_name: cluster.to_owned(),
            instances: instances(aws, &nodes).await?,
            agents: agents.iter().filter(|it| is_ready(it)).filter_map(node_of).collect(),
            associations: associations(aws, cluster, pods).await?,
            annotated: annotated(client, pods).await?,
        })
    }

    /// The ARN of the identity provider that this cluster's tokens need.
    pub(crate) fn provider(&self) -> String {
        let issuer = self.issuer.trim_start_matches("https://");
        format!("arn:aws:iam::{}:oidc-provider/{issuer}", self.account)
    }
}

fn is_ready(pod: &Pod) -> bool {
    let conditions = pod.status.as_ref().and_then(|it| it.conditions.as_ref());
    conditions.into_iter().flatten().any(|it| it.type_ == "Ready" && it.status == "True")
}

fn node_of(pod: &Pod) -> Option<String> {
    pod.spec.as_ref()?.node_name.clone()
}

async fn instances(aws: &Aws, nodes: &[Node]) -> anyhow::Result<BTreeMap<String, Instance>> {
    let id = |it: &Node| {
        let provider = it.spec.as_ref()?.provider_id.clone()?;
        provider.rsplit('/').next().filter(|it| it.starts_with("i-")).map(str::to_owned)
    };
    let ids: BTreeMap<String, String> =
        nodes.iter().filter_map(|it| Some((id(it)?, it.name_any()))).collect();
    let iam = Iam::new(aws.clone());
    let (mut found, mut roles) = (BTreeMap::new(), BTreeMap::new());
    let mut next_token = None;
    loop {
        let request = DescribeInstancesRequest { next_token, ..Default::default() };
        let page = aws.call::<DescribeInstances>(request).await?;
        for it in page.reservations.into_iter().flat_map(|it| it.instances) {
            let Some((id, node)) = it.instance_id.as_ref().and_then(|it| ids.get_key_value(it))
            else {
                continue;
            };
            let role = match it.iam_instance_profile.and_then(|it| it.arn) {
                None => None,
                Some(arn) => match roles.get(&arn) {
                    Some(known) => Option::clone(known),
                    None => {
                        let role = iam.role_of_profile(&arn).await?;
                        roles.insert(arn, role.clone());
                        role
                    }
                },
            };
            let options = it.metadata_options.unwrap_or_default();
            let instance = Instance {
                id: id.clone(),
                role,
                has_endpoint: options.http_endpoint.as_deref() != Some("disabled"),
                requires_tokens: options.http_tokens.as_deref() == Some("required"),
                hop_limit: options.http_put_response_hop_limit.unwrap_or(1),
            };
            found.insert(node.clone(), instance);
        }
        next_token = page.next_token.filter(|it| !it.is_empty());
        if next_token.is_none() {
            return Ok(found);
        }
    }
}

async fn associations(
    aws: &Aws,
    cluster: &str,
    pods: &[&Pod],
) -> anyhow::Result<BTreeMap<Account, Association>> {
    let listed = listed(aws, cluster).await?;
    let accounts: BTreeSet<Account> = pods.iter().map(|it| account_of(it)).collect();
    let mut found = BTreeMap::new();
    for it in listed {
        let account = (it.namespace, it.service_account);
        if !accounts.contains(&account) {
            continue;
        }
        let request = DescribePodIdentityAssociationRequest {
            cluster_name: cluster.to_owned(),
            association_id: it.association_id.clone(),
        };
        let described = aws.call::<DescribePodIdentityAssociation>(request).await?.association;
        let described = described.unwrap_or_default();
        let association = Association {
            id: it.association_id,
            role: Some(described.role_arn).filter(|it| !it.is_empty()),
            target: described.target_role_arn,
            has_tags: described.disable_session_tags != Some(true),
        };
        found.insert(account, association);
    }
    Ok(found)
}

/// All associations of the cluster.
async fn listed(aws: &Aws, cluster: &str) -> anyhow::Result<Vec<PodIdentityAssociationSummary>> {
    let mut request = ListPodIdentityAssociationsRequest {
        cluster_name: cluster.to_owned(),
        ..Default::default()
    };
    let mut found = Vec::new();
    loop {
        let page = aws.call::<ListPodIdentityAssociations>(request.clone()).await?;
        found.extend(page.associations);
        request.next_token = page.next_token.filter(|it| !it.is_empty());
        if request.next_token.is_none() {
            return Ok(found);
        }
    }
}

fn account_of(pod: &Pod) -> Account {
    let namespace = pod.namespace().unwrap_or_else(|| "default".to_owned());
    (namespace, super::chain::service_account(pod).to_owned())
}

/// What the pods' service accounts ask for.
async fn annotated(client: &Client, pods: &[&Pod]) -> anyhow::Result<BTreeMap<Account, String>> {
    let accounts: BTreeSet<Account> = pods.iter().map(|it| account_of(it)).collect();
    let mut found = BTreeMap::new();
    for (namespace, name) in accounts {
        let api = Api::<ServiceAccount>::namespaced(client.clone(), &namespace);
        let role =
            api.get_opt(&name).await?.and_then(|it| it.annotations().get(ANNOTATION).cloned());
        if let Some(role) = role {
            found.insert((namespace, name), role);
        }
    }
    Ok(found)
}
