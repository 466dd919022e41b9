//! SSH key pairs.
//!
//! Request fields carry the names of query parameters, response fields those of XML elements.
//! API reference: Amazon EC2, version 2016-11-15.

use aws_wire::Operation;
use serde::{Deserialize, Serialize};

use crate::common::{Filter, Tag, TagSpecification};

/// `CreateKeyPair`.
#[derive(Debug)]
pub enum CreateKeyPair {}

impl Operation for CreateKeyPair {
    const SERVICE: &'static str = "ec2";
    const ACTION: &'static str = "CreateKeyPair";
    type Request = CreateKeyPairRequest;
    type Response = CreateKeyPairResponse;
}

#[derive(Clone, Debug, Default, PartialEq, Deserialize, Serialize)]
#[serde(rename_all = "PascalCase")]
pub struct CreateKeyPairRequest {
    pub key_name: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub key_type: Option<String>,
    #[serde(rename = "TagSpecification", default, skip_serializing_if = "Vec::is_empty")]
    pub tag_specifications: Vec<TagSpecification>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub key_format: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub dry_run: Option<bool>,
}

#[derive(Clone, Debug, Default, PartialEq, Deserialize, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct CreateKeyPairResponse {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub key_pair_id: Option<String>,
    #[serde(rename = "tagSet", default)]
    pub tags: Vec<Tag>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub key_name: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub key_fingerprint: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub key_material: Option<String>,
}

/// `ImportKeyPair`.
#[derive(Debug)]
pub enum ImportKeyPair {}

impl Operation for ImportKeyPair {
    const SERVICE: &'static str = "ec2";
    const ACTION: &'static str = "ImportKeyPair";
    type Request = ImportKeyPairRequest;
    type Response = ImportKeyPairResponse;
}

#[derive(Clone, Debug, Default, PartialEq, Deserialize, Serialize)]
#[serde(rename_all = "PascalCase")]
pub struct ImportKeyPairRequest {
    #[serde(rename = "TagSpecification", default, skip_serializing_if = "Vec::is_empty")]
    pub tag_specifications: Vec<TagSpecification>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub dry_run: Option<bool>,
    pub key_name: String,
    pub public_key_material: String,
}

#[derive(Clone, Debug, Default, PartialEq, Deserialize, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct ImportKeyPairResponse {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub key_fingerprint: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub key_name: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub key_pair_id: Option<String>,
    #[serde(rename = "tagSet", default)]
    pub tags: Vec<Tag>,
}

/// `DescribeKeyPairs`.
#[derive(Debug)]
pub enum DescribeKeyPairs {}

impl Operation for DescribeKeyPairs {
    const SERVICE: &'static str = "ec2";
    const ACTION: &'static str = "DescribeKeyPairs";
    type Request = DescribeKeyPairsRequest;
    type Response = DescribeKeyPairsResponse;
}

#[derive(Clone, Debug, Default, PartialEq, Deserialize, Serialize)]
#[serde(rename_all = "PascalCase")]
pub struct DescribeKeyPairsRequest {
    #[serde(rename = "KeyName", default, skip_serializing_if = "Vec::is_empty")]
    pub key_names: Vec<String>,
    #[serde(rename = "KeyPairId", default, skip_serializing_if = "Vec::is_empty")]
    pub key_pair_ids: Vec<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub include_public_key: Option<bool>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub dry_run: Option<bool>,
    #[serde(rename = "Filter", default, skip_serializing_if = "Vec::is_empty")]
    pub filters: Vec<Filter>,
}

#[derive(Clone, Debug, Default, PartialEq, Deserialize, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct DescribeKeyPairsResponse {
    #[serde(rename = "keySet", default)]
    pub key_pairs: Vec<KeyPairInfo>,
}

#[derive(Clone, Debug, Default, PartialEq, Deserialize, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct KeyPairInfo {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub key_pair_id: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub key_type: Option<String>,
    #[serde(rename = "tagSet", default)]
    pub tags: Vec<Tag>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub public_key: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub create_time: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub key_name: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub key_fingerprint: Option<String>,
}

/// `DeleteKeyPair`.
#[derive(Debug)]
pub enum DeleteKeyPair {}

impl Operation for DeleteKeyPair {
    const SERVICE: &'static str = "ec2";
    const ACTION: &'static str = "DeleteKeyPair";
    type Request = DeleteKeyPairRequest;
    type Response = DeleteKeyPairResponse;
}

#[derive(Clone, Debug, Default, PartialEq, Deserialize, Serialize)]
#[serde(rename_all = "PascalCase")]
pub struct DeleteKeyPairRequest {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub key_name: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub key_pair_id: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub dry_run: Option<bool>,
}

#[derive(Clone, Debug, Default, PartialEq, Deserialize, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct DeleteKeyPairResponse {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub r#return: Option<bool>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub key_pair_id: Option<String>,
}
