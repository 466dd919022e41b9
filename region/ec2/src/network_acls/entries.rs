//! The entries of a network ACL.

use aws_ec2::network_acl::{
    self, CreateNetworkAclEntryRequest, CreateNetworkAclEntryResponse,
    DeleteNetworkAclEntryRequest, DeleteNetworkAclEntryResponse, IcmpTypeCode, PortRange,
    ReplaceNetworkAclEntryRequest, ReplaceNetworkAclEntryResponse,
};
use aws_wire::Fault;
use ipnet::Ipv4Net;

use crate::{
    Call, faults,
    query::{Values, many},
    records::{AclPeer, NetworkAcl, NetworkAclEntry},
    state::State,
};

/// Default quota per direction, for IPv4 and IPv6 each, with the last entry.
const LIMIT: usize = 20;
/// The number of the last entry, which denies all.
const LAST: u16 = 32767;
const ICMP: &str = "1";
const ICMP6: &str = "58";

pub(crate) fn create_entry(
    _call: &Call<'_>,
    state: &mut State,
    request: CreateNetworkAclEntryRequest,
) -> Result<CreateNetworkAclEntryResponse, Fault> {
    let id = request.network_acl_id.clone();
    let entry = parse(request)?;
    let acl = state.network_acls.edit(&id)?;
    if position(acl, entry.number, entry.is_egress).is_some() {
        return Err(Fault::new(
            "NetworkAclEntryAlreadyExists",
            format!("The network acl entry identified by {} already exists.", entry.number),
        ));
    }
    let is_like = |it: &&NetworkAclEntry| {
        it.is_egress == entry.is_egress
            && matches!(it.peer, AclPeer::V4(_)) == matches!(entry.peer, AclPeer::V4(_))
    };
    if acl.entries.iter().filter(is_like).count() + 1 >= LIMIT {
        return Err(Fault::new(
            "NetworkAclEntryLimitExceeded",
            "The maximum number of network ACL entries has been reached.",
        ));
    }
    acl.entries.push(entry);
    Ok(CreateNetworkAclEntryResponse {})
}

pub(crate) fn replace_entry(
    _call: &Call<'_>,
    state: &mut State,
    request: ReplaceNetworkAclEntryRequest,
) -> Result<ReplaceNetworkAclEntryResponse, Fault> {
    let id = request.network_acl_id.clone();
    let entry = parse(CreateNetworkAclEntryRequest {
        dry_run: None,
        network_acl_id: request.network_acl_id,
        rule_number: request.rule_number,
        protocol: request.protocol,
        rule_action: request.rule_action,
        egress: request.egress,
        cidr_block: request.cidr_block,
        ipv6_cidr_block: request.ipv6_cidr_block,
        icmp_type_code: request.icmp_type_code,
        port_range: request.port_range,
    })?;
    let acl = state.network_acls.edit(&id)?;
    let position = position(acl, entry.number, entry.is_egress);
    let position = position.ok_or_else(|| no_entry(entry.number))?;
    acl.entries[position] = entry;
    Ok(ReplaceNetworkAclEntryResponse {})
}

pub(crate) fn delete_entry(
    _call: &Call<'_>,
    state: &mut State,
    request: DeleteNetworkAclEntryRequest,
) -> Result<DeleteNetworkAclEntryResponse, Fault> {
    let number = number(request.rule_number)?;
    let acl = state.network_acls.edit(&request.network_acl_id)?;
    let position = position(acl, number, request.egress).ok_or_else(|| no_entry(number))?;
    acl.entries.remove(position);
    Ok(DeleteNetworkAclEntryResponse {})
}

fn position(acl: &NetworkAcl, number: u16, is_egress: bool) -> Option<usize> {
    acl.entries.iter().position(|it| it.number == number && it.is_egress == is_egress)
}

fn no_entry(number: u16) -> Fault {
    Fault::new(
        "InvalidNetworkAclEntry.NotFound",
        format!("The network acl entry identified by {number} does not exist"),
    )
}

fn number(number: i64) -> Result<u16, Fault> {
    let valid = u16::try_from(number).ok().filter(|it| (1..LAST).contains(it));
    valid.ok_or_else(|| faults::invalid_value("ruleNumber", number))
}

