//! The role of the instance that this process runs on, from IMDSv2.

use std::time::Duration;

use bytes::Bytes;
use futures::future::BoxFuture;
use http::{Request, Response};
use transport::{BoxError, HttpClient, Place};

use super::{Credentials, CredentialsError, ProvideCredentials, parse};

const DEFAULT_ENDPOINT: &str = "http://169.254.169.254";
const ROLE_PATH: &str = "/latest/meta-data/iam/security-credentials/";
const LIMIT: Duration = Duration::from_secs(5);

/// See the module. Wrap it in [`Cached`](super::Cached).
pub struct InstanceRole {
    endpoint: String,
    http: HttpClient,
}

impl InstanceRole {
    /// IMDS at its well-known address.
    pub fn new() -> Self {
        Self::at(DEFAULT_ENDPOINT)
    }

    pub fn at(endpoint: &str) -> Self {
        let http = HttpClient::new(Place::Here, None, LIMIT);
        Self { endpoint: endpoint.trim_end_matches('/').to_owned(), http }
    }

    async fn fetch(&self) -> Result<Credentials, CredentialsError> {
        let token = self.send("PUT", "/latest/api/token", "").await?;
        let role = self.send("GET", ROLE_PATH, &token).await?;
        let role = role.lines().next().unwrap_or_default().trim();
        if role.is_empty() {
            return Err(self.refused("the instance has no profile"));
        }
        let document = self.send("GET", &format!("{ROLE_PATH}{role}"), &token).await?;
        parse("instance metadata", document.as_bytes())
    }

    async fn send(
        &self,
        method: &str,
        path: &str,
        token: &str,
    ) -> Result<String, CredentialsError> {
        let request = Request::builder().method(method).uri(format!("{}{path}", self.endpoint));
        let request = match method {
            "PUT" => request.header("x-aws-ec2-metadata-token-ttl-seconds", "21600"),
            _ => request.header("x-aws-ec2-metadata-token", token),
        };
        let failed = |source: BoxError| CredentialsError::Fetch {
            origin: "instance metadata".to_owned(),
            source,
        };
        let request = request.body(transport::empty()).map_err(|it| failed(it.into()))?;
        let response: Response<Bytes> =
            self.http.fetch(request, 64 * 1024).await.map_err(failed)?;
        if !response.status().is_success() {
            return Err(self.refused(&format!("{path}: {}", response.status())));
        }
        Ok(String::from_utf8_lossy(response.body()).into_owned())
    }

    fn refused(&self, reason: &str) -> CredentialsError {
        CredentialsError::Refused { origin: self.endpoint.clone(), reason: reason.to_owned() }
    }
}

impl Default for InstanceRole {
    fn default() -> Self {
        Self::new()
    }
}

impl ProvideCredentials for InstanceRole {
    fn credentials(&self) -> BoxFuture<'_, Result<Credentials, CredentialsError>> {
        Box::pin(self.fetch())
    }
}
