//! Trunk and branch interfaces: which branch comes in by which trunk, on which VLAN.
//!
//! API reference: Amazon EC2, version 2016-11-15.

use aws_wire::Operation;
use serde::{Deserialize, Serialize};

use crate::common::{Filter, Tag};

/// `AssociateTrunkInterface`.
#[derive(Debug)]
pub enum AssociateTrunkInterface {}

impl Operation for AssociateTrunkInterface {
    const SERVICE: &'static str = "ec2";
    const ACTION: &'static str = "AssociateTrunkInterface";
    type Request = AssociateTrunkInterfaceRequest;
    type Response = AssociateTrunkInterfaceResponse;
}

#[derive(Clone, Debug, Default, PartialEq, Deserialize, Serialize)]
#[serde(rename_all = "PascalCase")]
pub struct AssociateTrunkInterfaceRequest {
    pub branch_interface_id: String,
    pub trunk_interface_id: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub vlan_id: Option<i64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub gre_key: Option<i64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub client_token: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub dry_run: Option<bool>,
}

#[derive(Clone, Debug, Default, PartialEq, Deserialize, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct AssociateTrunkInterfaceResponse {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub interface_association: Option<TrunkInterfaceAssociation>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub client_token: Option<String>,
}

#[derive(Clone, Debug, Default, PartialEq, Deserialize, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct TrunkInterfaceAssociation {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub association_id: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub branch_interface_id: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub trunk_interface_id: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub interface_protocol: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub vlan_id: Option<i64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub gre_key: Option<i64>,
    #[serde(default)]
    pub tag_set: Vec<Tag>,
}

/// `DisassociateTrunkInterface`.
#[derive(Debug)]
pub enum DisassociateTrunkInterface {}

impl Operation for DisassociateTrunkInterface {
    const SERVICE: &'static str = "ec2";
    const ACTION: &'static str = "DisassociateTrunkInterface";
    type Request = DisassociateTrunkInterfaceRequest;
    type Response = DisassociateTrunkInterfaceResponse;
}

#[derive(Clone, Debug, Default, PartialEq, Deserialize, Serialize)]
#[serde(rename_all = "PascalCase")]
pub struct DisassociateTrunkInterfaceRequest {
    pub association_id: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub client_token: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub dry_run: Option<bool>,
}

#[derive(Clone, Debug, Default, PartialEq, Deserialize, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct DisassociateTrunkInterfaceResponse {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub r#return: Option<bool>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub client_token: Option<String>,
}

/// `DescribeTrunkInterfaceAssociations`.
#[derive(Debug)]
pub enum DescribeTrunkInterfaceAssociations {}

impl Operation for DescribeTrunkInterfaceAssociations {
    const SERVICE: &'static str = "ec2";
    const ACTION: &'static str = "DescribeTrunkInterfaceAssociations";
    type Request = DescribeTrunkInterfaceAssociationsRequest;
    type Response = DescribeTrunkInterfaceAssociationsResponse;
}

#[derive(Clone, Debug, Default, PartialEq, Deserialize, Serialize)]
#[serde(rename_all = "PascalCase")]
pub struct DescribeTrunkInterfaceAssociationsRequest {
    #[serde(rename = "AssociationId", default, skip_serializing_if = "Vec::is_empty")]
    pub association_ids: Vec<String>,
    #[serde(rename = "Filter", default, skip_serializing_if = "Vec::is_empty")]
    pub filters: Vec<Filter>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub next_token: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_results: Option<i64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub dry_run: Option<bool>,
}

#[derive(Clone, Debug, Default, PartialEq, Deserialize, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct DescribeTrunkInterfaceAssociationsResponse {
    #[serde(rename = "interfaceAssociationSet", default)]
    pub interface_associations: Vec<TrunkInterfaceAssociation>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub next_token: Option<String>,
}
