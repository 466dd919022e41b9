//! The EC2 calls that ipamd makes, with the node role's rights.
//!
//! A thin adapter: each function is one call (or one that has to follow another), and its error
//! says what the rest of ipamd decides by: whether the subnet is out of addresses, whether the role
//! may not, whether the local view is behind.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::Ipv4Addr,
    sync::Arc,
    time::Duration,
};

use aws_ec2::{
    common::{Filter, TagInput, TagSpecification},
    instance::{DescribeInstances, DescribeInstancesRequest},
    ipv6_addresses::{AssignIpv6Addresses, AssignIpv6AddressesRequest},
    network_interface::{
        AttachNetworkInterface, AttachNetworkInterfaceRequest, CreateNetworkInterface,
        CreateNetworkInterfaceRequest, DeleteNetworkInterface, DeleteNetworkInterfaceRequest,
        DescribeNetworkInterfaces, DescribeNetworkInterfacesRequest, DetachNetworkInterface,
        DetachNetworkInterfaceRequest, ModifyNetworkInterfaceAttribute,
        ModifyNetworkInterfaceAttributeRequest, NetworkInterface,
        NetworkInterfaceAttachmentChanges,
    },
    private_addresses::{
        AssignPrivateIpAddresses, AssignPrivateIpAddressesRequest, UnassignPrivateIpAddresses,
        UnassignPrivateIpAddressesRequest,
    },
    subnet::{DescribeSubnets, DescribeSubnetsRequest, Subnet},
};
use aws_wire::{CallError, Client, Operation};
use ipnet::Ipv4Net;

use crate::metrics::{Metrics, labels};

/// How often a detach or a delete is tried, and how long between tries at most.
const TRIES: u32 = 12;
const MAX_PAUSE: Duration = Duration::from_secs(5);

pub const TAG_INSTANCE: &str = "node.k8s.amazonaws.com/instance_id";
pub const TAG_CREATED: &str = "node.k8s.amazonaws.com/createdAt";
pub const TAG_NO_MANAGE: &str = "node.k8s.amazonaws.com/no_manage";
const TAG_CLUSTER: &str = "cluster.k8s.amazonaws.com/name";
const TAG_OWNER: &str = "eks:eni:owner";

/// See the module.
#[derive(Clone)]
pub struct Cloud {
    client: Client,
    instance_id: String,
    metrics: Arc<Metrics>,
}

/// How many of what a call asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Amount {
    Addresses(usize),
    Prefixes(usize),
}

impl Amount {
    /// The smallest amount of its kind: what is tried when a larger one failed.
    pub fn one(self) -> Self {
        match self {
            Self::Addresses(_) => Self::Addresses(1),
            Self::Prefixes(_) => Self::Prefixes(1),
        }
    }

    fn addresses(self) -> Option<i64> {
        match self {
            Self::Addresses(count) => i64::try_from(count).ok(),
            Self::Prefixes(_) => None,
        }
    }

    fn prefixes(self) -> Option<i64> {
        match self {
            Self::Prefixes(count) => i64::try_from(count).ok(),
            Self::Addresses(_) => None,
        }
    }
}

/// An interface to create.
#[derive(Clone, Debug)]
pub struct NewEni {
    pub subnet_id: String,
    pub security_groups: Vec<String>,
    pub amount: Amount,
    pub cluster_name: String,
    pub created_at: String,
    pub additional_tags: BTreeMap<String, String>,
}

/// A failed call, as ipamd sees it.
#[derive(Debug, thiserror::Error)]
#[error("EC2 did not {action}")]
pub struct CloudError {
    pub action: String,
    #[source]
    pub source: Box<CallError>,
}

impl CloudError {
    /// The subnet has no addresses, or no whole block, left.
    pub fn is_subnet_exhausted(&self) -> bool {
        // Deviation: upstream knows the first two only and misses the third (CNI#3105).
        let Some(fault) = self.source.fault() else { return false };
        matches!(&*fault.code, "InsufficientFreeAddressesInSubnet" | "InsufficientCidrBlocks")
            || (fault.code == "InvalidParameterValue" && fault.message.contains("sufficient free"))
    }

    /// The node role lacks a permission.
    pub fn is_unauthorized(&self) -> bool {
        self.source.is("UnauthorizedOperation") || self.source.is("AccessDenied")
    }

    /// The subnet has addresses, but no whole /28 block.
    pub fn is_fragmented(&self) -> bool {
        self.source.is("InsufficientCidrBlocks")
    }

    /// Too many calls: the same one may work a little later.
    pub fn is_throttled(&self) -> bool {
        self.source.fault().is_some_and(aws_wire::Fault::is_transient)
    }

