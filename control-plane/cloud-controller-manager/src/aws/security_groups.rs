//! The security group of a load balancer, and the rule that lets it reach the nodes.

use std::collections::{BTreeMap, BTreeSet};

use aws_ec2::{
    common::{TagInput, TagSpecification},
    instance::Instance,
    security_group::{
        AuthorizeSecurityGroupIngress, AuthorizeSecurityGroupIngressRequest, CreateSecurityGroup,
        CreateSecurityGroupRequest, DeleteSecurityGroup, DeleteSecurityGroupRequest,
        DescribeSecurityGroups, DescribeSecurityGroupsRequest, IpPermission, IpPermissionInput,
        IpRangeInput, RevokeSecurityGroupIngress, RevokeSecurityGroupIngressRequest, SecurityGroup,
        UserIdGroupPairInput,
    },
    tag::{CreateTags, CreateTagsRequest},
};
use aws_elasticloadbalancing::load_balancer::LoadBalancerDescription;
use k8s_openapi::api::core::v1::Service;
use kube::ResourceExt;

use super::{
    Aws, ProviderError, annotations::Annotations, cluster_tag, failed, filter, wanted::Wanted,
};

/// How long a group may be held by a load balancer that is being deleted, and how often it is tried.
const DELETE_LIMIT: std::time::Duration = std::time::Duration::from_secs(240);
const DELETE_PAUSE: std::time::Duration = std::time::Duration::from_secs(1);

/// One protocol, one range of ports, one network.
type Grain = (String, Option<i64>, Option<i64>, String);

impl Aws {
    /// The groups that the load balancer shall have: its own with the Service's rules, unless others
    /// are given, and those that come on top.
    pub(super) async fn ensure_groups(
        &self,
        service: &Service,
        annotations: &Annotations<'_>,
        wanted: &Wanted,
    ) -> Result<Vec<String>, ProviderError> {
        let mut groups = annotations.list("security-groups");
        if groups.is_empty() {
            let own = self.ensure_own_group(service, annotations, &wanted.name).await?;
            self.set_ingress(&own, wanted).await?;
            groups.push(own.group_id.unwrap_or_default());
        }
        groups.extend(annotations.list("extra-security-groups"));
        Ok(groups)
    }

    async fn ensure_own_group(
        &self,
        service: &Service,
        annotations: &Annotations<'_>,
        load_balancer: &str,
    ) -> Result<SecurityGroup, ProviderError> {
        let name = format!("k8s-elb-{load_balancer}");
        let mut tags = annotations.pairs("additional-resource-tags");
        tags.insert(cluster_tag(&self.cluster), "owned".to_owned());
        if let Some(known) = self.group_named(&name).await? {
            self.repair_tag(&known).await?;
            return Ok(known);
        }
        let key = format!("{}/{}", service.namespace().unwrap_or_default(), service.name_any());
        let request = CreateSecurityGroupRequest {
            description: format!("Security group for Kubernetes ELB {load_balancer} ({key})"),
            group_name: name.clone(),
            vpc_id: Some(self.vpc_id.clone()),
            tag_specifications: vec![TagSpecification {
                resource_type: Some("security-group".to_owned()),
                tags: inputs(tags),
            }],
            dry_run: None,
        };
        match self.client.call::<CreateSecurityGroup>(request).await {
            // Somebody was faster, or an answer was lost.
            Err(error) if !error.is("InvalidGroup.Duplicate") => return Err(error.into()),
            _ => {}
        }
        let made = self.group_named(&name).await?;
        made.ok_or_else(|| failed(format!("created security group, but it was not found: {name}")))
    }

    async fn group_named(&self, name: &str) -> Result<Option<SecurityGroup>, ProviderError> {
        let filters = vec![
            filter("group-name", vec![name.to_owned()]),
            filter("vpc-id", vec![self.vpc_id.clone()]),
        ];
        Ok(self.groups(filters).await?.into_iter().next())
    }

    async fn groups(
        &self,
        filters: Vec<aws_ec2::common::Filter>,
    ) -> Result<Vec<SecurityGroup>, ProviderError> {
        let request = DescribeSecurityGroupsRequest { filters, ..Default::default() };
        Ok(self.client.call::<DescribeSecurityGroups>(request).await?.security_groups)
    }

    /// A group of our name that lacks the cluster's tag gets it.
    async fn repair_tag(&self, group: &SecurityGroup) -> Result<(), ProviderError> {
        if self.is_own(group) {
            return Ok(());
        }
        let tags = BTreeMap::from([(cluster_tag(&self.cluster), "owned".to_owned())]);
        let request = CreateTagsRequest {
            resources: group.group_id.clone().into_iter().collect(),
            tags: inputs(tags),
            ..Default::default()
        };
        Ok(self.client.call::<CreateTags>(request).await.map(drop)?)
    }

