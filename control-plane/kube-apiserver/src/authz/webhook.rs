//! The webhook authorizer: a `SubjectAccessReview` to someone outside (EKS access policies).

use std::{collections::HashMap, time::Duration};

use parking_lot::Mutex;
use serde_json::{Value, json};
use tokio::time::Instant;
use tracing::warn;

use super::{Decision, text};
use crate::{
    authn::Hook,
    request::{RequestInfo, UserInfo},
};

/// More answers than this are not kept.
const MEMORY_LIMIT: usize = 4096;

pub(super) struct SubjectAccess {
    hook: Hook,
    memory: Duration,
    answers: Mutex<HashMap<String, (Instant, Decision)>>,
}

impl SubjectAccess {
    pub(super) fn new(hook: Hook, memory: Duration) -> Self {
        Self { hook, memory, answers: Mutex::default() }
    }

    /// `reason` is what the authorizers before this one said.
    pub(super) async fn authorize(
        &self,
        user: &UserInfo,
        info: &RequestInfo,
        reason: &str,
    ) -> Decision {
        let review = review(user, info);
        let key = review.to_string();
        if let Some(known) = self.known(&key) {
            return known;
        }
        let decision = match self.hook.call(&review).await {
            Ok(answer) => decision(&answer, reason),
            Err(error) => {
                warn!(error = &error as &dyn std::error::Error, "authorization webhook failed");
                return Decision::NoOpinion(reason.to_owned());
            }
        };
        self.keep(key, &decision);
        decision
    }

    fn known(&self, key: &str) -> Option<Decision> {
        let answers = self.answers.lock();
        let (until, decision) = answers.get(key)?;
        (Instant::now() < *until).then(|| decision.clone())
    }

    fn keep(&self, key: String, decision: &Decision) {
        if self.memory.is_zero() {
            return;
        }
        let now = Instant::now();
        let mut answers = self.answers.lock();
        if answers.len() >= MEMORY_LIMIT {
            answers.retain(|_, (until, _)| now < *until);
        }
        if answers.len() < MEMORY_LIMIT {
            answers.insert(key, (now + self.memory, decision.clone()));
        }
    }
}

fn review(user: &UserInfo, info: &RequestInfo) -> Value {
    let mut spec = json!({
        "user": user.username, "uid": user.uid, "groups": user.groups, "extra": user.extra,
    });
    if info.is_resource {
        spec["resourceAttributes"] = json!({
            "namespace": info.namespace, "verb": info.verb, "group": info.group,
            "version": info.version, "resource": info.resource,
            "subresource": info.subresource, "name": info.name,
        });
    } else {
        spec["nonResourceAttributes"] = json!({"path": info.path, "verb": info.verb});
    }
    json!({
        "apiVersion": "authorization.k8s.io/v1", "kind": "SubjectAccessReview",
        "metadata": {}, "spec": spec,
    })
}

fn decision(answer: &Value, before: &str) -> Decision {
    let said = |pointer| answer.pointer(pointer) == Some(&Value::Bool(true));
    let reason = text(answer, "/status/reason").to_owned();
    match (said("/status/allowed"), said("/status/denied")) {
        // Both at once is nonsense, and nonsense is no permission.
        (_, true) => Decision::Deny(reason),
        (true, false) => Decision::Allow(reason),
        (false, false) => {
            let reasons = [before, &reason];
            let given: Vec<&str> = reasons.into_iter().filter(|it| !it.is_empty()).collect();
            Decision::NoOpinion(given.join("\n"))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_that_both_allows_and_denies_denies() {
        let answer = json!({"status": {"allowed": true, "denied": true, "reason": "r"}});
        assert_eq!(decision(&answer, ""), Decision::Deny("r".into()));
        assert_eq!(decision(&json!({}), "why"), Decision::NoOpinion("why".into()));
    }
}
