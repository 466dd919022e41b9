//! The catalogue of served resources: one table for routing, discovery, storage and rules.
//!
//! Built-in types come from [`builtin`], those of other servers are known from the start (see
//! [`crate::delegated`]); types of CustomResourceDefinitions are added while the
//! server runs, by replacing the whole catalogue.

pub(crate) mod builtin;
pub(crate) mod custom;

use std::{
    collections::{HashMap, HashSet},
    sync::Arc,
};

use serde_json::Value;

/// One resource of one group and version.
#[derive(Clone, Debug, Default)]
pub(crate) struct Resource {
    pub(crate) group: String,
    pub(crate) version: String,
    pub(crate) kind: String,
    pub(crate) plural: String,
    pub(crate) singular: String,
    pub(crate) short_names: Vec<String>,
    pub(crate) categories: Vec<String>,
    pub(crate) namespaced: bool,
    /// `status`, `scale`, `log`, …
    pub(crate) subresources: Vec<String>,
    /// Name of the OpenAPI schema; empty for custom resources, which carry their own.
    pub(crate) schema: String,
    /// Changes outside of metadata and status bump `metadata.generation`.
    pub(crate) has_generation: bool,
    /// Only `create` is served, and nothing is stored (reviews).
    pub(crate) is_virtual: bool,
    /// Only `get` and `list` are served, and nothing is stored (component statuses).
    pub(crate) is_computed: bool,
    /// A PUT without `resourceVersion` replaces whatever is there.
    pub(crate) unconditional_update: bool,
    /// A PUT of something that does not exist creates it.
    pub(crate) create_on_update: bool,
    /// A delete answers with the object rather than with a Status.
    pub(crate) returns_deleted: bool,
    /// There is no `deletecollection`: nobody empties a cluster by one request.
    pub(crate) deletes_singly: bool,
    /// Where the objects are stored, when another resource's version is the stored one.
    pub(crate) stored_as: Option<(String, String)>,
    /// Another server answers; what can be asked of it.
    pub(crate) delegated: Option<Vec<String>>,
    /// For custom resources: the definition's version entry.
    pub(crate) custom: Option<Arc<custom::Custom>>,
}

impl Resource {
    pub(crate) fn api_version(&self) -> String {
        if self.group.is_empty() {
            self.version.clone()
        } else {
            format!("{}/{}", self.group, self.version)
        }
    }

    /// `deployments.apps`: how messages name it.
    pub(crate) fn qualified(&self) -> String {
        if self.group.is_empty() {
            self.plural.clone()
        } else {
            format!("{}.{}", self.plural, self.group)
        }
    }

    /// `Deployment.apps`: how validation messages name it.
    pub(crate) fn qualified_kind(&self) -> String {
        if self.group.is_empty() {
            self.kind.clone()
        } else {
            format!("{}.{}", self.kind, self.group)
        }
    }

    pub(crate) fn is(&self, group: &str, plural: &str) -> bool {
        self.group == group && self.plural == plural
    }

    pub(crate) fn has(&self, subresource: &str) -> bool {
        self.subresources.iter().any(|it| it == subresource)
    }

    pub(crate) fn has_status(&self) -> bool {
        self.has("status")
    }

    /// `DeploymentList`
    pub(crate) fn list_kind(&self) -> String {
        match &self.custom {
            Some(custom) if !custom.list_kind.is_empty() => custom.list_kind.clone(),
            _ => format!("{}List", self.kind),
        }
    }

    /// Group and plural under which objects are stored.
    pub(crate) fn storage(&self) -> (&str, &str) {
        match &self.stored_as {
            Some((group, plural)) => (group, plural),
            None => (&self.group, &self.plural),
        }
    }

    /// A question to the authenticator or the authorizer.
    pub(crate) fn is_review(&self) -> bool {
        self.is_virtual && matches!(&*self.group, "authentication.k8s.io" | "authorization.k8s.io")
    }

    /// Whether objects of it are in the store.
    pub(crate) fn is_stored(&self) -> bool {
        !self.is_virtual && !self.is_computed
    }

    pub(crate) fn key(&self, namespace: &str, name: &str) -> String {
        let (group, plural) = self.storage();
        crate::registry::key(group, plural, namespace, name)
    }

    pub(crate) fn prefix(&self, namespace: &str) -> String {
        let (group, plural) = self.storage();
        crate::registry::prefix(group, plural, namespace)
    }

    pub(crate) fn verbs(&self) -> Vec<&str> {
        if let Some(verbs) = &self.delegated {
            return verbs.iter().map(String::as_str).collect();
        }
        if self.is_virtual {
            return vec!["create"];
        }
        if self.is_computed {
            return vec!["get", "list"];
        }
        let all =
            ["create", "delete", "deletecollection", "get", "list", "patch", "update", "watch"];
        all.into_iter().filter(|it| !(self.deletes_singly && *it == "deletecollection")).collect()
    }
}

