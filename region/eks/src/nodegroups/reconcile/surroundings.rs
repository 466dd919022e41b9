//! What a node group stands on and others can take away: what is there of it, and what that means for
//! the group's health.
//!
//! Source: EKS API reference, `Issue`.

use std::collections::BTreeSet;

use aws_autoscaling::{
    group::AutoScalingGroup,
    instance_refresh::{DescribeInstanceRefreshes, DescribeInstanceRefreshesRequest},
};
use aws_ec2::{
    common::Filter,
    launch_template::{DescribeLaunchTemplates, DescribeLaunchTemplatesRequest},
    route_table::{DescribeRouteTables, DescribeRouteTablesRequest, RouteTable},
    security_group::{DescribeSecurityGroups, DescribeSecurityGroupsRequest},
    subnet::{DescribeSubnets, DescribeSubnetsRequest},
};
use aws_iam::{GetInstanceProfile, GetInstanceProfileRequest};

use super::super::records::{Issue, Nodegroup};
use crate::{Eks, reconcile::PassError};

/// A subnet of the group's.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct SubnetFacts {
    pub(crate) id: String,
    pub(crate) free_addresses: i64,
    /// It leads to an internet gateway.
    pub(crate) is_public: bool,
    pub(crate) gives_public_addresses: bool,
    pub(crate) gives_ipv6_addresses: bool,
}

/// See the module.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Surroundings {
    /// EKS's own launch template.
    pub(crate) has_template: bool,
    /// The version of it that the Auto Scaling group launches from; `None`: it launches from another
    /// template, or there is no group.
    pub(crate) launches_from: Option<String>,
    /// The subnets that the Auto Scaling group launches into; `None`: there is no group.
    pub(crate) launches_into: Option<BTreeSet<String>>,
    /// Somebody has the Auto Scaling group replace its instances.
    pub(crate) is_refreshing: bool,
    /// The customer's launch template, where there has to be one.
    pub(crate) has_source: bool,
    /// Nodes have IPv6 addresses.
    pub(crate) is_ipv6: bool,
    /// The cluster's.
    pub(crate) security_group: Option<String>,
    pub(crate) has_security_group: bool,
    pub(crate) has_profile: bool,
    pub(crate) has_role: bool,
    /// Those that are there.
    pub(crate) subnets: Vec<SubnetFacts>,
}

pub(crate) async fn observe(
    eks: &Eks,
    group: &Nodegroup,
    scaling: Option<&AutoScalingGroup>,
) -> Result<Surroundings, PassError> {
    let client = &eks.0.config.client;
    let cluster = eks.find(&group.cluster)?;
    let security_group = cluster.cluster_security_group_id.clone();
    let name = group.template();
    let template = DescribeLaunchTemplatesRequest {
        filters: vec![filter("launch-template-name", std::slice::from_ref(&name))],
        ..Default::default()
    };
    let templates = client.call::<DescribeLaunchTemplates>(template).await?.launch_templates;
    let has_security_group = match &security_group {
        None => true,
        Some(id) => {
            let request = DescribeSecurityGroupsRequest {
                filters: vec![filter("group-id", std::slice::from_ref(id))],
                ..Default::default()
            };
            let found = client.call::<DescribeSecurityGroups>(request).await?;
            !found.security_groups.is_empty()
        }
    };
    let profile = GetInstanceProfileRequest { instance_profile_name: name };
    let has_profile = match client.call::<GetInstanceProfile>(profile).await {
        Ok(found) => !found.instance_profile.roles.is_empty(),
        Err(error) if error.is("NoSuchEntity") => false,
        Err(error) => return Err(error.into()),
    };
    Ok(Surroundings {
        has_template: !templates.is_empty(),
        launches_from: scaling.and_then(|it| launches_from(group, it)),
        launches_into: scaling.map(|it| {
            let all = it.vpc_zone_identifier.as_deref().unwrap_or_default();
            all.split(',').map(|it| it.trim().to_owned()).collect()
        }),
        is_refreshing: scaling.is_some() && is_refreshing(eks, group).await?,
        has_source: has_source(eks, group).await?,
        is_ipv6: cluster.is_ipv6(),
        security_group,
        has_security_group,
        has_profile,
        has_role: eks.0.config.roles.principal_id(&group.node_role).is_some(),
        subnets: subnets(eks, group).await?,
    })
}

