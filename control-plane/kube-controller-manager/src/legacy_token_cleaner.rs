//! Takes away tokens of Secrets that nobody has used for a year.
//!
//! Only such as were made by themselves in older clusters: those that their account names in
//! `secrets`, and that no pod mounts. They are marked invalid first, and go a year after that.
//!
//! Upstream: `pkg/controller/serviceaccount/legacy_serviceaccount_token_cleaner.go`
//! (`legacy-serviceaccount-token-cleaner-controller`).

use std::time::Duration;

use controller::{ApplyError, Key, apply, object};
use jiff::{Timestamp, ToSpan, civil::Date, tz::TimeZone};
use k8s_openapi::api::core::v1::{ConfigMap, Pod, Secret, ServiceAccount};
use kube::{
    ResourceExt,
    api::{DeleteParams, ListParams, Preconditions},
};
use serde_json::{Value, json};

use crate::{
    Context,
    service_account_token::{ACCOUNT_NAME, annotation, is_of},
};

const PERIOD: Duration = Duration::from_secs(24 * 3600);
const TRACKING: &str = "kube-apiserver-legacy-service-account-token-tracking";
const LAST_USED: &str = "kubernetes.io/legacy-token-last-used";
const INVALID_SINCE: &str = "kubernetes.io/legacy-token-invalid-since";

pub(crate) async fn run(context: Context) {
    loop {
        if let Err(error) = pass(&context).await {
            tracing::warn!(error = %telemetry::chain(&error), "unused tokens are not cleaned up");
        }
        tokio::time::sleep(PERIOD).await;
    }
}

async fn pass(context: &Context) -> Result<(), ApplyError> {
    let now = context.clock.now();
    let unused_for = context.config.legacy_token_clean_up_period;
    let since = tracked_since(context).await?;
    if since.is_none_or(|it| now < clock::later(it, unused_for)) {
        return Ok(());
    }
    for secret in context.caches.token_secrets.all() {
        let namespace = secret.namespace().unwrap_or_default();
        let key = Key::new(&namespace, annotation(&secret, ACCOUNT_NAME));
        let account = context.caches.service_accounts.get(&key);
        let step = plan(&secret, account.as_deref(), now, unused_for);
        if step == Step::Keep || is_mounted(context, &secret).await? {
            continue;
        }
        let done = match step {
            Step::Keep => Ok(()),
            Step::Mark => mark(context, &secret, now).await,
            Step::Delete => delete(context, &secret).await,
        };
        if let Err(error) = done {
            tracing::warn!(error = %telemetry::chain(&error), "an unused token stays");
        }
    }
    Ok(())
}

