//! Launch templates and their numbered versions.
//!
//! Request fields carry the names of query parameters, response fields those of XML elements.
//! API reference: Amazon EC2, version 2016-11-15.

use aws_wire::Operation;
use serde::{Deserialize, Serialize};

use crate::{
    common::{Filter, Tag, TagSpecification},
    launch_template_data::ResponseLaunchTemplateData,
    launch_template_request::RequestLaunchTemplateData,
};

/// `CreateLaunchTemplate`.
#[derive(Debug)]
pub enum CreateLaunchTemplate {}

impl Operation for CreateLaunchTemplate {
    const SERVICE: &'static str = "ec2";
    const ACTION: &'static str = "CreateLaunchTemplate";
    type Request = CreateLaunchTemplateRequest;
    type Response = CreateLaunchTemplateResponse;
}

#[derive(Clone, Debug, Default, PartialEq, Deserialize, Serialize)]
#[serde(rename_all = "PascalCase")]
pub struct CreateLaunchTemplateRequest {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub dry_run: Option<bool>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub client_token: Option<String>,
    pub launch_template_name: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub version_description: Option<String>,
    pub launch_template_data: RequestLaunchTemplateData,
    #[serde(rename = "TagSpecification", default, skip_serializing_if = "Vec::is_empty")]
    pub tag_specifications: Vec<TagSpecification>,
}

#[derive(Clone, Debug, Default, PartialEq, Deserialize, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct CreateLaunchTemplateResponse {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub launch_template: Option<LaunchTemplate>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub warning: Option<ValidationWarning>,
}

#[derive(Clone, Debug, Default, PartialEq, Deserialize, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct LaunchTemplate {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub launch_template_id: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub launch_template_name: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub create_time: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub created_by: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub default_version_number: Option<i64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub latest_version_number: Option<i64>,
    #[serde(rename = "tagSet", default)]
    pub tags: Vec<Tag>,
}

#[derive(Clone, Debug, Default, PartialEq, Deserialize, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct ValidationWarning {
    #[serde(rename = "errorSet", default)]
    pub errors: Vec<ValidationError>,
}

#[derive(Clone, Debug, Default, PartialEq, Deserialize, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct ValidationError {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub code: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub message: Option<String>,
}

/// `CreateLaunchTemplateVersion`.
#[derive(Debug)]
pub enum CreateLaunchTemplateVersion {}

impl Operation for CreateLaunchTemplateVersion {
    const SERVICE: &'static str = "ec2";
    const ACTION: &'static str = "CreateLaunchTemplateVersion";
    type Request = CreateLaunchTemplateVersionRequest;
    type Response = CreateLaunchTemplateVersionResponse;
}

#[derive(Clone, Debug, Default, PartialEq, Deserialize, Serialize)]
#[serde(rename_all = "PascalCase")]
pub struct CreateLaunchTemplateVersionRequest {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub dry_run: Option<bool>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub client_token: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub launch_template_id: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub launch_template_name: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub source_version: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub version_description: Option<String>,
    pub launch_template_data: RequestLaunchTemplateData,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub resolve_alias: Option<bool>,
}

#[derive(Clone, Debug, Default, PartialEq, Deserialize, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct CreateLaunchTemplateVersionResponse {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub launch_template_version: Option<LaunchTemplateVersion>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub warning: Option<ValidationWarning>,
}

#[derive(Clone, Debug, Default, PartialEq, Deserialize, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct LaunchTemplateVersion {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub launch_template_id: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub launch_template_name: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub version_number: Option<i64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub version_description: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub create_time: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub created_by: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub default_version: Option<bool>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub launch_template_data: Option<ResponseLaunchTemplateData>,
}

/// `DescribeLaunchTemplates`.
#[derive(Debug)]
pub enum DescribeLaunchTemplates {}

impl Operation for DescribeLaunchTemplates {
    const SERVICE: &'static str = "ec2";
    const ACTION: &'static str = "DescribeLaunchTemplates";
    type Request = DescribeLaunchTemplatesRequest;
    type Response = DescribeLaunchTemplatesResponse;
}

#[derive(Clone, Debug, Default, PartialEq, Deserialize, Serialize)]
#[serde(rename_all = "PascalCase")]
pub struct DescribeLaunchTemplatesRequest {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub dry_run: Option<bool>,
    #[serde(rename = "LaunchTemplateId", default, skip_serializing_if = "Vec::is_empty")]
    pub launch_template_ids: Vec<String>,
    #[serde(rename = "LaunchTemplateName", default, skip_serializing_if = "Vec::is_empty")]
    pub launch_template_names: Vec<String>,
    #[serde(rename = "Filter", default, skip_serializing_if = "Vec::is_empty")]
    pub filters: Vec<Filter>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub next_token: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_results: Option<i64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub include_managed_resources: Option<bool>,
}

#[derive(Clone, Debug, Default, PartialEq, Deserialize, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct DescribeLaunchTemplatesResponse {
    #[serde(default)]
    pub launch_templates: Vec<LaunchTemplate>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub next_token: Option<String>,
}

/// `DescribeLaunchTemplateVersions`.
#[derive(Debug)]
pub enum DescribeLaunchTemplateVersions {}

impl Operation for DescribeLaunchTemplateVersions {
    const SERVICE: &'static str = "ec2";
    const ACTION: &'static str = "DescribeLaunchTemplateVersions";
    type Request = DescribeLaunchTemplateVersionsRequest;
    type Response = DescribeLaunchTemplateVersionsResponse;
}

