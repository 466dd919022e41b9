//! `kill -9` of each part under a running workload: the page keeps answering, nothing acknowledged
//! is lost, nothing is started twice.

use std::process::Command;

use anyhow::{Context, ensure};
use serde_json::Value;

use crate::{
    Test,
    region::{Region, eventually, nodestead, run, seconds},
    traffic::Traffic,
};

pub(crate) const TESTS: &[Test] = &[
    ("killing_a_kubelet_restarts_no_pod", killing_a_kubelet_restarts_no_pod),
    ("killing_containerd_restarts_no_pod", killing_containerd_restarts_no_pod),
    ("killing_kube_proxy_keeps_services", killing_kube_proxy_keeps_services),
    ("killing_the_daemon_loses_nothing", killing_the_daemon_loses_nothing),
    ("what_was_taken_down_boots_again_with_its_instances_and_pods", down_and_up),
];

/// Container ids of the guestbook: they change when anything is started again.
fn containers(region: &Region) -> anyhow::Result<Vec<String>> {
    let pods = region.kubectl_json(&["get", "pods", "-l", "app in (redis, guestbook)"])?;
    let mut found = Vec::new();
    for pod in pods["items"].as_array().context("a list of pods")? {
        for status in pod["status"]["containerStatuses"].as_array().into_iter().flatten() {
            found.push(format!("{} {}", status["containerID"], status["restartCount"]));
        }
    }
    found.sort();
    Ok(found)
}

fn instance(region: &Region) -> anyhow::Result<String> {
    region.running_instances()?.into_iter().next().context("a running instance")
}

/// Kills the process of an instance whose command line matches, and waits for another one.
fn kill_and_await(region: &Region, instance: &str, pattern: &str) -> anyhow::Result<()> {
    let find = ["shell", instance, "--", "pgrep", "-of", pattern];
    let before = run(&mut nodestead(&region.data_dir, &find))?;
    let kill = ["shell", instance, "--", "kill", "-9", before.trim()];
    run(&mut nodestead(&region.data_dir, &kill))?;
    eventually("another one runs", seconds(30), || {
        let after = run(&mut nodestead(&region.data_dir, &find))?;
        Ok((after != before).then_some(()))
    })
}

/// The page answers through the API server's proxy too, and everything is as it was.
fn settles_unchanged(region: &Region, before: &[String]) -> anyhow::Result<()> {
    eventually("the page answers", seconds(30), || {
        Ok(region.kubectl(&["get", "--raw", crate::guestbook::MESSAGES]).ok())
    })?;
    eventually("all nodes are Ready", seconds(60), || {
        let nodes = region.kubectl(&["get", "nodes", "--no-headers"])?;
        Ok((nodes.matches(" Ready ").count() == 3).then_some(()))
    })?;
    eventually("the same containers run", seconds(60), || {
        let after = containers(region)?;
        ensure!(after == before, "before {before:?}\nafter  {after:?}");
        Ok(Some(()))
    })
}

/// Kills under traffic: no request fails, no container is started again.
fn survives(region: &Region, kill: impl FnOnce() -> anyhow::Result<()>) -> anyhow::Result<()> {
    let before = containers(region)?;
    let traffic = Traffic::start(region)?;
    kill()?;
    settles_unchanged(region, &before)?;
    traffic.ensure_unbroken()
}

fn killing_a_kubelet_restarts_no_pod(region: &Region) -> anyhow::Result<()> {
    let instance = instance(region)?;
    survives(region, || kill_and_await(region, &instance, "nodestead run kubelet"))
}

fn killing_containerd_restarts_no_pod(region: &Region) -> anyhow::Result<()> {
    let instance = instance(region)?;
    survives(region, || kill_and_await(region, &instance, "containerd --config"))
}

fn killing_kube_proxy_keeps_services(region: &Region) -> anyhow::Result<()> {
    let instance = instance(region)?;
    survives(region, || kill_and_await(region, &instance, "nodestead run kube-proxy"))
}

fn killing_the_daemon_loses_nothing(region: &Region) -> anyhow::Result<()> {
    survives(region, || {
        region.kubectl(&["create", "configmap", "acknowledged", "--from-literal=a=b"])?;
        let pid = region.status()?["pid"].as_i64().context("the daemon has a pid")?;
        run(Command::new("kill").args(["-9", &pid.to_string()]))?;
        run(&mut nodestead(&region.data_dir, &["up"]))?;
        let kept: Value = region.kubectl_json(&["get", "configmap", "acknowledged"])?;
        ensure!(kept["data"]["a"] == "b", "{kept}");
        Ok(())
    })
}

/// As after a power cut of the machine: nothing is replaced, everything is started again.
fn down_and_up(region: &Region) -> anyhow::Result<()> {
    let uids = || -> anyhow::Result<Vec<String>> {
        let path = "jsonpath={.items[*].metadata.uid}";
        let said =
            region.kubectl(&["get", "pods", "-l", "app in (redis, guestbook)", "-o", path])?;
        let mut uids: Vec<_> = said.split_whitespace().map(str::to_owned).collect();
        uids.sort();
        Ok(uids)
    };
    let sorted = || -> anyhow::Result<Vec<String>> {
        let mut ids = region.running_instances()?;
        ids.sort();
        Ok(ids)
    };
    let (instances, pods, ran) = (sorted()?, uids()?, containers(region)?);
    run(&mut nodestead(&region.data_dir, &["down"]))?;
    run(&mut nodestead(&region.data_dir, &["up"]))?;
    ensure!(sorted()? == instances, "before {instances:?}\nafter  {:?}", sorted()?);
    eventually("the page answers", seconds(120), || {
        Ok(region.kubectl(&["get", "--raw", crate::guestbook::MESSAGES]).ok())
    })?;
    eventually("every container was started again", seconds(60), || {
        let again = containers(region)?;
        Ok((again.len() == ran.len() && again.iter().all(|it| !ran.contains(it))).then_some(()))
    })?;
    ensure!(uids()? == pods, "before {pods:?}\nafter  {:?}", uids()?);
    Ok(())
}
