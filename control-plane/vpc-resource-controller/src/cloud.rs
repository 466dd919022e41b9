//! The EC2 calls of the controller.
//!
//! What the customer's account holds is made and deleted with the cluster role's rights, so that a
//! role without `AmazonEKSVPCResourceController` is refused by EC2; a branch is put on its trunk by
//! EKS itself, whom the role has to permit it (`CreateNetworkInterfacePermission`).
//!
//! Upstream: `pkg/aws/ec2/api`.
//! Deviation: the permission names EKS's service, not its account.

use std::{collections::BTreeMap, time::Duration};

use api_kube::vpc_resources::PodEni;
use aws_ec2::{
    common::{Filter, Tag, TagInput, TagSpecification},
    instance::{DescribeInstances, DescribeInstancesRequest},
    network_interface::{
        AttachNetworkInterface, AttachNetworkInterfaceRequest, CreateNetworkInterface,
        CreateNetworkInterfaceRequest, DeleteNetworkInterface, DeleteNetworkInterfaceRequest,
        DescribeNetworkInterfaces, DescribeNetworkInterfacesRequest,
        ModifyNetworkInterfaceAttribute, ModifyNetworkInterfaceAttributeRequest, NetworkInterface,
        NetworkInterfaceAttachmentChanges,
    },
    network_interface_permission::{
        CreateNetworkInterfacePermission, CreateNetworkInterfacePermissionRequest,
    },
    subnet::{DescribeSubnets, DescribeSubnetsRequest},
    trunk_interface::{
        AssociateTrunkInterface, AssociateTrunkInterfaceRequest,
        DescribeTrunkInterfaceAssociations, DescribeTrunkInterfaceAssociationsRequest,
        DisassociateTrunkInterface, DisassociateTrunkInterfaceRequest,
    },
};
use aws_wire::{CallError, Client, Operation};

const OWNER: (&str, &str) = ("eks:eni:owner", "eks-vpc-resource-controller");
const TAG_VLAN: &str = "vpcresources.k8s.aws/vlan-id";
const TAG_TRUNK: &str = "vpcresources.k8s.aws/trunk-eni-id";
const TAG_INSTANCE: &str = "node.k8s.amazonaws.com/instance_id";
const TRUNK_DESCRIPTION: &str = "aws-k8s-trunk-eni";
const BRANCH_DESCRIPTION: &str = "aws-k8s-branch-eni";
/// How long an attachment may take.
const ATTACH_LIMIT: Duration = Duration::from_secs(60);
const FIRST_PAUSE: Duration = Duration::from_millis(50);
const LONGEST_PAUSE: Duration = Duration::from_secs(2);

/// A failed call.
#[derive(Debug, thiserror::Error)]
pub(crate) enum CloudError {
    #[error("EC2 did not {action}")]
    Call {
        action: String,
        #[source]
        source: Box<CallError>,
    },
    #[error("{message}")]
    Other { message: String },
}

impl CloudError {
    fn other(message: impl Into<String>) -> Self {
        Self::Other { message: message.into() }
    }

    /// EC2's code, where it was EC2 that refused.
    pub(crate) fn code(&self) -> Option<&str> {
        match self {
            Self::Call { source, .. } => source.fault().map(|it| &*it.code),
            Self::Other { .. } => None,
        }
    }

    fn is(&self, code: &str) -> bool {
        self.code() == Some(code)
    }
}

/// EC2, as two callers: the cluster's role, and EKS.
#[derive(Clone)]
pub struct Clients {
    pub role: Client,
    pub service: Client,
}

pub(crate) struct Cloud {
    clients: Clients,
    cluster: String,
}

/// The instance under a node.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Instance {
    pub(crate) id: String,
    pub(crate) kind: String,
    pub(crate) subnet: String,
    /// Of the primary interface.
    pub(crate) security_groups: Vec<String>,
    pub(crate) trunk: Option<String>,
    devices: Vec<i64>,
}

/// Where a node's interfaces are made.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Home {
    pub(crate) subnet: String,
    pub(crate) cidr: String,
    /// Empty where the subnet has no IPv6.
    pub(crate) cidr_v6: String,
    pub(crate) security_groups: Vec<String>,
    /// Further tags of what is made, by the CNINode.
    pub(crate) tags: BTreeMap<String, String>,
}

/// A branch to be made.
pub(crate) struct Wanted<'a> {
    pub(crate) trunk: &'a str,
    pub(crate) instance: &'a str,
    pub(crate) security_groups: &'a [String],
    pub(crate) vlan: u32,
}

impl Cloud {
    pub(crate) fn new(clients: Clients, cluster: impl Into<String>) -> Self {
        Self { clients, cluster: cluster.into() }
    }

