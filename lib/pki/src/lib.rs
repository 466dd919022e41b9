//! Certificate authorities, certificates, signing requests, service-account keys and kubeconfigs.
//!
//! ECDSA P-256 for certificates, RSA 2048 for service-account tokens (as EKS). Dates are given by
//! the caller; nothing here reads the clock.
//!
//! **Invariant:** a certificate from [`Ca::issue`] or [`Ca::sign_csr`] is never an authority and
//! carries the usages that the caller named, whatever a request asked for.
//! One of [`Ca::vouch_for`] is an authority for one domain's names.
//! Deviation: a subject holds at most one organization (rcgen writes one value per attribute); a
//! request or profile with more is refused, never truncated.

mod ca;
mod csr;
mod key_ring;
mod kubeconfig;
mod pem;
mod service_account;
mod subject;

pub use self::{
    ca::{Ca, Profile, Usage},
    csr::{CsrContents, parse_csr},
    key_ring::{DatedKey, KeyRing},
    kubeconfig::{Credentials, Kubeconfig},
    pem::{PemBlock, pem_blocks, pem_text},
    service_account::ServiceAccountKey,
    subject::{Subject, fingerprint, subject, subject_of_pem, validity},
};
pub use transport::tls::Identity;

/// Why something could not be made or read.
#[derive(Debug, thiserror::Error)]
pub enum PkiError {
    #[error("failed to make a key or certificate for `{name}`")]
    Make {
        name: String,
        #[source]
        source: rcgen::Error,
    },
    #[error("the authority's certificate or key cannot be read")]
    BadAuthority {
        #[source]
        source: rcgen::Error,
    },
    #[error("the signing request cannot be read or its signature is wrong")]
    BadRequest {
        #[source]
        source: rcgen::Error,
    },
    #[error("`{name}` has {count} organizations, and one is possible")]
    ManyOrganizations { name: String, count: usize },
    #[error("not a certificate: {reason}")]
    BadCertificate { reason: String },
    #[error("not a signing request: {reason}")]
    MalformedRequest { reason: String },
    #[error("not an RSA private key in PEM")]
    BadKey {
        #[source]
        source: rcgen::Error,
    },
    #[error("the kubeconfig cannot be written: {reason}")]
    Kubeconfig { reason: String },
}
