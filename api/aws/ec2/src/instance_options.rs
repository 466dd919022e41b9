//! What is switched on a running instance: monitoring, credits, its profile.
//!
//! Request fields carry the names of query parameters, response fields those of XML elements.
//! API reference: Amazon EC2, version 2016-11-15.

use aws_wire::Operation;
use serde::{Deserialize, Serialize};

use crate::{
    instance::Monitoring, instance_attribute::IamInstanceProfileAssociation,
    run_instances::IamInstanceProfileSpecification,
};

/// `MonitorInstances`.
#[derive(Debug)]
pub enum MonitorInstances {}

impl Operation for MonitorInstances {
    const SERVICE: &'static str = "ec2";
    const ACTION: &'static str = "MonitorInstances";
    type Request = MonitorInstancesRequest;
    type Response = MonitorInstancesResponse;
}

#[derive(Clone, Debug, Default, PartialEq, Deserialize, Serialize)]
#[serde(rename_all = "PascalCase")]
pub struct MonitorInstancesRequest {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub dry_run: Option<bool>,
    #[serde(rename = "InstanceId", default, skip_serializing_if = "Vec::is_empty")]
    pub instance_ids: Vec<String>,
}

#[derive(Clone, Debug, Default, PartialEq, Deserialize, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct MonitorInstancesResponse {
    #[serde(rename = "instancesSet", default)]
    pub instance_monitorings: Vec<InstanceMonitoring>,
}

/// `UnmonitorInstances`.
#[derive(Debug)]
pub enum UnmonitorInstances {}

impl Operation for UnmonitorInstances {
    const SERVICE: &'static str = "ec2";
    const ACTION: &'static str = "UnmonitorInstances";
    type Request = UnmonitorInstancesRequest;
    type Response = UnmonitorInstancesResponse;
}

#[derive(Clone, Debug, Default, PartialEq, Deserialize, Serialize)]
#[serde(rename_all = "PascalCase")]
pub struct UnmonitorInstancesRequest {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub dry_run: Option<bool>,
    #[serde(rename = "InstanceId", default, skip_serializing_if = "Vec::is_empty")]
    pub instance_ids: Vec<String>,
}

#[derive(Clone, Debug, Default, PartialEq, Deserialize, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct UnmonitorInstancesResponse {
    #[serde(rename = "instancesSet", default)]
    pub instance_monitorings: Vec<InstanceMonitoring>,
}

#[derive(Clone, Debug, Default, PartialEq, Deserialize, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct InstanceMonitoring {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub instance_id: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub monitoring: Option<Monitoring>,
}

/// `ReplaceIamInstanceProfileAssociation`.
#[derive(Debug)]
pub enum ReplaceIamInstanceProfileAssociation {}

impl Operation for ReplaceIamInstanceProfileAssociation {
    const SERVICE: &'static str = "ec2";
    const ACTION: &'static str = "ReplaceIamInstanceProfileAssociation";
    type Request = ReplaceIamInstanceProfileAssociationRequest;
    type Response = ReplaceIamInstanceProfileAssociationResponse;
}

#[derive(Clone, Debug, Default, PartialEq, Deserialize, Serialize)]
#[serde(rename_all = "PascalCase")]
pub struct ReplaceIamInstanceProfileAssociationRequest {
    pub association_id: String,
    pub iam_instance_profile: IamInstanceProfileSpecification,
}

#[derive(Clone, Debug, Default, PartialEq, Deserialize, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct ReplaceIamInstanceProfileAssociationResponse {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub iam_instance_profile_association: Option<IamInstanceProfileAssociation>,
}

/// `GetPasswordData`.
#[derive(Debug)]
pub enum GetPasswordData {}

impl Operation for GetPasswordData {
    const SERVICE: &'static str = "ec2";
    const ACTION: &'static str = "GetPasswordData";
    type Request = GetPasswordDataRequest;
    type Response = GetPasswordDataResponse;
}

#[derive(Clone, Debug, Default, PartialEq, Deserialize, Serialize)]
#[serde(rename_all = "PascalCase")]
pub struct GetPasswordDataRequest {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub dry_run: Option<bool>,
    pub instance_id: String,
}

#[derive(Clone, Debug, Default, PartialEq, Deserialize, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct GetPasswordDataResponse {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub instance_id: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub timestamp: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub password_data: Option<String>,
}

/// `ModifyInstanceCreditSpecification`.
#[derive(Debug)]
pub enum ModifyInstanceCreditSpecification {}

