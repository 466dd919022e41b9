//! Instances as hosts: logging in with a key pair, and booting an image of one's own.

use std::{fs, os::unix::fs::PermissionsExt, path::Path, process::Command};

use anyhow::{Context, ensure};
use serde_json::Value;

use crate::{
    Test,
    region::{Region, eventually, nodestead, outcome, run, seconds},
};

pub(crate) const TESTS: &[Test] = &[
    ("the_owner_of_a_key_pair_logs_in_where_the_security_group_lets_him", a_key_pair_lets_in),
    ("an_image_of_ones_own_is_registered_and_booted", an_own_image_boots),
];

/// The way in begins at a node of the region: both are in the VPC.
struct Ssh<'a> {
    region: &'a Region,
    from: &'a str,
    key: &'a Path,
}

impl Ssh<'_> {
    fn run(&self, address: &str, user: &str, command: &str) -> anyhow::Result<(bool, String)> {
        let shell = nodestead(&self.region.data_dir, &["shell", self.from, "--"]);
        let program = shell.get_program().to_string_lossy().into_owned();
        let data_dir = self.region.data_dir.display();
        let from = self.from;
        let way = format!(
            "env NODESTEAD_DATA_DIR={data_dir} {program} shell {from} -- busybox nc -w 5 %h 22"
        );
        let mut ssh = Command::new("ssh");
        for option in [
            "BatchMode=yes",
            "ConnectTimeout=5",
            "StrictHostKeyChecking=no",
            "UserKnownHostsFile=/dev/null",
            "LogLevel=ERROR",
            &format!("ProxyCommand={way}"),
        ] {
            ssh.args(["-o", option]);
        }
        ssh.arg("-i").arg(self.key).arg(format!("{user}@{address}")).arg(command);
        outcome(&mut ssh)
    }
}

/// One that runs, in the region's first subnet; its id and address.
fn launch(region: &Region, arguments: &[&str]) -> anyhow::Result<(String, String)> {
    let subnet = region.subnet()?;
    let image = match arguments.contains(&"--image-id") {
        true => Vec::new(),
        false => {
            let found = region.aws(&["ec2", "describe-images", "--owners", "amazon"])?;
            let image = found["Images"][0]["ImageId"].as_str().context("an image")?.to_owned();
            vec!["--image-id".to_owned(), image]
        }
    };
    let image: Vec<&str> = image.iter().map(String::as_str).collect();
    let common = ["ec2", "run-instances", "--instance-type", "t3.small", "--subnet-id", &subnet];
    let made = region.aws(&[&common[..], &image, arguments].concat())?;
    let id = made["Instances"][0]["InstanceId"].as_str().context("an instance")?.to_owned();
    region.aws(&["ec2", "wait", "instance-running", "--instance-ids", &id]).ok();
    let found = region.aws(&["ec2", "describe-instances", "--instance-ids", &id])?;
    let instance = &found["Reservations"][0]["Instances"][0];
    Ok((id, instance["PrivateIpAddress"].as_str().context("an address")?.to_owned()))
}

fn terminate(region: &Region, id: &str) -> anyhow::Result<()> {
    region.aws(&["ec2", "terminate-instances", "--instance-ids", id]).map(drop)
}

fn group(region: &Region, name: &str) -> anyhow::Result<String> {
    let create = ["ec2", "create-security-group", "--group-name", name, "--description", name];
    let made = region.aws(&create)?;
    Ok(made["GroupId"].as_str().context("a security group")?.to_owned())
}

