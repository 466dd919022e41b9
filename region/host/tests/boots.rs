//! An instance boots, runs containerd, is stopped, boots again and leaves nothing behind.
//!
//! The test program plays the part of `nodestead`: it starts itself as launcher, as init and as
//! nodeadm, so it has a `main` of its own. Without root it says that it did not run.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test")]

use std::{
    collections::BTreeSet,
    fs,
    io::{Read, Write},
    panic::AssertUnwindSafe,
    path::{Path, PathBuf},
    process::{ExitCode, Stdio},
    sync::Arc,
    time::Duration,
};

use api_cri::v1;
use clap::Args;
use futures::FutureExt;
use linux_cgroup::Cgroup;
use linux_netlink::Netlink;
use nodeadm::{Facts, node_config::NodeConfig};
use region_host::{Condition, HostSpec, Hosts, ami};

const NAME: &str = "an_instance_boots_runs_containerd_and_leaves_nothing_behind";

const PAUSE: &str = "602401143452.dkr.ecr.us-east-1.amazonaws.com/eks/pause:3.10";

type BoxError = Box<dyn std::error::Error + Send + Sync>;
type Outcome = Result<(), BoxError>;

fn main() -> ExitCode {
    let args: Vec<String> = std::env::args().collect();
    let words: Vec<&str> = args.iter().map(String::as_str).collect();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let outcome = match words[1..] {
        ["run", "host-launch", ..] => {
            let args = parse::<region_host::launch::command::Args>(&args[2..]);
            runtime.block_on(region_host::launch::command::run(args))
        }
        ["run", "init", ..] => {
            runtime.block_on(node_init::command::run(parse::<node_init::command::Args>(&args[2..])))
        }
        // Nobody is let in: there is no metadata service to ask for a key.
        ["run", "nodeadm", "access"] => Ok(()),
        ["run", "nodeadm", ..] => configure(),
        // What cargo-nextest asks for.
        _ if words.contains(&"--list") => {
            if !words.contains(&"--ignored") {
                println!("{NAME}: test");
            }
            Ok(())
        }
        _ if !nix::unistd::geteuid().is_root() => {
            println!("{NAME} ... not run: it needs root");
            Ok(())
        }
        _ => runtime.block_on(test()),
    };
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("{}", telemetry::chain(&*error));
            ExitCode::FAILURE
        }
    }
}

fn parse<A: Args>(args: &[String]) -> A {
    let command = A::augment_args(clap::Command::new("test"));
    A::from_arg_matches(&command.get_matches_from(args)).unwrap()
}

/// Stands for nodeadm, which has no metadata service here: the same files, from made-up facts.
/// The kubelet's configuration is left out, so init starts containerd alone.
fn configure() -> Outcome {
    let document = "apiVersion: node.eks.aws/v1alpha1\nkind: NodeConfig\nspec:\n  cluster:\n    \
                    name: c\n    apiServerEndpoint: https://api\n    cidr: 10.100.0.0/16\n    \
                    certificateAuthority: LS0tLS1CRUdJTiBDRVJUSUZJQ0FURS0tLS0tCg==\n";
    let config = NodeConfig::parse(&[document.to_owned()])?.ok_or("no configuration")?;
    let facts = Facts {
        instance_id: "i-1".to_owned(),
        instance_type: "m5.large".to_owned(),
        region: "us-east-1".to_owned(),
        zone: "us-east-1a".to_owned(),
        account: "111122223333".to_owned(),
        address: [192, 168, 0, 12].into(),
        ipv6_address: None,
        domain: "amazonaws.com".to_owned(),
        cpus: 2,
        has_sys_resource: linux_process::has_sys_resource(),
        has_apparmor: false,
        has_crun: has_crun(),
    };
    for file in nodeadm::plan::plan(&config, &facts, "node")?.files {
        let path = Path::new(file.path);
        if path.starts_with("/etc/containerd") {
            fs::create_dir_all(path.parent().ok_or("a file has a folder")?)?;
            fs::write(path, file.content)?;
        }
    }
    Ok(())
}

