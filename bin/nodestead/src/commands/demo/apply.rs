//! Creates the objects of a manifest, or merges them into those that exist.

use anyhow::Context;
use kube::{
    Api, Client,
    api::{DynamicObject, Patch, PatchParams, PostParams},
    core::{ApiResource, GroupVersionKind},
};
use serde_json::Value;

/// Applies every document of a YAML manifest to the namespace `default`.
pub(crate) async fn manifest(client: &Client, text: &str) -> anyhow::Result<()> {
    for document in documents(text)? {
        let object: DynamicObject = serde_json::from_value(document)?;
        apply(client, &object).await?;
    }
    Ok(())
}

fn documents(text: &str) -> anyhow::Result<Vec<Value>> {
    let mut found = Vec::new();
    for part in text.split("\n---\n") {
        let value: Value = serde_saphyr::from_str(part).context("the manifest is not YAML")?;
        if !value.is_null() {
            found.push(value);
        }
    }
    Ok(found)
}

async fn apply(client: &Client, object: &DynamicObject) -> anyhow::Result<()> {
    let types = object.types.as_ref().context("a manifest without apiVersion and kind")?;
    let kind = GroupVersionKind::try_from(types)?;
    let resource = ApiResource::from_gvk(&kind);
    let api = Api::<DynamicObject>::default_namespaced_with(client.clone(), &resource);
    match api.create(&PostParams::default(), object).await {
        Err(kube::Error::Api(status)) if status.is_already_exists() => {
            let name = object.metadata.name.as_deref().context("a manifest without a name")?;
            api.patch(name, &PatchParams::default(), &Patch::Merge(object)).await?;
            Ok(())
        }
        result => result.map(drop).map_err(Into::into),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_manifest_is_split_into_its_documents() {
        let found = documents("# note\na: 1\n---\nb: 2\n").unwrap();
        assert_eq!(found, [serde_json::json!({"a": 1}), serde_json::json!({"b": 2})]);
    }

    #[test]
    fn every_example_has_kinds_and_names() {
        for (name, text) in super::super::MANIFESTS {
            for document in documents(text).unwrap() {
                assert!(document["metadata"]["name"].is_string(), "{name}: {document}");
                assert!(document["kind"].is_string(), "{name}: {document}");
            }
        }
    }
}