    /// Whether EC2 said that it did nothing. Otherwise the call may have been carried out: only its
    /// answer is missing. So it may where EC2 says that it does not have what is to be taken away: the
    /// client repeats a call whose answer was lost.
    pub fn is_refusal(&self) -> bool {
        self.source.fault().is_some_and(|it| it.status.is_client_error())
            && !self.source.is("InvalidParameterValue")
    }

    /// EC2 has more on the interface than we know of.
    pub fn is_view_stale(&self) -> bool {
        self.source.is("PrivateIpAddressLimitExceeded")
    }

    fn is_gone(&self) -> bool {
        self.source.is("InvalidNetworkInterfaceID.NotFound")
            || self.source.is("InvalidAttachmentID.NotFound")
    }
}

impl Cloud {
    pub fn new(client: Client, instance_id: impl Into<String>) -> Self {
        Self { client, instance_id: instance_id.into(), metrics: Arc::default() }
    }

    /// Where its calls are counted.
    pub fn metrics(&self) -> Arc<Metrics> {
        self.metrics.clone()
    }

    async fn call<O: Operation>(
        &self,
        action: impl Into<String>,
        request: O::Request,
    ) -> Result<O::Response, CloudError> {
        let action = action.into();
        let started = tokio::time::Instant::now();
        let done = self.client.call::<O>(request).await;
        self.measure(O::ACTION, started.elapsed(), done.as_ref().err());
        done.map_err(|source| CloudError { action, source: Box::new(source) })
    }

    fn measure(&self, api: &'static str, took: Duration, error: Option<&CallError>) {
        let fault = error.and_then(CallError::fault);
        let status = match (error, fault) {
            (None, _) => "200".to_owned(),
            (Some(_), Some(fault)) => fault.status.as_u16().to_string(),
            (Some(_), None) => String::new(),
        };
        let api_labels = labels(&[("fn", &api)]);
        self.metrics.count_labelled("awscni_ec2api_req_count", api_labels.clone());
        let call = labels(&[("api", &api), ("error", &error.is_some()), ("status", &status)]);
        self.metrics.observe("awscni_aws_api_latency_ms", call, took.as_secs_f64() * 1000.0);
        if error.is_some() {
            let code = fault.map_or("RequestError", |it| &*it.code);
            self.metrics.count_labelled("awscni_ec2api_error_count", api_labels);
            let failed = labels(&[("api", &api), ("error", &code)]);
            self.metrics.count_labelled("awscni_aws_api_error_count", failed);
        }
    }

    /// Puts more addresses or prefixes on an interface: those that are given back.
    pub async fn assign(&self, eni: &str, amount: Amount) -> Result<Vec<Ipv4Net>, CloudError> {
        let request = AssignPrivateIpAddressesRequest {
            network_interface_id: eni.to_owned(),
            secondary_private_ip_address_count: amount.addresses(),
            ipv4_prefix_count: amount.prefixes(),
            ..Default::default()
        };
        let action = format!("assign addresses to `{eni}`");
        let done = self.call::<AssignPrivateIpAddresses>(action, request).await?;
        let addresses = done.assigned_private_ip_addresses.into_iter();
        let addresses = addresses.filter_map(|it| it.private_ip_address?.parse::<Ipv4Addr>().ok());
        let prefixes = done.assigned_ipv4_prefixes.into_iter();
        let prefixes = prefixes.filter_map(|it| it.ipv4_prefix?.parse().ok());
        Ok(addresses.map(Ipv4Net::from).chain(prefixes).collect())
    }

    /// One /80 for all pods of the node.
    pub async fn assign_ipv6_prefix(&self, eni: &str) -> Result<(), CloudError> {
        let request = AssignIpv6AddressesRequest {
            network_interface_id: eni.to_owned(),
            ipv6_prefix_count: Some(1),
            ..Default::default()
        };
        let action = format!("assign an IPv6 prefix to `{eni}`");
        self.call::<AssignIpv6Addresses>(action, request).await.map(drop)
    }

    pub async fn unassign_addresses(
        &self,
        eni: &str,
        addresses: &[Ipv4Addr],
    ) -> Result<(), CloudError> {
        let request = UnassignPrivateIpAddressesRequest {
            network_interface_id: eni.to_owned(),
            private_ip_addresses: addresses.iter().map(Ipv4Addr::to_string).collect(),
            ..Default::default()
        };
        let action = format!("unassign addresses of `{eni}`");
        self.call::<UnassignPrivateIpAddresses>(action, request).await.map(drop)
    }

