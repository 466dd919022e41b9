//! What EKS refuses before it makes or changes a cluster.

use std::{collections::BTreeSet, net::Ipv6Addr};

use aws_ec2::subnet::{DescribeSubnets, DescribeSubnetsRequest};
use aws_eks::{
    CreateClusterRequest, KubernetesNetworkConfig, UpdateClusterConfigRequest, VpcConfigRequest,
};
use aws_wire::Fault;
use ipnet::IpNet;
use serde_json::Value;

use crate::{Eks, faults, records::Cluster, service::KUBERNETES_VERSION};

/// EKS's choice where the customer makes none and the VPC does not overlap with it.
const SERVICE_CIDR: &str = "10.100.0.0/16";
/// One way only: each may change to those that come after it.
const AUTHENTICATION_MODES: [&str; 3] = ["CONFIG_MAP", "API_AND_CONFIG_MAP", "API"];

/// Where the cluster will be, as its subnets say.
pub(crate) struct Place {
    pub(crate) vpc_id: String,
}

/// What EKS has and this region does not: whoever asks for it would believe to have it.
fn supported(request: &CreateClusterRequest) -> Result<(), Fault> {
    let parts = [
        ("computeConfig", &request.compute_config),
        ("controlPlaneScalingConfig", &request.control_plane_scaling_config),
        ("encryptionConfig", &request.encryption_config),
        ("kubeApiServerConfig", &request.kube_api_server_config),
        ("kubeControllerManagerConfig", &request.kube_controller_manager_config),
        ("kubeSchedulerConfig", &request.kube_scheduler_config),
        ("outpostConfig", &request.outpost_config),
        ("remoteNetworkConfig", &request.remote_network_config),
        ("storageConfig", &request.storage_config),
        ("zonalShiftConfig", &request.zonal_shift_config),
    ];
    match parts.into_iter().find(|(_, it)| asks(it)) {
        None => Ok(()),
        Some((name, _)) => {
            Err(faults::invalid_parameter(format!("{name} is not supported in this region.")))
        }
    }
}

/// Whether a part of a request wants something: clients send some that say no.
fn asks(value: &Value) -> bool {
    match value {
        Value::Null => false,
        Value::Bool(it) => *it,
        Value::Number(_) => true,
        Value::String(it) => !it.is_empty(),
        Value::Array(items) => items.iter().any(asks),
        Value::Object(fields) => fields.values().any(asks),
    }
}

/// Checks everything that needs no record of EKS's own.
pub(crate) async fn place(eks: &Eks, request: &CreateClusterRequest) -> Result<Place, Fault> {
    name(&request.name)?;
    supported(request)?;
    if request.version.as_deref().is_some_and(|it| it != KUBERNETES_VERSION) {
        return Err(faults::invalid_parameter("unsupported Kubernetes version"));
    }
    let source = eks.arn(&format!("cluster/{}", request.name));
    let roles = &eks.0.config.roles;
    if !roles.can_be_assumed_for(&request.role_arn, "eks.amazonaws.com", &source) {
        return Err(faults::invalid_parameter(format!(
            "Role with arn: {}, could not be assumed because it does not exist or the trusted \
             entity is not correct",
            request.role_arn
        )));
    }
    let config = &request.resources_vpc_config;
    let is_public = config.endpoint_public_access.unwrap_or(true);
    has_endpoint(is_public, config.endpoint_private_access.unwrap_or(false))?;
    access_cidrs(&config.public_access_cidrs)?;
    let network = request.kubernetes_network_config.clone().unwrap_or_default();
    subnets(eks, &config.subnet_ids, is_ipv6(&network)?).await
}

fn name(name: &str) -> Result<(), Fault> {
    let is_part = |c: char| c.is_ascii_alphanumeric() || c == '-' || c == '_';
    let begins_well = name.starts_with(|c: char| c.is_ascii_alphanumeric());
    if begins_well && name.len() <= 100 && name.chars().all(is_part) {
        return Ok(());
    }
    Err(faults::invalid_parameter(
        "The name can contain only alphanumeric characters (case-sensitive), hyphens, and \
         underscores. It must start with an alphanumeric character and can't be longer than 100 \
         characters.",
    ))
}

