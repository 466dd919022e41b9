//! Performs a checked URL, and reads who signed it.

use std::time::Duration;

use aws_wire::{client::Exchange, codec, service};
use bytes::Bytes;
use http::{
    HeaderValue, Method, Request, Response, StatusCode,
    header::{ACCEPT, HOST},
};
use serde_json::Value;
use transport::BoxError;

use crate::{Identity, VerifiedUrl, token::CLUSTER_HEADER};

const LIMIT: Duration = Duration::from_secs(10);

/// Why STS did not say who it is.
#[derive(Debug, thiserror::Error)]
pub(crate) enum StsError {
    #[error("failed to ask STS")]
    Send {
        #[source]
        source: BoxError,
    },
    #[error("STS did not answer within {LIMIT:?}")]
    TimedOut,
    #[error("STS is throttling")]
    Throttled,
    #[error("error from AWS (expected 200, got {status}): {body}")]
    Refused { status: StatusCode, body: String },
    #[error("STS answered something that is no identity")]
    Malformed,
}

/// Redirects are not followed: [`Exchange`] has no way to.
pub(crate) async fn caller_identity(
    exchange: &Exchange,
    url: &VerifiedUrl,
    cluster: &str,
) -> Result<Identity, StsError> {
    let request = request(url, cluster).ok_or(StsError::Malformed)?;
    let sent = tokio::time::timeout(LIMIT, exchange.send(request)).await;
    let answer =
        sent.map_err(|_| StsError::TimedOut)?.map_err(|source| StsError::Send { source })?;
    if answer.status() == StatusCode::OK {
        return identity(&answer, &url.access_key_id).ok_or(StsError::Malformed);
    }
    let body = String::from_utf8_lossy(answer.body()).into_owned();
    if answer.status() == StatusCode::TOO_MANY_REQUESTS || body.contains("Throttling") {
        return Err(StsError::Throttled);
    }
    Err(StsError::Refused { status: answer.status(), body })
}

fn request(url: &VerifiedUrl, cluster: &str) -> Option<Request<Bytes>> {
    let host = url.uri.authority()?.as_str();
    Request::builder()
        .method(Method::GET)
        .uri(url.uri.clone())
        .header(HOST, HeaderValue::from_str(host).ok()?)
        .header(ACCEPT, "application/json")
        .header(CLUSTER_HEADER, HeaderValue::from_str(cluster).ok()?)
        .body(Bytes::new())
        .ok()
}

fn identity(answer: &Response<Bytes>, access_key_id: &str) -> Option<Identity> {
    let result = match serde_json::from_slice::<Value>(answer.body()) {
        Ok(json) => json.pointer("/GetCallerIdentityResponse/GetCallerIdentityResult").cloned()?,
        // An endpoint that knows no JSON answers its own XML.
        Err(_) => {
            let known = service::find("sts")?;
            codec::decode_response(known, "GetCallerIdentity", answer).ok()?.ok()?
        }
    };
    let text = |field: &str| result.get(field).and_then(Value::as_str);
    Identity::new(text("Account")?, text("Arn")?, text("UserId")?, access_key_id)
}
