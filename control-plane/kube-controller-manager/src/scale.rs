//! How many pods an object wants, by the `scale` subresource of whatever kind it is.
//!
//! Upstream: `client-go/scale`.

use http::Request;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use kube::{
    Api, Client,
    api::{Patch, PatchParams},
    core::DynamicObject,
};
use serde::Deserialize;
use serde_json::json;

use crate::discovery::{self, Kind, told};

#[derive(Debug, Deserialize)]
pub(crate) struct Scale {
    #[serde(default)]
    pub(crate) metadata: ObjectMeta,
    #[serde(default)]
    pub(crate) spec: ScaleSpec,
    #[serde(default)]
    pub(crate) status: ScaleStatus,
}

#[derive(Debug, Default, Deserialize)]
pub(crate) struct ScaleSpec {
    pub(crate) replicas: Option<i32>,
}

#[derive(Debug, Default, Deserialize)]
pub(crate) struct ScaleStatus {
    #[serde(default)]
    pub(crate) replicas: i32,
    pub(crate) selector: Option<String>,
}

/// An object of a kind that this process need not know.
pub(crate) struct Scaled {
    api: Api<DynamicObject>,
    kind: Kind,
    name: String,
}

impl Scaled {
    /// Asks the server how the kind is called in paths.
    pub(crate) async fn find(
        client: &Client,
        namespace: &str,
        (api_version, kind, name): (&str, &str, &str),
    ) -> Result<Self, String> {
        check_segment(name)?;
        let kind = discovery::find(client, api_version, kind).await?;
        if !kind.is_namespaced {
            return Err(format!("{} are not in namespaces", kind.name()));
        }
        let api = Api::namespaced_with(client.clone(), namespace, &kind.resource);
        Ok(Self { api, kind, name: name.to_owned() })
    }

    pub(crate) async fn read(&self, client: &Client) -> Result<Scale, kube::Error> {
        let path = format!("{}/{}/scale", self.api.resource_url(), self.name);
        let request = Request::get(path).body(Vec::new());
        client.request::<Scale>(request.map_err(kube::Error::HttpError)?).await
    }

    pub(crate) async fn write(&self, replicas: i32) -> Result<(), String> {
        let patch = Patch::Merge(json!({ "spec": { "replicas": replicas } }));
        let patched = self.api.patch_scale(&self.name, &PatchParams::default(), &patch).await;
        patched.map(drop).map_err(|it| told(&it))
    }

    /// Whether objects of the kind have a scale at all, as discovery tells it: an account that may read
    /// any scale may not read the objects.
    pub(crate) async fn has_scale(&self, client: &Client) -> Result<bool, String> {
        let kind = &self.kind.resource;
        let listed = match kind.group.as_str() {
            "" => client.list_core_api_resources(&kind.version).await,
            _ => client.list_api_group_resources(&kind.api_version).await,
        };
        let scale = format!("{}/scale", kind.plural);
        Ok(listed.map_err(|it| told(&it))?.resources.iter().any(|it| it.name == scale))
    }

    /// `daemonsets.apps`
    pub(crate) fn resource(&self) -> String {
        self.kind.name()
    }
}

/// The name becomes a part of a path that is asked for with a controller's rights.
pub(crate) fn check_segment(name: &str) -> Result<(), String> {
    if matches!(name, "" | "." | "..") {
        return Err(format!("may not be '{name}'"));
    }
    match name.chars().find(|it| "/%?#".contains(*it)) {
        Some(wrong) => Err(format!("may not contain '{wrong}'")),
        None => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_name_of_a_target_stays_one_part_of_a_path() {
        assert_eq!(check_segment("web"), Ok(()));
        for (name, why) in [
            ("..", "may not be '..'"),
            ("a/../b", "may not contain '/'"),
            ("a?dryRun=All", "may not contain '?'"),
        ] {
            assert_eq!(check_segment(name).unwrap_err(), why);
        }
    }
}
