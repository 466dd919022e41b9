//! The token of a Secret: its claims, and its signature.
//!
//! Upstream: `pkg/serviceaccount` (`legacy.go`, `jwt.go`).

use jsonwebtoken::{Algorithm, EncodingKey, Header};
use k8s_openapi::api::core::v1::ServiceAccount;
use kube::ResourceExt;
use pki::ServiceAccountKey;
use serde_json::{Value, json};

const ISSUER: &str = "kubernetes/serviceaccount";

/// No end, no audience: it is good for as long as its Secret holds it.
pub(super) fn claims(account: &ServiceAccount, secret: &str) -> Value {
    let (name, namespace) = (account.name_any(), account.namespace().unwrap_or_default());
    json!({
        "iss": ISSUER,
        "kubernetes.io/serviceaccount/namespace": namespace,
        "kubernetes.io/serviceaccount/secret.name": secret,
        "kubernetes.io/serviceaccount/service-account.name": name,
        "kubernetes.io/serviceaccount/service-account.uid": account.uid().unwrap_or_default(),
        "sub": format!("system:serviceaccount:{namespace}:{name}"),
    })
}

pub(super) fn sign(
    key: &ServiceAccountKey,
    claims: &Value,
) -> Result<String, jsonwebtoken::errors::Error> {
    let mut header = Header::new(Algorithm::RS256);
    header.typ = None;
    header.kid = Some(key.key_id().to_owned());
    let key = EncodingKey::from_rsa_pem(key.private_pem().as_bytes())?;
    jsonwebtoken::encode(&header, claims, &key)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_says_whose_it_is_and_which_secret_holds_it_and_nothing_else() {
        let account: ServiceAccount = serde_json::from_value(json!({ "metadata": {
            "namespace": "ns", "name": "web", "uid": "1" } }))
        .unwrap();
        let prefix = "kubernetes.io/serviceaccount";
        let expected = json!({
            "iss": "kubernetes/serviceaccount", "sub": "system:serviceaccount:ns:web",
            format!("{prefix}/namespace"): "ns", format!("{prefix}/secret.name"): "web-token",
            format!("{prefix}/service-account.name"): "web",
            format!("{prefix}/service-account.uid"): "1",
        });
        assert_eq!(claims(&account, "web-token"), expected);
    }
}
