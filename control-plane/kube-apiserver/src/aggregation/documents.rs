//! What servers behind Services serve, as part of discovery and of the OpenAPI documents.
//!
//! It is kept as it was last told: what cannot be asked any more is told of as stale.
//!
//! Upstream: `discoveryManager` and the OpenAPI controllers of kube-aggregator.

use std::{collections::HashMap, sync::Arc};

use serde_json::{Map, Value, json};

use super::{Aggregator, Api, Remote, Table, order};
use crate::resources::Catalog;

/// A document of a large API.
pub(super) const LIMIT: usize = 64 << 20;

const AGGREGATED: &str = "application/json;g=apidiscovery.k8s.io;v=v2;as=APIGroupDiscoveryList,\
                          application/json;g=apidiscovery.k8s.io;v=v2beta1;as=APIGroupDiscoveryList,\
                          application/json";

/// What one server said.
#[derive(Clone, Debug, Default)]
pub(super) struct Learned {
    /// The version's resources, as aggregated discovery tells of them.
    resources: Vec<Value>,
    is_stale: bool,
    /// Where the version's OpenAPI v3 document is, below this server's own.
    v3: Option<String>,
    /// Paths and definitions of OpenAPI v2.
    v2: Arc<(Map<String, Value>, Map<String, Value>)>,
}

/// What is built in, defined and aggregated, at one moment.
pub(crate) struct Merged {
    pub(crate) catalog: Arc<Catalog>,
    table: Arc<Table>,
    learned: HashMap<Api, Arc<Learned>>,
    groups: Vec<(String, Vec<String>)>,
}

impl Merged {
    /// Groups other than the core one, with their versions, the most wanted first.
    pub(crate) fn groups(&self) -> impl Iterator<Item = &(String, Vec<String>)> {
        self.groups.iter()
    }

    /// The aggregated discovery of a version that a server behind a Service has.
    pub(crate) fn version(&self, group: &str, version: &str) -> Option<Value> {
        let api = (group.to_owned(), version.to_owned());
        self.table.remotes.get(&api)?;
        let none = Learned { is_stale: true, ..Learned::default() };
        let learned = self.learned.get(&api).map_or(&none, |it| &**it);
        let freshness = if learned.is_stale { "Stale" } else { "Current" };
        let mut entry = json!({ "version": version, "freshness": freshness });
        if !learned.resources.is_empty() {
            entry["resources"] = learned.resources.clone().into();
        }
        Some(entry)
    }

    /// Whether a server behind a Service answers for it.
    pub(crate) fn is_remote(&self, group: &str, version: &str) -> bool {
        self.table.has(group, version)
    }

    /// The entries of the index of OpenAPI v3.
    pub(crate) fn v3(&self) -> impl Iterator<Item = (String, &str)> {
        self.table.remotes.keys().filter_map(|api| {
            let url = self.learned.get(api)?.v3.as_deref()?;
            Some((format!("apis/{}/{}", api.0, api.1), url))
        })
    }

    /// Paths and definitions of OpenAPI v2; what is defined here already stays.
    pub(crate) fn add_v2(
        &self,
        paths: &mut Map<String, Value>,
        definitions: &mut Map<String, Value>,
    ) {
        for api in self.table.remotes.keys() {
            let Some(learned) = self.learned.get(api) else { continue };
            let (own_paths, own_definitions) = &*learned.v2;
            paths.extend(own_paths.iter().map(|(path, it)| (path.clone(), it.clone())));
            for (name, definition) in own_definitions {
                definitions.entry(name).or_insert_with(|| definition.clone());
            }
        }
    }
}

impl Aggregator {
    pub(crate) fn merged(&self, catalog: Arc<Catalog>) -> Merged {
        let table = self.table();
        let groups = order::groups(&catalog, &table);
        Merged { catalog, groups, learned: self.learned.read().clone(), table }
    }

    /// Asks what is served, and keeps it.
    pub(super) async fn learn(&self, remote: &Remote) {
        let resources = match self.resources(remote).await {
            Ok(resources) => resources,
            Err(why) => {
                tracing::debug!(why, name = remote.name, "discovery failed");
                return self.doubt(remote);
            }
        };
        let v3 = self.ask(remote, "/openapi/v3", "application/json").await;
        let v3 = v3.ok().and_then(|(_, body)| {
            let index: Value = serde_json::from_slice(&body).ok()?;
            let path = format!("apis/{}/{}", remote.api.0, remote.api.1);
            index["paths"][path]["serverRelativeURL"].as_str().map(str::to_owned)
        });
        let v2 = self.ask(remote, "/openapi/v2", "application/json").await;
        let v2 = v2.ok().and_then(|(_, body)| serde_json::from_slice::<Value>(&body).ok());
        let v2 = Arc::new(v2.map(|it| own_part(&it, &remote.root())).unwrap_or_default());
        let learned = Arc::new(Learned { resources, is_stale: false, v3, v2 });
        let mut all = self.learned.write();
        let table = self.table();
        all.retain(|api, _| table.remotes.contains_key(api));
        all.insert(remote.api.clone(), learned);
    }