/// What an instance could leave on the machine.
fn traces(id: &str) -> BTreeSet<String> {
    let mut found = BTreeSet::new();
    found.extend(linux_netns::list().unwrap().into_iter().filter(|it| it.contains(id)));
    let mounts = linux_mount::mounts().unwrap();
    found.extend(
        mounts.iter().map(|it| it.target.display().to_string()).filter(|it| it.contains(id)),
    );
    let layout = linux_cgroup::Layout::detect().unwrap();
    for hierarchy in &layout.hierarchies {
        let folder = hierarchy.mount.join("nst-t-boots");
        found.extend(folder.exists().then(|| folder.display().to_string()));
    }
    for pid in linux_process::all().unwrap() {
        let command = fs::read_to_string(format!("/proc/{pid}/cmdline")).unwrap_or_default();
        found.extend(command.contains(id).then(|| format!("process {pid}: {command}")));
    }
    found
}

async fn test() -> Outcome {
    let base = PathBuf::from(format!("/var/tmp/nst-t-boots-{}", std::process::id()));
    let result = in_folder(&base).await;
    linux_mount::remove_tree(&base)?;
    if result.is_ok() {
        println!("test {NAME} ... ok");
    }
    result
}

async fn in_folder(base: &Path) -> Outcome {
    let id = format!("i-{:017x}", std::process::id());
    let hosts = Hosts::new(&base.join("instances"))?;
    let image = base.join("ami");
    let pause = (PathBuf::from("opt/nodestead/images/pause.tar"), pause_image(base)?, 0o644);
    ami::build(&image, &ami::Ami { region_ca_pem: "", files: vec![pause] })?;
    let spec = HostSpec {
        instance_id: id.clone(),
        hostname: "ip-192-168-0-12.ec2.internal".to_owned(),
        vcpus: 16,
        threads_per_core: 2,
        memory_bytes: 4 << 30,
        folder: hosts.folder_of(&id),
        ami: image,
        image: None,
        binary: std::env::current_exe()?,
        netns: format!("nst-t-{id}"),
        cgroup: format!("nst-t-boots/{id}"),
        resolver: [192, 168, 0, 2].into(),
        search_domain: "ec2.internal".to_owned(),
        init: HostSpec::default_init(),
        boot: 1,
    };
    let host_name = nix::unistd::gethostname()?;
    let booting = AssertUnwindSafe(boot_twice(&hosts, &spec));
    // A failed assertion, too, must leave the machine as it was.
    let outcome =
        booting.catch_unwind().await.unwrap_or_else(|_| Err("an assertion failed".into()));
    if outcome.is_err() {
        eprintln!("console:\n{}", hosts.console(&id, 16 << 10)?);
    }
    hosts.terminate(&spec.remains()).await?;
    hosts.terminate(&spec.remains()).await?;
    outcome?;
    assert_eq!(traces(&id), BTreeSet::new());
    assert!(!spec.folder.exists());
    assert_eq!(nix::unistd::gethostname()?, host_name);
    Ok(())
}

async fn boot_twice(hosts: &Hosts, spec: &HostSpec) -> Outcome {
    let id = &spec.instance_id;
    assert!(hosts.ensure(spec).await?);
    assert!(!hosts.ensure(spec).await?, "a running instance is not started again");
    let first = running(hosts, id);
    look_around(hosts, id).await?;
    terminal(hosts, id).await?;
    leave_trace(spec)?;
    versions(hosts, id).await?;
    sandbox(hosts, id).await?;
    fork_bomb(hosts, spec).await?;
    hibernation(hosts, spec).await?;
    hosts.stop(id, Duration::from_secs(20)).await?;
    assert_eq!(hosts.find(id)?.unwrap().condition, Condition::Stopped);

    // What a boot leaves in the network is not there at the next.
    assert!(has_trace(spec)?);
    hosts.prepare(spec).await?;
    assert!(!has_trace(spec)?);
    leave_trace(spec)?;

    // A power loss is seen as a stop, and what was written is there after the next boot.
    assert!(hosts.ensure(spec).await?);
    assert!(has_trace(spec)?, "renewed once, so that interfaces can be put in before the boot");
    let second = running(hosts, id);
    assert_ne!(first, second);
    assert_eq!(output(hosts, id, &["cat", "/root/kept"]).await?, "kept\n");
    second.signal(linux_process::Signal::SIGKILL)?;
    tokio::time::timeout(Duration::from_secs(10), hosts.ended(id)).await??;
    assert_eq!(hosts.find(id)?.unwrap().condition, Condition::Stopped);
    assert_eq!(hosts.find(id)?.unwrap().boots, 2);
    switch_from_within(hosts, spec).await?;
    damage(hosts, spec).await?;
    own_programs(hosts, spec).await
}

