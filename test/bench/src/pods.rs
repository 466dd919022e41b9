//! Pods: from their creation to Running, many at once, at rest, at their end, and over and over.
//!
//! All run on one node, with the image present and everything warm.

use std::time::{Duration, Instant};

use anyhow::{Context, bail};
use futures::{StreamExt, stream::BoxStream};
use k8s_openapi::api::{core::v1::Pod, node::v1::RuntimeClass};
use kube::{
    Api, Client,
    api::{DeleteParams, PostParams},
    runtime::{WatchStreamExt, watcher},
};
use serde_json::{Value, json};

use crate::{
    memory,
    region::{Instance, Region},
    rows::Row,
};

mod churn;
mod exits;
mod floor;
mod idle;
mod many;
mod single;

const SETTLE: Duration = Duration::from_secs(10);
const CRUN: &str = "/usr/bin/crun";
pub(crate) const LIMIT: Duration = Duration::from_secs(120);

/// One node and its pods.
pub(crate) struct Bed {
    pub(crate) client: Client,
    pub(crate) pods: Api<Pod>,
    pub(crate) instance: Instance,
}

impl Bed {
    pub(crate) async fn new(region: &Region) -> anyhow::Result<Self> {
        let client = region.client().await?;
        let pods = Api::default_namespaced(client.clone());
        let instance = region.instances()?.first().cloned().context("no instance")?;
        Ok(Self { client, pods, instance })
    }

    /// Whether the node has crun beside runc. If so there is a RuntimeClass for it afterwards.
    pub(crate) async fn has_crun(&self) -> anyhow::Result<bool> {
        if !std::path::Path::new(CRUN).exists() {
            return Ok(false);
        }
        let classes = Api::<RuntimeClass>::all(self.client.clone());
        let class = json!({"metadata": {"name": "crun"}, "handler": "crun"});
        match classes.create(&PostParams::default(), &serde_json::from_value(class)?).await {
            Ok(_) => Ok(true),
            Err(kube::Error::Api(error)) if error.code == 409 => Ok(true),
            Err(error) => Err(error.into()),
        }
    }

    /// A pod of one container on this node.
    pub(crate) fn pod(&self, name: &str, spec: &Value, container: &Value) -> anyhow::Result<Pod> {
        let mut pod = json!({
            "metadata": {"name": name, "labels": {"bench": "pods"}},
            "spec": {
                "nodeName": self.instance.node,
                "terminationGracePeriodSeconds": 0,
                "containers": [{
                    "name": "sleep", "image": "busybox:1.35", "command": ["sleep", "100000"],
                }],
            },
        });
        merge(&mut pod["spec"], spec);
        merge(&mut pod["spec"]["containers"][0], container);
        Ok(serde_json::from_value(pod)?)
    }

    pub(crate) async fn create(&self, pod: &Pod) -> anyhow::Result<()> {
        self.pods.create(&PostParams::default(), pod).await?;
        Ok(())
    }

    pub(crate) async fn delete(&self, name: &str) -> anyhow::Result<()> {
        self.pods.delete(name, &DeleteParams::default().grace_period(0)).await?;
        Ok(())
    }

    /// Waits until no more shims are there than that, and a moment: the next sample begins when
    /// nothing is done for the last one any more, as with the bare calls.
    pub(crate) async fn cleared(&self, shims: usize) -> anyhow::Result<()> {
        let deadline = Instant::now() + LIMIT;
        while memory::shims_of(self.instance.pid) > shims {
            if Instant::now() > deadline {
                bail!("the last pod's shim is there after {LIMIT:?}");
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        tokio::time::sleep(Duration::from_millis(200)).await;
        Ok(())
    }

    /// The pods with this name, as they change.
    pub(crate) fn watch(&self, name: &str) -> BoxStream<'static, watcher::Result<Pod>> {
        let config = watcher::Config::default().fields(&format!("metadata.name={name}"));
        watcher(self.pods.clone(), config).applied_objects().boxed()
    }

    /// The instance's containerd, through its root.
    pub(crate) fn socket(&self) -> String {
        format!("/proc/{}/root/run/containerd/containerd.sock", self.instance.pid)
    }
}

fn merge(into: &mut Value, from: &Value) {
    for (key, value) in from.as_object().into_iter().flatten() {
        into[key] = value.clone();
    }
}

/// The moment at which a watch shows a pod that `is_it`.
pub(crate) async fn seen(
    events: &mut BoxStream<'static, watcher::Result<Pod>>,
    is_it: impl Fn(&Pod) -> bool,
) -> anyhow::Result<Instant> {
    let deadline = Instant::now() + LIMIT;
    while let Ok(event) = tokio::time::timeout_at(deadline.into(), events.next()).await {
        if is_it(&event.context("the watch ended")??) {
            return Ok(Instant::now());
        }
    }
    bail!("not seen within {LIMIT:?}")
}

pub(crate) fn is_running(pod: &Pod) -> bool {
    phase(pod) == "Running"
}

pub(crate) fn is_ready(pod: &Pod) -> bool {
    let conditions = pod.status.as_ref().and_then(|it| it.conditions.as_ref());
    conditions.into_iter().flatten().any(|it| it.type_ == "Ready" && it.status == "True")
}

pub(crate) fn phase(pod: &Pod) -> &str {
    pod.status.as_ref().and_then(|it| it.phase.as_deref()).unwrap_or_default()
}

async fn settled(region: &Region) -> anyhow::Result<Bed> {
    region.load_images()?;
    let bed = Bed::new(region).await?;
    // The add-ons' pods start behind `up`.
    tokio::time::sleep(SETTLE).await;
    Ok(bed)
}

/// Pods one by one: their beginning, and how their end is told.
pub(crate) async fn rows(region: &Region) -> anyhow::Result<Vec<Row>> {
    let bed = settled(region).await?;
    let mut rows = single::rows(&bed).await?;
    rows.extend(exits::rows(&bed).await?);
    Ok(rows)
}

/// Many at once.
pub(crate) async fn many(region: &Region) -> anyhow::Result<Vec<Row>> {
    many::rows(&settled(region).await?).await
}

/// Many at rest.
pub(crate) async fn idle(region: &Region) -> anyhow::Result<Vec<Row>> {
    idle::rows(region, &settled(region).await?).await
}

/// Many one after the other, and what is left of them.
pub(crate) async fn lives(region: &Region) -> anyhow::Result<Vec<Row>> {
    churn::rows(&settled(region).await?).await
}
