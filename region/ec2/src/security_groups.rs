//! Security groups.

mod permissions;
mod rules;

use aws_ec2::{
    security_group::{
        self, CreateSecurityGroupRequest, CreateSecurityGroupResponse, DeleteSecurityGroupRequest,
        DeleteSecurityGroupResponse, DescribeSecurityGroupsRequest, DescribeSecurityGroupsResponse,
    },
    security_group_for_vpc::{
        GetSecurityGroupsForVpcRequest, GetSecurityGroupsForVpcResponse, SecurityGroupForVpc,
    },
};
use aws_wire::Fault;
use ipnet::{Ipv4Net, Ipv6Net};

pub(crate) use self::{
    permissions::{authorize_egress, authorize_ingress, revoke_egress, revoke_ingress},
    rules::{
        describe_rules, modify_rules, update_descriptions_egress, update_descriptions_ingress,
    },
};
use crate::{
    Call, faults,
    query::{self, Values, many, one},
    records::{Direction, Peer, Rule, SecurityGroup, Tags},
    state::State,
    tagging,
};

const TYPE: &str = "security-group";
/// The default quota of a region.
const LIMIT: usize = 2500;

/// Whether all groups that name the prefix list still keep their quotas.
pub(crate) fn check_quotas_of(state: &State, prefix_list: &str) -> Result<(), Fault> {
    let named = |it: &Peer| matches!(it, Peer::PrefixList(id) if id == prefix_list);
    for group in state.security_groups.iter() {
        for rule in group.rules.iter().filter(|it| named(&it.peer)) {
            permissions::check_quota(state, group, rule.direction)?;
        }
    }
    Ok(())
}

/// Those of the VPC itself: groups are not shared among VPCs here.
pub(crate) fn for_vpc(
    call: &Call<'_>,
    state: &State,
    request: GetSecurityGroupsForVpcRequest,
) -> Result<GetSecurityGroupsForVpcResponse, Fault> {
    let vpc = state.vpcs.find(&request.vpc_id)?;
    let own: Vec<_> = state.security_groups.iter().filter(|it| it.vpc_id == vpc.id).collect();
    let found = query::select(
        own,
        &request.filters,
        |it| &it.tags,
        |it, name| match name {
            "group-id" => one(&it.id),
            "group-name" => one(&it.name),
            "description" => one(&it.description),
            "primary-vpc-id" => one(&it.vpc_id),
            "owner-id" => one(&call.config.account),
            _ => None,
        },
    )?;
    let (found, next_token) =
        query::page(found, request.max_results, request.next_token.as_deref(), |it| &it.id)?;
    let answer = |it: &SecurityGroup| SecurityGroupForVpc {
        description: Some(it.description.clone()),
        group_name: Some(it.name.clone()),
        owner_id: Some(call.config.account.clone()),
        group_id: Some(it.id.clone()),
        primary_vpc_id: Some(it.vpc_id.clone()),
        tags: tagging::answer(&it.tags),
    };
    let security_group_for_vpcs = found.into_iter().map(answer).collect();
    Ok(GetSecurityGroupsForVpcResponse { next_token, security_group_for_vpcs })
}

