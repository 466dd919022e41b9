//! Bearer tokens that someone else knows: a `TokenReview` to a webhook.
//!
//! Good answers are kept for a while, by the token's digest; bad ones never, so that a principal
//! that is mapped a moment later gets in at once.

use std::{collections::HashMap, time::Duration};

use parking_lot::Mutex;
use serde_json::{Value, json};
use sha2::{Digest, Sha256};
use tokio::time::Instant;
use tracing::warn;

use super::{Hook, reviews::user_of};
use crate::{authz::text, request::UserInfo};

/// More users than this are not kept.
const MEMORY_LIMIT: usize = 4096;

type Key = [u8; 32];

#[derive(Debug)]
pub(super) struct TokenWebhook {
    hook: Hook,
    memory: Duration,
    known: Mutex<HashMap<Key, (Instant, UserInfo)>>,
}

impl TokenWebhook {
    pub(super) fn new(hook: Hook, memory: Duration) -> Self {
        Self { hook, memory, known: Mutex::default() }
    }

    pub(super) async fn authenticate(&self, token: &str, audiences: &[String]) -> Option<UserInfo> {
        let mut digest = Sha256::new();
        digest.update(token);
        audiences.iter().for_each(|it| digest.update(format!("\0{it}")));
        let key: Key = digest.finalize().into();
        if let Some((until, user)) = self.known.lock().get(&key)
            && Instant::now() < *until
        {
            return Some(user.clone());
        }
        let user = self.ask(token, audiences).await?;
        self.keep(key, &user);
        Some(user)
    }

    async fn ask(&self, token: &str, audiences: &[String]) -> Option<UserInfo> {
        let review = json!({
            "apiVersion": "authentication.k8s.io/v1", "kind": "TokenReview",
            "spec": {"token": token, "audiences": audiences},
        });
        let answer = match self.hook.call(&review).await {
            Ok(answer) => answer,
            Err(error) => {
                warn!(error = &error as &dyn std::error::Error, "token webhook failed");
                return None;
            }
        };
        accepted(&answer, audiences)
    }

    fn keep(&self, key: Key, user: &UserInfo) {
        let now = Instant::now();
        let mut known = self.known.lock();
        if known.len() >= MEMORY_LIMIT {
            known.retain(|_, (until, _)| now < *until);
        }
        if known.len() < MEMORY_LIMIT {
            known.insert(key, (now + self.memory, user.clone()));
        }
    }
}

fn accepted(answer: &Value, audiences: &[String]) -> Option<UserInfo> {
    if answer.pointer("/status/authenticated") != Some(&Value::Bool(true)) {
        let error = text(answer, "/status/error");
        tracing::debug!(error, "token webhook refused a token");
        return None;
    }
    // A webhook that knows no audiences answers with none, and that is accepted.
    let given = answer.pointer("/status/audiences").and_then(Value::as_array);
    let given = given.filter(|it| !it.is_empty());
    let is_for_us = given.is_none_or(|given| {
        given.iter().filter_map(Value::as_str).any(|it| audiences.iter().any(|own| own == it))
    });
    let user = user_of(answer.pointer("/status/user")?);
    (is_for_us && !user.username.is_empty()).then_some(user)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_clear_yes_for_our_audience_with_a_name_counts() {
        let own = ["https://kubernetes.default.svc".to_owned()];
        let answer = |status: Value| json!({"status": status});
        let user = json!({"username": "bob"});
        let good = answer(json!({"authenticated": true, "user": user}));
        assert!(accepted(&good, &own).is_some());
        for bad in [
            json!({"authenticated": false, "user": user}),
            json!({"authenticated": "true", "user": user}),
            json!({"authenticated": true, "user": {"username": ""}}),
            json!({"authenticated": true}),
            json!({"authenticated": true, "user": user, "audiences": ["other"]}),
        ] {
            assert!(accepted(&answer(bad.clone()), &own).is_none(), "{bad}");
        }
    }
}