async fn subnets(eks: &Eks, ids: &[String], is_ipv6: bool) -> Result<Place, Fault> {
    if ids.is_empty() {
        return Err(faults::invalid_parameter("Subnets cannot be empty"));
    }
    let request = DescribeSubnetsRequest { subnet_ids: ids.to_vec(), ..Default::default() };
    let found = eks.0.config.client.call::<DescribeSubnets>(request).await;
    let found = found.map_err(|it| faults::of_call(&it))?;
    let without = found.subnets.iter().filter(|it| it.ipv6_cidr_block_association_set.is_empty());
    let without: Vec<_> = without.filter_map(|it| it.subnet_id.as_deref()).collect();
    if is_ipv6 && !without.is_empty() {
        return Err(faults::invalid_parameter(format!(
            "Subnets specified must have an IPv6 CIDR block when ipFamily is ipv6: {}",
            without.join(", ")
        )));
    }
    let zones: BTreeSet<_> = found.subnets.iter().map(|it| it.availability_zone.clone()).collect();
    if zones.len() < 2 {
        return Err(faults::invalid_parameter(
            "Subnets specified must be in at least two different AZs",
        ));
    }
    let mut vpcs: Vec<_> = found.subnets.iter().filter_map(|it| it.vpc_id.clone()).collect();
    vpcs.dedup();
    match vpcs.as_slice() {
        [vpc_id] => Ok(Place { vpc_id: vpc_id.clone() }),
        _ => Err(faults::invalid_parameter("Subnets specified must belong to the same VPC")),
    }
}

fn has_endpoint(is_public: bool, is_private: bool) -> Result<(), Fault> {
    match is_public || is_private {
        true => Ok(()),
        false => Err(faults::invalid_parameter(
            "Both private and public endpoint access cannot be false",
        )),
    }
}

fn access_cidrs(cidrs: &[String]) -> Result<(), Fault> {
    match cidrs.iter().find(|it| it.parse::<IpNet>().is_err()) {
        None => Ok(()),
        Some(bad) => Err(faults::invalid_parameter(format!("Invalid CIDR block: {bad}"))),
    }
}

/// Whether Services and pods are to have IPv6 addresses.
fn is_ipv6(network: &KubernetesNetworkConfig) -> Result<bool, Fault> {
    match network.ip_family.as_deref() {
        None | Some("ipv4") => Ok(false),
        Some("ipv6") => Ok(true),
        Some(other) => Err(faults::invalid_parameter(format!(
            "Value '{other}' at 'kubernetesNetworkConfig.ipFamily' failed to satisfy constraint: \
             Member must satisfy enum value set: [ipv4, ipv6]"
        ))),
    }
}

/// The range of an IPv6 cluster is EKS's choice, of the unique local addresses (RFC 4193).
pub(crate) fn service_cidr(network: &KubernetesNetworkConfig) -> Result<String, Fault> {
    let asked = network.service_ipv4_cidr.as_deref();
    if is_ipv6(network)? {
        if asked.is_some() {
            return Err(faults::invalid_parameter(
                "serviceIpv4Cidr can not be specified when ipFamily is ipv6",
            ));
        }
        let [a, b, c, d, e] = entropy::bytes();
        let prefix =
            Ipv6Addr::from_bits(u128::from(u64::from_be_bytes([0, 0, 0xfd, a, b, c, d, e])) << 80);
        return Ok(format!("{prefix}/108"));
    }
    match asked {
        None | Some(SERVICE_CIDR) => Ok(SERVICE_CIDR.to_owned()),
        // Deviation: one service CIDR; the manifests and the API server know it by heart.
        Some(other) => Err(faults::invalid_parameter(format!(
            "serviceIpv4Cidr {other} is not supported in this region; use {SERVICE_CIDR}"
        ))),
    }
}

