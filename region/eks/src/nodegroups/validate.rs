//! What EKS refuses before it makes a node group.

pub(crate) mod fields;

use aws_ec2::{
    common::Filter,
    instance_type::{DescribeInstanceTypes, DescribeInstanceTypesRequest},
    subnet::{DescribeSubnets, DescribeSubnetsRequest},
};
use aws_eks::{CreateNodegroupRequest, NodegroupUpdateConfig, WarmPoolConfig};
use aws_ssm::parameter::{GetParameter, GetParameterRequest};
use aws_wire::Fault;

use super::{
    records::{self, Base, Release},
    remote_access,
    rollout::{MOST_AT_ONCE, Strategy},
    template::{self, Source},
    warm_pool,
};
use crate::{
    Eks, faults,
    records::{Cluster, Status},
    service::KUBERNETES_VERSION,
};

const AL2023: &str = "AL2023_x86_64_STANDARD";
pub(crate) const BOTTLEROCKET: &str = "BOTTLEROCKET_x86_64";
const AMI_TYPES: [&str; 3] = [AL2023, BOTTLEROCKET, CUSTOM];
const CAPACITY_TYPES: [&str; 2] = ["ON_DEMAND", "SPOT"];
pub(crate) const CUSTOM: &str = "CUSTOM";
/// Quotas of AWS. Sources: EKS best practices (450; that it holds for maxSize, the API reference's
/// `NodegroupScalingConfig`), the facts' from memory (30).
const MOST_NODES: i64 = 450;
const MOST_GROUPS: usize = 30;
const MOST_TYPES: usize = 20;

pub(super) fn active(cluster: &Cluster) -> Result<(), Fault> {
    if cluster.status == Status::Active {
        return Ok(());
    }
    Err(faults::invalid_request(format!("Cluster '{}' is not in ACTIVE status", cluster.name)))
}

pub(crate) async fn create(
    eks: &Eks,
    cluster: &Cluster,
    request: &CreateNodegroupRequest,
) -> Result<Base, Fault> {
    active(cluster)?;
    name(&request.nodegroup_name)?;
    unsupported(request)?;
    sizes(request)?;
    if let Some(asked) = &request.update_config {
        update_config(asked)?;
    }
    fields::labels(&request.labels)?;
    fields::taints(&request.taints)?;
    fields::tags(&request.tags)?;
    if let Some(asked) = &request.node_repair_config {
        fields::repair(asked)?;
    }
    disk(request)?;
    quota(eks, cluster, request)?;
    role(eks, cluster, &request.node_role)?;
    subnets(eks, cluster, &request.subnets).await?;
    instance_types(eks, &request.instance_types).await?;
    let source = match &request.launch_template {
        None => None,
        Some(asked) => Some(template::read(eks, asked).await?),
    };
    if let Some(source) = &source {
        template::check(request, &source.data)?;
    }
    if let Some(asked) = &request.remote_access {
        remote_access::check(eks, cluster, asked).await?;
    }
    let warm_pool = warm_pool_of(request, source.as_ref())?;
    let own_image = source.as_ref().and_then(|it| it.data.image_id.clone());
    let release = match own_image {
        Some(image) => Release { image_id: image.clone(), version: image },
        None if request.ami_type.as_deref() == Some(CUSTOM) => {
            return Err(faults::invalid_parameter(
                "amiType CUSTOM takes a launch template that specifies an image id.",
            ));
        }
        None => {
            let kind = request.ami_type.as_deref().unwrap_or(AL2023);
            release(eks, kind, request.release_version.as_deref()).await?
        }
    };
    Ok(Base { release, source, warm_pool })
}

fn warm_pool_of(
    request: &CreateNodegroupRequest,
    source: Option<&Source>,
) -> Result<Option<WarmPoolConfig>, Fault> {
    let Some(asked) = &request.warm_pool_config else { return Ok(None) };
    let ami_type = records::ami_type(request, source);
    let capacity_type = request.capacity_type.as_deref().unwrap_or("ON_DEMAND");
    warm_pool::merged(None, asked, warm_pool::Kind { ami_type: &ami_type, capacity_type })
}

fn name(name: &str) -> Result<(), Fault> {
    let is_part = |c: char| c.is_ascii_alphanumeric() || c == '-' || c == '_';
    let begins_well = name.starts_with(|c: char| c.is_ascii_alphanumeric());
    if begins_well && name.len() <= 63 && name.chars().all(is_part) {
        return Ok(());
    }
    Err(faults::invalid_parameter(
        "The nodegroup name can't be longer than 63 characters. It must start with a letter or \
         digit, but can also include hyphens and underscores for the remaining characters.",
    ))
}

