//! Up, again, beside another, and down without a trace.

use std::{collections::BTreeSet, fs, path::Path, process::Command};

use anyhow::{Context, ensure};

use crate::{
    Test,
    region::{Region, SHARED, eventually, nodestead, outcome, run, seconds},
};

pub(crate) const TESTS: &[Test] = &[
    ("a_second_up_changes_nothing", a_second_up_changes_nothing),
    ("a_port_in_use_is_refused_with_a_way_out", a_port_in_use_is_refused),
    ("the_demo_can_be_run_twice", the_demo_can_be_run_twice),
    ("logs_of_the_daemon_and_of_an_instance_are_shown", logs_are_shown),
    ("completion_is_printed_for_a_shell", completion_is_printed),
    ("two_regions_run_side_by_side_and_one_goes_without_a_trace", two_regions_side_by_side),
];

const WORKLOAD: &str = "
apiVersion: v1
kind: Pod
metadata: {name: left}
spec:
  containers:
  - name: sleep
    image: busybox:1.35
    command: [sleep, \"1000000\"]
    volumeMounts: [{name: memory, mountPath: /memory}]
  volumes: [{name: memory, emptyDir: {medium: Memory}}]
";

fn a_second_up_changes_nothing(region: &Region) -> anyhow::Result<()> {
    let before = region.status()?;
    run(&mut nodestead(&region.data_dir, &["up"]))?;
    let after = region.status()?;
    ensure!(before["instances"] == after["instances"], "{before}\n{after}");
    ensure!(before["pid"] == after["pid"], "the daemon was restarted");
    Ok(())
}

fn a_port_in_use_is_refused(region: &Region) -> anyhow::Result<()> {
    let port = region.export("AWS_ENDPOINT_URL").rsplit(':').next().unwrap_or_default().to_owned();
    let folder = tempfile::tempdir()?;
    let mut up = nodestead(folder.path(), &["up", "--aws-port", &port]);
    let (succeeded, said) = outcome(&mut up)?;
    ensure!(!succeeded && said.contains("in use") && said.contains("next:"), "{said}");
    let left: Vec<_> = fs::read_dir(folder.path())?.flatten().map(|it| it.path()).collect();
    ensure!(left.is_empty(), "left behind: {left:?}");
    Ok(())
}

fn the_demo_can_be_run_twice(region: &Region) -> anyhow::Result<()> {
    let images = crate::region::images().display().to_string();
    for _ in 0..2 {
        let said = run(&mut nodestead(&region.data_dir, &["demo", "--images", &images]))?;
        ensure!(said.contains("The guestbook says: "), "{said}");
    }
    Ok(())
}

fn logs_are_shown(region: &Region) -> anyhow::Result<()> {
    let id = region.running_instances()?.pop().context("an instance")?;
    let kubelet = format!("{id}/kubelet");
    for (of, part) in
        [("daemon", "the region is up"), (&kubelet, "the pods of this node are known")]
    {
        let said = run(&mut nodestead(&region.data_dir, &["logs", of]))?;
        ensure!(said.contains(part), "{of}: {said}");
    }
    let (succeeded, said) = outcome(&mut nodestead(&region.data_dir, &["logs", "i-nowhere"]))?;
    ensure!(!succeeded && said.contains("i-nowhere"), "{said}");
    Ok(())
}

fn completion_is_printed(region: &Region) -> anyhow::Result<()> {
    let said = run(&mut nodestead(&region.data_dir, &["completion", "bash"]))?;
    ensure!(said.contains("complete -F _nodestead_names"), "{said}");
    Ok(())
}

/// What is on the machine before the shared region is brought up.
pub(crate) fn before_the_region() -> anyhow::Result<Traces> {
    // What an aborted run has left is not this one's.
    run(&mut nodestead(Path::new(SHARED), &["down", "--purge"]))?;
    traces(None)
}

/// After all tests: guestbook, volumes, killed daemons and kubelets.
pub(crate) fn down_leaves_nothing(region: Region, before: &Traces) -> anyhow::Result<()> {
    region.down()?;
    ensure!(!Path::new(SHARED).exists(), "{SHARED} is still there");
    eventually("nothing is left of the region", seconds(10), || {
        let left = traces(Some(before))?.beyond(before);
        ensure!(left.is_empty(), "left behind: {left:#?}");
        Ok(Some(()))
    })
}

/// What a region could leave behind, of all regions.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Traces {
    namespaces: BTreeSet<String>,
    links: BTreeSet<String>,
    mounts: BTreeSet<String>,
    cgroups: BTreeSet<String>,
    tables: String,
    routes: String,
    rules: String,
    processes: BTreeSet<String>,
}

impl Traces {
    /// What was not there before. What has gone meanwhile was the other region's.
    fn beyond(&self, before: &Self) -> Vec<String> {
        let sets = [
            (&self.namespaces, &before.namespaces),
            (&self.links, &before.links),
            (&self.mounts, &before.mounts),
            (&self.cgroups, &before.cgroups),
            (&self.processes, &before.processes),
        ];
        let mut left: Vec<String> =
            sets.iter().flat_map(|(now, then)| now.difference(then).cloned()).collect();
        for (now, then) in [
            (&self.tables, &before.tables),
            (&self.routes, &before.routes),
            (&self.rules, &before.rules),
        ] {
            left.extend((now != then).then(|| now.clone()));
        }
        left
    }
}