fn parse(request: CreateNetworkAclEntryRequest) -> Result<NetworkAclEntry, Fault> {
    let number = number(request.rule_number)?;
    let is_allowed = match request.rule_action.as_str() {
        "allow" => true,
        "deny" => false,
        other => return Err(faults::invalid_value("ruleAction", other)),
    };
    let peer = match (&request.cidr_block, &request.ipv6_cidr_block) {
        (Some(cidr), None) => AclPeer::V4(v4(cidr)?),
        (None, Some(cidr)) => {
            AclPeer::V6(cidr.parse().map_err(|_| faults::invalid_value("ipv6CidrBlock", cidr))?)
        }
        (None, None) => return Err(faults::missing("cidrBlock")),
        _ => {
            return Err(faults::combination(
                "The parameters cidrBlock and ipv6CidrBlock cannot be used together.",
            ));
        }
    };
    let protocol = protocol(&request.protocol)?;
    let ports = match protocol.as_str() {
        "6" | "17" => {
            let range = request.port_range.ok_or_else(|| faults::missing("portRange"))?;
            Some(ports(range.from, range.to)?)
        }
        _ => None,
    };
    let icmp = match protocol.as_str() {
        ICMP | ICMP6 => {
            let given = request.icmp_type_code.ok_or_else(|| faults::missing("icmpTypeCode"))?;
            Some(icmp(given.r#type, given.code)?)
        }
        _ => None,
    };
    let is_egress = request.egress;
    Ok(NetworkAclEntry { number, is_egress, is_allowed, protocol, peer, ports, icmp })
}

fn v4(cidr: &str) -> Result<Ipv4Net, Fault> {
    let parsed: Result<Ipv4Net, _> = cidr.parse();
    parsed.map(|it| it.trunc()).map_err(|_| faults::invalid_value("cidrBlock", cidr))
}

/// By number or name, as a number.
fn protocol(text: &str) -> Result<String, Fault> {
    let number = match text.to_ascii_lowercase().as_str() {
        "all" | "-1" => return Ok("-1".to_owned()),
        "tcp" => Some(6),
        "udp" => Some(17),
        "icmp" => Some(1),
        "icmpv6" => Some(58),
        other => other.parse::<u8>().ok(),
    };
    number.map(|it| it.to_string()).ok_or_else(|| faults::invalid_value("protocol", text))
}

fn ports(from: Option<i64>, to: Option<i64>) -> Result<(u16, u16), Fault> {
    let (from, to) = match (from, to) {
        (Some(-1), Some(-1)) => return Ok((0, u16::MAX)),
        (Some(from), Some(to)) => (from, to),
        _ => return Err(faults::missing("portRange")),
    };
    let wrong = || faults::invalid(format!("Invalid TCP/UDP port range: {from} - {to}"));
    let (first, last) = (u16::try_from(from), u16::try_from(to));
    match (first, last) {
        (Ok(first), Ok(last)) if first <= last => Ok((first, last)),
        _ => Err(wrong()),
    }
}

fn icmp(kind: Option<i64>, code: Option<i64>) -> Result<(i64, i64), Fault> {
    let (kind, code) = (kind.unwrap_or(-1), code.unwrap_or(-1));
    if !(-1..=255).contains(&kind) || !(-1..=255).contains(&code) {
        return Err(faults::invalid(format!("Invalid ICMP type/code: {kind}/{code}")));
    }
    Ok((kind, code))
}

/// The values of `entry.…` filters, those of the last entries included.
pub(super) fn attribute(acl: &NetworkAcl, name: &str) -> Values {
    let all = answer(acl);
    match name {
        "cidr" => many(all.into_iter().filter_map(|it| it.cidr_block)),
        "ipv6-cidr" => many(all.into_iter().filter_map(|it| it.ipv6_cidr_block)),
        "protocol" => many(all.into_iter().filter_map(|it| it.protocol)),
        "rule-action" => many(all.into_iter().filter_map(|it| it.rule_action)),
        "rule-number" => many(all.into_iter().filter_map(|it| it.rule_number)),
        "egress" => many(all.into_iter().filter_map(|it| it.egress)),
        "icmp.code" => many(all.into_iter().filter_map(|it| it.icmp_type_code?.code)),
        "icmp.type" => many(all.into_iter().filter_map(|it| it.icmp_type_code?.r#type)),
        "port-range.from" => many(all.into_iter().filter_map(|it| it.port_range?.from)),
        "port-range.to" => many(all.into_iter().filter_map(|it| it.port_range?.to)),
        _ => None,
    }
}

/// Egress first, each direction by number, the last one denying all.
pub(super) fn answer(acl: &NetworkAcl) -> Vec<network_acl::NetworkAclEntry> {
    let mut all: Vec<&NetworkAclEntry> = acl.entries.iter().collect();
    all.sort_by_key(|it| it.number);
    let mut shown = Vec::new();
    for is_egress in [true, false] {
        shown.extend(all.iter().filter(|it| it.is_egress == is_egress).map(|it| one(it)));
        shown.push(one(&NetworkAclEntry {
            number: LAST,
            is_egress,
            is_allowed: false,
            protocol: "-1".to_owned(),
            peer: AclPeer::V4(Ipv4Net::default()),
            ports: None,
            icmp: None,
        }));
    }
    shown
}

fn one(entry: &NetworkAclEntry) -> network_acl::NetworkAclEntry {
    let (cidr_block, ipv6_cidr_block) = match entry.peer {
        AclPeer::V4(cidr) => (Some(cidr.to_string()), None),
        AclPeer::V6(cidr) => (None, Some(cidr.to_string())),
    };
    let port = |it: u16| Some(i64::from(it));
    network_acl::NetworkAclEntry {
        cidr_block,
        ipv6_cidr_block,
        egress: Some(entry.is_egress),
        icmp_type_code: entry
            .icmp
            .map(|(kind, code)| IcmpTypeCode { code: Some(code), r#type: Some(kind) }),
        port_range: entry.ports.map(|(from, to)| PortRange { from: port(from), to: port(to) }),
        protocol: Some(entry.protocol.clone()),
        rule_action: Some(if entry.is_allowed { "allow" } else { "deny" }.to_owned()),
        rule_number: Some(i64::from(entry.number)),
    }
}
