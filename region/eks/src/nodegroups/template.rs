//! A customer's launch template: what EKS takes from it, and the own one that EKS makes of it.
//!
//! The version is read once, when the group is made or updated to it; nodes start from EKS's own
//! template, so that a later change of the customer's touches no group.
//!
//! Source: EKS user guide, "Customize managed nodes with launch templates"; compute facts §1.3.

use aws_ec2::{
    common::TagInput,
    launch_template::{DescribeLaunchTemplateVersions, DescribeLaunchTemplateVersionsRequest},
    launch_template_request::{
        LaunchTemplateBlockDeviceMappingRequest, LaunchTemplateEbsBlockDeviceRequest,
        LaunchTemplateIamInstanceProfileSpecificationRequest,
        LaunchTemplateInstanceMetadataOptionsRequest, LaunchTemplateTagSpecificationRequest,
        RequestLaunchTemplateData,
    },
};
use aws_eks::{CreateNodegroupRequest, LaunchTemplateSpecification};
use aws_wire::Fault;
use serde::{Deserialize, Serialize};

use super::{
    records::{Issue, Nodegroup},
    user_data::{self, Facts},
    validate::BOTTLEROCKET,
    warm_pool,
};
use crate::{Eks, faults, records::Cluster};

/// One version of a customer's template, as it was when it was read.
#[derive(Clone, Debug, PartialEq, Deserialize, Serialize)]
pub(crate) struct Source {
    pub(crate) id: String,
    pub(crate) name: String,
    pub(crate) version: i64,
    pub(crate) data: RequestLaunchTemplateData,
}

impl Source {
    pub(crate) fn specification(&self) -> LaunchTemplateSpecification {
        LaunchTemplateSpecification {
            id: Some(self.id.clone()),
            name: Some(self.name.clone()),
            version: Some(self.version.to_string()),
        }
    }
}

/// Reads the version that is meant: the default one unless another is named.
pub(crate) async fn read(eks: &Eks, asked: &LaunchTemplateSpecification) -> Result<Source, Fault> {
    if asked.id.is_some() == asked.name.is_some() {
        return Err(faults::invalid_parameter(
            "Either provide launch template ID or launch template name in the request.",
        ));
    }
    let request = DescribeLaunchTemplateVersionsRequest {
        launch_template_id: asked.id.clone(),
        launch_template_name: asked.name.clone(),
        versions: vec![asked.version.clone().unwrap_or_else(|| "$Default".to_owned())],
        ..Default::default()
    };
    let found = eks.0.config.client.call::<DescribeLaunchTemplateVersions>(request).await;
    let found = found.map_err(|it| faults::of_call(&it))?;
    let version = found.launch_template_versions.into_iter().next().unwrap_or_default();
    let parts = (
        version.launch_template_id,
        version.launch_template_name,
        version.version_number,
        version.launch_template_data,
    );
    match parts {
        (Some(id), Some(name), Some(version), Some(data)) => {
            Ok(Source { id, name, version, data: data.into() })
        }
        _ => Err(Fault::internal("EC2 answered without the launch template's version")),
    }
}

/// What must not be in the template, or not beside it.
pub(crate) fn check(
    request: &CreateNodegroupRequest,
    data: &RequestLaunchTemplateData,
) -> Result<(), Fault> {
    let wrong = |what: &str| Err(faults::invalid_parameter(what));
    let interfaces = &data.network_interfaces;
    let has_groups = !data.security_group_ids.is_empty() || !data.security_groups.is_empty();
    match () {
        () if request.disk_size.is_some() => {
            wrong("Disk size must be specified within the launch template.")
        }
        () if request.remote_access.is_some() => {
            wrong("Remote access configuration cannot be specified with a launch template.")
        }
        () if data.iam_instance_profile.is_some() => wrong(
            "Launch template should not specify an instance profile. The noderole in your request \
             will be used to construct an instance profile.",
        ),
        () if interfaces.iter().any(|it| it.subnet_id.is_some()) => wrong(
            "Launch template should not specify a subnet in its network interfaces. Use the \
             subnets of the request.",
        ),
        () if interfaces.iter().any(|it| it.network_interface_id.is_some()) => {
            wrong("Launch template should not specify an existing network interface.")
        }
        () if data.instance_initiated_shutdown_behavior.is_some() => {
            wrong("Launch template should not specify a shutdown behavior.")
        }
        () if data.hibernation_options.is_some() => wrong(
            "Launch template should not specify hibernation options. Use the pool state of a warm \
             pool.",
        ),
        () if data.instance_market_options.is_some() => {
            wrong("Launch template should not specify market options. Use the capacity type.")
        }
        () if has_groups && !interfaces.is_empty() => wrong(
            "Launch template should not specify security groups both for the instance and in its \
             network interfaces.",
        ),
        () if !request.instance_types.is_empty() && data.instance_type.is_some() => {
            Err(faults::invalid_request(
                "Cannot specify instance types in launch template and API request",
            ))
        }
        () if data.image_id.is_some() => check_own_image(request),
        () => Ok(()),
    }
}