pub(crate) fn create(
    call: &Call<'_>,
    state: &mut State,
    request: CreateSecurityGroupRequest,
) -> Result<CreateSecurityGroupResponse, Fault> {
    let vpc_id = match request.vpc_id {
        Some(id) => state.vpcs.find(&id)?.id.clone(),
        None => state
            .vpcs
            .iter()
            .find(|it| it.is_default)
            .map(|it| it.id.clone())
            .ok_or_else(|| Fault::new("VPCIdNotSpecified", "No default VPC for this user"))?,
    };
    let name = request.group_name;
    check_name(&name, &request.description)?;
    if state.security_groups.iter().any(|it| it.vpc_id == vpc_id && it.name == name) {
        return Err(Fault::new(
            "InvalidGroup.Duplicate",
            format!("The security group '{name}' already exists for VPC '{vpc_id}'"),
        ));
    }
    if state.security_groups.iter().count() >= LIMIT {
        return Err(Fault::new(
            "SecurityGroupLimitExceeded",
            "The maximum number of security groups has been reached.",
        ));
    }
    let tags = tagging::of_specifications(call, &request.tag_specifications, TYPE, &[TYPE])?;
    let has_ipv6 = !state.vpcs.find(&vpc_id)?.ipv6_cidrs.is_empty();
    let ipv6 = has_ipv6.then(allow_all_ipv6_out);
    let group = SecurityGroup {
        id: entropy::aws_id("sg"),
        name,
        description: request.description,
        vpc_id,
        rules: std::iter::once(allow_all_out()).chain(ipv6).collect(),
        tags,
    };
    let response = CreateSecurityGroupResponse {
        group_id: Some(group.id.clone()),
        tags: tagging::answer(&group.tags),
        security_group_arn: Some(call.config.arn(TYPE, &group.id)),
    };
    state.security_groups.insert(group);
    Ok(response)
}

fn check_name(name: &str, description: &str) -> Result<(), Fault> {
    if name.is_empty() || name.len() > 255 {
        return Err(faults::invalid_value("groupName", name));
    }
    if name.starts_with("sg-") {
        return Err(faults::invalid(format!(
            "invalid value for parameter group-name: {name}. Group names may not be in the format \
             sg-*."
        )));
    }
    if name == "default" {
        return Err(Fault::new(
            "InvalidParameterValue",
            "Cannot use reserved security group name: default",
        ));
    }
    if description.len() > 255 {
        return Err(faults::invalid_value("GroupDescription", description));
    }
    Ok(())
}

/// The group that every VPC is born with: its members talk to each other and to the world.
pub(crate) fn default_group(_call: &Call<'_>, vpc_id: &str) -> SecurityGroup {
    let id = entropy::aws_id("sg");
    let inside =
        Rule { direction: Direction::Ingress, peer: Peer::Group(id.clone()), ..allow_all_out() };
    let inside = Rule { id: entropy::aws_id("sgr"), ..inside };
    SecurityGroup {
        id,
        name: "default".to_owned(),
        description: "default VPC security group".to_owned(),
        vpc_id: vpc_id.to_owned(),
        rules: vec![inside, allow_all_out()],
        tags: Tags::new(),
    }
}

fn allow_all_out() -> Rule {
    Rule {
        id: entropy::aws_id("sgr"),
        direction: Direction::Egress,
        protocol: "-1".to_owned(),
        from_port: -1,
        to_port: -1,
        peer: Peer::V4(Ipv4Net::default()),
        description: None,
        tags: Tags::new(),
    }
}

/// What groups of a VPC with IPv6 have beside it.
pub(crate) fn allow_all_ipv6_out() -> Rule {
    Rule { peer: Peer::V6(Ipv6Net::default()), ..allow_all_out() }
}

/// The group of that id, or of that name in the default VPC.
pub(crate) fn find_id(
    state: &State,
    id: Option<&str>,
    name: Option<&str>,
) -> Result<String, Fault> {
    if let Some(id) = id {
        return state.security_groups.find(id).map(|it| it.id.clone());
    }
    let name = name.ok_or_else(|| faults::missing("GroupId"))?;
    let default = state.vpcs.iter().find(|it| it.is_default).map(|it| it.id.as_str());
    let mut in_default = state.security_groups.iter().filter(|it| Some(&*it.vpc_id) == default);
    in_default.find(|it| it.name == name).map(|it| it.id.clone()).ok_or_else(|| {
        Fault::new(
            "InvalidGroup.NotFound",
            format!("The security group '{name}' does not exist in default VPC"),
        )
    })
}

