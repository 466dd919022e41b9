//! Targets of calls that touch more resources than they name, or that name them in another way.

use aws_ec2::{
    address::{AssociateAddressRequest, DisassociateAddressRequest, ReleaseAddressRequest},
    egress_only_internet_gateway::CreateEgressOnlyInternetGatewayRequest,
    instance_attribute::DisassociateIamInstanceProfileRequest,
    internet_gateway::{AttachInternetGatewayRequest, DetachInternetGatewayRequest},
    key_pair::DeleteKeyPairRequest,
    nat_gateway::CreateNatGatewayRequest,
    network_acl::{CreateNetworkAclRequest, ReplaceNetworkAclAssociationRequest},
    network_interface::{
        AttachNetworkInterfaceRequest, CreateNetworkInterfaceRequest,
        DetachNetworkInterfaceRequest, ModifyNetworkInterfaceAttributeRequest,
    },
    network_interface_permission::CreateNetworkInterfacePermissionRequest,
    route_table::{
        AssociateRouteTableRequest, CreateRouteTableRequest, DisassociateRouteTableRequest,
        ReplaceRouteTableAssociationRequest,
    },
    security_group::CreateSecurityGroupRequest,
    subnet::{CreateSubnetRequest, DisassociateSubnetCidrBlockRequest},
    vpc::DisassociateVpcCidrBlockRequest,
    vpc_endpoint::CreateVpcEndpointRequest,
};
use region_gateway::{Caller, Target};

use super::{of_creation, of_id, of_ids};
use crate::{Ec2, records::ElasticIp, state::State};

/// Those that exist of the resources that the call is about; `*` if none of them does, which the
/// call itself then says.
fn existing(ec2: &Ec2, caller: &Caller, ids: impl IntoIterator<Item = String>) -> Vec<Target> {
    of_ids(ec2, caller, &ids.into_iter().collect::<Vec<_>>())
}

fn beside<'a>(
    ec2: &Ec2,
    mut targets: Vec<Target>,
    ids: impl IntoIterator<Item = &'a String>,
) -> Vec<Target> {
    let view = ec2.view();
    targets.extend(ids.into_iter().map(|id| of_id(ec2.config(), &view, id)));
    targets
}

// === Creation inside of something ===

macro_rules! creation {
    ($($function:ident: $request:ty, $action:literal, $kind:literal, |$it:ident| $ids:expr;)*) => {
        $(pub(crate) fn $function(ec2: &Ec2, _: &Caller, $it: &$request) -> Vec<Target> {
            let made = of_creation(ec2, $action, $kind, &$it.tag_specifications);
            beside(ec2, made, $ids)
        })*
    };
}

creation! {
    create_subnet: CreateSubnetRequest, "CreateSubnet", "subnet", |it| [&it.vpc_id];
    create_egress_only_internet_gateway: CreateEgressOnlyInternetGatewayRequest,
        "CreateEgressOnlyInternetGateway", "egress-only-internet-gateway", |it| [&it.vpc_id];
    create_security_group: CreateSecurityGroupRequest, "CreateSecurityGroup", "security-group",
        |it| &it.vpc_id;
    create_route_table: CreateRouteTableRequest, "CreateRouteTable", "route-table",
        |it| [&it.vpc_id];
    create_network_acl: CreateNetworkAclRequest, "CreateNetworkAcl", "network-acl",
        |it| [&it.vpc_id];
    create_nat_gateway: CreateNatGatewayRequest, "CreateNatGateway", "natgateway",
        |it| it.subnet_id.iter().chain(&it.allocation_id);
    create_vpc_endpoint: CreateVpcEndpointRequest, "CreateVpcEndpoint", "vpc-endpoint",
        |it| [&it.vpc_id].into_iter().chain(&it.subnet_ids).chain(&it.route_table_ids)
            .chain(&it.security_group_ids);
    create_network_interface: CreateNetworkInterfaceRequest, "CreateNetworkInterface",
        "network-interface", |it| [&it.subnet_id].into_iter().chain(&it.groups);
}

// === Two sides of a connection ===

pub(crate) fn attach_internet_gateway(
    ec2: &Ec2,
    caller: &Caller,
    request: &AttachInternetGatewayRequest,
) -> Vec<Target> {
    of_ids(ec2, caller, &[&request.internet_gateway_id, &request.vpc_id])
}

pub(crate) fn detach_internet_gateway(
    ec2: &Ec2,
    caller: &Caller,
    request: &DetachInternetGatewayRequest,
) -> Vec<Target> {
    of_ids(ec2, caller, &[&request.internet_gateway_id, &request.vpc_id])
}

