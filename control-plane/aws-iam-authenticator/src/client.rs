//! The client's side: makes a token from AWS credentials.

use std::time::Duration;

use aws_wire::{
    credentials::{Credentials, CredentialsError, ProvideCredentials},
    sigv4::{self, Signer},
};
use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use clock::Clock;
use http::Uri;
use jiff::{Timestamp, ToSpan};
use serde_json::{Value, json};

use crate::token::{CLUSTER_HEADER, PREFIX};

/// Upstream signs for as long; STS ignores it and accepts a quarter of an hour.
const SIGNED_FOR: Duration = Duration::from_secs(60);

/// A minute less than a token lives, so that nobody uses it in its last second.
const LIFE_MINUTES: i64 = 14;

/// A token and when to replace it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct IssuedToken {
    pub token: String,
    pub expires: Timestamp,
}

/// The version of `client.authentication.k8s.io` that the caller speaks.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum ExecVersion {
    #[default]
    V1Beta1,
    V1,
}

/// Why no token could be made.
#[derive(Debug, thiserror::Error)]
pub enum IssueTokenError {
    #[error("failed to get AWS credentials")]
    Credentials {
        #[source]
        source: CredentialsError,
    },
    #[error("`{endpoint}` is not the URL of an STS endpoint")]
    Endpoint { endpoint: String },
}

/// Makes a token for `cluster` at the STS endpoint `endpoint` (`https://sts.REGION.amazonaws.com`).
pub async fn issue_token(
    provider: &dyn ProvideCredentials,
    endpoint: &str,
    region: &str,
    cluster: &str,
    clock: Clock,
) -> Result<IssuedToken, IssueTokenError> {
    let credentials = provider.credentials().await;
    let credentials = credentials.map_err(|source| IssueTokenError::Credentials { source })?;
    issue(&credentials, endpoint, region, cluster, clock.now())
}

pub(crate) fn issue(
    credentials: &Credentials,
    endpoint: &str,
    region: &str,
    cluster: &str,
    now: Timestamp,
) -> Result<IssuedToken, IssueTokenError> {
    let unusable = || IssueTokenError::Endpoint { endpoint: endpoint.to_owned() };
    let base = endpoint.trim_end_matches('/');
    let url: Uri = format!("{base}/?Action=GetCallerIdentity&Version=2011-06-15")
        .parse()
        .map_err(|_| unusable())?;
    let signer = Signer { credentials, region, service: "sts", now };
    let signed = sigv4::presign(&signer, &url, &[(CLUSTER_HEADER, cluster)], SIGNED_FOR);
    let signed = signed.ok_or_else(unusable)?;
    let token = format!("{PREFIX}{}", URL_SAFE_NO_PAD.encode(signed));
    Ok(IssuedToken { token, expires: now + LIFE_MINUTES.minutes() })
}

impl IssuedToken {
    /// As an exec plugin answers it.
    pub fn exec_credential(&self, version: ExecVersion) -> Value {
        let version = match version {
            ExecVersion::V1Beta1 => "v1beta1",
            ExecVersion::V1 => "v1",
        };
        json!({
            "kind": "ExecCredential",
            "apiVersion": format!("client.authentication.k8s.io/{version}"),
            "spec": {},
            "status": {
                "expirationTimestamp": self.expires.strftime("%Y-%m-%dT%H:%M:%SZ").to_string(),
                "token": self.token,
            },
        })
    }
}

impl ExecVersion {
    /// From `KUBERNETES_EXEC_INFO`; what cannot be read means upstream's default.
    pub fn from_exec_info(info: &str) -> Self {
        let info: Value = serde_json::from_str(info).unwrap_or_default();
        match info.get("apiVersion").and_then(Value::as_str) {
            Some("client.authentication.k8s.io/v1") => Self::V1,
            _ => Self::V1Beta1,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::TokenRules;

    #[test]
    fn an_issued_token_passes_the_servers_rules_until_after_it_is_replaced() {
        let now = Timestamp::constant(1_800_000_000, 0);
        let credentials = Credentials::new("AKIAEXAMPLE", "secret");
        let endpoint = "https://sts.us-east-1.amazonaws.com";
        let issued = issue(&credentials, endpoint, "us-east-1", "stead", now).unwrap();
        assert!(TokenRules::default().check(&issued.token, issued.expires).is_ok());
    }

    #[test]
    fn the_answer_speaks_the_callers_version() {
        let info = r#"{"apiVersion":"client.authentication.k8s.io/v1","kind":"ExecCredential"}"#;
        assert_eq!(ExecVersion::from_exec_info(info), ExecVersion::V1);
        assert_eq!(ExecVersion::from_exec_info(""), ExecVersion::V1Beta1);
        let issued =
            IssuedToken { token: "t".into(), expires: Timestamp::constant(1_800_000_000, 0) };
        let shown = issued.exec_credential(ExecVersion::V1);
        assert_eq!(shown["apiVersion"], "client.authentication.k8s.io/v1");
        assert_eq!(shown["status"]["expirationTimestamp"], "2027-01-15T08:00:00Z");
    }
}
