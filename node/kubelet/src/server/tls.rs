//! The server's TLS: versions and ciphers as configured, the serving certificate of the moment, and
//! client certificates of an authority whose file may change.
//!
//! Upstream: `InitializeTLS` in `cmd/kubelet/app/server.go`, `DynamicFileCAContent`.
//!
//! Deviation: TLS 1.0 and 1.1, and ciphers without forward secrecy, cannot be had: the library has none
//! of them. They are left out with a warning.

use std::{io, sync::Arc, time::Duration};

use arc_swap::ArcSwap;
use rustls::{
    DigitallySignedStruct, DistinguishedName, RootCertStore, ServerConfig, SignatureScheme,
    SupportedProtocolVersion,
    client::danger::HandshakeSignatureValid,
    crypto::CryptoProvider,
    server::{
        WebPkiClientVerifier,
        danger::{ClientCertVerified, ClientCertVerifier},
    },
};
use rustls_pki_types::{CertificateDer, UnixTime, pem::PemObject};
use tracing::{info, warn};

use crate::{certificates::serving::Serving, config::KubeletConfiguration, context::Context};

/// How often the authority's file is looked at.
const RELOAD: Duration = Duration::from_secs(60);

/// Client certificates are asked for, and the serving certificate is looked up for each connection.
pub(super) fn config(
    context: &Arc<Context>,
    serving: Arc<Serving>,
) -> io::Result<Arc<ServerConfig>> {
    transport::tls::install_provider();
    let config = &context.settings.config;
    let provider = Arc::new(provider(config)?);
    let builder = ServerConfig::builder_with_provider(provider)
        .with_protocol_versions(&versions(config)?)
        .map_err(io::Error::other)?;
    let file = config.authentication.x509.client_ca_file.clone();
    let builder = if file.is_empty() {
        builder.with_no_client_auth()
    } else {
        let verifier = Arc::new(Verifier::load(file)?);
        drop(context.scope.spawn("client-ca", verifier.clone().follow()));
        builder.with_client_cert_verifier(verifier)
    };
    let mut config = builder.with_cert_resolver(serving);
    // Upgrades need HTTP/1.1.
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    Ok(Arc::new(config))
}

fn versions(config: &KubeletConfiguration) -> io::Result<Vec<&'static SupportedProtocolVersion>> {
    use rustls::version::{TLS12, TLS13};
    match config.tls_min_version.as_str() {
        "" | "VersionTLS12" => Ok(vec![&TLS13, &TLS12]),
        "VersionTLS13" => Ok(vec![&TLS13]),
        old @ ("VersionTLS10" | "VersionTLS11") => {
            warn!(asked = old, "the oldest version that can be had is TLS 1.2");
            Ok(vec![&TLS13, &TLS12])
        }
        other => Err(invalid(format!("unknown tls version {other:?}"))),
    }
}

fn provider(config: &KubeletConfiguration) -> io::Result<CryptoProvider> {
    let mut provider = rustls::crypto::aws_lc_rs::default_provider();
    if config.tls_cipher_suites.is_empty() {
        return Ok(provider);
    }
    let mut wanted = Vec::new();
    for name in &config.tls_cipher_suites {
        if !name.starts_with("TLS_") {
            let message = format!("Cipher suite {name} not supported or doesn't exist");
            return Err(invalid(message));
        }
        wanted.push(name.as_str());
    }
    let is_wanted = |suite: rustls::CipherSuite| {
        let own = format!("{suite:?}");
        // Those of TLS 1.3 are not configurable.
        own.starts_with("TLS13_") || wanted.iter().any(|it| is_same(it, &own))
    };
    provider.cipher_suites.retain(|it| is_wanted(it.suite()));
    for name in &wanted {
        let has =
            provider.cipher_suites.iter().any(|it| is_same(name, &format!("{:?}", it.suite())));
        if !has {
            info!(cipher = name, "a configured cipher suite cannot be had");
        }
    }
    Ok(provider)
}

/// Go's older names leave the hash of ChaCha20 suites out.
fn is_same(wanted: &str, own: &str) -> bool {
    own == wanted || own.strip_suffix("_SHA256").is_some_and(|it| it == wanted)
}

fn invalid(message: String) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidInput, message)
}

