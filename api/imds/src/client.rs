//! A client that keeps its session token.

use std::{sync::Arc, time::Duration};

use http::{Method, Request, StatusCode};
use serde::de::DeserializeOwned;
use tokio::{sync::Mutex, time::Instant};
use transport::{BoxError, HttpClient, Place};

use crate::{IdentityDocument, SecurityCredentials, paths};

/// Where IMDS is, unless `AWS_EC2_METADATA_SERVICE_ENDPOINT` says otherwise.
pub(crate) const ENDPOINT: &str = "http://169.254.169.254";

/// A reply whose IP TTL ended at a hop never comes: that is found out after this long.
const LIMIT: Duration = Duration::from_secs(2);
/// A token is renewed when less than this is left of it.
const RENEW_BEFORE: Duration = Duration::from_secs(60);
/// User data has at most 16 KiB; a list of credentials or interfaces has less.
const BODY_LIMIT: usize = 1 << 20;

/// See the module. Clones share the token.
#[derive(Clone, Debug)]
pub struct ImdsClient {
    endpoint: Arc<str>,
    http: HttpClient,
    ttl: Duration,
    session: Arc<Mutex<Option<Session>>>,
}

#[derive(Clone, Debug)]
struct Session {
    token: String,
    until: Instant,
}

/// Why IMDS did not answer.
#[derive(Debug, thiserror::Error)]
pub enum FetchError {
    #[error("failed to get a metadata session token from `{endpoint}`")]
    Token {
        endpoint: String,
        #[source]
        source: BoxError,
    },
    #[error("failed to ask the metadata service for `{path}`")]
    Send {
        path: String,
        #[source]
        source: BoxError,
    },
    #[error("the metadata service answered {status} for `{path}`")]
    Refused { path: String, status: StatusCode },
    #[error("the metadata service's `{path}` is not what it should be")]
    Content {
        path: String,
        #[source]
        source: BoxError,
    },
}

impl ImdsClient {
    /// Asks the service that this process's own network leads to.
    pub fn new() -> Self {
        Self::at(ENDPOINT, Place::Here)
    }

    /// Asks the service at `endpoint`, from `place`.
    pub fn at(endpoint: &str, place: Place) -> Self {
        Self {
            endpoint: endpoint.trim_end_matches('/').into(),
            http: HttpClient::new(place, None, LIMIT),
            ttl: Duration::from_secs(paths::MAX_TTL.into()),
            session: Arc::default(),
        }
    }

    /// The text at `path` (see [`paths`]); `None` when there is none.
    pub async fn text(&self, path: &str) -> Result<Option<String>, FetchError> {
        let Some(bytes) = self.bytes(path).await? else { return Ok(None) };
        let content = |error: std::string::FromUtf8Error| FetchError::Content {
            path: path.to_owned(),
            source: error.into(),
        };
        String::from_utf8(bytes).map(Some).map_err(content)
    }

    /// The bytes at `path`: user data need not be text.
    pub async fn bytes(&self, path: &str) -> Result<Option<Vec<u8>>, FetchError> {
        let mut answer = self.ask(path).await?;
        if answer.0 == StatusCode::UNAUTHORIZED {
            // The token was forgotten with a restart of the service.
            *self.session.lock().await = None;
            answer = self.ask(path).await?;
        }
        match answer {
            (StatusCode::OK, body) => Ok(Some(body)),
            (StatusCode::NOT_FOUND, _) => Ok(None),
            (status, _) => Err(FetchError::Refused { path: path.to_owned(), status }),
        }
    }

    /// The lines at `path`: a listing, or a list of addresses.
    pub async fn lines(&self, path: &str) -> Result<Vec<String>, FetchError> {
        let text = self.text(path).await?.unwrap_or_default();
        Ok(text.lines().filter(|line| !line.is_empty()).map(str::to_owned).collect())
    }

    /// The text at `path`, which must be there.
    pub async fn required(&self, path: &str) -> Result<String, FetchError> {
        let missing =
            || FetchError::Refused { path: path.to_owned(), status: StatusCode::NOT_FOUND };
        self.text(path).await?.ok_or_else(missing)
    }

    pub async fn identity_document(&self) -> Result<IdentityDocument, FetchError> {
        self.json(paths::IDENTITY_DOCUMENT).await
    }

    /// The name of the instance's role, if it has one.
    pub async fn role(&self) -> Result<Option<String>, FetchError> {
        Ok(self.lines(paths::SECURITY_CREDENTIALS).await?.into_iter().next())
    }

    /// Credentials of `role`.
    pub async fn credentials(&self, role: &str) -> Result<SecurityCredentials, FetchError> {
        self.json(&format!("{}{role}", paths::SECURITY_CREDENTIALS)).await
    }

    async fn json<T: DeserializeOwned>(&self, path: &str) -> Result<T, FetchError> {
        let text = self.required(path).await?;
        serde_json::from_str(&text)
            .map_err(|error| FetchError::Content { path: path.to_owned(), source: error.into() })
    }

    async fn ask(&self, path: &str) -> Result<(StatusCode, Vec<u8>), FetchError> {
        let failed = |source| FetchError::Send { path: path.to_owned(), source };
        let token = self.token().await?;
        let request = Request::builder()
            .uri(format!("{}/latest/{path}", self.endpoint))
            .header(paths::TOKEN_HEADER, token)
            .body(transport::empty())
            .map_err(|error| failed(error.into()))?;
        let response = self.http.fetch(request, BODY_LIMIT).await.map_err(failed)?;
        Ok((response.status(), response.into_body().into()))
    }

    async fn token(&self) -> Result<String, FetchError> {
        let mut session = self.session.lock().await;
        if let Some(Session { token, until }) = &*session
            && *until > Instant::now() + RENEW_BEFORE
        {
            return Ok(token.clone());
        }
        let failed = |source| FetchError::Token { endpoint: self.endpoint.to_string(), source };
        let request = Request::builder()
            .method(Method::PUT)
            .uri(format!("{}/latest/{}", self.endpoint, paths::TOKEN))
            .header(paths::TTL_HEADER, self.ttl.as_secs())
            .body(transport::empty())
            .map_err(|error| failed(error.into()))?;
        let asked = Instant::now();
        let response = self.http.fetch(request, BODY_LIMIT).await.map_err(failed)?;
        if response.status() != StatusCode::OK {
            let path = paths::TOKEN.to_owned();
            return Err(FetchError::Refused { path, status: response.status() });
        }
        let token =
            String::from_utf8(response.into_body().into()).map_err(|error| failed(error.into()))?;
        *session = Some(Session { token: token.clone(), until: asked + self.ttl });
        Ok(token)
    }
}

impl Default for ImdsClient {
    fn default() -> Self {
        Self::new()
    }
}
