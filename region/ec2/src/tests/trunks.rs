//! Trunks and branches: what may be associated with what, how it is shown, and when it goes.

use aws_ec2::{
    instance_state::{TerminateInstances, TerminateInstancesRequest},
    network_interface::{
        AttachNetworkInterface, AttachNetworkInterfaceRequest, CreateNetworkInterface,
        CreateNetworkInterfaceRequest, DeleteNetworkInterface, DeleteNetworkInterfaceRequest,
        DescribeNetworkInterfaces, DescribeNetworkInterfacesRequest, DetachNetworkInterface,
        DetachNetworkInterfaceRequest, ModifyNetworkInterfaceAttribute,
        ModifyNetworkInterfaceAttributeRequest, NetworkInterface,
        NetworkInterfaceAttachmentChanges,
    },
    network_interface_permission::{
        CreateNetworkInterfacePermission, CreateNetworkInterfacePermissionRequest,
        DeleteNetworkInterfacePermission, DeleteNetworkInterfacePermissionRequest,
        DescribeNetworkInterfacePermissions, DescribeNetworkInterfacePermissionsRequest,
    },
    run_instances::RunInstancesRequest,
    trunk_interface::{
        AssociateTrunkInterface, AssociateTrunkInterfaceRequest,
        DescribeTrunkInterfaceAssociations, DescribeTrunkInterfaceAssociationsRequest,
        DisassociateTrunkInterface, DisassociateTrunkInterfaceRequest, TrunkInterfaceAssociation,
    },
};

use super::support::*;
use crate::records::HostReport;

async fn create(region: &Region, kind: Option<&str>) -> String {
    let subnet_id = region.subnets().await[0].subnet_id.clone().unwrap();
    let interface_type = kind.map(str::to_owned);
    let request = CreateNetworkInterfaceRequest { subnet_id, interface_type, ..Default::default() };
    let made = region.call::<CreateNetworkInterface>(request).await.network_interface.unwrap();
    made.network_interface_id.unwrap()
}

async fn one(region: &Region, id: &str) -> NetworkInterface {
    let network_interface_ids = vec![id.to_owned()];
    let request = DescribeNetworkInterfacesRequest { network_interface_ids, ..Default::default() };
    region.call::<DescribeNetworkInterfaces>(request).await.network_interfaces.remove(0)
}

async fn instance_of(region: &Region, kind: &str) -> String {
    let subnet_id = region.subnets().await[0].subnet_id.clone();
    let request = RunInstancesRequest { instance_type: text(kind), subnet_id, ..launch() };
    region.run(request).await.remove(0).instance_id.unwrap()
}

fn attach(interface: &str, instance: &str, index: i64) -> AttachNetworkInterfaceRequest {
    AttachNetworkInterfaceRequest {
        network_interface_id: interface.to_owned(),
        instance_id: instance.to_owned(),
        device_index: index,
        ..Default::default()
    }
}

fn delete(id: &str) -> DeleteNetworkInterfaceRequest {
    DeleteNetworkInterfaceRequest { network_interface_id: id.to_owned(), dry_run: None }
}

fn pair(trunk: &str, branch: &str, vlan: i64) -> AssociateTrunkInterfaceRequest {
    AssociateTrunkInterfaceRequest {
        trunk_interface_id: trunk.to_owned(),
        branch_interface_id: branch.to_owned(),
        vlan_id: Some(vlan),
        ..Default::default()
    }
}

async fn associate(region: &Region, request: AssociateTrunkInterfaceRequest) -> String {
    let made = region.call::<AssociateTrunkInterface>(request).await;
    made.interface_association.unwrap().association_id.unwrap()
}

fn disassociate(association: &str) -> DisassociateTrunkInterfaceRequest {
    DisassociateTrunkInterfaceRequest {
        association_id: association.to_owned(),
        ..Default::default()
    }
}

async fn listed(
    region: &Region,
    request: DescribeTrunkInterfaceAssociationsRequest,
) -> Vec<TrunkInterfaceAssociation> {
    region.call::<DescribeTrunkInterfaceAssociations>(request).await.interface_associations
}

