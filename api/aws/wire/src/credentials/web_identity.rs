//! Credentials for a service account's token: `sts:AssumeRoleWithWebIdentity`.

use std::path::PathBuf;

use futures::future::BoxFuture;
use http::{Request, header::CONTENT_TYPE};
use serde_json::Value;
use transport::BoxError;

use super::{Credentials, CredentialsError, ProvideCredentials};
use crate::{
    client::Exchange,
    codec, percent,
    service::{self, Service},
};

/// `AWS_ROLE_ARN` with `AWS_WEB_IDENTITY_TOKEN_FILE`. Wrap it in [`Cached`](super::Cached).
pub struct WebIdentity {
    /// The STS endpoint's URL.
    pub endpoint: String,
    pub exchange: Exchange,
    pub role_arn: String,
    pub token_file: PathBuf,
    pub session_name: String,
}

const ACTION: &str = "AssumeRoleWithWebIdentity";

impl WebIdentity {
    async fn fetch(&self) -> Result<Credentials, CredentialsError> {
        let origin = format!("role `{}` by web identity", self.role_arn);
        let failed = |source: BoxError| CredentialsError::Fetch { origin: origin.clone(), source };
        let token =
            tokio::fs::read_to_string(&self.token_file).await.map_err(|it| failed(it.into()))?;
        let sts: &Service = service::find("sts").ok_or_else(|| failed("no STS".into()))?;
        let body = percent::join([
            ("Action", ACTION),
            ("Version", sts.version),
            ("RoleArn", &self.role_arn),
            ("RoleSessionName", &self.session_name),
            ("WebIdentityToken", token.trim()),
        ]);
        let request = Request::post(format!("{}/", self.endpoint.trim_end_matches('/')))
            .header(CONTENT_TYPE, "application/x-www-form-urlencoded")
            .body(body.into())
            .map_err(|it| failed(it.into()))?;
        let response = self.exchange.send(request).await.map_err(failed)?;
        let tree = codec::decode_response(sts, ACTION, &response)
            .map_err(|it| failed(it.into()))?
            .map_err(|fault| CredentialsError::Refused {
                origin: origin.clone(),
                reason: fault.to_string(),
            })?;
        let field = |name: &str| {
            tree.get("Credentials").and_then(|it| it.get(name)).and_then(Value::as_str)
        };
        let (Some(id), Some(secret)) = (field("AccessKeyId"), field("SecretAccessKey")) else {
            return Err(failed("the response has no credentials".into()));
        };
        Ok(Credentials {
            session_token: field("SessionToken").map(str::to_owned),
            expires: field("Expiration").and_then(|it| it.parse().ok()),
            ..Credentials::new(id, secret)
        })
    }
}

impl ProvideCredentials for WebIdentity {
    fn credentials(&self) -> BoxFuture<'_, Result<Credentials, CredentialsError>> {
        Box::pin(self.fetch())
    }
}