/// The end of the first day on which uses were written down.
async fn tracked_since(context: &Context) -> Result<Option<Timestamp>, ApplyError> {
    let found = apply::api::<ConfigMap>(&context.client, "kube-system").get_opt(TRACKING).await;
    let found = found.map_err(|it| ApplyError::new::<ConfigMap>("get", TRACKING, it))?;
    let since = found.and_then(|it| it.data?.remove("since")?.parse::<Date>().ok());
    let next = since.and_then(|it| it.checked_add(1.day()).ok()?.to_zoned(TimeZone::UTC).ok());
    Ok(next.map(|it| it.timestamp()))
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Step {
    Keep,
    Mark,
    Delete,
}

/// What is due for a Secret that no pod mounts.
fn plan(
    secret: &Secret,
    account: Option<&ServiceAccount>,
    now: Timestamp,
    unused_for: Duration,
) -> Step {
    let limit = clock::earlier(now, unused_for);
    if object::is_terminating(secret) || object::created_at(secret) >= limit {
        return Step::Keep;
    }
    let limit = limit.to_zoned(TimeZone::UTC).date();
    let day = |label: &str| object::label(secret, label).map(str::parse::<Date>);
    match day(LAST_USED) {
        // Nobody has used it since uses are written down.
        None => {}
        Some(Ok(used)) if used < limit => {}
        Some(_) => return Step::Keep,
    }
    let is_named = account.filter(|it| is_of(secret, it)).is_some_and(|it| {
        it.secrets.iter().flatten().any(|it| it.name.as_ref() == secret.metadata.name.as_ref())
    });
    match day(INVALID_SINCE) {
        _ if !is_named => Step::Keep,
        Some(Ok(since)) if since < limit => Step::Delete,
        Some(Ok(_)) => Step::Keep,
        _ => Step::Mark,
    }
}

async fn is_mounted(context: &Context, secret: &Secret) -> Result<bool, ApplyError> {
    let namespace = secret.namespace().unwrap_or_default();
    let first = context.accounts.first();
    let listed = apply::api::<Pod>(&first, &namespace).list(&ListParams::default()).await;
    let listed = listed.map_err(|it| ApplyError::new::<Pod>("list", &namespace, it))?;
    let name = secret.name_any();
    Ok(listed.items.iter().any(|pod| names(&json!(pod.spec), &name)))
}

/// Whether a pod's spec names a Secret anywhere.
fn names(spec: &Value, secret: &str) -> bool {
    match spec {
        Value::Array(all) => all.iter().any(|it| names(it, secret)),
        Value::Object(all) => all.iter().any(|(key, value)| {
            let is_here = match key.as_str() {
                "secretName" => value == secret,
                "secret" | "secretRef" | "secretKeyRef" | "nodePublishSecretRef" => {
                    value["name"] == secret
                }
                "imagePullSecrets" => {
                    value.as_array().into_iter().flatten().any(|it| it["name"] == secret)
                }
                _ => false,
            };
            is_here || names(value, secret)
        }),
        _ => false,
    }
}

async fn mark(context: &Context, secret: &Secret, now: Timestamp) -> Result<(), ApplyError> {
    let day = now.to_zoned(TimeZone::UTC).date().to_string();
    let patch = json!({ "metadata": { "uid": secret.metadata.uid,
        "labels": { INVALID_SINCE: day } } });
    let namespace = secret.namespace().unwrap_or_default();
    let name = secret.name_any();
    tracing::info!(secret = %Key::of(secret), "the token is marked as invalid: nobody used it");
    apply::patch::<Secret>(&context.client, &namespace, &name, &patch).await.map(drop)
}

/// On what was seen: one that is used at this moment stays.
async fn delete(context: &Context, secret: &Secret) -> Result<(), ApplyError> {
    let namespace = secret.namespace().unwrap_or_default();
    let only_this = Preconditions {
        resource_version: secret.metadata.resource_version.clone(),
        ..Preconditions::default()
    };
    let parameters = DeleteParams::default().preconditions(only_this);
    let name = secret.name_any();
    tracing::info!(secret = %Key::of(secret), "the token goes: nobody used it");
    match apply::api::<Secret>(&context.client, &namespace).delete(&name, &parameters).await {
        Err(kube::Error::Api(status)) if status.is_not_found() || status.is_conflict() => Ok(()),
        Err(source) => Err(ApplyError::new::<Secret>("delete", &name, source)),
        Ok(_) => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const YEAR: Duration = Duration::from_secs(365 * 24 * 3600);

    fn secret(created: &str, labels: Value) -> Secret {
        serde_json::from_value(json!({ "metadata": { "name": "t", "labels": labels,
            "creationTimestamp": created, "annotations": { ACCOUNT_NAME: "web" } } }))
        .unwrap()
    }

    fn step(secret: &Secret, named: &[&str]) -> Step {
        let named: Vec<_> = named.iter().map(|it| json!({ "name": it })).collect();
        let account: ServiceAccount =
            serde_json::from_value(json!({ "metadata": { "name": "web" }, "secrets": named }))
                .unwrap();
        plan(secret, Some(&account), "2026-11-23T12:00:00Z".parse().unwrap(), YEAR)
    }

    #[test]
    fn what_nobody_used_for_a_year_is_marked_and_goes_a_year_later() {
        let (old, young) = ("2020-01-01T00:00:00Z", "2026-01-01T00:00:00Z");
        for (created, labels, expected) in [
            (old, json!({}), Step::Mark),
            (young, json!({}), Step::Keep),
            (old, json!({ LAST_USED: "2026-01-01" }), Step::Keep),
            (old, json!({ LAST_USED: "2025-11-23" }), Step::Keep),
            (old, json!({ LAST_USED: "2025-11-22" }), Step::Mark),
            (old, json!({ LAST_USED: "yesterday" }), Step::Keep),
            (old, json!({ INVALID_SINCE: "2026-01-01" }), Step::Keep),
            (old, json!({ INVALID_SINCE: "yesterday" }), Step::Mark),
            (old, json!({ INVALID_SINCE: "2025-11-22" }), Step::Delete),
            (old, json!({ INVALID_SINCE: "2025-01-01", LAST_USED: "2026-01-01" }), Step::Keep),
        ] {
            assert_eq!(step(&secret(created, labels.clone()), &["t"]), expected, "{labels}");
        }
    }

    #[test]
    fn what_somebody_made_is_theirs_to_take_away() {
        let old = secret("2020-01-01T00:00:00Z", json!({ INVALID_SINCE: "2021-01-01" }));
        assert_eq!(step(&old, &["t"]), Step::Delete);
        assert_eq!(step(&old, &["other"]), Step::Keep);
        assert_eq!(plan(&old, None, Timestamp::MAX, YEAR), Step::Keep);
    }

    #[test]
    fn a_pod_names_a_secret_in_volumes_variables_and_for_pulling() {
        for spec in [
            json!({ "volumes": [{ "secret": { "secretName": "t" } }] }),
            json!({ "volumes": [{ "projected": { "sources": [{ "secret": { "name": "t" } }] } }] }),
            json!({ "volumes": [{ "csi": { "nodePublishSecretRef": { "name": "t" } } }] }),
            json!({ "containers": [{ "envFrom": [{ "secretRef": { "name": "t" } }] }] }),
            json!({ "initContainers": [{ "env": [{ "valueFrom": { "secretKeyRef": { "name": "t" } } }] }] }),
            json!({ "imagePullSecrets": [{ "name": "t" }] }),
        ] {
            assert!(names(&spec, "t"), "{spec}");
            assert!(!names(&spec, "u"), "{spec}");
        }
        assert!(!names(&json!({ "containers": [{ "name": "t" }] }), "t"));
    }
}