impl Operation for ModifyInstanceCreditSpecification {
    const SERVICE: &'static str = "ec2";
    const ACTION: &'static str = "ModifyInstanceCreditSpecification";
    type Request = ModifyInstanceCreditSpecificationRequest;
    type Response = ModifyInstanceCreditSpecificationResponse;
}

#[derive(Clone, Debug, Default, PartialEq, Deserialize, Serialize)]
#[serde(rename_all = "PascalCase")]
pub struct ModifyInstanceCreditSpecificationRequest {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub dry_run: Option<bool>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub client_token: Option<String>,
    #[serde(
        rename = "InstanceCreditSpecification",
        default,
        skip_serializing_if = "Vec::is_empty"
    )]
    pub instance_credit_specifications: Vec<InstanceCreditSpecificationRequest>,
}

#[derive(Clone, Debug, Default, PartialEq, Deserialize, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct ModifyInstanceCreditSpecificationResponse {
    #[serde(rename = "successfulInstanceCreditSpecificationSet", default)]
    pub successful_instance_credit_specifications: Vec<SuccessfulInstanceCreditSpecificationItem>,
    #[serde(rename = "unsuccessfulInstanceCreditSpecificationSet", default)]
    pub unsuccessful_instance_credit_specifications:
        Vec<UnsuccessfulInstanceCreditSpecificationItem>,
}

#[derive(Clone, Debug, Default, PartialEq, Deserialize, Serialize)]
#[serde(rename_all = "PascalCase")]
pub struct InstanceCreditSpecificationRequest {
    pub instance_id: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cpu_credits: Option<String>,
}

#[derive(Clone, Debug, Default, PartialEq, Deserialize, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct SuccessfulInstanceCreditSpecificationItem {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub instance_id: Option<String>,
}

#[derive(Clone, Debug, Default, PartialEq, Deserialize, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct UnsuccessfulInstanceCreditSpecificationItem {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub instance_id: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub error: Option<CreditSpecificationError>,
}

#[derive(Clone, Debug, Default, PartialEq, Deserialize, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct CreditSpecificationError {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub code: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub message: Option<String>,
}

/// `ModifyInstanceMaintenanceOptions`.
#[derive(Debug)]
pub enum ModifyInstanceMaintenanceOptions {}

impl Operation for ModifyInstanceMaintenanceOptions {
    const SERVICE: &'static str = "ec2";
    const ACTION: &'static str = "ModifyInstanceMaintenanceOptions";
    type Request = ModifyInstanceMaintenanceOptionsRequest;
    type Response = ModifyInstanceMaintenanceOptionsResponse;
}

#[derive(Clone, Debug, Default, PartialEq, Deserialize, Serialize)]
#[serde(rename_all = "PascalCase")]
pub struct ModifyInstanceMaintenanceOptionsRequest {
    pub instance_id: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub auto_recovery: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reboot_migration: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub dry_run: Option<bool>,
}

#[derive(Clone, Debug, Default, PartialEq, Deserialize, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct ModifyInstanceMaintenanceOptionsResponse {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub instance_id: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub auto_recovery: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reboot_migration: Option<String>,
}

/// `ModifyPrivateDnsNameOptions`.
#[derive(Debug)]
pub enum ModifyPrivateDnsNameOptions {}

impl Operation for ModifyPrivateDnsNameOptions {
    const SERVICE: &'static str = "ec2";
    const ACTION: &'static str = "ModifyPrivateDnsNameOptions";
    type Request = ModifyPrivateDnsNameOptionsRequest;
    type Response = ModifyPrivateDnsNameOptionsResponse;
}

#[derive(Clone, Debug, Default, PartialEq, Deserialize, Serialize)]
#[serde(rename_all = "PascalCase")]
pub struct ModifyPrivateDnsNameOptionsRequest {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub dry_run: Option<bool>,
    pub instance_id: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub private_dns_hostname_type: Option<String>,
    #[serde(
        rename = "EnableResourceNameDnsARecord",
        default,
        skip_serializing_if = "Option::is_none"
    )]
    pub enable_resource_name_dns_a_record: Option<bool>,
    #[serde(
        rename = "EnableResourceNameDnsAAAARecord",
        default,
        skip_serializing_if = "Option::is_none"
    )]
    pub enable_resource_name_dns_aaaa_record: Option<bool>,
}

#[derive(Clone, Debug, Default, PartialEq, Deserialize, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct ModifyPrivateDnsNameOptionsResponse {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub r#return: Option<bool>,
}
