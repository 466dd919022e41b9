//! What a customer does at the AWS endpoint to get a cluster with nodes.

use std::{sync::Arc, time::Duration};

use anyhow::{Context, bail};
use aws_ec2::{
    common::Filter,
    subnet::{DescribeSubnets, DescribeSubnetsRequest},
};
use aws_eks::{
    AccessConfig, Cluster, CreateCluster, CreateClusterRequest, CreateNodegroup,
    CreateNodegroupRequest, DescribeCluster, DescribeClusterRequest, DescribeNodegroup,
    DescribeNodegroupRequest, Nodegroup, NodegroupScalingConfig, UpdateNodegroupConfig,
    UpdateNodegroupConfigRequest, VpcConfigRequest,
};
use aws_iam::{
    AttachRolePolicy, AttachRolePolicyRequest, CreateRole, CreateRoleRequest, GetRole,
    GetRoleRequest,
};
use aws_wire::{
    Client,
    client::{Config, Endpoints, Exchange},
};
use clock::Clock;
use k8s_openapi::api::core::v1::{Node, Pod};
use kube::{Api, api::ListParams};
use latency::Latency;
use serde_json::json;
use transport::Place;

use super::{
    STEP_LIMIT,
    nodes::{self, NODEGROUP, Step},
};
use crate::{
    admin::{Admin, DaemonStatus, InstanceStatus},
    failure::Failure,
    kubernetes,
    layout::{Layout, Settings},
    progress::Progress,
    root_key,
};

const CLUSTER_POLICIES: &[&str] = &["AmazonEKSClusterPolicy", "AmazonEKSVPCResourceController"];
const NODE_POLICIES: &[&str] =
    &["AmazonEKSWorkerNodePolicy", "AmazonEKS_CNI_Policy", "AmazonEC2ContainerRegistryReadOnly"];
/// AWS has no way to wait but to ask again.
const POLL: Duration = Duration::from_millis(100);

/// Nodes may take 15 minutes to drain; what cannot be drained is not waited for.
const DELETION_LIMIT: Duration = Duration::from_secs(20 * 60);

/// See the module.
pub(crate) struct Customer<'a> {
    client: Client,
    settings: &'a Settings,
}

pub(crate) struct Roles {
    cluster: String,
    node: String,
}

impl<'a> Customer<'a> {
    pub(crate) fn new(
        layout: &Layout,
        status: &DaemonStatus,
        settings: &'a Settings,
    ) -> anyhow::Result<Self> {
        let credentials = root_key::credentials(layout)?;
        let client = Client::new(Config {
            region: status.region.clone(),
            endpoints: Endpoints::single(&status.aws_endpoint),
            exchange: Exchange::http(Place::Here, None, Duration::from_secs(30)),
            credentials: Some(Arc::new(credentials)),
            clock: Clock::system(),
            attempts: 3,
        });
        Ok(Self { client, settings })
    }

    pub(crate) async fn ensure_roles(&self) -> anyhow::Result<Roles> {
        let name = &self.settings.name;
        let cluster = format!("{name}-cluster-role");
        let node = format!("{name}-node-role");
        Ok(Roles {
            cluster: self.ensure_role(&cluster, "eks.amazonaws.com", CLUSTER_POLICIES).await?,
            node: self.ensure_role(&node, "ec2.amazonaws.com", NODE_POLICIES).await?,
        })
    }

    /// The role's ARN.
    async fn ensure_role(
        &self,
        name: &str,
        service: &str,
        policies: &[&str],
    ) -> anyhow::Result<String> {
        let get = GetRoleRequest { role_name: name.to_owned() };
        let role = match self.client.call::<GetRole>(get).await {
            Ok(found) => found.role,
            Err(error) if error.is("NoSuchEntity") => {
                let trust = json!({"Version": "2012-10-17", "Statement": [{
                    "Effect": "Allow",
                    "Principal": {"Service": service},
                    "Action": "sts:AssumeRole",
                }]});
                let create = CreateRoleRequest {
                    role_name: name.to_owned(),
                    assume_role_policy_document: trust.to_string(),
                    ..Default::default()
                };
                self.client.call::<CreateRole>(create).await?.role
            }
            Err(error) => return Err(error).context(format!("looking for role `{name}`")),
        };
        for policy in policies {
            let attach = AttachRolePolicyRequest {
                role_name: name.to_owned(),
                policy_arn: format!("arn:aws:iam::aws:policy/{policy}"),
            };
            self.client.call::<AttachRolePolicy>(attach).await?;
        }
        Ok(role.arn)
    }

