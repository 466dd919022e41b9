//! How webhooks are reached: over the network, or in this process over the same bytes.

use std::{convert::Infallible, fmt, time::Duration};

use futures::future::BoxFuture;
use http::{Method, Request, Response, StatusCode, Uri, header::CONTENT_TYPE};
use serde_json::Value;
use tower::{Service, ServiceExt, util::BoxCloneSyncService};
use transport::{Body, BoxError, HttpClient};

/// A review is a small object; anything longer is not one.
const ANSWER_LIMIT: usize = 1 << 20;

/// Upstream's default for webhooks of the control plane.
const TIME_LIMIT: Duration = Duration::from_secs(30);

/// Whom to ask. Cheap to clone.
#[derive(Clone)]
pub struct Hook {
    uri: Uri,
    peer: Peer,
}

/// Who answers: a server somewhere, or a service of this process.
#[derive(Clone)]
pub struct Peer(Reached);

#[derive(Clone)]
enum Reached {
    Remote(HttpClient),
    Local(Local),
}

impl Peer {
    pub fn remote(client: HttpClient) -> Self {
        Self(Reached::Remote(client))
    }

    pub fn local<S>(service: S) -> Self
    where
        S: Service<Request<Body>, Response = Response<Body>, Error = Infallible>
            + Clone
            + Send
            + Sync
            + 'static,
        S::Future: Send,
    {
        Self(Reached::Local(BoxCloneSyncService::new(service)))
    }

    /// The answer to one request, which is not long.
    pub(super) async fn send(
        &self,
        request: Request<Body>,
    ) -> Result<(StatusCode, bytes::Bytes), BoxError> {
        match &self.0 {
            Reached::Remote(client) => {
                let answer = client.fetch(request, ANSWER_LIMIT).await?;
                Ok((answer.status(), answer.into_body()))
            }
            Reached::Local(service) => {
                let answer = answered(service.clone(), request).await?;
                let status = answer.status();
                let body = transport::collect(answer.into_body(), ANSWER_LIMIT).await?;
                Ok((status, body.ok_or("the answer is too long")?))
            }
        }
    }
}

impl fmt::Debug for Peer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let kind = match self.0 {
            Reached::Remote(_) => "remote",
            Reached::Local(_) => "local",
        };
        f.debug_tuple("Peer").field(&kind).finish()
    }
}

/// Why a webhook gave no review.
#[derive(Debug, thiserror::Error)]
pub enum HookError {
    #[error("`{uri}` did not answer within {limit:?}")]
    TimedOut { uri: Uri, limit: Duration },
    #[error("`{uri}` could not be reached")]
    Unreachable {
        uri: Uri,
        #[source]
        source: BoxError,
    },
    #[error("`{uri}` answered {status}")]
    Refused { uri: Uri, status: StatusCode },
    #[error("`{uri}` answered with something that is not a review")]
    Malformed { uri: Uri },
}

impl Hook {
    pub fn remote(uri: Uri, client: HttpClient) -> Self {
        Self { uri, peer: Peer::remote(client) }
    }

    /// `path` is the path that `service` is asked at.
    pub fn local<S>(path: &'static str, service: S) -> Self
    where
        S: Service<Request<Body>, Response = Response<Body>, Error = Infallible>
            + Clone
            + Send
            + Sync
            + 'static,
        S::Future: Send,
    {
        Self { uri: Uri::from_static(path), peer: Peer::local(service) }
    }

    /// Posts a review and reads the answered one.
    pub async fn call(&self, review: &Value) -> Result<Value, HookError> {
        let uri = || self.uri.clone();
        let asked = tokio::time::timeout(TIME_LIMIT, self.ask(review)).await;
        let answer = asked
            .map_err(|_| HookError::TimedOut { uri: uri(), limit: TIME_LIMIT })?
            .map_err(|source| HookError::Unreachable { uri: uri(), source })?;
        let (status, body) = answer;
        // A refused token may come as 401 or 403 with a review in the body.
        match serde_json::from_slice::<Value>(&body) {
            Ok(review) if review.get("status").is_some_and(Value::is_object) => Ok(review),
            _ if !status.is_success() => Err(HookError::Refused { uri: uri(), status }),
            _ => Err(HookError::Malformed { uri: uri() }),
        }
    }

    async fn ask(&self, review: &Value) -> Result<(StatusCode, bytes::Bytes), BoxError> {
        let request = Request::builder()
            .method(Method::POST)
            .uri(self.uri.clone())
            .header(CONTENT_TYPE, "application/json")
            .body(transport::full(review.to_string()))?;
        self.peer.send(request).await
    }
}

type Local = BoxCloneSyncService<Request<Body>, Response<Body>, Infallible>;

/// Boxed, or the compiler cannot see that whoever awaits it is `Send`.
fn answered(
    service: Local,
    request: Request<Body>,
) -> BoxFuture<'static, Result<Response<Body>, Infallible>> {
    Box::pin(service.oneshot(request))
}

impl fmt::Debug for Hook {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Hook").field("uri", &self.uri).finish_non_exhaustive()
    }
}
