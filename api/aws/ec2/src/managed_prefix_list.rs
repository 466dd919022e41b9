//! Managed prefix lists, of AWS and of customers.
//!
//! Request fields carry the names of query parameters, response fields those of XML elements.
//! API reference: Amazon EC2, version 2016-11-15.

use aws_wire::Operation;
use serde::{Deserialize, Serialize};

use crate::common::{Filter, Tag, TagSpecification};

/// `DescribeManagedPrefixLists`.
#[derive(Debug)]
pub enum DescribeManagedPrefixLists {}

impl Operation for DescribeManagedPrefixLists {
    const SERVICE: &'static str = "ec2";
    const ACTION: &'static str = "DescribeManagedPrefixLists";
    type Request = DescribeManagedPrefixListsRequest;
    type Response = DescribeManagedPrefixListsResponse;
}

#[derive(Clone, Debug, Default, PartialEq, Deserialize, Serialize)]
#[serde(rename_all = "PascalCase")]
pub struct DescribeManagedPrefixListsRequest {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub dry_run: Option<bool>,
    #[serde(rename = "Filter", default, skip_serializing_if = "Vec::is_empty")]
    pub filters: Vec<Filter>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_results: Option<i64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub next_token: Option<String>,
    #[serde(rename = "PrefixListId", default, skip_serializing_if = "Vec::is_empty")]
    pub prefix_list_ids: Vec<String>,
}

#[derive(Clone, Debug, Default, PartialEq, Deserialize, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct DescribeManagedPrefixListsResponse {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub next_token: Option<String>,
    #[serde(rename = "prefixListSet", default)]
    pub prefix_lists: Vec<ManagedPrefixList>,
}

#[derive(Clone, Debug, Default, PartialEq, Deserialize, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct ManagedPrefixList {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub prefix_list_id: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub address_family: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub state: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub prefix_list_arn: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub prefix_list_name: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub state_message: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_entries: Option<i64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub version: Option<i64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub owner_id: Option<String>,
    #[serde(rename = "tagSet", default)]
    pub tags: Vec<Tag>,
}

/// `GetManagedPrefixListEntries`.
#[derive(Debug)]
pub enum GetManagedPrefixListEntries {}

impl Operation for GetManagedPrefixListEntries {
    const SERVICE: &'static str = "ec2";
    const ACTION: &'static str = "GetManagedPrefixListEntries";
    type Request = GetManagedPrefixListEntriesRequest;
    type Response = GetManagedPrefixListEntriesResponse;
}

#[derive(Clone, Debug, Default, PartialEq, Deserialize, Serialize)]
#[serde(rename_all = "PascalCase")]
pub struct GetManagedPrefixListEntriesRequest {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub dry_run: Option<bool>,
    pub prefix_list_id: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub target_version: Option<i64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_results: Option<i64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub next_token: Option<String>,
}

#[derive(Clone, Debug, Default, PartialEq, Deserialize, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct GetManagedPrefixListEntriesResponse {
    #[serde(rename = "entrySet", default)]
    pub entries: Vec<PrefixListEntry>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub next_token: Option<String>,
}

#[derive(Clone, Debug, Default, PartialEq, Deserialize, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct PrefixListEntry {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cidr: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub description: Option<String>,
}

/// `CreateManagedPrefixList`.
#[derive(Debug)]
pub enum CreateManagedPrefixList {}

impl Operation for CreateManagedPrefixList {
    const SERVICE: &'static str = "ec2";
    const ACTION: &'static str = "CreateManagedPrefixList";
    type Request = CreateManagedPrefixListRequest;
    type Response = CreateManagedPrefixListResponse;
}

#[derive(Clone, Debug, Default, PartialEq, Deserialize, Serialize)]
#[serde(rename_all = "PascalCase")]
pub struct CreateManagedPrefixListRequest {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub dry_run: Option<bool>,
    pub prefix_list_name: String,
    #[serde(rename = "Entry", default, skip_serializing_if = "Vec::is_empty")]
    pub entries: Vec<AddPrefixListEntry>,
    pub max_entries: i64,
    #[serde(rename = "TagSpecification", default, skip_serializing_if = "Vec::is_empty")]
    pub tag_specifications: Vec<TagSpecification>,
    pub address_family: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub client_token: Option<String>,
}

#[derive(Clone, Debug, Default, PartialEq, Deserialize, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct CreateManagedPrefixListResponse {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub prefix_list: Option<ManagedPrefixList>,
}

/// `ModifyManagedPrefixList`.
#[derive(Debug)]
pub enum ModifyManagedPrefixList {}

