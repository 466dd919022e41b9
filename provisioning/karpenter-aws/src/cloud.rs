//! What is asked of AWS, in Karpenter's words.
//!
//! Lists are read to their last page: what is on the second one is as much there as the rest, and an
//! instance that is not seen is one that nobody ends.

mod placement_groups;
mod profiles;
mod reservations;
mod templates;

use std::{collections::BTreeMap, sync::Arc};

use api_kube::karpenter::{
    Ami, AmiSelectorTerm, NamedId, NodeClaim, NodeSelectorRequirement, SelectorTerm, SubnetStatus,
    labels,
};
use aws_ec2::{
    common::Filter,
    image::{DescribeImages, DescribeImagesRequest, Image},
    instance::{DescribeInstances, DescribeInstancesRequest, Instance},
    instance_state::{
        DescribeInstanceStatus, DescribeInstanceStatusRequest, InstanceStatus, TerminateInstances,
        TerminateInstancesRequest,
    },
    instance_type::{DescribeInstanceTypes, DescribeInstanceTypesRequest},
    security_group::{DescribeSecurityGroups, DescribeSecurityGroupsRequest},
    spot::{DescribeSpotPriceHistory, DescribeSpotPriceHistoryRequest},
    subnet::{DescribeSubnets, DescribeSubnetsRequest, Subnet},
};
use aws_eks::{Cluster, DescribeCluster, DescribeClusterRequest};
use aws_ssm::parameter::{GetParameter, GetParameterRequest};
use aws_wire::{Client, client::CallError};
use jiff::Timestamp;

pub(crate) use self::templates::Template;

pub(crate) const CLUSTER_TAG: &str = "eks:eks-cluster-name";
pub(crate) const NODE_CLAIM_TAG: &str = "karpenter.sh/nodeclaim";
/// Instances in these states are there.
const ALIVE: [&str; 5] = ["pending", "running", "stopping", "stopped", "shutting-down"];

/// See the module.
#[derive(Clone)]
pub(crate) struct Cloud {
    pub(crate) aws: Client,
    pub(crate) cluster: String,
    /// How many objects a list is asked for at once.
    pub(crate) page_size: i64,
}