/// The authority of client certificates, as its file says.
#[derive(Debug)]
struct Verifier {
    file: String,
    current: ArcSwap<Loaded>,
}

#[derive(Debug)]
struct Loaded {
    pem: Vec<u8>,
    verifier: Arc<dyn ClientCertVerifier>,
}

impl Verifier {
    fn load(file: String) -> io::Result<Self> {
        let current = ArcSwap::from_pointee(load(&file)?);
        Ok(Self { file, current })
    }

    /// Takes a changed file up. One that cannot be used changes nothing.
    async fn follow(self: Arc<Self>) {
        loop {
            tokio::time::sleep(RELOAD).await;
            self.look();
        }
    }

    fn look(&self) {
        match load(&self.file) {
            Ok(loaded) if loaded.pem != self.current.load().pem => {
                self.current.store(Arc::new(loaded));
                info!(file = self.file, "the authority of client certificates was read again");
            }
            Ok(_) => {}
            Err(error) => warn!(file = self.file, %error, "the new client CA file is no use"),
        }
    }
}

fn load(file: &str) -> io::Result<Loaded> {
    let pem = std::fs::read(file).map_err(|error| {
        let message = format!("unable to load client CA file {file}: {error}");
        io::Error::new(error.kind(), message)
    })?;
    let mut roots = RootCertStore::empty();
    for certificate in CertificateDer::pem_slice_iter(&pem) {
        roots.add(certificate.map_err(io::Error::other)?).map_err(io::Error::other)?;
    }
    let verifier = WebPkiClientVerifier::builder(Arc::new(roots)).allow_unauthenticated();
    let verifier = verifier.build().map_err(io::Error::other)?;
    Ok(Loaded { pem, verifier })
}

impl ClientCertVerifier for Verifier {
    fn client_auth_mandatory(&self) -> bool {
        false
    }

    /// No hints: a client shows the certificate that it has.
    fn root_hint_subjects(&self) -> &[DistinguishedName] {
        &[]
    }

    fn verify_client_cert(
        &self,
        certificate: &CertificateDer<'_>,
        chain: &[CertificateDer<'_>],
        now: UnixTime,
    ) -> Result<ClientCertVerified, rustls::Error> {
        self.current.load().verifier.verify_client_cert(certificate, chain, now)
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        self.current.load().verifier.verify_tls12_signature(message, certificate, signed)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        self.current.load().verifier.verify_tls13_signature(message, certificate, signed)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.current.load().verifier.supported_verify_schemes()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn config() -> KubeletConfiguration {
        KubeletConfiguration::default()
    }

    #[test]
    fn versions_and_ciphers_are_those_that_are_configured() {
        let mut config = config();
        assert_eq!(versions(&config).unwrap().len(), 2);
        config.tls_min_version = "VersionTLS13".to_owned();
        assert_eq!(versions(&config).unwrap().len(), 1);
        config.tls_min_version = "1.3".to_owned();
        assert!(versions(&config).is_err());
        config.tls_cipher_suites = [
            "TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256",
            "TLS_ECDHE_RSA_WITH_CHACHA20_POLY1305",
            "TLS_RSA_WITH_AES_128_GCM_SHA256",
        ]
        .map(str::to_owned)
        .to_vec();
        let suites = provider(&config).unwrap().cipher_suites;
        let older = suites.iter().filter(|it| !format!("{:?}", it.suite()).starts_with("TLS13"));
        assert_eq!(older.count(), 2, "the last one cannot be had");
        config.tls_cipher_suites = vec!["NULL".to_owned()];
        assert!(provider(&config).is_err());
    }

    #[test]
    fn a_changed_authority_is_taken_up_and_a_broken_one_is_not() {
        transport::tls::install_provider();
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("ca.crt");
        let ca = || pki::Ca::new("ca").unwrap().certificate_pem().to_owned();
        std::fs::write(&path, ca()).unwrap();
        let verifier = Verifier::load(path.display().to_string()).unwrap();
        let second = ca();
        std::fs::write(&path, &second).unwrap();
        verifier.look();
        assert_eq!(verifier.current.load().pem, second.as_bytes());
        std::fs::write(&path, "nonsense").unwrap();
        verifier.look();
        assert_eq!(verifier.current.load().pem, second.as_bytes());
        assert!(Verifier::load("/nowhere".to_owned()).is_err());
    }
}
