//! Passwords for the registry.
//!
//! API reference: Amazon ECR, version 2015-09-21.

use serde::{Deserialize, Serialize};

use crate::operation;

operation! {
    /// A user name and password for `docker login`, in base64.
    GetAuthorizationToken: GetAuthorizationTokenRequest => GetAuthorizationTokenResponse
}

#[derive(Clone, Debug, Default, PartialEq, Deserialize, Serialize)]
#[serde(rename_all = "camelCase", default)]
pub struct GetAuthorizationTokenRequest {
    pub registry_ids: Vec<String>,
}

#[derive(Clone, Debug, Default, PartialEq, Deserialize, Serialize)]
#[serde(rename_all = "camelCase", default)]
pub struct GetAuthorizationTokenResponse {
    pub authorization_data: Vec<AuthorizationData>,
}

#[derive(Clone, Debug, Default, PartialEq, Deserialize, Serialize)]
#[serde(rename_all = "camelCase", default)]
pub struct AuthorizationData {
    pub authorization_token: String,
    pub expires_at: f64,
    pub proxy_endpoint: String,
}
