//! Makes the certificate of an approved request.

use std::time::Duration;

use jiff::Timestamp;
use k8s_openapi::api::certificates::v1::CertificateSigningRequest;
use pki::{PkiError, Usage};

use super::approve::{KUBELET_CLIENT, KUBELET_SERVING};
use crate::Config;

const CLIENT: &str = "kubernetes.io/kube-apiserver-client";
/// A node whose clock is a little behind accepts the certificate too (upstream's back-date).
const BACKDATE: Duration = Duration::from_secs(5 * 60);
/// The API server refuses to be asked for less.
const SHORTEST: Duration = Duration::from_secs(600);

/// Whether the cluster's own signer is asked.
pub(super) fn is_ours(request: &CertificateSigningRequest) -> bool {
    [CLIENT, KUBELET_CLIENT, KUBELET_SERVING].contains(&request.spec.signer_name.as_str())
}

pub(super) fn sign(
    config: &Config,
    request: &CertificateSigningRequest,
    now: Timestamp,
) -> Result<String, PkiError> {
    let pem = String::from_utf8_lossy(&request.spec.request.0);
    let lifetime = lifetime(request.spec.expiration_seconds, config.cluster_signing_duration);
    config.ca.sign_csr(&pem, &usages(request), now - BACKDATE, now + lifetime)
}

/// What the signer is for, and whether the key may encipher others, which clients with RSA ask for.
fn usages(request: &CertificateSigningRequest) -> Vec<Usage> {
    let is_server = request.spec.signer_name == KUBELET_SERVING;
    let mut usages = vec![if is_server { Usage::Server } else { Usage::Client }];
    let asked = request.spec.usages.iter().flatten();
    usages.extend(asked.filter(|it| *it == "key encipherment").map(|_| Usage::KeyEncipherment));
    usages
}

/// What was asked for, within what the cluster grants.
fn lifetime(asked: Option<i32>, longest: Duration) -> Duration {
    let asked = asked.and_then(|it| u64::try_from(it).ok()).map(Duration::from_secs);
    asked.map_or(longest, |it| it.max(SHORTEST).min(longest))
}

#[cfg(test)]
mod tests {
    use k8s_openapi::api::certificates::v1::CertificateSigningRequestSpec;

    use super::*;

    #[test]
    fn a_key_may_encipher_where_that_was_asked_for() {
        let wanted = |signer: &str, asked: &[&str]| {
            let spec = CertificateSigningRequestSpec {
                signer_name: signer.to_owned(),
                usages: Some(asked.iter().map(|&it| it.to_owned()).collect()),
                ..CertificateSigningRequestSpec::default()
            };
            usages(&CertificateSigningRequest { spec, ..CertificateSigningRequest::default() })
        };
        assert_eq!(wanted(CLIENT, &["digital signature", "client auth"]), [Usage::Client]);
        assert_eq!(
            wanted(KUBELET_SERVING, &["digital signature", "key encipherment", "server auth"]),
            [Usage::Server, Usage::KeyEncipherment]
        );
    }

    #[test]
    fn the_lifetime_is_what_was_asked_for_within_limits() {
        let year = Duration::from_secs(365 * 24 * 3600);
        for (asked, expected) in [
            (None, year),
            (Some(3600), Duration::from_secs(3600)),
            (Some(1), SHORTEST),
            (Some(i32::MAX), year),
        ] {
            assert_eq!(lifetime(asked, year), expected, "{asked:?}");
        }
    }
}