fn a_key_pair_lets_in(region: &Region) -> anyhow::Result<()> {
    let folder = tempfile::tempdir()?;
    let key = folder.path().join("mine.pem");
    let create = ["ec2", "create-key-pair", "--key-name", "mine", "--key-type", "ed25519"];
    let made = region.aws(&create)?;
    fs::write(&key, made["KeyMaterial"].as_str().context("a private key")?)?;
    fs::set_permissions(&key, fs::Permissions::from_mode(0o600))?;
    let closed = group(region, "closed")?;
    let arguments = ["--key-name", "mine", "--security-group-ids", &closed];
    let (id, address) = launch(region, &arguments)?;
    let nodes = region.running_instances()?;
    let from = nodes.iter().find(|it| **it != id).context("another instance")?;
    let ssh = Ssh { region, from, key: &key };
    let (is_in, _) = ssh.run(&address, "ec2-user", "true")?;
    ensure!(!is_in, "nothing lets him in");
    let cidr = ["--protocol", "tcp", "--port", "22", "--cidr", "192.168.0.0/16"];
    let allow = ["ec2", "authorize-security-group-ingress", "--group-id", &closed];
    region.aws(&[&allow[..], &cidr].concat())?;
    let said = eventually("he is let in", seconds(60), || {
        let (is_in, said) = ssh.run(&address, "ec2-user", "id -un; sudo id -un; hostname")?;
        Ok(is_in.then_some(said))
    })?;
    let lines: Vec<&str> = said.lines().collect();
    ensure!(lines.len() == 3 && lines[..2] == ["ec2-user", "root"], "{said}");
    ensure!(lines[2].starts_with("ip-192-168-"), "{said}");
    let (is_in, _) = ssh.run(&address, "root", "true")?;
    ensure!(!is_in, "root does not log in");
    let console = region.aws(&["ec2", "get-console-output", "--instance-id", &id, "--latest"])?;
    let console = console["Output"].as_str().unwrap_or_default();
    ensure!(console.contains("BEGIN SSH HOST KEY FINGERPRINTS"), "{console}");
    terminate(region, &id)?;
    region.aws(&["ec2", "delete-key-pair", "--key-name", "mine"])?;
    eventually("the group can go", seconds(60), || {
        let delete = ["ec2", "delete-security-group", "--group-id", &closed];
        Ok(region.aws(&delete).is_ok().then_some(()))
    })
}

fn an_own_image_boots(region: &Region) -> anyhow::Result<()> {
    let snapshot = region.import(&[("etc/motd", "of our own\n"), ("opt/tool/version", "7\n")])?;
    let device = format!("DeviceName=/dev/xvda,Ebs={{SnapshotId={snapshot}}}");
    let register = ["ec2", "register-image", "--name", "own", "--architecture", "x86_64"];
    let devices = ["--root-device-name", "/dev/xvda", "--block-device-mappings", &device];
    let made = region.aws(&[&register[..], &devices].concat())?;
    let image = made["ImageId"].as_str().context("an image")?.to_owned();
    let (id, _) = launch(region, &["--image-id", &image])?;
    let shell = |command: &str| {
        run(&mut nodestead(&region.data_dir, &["shell", &id, "--", "sh", "-c", command]))
    };
    let said = shell("cat /etc/motd /opt/tool/version; test -x /usr/bin/containerd && echo usr")?;
    ensure!(said == "of our own\n7\nusr\n", "{said}");
    region.aws(&["ec2", "deregister-image", "--image-id", &image])?;
    region.aws(&["ec2", "delete-snapshot", "--snapshot-id", &snapshot])?;
    region.aws(&["ec2", "reboot-instances", "--instance-ids", &id])?;
    eventually("it boots from what it had", seconds(60), || {
        Ok(shell("cat /etc/motd").is_ok_and(|it| it == "of our own\n").then_some(()))
    })?;
    let folder = region.data_dir.join("ami/snapshots").join(&snapshot);
    ensure!(folder.exists(), "an instance lies over it");
    terminate(region, &id)?;
    eventually("the files go with the last instance", seconds(60), || {
        Ok((!folder.exists()).then_some(()))
    })
}

impl Region {
    /// A snapshot of a root file system with these files.
    pub(crate) fn import(&self, files: &[(&str, &str)]) -> anyhow::Result<String> {
        let folder = tempfile::tempdir()?;
        for (path, text) in files {
            let path = folder.path().join(path);
            fs::create_dir_all(path.parent().context("a path below the root")?)?;
            fs::write(path, text)?;
        }
        let root = folder.path().to_string_lossy();
        let import = ["image", "import", &root, "-o", "json"];
        let said: Value = serde_json::from_str(&run(&mut nodestead(&self.data_dir, &import))?)?;
        Ok(said["snapshotId"].as_str().context("a snapshot")?.to_owned())
    }
}