    pub async fn unassign_prefixes(
        &self,
        eni: &str,
        prefixes: &[Ipv4Net],
    ) -> Result<(), CloudError> {
        let request = UnassignPrivateIpAddressesRequest {
            network_interface_id: eni.to_owned(),
            ipv4_prefixes: prefixes.iter().map(Ipv4Net::to_string).collect(),
            ..Default::default()
        };
        let action = format!("unassign prefixes of `{eni}`");
        self.call::<UnassignPrivateIpAddresses>(action, request).await.map(drop)
    }

    /// Creates and attaches an interface that goes with the instance. Nothing stays on failure.
    pub async fn add_eni(&self, new: &NewEni) -> Result<String, CloudError> {
        let request = CreateNetworkInterfaceRequest {
            subnet_id: new.subnet_id.clone(),
            description: Some(format!("aws-K8S-{}", self.instance_id)),
            groups: new.security_groups.clone(),
            secondary_private_ip_address_count: new.amount.addresses(),
            ipv4_prefix_count: new.amount.prefixes(),
            tag_specifications: vec![self.tags(new)],
            client_token: Some(entropy::uuid()),
            ..Default::default()
        };
        let action = format!("create a network interface in `{}`", new.subnet_id);
        let created = self.call::<CreateNetworkInterface>(&action, request).await?;
        let id = created.network_interface.and_then(|eni| eni.network_interface_id);
        // Without it nothing can be attached, nor removed: the sweep finds what was made.
        let Some(id) = id.filter(|it| !it.is_empty()) else {
            return Err(incomplete::<CreateNetworkInterface>(action, "networkInterfaceId"));
        };
        match self.attach(&id).await {
            Ok(()) => Ok(id),
            Err(error) => {
                if let Err(left) = self.remove_eni(&id).await {
                    tracing::warn!(eni = id, error = %telemetry::chain(&left), "left behind");
                    let pairs = labels(&[("error", &error), ("fn", &"AllocENIDeleteErr")]);
                    self.metrics.count_labelled("awscni_aws_utils_error_count", pairs);
                }
                Err(error)
            }
        }
    }

    async fn attach(&self, eni: &str) -> Result<(), CloudError> {
        let device_index = self.free_device_index().await?;
        let request = AttachNetworkInterfaceRequest {
            network_interface_id: eni.to_owned(),
            instance_id: self.instance_id.clone(),
            device_index,
            ..Default::default()
        };
        let action = format!("attach `{eni}` as device {device_index}");
        let attached = self.call::<AttachNetworkInterface>(action, request).await?;
        let request = ModifyNetworkInterfaceAttributeRequest {
            network_interface_id: eni.to_owned(),
            attachment: Some(NetworkInterfaceAttachmentChanges {
                attachment_id: attached.attachment_id,
                delete_on_termination: Some(true),
            }),
            ..Default::default()
        };
        let action = format!("make `{eni}` go with the instance");
        self.call::<ModifyNetworkInterfaceAttribute>(action, request).await.map(drop)
    }

    async fn free_device_index(&self) -> Result<i64, CloudError> {
        let request = DescribeInstancesRequest {
            instance_ids: vec![self.instance_id.clone()],
            ..Default::default()
        };
        let action = format!("describe instance `{}`", self.instance_id);
        let described = self.call::<DescribeInstances>(&action, request).await?;
        let instances = described.reservations.into_iter().flat_map(|it| it.instances);
        let attachments = instances.flat_map(|it| it.network_interfaces);
        let taken: Vec<i64> =
            attachments.filter_map(|it| it.attachment.and_then(|it| it.device_index)).collect();
        // This runs on the primary interface: an answer without it does not tell what is free.
        if !taken.contains(&0) {
            return Err(incomplete::<DescribeInstances>(action, "deviceIndex"));
        }
        Ok((1..).find(|index| !taken.contains(index)).unwrap_or_default())
    }

    /// Detaches and deletes an interface. One that is gone is fine.
    pub async fn remove_eni(&self, eni: &str) -> Result<(), CloudError> {
        let Some(described) = self.describe(eni).await? else { return Ok(()) };
        if let Some(id) = described.attachment.and_then(|it| it.attachment_id) {
            let request = DetachNetworkInterfaceRequest { attachment_id: id, ..Default::default() };
            let action = format!("detach `{eni}`");
            self.persist::<DetachNetworkInterface>(&action, request).await?;
        }
        // Refused while the detachment is under way: that is what the repetition waits for.
        self.delete_eni(eni).await
    }

