//! Writes to the API server as controllers make them.
//!
//! Deletes name the UID that was decided upon; statuses are merge-patched; what is already so
//! counts as done. No server-side apply, so that any API server will do.

use std::fmt::Debug;

use kube::{
    Api, Client, Resource, ResourceExt,
    api::{DeleteParams, Patch, PatchParams, PostParams, Preconditions},
    core::NamespaceResourceScope,
};
use serde::{Serialize, de::DeserializeOwned};

/// Why a write (or a whole pass) failed.
#[derive(Debug, thiserror::Error)]
pub enum ApplyError {
    #[error("failed to {verb} {kind} `{name}`")]
    Api {
        verb: &'static str,
        kind: String,
        name: String,
        #[source]
        source: Box<kube::Error>,
    },
    #[error("{message}")]
    Other { message: String },
}

impl ApplyError {
    pub fn new<K: Resource<DynamicType = ()>>(
        verb: &'static str,
        name: &str,
        source: kube::Error,
    ) -> Self {
        let kind = K::kind(&()).into_owned();
        Self::Api { verb, kind, name: name.to_owned(), source: Box::new(source) }
    }

    pub fn other(message: impl Into<String>) -> Self {
        Self::Other { message: message.into() }
    }

    fn status(&self) -> Option<&kube::core::Status> {
        match self {
            Self::Api { source, .. } => match source.as_ref() {
                kube::Error::Api(status) => Some(status),
                _ => None,
            },
            Self::Other { .. } => None,
        }
    }

    /// The server has answered: what was asked for was not done.
    pub fn is_answered(&self) -> bool {
        self.status().is_some()
    }

    /// The object changed since it was read: the next pass will see the change.
    pub fn is_conflict(&self) -> bool {
        self.status().is_some_and(kube::core::Status::is_conflict)
    }

    pub fn is_not_found(&self) -> bool {
        self.status().is_some_and(kube::core::Status::is_not_found)
    }

    pub fn is_already_exists(&self) -> bool {
        self.status().is_some_and(kube::core::Status::is_already_exists)
    }

    /// The server's own words, where it answered at all.
    pub fn server_message(&self) -> String {
        match self.status() {
            Some(status) => status.message.clone(),
            None => telemetry::chain(self).to_string(),
        }
    }
}

/// Kinds that controllers write.
pub trait Object:
    Resource<DynamicType = ()> + Clone + Debug + Serialize + DeserializeOwned + Send + Sync
{
}

impl<K> Object for K where
    K: Resource<DynamicType = ()> + Clone + Debug + Serialize + DeserializeOwned + Send + Sync
{
}

/// The API for the objects of a namespace.
pub fn api<K>(client: &Client, namespace: &str) -> Api<K>
where
    K: Object + Resource<Scope = NamespaceResourceScope>,
{
    Api::namespaced(client.clone(), namespace)
}

/// Creates a namespaced object.
pub async fn create<K>(client: &Client, object: &K) -> Result<K, ApplyError>
where
    K: Object + Resource<Scope = NamespaceResourceScope>,
{
    let namespace = object.namespace().unwrap_or_default();
    let created = api::<K>(client, &namespace).create(&PostParams::default(), object).await;
    created.map_err(|source| ApplyError::new::<K>("create", &label(object), source))
}

/// Replaces a namespaced object; its resource version guards against lost updates.
pub async fn replace<K>(client: &Client, object: &K) -> Result<K, ApplyError>
where
    K: Object + Resource<Scope = NamespaceResourceScope>,
{
    let namespace = object.namespace().unwrap_or_default();
    let name = object.name_any();
    let replaced =
        api::<K>(client, &namespace).replace(&name, &PostParams::default(), object).await;
    replaced.map_err(|source| ApplyError::new::<K>("update", &label(object), source))
}

/// Merge-patches a namespaced object.
pub async fn patch<K>(
    client: &Client,
    namespace: &str,
    name: &str,
    patch: &serde_json::Value,
) -> Result<K, ApplyError>
where
    K: Object + Resource<Scope = NamespaceResourceScope>,
{
    let patched = api::<K>(client, namespace)
        .patch(name, &PatchParams::default(), &Patch::Merge(patch))
        .await;
    patched.map_err(|source| ApplyError::new::<K>("patch", name, source))
}

/// Merge-patches `status` of a namespaced object.
pub async fn patch_status<K, S>(
    client: &Client,
    namespace: &str,
    name: &str,
    status: &S,
) -> Result<K, ApplyError>
where
    K: Object + Resource<Scope = NamespaceResourceScope>,
    S: Serialize + Debug,
{
    let patch = serde_json::json!({ "status": status });
    let patched = api::<K>(client, namespace)
        .patch_status(name, &PatchParams::default(), &Patch::Merge(&patch))
        .await;
    patched.map_err(|source| ApplyError::new::<K>("patch the status of", name, source))
}

/// Deletes exactly this object. Gone, or replaced by another of its name, counts as done.
pub async fn delete<K>(client: &Client, object: &K) -> Result<(), ApplyError>
where
    K: Object + Resource<Scope = NamespaceResourceScope>,
{
    let api = api::<K>(client, &object.namespace().unwrap_or_default());
    delete_with(&api, object, DeleteParams::default()).await
}

/// As [`delete`], with parameters and for any scope.
pub async fn delete_with<K: Object>(
    api: &Api<K>,
    object: &K,
    parameters: DeleteParams,
) -> Result<(), ApplyError> {
    let only_this = Preconditions { uid: object.uid(), ..Preconditions::default() };
    let name = object.name_any();
    match api.delete(&name, &parameters.preconditions(only_this)).await {
        Ok(_) => Ok(()),
        Err(kube::Error::Api(status)) if status.is_not_found() || status.is_conflict() => Ok(()),
        Err(source) => Err(ApplyError::new::<K>("delete", &label(object), source)),
    }
}

fn label<K: Resource>(object: &K) -> String {
    let meta = object.meta();
    meta.name.clone().or_else(|| meta.generate_name.clone()).unwrap_or_default()
}