fn filter(name: &str, values: &[String]) -> Filter {
    Filter { name: Some(name.to_owned()), values: values.to_vec() }
}

/// A refresh of the Auto Scaling group's that is not over.
async fn is_refreshing(eks: &Eks, group: &Nodegroup) -> Result<bool, PassError> {
    let request = DescribeInstanceRefreshesRequest {
        auto_scaling_group_name: group.auto_scaling_group(),
        max_records: Some(1),
        ..Default::default()
    };
    // The newest comes first, and there is one at a time.
    let found = eks.0.config.client.call::<DescribeInstanceRefreshes>(request).await?;
    let status = found.instance_refreshes.first().and_then(|it| it.status.as_deref());
    Ok(status.is_some_and(|it| ACTIVE_REFRESH.contains(&it)))
}

async fn has_source(eks: &Eks, group: &Nodegroup) -> Result<bool, PassError> {
    let Some(source) = &group.source else { return Ok(true) };
    let request = DescribeLaunchTemplatesRequest {
        launch_template_ids: vec![source.id.clone()],
        ..Default::default()
    };
    match eks.0.config.client.call::<DescribeLaunchTemplates>(request).await {
        Ok(found) => Ok(!found.launch_templates.is_empty()),
        Err(error) if error.is("InvalidLaunchTemplateId.NotFound") => Ok(false),
        Err(error) => Err(error.into()),
    }
}

fn launches_from(group: &Nodegroup, scaling: &AutoScalingGroup) -> Option<String> {
    let policy = scaling.mixed_instances_policy.as_ref()?.launch_template.as_ref()?;
    let named = policy.launch_template_specification.as_ref()?;
    let is_own = named.launch_template_name.as_ref() == Some(&group.template());
    named.version.clone().filter(|_| is_own)
}

async fn subnets(eks: &Eks, group: &Nodegroup) -> Result<Vec<SubnetFacts>, PassError> {
    let client = &eks.0.config.client;
    let filters = vec![filter("subnet-id", &group.subnets)];
    let request = DescribeSubnetsRequest { filters, ..Default::default() };
    let found = client.call::<DescribeSubnets>(request).await?.subnets;
    let vpcs: BTreeSet<String> = found.iter().filter_map(|it| it.vpc_id.clone()).collect();
    let vpcs: Vec<String> = vpcs.into_iter().collect();
    if vpcs.is_empty() {
        return Ok(Vec::new());
    }
    let request =
        DescribeRouteTablesRequest { filters: vec![filter("vpc-id", &vpcs)], ..Default::default() };
    let tables = client.call::<DescribeRouteTables>(request).await?.route_tables;
    let facts = found.into_iter().map(|it| {
        let id = it.subnet_id.unwrap_or_default();
        SubnetFacts {
            free_addresses: it.available_ip_address_count.unwrap_or_default(),
            is_public: is_public(&id, it.vpc_id.as_deref(), &tables),
            gives_public_addresses: it.map_public_ip_on_launch == Some(true),
            gives_ipv6_addresses: it.assign_ipv6_address_on_creation == Some(true),
            id,
        }
    });
    Ok(facts.collect())
}

/// By its own route table, or by the VPC's main one.
fn is_public(subnet: &str, vpc: Option<&str>, tables: &[RouteTable]) -> bool {
    let is_own =
        |it: &&RouteTable| it.associations.iter().any(|it| it.subnet_id.as_deref() == Some(subnet));
    let is_main = |it: &&RouteTable| {
        it.vpc_id.as_deref() == vpc && it.associations.iter().any(|it| it.main == Some(true))
    };
    let table = tables.iter().find(is_own).or_else(|| tables.iter().find(is_main));
    table.is_some_and(|it| {
        let gateways = it.routes.iter().filter_map(|it| it.gateway_id.as_deref());
        gateways.into_iter().any(|it| it.starts_with("igw-"))
    })
}

