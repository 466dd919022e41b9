//! Network ACLs.

use aws_ec2::{
    network_acl::{
        CreateNetworkAcl, CreateNetworkAclEntry, CreateNetworkAclEntryRequest,
        CreateNetworkAclRequest, DeleteNetworkAcl, DeleteNetworkAclEntry,
        DeleteNetworkAclEntryRequest, DeleteNetworkAclRequest, DescribeNetworkAcls,
        DescribeNetworkAclsRequest, IcmpTypeCodeInput, NetworkAcl, PortRangeInput,
        ReplaceNetworkAclAssociation, ReplaceNetworkAclAssociationRequest, ReplaceNetworkAclEntry,
        ReplaceNetworkAclEntryRequest,
    },
    subnet::{CreateSubnet, CreateSubnetRequest, DeleteSubnet, DeleteSubnetRequest},
};

use super::support::*;

async fn acl(region: &Region) -> (String, String) {
    let vpc_id = region.subnets().await[0].vpc_id.clone().unwrap();
    let request = CreateNetworkAclRequest { vpc_id: vpc_id.clone(), ..Default::default() };
    let made = region.call::<CreateNetworkAcl>(request).await.network_acl.unwrap();
    (vpc_id, made.network_acl_id.unwrap())
}

async fn find(region: &Region, name: &str, value: &str) -> Vec<NetworkAcl> {
    let request =
        DescribeNetworkAclsRequest { filters: vec![filter(name, &[value])], ..Default::default() };
    region.call::<DescribeNetworkAcls>(request).await.network_acls
}

fn tcp(acl: &str, number: i64, port: i64) -> CreateNetworkAclEntryRequest {
    CreateNetworkAclEntryRequest {
        network_acl_id: acl.to_owned(),
        rule_number: number,
        protocol: "tcp".to_owned(),
        rule_action: "allow".to_owned(),
        egress: false,
        cidr_block: text("10.0.0.7/8"),
        port_range: Some(PortRangeInput { from: Some(port), to: Some(port) }),
        ..Default::default()
    }
}

