//! The MutatingWebhookConfiguration by which the API server asks this webhook.
//!
//! It is made before the API server is reached by others, and put back when somebody changes it.

use std::time::Duration;

use k8s_openapi::api::admissionregistration::v1::MutatingWebhookConfiguration;
use kube::{
    Api, Client,
    api::{Patch, PatchParams, PostParams},
};
use serde_json::{Value, json};
use tracing::warn;

use crate::{Config, audit};

pub const NAME: &str = "pod-identity-webhook";
/// EKS's name for it in errors and logs.
const WEBHOOK: &str = "iam-for-pods.amazonaws.com";
const RETRY: Duration = Duration::from_secs(1);

/// Where the API server finds the webhook.
#[derive(Clone, Debug)]
pub struct Endpoint {
    /// `https://…/mutate`
    pub url: String,
    /// Who signs its certificate, in PEM.
    pub ca_pem: String,
}

/// The object. Pods only, when they are created; where the webhook does not answer, pods are
/// created without it.
pub fn configuration(endpoint: &Endpoint, config: &Config) -> Value {
    use base64::{Engine, prelude::BASE64_STANDARD};
    json!({
        "apiVersion": "admissionregistration.k8s.io/v1",
        "kind": "MutatingWebhookConfiguration",
        "metadata": {"name": NAME},
        "webhooks": [{
            "name": WEBHOOK,
            "clientConfig": {
                "url": endpoint.url, "caBundle": BASE64_STANDARD.encode(&endpoint.ca_pem),
            },
            "rules": [{
                "operations": ["CREATE"], "apiGroups": [""], "apiVersions": ["v1"],
                "resources": ["pods"], "scope": "*",
            }],
            "objectSelector": {"matchExpressions": [{
                "key": format!("{}{}", config.annotation_prefix, audit::SKIP),
                "operator": "DoesNotExist",
            }]},
            "namespaceSelector": {},
            "failurePolicy": "Ignore",
            "matchPolicy": "Equivalent",
            "reinvocationPolicy": "IfNeeded",
            "sideEffects": "None",
            "timeoutSeconds": 10,
            "admissionReviewVersions": ["v1", "v1beta1"],
        }],
    })
}

/// Makes it, or puts it back; tries until the API server takes it.
pub(crate) async fn ensure(client: &Client, wanted: &Value) {
    let api = Api::<MutatingWebhookConfiguration>::all(client.clone());
    while let Err(error) = put(&api, wanted).await {
        warn!(error = %telemetry::chain(&error), "failed to make the webhook configuration");
        tokio::time::sleep(RETRY).await;
    }
}

async fn put(api: &Api<MutatingWebhookConfiguration>, wanted: &Value) -> Result<(), kube::Error> {
    let object: MutatingWebhookConfiguration =
        serde_json::from_value(wanted.clone()).map_err(kube::Error::SerdeError)?;
    let Some(found) = api.get_opt(NAME).await? else {
        return api.create(&PostParams::default(), &object).await.map(drop);
    };
    let found = serde_json::to_value(found).map_err(kube::Error::SerdeError)?;
    if holds(&found, wanted) {
        return Ok(());
    }
    api.patch(NAME, &PatchParams::default(), &Patch::Merge(wanted)).await.map(drop)
}

/// Whether `found` says all that `wanted` says.
pub(crate) fn holds(found: &Value, wanted: &Value) -> bool {
    match (found, wanted) {
        (Value::Object(found), Value::Object(wanted)) => wanted.iter().all(|(key, value)| {
            let is_nothing = value.as_object().is_some_and(serde_json::Map::is_empty);
            found.get(key).map_or(is_nothing, |it| holds(it, value))
        }),
        (Value::Array(found), Value::Array(wanted)) => {
            found.len() == wanted.len()
                && found.iter().zip(wanted).all(|(found, wanted)| holds(found, wanted))
        }
        _ => found == wanted,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn wanted() -> Value {
        let endpoint = Endpoint { url: "https://127.0.0.1:1/mutate".into(), ca_pem: "PEM".into() };
        configuration(&endpoint, &Config::default())
    }

    #[test]
    fn the_configuration_is_one_and_asks_for_new_pods_that_do_not_opt_out() {
        let read: MutatingWebhookConfiguration = serde_json::from_value(wanted()).unwrap();
        let webhook = &read.webhooks.unwrap()[0];
        assert_eq!(webhook.failure_policy.as_deref(), Some("Ignore"));
        let selector = serde_json::to_value(&webhook.object_selector).unwrap().to_string();
        assert!(selector.contains("eks.amazonaws.com/skip-pod-identity-webhook"), "{selector}");
        assert!(selector.contains("DoesNotExist"), "{selector}");
    }

    #[test]
    fn more_than_was_wanted_is_left_and_less_is_put_back() {
        let mut found = wanted();
        found["metadata"]["uid"] = "u".into();
        found["webhooks"][0].as_object_mut().unwrap().remove("namespaceSelector");
        assert!(holds(&found, &wanted()));
        found["webhooks"][0]["failurePolicy"] = "Fail".into();
        assert!(!holds(&found, &wanted()));
        found["webhooks"] = json!([]);
        assert!(!holds(&found, &wanted()));
    }
}
