//! STS: the shapes of its operations, and nothing else.
//!
//! API reference: AWS Security Token Service, version 2011-06-15.

use aws_wire::{operations, structures};

operations! {
    service "sts", case "PascalCase";

    /// Says who calls.
    GetCallerIdentity(GetCallerIdentityRequest {}) -> GetCallerIdentityResponse {
        pub user_id: String,
        pub account: String,
        pub arn: String,
    }

    /// Gives credentials of a role.
    AssumeRole(AssumeRoleRequest {
        pub role_arn: String,
        pub role_session_name: String,
        pub duration_seconds: Option<i64>,
        pub policy: Option<String>,
        #[serde(default)]
        pub policy_arns: Vec<PolicyDescriptor>,
        #[serde(default)]
        pub tags: Vec<Tag>,
        #[serde(default)]
        pub transitive_tag_keys: Vec<String>,
        pub external_id: Option<String>,
        pub serial_number: Option<String>,
        pub token_code: Option<String>,
        pub source_identity: Option<String>,
    }) -> AssumeRoleResponse {
        pub credentials: Credentials,
        pub assumed_role_user: AssumedRoleUser,
        pub packed_policy_size: Option<i64>,
        pub source_identity: Option<String>,
    }

    /// Gives credentials of a role to the holder of an identity provider's token.
    AssumeRoleWithWebIdentity(AssumeRoleWithWebIdentityRequest {
        pub role_arn: String,
        pub role_session_name: String,
        pub web_identity_token: String,
        pub duration_seconds: Option<i64>,
        pub policy: Option<String>,
        #[serde(default)]
        pub policy_arns: Vec<PolicyDescriptor>,
    }) -> AssumeRoleWithWebIdentityResponse {
        pub credentials: Credentials,
        pub assumed_role_user: AssumedRoleUser,
        pub subject_from_web_identity_token: String,
        pub provider: String,
        pub audience: String,
    }

    /// Gives temporary credentials of the caller.
    GetSessionToken(GetSessionTokenRequest {
        pub duration_seconds: Option<i64>,
        pub serial_number: Option<String>,
        pub token_code: Option<String>,
    }) -> GetSessionTokenResponse { pub credentials: Credentials }

    /// Says whose account an access key belongs to.
    GetAccessKeyInfo(GetAccessKeyInfoRequest { pub access_key_id: String })
        -> GetAccessKeyInfoResponse { pub account: String }

    /// Decodes what a denial of EC2 holds.
    DecodeAuthorizationMessage(DecodeAuthorizationMessageRequest { pub encoded_message: String })
        -> DecodeAuthorizationMessageResponse { pub decoded_message: String }
}

structures! {
    case "PascalCase";

    Credentials {
        pub access_key_id: String,
        pub secret_access_key: String,
        pub session_token: String,
        pub expiration: String,
    }

    AssumedRoleUser {
        pub assumed_role_id: String,
        pub arn: String,
    }

    /// A managed policy that limits the session. STS spells this one in lower case.
    PolicyDescriptor {
        #[serde(rename = "arn")]
        pub arn: String,
    }

    Tag {
        pub key: String,
        #[serde(default)]
        pub value: String,
    }
}