/// The codes that each pass finds out anew: those of this module, and what a pass that succeeds refutes.
const CODES: [&str; 14] = [
    "AccessDenied",
    "AutoScalingGroupInstanceRefreshActive",
    "AutoScalingGroupInvalidConfiguration",
    "ClusterUnreachable",
    "Ec2LaunchTemplateNotFound",
    "Ec2LaunchTemplateVersionMismatch",
    "Ec2SecurityGroupNotFound",
    "Ec2SubnetMissingIpv6Assignment",
    "Ec2SubnetNotFound",
    "IamInstanceProfileNotFound",
    "IamNodeRoleNotFound",
    "InsufficientFreeAddresses",
    "SourceEc2LaunchTemplateNotFound",
    GONE,
];
/// What a refresh is while it goes on.
const ACTIVE_REFRESH: [&str; 6] =
    ["Pending", "InProgress", "Cancelling", "RollbackInProgress", "Baking", "RollbackPending"];
const GONE: &str = "AutoScalingGroupNotFound";

pub(crate) fn is_ours(issue: &Issue) -> bool {
    CODES.contains(&issue.code.as_str())
}

fn issue(code: &str, message: String, resources: Vec<String>) -> Issue {
    Issue { code: code.to_owned(), message, resources }
}

pub(crate) fn no_auto_scaling_group(group: &Nodegroup) -> Issue {
    let name = group.auto_scaling_group();
    issue(
        GONE,
        format!("The Auto Scaling group {name} of the node group could not be found."),
        vec![name],
    )
}

impl Surroundings {
    /// Whether nothing is wrong, whatever the group lacks.
    pub(crate) fn is_sound(&self, group: &Nodegroup) -> bool {
        self.issues(group, true).is_empty() && self.obstacle(group).is_none()
    }

    /// What is wrong for a group that has its resources. One that `lacks_instances` may do so for want
    /// of addresses.
    pub(crate) fn issues(&self, group: &Nodegroup, lacks_instances: bool) -> Vec<Issue> {
        let name = group.template();
        let mut issues = Vec::new();
        if !self.has_template {
            let text = format!("The launch template {name} of the node group could not be found.");
            issues.push(issue("Ec2LaunchTemplateNotFound", text, vec![name.clone()]));
        } else if let Some(made) = group.template_version
            && self.launches_from != Some(made.to_string())
        {
            let text = format!(
                "The Auto Scaling group does not launch from version {made} of {name}, which EKS \
                 made for it."
            );
            issues.push(issue("Ec2LaunchTemplateVersionMismatch", text, vec![name.clone()]));
        }
        if let Some(id) = self.security_group.clone().filter(|_| !self.has_security_group) {
            let text = format!("The security group {id} of the cluster could not be found.");
            issues.push(issue("Ec2SecurityGroupNotFound", text, vec![id]));
        }
        if !self.has_profile {
            let text = format!("The instance profile {name} of the node group could not be found.");
            issues.push(issue("IamInstanceProfileNotFound", text, vec![name]));
        }
        if !self.has_role {
            let role = group.node_role.clone();
            let text = format!("The node role {role} could not be found.");
            issues.push(issue("IamNodeRoleNotFound", text, vec![role]));
        }
        issues.extend(self.of_what_was_changed(group));
        issues.extend(self.of_subnets(group, lacks_instances));
        issues
    }

