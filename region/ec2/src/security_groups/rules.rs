//! Rules under identifiers of their own.

use aws_ec2::{
    security_group::IpPermissionInput,
    security_group_rule::{
        DescribeSecurityGroupRulesRequest, DescribeSecurityGroupRulesResponse,
        ModifySecurityGroupRulesRequest, ModifySecurityGroupRulesResponse, ReferencedSecurityGroup,
        SecurityGroupRule, SecurityGroupRuleDescription, SecurityGroupRuleRequest,
        UpdateSecurityGroupRuleDescriptionsEgressRequest,
        UpdateSecurityGroupRuleDescriptionsEgressResponse,
        UpdateSecurityGroupRuleDescriptionsIngressRequest,
        UpdateSecurityGroupRuleDescriptionsIngressResponse,
    },
};
use aws_wire::Fault;

use super::{find_id, permissions};
use crate::{
    Call, faults, prefix_lists,
    query::{self, one},
    records::{Direction, Peer, Rule, SecurityGroup, Tags},
    state::State,
    tagging,
};

pub(crate) fn describe_rules(
    call: &Call<'_>,
    state: &State,
    request: DescribeSecurityGroupRulesRequest,
) -> Result<DescribeSecurityGroupRulesResponse, Fault> {
    let mut all: Vec<(&SecurityGroup, &Rule)> = state
        .security_groups
        .iter()
        .flat_map(|group| group.rules.iter().map(move |rule| (group, rule)))
        .collect();
    all.sort_by_key(|(_, rule)| &rule.id);
    let wanted = &request.security_group_rule_ids;
    for id in wanted {
        if !all.iter().any(|(_, rule)| rule.id == *id) {
            return Err(no_such_rule(id));
        }
    }
    query::check(&request.filters, |name| attribute("", "", name))?;
    let mut found = Vec::new();
    for (group, rule) in all {
        let passes = query::passes(&request.filters, &rule.tags, |name| {
            attribute(&group.id, &rule.id, name)
        })?;
        if passes && (wanted.is_empty() || wanted.contains(&rule.id)) {
            found.push((group, rule));
        }
    }
    let (found, next_token) =
        query::page(found, request.max_results, request.next_token.as_deref(), |(_, rule)| {
            &rule.id
        })?;
    let security_group_rules =
        found.into_iter().map(|(group, rule)| answer(call, state, group, rule)).collect();
    Ok(DescribeSecurityGroupRulesResponse { security_group_rules, next_token })
}

fn attribute(group_id: &str, rule_id: &str, name: &str) -> query::Values {
    match name {
        "group-id" => one(group_id),
        "security-group-rule-id" => one(rule_id),
        _ => None,
    }
}

fn no_such_rule(id: &str) -> Fault {
    Fault::new(
        "InvalidSecurityGroupRuleId.NotFound",
        format!("The security group rule ID '{id}' does not exist"),
    )
}

pub(super) fn answer(
    call: &Call<'_>,
    state: &State,
    group: &SecurityGroup,
    rule: &Rule,
) -> SecurityGroupRule {
    let account = &call.config.account;
    let mut shown = SecurityGroupRule {
        security_group_rule_id: Some(rule.id.clone()),
        group_id: Some(group.id.clone()),
        group_owner_id: Some(account.clone()),
        is_egress: Some(rule.direction == Direction::Egress),
        ip_protocol: Some(rule.protocol.clone()),
        from_port: Some(rule.from_port),
        to_port: Some(rule.to_port),
        description: rule.description.clone(),
        tags: tagging::answer(&rule.tags),
        security_group_rule_arn: Some(call.config.arn("security-group-rule", &rule.id)),
        ..Default::default()
    };
    match &rule.peer {
        Peer::V4(cidr) => shown.cidr_ipv4 = Some(cidr.to_string()),
        Peer::V6(cidr) => shown.cidr_ipv6 = Some(cidr.to_string()),
        Peer::PrefixList(id) => shown.prefix_list_id = Some(id.clone()),
        Peer::Group(id) => {
            shown.referenced_group_info = Some(ReferencedSecurityGroup {
                group_id: Some(id.clone()),
                user_id: Some(account.clone()),
                vpc_id: state
                    .security_groups
                    .get(id)
                    .filter(|it| it.vpc_id != group.vpc_id)
                    .map(|it| it.vpc_id.clone()),
                ..Default::default()
            });
        }
    }
    shown
}

