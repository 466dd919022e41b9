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
    ("attach_cp_and_debug_work", attach_cp_and_debug_work),
    ("port_forward_and_proxies_reach_a_pod", port_forward_and_proxies_reach_a_pod),
    ("top_shows_nodes_and_pods", top_shows_nodes_and_pods),
    ("a_pods_way_is_explained", a_pods_way_is_explained),
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
    let mut follow = region.client("kubectl", &["logs", "-f", "--tail=1", &pods[0]]);
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

fn attach_cp_and_debug_work(region: &Region) -> anyhow::Result<()> {
    let pods = ensure_web(region)?;
    let mut attach = region.client("kubectl", &["attach", &pods[0]]);
    let mut child = attach.stdout(Stdio::piped()).spawn()?;
    let lines = std::io::BufReader::new(child.stdout.take().context("no stdout")?);
    let seen: Vec<String> = std::io::BufRead::lines(lines).take(3).collect::<Result<_, _>>()?;
    child.kill()?;
    child.wait()?;
    ensure!(seen.iter().all(|it| it.starts_with("line ")), "{seen:?}");

    let (here, there) = (region.data_dir.join("copied"), format!("{}:/tmp/copied", pods[0]));
    std::fs::write(&here, "copied there and back")?;
    let path = here.to_str().context("a path")?;
    region.kubectl(&["cp", path, &there])?;
    std::fs::write(&here, "")?;
    region.kubectl(&["cp", &there, path])?;
    ensure!(std::fs::read_to_string(&here)? == "copied there and back");
    std::fs::remove_file(&here)?;

    let debug = [
        "debug",
        &pods[0],
        "--image=busybox:1.35",
        "--target=web",
        "--container=debugger",
        "--profile=general",
        "--",
        "sh",
        "-c",
        "ps; echo debugged",
    ];
    region.kubectl(&debug)?;
    let logs = ["logs", pods[0].as_str(), "-c", "debugger"];
    eventually("the debugger has seen its target", seconds(20), || {
        let said = region.kubectl(&logs)?;
        Ok((said.contains("echo line") && said.contains("debugged")).then_some(()))
    })?;
    let run =
        ["run", "typed", "-i", "--rm", "--restart=Never", "--image=busybox:1.35", "--", "cat"];
    let echoed = crate::region::run_with_input(&mut region.client("kubectl", &run), "typed in\n")?;
    ensure!(echoed.contains("typed in"), "{echoed}");
    Ok(())
}

const SERVED: &str = "
apiVersion: v1
kind: Pod
metadata: {name: served, labels: {app: served}}
spec:
  terminationGracePeriodSeconds: 0
  containers:
    - name: served
      image: busybox:1.35
      command: [sh, -c, 'mkdir /tmp/w; echo page > /tmp/w/page.txt; exec httpd -f -p 8080 -h /tmp/w']
      ports: [{containerPort: 8080}]
---
apiVersion: v1
kind: Service
metadata: {name: served}
spec:
  selector: {app: served}
  ports: [{port: 80, targetPort: 8080}]
";

fn port_forward_and_proxies_reach_a_pod(region: &Region) -> anyhow::Result<()> {
    region.apply(SERVED)?;
    region.kubectl(&["wait", "pod/served", "--for=condition=Ready", "--timeout=60s"])?;
    let mut forward = region.client("kubectl", &["port-forward", "service/served", ":80"]);
    let mut child = forward.stdout(Stdio::piped()).spawn()?;
    let mut said = String::new();
    // Kept open: kubectl ends when nobody reads its next line.
    let mut out = std::io::BufReader::new(child.stdout.take().context("no stdout")?);
    std::io::BufRead::read_line(&mut out, &mut said)?;
    // `Forwarding from 127.0.0.1:40001 -> 8080`
    let address = said.split(' ').nth(2).context(said.clone())?;
    let page = run(std::process::Command::new("curl").args([
        "-sS",
        "--max-time",
        "20",
        &format!("http://{address}/page.txt"),
    ]));
    child.kill()?;
    child.wait()?;
    drop(out);
    ensure!(page? == "page\n");

    let node = region.kubectl_json(&["get", "pod", "served"])?;
    let node = node["spec"]["nodeName"].as_str().unwrap_or_default().to_owned();
    for path in [
        "namespaces/default/pods/served/proxy/page.txt".to_owned(),
        "namespaces/default/pods/http:served:8080/proxy/page.txt".to_owned(),
        "namespaces/default/services/served:80/proxy/page.txt".to_owned(),
        "namespaces/default/services/http:served:80/proxy/page.txt".to_owned(),
    ] {
        let page = eventually(&path, seconds(20), || {
            region.kubectl(&["get", "--raw", &format!("/api/v1/{path}")]).map(Some)
        })?;
        ensure!(page == "page\n", "{path}: {page}");
    }
    let health =
        region.kubectl(&["get", "--raw", &format!("/api/v1/nodes/{node}/proxy/healthz")])?;
    ensure!(health == "ok", "{health}");
    let refused = ["get", "--raw", "/api/v1/namespaces/default/pods/served:9/proxy/"];
    let (succeeded, said) = outcome(&mut region.client("kubectl", &refused))?;
    ensure!(!succeeded && said.contains("connection refused"), "{said}");
    region.kubectl(&["delete", "pod/served", "service/served"])?;
    Ok(())
}

