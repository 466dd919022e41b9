//! One call of a webhook.
//!
//! A Service is reached at a ready endpoint, from the control plane's place in the network, and has to
//! show a certificate for `NAME.NAMESPACE.svc`: what a security group or a missing endpoint does to it
//! on EKS, it does here.

use std::{net::SocketAddr, sync::Arc};

use http::{Method, Request, StatusCode, Uri, header};
use rustls::ClientConfig;
use serde_json::{Value, json};
use transport::{HttpClient, SendError};

use super::{
    configuration::{Endpoint, Target, Webhook},
    review::{self, Reply},
};
use crate::{admission::Context, proxy};

/// An answer holds a patch of one object at most.
const ANSWER_LIMIT: usize = 3 * 1024 * 1024;

/// Why a webhook gave no usable answer. The words are those that Go's client has.
#[derive(Debug, thiserror::Error)]
pub(crate) enum CallError {
    #[error("failed to call webhook: Post \"{url}\": {why}")]
    Post { url: String, why: String },
    #[error("failed to call webhook: {why}")]
    Status { why: String },
    #[error("failed to call webhook: {why}")]
    Client { why: String },
    #[error("received invalid webhook response: {why}")]
    Invalid { why: String },
    #[error("received undecodable patch in webhook response: {why}")]
    Patch { why: String },
}

impl CallError {
    /// By which metrics know it, as upstream has it.
    pub(super) fn code(&self) -> u16 {
        match self {
            Self::Post { .. } | Self::Status { .. } | Self::Patch { .. } => 503,
            Self::Client { .. } | Self::Invalid { .. } => 500,
        }
    }

    /// What went wrong, without the words for admission.
    pub(super) fn plain(&self) -> String {
        match self {
            Self::Post { url, why } => format!("Post \"{url}\": {why}"),
            Self::Status { why }
            | Self::Client { why }
            | Self::Invalid { why }
            | Self::Patch { why } => why.clone(),
        }
    }

    pub(super) fn told(&self, name: &str) -> String {
        format!("failed calling webhook \"{name}\": {self}")
    }
}

/// Where a call goes: its URL, and the address that stands for its host.
struct Way {
    url: String,
    address: Option<SocketAddr>,
}

/// Asks, within the webhook's limit.
pub(super) async fn call(
    context: &Context,
    webhook: &Webhook,
    request: Value,
) -> Result<Reply, CallError> {
    let uid = request["uid"].as_str().unwrap_or_default().to_owned();
    let body = json!({
        "kind": "AdmissionReview",
        "apiVersion": format!("admission.k8s.io/{}", webhook.version),
        "request": request,
    });
    let review = ask(context, &webhook.endpoint, &body).await?;
    review::read(webhook, &uid, &review)
}

/// Sends a review to an endpoint, and gives what it answers within its limit.
pub(super) async fn ask(
    context: &Context,
    endpoint: &Endpoint,
    body: &Value,
) -> Result<Value, CallError> {
    let way = way(context, endpoint)?;
    let asked = post(context, endpoint, &way, body.to_string());
    let answered = tokio::time::timeout(endpoint.limit, asked).await;
    let late =
        |_| CallError::Post { url: way.url.clone(), why: "context deadline exceeded".into() };
    answered.map_err(late)?
}

fn way(context: &Context, endpoint: &Endpoint) -> Result<Way, CallError> {
    let limit = format!("timeout={}s", endpoint.limit.as_secs());
    match &endpoint.target {
        Target::Url(url) => {
            let joint = if url.contains('?') { '&' } else { '?' };
            Ok(Way { url: format!("{url}{joint}{limit}"), address: None })
        }
        Target::Service { namespace, name, port, path } => {
            let path = path.trim_start_matches('/');
            let url = format!("https://{name}.{namespace}.svc:{port}/{path}?{limit}");
            let asked = format!("{name}:{port}");
            let found = proxy::service(&*context.objects, namespace, &asked);
            let address = found.map_err(|status| {
                let why = match status.code {
                    StatusCode::NOT_FOUND => format!("service \"{name}\" not found"),
                    _ => status.message,
                };
                CallError::Post { url: url.clone(), why }
            })?;
            Ok(Way { url, address: Some(address) })
        }
    }
}

async fn post(
    context: &Context,
    endpoint: &Endpoint,
    way: &Way,
    body: String,
) -> Result<Value, CallError> {
    let uri: Uri = way
        .url
        .parse()
        .map_err(|error| CallError::Client { why: format!("parse \"{}\": {error}", way.url) })?;
    let tls = trust(endpoint).map_err(|why| CallError::Client { why })?;
    let client = HttpClient::new(context.webhooks.place.clone(), Some(tls), endpoint.limit);
    let client = match way.address {
        Some(address) => client.to(address),
        None => client,
    };
    let request = Request::builder()
        .method(Method::POST)
        .uri(uri)
        .header(header::CONTENT_TYPE, "application/json")
        .header(header::ACCEPT, "application/json")
        .body(transport::full(body))
        .map_err(|error| CallError::Client { why: error.to_string() })?;
    let answer = client
        .fetch(request, ANSWER_LIMIT)
        .await
        .map_err(|error| CallError::Post { url: way.url.clone(), why: reason(&*error) })?;
    if !answer.status().is_success() {
        return Err(CallError::Status { why: refused(answer.status(), answer.body()) });
    }
    serde_json::from_slice(answer.body()).map_err(|error| CallError::Client {
        why: format!("couldn't get version/kind; json parse error: {error}"),
    })
}

/// Those who may vouch for the webhook: its own bundle, or the machine's authorities.
fn trust(endpoint: &Endpoint) -> Result<Arc<ClientConfig>, String> {
    let failed =
        |error: &dyn std::fmt::Display| format!("unable to load root certificates: {error}");
    if !endpoint.ca_bundle.is_empty() {
        let make = || proxy::client(&endpoint.ca_bundle, None).map_err(|error| failed(&error));
        return endpoint.trusted.get_or_init(make).clone();
    }
    let found = proxy::machine_authorities();
    let found = found.ok_or_else(|| failed(&"this machine has no bundle of authorities"))?;
    proxy::client(&found, None).map_err(|error| failed(&error))
}

fn reason(error: &(dyn std::error::Error + Send + Sync + 'static)) -> String {
    match error.downcast_ref::<SendError>() {
        Some(SendError::Connect { address, source }) => proxy::dial_reason(*address, source),
        Some(SendError::TimedOut { .. }) => "context deadline exceeded".to_owned(),
        Some(SendError::Http { .. }) => "EOF".to_owned(),
        // Its answer began in time.
        _ if error.is::<tokio::time::error::Elapsed>() => "context deadline exceeded".to_owned(),
        _ => error.to_string(),
    }
}

/// What Go's client makes of an answer that is an error.
fn refused(status: StatusCode, body: &[u8]) -> String {
    match status {
        StatusCode::NOT_FOUND => "the server could not find the requested resource".to_owned(),
        StatusCode::UNAUTHORIZED => {
            "the server has asked for the client to provide credentials".to_owned()
        }
        StatusCode::FORBIDDEN => "forbidden".to_owned(),
        _ => {
            let body = String::from_utf8_lossy(body);
            let body = if body.is_empty() { "unknown".into() } else { body };
            format!(
                "an error on the server ({:?}) has prevented the request from succeeding",
                body.trim()
            )
        }
    }
}
