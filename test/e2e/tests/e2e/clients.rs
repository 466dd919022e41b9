//! What people type with an unmodified kubectl.

use std::process::Stdio;

use anyhow::{Context, ensure};

use crate::{
    Test,
    region::{Region, eventually, outcome, run, seconds, strings},
};

pub(crate) const TESTS: &[Test] = &[
    ("logs_follow_a_container", logs_follow_a_container),
    ("exec_runs_a_command_and_passes_its_exit_code", exec_runs_a_command),
    ("exec_with_a_terminal_works", exec_with_a_terminal_works),
    ("a_rollout_goes_forward_and_back", a_rollout_goes_forward_and_back),
    ("scale_describe_events_delete_work", scale_describe_events_delete_work),
    ("what_is_not_there_is_refused_clearly", what_is_not_there_is_refused_clearly),
    ("kubectl_prints_no_warnings", kubectl_prints_no_warnings),
];

const WEB: &str = "
apiVersion: apps/v1
kind: Deployment
metadata: {name: web}
spec:
  replicas: 2
  selector: {matchLabels: {app: web}}
  template:
    metadata: {labels: {app: web}}
    spec:
      terminationGracePeriodSeconds: 1
      containers:
        - name: web
          image: busybox:1.35
          command: [sh, -c, 'i=0; while true; do echo line $i; i=$((i+1)); sleep 0.2; done']
";

fn ensure_web(region: &Region) -> anyhow::Result<Vec<String>> {
    region.apply(WEB)?;
    region.kubectl(&["rollout", "status", "deployment/web", "--timeout=60s"])?;
    let selector = ["get", "pods", "-l", "app=web", "--field-selector=status.phase=Running"];
    Ok(strings(&region.kubectl_json(&selector)?, "/metadata/name"))
}

fn logs_follow_a_container(region: &Region) -> anyhow::Result<()> {
    let pods = ensure_web(region)?;
    let mut follow = region.client("kubectl", &["logs", "-f", &pods[0]]);
    let mut child = follow.stdout(Stdio::piped()).spawn()?;
    let lines = std::io::BufReader::new(child.stdout.take().context("no stdout")?);
    let seen: Vec<String> = std::io::BufRead::lines(lines).take(20).collect::<Result<_, _>>()?;
    child.kill()?;
    child.wait()?;
    ensure!(seen.len() == 20 && seen[0].starts_with("line "), "{seen:?}");
    let tail = region.kubectl(&["logs", "--tail=3", &pods[0]])?;
    ensure!(tail.lines().count() == 3, "{tail}");
    Ok(())
}

fn exec_runs_a_command(region: &Region) -> anyhow::Result<()> {
    let pods = ensure_web(region)?;
    let said = region.kubectl(&["exec", &pods[0], "--", "sh", "-c", "echo $HOSTNAME"])?;
    ensure!(said.trim() == pods[0], "{said}");
    let status =
        region.client("kubectl", &["exec", &pods[0], "--", "sh", "-c", "exit 7"]).status()?;
    ensure!(status.code() == Some(7), "{status}");
    let cat = ["exec", "-i", &pods[0], "--", "cat"];
    let echoed =
        crate::region::run_with_input(&mut region.client("kubectl", &cat), "through stdin")?;
    ensure!(echoed == "through stdin", "{echoed}");
    Ok(())
}

fn exec_with_a_terminal_works(region: &Region) -> anyhow::Result<()> {
    let pods = ensure_web(region)?;
    // `script` gives kubectl a terminal.
    let kubectl = format!("kubectl exec -it {} -- tty", pods[0]);
    let mut command = region.client("script", &["-qec", &kubectl, "/dev/null"]);
    let said = run(&mut command)?;
    ensure!(said.contains("/dev/pts/"), "{said}");
    Ok(())
}

fn a_rollout_goes_forward_and_back(region: &Region) -> anyhow::Result<()> {
    ensure_web(region)?;
    region.kubectl(&["set", "env", "deployment/web", "COLOUR=blue"])?;
    region.kubectl(&["rollout", "status", "deployment/web", "--timeout=60s"])?;
    let history = region.kubectl(&["rollout", "history", "deployment/web"])?;
    ensure!(
        history.lines().filter(|it| it.starts_with(char::is_numeric)).count() >= 2,
        "{history}"
    );
    region.kubectl(&["rollout", "undo", "deployment/web"])?;
    region.kubectl(&["rollout", "status", "deployment/web", "--timeout=60s"])?;
    let deployment = region.kubectl_json(&["get", "deployment", "web"])?;
    ensure!(
        deployment.pointer("/spec/template/spec/containers/0/env").is_none(),
        "undone: {deployment}"
    );
    Ok(())
}

fn scale_describe_events_delete_work(region: &Region) -> anyhow::Result<()> {
    ensure_web(region)?;
    region.kubectl(&["scale", "deployment/web", "--replicas=4"])?;
    region.kubectl(&["rollout", "status", "deployment/web", "--timeout=60s"])?;
    let described = region.kubectl(&["describe", "deployment", "web"])?;
    ensure!(described.contains("4 available"), "{described}");
    let pods = region.kubectl(&["describe", "pods", "-l", "app=web"])?;
    for reason in ["Scheduled", "Pulled", "Created", "Started"] {
        ensure!(pods.contains(reason), "{reason} is not in:\n{pods}");
    }
    let node = region.kubectl(&["describe", "nodes"])?;
    ensure!(node.contains("Allocated resources"), "{node}");
    let events = region.kubectl(&["events"])?;
    ensure!(events.contains("Scaled up replica set"), "{events}");
    region.kubectl(&["delete", "deployment", "web"])?;
    eventually("its pods are gone", seconds(30), || {
        let left = region.kubectl_json(&["get", "pods", "-l", "app=web"])?;
        Ok(left["items"].as_array().is_some_and(Vec::is_empty).then_some(()))
    })
}

fn what_is_not_there_is_refused_clearly(region: &Region) -> anyhow::Result<()> {
    let (succeeded, said) = outcome(&mut region.client("kubectl", &["top", "nodes"]))?;
    ensure!(!succeeded && said.contains("Metrics API not available"), "{said}");
    Ok(())
}

fn kubectl_prints_no_warnings(region: &Region) -> anyhow::Result<()> {
    for arguments in [
        ["get", "all", "-A"].as_slice(),
        &["api-resources"],
        &["explain", "pod.spec.containers"],
        &["auth", "can-i", "create", "pods"],
        &["version"],
    ] {
        let output = region.client("kubectl", arguments).output()?;
        let errors = String::from_utf8_lossy(&output.stderr).into_owned();
        ensure!(output.status.success(), "{arguments:?}: {errors}");
        // A client older than the server by more than one minor says so; that is its business.
        let noise = errors.lines().filter(|it| !it.contains("version difference"));
        ensure!(noise.clone().next().is_none(), "{arguments:?}: {errors}");
    }
    Ok(())
}