/// What is there now. Processes in instances that were there `before` are another region's business:
/// their probes come and go.
fn traces(before: Option<&Traces>) -> anyhow::Result<Traces> {
    let lines = |text: String| text.lines().map(str::to_owned).collect::<BTreeSet<_>>();
    let mounts = fs::read_to_string("/proc/self/mounts")?;
    let cgroups = cgroups(Path::new("/sys/fs/cgroup"));
    let of_others = before.map_or(&cgroups, |it| &it.cgroups).clone();
    Ok(Traces {
        namespaces: lines(run(Command::new("ip").args(["netns", "list"]))?),
        links: lines(run(Command::new("ip").args(["-br", "link"]))?),
        // All of them: a region's data directory may have any name.
        mounts: lines(mounts),
        cgroups,
        tables: run(Command::new("nft").args(["list", "tables"]))?,
        routes: run(Command::new("ip").args(["route", "show", "table", "all"]))?,
        rules: run(Command::new("ip").args(["rule", "show"]))?,
        processes: processes(&of_others),
    })
}

/// Our processes outside of the instances of these cgroups.
fn processes(of_others: &BTreeSet<String>) -> BTreeSet<String> {
    let mut found = BTreeSet::new();
    for entry in fs::read_dir("/proc").into_iter().flatten().flatten() {
        let read = |file: &str| fs::read_to_string(entry.path().join(file)).unwrap_or_default();
        let name = read("comm");
        let cgroup = read("cgroup");
        let path = cgroup.lines().find_map(|it| it.split_once("/nodestead/")).map(|it| it.1);
        let id = path.and_then(|it| it.split('/').next()).map(|id| format!("/nodestead/{id}"));
        // What has ended, reaped or not, has no command line, and is in nobody's group.
        let has_ended = read("cmdline").is_empty();
        let is_others = id.is_some_and(|id| of_others.iter().any(|it| it.ends_with(&id)));
        let is_ours = ["nodestead", "containerd", "redis", "nginx", "pause"]
            .iter()
            .any(|program| name.starts_with(program));
        if is_ours && !is_others && !has_ended {
            found.insert(format!("{} {}", entry.file_name().display(), name.trim()));
        }
    }
    found
}

fn cgroups(folder: &Path) -> BTreeSet<String> {
    let mut found = BTreeSet::new();
    for entry in fs::read_dir(folder).into_iter().flatten().flatten() {
        let path = entry.path();
        if path.is_dir() {
            if path.display().to_string().contains("nodestead") {
                found.insert(path.display().to_string());
            }
            found.extend(cgroups(&path));
        }
    }
    found
}

/// What runs on without its daemon is told, with what to do: by its own region and by another one.
fn a_killed_daemon_leaves_word(region: &Region, other: &Region) -> anyhow::Result<()> {
    let pid = other.status()?["pid"].as_i64().context("the daemon has a pid")?;
    run(Command::new("kill").args(["-9", &pid.to_string()]))?;
    let said = eventually("its status tells what is left", seconds(10), || {
        let (succeeded, said) = outcome(&mut nodestead(&other.data_dir, &["status"]))?;
        Ok((!succeeded && said.contains("there is left")).then_some(said))
    })?;
    let folder = other.data_dir.display().to_string();
    for part in ["cgroup with", "namespaces", &format!("nodestead down --data-dir {folder}")] {
        ensure!(said.contains(part), "{part}: {said}");
    }
    let told = region.status()?;
    let left = told["leftovers"].as_array().context("a list")?;
    let its = left.iter().find(|it| it["dataDir"] == folder.as_str());
    ensure!(its.is_some_and(|it| it["processes"].as_u64() > Some(0)), "{told}");
    Ok(())
}

fn two_regions_side_by_side(region: &Region) -> anyhow::Result<()> {
    let before = traces(None)?;
    let folder = tempfile::tempdir()?;
    {
        let other = Region::up_with(folder.path(), &["--nodes", "1", "--name", "other"])?;
        let nodes = other.kubectl(&["get", "nodes", "--no-headers"])?;
        ensure!(nodes.lines().count() == 1 && nodes.contains(" Ready "), "{nodes}");
        let own = region.kubectl(&["get", "nodes", "--no-headers"])?;
        ensure!(own.lines().count() == 3, "{own}");
        // A pod with a volume in memory, so that there is something to leave behind.
        other.load_images()?;
        other.apply(WORKLOAD)?;
        other.kubectl(&["wait", "--for=condition=Ready", "pod/left", "--timeout=60s"])?;
        a_killed_daemon_leaves_word(region, &other)?;
        // `other` is taken down here.
    }
    // A process of the other region's that is just being started belongs to no group yet.
    eventually("nothing is left of it", seconds(10), || {
        let left = traces(Some(&before))?.beyond(&before);
        ensure!(left.is_empty(), "left behind: {left:#?}");
        Ok(Some(()))
    })
}
