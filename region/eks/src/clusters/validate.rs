//! What EKS refuses before it makes or changes a cluster.

use std::collections::BTreeSet;

use aws_ec2::subnet::{DescribeSubnets, DescribeSubnetsRequest};
use aws_eks::{CreateClusterRequest, UpdateClusterConfigRequest};
use aws_wire::Fault;

use crate::{Eks, faults, records::Cluster, service::KUBERNETES_VERSION};

/// EKS's choice where the customer makes none and the VPC does not overlap with it.
const SERVICE_CIDR: &str = "10.100.0.0/16";
/// One way only: each may change to those that come after it.
const AUTHENTICATION_MODES: [&str; 3] = ["CONFIG_MAP", "API_AND_CONFIG_MAP", "API"];

/// Where the cluster will be, as its subnets say.
pub(crate) struct Place {
    pub(crate) vpc_id: String,
}

/// Checks everything that needs no record of EKS's own.
pub(crate) async fn place(eks: &Eks, request: &CreateClusterRequest) -> Result<Place, Fault> {
    name(&request.name)?;
    if request.version.as_deref().is_some_and(|it| it != KUBERNETES_VERSION) {
        return Err(faults::invalid_parameter("unsupported Kubernetes version"));
    }
    if !eks.0.config.roles.can_be_assumed(&request.role_arn, "eks.amazonaws.com") {
        return Err(faults::invalid_parameter(format!(
            "Role with arn: {}, could not be assumed because it does not exist or the trusted \
             entity is not correct",
            request.role_arn
        )));
    }
    subnets(eks, &request.resources_vpc_config.subnet_ids).await
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

async fn subnets(eks: &Eks, ids: &[String]) -> Result<Place, Fault> {
    if ids.is_empty() {
        return Err(faults::invalid_parameter("Subnets cannot be empty"));
    }
    let request = DescribeSubnetsRequest { subnet_ids: ids.to_vec(), ..Default::default() };
    let found = eks.0.config.client.call::<DescribeSubnets>(request).await;
    let found = found.map_err(|error| match error.fault() {
        Some(fault) => faults::invalid_parameter(fault.message.clone()),
        None => Fault::internal(error.to_string()),
    })?;
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

pub(crate) fn service_cidr(asked: Option<&str>) -> Result<String, Fault> {
    match asked {
        None | Some(SERVICE_CIDR) => Ok(SERVICE_CIDR.to_owned()),
        // Deviation: one service CIDR; the manifests and the API server know it by heart.
        Some(other) => Err(faults::invalid_parameter(format!(
            "serviceIpv4Cidr {other} is not supported in this region; use {SERVICE_CIDR}"
        ))),
    }
}

pub(crate) fn authentication_mode(asked: Option<&str>) -> Result<String, Fault> {
    let asked = asked.unwrap_or("API_AND_CONFIG_MAP");
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
}

impl Change {
    pub(crate) fn apply(self, cluster: &mut Cluster) {
        match self {
            Self::AuthenticationMode(mode) => cluster.authentication_mode = mode,
            Self::DeletionProtection(is_on) => cluster.deletion_protection = is_on,
        }
    }
}

pub(crate) fn update(
    cluster: &Cluster,
    request: &UpdateClusterConfigRequest,
) -> Result<Update, Fault> {
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
        "This region supports updates of accessConfig and deletionProtection only.",
    ))
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
    use super::*;

    #[test]
    fn names_begin_with_a_letter_or_digit_and_hold_no_dots() {
        assert!(name("stead-1_a").is_ok());
        for bad in ["", "-a", "a.b", &"a".repeat(101)] {
            assert!(name(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn the_authentication_mode_goes_one_way() {
        assert!(mode_update("CONFIG_MAP", "API".to_owned()).is_ok());
        assert!(mode_update("API", "CONFIG_MAP".to_owned()).is_err());
        assert!(mode_update("API", "API".to_owned()).is_err());
        assert!(mode_update("API", "NONE".to_owned()).is_err());
    }
}
