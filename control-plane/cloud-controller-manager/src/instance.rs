//! The instance under a Node: by provider ID, or by the Node's name, which is its DNS name.

use aws_ec2::{
    common::Filter,
    instance::{DescribeInstances, DescribeInstancesRequest, Instance},
};
use aws_wire::{CallError, Client};
use k8s_openapi::api::core::v1::Node;
use kube::ResourceExt;

/// What EC2 says about a Node's instance.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Found {
    Gone,
    There(Box<Facts>),
}

#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Facts {
    pub(crate) id: String,
    pub(crate) zone: String,
    /// Looked up for new Nodes only.
    pub(crate) zone_id: Option<String>,
    pub(crate) instance_type: String,
    pub(crate) is_stopped: bool,
    pub(crate) private_address: Option<String>,
    pub(crate) ipv6_address: Option<String>,
    pub(crate) private_name: Option<String>,
    pub(crate) public_address: Option<String>,
    pub(crate) public_name: Option<String>,
}

impl Facts {
    /// `aws:///us-east-1a/i-0123456789abcdef0`.
    pub(crate) fn provider_id(&self) -> String {
        format!("aws:///{}/{}", self.zone, self.id)
    }
}

/// The instance id in a provider ID.
pub(crate) fn id_of(provider_id: &str) -> Option<&str> {
    let path = provider_id.strip_prefix("aws://")?;
    path.rsplit('/').next().filter(|it| it.starts_with("i-"))
}

pub(crate) async fn find(ec2: &Client, node: &Node) -> Result<Found, CallError> {
    let provider_id = node.spec.as_ref().and_then(|it| it.provider_id.as_deref());
    let (name, value) = match provider_id.and_then(id_of) {
        Some(id) => ("instance-id", id.to_owned()),
        None => ("private-dns-name", node.name_any()),
    };
    let filter = Filter { name: Some(name.to_owned()), values: vec![value] };
    let request = DescribeInstancesRequest { filters: vec![filter], ..Default::default() };
    let response = ec2.call::<DescribeInstances>(request).await?;
    let mut instances = response.reservations.into_iter().flat_map(|it| it.instances);
    Ok(instances
        .find(|it| state(it) != "terminated")
        .map_or(Found::Gone, |it| Found::There(Box::new(facts(it)))))
}

fn state(instance: &Instance) -> &str {
    instance.state.as_ref().and_then(|it| it.name.as_deref()).unwrap_or_default()
}

fn facts(instance: Instance) -> Facts {
    let is_stopped = matches!(state(&instance), "stopping" | "stopped");
    let given = |it: Option<String>| it.filter(|it| !it.is_empty());
    Facts {
        is_stopped,
        id: instance.instance_id.unwrap_or_default(),
        zone: instance.placement.and_then(|it| it.availability_zone).unwrap_or_default(),
        zone_id: None,
        instance_type: instance.instance_type.unwrap_or_default(),
        private_address: given(instance.private_ip_address),
        ipv6_address: given(instance.ipv6_address),
        private_name: given(instance.private_dns_name),
        public_address: given(instance.public_ip_address),
        public_name: given(instance.public_dns_name),
    }
}
