//! Systems Manager: `aws ssm start-session` and Run Command against real instances.
//!
//! The CLI runs `session-manager-plugin`, which is not on every machine: `plugin/` has one that speaks
//! its protocol, and nothing of the region's code.

use std::{
    io::{BufRead, BufReader, Write},
    process::{Child, Command, Stdio},
};

use anyhow::{Context, ensure};
use serde_json::Value;

use crate::{
    Test,
    region::{Region, eventually, nodestead, outcome, run, run_with_input, seconds},
};

pub(crate) const TESTS: &[Test] = &[
    ("an_instance_whose_role_may_not_is_not_connected", without_rights),
    ("a_session_is_a_shell_of_ssm_user_and_ends_with_exit_or_its_instance", sessions),
];

const PLUGIN: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/plugin");
const CORE: &str = "arn:aws:iam::aws:policy/AmazonSSMManagedInstanceCore";

impl Region {
    /// The CLI, with the plug-in beside it.
    fn ssm(&self, arguments: &[&str]) -> Command {
        let mut command = self.client("aws", &[&["ssm"][..], arguments].concat());
        let path = std::env::var("PATH").unwrap_or_default();
        command.env("PATH", format!("{PLUGIN}:{path}"));
        command
    }

    fn connection(&self, instance: &str) -> anyhow::Result<Value> {
        let found = self.aws(&["ssm", "get-connection-status", "--target", instance])?;
        Ok(found["Status"].clone())
    }

    /// An instance with a role of its own, which may what the agent needs.
    fn managed_instance(&self) -> anyhow::Result<String> {
        let trust = r#"{"Version":"2012-10-17","Statement":[{"Effect":"Allow",
            "Principal":{"Service":"ec2.amazonaws.com"},"Action":"sts:AssumeRole"}]}"#;
        let role = ["--role-name", "managed"];
        let create = ["iam", "create-role", "--assume-role-policy-document", trust];
        self.aws(&[&create[..], &role].concat())?;
        self.aws(&[&["iam", "attach-role-policy", "--policy-arn", CORE][..], &role].concat())?;
        let profile = ["--instance-profile-name", "managed"];
        self.aws(&[&["iam", "create-instance-profile"][..], &profile].concat())?;
        self.aws(&[&["iam", "add-role-to-instance-profile"][..], &profile, &role].concat())?;
        let images = self.aws(&["ec2", "describe-images", "--owners", "amazon"])?;
        let image = images["Images"][0]["ImageId"].as_str().context("an image")?.to_owned();
        let subnet = self.subnet()?;
        let run = ["ec2", "run-instances", "--image-id", &image, "--instance-type", "t3.small"];
        let with = ["--subnet-id", &subnet, "--iam-instance-profile", "Name=managed"];
        let tags = ["--tag-specifications", "ResourceType=instance,Tags=[{Key=team,Value=blue}]"];
        let made = self.aws(&[&run[..], &with, &tags].concat())?;
        let id = made["Instances"][0]["InstanceId"].as_str().context("an instance")?.to_owned();
        eventually("the agent is connected", seconds(60), || {
            Ok((self.connection(&id)? == "connected").then_some(()))
        })?;
        Ok(id)
    }
}

fn without_rights(region: &Region) -> anyhow::Result<()> {
    let nodes = region.running_instances()?;
    let node = nodes.first().context("a node")?;
    ensure!(region.connection(node)? == "notconnected", "nodes' role has no right for it");
    let (is_in, said) = outcome(&mut region.ssm(&["start-session", "--target", node]))?;
    let expected = format!(
        "(TargetNotConnected) when calling the StartSession operation: {node} is \
                            not connected."
    );
    ensure!(!is_in && said.contains(&expected), "{said}");
    Ok(())
}