    /// What the customer has taken away or does with what EKS has made.
    fn of_what_was_changed(&self, group: &Nodegroup) -> Vec<Issue> {
        let mut issues = Vec::new();
        if let Some(source) = group.source.as_ref().filter(|_| !self.has_source) {
            let id = source.id.clone();
            let text = format!("The launch template {id} of the node group could not be found.");
            issues.push(issue("SourceEc2LaunchTemplateNotFound", text, vec![id]));
        }
        let name = group.auto_scaling_group();
        let wanted: BTreeSet<String> = group.subnets.iter().cloned().collect();
        if self.launches_into.as_ref().is_some_and(|it| *it != wanted) {
            let text = format!(
                "The Auto Scaling group {name} does not launch into the subnets of the node group."
            );
            issues.push(issue("AutoScalingGroupInvalidConfiguration", text, vec![name.clone()]));
        }
        if self.is_refreshing {
            let text = format!("An instance refresh of the Auto Scaling group {name} is active.");
            issues.push(issue("AutoScalingGroupInstanceRefreshActive", text, vec![name]));
        }
        issues
    }

    fn of_subnets(&self, group: &Nodegroup, lacks_instances: bool) -> Vec<Issue> {
        let mut issues = Vec::new();
        let is_there = |id: &&String| self.subnets.iter().any(|it| it.id == **id);
        let gone: Vec<String> = group.subnets.iter().filter(|it| !is_there(it)).cloned().collect();
        if !gone.is_empty() {
            let text = format!("Subnets of the node group could not be found: {}", gone.join(", "));
            issues.push(issue("Ec2SubnetNotFound", text, gone));
        }
        let without = self.subnets.iter().filter(|it| self.is_ipv6 && !it.gives_ipv6_addresses);
        let without: Vec<String> = without.map(|it| it.id.clone()).collect();
        if !without.is_empty() {
            let text = format!(
                "Subnets of the node group do not assign IPv6 addresses: {}",
                without.join(", ")
            );
            issues.push(issue("Ec2SubnetMissingIpv6Assignment", text, without));
        }
        let full = self.subnets.iter().filter(|it| it.free_addresses < 1);
        let full: Vec<String> = full.map(|it| it.id.clone()).collect();
        if lacks_instances && !full.is_empty() {
            let text = "Subnets of the node group have no free addresses for new nodes.".to_owned();
            issues.push(issue("InsufficientFreeAddresses", text, full));
        }
        issues
    }

