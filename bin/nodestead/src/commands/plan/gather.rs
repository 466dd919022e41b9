//! What a live cluster says of itself, as far as nodes depend on it.

use api_kube::karpenter::Ec2NodeClass;
use karpenter_core::Snapshot;
use kube::{Api, Client, Resource, api::ListParams};
use serde::de::DeserializeOwned;

/// The cluster's objects, and its classes. Kinds that it does not have are none.
pub(super) async fn cluster(client: &Client) -> anyhow::Result<(Snapshot, Vec<Ec2NodeClass>)> {
    let snapshot = Snapshot {
        pools: list(client).await?,
        claims: list(client).await?,
        nodes: list(client).await?,
        pods: list(client).await?,
        daemon_sets: list(client).await?,
        namespaces: list(client).await?,
        volumes: list(client).await?,
        volume_claims: list(client).await?,
        storage_classes: list(client).await?,
        budgets: list(client).await?,
        ..Snapshot::default()
    };
    Ok((snapshot, list(client).await?))
}

async fn list<K>(client: &Client) -> anyhow::Result<Vec<K>>
where
    K: Resource<DynamicType = ()> + Clone + DeserializeOwned + std::fmt::Debug,
{
    match Api::<K>::all(client.clone()).list(&ListParams::default()).await {
        Ok(list) => Ok(list.items),
        // The definition is not installed.
        Err(kube::Error::Api(status)) if status.code == 404 => Ok(Vec::new()),
        Err(error) => {
            let what = anyhow::Error::new(error);
            Err(what.context(format!("cannot list {}", K::plural(&()))))
        }
    }
}
