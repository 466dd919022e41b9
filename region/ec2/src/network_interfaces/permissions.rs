//! Permissions on an interface for another account or a service.
//!
//! The controller of security groups for pods gives EKS's account the right to attach a trunk and
//! each of its branches. They are kept and shown; this region has one account, so that nobody is let
//! in or kept out by them.
//!
//! Upstream: EC2's API reference, "CreateNetworkInterfacePermission".

use aws_ec2::network_interface_permission::{
    CreateNetworkInterfacePermissionRequest, CreateNetworkInterfacePermissionResponse,
    DeleteNetworkInterfacePermissionRequest, DeleteNetworkInterfacePermissionResponse,
    DescribeNetworkInterfacePermissionsRequest, DescribeNetworkInterfacePermissionsResponse,
    NetworkInterfacePermission, NetworkInterfacePermissionState,
};
use aws_wire::Fault;

use super::refuse_foreign;
use crate::{
    Call, faults,
    query::{self, Values, maybe, no_tags, one},
    records::InterfacePermission,
    state::State,
};

const PREFIX: &str = "network-interface-permission.";

pub(crate) fn create_permission(
    call: &Call<'_>,
    state: &mut State,
    request: CreateNetworkInterfacePermissionRequest,
) -> Result<CreateNetworkInterfacePermissionResponse, Fault> {
    let interface_id = &request.network_interface_id;
    let interface = state.network_interfaces.find(interface_id)?;
    refuse_foreign(call, interface)?;
    if !matches!(request.permission.as_str(), "INSTANCE-ATTACH" | "EIP-ASSOCIATE") {
        return Err(faults::invalid_value("permission", &request.permission));
    }
    let wanted = InterfacePermission {
        id: entropy::aws_id("eni-perm"),
        network_interface_id: interface_id.clone(),
        account: request.aws_account_id,
        service: request.aws_service,
        permission: request.permission,
    };
    match (&wanted.account, &wanted.service) {
        (None, None) => return Err(faults::missing("AwsAccountId")),
        (Some(_), Some(_)) => {
            return Err(faults::combination(
                "AwsAccountId and AwsService cannot both be specified.",
            ));
        }
        (Some(account), None) if !is_account(account) => {
            return Err(faults::invalid_value("awsAccountId", account));
        }
        _ => {}
    }
    let is_same = |it: &&InterfacePermission| {
        (&it.account, &it.service, &it.permission)
            == (&wanted.account, &wanted.service, &wanted.permission)
    };
    let known = interface.permissions.iter().find(is_same).cloned();
    let given = match known {
        Some(known) => known,
        None => {
            let interface = state.network_interfaces.edit(interface_id)?;
            interface.permissions.push(wanted.clone());
            wanted
        }
    };
    let interface_permission = Some(answer(&given));
    Ok(CreateNetworkInterfacePermissionResponse { interface_permission })
}

fn is_account(text: &str) -> bool {
    text.len() == 12 && text.bytes().all(|it| it.is_ascii_digit())
}

fn all(state: &State) -> impl Iterator<Item = &InterfacePermission> {
    state.network_interfaces.iter().flat_map(|it| &it.permissions)
}

fn find<'a>(state: &'a State, id: &str) -> Result<&'a InterfacePermission, Fault> {
    all(state).find(|it| it.id == id).ok_or_else(|| {
        Fault::new(
            "InvalidPermissionID.NotFound",
            format!("The network interface permission ID '{id}' does not exist"),
        )
    })
}

/// With or without `Force`: who holds a permission has not attached anything by it.
pub(crate) fn delete_permission(
    call: &Call<'_>,
    state: &mut State,
    request: DeleteNetworkInterfacePermissionRequest,
) -> Result<DeleteNetworkInterfacePermissionResponse, Fault> {
    let id = &request.network_interface_permission_id;
    let interface = find(state, id)?.network_interface_id.clone();
    refuse_foreign(call, state.network_interfaces.find(&interface)?)?;
    state.network_interfaces.edit(&interface)?.permissions.retain(|it| it.id != *id);
    Ok(DeleteNetworkInterfacePermissionResponse { r#return: Some(true) })
}

pub(crate) fn describe_permissions(
    _call: &Call<'_>,
    state: &State,
    request: DescribeNetworkInterfacePermissionsRequest,
) -> Result<DescribeNetworkInterfacePermissionsResponse, Fault> {
    let ids = &request.network_interface_permission_ids;
    let mut found: Vec<&InterfacePermission> = match ids.as_slice() {
        [] => all(state).collect(),
        _ => ids.iter().map(|it| find(state, it)).collect::<Result<_, _>>()?,
    };
    found.sort_by(|one, other| one.id.cmp(&other.id));
    found.dedup_by(|one, other| one.id == other.id);
    let found = query::select(found, &request.filters, |_| no_tags(), attribute)?;
    let token = request.next_token.as_deref();
    let (page, next_token) = query::page(found, request.max_results, token, |it| it.id.as_str())?;
    let network_interface_permissions = page.into_iter().map(answer).collect();
    Ok(DescribeNetworkInterfacePermissionsResponse { network_interface_permissions, next_token })
}

fn attribute(permission: &InterfacePermission, name: &str) -> Values {
    match name.strip_prefix(PREFIX)? {
        "network-interface-permission-id" => one(&permission.id),
        "network-interface-id" => one(&permission.network_interface_id),
        "aws-account-id" => maybe(permission.account.as_ref()),
        "aws-service" => maybe(permission.service.as_ref()),
        "permission" => one(&permission.permission),
        _ => None,
    }
}

fn answer(permission: &InterfacePermission) -> NetworkInterfacePermission {
    NetworkInterfacePermission {
        network_interface_permission_id: Some(permission.id.clone()),
        network_interface_id: Some(permission.network_interface_id.clone()),
        aws_account_id: permission.account.clone(),
        aws_service: permission.service.clone(),
        permission: Some(permission.permission.clone()),
        permission_state: Some(NetworkInterfacePermissionState {
            state: Some("granted".to_owned()),
            status_message: None,
        }),
    }
}
