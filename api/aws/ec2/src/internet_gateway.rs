//! Internet gateways and their attachment to a VPC.
//!
//! Request fields carry the names of query parameters, response fields those of XML elements.
//! API reference: Amazon EC2, version 2016-11-15.

use aws_wire::Operation;
use serde::{Deserialize, Serialize};

use crate::common::{Filter, Tag, TagSpecification};

/// `CreateInternetGateway`.
#[derive(Debug)]
pub enum CreateInternetGateway {}

impl Operation for CreateInternetGateway {
    const SERVICE: &'static str = "ec2";
    const ACTION: &'static str = "CreateInternetGateway";
    type Request = CreateInternetGatewayRequest;
    type Response = CreateInternetGatewayResponse;
}

#[derive(Clone, Debug, Default, PartialEq, Deserialize, Serialize)]
#[serde(rename_all = "PascalCase")]
pub struct CreateInternetGatewayRequest {
    #[serde(rename = "TagSpecification", default, skip_serializing_if = "Vec::is_empty")]
    pub tag_specifications: Vec<TagSpecification>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub dry_run: Option<bool>,
}

#[derive(Clone, Debug, Default, PartialEq, Deserialize, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct CreateInternetGatewayResponse {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub internet_gateway: Option<InternetGateway>,
}

#[derive(Clone, Debug, Default, PartialEq, Deserialize, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct InternetGateway {
    #[serde(rename = "attachmentSet", default)]
    pub attachments: Vec<InternetGatewayAttachment>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub internet_gateway_id: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub owner_id: Option<String>,
    #[serde(rename = "tagSet", default)]
    pub tags: Vec<Tag>,
}

#[derive(Clone, Debug, Default, PartialEq, Deserialize, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct InternetGatewayAttachment {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub state: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub vpc_id: Option<String>,
}

#[derive(Clone, Debug, Default, PartialEq, Deserialize, Serialize)]
pub struct DeleteInternetGatewayResponse {}

/// `DeleteInternetGateway`.
#[derive(Debug)]
pub enum DeleteInternetGateway {}

impl Operation for DeleteInternetGateway {
    const SERVICE: &'static str = "ec2";
    const ACTION: &'static str = "DeleteInternetGateway";
    type Request = DeleteInternetGatewayRequest;
    type Response = DeleteInternetGatewayResponse;
}

#[derive(Clone, Debug, Default, PartialEq, Deserialize, Serialize)]
#[serde(rename_all = "PascalCase")]
pub struct DeleteInternetGatewayRequest {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub dry_run: Option<bool>,
    pub internet_gateway_id: String,
}

/// `DescribeInternetGateways`.
#[derive(Debug)]
pub enum DescribeInternetGateways {}

impl Operation for DescribeInternetGateways {
    const SERVICE: &'static str = "ec2";
    const ACTION: &'static str = "DescribeInternetGateways";
    type Request = DescribeInternetGatewaysRequest;
    type Response = DescribeInternetGatewaysResponse;
}

#[derive(Clone, Debug, Default, PartialEq, Deserialize, Serialize)]
#[serde(rename_all = "PascalCase")]
pub struct DescribeInternetGatewaysRequest {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub next_token: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_results: Option<i64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub dry_run: Option<bool>,
    #[serde(rename = "InternetGatewayId", default, skip_serializing_if = "Vec::is_empty")]
    pub internet_gateway_ids: Vec<String>,
    #[serde(rename = "Filter", default, skip_serializing_if = "Vec::is_empty")]
    pub filters: Vec<Filter>,
}

#[derive(Clone, Debug, Default, PartialEq, Deserialize, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct DescribeInternetGatewaysResponse {
    #[serde(rename = "internetGatewaySet", default)]
    pub internet_gateways: Vec<InternetGateway>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub next_token: Option<String>,
}

#[derive(Clone, Debug, Default, PartialEq, Deserialize, Serialize)]
pub struct AttachInternetGatewayResponse {}

/// `AttachInternetGateway`.
#[derive(Debug)]
pub enum AttachInternetGateway {}

impl Operation for AttachInternetGateway {
    const SERVICE: &'static str = "ec2";
    const ACTION: &'static str = "AttachInternetGateway";
    type Request = AttachInternetGatewayRequest;
    type Response = AttachInternetGatewayResponse;
}

#[derive(Clone, Debug, Default, PartialEq, Deserialize, Serialize)]
#[serde(rename_all = "PascalCase")]
pub struct AttachInternetGatewayRequest {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub dry_run: Option<bool>,
    pub internet_gateway_id: String,
    pub vpc_id: String,
}

#[derive(Clone, Debug, Default, PartialEq, Deserialize, Serialize)]
pub struct DetachInternetGatewayResponse {}

/// `DetachInternetGateway`.
#[derive(Debug)]
pub enum DetachInternetGateway {}

impl Operation for DetachInternetGateway {
    const SERVICE: &'static str = "ec2";
    const ACTION: &'static str = "DetachInternetGateway";
    type Request = DetachInternetGatewayRequest;
    type Response = DetachInternetGatewayResponse;
}

#[derive(Clone, Debug, Default, PartialEq, Deserialize, Serialize)]
#[serde(rename_all = "PascalCase")]
pub struct DetachInternetGatewayRequest {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub dry_run: Option<bool>,
    pub internet_gateway_id: String,
    pub vpc_id: String,
}
