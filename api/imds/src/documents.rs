//! The JSON documents that IMDS serves.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

/// `dynamic/instance-identity/document`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct IdentityDocument {
    pub account_id: String,
    pub architecture: String,
    pub availability_zone: String,
    pub billing_products: Option<Vec<String>>,
    pub devpay_product_codes: Option<Vec<String>>,
    pub marketplace_product_codes: Option<Vec<String>>,
    pub image_id: String,
    pub instance_id: String,
    pub instance_type: String,
    pub kernel_id: Option<String>,
    pub pending_time: String,
    pub private_ip: String,
    pub ramdisk_id: Option<String>,
    pub region: String,
    pub version: String,
}

/// `meta-data/iam/info`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct IamInfo {
    pub code: String,
    pub last_updated: String,
    pub instance_profile_arn: String,
    pub instance_profile_id: String,
}

/// `meta-data/iam/security-credentials/ROLE`.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct SecurityCredentials {
    /// `Success`; on any other the rest is empty.
    pub code: String,
    pub last_updated: Timestamp,
    #[serde(rename = "Type")]
    pub kind: String,
    pub access_key_id: String,
    pub secret_access_key: String,
    pub token: String,
    pub expiration: Timestamp,
}

impl std::fmt::Debug for SecurityCredentials {
    /// Without the secrets.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("SecurityCredentials")
            .field("access_key_id", &self.access_key_id)
            .field("expiration", &self.expiration)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn credentials_have_amazons_names_and_no_secret_in_their_debug_form() {
        let credentials = SecurityCredentials {
            code: "Success".to_owned(),
            last_updated: Timestamp::UNIX_EPOCH,
            kind: "AWS-HMAC".to_owned(),
            access_key_id: "ASIA1".to_owned(),
            secret_access_key: "hidden".to_owned(),
            token: "hidden".to_owned(),
            expiration: Timestamp::UNIX_EPOCH,
        };
        let json = serde_json::to_value(&credentials).unwrap();
        for key in ["Code", "Type", "AccessKeyId", "SecretAccessKey", "Token", "Expiration"] {
            assert!(json.get(key).is_some(), "{key}");
        }
        assert!(!format!("{credentials:?}").contains("hidden"));
    }
}