/// All that a list has, page after page.
macro_rules! all_pages {
    ($cloud:expr, $operation:ty, $request:expr, $list:ident) => {{
        let mut request = $request;
        request.max_results = Some($cloud.page_size);
        let mut found = Vec::new();
        loop {
            let page = $cloud.aws.call::<$operation>(request.clone()).await?;
            found.extend(page.$list);
            request.next_token = page.next_token.filter(|it| !it.is_empty());
            if request.next_token.is_none() {
                break found;
            }
        }
    }};
}
use all_pages;

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
        let request = DescribeInstanceTypesRequest {
            filters: vec![filter("supported-virtualization-type", ["hvm".to_owned()])],
            ..DescribeInstanceTypesRequest::default()
        };
        // EC2 gives no more than 100 of them at once.
        let cloud = Self { page_size: self.page_size.min(100), ..self.clone() };
        let found = all_pages!(cloud, DescribeInstanceTypes, request, instance_types);
        Ok(found.into_iter().filter_map(|it| it.instance_type).collect())
    }

    /// What Spot costs now, by type and zone.
    pub(crate) async fn spot_prices(&self, now: Timestamp) -> Result<SpotPrices, CallError> {
        let request = DescribeSpotPriceHistoryRequest {
            start_time: Some(now.strftime("%Y-%m-%dT%H:%M:%SZ").to_string()),
            product_descriptions: ["Linux/UNIX", "Linux/UNIX (Amazon VPC)"]
                .map(str::to_owned)
                .into(),
            ..DescribeSpotPriceHistoryRequest::default()
        };
        let mut prices = SpotPrices::new();
        // The newest first.
        for it in all_pages!(self, DescribeSpotPriceHistory, request, spot_price_history) {
            let pool = it.instance_type.zip(it.availability_zone);
            let price = it.spot_price.and_then(|it| it.parse().ok());
            if let Some((pool, price)) = pool.zip(price) {
                prices.entry(pool).or_insert(price);
            }
        }
        Ok(prices)
    }

    /// The subnets that any of the terms selects, those with the most free addresses first.
    pub(crate) async fn subnets(&self, terms: &[SelectorTerm]) -> Result<Vec<Subnet>, CallError> {
        let mut found: BTreeMap<String, Subnet> = BTreeMap::new();
        for term in terms {
            let mut request =
                DescribeSubnetsRequest { filters: by_tags(&term.tags), ..Default::default() };
            request.filters.extend(term.id.iter().map(|it| filter("subnet-id", [it.clone()])));
            let subnets = all_pages!(self, DescribeSubnets, request, subnets);
            found.extend(subnets.into_iter().filter_map(|it| Some((it.subnet_id.clone()?, it))));
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
            let groups = all_pages!(self, DescribeSecurityGroups, request, security_groups);
            found.extend(groups.into_iter().filter_map(|it| {
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
                let images = all_pages!(self, DescribeImages, request, images);
                found.extend(images.into_iter().filter_map(|it| Some((it.image_id.clone()?, it))));
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
        let found = all_pages!(self, DescribeInstances, request, reservations);
        Ok(found.into_iter().flat_map(|it| it.instances).collect())
    }

    /// The status of all running instances of which something is one of the values.
    pub(crate) async fn instance_statuses(
        &self,
        name: &str,
        values: &[&str],
    ) -> Result<Vec<InstanceStatus>, CallError> {
        let request = DescribeInstanceStatusRequest {
            filters: vec![filter(name, values.iter().map(|it| (*it).to_owned()))],
            ..DescribeInstanceStatusRequest::default()
        };
        Ok(all_pages!(self, DescribeInstanceStatus, request, instance_statuses))
    }

    /// The instance that was launched for a claim, whatever became of the answer.
    pub(crate) async fn instance_of(
        &self,
        claim: &NodeClaim,
    ) -> Result<Option<Instance>, CallError> {
        let request = DescribeInstancesRequest {
            filters: vec![
                filter("instance-state-name", ["pending".to_owned(), "running".to_owned()]),
                filter(format!("tag:{NODE_CLAIM_TAG}"), [claim.name().to_owned()]),
                filter(format!("tag:{CLUSTER_TAG}"), [self.cluster.clone()]),
            ],
            ..DescribeInstancesRequest::default()
        };
        let found = all_pages!(self, DescribeInstances, request, reservations);
        Ok(found.into_iter().flat_map(|it| it.instances).next())
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
        // `v20261101`, as EC2's images and upstream's documentation name it.
        other => {
            let release = other.trim_start_matches('v');
            format!("{eks}/{version}/{path}/{name}-v{release}/image_id")
        }
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
        windows if windows.starts_with("windows") => {
            let year = windows.trim_start_matches("windows");
            let name = format!("Windows_Server-{year}-English-Core-EKS_Optimized-{version}");
            vec![format!("/aws/service/ami-windows-latest/{name}/image_id")]
        }
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

/// US dollars per hour, by type and zone.
pub(crate) type SpotPrices = BTreeMap<(String, String), f64>;

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
        for alias in ["al2023@v20261101", "al2023@20261101"] {
            assert_eq!(
                alias_parameters(alias, "1.36")[1],
                "/aws/service/eks/optimized-ami/1.36/amazon-linux-2023/arm64/standard/amazon-eks-node-al2023-arm64-standard-1.36-v20261101/image_id"
            );
        }
        assert_eq!(
            alias_parameters("windows2022@latest", "1.36"),
            [
                "/aws/service/ami-windows-latest/Windows_Server-2022-English-Core-EKS_Optimized-1.36/image_id"
            ]
        );
        assert_eq!(
            alias_parameters("bottlerocket@v1.52.0", "1.36")[0],
            "/aws/service/bottlerocket/aws-k8s-1.36/x86_64/1.52.0/image_id"
        );
    }

    #[test]
    fn an_instance_is_named_by_its_provider_id() {
        assert_eq!(instance_id("aws:///us-east-1a/i-0a1"), Some("i-0a1"));
        assert_eq!(instance_id("kind://x"), None);
    }
}
