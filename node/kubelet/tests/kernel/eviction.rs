//! A node short of disk: its own and the images' file system, bytes and inodes. The file systems are
//! small ones of the kernel, the runtime is one in memory.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
    time::Duration,
};

use k8s_openapi::api::core::v1::PodStatus;
use serde_json::{Value, json};

use crate::world::{World, condition, is_running};

const SECOND: Duration = Duration::from_secs(1);

/// A file system of its own below a folder of its own; gone when it is dropped.
struct Disk {
    folder: tempfile::TempDir,
}

impl Disk {
    fn new(options: &str) -> Option<Self> {
        if !nix::unistd::geteuid().is_root() {
            println!("not run: needs root");
            return None;
        }
        let folder = tempfile::tempdir().unwrap();
        let mount = ["-t", "tmpfs", "-o", options, "tmpfs"];
        assert!(Command::new("mount").args(mount).arg(folder.path()).status().unwrap().success());
        Some(Self { folder })
    }

    fn path(&self) -> PathBuf {
        self.folder.path().to_owned()
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        drop(Command::new("umount").arg("-l").arg(self.folder.path()).status());
    }
}

async fn world(nodefs: &Disk) -> World {
    let root = nodefs.path().display().to_string();
    World::configured(move |settings| settings.root_dir.clone_from(&root)).await
}

fn pod(name: &str) -> Value {
    json!({
        "metadata": { "name": name },
        "spec": {
            "containers": [{ "name": name, "image": "i:1" }],
            "volumes": [{ "name": "v", "emptyDir": {} }],
        },
    })
}

async fn runs(world: &World, name: &str) {
    world.create(pod(name)).await;
    world.until(name, is_running).await;
}

async fn volume(world: &World, disk: &Disk, name: &str) -> PathBuf {
    let pods = disk.path().join("pods");
    pods.join(world.uid(name).await).join("volumes/kubernetes.io~empty-dir/v")
}

fn is_evicted(status: &PodStatus) -> bool {
    status.reason.as_deref() == Some("Evicted") && status.phase.as_deref() == Some("Failed")
}

async fn is_pressed(world: &World) -> (String, String) {
    let (status, reason, _) = world.condition("DiskPressure").await;
    (status, reason)
}

fn fill(file: &Path, kib: usize) {
    fs::write(file, vec![1; kib << 10]).unwrap();
}

/// The pod that holds most goes, the other stays, and the node says so for its time.
async fn only_the_greedy_one_goes(world: &World, resource: &str) {
    world.until("greedy", is_evicted).await;
    let status = world.status("greedy").await;
    let message = status.message.clone().unwrap();
    let expected = format!("The node was low on resource: {resource}. Threshold quantity: ");
    assert!(message.starts_with(&expected), "{message}");
    assert_eq!(condition(&status, "DisruptionTarget").unwrap().1, "TerminationByKubelet");
    let reclaiming = format!("Attempting to reclaim {resource}");
    world.until_event("EvictionThresholdMet", &reclaiming).await;
    world.pass(11 * SECOND).await;
    let expected = ("True".to_owned(), "KubeletHasDiskPressure".to_owned());
    assert_eq!(is_pressed(world).await, expected);
    world.create(pod("late")).await;
    world.until("late", is_evicted).await;
    let message = world.status("late").await.message.unwrap();
    assert_eq!(message, "Pod was rejected: The node had condition: [DiskPressure]. ");
    world.pass(320 * SECOND).await;
    assert_eq!(is_pressed(world).await.0, "False");
    assert!(is_running(&world.status("modest").await), "one was enough");
}

#[tokio::test(start_paused = true)]
async fn a_node_whose_disk_is_full_evicts_who_fills_it() {
    let Some(disk) = Disk::new("size=8m") else { return };
    let world = world(&disk).await;
    runs(&world, "modest").await;
    runs(&world, "greedy").await;
    let folder = volume(&world, &disk, "greedy").await;
    fill(&folder.join("first"), 2 << 10);
    // What a volume holds is looked at once a minute.
    world.pass(90 * SECOND).await;
    assert_eq!(is_pressed(&world).await.0, "False");
    fill(&folder.join("second"), 5500);
    only_the_greedy_one_goes(&world, "ephemeral-storage").await;
    assert!(!folder.exists());
}

#[tokio::test(start_paused = true)]
async fn a_node_without_free_inodes_evicts_who_has_most_files() {
    let Some(disk) = Disk::new("size=32m,nr_inodes=1000") else { return };
    let world = world(&disk).await;
    runs(&world, "modest").await;
    runs(&world, "greedy").await;
    let folder = volume(&world, &disk, "greedy").await;
    let files = |range: std::ops::Range<u32>| {
        for at in range {
            fs::write(folder.join(at.to_string()), "").unwrap();
        }
    };
    files(0..300);
    world.pass(90 * SECOND).await;
    assert_eq!(is_pressed(&world).await.0, "False");
    let free = nix::sys::statvfs::statvfs(&disk.path()).unwrap().files_free();
    files(300..300 + u32::try_from(free).unwrap() - 40);
    only_the_greedy_one_goes(&world, "inodes").await;
}

#[tokio::test(start_paused = true)]
async fn images_that_nobody_uses_go_before_a_pod_does() {
    let (Some(disk), Some(images)) = (Disk::new("size=16m"), Disk::new("size=8m")) else { return };
    let world = world(&disk).await;
    world.runtime.set_image_fs(&images.path());
    let file = images.path().join("old");
    fs::write(&file, "").unwrap();
    world.runtime.add_image_with("old:1", &file);
    runs(&world, "modest").await;
    // Images that have just come stay, whatever happens.
    world.pass(180 * SECOND).await;
    fill(&file, 7200);
    world.until_event("EvictionThresholdMet", "Attempting to reclaim ephemeral-storage").await;
    world.pass(11 * SECOND).await;
    assert_eq!(world.runtime.count("RemoveImage", "sha256:old:1"), 1);
    assert!(!file.exists());
    assert_eq!(is_pressed(&world).await.0, "True");
    world.pass(320 * SECOND).await;
    assert_eq!(is_pressed(&world).await.0, "False");
    assert!(is_running(&world.status("modest").await), "that was enough");

    // What containers wrote is nobody's image: now a pod has to go.
    fill(&images.path().join("layer"), 7200);
    world.until("modest", is_evicted).await;
    let message = world.status("modest").await.message.unwrap();
    let expected = "The node was low on resource: ephemeral-storage. Threshold quantity: ";
    assert!(message.starts_with(expected), "{message}");
}
