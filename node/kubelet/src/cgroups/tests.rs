//! Tests of the tree of groups, in folders that look like cgroupfs.

use std::{fs, path::Path};

use serde_json::json;

use super::*;

fn tree(folder: &Path, config: &KubeletConfiguration) -> Cgroups {
    let hierarchy = Hierarchy::V2 { root: folder.to_owned() };
    let machine = Machine { swap: 512 << 20, ..Machine::of(1, 1 << 30) };
    Cgroups::new(hierarchy, "/", 100).configured(config, &machine)
}

fn complete(cgroups: &Cgroups, pod: &Pod, resources: &mut v1::LinuxContainerResources) {
    cgroups.complete(pod, &PodExt::spec(pod).containers[0], resources);
}

fn pod(uid: &str, cpu: &str) -> Pod {
    let resources = json!({ "requests": { "cpu": cpu }, "limits": { "cpu": cpu } });
    serde_json::from_value(json!({
        "metadata": { "name": "p", "uid": uid },
        "spec": { "containers": [{ "name": "c", "resources": resources }] },
    }))
    .unwrap()
}

fn read(folder: &Path, path: &str) -> String {
    fs::read_to_string(folder.join(path)).unwrap_or_default()
}

#[tokio::test]
async fn pods_have_their_limits_and_their_class_the_weight_of_all() {
    let folder = tempfile::tempdir().unwrap();
    let cgroups = tree(folder.path(), &KubeletConfiguration::default());
    cgroups.prepare(Limits { memory: Some(1 << 30), ..Limits::default() }).await.unwrap();
    assert_eq!(read(folder.path(), "kubepods/memory.max"), "1073741824");
    let pods = [Arc::new(pod("a", "500m")), Arc::new(pod("b", "500m"))];
    cgroups.ensure_pod(&pods[0], false).await.unwrap();
    cgroups.update_qos(&pods);
    assert_eq!(read(folder.path(), "kubepods/burstable/poda/cpu.max"), "50000 100000");
    assert_eq!(read(folder.path(), "kubepods/burstable/poda/pids.max"), "100");
    assert_eq!(read(folder.path(), "kubepods/burstable/cpu.weight"), "100");
    assert_eq!(read(folder.path(), "kubepods/besteffort/cpu.weight"), "1");
    cgroups.update_qos(&[]);
    assert_eq!(read(folder.path(), "kubepods/burstable/cpu.weight"), "1");
}

#[tokio::test]
async fn quotas_are_off_for_exclusive_cpus_and_where_the_node_says_so() {
    let folder = tempfile::tempdir().unwrap();
    let config = KubeletConfiguration::default();
    tree(folder.path(), &config).ensure_pod(&pod("a", "1"), true).await.unwrap();
    assert_eq!(read(folder.path(), "kubepods/burstable/poda/cpu.max"), "");
    let off = KubeletConfiguration { cpu_cfs_quota: false, ..config };
    let cgroups = tree(folder.path(), &off);
    cgroups.ensure_pod(&pod("b", "1"), false).await.unwrap();
    assert_eq!(read(folder.path(), "kubepods/burstable/podb/cpu.max"), "");
    let mut resources = v1::LinuxContainerResources { cpu_quota: 100_000, ..Default::default() };
    complete(&cgroups, &pod("b", "1"), &mut resources);
    assert_eq!((resources.cpu_quota, resources.cpu_period), (0, 0));
}

#[test]
fn containers_are_killed_as_a_whole_and_never_swapped_unless_the_node_says_otherwise() {
    let folder = tempfile::tempdir().unwrap();
    let mut config = KubeletConfiguration::default();
    let unified = |config: &KubeletConfiguration| {
        let mut resources = v1::LinuxContainerResources::default();
        let memory = json!({ "requests": { "memory": "256Mi" }, "limits": { "memory": "512Mi" } });
        let pod = serde_json::from_value(json!({
            "spec": { "containers": [{ "name": "c", "resources": memory }] },
        }));
        complete(&tree(folder.path(), config), &pod.unwrap(), &mut resources);
        resources.unified
    };
    assert_eq!(unified(&config)["memory.oom.group"], "1");
    config.single_process_oom_kill = Some(true);
    assert!(unified(&config).is_empty());
    fs::create_dir_all(folder.path().join("kubepods")).unwrap();
    fs::write(folder.path().join("kubepods/memory.swap.max"), "max").unwrap();
    assert_eq!(unified(&config)["memory.swap.max"], "0");
    config.memory_swap.swap_behavior = "LimitedSwap".to_owned();
    assert_eq!(unified(&config)["memory.swap.max"], (128_u64 << 20).to_string());
}