    /// Why the group cannot be made where it shall be. Whoever asks for public addresses in the launch
    /// template gets them.
    pub(crate) fn obstacle(&self, group: &Nodegroup) -> Option<Issue> {
        let source = group.source.iter().flat_map(|it| &it.data.network_interfaces);
        if source.into_iter().any(|it| it.associate_public_ip_address.is_some()) {
            return None;
        }
        let without = self.subnets.iter().filter(|it| it.is_public && !it.gives_public_addresses);
        let without: Vec<String> = without.map(|it| it.id.clone()).collect();
        (!without.is_empty()).then(|| {
            let text = format!(
                "One or more Amazon EC2 Subnets of [{}] for node group {} does not automatically \
                 assign public IP addresses to instances launched into it. If you want your \
                 instances to be assigned a public IP address, then you need to enable auto-assign \
                 public IP address for the subnet. See IP addressing in VPC guide: \
                 https://docs.aws.amazon.com/vpc/latest/userguide/vpc-ip-addressing.html#subnet-public-ip",
                without.join(", "),
                group.name
            );
            issue("Ec2SubnetInvalidConfiguration", text, without)
        })
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use crate::nodegroups::{reconcile::plan::tests::group, records::State, template::Source};

    pub(crate) fn sound() -> Surroundings {
        Surroundings {
            has_template: true,
            launches_from: Some("1".to_owned()),
            launches_into: None,
            is_refreshing: false,
            has_source: true,
            is_ipv6: false,
            security_group: Some("sg-1".to_owned()),
            has_security_group: true,
            has_profile: true,
            has_role: true,
            subnets: vec![SubnetFacts {
                id: "subnet-1".to_owned(),
                free_addresses: 3,
                is_public: true,
                gives_public_addresses: true,
                gives_ipv6_addresses: false,
            }],
        }
    }

    fn codes(change: impl FnOnce(&mut Surroundings)) -> Vec<String> {
        let (mut group, mut found) = (group(State::Active), sound());
        group.subnets = vec!["subnet-1".to_owned()];
        group.template_version = Some(1);
        change(&mut found);
        let issues = found.issues(&group, true);
        assert!(issues.iter().all(is_ours), "{issues:?}");
        assert!(issues.iter().all(|it| !it.resources.is_empty()), "{issues:?}");
        issues.into_iter().map(|it| it.code).collect()
    }

    #[test]
    fn what_others_have_taken_away_is_named() {
        assert!(codes(|_| {}).is_empty());
        assert_eq!(codes(|it| it.has_template = false), ["Ec2LaunchTemplateNotFound"]);
        assert_eq!(codes(|it| it.launches_from = None), ["Ec2LaunchTemplateVersionMismatch"]);
        let other = Some("2".to_owned());
        assert_eq!(codes(|it| it.launches_from = other), ["Ec2LaunchTemplateVersionMismatch"]);
        assert_eq!(codes(|it| it.has_security_group = false), ["Ec2SecurityGroupNotFound"]);
        assert_eq!(codes(|it| it.has_profile = false), ["IamInstanceProfileNotFound"]);
        assert_eq!(codes(|it| it.has_role = false), ["IamNodeRoleNotFound"]);
        assert_eq!(codes(|it| it.subnets.clear()), ["Ec2SubnetNotFound"]);
        let full = |it: &mut Surroundings| it.subnets[0].free_addresses = 0;
        assert_eq!(codes(full), ["InsufficientFreeAddresses"]);
        let refreshing = |it: &mut Surroundings| it.is_refreshing = true;
        assert_eq!(codes(refreshing), ["AutoScalingGroupInstanceRefreshActive"]);
        let into = |subnet: &str| Some([subnet.to_owned()].into());
        assert!(codes(|it| it.launches_into = into("subnet-1")).is_empty());
        let elsewhere = codes(|it| it.launches_into = into("subnet-2"));
        assert_eq!(elsewhere, ["AutoScalingGroupInvalidConfiguration"]);
        let of_ipv6 = |it: &mut Surroundings| it.is_ipv6 = true;
        assert_eq!(codes(of_ipv6), ["Ec2SubnetMissingIpv6Assignment"]);
        let gives = |it: &mut Surroundings| {
            (it.is_ipv6, it.subnets[0].gives_ipv6_addresses) = (true, true);
        };
        assert!(codes(gives).is_empty());
    }

    #[test]
    fn a_launch_template_of_the_customers_that_is_gone_is_named() {
        let (mut group, mut found) = (group(State::Active), sound());
        group.subnets = vec!["subnet-1".to_owned()];
        found.has_source = false;
        assert!(found.issues(&group, false).is_empty(), "it was made without one");
        group.source = Some(Source {
            id: "lt-1".to_owned(),
            name: "own".to_owned(),
            version: 1,
            data: Default::default(),
        });
        let issues = found.issues(&group, false);
        assert_eq!(issues[0].code, "SourceEc2LaunchTemplateNotFound");
        assert_eq!(issues[0].resources, ["lt-1"]);
    }

    #[test]
    fn full_subnets_matter_to_groups_that_lack_instances_alone() {
        let (mut group, mut found) = (group(State::Active), sound());
        group.subnets = vec!["subnet-1".to_owned()];
        found.subnets[0].free_addresses = 0;
        assert!(found.issues(&group, false).is_empty());
    }

    #[test]
    fn a_public_subnet_must_give_public_addresses() {
        let (group, mut found) = (group(State::Creating), sound());
        assert_eq!(found.obstacle(&group), None);
        found.subnets[0].gives_public_addresses = false;
        let issue = found.obstacle(&group).unwrap();
        assert_eq!(issue.code, "Ec2SubnetInvalidConfiguration");
        assert_eq!(issue.resources, ["subnet-1"]);
        found.subnets[0].is_public = false;
        assert_eq!(found.obstacle(&group), None);
    }
}
