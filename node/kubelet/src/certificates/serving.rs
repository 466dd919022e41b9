//! The certificate that the kubelet's server shows.
//!
//! Configured, or asked for (`serverTLSBootstrap`) and replaced before it expires; the server takes the
//! new one up without a restart. A configured one is read again when its files change. Until there is
//! one, a self-signed certificate is shown, which the API server does not accept.
//!
//! Upstream: `NewKubeletServerCertificateManager` and `newGetTemplateFn` in `pkg/kubelet/certificate`.

use std::{fmt, net::IpAddr, path::Path, sync::Arc, time::Duration};

use arc_swap::ArcSwap;
use rcgen::{CertificateParams, DistinguishedName, DnType, KeyPair, SanType};
use rustls::{
    server::{ClientHello, ResolvesServerCert},
    sign::CertifiedKey,
};
use rustls_pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject};
use tracing::{info, warn};

use super::{
    CertificateError, Validity,
    request::{self, Wanted},
    store::Store,
};
use crate::{context::Context, settings::Settings};

const NAME: &str = "kubelet-server";
const FIRST_RETRY: Duration = Duration::from_millis(500);
const LONGEST_RETRY: Duration = Duration::from_secs(30);
/// How often the files of a configured certificate are looked at.
const RELOAD: Duration = Duration::from_secs(60);

/// What the TLS server asks for its certificate.
pub(crate) struct Serving {
    current: ArcSwap<CertifiedKey>,
    pem: ArcSwap<String>,
    /// So that the nodes of a cluster do not all come at once.
    jitter: u64,
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
    pub(crate) fn new(settings: &Settings) -> Result<Arc<Self>, CertificateError> {
        let store = Store::new(&settings.certificates(), NAME);
        let is_usable = |pem: &String| parse(pem).is_ok();
        let pem = match configured(settings) {
            Some(pem) => pem?,
            None if settings.config.server_tls_bootstrap => match store.read().filter(is_usable) {
                Some(kept) => kept,
                None => self_signed(settings)?,
            },
            None => self_signed(settings)?,
        };
        Ok(Arc::new(Self {
            current: ArcSwap::new(parse(&pem)?),
            pem: ArcSwap::new(Arc::new(pem)),
            jitter: entropy::below(1000),
        }))
    }

    /// Keeps the certificate signed and fresh, as long as the scope lives.
    pub(crate) async fn keep_fresh(self: Arc<Self>, context: Arc<Context>) {
        self.tell_life(&context);
        if configured(&context.settings).is_some() {
            return self.reload(&context).await;
        }
        if !context.settings.config.server_tls_bootstrap || context.settings.is_standalone {
            return;
        }
        let store = Store::new(&context.settings.certificates(), NAME);
        let mut retry = FIRST_RETRY;
        loop {
            let now = context.clock.now();
            let kept = store.read().filter(|pem| is_for(pem, &context.settings));
            let renew_at =
                kept.and_then(|it| Validity::of_pem(&it)).map(|it| it.renewal(self.jitter));
            if let Some(renew_at) = renew_at.filter(|it| now < *it) {
                tokio::time::sleep(context.clock.until(renew_at)).await;
                continue;
            }
            match self.renew(&context, &store).await {
                Ok(()) => retry = FIRST_RETRY,
                Err(error) => {
                    context.metrics.add("kubelet_server_expiration_renew_errors", &[], 1.0);
                    warn!(error = %telemetry::chain(&error), "no serving certificate yet");
                    tokio::time::sleep(retry).await;
                    retry = (retry * 2).min(LONGEST_RETRY);
                }
            }
        }
    }

    async fn renew(&self, context: &Context, store: &Store) -> Result<(), CertificateError> {
        let key = KeyPair::generate().map_err(CertificateError::Make)?;
        let request = params(&context.settings)?
            .serialize_request(&key)
            .and_then(|it| it.pem())
            .map_err(CertificateError::Make)?;
        let wanted = Wanted {
            signer: "kubernetes.io/kubelet-serving",
            usages: &["digital signature", "server auth"],
            request,
        };
        let certificate = request::sign(context.client.clone(), wanted).await?;
        let pem = format!("{certificate}\n{}", key.serialize_pem());
        let certified = parse(&pem)?;
        store.write(&pem, context.clock.now())?;
        self.use_now(context, pem, certified);
        info!("the serving certificate is signed");
        Ok(())
    }

