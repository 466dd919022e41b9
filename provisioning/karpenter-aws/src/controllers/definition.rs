//! Installs the definitions of Karpenter's kinds, as upstream's chart does.

use std::time::Duration;

use api_kube::karpenter::definitions;
use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use kube::{
    Api, Client,
    api::{Patch, PatchParams, PostParams},
};
use serde_json::Value;
use tracing::warn;

const RETRY: Duration = Duration::from_secs(1);

/// Makes them, or brings older ones up to date; tries until the API server takes them.
pub(super) async fn ensure(client: &Client) {
    let api = Api::<CustomResourceDefinition>::all(client.clone());
    for wanted in definitions() {
        while let Err(error) = put(&api, &wanted).await {
            let name = wanted.pointer("/metadata/name").and_then(Value::as_str);
            warn!(error = %telemetry::chain(&error), name, "failed to make a definition");
            tokio::time::sleep(RETRY).await;
        }
    }
}

async fn put(api: &Api<CustomResourceDefinition>, wanted: &Value) -> Result<(), kube::Error> {
    let object: CustomResourceDefinition =
        serde_json::from_value(wanted.clone()).map_err(kube::Error::SerdeError)?;
    match api.create(&PostParams::default(), &object).await {
        Err(kube::Error::Api(status)) if status.is_already_exists() => {
            let name = object.metadata.name.unwrap_or_default();
            api.patch(&name, &PatchParams::default(), &Patch::Merge(wanted)).await.map(drop)
        }
        result => result.map(drop),
    }
}