    /// What was told may not hold any more.
    pub(super) fn doubt(&self, remote: &Remote) {
        if let Some(learned) = self.learned.write().get_mut(&remote.api) {
            Arc::make_mut(learned).is_stale = true;
        }
    }

    /// The resources of the version: as the server tells of all that it has, or of this version.
    async fn resources(&self, remote: &Remote) -> Result<Vec<Value>, String> {
        let (group, version) = &remote.api;
        if let Ok((media, body)) = self.ask(remote, "/apis", AGGREGATED).await
            && media.contains("as=APIGroupDiscoveryList")
            && let Ok(list) = serde_json::from_slice::<Value>(&body)
        {
            let groups = list["items"].as_array().into_iter().flatten();
            let mut groups = groups.filter(|it| it["metadata"]["name"] == **group);
            let versions = groups.next().and_then(|it| it["versions"].as_array());
            let mut versions = versions.into_iter().flatten();
            if let Some(found) = versions.find(|it| it["version"] == **version) {
                return Ok(found["resources"].as_array().cloned().unwrap_or_default());
            }
        }
        let (_, body) = self.ask(remote, &remote.root(), "application/json").await?;
        let list: Value = serde_json::from_slice(&body).map_err(|error| error.to_string())?;
        Ok(of_list(&list, group, version))
    }
}

/// An `APIResourceList` in the words of aggregated discovery.
fn of_list(list: &Value, group: &str, version: &str) -> Vec<Value> {
    let entries = list["resources"].as_array().map_or(&[][..], Vec::as_slice);
    let part = |entry: &Value, field: &str, default: &str| {
        entry[field].as_str().filter(|it| !it.is_empty()).unwrap_or(default).to_owned()
    };
    let kind = |entry: &Value| {
        json!({
            "group": part(entry, "group", group), "version": part(entry, "version", version),
            "kind": entry["kind"],
        })
    };
    let name = |entry: &Value| entry["name"].as_str().unwrap_or_default().to_owned();
    let mut resources = Vec::new();
    for entry in entries.iter().filter(|it| !name(it).contains('/')) {
        let plural = name(entry);
        let scope = if entry["namespaced"] == true { "Namespaced" } else { "Cluster" };
        let mut resource = json!({
            "resource": plural, "responseKind": kind(entry), "scope": scope,
            "singularResource": entry["singularName"], "verbs": entry["verbs"],
        });
        for list in ["shortNames", "categories"] {
            if entry[list].is_array() {
                resource[list] = entry[list].clone();
            }
        }
        let below: Vec<Value> = entries
            .iter()
            .filter_map(|it| {
                let name = name(it);
                let subresource = name.strip_prefix(&plural)?.strip_prefix('/')?.to_owned();
                Some(json!({
                    "subresource": subresource, "responseKind": kind(it), "verbs": it["verbs"],
                }))
            })
            .collect();
        if !below.is_empty() {
            resource["subresources"] = below.into();
        }
        resources.push(resource);
    }
    resources
}

/// The paths of the version, with all of their parameters, and all definitions.
fn own_part(document: &Value, root: &str) -> (Map<String, Value>, Map<String, Value>) {
    let map = |field: &str| document[field].as_object().cloned().unwrap_or_default();
    let mut paths = map("paths");
    paths.retain(|path, _| {
        path.strip_prefix(root).is_some_and(|it| it.is_empty() || it.starts_with('/'))
    });
    for path in paths.values_mut() {
        without_references(path, &document["parameters"]);
        let operations = path.as_object_mut().into_iter().flatten();
        operations.for_each(|(_, it)| without_references(it, &document["parameters"]));
    }
    (paths, map("definitions"))
}

/// Parameters of which the document tells in another place: here there are others of these names.
fn without_references(of: &mut Value, shared: &Value) {
    let Some(parameters) = of.get_mut("parameters").and_then(Value::as_array_mut) else { return };
    for parameter in parameters {
        let name = parameter["$ref"].as_str().and_then(|it| it.strip_prefix("#/parameters/"));
        if let Some(meant) = name.and_then(|it| shared.get(it)) {
            *parameter = meant.clone();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parameters_that_a_server_shares_among_its_paths_come_with_them() {
        let pretty = json!({ "name": "pretty", "in": "query", "type": "string" });
        let shared = json!([{ "$ref": "#/parameters/pretty-x" }, { "name": "own" }]);
        let document = json!({
            "parameters": { "pretty-x": pretty }, "definitions": { "D": {} },
            "paths": {
                "/apis/g/v1/x": { "parameters": shared, "get": { "parameters": shared } },
                "/apis/g/v11/x": {},
            },
        });
        let (paths, definitions) = own_part(&document, "/apis/g/v1");
        let told = json!([pretty, { "name": "own" }]);
        let item = json!({ "parameters": told, "get": { "parameters": told } });
        assert_eq!(Value::Object(paths), json!({ "/apis/g/v1/x": item }));
        assert_eq!(definitions.len(), 1);
    }
}
