//! The parameters that a binding gives its policy.
//!
//! Upstream: `CollectParams` of k8s.io/apiserver/pkg/admission/plugin/policy/generic.

use std::sync::Arc;

use serde_json::Value;

use crate::{
    admission::{matching::selects, round::Round},
    authz::text,
    convert,
    resources::Resource,
    selectors::Labels,
};

/// One evaluation for each; `None` is one without a parameter.
pub(super) fn collect(
    round: &Round<'_>,
    kind: Option<&(String, String)>,
    reference: Option<&Value>,
) -> Result<Vec<Option<Value>>, String> {
    let (Some((api_version, kind)), Some(reference)) = (kind, reference) else {
        return Ok(vec![None]);
    };
    let resource = round.catalog.of_kind(api_version, kind);
    let resource =
        resource.ok_or_else(|| format!("paramKind kind `{api_version}, Kind={kind}` not known"))?;
    let namespace = namespace(round, &resource, reference)?;
    let found = find(round, &resource, namespace, reference)?;
    if found.is_empty() && reference["parameterNotFoundAction"] == "Deny" {
        return Err("no params found for policy binding with `Deny` parameterNotFoundAction".into());
    }
    let shown = |it: Arc<Value>| {
        let mut it = (*it).clone();
        convert::from_storage(&resource, &mut it);
        it["kind"] = resource.kind.as_str().into();
        Some(it)
    };
    Ok(found.into_iter().map(shown).collect())
}

fn namespace<'a>(
    round: &'a Round<'_>,
    resource: &Resource,
    reference: &'a Value,
) -> Result<&'a str, String> {
    let named = text(reference, "/namespace");
    if !resource.namespaced {
        return match named {
            "" => Ok(""),
            _ => Err("paramRef.namespace must not be provided for a cluster-scoped `paramKind`"
                .to_owned()),
        };
    }
    let own = if round.resource.namespaced { &round.attributes.info.namespace } else { "" };
    match (named, own) {
        ("", "") => Err("cannot use namespaced paramRef in policy binding that matches \
                         cluster-scoped resources"
            .to_owned()),
        ("", own) => Ok(own),
        (named, _) => Ok(named),
    }
}

fn find(
    round: &Round<'_>,
    resource: &Resource,
    namespace: &str,
    reference: &Value,
) -> Result<Vec<Arc<Value>>, String> {
    let objects = &*round.context.objects;
    let storage = match resource.storage() {
        ("", plural) => plural.to_owned(),
        (group, plural) => format!("{plural}.{group}"),
    };
    let name = text(reference, "/name");
    if !name.is_empty() {
        return Ok(objects.get(&storage, namespace, name).into_iter().collect());
    }
    if !reference["selector"].is_object() {
        return Err("one of name or selector must be provided".to_owned());
    }
    let selector = Labels::of(&reference["selector"])?;
    let mut all = objects.list(&storage, namespace);
    all.retain(|it| selects(&selector, it));
    Ok(all)
}
