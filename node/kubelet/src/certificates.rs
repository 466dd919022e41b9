//! The certificate that the kubelet's server shows.
//!
//! Asked for by a CertificateSigningRequest (`serverTLSBootstrap`), kept in the kubelet's folder, and
//! replaced before it expires; the server takes the new one up without a restart. Until there is
//! one, a self-signed certificate is shown, which the API server does not accept.
//!
//! Upstream: `pkg/kubelet/certificate`, `client-go/util/certificate`.

use std::{
    fmt, net::IpAddr, os::unix::fs::PermissionsExt, path::PathBuf, sync::Arc, time::Duration,
};

use arc_swap::ArcSwap;
use futures::StreamExt;
use jiff::Timestamp;
use k8s_openapi::{
    ByteString,
    api::certificates::v1::{CertificateSigningRequest, CertificateSigningRequestSpec},
    apimachinery::pkg::apis::meta::v1::ObjectMeta,
};
use kube::{Api, api::PostParams, runtime::watcher};
use rcgen::{CertificateParams, DistinguishedName, DnType, KeyPair, SanType};
use rustls::{
    server::{ClientHello, ResolvesServerCert},
    sign::CertifiedKey,
};
use rustls_pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject};
use tracing::{info, warn};

use crate::{context::Context, settings::Settings};

const SIGNER: &str = "kubernetes.io/kubelet-serving";
const FILE: &str = "kubelet-server-current.pem";
/// How long a request may wait for its approval before a new one is made.
const APPROVAL_LIMIT: Duration = Duration::from_secs(15 * 60);
const FIRST_RETRY: Duration = Duration::from_millis(500);
const LONGEST_RETRY: Duration = Duration::from_secs(30);

#[derive(Debug, thiserror::Error)]
pub(crate) enum CertificateError {
    #[error("failed to make a key or a request")]
    Make(#[source] rcgen::Error),
    #[error("the certificate or its key cannot be used: {message}")]
    Unusable { message: String },
    #[error("failed to read or write `{}`", path.display())]
    Io {
        path: PathBuf,
        #[source]
        source: std::io::Error,
    },
    #[error("the API server refused the certificate signing request")]
    Api(#[source] kube::Error),
    #[error("the certificate signing request `{name}` was {how}")]
    Ended { name: String, how: String },
}

/// What the TLS server asks for its certificate.
pub(crate) struct Serving {
    current: ArcSwap<CertifiedKey>,
}

impl fmt::Debug for Serving {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Serving").finish_non_exhaustive()
    }
}

impl ResolvesServerCert for Serving {
    fn resolve(&self, _: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        Some(self.current.load_full())
    }
}

impl Serving {
    /// The certificate that is configured, kept from an earlier run, or self-signed.
    pub(crate) fn new(settings: &Settings, folder: PathBuf) -> Result<Arc<Self>, CertificateError> {
        let config = &settings.config;
        let pem = match (&config.tls_cert_file, &config.tls_private_key_file) {
            (Some(certificate), Some(key)) => {
                format!("{}\n{}", read(certificate.into())?, read(key.into())?)
            }
            _ => match read(folder.join(FILE)) {
                Ok(kept) if config.server_tls_bootstrap && parse(&kept).is_ok() => kept,
                _ => self_signed(settings)?,
            },
        };
        Ok(Arc::new(Self { current: ArcSwap::new(parse(&pem)?) }))
    }

    /// Keeps the certificate signed and fresh. Ends at once where it is not ours to get.
    pub(crate) async fn keep_fresh(self: Arc<Self>, context: Arc<Context>) {
        let config = &context.settings.config;
        if !config.server_tls_bootstrap || config.tls_cert_file.is_some() {
            return;
        }
        let path = context.paths.certificates().join(FILE);
        let mut retry = FIRST_RETRY;
        loop {
            let now = context.clock.now();
            if let Some(renew_at) =
                read(path.clone()).ok().and_then(|pem| renewal(&pem, &context.settings))
                && now < renew_at
            {
                tokio::time::sleep(context.clock.until(renew_at)).await;
                continue;
            }
            match self.renew(&context, &path).await {
                Ok(()) => retry = FIRST_RETRY,
                Err(error) => {
                    warn!(error = %telemetry::chain(&error), "no serving certificate yet");
                    tokio::time::sleep(retry).await;
                    retry = (retry * 2).min(LONGEST_RETRY);
                }
            }
        }
    }

