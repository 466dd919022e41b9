//! What is asked of AWS, in Karpenter's words.

use std::{collections::BTreeMap, sync::Arc};

use api_kube::karpenter::{
    Ami, AmiSelectorTerm, Ec2NodeClass, NamedId, NodeSelectorRequirement, SelectorTerm,
    SubnetStatus, labels,
};
use aws_ec2::{
    common::Filter,
    image::{DescribeImages, DescribeImagesRequest, Image},
    instance::{DescribeInstances, DescribeInstancesRequest, Instance},
    instance_state::{TerminateInstances, TerminateInstancesRequest},
    instance_type::{DescribeInstanceTypes, DescribeInstanceTypesRequest},
    security_group::{DescribeSecurityGroups, DescribeSecurityGroupsRequest},
    subnet::{DescribeSubnets, DescribeSubnetsRequest, Subnet},
};
use aws_eks::{Cluster, DescribeCluster, DescribeClusterRequest};
use aws_iam::{
    AddRoleToInstanceProfile, AddRoleToInstanceProfileRequest, CreateInstanceProfile,
    CreateInstanceProfileRequest, DeleteInstanceProfile, DeleteInstanceProfileRequest,
    GetInstanceProfile, GetInstanceProfileRequest, RemoveRoleFromInstanceProfile,
    RemoveRoleFromInstanceProfileRequest,
};
use aws_ssm::parameter::{GetParameter, GetParameterRequest};
use aws_wire::{Client, client::CallError};

pub(crate) const CLUSTER_TAG: &str = "eks:eks-cluster-name";
/// Instances in these states are there.
const ALIVE: [&str; 5] = ["pending", "running", "stopping", "stopped", "shutting-down"];

/// See the module.
#[derive(Clone)]
pub(crate) struct Cloud {
    pub(crate) aws: Client,
    pub(crate) cluster: String,
}

fn filter(name: impl Into<String>, values: impl IntoIterator<Item = String>) -> Filter {
    Filter { name: Some(name.into()), values: values.into_iter().collect() }
}

fn by_tags(tags: &BTreeMap<String, String>) -> Vec<Filter> {
    let each = tags.iter().map(|(key, value)| match value.as_str() {
        "*" => filter("tag-key", [key.clone()]),
        _ => filter(format!("tag:{key}"), [value.clone()]),
    });
    each.collect()
}

impl Cloud {
    pub(crate) async fn cluster(&self) -> Result<Cluster, CallError> {
        let request = DescribeClusterRequest { name: self.cluster.clone() };
        let answer = self.aws.call::<DescribeCluster>(request).await?;
        Ok(answer.cluster.unwrap_or_default())
    }

    /// The types that can be had here.
    pub(crate) async fn instance_types(&self) -> Result<Vec<String>, CallError> {
        let mut names = Vec::new();
        let mut request = DescribeInstanceTypesRequest {
            filters: vec![filter("supported-virtualization-type", ["hvm".to_owned()])],
            ..DescribeInstanceTypesRequest::default()
        };
        loop {
            let page = self.aws.call::<DescribeInstanceTypes>(request.clone()).await?;
            names.extend(page.instance_types.into_iter().filter_map(|it| it.instance_type));
            request.next_token = page.next_token;
            if request.next_token.is_none() {
                return Ok(names);
            }
        }
    }

    /// The subnets that any of the terms selects, those with the most free addresses first.
    pub(crate) async fn subnets(&self, terms: &[SelectorTerm]) -> Result<Vec<Subnet>, CallError> {
        let mut found: BTreeMap<String, Subnet> = BTreeMap::new();
        for term in terms {
            let mut request =
                DescribeSubnetsRequest { filters: by_tags(&term.tags), ..Default::default() };
            request.filters.extend(term.id.iter().map(|it| filter("subnet-id", [it.clone()])));
            let answer = self.aws.call::<DescribeSubnets>(request).await?;
            found.extend(
                answer.subnets.into_iter().filter_map(|it| Some((it.subnet_id.clone()?, it))),
            );
        }
        let mut all: Vec<Subnet> = found.into_values().collect();
        all.sort_by_key(|it| std::cmp::Reverse(it.available_ip_address_count));
        Ok(all)
    }

    pub(crate) async fn security_groups(
        &self,
        terms: &[SelectorTerm],
    ) -> Result<Vec<NamedId>, CallError> {
        let mut found: BTreeMap<String, NamedId> = BTreeMap::new();
        for term in terms {
            let mut request = DescribeSecurityGroupsRequest {
                filters: by_tags(&term.tags),
                ..Default::default()
            };
            request.filters.extend(term.id.iter().map(|it| filter("group-id", [it.clone()])));
            request.filters.extend(term.name.iter().map(|it| filter("group-name", [it.clone()])));
            let answer = self.aws.call::<DescribeSecurityGroups>(request).await?;
            found.extend(answer.security_groups.into_iter().filter_map(|it| {
                let id = it.group_id?;
                Some((id.clone(), NamedId { id, name: it.group_name }))
            }));
        }
        Ok(found.into_values().collect())
    }

