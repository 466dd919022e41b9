//! Why a certificate is not trusted, as Go's `crypto/x509` words it: those are the words that users
//! search for.
//!
//! Deviation: of a certificate that is of another name and by nobody who is known only the latter is
//! told; Go looks at the name first.

use jiff::Timestamp;
use rustls::CertificateError;
use rustls_pki_types::{ServerName, UnixTime};

const VERIFY: &str = "tls: failed to verify certificate: x509: ";
/// Go lists no more names than these.
const MOST_NAMES: usize = 100;

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
    let of = |kind: &str| -> Vec<&str> {
        let own = presented.iter().filter_map(|it| it.strip_prefix(kind)?.strip_suffix(')'));
        own.map(|it| it.trim_matches('"')).collect()
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
