//! `emptyDir`: a folder on the disk, in memory, or in huge pages.
//!
//! Upstream: `pkg/volume/emptydir`.
//!
//! Deviation: no disk quotas.

use std::{
    collections::BTreeSet,
    fs,
    path::{Path, PathBuf},
    sync::atomic::AtomicU64,
};

use k8s_openapi::{
    api::core::v1::{EmptyDirVolumeSource, Pod},
    apimachinery::pkg::api::resource::Quantity,
};

use super::{MountVolumeError, create_dir, io_error, mounts, ownership};
use crate::{downward::Facts, pod::PodExt, qos, quantity};

/// `ready` is a file that says that the volume at `path` is as it should be. Afterwards its containers
/// may change it, and a kubelet that was killed before finishes what it had begun.
pub(super) fn make(
    pod: &Pod,
    source: &EmptyDirVolumeSource,
    (path, ready): (PathBuf, &Path),
    facts: &Facts,
) -> Result<PathBuf, MountVolumeError> {
    let medium = source.medium.as_deref().unwrap_or_default();
    let is_disk = medium.is_empty();
    let is_there = path.is_dir() && (is_disk || mounts::has_own_device(&path));
    if is_there && ready.exists() {
        return Ok(path);
    }
    create_dir(&path)?;
    if !is_there && !is_disk {
        mount(pod, source, medium, &path, facts)?;
    }
    let group = ownership::Group::of(pod);
    // Huge pages are root's, but for what the pod's group may.
    let opened = match medium {
        "" => ownership::open_to_all(&path, false),
        "Memory" => ownership::open_to_all(&path, true),
        _ => Ok(()),
    };
    let opened =
        opened.and_then(|()| group.map_or(Ok(()), |it| it.apply(&path, &AtomicU64::default())));
    opened.map_err(io_error("set the mode of", &path))?;
    if let Some(folder) = ready.parent() {
        create_dir(folder)?;
    }
    fs::write(ready, []).map_err(io_error("write", ready))?;
    Ok(path)
}

fn mount(
    pod: &Pod,
    source: &EmptyDirVolumeSource,
    medium: &str,
    path: &Path,
    facts: &Facts,
) -> Result<(), MountVolumeError> {
    if medium == "Memory" {
        let size = memory_size(pod, source.size_limit.as_ref(), facts.allocatable_memory);
        return mounts::mount_tmpfs(path, Some(size)).map_err(io_error("mount a tmpfs on", path));
    }
    if !medium.starts_with("HugePages") {
        return Err(MountVolumeError::Text(format!("unknown storage medium \"{medium}\"")));
    }
    let size = page_size(pod, medium).map_err(|it| MountVolumeError::Text(it.to_owned()))?;
    mounts::mount_huge_pages(path, size).map_err(io_error("mount huge pages on", path))
}

/// The least of what the node has, what the pod may use and what the volume is given.
pub(super) fn memory_size(pod: &Pod, own: Option<&Quantity>, allocatable: i64) -> i64 {
    // The pod has a limit if each of its containers has one, or itself.
    let (limits, _, is_limited) = qos::pod_limits(pod);
    let of_pod = if is_limited { limits.memory } else { 0 };
    let own = own.and_then(quantity::value).unwrap_or(0);
    [of_pod, own].into_iter().filter(|it| *it > 0).fold(allocatable, i64::min)
}