    async fn call<O: Operation>(
        &self,
        action: String,
        request: O::Request,
    ) -> Result<O::Response, CloudError> {
        let done = self.clients.role.call::<O>(request).await;
        done.map_err(|source| CloudError::Call { action, source: Box::new(source) })
    }

    async fn call_as_service<O: Operation>(
        &self,
        action: String,
        request: O::Request,
    ) -> Result<O::Response, CloudError> {
        let done = self.clients.service.call::<O>(request).await;
        done.map_err(|source| CloudError::Call { action, source: Box::new(source) })
    }

    pub(crate) async fn instance(&self, id: &str) -> Result<Instance, CloudError> {
        let request =
            DescribeInstancesRequest { instance_ids: vec![id.to_owned()], ..Default::default() };
        let found = self.call::<DescribeInstances>(format!("describe `{id}`"), request).await?;
        let found = found.reservations.into_iter().flat_map(|it| it.instances).next();
        let missing =
            || CloudError::other(format!("failed to find instance {id} details from EC2 API"));
        let found = found.ok_or_else(missing)?;
        let subnet = found.subnet_id.clone().ok_or_else(missing)?;
        let index = |it: &aws_ec2::instance::InstanceNetworkInterface| {
            it.attachment.as_ref().and_then(|it| it.device_index)
        };
        let enis = &found.network_interfaces;
        let primary = enis.iter().find(|it| index(it) == Some(0));
        let groups = primary.map(|it| it.groups.clone()).unwrap_or_default();
        let trunk = enis.iter().find(|it| it.interface_type.as_deref() == Some("trunk"));
        Ok(Instance {
            id: id.to_owned(),
            kind: found.instance_type.clone().unwrap_or_default(),
            subnet,
            security_groups: groups.into_iter().filter_map(|it| it.group_id).collect(),
            trunk: trunk.and_then(|it| it.network_interface_id.clone()),
            devices: enis.iter().filter_map(index).collect(),
        })
    }

    /// The CIDRs of a subnet: IPv4's, and IPv6's if it has one.
    pub(crate) async fn cidrs_of(&self, subnet: &str) -> Result<(String, String), CloudError> {
        let request =
            DescribeSubnetsRequest { subnet_ids: vec![subnet.to_owned()], ..Default::default() };
        let found = self.call::<DescribeSubnets>(format!("describe `{subnet}`"), request).await?;
        let found = found.subnets.into_iter().next();
        let of_ipv6 = found.iter().flat_map(|it| &it.ipv6_cidr_block_association_set);
        let cidr_v6 = of_ipv6.into_iter().find_map(|it| it.ipv6_cidr_block.clone());
        let cidr = found.and_then(|it| it.cidr_block);
        let missing = || CloudError::other(format!("failed to find subnet {subnet}"));
        Ok((cidr.ok_or_else(missing)?, cidr_v6.unwrap_or_default()))
    }

    /// Makes a trunk and attaches it at the highest free index: the CNI takes the lowest.
    pub(crate) async fn add_trunk(
        &self,
        instance: &Instance,
        home: &Home,
    ) -> Result<String, CloudError> {
        let devices = instance_types::find(&instance.kind).map_or(0, |it| i64::from(it.enis));
        let free = (0..devices).rev().find(|it| !instance.devices.contains(it));
        let index = free.ok_or_else(|| CloudError::other("no free device index found"))?;
        let tags = [(TAG_INSTANCE.to_owned(), instance.id.clone())];
        let request = CreateNetworkInterfaceRequest {
            interface_type: Some("trunk".to_owned()),
            description: Some(TRUNK_DESCRIPTION.to_owned()),
            ..self.interface(home, &home.security_groups, tags)
        };
        let action = format!("create a trunk in `{}`", home.subnet);
        let made = self.call::<CreateNetworkInterface>(action, request).await?;
        let made = made.network_interface.and_then(|it| it.network_interface_id);
        let trunk = made.ok_or_else(|| CloudError::other("EC2 gave the trunk no id"))?;
        match self.attach(&trunk, instance, index).await {
            Ok(()) => Ok(trunk),
            Err(error) => {
                if let Err(error) = self.delete_interface(&trunk).await {
                    tracing::warn!(trunk, error = %telemetry::chain(&error), "left behind");
                }
                Err(error)
            }
        }
    }