pub(crate) fn delete(
    _call: &Call<'_>,
    state: &mut State,
    request: DeleteSecurityGroupRequest,
) -> Result<DeleteSecurityGroupResponse, Fault> {
    let id = find_id(state, request.group_id.as_deref(), request.group_name.as_deref())?;
    if state.security_groups.find(&id)?.name == "default" {
        return Err(Fault::new(
            "CannotDelete",
            format!("the specified group: \"{id}\" name: \"default\" cannot be deleted by a user"),
        ));
    }
    let is_referenced = state.security_groups.iter().any(|it| it.id != id && it.references(&id));
    let is_used = state.network_interfaces.iter().any(|it| it.security_groups.contains(&id))
        || state.vpc_endpoints.iter().any(|it| it.security_groups.contains(&id));
    if is_referenced || is_used {
        return Err(faults::dependency(format!("resource {id} has a dependent object")));
    }
    state.security_groups.remove(&id)?;
    Ok(DeleteSecurityGroupResponse { r#return: Some(true), group_id: Some(id) })
}

pub(crate) fn describe(
    call: &Call<'_>,
    state: &State,
    request: DescribeSecurityGroupsRequest,
) -> Result<DescribeSecurityGroupsResponse, Fault> {
    let mut ids = request.group_ids;
    for name in &request.group_names {
        ids.push(find_id(state, None, Some(name))?);
    }
    let query = query::Query {
        ids: &ids,
        filters: &request.filters,
        max_results: request.max_results,
        next_token: request.next_token.as_deref(),
    };
    let (found, next_token) =
        query::run(&state.security_groups, query, |it, name| attribute(call, it, name))?;
    let security_groups = found.into_iter().map(|it| answer(call, it)).collect();
    Ok(DescribeSecurityGroupsResponse { next_token, security_groups })
}

fn attribute(call: &Call<'_>, group: &SecurityGroup, name: &str) -> Values {
    match name {
        "group-id" => one(&group.id),
        "group-name" => one(&group.name),
        "description" => one(&group.description),
        "vpc-id" => one(&group.vpc_id),
        "owner-id" => one(&call.config.account),
        _ => match name.strip_prefix("egress.ip-permission.") {
            Some(name) => rule_attribute(call, group, Direction::Egress, name),
            None => {
                let name = name.strip_prefix("ip-permission.")?;
                rule_attribute(call, group, Direction::Ingress, name)
            }
        },
    }
}

fn rule_attribute(
    call: &Call<'_>,
    group: &SecurityGroup,
    direction: Direction,
    name: &str,
) -> Values {
    let rules = group.rules(direction);
    match name {
        "cidr" => many(rules.filter_map(|it| match &it.peer {
            Peer::V4(cidr) => Some(*cidr),
            _ => None,
        })),
        "ipv6-cidr" => many(rules.filter_map(|it| match &it.peer {
            Peer::V6(cidr) => Some(*cidr),
            _ => None,
        })),
        "group-id" => many(rules.filter_map(|it| match &it.peer {
            Peer::Group(id) => Some(id.clone()),
            _ => None,
        })),
        "prefix-list-id" => many(rules.filter_map(|it| match &it.peer {
            Peer::PrefixList(id) => Some(id.clone()),
            _ => None,
        })),
        "from-port" => many(rules.map(|it| it.from_port)),
        "to-port" => many(rules.map(|it| it.to_port)),
        "protocol" => many(rules.map(|it| it.protocol.clone())),
        "user-id" => many(rules.map(|_| call.config.account.clone())),
        "group-name" => Some(Vec::new()),
        _ => None,
    }
}

fn answer(call: &Call<'_>, group: &SecurityGroup) -> security_group::SecurityGroup {
    security_group::SecurityGroup {
        group_id: Some(group.id.clone()),
        ip_permissions_egress: permissions::answer(call, group.rules(Direction::Egress)),
        tags: tagging::answer(&group.tags),
        vpc_id: Some(group.vpc_id.clone()),
        security_group_arn: Some(call.config.arn(TYPE, &group.id)),
        owner_id: Some(call.config.account.clone()),
        group_name: Some(group.name.clone()),
        description: Some(group.description.clone()),
        ip_permissions: permissions::answer(call, group.rules(Direction::Ingress)),
    }
}
