//! Ends pods that keep more on the node's disk than they may: in an `emptyDir` with a size limit, or
//! beyond the limits of `ephemeral-storage` of their containers.
//!
//! Only pods that have such a limit are measured.
//!
//! Upstream: `localStorageEviction` in `pkg/kubelet/eviction/eviction_manager.go`.

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use k8s_openapi::{
    api::core::v1::{Pod, Volume},
    apimachinery::pkg::api::resource::Quantity,
};
use tokio::time::MissedTickBehavior;

use crate::{
    context::Context, cri, labels, pod::PodExt, pod_workers::PodWorkers, quantity, stats::disk,
    status::Verdict,
};

const PERIOD: Duration = Duration::from_secs(10);
/// Upstream's `immediateEvictionGracePeriodSeconds`.
const GRACE: i64 = 1;
const STORAGE: &str = "ephemeral-storage";

pub(crate) struct LocalStorage {
    context: Arc<Context>,
    workers: Arc<PodWorkers>,
}

/// What a pod keeps on the disk, in bytes.
#[derive(Clone, Debug, Default)]
struct Use {
    volumes: BTreeMap<String, i64>,
    /// Of each container: its logs, and what it has written beside volumes.
    containers: BTreeMap<String, (i64, i64)>,
    hosts_file: i64,
}

impl LocalStorage {
    pub(crate) fn new(context: Arc<Context>, workers: Arc<PodWorkers>) -> Self {
        Self { context, workers }
    }

    pub(crate) async fn run(self) {
        if !self.context.settings.config.local_storage_capacity_isolation {
            return;
        }
        let mut ticks = tokio::time::interval(PERIOD);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            ticks.tick().await;
            let mut limited = self.workers.pods_where(is_limited);
            limited.retain(|it| !is_over(it) && !self.workers.is_ending(&it.uid()));
            if limited.is_empty() {
                continue;
            }
            let layers = self.layers().await;
            let counts_layers = self.has_layers_on_node().await;
            for pod in &limited {
                let usage = self.measure(pod, &layers).await;
                if let Some(message) = exceeded(pod, &usage, counts_layers) {
                    self.context.recorder.warning(pod, "Evicted", message.clone());
                    let verdict = Verdict { reason: "Evicted".to_owned(), message };
                    self.workers.evict(&pod.uid(), verdict, Some(GRACE));
                }
            }
        }
    }

    /// What the containers of each pod have written beside volumes.
    async fn layers(&self) -> BTreeMap<(String, String), i64> {
        let stats = self.context.runtime.container_stats().await.unwrap_or_default();
        let mut layers = BTreeMap::new();
        for it in stats {
            let used = it.writable_layer.and_then(|it| it.used_bytes).map_or(0, |it| it.value);
            let Some(mut attributes) = it.attributes else { continue };
            let mut label = |key: &str| attributes.labels.remove(key).unwrap_or_default();
            let key = (label(labels::POD_UID), label(labels::CONTAINER_NAME));
            *layers.entry(key).or_insert(0) += i64::try_from(used).unwrap_or(i64::MAX);
        }
        layers
    }

    /// What containers write is on the disk of the node, unless it is known to be elsewhere.
    async fn has_layers_on_node(&self) -> bool {
        use std::os::unix::fs::MetadataExt;
        let told = self.context.runtime.file_systems().await.unwrap_or_default();
        let device = |path: &Path| std::fs::metadata(path).ok().map(|it| it.dev());
        let layers = told.containers.as_ref().and_then(cri::mountpoint).and_then(device);
        layers.is_none() || layers == device(self.context.paths.root())
    }

    async fn measure(&self, pod: &Pod, layers: &BTreeMap<(String, String), i64>) -> Use {
        let paths = &self.context.paths;
        let mut usage = Use::default();
        for (name, path) in self.context.volumes.local_paths(pod) {
            usage.volumes.insert(name, bytes_of(path).await);
        }
        for (_, container) in pod.all_containers() {
            let logs = bytes_of(paths.pod_logs(pod).join(&container.name)).await;
            let key = (pod.uid().0, container.name.clone());
            let layer = layers.get(&key).copied().unwrap_or(0);
            usage.containers.insert(container.name, (logs, layer));
        }
        usage.hosts_file = bytes_of(paths.hosts_file(&pod.uid())).await;
        usage
    }
}

/// What a folder takes on its own file system.
async fn bytes_of(path: PathBuf) -> i64 {
    let used = tokio::task::spawn_blocking(move || disk::usage(&path)).await.unwrap_or_default();
    i64::try_from(used.bytes).unwrap_or(i64::MAX)
}

fn is_over(pod: &Pod) -> bool {
    let phase = pod.status.as_ref().and_then(|it| it.phase.as_deref());
    matches!(phase, Some("Succeeded" | "Failed"))
}

fn is_limited(pod: &Pod) -> bool {
    let has_volume = || PodExt::spec(pod).volumes.iter().flatten().any(|it| limit(it).is_some());
    let has_container = || {
        let containers = pod.all_containers();
        containers.iter().any(|(_, it)| storage_limit(it).is_some())
    };
    // Upstream does not evict critical pods.
    !pod.is_critical() && (has_volume() || has_container())
}

fn limit(volume: &Volume) -> Option<&Quantity> {
    let limit = volume.empty_dir.as_ref()?.size_limit.as_ref()?;
    quantity::value(limit).filter(|it| *it > 0).map(|_| limit)
}

fn storage_limit(container: &k8s_openapi::api::core::v1::Container) -> Option<&Quantity> {
    container.resources.as_ref()?.limits.as_ref()?.get(STORAGE)
}

