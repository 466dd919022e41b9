//! `clusterTrustBundle` in a projected volume: the certificates of one bundle, or of all bundles of a
//! signer that a selector matches.
//!
//! Upstream: `pkg/kubelet/clustertrustbundle`.
//!
//! Deviation: bundles are read when a volume is made again
//! (once a minute), not watched.

use std::collections::BTreeSet;

use base64::{Engine, engine::general_purpose::STANDARD};
use k8s_openapi::api::{
    certificates::v1beta1::ClusterTrustBundle, core::v1::ClusterTrustBundleProjection,
};
use kube::{Api, Client, api::ListParams, core::Selector};

use super::MountVolumeError;
use crate::api_limit::within;

pub(super) async fn read(
    client: &Client,
    source: &ClusterTrustBundleProjection,
) -> Result<String, MountVolumeError> {
    let api = Api::<ClusterTrustBundle>::all(client.clone());
    let may_be_empty = source.optional == Some(true);
    let found = match (&source.name, &source.signer_name) {
        (Some(name), _) => match within(api.get_opt(name)).await.map_err(failed)? {
            Some(bundle) => vec![bundle],
            None if may_be_empty => Vec::new(),
            None => {
                let message =
                    format!("clustertrustbundles.certificates.k8s.io \"{name}\" not found");
                return Err(MountVolumeError::Text(message));
            }
        },
        (None, Some(signer)) => {
            // No selector matches nothing, an empty one everything.
            match &source.label_selector {
                None => Vec::new(),
                Some(it) => {
                    let selector = Selector::try_from(it.clone()).map_err(|error| {
                        MountVolumeError::Text(format!("invalid label selector: {error}"))
                    })?;
                    let fields = format!("spec.signerName={signer}");
                    let params = ListParams::default().fields(&fields).labels_from(&selector);
                    within(api.list(&params)).await.map_err(failed)?.items
                }
            }
        }
        (None, None) => {
            let message =
                "ClusterTrustBundle projection requires either name or signerName to be set";
            return Err(MountVolumeError::Text(message.to_owned()));
        }
    };
    let text = merged(found.iter().map(|it| it.spec.trust_bundle.as_str()));
    if text.is_empty() && !may_be_empty {
        let message =
            "combination of signerName and labelSelector matched zero ClusterTrustBundles";
        return Err(MountVolumeError::Text(message.to_owned()));
    }
    Ok(text)
}

fn failed(message: String) -> MountVolumeError {
    MountVolumeError::Text(format!("unable to get ClusterTrustBundle: {message}"))
}

/// Each certificate once, without whatever is written between them.
fn merged<'a>(bundles: impl Iterator<Item = &'a str>) -> String {
    const BEGIN: &str = "-----BEGIN CERTIFICATE-----";
    const END: &str = "-----END CERTIFICATE-----";
    let mut seen = BTreeSet::new();
    for bundle in bundles {
        for part in bundle.split(BEGIN).skip(1) {
            let body = part.split(END).next().unwrap_or_default();
            let packed: String = body.split_whitespace().collect();
            seen.extend(STANDARD.decode(packed).ok().filter(|it| !it.is_empty()));
        }
    }
    let mut text = String::new();
    for der in seen {
        let packed = STANDARD.encode(der);
        text.push_str(BEGIN);
        text.push('\n');
        for (index, char) in packed.char_indices() {
            if index > 0 && index % 64 == 0 {
                text.push('\n');
            }
            text.push(char);
        }
        text.push('\n');
        text.push_str(END);
        text.push('\n');
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_certificate_that_two_bundles_hold_is_written_once_and_comments_are_not() {
        let one = "# a root\n-----BEGIN CERTIFICATE-----\nQUFB\n-----END CERTIFICATE-----\n";
        let two = format!("{one}-----BEGIN CERTIFICATE-----\nQkJC\n-----END CERTIFICATE-----\n");
        let text = merged([one, two.as_str()].into_iter());
        assert_eq!(text.matches("BEGIN").count(), 2, "{text}");
        assert!(!text.contains('#'));
        assert!(text.contains("\nQUFB\n") && text.contains("\nQkJC\n"));
    }
}
