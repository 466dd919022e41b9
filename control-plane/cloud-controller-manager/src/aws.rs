//! Load balancers on AWS: what a Service becomes, through the APIs of EC2 and Elastic Load Balancing.
//!
//! Classic Load Balancers only, as EKS makes them without the AWS Load Balancer Controller. A Service
//! that asks for a Network Load Balancer of that controller (`external`, `nlb-ip`) is left to it.
//!
//! Upstream: `pkg/providers/v1` of cloud-provider-aws (`EnsureLoadBalancer` and its relatives).
//! Deviation: `aws-load-balancer-type: nlb` is refused. Where Elastic Load Balancing tells an address
//! of this machine (tag `aws:nodestead:host-address`), the Service's status shows it beside the host name, with
//! `ipMode: Proxy`, so that nobody in the cluster takes it for a virtual address.

mod annotations;
mod elb;
mod error;
mod security_groups;
mod subnets;
mod wanted;

use std::collections::{BTreeMap, BTreeSet};

use aws_ec2::{
    common::Filter,
    instance::{DescribeInstances, DescribeInstancesRequest, Instance},
};
use aws_elasticloadbalancing::load_balancer::LoadBalancerDescription;
use aws_wire::Client;
use k8s_openapi::api::core::v1::{LoadBalancerIngress, LoadBalancerStatus, Node, Service};

pub(crate) use self::error::{ProviderError, failed};
use self::{annotations::Annotations, wanted::Wanted};
use crate::instance::id_of;

/// The provider of one cluster.
#[derive(Clone)]
pub(crate) struct Aws {
    /// Acts with the cluster's rights.
    client: Client,
    cluster: String,
    vpc_id: String,
}

impl Aws {
    pub(crate) fn new(client: Client, cluster: String, vpc_id: String) -> Self {
        Self { client, cluster, vpc_id }
    }

    /// Whether the Service has a load balancer of ours.
    pub(crate) async fn exists(&self, service: &Service) -> Result<bool, ProviderError> {
        if Annotations::of(service).is_external() {
            return Ok(false);
        }
        Ok(elb::describe(&self.client, &name_of(service)).await?.is_some())
    }

    /// Makes the load balancer what the Service and the nodes say.
    pub(crate) async fn ensure(
        &self,
        service: &Service,
        nodes: &[Node],
    ) -> Result<LoadBalancerStatus, ProviderError> {
        let annotations = Annotations::of(service);
        if annotations.is_external() {
            return Err(ProviderError::Elsewhere);
        }
        let mut wanted = Wanted::of(service, &name_of(service))?;
        let instances = self.instances(&annotations, nodes).await?;
        wanted.subnets = self.subnets(&annotations, wanted.is_internal).await?;
        if wanted.subnets.is_empty() {
            return Err(failed("could not find any suitable subnets for creating the ELB"));
        }
        wanted.security_groups = self.ensure_groups(service, &annotations, &wanted).await?;
        let tags = elb::tags(service, &self.cluster, &annotations);
        let found = elb::ensure(&self.client, &wanted, tags).await?;
        elb::ensure_health_check(&self.client, &wanted, &found).await?;
        self.admit(&found, &instances, &annotations, false).await?;
        elb::ensure_instances(&self.client, &found, &instances.keys().cloned().collect()).await?;
        self.status(&found).await
    }

    /// Gives the load balancer these nodes.
    pub(crate) async fn update(
        &self,
        service: &Service,
        nodes: &[Node],
    ) -> Result<(), ProviderError> {
        let annotations = Annotations::of(service);
        if annotations.is_external() {
            return Err(ProviderError::Elsewhere);
        }
        let instances = self.instances(&annotations, nodes).await?;
        let found = elb::describe(&self.client, &name_of(service)).await?;
        let found = found.ok_or_else(|| failed("Load balancer not found"))?;
        let ids: BTreeSet<String> = instances.keys().cloned().collect();
        elb::ensure_instances(&self.client, &found, &ids).await?;
        self.admit(&found, &instances, &annotations, false).await
    }

    /// Deletes it, with its security group and the rule that let it in.
    pub(crate) async fn delete(&self, service: &Service) -> Result<(), ProviderError> {
        let annotations = Annotations::of(service);
        if annotations.is_external() {
            return Ok(());
        }
        let Some(found) = elb::describe(&self.client, &name_of(service)).await? else {
            return Ok(());
        };
        let own = self.own_groups(&found, &annotations).await?;
        let source = self.source_group(&found, &annotations).await?;
        self.admit(&found, &BTreeMap::new(), &annotations, own.contains(&source)).await?;
        elb::delete(&self.client, &found).await?;
        self.delete_groups(service, own).await
    }

    async fn status(
        &self,
        found: &LoadBalancerDescription,
    ) -> Result<LoadBalancerStatus, ProviderError> {
        let Some(hostname) = found.dns_name.clone().filter(|it| !it.is_empty()) else {
            return Ok(LoadBalancerStatus::default());
        };
        let address = elb::host_address(&self.client, found).await?;
        let ingress = LoadBalancerIngress {
            hostname: Some(hostname),
            ip_mode: address.as_ref().map(|_| "Proxy".to_owned()),
            ip: address,
            ports: None,
        };
        Ok(LoadBalancerStatus { ingress: Some(vec![ingress]) })
    }

    /// The instances under these nodes, of those that the Service wants; one that EC2 does not know
    /// is passed over.
    async fn instances(
        &self,
        annotations: &Annotations<'_>,
        nodes: &[Node],
    ) -> Result<BTreeMap<String, Instance>, ProviderError> {
        let targets = nodes.iter().filter(|it| annotations.wants_node(it));
        let ids: Vec<String> = targets
            .filter_map(|it| id_of(it.spec.as_ref()?.provider_id.as_deref()?))
            .map(str::to_owned)
            .collect();
        if ids.is_empty() {
            return Ok(BTreeMap::new());
        }
        let request = DescribeInstancesRequest {
            filters: vec![filter("instance-id", ids)],
            ..Default::default()
        };
        let found = self.client.call::<DescribeInstances>(request).await?.reservations;
        let is_alive = |it: &Instance| {
            it.state.as_ref().and_then(|it| it.name.as_deref()) != Some("terminated")
        };
        let alive = found.into_iter().flat_map(|it| it.instances).filter(is_alive);
        Ok(alive.filter_map(|it| Some((it.instance_id.clone()?, it))).collect())
    }
}

/// `a` and the Service's UID: a Classic Load Balancer's name has at most 32 characters.
pub(crate) fn name_of(service: &Service) -> String {
    let uid = service.metadata.uid.as_deref().unwrap_or_default();
    let name = format!("a{}", uid.replace('-', ""));
    name.chars().take(32).collect()
}

fn filter(name: &str, values: Vec<String>) -> Filter {
    Filter { name: Some(name.to_owned()), values }
}

/// What marks a resource as the cluster's.
fn cluster_tag(cluster: &str) -> String {
    format!("{CLUSTER_TAG}{cluster}")
}

const CLUSTER_TAG: &str = "kubernetes.io/cluster/";
