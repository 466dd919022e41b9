//! What EKS keeps: clusters, access entries, add-ons, updates.

use std::{
    collections::BTreeMap,
    net::{Ipv4Addr, Ipv6Addr},
};

use ipnet::IpNet;
use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::addons::ResolveConflicts;

/// A cluster. Its key is its name.
#[derive(Clone, Debug, PartialEq, Deserialize, Serialize)]
pub struct Cluster {
    pub name: String,
    /// 32 hexadecimal digits: part of the endpoint's and the issuer's host name.
    pub id: String,
    pub version: String,
    pub role_arn: String,
    pub vpc_id: String,
    pub subnet_ids: Vec<String>,
    /// What the customer named; the cluster security group is beside them.
    pub security_group_ids: Vec<String>,
    pub cluster_security_group_id: Option<String>,
    pub endpoint_public_access: bool,
    pub endpoint_private_access: bool,
    pub public_access_cidrs: Vec<String>,
    /// The endpoint's address on the internet, whether it answers there or not. Clusters of older
    /// regions are given one.
    #[serde(default)]
    pub public_address: Option<Ipv4Addr>,
    /// Of Services: an IPv6 one says that the cluster is an IPv6 cluster.
    pub service_cidr: String,
    pub authentication_mode: String,
    pub bootstrap_creator_admin: bool,
    pub deletion_protection: bool,
    /// `STANDARD` or `EXTENDED`; none: of an older region, which had the latter alone.
    #[serde(default)]
    pub support_type: Option<String>,
    pub status: Status,
    pub created_at: Timestamp,
    pub tags: BTreeMap<String, String>,
    pub client_token: Option<String>,
    /// The control plane's interfaces, in the order of their zones.
    pub interfaces: Vec<Interface>,
    pub certificate_authority_pem: Option<String>,
    /// Where a client on the region's own machine reaches the API.
    pub host_endpoint: Option<String>,
    pub issues: Vec<(String, String)>,
}

/// A requester-managed interface of a control plane.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize)]
pub struct Interface {
    pub id: String,
    pub address: Ipv4Addr,
    /// Of an IPv6 cluster.
    #[serde(default)]
    pub ipv6_address: Option<Ipv6Addr>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, Serialize)]
pub enum Status {
    Creating,
    Active,
    Updating,
    Deleting,
    Failed,
    Degraded,
    /// An add-on alone has these two.
    CreateFailed,
    UpdateFailed,
}

impl Status {
    /// As clusters and add-ons are described.
    pub fn name(self) -> &'static str {
        match self {
            Self::Creating => "CREATING",
            Self::Active => "ACTIVE",
            Self::Updating => "UPDATING",
            Self::Deleting => "DELETING",
            Self::Failed => "FAILED",
            Self::Degraded => "DEGRADED",
            Self::CreateFailed => "CREATE_FAILED",
            Self::UpdateFailed => "UPDATE_FAILED",
        }
    }
}

impl Cluster {
    /// `ipFamily: ipv6`.
    pub fn is_ipv6(&self) -> bool {
        self.service_cidr.contains(':')
    }

    /// The cluster's DNS: the tenth address of the Services' range.
    pub fn cluster_dns(&self) -> String {
        match self.service_cidr.parse() {
            Ok(IpNet::V6(it)) => Ipv6Addr::from_bits(it.network().to_bits() + 10).to_string(),
            Ok(IpNet::V4(it)) => Ipv4Addr::from_bits(it.network().to_bits() + 10).to_string(),
            Err(_) => String::new(),
        }
    }

    /// `HEX.gr7.REGION.eks.amazonaws.com`: the endpoint's name inside of the VPC.
    pub fn endpoint_host(&self, region: &str) -> String {
        format!("{}.gr7.{region}.eks.amazonaws.com", self.id.to_uppercase())
    }

    /// What the endpoint's name means inside of the VPC `vpc_id`. An endpoint with private access
    /// alone has its private addresses for everybody, though only its own VPC leads to them.
    pub fn endpoint_addresses(&self, vpc_id: &str) -> Vec<Ipv4Addr> {
        let is_private = self.endpoint_private_access && self.vpc_id == vpc_id;
        match self.public_address {
            Some(address) if self.endpoint_public_access && !is_private => vec![address],
            _ => self.interfaces.iter().map(|it| it.address).collect(),
        }
    }

    pub fn issuer(&self, region: &str) -> String {
        format!("https://oidc.eks.{region}.amazonaws.com/id/{}", self.id.to_uppercase())
    }
}