/// From an image with programs of its own nothing of the machine's `/usr` is there.
async fn own_programs(hosts: &Hosts, spec: &HostSpec) -> Outcome {
    let id = &spec.instance_id;
    hosts.terminate(&spec.remains()).await?;
    let base = spec.ami.parent().ok_or("a folder")?;
    let spec = HostSpec { image: Some(distribution(base)?), ..spec.clone() };
    hosts.prepare(&spec).await?;
    assert!(hosts.ensure(&spec).await?);
    assert_eq!(output(hosts, id, &["ls", "/usr/bin"]).await?, "busybox\ncat\nls\n");
    assert_eq!(output(hosts, id, &["cat", "/etc/os-release"]).await?, "ID=own\n");
    // What it lacks shows through.
    assert!(output(hosts, id, &["cat", "/etc/passwd"]).await?.contains("ec2-user"));
    Ok(())
}

/// The least that our own program runs on, and busybox.
fn distribution(base: &Path) -> Result<PathBuf, BoxError> {
    let (source, image) = (base.join("distribution"), base.join("image"));
    for folder in ["usr/bin", "usr/lib64", "usr/lib/x86_64-linux-gnu", "etc"] {
        fs::create_dir_all(source.join(folder))?;
    }
    std::os::unix::fs::symlink("usr/lib64", source.join("lib64"))?;
    std::os::unix::fs::symlink("usr/lib", source.join("lib"))?;
    fs::write(source.join("etc/os-release"), "ID=own\n")?;
    fs::copy("/usr/bin/busybox", source.join("usr/bin/busybox"))?;
    for name in ["cat", "ls"] {
        std::os::unix::fs::symlink("busybox", source.join("usr/bin").join(name))?;
    }
    fs::copy("/lib64/ld-linux-x86-64.so.2", source.join("usr/lib64/ld-linux-x86-64.so.2"))?;
    let libraries = std::process::Command::new("ldd").arg(std::env::current_exe()?).output()?;
    let libraries = String::from_utf8(libraries.stdout)?;
    for path in libraries.lines().filter_map(|it| it.split(" => ").nth(1)?.split(' ').next()) {
        let name = Path::new(path).file_name().ok_or("a library's name")?;
        fs::copy(path, source.join("usr/lib/x86_64-linux-gnu").join(name))?;
    }
    region_host::image::import(&source, &image)?;
    Ok(image)
}

/// What ends an instance from within: a reboot is an end like any other, after which it is booted
/// again; a power-off says so.
async fn switch_from_within(hosts: &Hosts, spec: &HostSpec) -> Outcome {
    let id = &spec.instance_id;
    for (command, expected) in [
        (&["reboot"][..], Condition::Stopped),
        (&["poweroff"], Condition::PoweredOff),
        (&["shutdown", "-r", "now"], Condition::Stopped),
        (&["shutdown", "-h", "now"], Condition::PoweredOff),
    ] {
        assert!(hosts.ensure(spec).await?);
        output(hosts, id, command).await?;
        tokio::time::timeout(Duration::from_secs(30), hosts.ended(id)).await??;
        assert_eq!(hosts.find(id)?.unwrap().condition, expected, "{command:?}");
    }
    Ok(())
}