    async fn attach(&self, trunk: &str, instance: &Instance, index: i64) -> Result<(), CloudError> {
        let request = AttachNetworkInterfaceRequest {
            network_interface_id: trunk.to_owned(),
            instance_id: instance.id.clone(),
            device_index: index,
            ..Default::default()
        };
        let action = format!("attach `{trunk}` as device {index}");
        let attached = self.call::<AttachNetworkInterface>(action, request).await?;
        self.await_attached(trunk).await?;
        let request = ModifyNetworkInterfaceAttributeRequest {
            network_interface_id: trunk.to_owned(),
            attachment: Some(NetworkInterfaceAttachmentChanges {
                attachment_id: attached.attachment_id,
                delete_on_termination: Some(true),
            }),
            ..Default::default()
        };
        let action = format!("make `{trunk}` go with the instance");
        self.call::<ModifyNetworkInterfaceAttribute>(action, request).await.map(drop)
    }

    /// EC2 tells nobody: it is asked until the trunk is attached.
    pub(crate) async fn await_attached(&self, trunk: &str) -> Result<(), CloudError> {
        let is_attached = |it: &NetworkInterface| {
            let attachment = it.attachment.as_ref();
            attachment.is_some_and(|it| it.status.as_deref() == Some("attached"))
        };
        let deadline = tokio::time::Instant::now() + ATTACH_LIMIT;
        let mut pause = FIRST_PAUSE;
        loop {
            let filters = vec![filter("network-interface-id", trunk)];
            if self.interfaces(filters).await?.iter().any(is_attached) {
                return Ok(());
            }
            if tokio::time::Instant::now() >= deadline {
                let message =
                    format!("failed to verify network interface status attached for {trunk}");
                return Err(CloudError::other(message));
            }
            tokio::time::sleep(pause).await;
            pause = (pause * 2).min(LONGEST_PAUSE);
        }
    }

    /// Makes a branch and puts it on its trunk. What was made before it failed comes with the error.
    pub(crate) async fn add_branch(
        &self,
        wanted: &Wanted<'_>,
        home: &Home,
    ) -> Result<PodEni, (CloudError, Option<PodEni>)> {
        let tags = [
            (TAG_VLAN.to_owned(), wanted.vlan.to_string()),
            (TAG_TRUNK.to_owned(), wanted.trunk.to_owned()),
            (TAG_INSTANCE.to_owned(), wanted.instance.to_owned()),
        ];
        let request = CreateNetworkInterfaceRequest {
            description: Some(BRANCH_DESCRIPTION.to_owned()),
            ..self.interface(home, wanted.security_groups, tags)
        };
        let action = format!("create a branch in `{}`", home.subnet);
        let made = self.call::<CreateNetworkInterface>(action, request).await;
        let made = made.map_err(|error| (error, None))?.network_interface.unwrap_or_default();
        let mut branch = branch_of(&made, wanted.vlan, home);
        match self.associate(&branch.eni_id, wanted).await {
            Ok(association) => {
                branch.association_id = association;
                Ok(branch)
            }
            Err(error) => Err((error, Some(branch))),
        }
    }

    async fn associate(&self, branch: &str, wanted: &Wanted<'_>) -> Result<String, CloudError> {
        let request = CreateNetworkInterfacePermissionRequest {
            network_interface_id: branch.to_owned(),
            aws_service: Some("eks.amazonaws.com".to_owned()),
            permission: "INSTANCE-ATTACH".to_owned(),
            ..Default::default()
        };
        let action = format!("permit EKS to attach `{branch}`");
        self.call::<CreateNetworkInterfacePermission>(action, request).await?;
        let request = AssociateTrunkInterfaceRequest {
            branch_interface_id: branch.to_owned(),
            trunk_interface_id: wanted.trunk.to_owned(),
            vlan_id: Some(wanted.vlan.into()),
            ..Default::default()
        };
        let action = format!("associate `{branch}` with trunk `{}`", wanted.trunk);
        let made = self.call_as_service::<AssociateTrunkInterface>(action, request).await?;
        let id = made.interface_association.and_then(|it| it.association_id);
        id.ok_or_else(|| CloudError::other("no association id present in the output"))
    }

    /// All branches that were made for a trunk, with the associations that they are in.
    pub(crate) async fn branches(&self, trunk: &str) -> Result<Vec<PodEni>, CloudError> {
        let found = self.interfaces(vec![filter(&format!("tag:{TAG_TRUNK}"), trunk)]).await?;
        if found.is_empty() {
            return Ok(Vec::new());
        }
        let name = "trunk-interface-association.trunk-interface-id";
        let request = DescribeTrunkInterfaceAssociationsRequest {
            filters: vec![filter(name, trunk)],
            ..Default::default()
        };
        let action = format!("describe the associations of `{trunk}`");
        let known = self.call_as_service::<DescribeTrunkInterfaceAssociations>(action, request);
        let known = known.await?.interface_associations;
        let with_association = |eni: &NetworkInterface| {
            let vlan = tag(&eni.tag_set, TAG_VLAN).and_then(|it| it.parse().ok()).unwrap_or(0);
            let mut branch = branch_of(eni, vlan, &Home::default());
            let own = known.iter().find(|it| it.branch_interface_id == eni.network_interface_id);
            branch.association_id =
                own.and_then(|it| it.association_id.clone()).unwrap_or_default();
            branch
        };
        Ok(found.iter().map(with_association).collect())
    }

