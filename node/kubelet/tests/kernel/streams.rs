//! exec, attach, port-forward and what kubectl builds on them, over WebSocket and over SPDY.

use std::{
    net::SocketAddr,
    path::{Path, PathBuf},
    process::Stdio,
    time::Duration,
};

use serde_json::{Value, json};
use tokio::{
    io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader, Lines},
    process::{Child, ChildStdout, Command},
};
use transport::Place;

use crate::support::{Bed, IMAGE, LIMIT, NODE, Running};

/// Long enough for a hundred megabytes through an unoptimized build.
const LONG: Duration = Duration::from_secs(180);
const LARGE: usize = 100 << 20;

#[derive(Clone, Copy, Debug)]
enum Protocol {
    WebSocket,
    Spdy,
}

const BOTH: [Protocol; 2] = [Protocol::WebSocket, Protocol::Spdy];

/// An unmodified kubectl.
struct Kubectl {
    config: PathBuf,
    protocol: Protocol,
}

struct Ran {
    out: Vec<u8>,
    err: String,
    code: Option<i32>,
}

impl Ran {
    fn text(&self) -> String {
        String::from_utf8_lossy(&self.out).into_owned()
    }
}

impl Kubectl {
    fn new(config: &Path, protocol: Protocol) -> Self {
        Self { config: config.to_owned(), protocol }
    }

    fn command(&self, program: &str, arguments: &[&str]) -> Command {
        let uses = matches!(self.protocol, Protocol::WebSocket).to_string();
        let mut command = Command::new(program);
        command
            .args(arguments)
            .env("KUBECONFIG", &self.config)
            .env("KUBECTL_REMOTE_COMMAND_WEBSOCKETS", &uses)
            .env("KUBECTL_PORT_FORWARD_WEBSOCKETS", &uses)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .kill_on_drop(true);
        command
    }

    async fn run(&self, arguments: &[&str], stdin: &[u8]) -> Ran {
        self.finish(self.command("kubectl", arguments), stdin).await
    }

    async fn finish(&self, mut command: Command, stdin: &[u8]) -> Ran {
        let mut child = command.spawn().unwrap();
        let mut input = child.stdin.take().unwrap();
        let writing = async {
            // A command that ends early does not read all.
            drop(input.write_all(stdin).await);
            drop(input);
        };
        let both = async { tokio::join!(writing, child.wait_with_output()).1 };
        let done = tokio::time::timeout(LONG, both).await.expect("kubectl ends").unwrap();
        let err = String::from_utf8_lossy(&done.stderr).into_owned();
        Ran { out: done.stdout, err, code: done.status.code() }
    }

    /// Types a line, and reads until a line that contains `until`. Input stays open: the runtime
    /// detaches from a container whose input may be opened again when a caller's ends.
    async fn talk(&self, arguments: &[&str], line: &str, until: &str) -> String {
        let mut child = self.command("kubectl", arguments).spawn().unwrap();
        child.stdin.as_mut().unwrap().write_all(line.as_bytes()).await.unwrap();
        let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
        let mut heard = String::new();
        while !heard.contains(until) {
            let next = tokio::time::timeout(LIMIT, lines.next_line()).await;
            let protocol = self.protocol;
            match next.unwrap_or_else(|_| panic!("{protocol:?} {arguments:?}: {heard}")).unwrap() {
                Some(line) => heard = heard + &line + "\n",
                None => {
                    let mut said = String::new();
                    child.stderr.take().unwrap().read_to_string(&mut said).await.unwrap();
                    panic!("{protocol:?} {arguments:?}: {heard}{said}");
                }
            }
        }
        child.kill().await.unwrap();
        heard
    }

