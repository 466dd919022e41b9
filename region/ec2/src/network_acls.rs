//! Network ACLs: their entries, and which subnets use them.

mod entries;

use aws_ec2::network_acl::{
    self, CreateNetworkAclRequest, CreateNetworkAclResponse, DeleteNetworkAclRequest,
    DeleteNetworkAclResponse, DescribeNetworkAclsRequest, DescribeNetworkAclsResponse,
    ReplaceNetworkAclAssociationRequest, ReplaceNetworkAclAssociationResponse,
};
use aws_wire::Fault;

pub(crate) use self::entries::{create_entry, delete_entry, replace_entry};
use crate::{
    Call, client_tokens, faults,
    query::{self, Values, many, one, query_of},
    records::{NetworkAcl, NetworkAclAssociation, Subnet},
    state::State,
    tagging,
};

const TYPE: &str = "network-acl";
/// Default quota per VPC.
const LIMIT: usize = 200;

pub(crate) fn create(
    call: &Call<'_>,
    state: &mut State,
    request: CreateNetworkAclRequest,
) -> Result<CreateNetworkAclResponse, Fault> {
    let client_token = request.client_token.clone();
    let token = client_token.as_deref();
    let id = client_tokens::once(call, state, "CreateNetworkAcl", token, request, |state, it| {
        made(call, state, it)
    })?;
    let network_acl = Some(answer(call, state, state.network_acls.find(&id)?));
    Ok(CreateNetworkAclResponse { network_acl, client_token })
}

fn made(
    call: &Call<'_>,
    state: &mut State,
    request: CreateNetworkAclRequest,
) -> Result<String, Fault> {
    let vpc_id = state.vpcs.find(&request.vpc_id)?.id.clone();
    if state.network_acls.iter().filter(|it| it.vpc_id == vpc_id).count() >= LIMIT {
        return Err(Fault::new(
            "NetworkAclLimitExceeded",
            "The maximum number of network ACLs has been reached.",
        ));
    }
    let tags = tagging::of_specifications(call, &request.tag_specifications, TYPE, &[TYPE])?;
    let id = entropy::aws_id("acl");
    state.network_acls.insert(NetworkAcl { id: id.clone(), vpc_id, tags, ..Default::default() });
    Ok(id)
}

pub(crate) fn delete(
    _call: &Call<'_>,
    state: &mut State,
    request: DeleteNetworkAclRequest,
) -> Result<DeleteNetworkAclResponse, Fault> {
    let acl = state.network_acls.find(&request.network_acl_id)?;
    if acl.is_default {
        return Err(faults::invalid(format!("cannot delete default network ACL {}", acl.id)));
    }
    if !acl.associations.is_empty() {
        return Err(faults::dependency(format!(
            "The networkAcl '{}' has dependencies and cannot be deleted.",
            acl.id
        )));
    }
    state.network_acls.remove(&request.network_acl_id)?;
    Ok(DeleteNetworkAclResponse {})
}

pub(crate) fn replace_association(
    _call: &Call<'_>,
    state: &mut State,
    request: ReplaceNetworkAclAssociationRequest,
) -> Result<ReplaceNetworkAclAssociationResponse, Fault> {
    let subnet = subnet_of(state, &request.association_id).ok_or_else(|| {
        Fault::new(
            "InvalidAssociationID.NotFound",
            format!("The association ID '{}' does not exist", request.association_id),
        )
    })?;
    let (subnet_id, vpc_id) = (subnet.id.clone(), subnet.vpc_id.clone());
    let acl = state.network_acls.find(&request.network_acl_id)?;
    if acl.vpc_id != vpc_id {
        return Err(faults::invalid(format!(
            "network ACL {} and network {subnet_id} belong to different networks",
            acl.id
        )));
    }
    forget(state, &subnet_id)?;
    let id = entropy::aws_id("aclassoc");
    let association = NetworkAclAssociation { id: id.clone(), subnet_id };
    state.network_acls.edit(&request.network_acl_id)?.associations.push(association);
    Ok(ReplaceNetworkAclAssociationResponse { new_association_id: Some(id) })
}