/// Damaged descriptions are mended, without a loss of the disk.
async fn damage(hosts: &Hosts, spec: &HostSpec) -> Outcome {
    let id = &spec.instance_id;
    assert!(hosts.ensure(spec).await?);
    let init = running(hosts, id);
    fs::write(spec.folder.join("spec.json"), "{")?;
    assert!(hosts.find(id).is_err());
    hosts.mend(spec).await?;
    assert_eq!(running(hosts, id), init, "nobody had to end it for that");
    fs::write(spec.folder.join("state.json"), "{")?;
    hosts.mend(spec).await?;
    assert!(!init.is_alive(), "what cannot be found again does not run on");
    assert_eq!(hosts.find(id)?.unwrap().condition, Condition::Prepared);
    assert!(hosts.ensure(spec).await?);
    assert_eq!(output(hosts, id, &["cat", "/root/kept"]).await?, "kept\n");
    // Its end needs neither.
    fs::write(spec.folder.join("spec.json"), "{")?;
    fs::write(spec.folder.join("state.json"), "{")?;
    Ok(())
}

fn running(hosts: &Hosts, id: &str) -> linux_process::Identity {
    match hosts.find(id).unwrap().unwrap().condition {
        Condition::Running(init) => init,
        other => panic!("{other:?}"),
    }
}

const TRACE: std::net::Ipv4Addr = std::net::Ipv4Addr::new(198, 51, 100, 1);

/// Puts an address into the instance's network.
fn leave_trace(spec: &HostSpec) -> Outcome {
    let netlink = Netlink::at(&linux_netns::path(&spec.netns))?;
    let lo = netlink.link_by_name("lo")?.ok_or("no loopback")?;
    Ok(netlink.add_address(lo.index, std::net::IpAddr::from(TRACE).into())?)
}

fn has_trace(spec: &HostSpec) -> Result<bool, BoxError> {
    let netlink = Netlink::at(&linux_netns::path(&spec.netns))?;
    Ok(netlink.addresses()?.iter().any(|it| it.net.addr() == TRACE))
}

/// The instance is itself, and does not see the machine.
async fn look_around(hosts: &Hosts, id: &str) -> Outcome {
    let script = "hostname; nproc --all; head -1 /proc/meminfo; ls /home /root; \
                  cat /sys/devices/system/cpu/online; \
                  grep -c ^processor /proc/cpuinfo; echo $$; \
                  touch /usr/x 2>/dev/null || echo read-only; \
                  test -e /work || echo hidden; ls /dev/vda /dev/sda 2>/dev/null; \
                  echo said-in-the-instance > /dev/kmsg; \
                  dmesg | grep -q . || echo no log of the machine; mknod /root/k c 1 11; \
                  { sh -c \"true < /root/k\" 2>/dev/null || echo nor by another name; }; \
                  grep -sq Y /sys/module/apparmor/parameters/enabled || echo unarmoured; \
                  { echo 'b *:* rw' > /sys/fs/cgroup/devices/devices.allow; } 2>/dev/null; \
                  mknod /root/disk b $(sed -n '3s/ *\\([0-9]*\\) *\\([0-9]*\\) .*/\\1 \\2/p' /proc/partitions) && \
                  { head -c 1 /root/disk > /dev/null 2>&1 || echo no disk; }; \
                  echo 7 > /proc/sys/kernel/panic; echo kept > /root/kept; \
                  cat /proc/1/cmdline | tr '\\0' ' '; ls /sys/fs/cgroup | head -1";
    let seen = output(hosts, id, &["sh", "-c", script]).await?;
    println!("{seen}");
    for wanted in [
        "ip-192-168-0-12.ec2.internal\n",
        "4194304 kB\n",
        "\n0-15\n",
        "\n16\n",
        "read-only\nhidden\n",
        "no log of the machine\n",
        "unarmoured\n",
        "run init",
    ] {
        assert!(seen.contains(wanted), "`{wanted}` is not in:\n{seen}");
    }
    if linux_cgroup::Layout::detect()?.can_deny_devices_of_machine() {
        assert!(seen.contains("no disk\n"), "a disk can be read:\n{seen}");
        assert!(seen.contains("nor by another name\n"), "the kernel's log can be read:\n{seen}");
    }
    assert_ne!(fs::read_to_string("/proc/sys/kernel/panic")?, "7\n", "leaked to the machine");
    assert!(!seen.contains("/dev/vda"));
    Ok(())
}

