//! `kubectl apply` of a manifest: creates its objects, or changes those that exist to what it says.
//!
//! As kubectl does it on its own side: what was applied is kept in an annotation, so that a field that
//! a manifest no longer has is removed, and so that kubectl goes on where this has been.
//!
//! Upstream: `staging/src/k8s.io/kubectl/pkg/cmd/apply/apply.go`, `pkg/util/apply.go`.

use anyhow::Context;
use kube::{
    Api, Client,
    api::{DynamicObject, Patch, PatchParams, PostParams},
    core::{ApiResource, GroupVersionKind},
};
use serde_json::{Value, json};

const LAST_APPLIED: &str = "kubectl.kubernetes.io/last-applied-configuration";
const NAMESPACE: &str = "default";

/// Applies every document of a YAML manifest to the namespace `default`.
pub(crate) async fn manifest(client: &Client, text: &str) -> anyhow::Result<()> {
    for document in documents(text)? {
        apply(client, document).await?;
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

async fn apply(client: &Client, document: Value) -> anyhow::Result<()> {
    let wanted = remembered(document)?;
    let object: DynamicObject = serde_json::from_value(wanted.clone())?;
    let types = object.types.as_ref().context("a manifest without apiVersion and kind")?;
    let kind = GroupVersionKind::try_from(types)?;
    let resource = ApiResource::from_gvk(&kind);
    let api = Api::<DynamicObject>::namespaced_with(client.clone(), NAMESPACE, &resource);
    let name = object.metadata.name.as_deref().context("a manifest without a name")?;
    let Some(current) = api.get_opt(name).await? else {
        api.create(&PostParams::default(), &object).await?;
        return Ok(());
    };
    let last = current.metadata.annotations.as_ref().and_then(|it| it.get(LAST_APPLIED));
    let last = last.and_then(|it| serde_json::from_str(it).ok()).unwrap_or(Value::Null);
    let patch = patch(&last, wanted);
    api.patch(name, &PatchParams::default(), &Patch::Merge(patch)).await?;
    Ok(())
}

/// The object with the annotation that says what was applied: itself without that annotation, in the
/// namespace that it goes to.
fn remembered(mut object: Value) -> anyhow::Result<Value> {
    let metadata = object["metadata"].as_object_mut().context("a manifest without metadata")?;
    metadata.entry("namespace").or_insert_with(|| json!(NAMESPACE));
    metadata.entry("annotations").or_insert_with(|| json!({}));
    // As Go writes JSON: kubectl compares the text.
    let text = serde_json::to_string(&object)?;
    let text = text.replace('<', r"\u003c").replace('>', r"\u003e").replace('&', r"\u0026");
    let text = format!("{text}\n");
    object["metadata"]["annotations"][LAST_APPLIED] = json!(text);
    Ok(object)
}

/// A merge patch to what is wanted: with a null for each field that was applied and is not any more.
fn patch(last: &Value, wanted: Value) -> Value {
    let (Value::Object(last), Value::Object(mut fields)) = (last, wanted.clone()) else {
        return wanted;
    };
    for (name, before) in last {
        let now = fields.remove(name).unwrap_or(Value::Null);
        fields.insert(name.clone(), patch(before, now));
    }
    Value::Object(fields)
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
    fn what_was_applied_is_remembered_as_kubectl_remembers_it() {
        let object =
            json!({"kind": "Service", "metadata": {"name": "a"}, "spec": {"x": "a<b && c>d"}});
        let made = remembered(object).unwrap();
        let text = made["metadata"]["annotations"][LAST_APPLIED].as_str().unwrap();
        assert_eq!(
            text,
            "{\"kind\":\"Service\",\"metadata\":{\"annotations\":{},\"name\":\"a\",\
             \"namespace\":\"default\"},\"spec\":{\"x\":\"a\\u003cb \\u0026\\u0026 c\\u003ed\"}}\n"
        );
        let kept: Value = serde_json::from_str(text).unwrap();
        let expected = json!({
            "kind": "Service", "spec": {"x": "a<b && c>d"},
            "metadata": {"name": "a", "namespace": "default", "annotations": {}},
        });
        assert_eq!(kept, expected);
        // Once more changes nothing.
        let patch = patch(&kept, made.clone());
        assert_eq!(patch, made);
    }

    #[test]
    fn a_field_that_is_not_applied_any_more_is_removed() {
        let last = json!({"spec": {"replicas": 3, "gone": 1, "list": [1, 2], "map": {"a": 1}}});
        let wanted = json!({"spec": {"replicas": 2, "list": [1], "map": {"b": 2}}});
        assert_eq!(
            patch(&last, wanted),
            json!({"spec": {
                "replicas": 2, "gone": null, "list": [1], "map": {"a": null, "b": 2},
            }})
        );
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
