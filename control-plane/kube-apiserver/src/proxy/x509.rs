//! Why a certificate is not trusted, as Go's `crypto/x509` words it: those are the words that users
//! search for.
//!
//! Upstream: `VerifyHostname` and `HostnameError` of Go's crypto/x509.

use std::{fmt, net::IpAddr, sync::Arc};

use jiff::Timestamp;
use rustls::{
    CertificateError, Error, OtherError, client::verify_server_name, server::ParsedCertificate,
};
use rustls_pki_types::{CertificateDer, ServerName, UnixTime};
use x509_parser::prelude::{FromDer, X509Certificate};

const VERIFY: &str = "tls: failed to verify certificate: x509: ";
/// Go lists no more names than these.
const MOST_NAMES: usize = 100;

/// A certificate that names its server as nobody does any more.
#[derive(Debug)]
struct LegacyName;

impl fmt::Display for LegacyName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("certificate relies on legacy Common Name field, use SANs instead")
    }
}

impl std::error::Error for LegacyName {}

/// What Go looks at first: the time, then the name, and only then who vouches for it.
pub(super) fn in_gos_order(
    certificate: &CertificateDer<'_>,
    name: &ServerName<'_>,
    error: Error,
) -> Error {
    let is_of_time = matches!(
        error,
        Error::InvalidCertificate(
            CertificateError::Expired
                | CertificateError::ExpiredContext { .. }
                | CertificateError::NotValidYet
                | CertificateError::NotValidYetContext { .. }
        )
    );
    let Ok(parsed) = ParsedCertificate::try_from(certificate) else { return error };
    match verify_server_name(&parsed, name) {
        Err(_) if !is_of_time && is_legacy(certificate, &name.to_str()) => {
            CertificateError::Other(OtherError(Arc::new(LegacyName))).into()
        }
        Err(other) if !is_of_time => other,
        _ => error,
    }
}

/// Whether only the subject says that it is this host.
fn is_legacy(certificate: &CertificateDer<'_>, host: &str) -> bool {
    let Ok((_, certificate)) = X509Certificate::from_der(certificate) else { return false };
    let has_names = !matches!(certificate.subject_alternative_name(), Ok(None));
    let names = certificate.subject().iter_common_name();
    let is_host = |name: &str| match (name.strip_prefix("*."), host.split_once('.')) {
        (Some(domain), Some((_, rest))) => domain.eq_ignore_ascii_case(rest),
        _ => name.eq_ignore_ascii_case(host),
    };
    // Of several the last one counts.
    !has_names && names.last().and_then(|it| it.as_str().ok()).is_some_and(is_host)
}

pub(super) fn told(error: &CertificateError) -> String {
    format!("{VERIFY}{}", reason(error))
}

fn reason(error: &CertificateError) -> String {
    const EXPIRED: &str = "certificate has expired or is not yet valid";
    match error {
        // The second: by one of the same name.
        CertificateError::UnknownIssuer | CertificateError::BadSignature => {
            "certificate signed by unknown authority".into()
        }
        CertificateError::Expired | CertificateError::NotValidYet => EXPIRED.into(),
        CertificateError::ExpiredContext { time, not_after } => {
            format!("{EXPIRED}: current time {} is after {}", date(*time), date(*not_after))
        }
        CertificateError::NotValidYetContext { time, not_before } => {
            format!("{EXPIRED}: current time {} is before {}", date(*time), date(*not_before))
        }
        CertificateError::NotValidForNameContext { expected, presented } => {
            other_name(expected, presented)
        }
        CertificateError::InvalidPurpose | CertificateError::InvalidPurposeContext { .. } => {
            "certificate specifies an incompatible key usage".into()
        }
        CertificateError::Other(OtherError(why)) => why.to_string(),
        other => format!("{other:?}"),
    }
}

/// As RFC 3339 has it.
fn date(time: UnixTime) -> String {
    let seconds = i64::try_from(time.as_secs()).unwrap_or_default();
    let at = Timestamp::from_second(seconds).unwrap_or_default();
    at.strftime("%Y-%m-%dT%H:%M:%SZ").to_string()
}