fn sessions(region: &Region) -> anyhow::Result<()> {
    let id = region.managed_instance()?;
    let listed = region.aws(&["ssm", "describe-instance-information"])?;
    let listed = &listed["InstanceInformationList"];
    ensure!(listed[0]["InstanceId"] == id && listed[0]["PingStatus"] == "Online", "{listed}");

    shell(region, &id)?;
    command(region, &id)?;
    rights(region, &id)?;
    forwarding(region, &id)?;

    let mut open = region.ssm(&["start-session", "--target", &id]);
    let mut session = Open::start(&mut open)?;
    session.say("echo it is $((40 + 2))\n")?;
    session.wait_for("it is 42")?;
    run(&mut nodestead(&region.data_dir, &["shell", &id, "--", "pkill", "-f", "run ssm-agent"]))?;
    session.say("exit\n")?;
    eventually("the agent is started again", seconds(60), || {
        Ok((region.connection(&id)? == "connected").then_some(()))
    })?;
    session.kill();

    let mut open = region.ssm(&["start-session", "--target", &id]);
    let mut session = Open::start(&mut open)?;
    session.say("echo $((40 + 2)) again\n")?;
    session.wait_for("42 again")?;
    region.aws(&["ec2", "terminate-instances", "--instance-ids", &id])?;
    session.wait_for("does not run any more")?;
    ensure!(session.child.wait()?.success(), "the plug-in ends with the session");
    let history = region.aws(&["ssm", "describe-sessions", "--state", "History"])?;
    let sessions = history["Sessions"].as_array().cloned().unwrap_or_default();
    ensure!(sessions.iter().all(|it| it["Status"] == "Terminated"), "{history}");
    ensure!(sessions.len() >= 5, "{history}");
    Ok(())
}

fn shell(region: &Region, id: &str) -> anyhow::Result<()> {
    let mut session = region.ssm(&["start-session", "--target", id]);
    let typed = "id -un; sudo id -un; hostname; stty size; pwd; exit\n";
    let said = run_with_input(&mut session, typed)?;
    for expected in ["ssm-user", "root", "ip-192-168-", "33 101", "/usr/bin", "Exiting session"] {
        ensure!(said.contains(expected), "no {expected}: {said}");
    }
    // More than any buffer holds, whole and in order.
    let lines = "command=[\"seq 1 200000 | md5sum; seq 1 20000\"]";
    let document = ["--document-name", "AWS-StartInteractiveCommand", "--parameters", lines];
    let start = [&["start-session", "--target", id][..], &document].concat();
    let said = run_with_input(&mut region.ssm(&start), "")?;
    let numbers: Vec<u32> = said.lines().filter_map(|it| it.trim().parse().ok()).collect();
    ensure!(numbers == (1..=20000).collect::<Vec<_>>(), "{} numbers", numbers.len());
    Ok(())
}

fn command(region: &Region, id: &str) -> anyhow::Result<()> {
    let parameters = "commands=[\"id -un\",\"hostname\"]";
    let send = ["ssm", "send-command", "--document-name", "AWS-RunShellScript"];
    let which = ["--targets", "Key=tag:team,Values=blue", "--parameters", parameters];
    let sent = region.aws(&[&send[..], &which].concat())?;
    let command = sent["Command"]["CommandId"].as_str().context("a command")?.to_owned();
    let of = ["--command-id", &command, "--instance-id", id];
    run(&mut region.ssm(&[&["wait", "command-executed"][..], &of].concat()))?;
    let got = region.aws(&[&["ssm", "get-command-invocation"][..], &of].concat())?;
    let output = got["StandardOutputContent"].as_str().unwrap_or_default();
    ensure!(got["Status"] == "Success" && output.starts_with("root\nip-192-168-"), "{got}");
    Ok(())
}