/// What is there on AWS and not here is refused, never ignored.
fn unsupported(request: &CreateNodegroupRequest) -> Result<(), Fault> {
    let no = |what: &str| {
        Err(faults::invalid_parameter(format!("{what} is not supported in this region")))
    };
    match request {
        _ if request.ami_type.as_deref().is_some_and(|it| !AMI_TYPES.contains(&it)) => {
            no(&format!("amiType {}", request.ami_type.as_deref().unwrap_or_default()))
        }
        _ if request.capacity_type.as_deref().is_some_and(|it| !CAPACITY_TYPES.contains(&it)) => {
            no("capacityType other than ON_DEMAND and SPOT")
        }
        _ if request.version.as_deref().is_some_and(|it| it != KUBERNETES_VERSION) => {
            Err(faults::invalid_parameter("Requested Nodegroup version is not supported"))
        }
        _ => Ok(()),
    }
}

/// GiB.
fn disk(request: &CreateNodegroupRequest) -> Result<(), Fault> {
    match request.disk_size {
        Some(size) if !(1..=16_384).contains(&size) => Err(faults::invalid_parameter(format!(
            "diskSize must be between 1 and 16384 GiB: {size}"
        ))),
        _ => Ok(()),
    }
}

/// A call that comes again makes nothing more.
fn quota(eks: &Eks, cluster: &Cluster, request: &CreateNodegroupRequest) -> Result<(), Fault> {
    let is_known =
        eks.0.nodegroups.get(&super::key_of(&cluster.name, &request.nodegroup_name)).is_some();
    if !is_known && eks.nodegroups_of(&cluster.name) >= MOST_GROUPS {
        return Err(faults::limit_exceeded(format!(
            "Managed node groups per cluster: the limit of {MOST_GROUPS} is reached"
        )));
    }
    Ok(())
}

fn sizes(request: &CreateNodegroupRequest) -> Result<(), Fault> {
    let asked = request.scaling_config.clone().unwrap_or_default();
    let min = asked.min_size.unwrap_or(1);
    let (max, desired) = (asked.max_size.unwrap_or(2), asked.desired_size.unwrap_or(2));
    // `UpdateNodegroupConfig` knows no such error.
    if max > MOST_NODES {
        return Err(faults::limit_exceeded(too_many(max)));
    }
    check_sizes(min, max, desired)
}

fn too_many(max: i64) -> String {
    format!("Nodes per managed node group: the limit is {MOST_NODES}, and maxSize is {max}")
}

pub(crate) fn check_sizes(min: i64, max: i64, desired: i64) -> Result<(), Fault> {
    let wrong = |what: &str| Err(faults::invalid_parameter(what));
    match () {
        () if min < 0 || desired < 0 => wrong("minSize and desiredSize must be 0 or more"),
        () if max < 1 => wrong("maxSize must be 1 or more"),
        () if max > MOST_NODES => wrong(&too_many(max)),
        () if min > max => {
            wrong(&format!("Minimum capacity {min} can't be greater than maximum size {max}"))
        }
        () if desired < min => {
            wrong(&format!("Minimum capacity {min} can't be greater than desired size {desired}"))
        }
        () if desired > max => {
            wrong(&format!("Maximum capacity {max} can't be less than desired size {desired}"))
        }
        () => Ok(()),
    }
}

/// How many nodes an update may take at once, and how.
pub(crate) fn update_config(asked: &NodegroupUpdateConfig) -> Result<(), Fault> {
    let wrong = |what: &str| Err(faults::invalid_parameter(what));
    let is_in = |it: Option<i64>| it.is_none_or(|it| (1..=MOST_AT_ONCE).contains(&it));
    let strategy = asked.update_strategy.as_deref();
    match () {
        () if asked.max_unavailable.is_some() && asked.max_unavailable_percentage.is_some() => {
            wrong("Only one of maxUnavailable and maxUnavailablePercentage can be specified")
        }
        () if !is_in(asked.max_unavailable) => wrong("maxUnavailable must be between 1 and 100"),
        () if !is_in(asked.max_unavailable_percentage) => {
            wrong("maxUnavailablePercentage must be between 1 and 100")
        }
        () if strategy.is_some_and(|it| Strategy::of(it).is_none()) => {
            wrong("updateStrategy must be DEFAULT or MINIMAL")
        }
        () => Ok(()),
    }
}

fn role(eks: &Eks, cluster: &Cluster, arn: &str) -> Result<(), Fault> {
    if arn == cluster.role_arn {
        return Err(faults::invalid_parameter(
            "The node role cannot be the same as the role of the cluster",
        ));
    }
    if eks.0.config.roles.can_be_assumed(arn, "ec2.amazonaws.com") {
        return Ok(());
    }
    Err(faults::invalid_parameter(format!(
        "The role with name {} cannot be found, or ec2.amazonaws.com is not a trusted entity of it.",
        arn.rsplit('/').next().unwrap_or(arn)
    )))
}

