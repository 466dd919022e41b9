//! Whether a webhook wants to be asked about a request.
//!
//! Upstream: predicates and rules of k8s.io/apiserver/pkg/admission/plugin/webhook.

use std::{collections::BTreeMap, sync::Arc};

use serde_json::Value;

use super::{Round, configuration::Webhook};
use crate::{
    admission::Operation,
    authz::{items, text},
    resources::Resource,
    selectors::Labels,
    status::Status,
};

/// `rules` of a webhook.
pub(super) struct Rule {
    operations: Vec<String>,
    groups: Vec<String>,
    versions: Vec<String>,
    /// Resource and subresource.
    resources: Vec<(String, String)>,
    scope: String,
}

/// A request, and the object as the webhooks before this one left it.
pub(super) struct Asked<'a> {
    pub(super) round: &'a Round<'a>,
    pub(super) object: &'a Value,
}

impl Rule {
    pub(super) fn of(rule: &Value) -> Self {
        let list = |field: &str| {
            let all = items(rule, field).iter().filter_map(Value::as_str);
            all.map(str::to_owned).collect::<Vec<_>>()
        };
        let split = |it: String| match it.split_once('/') {
            Some((resource, sub)) => (resource.to_owned(), sub.to_owned()),
            None => (it, String::new()),
        };
        Self {
            operations: list("/operations"),
            groups: list("/apiGroups"),
            versions: list("/apiVersions"),
            resources: list("/resources").into_iter().map(split).collect(),
            scope: text(rule, "/scope").to_owned(),
        }
    }

    fn covers(&self, asked: &Asked<'_>, resource: &Resource) -> bool {
        let is_in = |list: &[String], word: &str| list.iter().any(|it| it == "*" || it == word);
        let attributes = asked.round.attributes;
        let subresource = &attributes.info.subresource;
        let names = |(name, sub): &(String, String)| {
            (name == "*" || *name == resource.plural) && (sub == "*" || sub == subresource)
        };
        let is_in_scope = match self.scope.as_str() {
            "Namespaced" => resource.namespaced,
            "Cluster" => !resource.namespaced,
            _ => true,
        };
        is_in_scope
            && is_in(&self.operations, word(attributes.operation))
            && is_in(&self.groups, &resource.group)
            && is_in(&self.versions, &resource.version)
            && self.resources.iter().any(names)
    }
}

pub(super) fn word(operation: Operation) -> &'static str {
    match operation {
        Operation::Create => "CREATE",
        Operation::Update => "UPDATE",
        Operation::Delete => "DELETE",
    }
}

impl Webhook {
    /// The resource in whose version it wants to see the object; `None`: it does not.
    pub(super) fn wants(&self, asked: &Asked<'_>) -> Result<Option<Arc<Resource>>, Status> {
        let Some(resource) = self.covered(asked) else { return Ok(None) };
        if !self.namespaces.is_empty() && !self.is_namespace_selected(asked)? {
            return Ok(None);
        }
        Ok((self.objects.is_empty() || self.is_object_selected(asked)).then_some(resource))
    }

    fn covered(&self, asked: &Asked<'_>) -> Option<Arc<Resource>> {
        let own = asked.round.resource;
        if self.rules.iter().any(|it| it.covers(asked, own)) {
            return Some(own.clone());
        }
        if !self.takes_equivalent {
            return None;
        }
        let others = asked.round.catalog.equivalents(own);
        others.into_iter().find(|other| self.rules.iter().any(|it| it.covers(asked, other)))
    }

    fn is_namespace_selected(&self, asked: &Asked<'_>) -> Result<bool, Status> {
        let (info, operation) = (&asked.round.attributes.info, asked.round.attributes.operation);
        let is_namespace = asked.round.resource.is("", "namespaces");
        if is_namespace && info.subresource.is_empty() && operation != Operation::Delete {
            return Ok(selects(&self.namespaces, asked.object));
        }
        let name = if is_namespace { &info.name } else { &info.namespace };
        if name.is_empty() || !(is_namespace || asked.round.resource.namespaced) {
            return Ok(true);
        }
        let namespace = asked.round.context.objects.get("namespaces", "", name);
        let namespace = namespace.ok_or_else(|| Status::not_found("namespaces", name))?;
        Ok(selects(&self.namespaces, &namespace))
    }

    fn is_object_selected(&self, asked: &Asked<'_>) -> bool {
        let is_deleted = asked.round.attributes.operation == Operation::Delete;
        let new = (!is_deleted).then_some(asked.object);
        let mut both = new.into_iter().chain(asked.round.attributes.old);
        both.any(|it| selects(&self.objects, it))
    }
}

fn selects(labels: &Labels, object: &Value) -> bool {
    let own = object["metadata"]["labels"].as_object().into_iter().flatten();
    let own = own.filter_map(|(key, it)| Some((key.clone(), it.as_str()?.to_owned())));
    labels.matches(&own.collect::<BTreeMap<_, _>>())
}
