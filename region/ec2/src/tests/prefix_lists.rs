//! Managed prefix lists of customers.

use aws_ec2::{
    managed_prefix_list::{
        AddPrefixListEntry, CreateManagedPrefixList, CreateManagedPrefixListRequest,
        DeleteManagedPrefixList, DeleteManagedPrefixListRequest, DescribeManagedPrefixLists,
        DescribeManagedPrefixListsRequest, GetManagedPrefixListAssociations,
        GetManagedPrefixListAssociationsRequest, GetManagedPrefixListEntries,
        GetManagedPrefixListEntriesRequest, ModifyManagedPrefixList,
        ModifyManagedPrefixListRequest, RemovePrefixListEntry, RestoreManagedPrefixListVersion,
        RestoreManagedPrefixListVersionRequest,
    },
    security_group::{
        AuthorizeSecurityGroupIngress, AuthorizeSecurityGroupIngressRequest, IpPermissionInput,
        PrefixListIdInput,
    },
};

use super::support::*;

fn create(max_entries: i64, cidrs: &[&str]) -> CreateManagedPrefixListRequest {
    let entry = |it: &&str| AddPrefixListEntry { cidr: (*it).to_owned(), description: text("d") };
    CreateManagedPrefixListRequest {
        prefix_list_name: "offices".to_owned(),
        address_family: "IPv4".to_owned(),
        max_entries,
        entries: cidrs.iter().map(entry).collect(),
        ..Default::default()
    }
}

async fn made(region: &Region, max_entries: i64, cidrs: &[&str]) -> String {
    let made = region.call::<CreateManagedPrefixList>(create(max_entries, cidrs)).await;
    made.prefix_list.unwrap().prefix_list_id.unwrap()
}

async fn entries(region: &Region, id: &str, target_version: Option<i64>) -> Vec<String> {
    let request = GetManagedPrefixListEntriesRequest {
        prefix_list_id: id.to_owned(),
        target_version,
        ..Default::default()
    };
    let found = region.call::<GetManagedPrefixListEntries>(request).await.entries;
    found.into_iter().filter_map(|it| it.cidr).collect()
}

fn modify(id: &str, version: i64) -> ModifyManagedPrefixListRequest {
    ModifyManagedPrefixListRequest {
        prefix_list_id: id.to_owned(),
        current_version: Some(version),
        ..Default::default()
    }
}

#[tokio::test(start_paused = true)]
async fn a_change_of_entries_is_a_new_version_and_old_ones_can_be_restored() {
    let region = region();
    let id = made(&region, 3, &["10.1.0.9/16", "10.2.0.0/16"]).await;
    assert_eq!(entries(&region, &id, None).await, ["10.1.0.0/16", "10.2.0.0/16"]);
    let change = ModifyManagedPrefixListRequest {
        add_entries: vec![AddPrefixListEntry { cidr: "10.3.0.0/16".to_owned(), description: None }],
        remove_entries: vec![RemovePrefixListEntry { cidr: "10.1.0.0/16".to_owned() }],
        ..modify(&id, 1)
    };
    let changed = region.call::<ModifyManagedPrefixList>(change.clone()).await;
    assert_eq!(changed.prefix_list.unwrap().version, Some(2));
    assert_eq!(entries(&region, &id, None).await, ["10.2.0.0/16", "10.3.0.0/16"]);
    assert_eq!(entries(&region, &id, Some(1)).await, ["10.1.0.0/16", "10.2.0.0/16"]);
    let stale = region.refused::<ModifyManagedPrefixList>(change.clone()).await;
    assert_eq!(stale.code, "PrefixListVersionMismatch");
    assert_eq!(stale.message, "The prefix list has the incorrect version number.");
    let both = ModifyManagedPrefixListRequest { max_entries: Some(5), ..change };
    assert_eq!(region.code::<ModifyManagedPrefixList>(both).await, "InvalidParameterCombination");
    let restore = RestoreManagedPrefixListVersionRequest {
        prefix_list_id: id.clone(),
        previous_version: 1,
        current_version: 2,
        dry_run: None,
    };
    let restored = region.call::<RestoreManagedPrefixListVersion>(restore).await;
    assert_eq!(restored.prefix_list.unwrap().state.as_deref(), Some("restore-complete"));
    assert_eq!(entries(&region, &id, None).await, ["10.1.0.0/16", "10.2.0.0/16"]);
}