    async fn renew(&self, context: &Context, path: &PathBuf) -> Result<(), CertificateError> {
        let key = KeyPair::generate().map_err(CertificateError::Make)?;
        let request = params(&context.settings)?
            .serialize_request(&key)
            .and_then(|it| it.pem())
            .map_err(CertificateError::Make)?;
        let certificate = sign(context, request).await?;
        let pem = format!("{certificate}\n{}", key.serialize_pem());
        let certified = parse(&pem)?;
        let failed = |source| CertificateError::Io { path: path.clone(), source };
        let staged = path.with_extension("new");
        std::fs::write(&staged, &pem).map_err(failed)?;
        std::fs::set_permissions(&staged, std::fs::Permissions::from_mode(0o600))
            .map_err(failed)?;
        std::fs::rename(&staged, path).map_err(failed)?;
        self.current.store(certified);
        info!("the serving certificate is signed");
        Ok(())
    }
}

/// Asks for a signature and waits for it.
async fn sign(context: &Context, request: String) -> Result<String, CertificateError> {
    let api = Api::<CertificateSigningRequest>::all(context.client.clone());
    let usages = ["digital signature", "server auth"].map(str::to_owned).to_vec();
    let object = CertificateSigningRequest {
        metadata: ObjectMeta { generate_name: Some("csr-".to_owned()), ..ObjectMeta::default() },
        spec: CertificateSigningRequestSpec {
            request: ByteString(request.into_bytes()),
            signer_name: SIGNER.to_owned(),
            usages: Some(usages),
            ..CertificateSigningRequestSpec::default()
        },
        status: None,
    };
    let made = api.create(&PostParams::default(), &object).await.map_err(CertificateError::Api)?;
    let name = made.metadata.name.unwrap_or_default();
    let ended = |how: &str| CertificateError::Ended { name: name.clone(), how: how.to_owned() };
    let mut versions = std::pin::pin!(watcher::watch_object(api, &name));
    let waiting = async {
        while let Some(version) = versions.next().await {
            let Ok(Some(version)) = version else { continue };
            let status = version.status.unwrap_or_default();
            for condition in status.conditions.iter().flatten() {
                if matches!(condition.type_.as_str(), "Denied" | "Failed") {
                    return Err(ended(&condition.type_.to_lowercase()));
                }
            }
            if let Some(certificate) = status.certificate.filter(|it| !it.0.is_empty()) {
                return Ok(String::from_utf8_lossy(&certificate.0).into_owned());
            }
        }
        Err(ended("lost"))
    };
    match tokio::time::timeout(APPROVAL_LIMIT, waiting).await {
        Ok(result) => result,
        Err(_) => Err(ended("not approved in time")),
    }
}

fn params(settings: &Settings) -> Result<CertificateParams, CertificateError> {
    let mut params =
        CertificateParams::new(vec![settings.node_name.clone()]).map_err(CertificateError::Make)?;
    params.subject_alt_names.extend(settings.node_ips.iter().copied().map(SanType::IpAddress));
    let mut name = DistinguishedName::new();
    name.push(DnType::OrganizationName, "system:nodes");
    name.push(DnType::CommonName, format!("system:node:{}", settings.node_name));
    params.distinguished_name = name;
    Ok(params)
}

fn self_signed(settings: &Settings) -> Result<String, CertificateError> {
    let key = KeyPair::generate().map_err(CertificateError::Make)?;
    let certificate = params(settings)?.self_signed(&key).map_err(CertificateError::Make)?;
    Ok(format!("{}\n{}", certificate.pem(), key.serialize_pem()))
}

fn read(path: PathBuf) -> Result<String, CertificateError> {
    std::fs::read_to_string(&path).map_err(|source| CertificateError::Io { path, source })
}

fn parse(pem: &str) -> Result<Arc<CertifiedKey>, CertificateError> {
    let unusable = |message: String| CertificateError::Unusable { message };
    let chain = CertificateDer::pem_slice_iter(pem.as_bytes())
        .collect::<Result<Vec<_>, _>>()
        .map_err(|error| unusable(error.to_string()))?;
    let key = PrivateKeyDer::from_pem_slice(pem.as_bytes())
        .map_err(|error| unusable(error.to_string()))?;
    let key = rustls::crypto::aws_lc_rs::sign::any_supported_type(&key)
        .map_err(|error| unusable(error.to_string()))?;
    if chain.is_empty() {
        return Err(unusable("there is no certificate".to_owned()));
    }
    let certified = CertifiedKey::new(chain, key);
    certified.keys_match().map_err(|error| unusable(error.to_string()))?;
    Ok(Arc::new(certified))
}

/// When a certificate is to be replaced: after four fifths of its life, or at once when it is not for
/// this node's addresses.
fn renewal(pem: &str, settings: &Settings) -> Option<Timestamp> {
    let der = CertificateDer::from_pem_slice(pem.as_bytes()).ok()?;
    let (_, certificate) = x509_parser::parse_x509_certificate(&der).ok()?;
    let names = certificate.subject_alternative_name().ok()??;
    let has = |ip: &IpAddr| {
        let octets = match ip {
            IpAddr::V4(ip) => ip.octets().to_vec(),
            IpAddr::V6(ip) => ip.octets().to_vec(),
        };
        names.value.general_names.iter().any(|it| {
            matches!(it, x509_parser::extensions::GeneralName::IPAddress(own) if **own == octets)
        })
    };
    if !settings.node_ips.iter().all(has) {
        return None;
    }
    let validity = certificate.validity();
    let (from, to) = (validity.not_before.timestamp(), validity.not_after.timestamp());
    Timestamp::from_second(from + (to - from) / 5 * 4).ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::KubeletConfiguration;

    fn settings(ip: &str) -> Settings {
        let mut settings = Settings::new(KubeletConfiguration::default(), "n");
        settings.node_ips = vec![ip.parse().unwrap()];
        settings
    }

    #[test]
    fn a_certificate_for_another_address_is_replaced_at_once() {
        let pem = self_signed(&settings("10.0.0.1")).unwrap();
        assert!(parse(&pem).is_ok());
        assert!(renewal(&pem, &settings("10.0.0.1")).is_some());
        assert!(renewal(&pem, &settings("10.0.0.2")).is_none());
    }
}
