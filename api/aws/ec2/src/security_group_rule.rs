//! Security group rules with identifiers of their own, the newer of two views.
//!
//! Request fields carry the names of query parameters, response fields those of XML elements.
//! API reference: Amazon EC2, version 2016-11-15.

use aws_wire::Operation;
use serde::{Deserialize, Serialize};

use crate::{
    common::{Filter, Tag},
    security_group::IpPermissionInput,
};

#[derive(Clone, Debug, Default, PartialEq, Deserialize, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct SecurityGroupRule {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub security_group_rule_id: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub group_id: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub group_owner_id: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub is_egress: Option<bool>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ip_protocol: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub from_port: Option<i64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub to_port: Option<i64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cidr_ipv4: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cidr_ipv6: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub prefix_list_id: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub referenced_group_info: Option<ReferencedSecurityGroup>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub description: Option<String>,
    #[serde(rename = "tagSet", default)]
    pub tags: Vec<Tag>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub security_group_rule_arn: Option<String>,
}

#[derive(Clone, Debug, Default, PartialEq, Deserialize, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct ReferencedSecurityGroup {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub group_id: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub peering_status: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub user_id: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub vpc_id: Option<String>,
}

/// `DescribeSecurityGroupRules`.
#[derive(Debug)]
pub enum DescribeSecurityGroupRules {}

impl Operation for DescribeSecurityGroupRules {
    const SERVICE: &'static str = "ec2";
    const ACTION: &'static str = "DescribeSecurityGroupRules";
    type Request = DescribeSecurityGroupRulesRequest;
    type Response = DescribeSecurityGroupRulesResponse;
}

#[derive(Clone, Debug, Default, PartialEq, Deserialize, Serialize)]
#[serde(rename_all = "PascalCase")]
pub struct DescribeSecurityGroupRulesRequest {
    #[serde(rename = "Filter", default, skip_serializing_if = "Vec::is_empty")]
    pub filters: Vec<Filter>,
    #[serde(rename = "SecurityGroupRuleId", default, skip_serializing_if = "Vec::is_empty")]
    pub security_group_rule_ids: Vec<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub dry_run: Option<bool>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub next_token: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_results: Option<i64>,
}

#[derive(Clone, Debug, Default, PartialEq, Deserialize, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct DescribeSecurityGroupRulesResponse {
    #[serde(rename = "securityGroupRuleSet", default)]
    pub security_group_rules: Vec<SecurityGroupRule>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub next_token: Option<String>,
}

/// `ModifySecurityGroupRules`.
#[derive(Debug)]
pub enum ModifySecurityGroupRules {}

impl Operation for ModifySecurityGroupRules {
    const SERVICE: &'static str = "ec2";
    const ACTION: &'static str = "ModifySecurityGroupRules";
    type Request = ModifySecurityGroupRulesRequest;
    type Response = ModifySecurityGroupRulesResponse;
}

#[derive(Clone, Debug, Default, PartialEq, Deserialize, Serialize)]
#[serde(rename_all = "PascalCase")]
pub struct ModifySecurityGroupRulesRequest {
    pub group_id: String,
    #[serde(rename = "SecurityGroupRule", default, skip_serializing_if = "Vec::is_empty")]
    pub security_group_rules: Vec<SecurityGroupRuleUpdate>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub dry_run: Option<bool>,
}

#[derive(Clone, Debug, Default, PartialEq, Deserialize, Serialize)]
#[serde(rename_all = "PascalCase")]
pub struct SecurityGroupRuleUpdate {
    pub security_group_rule_id: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub security_group_rule: Option<SecurityGroupRuleRequest>,
}

#[derive(Clone, Debug, Default, PartialEq, Deserialize, Serialize)]
#[serde(rename_all = "PascalCase")]
pub struct SecurityGroupRuleRequest {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ip_protocol: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub from_port: Option<i64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub to_port: Option<i64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cidr_ipv4: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cidr_ipv6: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub prefix_list_id: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub referenced_group_id: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub description: Option<String>,
}

#[derive(Clone, Debug, Default, PartialEq, Deserialize, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct ModifySecurityGroupRulesResponse {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub r#return: Option<bool>,
}

/// `UpdateSecurityGroupRuleDescriptionsIngress`.
#[derive(Debug)]
pub enum UpdateSecurityGroupRuleDescriptionsIngress {}

impl Operation for UpdateSecurityGroupRuleDescriptionsIngress {
    const SERVICE: &'static str = "ec2";
    const ACTION: &'static str = "UpdateSecurityGroupRuleDescriptionsIngress";
    type Request = UpdateSecurityGroupRuleDescriptionsIngressRequest;
    type Response = UpdateSecurityGroupRuleDescriptionsIngressResponse;
}

#[derive(Clone, Debug, Default, PartialEq, Deserialize, Serialize)]
#[serde(rename_all = "PascalCase")]
pub struct UpdateSecurityGroupRuleDescriptionsIngressRequest {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub dry_run: Option<bool>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub group_id: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub group_name: Option<String>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub ip_permissions: Vec<IpPermissionInput>,
    #[serde(
        rename = "SecurityGroupRuleDescription",
        default,
        skip_serializing_if = "Vec::is_empty"
    )]
    pub security_group_rule_descriptions: Vec<SecurityGroupRuleDescription>,
}

#[derive(Clone, Debug, Default, PartialEq, Deserialize, Serialize)]
#[serde(rename_all = "PascalCase")]
pub struct SecurityGroupRuleDescription {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub security_group_rule_id: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub description: Option<String>,
}

#[derive(Clone, Debug, Default, PartialEq, Deserialize, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct UpdateSecurityGroupRuleDescriptionsIngressResponse {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub r#return: Option<bool>,
}

/// `UpdateSecurityGroupRuleDescriptionsEgress`.
#[derive(Debug)]
pub enum UpdateSecurityGroupRuleDescriptionsEgress {}

impl Operation for UpdateSecurityGroupRuleDescriptionsEgress {
    const SERVICE: &'static str = "ec2";
    const ACTION: &'static str = "UpdateSecurityGroupRuleDescriptionsEgress";
    type Request = UpdateSecurityGroupRuleDescriptionsEgressRequest;
    type Response = UpdateSecurityGroupRuleDescriptionsEgressResponse;
}

#[derive(Clone, Debug, Default, PartialEq, Deserialize, Serialize)]
#[serde(rename_all = "PascalCase")]
pub struct UpdateSecurityGroupRuleDescriptionsEgressRequest {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub dry_run: Option<bool>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub group_id: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub group_name: Option<String>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub ip_permissions: Vec<IpPermissionInput>,
    #[serde(
        rename = "SecurityGroupRuleDescription",
        default,
        skip_serializing_if = "Vec::is_empty"
    )]
    pub security_group_rule_descriptions: Vec<SecurityGroupRuleDescription>,
}

#[derive(Clone, Debug, Default, PartialEq, Deserialize, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct UpdateSecurityGroupRuleDescriptionsEgressResponse {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub r#return: Option<bool>,
}
