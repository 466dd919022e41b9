//! Egress-only internet gateways: the way out of IPv6, by which nobody comes in.
//!
//! Request fields carry the names of query parameters, response fields those of XML elements.
//! API reference: Amazon EC2, version 2016-11-15.

use aws_wire::Operation;
use serde::{Deserialize, Serialize};

use crate::{
    common::{Filter, Tag, TagSpecification},
    internet_gateway::InternetGatewayAttachment,
};

/// `CreateEgressOnlyInternetGateway`.
#[derive(Debug)]
pub enum CreateEgressOnlyInternetGateway {}

impl Operation for CreateEgressOnlyInternetGateway {
    const SERVICE: &'static str = "ec2";
    const ACTION: &'static str = "CreateEgressOnlyInternetGateway";
    type Request = CreateEgressOnlyInternetGatewayRequest;
    type Response = CreateEgressOnlyInternetGatewayResponse;
}

#[derive(Clone, Debug, Default, PartialEq, Deserialize, Serialize)]
#[serde(rename_all = "PascalCase")]
pub struct CreateEgressOnlyInternetGatewayRequest {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub client_token: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub dry_run: Option<bool>,
    pub vpc_id: String,
    #[serde(rename = "TagSpecification", default, skip_serializing_if = "Vec::is_empty")]
    pub tag_specifications: Vec<TagSpecification>,
}

#[derive(Clone, Debug, Default, PartialEq, Deserialize, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct CreateEgressOnlyInternetGatewayResponse {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub client_token: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub egress_only_internet_gateway: Option<EgressOnlyInternetGateway>,
}

#[derive(Clone, Debug, Default, PartialEq, Deserialize, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct EgressOnlyInternetGateway {
    #[serde(rename = "attachmentSet", default)]
    pub attachments: Vec<InternetGatewayAttachment>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub egress_only_internet_gateway_id: Option<String>,
    #[serde(rename = "tagSet", default)]
    pub tags: Vec<Tag>,
}

/// `DeleteEgressOnlyInternetGateway`.
#[derive(Debug)]
pub enum DeleteEgressOnlyInternetGateway {}

impl Operation for DeleteEgressOnlyInternetGateway {
    const SERVICE: &'static str = "ec2";
    const ACTION: &'static str = "DeleteEgressOnlyInternetGateway";
    type Request = DeleteEgressOnlyInternetGatewayRequest;
    type Response = DeleteEgressOnlyInternetGatewayResponse;
}

#[derive(Clone, Debug, Default, PartialEq, Deserialize, Serialize)]
#[serde(rename_all = "PascalCase")]
pub struct DeleteEgressOnlyInternetGatewayRequest {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub dry_run: Option<bool>,
    pub egress_only_internet_gateway_id: String,
}

#[derive(Clone, Debug, Default, PartialEq, Deserialize, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct DeleteEgressOnlyInternetGatewayResponse {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub return_code: Option<bool>,
}

/// `DescribeEgressOnlyInternetGateways`.
#[derive(Debug)]
pub enum DescribeEgressOnlyInternetGateways {}

impl Operation for DescribeEgressOnlyInternetGateways {
    const SERVICE: &'static str = "ec2";
    const ACTION: &'static str = "DescribeEgressOnlyInternetGateways";
    type Request = DescribeEgressOnlyInternetGatewaysRequest;
    type Response = DescribeEgressOnlyInternetGatewaysResponse;
}

#[derive(Clone, Debug, Default, PartialEq, Deserialize, Serialize)]
#[serde(rename_all = "PascalCase")]
pub struct DescribeEgressOnlyInternetGatewaysRequest {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub dry_run: Option<bool>,
    #[serde(
        rename = "EgressOnlyInternetGatewayId",
        default,
        skip_serializing_if = "Vec::is_empty"
    )]
    pub egress_only_internet_gateway_ids: Vec<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_results: Option<i64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub next_token: Option<String>,
    #[serde(rename = "Filter", default, skip_serializing_if = "Vec::is_empty")]
    pub filters: Vec<Filter>,
}

#[derive(Clone, Debug, Default, PartialEq, Deserialize, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct DescribeEgressOnlyInternetGatewaysResponse {
    #[serde(rename = "egressOnlyInternetGatewaySet", default)]
    pub egress_only_internet_gateways: Vec<EgressOnlyInternetGateway>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub next_token: Option<String>,
}
