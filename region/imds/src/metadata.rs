//! What is known of an instance: all that IMDS can tell.

use std::{
    collections::BTreeMap,
    future::Future,
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
    sync::Arc,
};

use api_imds::SecurityCredentials;
use ipnet::{Ipv4Net, Ipv6Net};
use transport::BoxError;

/// Whoever knows the instances.
pub trait Metadata: Send + Sync + 'static {
    /// The instance in `vpc` that owns `source` with one of its interfaces.
    fn instance(&self, vpc: &str, source: IpAddr) -> Option<Arc<InstanceMetadata>>;

    /// Credentials of `role` for that instance, or why there are none.
    fn credentials(
        &self,
        instance: &InstanceMetadata,
        role: &str,
    ) -> impl Future<Output = Result<SecurityCredentials, CredentialsError>> + Send;
}

/// Why an instance's role gives no credentials.
#[derive(Debug, thiserror::Error)]
#[error("the role `{role}` cannot be assumed")]
pub struct CredentialsError {
    pub role: String,
    /// `AssumeRoleUnauthorizedAccess`, and what else the document's `Code` may be.
    pub code: String,
    #[source]
    pub source: BoxError,
}

/// One instance.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct InstanceMetadata {
    pub identity: Identity,
    /// The private DNS name: `ip-192-168-0-12.ec2.internal`.
    pub hostname: String,
    pub zone_id: String,
    pub reservation_id: String,
    /// The name of its placement group, and the partition that it is in.
    pub placement_group: Option<(String, Option<u32>)>,
    pub launch_index: u32,
    pub public_ipv4: Option<Ipv4Addr>,
    pub key_name: Option<String>,
    /// The key pair's key, as a line of `authorized_keys`.
    pub public_key: Option<String>,
    pub user_data: Option<Vec<u8>>,
    /// By device number; the first is the primary.
    pub interfaces: Vec<Interface>,
    pub instance_profile: Option<Profile>,
    pub tags: BTreeMap<String, String>,
    pub life_cycle: String,
    /// The notice of a spot interruption or a rebalance, as JSON, where one was given.
    pub spot_action: Option<String>,
    pub rebalance_recommendation: Option<String>,
    /// What Auto Scaling wants the instance to be, where it belongs to a group.
    pub target_lifecycle_state: Option<String>,
    pub options: Options,
}

/// What the identity document says.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Identity {
    pub account: String,
    pub region: String,
    pub zone: String,
    pub image_id: String,
    pub instance_id: String,
    pub instance_type: String,
    /// `x86_64` or `arm64`.
    pub architecture: String,
    /// RFC 3339.
    pub launch_time: String,
}

/// An instance profile and its role.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Profile {
    pub arn: String,
    pub id: String,
    pub role: Option<String>,
}

/// One network interface.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Interface {
    pub id: String,
    /// In lower case, with colons.
    pub mac: String,
    pub device_number: u32,
    pub primary: Ipv4Addr,
    pub secondary: Vec<Ipv4Addr>,
    pub prefixes: Vec<Ipv4Net>,
    pub ipv6_addresses: Vec<Ipv6Addr>,
    pub ipv6_prefixes: Vec<Ipv6Net>,
    pub public_ipv4: Option<Ipv4Addr>,
    pub subnet_id: String,
    pub subnet_cidr: Ipv4Net,
    pub vpc_id: String,
    pub vpc_cidrs: Vec<Ipv4Net>,
    pub subnet_ipv6_cidrs: Vec<Ipv6Net>,
    pub vpc_ipv6_cidrs: Vec<Ipv6Net>,
    /// Id and name.
    pub security_groups: Vec<(String, String)>,
    pub owner: String,
    /// `ip-192-168-0-12.ec2.internal`.
    pub hostname: String,
}

/// `MetadataOptions` of the instance.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Options {
    pub is_enabled: bool,
    /// `http-protocol-ipv6: enabled`: it answers at `[fd00:ec2::254]` too.
    pub by_ipv6: bool,
    /// `http-tokens: required`.
    pub tokens_required: bool,
    pub hop_limit: u8,
    pub tags_enabled: bool,
}

impl Default for Options {
    /// EC2's default for images that say `imds-support: v2.0`.
    fn default() -> Self {
        Self {
            is_enabled: true,
            by_ipv6: false,
            tokens_required: true,
            hop_limit: 2,
            tags_enabled: false,
        }
    }
}

impl Interface {
    pub fn owns(&self, address: impl Into<IpAddr>) -> bool {
        match address.into() {
            IpAddr::V4(address) => {
                self.primary == address
                    || self.secondary.contains(&address)
                    || self.prefixes.iter().any(|prefix| prefix.contains(&address))
            }
            IpAddr::V6(address) => {
                self.ipv6_addresses.contains(&address)
                    || self.ipv6_prefixes.iter().any(|prefix| prefix.contains(&address))
            }
        }
    }
}

impl InstanceMetadata {
    /// Says whether one of the interfaces owns `address`.
    pub fn owns(&self, address: impl Into<IpAddr>) -> bool {
        let address = address.into();
        self.interfaces.iter().any(|it| it.owns(address))
    }
}