/// Without the entry of its creator, nobody could ever use a cluster whose ConfigMap is empty.
pub(crate) fn creator_is_admin(mode: &str, asked: Option<bool>) -> Result<bool, Fault> {
    match (mode, asked.unwrap_or(true)) {
        ("CONFIG_MAP", false) => Err(faults::invalid_parameter(
            "bootstrapClusterCreatorAdminPermissions must be true if cluster's authentication mode \
             is set to CONFIG_MAP",
        )),
        (_, is_admin) => Ok(is_admin),
    }
}

/// The API's default is not the console's, which is `API_AND_CONFIG_MAP`.
pub(crate) fn authentication_mode(asked: Option<&str>) -> Result<String, Fault> {
    let asked = asked.unwrap_or("CONFIG_MAP");
    match AUTHENTICATION_MODES.contains(&asked) {
        true => Ok(asked.to_owned()),
        false => Err(faults::invalid_parameter(format!(
            "Value '{asked}' at 'accessConfig.authenticationMode' failed to satisfy constraint: \
             Member must satisfy enum value set: [API, API_AND_CONFIG_MAP, CONFIG_MAP]"
        ))),
    }
}

/// A change to a cluster that is a matter of records.
pub(crate) struct Update {
    pub(crate) kind: &'static str,
    pub(crate) params: Vec<(String, String)>,
    pub(crate) change: Change,
}

/// What [`Update`] writes.
pub(crate) enum Change {
    AuthenticationMode(String),
    DeletionProtection(bool),
    Endpoint { is_public: bool, is_private: bool, cidrs: Vec<String> },
}

impl Change {
    pub(crate) fn apply(self, cluster: &mut Cluster) {
        match self {
            Self::AuthenticationMode(mode) => cluster.authentication_mode = mode,
            Self::DeletionProtection(is_on) => cluster.deletion_protection = is_on,
            Self::Endpoint { is_public, is_private, cidrs } => {
                cluster.endpoint_public_access = is_public;
                cluster.endpoint_private_access = is_private;
                cluster.public_access_cidrs = cidrs;
            }
        }
    }
}

pub(crate) fn update(
    cluster: &Cluster,
    request: &UpdateClusterConfigRequest,
) -> Result<Update, Fault> {
    let facets = [
        request.access_config.is_some(),
        request.deletion_protection.is_some(),
        request.resources_vpc_config.is_some(),
    ];
    if facets.into_iter().filter(|it| *it).count() > 1 {
        return Err(faults::invalid_parameter("Only one type of update can be allowed."));
    }
    if let Some(config) = &request.resources_vpc_config {
        return endpoint_update(cluster, config);
    }
    if let Some(mode) = request.access_config.as_ref().and_then(|it| it.authentication_mode.clone())
    {
        return mode_update(&cluster.authentication_mode, mode);
    }
    if let Some(is_on) = request.deletion_protection {
        return Ok(Update {
            kind: "DeletionProtectionUpdate",
            params: vec![("DeletionProtection".to_owned(), is_on.to_string())],
            change: Change::DeletionProtection(is_on),
        });
    }
    Err(faults::invalid_parameter(
        "This region supports updates of accessConfig, deletionProtection and the endpoint access \
         of resourcesVpcConfig only.",
    ))
}

