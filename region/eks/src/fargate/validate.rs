//! What EKS refuses before it makes a Fargate profile.
//!
//! Source: EKS API reference, `CreateFargateProfile`; its messages as users of Terraform and eksctl
//! report them. Those about names, selectors and numbers are ours.

use std::collections::BTreeSet;

use aws_ec2::{
    common::Filter,
    route_table::{DescribeRouteTables, DescribeRouteTablesRequest, RouteTable},
    subnet::{DescribeSubnets, DescribeSubnetsRequest},
};
use aws_eks::CreateFargateProfileRequest;
use aws_wire::Fault;

use super::{SERVICE, Selector};
use crate::{
    Eks, faults,
    records::{Cluster, Status},
};

const MOST_SELECTORS: usize = 5;
const MOST_LABELS: usize = 100;

/// Gives the selectors and the subnets.
pub(super) async fn create(
    eks: &Eks,
    cluster: &Cluster,
    request: &CreateFargateProfileRequest,
    id: &str,
) -> Result<(Vec<Selector>, Vec<String>), Fault> {
    active(cluster)?;
    name(&request.fargate_profile_name)?;
    let selectors = selectors(request)?;
    // The role may trust the service for this profile, or its cluster's, alone.
    let source =
        eks.arn(&format!("fargateprofile/{}/{}/{id}", cluster.name, request.fargate_profile_name));
    let role = &request.pod_execution_role_arn;
    if !eks.0.config.roles.can_be_assumed_for(role, SERVICE, &source) {
        return Err(faults::invalid_parameter(format!(
            "Misconfigured PodExecutionRole Trust Policy; Please add the {SERVICE} Service Principal"
        )));
    }
    let subnets = subnets(eks, cluster, &request.subnets).await?;
    Ok((selectors, subnets))
}

pub(super) fn active(cluster: &Cluster) -> Result<(), Fault> {
    if cluster.status != Status::Active {
        return Err(faults::invalid_request(format!(
            "Cluster '{}' is not in ACTIVE status",
            cluster.name
        )));
    }
    Ok(())
}

fn name(name: &str) -> Result<(), Fault> {
    let is_word = |it: u8| it.is_ascii_alphanumeric() || it == b'-' || it == b'_';
    let begins_well = name.starts_with(|it: char| it.is_ascii_alphanumeric());
    if !begins_well || name.len() > 100 || !name.bytes().all(is_word) {
        return Err(faults::invalid_parameter(
            "A Fargate profile's name has 1 to 100 letters, digits, hyphens and underscores, and \
             begins with a letter or digit.",
        ));
    }
    if name.starts_with("eks-") {
        return Err(faults::invalid_parameter("The prefix eks- is reserved for EKS."));
    }
    Ok(())
}

fn selectors(request: &CreateFargateProfileRequest) -> Result<Vec<Selector>, Fault> {
    if request.selectors.is_empty() || request.selectors.len() > MOST_SELECTORS {
        return Err(faults::invalid_parameter(format!(
            "A Fargate profile has 1 to {MOST_SELECTORS} selectors."
        )));
    }
    let selector = |it: &aws_eks::FargateProfileSelector| {
        let namespace = it.namespace.clone().filter(|it| !it.is_empty()).ok_or_else(|| {
            faults::invalid_parameter("Each selector of a Fargate profile needs a namespace.")
        })?;
        if it.labels.len() > MOST_LABELS {
            return Err(faults::invalid_parameter(format!(
                "A selector has at most {MOST_LABELS} labels."
            )));
        }
        Ok(Selector { namespace, labels: it.labels.clone() })
    };
    request.selectors.iter().map(selector).collect()
}

/// Those that are named must be private ones of the cluster's VPC; without any, the private ones of the
/// cluster's own are taken.
async fn subnets(eks: &Eks, cluster: &Cluster, named: &[String]) -> Result<Vec<String>, Fault> {
    let ids = if named.is_empty() { cluster.subnet_ids.as_slice() } else { named };
    let client = &eks.0.config.client;
    let request = DescribeSubnetsRequest { subnet_ids: ids.to_vec(), ..Default::default() };
    let found = client.call::<DescribeSubnets>(request).await;
    let found = found.map_err(|it| faults::of_call(&it))?.subnets;
    let is_elsewhere = |vpc: &Option<String>| vpc.as_deref() != Some(cluster.vpc_id.as_str());
    if found.iter().any(|it| is_elsewhere(&it.vpc_id)) {
        return Err(faults::invalid_parameter("Subnets are not in the VPC of the cluster"));
    }
    let filter = Filter { name: Some("vpc-id".to_owned()), values: vec![cluster.vpc_id.clone()] };
    let request = DescribeRouteTablesRequest { filters: vec![filter], ..Default::default() };
    let tables = client.call::<DescribeRouteTables>(request).await;
    let tables = tables.map_err(|it| faults::of_call(&it))?.route_tables;
    let public: BTreeSet<&String> = ids.iter().filter(|it| is_public(it, &tables)).collect();
    if named.is_empty() {
        let private: Vec<String> = ids.iter().filter(|it| !public.contains(it)).cloned().collect();
        return match private.is_empty() {
            true => Err(faults::invalid_parameter(
                "No subnets were provided, and the cluster has no private ones.",
            )),
            false => Ok(private),
        };
    }
    match public.first() {
        Some(id) => Err(faults::invalid_parameter(format!(
            "Subnet {id} provided in Fargate Profile is not a private subnet"
        ))),
        None => Ok(named.to_vec()),
    }
}

/// A route of its table leads to an internet gateway.
fn is_public(subnet: &str, tables: &[RouteTable]) -> bool {
    let own = tables
        .iter()
        .find(|it| it.associations.iter().any(|it| it.subnet_id.as_deref() == Some(subnet)));
    let main = || tables.iter().find(|it| it.associations.iter().any(|it| it.main == Some(true)));
    own.or_else(main).is_some_and(|it| {
        it.routes.iter().any(|it| it.gateway_id.as_deref().is_some_and(|it| it.starts_with("igw-")))
    })
}