    /// Deletes an interface, never one that is attached. One that is gone is fine.
    pub async fn delete_eni(&self, eni: &str) -> Result<(), CloudError> {
        let request = DeleteNetworkInterfaceRequest {
            network_interface_id: eni.to_owned(),
            ..Default::default()
        };
        self.persist::<DeleteNetworkInterface>(&format!("delete `{eni}`"), request).await
    }

    /// Repeats a call until it works, the object is gone, or it may not be made.
    async fn persist<O: Operation>(
        &self,
        action: &str,
        request: O::Request,
    ) -> Result<(), CloudError>
    where
        O::Request: Clone,
    {
        let mut pause = Duration::from_millis(100);
        let mut tries = 1;
        loop {
            match self.call::<O>(action, request.clone()).await {
                Ok(_) => return Ok(()),
                Err(error) if error.is_gone() => return Ok(()),
                Err(error) if error.is_unauthorized() || tries == TRIES => return Err(error),
                Err(_) => {
                    tokio::time::sleep(pause).await;
                    pause = (pause * 2).min(MAX_PAUSE);
                    tries += 1;
                }
            }
        }
    }

    async fn describe(&self, eni: &str) -> Result<Option<NetworkInterface>, CloudError> {
        let request = DescribeNetworkInterfacesRequest {
            network_interface_ids: vec![eni.to_owned()],
            ..Default::default()
        };
        let action = format!("describe `{eni}`");
        match self.call::<DescribeNetworkInterfaces>(action, request).await {
            Ok(described) => {
                let is_meant =
                    |it: &NetworkInterface| it.network_interface_id.as_deref() == Some(eni);
                Ok(described.network_interfaces.into_iter().find(is_meant))
            }
            Err(error) if error.is_gone() => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Interfaces with these tag values and states.
    pub async fn find_enis(
        &self,
        filters: &[(&str, &str)],
    ) -> Result<Vec<NetworkInterface>, CloudError> {
        let filters: Vec<Filter> =
            filters.iter().map(|(name, value)| filter(name, value)).collect();
        let mut found = Vec::new();
        let mut next_token = None;
        loop {
            let request = DescribeNetworkInterfacesRequest {
                filters: filters.clone(),
                next_token,
                ..Default::default()
            };
            let action = "describe network interfaces";
            let page = self.call::<DescribeNetworkInterfaces>(action, request).await?;
            found.extend(page.network_interfaces);
            next_token = page.next_token.filter(|token| !token.is_empty());
            if next_token.is_none() {
                return Ok(found);
            }
        }
    }

    /// A subnet by its id.
    pub async fn subnet(&self, id: &str) -> Result<Option<Subnet>, CloudError> {
        let request =
            DescribeSubnetsRequest { subnet_ids: vec![id.to_owned()], ..Default::default() };
        let described = self.call::<DescribeSubnets>(format!("describe `{id}`"), request).await?;
        Ok(described.subnets.into_iter().next())
    }

    /// The subnets of the VPC in the zone.
    pub async fn subnets(&self, vpc: &str, zone: &str) -> Result<Vec<Subnet>, CloudError> {
        let filters = vec![filter("vpc-id", vpc), filter("availability-zone", zone)];
        let request = DescribeSubnetsRequest { filters, ..Default::default() };
        let described = self.call::<DescribeSubnets>("describe subnets", request).await?;
        Ok(described.subnets)
    }

    fn tags(&self, new: &NewEni) -> TagSpecification {
        let mut tags = new.additional_tags.clone();
        tags.insert(TAG_INSTANCE.to_owned(), self.instance_id.clone());
        tags.insert(TAG_CREATED.to_owned(), new.created_at.clone());
        tags.insert(TAG_OWNER.to_owned(), "amazon-vpc-cni".to_owned());
        if !new.cluster_name.is_empty() {
            tags.insert(TAG_CLUSTER.to_owned(), new.cluster_name.clone());
        }
        let tags = tags.into_iter();
        TagSpecification {
            resource_type: Some("network-interface".to_owned()),
            tags: tags
                .map(|(key, value)| TagInput { key: Some(key), value: Some(value) })
                .collect(),
        }
    }
}

/// An answer that lacks what everything after it is about.
fn incomplete<O: Operation>(action: String, member: &'static str) -> CloudError {
    let source = format!("it has no `{member}`").into();
    let source = CallError::Response { service: O::SERVICE, action: O::ACTION, source };
    CloudError { action, source: Box::new(source) }
}

fn filter(name: &str, value: &str) -> Filter {
    Filter { name: Some(name.to_owned()), values: vec![value.to_owned()] }
}

/// The tag's value.
pub fn tag<'a>(tags: &'a [aws_ec2::common::Tag], key: &str) -> Option<&'a str> {
    let found = tags.iter().find(|tag| tag.key.as_deref() == Some(key))?;
    Some(found.value.as_deref().unwrap_or_default())
}