#[tokio::test(start_paused = true)]
async fn a_new_acl_denies_all_and_takes_entries_by_their_numbers() {
    let region = region();
    let (_, id) = acl(&region).await;
    region.call::<CreateNetworkAclEntry>(tcp(&id, 200, 443)).await;
    region.call::<CreateNetworkAclEntry>(tcp(&id, 100, 80)).await;
    let again = region.refused::<CreateNetworkAclEntry>(tcp(&id, 100, 81)).await;
    assert_eq!(again.code, "NetworkAclEntryAlreadyExists");
    let shown = find(&region, "network-acl-id", &id).await.remove(0);
    assert_eq!(shown.is_default, Some(false));
    let entries = shown.entries;
    let numbers: Vec<_> =
        entries.iter().map(|it| (it.egress.unwrap(), it.rule_number.unwrap())).collect();
    assert_eq!(numbers, [(true, 32767), (false, 100), (false, 200), (false, 32767)]);
    assert_eq!(entries[1].protocol.as_deref(), Some("6"), "by number");
    assert_eq!(entries[1].cidr_block.as_deref(), Some("10.0.0.0/8"), "without host bits");

    let echo = ReplaceNetworkAclEntryRequest {
        network_acl_id: id.clone(),
        rule_number: 100,
        protocol: "1".to_owned(),
        rule_action: "deny".to_owned(),
        egress: false,
        cidr_block: text("0.0.0.0/0"),
        icmp_type_code: Some(IcmpTypeCodeInput { r#type: Some(8), code: Some(-1) }),
        ..Default::default()
    };
    region.call::<ReplaceNetworkAclEntry>(echo.clone()).await;
    assert_eq!(find(&region, "entry.icmp.type", "8").await.len(), 1);
    let other = ReplaceNetworkAclEntryRequest { egress: true, ..echo };
    let code = region.code::<ReplaceNetworkAclEntry>(other).await;
    assert_eq!(code, "InvalidNetworkAclEntry.NotFound");
    let delete = DeleteNetworkAclEntryRequest {
        network_acl_id: id.clone(),
        rule_number: 200,
        egress: false,
        dry_run: None,
    };
    region.call::<DeleteNetworkAclEntry>(delete.clone()).await;
    let code = region.code::<DeleteNetworkAclEntry>(delete).await;
    assert_eq!(code, "InvalidNetworkAclEntry.NotFound");
}

#[tokio::test(start_paused = true)]
async fn entries_that_say_nothing_sensible_or_are_too_many_are_refused() {
    let region = region();
    let (_, id) = acl(&region).await;
    let good = tcp(&id, 100, 80);
    for (request, code) in [
        (
            CreateNetworkAclEntryRequest { rule_number: 32767, ..good.clone() },
            "InvalidParameterValue",
        ),
        (CreateNetworkAclEntryRequest { rule_number: 0, ..good.clone() }, "InvalidParameterValue"),
        (CreateNetworkAclEntryRequest { port_range: None, ..good.clone() }, "MissingParameter"),
        (CreateNetworkAclEntryRequest { cidr_block: None, ..good.clone() }, "MissingParameter"),
        (
            CreateNetworkAclEntryRequest { protocol: "icmp".to_owned(), ..good.clone() },
            "MissingParameter",
        ),
        (
            CreateNetworkAclEntryRequest { rule_action: "pass".to_owned(), ..good.clone() },
            "InvalidParameterValue",
        ),
        (
            CreateNetworkAclEntryRequest { ipv6_cidr_block: text("::/0"), ..good.clone() },
            "InvalidParameterCombination",
        ),
        (
            CreateNetworkAclEntryRequest {
                network_acl_id: "acl-0123456789abcdef0".to_owned(),
                ..good
            },
            "InvalidNetworkAclID.NotFound",
        ),
    ] {
        assert_eq!(region.code::<CreateNetworkAclEntry>(request).await, code);
    }
    // Twenty with the one that denies all.
    for number in 1..20 {
        region.call::<CreateNetworkAclEntry>(tcp(&id, number, 80)).await;
    }
    let code = region.code::<CreateNetworkAclEntry>(tcp(&id, 20, 80)).await;
    assert_eq!(code, "NetworkAclEntryLimitExceeded");
    let out = CreateNetworkAclEntryRequest { egress: true, ..tcp(&id, 20, 80) };
    region.call::<CreateNetworkAclEntry>(out).await;
}

#[tokio::test(start_paused = true)]
async fn a_subnet_has_one_acl_the_default_one_unless_it_was_given_another() {
    let region = region();
    let (vpc_id, id) = acl(&region).await;
    let request = CreateSubnetRequest {
        vpc_id: vpc_id.clone(),
        cidr_block: text("192.168.96.0/24"),
        ..Default::default()
    };
    let subnet = region.call::<CreateSubnet>(request).await.subnet.unwrap().subnet_id.unwrap();
    let association = |acl: &NetworkAcl| {
        let its = acl.associations.iter().find(|it| it.subnet_id.as_ref() == Some(&subnet));
        its.and_then(|it| it.network_acl_association_id.clone()).unwrap()
    };
    let default = find(&region, "association.subnet-id", &subnet).await.remove(0);
    assert_eq!(default.is_default, Some(true));
    let replace = |association_id, acl: &str| ReplaceNetworkAclAssociationRequest {
        association_id,
        network_acl_id: acl.to_owned(),
        dry_run: None,
    };
    let request = replace(association(&default), &id);
    let first = region.call::<ReplaceNetworkAclAssociation>(request.clone()).await;
    let code = region.code::<ReplaceNetworkAclAssociation>(request).await;
    assert_eq!(code, "InvalidAssociationID.NotFound", "an association is replaced once");
    let own = find(&region, "association.subnet-id", &subnet).await;
    assert_eq!(own.len(), 1);
    assert_eq!(Some(association(&own[0])), first.new_association_id);

    let delete =
        |acl: &str| DeleteNetworkAclRequest { network_acl_id: acl.to_owned(), dry_run: None };
    assert_eq!(region.code::<DeleteNetworkAcl>(delete(&id)).await, "DependencyViolation");
    let default_id = default.network_acl_id.unwrap();
    assert_eq!(region.code::<DeleteNetworkAcl>(delete(&default_id)).await, "InvalidParameterValue");
    let back = replace(association(&own[0]), &default_id);
    let back = region.call::<ReplaceNetworkAclAssociation>(back).await.new_association_id;
    let again = over(region.store.clone(), region.clock);
    let kept = find(&again, "association.association-id", &back.unwrap()).await;
    assert_eq!(kept[0].network_acl_id, Some(default_id));
    let request = DeleteSubnetRequest { subnet_id: subnet.clone(), dry_run: None };
    region.call::<DeleteSubnet>(request).await;
    assert!(find(&region, "association.subnet-id", &subnet).await.is_empty());
    region.call::<DeleteNetworkAcl>(delete(&id)).await;
}

#[test]
fn an_acl_of_an_older_region_is_its_vpcs_default_one_and_open() {
    let old = serde_json::json!({ "id": "acl-1", "vpc_id": "vpc-1", "tags": {} });
    let acl: crate::records::NetworkAcl = serde_json::from_value(old).unwrap();
    assert!(acl.is_default);
    assert_eq!(acl.entries.len(), 2);
}

#[tokio::test(start_paused = true)]
async fn a_repeated_client_token_makes_no_second_acl() {
    let region = region();
    let vpc_id = region.subnets().await[0].vpc_id.clone().unwrap();
    let request =
        CreateNetworkAclRequest { vpc_id, client_token: text("once"), ..Default::default() };
    let first = region.call::<CreateNetworkAcl>(request.clone()).await;
    assert_eq!(region.call::<CreateNetworkAcl>(request.clone()).await, first);
    assert_eq!(region.ec2.view().network_acls.len(), 2, "with the default one");
    let other = CreateNetworkAclRequest { vpc_id: "vpc-0123456789abcdef0".to_owned(), ..request };
    let code = region.code::<CreateNetworkAcl>(other).await;
    assert_eq!(code, "IdempotentParameterMismatch");
}