/// Which limit a pod has exceeded, in upstream's words.
fn exceeded(pod: &Pod, usage: &Use, counts_layers: bool) -> Option<String> {
    volume_exceeded(pod, usage)
        .or_else(|| pod_exceeded(pod, usage, counts_layers))
        .or_else(|| container_exceeded(pod, usage, counts_layers))
}

fn volume_exceeded(pod: &Pod, usage: &Use) -> Option<String> {
    PodExt::spec(pod).volumes.iter().flatten().find_map(|volume| {
        let limit = limit(volume)?;
        let used = *usage.volumes.get(&volume.name)?;
        (used > quantity::value(limit)?).then(|| {
            let Quantity(limit) = limit;
            format!("Usage of EmptyDir volume {:?} exceeds the limit {limit:?}. ", volume.name)
        })
    })
}

fn pod_exceeded(pod: &Pod, usage: &Use, counts_layers: bool) -> Option<String> {
    let containers = &PodExt::spec(pod).containers;
    let limits: Vec<&Quantity> = containers.iter().filter_map(storage_limit).collect();
    if limits.is_empty() {
        return None;
    }
    let sum = quantity::sum(limits.iter().filter_map(|it| quantity::value(it)));
    let init = PodExt::spec(pod).init_containers.iter().flatten();
    let init = init.filter_map(storage_limit).filter_map(quantity::value).max().unwrap_or(0);
    let limit = sum.max(init);
    let on_disk = |name: &str| {
        let mut volumes = PodExt::spec(pod).volumes.iter().flatten();
        volumes.find(|it| it.name == name).is_some_and(|it| {
            let medium = it.empty_dir.as_ref().map(|it| it.medium.as_deref().unwrap_or_default());
            it.config_map.is_some() || medium == Some("")
        })
    };
    let volumes: i64 =
        usage.volumes.iter().filter(|(name, _)| on_disk(name)).map(|(_, used)| used).sum();
    let of_container = |(logs, layer): &(i64, i64)| logs + if counts_layers { *layer } else { 0 };
    let containers: i64 = usage.containers.values().map(of_container).sum();
    let used = volumes + containers + usage.hosts_file;
    let text = match limits.as_slice() {
        [one] if sum >= init => one.0.clone(),
        _ => quantity::binary(limit),
    };
    (used > limit).then(|| {
        format!("Pod ephemeral local storage usage exceeds the total limit of containers {text}. ")
    })
}

fn container_exceeded(pod: &Pod, usage: &Use, counts_layers: bool) -> Option<String> {
    PodExt::spec(pod).containers.iter().find_map(|it| {
        let limit = storage_limit(it)?;
        let (logs, layer) = *usage.containers.get(&it.name)?;
        let used = logs + if counts_layers { layer } else { 0 };
        let value = quantity::value(limit).filter(|it| *it > 0)?;
        (used > value).then(|| {
            let (name, Quantity(limit)) = (&it.name, limit);
            format!("Container {name} exceeded its local ephemeral storage limit {limit:?}. ")
        })
    })
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn pod(volumes: Value, limit: Option<&str>) -> Pod {
        let limits = limit.map(|it| json!({ STORAGE: it })).unwrap_or(json!({}));
        let container = json!({ "name": "c", "resources": { "limits": limits } });
        let spec = json!({ "containers": [container], "volumes": volumes });
        serde_json::from_value(json!({ "metadata": { "name": "p" }, "spec": spec })).unwrap()
    }

    fn usage(volume: i64, logs: i64, layer: i64) -> Use {
        Use {
            volumes: [("v".to_owned(), volume)].into(),
            containers: [("c".to_owned(), (logs, layer))].into(),
            hosts_file: 0,
        }
    }

    const MIB: i64 = 1 << 20;

    #[test]
    fn an_empty_dir_beyond_its_limit_is_told_by_name() {
        let it = pod(json!([{ "name": "v", "emptyDir": { "sizeLimit": "1Mi" } }]), None);
        assert!(is_limited(&it));
        assert_eq!(exceeded(&it, &usage(MIB, 0, 0), true), None);
        assert_eq!(
            exceeded(&it, &usage(MIB + 1, 0, 0), true).unwrap(),
            "Usage of EmptyDir volume \"v\" exceeds the limit \"1Mi\". "
        );
        let free = pod(json!([{ "name": "v", "emptyDir": {} }]), None);
        assert!(!is_limited(&free));
    }

    #[test]
    fn volumes_logs_and_layers_count_together_and_a_disk_of_images_does_not() {
        let it = pod(json!([{ "name": "v", "emptyDir": {} }]), Some("2Mi"));
        assert_eq!(exceeded(&it, &usage(MIB, MIB, 0), true), None);
        assert_eq!(
            exceeded(&it, &usage(MIB, MIB, 1), true).unwrap(),
            "Pod ephemeral local storage usage exceeds the total limit of containers 2Mi. "
        );
        assert_eq!(exceeded(&it, &usage(MIB, MIB, 1), false), None);
        let memory = pod(json!([{ "name": "v", "emptyDir": { "medium": "Memory" } }]), Some("2Mi"));
        assert_eq!(exceeded(&memory, &usage(9 * MIB, MIB, 0), true), None);
        let text = container_exceeded(&it, &usage(0, MIB, 2 * MIB), true).unwrap();
        assert_eq!(text, "Container c exceeded its local ephemeral storage limit \"2Mi\". ");
    }

    #[test]
    fn a_critical_pod_is_left_alone() {
        let mut it = pod(json!([{ "name": "v", "emptyDir": { "sizeLimit": "1Mi" } }]), None);
        it.spec.as_mut().unwrap().priority = Some(2_000_000_000);
        assert!(!is_limited(&it));
    }
}