    /// The images that any of the terms selects, with what they are for, the newest first.
    pub(crate) async fn amis(
        &self,
        terms: &[AmiSelectorTerm],
        version: &str,
    ) -> Result<Vec<Ami>, CallError> {
        let mut found: BTreeMap<String, Image> = BTreeMap::new();
        for term in terms {
            for request in self.image_requests(term, version).await? {
                let answer = self.aws.call::<DescribeImages>(request).await?;
                found.extend(
                    answer.images.into_iter().filter_map(|it| Some((it.image_id.clone()?, it))),
                );
            }
        }
        let mut images: Vec<Image> = found.into_values().collect();
        images.sort_by(|a, b| b.creation_date.cmp(&a.creation_date));
        Ok(images.into_iter().filter_map(ami).collect())
    }

    async fn image_requests(
        &self,
        term: &AmiSelectorTerm,
        version: &str,
    ) -> Result<Vec<DescribeImagesRequest>, CallError> {
        let of_ids = |ids: Vec<String>| DescribeImagesRequest {
            filters: vec![filter("image-id", ids)],
            ..DescribeImagesRequest::default()
        };
        if let Some(alias) = &term.alias {
            let mut ids = Vec::new();
            for name in alias_parameters(alias, version) {
                ids.extend(self.parameter(&name).await?);
            }
            return Ok(if ids.is_empty() { Vec::new() } else { vec![of_ids(ids)] });
        }
        if let Some(name) = &term.ssm_parameter {
            let ids: Vec<String> = self.parameter(name).await?.into_iter().collect();
            return Ok(if ids.is_empty() { Vec::new() } else { vec![of_ids(ids)] });
        }
        let mut request =
            DescribeImagesRequest { filters: by_tags(&term.tags), ..Default::default() };
        request.filters.extend(term.id.iter().map(|it| filter("image-id", [it.clone()])));
        request.filters.extend(term.name.iter().map(|it| filter("name", [it.clone()])));
        request.owners = match (&term.owner, &term.name) {
            (Some(owner), _) => vec![owner.clone()],
            (None, Some(_)) => vec!["self".to_owned(), "amazon".to_owned()],
            (None, None) => Vec::new(),
        };
        Ok(vec![request])
    }