pub(crate) fn attach_network_interface(
    ec2: &Ec2,
    caller: &Caller,
    request: &AttachNetworkInterfaceRequest,
) -> Vec<Target> {
    of_ids(ec2, caller, &[&request.network_interface_id, &request.instance_id])
}

pub(crate) fn detach_network_interface(
    ec2: &Ec2,
    caller: &Caller,
    request: &DetachNetworkInterfaceRequest,
) -> Vec<Target> {
    let view = ec2.view();
    let found = view.network_interfaces.iter().find_map(|it| {
        let attachment = it.attachment.as_ref().filter(|it| it.id == request.attachment_id)?;
        Some([it.id.clone(), attachment.instance_id.clone()])
    });
    existing(ec2, caller, found.into_iter().flatten())
}

pub(crate) fn modify_network_interface(
    ec2: &Ec2,
    caller: &Caller,
    request: &ModifyNetworkInterfaceAttributeRequest,
) -> Vec<Target> {
    beside(ec2, of_ids(ec2, caller, &[&request.network_interface_id]), &request.groups)
}

pub(crate) fn create_permission(
    ec2: &Ec2,
    caller: &Caller,
    request: &CreateNetworkInterfacePermissionRequest,
) -> Vec<Target> {
    let user = request.aws_account_id.iter().map(|it| format!("arn:aws:iam::{it}:root"));
    let (user, service): (Vec<_>, Vec<_>) = (user.collect(), request.aws_service.iter().collect());
    let with = |target: Target| {
        let target = target.with("ec2:Permission", [request.permission.clone()]);
        let target =
            user.iter().fold(target, |it, user| it.with("ec2:AuthorizedUser", [user.clone()]));
        service.iter().fold(target, |it, name| it.with("ec2:AuthorizedService", [(*name).clone()]))
    };
    of_ids(ec2, caller, &[&request.network_interface_id]).into_iter().map(with).collect()
}

pub(crate) fn associate_route_table(
    ec2: &Ec2,
    caller: &Caller,
    request: &AssociateRouteTableRequest,
) -> Vec<Target> {
    beside(ec2, of_ids(ec2, caller, &[&request.route_table_id]), &request.subnet_id)
}

pub(crate) fn disassociate_route_table(
    ec2: &Ec2,
    caller: &Caller,
    request: &DisassociateRouteTableRequest,
) -> Vec<Target> {
    existing(ec2, caller, association(&ec2.view(), &request.association_id))
}

pub(crate) fn replace_route_table_association(
    ec2: &Ec2,
    caller: &Caller,
    request: &ReplaceRouteTableAssociationRequest,
) -> Vec<Target> {
    let other = association(&ec2.view(), &request.association_id);
    existing(ec2, caller, [request.route_table_id.clone()].into_iter().chain(other))
}

pub(crate) fn replace_network_acl_association(
    ec2: &Ec2,
    caller: &Caller,
    request: &ReplaceNetworkAclAssociationRequest,
) -> Vec<Target> {
    let view = ec2.view();
    let subnet = crate::network_acls::subnet_of(&view, &request.association_id);
    let old = subnet.and_then(|it| view.network_acl_of(it)).map(|it| it.id.clone());
    let ids = [Some(request.network_acl_id.clone()), old, subnet.map(|it| it.id.clone())];
    existing(ec2, caller, ids.into_iter().flatten())
}

/// A route table and what it is associated with.
fn association(state: &State, id: &str) -> Vec<String> {
    let found = state.route_tables.iter().find_map(|table| {
        let association = table.associations.iter().find(|it| it.id == id)?;
        Some([Some(table.id.clone()), association.subnet_id.clone()])
    });
    found.into_iter().flatten().flatten().collect()
}

// === Elastic addresses ===

pub(crate) fn associate_address(
    ec2: &Ec2,
    caller: &Caller,
    request: &AssociateAddressRequest,
) -> Vec<Target> {
    let ip = request.public_ip.as_deref();
    let address = address(&ec2.view(), |it| {
        request.allocation_id.as_ref() == Some(&it.id) || is_public_ip(it, ip)
    });
    let ids = address.map(|it| it.id).into_iter();
    let others = request.network_interface_id.iter().chain(&request.instance_id).cloned();
    existing(ec2, caller, ids.chain(others))
}

pub(crate) fn disassociate_address(
    ec2: &Ec2,
    caller: &Caller,
    request: &DisassociateAddressRequest,
) -> Vec<Target> {
    let ip = request.public_ip.as_deref();
    let address = address(&ec2.view(), |it| {
        let association = it.association.as_ref().map(|it| &it.id);
        (association.is_some() && association == request.association_id.as_ref())
            || is_public_ip(it, ip)
    });
    let ids = address.into_iter().flat_map(|it| {
        let interface = it.association.map(|it| it.network_interface_id);
        [Some(it.id), interface].into_iter().flatten()
    });
    existing(ec2, caller, ids)
}

