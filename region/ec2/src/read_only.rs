//! Parts of a VPC that exist but cannot be changed: network ACLs.
//!
//! Deviation: every VPC has its default ACL, which allows everything; others cannot be made.

use aws_ec2::network_acl::{
    DescribeNetworkAclsRequest, DescribeNetworkAclsResponse, NetworkAcl, NetworkAclAssociation,
    NetworkAclEntry,
};
use aws_wire::Fault;

use crate::{
    Call,
    query::{self, Values, many, one, query_of},
    records,
    state::State,
    tagging,
};

pub(crate) fn describe_acls(
    call: &Call<'_>,
    state: &State,
    request: DescribeNetworkAclsRequest,
) -> Result<DescribeNetworkAclsResponse, Fault> {
    let query = query_of!(request, network_acl_ids);
    let (found, next_token) =
        query::run(&state.network_acls, query, |it, name| acl_attribute(call, state, it, name))?;
    let network_acls = found.into_iter().map(|it| acl(call, state, it)).collect();
    Ok(DescribeNetworkAclsResponse { network_acls, next_token })
}

fn subnets<'a>(
    state: &'a State,
    acl: &'a records::NetworkAcl,
) -> impl Iterator<Item = &'a records::Subnet> {
    state.subnets.iter().filter(|it| it.vpc_id == acl.vpc_id)
}

fn association_id(subnet: &records::Subnet) -> String {
    subnet.id.replacen("subnet-", "aclassoc-", 1)
}

fn acl_attribute(call: &Call<'_>, state: &State, acl: &records::NetworkAcl, name: &str) -> Values {
    match name {
        "network-acl-id" => one(&acl.id),
        "vpc-id" => one(&acl.vpc_id),
        "default" => one(true),
        "owner-id" => one(&call.config.account),
        "association.subnet-id" => many(subnets(state, acl).map(|it| &it.id)),
        "association.network-acl-id" => many(subnets(state, acl).map(|_| &acl.id)),
        "association.association-id" => many(subnets(state, acl).map(association_id)),
        "entry.cidr" => one("0.0.0.0/0"),
        "entry.protocol" => one("-1"),
        "entry.rule-action" => many(["allow", "deny"]),
        "entry.rule-number" => many([100, 32767]),
        "entry.egress" => many([true, false]),
        "entry.icmp.code"
        | "entry.icmp.type"
        | "entry.ipv6-cidr"
        | "entry.port-range.from"
        | "entry.port-range.to" => Some(Vec::new()),
        _ => None,
    }
}

fn acl(call: &Call<'_>, state: &State, acl: &records::NetworkAcl) -> NetworkAcl {
    let entry = |egress: bool, number: i64, action: &str| NetworkAclEntry {
        cidr_block: Some("0.0.0.0/0".to_owned()),
        egress: Some(egress),
        protocol: Some("-1".to_owned()),
        rule_action: Some(action.to_owned()),
        rule_number: Some(number),
        ..Default::default()
    };
    let association = |it: &records::Subnet| NetworkAclAssociation {
        network_acl_association_id: Some(association_id(it)),
        network_acl_id: Some(acl.id.clone()),
        subnet_id: Some(it.id.clone()),
    };
    NetworkAcl {
        associations: subnets(state, acl).map(association).collect(),
        entries: vec![
            entry(true, 100, "allow"),
            entry(true, 32767, "deny"),
            entry(false, 100, "allow"),
            entry(false, 32767, "deny"),
        ],
        is_default: Some(true),
        network_acl_id: Some(acl.id.clone()),
        tags: tagging::answer(&acl.tags),
        vpc_id: Some(acl.vpc_id.clone()),
        owner_id: Some(call.config.account.clone()),
    }
}
