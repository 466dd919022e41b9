//! The tokens of Secrets of type `kubernetes.io/service-account-token`.
//!
//! They have no end and no audience: each is as good as the Secret that holds it and the account that
//! it is for. A controller signs them; here they are checked, and it is noted that they were used.
//!
//! Upstream: pkg/serviceaccount (`legacy.go`). Deviation: no audit annotations, metrics or warning
//! about such tokens.

use std::{collections::BTreeMap, sync::Arc};

use base64::{Engine, prelude::BASE64_STANDARD};
use jiff::{Timestamp, ToSpan};
use parking_lot::Mutex;
use serde::Deserialize;
use serde_json::Value;
use subtle::ConstantTimeEq;
use tokio::sync::Notify;

use super::{ServiceAccounts, TokenError, service_account};
use crate::{
    authz::{Objects, text},
    request::UserInfo,
};

pub(super) const ISSUER: &str = "kubernetes/serviceaccount";
/// The day on which a token was last used.
pub(crate) const LAST_USED: &str = "kubernetes.io/legacy-token-last-used";
const INVALID_SINCE: &str = "kubernetes.io/legacy-token-invalid-since";

/// The claims, laid out as upstream's.
#[derive(Clone, Debug, Deserialize)]
pub(super) struct Claims {
    pub(super) iss: String,
    #[serde(default)]
    sub: String,
    #[serde(rename = "kubernetes.io/serviceaccount/namespace", default)]
    namespace: String,
    #[serde(rename = "kubernetes.io/serviceaccount/secret.name", default)]
    secret: String,
    #[serde(rename = "kubernetes.io/serviceaccount/service-account.name", default)]
    account: String,
    #[serde(rename = "kubernetes.io/serviceaccount/service-account.uid", default)]
    uid: String,
}

/// Why such a token is no good, in upstream's words.
#[derive(Debug, thiserror::Error)]
pub(crate) enum LegacyTokenError {
    #[error("{0}")]
    Token(TokenError),
    #[error("{0} claim is missing")]
    Missing(&'static str),
    #[error("sub claim is invalid")]
    Subject,
    #[error("Token has been invalidated")]
    Invalidated,
    #[error("Token does not match server's copy")]
    Another,
    #[error("serviceaccounts \"{0}\" not found")]
    NoAccount(String),
    #[error("ServiceAccount {0} has been deleted")]
    Deleted(String),
    #[error("ServiceAccount UID ({found}) does not match claim ({claimed})")]
    Uid { found: String, claimed: String },
    #[error(
        "the token in secret {namespace}/{secret} for service account {namespace}/{account} has been \
         marked invalid. Use tokens from the TokenRequest API or manually created secret-based \
         tokens, or remove the '{INVALID_SINCE}' label from the secret to temporarily allow use of \
         this token"
    )]
    MarkedInvalid { namespace: String, secret: String, account: String },
}

/// Which Secrets' tokens were used on a day that their label does not show yet. Clones share it.
#[derive(Clone, Debug, Default)]
pub(crate) struct Uses(Arc<Pending>);

#[derive(Debug, Default)]
struct Pending {
    /// The UID of the Secret, by its namespace and name.
    secrets: Mutex<BTreeMap<(String, String), String>>,
    notify: Notify,
}

/// A Secret whose label is to say a day.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Use {
    pub(crate) namespace: String,
    pub(crate) name: String,
    pub(crate) uid: String,
}

impl Uses {
    fn note(&self, secret: &Value, now: Timestamp) {
        let label = secret["metadata"]["labels"][LAST_USED].as_str().unwrap_or_default();
        // Of servers whose clocks differ one may be in tomorrow.
        let is_shown = label == day(now) || label == day(now + 24.hours());
        if is_shown {
            return;
        }
        let meta = |field: &str| text(secret, &format!("/metadata/{field}")).to_owned();
        self.0.secrets.lock().insert((meta("namespace"), meta("name")), meta("uid"));
        self.0.notify.notify_one();
    }

