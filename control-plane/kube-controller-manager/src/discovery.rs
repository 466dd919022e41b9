//! Which kinds of objects the API server has, asked again every half minute.
//!
//! The garbage collector and the namespace controller must reach everything, custom resources
//! included.
//!
//! Upstream: `ServerPreferredResources`, with the same period as its garbage collector.

use kube::{
    Client, Discovery,
    core::{ApiResource, discovery::v2::APIGroupDiscovery},
    discovery::{ApiGroup, Scope, verbs},
};

/// A kind that can be listed and deleted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Kind {
    pub(crate) resource: ApiResource,
    pub(crate) is_namespaced: bool,
    pub(crate) is_watchable: bool,
    pub(crate) deletes_collections: bool,
}

/// A kind by its name; the version is the server's choice.
pub(crate) async fn find(client: &Client, api_version: &str, kind: &str) -> Result<Kind, String> {
    let (group, _) = api_version.split_once('/').unwrap_or(("", api_version));
    let kinds = kinds(client).await.map_err(|it| told(&it))?;
    let mut found = kinds.into_iter().filter(|it| it.resource.group == group);
    let found = found.find(|it| it.resource.kind == kind);
    found.ok_or_else(|| format!("no matches for kind \"{kind}\" in group \"{group}\""))
}

impl Kind {
    /// `daemonsets.apps`
    pub(crate) fn name(&self) -> String {
        match self.resource.group.as_str() {
            "" => self.resource.plural.clone(),
            group => format!("{}.{group}", self.resource.plural),
        }
    }
}

/// The server's own words; client-go's where there is no server at a path.
pub(crate) fn told(error: &kube::Error) -> String {
    match error {
        kube::Error::Api(status)
            if status.code == 404 && status.message == "404 page not found" =>
        {
            "the server could not find the requested resource".to_owned()
        }
        kube::Error::Api(status) => status.message.clone(),
        other => telemetry::chain(other).to_string(),
    }
}

/// The versions of aggregated APIs that could not be asked lately, each with why: upstream's words.
pub(crate) async fn stale(client: &Client) -> Vec<(String, String)> {
    // A server that has no such document is asked for each version, and says what fails itself.
    let Ok(list) = client.list_api_groups_aggregated().await else { return Vec::new() };
    let mut stale: Vec<_> = list.items.iter().flat_map(stale_versions).collect();
    stale.sort();
    let why = |it: String| (it.clone(), format!("stale GroupVersion discovery: {it}"));
    stale.into_iter().map(why).collect()
}

fn stale_versions(group: &APIGroupDiscovery) -> Vec<String> {
    let name = group.metadata.as_ref().and_then(|it| it.name.as_deref()).unwrap_or_default();
    let stale = group.versions.iter().filter(|it| it.freshness.as_deref() == Some("Stale"));
    stale.map(|it| format!("{name}/{}", it.version.as_deref().unwrap_or_default())).collect()
}

/// All kinds that can be listed and deleted, each in its preferred version.
pub(crate) async fn kinds(client: &Client) -> Result<Vec<Kind>, kube::Error> {
    // One request per kind of API, where the server can; one per group where it cannot.
    let discovery = match Discovery::new(client.clone()).run_aggregated().await {
        Ok(discovery) => discovery,
        Err(_) => Discovery::new(client.clone()).run().await?,
    };
    let found = discovery.groups().flat_map(ApiGroup::recommended_resources);
    let found = found.filter(|(resource, capabilities)| {
        let can = |verb| capabilities.supports_operation(verb);
        // Subresources have a slash in their names.
        can(verbs::LIST) && can(verbs::DELETE) && !resource.plural.contains('/')
    });
    let kinds = found.map(|(resource, capabilities)| Kind {
        is_namespaced: capabilities.scope == Scope::Namespaced,
        is_watchable: capabilities.supports_operation(verbs::WATCH),
        deletes_collections: capabilities.supports_operation(verbs::DELETE_COLLECTION),
        resource,
    });
    Ok(kinds.collect())
}