    /// `port-forward` to some ports, and where it listens for each.
    async fn forward(&self, pod: &str, ports: &[u16]) -> (Forwarding, Vec<SocketAddr>) {
        let ports: Vec<String> = ports.iter().map(|it| format!(":{it}")).collect();
        let mut arguments = vec!["port-forward", "--address=127.0.0.1", pod];
        arguments.extend(ports.iter().map(String::as_str));
        let mut child = self.command("kubectl", &arguments).spawn().unwrap();
        let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
        let mut addresses = Vec::new();
        while addresses.len() < ports.len() {
            let line = tokio::time::timeout(LIMIT, lines.next_line()).await.unwrap().unwrap();
            // `Forwarding from 127.0.0.1:40001 -> 8080`
            let line = line.expect("kubectl says where it listens");
            addresses.push(line.split(' ').nth(2).unwrap().parse().unwrap());
        }
        (Forwarding { child, _lines: lines }, addresses)
    }
}

/// A `port-forward`, which ends when nobody reads what it says.
struct Forwarding {
    child: Child,
    _lines: Lines<BufReader<ChildStdout>>,
}

/// A bed whose kubelet and API server are reached over sockets, or why not.
async fn bed(name: &str) -> Option<(Bed, PathBuf, Running)> {
    reachable(Bed::own(name).await?, name).await
}

/// One whose test counts descriptors.
async fn bed_alone(name: &str) -> Option<(Bed, PathBuf, Running)> {
    reachable(Bed::own_alone(name).await?, name).await
}

async fn reachable(bed: Bed, name: &str) -> Option<(Bed, PathBuf, Running)> {
    if std::process::Command::new("kubectl").args(["version", "--client"]).output().is_err() {
        println!("{name}: not run: needs kubectl");
        return None;
    }
    bed.install_cni();
    let admin = bed.serve_api().await;
    bed.sign_requests().await;
    let kubelet = bed.start_kubelet_command().await;
    bed.until_node("True", "").await;
    Some((bed, admin, kubelet))
}

async fn create(bed: &Bed, name: &str, script: &str) {
    let spec = json!({
        "terminationGracePeriodSeconds": 0,
        "containers": [bed.container("main", script)],
    });
    bed.create_pod(json!({ "metadata": { "name": name }, "spec": spec })).await;
    bed.until_ready(name).await;
}

/// Until the kubelet's serving certificate has been signed.
async fn until_reachable(bed: &Bed, kubectl: &Kubectl, pod: &str) {
    bed.eventually(async || {
        let ran = kubectl.run(&["exec", pod, "--", "true"], b"").await;
        (ran.code == Some(0)).then_some(())
    })
    .await;
}

/// Numbers that no compression or repetition hides a hole in.
fn noise(size: usize) -> Vec<u8> {
    let mut state: u64 = 0x9e37_79b9_7f4a_7c15;
    let mut bytes = Vec::with_capacity(size + 8);
    while bytes.len() < size {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        bytes.extend_from_slice(&state.to_le_bytes());
    }
    bytes.truncate(size);
    bytes
}

