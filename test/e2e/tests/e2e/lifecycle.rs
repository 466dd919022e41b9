//! Up, again, beside another, and down without a trace.

use std::{fs, path::Path, process::Command};

use anyhow::{Context, ensure};

use crate::{
    Test,
    guestbook::MESSAGES,
    region::{Region, SHARED, eventually, nodestead, outcome, run, seconds, strings},
    traces::{Traces, traces},
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
    let mut messages = Vec::new();
    let mut told = Vec::new();
    for _ in 0..2 {
        let output = nodestead(&region.data_dir, &["demo", "--images", &images]).output()?;
        let (said, steps) = (text(&output.stdout), text(&output.stderr));
        ensure!(output.status.success(), "{said}{steps}");
        for step in [
            "loading images into the region's registry",
            "applying examples/guestbook/",
            "deployment/guestbook becomes available",
            "signing the guestbook",
            "reading it back from a follower",
        ] {
            let is_it = |it: &str| it.starts_with(&format!("✓ {step}")) && it.ends_with(" s)");
            ensure!(steps.lines().any(is_it), "{step}: {steps}");
        }
        let message = said.lines().find_map(|it| it.strip_prefix("The guestbook says: "));
        messages.push(message.context("no message")?.to_owned());
        told.push(ensure_pods_are_told(region, &said)?);
        ensure_commands_work(region, &said)?;
    }
    ensure!(messages[0] != messages[1] && told[0] == told[1], "{messages:?} {told:?}");
    // What it said that the page says, the page says.
    let page = region.kubectl(&["get", "--raw", MESSAGES])?;
    ensure!(messages.iter().all(|it| page.lines().any(|line| line == it)), "{messages:?}: {page}");
    Ok(())
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

/// Each pod with its node and its address, as the API server has them.
fn ensure_pods_are_told(region: &Region, said: &str) -> anyhow::Result<Vec<String>> {
    let pods = region.kubectl_json(&["get", "pods", "-l", "app in (redis, guestbook)"])?;
    let mut names = strings(&pods, "/metadata/name");
    ensure!(names.len() >= 6, "{names:?}");
    for pod in pods["items"].as_array().into_iter().flatten() {
        let fields = ["/metadata/name", "/spec/nodeName", "/status/podIP"];
        let fields = fields.map(|it| pod.pointer(it).and_then(|it| it.as_str()).unwrap_or("?"));
        let is_row = |line: &str| line.split_whitespace().take(3).eq(fields);
        ensure!(said.lines().any(is_row), "{fields:?}: {said}");
    }
    names.sort();
    Ok(names)
}

/// What it says to go on with, as it is printed.
fn ensure_commands_work(region: &Region, said: &str) -> anyhow::Result<()> {
    let (_, commands) = said.split_once("Go on with:").context("nothing to go on with")?;
    let commands: Vec<_> = commands.lines().map(str::trim).filter(|it| !it.is_empty()).collect();
    ensure!(commands.len() >= 4 && commands[0].starts_with("eval"), "{commands:?}");
    for command in &commands[1..] {
        let (succeeded, said) = outcome(&mut region.client("sh", &["-c", command]))?;
        ensure!(succeeded, "{command}: {said}");
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
    traces(None, Path::new(SHARED))
}

/// After all tests: guestbook, volumes, killed daemons and kubelets.
pub(crate) fn down_leaves_nothing(region: Region, before: &Traces) -> anyhow::Result<()> {
    region.down()?;
    ensure!(!Path::new(SHARED).exists(), "{SHARED} is still there");
    eventually("nothing is left of the region", seconds(10), || {
        let left = traces(Some(before), Path::new(SHARED))?.beyond(before);
        ensure!(left.is_empty(), "left behind: {left:#?}");
        Ok(Some(()))
    })
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
    let folder = tempfile::tempdir()?;
    let before = traces(None, folder.path())?;
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
        // What would be left is seen, whatever its name.
        let there = traces(Some(&before), folder.path())?.beyond(&before);
        for program in ["nodestead", "containerd", "sleep"] {
            let is_it =
                |it: &String| it.split(' ').nth(1).is_some_and(|it| it.starts_with(program));
            ensure!(there.iter().any(is_it), "{program} is not seen: {there:#?}");
        }
        a_killed_daemon_leaves_word(region, &other)?;
        // `other` is taken down here.
    }
    // A process of the other region's that is just being started belongs to no group yet.
    eventually("nothing is left of it", seconds(10), || {
        let left = traces(Some(&before), folder.path())?.beyond(&before);
        ensure!(left.is_empty(), "left behind: {left:#?}");
        Ok(Some(()))
    })
}