impl Operation for ModifyManagedPrefixList {
    const SERVICE: &'static str = "ec2";
    const ACTION: &'static str = "ModifyManagedPrefixList";
    type Request = ModifyManagedPrefixListRequest;
    type Response = ModifyManagedPrefixListResponse;
}

#[derive(Clone, Debug, Default, PartialEq, Deserialize, Serialize)]
#[serde(rename_all = "PascalCase")]
pub struct ModifyManagedPrefixListRequest {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub dry_run: Option<bool>,
    pub prefix_list_id: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub current_version: Option<i64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub prefix_list_name: Option<String>,
    #[serde(rename = "AddEntry", default, skip_serializing_if = "Vec::is_empty")]
    pub add_entries: Vec<AddPrefixListEntry>,
    #[serde(rename = "RemoveEntry", default, skip_serializing_if = "Vec::is_empty")]
    pub remove_entries: Vec<RemovePrefixListEntry>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_entries: Option<i64>,
}

#[derive(Clone, Debug, Default, PartialEq, Deserialize, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct ModifyManagedPrefixListResponse {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub prefix_list: Option<ManagedPrefixList>,
}

/// `RestoreManagedPrefixListVersion`.
#[derive(Debug)]
pub enum RestoreManagedPrefixListVersion {}

impl Operation for RestoreManagedPrefixListVersion {
    const SERVICE: &'static str = "ec2";
    const ACTION: &'static str = "RestoreManagedPrefixListVersion";
    type Request = RestoreManagedPrefixListVersionRequest;
    type Response = RestoreManagedPrefixListVersionResponse;
}

#[derive(Clone, Debug, Default, PartialEq, Deserialize, Serialize)]
#[serde(rename_all = "PascalCase")]
pub struct RestoreManagedPrefixListVersionRequest {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub dry_run: Option<bool>,
    pub prefix_list_id: String,
    pub previous_version: i64,
    pub current_version: i64,
}

#[derive(Clone, Debug, Default, PartialEq, Deserialize, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct RestoreManagedPrefixListVersionResponse {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub prefix_list: Option<ManagedPrefixList>,
}

/// `DeleteManagedPrefixList`.
#[derive(Debug)]
pub enum DeleteManagedPrefixList {}

impl Operation for DeleteManagedPrefixList {
    const SERVICE: &'static str = "ec2";
    const ACTION: &'static str = "DeleteManagedPrefixList";
    type Request = DeleteManagedPrefixListRequest;
    type Response = DeleteManagedPrefixListResponse;
}

#[derive(Clone, Debug, Default, PartialEq, Deserialize, Serialize)]
#[serde(rename_all = "PascalCase")]
pub struct DeleteManagedPrefixListRequest {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub dry_run: Option<bool>,
    pub prefix_list_id: String,
}

#[derive(Clone, Debug, Default, PartialEq, Deserialize, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct DeleteManagedPrefixListResponse {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub prefix_list: Option<ManagedPrefixList>,
}

/// `GetManagedPrefixListAssociations`.
#[derive(Debug)]
pub enum GetManagedPrefixListAssociations {}

impl Operation for GetManagedPrefixListAssociations {
    const SERVICE: &'static str = "ec2";
    const ACTION: &'static str = "GetManagedPrefixListAssociations";
    type Request = GetManagedPrefixListAssociationsRequest;
    type Response = GetManagedPrefixListAssociationsResponse;
}

#[derive(Clone, Debug, Default, PartialEq, Deserialize, Serialize)]
#[serde(rename_all = "PascalCase")]
pub struct GetManagedPrefixListAssociationsRequest {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub dry_run: Option<bool>,
    pub prefix_list_id: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_results: Option<i64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub next_token: Option<String>,
}

#[derive(Clone, Debug, Default, PartialEq, Deserialize, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct GetManagedPrefixListAssociationsResponse {
    #[serde(rename = "prefixListAssociationSet", default)]
    pub associations: Vec<PrefixListAssociation>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub next_token: Option<String>,
}

#[derive(Clone, Debug, Default, PartialEq, Deserialize, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct PrefixListAssociation {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub resource_id: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub resource_owner: Option<String>,
}

#[derive(Clone, Debug, Default, PartialEq, Deserialize, Serialize)]
#[serde(rename_all = "PascalCase")]
pub struct AddPrefixListEntry {
    pub cidr: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub description: Option<String>,
}

#[derive(Clone, Debug, Default, PartialEq, Deserialize, Serialize)]
#[serde(rename_all = "PascalCase")]
pub struct RemovePrefixListEntry {
    pub cidr: String,
}
