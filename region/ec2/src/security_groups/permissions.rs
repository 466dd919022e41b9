//! Rules as permissions: authorize and revoke.
//!
//! A permission bundles peers under one protocol and port range; each peer is a rule. A request is
//! authorized or revoked as a whole.

use std::collections::BTreeMap;

use aws_ec2::{
    common::TagSpecification,
    security_group::{
        AuthorizeSecurityGroupEgressRequest, AuthorizeSecurityGroupEgressResponse,
        AuthorizeSecurityGroupIngressRequest, AuthorizeSecurityGroupIngressResponse, IpPermission,
        IpPermissionInput, IpRange, IpRangeInput, Ipv6Range, PrefixListId,
        RevokeSecurityGroupEgressRequest, RevokeSecurityGroupEgressResponse,
        RevokeSecurityGroupIngressRequest, RevokeSecurityGroupIngressResponse, UserIdGroupPair,
        UserIdGroupPairInput,
    },
};
use aws_wire::Fault;
use ipnet::{Ipv4Net, Ipv6Net};

use super::{find_id, rules};
use crate::{
    Call, faults, prefix_lists,
    records::{Direction, Peer, Rule, SecurityGroup, Tags},
    state::State,
    tagging,
};

/// Default quota per group and direction, for IPv4 and IPv6 each.
const LIMIT: usize = 60;

