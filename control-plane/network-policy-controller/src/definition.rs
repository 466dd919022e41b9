//! The definition of PolicyEndpoints, which every EKS cluster has.

use std::time::Duration;

use api_kube::policy_endpoint::{GROUP, KIND, PLURAL, VERSION};
use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use kube::{
    Api, Client,
    api::{Patch, PatchParams, PostParams},
};
use serde_json::{Value, json};
use tracing::warn;

const RETRY: Duration = Duration::from_secs(1);

/// Makes it, or brings an older one up to date; tries until the API server takes it.
pub(crate) async fn ensure(client: &Client) {
    let api = Api::<CustomResourceDefinition>::all(client.clone());
    while let Err(error) = put(&api).await {
        warn!(error = %telemetry::chain(&error), "failed to define {PLURAL}.{GROUP}");
        tokio::time::sleep(RETRY).await;
    }
}

async fn put(api: &Api<CustomResourceDefinition>) -> Result<(), kube::Error> {
    let wanted = definition();
    let object = serde_json::from_value(wanted.clone()).map_err(kube::Error::SerdeError)?;
    match api.create(&PostParams::default(), &object).await {
        Err(kube::Error::Api(status)) if status.is_already_exists() => {
            let name = format!("{PLURAL}.{GROUP}");
            let patch = Patch::Merge(&wanted);
            api.patch(&name, &PatchParams::default(), &patch).await.map(drop)
        }
        result => result.map(drop),
    }
}

fn definition() -> Value {
    json!({
        "apiVersion": "apiextensions.k8s.io/v1", "kind": "CustomResourceDefinition",
        "metadata": { "name": format!("{PLURAL}.{GROUP}") },
        "spec": {
            "group": GROUP, "scope": "Namespaced",
            "names": { "kind": KIND, "listKind": format!("{KIND}List"), "plural": PLURAL,
                "singular": "policyendpoint" },
            "versions": [{
                "name": VERSION, "served": true, "storage": true,
                "subresources": { "status": {} },
                "schema": { "openAPIV3Schema": {
                    "type": "object",
                    "description": "PolicyEndpoint is what a NetworkPolicy allows, resolved.",
                    "properties": {
                        "apiVersion": { "type": "string" },
                        "kind": { "type": "string" },
                        "metadata": { "type": "object" },
                        "spec": spec(),
                        "status": { "type": "object" },
                    },
                } },
            }],
        },
    })
}

fn spec() -> Value {
    let text = json!({ "type": "string" });
    let texts = json!({ "type": "array", "items": text });
    let number = json!({ "type": "integer", "format": "int32" });
    let port = json!({ "type": "object",
        "properties": { "protocol": text, "port": number, "endPort": number } });
    let infos = json!({ "type": "array", "items": { "type": "object", "required": ["cidr"],
        "properties": { "cidr": text, "except": texts,
            "ports": { "type": "array", "items": port } } } });
    let expressions = json!({ "type": "array", "items": { "type": "object",
        "required": ["key", "operator"],
        "properties": { "key": text, "operator": text, "values": texts } } });
    json!({ "type": "object", "required": ["policyRef"], "properties": {
        "podSelector": { "type": "object", "x-kubernetes-map-type": "atomic", "properties": {
            "matchLabels": { "type": "object", "additionalProperties": text },
            "matchExpressions": expressions } },
        "policyRef": { "type": "object", "required": ["name", "namespace"],
            "properties": { "name": text, "namespace": text } },
        "podIsolation": texts,
        "podSelectorEndpoints": { "type": "array", "items": { "type": "object",
            "required": ["hostIP", "name", "namespace", "podIP"],
            "properties": { "hostIP": text, "name": text, "namespace": text, "podIP": text } } },
        "ingress": infos, "egress": infos,
    } })
}