/// The subnet of an association.
pub(crate) fn subnet_of<'a>(state: &'a State, association: &str) -> Option<&'a Subnet> {
    let all = state.network_acls.iter().flat_map(|acl| associations(state, acl));
    let found = all.into_iter().find(|it| it.id == association)?;
    state.subnets.get(&found.subnet_id)
}

/// Takes a subnet away from the ACL that it was given to.
pub(crate) fn forget(state: &mut State, subnet_id: &str) -> Result<(), Fault> {
    let is_its = |it: &NetworkAclAssociation| it.subnet_id == subnet_id;
    let has_it = |acl: &&NetworkAcl| acl.associations.iter().any(is_its);
    let Some(old) = state.network_acls.iter().find(has_it).map(|it| it.id.clone()) else {
        return Ok(());
    };
    state.network_acls.edit(&old)?.associations.retain(|it| !is_its(it));
    Ok(())
}

/// Those that were made, and for a default ACL those of all other subnets, whose ids follow from
/// the subnets'.
fn associations(state: &State, acl: &NetworkAcl) -> Vec<NetworkAclAssociation> {
    let given = acl.associations.iter().cloned();
    if !acl.is_default {
        return given.collect();
    }
    let is_given = |subnet: &Subnet| {
        let mut all = state.network_acls.iter().flat_map(|it| &it.associations);
        all.any(|it| it.subnet_id == subnet.id)
    };
    let others = state.subnets.iter().filter(|it| it.vpc_id == acl.vpc_id && !is_given(it));
    let others = others.map(|it| NetworkAclAssociation {
        id: it.id.replacen("subnet-", "aclassoc-", 1),
        subnet_id: it.id.clone(),
    });
    given.chain(others).collect()
}

pub(crate) fn describe(
    call: &Call<'_>,
    state: &State,
    request: DescribeNetworkAclsRequest,
) -> Result<DescribeNetworkAclsResponse, Fault> {
    let query = query_of!(request, network_acl_ids);
    let (found, next_token) =
        query::run(&state.network_acls, query, |it, name| attribute(call, state, it, name))?;
    let network_acls = found.into_iter().map(|it| answer(call, state, it)).collect();
    Ok(DescribeNetworkAclsResponse { network_acls, next_token })
}

fn attribute(call: &Call<'_>, state: &State, acl: &NetworkAcl, name: &str) -> Values {
    match name {
        "network-acl-id" => one(&acl.id),
        "vpc-id" => one(&acl.vpc_id),
        "default" => one(acl.is_default),
        "owner-id" => one(&call.config.account),
        "association.subnet-id" => {
            many(associations(state, acl).into_iter().map(|it| it.subnet_id))
        }
        "association.network-acl-id" => many(associations(state, acl).iter().map(|_| &acl.id)),
        "association.association-id" => many(associations(state, acl).into_iter().map(|it| it.id)),
        _ => entries::attribute(acl, name.strip_prefix("entry.")?),
    }
}

fn answer(call: &Call<'_>, state: &State, acl: &NetworkAcl) -> network_acl::NetworkAcl {
    let association = |it: NetworkAclAssociation| network_acl::NetworkAclAssociation {
        network_acl_association_id: Some(it.id),
        network_acl_id: Some(acl.id.clone()),
        subnet_id: Some(it.subnet_id),
    };
    network_acl::NetworkAcl {
        associations: associations(state, acl).into_iter().map(association).collect(),
        entries: entries::answer(acl),
        is_default: Some(acl.is_default),
        network_acl_id: Some(acl.id.clone()),
        tags: tagging::answer(&acl.tags),
        vpc_id: Some(acl.vpc_id.clone()),
        owner_id: Some(call.config.account.clone()),
    }
}
