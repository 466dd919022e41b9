//! The identity providers that STS can ask for their keys: the region's own clusters, over their
//! public pages.
//!
//! Deviation: identity providers outside of the region cannot be asked; their tokens are refused as
//! those of a provider whose keys cannot be retrieved.

use futures::future::BoxFuture;
use http::{Request, StatusCode, Uri};
use region_eks::IssuerService;
use region_sts::{FetchError, IssuerDocuments};
use serde_json::Value;
use tower::ServiceExt;

const LIMIT: usize = 1 << 20;

/// See the module.
pub(crate) struct Issuers {
    pages: IssuerService,
}

impl Issuers {
    pub(crate) fn new(pages: IssuerService) -> Self {
        Self { pages }
    }

    async fn fetch(&self, url: &str) -> Result<Value, FetchError> {
        let uri: Uri = url.parse().map_err(|_| FetchError::Missing)?;
        let authority = uri.authority().map(|it| it.as_str().to_owned());
        let request = Request::get(uri).body(()).map_err(|_| FetchError::Missing)?;
        if !self.pages.is_asked(request.headers(), authority.as_deref()) {
            return Err(FetchError::Missing);
        }
        let Ok(answer) = self.pages.clone().oneshot(request).await;
        match answer.status() {
            StatusCode::OK => {}
            status if status.is_server_error() => return Err(FetchError::Unreachable),
            _ => return Err(FetchError::Missing),
        }
        let body = transport::collect(answer.into_body(), LIMIT).await;
        let body = body.ok().flatten().ok_or(FetchError::Unreachable)?;
        serde_json::from_slice(&body).map_err(|_| FetchError::Missing)
    }
}

impl IssuerDocuments for Issuers {
    fn get<'a>(&'a self, url: &'a str) -> BoxFuture<'a, Result<Value, FetchError>> {
        Box::pin(self.fetch(url))
    }
}