pub(crate) fn modify_rules(
    _call: &Call<'_>,
    state: &mut State,
    request: ModifySecurityGroupRulesRequest,
) -> Result<ModifySecurityGroupRulesResponse, Fault> {
    for update in &request.security_group_rules {
        let wanted = update
            .security_group_rule
            .as_ref()
            .ok_or_else(|| faults::missing("SecurityGroupRule"))?;
        let peer = peer(state, wanted)?;
        let (protocol, from_port, to_port) =
            permissions::ports(wanted.ip_protocol.as_deref(), wanted.from_port, wanted.to_port)?;
        let id = &update.security_group_rule_id;
        let group = state.security_groups.edit(&request.group_id)?;
        let position = group.rules.iter().position(|it| it.id == *id);
        let position = position.ok_or_else(|| no_such_rule(id))?;
        let changed = Rule {
            protocol,
            from_port,
            to_port,
            peer,
            description: wanted.description.clone().filter(|it| !it.is_empty()),
            ..group.rules[position].clone()
        };
        if group.rules.iter().any(|it| it.id != *id && it.is_same_permission(&changed)) {
            return Err(permissions::duplicate(&changed));
        }
        let direction = changed.direction;
        group.rules[position] = changed;
        let group = state.security_groups.find(&request.group_id)?;
        permissions::check_quota(state, group, direction)?;
    }
    Ok(ModifySecurityGroupRulesResponse { r#return: Some(true) })
}

fn peer(state: &State, wanted: &SecurityGroupRuleRequest) -> Result<Peer, Fault> {
    let given = (
        wanted.cidr_ipv4.as_deref(),
        wanted.cidr_ipv6.as_deref(),
        wanted.referenced_group_id.as_deref(),
        wanted.prefix_list_id.as_deref(),
    );
    match given {
        (cidr @ Some(_), None, None, None) => Ok(Peer::V4(permissions::ipv4_cidr(cidr)?)),
        (None, cidr @ Some(_), None, None) => Ok(Peer::V6(permissions::ipv6_cidr(cidr)?)),
        (None, None, Some(id), None) => Ok(Peer::Group(state.security_groups.find(id)?.id.clone())),
        (None, None, None, Some(id)) => {
            prefix_lists::weight(state, id)?;
            Ok(Peer::PrefixList(id.to_owned()))
        }
        _ => Err(faults::combination("Exactly one source or destination must be given.")),
    }
}

pub(crate) fn update_descriptions_ingress(
    _call: &Call<'_>,
    state: &mut State,
    request: UpdateSecurityGroupRuleDescriptionsIngressRequest,
) -> Result<UpdateSecurityGroupRuleDescriptionsIngressResponse, Fault> {
    let id = find_id(state, request.group_id.as_deref(), request.group_name.as_deref())?;
    let (permissions, named) = (&request.ip_permissions, &request.security_group_rule_descriptions);
    update_descriptions(state, &id, Direction::Ingress, permissions, named)?;
    Ok(UpdateSecurityGroupRuleDescriptionsIngressResponse { r#return: Some(true) })
}

pub(crate) fn update_descriptions_egress(
    _call: &Call<'_>,
    state: &mut State,
    request: UpdateSecurityGroupRuleDescriptionsEgressRequest,
) -> Result<UpdateSecurityGroupRuleDescriptionsEgressResponse, Fault> {
    let id = find_id(state, request.group_id.as_deref(), request.group_name.as_deref())?;
    let (permissions, named) = (&request.ip_permissions, &request.security_group_rule_descriptions);
    update_descriptions(state, &id, Direction::Egress, permissions, named)?;
    Ok(UpdateSecurityGroupRuleDescriptionsEgressResponse { r#return: Some(true) })
}

fn update_descriptions(
    state: &mut State,
    id: &str,
    direction: Direction,
    permissions: &[IpPermissionInput],
    named: &[SecurityGroupRuleDescription],
) -> Result<(), Fault> {
    let vpc_id = state.security_groups.find(id)?.vpc_id.clone();
    let described = permissions::parse(state, &vpc_id, direction, permissions, &Tags::new())?;
    let group = state.security_groups.edit(id)?;
    for rule in described {
        let known = group.rules.iter_mut().find(|it| it.is_same_permission(&rule));
        known
            .ok_or_else(|| {
                Fault::new(
                    "InvalidPermission.NotFound",
                    "The specified rule does not exist in this security group.",
                )
            })?
            .description = rule.description;
    }
    for it in named {
        let rule_id = it.security_group_rule_id.as_deref().unwrap_or_default();
        let known = group.rules.iter_mut().find(|it| it.id == rule_id);
        known.ok_or_else(|| no_such_rule(rule_id))?.description = it.description.clone();
    }
    Ok(())
}