/// Which names it has instead. `presented` are those of both kinds, with their kinds.
fn other_name(expected: &ServerName<'_>, presented: &[String]) -> String {
    let of = |kind: &str| -> Vec<String> {
        let own = presented.iter().filter_map(|it| it.strip_prefix(kind)?.strip_suffix(')'));
        // An address comes in another form than Go's (`0::1`).
        let plain = |it: &str| it.parse().map_or(it.to_owned(), |it: IpAddr| it.to_string());
        own.map(|it| plain(it.trim_matches('"'))).collect()
    };
    let wanted = expected.to_str();
    let (valid, unit) = match expected {
        ServerName::IpAddress(_) => (of("IpAddress("), "IP SANs"),
        _ => (of("DnsName("), "names"),
    };
    match (valid.len(), expected) {
        (0, ServerName::IpAddress(_)) => {
            format!(
                "cannot validate certificate for {wanted} because it doesn't contain any IP SANs"
            )
        }
        (0, _) => {
            format!("certificate is not valid for any names, but wanted to match {wanted}")
        }
        (count, _) if count >= MOST_NAMES => {
            format!("certificate is valid for {count} {unit}, but none matched {wanted}")
        }
        _ => format!("certificate is valid for {}, not {wanted}", valid.join(", ")),
    }
}

#[cfg(test)]
mod tests {
    use rustls_pki_types::pem::PemObject;

    use super::*;

    fn named(expected: &str, presented: &[&str]) -> String {
        reason(&CertificateError::NotValidForNameContext {
            expected: ServerName::try_from(expected.to_owned()).unwrap(),
            presented: presented.iter().map(ToString::to_string).collect(),
        })
    }

    #[test]
    fn a_certificate_of_another_name_is_told_with_the_names_that_it_has() {
        let both = ["DnsName(\"a.b\")", "IpAddress(10.0.0.1)", "DnsName(\"*.c\")"];
        assert_eq!(named("x.y", &both), "certificate is valid for a.b, *.c, not x.y");
        assert_eq!(named("10.0.0.2", &both), "certificate is valid for 10.0.0.1, not 10.0.0.2");
        let six = named("::2", &["IpAddress(0::1)"]);
        assert_eq!(six, "certificate is valid for ::1, not ::2");
        assert_eq!(
            named("x.y", &both[1..2]),
            "certificate is not valid for any names, but wanted to match x.y"
        );
        assert_eq!(
            named("10.0.0.2", &both[..1]),
            "cannot validate certificate for 10.0.0.2 because it doesn't contain any IP SANs"
        );
        assert_eq!(
            named("x.y", &[both[0]; 100]),
            "certificate is valid for 100 names, but none matched x.y"
        );
    }

    fn refused(cn: &str, sans: &[&str], host: &str, error: CertificateError) -> String {
        let ca = pki::Ca::new("ca").unwrap();
        let issued = ca.issue(&pki::Profile {
            cn: cn.into(),
            organizations: Vec::new(),
            sans: sans.iter().map(ToString::to_string).collect(),
            usages: vec![pki::Usage::Server],
            not_after: "2100-01-01T00:00:00Z".parse().unwrap(),
        });
        let pem = issued.unwrap().certificate_pem;
        let certificate = CertificateDer::from_pem_slice(pem.as_bytes()).unwrap();
        let host = ServerName::try_from(host.to_owned()).unwrap();
        match in_gos_order(&certificate, &host, error.into()) {
            Error::InvalidCertificate(error) => reason(&error),
            other => other.to_string(),
        }
    }

    #[test]
    fn the_name_is_looked_at_before_who_vouches_for_it_and_after_the_time() {
        let unknown = || CertificateError::UnknownIssuer;
        let by_nobody = "certificate signed by unknown authority";
        assert_eq!(refused("x", &["a.b"], "a.b", unknown()), by_nobody);
        let other = "certificate is valid for a.b, not a.c";
        assert_eq!(refused("a.c", &["a.b"], "a.c", unknown()), other);
        let legacy = "certificate relies on legacy Common Name field, use SANs instead";
        assert_eq!(refused("a.c", &[], "a.c", unknown()), legacy);
        assert_eq!(refused("*.c", &[], "A.c", unknown()), legacy);
        let none = "certificate is not valid for any names, but wanted to match a.d";
        assert_eq!(refused("a.c", &[], "a.d", unknown()), none);
        let expired = refused("a.c", &[], "a.c", CertificateError::Expired);
        assert_eq!(expired, "certificate has expired or is not yet valid");
    }

    #[test]
    fn a_certificate_out_of_its_time_is_told_with_both_times() {
        let at = |seconds| UnixTime::since_unix_epoch(std::time::Duration::from_secs(seconds));
        let expired = CertificateError::ExpiredContext { time: at(3600), not_after: at(60) };
        assert_eq!(
            told(&expired),
            "tls: failed to verify certificate: x509: certificate has expired or is not yet valid: \
             current time 1970-01-01T01:00:00Z is after 1970-01-01T00:01:00Z"
        );
    }
}