/// The size of the pages: the medium's own, or the only one that the pod and its containers ask for.
fn page_size(pod: &Pod, medium: &str) -> Result<i64, &'static str> {
    let spec = PodExt::spec(pod);
    let containers = spec.init_containers.iter().flatten().chain(&spec.containers);
    let asked: BTreeSet<&str> = containers
        .map(|it| it.resources.as_ref())
        .chain([spec.resources.as_ref()])
        .filter_map(|it| it?.requests.as_ref())
        .flat_map(|it| it.keys())
        .filter_map(|it| it.strip_prefix("hugepages-"))
        .collect();
    let size = match medium.strip_prefix("HugePages-") {
        Some(own) => asked.contains(own).then_some(own),
        None if asked.len() > 1 => {
            return Err(
                "medium: HugePages can't be used if container requests multiple huge page sizes",
            );
        }
        None => asked.first().copied(),
    };
    size.and_then(quantity::parse)
        .ok_or("hugePages storage requested, but there is no resource request for huge pages.")
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use serde_json::{Value, json};

    use super::*;

    fn pod(resources: Value) -> Pod {
        let spec = json!({ "containers": [{ "name": "c", "resources": resources }] });
        serde_json::from_value(json!({ "spec": spec })).unwrap()
    }

    fn size(pod: &Pod, own: Option<&str>) -> i64 {
        memory_size(pod, own.map(|it| Quantity(it.to_owned())).as_ref(), 1 << 30)
    }

    #[test]
    fn a_folder_that_a_killed_kubelet_left_half_made_is_opened_to_all_and_then_its_pods() {
        let folder = tempfile::tempdir().unwrap();
        let (path, ready) = (folder.path().join("v"), folder.path().join("plugins/v/ready"));
        let (source, facts) = (EmptyDirVolumeSource::default(), Facts::default());
        let make = || make(&pod(json!({})), &source, (path.clone(), &ready), &facts).unwrap();
        let mode = || fs::metadata(&path).unwrap().permissions().mode() & 0o7777;
        fs::create_dir(&path).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
        make();
        assert_eq!(mode(), 0o777);
        fs::set_permissions(&path, fs::Permissions::from_mode(0o700)).unwrap();
        make();
        assert_eq!(mode(), 0o700, "a container has closed it");
    }

    #[test]
    fn memory_is_bounded_by_the_least_of_node_pod_and_volume() {
        let (free, bound) = (pod(json!({})), pod(json!({ "limits": { "memory": "64Mi" } })));
        assert_eq!(size(&free, None), 1 << 30);
        assert_eq!(size(&bound, None), 64 << 20);
        assert_eq!(size(&bound, Some("16Mi")), 16 << 20);
        assert_eq!(size(&bound, Some("1Gi")), 64 << 20);
        assert_eq!(size(&free, Some("0")), 1 << 30);
        let mut half = bound.clone();
        let unbound = free.spec.unwrap().containers.remove(0);
        half.spec.as_mut().unwrap().containers.push(unbound);
        assert_eq!(size(&half, None), 1 << 30);
        let mut with_init = bound.clone();
        let init = pod(json!({ "limits": { "memory": "128Mi" } })).spec.unwrap().containers;
        with_init.spec.as_mut().unwrap().init_containers = Some(init);
        assert_eq!(size(&with_init, None), 128 << 20);
    }

    #[test]
    fn huge_pages_have_to_be_asked_for_and_be_of_one_size() {
        let one = pod(json!({ "requests": { "hugepages-2Mi": "4Mi" } }));
        let two = pod(json!({ "requests": { "hugepages-2Mi": "4Mi", "hugepages-1Gi": "1Gi" } }));
        assert_eq!(page_size(&one, "HugePages"), Ok(2 << 20));
        assert_eq!(page_size(&two, "HugePages-1Gi"), Ok(1 << 30));
        assert!(page_size(&two, "HugePages").unwrap_err().contains("multiple"));
        assert!(page_size(&one, "HugePages-1Gi").unwrap_err().contains("no resource request"));
        assert!(page_size(&pod(json!({})), "HugePages").is_err());
        let mut of_pod = pod(json!({}));
        of_pod.spec.as_mut().unwrap().resources =
            serde_json::from_value(json!({ "requests": { "hugepages-2Mi": "4Mi" } })).unwrap();
        assert_eq!(page_size(&of_pod, "HugePages"), Ok(2 << 20), "asked for by the pod");
    }
}
