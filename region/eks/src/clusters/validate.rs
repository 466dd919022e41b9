//! What EKS refuses before it makes or changes a cluster.

use std::{collections::BTreeSet, net::Ipv6Addr};

use aws_ec2::subnet::{DescribeSubnets, DescribeSubnetsRequest};
use aws_eks::{CreateClusterRequest, KubernetesNetworkConfig, UpgradePolicy};
use aws_wire::Fault;
use ipnet::IpNet;
use serde_json::{Value, json};

use crate::{Eks, faults, service::KUBERNETES_VERSION};

/// EKS's choice where the customer makes none and the VPC does not overlap with it.
const SERVICE_CIDR: &str = "10.100.0.0/16";
/// What every control plane has.
pub(crate) const STANDARD_TIER: &str = "standard";
/// One way only: each may change to those that come after it.
pub(super) const AUTHENTICATION_MODES: [&str; 3] = ["CONFIG_MAP", "API_AND_CONFIG_MAP", "API"];

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
    refuse(&parts)
}

/// Refuses the first of these parts that wants something.
pub(super) fn refuse(parts: &[(&str, &Value)]) -> Result<(), Fault> {
    match parts.iter().find(|(name, it)| asks(it) && !is_default(name, it)) {
        None => Ok(()),
        Some((name, _)) => Err(unsupported(name)),
    }
}

pub(super) fn unsupported(name: &str) -> Fault {
    faults::invalid_parameter(format!("{name} is not supported in this region."))
}

/// Whether a part wants no more than every cluster has.
fn is_default(name: &str, value: &Value) -> bool {
    name == "controlPlaneScalingConfig" && *value == json!({ "tier": STANDARD_TIER })
}

/// EKS's choice of upgrade policy.
pub(crate) const SUPPORT_TYPE: &str = "EXTENDED";

/// For how long a version is supported; none here comes to its end.
pub(crate) fn support_type(asked: Option<&UpgradePolicy>) -> Result<String, Fault> {
    match asked.and_then(|it| it.support_type.as_deref()) {
        None => Ok(SUPPORT_TYPE.to_owned()),
        Some(it @ ("STANDARD" | "EXTENDED")) => Ok(it.to_owned()),
        Some(other) => Err(faults::invalid_parameter(format!(
            "Value '{other}' at 'upgradePolicy.supportType' failed to satisfy constraint: Member \
             must satisfy enum value set: [STANDARD, EXTENDED]"
        ))),
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

pub(super) fn has_endpoint(is_public: bool, is_private: bool) -> Result<(), Fault> {
    match is_public || is_private {
        true => Ok(()),
        false => Err(faults::invalid_parameter(
            "Both private and public endpoint access cannot be false",
        )),
    }
}

pub(super) fn access_cidrs(cidrs: &[String]) -> Result<(), Fault> {
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

#[cfg(test)]
mod tests {
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
        assert_eq!(told(json!({"controlPlaneScalingConfig": {"tier": "standard"}})), Ok(()));
        let secrets = json!([{"resources": ["secrets"], "provider": {"keyArn": "arn:k"}}]);
        for (name, value) in [
            ("encryptionConfig", secrets),
            ("computeConfig", json!({"enabled": true})),
            ("storageConfig", json!({"blockStorage": {"enabled": true}})),
            ("outpostConfig", json!({"outpostArns": ["arn:o"]})),
            ("controlPlaneScalingConfig", json!({"tier": "tier-xl"})),
        ] {
            let refused = told(json!({ name: value })).unwrap_err();
            assert_eq!(refused, format!("{name} is not supported in this region."));
        }
    }

    #[test]
    fn a_cluster_of_the_config_map_alone_keeps_its_creator() {
        assert_eq!(authentication_mode(None).unwrap(), "CONFIG_MAP");
        assert!(creator_is_admin("CONFIG_MAP", Some(false)).is_err());
        assert!(creator_is_admin("CONFIG_MAP", None).unwrap());
        assert!(!creator_is_admin("API", Some(false)).unwrap());
    }
}