pub(crate) fn release_address(
    ec2: &Ec2,
    caller: &Caller,
    request: &ReleaseAddressRequest,
) -> Vec<Target> {
    let ip = request.public_ip.as_deref();
    let address = address(&ec2.view(), |it| {
        request.allocation_id.as_ref() == Some(&it.id) || is_public_ip(it, ip)
    });
    existing(ec2, caller, address.map(|it| it.id))
}

fn address(state: &State, is_it: impl Fn(&ElasticIp) -> bool) -> Option<ElasticIp> {
    state.addresses.iter().find(|it| is_it(it)).cloned()
}

fn is_public_ip(address: &ElasticIp, ip: Option<&str>) -> bool {
    ip.is_some_and(|it| it.parse() == Ok(address.public_address))
}

// === Things with other names ===

pub(crate) fn disassociate_cidr(
    ec2: &Ec2,
    caller: &Caller,
    request: &DisassociateVpcCidrBlockRequest,
) -> Vec<Target> {
    let view = ec2.view();
    let is_its = |it: &&crate::records::Vpc| {
        let ipv6 = it.ipv6_cidrs.iter().map(|it| &it.id);
        it.cidrs.iter().map(|it| &it.id).chain(ipv6).any(|id| *id == request.association_id)
    };
    existing(ec2, caller, view.vpcs.iter().find(is_its).map(|it| it.id.clone()))
}

pub(crate) fn disassociate_subnet_cidr(
    ec2: &Ec2,
    caller: &Caller,
    request: &DisassociateSubnetCidrBlockRequest,
) -> Vec<Target> {
    let view = ec2.view();
    let is_its = |it: &&crate::records::Subnet| {
        it.ipv6_cidr.as_ref().is_some_and(|it| it.id == request.association_id)
    };
    existing(ec2, caller, view.subnets.iter().find(is_its).map(|it| it.id.clone()))
}

pub(crate) fn disassociate_profile(
    ec2: &Ec2,
    caller: &Caller,
    request: &DisassociateIamInstanceProfileRequest,
) -> Vec<Target> {
    let view = ec2.view();
    let is_its = |it: &&crate::records::Instance| {
        it.profile.as_ref().is_some_and(|it| it.association_id == request.association_id)
    };
    existing(ec2, caller, view.instances.iter().find(is_its).map(|it| it.id.clone()))
}

pub(crate) fn delete_key_pair(
    ec2: &Ec2,
    caller: &Caller,
    request: &DeleteKeyPairRequest,
) -> Vec<Target> {
    let view = ec2.view();
    let (id, name) = (request.key_pair_id.as_ref(), request.key_name.as_ref());
    let found = view.key_pairs.iter().find(|it| match id {
        Some(id) => it.id == *id,
        None => name == Some(&it.name),
    });
    match (found, name) {
        (None, Some(name)) => vec![Target::resource(ec2.config().arn("key-pair", name))],
        _ => existing(ec2, caller, found.map(|it| it.id.clone())),
    }
}

/// A security group by id, or by name in the default VPC.
pub(crate) fn security_group(
    ec2: &Ec2,
    caller: &Caller,
    id: Option<&String>,
    name: Option<&String>,
) -> Vec<Target> {
    let found = crate::security_groups::find_id(
        &ec2.view(),
        id.map(String::as_str),
        name.map(String::as_str),
    );
    existing(ec2, caller, id.cloned().or(found.ok()))
}

/// A launch template by id or name.
pub(crate) fn launch_template(
    ec2: &Ec2,
    caller: &Caller,
    id: Option<&String>,
    name: Option<&String>,
) -> Vec<Target> {
    let view = ec2.view();
    let by_name = || view.launch_templates.iter().find(|it| name == Some(&it.name));
    existing(ec2, caller, id.cloned().or_else(|| by_name().map(|it| it.id.clone())))
}

pub(crate) fn associate_dhcp_options(
    ec2: &Ec2,
    caller: &Caller,
    request: &aws_ec2::dhcp_options::AssociateDhcpOptionsRequest,
) -> Vec<Target> {
    let options = Some(&request.dhcp_options_id).filter(|it| *it != "default");
    let ids: Vec<&String> = options.into_iter().chain([&request.vpc_id]).collect();
    of_ids(ec2, caller, &ids)
}

pub(crate) fn modify_credits(
    ec2: &Ec2,
    caller: &Caller,
    request: &aws_ec2::instance_options::ModifyInstanceCreditSpecificationRequest,
) -> Vec<Target> {
    let all = &request.instance_credit_specifications;
    let ids: Vec<&String> = all.iter().map(|it| &it.instance_id).collect();
    of_ids(ec2, caller, &ids)
}
