//! Calls AWS operations: encodes, signs, sends, retries, decodes.
//!
//! The same client speaks to the region in this process, to another host and to the real AWS; only
//! its [`Exchange`] and [`Endpoints`] differ.

mod config;
mod exchange;
mod retry;

use std::sync::Arc;

use clock::Clock;
use http::{HeaderValue, Request, Uri, header::HOST};
use serde_json::Value;
use transport::BoxError;

pub use self::{
    config::{ConfigError, Endpoints, from_environment},
    exchange::Exchange,
};
use crate::{
    Fault, Operation,
    codec::{self, RawRequest},
    credentials::{CredentialsError, Provider},
    service::{self, Protocol, Service},
    sigv4::Signer,
    tree,
};

/// See the module. Cheap to clone.
#[derive(Clone)]
pub struct Client {
    config: Arc<Config>,
}

/// What a [`Client`] is made of.
pub struct Config {
    pub region: String,
    pub endpoints: Endpoints,
    pub exchange: Exchange,
    /// `None`: requests go out unsigned.
    pub credentials: Option<Provider>,
    pub clock: Clock,
    /// How often a call is tried in all.
    pub attempts: u32,
}

/// Why a call gave no response.
#[derive(Debug, thiserror::Error)]
pub enum CallError {
    #[error("{service}:{action} failed: {fault}")]
    Service { service: &'static str, action: &'static str, fault: Fault },
    #[error("failed to reach {service} for {action}")]
    Transport {
        service: &'static str,
        action: &'static str,
        #[source]
        source: BoxError,
    },
    #[error("no credentials for {service}:{action}")]
    Credentials {
        service: &'static str,
        action: &'static str,
        #[source]
        source: CredentialsError,
    },
    #[error("{service}:{action} is not a call that can be made")]
    Request {
        service: &'static str,
        action: &'static str,
        #[source]
        source: BoxError,
    },
    #[error("{service}:{action} answered something else than its protocol says")]
    Response {
        service: &'static str,
        action: &'static str,
        #[source]
        source: BoxError,
    },
}

impl CallError {
    /// The service's fault, if it answered one.
    pub fn fault(&self) -> Option<&Fault> {
        match self {
            Self::Service { fault, .. } => Some(fault),
            _ => None,
        }
    }

    /// Whether the service answered this code.
    pub fn is(&self, code: &str) -> bool {
        self.fault().is_some_and(|it| it.code == code)
    }
}

impl Client {
    pub fn new(config: Config) -> Self {
        Self { config: Arc::new(config) }
    }

    pub fn region(&self) -> &str {
        &self.config.region
    }

    /// Calls `O`, again where the failure may pass.
    pub async fn call<O: Operation>(&self, request: O::Request) -> Result<O::Response, CallError> {
        let (service, action) = (O::SERVICE, O::ACTION);
        let unusable = |source: BoxError| CallError::Request { service, action, source };
        let known = service::find(service).ok_or_else(|| unusable("unknown service".into()))?;
        let tree = serde_json::to_value(request).map_err(|it| unusable(it.into()))?;
        let raw = codec::encode_request(known, action, O::HTTP, tree);
        let mut attempt = 1;
        let tree = loop {
            match self.attempt::<O>(known, &raw).await {
                Err(error) if attempt < self.config.attempts && retry::may_pass(&error) => {
                    tracing::debug!(service, action, attempt, %error, "will call again");
                    tokio::time::sleep(retry::pause(attempt)).await;
                    attempt += 1;
                }
                result => break result?,
            }
        };
        let shaped = match known.protocol {
            Protocol::Query | Protocol::Ec2 => tree::from_text(tree),
            Protocol::RestJson | Protocol::Json11 | Protocol::Json10 => tree::from_json(tree),
        };
        let unreadable = |source| CallError::Response { service, action, source };
        shaped.map_err(|it| unreadable(it.into()))
    }

    async fn attempt<O: Operation>(
        &self,
        known: &'static Service,
        raw: &RawRequest,
    ) -> Result<Value, CallError> {
        let (service, action) = (O::SERVICE, O::ACTION);
        let request = self.prepare::<O>(known, raw).await?;
        let response = self
            .config
            .exchange
            .send(request)
            .await
            .map_err(|source| CallError::Transport { service, action, source })?;
        match codec::decode_response(known, action, &response) {
            Ok(Ok(tree)) => Ok(tree),
            Ok(Err(fault)) => Err(CallError::Service { service, action, fault }),
            Err(source) => Err(CallError::Response { service, action, source: source.into() }),
        }
    }

    /// Signed anew for each attempt: the date is part of the signature.
    async fn prepare<O: Operation>(
        &self,
        known: &Service,
        raw: &RawRequest,
    ) -> Result<Request<bytes::Bytes>, CallError> {
        let (service, action) = (O::SERVICE, O::ACTION);
        let unusable = |source: BoxError| CallError::Request { service, action, source };
        let endpoint = self.config.endpoints.url(known, &self.config.region);
        let url = format!("{}{}", endpoint.trim_end_matches('/'), raw.path_and_query);
        let uri: Uri = url.parse().map_err(|it: http::uri::InvalidUri| unusable(it.into()))?;
        let authority = uri.authority().ok_or_else(|| unusable("the URL has no host".into()))?;
        let host = HeaderValue::from_str(authority.as_str()).map_err(|it| unusable(it.into()))?;
        let request = Request::builder().method(raw.method).uri(uri).body(raw.body.clone());
        let (mut parts, body) = request.map_err(|it| unusable(it.into()))?.into_parts();
        parts.headers = raw.headers.clone();
        parts.headers.insert(HOST, host);
        if let Some(provider) = &self.config.credentials {
            let credentials = provider
                .credentials()
                .await
                .map_err(|source| CallError::Credentials { service, action, source })?;
            let signer = Signer {
                credentials: &credentials,
                region: &self.config.region,
                service: known.name,
                now: self.config.clock.now(),
            };
            signer.sign(&mut parts, &body);
        }
        Ok(Request::from_parts(parts, body))
    }
}

#[cfg(test)]
mod tests;