fn top_shows_nodes_and_pods(region: &Region) -> anyhow::Result<()> {
    let pods = ensure_web(region)?;
    let nodes = region.kubectl(&["top", "nodes", "--no-headers"])?;
    let ready = strings(&region.kubectl_json(&["get", "nodes"])?, "/metadata/name");
    ensure!(ready.iter().all(|it| nodes.contains(it.as_str())), "{nodes}");
    ensure!(!nodes.contains("<unknown>"), "{nodes}");
    let used = region.kubectl(&["top", "pods", "--containers", "-l", "app=web", "--no-headers"])?;
    ensure!(used.contains(&pods[0]) && used.lines().all(|it| it.contains(" web ")), "{used}");
    let services = region.kubectl(&["get", "apiservices", "v1beta1.metrics.k8s.io"])?;
    ensure!(services.contains("True"), "{services}");
    Ok(())
}

fn a_pods_way_is_explained(region: &Region) -> anyhow::Result<()> {
    let pods = ensure_web(region)?;
    let explain = |pod: &str| {
        let arguments = ["explain", "pod", pod];
        outcome(&mut crate::region::nodestead(&region.data_dir, &arguments))
    };
    let (succeeded, said) = explain(&format!("default/{}", pods[0]))?;
    ensure!(succeeded && said.contains("after the kubelet heard of it"), "{said}");
    for step in ["Received", "Admitted", "Sandbox", "Image", "Created", "Started"] {
        ensure!(said.contains(step), "{step}: {said}");
    }
    let (succeeded, said) = explain("default/none")?;
    ensure!(!succeeded && said.contains("there is no pod `default/none`"), "{said}");
    region.kubectl(&[
        "run", "huge", "--image=busybox:1.35", "--overrides",
        r#"{"spec":{"containers":[{"name":"huge","image":"busybox:1.35","resources":{"requests":{"cpu":"900"}}}]}}"#,
    ])?;
    let told = eventually("the scheduler says why", seconds(20), || {
        let (_, said) = explain("huge")?;
        Ok(said.contains("Insufficient cpu").then_some(()))
    });
    region.kubectl(&["delete", "pod", "huge"])?;
    told
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
    let pods = region.kubectl_json(&["get", "pods", "-l", "app=web"])?;
    // Those of an earlier rollout may still be ending.
    let all = pods["items"].as_array().context("a list of pods")?;
    for pod in all.iter().filter(|it| it["metadata"]["deletionTimestamp"].is_null()) {
        events_are_in_order(region, pod["metadata"]["name"].as_str().context("a name")?)?;
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

/// Times of events are whole seconds, and a pod's life has several in one: each of kubectl's lists
/// shows them in the order in which they happened.
fn events_are_in_order(region: &Region, pod: &str) -> anyhow::Result<()> {
    const LIFE: [&str; 4] = ["Scheduled", "Pulled", "Created", "Started"];
    let selector = format!("--field-selector=involvedObject.name={pod}");
    let of = format!("pod/{pod}");
    for list in [
        &["describe", "pod", pod][..],
        &["get", "events", "--no-headers", &selector],
        &["events", "--no-headers", "--for", &of],
    ] {
        let said = region.kubectl(list)?;
        let reason = |line: &str| {
            let words = line.split_whitespace();
            words.skip_while(|it| *it != "Normal").nth(1).map(str::to_owned)
        };
        let told = said.lines().filter_map(reason).filter(|it| LIFE.contains(&it.as_str()));
        let told: Vec<String> = told.collect();
        ensure!(told == LIFE, "{list:?}: {told:?}\n{said}");
    }
    Ok(())
}

fn what_is_not_there_is_refused_clearly(region: &Region) -> anyhow::Result<()> {
    for (arguments, message) in [
        (["top", "node", "none"].as_slice(), "nodemetrics.metrics.k8s.io \"none\" not found"),
        (&["logs", "none"], "pods \"none\" not found"),
        (&["exec", "none", "--", "true"], "pods \"none\" not found"),
    ] {
        let (succeeded, said) = outcome(&mut region.client("kubectl", arguments))?;
        ensure!(!succeeded && said.contains(message), "{arguments:?}: {said}");
    }
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
