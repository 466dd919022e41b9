//! Attributes of an instance that are read or changed one at a time.
//!
//! Request fields carry the names of query parameters, response fields those of XML elements.
//! API reference: Amazon EC2, version 2016-11-15.

use aws_wire::Operation;
use serde::{Deserialize, Serialize};

use crate::{
    common::{
        AttributeBooleanValue, AttributeBooleanValueInput, AttributeValue, AttributeValueInput,
        Filter, GroupIdentifier,
    },
    instance::{IamInstanceProfile, InstanceBlockDeviceMapping, InstanceMetadataOptionsResponse},
    run_instances::IamInstanceProfileSpecification,
};

/// `DescribeInstanceAttribute`.
#[derive(Debug)]
pub enum DescribeInstanceAttribute {}

impl Operation for DescribeInstanceAttribute {
    const SERVICE: &'static str = "ec2";
    const ACTION: &'static str = "DescribeInstanceAttribute";
    type Request = DescribeInstanceAttributeRequest;
    type Response = DescribeInstanceAttributeResponse;
}

#[derive(Clone, Debug, Default, PartialEq, Deserialize, Serialize)]
#[serde(rename_all = "PascalCase")]
pub struct DescribeInstanceAttributeRequest {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub dry_run: Option<bool>,
    pub instance_id: String,
    pub attribute: String,
}

#[derive(Clone, Debug, Default, PartialEq, Deserialize, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct DescribeInstanceAttributeResponse {
    #[serde(rename = "blockDeviceMapping", default)]
    pub block_device_mappings: Vec<InstanceBlockDeviceMapping>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub disable_api_termination: Option<AttributeBooleanValue>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ena_support: Option<AttributeBooleanValue>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ebs_optimized: Option<AttributeBooleanValue>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub instance_id: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub instance_initiated_shutdown_behavior: Option<AttributeValue>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub instance_type: Option<AttributeValue>,
    #[serde(rename = "kernel", default, skip_serializing_if = "Option::is_none")]
    pub kernel_id: Option<AttributeValue>,
    #[serde(rename = "ramdisk", default, skip_serializing_if = "Option::is_none")]
    pub ramdisk_id: Option<AttributeValue>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub root_device_name: Option<AttributeValue>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub source_dest_check: Option<AttributeBooleanValue>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sriov_net_support: Option<AttributeValue>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub user_data: Option<AttributeValue>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub disable_api_stop: Option<AttributeBooleanValue>,
    #[serde(rename = "groupSet", default)]
    pub groups: Vec<GroupIdentifier>,
}

#[derive(Clone, Debug, Default, PartialEq, Deserialize, Serialize)]
pub struct ModifyInstanceAttributeResponse {}

/// `ModifyInstanceAttribute`.
#[derive(Debug)]
pub enum ModifyInstanceAttribute {}

impl Operation for ModifyInstanceAttribute {
    const SERVICE: &'static str = "ec2";
    const ACTION: &'static str = "ModifyInstanceAttribute";
    type Request = ModifyInstanceAttributeRequest;
    type Response = ModifyInstanceAttributeResponse;
}

#[derive(Clone, Debug, Default, PartialEq, Deserialize, Serialize)]
#[serde(rename_all = "PascalCase")]
pub struct ModifyInstanceAttributeRequest {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub source_dest_check: Option<AttributeBooleanValueInput>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub disable_api_stop: Option<AttributeBooleanValueInput>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub dry_run: Option<bool>,
    pub instance_id: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub attribute: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub value: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub disable_api_termination: Option<AttributeBooleanValueInput>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub instance_type: Option<AttributeValueInput>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub kernel: Option<AttributeValueInput>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ramdisk: Option<AttributeValueInput>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub user_data: Option<BlobAttributeValue>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub instance_initiated_shutdown_behavior: Option<AttributeValueInput>,
    #[serde(rename = "GroupId", default, skip_serializing_if = "Vec::is_empty")]
    pub groups: Vec<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ebs_optimized: Option<AttributeBooleanValueInput>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sriov_net_support: Option<AttributeValueInput>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ena_support: Option<AttributeBooleanValueInput>,
}

#[derive(Clone, Debug, Default, PartialEq, Deserialize, Serialize)]
#[serde(rename_all = "PascalCase")]
pub struct BlobAttributeValue {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub value: Option<String>,
}

/// `ModifyInstanceMetadataOptions`.
#[derive(Debug)]
pub enum ModifyInstanceMetadataOptions {}

impl Operation for ModifyInstanceMetadataOptions {
    const SERVICE: &'static str = "ec2";
    const ACTION: &'static str = "ModifyInstanceMetadataOptions";
    type Request = ModifyInstanceMetadataOptionsRequest;
    type Response = ModifyInstanceMetadataOptionsResponse;
}

#[derive(Clone, Debug, Default, PartialEq, Deserialize, Serialize)]
#[serde(rename_all = "PascalCase")]
pub struct ModifyInstanceMetadataOptionsRequest {
    pub instance_id: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub http_tokens: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub http_put_response_hop_limit: Option<i64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub http_endpoint: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub dry_run: Option<bool>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub http_protocol_ipv6: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub instance_metadata_tags: Option<String>,
}