    pub(crate) async fn ensure_cluster(
        &self,
        roles: &Roles,
        progress: &Progress,
    ) -> anyhow::Result<()> {
        self.await_end("the cluster", progress, async || {
            Ok(self.cluster().await?.is_some_and(|it| it.status == "DELETING"))
        })
        .await?;
        if self.cluster().await?.is_none() {
            let request = CreateClusterRequest {
                name: self.settings.name.clone(),
                role_arn: roles.cluster.clone(),
                resources_vpc_config: VpcConfigRequest {
                    subnet_ids: self.subnets().await?,
                    endpoint_public_access: Some(true),
                    endpoint_private_access: Some(true),
                    ..Default::default()
                },
                // As the console and eksctl make clusters.
                access_config: Some(AccessConfig {
                    authentication_mode: Some("API_AND_CONFIG_MAP".to_owned()),
                    ..Default::default()
                }),
                ..Default::default()
            };
            self.client.call::<CreateCluster>(request).await.context("CreateCluster")?;
        }
        let limit = STEP_LIMIT + self.latency().cluster;
        let deadline = tokio::time::Instant::now() + limit;
        while tokio::time::Instant::now() < deadline {
            let cluster = self.cluster().await?.unwrap_or_default();
            let status = &cluster.status;
            if status == "ACTIVE" {
                return Ok(());
            }
            if status == "FAILED" {
                bail!(Failure::new(
                    format!("cluster `{}` has failed", self.settings.name),
                    "see `aws eks describe-cluster` and `nodestead logs daemon`; \
                     `nodestead down --purge` begins anew",
                ));
            }
            progress.detail(&expected(&format!("it is {status}"), self.latency().cluster));
            tokio::time::sleep(POLL).await;
        }
        bail!(Failure::new(
            format!("cluster `{}` did not become active in {limit:?}", self.settings.name),
            "see `nodestead logs daemon`",
        ))
    }

    /// What somebody has begun to delete is made anew when it is gone.
    async fn await_end(
        &self,
        what: &str,
        progress: &Progress,
        is_going: impl AsyncFn() -> anyhow::Result<bool>,
    ) -> anyhow::Result<()> {
        let deadline = tokio::time::Instant::now() + DELETION_LIMIT;
        while is_going().await? {
            if tokio::time::Instant::now() >= deadline {
                bail!(Failure::new(
                    format!("{what} is being deleted, and was not gone in {DELETION_LIMIT:?}"),
                    "see `nodestead status` and `nodestead logs daemon`, or run `up` again",
                ));
            }
            progress.detail(&format!("{what} is being deleted; it is made anew when it is gone"));
            tokio::time::sleep(POLL).await;
        }
        Ok(())
    }

    fn latency(&self) -> Latency {
        Latency::of(self.settings.latency)
    }

    async fn cluster(&self) -> anyhow::Result<Option<Cluster>> {
        let request = DescribeClusterRequest { name: self.settings.name.clone() };
        match self.client.call::<DescribeCluster>(request).await {
            Ok(found) => Ok(found.cluster),
            Err(error) if error.is("ResourceNotFoundException") => Ok(None),
            Err(error) => Err(error).context("DescribeCluster"),
        }
    }

    /// The default VPC's subnets.
    async fn subnets(&self) -> anyhow::Result<Vec<String>> {
        let filter =
            Filter { name: Some("default-for-az".to_owned()), values: vec!["true".to_owned()] };
        let request = DescribeSubnetsRequest { filters: vec![filter], ..Default::default() };
        let found = self.client.call::<DescribeSubnets>(request).await?.subnets;
        Ok(found.into_iter().filter_map(|it| it.subnet_id).collect())
    }

    /// The node group as large as was asked for now, or as it is; says how many nodes that are.
    pub(crate) async fn ensure_nodes(
        &self,
        layout: &Layout,
        roles: &Roles,
        asked: Option<u32>,
        progress: &Progress,
    ) -> anyhow::Result<usize> {
        self.await_end("the node group", progress, async || {
            Ok(self.nodegroup().await?.is_some_and(|it| it.status == "DELETING"))
        })
        .await?;
        match nodes::step(self.nodegroup().await?.as_ref(), asked, self.settings.nodes) {
            Step::Create(sizes) => self.create_nodegroup(roles, sizes).await?,
            Step::Resize(sizes) => self.resize(sizes).await?,
            Step::Leave => {}
        }
        let latency = self.latency();
        let limit = STEP_LIMIT + latency.first_nodes() + latency.attach;
        let deadline = tokio::time::Instant::now() + limit;
        let mut launched = tokio::time::Instant::now();
        let mut missing = Vec::new();
        while tokio::time::Instant::now() < deadline {
            let group = self.nodegroup().await?.context("the node group is gone")?;
            if let Some(failure) = failure(&group) {
                bail!(failure);
            }
            if nodes::not_launched(&group).is_none() {
                launched = tokio::time::Instant::now();
            }
            if let Some(message) = nodes::launch_failure(&group, launched.elapsed()) {
                bail!(Failure::new(
                    format!("the node group cannot launch its instances: {message}"),
                    "ask for what there is room for: `nodestead up --nodes N`",
                ));
            }
            let (ready, waiting) = ready_nodes(layout).await;
            let wanted = group.scaling_config.desired_size.unwrap_or_default();
            let wanted = usize::try_from(wanted).unwrap_or_default();
            if group.status == "ACTIVE" && ready >= wanted {
                return Ok(wanted);
            }
            missing = waiting;
            let mut so_far = format!("{}, {ready} of {wanted} nodes are Ready", group.status);
            if let Some(first) = missing.first() {
                so_far = format!("{so_far}; {first}");
            }
            progress.detail(&expected(&so_far, latency.first_nodes()));
            tokio::time::sleep(POLL).await;
        }
        bail!(Failure::new(
            match missing.is_empty() {
                true => format!("the nodes did not become Ready in {limit:?}"),
                false => {
                    format!("the nodes did not become Ready in {limit:?}: {}", missing.join(", "))
                }
            },
            "see `nodestead status`, `nodestead logs INSTANCE` and `kubectl describe nodes`",
        ))
    }

