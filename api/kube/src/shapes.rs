//! The generic code of Kubernetes' built-in types, compiled once for everybody.
//!
//! Reading, writing, asking for and watching a `Pod` is generic code of serde and kube. Without this
//! module every crate that does it compiles a copy of its own: two thirds of the kubelet's machine
//! code were such copies. rustc takes an instance from a crate below where there is one (it shares
//! generics at opt-level 0 and 1), so this crate makes the instances, and whoever works with built-in
//! types names it: `use api_kube as _;`.
//!
//! **Invariant:** nothing here is ever called.

use futures::{FutureExt, StreamExt, future::BoxFuture, stream::BoxStream};
use k8s_openapi::api::{
    apps::v1::{DaemonSet, Deployment, ReplicaSet, StatefulSet},
    batch::v1::Job,
    certificates::v1::CertificateSigningRequest,
    coordination::v1::Lease,
    core::v1::{
        ConfigMap, Endpoints, Event, Namespace, Node, NodeStatus, PersistentVolume,
        PersistentVolumeClaim, Pod, PodSpec, PodStatus, Secret, Service, ServiceAccount,
    },
    discovery::v1::EndpointSlice,
    policy::v1::PodDisruptionBudget,
    storage::v1::StorageClass,
};
use kube::{
    Api, Client, Resource,
    api::{DeleteParams, ListParams, Patch, PatchParams, PostParams, WatchParams},
    runtime::watcher,
};
use serde::{Serialize, de::DeserializeOwned};
use serde_json::Value;

/// A part of an object that is read and written by itself.
struct Part {
    _from_str: fn(&'static str) -> serde_json::Result<()>,
    _from_slice: fn(&'static [u8]) -> serde_json::Result<()>,
    _from_value: fn(Value) -> serde_json::Result<()>,
    _write: fn(&'static [u8]) -> serde_json::Result<Vec<u8>>,
    _to_value: fn(&'static [u8]) -> serde_json::Result<Value>,
}

fn part<T: DeserializeOwned + Serialize + Clone>() -> Part {
    Part {
        _from_str: |text| serde_json::from_str::<T>(text).map(drop),
        _from_slice: |bytes| serde_json::from_slice::<T>(bytes).map(drop),
        _from_value: |value| serde_json::from_value::<T>(value).map(drop),
        _write: |bytes| serde_json::to_vec(&serde_json::from_slice::<T>(bytes)?),
        _to_value: |bytes| serde_json::to_value(serde_json::from_slice::<T>(bytes)?),
    }
}

/// A kind, and what clients do with it.
struct Kind {
    _part: Part,
    _calls: fn(Client) -> BoxFuture<'static, kube::Result<()>>,
    _watch: fn(Client) -> BoxStream<'static, watcher::Result<()>>,
}

fn kind<K>() -> Kind
where
    K: Resource<DynamicType = ()> + DeserializeOwned + Serialize,
    K: Clone + std::fmt::Debug + Send + Sync + 'static,
{
    Kind {
        _part: part::<K>(),
        _calls: |client| calls(Api::<K>::all(client)).boxed(),
        _watch: |client| {
            let events = watcher(Api::<K>::all(client), watcher::Config::default());
            events.map(|it| it.map(drop)).boxed()
        },
    }
}

async fn calls<K>(api: Api<K>) -> kube::Result<()>
where
    K: Resource + DeserializeOwned + Serialize + Clone + std::fmt::Debug,
{
    let (posted, patched) = (PostParams::default(), PatchParams::default());
    let object = api.get("").await?;
    drop(api.get_opt("").await?);
    drop(api.list(&ListParams::default()).await?);
    drop(api.watch(&WatchParams::default(), "").await?);
    drop(api.create(&posted, &object).await?);
    drop(api.replace("", &posted, &object).await?);
    drop(api.patch("", &patched, &Patch::Merge(Value::Null)).await?);
    drop(api.patch_status("", &patched, &Patch::Merge(Value::Null)).await?);
    drop(api.delete("", &DeleteParams::default()).await?);
    Ok(())
}

/// What makes the instances: it has to be compiled, so it is public.
#[doc(hidden)]
pub fn instances() -> usize {
    let kinds = [
        kind::<ConfigMap>(),
        kind::<CertificateSigningRequest>(),
        kind::<DaemonSet>(),
        kind::<Deployment>(),
        kind::<EndpointSlice>(),
        kind::<Endpoints>(),
        kind::<Event>(),
        kind::<Job>(),
        kind::<Lease>(),
        kind::<Namespace>(),
        kind::<Node>(),
        kind::<PersistentVolume>(),
        kind::<PersistentVolumeClaim>(),
        kind::<Pod>(),
        kind::<PodDisruptionBudget>(),
        kind::<ReplicaSet>(),
        kind::<Secret>(),
        kind::<Service>(),
        kind::<ServiceAccount>(),
        kind::<StatefulSet>(),
        kind::<StorageClass>(),
    ];
    let parts = [part::<PodSpec>(), part::<PodStatus>(), part::<NodeStatus>()];
    std::hint::black_box(kinds).len() + std::hint::black_box(parts).len()
}