/// The processes of this machine, other than kubectl, whose command line has this text.
fn processes(text: &str) -> usize {
    let entries = std::fs::read_dir("/proc").unwrap().flatten();
    let lines = entries.filter_map(|it| std::fs::read(it.path().join("cmdline")).ok());
    let lines = lines.map(|it| String::from_utf8_lossy(&it).replace('\0', " "));
    lines.filter(|it| it.contains(text) && !it.contains("kubectl")).count()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn exec_works_over_both_protocols() {
    let Some((bed, admin, kubelet)) = bed("exec2").await else { return };
    create(&bed, "shell", "exec sleep 1000").await;
    for protocol in BOTH {
        let kubectl = Kubectl::new(&admin, protocol);
        until_reachable(&bed, &kubectl, "shell").await;
        let ran = kubectl.run(&["exec", "-i", "shell", "--", "cat"], b"piped\n").await;
        assert_eq!(
            (ran.text().as_str(), ran.code),
            ("piped\n", Some(0)),
            "{protocol:?} {}",
            ran.err
        );
        let both = "echo out; echo err >&2; exit 7";
        let ran = kubectl.run(&["exec", "shell", "--", "sh", "-c", both], b"").await;
        assert_eq!((ran.text().as_str(), ran.code), ("out\n", Some(7)), "{protocol:?} {}", ran.err);
        assert!(ran.err.starts_with("err\n"), "{protocol:?} {}", ran.err);
        // A process that does not read all of its input ends all the same. (With more than a pipe and
        // the sockets hold, containerd 1.6 never notices the end, whoever asks.)
        let head = ["exec", "-i", "shell", "--", "busybox", "head", "-c", "5"];
        let ran = kubectl.run(&head, &noise(64 << 10)).await;
        assert_eq!((ran.out.as_slice(), ran.code), (&noise(5)[..], Some(0)), "{protocol:?}");
        let ran = kubectl.run(&["exec", "shell", "--", "no-such-command"], b"").await;
        assert!(ran.code != Some(0) && ran.err.contains("no-such-command"), "{}", ran.err);
        let ran = kubectl.run(&["exec", "shell", "-c", "nope", "--", "true"], b"").await;
        assert!(ran.err.contains("container nope is not valid for pod shell"), "{}", ran.err);
        let size = "kubectl exec -it shell -- sh -c 'sleep 0.5; busybox stty size'";
        let script = format!("stty rows 41 cols 101; {size}");
        let terminal = kubectl.command("script", &["-qec", &script, "/dev/null"]);
        let ran = kubectl.finish(terminal, b"").await;
        assert!(ran.text().contains("41 101"), "{protocol:?} {:?}", ran.text());
    }
    bed.delete_pod("shell", 0).await;
    bed.until_gone("shell").await;
    kubelet.kill().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn large_data_passes_both_ways_without_loss() {
    let Some((bed, admin, kubelet)) = bed("large").await else { return };
    create(&bed, "shell", "exec sleep 1000").await;
    let data = noise(LARGE);
    for protocol in BOTH {
        let kubectl = Kubectl::new(&admin, protocol);
        until_reachable(&bed, &kubectl, "shell").await;
        let started = std::time::Instant::now();
        let ran = kubectl.run(&["exec", "-i", "shell", "--", "cat"], &data).await;
        assert_eq!((ran.out.len(), ran.code), (LARGE, Some(0)), "{protocol:?} {}", ran.err);
        assert!(ran.out == data, "{protocol:?}: what came back is not what went");
        println!("{protocol:?}: {} MB there and back in {:?}", LARGE >> 20, started.elapsed());
        // kubectl cp is tar at both ends.
        let here = tempfile::tempdir().unwrap();
        let (source, target) = (here.path().join("a"), here.path().join("b"));
        std::fs::write(&source, &data[..8 << 20]).unwrap();
        let there = format!("shell:/tmp/{protocol:?}");
        let ran = kubectl.run(&["cp", source.to_str().unwrap(), &there], b"").await;
        assert_eq!(ran.code, Some(0), "{protocol:?} {}", ran.err);
        let ran = kubectl.run(&["cp", &there, target.to_str().unwrap()], b"").await;
        assert_eq!(ran.code, Some(0), "{protocol:?} {}", ran.err);
        assert!(std::fs::read(&target).unwrap() == data[..8 << 20], "{protocol:?}");
    }
    bed.delete_pod("shell", 0).await;
    bed.until_gone("shell").await;
    kubelet.kill().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_vanishes_leaves_nothing_behind() {
    let Some((bed, admin, kubelet)) = bed_alone("vanish").await else { return };
    create(&bed, "shell", "exec sleep 1000").await;
    create(&bed, "ends", "until [ -e /tmp/end ]; do sleep 0.1; done").await;
    for protocol in BOTH {
        let kubectl = Kubectl::new(&admin, protocol);
        until_reachable(&bed, &kubectl, "shell").await;
        let before = bed.descriptors();
        // A marker that no other process of the machine carries.
        let marker = format!("nst-{protocol:?}-{}", std::process::id());
        let script = format!("cat > /dev/null; : {marker}");
        let exec = ["exec", "-i", "shell", "--", "sh", "-c", script.as_str()];
        let mut children = Vec::new();
        for _ in 0..5 {
            children.push(kubectl.command("kubectl", &exec).spawn().unwrap());
        }
        bed.eventually(async || (processes(&marker) == 5).then_some(())).await;
        for mut child in children {
            child.kill().await.unwrap();
        }
        bed.eventually(async || (processes(&marker) == 0).then_some(())).await;
        bed.eventually(async || (bed.descriptors() <= before).then_some(())).await;
    }
    let kubectl = Kubectl::new(&admin, Protocol::WebSocket);
    let ending =
        kubectl.run(&["exec", "ends", "--", "sh", "-c", "touch /tmp/end; exec sleep 100"], b"");
    let ran = tokio::time::timeout(LIMIT, ending).await.expect("the container's end is the exec's");
    assert_eq!(ran.code, Some(137), "{}", ran.err);
    for name in ["shell", "ends"] {
        bed.delete_pod(name, 0).await;
        bed.until_gone(name).await;
    }
    kubelet.kill().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn attach_run_and_debug_work_over_both_protocols() {
    let Some((bed, admin, kubelet)) = bed("attach").await else { return };
    create(&bed, "shell", "i=0; while true; do echo tick $i; i=$((i+1)); sleep 0.2; done").await;
    for protocol in BOTH {
        let kubectl = Kubectl::new(&admin, protocol);
        until_reachable(&bed, &kubectl, "shell").await;
        let mut child = kubectl.command("kubectl", &["attach", "shell"]).spawn().unwrap();
        let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
        for _ in 0..3 {
            let line = tokio::time::timeout(LIMIT, lines.next_line()).await.unwrap().unwrap();
            assert!(line.unwrap().starts_with("tick "), "{protocol:?}");
        }
        child.kill().await.unwrap();

        let name = format!("run-{protocol:?}").to_lowercase();
        let overrides = json!({ "spec": { "nodeName": NODE } }).to_string();
        let run = [
            "run",
            &name,
            "-i",
            "--rm",
            "--restart=Never",
            "--image",
            IMAGE,
            "--overrides",
            &overrides,
            "--",
            "sh",
            "-c",
            "read line; echo got $line; exit 3",
        ];
        let ran = kubectl.run(&run, b"hello\n").await;
        assert!(ran.text().contains("got hello\n"), "{protocol:?} {} {}", ran.text(), ran.err);
        assert_eq!(ran.code, Some(3), "{protocol:?} {}", ran.err);

        // The debugger shares the target's processes. It does not end: where stdin is open and not
        // `stdinOnce`, containerd 1.6 detaches stdout as soon as stderr has closed, and what was
        // written last may be lost, whoever the kubelet is.
        let debug = [
            "debug",
            "shell",
            "-i",
            "--image",
            IMAGE,
            "--target=main",
            "--profile=general",
            "--",
            "sh",
            "-c",
            "read line; busybox ps; echo debugged $line; sleep 1000",
        ];
        let said = kubectl.talk(&debug, "well\n", "debugged well").await;
        assert!(said.contains("tick $i"), "{protocol:?} {said}");

        let copy = format!("copy-{protocol:?}").to_lowercase();
        let to = format!("--copy-to={copy}");
        let debug = [
            "debug",
            "shell",
            "-i",
            &to,
            "--same-node",
            "--container=main",
            "--profile=general",
            "--",
            "sh",
            "-c",
            "read line; echo copied $line; sleep 1000",
        ];
        kubectl.talk(&debug, "well\n", "copied well").await;

        let node = format!("node/{NODE}");
        let debug = [
            "debug",
            &node,
            "-i",
            "--image",
            IMAGE,
            "--profile=sysadmin",
            "--",
            "busybox",
            "chroot",
            "/host",
            "/bin/sh",
            "-c",
            "read line; echo host $line; sleep 1000",
        ];
        kubectl.talk(&debug, "reached\n", "host reached").await;
    }
    for pod in bed.pod_names().await {
        bed.delete_pod(&pod, 0).await;
        bed.until_gone(&pod).await;
    }
    bed.until_nothing_is_left().await;
    kubelet.kill().await;
}

async fn get(address: SocketAddr) -> std::io::Result<String> {
    let mut stream = Place::Here.connect(address, LIMIT).await?;
    stream.write_all(b"GET /index.html HTTP/1.0\r\n\r\n").await?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await?;
    Ok(answer)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn port_forward_carries_many_connections_and_tells_of_a_closed_port() {
    let Some((bed, admin, kubelet)) = bed_alone("forward").await else { return };
    let script = "mkdir -p /tmp/www; echo served > /tmp/www/index.html; \
                  busybox dd if=/dev/zero of=/tmp/www/large bs=1M count=8 2>/dev/null; \
                  exec busybox httpd -f -p 127.0.0.1:8080 -h /tmp/www";
    create(&bed, "web", script).await;
    for protocol in BOTH {
        let kubectl = Kubectl::new(&admin, protocol);
        until_reachable(&bed, &kubectl, "web").await;
        let before = bed.descriptors();
        let (mut forwarding, addresses) = kubectl.forward("web", &[8080, 9]).await;
        let (open, closed) = (addresses[0], addresses[1]);
        let served = tokio::time::timeout(LIMIT, get(open)).await.unwrap().unwrap();
        assert!(served.ends_with("served\n"), "{protocol:?} {served}");
        let many = (0..40).map(|_| get(open));
        let all = tokio::time::timeout(LONG, futures::future::join_all(many)).await.unwrap();
        for answer in all {
            assert!(answer.unwrap().ends_with("served\n"), "{protocol:?}");
        }
        let mut stream = Place::Here.connect(open, LIMIT).await.unwrap();
        stream.write_all(b"GET /large HTTP/1.0\r\n\r\n").await.unwrap();
        let mut bytes = Vec::new();
        tokio::time::timeout(LONG, stream.read_to_end(&mut bytes)).await.unwrap().unwrap();
        assert!(bytes.len() > 8 << 20, "{protocol:?} {}", bytes.len());
        drop(stream);
        // kubectl itself ends after the first refusal.
        let refused = tokio::time::timeout(LIMIT, get(closed)).await.expect("it is told");
        assert!(refused.as_ref().map_or(true, String::is_empty), "{protocol:?} {refused:?}");
        drop(forwarding.child.kill().await);
        let said = forwarding.child.stderr.take().unwrap();
        let mut text = String::new();
        BufReader::new(said).read_to_string(&mut text).await.unwrap();
        assert!(
            text.contains("Connection refused") || text.contains("connection refused"),
            "{text}"
        );
        drop(forwarding);
        bed.eventually(async || (bed.descriptors() <= before).then_some(())).await;
    }
    bed.delete_pod("web", 0).await;
    bed.until_gone("web").await;
    kubelet.kill().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn old_channels_of_other_clients_are_understood() {
    let Some(bed) = Bed::new("channels").await else { return };
    bed.install_cni();
    let kubelet = bed.start_kubelet().await;
    bed.until_node("True", "").await;
    create(&bed, "shell", "exec busybox nc -ll -p 8080 -e /bin/busybox cat").await;
    let command = ["/bin/busybox", "sh", "-c", "read line; echo got $line; exit 7"];
    for (protocol, ended) in [
        ("v4.channel.k8s.io", "\"reason\":\"ExitCode\""),
        ("channel.k8s.io", "command terminated with non-zero exit code"),
        ("v4.base64.channel.k8s.io", "\"reason\":\"ExitCode\""),
        ("base64.channel.k8s.io", "command terminated with non-zero exit code"),
    ] {
        let (out, error) = bed.exec_as("shell", "main", &command, protocol, "hello\n").await;
        assert_eq!(out, "got hello\n", "{protocol} {error}");
        assert!(error.contains(ended), "{protocol}: {error}");
    }
    // The channels of a port begin with its number. One that is closed says so and harms no other.
    let [data, error, _, closed] = bed.forward_as("shell", [8080, 9], "echoed\n").await;
    assert_eq!((data.as_slice(), error.as_slice()), (&b"\x90\x1fechoed\n"[..], &b"\x90\x1f"[..]));
    let closed = String::from_utf8_lossy(&closed[2..]).into_owned();
    assert!(closed.contains("refused"), "{closed}");
    bed.delete_pod("shell", 0).await;
    bed.until_gone("shell").await;
    kubelet.kill().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn top_and_explain_tell_of_nodes_and_pods() {
    let Some((bed, admin, kubelet)) = bed("top").await else { return };
    let mut pod = json!({
        "metadata": { "name": "busy", "labels": { "app": "busy" } },
        "spec": {
            "terminationGracePeriodSeconds": 0,
            "containers": [
                bed.container("burns", "while true; do :; done"),
                bed.container("sleeps", "exec sleep 1000"),
            ],
        },
    });
    pod["spec"]["containers"][0]["resources"] = json!({ "limits": { "cpu": "200m" } });
    bed.create_pod(pod).await;
    bed.until_ready("busy").await;
    let kubectl = Kubectl::new(&admin, Protocol::WebSocket);
    until_reachable(&bed, &kubectl, "busy").await;
    let ran = kubectl.run(&["top", "nodes"], b"").await;
    assert!(ran.code == Some(0) && ran.text().contains(NODE), "{} {}", ran.text(), ran.err);
    assert!(!ran.text().contains("<unknown>"), "{}", ran.text());
    let ran =
        kubectl.run(&["top", "pods", "--containers", "-l", "app=busy", "--no-headers"], b"").await;
    let text = ran.text();
    let milli = |container: &str| -> u32 {
        let line =
            text.lines().find(|it| it.contains(container)).unwrap_or_else(|| panic!("{text}"));
        line.split_whitespace().nth(2).unwrap().trim_end_matches('m').parse().unwrap()
    };
    assert!((20..=400).contains(&milli("burns")) && milli("sleeps") < 20, "{text} {}", ran.err);
    let ran = kubectl.run(&["top", "pods", "-l", "app=other"], b"").await;
    assert!(ran.err.contains("No resources found"), "{} {}", ran.text(), ran.err);
    let ran = kubectl.run(&["get", "apiservices", "v1beta1.metrics.k8s.io"], b"").await;
    assert!(ran.text().contains("True"), "{} {}", ran.text(), ran.err);

    let path = format!("/api/v1/nodes/{NODE}/proxy/explain/pods/default/busy");
    let ran = kubectl.run(&["get", "--raw", &path], b"").await;
    let timeline: Value = serde_json::from_slice(&ran.out).unwrap();
    let steps: Vec<&str> = timeline["steps"]
        .as_array()
        .unwrap()
        .iter()
        .map(|it| it["step"].as_str().unwrap())
        .collect();
    for step in
        ["Received", "Admitted", "Volumes", "Sandbox", "Image", "Created", "Started", "Ready"]
    {
        assert!(steps.contains(&step), "{step}: {timeline}");
    }
    assert!(timeline["steps"].as_array().unwrap().iter().all(|it| it["failure"].is_null()));
    bed.delete_pod("busy", 0).await;
    bed.until_gone("busy").await;
    // It was deleted without waiting for the kubelet.
    let steps = bed
        .eventually(async || {
            let ran = kubectl.run(&["get", "--raw", &path], b"").await;
            let timeline: Value = serde_json::from_slice(&ran.out).ok()?;
            (timeline["has_ended"] == true).then(|| timeline["steps"].to_string())
        })
        .await;
    for step in ["Killed", "SandboxStopped", "Cleared"] {
        assert!(steps.contains(step), "{step}: {steps}");
    }
    kubelet.kill().await;
}