    fn is_own(&self, group: &SecurityGroup) -> bool {
        let own = cluster_tag(&self.cluster);
        group.tags.iter().any(|it| it.key.as_ref() == Some(&own))
    }

    /// The Service's ports from its source ranges, and what finds the path's MTU.
    async fn set_ingress(
        &self,
        group: &SecurityGroup,
        wanted: &Wanted,
    ) -> Result<(), ProviderError> {
        let is: BTreeSet<Grain> = group.ip_permissions.iter().flat_map(grains).collect();
        let shall = ingress(wanted);
        let group_id = group.group_id.clone();
        let added: Vec<_> = shall.difference(&is).map(permission).collect();
        if !added.is_empty() {
            let request = AuthorizeSecurityGroupIngressRequest {
                group_id: group_id.clone(),
                ip_permissions: added,
                ..Default::default()
            };
            self.client.call::<AuthorizeSecurityGroupIngress>(request).await?;
        }
        let removed: Vec<_> = is.difference(&shall).map(permission).collect();
        if !removed.is_empty() {
            let request = RevokeSecurityGroupIngressRequest {
                group_id,
                ip_permissions: removed,
                ..Default::default()
            };
            self.client.call::<RevokeSecurityGroupIngress>(request).await?;
        }
        Ok(())
    }

    /// Lets the load balancer reach these instances by their groups, and no others.
    pub(super) async fn admit(
        &self,
        found: &LoadBalancerDescription,
        instances: &BTreeMap<String, Instance>,
        annotations: &Annotations<'_>,
        is_deleting: bool,
    ) -> Result<(), ProviderError> {
        let source = self.source_group(found, annotations).await?;
        let tagged = self.tagged().await?;
        let filters = vec![filter("ip-permission.group-id", vec![source.clone()])];
        let actual = self.groups(filters).await?;
        let mut missing = BTreeSet::new();
        for (id, instance) in instances {
            missing.extend(group_of_instance(id, instance, &tagged)?);
        }
        for group in &actual {
            let Some(id) = &group.group_id else { continue };
            if missing.remove(id) || !(self.is_own(group) || is_deleting) {
                continue;
            }
            let request = RevokeSecurityGroupIngressRequest {
                group_id: Some(id.clone()),
                ip_permissions: vec![everything_from(&source)],
                ..Default::default()
            };
            match self.client.call::<RevokeSecurityGroupIngress>(request).await {
                Err(error) if !error.is("InvalidPermission.NotFound") => return Err(error.into()),
                _ => {}
            }
        }
        for id in missing {
            let request = AuthorizeSecurityGroupIngressRequest {
                group_id: Some(id),
                ip_permissions: vec![everything_from(&source)],
                ..Default::default()
            };
            match self.client.call::<AuthorizeSecurityGroupIngress>(request).await {
                Err(error) if !error.is("InvalidPermission.Duplicate") => return Err(error.into()),
                _ => {}
            }
        }
        Ok(())
    }

    /// The group by which instances know the load balancer: the cluster's own first, then as the
    /// annotations list them.
    pub(super) async fn source_group(
        &self,
        found: &LoadBalancerDescription,
        annotations: &Annotations<'_>,
    ) -> Result<String, ProviderError> {
        let tagged = self.tagged().await?;
        let given = annotations.list("security-groups");
        let extra = annotations.list("extra-security-groups");
        let order = |id: &String| {
            let at = |list: &[String]| list.iter().position(|it| it == id);
            let extra = || at(&extra).map(|it| given.len() + 1 + it);
            at(&given).or_else(extra).unwrap_or(given.len())
        };
        let first =
            found.security_groups.iter().min_by_key(|it| (!tagged.contains(*it), order(it)));
        let name = found.load_balancer_name.as_deref().unwrap_or_default();
        first.cloned().ok_or_else(|| {
            failed(format!("could not determine security group for load balancer: {name}"))
        })
    }

    async fn tagged(&self) -> Result<BTreeSet<String>, ProviderError> {
        let filters = vec![filter("tag-key", vec![cluster_tag(&self.cluster)])];
        let groups = self.groups(filters).await;
        let groups = groups.map_err(|it| it.of("error querying for tagged security groups"))?;
        Ok(groups.into_iter().filter_map(|it| it.group_id).collect())
    }