#[test]
fn what_is_reserved_is_enforced_on_groups_that_exist() {
    let folder = tempfile::tempdir().unwrap();
    let config = KubeletConfiguration {
        system_reserved: [("cpu", "1"), ("memory", "64Mi")]
            .map(|(k, v)| (k.into(), v.into()))
            .into(),
        system_reserved_cgroup: "/system.slice".to_owned(),
        enforce_node_allocatable: vec!["pods".to_owned(), "system-reserved".to_owned()],
        ..Default::default()
    };
    let cgroups = tree(folder.path(), &config);
    assert_eq!(
        cgroups.enforce_reserved(&config).unwrap_err().to_string(),
        "failed to enforce System Reserved Cgroup Limits on \"/system.slice\": \"/system.slice\" cgroup does not exist"
    );
    fs::create_dir(folder.path().join("system.slice")).unwrap();
    cgroups.enforce_reserved(&config).unwrap();
    assert_eq!(read(folder.path(), "system.slice/memory.max"), "67108864");
    assert_eq!(read(folder.path(), "system.slice/cpu.weight"), "100");
}

#[tokio::test]
async fn slices_of_pods_are_made_told_to_the_runtime_found_again_and_stopped() {
    use crate::dbus::fake::{self, Peer};
    let folder = tempfile::tempdir().unwrap();
    let listener = fake::listen(&folder.path().join("bus"));
    let (slices, work) = Slices::new(folder.path().join("bus"), true);
    let cgroups = tree(folder.path(), &KubeletConfiguration::default()).with_slices(slices, "/");
    let pod = pod("a-1", "500m");
    let path = "/kubepods.slice/kubepods-burstable.slice/kubepods-burstable-poda_1.slice";
    assert_eq!(cgroups.parent(&pod), path);
    let bus = async {
        let mut peer = Peer::accept(&listener).await;
        for member in ["Hello", "Subscribe", "AddMatch", "StartTransientUnit", "SetUnitProperties"]
        {
            let call = peer.call().await;
            assert_eq!(call.member, member);
            match member {
                "StartTransientUnit" => {
                    let error = "org.freedesktop.systemd1.UnitExists";
                    peer.refuse(call.serial, error, "it is there").await;
                }
                _ => peer.agree(call.serial, &[]).await,
            }
        }
        let mut stopped = Vec::new();
        let mut peer = Peer::accept(&listener).await;
        for _ in ["Hello", "StopUnit", "ResetFailedUnit"] {
            let call = peer.call().await;
            stopped.push((call.member, call.body));
            peer.agree(call.serial, &[]).await;
        }
        assert_eq!(stopped[1].0, "StopUnit");
        stopped.swap_remove(1).1.swap_remove(0)
    };
    let using = async {
        cgroups.ensure_pod(&pod, false).await.unwrap();
        assert_eq!(read(folder.path(), &format!("{path}/pids.max")[1..]), "100");
        assert_eq!(cgroups.pods(), [PodUid("a-1".to_owned())]);
        // The folders of a test hold files, which those of a cgroup tree do not.
        fs::remove_dir_all(folder.path().join(&path[1..])).unwrap();
        fs::create_dir(folder.path().join(&path[1..])).unwrap();
        assert!(cgroups.remove_pod(&pod.uid()));
        assert!(cgroups.remove_pod(&pod.uid()), "nothing is stopped twice");
        assert!(cgroups.pods().is_empty());
        drop(cgroups);
    };
    let (stopped, (), ()) = tokio::join!(bus, using, work);
    let wanted = "kubepods-burstable-poda_1.slice".to_owned();
    assert_eq!(stopped, crate::dbus::wire::Value::Text(wanted));
}