/// An access entry. Its key is `CLUSTER/PRINCIPAL-ARN`.
#[derive(Clone, Debug, PartialEq, Deserialize, Serialize)]
pub struct AccessEntry {
    pub cluster: String,
    pub principal_arn: String,
    /// `AROA…`, `AIDA…` or the account: whoever is made anew under the same name is somebody else.
    /// Entries of older regions do not know it.
    #[serde(default)]
    pub principal_id: Option<String>,
    /// STANDARD, EC2_LINUX, …
    pub kind: String,
    pub username: String,
    pub groups: Vec<String>,
    pub id: String,
    pub created_at: Timestamp,
    pub modified_at: Timestamp,
    pub tags: BTreeMap<String, String>,
    pub policies: Vec<AssociatedPolicy>,
    /// The call that made it, where that had a token.
    #[serde(default)]
    pub asked: Option<Asked>,
}

/// An access policy of an entry, and where it holds.
#[derive(Clone, Debug, PartialEq, Deserialize, Serialize)]
pub struct AssociatedPolicy {
    pub arn: String,
    /// Empty: the whole cluster.
    pub namespaces: Vec<String>,
    pub associated_at: Timestamp,
    pub modified_at: Timestamp,
}

/// A Pod Identity association. Its key is `CLUSTER/NAMESPACE/SERVICE-ACCOUNT`.
#[derive(Clone, Debug, PartialEq, Deserialize, Serialize)]
pub struct PodIdentityAssociation {
    pub cluster: String,
    /// `a-` and 17 characters.
    pub id: String,
    pub namespace: String,
    pub service_account: String,
    pub role_arn: String,
    /// What is assumed with the role, for the pods.
    pub target_role_arn: Option<String>,
    /// There where a target role is.
    pub external_id: Option<String>,
    pub disable_session_tags: bool,
    /// A document that limits the pods' session.
    pub policy: Option<String>,
    pub tags: BTreeMap<String, String>,
    /// The ARN of the add-on that it was made for.
    pub owner_arn: Option<String>,
    pub created_at: Timestamp,
    pub modified_at: Timestamp,
    /// The call that made it, where that had a token.
    pub asked: Option<Asked>,
}

/// An installed add-on. Its key is `CLUSTER/NAME`.
#[derive(Clone, Debug, PartialEq, Deserialize, Serialize)]
pub struct Addon {
    pub cluster: String,
    pub name: String,
    pub version: String,
    pub status: Status,
    pub id: String,
    pub created_at: Timestamp,
    pub modified_at: Timestamp,
    pub role_arn: Option<String>,
    /// The role that its service account had when its objects were last applied.
    #[serde(default)]
    pub applied_role: Option<String>,
    pub configuration: Option<String>,
    pub tags: BTreeMap<String, String>,
    pub issues: Vec<(String, String)>,
    /// A removal that leaves the objects in the cluster.
    pub preserve: bool,
    /// The update that is under way.
    pub update_id: Option<String>,
    /// When its objects were last applied; its workload is waited for since.
    #[serde(default)]
    pub applied_at: Option<Timestamp>,
    /// The configuration that was applied last.
    #[serde(default)]
    pub applied_configuration: Option<String>,
    /// It came with the cluster and nobody has asked for it: who does takes it over.
    #[serde(default)]
    pub is_bootstrapped: bool,
    /// What becomes of fields that others have changed, when it is applied next.
    #[serde(default)]
    pub resolve_conflicts: ResolveConflicts,
    /// The call that made it, where that had a token.
    #[serde(default)]
    pub asked: Option<Asked>,
}

/// An update of a cluster, a node group or an add-on. Its key is `CLUSTER/ID`.
#[derive(Clone, Debug, PartialEq, Deserialize, Serialize)]
pub struct Update {
    pub cluster: String,
    pub id: String,
    pub nodegroup: Option<String>,
    pub addon: Option<String>,
    pub kind: String,
    /// InProgress, Successful, Failed, Cancelled.
    pub status: String,
    pub params: Vec<(String, String)>,
    pub errors: Vec<(String, String)>,
    /// What the errors are about.
    #[serde(default)]
    pub resources: Vec<String>,
    /// What began it, where the caller gave that a token.
    #[serde(default)]
    pub asked: Option<Asked>,
    pub created_at: Timestamp,
}

/// A call with a token, which is not made twice.
#[derive(Clone, Debug, PartialEq, Deserialize, Serialize)]
pub struct Asked {
    pub token: String,
    /// All that was asked, as JSON.
    pub request: String,
}
