//! ControllerRevisions: the history of templates of DaemonSets and StatefulSets.
//!
//! Each distinct template is one revision, named after its hash. Going back to an old template
//! gives its revision a new number instead of making another.
//!
//! Upstream: `pkg/controller/history`. What is stored is the same patch as upstream's, so that
//! `kubectl rollout undo` and `history` read it.

use std::sync::Arc;

use controller::{ApplyError, apply, object};
use k8s_openapi::{
    api::{apps::v1::ControllerRevision, core::v1::PodTemplateSpec},
    apimachinery::pkg::{apis::meta::v1::ObjectMeta, runtime::RawExtension},
};
use kube::{Client, Resource};
use serde_json::{Value, json};

use crate::deployment::template_hash;

/// What one pass finds or makes.
#[derive(Clone, Debug)]
pub(crate) struct History {
    /// The revision of the template that is wanted now.
    pub(crate) current: Arc<ControllerRevision>,
    /// The label value of pods that have the template that is wanted now.
    pub(crate) hash: String,
    /// All others, the oldest first.
    pub(crate) old: Vec<Arc<ControllerRevision>>,
}

/// The label by which pods and revisions are told apart.
pub(crate) const HASH_LABEL: &str = "controller-revision-hash";

pub(crate) fn hash_of(revision: &ControllerRevision) -> &str {
    object::label(revision, HASH_LABEL).unwrap_or_default()
}

/// The template as a patch of its owner: what a rollback applies.
fn data(template: &PodTemplateSpec) -> Value {
    let mut template = json!(template);
    template["$patch"] = "replace".into();
    json!({ "spec": { "template": template } })
}

/// Finds the revision of `template` among `known`, renewing its number, or makes it.
pub(crate) async fn sync<O: Resource<DynamicType = ()>>(
    client: &Client,
    owner: &O,
    template: &PodTemplateSpec,
    collisions: Option<i32>,
    mut known: Vec<Arc<ControllerRevision>>,
) -> Result<History, ApplyError> {
    known.sort_by_key(|it| it.revision);
    let wanted = data(template);
    let next = known.last().map_or(1, |it| it.revision + 1);
    let position = known.iter().rposition(|it| it.data.as_ref().map(|it| &it.0) == Some(&wanted));
    let current = match position {
        None => {
            let hash = template_hash(template, collisions);
            let revision = new(owner, &hash, wanted, next, template);
            Arc::new(create(client, revision).await?)
        }
        Some(at) if at + 1 == known.len() => known.remove(at),
        Some(at) => {
            let found = known.remove(at);
            let namespace = found.metadata.namespace.clone().unwrap_or_default();
            let name = found.metadata.name.clone().unwrap_or_default();
            let patch = json!({ "revision": next });
            Arc::new(apply::patch::<ControllerRevision>(client, &namespace, &name, &patch).await?)
        }
    };
    let hash = hash_of(&current).to_owned();
    Ok(History { current, hash, old: known })
}

fn new<O: Resource<DynamicType = ()>>(
    owner: &O,
    hash: &str,
    data: Value,
    number: i64,
    template: &PodTemplateSpec,
) -> ControllerRevision {
    let meta = owner.meta();
    let name = meta.name.as_deref().unwrap_or_default();
    let mut labels =
        template.metadata.as_ref().and_then(|it| it.labels.clone()).unwrap_or_default();
    labels.insert(HASH_LABEL.to_owned(), hash.to_owned());
    ControllerRevision {
        metadata: ObjectMeta {
            name: Some(format!("{name}-{hash}")),
            namespace: meta.namespace.clone(),
            labels: Some(labels),
            annotations: meta.annotations.clone().map(|mut it| {
                it.remove("kubectl.kubernetes.io/last-applied-configuration");
                it
            }),
            owner_references: Some(vec![object::controller_reference(owner)]),
            ..ObjectMeta::default()
        },
        data: Some(RawExtension(data)),
        revision: number,
    }
}

/// A stale cache meets what an earlier pass made.
async fn create(
    client: &Client,
    revision: ControllerRevision,
) -> Result<ControllerRevision, ApplyError> {
    match apply::create(client, &revision).await {
        Err(error) if error.is_already_exists() => {
            let namespace = revision.metadata.namespace.clone().unwrap_or_default();
            let name = revision.metadata.name.clone().unwrap_or_default();
            let api = apply::api::<ControllerRevision>(client, &namespace);
            let found = api.get(&name).await;
            found.map_err(|source| ApplyError::new::<ControllerRevision>("get", &name, source))
        }
        other => other,
    }
}

impl History {
    /// Older revisions of the very template that is wanted now.
    pub(crate) fn duplicates(&self) -> impl Iterator<Item = &Arc<ControllerRevision>> {
        self.old.iter().filter(|it| it.data == self.current.data)
    }
}

/// Deletes the oldest revisions that nothing uses, beyond the limit.
pub(crate) async fn clean(
    client: &Client,
    history: &History,
    in_use: impl Fn(&ControllerRevision) -> bool,
    limit: usize,
) -> Result<(), ApplyError> {
    let unused: Vec<_> = history.old.iter().filter(|it| !in_use(it)).collect();
    let surplus = unused.len().saturating_sub(limit);
    for revision in unused.into_iter().take(surplus) {
        apply::delete(client, &**revision).await?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_revision_of_the_same_template_is_a_duplicate() {
        let revision = |name: &str, number: i64, image: &str| {
            let meta = ObjectMeta { name: Some(name.to_owned()), ..ObjectMeta::default() };
            let data = Some(RawExtension(json!({ "spec": image })));
            Arc::new(ControllerRevision { metadata: meta, data, revision: number })
        };
        let history = History {
            current: revision("c", 3, "two"),
            hash: "c".into(),
            old: vec![revision("a", 1, "one"), revision("b", 2, "two")],
        };
        let names: Vec<_> = history.duplicates().map(|it| it.metadata.name.clone()).collect();
        assert_eq!(names, [Some("b".to_owned())]);
    }
}