/// All served resources. Immutable; a change makes a new one.
#[derive(Debug, Default)]
pub(crate) struct Catalog {
    resources: Vec<Arc<Resource>>,
    by_name: HashMap<(String, String, String), Arc<Resource>>,
    /// Groups in the order of discovery, with their versions, preferred first.
    groups: Vec<(String, Vec<String>)>,
    /// What each definition made of itself, by its key and revision.
    defined: HashMap<String, (u64, Vec<Arc<Resource>>)>,
}

/// A stored definition: its key, its revision, and what is served of it.
pub(crate) type Defined = (String, u64, Vec<Arc<Resource>>);

impl Catalog {
    /// The built-in resources alone.
    #[cfg(test)]
    pub(crate) fn builtin() -> Self {
        Self::of(builtin::table())
    }

    fn of(resources: Vec<Arc<Resource>>) -> Self {
        let mut catalog = Self::default();
        for resource in resources {
            catalog.add(resource);
        }
        catalog
    }

    /// The built-in resources and these. What has another one's name is not served: who may write
    /// definitions may not replace what is built in, or delegated.
    pub(crate) fn with(delegated: Vec<Arc<Resource>>, custom: Vec<Defined>) -> Self {
        let mut all = builtin::table();
        all.extend(delegated);
        let names: HashSet<_> =
            all.iter().map(|it| (it.group.clone(), it.plural.clone())).collect();
        let is_new = |it: &Arc<Resource>| !names.contains(&(it.group.clone(), it.plural.clone()));
        all.extend(custom.iter().flat_map(|(_, _, made)| made.clone()).filter(is_new));
        let defined = custom.into_iter().map(|(key, revision, made)| (key, (revision, made)));
        Self { defined: defined.collect(), ..Self::of(all) }
    }

    /// What a definition of this revision made, if this catalogue has seen it.
    pub(crate) fn defined(&self, key: &str, revision: u64) -> Option<Vec<Arc<Resource>>> {
        let (known, made) = self.defined.get(key)?;
        (*known == revision).then(|| made.clone())
    }

    fn add(&mut self, resource: Arc<Resource>) {
        let name = (resource.group.clone(), resource.version.clone(), resource.plural.clone());
        let at = self.groups.iter().position(|(group, _)| *group == resource.group);
        let versions = match at {
            Some(at) => &mut self.groups[at].1,
            None => {
                self.groups.push((resource.group.clone(), Vec::new()));
                &mut self.groups.last_mut().expect("a group was just added").1
            }
        };
        if !versions.contains(&resource.version) {
            versions.push(resource.version.clone());
        }
        self.by_name.insert(name, resource.clone());
        self.resources.push(resource);
    }

    pub(crate) fn find(&self, group: &str, version: &str, plural: &str) -> Option<Arc<Resource>> {
        self.by_name.get(&(group.into(), version.into(), plural.into())).cloned()
    }

    /// Other resources that show the same objects: other versions, or another group's view.
    pub(crate) fn equivalents(&self, resource: &Resource) -> Vec<Arc<Resource>> {
        let is_other = |it: &&Arc<Resource>| {
            it.storage() == resource.storage()
                && (&it.group, &it.version) != (&resource.group, &resource.version)
        };
        self.resources.iter().filter(is_other).cloned().collect()
    }

    pub(crate) fn of_kind(&self, api_version: &str, kind: &str) -> Option<Arc<Resource>> {
        let mut all = self.resources.iter();
        all.find(|it| it.kind == kind && it.api_version() == api_version).cloned()
    }

    /// Groups other than the core one, with their versions.
    pub(crate) fn groups(&self) -> impl Iterator<Item = &(String, Vec<String>)> {
        self.groups.iter().filter(|(group, _)| !group.is_empty())
    }

    pub(crate) fn has_version(&self, group: &str, version: &str) -> bool {
        self.groups
            .iter()
            .any(|(it, versions)| it == group && versions.iter().any(|it| it == version))
    }

    pub(crate) fn of_version<'a>(
        &'a self,
        group: &'a str,
        version: &'a str,
    ) -> impl Iterator<Item = &'a Arc<Resource>> {
        self.resources.iter().filter(move |it| it.group == group && it.version == version)
    }

    pub(crate) fn all(&self) -> &[Arc<Resource>] {
        &self.resources
    }
}

/// `metadata.NAME` as text; empty where it is absent.
pub(crate) fn meta<'a>(object: &'a Value, name: &str) -> &'a str {
    object["metadata"][name].as_str().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_stored_builtin_has_its_own_place_and_a_schema() {
        let catalog = Catalog::builtin();
        let mut places = HashSet::new();
        for resource in catalog.all() {
            assert!(!resource.schema.is_empty(), "{}", resource.qualified());
            if resource.is_stored() && resource.stored_as.is_none() {
                assert!(places.insert(resource.prefix("")), "{} twice", resource.qualified());
            }
        }
        assert!(catalog.find("apps", "v1", "deployments").is_some());
        assert!(catalog.of_kind("v1", "Pod").is_some());
    }
}