    /// What the controller has made for the cluster and nobody has any more.
    pub(crate) async fn available(&self) -> Result<Vec<String>, CloudError> {
        let cluster = format!("tag:kubernetes.io/cluster/{}", self.cluster);
        let filters = vec![
            filter("status", "available"),
            filter(&format!("tag:{}", OWNER.0), OWNER.1),
            filter(&cluster, "owned"),
        ];
        let found = self.interfaces(filters).await?;
        Ok(found.into_iter().filter_map(|it| it.network_interface_id).collect())
    }

    /// Takes a branch off its trunk and deletes it. One that is gone is fine.
    pub(crate) async fn delete_branch(&self, branch: &PodEni) -> Result<(), CloudError> {
        if !branch.association_id.is_empty() {
            let request = DisassociateTrunkInterfaceRequest {
                association_id: branch.association_id.clone(),
                ..Default::default()
            };
            let action = format!("take `{}` off its trunk", branch.eni_id);
            match self.call_as_service::<DisassociateTrunkInterface>(action, request).await {
                Err(error) if !error.is("InvalidAssociationID.NotFound") => return Err(error),
                _ => {}
            }
        }
        self.delete_interface(&branch.eni_id).await
    }

    pub(crate) async fn delete_interface(&self, eni: &str) -> Result<(), CloudError> {
        let request = DeleteNetworkInterfaceRequest {
            network_interface_id: eni.to_owned(),
            ..Default::default()
        };
        match self.call::<DeleteNetworkInterface>(format!("delete `{eni}`"), request).await {
            Err(error) if !error.is("InvalidNetworkInterfaceID.NotFound") => Err(error),
            _ => Ok(()),
        }
    }

    async fn interfaces(&self, filters: Vec<Filter>) -> Result<Vec<NetworkInterface>, CloudError> {
        let (mut found, mut next_token) = (Vec::new(), None);
        loop {
            let request = DescribeNetworkInterfacesRequest {
                filters: filters.clone(),
                next_token,
                ..Default::default()
            };
            let action = "describe network interfaces".to_owned();
            let page = self.call::<DescribeNetworkInterfaces>(action, request).await?;
            found.extend(page.network_interfaces);
            next_token = page.next_token.filter(|token| !token.is_empty());
            if next_token.is_none() {
                return Ok(found);
            }
        }
    }

    fn interface(
        &self,
        home: &Home,
        groups: &[String],
        tags: impl IntoIterator<Item = (String, String)>,
    ) -> CreateNetworkInterfaceRequest {
        let mut all = home.tags.clone();
        all.insert(OWNER.0.to_owned(), OWNER.1.to_owned());
        all.insert(format!("kubernetes.io/cluster/{}", self.cluster), "owned".to_owned());
        all.extend(tags);
        let input = |(key, value)| TagInput { key: Some(key), value: Some(value) };
        CreateNetworkInterfaceRequest {
            subnet_id: home.subnet.clone(),
            groups: groups.to_vec(),
            tag_specifications: vec![TagSpecification {
                resource_type: Some("network-interface".to_owned()),
                tags: all.into_iter().map(input).collect(),
            }],
            ..Default::default()
        }
    }
}

/// Its IPv6 address is the one that its subnet gave it.
fn branch_of(eni: &NetworkInterface, vlan_id: u32, home: &Home) -> PodEni {
    let ipv6 = eni.ipv6_addresses.first().and_then(|it| it.ipv6_address.clone());
    PodEni {
        eni_id: eni.network_interface_id.clone().unwrap_or_default(),
        mac: eni.mac_address.clone().unwrap_or_default(),
        private_ip: eni.private_ip_address.clone().unwrap_or_default(),
        ipv6_address: ipv6.unwrap_or_default(),
        vlan_id,
        subnet_cidr: home.cidr.clone(),
        subnet_v6_cidr: home.cidr_v6.clone(),
        association_id: String::new(),
    }
}

fn filter(name: &str, value: &str) -> Filter {
    Filter { name: Some(name.to_owned()), values: vec![value.to_owned()] }
}

fn tag<'a>(tags: &'a [Tag], key: &str) -> Option<&'a str> {
    tags.iter().find(|it| it.key.as_deref() == Some(key))?.value.as_deref()
}
