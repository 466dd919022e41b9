//! What somebody at a terminal meets: Ctrl-C, no rights, a node that does not answer, wrong names.

use std::{
    fs,
    io::{BufRead, BufReader, Write},
    os::unix::fs::PermissionsExt,
    process::{Command, Stdio},
    time::Instant,
};

use anyhow::{Context, ensure};

use crate::{
    Test,
    region::{Region, eventually, nodestead, outcome, run, seconds, strings},
};

pub(crate) const TESTS: &[Test] = &[
    ("an_interrupted_up_says_what_goes_on", an_interrupted_up_says_what_goes_on),
    ("an_up_that_is_interrupted_early_says_what_is_there", an_early_interrupt_is_told_truly),
    ("who_is_not_root_is_told_so", who_is_not_root_is_told_so),
    ("a_kubelet_that_hangs_does_not_hold_up_explain", a_hanging_kubelet_does_not_hold_up_explain),
    ("names_that_nothing_has_are_answered_with_those_there_are", wrong_names_are_answered),
    ("kubectl_applies_over_the_demo_without_a_warning", kubectl_applies_over_the_demo),
    ("an_interrupted_demo_says_what_goes_on", an_interrupted_demo_says_what_goes_on),
    ("a_log_is_followed_across_its_turning", a_log_is_followed_across_its_turning),
    ("what_is_no_archive_is_refused_in_plain_words", what_is_no_archive_is_refused),
];

fn an_interrupted_up_says_what_goes_on(_: &Region) -> anyhow::Result<()> {
    let folder = tempfile::tempdir()?;
    // As long as on AWS, so that it is at work when it is interrupted.
    let flags = ["up", "--nodes", "0", "--name", "interrupted", "--latency", "aws"];
    let mut up = nodestead(folder.path(), &flags);
    let child = up.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn()?;
    let answers = eventually("the daemon answers", seconds(20), || {
        Ok(run(&mut nodestead(folder.path(), &["status"])).ok())
    });
    run(Command::new("kill").args(["-INT", &child.id().to_string()]))?;
    let ended = child.wait_with_output()?;
    let status = run(&mut nodestead(folder.path(), &["status"]));
    run(&mut nodestead(folder.path(), &["down", "--purge"]))?;
    answers?;
    let said = String::from_utf8_lossy(&ended.stderr);
    ensure!(ended.status.code() == Some(130), "{}: {said}", ended.status);
    for part in ["in the background", "nodestead status", "nodestead down --purge"] {
        ensure!(said.contains(part), "{part}: {said}");
    }
    ensure!(status?.contains("Region"), "the region did not go on");
    Ok(())
}

/// As soon as there is anything: what it then says is so.
fn an_early_interrupt_is_told_truly(_: &Region) -> anyhow::Result<()> {
    let folder = tempfile::tempdir()?;
    let data_dir = folder.path().join("region");
    let flags = ["up", "--nodes", "0", "--name", "early", "--latency", "aws"];
    let mut up = nodestead(&data_dir, &flags);
    let child = up.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped()).spawn()?;
    let deadline = Instant::now() + seconds(20);
    while !data_dir.join("settings.json").exists() && Instant::now() < deadline {
        std::thread::yield_now();
    }
    run(Command::new("kill").args(["-INT", &child.id().to_string()]))?;
    let ended = child.wait_with_output()?;
    let said = String::from_utf8_lossy(&ended.stderr).into_owned();
    let what_it_says_is_so = || -> anyhow::Result<()> {
        ensure!(ended.status.code() == Some(130), "{}: {said}", ended.status);
        if said.contains("not started, and nothing runs") {
            let (is_up, status) = outcome(&mut nodestead(&data_dir, &["status"]))?;
            ensure!(!is_up && !status.contains("there is left"), "{status}");
            return Ok(());
        }
        ensure!(said.contains("goes on starting in the background"), "{said}");
        let status = || Ok(run(&mut nodestead(&data_dir, &["status"])).ok());
        eventually("the daemon that goes on answers", seconds(20), status).map(drop)
    };
    let checked = what_it_says_is_so();
    run(&mut nodestead(&data_dir, &["down", "--purge"]))?;
    checked?;
    ensure!(!data_dir.exists(), "what it said to remove it with has not");
    Ok(())
}

