//! What must hold of `sweep`: what a killed daemon and its launchers leave, region by region.

use std::{
    fs,
    path::Path,
    process::{Child, Command, Stdio},
};

use super::*;

struct Killed(Child);

impl Drop for Killed {
    fn drop(&mut self) {
        self.0.kill().ok();
        self.0.wait().ok();
    }
}

impl Killed {
    fn has_ended(&mut self) -> bool {
        self.0.try_wait().unwrap().is_some()
    }
}

/// A program of the region: a shell in its place, whose script has the first argument's name.
fn program(layout: &Layout, args: &[&str]) -> Killed {
    let program = layout.binaries().join("nodestead");
    if !program.exists() {
        fs::create_dir_all(layout.binaries()).unwrap();
        fs::copy("/bin/sh", &program).unwrap();
    }
    fs::write(layout.root().join(args[0]), "read line").unwrap();
    let mut command = Command::new(&program);
    command.args(args).current_dir(layout.root()).stdin(Stdio::piped());
    Killed(command.spawn().unwrap())
}

#[test]
fn a_launcher_that_outlived_its_daemon_goes_and_starts_nothing_any_more() {
    if !nix::unistd::geteuid().is_root() {
        eprintln!("not run: it takes root");
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let other = tempfile::tempdir().unwrap();
    let layout = Layout::new(folder.path()).unwrap();
    let of_other = Layout::new(other.path()).unwrap();
    let spec = layout.instances().join("i-1/spec.json");
    let args = ["run", "host-launch", "--spec", spec.to_str().unwrap()];
    let mut launcher = program(&layout, &args);
    let mut daemon = program(&layout, &["daemon", "--data-dir", "x"]);
    let mut reader = program(&layout, &["logs", "daemon", "-f"]);
    let mut stranger = program(&of_other, &args);
    let netns = format!("{}i-1", netns_prefix(&layout.id()));
    linux_netns::create(&netns).unwrap();

    let report = everything(&layout);
    assert!(report.failures.is_empty(), "{:?}", report.failures);
    assert_eq!(report.removed.len(), 3, "{:?}", report.removed);
    assert!(launcher.has_ended() && daemon.has_ended() && !linux_netns::exists(&netns));
    assert!(!stranger.has_ended(), "it is another region's");
    assert!(!reader.has_ended(), "it starts nothing");
    assert!(everything(&layout).removed.is_empty());
}

#[test]
fn what_runs_in_a_namespace_of_the_region_goes_though_it_is_in_no_group() {
    if !nix::unistd::geteuid().is_root() {
        eprintln!("not run: it takes root");
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let layout = Layout::new(folder.path()).unwrap();
    let netns = format!("{}i-1", netns_prefix(&layout.id()));
    linux_netns::create(&netns).unwrap();
    let path = linux_netns::path(&netns);
    let net = format!("--net={}", path.display());
    let inside = Command::new("nsenter").args([&net, "sleep", "600"]).spawn();
    let mut inside = Killed(inside.unwrap());
    let inode = |path: &Path| std::os::unix::fs::MetadataExt::ino(&fs::metadata(path).unwrap());
    while inode(&linux_netns::of_pid(inside.0.id().cast_signed())) != inode(&path) {
        std::thread::yield_now();
    }
    // The data directory was removed by hand: the id is in its path.
    drop(folder);
    let report = everything(&layout);
    assert!(report.failures.is_empty(), "{:?}", report.failures);
    assert!(inside.has_ended() && !linux_netns::exists(&netns));
}

#[test]
fn a_disk_that_somebody_has_mounted_for_the_region_stays() {
    if !nix::unistd::geteuid().is_root() {
        eprintln!("not run: it takes root");
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let layout = Layout::new(folder.path()).unwrap();
    linux_mount::tmpfs(layout.root(), "size=1m").unwrap();
    let below = layout.root().join("instances");
    fs::create_dir(&below).unwrap();
    linux_mount::tmpfs(&below, "size=1m").unwrap();

    let report = everything(&layout);
    let mounts = linux_mount::mounts_under(layout.root()).unwrap();
    linux_mount::unmount_tree(layout.root()).unwrap();
    assert!(report.failures.is_empty(), "{:?}", report.failures);
    let targets: Vec<_> = mounts.iter().map(|it| it.target.as_path()).collect();
    assert_eq!(targets, [layout.root()]);
    assert!(report.removed.contains(&format!("mount {}", below.display())));
}
