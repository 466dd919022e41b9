//! Service-account tokens: made and checked.
//!
//! A token is as good as its signature, its dates, its audience and the objects that it is bound
//! to: the account, and the pod, node or secret that it was made for, each with the same UID.
//!
//! Upstream: pkg/serviceaccount (`claims.go`).

use std::sync::Arc;

use clock::Clock;
use jiff::{Timestamp, ToSpan};
use jsonwebtoken::{Algorithm, DecodingKey, EncodingKey, Header, Validation};
use pki::ServiceAccountKey;
use serde::{Deserialize, Serialize, de::DeserializeOwned};
use serde_json::Value;

use super::{SigningKeys, legacy_token};
use crate::{
    authz::{Objects, text},
    request::UserInfo,
};

/// How long an object that is being deleted still vouches for its tokens, beyond its own grace.
const DELETION_LEEWAY_SECONDS: i64 = 60;

/// How far in the future `nbf` may be: clocks differ.
const CLOCK_LEEWAY_SECONDS: i64 = 60;

/// Who signs, for whom, and for how long.
#[derive(Clone, Debug)]
pub struct ServiceAccounts {
    pub issuer: String,
    /// What the API server calls itself; the default of tokens' audiences.
    pub audiences: Vec<String>,
    /// Where relying parties find the public keys (`--service-account-jwks-uri`).
    pub jwks_uri: String,
    pub keys: SigningKeys,
    /// By which tokens in Secrets may be signed besides: they outlive what is rotated.
    pub legacy_keys: SigningKeys,
}

/// The claims of a token, laid out as upstream's.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize)]
pub(super) struct Claims {
    pub(super) aud: Vec<String>,
    pub(super) exp: i64,
    pub(super) iat: i64,
    pub(super) iss: String,
    pub(super) jti: String,
    #[serde(rename = "kubernetes.io")]
    pub(super) kubernetes: Private,
    pub(super) nbf: i64,
    pub(super) sub: String,
}

#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize, Serialize)]
pub(super) struct Private {
    pub(super) namespace: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) node: Option<Reference>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) pod: Option<Reference>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) secret: Option<Reference>,
    pub(super) serviceaccount: Reference,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) warnafter: Option<i64>,
}

#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize, Serialize)]
pub(super) struct Reference {
    pub(super) name: String,
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub(super) uid: String,
}

/// Why a token is no good. Shown in TokenReviews, never to the bearer.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum TokenError {
    #[error("invalid bearer token")]
    Malformed,
    #[error("the token's signature is not of any known key")]
    Signature,
    #[error("service account token has expired")]
    Expired,
    #[error("service account token is not valid yet")]
    NotYetValid,
    #[error("token audiences {given:?} is invalid for the target audiences {wanted:?}")]
    Audience { given: Vec<String>, wanted: Vec<String> },
    #[error("the subject does not match the token's claims")]
    Subject,
    #[error("the {kind} `{name}` that the token is bound to is gone")]
    Unbound { kind: &'static str, name: String },
}

impl ServiceAccounts {
    /// Whether the token claims to be of this issuer (nothing is verified).
    pub(super) fn is_own(&self, token: &str) -> bool {
        let claims = jsonwebtoken::dangerous::insecure_decode_claims::<Value>(token);
        claims.is_ok_and(|claims| text(&claims, "/iss") == self.issuer)
    }

    /// Whether the token claims to be one of those that Secrets hold (nothing is verified).
    pub(super) fn is_legacy(token: &str) -> bool {
        let claims = jsonwebtoken::dangerous::insecure_decode_claims::<Value>(token);
        claims.is_ok_and(|claims| text(&claims, "/iss") == legacy_token::ISSUER)
    }

    pub(super) fn sign(&self, claims: &Claims) -> Result<String, jsonwebtoken::errors::Error> {
        let keys = self.keys.get();
        let key = keys.first().ok_or(jsonwebtoken::errors::ErrorKind::InvalidRsaKey(
            "there is no signing key".into(),
        ))?;
        let mut header = Header::new(Algorithm::RS256);
        header.typ = None;
        header.kid = Some(key.key_id().to_owned());
        let key = EncodingKey::from_rsa_pem(key.private_pem().as_bytes())?;
        jsonwebtoken::encode(&header, claims, &key)
    }

    /// Checks a token for any of `audiences`. Returns its user and the audiences in common.
    pub(super) fn verify(
        &self,
        token: &str,
        audiences: &[String],
        objects: &Arc<dyn Objects>,
        clock: Clock,
    ) -> Result<(UserInfo, Vec<String>), TokenError> {
        let claims = self.decode(token)?;
        let now = clock.now();
        if claims.exp < now.as_second() - CLOCK_LEEWAY_SECONDS {
            return Err(TokenError::Expired);
        }
        if claims.nbf > now.as_second() + CLOCK_LEEWAY_SECONDS {
            return Err(TokenError::NotYetValid);
        }
        let common: Vec<String> =
            audiences.iter().filter(|it| claims.aud.contains(it)).cloned().collect();
        if common.is_empty() {
            let (given, wanted) = (claims.aud, audiences.to_vec());
            return Err(TokenError::Audience { given, wanted });
        }
        let own = &claims.kubernetes;
        let expected =
            format!("system:serviceaccount:{}:{}", own.namespace, own.serviceaccount.name);
        if own.namespace.is_empty() || claims.sub != expected {
            return Err(TokenError::Subject);
        }
        check_bindings(own, &**objects, now)?;
        Ok((user(&claims), common))
    }