fn who_is_not_root_is_told_so(region: &Region) -> anyhow::Result<()> {
    // Where nobody may execute it.
    let folder = tempfile::tempdir()?;
    fs::set_permissions(folder.path(), fs::Permissions::from_mode(0o755))?;
    let program = folder.path().join("nodestead");
    let own = nodestead(&region.data_dir, &[]);
    fs::copy(own.get_program(), &program)?;
    for arguments in
        [["status"].as_slice(), &["env"], &["logs", "daemon"], &["explain", "pod", "a"]]
    {
        let mut command = Command::new("setpriv");
        command.args(["--reuid=65534", "--regid=65534", "--clear-groups"]).arg(&program);
        command.args(arguments).env("NODESTEAD_DATA_DIR", &region.data_dir);
        let (succeeded, said) = outcome(&mut command)?;
        ensure!(!succeeded && said.contains("only root may read"), "{arguments:?}: {said}");
        ensure!(said.contains("next: run it with sudo"), "{arguments:?}: {said}");
    }
    let nowhere = folder.path().join("region");
    for (arguments, word) in
        [(["up"].as_slice(), "up takes root"), (&["down", "--purge"], "down takes root")]
    {
        let mut command = Command::new("setpriv");
        command.args(["--reuid=65534", "--regid=65534", "--clear-groups"]).arg(&program);
        let output = command.args(arguments).env("NODESTEAD_DATA_DIR", &nowhere).output()?;
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        ensure!(output.status.code() == Some(1), "{arguments:?}: {}: {said}", output.status);
        ensure!(
            said.contains(word) && said.contains("next: run it with sudo"),
            "{arguments:?}: {said}"
        );
    }
    ensure!(!nowhere.exists(), "an `up` that was refused has left a folder");
    Ok(())
}

fn a_hanging_kubelet_does_not_hold_up_explain(region: &Region) -> anyhow::Result<()> {
    let status = region.status()?;
    let instances = status["instances"].as_array().context("instances")?;
    let found = instances.iter().find(|it| it["state"] == "running").context("a running one")?;
    let text = |key: &str| found[key].as_str().unwrap_or_default().to_owned();
    let (id, node) = (text("id"), text("nodeName"));
    let on_node = format!("spec.nodeName={node}");
    let pods = ["get", "pods", "-n", "kube-system", "--field-selector", &on_node];
    let pods = strings(&region.kubectl_json(&pods)?, "/metadata/name");
    let pod = format!("kube-system/{}", pods.first().context("a pod of the node")?);
    let signal = |signal: &str| {
        let kill = ["shell", &id, "--", "pkill", signal, "-of", "nodestead run kubelet"];
        run(&mut nodestead(&region.data_dir, &kill))
    };
    signal("-STOP")?;
    let began = Instant::now();
    let told = outcome(&mut nodestead(&region.data_dir, &["explain", "pod", &pod]));
    let took = began.elapsed();
    signal("-CONT")?;
    let (succeeded, said) = told?;
    ensure!(took < seconds(4), "{took:?}: {said}");
    for part in [&format!("The kubelet of node {node} cannot be reached"), "PodScheduled"] {
        ensure!(succeeded && said.contains(part), "{part}: {said}");
    }
    Ok(())
}

fn wrong_names_are_answered(region: &Region) -> anyhow::Result<()> {
    let id = region.running_instances()?.pop().context("an instance")?;
    let bogus = format!("{id}/bogus");
    for (arguments, parts) in [
        (["logs", bogus.as_str()].as_slice(), ["has no log `bogus`", "/kubelet"]),
        (&["logs", "i-nope"], ["there is no instance `i-nope`", id.as_str()]),
        (&["shell", "i-nope"], ["there is no instance `i-nope`", id.as_str()]),
    ] {
        let mut command = nodestead(&region.data_dir, arguments);
        let output = command.stdin(Stdio::null()).output()?;
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        ensure!(output.status.code() == Some(1), "{arguments:?}: {}", output.status);
        ensure!(parts.iter().all(|it| said.contains(it)), "{arguments:?}: {said}");
    }
    let wrong = nodestead(&region.data_dir, &["status", "--no-such-flag"]).output()?;
    ensure!(wrong.status.code() == Some(2), "{}", wrong.status);
    for (of, part) in [("instances", id.as_str()), ("logs", "/kubelet"), ("pods", "kube-system/")] {
        let said = run(&mut nodestead(&region.data_dir, &["candidates", of]))?;
        ensure!(said.contains(part), "{of}: {said}");
    }
    Ok(())
}