/// An m5.large with a trunk at its last device index.
async fn with_trunk(region: &Region) -> (String, String, String) {
    let instance = instance_of(region, "m5.large").await;
    let trunk = create(region, Some("trunk")).await;
    let attached = region.call::<AttachNetworkInterface>(attach(&trunk, &instance, 2)).await;
    (instance, trunk, attached.attachment_id.unwrap())
}

#[tokio::test(start_paused = true)]
async fn a_branch_is_in_use_without_an_attachment_while_it_is_associated() {
    let region = region();
    let (instance, trunk, _) = with_trunk(&region).await;
    assert_eq!(one(&region, &trunk).await.interface_type.as_deref(), Some("trunk"));
    let branch = create(&region, None).await;
    let request = pair(&trunk, &branch, 1);
    let made = region.call::<AssociateTrunkInterface>(request).await.interface_association;
    let made = made.unwrap();
    let id = made.association_id.clone().unwrap();
    assert!(id.starts_with("trunk-assoc-"), "{id}");
    assert_eq!((made.vlan_id, made.interface_protocol.as_deref()), (Some(1), Some("VLAN")));

    let shown = one(&region, &branch).await;
    assert_eq!(shown.interface_type.as_deref(), Some("branch"));
    assert_eq!(shown.status.as_deref(), Some("in-use"));
    assert_eq!(shown.attachment, None);
    let attached = region.ec2.view().interfaces_of(&instance).len();
    assert_eq!(attached, 2, "an instance does not list its branches");
    let found = |name: &str, value: &str| DescribeNetworkInterfacesRequest {
        filters: vec![filter(name, &[value])],
        ..Default::default()
    };
    let request = found("interface-type", "branch");
    assert_eq!(region.call::<DescribeNetworkInterfaces>(request).await.network_interfaces.len(), 1);
    let request = found("attachment.status", "attached");
    let attached = region.call::<DescribeNetworkInterfaces>(request).await.network_interfaces;
    assert!(attached.iter().all(|it| it.network_interface_id.as_ref() != Some(&branch)));

    let code = region.code::<AttachNetworkInterface>(attach(&branch, &instance, 1)).await;
    assert_eq!(code, "InvalidNetworkInterface.InUse");
    let gone = region.call::<DisassociateTrunkInterface>(disassociate(&id)).await;
    assert_eq!(gone.r#return, Some(true));
    let shown = one(&region, &branch).await;
    assert_eq!(shown.interface_type.as_deref(), Some("interface"));
    assert_eq!(shown.status.as_deref(), Some("available"));
    let code = region.code::<DisassociateTrunkInterface>(disassociate(&id)).await;
    assert_eq!(code, "InvalidAssociationID.NotFound");

    // One that a service has made looks the same.
    let eks = region.gateway.client_as("eks.amazonaws.com");
    let subnet_id = region.subnets().await[0].subnet_id.clone().unwrap();
    let request = CreateNetworkInterfaceRequest { subnet_id, ..Default::default() };
    let made = eks.call::<CreateNetworkInterface>(request).await.unwrap().network_interface;
    let branch = made.unwrap().network_interface_id.unwrap();
    let refused = region.code::<AssociateTrunkInterface>(pair(&trunk, &branch, 2)).await;
    assert_eq!(refused, "OperationNotPermitted");
    eks.call::<AssociateTrunkInterface>(pair(&trunk, &branch, 2)).await.unwrap();
    assert_eq!(one(&region, &branch).await.attachment, None);
}

#[tokio::test(start_paused = true)]
async fn vlans_are_unique_on_their_trunk_and_end_at_120() {
    let region = region();
    let trunks = [create(&region, Some("trunk")).await, create(&region, Some("trunk")).await];
    let branch = create(&region, Some("branch")).await;
    let missing = AssociateTrunkInterfaceRequest { vlan_id: None, ..pair(&trunks[0], &branch, 0) };
    assert_eq!(region.code::<AssociateTrunkInterface>(missing).await, "MissingParameter");
    for vlan in [0, 121, 256, -1] {
        let code = region.code::<AssociateTrunkInterface>(pair(&trunks[0], &branch, vlan)).await;
        assert_eq!(code, "InvalidParameterValue", "{vlan}");
    }
    associate(&region, pair(&trunks[0], &branch, 120)).await;
    let other = create(&region, None).await;
    let fault = region.refused::<AssociateTrunkInterface>(pair(&trunks[0], &other, 120)).await;
    assert_eq!(fault.code, "InvalidVlanId.Duplicate");
    assert_eq!(fault.message, "VlanId '120' is in use");
    associate(&region, pair(&trunks[1], &other, 120)).await;
    let gre = AssociateTrunkInterfaceRequest {
        vlan_id: None,
        gre_key: Some(7),
        ..pair(&trunks[0], &create(&region, None).await, 0)
    };
    assert_eq!(region.code::<AssociateTrunkInterface>(gre).await, "UnsupportedOperation");
}

#[tokio::test(start_paused = true)]
async fn only_what_fits_can_be_trunk_and_branch() {
    let region = region();
    let (_, trunk, _) = with_trunk(&region).await;
    let (plain, other) = (create(&region, None).await, create(&region, Some("trunk")).await);
    let elsewhere = CreateNetworkInterfaceRequest {
        subnet_id: region.subnets().await[1].subnet_id.clone().unwrap(),
        ..Default::default()
    };
    let elsewhere = region.call::<CreateNetworkInterface>(elsewhere).await.network_interface;
    let elsewhere = elsewhere.unwrap().network_interface_id.unwrap();
    let primary = region.ec2.view().network_interfaces.iter().find_map(|it| {
        it.attachment.as_ref().filter(|it| it.device_index == 0).map(|_| it.id.clone())
    });
    let nowhere = "eni-0123456789abcdef0";
    for (trunk, branch, code) in [
        (plain.as_str(), other.as_str(), "InvalidParameterValue"),
        (&trunk, &other, "InvalidParameterValue"),
        (&trunk, &trunk, "InvalidParameterValue"),
        (&trunk, &elsewhere, "InvalidParameterCombination"),
        (&trunk, &primary.unwrap(), "InvalidNetworkInterface.InUse"),
        (nowhere, &plain, "InvalidNetworkInterfaceID.NotFound"),
        (&trunk, nowhere, "InvalidNetworkInterfaceID.NotFound"),
    ] {
        let found = region.code::<AssociateTrunkInterface>(pair(trunk, branch, 1)).await;
        assert_eq!(found, code, "{trunk} {branch}");
    }
    associate(&region, pair(&trunk, &plain, 1)).await;
    let code = region.code::<AssociateTrunkInterface>(pair(&other, &plain, 1)).await;
    assert_eq!(code, "InvalidNetworkInterface.InUse");
    let unknown = CreateNetworkInterfaceRequest {
        subnet_id: region.subnets().await[0].subnet_id.clone().unwrap(),
        interface_type: text("bough"),
        ..Default::default()
    };
    assert_eq!(region.code::<CreateNetworkInterface>(unknown).await, "InvalidParameterValue");
}

#[tokio::test(start_paused = true)]
async fn the_type_says_whether_there_is_a_trunk_and_how_many_branches_it_has() {
    let region = region();
    let small = instance_of(&region, "t3.medium").await;
    let (instance, trunk, _) = with_trunk(&region).await;
    let other = create(&region, Some("trunk")).await;
    let code = region.code::<AttachNetworkInterface>(attach(&other, &small, 1)).await;
    assert_eq!(code, "UnsupportedOperation");
    let code = region.code::<AttachNetworkInterface>(attach(&other, &instance, 1)).await;
    assert_eq!(code, "AttachmentLimitExceeded", "an instance has one trunk");
    let branch = create(&region, Some("branch")).await;
    let code = region.code::<AttachNetworkInterface>(attach(&branch, &instance, 1)).await;
    assert_eq!(code, "InvalidParameterValue", "a branch takes a trunk");

    let limit = i64::from(instance_types::find("m5.large").unwrap().branch_enis);
    for vlan in 1..=limit {
        associate(&region, pair(&trunk, &create(&region, None).await, vlan)).await;
        associate(&region, pair(&other, &create(&region, None).await, vlan)).await;
    }
    let code = region.code::<AssociateTrunkInterface>(pair(&trunk, &branch, limit + 1)).await;
    assert_eq!(code, "AttachmentLimitExceeded");
    // In no instance a trunk takes more, but no m5.large takes that trunk then.
    associate(&region, pair(&other, &branch, limit + 1)).await;
    let second = instance_of(&region, "m5.large").await;
    let code = region.code::<AttachNetworkInterface>(attach(&other, &second, 1)).await;
    assert_eq!(code, "AttachmentLimitExceeded");
}

#[tokio::test(start_paused = true)]
async fn a_trunk_stays_while_it_has_branches_and_a_branch_goes_with_its_association() {
    let region = region();
    let (_, trunk, attachment_id) = with_trunk(&region).await;
    let branch = create(&region, None).await;
    let id = associate(&region, pair(&trunk, &branch, 1)).await;
    let detach = DetachNetworkInterfaceRequest { attachment_id, ..Default::default() };
    let code = region.code::<DetachNetworkInterface>(detach.clone()).await;
    assert_eq!(code, "InvalidNetworkInterface.InUse");
    region.call::<DeleteNetworkInterface>(delete(&branch)).await;
    let by_id = DescribeTrunkInterfaceAssociationsRequest {
        association_ids: vec![id],
        ..Default::default()
    };
    let code = region.code::<DescribeTrunkInterfaceAssociations>(by_id).await;
    assert_eq!(code, "InvalidAssociationID.NotFound");
    region.call::<DetachNetworkInterface>(detach).await;
    let branch = create(&region, None).await;
    let id = associate(&region, pair(&trunk, &branch, 1)).await;
    let code = region.code::<DeleteNetworkInterface>(delete(&trunk)).await;
    assert_eq!(code, "InvalidNetworkInterface.InUse");
    region.call::<DisassociateTrunkInterface>(disassociate(&id)).await;
    region.call::<DeleteNetworkInterface>(delete(&trunk)).await;
}

#[tokio::test(start_paused = true)]
async fn the_end_of_an_instance_sets_its_branches_free() {
    for deletes_trunk in [true, false] {
        let region = region();
        let (instance, trunk, attachment_id) = with_trunk(&region).await;
        let changes = NetworkInterfaceAttachmentChanges {
            attachment_id: Some(attachment_id),
            delete_on_termination: Some(deletes_trunk),
        };
        let modify = ModifyNetworkInterfaceAttributeRequest {
            network_interface_id: trunk.clone(),
            attachment: Some(changes),
            ..Default::default()
        };
        region.call::<ModifyNetworkInterfaceAttribute>(modify).await;
        let branch = create(&region, None).await;
        associate(&region, pair(&trunk, &branch, 1)).await;
        let request = TerminateInstancesRequest {
            instance_ids: vec![instance.clone()],
            ..Default::default()
        };
        region.call::<TerminateInstances>(request).await;
        region.report(&instance, &HostReport::Terminated);
        assert!(listed(&region, Default::default()).await.is_empty());
        assert_eq!(one(&region, &branch).await.status.as_deref(), Some("available"));
        let is_left = region.ec2.view().network_interfaces.get(&trunk).is_some();
        assert_eq!(is_left, !deletes_trunk);
    }
}

#[tokio::test(start_paused = true)]
async fn a_repeated_call_is_answered_and_not_repeated() {
    let region = region();
    let trunk = create(&region, Some("trunk")).await;
    let branch = create(&region, None).await;
    let token = || text("once");
    let request =
        AssociateTrunkInterfaceRequest { client_token: token(), ..pair(&trunk, &branch, 3) };
    let id = associate(&region, request.clone()).await;
    assert_eq!(associate(&region, request.clone()).await, id);
    let other = AssociateTrunkInterfaceRequest { vlan_id: Some(4), ..request };
    let code = region.code::<AssociateTrunkInterface>(other).await;
    assert_eq!(code, "IdempotentParameterMismatch");
    let request = DisassociateTrunkInterfaceRequest { client_token: token(), ..disassociate(&id) };
    for _ in 0..2 {
        let gone = region.call::<DisassociateTrunkInterface>(request.clone()).await;
        assert_eq!((gone.r#return, gone.client_token), (Some(true), token()));
    }
    let other = DisassociateTrunkInterfaceRequest { client_token: token(), ..disassociate("x") };
    let code = region.code::<DisassociateTrunkInterface>(other).await;
    assert_eq!(code, "IdempotentParameterMismatch");
}

#[tokio::test(start_paused = true)]
async fn associations_are_listed_by_filter_and_page_and_survive_a_restart() {
    let region = region();
    let trunks = [create(&region, Some("trunk")).await, create(&region, Some("trunk")).await];
    for vlan in 1..=3 {
        for trunk in &trunks {
            associate(&region, pair(trunk, &create(&region, None).await, vlan)).await;
        }
    }
    let of_trunk = DescribeTrunkInterfaceAssociationsRequest {
        filters: vec![
            filter("interface-protocol", &["VLAN"]),
            filter("trunk-interface-association.trunk-interface-id", &[&trunks[0]]),
        ],
        ..Default::default()
    };
    let found = listed(&region, of_trunk).await;
    assert_eq!(found.len(), 3);
    assert!(found.iter().all(|it| it.trunk_interface_id.as_ref() == Some(&trunks[0])));
    let gre = DescribeTrunkInterfaceAssociationsRequest {
        filters: vec![filter("interface-protocol", &["GRE"])],
        ..Default::default()
    };
    assert!(listed(&region, gre).await.is_empty());

    let region = over(region.store.clone(), region.clock);
    let (mut seen, mut next_token) = (Vec::new(), None);
    loop {
        let max_results = Some(4);
        let request = DescribeTrunkInterfaceAssociationsRequest {
            next_token: next_token.clone(),
            max_results,
            ..Default::default()
        };
        let page = region.call::<DescribeTrunkInterfaceAssociations>(request).await;
        seen.extend(page.interface_associations.into_iter().filter_map(|it| it.association_id));
        next_token = page.next_token;
        if next_token.is_none() {
            break;
        }
    }
    seen.dedup();
    assert_eq!(seen.len(), 6);
}

#[tokio::test(start_paused = true)]
async fn permissions_are_given_shown_and_taken() {
    let region = region();
    let interface = create(&region, None).await;
    let request = CreateNetworkInterfacePermissionRequest {
        network_interface_id: interface.clone(),
        aws_account_id: text("444455556666"),
        permission: "INSTANCE-ATTACH".to_owned(),
        ..Default::default()
    };
    for (wrong, code) in [
        (
            CreateNetworkInterfacePermissionRequest {
                permission: "EVERYTHING".to_owned(),
                ..request.clone()
            },
            "InvalidParameterValue",
        ),
        (
            CreateNetworkInterfacePermissionRequest { aws_account_id: None, ..request.clone() },
            "MissingParameter",
        ),
    ] {
        assert_eq!(region.code::<CreateNetworkInterfacePermission>(wrong).await, code);
    }
    let given = async || {
        let made = region.call::<CreateNetworkInterfacePermission>(request.clone()).await;
        made.interface_permission.unwrap()
    };
    let first = given().await;
    assert_eq!(first.permission_state.as_ref().unwrap().state.as_deref(), Some("granted"));
    assert_eq!(given().await, first, "a second time it is the same");
    let id = first.network_interface_permission_id.clone().unwrap();
    assert!(id.starts_with("eni-perm-"), "{id}");
    let name = "network-interface-permission.network-interface-id";
    let by_interface = DescribeNetworkInterfacePermissionsRequest {
        filters: vec![filter(name, &[&interface])],
        ..Default::default()
    };
    let found = region.call::<DescribeNetworkInterfacePermissions>(by_interface).await;
    assert_eq!(found.network_interface_permissions, [first]);
    let delete = DeleteNetworkInterfacePermissionRequest {
        network_interface_permission_id: id,
        ..Default::default()
    };
    region.call::<DeleteNetworkInterfacePermission>(delete.clone()).await;
    let code = region.code::<DeleteNetworkInterfacePermission>(delete).await;
    assert_eq!(code, "InvalidPermissionID.NotFound");
}
