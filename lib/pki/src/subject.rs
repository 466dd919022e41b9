//! Who a certificate is for: the user (CN) and the groups (O) of Kubernetes' x509 authentication.

use std::ops::RangeInclusive;

use jiff::Timestamp;
use sha2::{Digest, Sha256};
use x509_parser::{prelude::FromDer, x509::X509Name};

use crate::PkiError;

/// The parts of a subject that Kubernetes reads.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Subject {
    pub common_name: String,
    pub organizations: Vec<String>,
}

/// Reads the subject of a DER certificate. Whoever calls has verified the chain already.
pub fn subject(der: &[u8]) -> Result<Subject, PkiError> {
    let (_, certificate) = x509_parser::certificate::X509Certificate::from_der(der)
        .map_err(|error| PkiError::BadCertificate { reason: error.to_string() })?;
    Ok(of_name(certificate.subject()))
}

/// From when to when a DER certificate is good.
pub fn validity(der: &[u8]) -> Result<RangeInclusive<Timestamp>, PkiError> {
    let bad = |reason: String| PkiError::BadCertificate { reason };
    let (_, certificate) = x509_parser::certificate::X509Certificate::from_der(der)
        .map_err(|error| bad(error.to_string()))?;
    let of = |at: x509_parser::time::ASN1Time| {
        Timestamp::from_second(at.timestamp()).map_err(|error| bad(error.to_string()))
    };
    let validity = certificate.validity();
    Ok(of(validity.not_before)?..=of(validity.not_after)?)
}

pub fn subject_of_pem(pem: &str) -> Result<Subject, PkiError> {
    let (_, pem) = x509_parser::pem::parse_x509_pem(pem.as_bytes())
        .map_err(|error| PkiError::BadCertificate { reason: error.to_string() })?;
    subject(&pem.contents)
}

/// SHA-256 of the certificate in lower-case hexadecimal digits.
pub fn fingerprint(der: &[u8]) -> String {
    Sha256::digest(der).iter().map(|byte| format!("{byte:02x}")).collect()
}

pub(crate) fn of_name(name: &X509Name<'_>) -> Subject {
    let text = |value: Result<&str, _>| value.ok().map(str::to_owned);
    Subject {
        // The last one counts, as in Go's `pkix.Name`.
        common_name: name
            .iter_common_name()
            .filter_map(|it| text(it.as_str()))
            .last()
            .unwrap_or_default(),
        organizations: name.iter_organization().filter_map(|it| text(it.as_str())).collect(),
    }
}
