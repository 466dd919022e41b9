//! `kill -9` of each part under a running workload: the page keeps answering, nothing acknowledged
//! is lost, nothing is started twice.

use std::process::Command;

use anyhow::{Context, ensure};
use serde_json::Value;

use crate::{
    Test,
    region::{Region, eventually, nodestead, run, run_with_input, seconds},
    traffic::Traffic,
};

pub(crate) const TESTS: &[Test] = &[
    ("killing_a_kubelet_restarts_no_pod", killing_a_kubelet_restarts_no_pod),
    ("killing_containerd_restarts_no_pod", killing_containerd_restarts_no_pod),
    ("killing_kube_proxy_keeps_services", killing_kube_proxy_keeps_services),
    ("a_killed_container_is_started_again_and_its_pod_answers", killed_container_answers_again),
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

/// On the node from which the traffic comes: its rules are the ones that count.
fn killing_kube_proxy_keeps_services(region: &Region) -> anyhow::Result<()> {
    let status = region.status()?;
    let instances = status["instances"].as_array().context("a list of instances")?;
    let asking = instances.iter().rfind(|it| it["state"] == "running").context("an instance")?;
    let instance = asking["id"].as_str().context("an id")?;
    survives(region, || kill_and_await(region, instance, "nodestead run kube-proxy"))?;
    // The new one goes on where the old one stopped.
    region.kubectl(&[
        "expose",
        "deployment",
        "guestbook",
        "--name=later",
        "--port=80",
        "--target-port=8080",
    ])?;
    drop(Traffic::from(region, |it| it["id"] == instance, "later", "/messages")?);
    region.kubectl(&["delete", "service", "later"]).map(drop)
}

/// The application beside nginx ends as an OOM kill ends it: its pod loses it, starts it again and
/// serves the page, and the other container stays as it is.
fn killed_container_answers_again(region: &Region) -> anyhow::Result<()> {
    // The leader keeps its messages in its pod: earlier ones went with the node that it was on.
    let create = ["create", "--raw", crate::guestbook::MESSAGES, "-f", "-"];
    run_with_input(&mut region.client("kubectl", &create), "hello before the kill")?;
    let pods = region.kubectl_json(&["get", "pods", "-l", "app=guestbook"])?;
    let pod = pods.pointer("/items/0").context("a pod of the guestbook")?;
    let name = pod["metadata"]["name"].as_str().context("a name")?;
    let status = region.status()?;
    let instances = status["instances"].as_array().context("a list of instances")?;
    let its = instances.iter().find(|it| it["nodeName"] == pod["spec"]["nodeName"]);
    let instance = its.and_then(|it| it["id"].as_str()).context("its instance")?;
    let container = |pod: &Value, name: &str| -> anyhow::Result<Value> {
        let all = pod["status"]["containerStatuses"].as_array().context("statuses")?;
        all.iter().find(|it| it["name"] == name).cloned().context("the container")
    };
    let (app, nginx) = (container(pod, "app")?, container(pod, "nginx")?);
    let id = app["containerID"].as_str().and_then(|it| it.strip_prefix("containerd://"));
    let kill = ["ctr", "-n", "k8s.io", "tasks", "kill", "-s", "SIGKILL", id.context("an id")?];
    run(&mut nodestead(&region.data_dir, &[&["shell", instance, "--"][..], &kill].concat()))?;
    let again = eventually("the container runs again, and its pod is Ready", seconds(60), || {
        let pod = region.kubectl_json(&["get", "pod", name])?;
        let now = container(&pod, "app")?;
        let conditions = pod["status"]["conditions"].as_array().context("conditions")?;
        let is_ready = conditions.iter().any(|it| it["type"] == "Ready" && it["status"] == "True");
        let is_another = now["containerID"] != app["containerID"] && now["ready"] == true;
        Ok((is_another && is_ready).then_some(pod))
    })?;
    let now = container(&again, "app")?;
    let restarts = |it: &Value| it["restartCount"].as_i64().context("a count");
    ensure!(restarts(&now)? == restarts(&app)? + 1, "{now}");
    ensure!(now.pointer("/lastState/terminated/exitCode") == Some(&137.into()), "{now}");
    let same = container(&again, "nginx")?;
    ensure!(same["containerID"] == nginx["containerID"], "{same}");
    // Through nginx to this very application, not to another pod's.
    let path = format!("/api/v1/namespaces/default/pods/{name}:8080/proxy/messages");
    eventually("its page answers", seconds(30), || {
        Ok(region.kubectl(&["get", "--raw", &path]).ok())
    })?;
    eventually("a follower shows the message", seconds(20), || {
        let page = region.kubectl(&["get", "--raw", crate::guestbook::MESSAGES])?;
        Ok(page.contains("hello before the kill").then_some(()))
    })
}

fn killing_the_daemon_loses_nothing(region: &Region) -> anyhow::Result<()> {
    survives(region, || {
        region.kubectl(&["create", "configmap", "acknowledged", "--from-literal=a=b"])?;
        let parameter = ["ssm", "put-parameter", "--name", "/acknowledged", "--type", "String"];
        region.aws(&[&parameter[..], &["--overwrite", "--value", "b"]].concat())?;
        let pid = region.status()?["pid"].as_i64().context("the daemon has a pid")?;
        run(Command::new("kill").args(["-9", &pid.to_string()]))?;
        run(&mut nodestead(&region.data_dir, &["up"]))?;
        let kept: Value = region.kubectl_json(&["get", "configmap", "acknowledged"])?;
        ensure!(kept["data"]["a"] == "b", "{kept}");
        let kept = region.aws(&["ssm", "get-parameter", "--name", "/acknowledged"])?;
        ensure!(kept["Parameter"]["Value"] == "b", "{kept}");
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
