//! The certificate by which the API server knows this node.
//!
//! A node that has none asks for its first with the bootstrap kubeconfig; later ones are asked for with
//! the one before.
//!
//! Upstream: `pkg/kubelet/certificate/bootstrap`, `NewKubeletClientCertificateManager`.

use kube::Client;
use rcgen::{CertificateParams, KeyPair};

use super::{
    CertificateError, Validity,
    request::{self, Wanted},
    serving::subject,
    store::Store,
};

pub(crate) const NAME: &str = "kubelet-client";

/// Asks for a certificate, and returns it with its key in PEM.
pub(crate) async fn ask(client: Client, node_name: &str) -> Result<String, CertificateError> {
    let key = KeyPair::generate().map_err(CertificateError::Make)?;
    let mut params = CertificateParams::default();
    params.distinguished_name = subject(node_name);
    let request =
        params.serialize_request(&key).and_then(|it| it.pem()).map_err(CertificateError::Make)?;
    let wanted = Wanted {
        signer: "kubernetes.io/kube-apiserver-client-kubelet",
        usages: &["digital signature", "client auth"],
        request,
    };
    let certificate = request::sign(client, wanted).await?;
    Ok(format!("{certificate}\n{}", key.serialize_pem()))
}

/// What is kept, if it can still be used.
pub(crate) fn kept(store: &Store, now: jiff::Timestamp) -> Option<(String, Validity)> {
    let pem = store.read()?;
    let validity = Validity::of_pem(&pem)?;
    (now < validity.to && pem.contains("PRIVATE KEY")).then_some((pem, validity))
}