    fn decode(&self, token: &str) -> Result<Claims, TokenError> {
        let claims: Claims = decode(token, &self.issuer, &self.keys.get())?;
        if claims.iss == self.issuer { Ok(claims) } else { Err(TokenError::Malformed) }
    }

    pub(super) fn decode_legacy(&self, token: &str) -> Result<legacy_token::Claims, TokenError> {
        let mut keys = self.keys.get().to_vec();
        keys.extend(self.legacy_keys.get().iter().cloned());
        let claims: legacy_token::Claims = decode(token, legacy_token::ISSUER, &keys)?;
        if claims.iss == legacy_token::ISSUER { Ok(claims) } else { Err(TokenError::Malformed) }
    }
}

/// The claims of a token that one of the keys signed.
fn decode<C: DeserializeOwned + Clone>(
    token: &str,
    issuer: &str,
    keys: &[ServiceAccountKey],
) -> Result<C, TokenError> {
    let header = jsonwebtoken::decode_header(token).map_err(|_| TokenError::Malformed)?;
    let mut validation = Validation::new(Algorithm::RS256);
    // Dates and audiences are checked against the injected clock and the asked audiences.
    validation.validate_exp = false;
    validation.validate_nbf = false;
    validation.validate_aud = false;
    validation.required_spec_claims.clear();
    validation.set_issuer(&[issuer]);
    let known = keys.iter().filter(|key| {
        header.kid.as_deref().is_none_or(|kid| kid.is_empty() || kid == key.key_id())
    });
    for key in known {
        let Ok(public) = DecodingKey::from_rsa_pem(key.public_pem().as_bytes()) else {
            continue;
        };
        if let Ok(data) = jsonwebtoken::decode::<C>(token, &public, &validation) {
            return Ok(data.claims);
        }
    }
    Err(TokenError::Signature)
}

fn check_bindings(
    claims: &Private,
    objects: &dyn Objects,
    now: Timestamp,
) -> Result<(), TokenError> {
    let namespace = claims.namespace.as_str();
    let check = |kind, resource, namespace: &str, reference: &Reference| {
        let found = objects.get(resource, namespace, &reference.name);
        match found {
            Some(object) if still_vouches(&object, &reference.uid, now) => Ok(()),
            _ => Err(TokenError::Unbound { kind, name: reference.name.clone() }),
        }
    };
    check("service account", "serviceaccounts", namespace, &claims.serviceaccount)?;
    if let Some(secret) = &claims.secret {
        check("secret", "secrets", namespace, secret)?;
    }
    match (&claims.pod, &claims.node) {
        // The node beside a pod is a note on where it ran, not a binding.
        (Some(pod), _) => check("pod", "pods", namespace, pod),
        (None, Some(node)) => check("node", "nodes", "", node),
        (None, None) => Ok(()),
    }
}

fn still_vouches(object: &Value, uid: &str, now: Timestamp) -> bool {
    if uid.is_empty() || text(object, "/metadata/uid") != uid {
        return false;
    }
    match text(object, "/metadata/deletionTimestamp").parse::<Timestamp>() {
        Ok(deleted) => now <= deleted + DELETION_LEEWAY_SECONDS.seconds(),
        Err(_) => true,
    }
}

/// A service account as a user.
pub(super) fn account_user(namespace: &str, name: &str, uid: &str) -> UserInfo {
    let groups = ["system:serviceaccounts", &format!("system:serviceaccounts:{namespace}")];
    let mut user = UserInfo::new(&format!("system:serviceaccount:{namespace}:{name}"), &groups);
    uid.clone_into(&mut user.uid);
    user
}

fn user(claims: &Claims) -> UserInfo {
    let own = &claims.kubernetes;
    let account = &own.serviceaccount;
    let mut user = account_user(&own.namespace, &account.name, &account.uid);
    let mut extra = |key: &str, value: String| {
        user.extra.insert(format!("authentication.kubernetes.io/{key}"), vec![value]);
    };
    extra("credential-id", format!("JTI={}", claims.jti));
    if let Some(pod) = &own.pod {
        extra("pod-name", pod.name.clone());
        extra("pod-uid", pod.uid.clone());
    }
    if let Some(node) = &own.node {
        extra("node-name", node.name.clone());
        if !node.uid.is_empty() {
            extra("node-uid", node.uid.clone());
        }
    }
    user
}

#[cfg(test)]
mod tests;
