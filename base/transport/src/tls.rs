//! TLS configurations: one crypto provider (aws-lc-rs), roots and identities from PEM.

mod named;
mod telling;

use std::{io, sync::Arc};

use rustls::{
    ClientConfig, RootCertStore, ServerConfig,
    client::{
        WebPkiServerVerifier,
        danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier},
    },
    server::WebPkiClientVerifier,
};
use rustls_pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime, pem::PemObject};

use self::telling::Telling;
pub use self::{named::Named, telling::Tell};

/// A certificate chain and its key, in PEM.
#[derive(Clone, Debug, Default)]
pub struct Identity {
    pub certificate_pem: String,
    pub key_pem: String,
}

/// Makes aws-lc-rs the process's provider. Call it first in `main`; twice is harmless.
pub fn install_provider() {
    drop(rustls::crypto::aws_lc_rs::default_provider().install_default());
}

/// A server that asks for client certificates of `client_ca_pem`, but does not insist on one.
pub fn server(identity: &Identity, client_ca_pem: Option<&str>) -> io::Result<Arc<ServerConfig>> {
    install_provider();
    let builder = ServerConfig::builder();
    let builder = match client_ca_pem {
        None => builder.with_no_client_auth(),
        Some(pem) => {
            let roots = Arc::new(roots(pem)?);
            let verifier = WebPkiClientVerifier::builder(roots).allow_unauthenticated();
            builder.with_client_cert_verifier(verifier.build().map_err(io::Error::other)?)
        }
    };
    let (chain, key) = parts(identity)?;
    let mut config = builder.with_single_cert(chain, key).map_err(io::Error::other)?;
    config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    Ok(Arc::new(config))
}

/// A client that trusts the authorities in `ca_pem` only.
pub fn client(ca_pem: &str, identity: Option<&Identity>) -> io::Result<Arc<ClientConfig>> {
    install_provider();
    let builder = ClientConfig::builder().with_root_certificates(roots(ca_pem)?);
    with_identity(builder, identity)
}

/// The same, which says of a certificate that it does not trust what `tell` makes of it.
pub fn client_telling(
    ca_pem: &str,
    identity: Option<&Identity>,
    tell: Tell,
) -> io::Result<Arc<ClientConfig>> {
    install_provider();
    let roots = roots(ca_pem)?;
    if roots.is_empty() {
        // There is nobody to verify anything with.
        return client(ca_pem, identity);
    }
    let verifier = WebPkiServerVerifier::builder(Arc::new(roots)).build();
    let verifier = verifier.map_err(io::Error::other)?;
    let builder = ClientConfig::builder().dangerous();
    let builder = builder.with_custom_certificate_verifier(Arc::new(Telling { verifier, tell }));
    with_identity(builder, identity)
}

/// A client that checks nothing about the server, for probes (`scheme: HTTPS`) and the like, where
/// Kubernetes says so.
pub fn client_unverified(identity: Option<&Identity>) -> io::Result<Arc<ClientConfig>> {
    install_provider();
    let builder =
        ClientConfig::builder().dangerous().with_custom_certificate_verifier(Arc::new(AcceptAny));
    with_identity(builder, identity)
}

fn with_identity(
    builder: rustls::ConfigBuilder<ClientConfig, rustls::client::WantsClientCert>,
    identity: Option<&Identity>,
) -> io::Result<Arc<ClientConfig>> {
    let config = match identity {
        None => builder.with_no_client_auth(),
        Some(identity) => {
            let (chain, key) = parts(identity)?;
            builder.with_client_auth_cert(chain, key).map_err(io::Error::other)?
        }
    };
    Ok(Arc::new(config))
}

fn roots(pem: &str) -> io::Result<RootCertStore> {
    let mut store = RootCertStore::empty();
    for certificate in CertificateDer::pem_slice_iter(pem.as_bytes()) {
        store.add(certificate.map_err(io::Error::other)?).map_err(io::Error::other)?;
    }
    Ok(store)
}

type Parts = (Vec<CertificateDer<'static>>, PrivateKeyDer<'static>);

fn parts(identity: &Identity) -> io::Result<Parts> {
    let chain = CertificateDer::pem_slice_iter(identity.certificate_pem.as_bytes())
        .collect::<Result<_, _>>()
        .map_err(io::Error::other)?;
    let key =
        PrivateKeyDer::from_pem_slice(identity.key_pem.as_bytes()).map_err(io::Error::other)?;
    Ok((chain, key))
}

#[derive(Debug)]
struct AcceptAny;

impl ServerCertVerifier for AcceptAny {
    fn verify_server_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &rustls::DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        Ok(HandshakeSignatureValid::assertion())
    }

    fn verify_tls13_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &rustls::DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        Ok(HandshakeSignatureValid::assertion())
    }

    fn supported_verify_schemes(&self) -> Vec<rustls::SignatureScheme> {
        rustls::crypto::aws_lc_rs::default_provider()
            .signature_verification_algorithms
            .supported_schemes()
    }
}
