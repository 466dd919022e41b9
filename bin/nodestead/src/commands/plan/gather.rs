//! What a live cluster says of itself, as far as nodes depend on it, and what its region has left.

use std::collections::BTreeMap;

use api_kube::karpenter::{Ec2NodeClass, NodeOverlay};
use karpenter_core::Snapshot;
use kube::{Api, Client, Resource, api::ListParams};
use serde::de::DeserializeOwned;

use crate::{
    admin::{Admin, DaemonStatus},
    layout::Layout,
    region::Network,
};

/// A cluster's objects.
#[derive(Debug, Default)]
pub(super) struct Objects {
    pub(super) snapshot: Snapshot,
    pub(super) classes: Vec<Ec2NodeClass>,
    pub(super) overlays: Vec<NodeOverlay>,
}

/// What EC2 has left.
#[derive(Debug, Default)]
pub(super) struct Left {
    /// By the id of a capacity reservation: for how many instances more it has room.
    pub(super) reservations: BTreeMap<String, u32>,
    /// By the id of a subnet: free addresses.
    pub(super) addresses: BTreeMap<String, i64>,
}

/// All of the cluster's that a plan reads. Kinds that it does not have are none.
pub(super) async fn cluster(client: &Client) -> anyhow::Result<Objects> {
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
        csi_nodes: list(client).await?,
        budgets: list(client).await?,
        ..Snapshot::default()
    };
    let (classes, overlays) = (list(client).await?, list(client).await?);
    Ok(Objects { snapshot, classes, overlays })
}

/// What the region has left.
pub(super) async fn left(layout: &Layout) -> anyhow::Result<Left> {
    let status: DaemonStatus = Admin::new(layout.admin_socket()).get("/v1/status").await?;
    let network = Network::of(layout, &status)?;
    let reservations = network.capacity_reservations().await?.into_iter().filter_map(|it| {
        let count = u32::try_from(it.available_instance_count?).ok()?;
        Some((it.capacity_reservation_id?, count))
    });
    let addresses = network.subnets().await?.into_iter();
    let addresses =
        addresses.filter_map(|it| Some((it.subnet_id?, it.available_ip_address_count?)));
    Ok(Left { reservations: reservations.collect(), addresses: addresses.collect() })
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
