//! The kubelet's certificates: the one that its server shows and the one by which the API server knows
//! it.
//!
//! Both are asked for by CertificateSigningRequests, kept in the certificate folder as upstream keeps
//! them (`kubelet-client-current.pem` is a link to the newest), and replaced when 70 to 90 % of their
//! life has passed.
//!
//! Upstream: `pkg/kubelet/certificate`, `client-go/util/certificate`.

pub(crate) mod client;
mod request;
pub(crate) mod serving;
pub(crate) mod store;

use std::path::PathBuf;

use jiff::Timestamp;
use rustls_pki_types::{CertificateDer, pem::PemObject};

/// Why a certificate could not be had.
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

/// From when to when a certificate is valid.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Validity {
    pub from: Timestamp,
    pub to: Timestamp,
}

impl Validity {
    pub(crate) fn of_pem(pem: &str) -> Option<Self> {
        let der = CertificateDer::from_pem_slice(pem.as_bytes()).ok()?;
        let (_, certificate) = x509_parser::parse_x509_certificate(&der).ok()?;
        let validity = certificate.validity();
        let at = |it: i64| Timestamp::from_second(it).ok();
        Some(Self {
            from: at(validity.not_before.timestamp())?,
            to: at(validity.not_after.timestamp())?,
        })
    }

    /// When it is to be replaced: after 70 to 90 % of its life. `jitter` is a number below a thousand;
    /// the same certificate and the same number give the same time.
    pub(crate) fn renewal(&self, jitter: u64) -> Timestamp {
        let life = self.to.as_second() - self.from.as_second();
        let part = 700 + i64::try_from(jitter % 1000).unwrap_or(0) / 5;
        let after = i128::from(life) * i128::from(part) / 1000;
        let at = i128::from(self.from.as_second()) + after;
        i64::try_from(at).ok().and_then(|it| Timestamp::from_second(it).ok()).unwrap_or(self.to)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_certificate_is_replaced_between_seven_and_nine_tenths_of_its_life() {
        let at = |it| Timestamp::from_second(it).unwrap();
        let validity = Validity { from: at(1000), to: at(2000) };
        assert_eq!(validity.renewal(0), at(1700));
        assert_eq!(validity.renewal(999), at(1899));
        assert_eq!(validity.renewal(500), at(1800));
    }
}