    /// The load balancer's groups that go with it.
    pub(super) async fn own_groups(
        &self,
        found: &LoadBalancerDescription,
        annotations: &Annotations<'_>,
    ) -> Result<BTreeSet<String>, ProviderError> {
        let mut given = annotations.list("security-groups");
        given.extend(annotations.list("extra-security-groups"));
        let groups = self.groups(vec![filter("group-id", found.security_groups.clone())]).await?;
        let own = groups.iter().filter(|it| self.is_own(it));
        Ok(own.filter_map(|it| it.group_id.clone()).filter(|it| !given.contains(it)).collect())
    }

    /// The load balancer's interfaces hold them until they are gone.
    pub(super) async fn delete_groups(
        &self,
        service: &Service,
        groups: BTreeSet<String>,
    ) -> Result<(), ProviderError> {
        let deleting = async {
            for id in &groups {
                while !self.delete_group(id).await? {
                    tokio::time::sleep(DELETE_PAUSE).await;
                }
            }
            Ok(())
        };
        match tokio::time::timeout(DELETE_LIMIT, deleting).await {
            Ok(result) => result,
            Err(_) => {
                let (name, groups) = (service.name_any(), groups.iter().cloned());
                Err(failed(format!(
                    "timed out deleting ELB: {name}. Could not delete security groups {}",
                    groups.collect::<Vec<_>>().join(",")
                )))
            }
        }
    }

    /// Says whether it is gone.
    async fn delete_group(&self, id: &str) -> Result<bool, ProviderError> {
        let request = DeleteSecurityGroupRequest {
            group_id: Some(id.to_owned()),
            ..DeleteSecurityGroupRequest::default()
        };
        match self.client.call::<DeleteSecurityGroup>(request).await {
            Ok(_) => Ok(true),
            Err(error) if error.is("InvalidGroup.NotFound") => Ok(true),
            Err(error) if error.is("DependencyViolation") => Ok(false),
            Err(error) => Err(ProviderError::from(error)
                .of(&format!("error while deleting load balancer security group ({id})"))),
        }
    }
}

/// The one group of an instance that is told of load balancers: the cluster's, if it has one.
fn group_of_instance(
    id: &str,
    instance: &Instance,
    tagged: &BTreeSet<String>,
) -> Result<Option<String>, ProviderError> {
    let groups = instance.security_groups.iter().filter_map(|it| it.group_id.clone());
    let (own, other): (Vec<String>, Vec<String>) = groups.partition(|it| tagged.contains(it));
    match (own.as_slice(), other.as_slice()) {
        ([one], _) | ([], [one]) => Ok(Some(one.clone())),
        ([], []) => Ok(None),
        ([], _) => Err(failed(format!(
            "Multiple untagged security groups found for instance {id}; ensure the k8s security \
             group is tagged"
        ))),
        (several, _) => Err(failed(format!(
            "Multiple tagged security groups found for instance {id}; ensure only the k8s security \
             group is tagged; the tagged groups were {}",
            several.join(" ")
        ))),
    }
}

fn ingress(wanted: &Wanted) -> BTreeSet<Grain> {
    let mut grains = BTreeSet::new();
    for range in &wanted.source_ranges {
        for listener in &wanted.listeners {
            let port = Some(listener.load_balancer_port);
            grains.insert(("tcp".to_owned(), port, port, range.clone()));
        }
        grains.insert(("icmp".to_owned(), Some(3), Some(4), range.clone()));
    }
    grains
}

fn grains(permission: &IpPermission) -> Vec<Grain> {
    let of = |cidr: &String| {
        let protocol = permission.ip_protocol.clone().unwrap_or_default();
        (protocol, permission.from_port, permission.to_port, cidr.clone())
    };
    permission.ip_ranges.iter().filter_map(|it| it.cidr_ip.as_ref()).map(of).collect()
}

fn permission((protocol, from, to, cidr): &Grain) -> IpPermissionInput {
    IpPermissionInput {
        ip_protocol: Some(protocol.clone()),
        from_port: *from,
        to_port: *to,
        ip_ranges: vec![IpRangeInput { cidr_ip: Some(cidr.clone()), description: None }],
        ..Default::default()
    }
}

fn everything_from(group: &str) -> IpPermissionInput {
    let source = UserIdGroupPairInput { group_id: Some(group.to_owned()), ..Default::default() };
    IpPermissionInput {
        ip_protocol: Some("-1".to_owned()),
        user_id_group_pairs: vec![source],
        ..Default::default()
    }
}

fn inputs(tags: BTreeMap<String, String>) -> Vec<TagInput> {
    let input = |(key, value)| TagInput { key: Some(key), value: Some(value) };
    tags.into_iter().map(input).collect()
}