/// What is not named stays as it is.
fn endpoint_update(cluster: &Cluster, config: &VpcConfigRequest) -> Result<Update, Fault> {
    if !config.subnet_ids.is_empty() || !config.security_group_ids.is_empty() {
        return Err(faults::invalid_parameter(
            "This region does not support updates of a cluster's subnets and security groups.",
        ));
    }
    let is_public = config.endpoint_public_access.unwrap_or(cluster.endpoint_public_access);
    let is_private = config.endpoint_private_access.unwrap_or(cluster.endpoint_private_access);
    let cidrs = match config.public_access_cidrs.is_empty() {
        true => cluster.public_access_cidrs.clone(),
        false => config.public_access_cidrs.clone(),
    };
    has_endpoint(is_public, is_private)?;
    access_cidrs(&cidrs)?;
    let wanted = (is_public, is_private, &cidrs);
    let present = (
        cluster.endpoint_public_access,
        cluster.endpoint_private_access,
        &cluster.public_access_cidrs,
    );
    if wanted == present {
        return Err(faults::invalid_parameter(format!(
            "Cluster is already at the desired configuration with endpointPrivateAccess: \
             {is_private} , endpointPublicAccess: {is_public}, and Public Endpoint Restrictions: \
             [{}]",
            cidrs.join(", ")
        )));
    }
    let list = serde_json::to_string(&cidrs).unwrap_or_default();
    let param = |kind: &str, value: String| (kind.to_owned(), value);
    Ok(Update {
        kind: "EndpointAccessUpdate",
        params: vec![
            param("EndpointPublicAccess", is_public.to_string()),
            param("EndpointPrivateAccess", is_private.to_string()),
            param("PublicAccessCidrs", list),
        ],
        change: Change::Endpoint { is_public, is_private, cidrs },
    })
}

fn mode_update(current: &str, wanted: String) -> Result<Update, Fault> {
    let wanted = authentication_mode(Some(&wanted))?;
    let rank = |mode: &str| AUTHENTICATION_MODES.iter().position(|it| *it == mode);
    if rank(&wanted) == rank(current) {
        return Err(faults::invalid_parameter(format!(
            "Unsupported authentication mode update: the authentication mode is already {current}"
        )));
    }
    if rank(&wanted) < rank(current) {
        return Err(faults::invalid_parameter(format!(
            "Unsupported authentication mode update from {current} to {wanted}"
        )));
    }
    Ok(Update {
        kind: "AccessConfigUpdate",
        params: vec![("AuthenticationMode".to_owned(), wanted.clone())],
        change: Change::AuthenticationMode(wanted),
    })
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn names_begin_with_a_letter_or_digit_and_hold_no_dots() {
        assert!(name("stead-1_a").is_ok());
        for bad in ["", "-a", "a.b", &"a".repeat(101)] {
            assert!(name(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn what_is_not_there_is_refused_to_who_asks_for_it() {
        let told = |parts: Value| {
            let mut request = json!({"name": "a", "roleArn": "r", "resourcesVpcConfig": {}});
            request.as_object_mut().unwrap().extend(parts.as_object().unwrap().clone());
            supported(&serde_json::from_value(request).unwrap()).map_err(|it| it.message)
        };
        assert_eq!(told(json!({})), Ok(()));
        let off = json!({"enabled": false, "nodePools": []});
        assert_eq!(told(json!({"computeConfig": off, "zonalShiftConfig": null})), Ok(()));
        let secrets = json!([{"resources": ["secrets"], "provider": {"keyArn": "arn:k"}}]);
        for (name, value) in [
            ("encryptionConfig", secrets),
            ("computeConfig", json!({"enabled": true})),
            ("storageConfig", json!({"blockStorage": {"enabled": true}})),
            ("outpostConfig", json!({"outpostArns": ["arn:o"]})),
        ] {
            let refused = told(json!({ name: value })).unwrap_err();
            assert_eq!(refused, format!("{name} is not supported in this region."));
        }
    }

    #[test]
    fn the_authentication_mode_goes_one_way() {
        assert!(mode_update("CONFIG_MAP", "API".to_owned()).is_ok());
        assert!(mode_update("API", "CONFIG_MAP".to_owned()).is_err());
        assert!(mode_update("API", "API".to_owned()).is_err());
        assert!(mode_update("API", "NONE".to_owned()).is_err());
    }

    #[test]
    fn a_cluster_of_the_config_map_alone_keeps_its_creator() {
        assert_eq!(authentication_mode(None).unwrap(), "CONFIG_MAP");
        assert!(creator_is_admin("CONFIG_MAP", Some(false)).is_err());
        assert!(creator_is_admin("CONFIG_MAP", None).unwrap());
        assert!(!creator_is_admin("API", Some(false)).unwrap());
    }
}
