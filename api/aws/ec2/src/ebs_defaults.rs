//! The account's defaults for volumes.
//!
//! Request fields carry the names of query parameters, response fields those of XML elements.
//! API reference: Amazon EC2, version 2016-11-15.

use aws_wire::Operation;
use serde::{Deserialize, Serialize};

/// `GetEbsEncryptionByDefault`.
#[derive(Debug)]
pub enum GetEbsEncryptionByDefault {}

impl Operation for GetEbsEncryptionByDefault {
    const SERVICE: &'static str = "ec2";
    const ACTION: &'static str = "GetEbsEncryptionByDefault";
    type Request = GetEbsEncryptionByDefaultRequest;
    type Response = GetEbsEncryptionByDefaultResponse;
}

#[derive(Clone, Debug, Default, PartialEq, Deserialize, Serialize)]
#[serde(rename_all = "PascalCase")]
pub struct GetEbsEncryptionByDefaultRequest {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub dry_run: Option<bool>,
}

#[derive(Clone, Debug, Default, PartialEq, Deserialize, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct GetEbsEncryptionByDefaultResponse {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ebs_encryption_by_default: Option<bool>,
}