#[derive(Clone, Debug, Default, PartialEq, Deserialize, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct ModifyInstanceMetadataOptionsResponse {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub instance_id: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub instance_metadata_options: Option<InstanceMetadataOptionsResponse>,
}

/// `AssociateIamInstanceProfile`.
#[derive(Debug)]
pub enum AssociateIamInstanceProfile {}

impl Operation for AssociateIamInstanceProfile {
    const SERVICE: &'static str = "ec2";
    const ACTION: &'static str = "AssociateIamInstanceProfile";
    type Request = AssociateIamInstanceProfileRequest;
    type Response = AssociateIamInstanceProfileResponse;
}

#[derive(Clone, Debug, Default, PartialEq, Deserialize, Serialize)]
#[serde(rename_all = "PascalCase")]
pub struct AssociateIamInstanceProfileRequest {
    pub iam_instance_profile: IamInstanceProfileSpecification,
    pub instance_id: String,
}

#[derive(Clone, Debug, Default, PartialEq, Deserialize, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct AssociateIamInstanceProfileResponse {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub iam_instance_profile_association: Option<IamInstanceProfileAssociation>,
}

#[derive(Clone, Debug, Default, PartialEq, Deserialize, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct IamInstanceProfileAssociation {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub association_id: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub instance_id: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub iam_instance_profile: Option<IamInstanceProfile>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub state: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub timestamp: Option<String>,
}

/// `DisassociateIamInstanceProfile`.
#[derive(Debug)]
pub enum DisassociateIamInstanceProfile {}

impl Operation for DisassociateIamInstanceProfile {
    const SERVICE: &'static str = "ec2";
    const ACTION: &'static str = "DisassociateIamInstanceProfile";
    type Request = DisassociateIamInstanceProfileRequest;
    type Response = DisassociateIamInstanceProfileResponse;
}

#[derive(Clone, Debug, Default, PartialEq, Deserialize, Serialize)]
#[serde(rename_all = "PascalCase")]
pub struct DisassociateIamInstanceProfileRequest {
    pub association_id: String,
}

#[derive(Clone, Debug, Default, PartialEq, Deserialize, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct DisassociateIamInstanceProfileResponse {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub iam_instance_profile_association: Option<IamInstanceProfileAssociation>,
}

/// `DescribeIamInstanceProfileAssociations`.
#[derive(Debug)]
pub enum DescribeIamInstanceProfileAssociations {}

impl Operation for DescribeIamInstanceProfileAssociations {
    const SERVICE: &'static str = "ec2";
    const ACTION: &'static str = "DescribeIamInstanceProfileAssociations";
    type Request = DescribeIamInstanceProfileAssociationsRequest;
    type Response = DescribeIamInstanceProfileAssociationsResponse;
}

#[derive(Clone, Debug, Default, PartialEq, Deserialize, Serialize)]
#[serde(rename_all = "PascalCase")]
pub struct DescribeIamInstanceProfileAssociationsRequest {
    #[serde(rename = "AssociationId", default, skip_serializing_if = "Vec::is_empty")]
    pub association_ids: Vec<String>,
    #[serde(rename = "Filter", default, skip_serializing_if = "Vec::is_empty")]
    pub filters: Vec<Filter>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_results: Option<i64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub next_token: Option<String>,
}

#[derive(Clone, Debug, Default, PartialEq, Deserialize, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct DescribeIamInstanceProfileAssociationsResponse {
    #[serde(rename = "iamInstanceProfileAssociationSet", default)]
    pub iam_instance_profile_associations: Vec<IamInstanceProfileAssociation>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub next_token: Option<String>,
}

/// `DescribeInstanceCreditSpecifications`.
#[derive(Debug)]
pub enum DescribeInstanceCreditSpecifications {}

impl Operation for DescribeInstanceCreditSpecifications {
    const SERVICE: &'static str = "ec2";
    const ACTION: &'static str = "DescribeInstanceCreditSpecifications";
    type Request = DescribeInstanceCreditSpecificationsRequest;
    type Response = DescribeInstanceCreditSpecificationsResponse;
}

#[derive(Clone, Debug, Default, PartialEq, Deserialize, Serialize)]
#[serde(rename_all = "PascalCase")]
pub struct DescribeInstanceCreditSpecificationsRequest {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub dry_run: Option<bool>,
    #[serde(rename = "Filter", default, skip_serializing_if = "Vec::is_empty")]
    pub filters: Vec<Filter>,
    #[serde(rename = "InstanceId", default, skip_serializing_if = "Vec::is_empty")]
    pub instance_ids: Vec<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_results: Option<i64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub next_token: Option<String>,
}

#[derive(Clone, Debug, Default, PartialEq, Deserialize, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct DescribeInstanceCreditSpecificationsResponse {
    #[serde(rename = "instanceCreditSpecificationSet", default)]
    pub instance_credit_specifications: Vec<InstanceCreditSpecification>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub next_token: Option<String>,
}

#[derive(Clone, Debug, Default, PartialEq, Deserialize, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct InstanceCreditSpecification {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub instance_id: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cpu_credits: Option<String>,
}
