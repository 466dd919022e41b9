//! How extenders are asked: a `POST` of JSON, with a time limit.

use std::{io, sync::Arc, time::Duration};

use base64::{Engine, prelude::BASE64_STANDARD};
use bytes::Bytes;
use futures::future::BoxFuture;
use http::{Request, Response, StatusCode, Uri, header};
use serde_json::Value;
use tokio_rustls::rustls::ClientConfig;
use transport::{BoxError, HttpClient, Place, tls};

use crate::config::extender::{ExtenderConfig, ExtenderTlsConfig};

/// Where there is no time limit in the file.
const DEFAULT_TIMEOUT: Duration = Duration::from_secs(5);
/// An answer that is longer is no answer: the nodes of a large cluster are some dozens of MiB.
const MOST: usize = 256 << 20;
/// The authorities of those who name none, as Go looks for them.
const SYSTEM_BUNDLE: &str = "/etc/ssl/certs/ca-certificates.crt";

/// Asks an extender: over a socket, or one in this process.
pub type Exchange = Arc<
    dyn Fn(Request<Bytes>) -> BoxFuture<'static, Result<Response<Bytes>, BoxError>> + Send + Sync,
>;

/// Why an extender is of no use.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ExtenderError {
    #[error("Post \"{url}\"")]
    Send {
        url: String,
        #[source]
        source: BoxError,
    },
    #[error("failed {verb} with extender at URL {url}, code {code}")]
    Status { verb: String, url: String, code: u16 },
    #[error("the answer of {url} is no JSON")]
    Decode {
        url: String,
        #[source]
        source: serde_json::Error,
    },
    #[error("{message}")]
    Answer { message: String },
    #[error(
        "extender \"{url}\" claims a filtered node \"{node}\" which is not found in the input node list"
    )]
    UnknownNode { url: String, node: String },
    #[error(
        "extender: {url} claims to preempt pod (UID: {uid}) on node: {node}, but the pod is not found \
         on that node"
    )]
    UnknownPod { url: String, uid: String, node: String },
    #[error("expected at least one victim pod on node \"{node}\"")]
    NoVictims { node: String },
    #[error("cannot use the TLS configuration of the extender at {url}")]
    Tls {
        url: String,
        #[source]
        source: io::Error,
    },
}

pub(super) async fn send(
    exchange: &Exchange,
    prefix: &str,
    verb: &str,
    arguments: &Value,
) -> Result<Value, ExtenderError> {
    let url = format!("{}/{verb}", prefix.trim_end_matches('/'));
    let failed = |source: BoxError| ExtenderError::Send { url: url.clone(), source };
    let request = Request::post(&url)
        .header(header::CONTENT_TYPE, "application/json")
        .body(Bytes::from(arguments.to_string()))
        .map_err(|error| failed(error.into()))?;
    let response = exchange(request).await.map_err(failed)?;
    if response.status() != StatusCode::OK {
        let code = response.status().as_u16();
        return Err(ExtenderError::Status { verb: verb.to_owned(), url, code });
    }
    serde_json::from_slice(response.body())
        .map_err(|source| ExtenderError::Decode { url: url.clone(), source })
}

/// By sockets, with the file's certificates and time limit.
pub(super) fn dial(config: &ExtenderConfig) -> Result<Exchange, ExtenderError> {
    let is_https =
        config.url_prefix.parse::<Uri>().is_ok_and(|it| it.scheme_str() == Some("https"));
    let failed = |source| ExtenderError::Tls { url: config.url_prefix.clone(), source };
    let tls = if is_https { Some(of_tls(config).map_err(failed)?) } else { None };
    let limit = match u64::try_from(config.http_timeout.0) {
        Ok(0) | Err(_) => DEFAULT_TIMEOUT,
        Ok(nanoseconds) => Duration::from_nanos(nanoseconds),
    };
    let mut client = HttpClient::new(Place::Here, tls, limit);
    let name = config.tls_config.as_ref().map(|it| it.server_name.as_str());
    if let Some(name) = name.filter(|it| !it.is_empty()) {
        client = client.expecting(name);
    }
    Ok(Arc::new(move |request: Request<Bytes>| {
        let client = client.clone();
        Box::pin(async move {
            let answer = client.fetch(request.map(transport::full), MOST);
            // The limit is on the whole exchange.
            match tokio::time::timeout(limit, answer).await {
                Ok(answer) => answer,
                Err(_) => Err(format!("no answer within {limit:?}").into()),
            }
        })
    }))
}

fn of_tls(config: &ExtenderConfig) -> io::Result<Arc<ClientConfig>> {
    let default = ExtenderTlsConfig::default();
    let it = config.tls_config.as_ref().unwrap_or(&default);
    let ca = pem(&it.ca_data, &it.ca_file)?;
    let identity = match (pem(&it.cert_data, &it.cert_file)?, pem(&it.key_data, &it.key_file)?) {
        (Some(certificate_pem), Some(key_pem)) => Some(tls::Identity { certificate_pem, key_pem }),
        (None, None) => None,
        _ => return Err(io::Error::other("a certificate and its key come together")),
    };
    match ca {
        Some(_) if it.insecure => Err(io::Error::other(
            "specifying a root certificates file with the insecure flag is not allowed",
        )),
        Some(ca) => tls::client(&ca, identity.as_ref()),
        None if it.insecure || config.enable_https => tls::client_unverified(identity.as_ref()),
        None => tls::client(&std::fs::read_to_string(SYSTEM_BUNDLE)?, identity.as_ref()),
    }
}

fn pem(data: &str, file: &str) -> io::Result<Option<String>> {
    match (data, file) {
        ("", "") => Ok(None),
        ("", file) => std::fs::read_to_string(file).map(Some),
        (data, _) => {
            let bytes = BASE64_STANDARD.decode(data).map_err(io::Error::other)?;
            String::from_utf8(bytes).map(Some).map_err(io::Error::other)
        }
    }
}