/// A user who may open sessions with the team's instances, and end his own.
fn rights(region: &Region, id: &str) -> anyhow::Result<()> {
    region.aws(&["iam", "create-user", "--user-name", "blue"])?;
    let policy = r#"{"Version":"2012-10-17","Statement":[
        {"Effect":"Allow","Action":"ssm:StartSession","Resource":"arn:aws:ec2:*:*:instance/*",
         "Condition":{"StringEquals":{"ssm:resourceTag/team":"blue"}}},
        {"Effect":"Allow","Action":["ssm:TerminateSession","ssm:ResumeSession"],
         "Resource":"arn:aws:ssm:*:*:session/${aws:username}-*"}]}"#;
    let put = ["iam", "put-user-policy", "--user-name", "blue", "--policy-name", "sessions"];
    region.aws(&[&put[..], &["--policy-document", policy]].concat())?;
    let key = region.aws(&["iam", "create-access-key", "--user-name", "blue"])?;
    let field = |name: &str| key["AccessKey"][name].as_str().unwrap_or_default().to_owned();
    let (key, secret) = (field("AccessKeyId"), field("SecretAccessKey"));
    let blue = |arguments: &[&str]| {
        let mut command = region.ssm(arguments);
        command.env("AWS_ACCESS_KEY_ID", &key).env("AWS_SECRET_ACCESS_KEY", &secret);
        command
    };
    let said = run_with_input(&mut blue(&["start-session", "--target", id]), "id -un; exit\n")?;
    ensure!(said.contains("SessionId: blue-") && said.contains("ssm-user"), "{said}");
    let nodes = region.running_instances()?;
    let other = nodes.iter().find(|it| *it != id).context("another instance")?;
    let (is_in, said) = outcome(&mut blue(&["start-session", "--target", other]))?;
    ensure!(!is_in && said.contains("not authorized to perform: ssm:StartSession"), "{said}");
    let forward = ["--document-name", "AWS-StartPortForwardingSession"];
    let start = [&["start-session", "--target", id][..], &forward].concat();
    let (is_in, said) = outcome(&mut blue(&start))?;
    let document = "document/AWS-StartPortForwardingSession";
    ensure!(!is_in && said.contains(document), "the document needs a right of its own: {said}");
    let (ends, said) = outcome(&mut blue(&["terminate-session", "--session-id", "root-0123"]))?;
    ensure!(!ends && said.contains("AccessDenied"), "{said}");
    Ok(())
}

fn forwarding(region: &Region, id: &str) -> anyhow::Result<()> {
    let serve = ["shell", id, "--", "busybox", "httpd", "-p", "8099", "-h", "/etc"];
    run(&mut nodestead(&region.data_dir, &serve))?;
    let parameters = "portNumber=[\"8099\"],localPortNumber=[\"0\"]";
    let document = ["--document-name", "AWS-StartPortForwardingSession", "--parameters"];
    let start = [&["start-session", "--target", id][..], &document, &[parameters]].concat();
    let mut forward = region.ssm(&start);
    let mut session = Open::start(&mut forward)?;
    let line = session.wait_for("opened for sessionId")?;
    let port = line.split_whitespace().nth(1).context("a port")?.to_owned();
    let url = format!("http://127.0.0.1:{port}/os-release");
    for _ in 0..3 {
        let said = run(Command::new("curl").args(["-sS", "--max-time", "20", &url]))?;
        ensure!(said.contains("Amazon Linux"), "{said}");
    }
    session.kill();
    let closed = "portNumber=[\"9\"],localPortNumber=[\"0\"]";
    let start = [&["start-session", "--target", id][..], &document, &[closed]].concat();
    let said = run_with_input(&mut region.ssm(&start), "")?;
    ensure!(said.contains("Connection to destination port failed"), "{said}");
    Ok(())
}

/// A session that goes on.
struct Open {
    child: Child,
    output: BufReader<std::process::ChildStdout>,
}

impl Open {
    fn start(command: &mut Command) -> anyhow::Result<Self> {
        let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn()?;
        let output = BufReader::new(child.stdout.take().context("no stdout")?);
        Ok(Self { child, output })
    }

    fn say(&mut self, text: &str) -> anyhow::Result<()> {
        let stdin = self.child.stdin.as_mut().context("no stdin")?;
        stdin.write_all(text.as_bytes())?;
        Ok(stdin.flush()?)
    }

    /// The line that has this text.
    fn wait_for(&mut self, text: &str) -> anyhow::Result<String> {
        let mut seen = String::new();
        loop {
            let mut line = Vec::new();
            let read = self.output.read_until(b'\n', &mut line)?;
            let line = String::from_utf8_lossy(&line).into_owned();
            ensure!(read > 0, "no `{text}` in {seen}");
            if line.contains(text) {
                return Ok(line);
            }
            seen.push_str(&line);
        }
    }

    fn kill(&mut self) {
        // The CLI has started the plug-in, which ends when nobody reads it.
        self.child.kill().ok();
        self.child.wait().ok();
    }
}