async fn subnets(eks: &Eks, cluster: &Cluster, ids: &[String]) -> Result<(), Fault> {
    if ids.is_empty() {
        return Err(faults::invalid_parameter("Subnets cannot be empty"));
    }
    let request = DescribeSubnetsRequest { subnet_ids: ids.to_vec(), ..Default::default() };
    let found = eks.0.config.client.call::<DescribeSubnets>(request).await;
    let found = found.map_err(|it| faults::of_call(&it))?;
    let is_elsewhere = |vpc: &Option<String>| vpc.as_deref() != Some(cluster.vpc_id.as_str());
    if found.subnets.iter().any(|it| is_elsewhere(&it.vpc_id)) {
        return Err(faults::invalid_parameter("Subnets are not in the VPC of the cluster"));
    }
    Ok(())
}

/// The release that is asked for, or the recommended one, as SSM's public parameters name them.
pub(crate) async fn release(
    eks: &Eks,
    ami_type: &str,
    asked: Option<&str>,
) -> Result<Release, Fault> {
    if ami_type == BOTTLEROCKET {
        let family = format!("/aws/service/bottlerocket/aws-k8s-{KUBERNETES_VERSION}/x86_64");
        let name = asked.unwrap_or("latest");
        let version = parameter(eks, &format!("{family}/{name}/image_version")).await?;
        let image_id = parameter(eks, &format!("{family}/{name}/image_id")).await?;
        return chosen(asked, version, image_id, &family);
    }
    let family = format!(
        "/aws/service/eks/optimized-ami/{KUBERNETES_VERSION}/amazon-linux-2023/x86_64/standard"
    );
    let image = match asked.and_then(|it| it.rsplit_once('-')) {
        Some((_, date)) if date.bytes().all(|it| it.is_ascii_digit()) => {
            format!("amazon-eks-node-al2023-x86_64-standard-{KUBERNETES_VERSION}-v{date}")
        }
        _ => "recommended".to_owned(),
    };
    let version = parameter(eks, &format!("{family}/{image}/release_version")).await?;
    let image_id = parameter(eks, &format!("{family}/{image}/image_id")).await?;
    chosen(asked, version, image_id, &family)
}

fn chosen(
    asked: Option<&str>,
    version: Option<String>,
    image_id: Option<String>,
    family: &str,
) -> Result<Release, Fault> {
    match (asked, version, image_id) {
        (None, Some(version), Some(image_id)) => Ok(Release { image_id, version }),
        (Some(asked), Some(version), Some(image_id)) if asked == version => {
            Ok(Release { image_id, version })
        }
        (Some(asked), ..) => Err(faults::invalid_parameter(format!(
            "Requested release version {asked} is not valid for kubernetes version \
             {KUBERNETES_VERSION}."
        ))),
        (None, ..) => Err(Fault::internal(format!("there is no image below {family}"))),
    }
}

async fn parameter(eks: &Eks, name: &str) -> Result<Option<String>, Fault> {
    let request = GetParameterRequest { name: name.to_owned(), ..Default::default() };
    match eks.0.config.client.call::<GetParameter>(request).await {
        Ok(found) => Ok(found.parameter.and_then(|it| it.value)),
        Err(error) if error.is("ParameterNotFound") => Ok(None),
        Err(error) => Err(Fault::internal(error.to_string())),
    }
}

async fn instance_types(eks: &Eks, types: &[String]) -> Result<(), Fault> {
    if types.is_empty() {
        return Ok(());
    }
    if types.len() > MOST_TYPES {
        return Err(faults::invalid_parameter(format!(
            "At most {MOST_TYPES} instance types can be specified"
        )));
    }
    let filter = Filter { name: Some("instance-type".to_owned()), values: types.to_vec() };
    let request = DescribeInstanceTypesRequest { filters: vec![filter], ..Default::default() };
    let found = eks.0.config.client.call::<DescribeInstanceTypes>(request).await;
    let found = found.map_err(|error| Fault::internal(error.to_string()))?.instance_types;
    let is_known = |name: &String| found.iter().any(|it| it.instance_type.as_ref() == Some(name));
    match types.iter().find(|it| !is_known(it)) {
        None => Ok(()),
        Some(unknown) => Err(faults::invalid_parameter(format!(
            "The following supplied instance types do not exist: [{unknown}]"
        ))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_must_contain_each_other() {
        assert!(check_sizes(0, 10, 3).is_ok());
        assert!(check_sizes(0, 0, 0).is_err());
        assert!(check_sizes(4, 10, 3).is_err());
        assert!(check_sizes(0, 2, 3).is_err());
        assert!(check_sizes(-1, 2, 0).is_err());
    }
}