/// The image is the customer's: then nothing of EKS's choice of images can be asked for.
fn check_own_image(request: &CreateNodegroupRequest) -> Result<(), Fault> {
    let is_own = |kind: &Option<String>| kind.as_deref().is_none_or(|it| it == "CUSTOM");
    if is_own(&request.ami_type) && request.version.is_none() && request.release_version.is_none() {
        return Ok(());
    }
    Err(faults::invalid_parameter(
        "amiType, version and releaseVersion cannot be specified with a launch template that \
         specifies an image id.",
    ))
}

/// EKS's own template for the group. The issue says why there cannot be one.
pub(crate) fn own(
    eks: &Eks,
    cluster: &Cluster,
    group: &Nodegroup,
) -> Result<RequestLaunchTemplateData, Issue> {
    let facts = Facts { cluster, region: &eks.0.config.region, image_id: &group.image_id };
    let mut data = match &group.source {
        None => generated(group, &facts),
        Some(source) => derived(source, group, &facts)?,
    };
    data.iam_instance_profile = Some(LaunchTemplateIamInstanceProfileSpecificationRequest {
        name: Some(group.template()),
        ..Default::default()
    });
    add_security_groups(&mut data, cluster, group);
    if warm_pool::hibernates(group.warm_pool.as_ref()) {
        warm_pool::configure_hibernation(&mut data);
    }
    for resource in ["instance", "volume"] {
        tag(&mut data, resource, super::resources::eks_tags(group));
    }
    Ok(data)
}

fn generated(group: &Nodegroup, facts: &Facts<'_>) -> RequestLaunchTemplateData {
    let single_type = match group.instance_types.as_slice() {
        [one] => Some(one.clone()),
        _ => None,
    };
    RequestLaunchTemplateData {
        image_id: Some(group.image_id.clone()),
        instance_type: single_type,
        key_name: group.remote_access.as_ref().and_then(|it| it.ec2_ssh_key.clone()),
        user_data: Some(user_data::render(group, facts)),
        // Two hops: a pod's answer has one more to go than the instance's own.
        metadata_options: Some(LaunchTemplateInstanceMetadataOptionsRequest {
            http_tokens: Some("required".to_owned()),
            http_put_response_hop_limit: Some(2),
            ..Default::default()
        }),
        block_device_mappings: vec![LaunchTemplateBlockDeviceMappingRequest {
            device_name: Some("/dev/xvda".to_owned()),
            ebs: Some(LaunchTemplateEbsBlockDeviceRequest {
                volume_size: Some(group.disk_size),
                volume_type: Some("gp3".to_owned()),
                delete_on_termination: Some(true),
                ..Default::default()
            }),
            ..Default::default()
        }],
        ..Default::default()
    }
}

/// With an image of the customer's, joining the cluster is the customer's business.
fn derived(
    source: &Source,
    group: &Nodegroup,
    facts: &Facts<'_>,
) -> Result<RequestLaunchTemplateData, Issue> {
    let mut data = source.data.clone();
    if data.image_id.is_none() {
        data.image_id = Some(group.image_id.clone());
        let merged = match data.user_data.as_deref().filter(|it| !it.is_empty()) {
            None => Some(user_data::render(group, facts)),
            Some(theirs) => user_data::merge(theirs, group, facts),
        };
        let not_mime = || match group.ami_type == BOTTLEROCKET {
            true => invalid("User data was not in the TOML format."),
            false => invalid("User data was not in the MIME multipart format."),
        };
        data.user_data = Some(merged.ok_or_else(not_mime)?);
    }
    Ok(data)
}