    /// Waits for the next ones.
    pub(crate) async fn next(&self) -> Vec<Use> {
        loop {
            let taken = std::mem::take(&mut *self.0.secrets.lock());
            if !taken.is_empty() {
                let used =
                    taken.into_iter().map(|((namespace, name), uid)| Use { namespace, name, uid });
                return used.collect();
            }
            self.0.notify.notified().await;
        }
    }
}

/// As dates are written in labels.
pub(crate) fn day(at: Timestamp) -> String {
    at.strftime("%Y-%m-%d").to_string()
}

/// Checks a token for any of `audiences`. Returns its user and the audiences in common.
pub(super) fn verify(
    accounts: &ServiceAccounts,
    token: &str,
    audiences: &[String],
    objects: &dyn Objects,
    now: Timestamp,
    uses: &Uses,
) -> Result<(UserInfo, Vec<String>), LegacyTokenError> {
    let claims = accounts.decode_legacy(token).map_err(LegacyTokenError::Token)?;
    // Whom they are for is not written in them: the API server, and nobody else.
    let own = &accounts.audiences;
    let common: Vec<String> = audiences.iter().filter(|it| own.contains(it)).cloned().collect();
    if common.is_empty() {
        let (given, wanted) = (own.clone(), audiences.to_vec());
        return Err(LegacyTokenError::Token(TokenError::Audience { given, wanted }));
    }
    check_claims(&claims)?;
    let secret = objects.get("secrets", &claims.namespace, &claims.secret);
    let secret = secret.ok_or(LegacyTokenError::Invalidated)?;
    check_secret(&secret, token)?;
    check_account(objects, &claims)?;
    uses.note(&secret, now);
    let invalid_since = secret["metadata"]["labels"][INVALID_SINCE].as_str();
    if invalid_since.is_some_and(|it| !it.is_empty()) {
        let Claims { namespace, secret, account, .. } = claims;
        return Err(LegacyTokenError::MarkedInvalid { namespace, secret, account });
    }
    Ok((service_account::account_user(&claims.namespace, &claims.account, &claims.uid), common))
}

fn check_claims(claims: &Claims) -> Result<(), LegacyTokenError> {
    for (name, value) in [
        ("sub", &claims.sub),
        ("namespace", &claims.namespace),
        ("secretName", &claims.secret),
        ("serviceAccountName", &claims.account),
        ("serviceAccountUID", &claims.uid),
    ] {
        if value.is_empty() {
            return Err(LegacyTokenError::Missing(name));
        }
    }
    let expected = format!("system:serviceaccount:{}:{}", claims.namespace, claims.account);
    if claims.sub == expected { Ok(()) } else { Err(LegacyTokenError::Subject) }
}

fn check_secret(secret: &Value, token: &str) -> Result<(), LegacyTokenError> {
    if !secret["metadata"]["deletionTimestamp"].is_null() {
        return Err(LegacyTokenError::Invalidated);
    }
    let held = secret["data"]["token"].as_str().unwrap_or_default();
    let held = BASE64_STANDARD.decode(held).unwrap_or_default();
    let is_same: bool = held.ct_eq(token.as_bytes()).into();
    if is_same { Ok(()) } else { Err(LegacyTokenError::Another) }
}

fn check_account(objects: &dyn Objects, claims: &Claims) -> Result<(), LegacyTokenError> {
    let account = objects.get("serviceaccounts", &claims.namespace, &claims.account);
    let account = account.ok_or_else(|| LegacyTokenError::NoAccount(claims.account.clone()))?;
    if !account["metadata"]["deletionTimestamp"].is_null() {
        let name = format!("{}/{}", claims.namespace, claims.account);
        return Err(LegacyTokenError::Deleted(name));
    }
    let found = text(&account, "/metadata/uid");
    if found != claims.uid {
        let (found, claimed) = (found.to_owned(), claims.uid.clone());
        return Err(LegacyTokenError::Uid { found, claimed });
    }
    Ok(())
}

#[cfg(test)]
mod tests;
