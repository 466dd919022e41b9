//! A container's credentials endpoint: ECS's protocol, which EKS Pod Identity uses.

use std::{path::PathBuf, time::Duration};

use futures::future::BoxFuture;
use http::{Request, header::AUTHORIZATION};
use transport::{BoxError, HttpClient, Place};

use super::{Credentials, CredentialsError, ProvideCredentials, parse};

/// `AWS_CONTAINER_CREDENTIALS_FULL_URI` with its token file. Wrap it in [`Cached`](super::Cached).
pub struct ContainerEndpoint {
    uri: String,
    token_file: Option<PathBuf>,
    http: HttpClient,
}

impl ContainerEndpoint {
    pub fn new(uri: impl Into<String>, token_file: Option<PathBuf>) -> Self {
        let http = HttpClient::new(Place::Here, None, Duration::from_secs(5));
        Self { uri: uri.into(), token_file, http }
    }

    async fn fetch(&self) -> Result<Credentials, CredentialsError> {
        let failed =
            |source: BoxError| CredentialsError::Fetch { origin: self.uri.clone(), source };
        let mut request = Request::builder().uri(&self.uri);
        if let Some(path) = &self.token_file {
            // Read each time: the kubelet renews it.
            let token = tokio::fs::read_to_string(path).await.map_err(|it| failed(it.into()))?;
            request = request.header(AUTHORIZATION, token.trim());
        }
        let request = request.body(transport::empty()).map_err(|it| failed(it.into()))?;
        let response = self.http.fetch(request, 64 * 1024).await.map_err(failed)?;
        if !response.status().is_success() {
            let reason = format!(
                "{}: {}",
                response.status(),
                String::from_utf8_lossy(response.body()).trim()
            );
            return Err(CredentialsError::Refused { origin: self.uri.clone(), reason });
        }
        parse(&self.uri, response.body())
    }
}

impl ProvideCredentials for ContainerEndpoint {
    fn credentials(&self) -> BoxFuture<'_, Result<Credentials, CredentialsError>> {
        Box::pin(self.fetch())
    }
}
