//! Fills ClusterRoles that are made of others (`admin`, `edit`, `view`).
//!
//! Upstream: `pkg/controller/clusterroleaggregation`.

use std::sync::Arc;

use controller::{Action, ApplyError, Key, Queue, object};
use k8s_openapi::api::rbac::v1::{ClusterRole, PolicyRule};
use kube::{
    Api,
    api::{Patch, PatchParams},
};
use serde_json::json;

use crate::Context;

pub(crate) async fn run(context: Context) {
    let queue = Queue::new();
    let (on, roles) = (queue.clone(), context.caches.cluster_roles.clone());
    context.caches.cluster_roles.subscribe(move |_| {
        let all = roles.all();
        let aggregated = all.iter().filter(|it| it.aggregation_rule.is_some());
        aggregated.for_each(|it| on.add(Key::of(&**it)));
    });
    controller::run("clusterrole-aggregation", queue, 2, |it| reconcile(&context, it)).await;
}

async fn reconcile(context: &Context, key: Key) -> Result<Action, ApplyError> {
    let Some(role) = context.caches.cluster_roles.get(&key) else { return Ok(Action::Done) };
    if object::is_terminating(&*role) || role.aggregation_rule.is_none() {
        return Ok(Action::Done);
    }
    let wanted = rules(&role, &context.caches.cluster_roles.all());
    if role.rules.as_deref().unwrap_or_default() == wanted {
        return Ok(Action::Done);
    }
    let api = Api::<ClusterRole>::all(context.client.clone());
    let patch = json!({ "rules": wanted });
    let patched = api.patch(&key.name, &PatchParams::default(), &Patch::Merge(&patch)).await;
    patched.map_err(|source| ApplyError::new::<ClusterRole>("patch", &key.name, source))?;
    Ok(Action::Done)
}

/// The rules of all roles that are selected, in the order of their names, each once.
fn rules(role: &ClusterRole, all: &[Arc<ClusterRole>]) -> Vec<PolicyRule> {
    let selectors = role.aggregation_rule.iter();
    let selectors = selectors.flat_map(|it| it.cluster_role_selectors.iter().flatten());
    let mut rules: Vec<PolicyRule> = Vec::new();
    for selector in selectors.filter_map(|it| controller::selector(Some(it))) {
        let is_part = |it: &&Arc<ClusterRole>| {
            it.metadata.name != role.metadata.name
                && controller::matches(&selector, it.metadata.labels.as_ref())
        };
        for rule in all.iter().filter(is_part).flat_map(|it| it.rules.iter().flatten()) {
            if !rules.contains(rule) {
                rules.push(rule.clone());
            }
        }
    }
    rules
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_role_takes_the_rules_of_those_it_selects_once_each() {
        let role = |name: &str, label: &str, verbs: &[&str]| -> Arc<ClusterRole> {
            let rules: Vec<_> = verbs.iter().map(|it| json!({ "verbs": [it] })).collect();
            let value = json!({ "metadata": { "name": name, "labels": { "to": label } },
                "rules": rules });
            Arc::new(serde_json::from_value(value).unwrap())
        };
        let mut admin = (*role("admin", "admin", &[])).clone();
        admin.aggregation_rule = serde_json::from_value(
            json!({ "clusterRoleSelectors": [{ "matchLabels": { "to": "admin" } }] }),
        )
        .unwrap();
        let all = [
            role("a", "admin", &["get", "list"]),
            role("b", "view", &["watch"]),
            role("c", "admin", &["get", "delete"]),
        ];
        let verbs: Vec<_> = rules(&admin, &all).into_iter().map(|it| it.verbs[0].clone()).collect();
        assert_eq!(verbs, ["get", "list", "delete"]);
    }
}