pub(crate) fn authorize_ingress(
    call: &Call<'_>,
    state: &mut State,
    request: AuthorizeSecurityGroupIngressRequest,
) -> Result<AuthorizeSecurityGroupIngressResponse, Fault> {
    let id = find_id(state, request.group_id.as_deref(), request.group_name.as_deref())?;
    let mut permissions = request.ip_permissions;
    if let Some(protocol) = request.ip_protocol {
        let group = request
            .source_security_group_name
            .map(|it| UserIdGroupPairInput { group_name: Some(it), ..Default::default() });
        permissions.push(single(
            protocol,
            request.from_port,
            request.to_port,
            request.cidr_ip,
            group,
        ));
    }
    let security_group_rules =
        authorize(call, state, &id, Direction::Ingress, &permissions, &request.tag_specifications)?;
    Ok(AuthorizeSecurityGroupIngressResponse { r#return: Some(true), security_group_rules })
}

pub(crate) fn authorize_egress(
    call: &Call<'_>,
    state: &mut State,
    request: AuthorizeSecurityGroupEgressRequest,
) -> Result<AuthorizeSecurityGroupEgressResponse, Fault> {
    let mut permissions = request.ip_permissions;
    if let Some(protocol) = request.ip_protocol {
        permissions.push(single(
            protocol,
            request.from_port,
            request.to_port,
            request.cidr_ip,
            None,
        ));
    }
    let id = &request.group_id;
    let security_group_rules =
        authorize(call, state, id, Direction::Egress, &permissions, &request.tag_specifications)?;
    Ok(AuthorizeSecurityGroupEgressResponse { r#return: Some(true), security_group_rules })
}

/// The older form of a request: one rule in plain parameters.
fn single(
    protocol: String,
    from_port: Option<i64>,
    to_port: Option<i64>,
    cidr: Option<String>,
    group: Option<UserIdGroupPairInput>,
) -> IpPermissionInput {
    let range = cidr.map(|it| IpRangeInput { cidr_ip: Some(it), description: None });
    IpPermissionInput {
        ip_protocol: Some(protocol),
        from_port,
        to_port,
        user_id_group_pairs: group.into_iter().collect(),
        ip_ranges: range.into_iter().collect(),
        ..Default::default()
    }
}

fn authorize(
    call: &Call<'_>,
    state: &mut State,
    id: &str,
    direction: Direction,
    permissions: &[IpPermissionInput],
    specifications: &[TagSpecification],
) -> Result<Vec<aws_ec2::security_group_rule::SecurityGroupRule>, Fault> {
    const TYPE: &str = "security-group-rule";
    let tags = tagging::of_specifications(call, specifications, TYPE, &[TYPE])?;
    let vpc_id = state.security_groups.find(id)?.vpc_id.clone();
    let new = parse(state, &vpc_id, direction, permissions, &tags)?;
    if new.is_empty() {
        return Err(faults::missing("ipPermissions"));
    }
    let group = state.security_groups.edit(id)?;
    for rule in new.clone() {
        if group.rules.iter().any(|it| it.is_same_permission(&rule)) {
            return Err(duplicate(&rule));
        }
        group.rules.push(rule);
    }
    let group = state.security_groups.find(id)?;
    check_quota(state, group, direction)?;
    Ok(new.iter().map(|it| rules::answer(call, state, group, it)).collect())
}

/// A prefix list counts for as many rules as it may have entries; it and a group count for both
/// families.
pub(super) fn check_quota(
    state: &State,
    group: &SecurityGroup,
    direction: Direction,
) -> Result<(), Fault> {
    let (mut v4, mut v6) = (0, 0);
    for rule in group.rules(direction) {
        let (of_v4, of_v6) = match &rule.peer {
            Peer::V4(_) => (1, 0),
            Peer::V6(_) => (0, 1),
            Peer::Group(_) => (1, 1),
            Peer::PrefixList(id) => {
                let weight = prefix_lists::weight(state, id)?;
                (weight, weight)
            }
        };
        (v4, v6) = (v4 + of_v4, v6 + of_v6);
    }
    if v4.max(v6) > LIMIT {
        return Err(Fault::new(
            "RulesPerSecurityGroupLimitExceeded",
            "The maximum number of rules per security group has been reached.",
        ));
    }
    Ok(())
}

pub(super) fn duplicate(rule: &Rule) -> Fault {
    let peer = match &rule.peer {
        Peer::V4(cidr) => cidr.to_string(),
        Peer::V6(cidr) => cidr.to_string(),
        Peer::Group(id) | Peer::PrefixList(id) => id.clone(),
    };
    let (protocol, from, to) = (&rule.protocol, rule.from_port, rule.to_port);
    let what = match (protocol.as_str(), from) {
        ("-1", _) => "ALL".to_owned(),
        (_, -1) => protocol.to_uppercase(),
        _ => format!("{}, from port: {from}, to port: {to}", protocol.to_uppercase()),
    };
    Fault::new(
        "InvalidPermission.Duplicate",
        format!("the specified rule \"peer: {peer}, {what}, ALLOW\" already exists"),
    )
}

/// One rule per peer.
pub(super) fn parse(
    state: &State,
    vpc_id: &str,
    direction: Direction,
    permissions: &[IpPermissionInput],
    tags: &Tags,
) -> Result<Vec<Rule>, Fault> {
    let mut rules = Vec::new();
    for permission in permissions {
        let protocol = permission.ip_protocol.as_deref();
        let (protocol, from_port, to_port) =
            ports(protocol, permission.from_port, permission.to_port)?;
        let mut push = |peer, description: &Option<String>| {
            rules.push(Rule {
                id: entropy::aws_id("sgr"),
                direction,
                protocol: protocol.clone(),
                from_port,
                to_port,
                peer,
                description: description.clone().filter(|it| !it.is_empty()),
                tags: tags.clone(),
            });
        };
        for range in &permission.ip_ranges {
            push(Peer::V4(ipv4_cidr(range.cidr_ip.as_deref())?), &range.description);
        }
        for range in &permission.ipv6_ranges {
            push(Peer::V6(ipv6_cidr(range.cidr_ipv6.as_deref())?), &range.description);
        }
        for pair in &permission.user_id_group_pairs {
            let id = peer_group(state, vpc_id, pair)?;
            push(Peer::Group(id), &pair.description);
        }
        for list in &permission.prefix_list_ids {
            let id = list.prefix_list_id.clone();
            let id = id.ok_or_else(|| faults::missing("PrefixListId"))?;
            prefix_lists::weight(state, &id)?;
            push(Peer::PrefixList(id), &list.description);
        }
    }
    Ok(rules)
}

fn peer_group(state: &State, vpc_id: &str, pair: &UserIdGroupPairInput) -> Result<String, Fault> {
    if let Some(id) = &pair.group_id {
        let group = state.security_groups.find(id)?;
        if group.vpc_id != vpc_id {
            return Err(Fault::new(
                "InvalidGroup.NotFound",
                format!("You have specified two resources that belong to different networks: {id}"),
            ));
        }
        return Ok(group.id.clone());
    }
    let name = pair.group_name.as_deref().ok_or_else(|| faults::missing("GroupId"))?;
    let mut in_vpc = state.security_groups.iter().filter(|it| it.vpc_id == vpc_id);
    in_vpc.find(|it| it.name == name).map(|it| it.id.clone()).ok_or_else(|| {
        Fault::new(
            "InvalidGroup.NotFound",
            format!("The security group '{name}' does not exist in VPC '{vpc_id}'"),
        )
    })
}

/// A block is known by its network, whichever of its addresses it was written with.
pub(super) fn ipv4_cidr(text: Option<&str>) -> Result<Ipv4Net, Fault> {
    cidr(text).map(|it: Ipv4Net| it.trunc())
}

pub(super) fn ipv6_cidr(text: Option<&str>) -> Result<Ipv6Net, Fault> {
    cidr(text).map(|it: Ipv6Net| it.trunc())
}

fn cidr<T: std::str::FromStr>(text: Option<&str>) -> Result<T, Fault> {
    let text = text.ok_or_else(|| faults::missing("CidrIp"))?;
    text.parse().map_err(|_| faults::invalid(format!("CIDR block {text} is malformed")))
}

/// Protocol by name, and the port range; -1 stands for all.
pub(super) fn ports(
    protocol: Option<&str>,
    from: Option<i64>,
    to: Option<i64>,
) -> Result<(String, i64, i64), Fault> {
    let protocol = protocol.ok_or_else(|| faults::missing("ipProtocol"))?.to_lowercase();
    let protocol = match protocol.as_str() {
        "6" => "tcp",
        "17" => "udp",
        "1" => "icmp",
        "58" => "icmpv6",
        "all" => "-1",
        other => other,
    };
    let is_number = protocol.parse::<u8>().is_ok();
    match protocol {
        "-1" => Ok(("-1".to_owned(), -1, -1)),
        "tcp" | "udp" => {
            let (Some(from), Some(to)) = (from, to) else {
                return Err(faults::invalid(
                    "Invalid value 'Must specify both from and to ports with TCP/UDP.' for portRange.",
                ));
            };
            let (from, to) = if (from, to) == (-1, -1) { (0, 65535) } else { (from, to) };
            if !(0..=65535).contains(&from) || !(0..=65535).contains(&to) || from > to {
                return Err(faults::invalid(format!("Invalid TCP/UDP port range: {from} - {to}")));
            }
            Ok((protocol.to_owned(), from, to))
        }
        "icmp" | "icmpv6" => {
            let (kind, code) = (from.unwrap_or(-1), to.unwrap_or(-1));
            if !(-1..=255).contains(&kind) || !(-1..=255).contains(&code) {
                return Err(faults::invalid(format!("Invalid ICMP type/code: {kind}/{code}")));
            }
            Ok((protocol.to_owned(), kind, code))
        }
        _ if is_number => Ok((protocol.to_owned(), -1, -1)),
        _ => Err(Fault::new(
            "InvalidPermission.Malformed",
            format!(
                "Unsupported IP protocol \"{protocol}\" - supported: [tcp, udp, icmp, icmpv6, -1]"
            ),
        )),
    }
}

// === Revoke ===

pub(crate) fn revoke_ingress(
    call: &Call<'_>,
    state: &mut State,
    request: RevokeSecurityGroupIngressRequest,
) -> Result<RevokeSecurityGroupIngressResponse, Fault> {
    let id = find_id(state, request.group_id.as_deref(), request.group_name.as_deref())?;
    let mut permissions = request.ip_permissions;
    if let Some(protocol) = request.ip_protocol {
        let (from, to) = (request.from_port, request.to_port);
        permissions.push(single(protocol, from, to, request.cidr_ip, None));
    }
    let by_id = &request.security_group_rule_ids;
    revoke(call, state, &id, Direction::Ingress, &permissions, by_id)?;
    Ok(RevokeSecurityGroupIngressResponse { r#return: Some(true), ..Default::default() })
}

pub(crate) fn revoke_egress(
    call: &Call<'_>,
    state: &mut State,
    request: RevokeSecurityGroupEgressRequest,
) -> Result<RevokeSecurityGroupEgressResponse, Fault> {
    let mut permissions = request.ip_permissions;
    if let Some(protocol) = request.ip_protocol {
        let (from, to) = (request.from_port, request.to_port);
        permissions.push(single(protocol, from, to, request.cidr_ip, None));
    }
    let by_id = &request.security_group_rule_ids;
    revoke(call, state, &request.group_id, Direction::Egress, &permissions, by_id)?;
    Ok(RevokeSecurityGroupEgressResponse { r#return: Some(true), ..Default::default() })
}

fn revoke(
    _call: &Call<'_>,
    state: &mut State,
    id: &str,
    direction: Direction,
    permissions: &[IpPermissionInput],
    by_id: &[String],
) -> Result<(), Fault> {
    let vpc_id = state.security_groups.find(id)?.vpc_id.clone();
    let unwanted = parse(state, &vpc_id, direction, permissions, &Tags::new())?;
    if unwanted.is_empty() && by_id.is_empty() {
        return Err(faults::missing("ipPermissions"));
    }
    let group = state.security_groups.edit(id)?;
    for rule_id in by_id {
        let known = |it: &Rule| it.id == *rule_id && it.direction == direction;
        let position = group.rules.iter().position(known).ok_or_else(|| {
            Fault::new(
                "InvalidSecurityGroupRuleId.NotFound",
                format!("The security group rule ID '{rule_id}' does not exist"),
            )
        })?;
        group.rules.remove(position);
    }
    for rule in unwanted {
        let position = group.rules.iter().position(|it| it.is_same_permission(&rule));
        let position = position.ok_or_else(|| {
            Fault::new(
                "InvalidPermission.NotFound",
                "The specified rule does not exist in this security group.",
            )
        })?;
        group.rules.remove(position);
    }
    Ok(())
}

// === Answer ===

/// Rules bundled by protocol and ports.
pub(super) fn answer<'a>(
    call: &Call<'_>,
    rules: impl Iterator<Item = &'a Rule>,
) -> Vec<IpPermission> {
    let mut bundles: BTreeMap<(&str, i64, i64), IpPermission> = BTreeMap::new();
    for rule in rules {
        let has_ports = rule.protocol != "-1" && (rule.from_port, rule.to_port) != (-1, -1);
        let has_ports = has_ports || rule.protocol.starts_with("icmp");
        let bundle =
            bundles.entry((&rule.protocol, rule.from_port, rule.to_port)).or_insert_with(|| {
                IpPermission {
                    ip_protocol: Some(rule.protocol.clone()),
                    from_port: has_ports.then_some(rule.from_port),
                    to_port: has_ports.then_some(rule.to_port),
                    ..Default::default()
                }
            });
        let description = rule.description.clone();
        match &rule.peer {
            Peer::V4(cidr) => {
                bundle.ip_ranges.push(IpRange { description, cidr_ip: Some(cidr.to_string()) });
            }
            Peer::V6(cidr) => bundle
                .ipv6_ranges
                .push(Ipv6Range { description, cidr_ipv6: Some(cidr.to_string()) }),
            Peer::Group(id) => bundle.user_id_group_pairs.push(UserIdGroupPair {
                description,
                user_id: Some(call.config.account.clone()),
                group_id: Some(id.clone()),
                ..Default::default()
            }),
            Peer::PrefixList(id) => bundle
                .prefix_list_ids
                .push(PrefixListId { description, prefix_list_id: Some(id.clone()) }),
        }
    }
    bundles.into_values().collect()
}