#[derive(Clone, Debug, Default, PartialEq, Deserialize, Serialize)]
#[serde(rename_all = "PascalCase")]
pub struct DescribeLaunchTemplateVersionsRequest {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub dry_run: Option<bool>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub launch_template_id: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub launch_template_name: Option<String>,
    #[serde(rename = "LaunchTemplateVersion", default, skip_serializing_if = "Vec::is_empty")]
    pub versions: Vec<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub min_version: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_version: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub next_token: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_results: Option<i64>,
    #[serde(rename = "Filter", default, skip_serializing_if = "Vec::is_empty")]
    pub filters: Vec<Filter>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub resolve_alias: Option<bool>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub include_managed_resources: Option<bool>,
}

#[derive(Clone, Debug, Default, PartialEq, Deserialize, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct DescribeLaunchTemplateVersionsResponse {
    #[serde(rename = "launchTemplateVersionSet", default)]
    pub launch_template_versions: Vec<LaunchTemplateVersion>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub next_token: Option<String>,
}

/// `ModifyLaunchTemplate`.
#[derive(Debug)]
pub enum ModifyLaunchTemplate {}

impl Operation for ModifyLaunchTemplate {
    const SERVICE: &'static str = "ec2";
    const ACTION: &'static str = "ModifyLaunchTemplate";
    type Request = ModifyLaunchTemplateRequest;
    type Response = ModifyLaunchTemplateResponse;
}

#[derive(Clone, Debug, Default, PartialEq, Deserialize, Serialize)]
#[serde(rename_all = "PascalCase")]
pub struct ModifyLaunchTemplateRequest {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub dry_run: Option<bool>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub client_token: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub launch_template_id: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub launch_template_name: Option<String>,
    #[serde(rename = "SetDefaultVersion", default, skip_serializing_if = "Option::is_none")]
    pub default_version: Option<String>,
}

#[derive(Clone, Debug, Default, PartialEq, Deserialize, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct ModifyLaunchTemplateResponse {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub launch_template: Option<LaunchTemplate>,
}

/// `DeleteLaunchTemplate`.
#[derive(Debug)]
pub enum DeleteLaunchTemplate {}

impl Operation for DeleteLaunchTemplate {
    const SERVICE: &'static str = "ec2";
    const ACTION: &'static str = "DeleteLaunchTemplate";
    type Request = DeleteLaunchTemplateRequest;
    type Response = DeleteLaunchTemplateResponse;
}

#[derive(Clone, Debug, Default, PartialEq, Deserialize, Serialize)]
#[serde(rename_all = "PascalCase")]
pub struct DeleteLaunchTemplateRequest {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub dry_run: Option<bool>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub launch_template_id: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub launch_template_name: Option<String>,
}

#[derive(Clone, Debug, Default, PartialEq, Deserialize, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct DeleteLaunchTemplateResponse {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub launch_template: Option<LaunchTemplate>,
}

/// `DeleteLaunchTemplateVersions`.
#[derive(Debug)]
pub enum DeleteLaunchTemplateVersions {}

impl Operation for DeleteLaunchTemplateVersions {
    const SERVICE: &'static str = "ec2";
    const ACTION: &'static str = "DeleteLaunchTemplateVersions";
    type Request = DeleteLaunchTemplateVersionsRequest;
    type Response = DeleteLaunchTemplateVersionsResponse;
}

#[derive(Clone, Debug, Default, PartialEq, Deserialize, Serialize)]
#[serde(rename_all = "PascalCase")]
pub struct DeleteLaunchTemplateVersionsRequest {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub dry_run: Option<bool>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub launch_template_id: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub launch_template_name: Option<String>,
    #[serde(rename = "LaunchTemplateVersion", default, skip_serializing_if = "Vec::is_empty")]
    pub versions: Vec<String>,
}

#[derive(Clone, Debug, Default, PartialEq, Deserialize, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct DeleteLaunchTemplateVersionsResponse {
    #[serde(rename = "successfullyDeletedLaunchTemplateVersionSet", default)]
    pub successfully_deleted_launch_template_versions:
        Vec<DeleteLaunchTemplateVersionsResponseSuccessItem>,
    #[serde(rename = "unsuccessfullyDeletedLaunchTemplateVersionSet", default)]
    pub unsuccessfully_deleted_launch_template_versions:
        Vec<DeleteLaunchTemplateVersionsResponseErrorItem>,
}

#[derive(Clone, Debug, Default, PartialEq, Deserialize, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct DeleteLaunchTemplateVersionsResponseSuccessItem {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub launch_template_id: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub launch_template_name: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub version_number: Option<i64>,
}

#[derive(Clone, Debug, Default, PartialEq, Deserialize, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct DeleteLaunchTemplateVersionsResponseErrorItem {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub launch_template_id: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub launch_template_name: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub version_number: Option<i64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub response_error: Option<ResponseError>,
}

#[derive(Clone, Debug, Default, PartialEq, Deserialize, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct ResponseError {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub code: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub message: Option<String>,
}

/// `GetLaunchTemplateData`.
#[derive(Debug)]
pub enum GetLaunchTemplateData {}

impl Operation for GetLaunchTemplateData {
    const SERVICE: &'static str = "ec2";
    const ACTION: &'static str = "GetLaunchTemplateData";
    type Request = GetLaunchTemplateDataRequest;
    type Response = GetLaunchTemplateDataResponse;
}

#[derive(Clone, Debug, Default, PartialEq, Deserialize, Serialize)]
#[serde(rename_all = "PascalCase")]
pub struct GetLaunchTemplateDataRequest {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub dry_run: Option<bool>,
    pub instance_id: String,
}

#[derive(Clone, Debug, Default, PartialEq, Deserialize, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct GetLaunchTemplateDataResponse {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub launch_template_data: Option<ResponseLaunchTemplateData>,
}
