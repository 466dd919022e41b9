//! Tests of the tree of groups, in folders that look like cgroupfs.

use std::{fs, path::Path};

use serde_json::json;

use super::*;

fn tree(folder: &Path, config: &KubeletConfiguration) -> Cgroups {
    let hierarchy = Hierarchy::V2 { root: folder.to_owned() };
    Cgroups::new(hierarchy, "/", 100).configured(config)
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

#[test]
fn pods_have_their_limits_and_their_class_the_weight_of_all() {
    let folder = tempfile::tempdir().unwrap();
    let cgroups = tree(folder.path(), &KubeletConfiguration::default());
    cgroups.prepare(Limits { memory: Some(1 << 30), ..Limits::default() }).unwrap();
    assert_eq!(read(folder.path(), "kubepods/memory.max"), "1073741824");
    let pods = [Arc::new(pod("a", "500m")), Arc::new(pod("b", "500m"))];
    cgroups.ensure_pod(&pods[0], false).unwrap();
    cgroups.update_qos(&pods);
    assert_eq!(read(folder.path(), "kubepods/burstable/poda/cpu.max"), "50000 100000");
    assert_eq!(read(folder.path(), "kubepods/burstable/poda/pids.max"), "100");
    assert_eq!(read(folder.path(), "kubepods/burstable/cpu.weight"), "39");
    assert_eq!(read(folder.path(), "kubepods/besteffort/cpu.weight"), "1");
    cgroups.update_qos(&[]);
    assert_eq!(read(folder.path(), "kubepods/burstable/cpu.weight"), "1");
}

#[test]
fn quotas_are_off_for_exclusive_cpus_and_where_the_node_says_so() {
    let folder = tempfile::tempdir().unwrap();
    let config = KubeletConfiguration::default();
    tree(folder.path(), &config).ensure_pod(&pod("a", "1"), true).unwrap();
    assert_eq!(read(folder.path(), "kubepods/burstable/poda/cpu.max"), "");
    let off = KubeletConfiguration { cpu_cfs_quota: false, ..config };
    let cgroups = tree(folder.path(), &off);
    cgroups.ensure_pod(&pod("b", "1"), false).unwrap();
    assert_eq!(read(folder.path(), "kubepods/burstable/podb/cpu.max"), "");
    let mut resources = v1::LinuxContainerResources { cpu_quota: 100_000, ..Default::default() };
    cgroups.complete(&mut resources);
    assert_eq!((resources.cpu_quota, resources.cpu_period), (0, 0));
}

#[test]
fn containers_are_killed_as_a_whole_unless_the_node_says_otherwise() {
    let folder = tempfile::tempdir().unwrap();
    let mut config = KubeletConfiguration::default();
    let unified = |config: &KubeletConfiguration| {
        let mut resources = v1::LinuxContainerResources::default();
        tree(folder.path(), config).complete(&mut resources);
        resources.unified
    };
    assert_eq!(unified(&config)["memory.oom.group"], "1");
    config.single_process_oom_kill = Some(true);
    assert!(unified(&config).is_empty());
    fs::create_dir_all(folder.path().join("kubepods")).unwrap();
    fs::write(folder.path().join("kubepods/memory.swap.max"), "max").unwrap();
    assert_eq!(unified(&config)["memory.swap.max"], "0");
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
    assert_eq!(read(folder.path(), "system.slice/cpu.weight"), "39");
}
