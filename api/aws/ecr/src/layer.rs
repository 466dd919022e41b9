//! Layers: uploads and downloads.
//!
//! API reference: Amazon ECR, version 2015-09-21.

use serde::{Deserialize, Serialize};

use crate::operation;

#[derive(Clone, Debug, Default, PartialEq, Deserialize, Serialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Layer {
    pub layer_digest: String,
    pub layer_availability: String,
    pub layer_size: u64,
    pub media_type: String,
}

#[derive(Clone, Debug, Default, PartialEq, Deserialize, Serialize)]
#[serde(rename_all = "camelCase", default)]
pub struct LayerFailure {
    pub layer_digest: String,
    pub failure_code: String,
    pub failure_reason: String,
}

operation! {
    /// Which layers are there already.
    BatchCheckLayerAvailability: BatchCheckLayerAvailabilityRequest => BatchCheckLayerAvailabilityResponse
}

#[derive(Clone, Debug, Default, PartialEq, Deserialize, Serialize)]
#[serde(rename_all = "camelCase", default)]
pub struct BatchCheckLayerAvailabilityRequest {
    #[serde(skip_serializing_if = "Option::is_none")]
    pub registry_id: Option<String>,
    pub repository_name: String,
    pub layer_digests: Vec<String>,
}

#[derive(Clone, Debug, Default, PartialEq, Deserialize, Serialize)]
#[serde(rename_all = "camelCase", default)]
pub struct BatchCheckLayerAvailabilityResponse {
    pub layers: Vec<Layer>,
    pub failures: Vec<LayerFailure>,
}

operation! {
    /// A URL that gives the layer to whoever holds it.
    GetDownloadUrlForLayer: GetDownloadUrlForLayerRequest => GetDownloadUrlForLayerResponse
}

#[derive(Clone, Debug, Default, PartialEq, Deserialize, Serialize)]
#[serde(rename_all = "camelCase", default)]
pub struct GetDownloadUrlForLayerRequest {
    #[serde(skip_serializing_if = "Option::is_none")]
    pub registry_id: Option<String>,
    pub repository_name: String,
    pub layer_digest: String,
}

#[derive(Clone, Debug, Default, PartialEq, Deserialize, Serialize)]
#[serde(rename_all = "camelCase", default)]
pub struct GetDownloadUrlForLayerResponse {
    pub download_url: String,
    pub layer_digest: String,
}

operation! {
    /// Begins an upload.
    InitiateLayerUpload: InitiateLayerUploadRequest => InitiateLayerUploadResponse
}

#[derive(Clone, Debug, Default, PartialEq, Deserialize, Serialize)]
#[serde(rename_all = "camelCase", default)]
pub struct InitiateLayerUploadRequest {
    #[serde(skip_serializing_if = "Option::is_none")]
    pub registry_id: Option<String>,
    pub repository_name: String,
}

#[derive(Clone, Debug, Default, PartialEq, Deserialize, Serialize)]
#[serde(rename_all = "camelCase", default)]
pub struct InitiateLayerUploadResponse {
    pub upload_id: String,
    pub part_size: u64,
}

operation! {
    /// The next part of an upload; the bytes are in base64.
    UploadLayerPart: UploadLayerPartRequest => UploadLayerPartResponse
}

#[derive(Clone, Debug, Default, PartialEq, Deserialize, Serialize)]
#[serde(rename_all = "camelCase", default)]
pub struct UploadLayerPartRequest {
    #[serde(skip_serializing_if = "Option::is_none")]
    pub registry_id: Option<String>,
    pub repository_name: String,
    pub upload_id: String,
    pub part_first_byte: u64,
    pub part_last_byte: u64,
    pub layer_part_blob: String,
}

#[derive(Clone, Debug, Default, PartialEq, Deserialize, Serialize)]
#[serde(rename_all = "camelCase", default)]
pub struct UploadLayerPartResponse {
    pub registry_id: String,
    pub repository_name: String,
    pub upload_id: String,
    pub last_byte_received: u64,
}

operation! {
    /// Ends an upload, whose digest must be right.
    CompleteLayerUpload: CompleteLayerUploadRequest => CompleteLayerUploadResponse
}

#[derive(Clone, Debug, Default, PartialEq, Deserialize, Serialize)]
#[serde(rename_all = "camelCase", default)]
pub struct CompleteLayerUploadRequest {
    #[serde(skip_serializing_if = "Option::is_none")]
    pub registry_id: Option<String>,
    pub repository_name: String,
    pub upload_id: String,
    pub layer_digests: Vec<String>,
}

#[derive(Clone, Debug, Default, PartialEq, Deserialize, Serialize)]
#[serde(rename_all = "camelCase", default)]
pub struct CompleteLayerUploadResponse {
    pub registry_id: String,
    pub repository_name: String,
    pub upload_id: String,
    pub layer_digest: String,
}