    async fn nodegroup(&self) -> anyhow::Result<Option<Nodegroup>> {
        let request = DescribeNodegroupRequest {
            cluster_name: self.settings.name.clone(),
            nodegroup_name: NODEGROUP.to_owned(),
        };
        match self.client.call::<DescribeNodegroup>(request).await {
            Ok(found) => Ok(found.nodegroup),
            Err(error) if error.is("ResourceNotFoundException") => Ok(None),
            Err(error) => Err(error).context("DescribeNodegroup"),
        }
    }

    async fn create_nodegroup(
        &self,
        roles: &Roles,
        sizes: NodegroupScalingConfig,
    ) -> anyhow::Result<()> {
        let request = CreateNodegroupRequest {
            cluster_name: self.settings.name.clone(),
            nodegroup_name: NODEGROUP.to_owned(),
            node_role: roles.node.clone(),
            subnets: self.subnets().await?,
            instance_types: vec![self.settings.instance_type.clone()],
            scaling_config: Some(sizes),
            ..Default::default()
        };
        self.client.call::<CreateNodegroup>(request).await.context("CreateNodegroup")?;
        Ok(())
    }

    async fn resize(&self, sizes: NodegroupScalingConfig) -> anyhow::Result<()> {
        let request = UpdateNodegroupConfigRequest {
            cluster_name: self.settings.name.clone(),
            nodegroup_name: NODEGROUP.to_owned(),
            scaling_config: Some(sizes),
            ..Default::default()
        };
        self.client
            .call::<UpdateNodegroupConfig>(request)
            .await
            .context("UpdateNodegroupConfig")?;
        Ok(())
    }
}

/// What is waited for, and for how long when the region takes its time as AWS does.
fn expected(so_far: &str, takes: Duration) -> String {
    match takes.as_secs() {
        0 => so_far.to_owned(),
        seconds => format!("{so_far}; --latency aws takes about {seconds} s for this"),
    }
}

fn failure(group: &Nodegroup) -> Option<Failure> {
    let is_failed = matches!(group.status.as_str(), "CREATE_FAILED" | "DEGRADED");
    is_failed.then(|| {
        let issue = group.health.issues.first();
        let message = issue.and_then(|it| it.message.clone()).unwrap_or_default();
        Failure::new(
            format!("the node group is {}: {message}", group.status),
            "see `nodestead logs INSTANCE` and `nodestead logs aws`",
        )
    })
}

/// How many of the nodes' pods run, of how many; `None` while that cannot be asked.
pub(super) async fn pods(layout: &Layout) -> Option<(usize, usize)> {
    let client = kubernetes::client(layout).await.ok()?;
    let pods = Api::<Pod>::all(client).list(&ListParams::default()).await.ok()?;
    let status = Admin::new(layout.admin_socket()).get::<DaemonStatus>("/v1/status").await.ok()?;
    Some(nodes::pods_running(&pods.items, &status.instances))
}

/// How many there are, and what the others wait for. Nothing is known while the API server cannot be
/// asked.
async fn ready_nodes(layout: &Layout) -> (usize, Vec<String>) {
    let unknown = |what: &str| (0, vec![format!("{what} does not answer")]);
    let Ok(client) = kubernetes::client(layout).await else { return unknown("the API server") };
    let Ok(nodes) = Api::<Node>::all(client).list(&ListParams::default()).await else {
        return unknown("the API server");
    };
    let status = Admin::new(layout.admin_socket()).get::<DaemonStatus>("/v1/status").await;
    let Ok(DaemonStatus { instances, .. }) = status else { return unknown("the daemon") };
    let waiting = nodes::waits_for(&nodes.items, &instances);
    // One without a boot has just lost its power, and its node says what was.
    let is_up = |it: &InstanceStatus| {
        it.state == "running" && it.status_check == "ok" && it.boot_id.is_some()
    };
    let running = instances.into_iter().filter(is_up);
    let running: Vec<_> = running.map(|it| (it.node_name, it.boot_id)).collect();
    (nodes::ready(&nodes.items, &running), waiting)
}
