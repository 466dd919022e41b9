//! A CertificateSigningRequest, from its making to its end.
//!
//! Upstream: `client-go/util/certificate/csr`.

use std::time::Duration;

use futures::StreamExt;
use k8s_openapi::{
    ByteString,
    api::certificates::v1::{CertificateSigningRequest, CertificateSigningRequestSpec},
    apimachinery::pkg::apis::meta::v1::ObjectMeta,
};
use kube::{Api, Client, api::PostParams, runtime::watcher};

use super::CertificateError;

/// How long a request may wait for its approval before a new one is made.
const APPROVAL_LIMIT: Duration = Duration::from_secs(15 * 60);
const CREATE_LIMIT: Duration = Duration::from_secs(30);

/// What is asked for.
pub(super) struct Wanted {
    pub signer: &'static str,
    pub usages: &'static [&'static str],
    /// In PEM.
    pub request: String,
}

/// Asks for a signature and waits for it; the certificate is in PEM.
pub(super) async fn sign(client: Client, wanted: Wanted) -> Result<String, CertificateError> {
    let api = Api::<CertificateSigningRequest>::all(client);
    let object = CertificateSigningRequest {
        metadata: ObjectMeta { generate_name: Some("csr-".to_owned()), ..ObjectMeta::default() },
        spec: CertificateSigningRequestSpec {
            request: ByteString(wanted.request.into_bytes()),
            signer_name: wanted.signer.to_owned(),
            usages: Some(wanted.usages.iter().map(|&it| it.to_owned()).collect()),
            ..CertificateSigningRequestSpec::default()
        },
        status: None,
    };
    let params = PostParams::default();
    let created = tokio::time::timeout(CREATE_LIMIT, api.create(&params, &object)).await;
    let created = created.unwrap_or_else(|_| {
        Err(kube::Error::Service("the API server did not answer in time".into()))
    });
    let name = created.map_err(CertificateError::Api)?.metadata.name.unwrap_or_default();
    match tokio::time::timeout(APPROVAL_LIMIT, issued(api, &name)).await {
        Ok(result) => result,
        Err(_) => Err(ended(&name, "not approved in time")),
    }
}

fn ended(name: &str, how: &str) -> CertificateError {
    CertificateError::Ended { name: name.to_owned(), how: how.to_owned() }
}

async fn issued(
    api: Api<CertificateSigningRequest>,
    name: &str,
) -> Result<String, CertificateError> {
    let mut versions = std::pin::pin!(watcher::watch_object(api, name));
    while let Some(version) = versions.next().await {
        let status = match version {
            Err(_) => continue,
            Ok(None) => return Err(ended(name, "deleted")),
            Ok(Some(version)) => version.status.unwrap_or_default(),
        };
        for condition in status.conditions.iter().flatten() {
            if matches!(condition.type_.as_str(), "Denied" | "Failed") {
                let why = condition.message.as_deref().unwrap_or_default();
                let how = format!("{}: {why}", condition.type_.to_lowercase());
                return Err(ended(name, how.trim_end_matches(": ")));
            }
        }
        if let Some(certificate) = status.certificate.filter(|it| !it.0.is_empty()) {
            return Ok(String::from_utf8_lossy(&certificate.0).into_owned());
        }
    }
    Err(ended(name, "lost"))
}