/// What forks for ever in an instance fills the instance's part of the machine's processes.
async fn fork_bomb(hosts: &Hosts, spec: &HostSpec) -> Outcome {
    let cgroup = Cgroup::new(Arc::new(linux_cgroup::Layout::detect()?), &spec.cgroup);
    let Some(folder) = cgroup.folder("pids") else { return Ok(()) };
    let number =
        |path: &Path| -> Result<u64, BoxError> { Ok(fs::read_to_string(path)?.trim().parse()?) };
    let most = number(&folder.join("pids.max"))?;
    assert!(most <= (4 << 30) / (128 << 10), "more than 4 GiB hold: {most}");
    let around = number(&folder.with_file_name("pids.max"))?;
    let ids = number(Path::new("/proc/sys/kernel/pid_max"))?;
    assert!(most <= around && around <= ids / 2, "{most} of {around} of {ids}");
    // The bound itself takes this machine a while: a lower one is as real.
    let few = number(&folder.join("pids.current"))? + 200;
    cgroup.set_pids_limit(few)?;
    let script = "exec > /dev/null 2>&1; bomb() { if [ $1 -gt 0 ]; then bomb $(($1-1)) & \
                  bomb $(($1-1)) & fi; sleep 60; }; (bomb 10) & sleep 3";
    output(hosts, &spec.instance_id, &["bash", "-c", script]).await?;
    // Older kernels count a refusal where it was tried, whichever limit it met.
    let below = fs::read_dir(&folder)?.flatten().map(|it| it.path());
    let events = below.chain([folder.clone()]).filter_map(|it| {
        fs::read_to_string(it.join("pids.events")).ok().filter(|it| !it.starts_with("max 0"))
    });
    assert!(events.count() > 0, "nothing was refused");
    assert!(number(&folder.join("pids.current"))? <= few);
    assert!(std::process::Command::new("true").status()?.success(), "the machine forks on");
    // They end with what is left of them: nothing else is killed, and no more are made meanwhile.
    cgroup.set_pids_limit(0)?;
    let is_bomb = |pid: &i32| {
        fs::read(format!("/proc/{pid}/cmdline"))
            .is_ok_and(|it| it.windows(4).any(|it| it == b"bomb"))
    };
    let bombs = cgroup.pids().into_iter().filter(is_bomb).filter_map(linux_process::Identity::of);
    for bomb in bombs.collect::<Vec<_>>() {
        // One that has just ended is as good.
        drop(bomb.signal(linux_process::Signal::SIGKILL));
        assert!(bomb.wait(Duration::from_secs(10)));
    }
    cgroup.set_pids_limit(most)?;
    assert!(output(hosts, &spec.instance_id, &["ctr", "version"]).await?.contains("Server:"));
    Ok(())
}

