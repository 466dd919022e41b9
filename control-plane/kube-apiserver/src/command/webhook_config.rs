//! The kubeconfig that says where a webhook is.

use std::{io, time::Duration};

use base64::{Engine, prelude::BASE64_STANDARD};
use pki::Identity;
use serde_json::Value;
use transport::{HttpClient, Place, tls};

use crate::authn::Hook;

/// Upstream's default for calls to webhooks.
const TIME_LIMIT: Duration = Duration::from_secs(30);

/// Why a webhook's kubeconfig cannot be used.
#[derive(Debug, thiserror::Error)]
pub(super) enum WebhookConfigError {
    #[error("the webhook's kubeconfig is not YAML: {reason}")]
    NotYaml { reason: String },
    #[error("the webhook's kubeconfig names no server")]
    NoServer,
    #[error("the webhook's certificates cannot be used")]
    Certificates(#[source] io::Error),
}

pub(super) fn hook(text: &str) -> Result<Hook, WebhookConfigError> {
    let config: Value = serde_saphyr::from_str(text)
        .map_err(|error| WebhookConfigError::NotYaml { reason: error.to_string() })?;
    let cluster = &config["clusters"][0]["cluster"];
    let user = &config["users"][0]["user"];
    let uri = cluster["server"].as_str().and_then(|it| it.parse().ok());
    let uri = uri.ok_or(WebhookConfigError::NoServer)?;
    let failed = WebhookConfigError::Certificates;
    let authority = pem(cluster, "certificate-authority").map_err(failed)?;
    let certificate = pem(user, "client-certificate").map_err(failed)?;
    let key = pem(user, "client-key").map_err(failed)?;
    let identity = match (certificate, key) {
        (Some(certificate_pem), Some(key_pem)) => Some(Identity { certificate_pem, key_pem }),
        _ => None,
    };
    let tls = match authority {
        Some(authority) => Some(tls::client(&authority, identity.as_ref()).map_err(failed)?),
        None if cluster["insecure-skip-tls-verify"] == true => {
            Some(tls::client_unverified(identity.as_ref()).map_err(failed)?)
        }
        None => None,
    };
    Ok(Hook::remote(uri, HttpClient::new(Place::Here, tls, TIME_LIMIT)))
}

/// A certificate or key, inline or from the file that is named.
fn pem(object: &Value, field: &str) -> io::Result<Option<String>> {
    if let Some(data) = object[format!("{field}-data")].as_str() {
        let bytes = BASE64_STANDARD.decode(data).map_err(io::Error::other)?;
        return String::from_utf8(bytes).map(Some).map_err(io::Error::other);
    }
    object[field].as_str().map(std::fs::read_to_string).transpose()
}