    fn use_now(&self, context: &Context, pem: String, certified: Arc<CertifiedKey>) {
        self.current.store(certified);
        self.pem.store(Arc::new(pem));
        self.tell_life(context);
    }

    /// Follows the files of a configured certificate.
    async fn reload(&self, context: &Context) {
        loop {
            tokio::time::sleep(RELOAD).await;
            let Some(Ok(pem)) = configured(&context.settings) else { continue };
            if pem == **self.pem.load() {
                self.tell_life(context);
                continue;
            }
            match parse(&pem) {
                Ok(certified) => {
                    self.use_now(context, pem, certified);
                    info!("the serving certificate was read again");
                }
                Err(error) => {
                    warn!(error = %telemetry::chain(&error), "the new serving certificate is no use");
                }
            }
        }
    }

    fn tell_life(&self, context: &Context) {
        if let Some(validity) = Validity::of_pem(&self.pem.load()) {
            let left = validity.to.as_second() - context.clock.now().as_second();
            let name = "kubelet_certificate_manager_server_ttl_seconds";
            context.metrics.set(name, &[], left as f64);
        }
    }
}

fn configured(settings: &Settings) -> Option<Result<String, CertificateError>> {
    let config = &settings.config;
    let (certificate, key) =
        config.tls_cert_file.as_ref().zip(config.tls_private_key_file.as_ref())?;
    let both = || Ok(format!("{}\n{}", read(certificate)?, read(key)?));
    Some(both())
}

fn read(path: &str) -> Result<String, CertificateError> {
    let path = Path::new(path);
    std::fs::read_to_string(path)
        .map_err(|source| CertificateError::Io { path: path.to_owned(), source })
}

fn params(settings: &Settings) -> Result<CertificateParams, CertificateError> {
    let mut params =
        CertificateParams::new(vec![settings.node_name.clone()]).map_err(CertificateError::Make)?;
    params.subject_alt_names.extend(settings.node_ips.iter().copied().map(SanType::IpAddress));
    params.distinguished_name = subject(&settings.node_name);
    Ok(params)
}

/// The name of a node in its certificates.
pub(super) fn subject(node_name: &str) -> DistinguishedName {
    let mut name = DistinguishedName::new();
    name.push(DnType::OrganizationName, "system:nodes");
    name.push(DnType::CommonName, format!("system:node:{node_name}"));
    name
}

fn self_signed(settings: &Settings) -> Result<String, CertificateError> {
    let key = KeyPair::generate().map_err(CertificateError::Make)?;
    let certificate = params(settings)?.self_signed(&key).map_err(CertificateError::Make)?;
    Ok(format!("{}\n{}", certificate.pem(), key.serialize_pem()))
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

/// Whether a certificate names all of the node's addresses.
fn is_for(pem: &str, settings: &Settings) -> bool {
    let has_all = || {
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
        Some(settings.node_ips.iter().all(has))
    };
    has_all().unwrap_or(false)
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
        assert!(is_for(&pem, &settings("10.0.0.1")));
        assert!(!is_for(&pem, &settings("10.0.0.2")));
        assert!(!is_for("nonsense", &settings("10.0.0.1")));
    }

    #[test]
    fn a_configured_certificate_without_its_key_is_an_error() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("tls.crt");
        std::fs::write(&path, self_signed(&settings("10.0.0.1")).unwrap()).unwrap();
        let mut settings = settings("10.0.0.1");
        settings.config.tls_cert_file = Some(path.display().to_string());
        settings.config.tls_private_key_file = Some("/nowhere".to_owned());
        assert!(matches!(Serving::new(&settings), Err(CertificateError::Io { .. })));
        settings.config.tls_private_key_file = settings.config.tls_cert_file.clone();
        assert!(Serving::new(&settings).is_ok());
    }
}