/// The cluster's own and that of remote access, unless the customer has named some.
fn add_security_groups(data: &mut RequestLaunchTemplateData, cluster: &Cluster, group: &Nodegroup) {
    let own = cluster.cluster_security_group_id.iter();
    let groups: Vec<String> = own.chain(&group.remote_access_security_group).cloned().collect();
    let has_some = !data.security_group_ids.is_empty() || !data.security_groups.is_empty();
    match data.network_interfaces.as_mut_slice() {
        [] if has_some => {}
        [] => data.security_group_ids = groups,
        interfaces => {
            for interface in interfaces.iter_mut().filter(|it| it.groups.is_empty()) {
                interface.groups.clone_from(&groups);
            }
        }
    }
}

/// EC2 takes one specification per kind of resource.
fn tag(data: &mut RequestLaunchTemplateData, resource: &str, tags: Vec<TagInput>) {
    let of_kind = |it: &&mut LaunchTemplateTagSpecificationRequest| {
        it.resource_type.as_deref() == Some(resource)
    };
    match data.tag_specifications.iter_mut().find(of_kind) {
        Some(known) => {
            known.tags.retain(|it| !tags.iter().any(|own| own.key == it.key));
            known.tags.extend(tags);
        }
        None => data.tag_specifications.push(LaunchTemplateTagSpecificationRequest {
            resource_type: Some(resource.to_owned()),
            tags,
        }),
    }
}

pub(crate) fn invalid(message: impl Into<String>) -> Issue {
    Issue {
        code: "Ec2LaunchTemplateInvalidConfiguration".to_owned(),
        message: message.into(),
        resources: Vec::new(),
    }
}

#[cfg(test)]
mod tests {
    use aws_ec2::launch_template_request::LaunchTemplateInstanceNetworkInterfaceSpecificationRequest;

    use super::*;

    fn refusal(
        change: impl FnOnce(&mut CreateNodegroupRequest, &mut RequestLaunchTemplateData),
    ) -> Option<String> {
        let (mut request, mut data) = Default::default();
        change(&mut request, &mut data);
        check(&request, &data).err().map(|it| it.message)
    }

    #[test]
    fn a_template_says_nothing_that_eks_decides_and_the_request_nothing_that_it_decides() {
        assert_eq!(refusal(|_, data| data.instance_type = Some("m5.large".to_owned())), None);
        assert_eq!(refusal(|_, data| data.image_id = Some("ami-1".to_owned())), None);
        let both = refusal(|request, data| {
            request.instance_types = vec!["m5.large".to_owned()];
            data.instance_type = Some("m5.large".to_owned());
        });
        assert!(both.unwrap().starts_with("Cannot specify instance types in launch template"));
        assert!(refusal(|request, _| request.disk_size = Some(20)).is_some());
        let profile = Default::default();
        assert!(refusal(|_, data| data.iam_instance_profile = Some(profile)).is_some());
        let subnet = LaunchTemplateInstanceNetworkInterfaceSpecificationRequest {
            subnet_id: Some("subnet-1".to_owned()),
            ..Default::default()
        };
        assert!(refusal(|_, data| data.network_interfaces = vec![subnet]).is_some());
        let stop = Some("stop".to_owned());
        assert!(refusal(|_, data| data.instance_initiated_shutdown_behavior = stop).is_some());
        let own_image = refusal(|request, data| {
            request.ami_type = Some("AL2023_x86_64_STANDARD".to_owned());
            data.image_id = Some("ami-1".to_owned());
        });
        assert!(own_image.is_some());
    }

    #[test]
    fn tags_of_the_customers_stay_beside_those_of_eks() {
        let tag_of = |key: &str, value: &str| TagInput {
            key: Some(key.to_owned()),
            value: Some(value.to_owned()),
        };
        let mut data = RequestLaunchTemplateData::default();
        tag(&mut data, "instance", vec![tag_of("team", "a"), tag_of("eks:cluster-name", "x")]);
        tag(&mut data, "instance", vec![tag_of("eks:cluster-name", "c")]);
        let wanted = vec![tag_of("team", "a"), tag_of("eks:cluster-name", "c")];
        assert_eq!(data.tag_specifications.len(), 1);
        assert_eq!(data.tag_specifications[0].tags, wanted);
    }
}
