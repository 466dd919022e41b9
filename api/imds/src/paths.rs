//! Paths below `/latest/`, and the names of headers.
//!
//! Source: the EC2 user guide, "Instance metadata categories".

/// Asks for a session token, in seconds (1 to 21600).
pub const TTL_HEADER: &str = "x-aws-ec2-metadata-token-ttl-seconds";
/// Carries the session token.
pub const TOKEN_HEADER: &str = "x-aws-ec2-metadata-token";
/// The longest life of a session token, in seconds.
pub const MAX_TTL: u32 = 21600;

pub const TOKEN: &str = "api/token";
pub const USER_DATA: &str = "user-data";
pub const IDENTITY_DOCUMENT: &str = "dynamic/instance-identity/document";

pub const AMI_ID: &str = "meta-data/ami-id";
pub const AVAILABILITY_ZONE: &str = "meta-data/placement/availability-zone";
pub const DOMAIN: &str = "meta-data/services/domain";
pub const HOSTNAME: &str = "meta-data/hostname";
pub const IAM_INFO: &str = "meta-data/iam/info";
pub const INSTANCE_ID: &str = "meta-data/instance-id";
pub const INSTANCE_TYPE: &str = "meta-data/instance-type";
pub const LOCAL_HOSTNAME: &str = "meta-data/local-hostname";
/// Absent where the primary interface has none.
pub const IPV6: &str = "meta-data/ipv6";
pub const LOCAL_IPV4: &str = "meta-data/local-ipv4";
pub const MAC: &str = "meta-data/mac";
pub const MACS: &str = "meta-data/network/interfaces/macs/";
pub const PARTITION: &str = "meta-data/services/partition";
pub const PUBLIC_IPV4: &str = "meta-data/public-ipv4";
/// The key pair that the instance was launched with; absent where there was none.
pub const OPENSSH_KEY: &str = "meta-data/public-keys/0/openssh-key";
pub const REGION: &str = "meta-data/placement/region";
pub const SECURITY_CREDENTIALS: &str = "meta-data/iam/security-credentials/";
pub const SPOT_ACTION: &str = "meta-data/spot/instance-action";
/// What Auto Scaling wants the instance to be; absent where it belongs to no group.
pub const TARGET_LIFECYCLE_STATE: &str = "meta-data/autoscaling/target-lifecycle-state";

/// What is said about one interface.
pub mod interface {
    pub const DEVICE_NUMBER: &str = "device-number";
    pub const INTERFACE_ID: &str = "interface-id";
    pub const IPV4_PREFIX: &str = "ipv4-prefix";
    pub const IPV6_PREFIX: &str = "ipv6-prefix";
    pub const IPV6S: &str = "ipv6s";
    pub const LOCAL_IPV4S: &str = "local-ipv4s";
    pub const NETWORK_CARD: &str = "network-card";
    pub const SECURITY_GROUP_IDS: &str = "security-group-ids";
    pub const SUBNET_CIDR: &str = "subnet-ipv4-cidr-block";
    pub const SUBNET_IPV6_CIDRS: &str = "subnet-ipv6-cidr-blocks";
    pub const SUBNET_ID: &str = "subnet-id";
    pub const VPC_CIDRS: &str = "vpc-ipv4-cidr-blocks";
    pub const VPC_IPV6_CIDRS: &str = "vpc-ipv6-cidr-blocks";
    pub const VPC_ID: &str = "vpc-id";
}

/// The path of `leaf` ([`interface`]) of the interface with hardware address `mac`.
pub fn of_interface(mac: &str, leaf: &str) -> String {
    format!("{MACS}{mac}/{leaf}")
}