fn kubectl_applies_over_the_demo(region: &Region) -> anyhow::Result<()> {
    let examples = concat!(env!("CARGO_MANIFEST_DIR"), "/../../examples/guestbook/");
    region.kubectl(&["delete", "--ignore-not-found", "-f", examples])?;
    let images = crate::region::images().display().to_string();
    run(&mut nodestead(&region.data_dir, &["demo", "--images", &images]))?;
    let (succeeded, said) = outcome(&mut region.client("kubectl", &["apply", "-f", examples]))?;
    ensure!(succeeded && !said.contains("Warning"), "{said}");
    ensure!(said.lines().all(|it| it.ends_with(" unchanged")), "{said}");
    Ok(())
}

/// While it waits for pods: the guestbook that was deployed goes on.
fn an_interrupted_demo_says_what_goes_on(region: &Region) -> anyhow::Result<()> {
    let examples = concat!(env!("CARGO_MANIFEST_DIR"), "/../../examples/guestbook/");
    region.kubectl(&["delete", "--ignore-not-found", "-f", examples])?;
    let images = crate::region::images().display().to_string();
    let mut demo = nodestead(&region.data_dir, &["demo", "--images", &images]);
    let mut child =
        demo.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped()).spawn()?;
    let mut told = BufReader::new(child.stderr.take().context("standard error")?).lines();
    let mut said = String::new();
    let is_applied = told.by_ref().map_while(Result::ok).any(|line| {
        said += &format!("{line}\n");
        line.contains("applying examples/guestbook/")
    });
    ensure!(is_applied, "{said}");
    run(Command::new("kill").args(["-INT", &child.id().to_string()]))?;
    told.map_while(Result::ok).for_each(|line| said += &format!("{line}\n"));
    let ended = child.wait()?;
    ensure!(ended.code() == Some(130), "{ended}: {said}");
    for part in ["goes on in the cluster", "nodestead demo", "kubectl delete deploy/redis-leader"] {
        ensure!(said.contains(part), "{part}: {said}");
    }
    let delete =
        said.split("kubectl ").find_map(|it| it.strip_prefix("delete ")?.split('`').next());
    let delete: Vec<_> = delete.context("what removes it")?.split(' ').collect();
    let dry = [&["delete", "--dry-run=server"][..], &delete].concat();
    region.kubectl(&dry)?;
    for name in ["redis-leader", "redis-follower", "guestbook"] {
        let deployment = format!("deployment/{name}");
        region.kubectl(&["rollout", "status", &deployment, "--timeout=120s"])?;
    }
    Ok(())
}

/// As the log of AWS calls is, renamed as one that is full is: what was written meanwhile is shown.
fn a_log_is_followed_across_its_turning(region: &Region) -> anyhow::Result<()> {
    let folder = tempfile::tempdir()?;
    let (log, turned) = (folder.path().join("aws.jsonl"), folder.path().join("aws.1"));
    fs::write(&log, "first\n")?;
    let own = nodestead(folder.path(), &[]);
    let mut follow = Command::new("timeout");
    follow.arg("20").arg(own.get_program()).args(["logs", "aws", "-f"]);
    follow.env("NODESTEAD_DATA_DIR", folder.path());
    let mut child =
        follow.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::inherit()).spawn()?;
    let mut shown = BufReader::new(child.stdout.take().context("standard output")?).lines();
    let mut next = || shown.next().context("it has ended")?.context("its output");
    let lines = (|| {
        let first = next()?;
        fs::OpenOptions::new().append(true).open(&log)?.write_all(b"last\n")?;
        fs::rename(&log, &turned)?;
        fs::write(&log, "new\n")?;
        anyhow::Ok([first, next()?, next()?])
    })();
    run(Command::new("kill").arg(child.id().to_string()))?;
    child.wait()?;
    ensure!(lines? == ["first", "last", "new"]);
    // And the real one has what was just called.
    region.aws(&["sts", "get-caller-identity"])?;
    let said = run(&mut nodestead(&region.data_dir, &["logs", "aws"]))?;
    ensure!(said.contains("GetCallerIdentity"), "the call is not in the log");
    Ok(())
}

fn what_is_no_archive_is_refused(region: &Region) -> anyhow::Result<()> {
    let text = tempfile::NamedTempFile::new()?;
    fs::write(text.path(), "this is no archive of anything\n".repeat(100))?;
    let path = text.path().display().to_string();
    for (arguments, part) in [
        (["image", "load", &path], "no archive of images"),
        (["image", "import", &path], "neither a folder nor a tar archive"),
    ] {
        let (succeeded, said) = outcome(&mut nodestead(&region.data_dir, &arguments))?;
        ensure!(!succeeded && said.contains(part), "{arguments:?}: {said}");
        ensure!(!said.contains("numeric field") && !said.contains("tar:"), "{said}");
    }
    Ok(())
}