    async fn parameter(&self, name: &str) -> Result<Option<String>, CallError> {
        let request = GetParameterRequest { name: name.to_owned(), with_decryption: None };
        match self.aws.call::<GetParameter>(request).await {
            Ok(answer) => Ok(answer.parameter.and_then(|it| it.value)),
            Err(error) if error.is("ParameterNotFound") => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// The profile of a class's role, made where it is not there.
    pub(crate) async fn profile(&self, class: &Ec2NodeClass) -> Result<Option<String>, CallError> {
        let Some(role) = &class.spec.role else { return Ok(class.spec.instance_profile.clone()) };
        let name = self.profile_name(class.name());
        let instance_profile_name = name.clone();
        let known = self
            .aws
            .call::<GetInstanceProfile>(GetInstanceProfileRequest { instance_profile_name });
        let roles = match known.await {
            Ok(answer) => answer.instance_profile.roles,
            Err(error) if error.is("NoSuchEntity") => {
                let tag = |key: &str, value: &str| aws_iam::Tag {
                    key: key.to_owned(),
                    value: value.to_owned(),
                };
                let request = CreateInstanceProfileRequest {
                    instance_profile_name: name.clone(),
                    path: None,
                    tags: vec![
                        tag(CLUSTER_TAG, &self.cluster),
                        tag(labels::NODE_CLASS, class.name()),
                    ],
                };
                self.aws.call::<CreateInstanceProfile>(request).await?.instance_profile.roles
            }
            Err(error) => return Err(error),
        };
        if roles.iter().any(|it| it.role_name == *role) {
            return Ok(Some(name));
        }
        for old in roles {
            let request = RemoveRoleFromInstanceProfileRequest {
                instance_profile_name: name.clone(),
                role_name: old.role_name,
            };
            self.aws.call::<RemoveRoleFromInstanceProfile>(request).await?;
        }
        let request = AddRoleToInstanceProfileRequest {
            instance_profile_name: name.clone(),
            role_name: role.clone(),
        };
        self.aws.call::<AddRoleToInstanceProfile>(request).await?;
        Ok(Some(name))
    }

    fn profile_name(&self, class: &str) -> String {
        let mut name = format!("{}_{class}_{}", self.cluster, self.aws.region());
        name.truncate(128);
        name
    }

    /// Deletes the profile that was made for a class.
    pub(crate) async fn delete_profile(&self, class: &Ec2NodeClass) -> Result<(), CallError> {
        if class.spec.role.is_none() {
            return Ok(());
        }
        let name = self.profile_name(class.name());
        let request = GetInstanceProfileRequest { instance_profile_name: name.clone() };
        let known = match self.aws.call::<GetInstanceProfile>(request).await {
            Ok(answer) => answer.instance_profile,
            Err(error) if error.is("NoSuchEntity") => return Ok(()),
            Err(error) => return Err(error),
        };
        for role in known.roles {
            let request = RemoveRoleFromInstanceProfileRequest {
                instance_profile_name: name.clone(),
                role_name: role.role_name,
            };
            self.aws.call::<RemoveRoleFromInstanceProfile>(request).await?;
        }
        let request = DeleteInstanceProfileRequest { instance_profile_name: name };
        self.aws.call::<DeleteInstanceProfile>(request).await.map(drop)
    }

    /// The instance, unless it is gone.
    pub(crate) async fn instance(&self, id: &str) -> Result<Option<Instance>, CallError> {
        let request = DescribeInstancesRequest {
            filters: vec![filter("instance-state-name", ALIVE.map(str::to_owned))],
            instance_ids: vec![id.to_owned()],
            ..DescribeInstancesRequest::default()
        };
        match self.aws.call::<DescribeInstances>(request).await {
            Ok(answer) => Ok(answer.reservations.into_iter().flat_map(|it| it.instances).next()),
            Err(error) if error.is("InvalidInstanceID.NotFound") => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// All instances of the cluster's NodeClaims that are there.
    pub(crate) async fn instances(&self) -> Result<Vec<Instance>, CallError> {
        let request = DescribeInstancesRequest {
            filters: vec![
                filter("instance-state-name", ["pending".to_owned(), "running".to_owned()]),
                filter("tag-key", [labels::NODE_POOL.to_owned()]),
                filter(format!("tag:{CLUSTER_TAG}"), [self.cluster.clone()]),
            ],
            ..DescribeInstancesRequest::default()
        };
        let answer = self.aws.call::<DescribeInstances>(request).await?;
        Ok(answer.reservations.into_iter().flat_map(|it| it.instances).collect())
    }

    pub(crate) async fn terminate(&self, id: &str) -> Result<(), CallError> {
        let request =
            TerminateInstancesRequest { instance_ids: vec![id.to_owned()], ..Default::default() };
        match self.aws.call::<TerminateInstances>(request).await {
            Err(error) if !error.is("InvalidInstanceID.NotFound") => Err(error),
            _ => Ok(()),
        }
    }
}

/// The public parameters of an alias, for both architectures.
fn alias_parameters(alias: &str, version: &str) -> Vec<String> {
    let (family, release) = alias.split_once('@').unwrap_or((alias, "latest"));
    let eks = "/aws/service/eks/optimized-ami";
    let recommended = |path: &str, name: &str| match release {
        "latest" => format!("{eks}/{version}/{path}/recommended/image_id"),
        other => format!("{eks}/{version}/{path}/{name}-v{other}/image_id"),
    };
    match family {
        "al2023" => ["x86_64", "arm64"]
            .map(|arch| {
                let path = format!("amazon-linux-2023/{arch}/standard");
                let node = format!("amazon-eks-node-al2023-{arch}-standard-{version}");
                recommended(&path, &node)
            })
            .into(),
        "al2" => ["amazon-linux-2", "amazon-linux-2-arm64"]
            .map(|path| recommended(path, "amazon-eks-node"))
            .into(),
        "bottlerocket" => ["x86_64", "arm64"]
            .map(|arch| {
                let release = release.trim_start_matches('v');
                format!("/aws/service/bottlerocket/aws-k8s-{version}/{arch}/{release}/image_id")
            })
            .into(),
        _ => Vec::new(),
    }
}

fn ami(image: Image) -> Option<Ami> {
    let arch = match image.architecture.as_deref()? {
        "arm64" => "arm64",
        _ => "amd64",
    };
    Some(Ami {
        deprecated: None,
        id: image.image_id?,
        name: image.name,
        requirements: vec![NodeSelectorRequirement::new(labels::ARCH, "In", &[arch])],
    })
}

/// A subnet as a class's status shows it.
pub(crate) fn subnet_status(subnet: &Subnet) -> Option<SubnetStatus> {
    Some(SubnetStatus {
        id: subnet.subnet_id.clone()?,
        zone: subnet.availability_zone.clone()?,
        zone_id: subnet.availability_zone_id.clone(),
    })
}

/// `i-…` of `aws:///us-east-1a/i-…`.
pub(crate) fn instance_id(provider_id: &str) -> Option<&str> {
    provider_id.rsplit('/').next().filter(|it| it.starts_with("i-"))
}

/// The names of what can be had, shared by all classes.
pub(crate) type Offered = Arc<[String]>;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_alias_is_looked_up_by_its_public_parameters() {
        assert_eq!(
            alias_parameters("al2023@latest", "1.36")[0],
            "/aws/service/eks/optimized-ami/1.36/amazon-linux-2023/x86_64/standard/recommended/image_id"
        );
        assert_eq!(
            alias_parameters("al2023@20261101", "1.36")[1],
            "/aws/service/eks/optimized-ami/1.36/amazon-linux-2023/arm64/standard/amazon-eks-node-al2023-arm64-standard-1.36-v20261101/image_id"
        );
        assert!(alias_parameters("windows2022@latest", "1.36").is_empty());
    }

    #[test]
    fn an_instance_is_named_by_its_provider_id() {
        assert_eq!(instance_id("aws:///us-east-1a/i-0a1"), Some("i-0a1"));
        assert_eq!(instance_id("kind://x"), None);
    }
}