/// On subnets: `0` keeps pods out, anything else lets them in.
const TAG_ROLE: &str = "kubernetes.io/role/cni";

/// The subnets that pods are kept out of: interfaces that are there already get no further ones.
pub fn excluded_subnets(subnets: &[Subnet]) -> BTreeSet<String> {
    let is_out = |it: &&Subnet| tag(&it.tags, TAG_ROLE) == Some("0");
    subnets.iter().filter(is_out).filter_map(|it| it.subnet_id.clone()).collect()
}

/// The subnets in which a new interface may be made, the emptiest first.
///
/// The primary interface's counts unless it is tagged `kubernetes.io/role/cni=0`; another one counts
/// only if it has that tag with another value. One with tags `cni.networking.k8s.aws/cluster/NAME` is
/// for the clusters that they name.
pub fn eligible_subnets(mut subnets: Vec<Subnet>, primary: &str, cluster: &str) -> Vec<String> {
    const TAG_CLUSTERS: &str = "cni.networking.k8s.aws/cluster/";
    subnets.sort_by_key(|subnet| std::cmp::Reverse(subnet.available_ip_address_count));
    let is_eligible = |subnet: &Subnet| match tag(&subnet.tags, TAG_ROLE) {
        None => subnet.subnet_id.as_deref() == Some(primary),
        Some(value) => value != "0",
    };
    let is_for_us = |subnet: &Subnet| {
        let tags = subnet.tags.iter().filter_map(|tag| tag.key.as_deref());
        let mut clusters = tags.filter_map(|key| key.strip_prefix(TAG_CLUSTERS)).peekable();
        clusters.peek().is_none() || clusters.any(|it| it == cluster)
    };
    subnets.retain(is_for_us);
    subnets.into_iter().filter(is_eligible).filter_map(|subnet| subnet.subnet_id).collect()
}

#[cfg(test)]
mod tests {
    use aws_ec2::common::Tag;
    use aws_wire::Fault;

    use super::*;

    fn failed(code: &'static str, message: &str) -> CloudError {
        let fault = Fault::new(code, message);
        let source = Box::new(CallError::Service { service: "ec2", action: "X", fault });
        CloudError { action: "x".into(), source }
    }

    #[test]
    fn an_exhausted_subnet_is_known_in_all_its_forms() {
        assert!(failed("InsufficientFreeAddressesInSubnet", "").is_subnet_exhausted());
        assert!(failed("InsufficientCidrBlocks", "").is_subnet_exhausted());
        let message = "There aren't sufficient free Ipv4 addresses or prefixes in subnet";
        assert!(failed("InvalidParameterValue", message).is_subnet_exhausted());
        assert!(!failed("InvalidParameterValue", "no such thing").is_subnet_exhausted());
        assert!(failed("UnauthorizedOperation", "").is_unauthorized());
    }

    #[test]
    fn other_subnets_count_only_when_tagged_and_the_emptiest_comes_first() {
        let subnet = |id: &str, free, role: Option<&str>| Subnet {
            subnet_id: Some(id.to_owned()),
            available_ip_address_count: Some(free),
            tags: role
                .map(|role| Tag {
                    key: Some("kubernetes.io/role/cni".into()),
                    value: Some(role.into()),
                })
                .into_iter()
                .collect(),
            ..Subnet::default()
        };
        let all = vec![
            subnet("primary", 10, None),
            subnet("tagged", 90, Some("1")),
            subnet("plain", 500, None),
            subnet("off", 700, Some("0")),
        ];
        assert_eq!(eligible_subnets(all, "primary", ""), ["tagged", "primary"]);
        assert!(eligible_subnets(vec![subnet("primary", 1, Some("0"))], "primary", "").is_empty());
    }

    #[test]
    fn a_subnet_of_other_clusters_is_none_of_ours() {
        let tag = |key: &str| Tag { key: Some(key.into()), value: Some("1".into()) };
        let of = |id: &str, cluster: &str| Subnet {
            subnet_id: Some(id.to_owned()),
            tags: vec![
                tag("kubernetes.io/role/cni"),
                tag(&format!("cni.networking.k8s.aws/cluster/{cluster}")),
            ],
            ..Subnet::default()
        };
        let both = || vec![of("ours", "stead"), of("theirs", "other")];
        assert_eq!(eligible_subnets(both(), "primary", "stead"), ["ours"]);
    }
}
