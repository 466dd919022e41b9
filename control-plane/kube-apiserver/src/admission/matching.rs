//! Whether a webhook or a policy wants to be asked about a request.
//!
//! Upstream: predicates and rules of k8s.io/apiserver/pkg/admission/plugin/webhook and
//! k8s.io/apiserver/pkg/admission/plugin/policy/matching.

use std::{collections::BTreeMap, sync::Arc};

use serde_json::Value;

use super::round::Round;
use crate::{
    authz::{items, text},
    resources::Resource,
    selectors::Labels,
    status::Status,
};

/// All that says which requests.
pub(super) struct Matcher {
    rules: Vec<Rule>,
    /// None of these, even if one of `rules` has it.
    excluded: Vec<Rule>,
    /// `matchPolicy: Equivalent`
    takes_equivalent: bool,
    namespaces: Labels,
    objects: Labels,
}

struct Rule {
    operations: Vec<String>,
    groups: Vec<String>,
    versions: Vec<String>,
    /// Resource and subresource.
    resources: Vec<(String, String)>,
    /// Empty: all of them.
    names: Vec<String>,
    scope: String,
}

/// A request, and the object as those before left it.
pub(super) struct Asked<'a> {
    pub(super) round: &'a Round<'a>,
    pub(super) object: &'a Value,
}

impl Rule {
    fn of(rule: &Value) -> Self {
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
            names: list("/resourceNames"),
            scope: text(rule, "/scope").to_owned(),
        }
    }

    fn covers(&self, asked: &Asked<'_>, resource: &Resource) -> bool {
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
            && is_in(&self.operations, attributes.operation.word())
            && is_in(&self.groups, &resource.group)
            && is_in(&self.versions, &resource.version)
            && self.resources.iter().any(names)
            && (self.names.is_empty() || self.names.iter().any(|it| it == asked.name()))
    }
}

fn is_in(list: &[String], word: &str) -> bool {
    list.iter().any(|it| it == "*" || it == word)
}

impl Asked<'_> {
    fn name(&self) -> &str {
        match self.round.attributes.info.name.as_str() {
            "" => text(self.object, "/metadata/name"),
            name => name,
        }
    }
}

impl Matcher {
    /// Of a webhook (`rules`), or of `matchConstraints` and `matchResources` (`resourceRules`).
    pub(super) fn of(from: &Value) -> Result<Self, String> {
        let rules = |field| items(from, field).iter().map(Rule::of);
        Ok(Self {
            rules: rules("/rules").chain(rules("/resourceRules")).collect(),
            excluded: rules("/excludeResourceRules").collect(),
            takes_equivalent: from["matchPolicy"] != "Exact",
            namespaces: Labels::of(&from["namespaceSelector"])?,
            objects: Labels::of(&from["objectSelector"])?,
        })
    }

    /// The resource in whose version it wants to see the object; `None`: it does not.
    pub(super) fn wants(&self, asked: &Asked<'_>) -> Result<Option<Arc<Resource>>, Status> {
        let Some(resource) = self.covered(&self.rules, asked) else { return Ok(None) };
        Ok(self.selects(asked)?.then_some(resource))
    }

    /// As [`Matcher::wants`], where no rules mean all that the policy has.
    pub(super) fn narrows(&self, asked: &Asked<'_>) -> Result<bool, Status> {
        let is_covered = self.rules.is_empty() || self.covered(&self.rules, asked).is_some();
        Ok(is_covered && self.selects(asked)?)
    }

    fn selects(&self, asked: &Asked<'_>) -> Result<bool, Status> {
        if self.covered(&self.excluded, asked).is_some() {
            return Ok(false);
        }
        if !self.namespaces.is_empty() && !self.is_namespace_selected(asked)? {
            return Ok(false);
        }
        Ok(self.objects.is_empty() || self.is_object_selected(asked))
    }

    fn covered(&self, rules: &[Rule], asked: &Asked<'_>) -> Option<Arc<Resource>> {
        let own = asked.round.resource;
        if rules.iter().any(|it| it.covers(asked, own)) {
            return Some(own.clone());
        }
        if !self.takes_equivalent || rules.is_empty() {
            return None;
        }
        let others = asked.round.catalog.equivalents(own);
        others.into_iter().find(|other| rules.iter().any(|it| it.covers(asked, other)))
    }

    fn is_namespace_selected(&self, asked: &Asked<'_>) -> Result<bool, Status> {
        let info = &asked.round.attributes.info;
        let is_namespace = asked.round.resource.is("", "namespaces");
        if is_namespace && info.subresource.is_empty() && !asked.round.is_deletion() {
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
        let new = (!asked.round.is_deletion()).then_some(asked.object);
        let mut both = new.into_iter().chain(asked.round.attributes.old);
        both.any(|it| selects(&self.objects, it))
    }
}

pub(super) fn selects(labels: &Labels, object: &Value) -> bool {
    let own = object["metadata"]["labels"].as_object().into_iter().flatten();
    let own = own.filter_map(|(key, it)| Some((key.clone(), it.as_str()?.to_owned())));
    labels.matches(&own.collect::<BTreeMap<_, _>>())
}