/// What runs stands still, keeps what it has in memory, takes no CPU, and goes on in the same boot.
async fn hibernation(hosts: &Hosts, spec: &HostSpec) -> Outcome {
    let id = &spec.instance_id;
    let (first, boot_id) = (running(hosts, id), hosts.boot_id(id));
    let script = "(word=kept; until test -e /tmp/go; do :; done; echo $word > /tmp/said) \
                  > /dev/null 2>&1 &";
    output(hosts, id, &["bash", "-c", script]).await?;
    let cgroup = Cgroup::new(Arc::new(linux_cgroup::Layout::detect()?), &spec.cgroup);
    let used = || cgroup.cpu_stats().map(|it| it.usage);
    hosts.hibernate(id).await?;
    hosts.hibernate(id).await?;
    assert_eq!(hosts.find(id)?.unwrap().condition, Condition::Hibernated(first));
    assert!(output(hosts, id, &["true"]).await.is_err(), "nobody gets in");
    let before = used().unwrap();
    tokio::time::sleep(Duration::from_millis(300)).await;
    // The way into the freezer is counted a little late; the loop would take all of the time.
    assert!(used().unwrap() - before < Duration::from_millis(10), "something runs on");
    hosts.prepare(spec).await?;
    assert!(!hosts.ensure(spec).await?, "it goes on, and is not started");
    assert_eq!(running(hosts, id), first);
    assert_eq!(hosts.boot_id(id), boot_id);
    let script = "touch /tmp/go; timeout 10 sh -c 'until test -s /tmp/said; do sleep 0.01; done'; \
                  cat /tmp/said";
    assert_eq!(output(hosts, id, &["bash", "-c", script]).await?, "kept\n");
    // One that is stopped while it hibernates is not woken for that.
    hosts.hibernate(id).await?;
    let limit = Duration::from_secs(10);
    tokio::time::timeout(limit, hosts.stop(id, Duration::from_secs(60))).await??;
    assert_eq!(hosts.find(id)?.unwrap().condition, Condition::Stopped);
    Ok(())
}

/// A session has a terminal that programs inside know by name, and ends with its program's code.
async fn terminal(hosts: &Hosts, id: &str) -> Outcome {
    let argv = ["sh", "-c", "tty; read line; echo got $line; exit 3"].map(str::to_owned);
    let (mut child, outer) = hosts.exec_on_terminal(id, &argv)?;
    let seen = tokio::task::spawn_blocking(move || {
        let mut outer = fs::File::from(outer);
        outer.write_all(b"typed\n")?;
        let mut seen = Vec::new();
        // A terminal without programs is an error to read from.
        outer.read_to_end(&mut seen).ok();
        let code = child.wait()?.code();
        Ok::<_, std::io::Error>((String::from_utf8_lossy(&seen).into_owned(), code))
    });
    let (seen, code) = seen.await??;
    assert!(seen.contains("/dev/pts/") && seen.contains("got typed"), "{seen}");
    assert_eq!(code, Some(3));
    Ok(())
}

async fn versions(hosts: &Hosts, id: &str) -> Outcome {
    // containerd answers as soon as it listens: `ctr` itself waits for the socket that long.
    let script = "timeout 20 sh -c 'until ctr version 2>/dev/null; do sleep 0.1; done'";
    let seen = output(hosts, id, &["sh", "-c", script]).await?;
    assert!(seen.contains("Server:"), "{seen}");
    let plugins = output(hosts, id, &["ctr", "plugins", "ls"]).await?;
    let cri = plugins.lines().find(|it| it.split_whitespace().nth(1) == Some("cri"));
    assert!(cri.is_some_and(|it| it.trim_end().ends_with("ok")), "{plugins}");
    Ok(())
}