#[tokio::test(start_paused = true)]
async fn lists_that_are_wrong_or_too_long_are_refused() {
    let region = region();
    for (request, code) in [
        (create(0, &[]), "InvalidParameterValue"),
        (create(1, &["10.0.0.0/8", "11.0.0.0/8"]), "PrefixListMaxEntriesExceeded"),
        (create(2, &["10.0.0.0/8", "10.0.0.0/8"]), "InvalidParameterValue"),
        (create(2, &["fd00::/8"]), "InvalidParameterValue"),
        (
            CreateManagedPrefixListRequest {
                prefix_list_name: "com.amazonaws.us-east-1.s3".to_owned(),
                ..create(1, &[])
            },
            "InvalidParameterValue",
        ),
    ] {
        assert_eq!(region.code::<CreateManagedPrefixList>(request).await, code);
    }
    let of_aws =
        ModifyManagedPrefixListRequest { max_entries: Some(5), ..modify("pl-63a5400a", 1) };
    assert_eq!(region.code::<ModifyManagedPrefixList>(of_aws).await, "UnsupportedOperation");
}

#[tokio::test(start_paused = true)]
async fn a_list_in_a_rule_counts_by_its_size_and_is_not_deleted() {
    let region = region();
    let id = made(&region, 60, &["10.1.0.0/16"]).await;
    let large = made(&region, 61, &[]).await;
    let group = region.ec2.view().security_groups.iter().next().unwrap().id.clone();
    let rule = |list: &str| AuthorizeSecurityGroupIngressRequest {
        group_id: Some(group.clone()),
        ip_permissions: vec![IpPermissionInput {
            ip_protocol: text("-1"),
            prefix_list_ids: vec![PrefixListIdInput {
                prefix_list_id: text(list),
                ..Default::default()
            }],
            ..Default::default()
        }],
        ..Default::default()
    };
    let code = region.code::<AuthorizeSecurityGroupIngress>(rule(&large)).await;
    assert_eq!(code, "RulesPerSecurityGroupLimitExceeded");
    // The default group has a rule for itself already.
    let code = region.code::<AuthorizeSecurityGroupIngress>(rule(&id)).await;
    assert_eq!(code, "RulesPerSecurityGroupLimitExceeded");
    let smaller = ModifyManagedPrefixListRequest { max_entries: Some(59), ..modify(&id, 1) };
    region.call::<ModifyManagedPrefixList>(smaller).await;
    region.call::<AuthorizeSecurityGroupIngress>(rule(&id)).await;
    let larger = ModifyManagedPrefixListRequest { max_entries: Some(60), ..modify(&id, 1) };
    let code = region.code::<ModifyManagedPrefixList>(larger).await;
    assert_eq!(code, "RulesPerSecurityGroupLimitExceeded");

    let request = GetManagedPrefixListAssociationsRequest {
        prefix_list_id: id.clone(),
        ..Default::default()
    };
    let used = region.call::<GetManagedPrefixListAssociations>(request).await.associations;
    assert_eq!(used[0].resource_id, Some(group));
    let delete =
        |id: &str| DeleteManagedPrefixListRequest { prefix_list_id: id.to_owned(), dry_run: None };
    let kept = region.call::<DeleteManagedPrefixList>(delete(&id)).await.prefix_list.unwrap();
    assert_eq!(kept.state.as_deref(), Some("delete-failed"));
    region.call::<DeleteManagedPrefixList>(delete(&large)).await;
    let again = over(region.store.clone(), region.clock);
    let all = DescribeManagedPrefixListsRequest {
        filters: vec![filter("prefix-list-name", &["offices"])],
        ..Default::default()
    };
    let left = again.call::<DescribeManagedPrefixLists>(all).await.prefix_lists;
    assert_eq!(left.len(), 1);
    assert_eq!(
        again.code::<DeleteManagedPrefixList>(delete(&large)).await,
        "InvalidPrefixListID.NotFound"
    );
}
