//! Whose a token is: the cluster's API server knows.
//!
//! It is asked by a TokenReview for the audience `pods.eks.amazonaws.com`. It checks signature,
//! issuer, audience and expiry, and that the account and the pod that the token is bound to still
//! are, with their UIDs: the token of a deleted pod is nothing.

use std::time::Duration;

use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use clock::Clock;
use jiff::Timestamp;
use k8s_openapi::api::authentication::v1::{TokenReview, TokenReviewSpec, UserInfo};
use kube::{Api, Client, api::PostParams};
use serde_json::Value;

use crate::{EksAuthError, SERVICE};

const LIMIT: Duration = Duration::from_secs(5);
/// Tokens of the agent's clients are a thousand characters.
const LONGEST: usize = 20_000;

/// What a token proves.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Bearer {
    pub(crate) namespace: String,
    pub(crate) service_account: String,
    pub(crate) pod_name: String,
    pub(crate) pod_uid: String,
}

/// Three parts of base64url, as the API's model has it.
pub(crate) fn check_shape(token: &str) -> Result<(), EksAuthError> {
    let is_digit = |it: u8| it.is_ascii_alphanumeric() || b"-_=".contains(&it);
    let is_part = |it: &str| !it.is_empty() && it.bytes().all(is_digit);
    let is_token = token.split('.').count() == 3 && token.split('.').all(is_part);
    if is_token && token.len() <= LONGEST {
        Ok(())
    } else {
        Err(EksAuthError::Parameter { field: "token" })
    }
}

/// Asks the cluster.
pub(crate) async fn review(
    client: Client,
    clock: Clock,
    token: &str,
) -> Result<Bearer, EksAuthError> {
    let reviews: Api<TokenReview> = Api::all(client);
    let question = TokenReview {
        spec: TokenReviewSpec {
            token: token.to_owned(),
            audiences: Some(vec![SERVICE.to_owned()]),
        },
        ..TokenReview::default()
    };
    let parameters = PostParams::default();
    let asked = tokio::time::timeout(LIMIT, reviews.create(&parameters, &question)).await;
    let unavailable = |reason: String| EksAuthError::Unavailable { reason };
    let answer = match asked {
        Ok(Ok(answer)) => answer.status.unwrap_or_default(),
        Ok(Err(error)) => {
            let reason = telemetry::chain(&error).to_string();
            return Err(unavailable(format!("The cluster's API server did not answer: {reason}")));
        }
        Err(_) => return Err(unavailable("The cluster's API server does not answer.".to_owned())),
    };
    let is_for_us = answer.audiences.is_some_and(|it| it.iter().any(|it| it == SERVICE));
    if answer.authenticated == Some(true) && is_for_us {
        return bearer(&answer.user.unwrap_or_default());
    }
    let now = clock.now();
    match expiry(token) {
        Some(expires) if expires <= now => Err(EksAuthError::Expired { now, expires }),
        _ => Err(invalid(answer.error.as_deref().unwrap_or("it was not accepted"))),
    }
}

fn invalid(reason: &str) -> EksAuthError {
    EksAuthError::Invalid { reason: reason.to_owned() }
}

fn bearer(user: &UserInfo) -> Result<Bearer, EksAuthError> {
    let name = user.username.as_deref().unwrap_or_default();
    let account = name.strip_prefix("system:serviceaccount:").and_then(|it| it.split_once(':'));
    let (namespace, service_account) =
        account.ok_or_else(|| invalid("it is not of a service account"))?;
    let extra = |key: &str| {
        let key = format!("authentication.kubernetes.io/{key}");
        let values = user.extra.as_ref().and_then(|it| it.get(&key));
        values.and_then(|it| it.first()).cloned()
    };
    let (Some(pod_name), Some(pod_uid)) = (extra("pod-name"), extra("pod-uid")) else {
        return Err(invalid("it is not bound to a pod"));
    };
    let (namespace, service_account) = (namespace.to_owned(), service_account.to_owned());
    Ok(Bearer { namespace, service_account, pod_name, pod_uid })
}

/// What an unverified token says of its end: only to tell why it was refused.
fn expiry(token: &str) -> Option<Timestamp> {
    let payload = token.split('.').nth(1)?;
    let payload = URL_SAFE_NO_PAD.decode(payload.trim_end_matches('=')).ok()?;
    let claims: Value = serde_json::from_slice(&payload).ok()?;
    Timestamp::from_second(claims["exp"].as_i64()?).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_has_three_parts() {
        assert!(check_shape("a-_.b=.c").is_ok());
        for bad in ["", "a.b", "a.b.c.d", "a..c", "a.b.c d", "Bearer a.b.c"] {
            assert!(check_shape(bad).is_err(), "{bad}");
        }
        assert!(check_shape(&format!("{}.b.c", "a".repeat(LONGEST))).is_err());
    }

    #[test]
    fn a_token_that_no_pod_has_is_nobodys() {
        let user = |name: &str, extra: &[(&str, &str)]| UserInfo {
            username: Some(name.to_owned()),
            extra: Some(
                extra
                    .iter()
                    .map(|(key, value)| {
                        let key = format!("authentication.kubernetes.io/{key}");
                        (key, vec![(*value).to_owned()])
                    })
                    .collect(),
            ),
            ..UserInfo::default()
        };
        let pod = [("pod-name", "p"), ("pod-uid", "u")];
        let found = bearer(&user("system:serviceaccount:ns:app", &pod)).unwrap();
        assert_eq!((&*found.namespace, &*found.service_account), ("ns", "app"));
        assert!(bearer(&user("system:node:n", &pod)).is_err());
        assert!(bearer(&user("system:serviceaccount:ns:app", &pod[..1])).is_err());
    }
}