/// A pod's sandbox and a privileged container in it, as a kubelet asks for them.
async fn sandbox(hosts: &Hosts, id: &str) -> Outcome {
    let pid = running(hosts, id).pid;
    let socket = format!("/proc/{pid}/root/run/containerd/containerd.sock");
    let channel = api_cri::connect(&socket)?;
    let (mut runtime, mut images) =
        (api_cri::RuntimeClient::new(channel.clone()), api_cri::ImageClient::new(channel));
    let imported = async {
        let image = Some(v1::ImageSpec { image: PAUSE.to_owned(), ..Default::default() });
        let request = v1::ImageStatusRequest { image, verbose: false };
        // Init imports it once containerd is ready.
        loop {
            let status = images.image_status(request.clone()).await;
            if status.is_ok_and(|it| it.into_inner().image.is_some()) {
                return;
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(20), imported).await?;
    pod_runs(&mut runtime, id, "").await?;
    if has_crun() { pod_runs(&mut runtime, id, "crun").await } else { Ok(()) }
}

fn has_crun() -> bool {
    Path::new("/usr/bin/crun").exists()
}

async fn pod_runs(runtime: &mut api_cri::RuntimeClient, id: &str, handler: &str) -> Outcome {
    let config = pod(handler);
    let request = v1::RunPodSandboxRequest {
        config: Some(config.clone()),
        runtime_handler: handler.to_owned(),
    };
    let sandbox = runtime.run_pod_sandbox(request).await?.into_inner().pod_sandbox_id;
    let request = v1::CreateContainerRequest {
        pod_sandbox_id: sandbox.clone(),
        config: Some(container()),
        sandbox_config: Some(config),
    };
    let container_id = runtime.create_container(request).await?.into_inner().container_id;
    runtime
        .start_container(v1::StartContainerRequest { container_id: container_id.clone() })
        .await?;
    let script = "hostname; id -u; head -1 /proc/self/cgroup";
    let request = v1::ExecSyncRequest {
        container_id,
        cmd: ["/busybox", "sh", "-c", script].map(str::to_owned).to_vec(),
        timeout: 10,
    };
    let seen = String::from_utf8(runtime.exec_sync(request).await?.into_inner().stdout)?;
    assert!(seen.starts_with("ip-192-168-0-12"), "{seen}");
    let layout = linux_cgroup::Layout::detect()?;
    let folder = layout.folder("memory", &format!("nst-t-boots/{id}/kubepods/pod{handler}"));
    assert!(folder.is_some_and(|it| it.is_dir()), "the pod is not in the instance's cgroup");
    runtime.stop_pod_sandbox(v1::StopPodSandboxRequest { pod_sandbox_id: sandbox }).await?;
    Ok(())
}

/// A pod on the instance's own network.
fn pod(uid: &str) -> v1::PodSandboxConfig {
    let security = v1::LinuxSandboxSecurityContext {
        namespace_options: Some(v1::NamespaceOption {
            network: v1::NamespaceMode::Node.into(),
            ..Default::default()
        }),
        privileged: true,
        ..Default::default()
    };
    v1::PodSandboxConfig {
        metadata: Some(v1::PodSandboxMetadata {
            name: "p".to_owned(),
            uid: uid.to_owned(),
            namespace: "n".to_owned(),
            attempt: 0,
        }),
        log_directory: format!("/var/log/pods/n_p_{uid}"),
        linux: Some(v1::LinuxPodSandboxConfig {
            cgroup_parent: format!("/kubepods/pod{uid}"),
            security_context: Some(security),
            ..Default::default()
        }),
        ..Default::default()
    }
}

fn container() -> v1::ContainerConfig {
    v1::ContainerConfig {
        metadata: Some(v1::ContainerMetadata { name: "c".to_owned(), attempt: 0 }),
        image: Some(v1::ImageSpec { image: PAUSE.to_owned(), ..Default::default() }),
        linux: Some(v1::LinuxContainerConfig {
            security_context: Some(v1::LinuxContainerSecurityContext {
                privileged: true,
                ..Default::default()
            }),
            ..Default::default()
        }),
        ..Default::default()
    }
}

/// The pause image of these tests is busybox.
fn pause_image(base: &Path) -> Result<Vec<u8>, BoxError> {
    let mut layer = oci_archive::Layer::new()?;
    layer.add_file("busybox", &fs::read("/bin/busybox")?, 0o755)?;
    let image = oci_archive::Image {
        name: PAUSE.to_owned(),
        entrypoint: ["/busybox", "sleep", "100000"].map(str::to_owned).to_vec(),
        layer: layer.finish()?,
        ..oci_archive::Image::default()
    };
    fs::create_dir_all(base)?;
    image.write(&base.join("pause.tar"))?;
    Ok(fs::read(base.join("pause.tar"))?)
}

async fn output(
    hosts: &Hosts,
    id: &str,
    argv: &[&str],
) -> Result<String, Box<dyn std::error::Error + Send + Sync>> {
    let argv: Vec<String> = argv.iter().map(|&it| it.to_owned()).collect();
    let child = hosts.exec(id, &argv, [Stdio::null(), Stdio::piped(), Stdio::inherit()])?;
    let output = tokio::task::spawn_blocking(move || child.wait_with_output()).await??;
    Ok(String::from_utf8(output.stdout)?)
}
