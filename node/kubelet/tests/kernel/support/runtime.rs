//! A containerd of the test's own, with images and a CNI plug-in, and what it may not leave behind.

use super::*;

impl Bed {
    pub(crate) fn runtime(&self) -> RuntimeClient {
        RuntimeClient::new(api_cri::connect(&self.socket()).unwrap())
    }

    pub(crate) fn socket(&self) -> String {
        self.folder.join("c.sock").display().to_string()
    }

    pub(super) async fn until_runtime(&self) {
        let deadline = Instant::now() + LIMIT;
        let mut client = self.runtime();
        while client.status(v1::StatusRequest::default()).await.is_err() {
            assert!(Instant::now() < deadline, "containerd does not start");
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }

    pub(super) fn import_images(&self) {
        self.import_image(PAUSE, &["/bin/busybox", "sleep", "1000000"], &[]);
        self.import_image(IMAGE, &[], &[]);
    }

    pub(crate) fn import_image(&self, name: &str, entrypoint: &[&str], cmd: &[&str]) {
        let texts = |list: &[&str]| list.iter().map(|it| (*it).to_owned()).collect();
        let busybox = fs::read("/bin/busybox").unwrap();
        let mut layer = Layer::new().unwrap();
        layer.add_folder("bin", 0o755).unwrap();
        layer.add_folder("etc", 0o755).unwrap();
        layer.add_folder("tmp", 0o1777).unwrap();
        layer.add_file("bin/busybox", &busybox, 0o755).unwrap();
        for applet in ["sh", "sleep", "cat", "echo", "true", "false", "mkdir", "tar"] {
            layer.add_link(&format!("bin/{applet}"), "busybox").unwrap();
        }
        let image = Image {
            name: name.to_owned(),
            entrypoint: texts(entrypoint),
            cmd: texts(cmd),
            layer: layer.finish().unwrap(),
            ..Image::default()
        };
        let path = self.folder.join("image.tar");
        image.write(&path).unwrap();
        let done = Command::new("ctr")
            .args(["-a", &self.socket(), "-n", "k8s.io", "images", "import"])
            .arg(&path)
            .output()
            .unwrap();
        assert!(done.status.success(), "{}", String::from_utf8_lossy(&done.stderr));
    }

    pub(crate) fn kill_containerd(&mut self) {
        self.containerd.kill().unwrap();
        self.containerd.wait().unwrap();
    }

    /// Stops containerd's process without ending it, or lets it go on.
    pub(crate) fn pause_containerd(&self, is_paused: bool) {
        use nix::sys::signal::{Signal, kill};
        let signal = if is_paused { Signal::SIGSTOP } else { Signal::SIGCONT };
        let pid = nix::unistd::Pid::from_raw(self.containerd.id().try_into().unwrap());
        kill(pid, signal).unwrap();
    }

    /// The socket's file goes while its listener lives, and comes back.
    pub(crate) fn hide_socket(&self, is_hidden: bool) {
        let (socket, hidden) = (self.folder.join("c.sock"), self.folder.join("hidden.sock"));
        let (from, to) = if is_hidden { (socket, hidden) } else { (hidden, socket) };
        fs::rename(from, to).unwrap();
    }

    pub(crate) async fn start_containerd(&mut self) {
        self.containerd = start_containerd(&self.folder);
        self.until_runtime().await;
    }

    /// A CNI plug-in that puts an address on the loopback device.
    pub(crate) fn install_cni(&self) {
        self.write_cni("", "");
    }

    /// One that gives pods an address of each family.
    pub(crate) fn install_dual_stack_cni(&self) {
        let add = "nsenter --net=$CNI_NETNS ip addr add fd99::$n/128 dev lo nodad";
        let told = r#"{"version":"6","interface":0,"address":"fd99::'$n'/128"},"#;
        self.write_cni(add, told);
    }

    /// What it does beside adding the address of IPv4, and what it tells before that.
    fn write_cni(&self, add: &str, told: &str) {
        let bin = self.folder.join("cni/bin");
        let counter = self.folder.join("cni/next");
        fs::create_dir_all(&bin).unwrap();
        let script = format!(
            "#!/bin/sh\ncat > /dev/null\n\
             case $CNI_COMMAND in\n\
             ADD) n=$(flock {0} sh -c 'n=$(cat {0}.n 2>/dev/null || echo 1); n=$((n+1)); echo $n > {0}.n; echo $n')\n\
             nsenter --net=$CNI_NETNS ip link set lo up\n\
             nsenter --net=$CNI_NETNS ip addr add 10.99.0.$n/32 dev lo\n{add}\n\
             echo '{{\"cniVersion\":\"0.4.0\",\"interfaces\":[{{\"name\":\"eth0\",\"sandbox\":\"x\"}}],\"ips\":[{told}{{\"version\":\"4\",\"interface\":0,\"address\":\"10.99.0.'$n'/32\"}}]}}';;\n\
             VERSION) echo '{{\"cniVersion\":\"0.4.0\",\"supportedVersions\":[\"0.4.0\"]}}';;\n\
             *) echo '{{\"cniVersion\":\"0.4.0\"}}';;\nesac\n",
            counter.display()
        );
        for name in ["nst", "loopback"] {
            fs::write(bin.join(name), &script).unwrap();
            fs::set_permissions(bin.join(name), fs::Permissions::from_mode(0o755)).unwrap();
        }
        let conf = r#"{"cniVersion":"0.4.0","name":"nst","plugins":[{"type":"nst"}]}"#;
        fs::write(self.folder.join("cni/net.d/10-nst.conflist"), conf).unwrap();
    }

    /// No container, mount or cgroup of any pod.
    pub(crate) async fn until_nothing_is_left(&self) {
        let deadline = Instant::now() + LIMIT;
        loop {
            let left = self.left().await;
            if left.is_empty() {
                return;
            }
            assert!(Instant::now() < deadline, "left behind: {left:?}");
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }

    pub(super) async fn left(&self) -> Vec<String> {
        let mut client = self.runtime();
        let sandboxes = client.list_pod_sandbox(v1::ListPodSandboxRequest::default()).await;
        let containers = client.list_containers(v1::ListContainersRequest::default()).await;
        let mut left: Vec<_> =
            sandboxes.unwrap().into_inner().items.into_iter().map(|it| it.id).collect();
        left.extend(containers.unwrap().into_inner().containers.into_iter().map(|it| it.id));
        let mounts = fs::read_to_string("/proc/self/mountinfo").unwrap();
        for place in ["kubelet/pods", "kubelet/plugins"] {
            let place = self.folder.join(place).display().to_string();
            left.extend(mounts.lines().filter(|it| it.contains(&place)).map(str::to_owned));
        }
        let staged = fs::read_dir(self.folder.join("kubelet/plugins/kubernetes.io/csi"));
        for driver in staged.into_iter().flatten().flatten() {
            let inside = fs::read_dir(driver.path()).into_iter().flatten().flatten();
            left.extend(inside.map(|it| it.path().display().to_string()).filter(|it| {
                // Empty folders of devices stay, as upstream's do.
                !it.ends_with("volumeDevices/staging") && !it.ends_with("volumeDevices/publish")
            }));
        }
        left.extend(self.groups_of(""));
        let networks = fs::read_dir(self.folder.join("state/io.containerd.grpc.v1.cri/netns"));
        left.extend(
            networks.into_iter().flatten().flatten().map(|it| it.path().display().to_string()),
        );
        left
    }

    /// The cgroups of a pod, or of all.
    pub(crate) fn groups_of(&self, uid: &str) -> Vec<String> {
        let mut found = Vec::new();
        for hierarchy in ["", "cpu", "memory", "pids", "systemd", "unified"] {
            let root = Path::new("/sys/fs/cgroup").join(hierarchy).join(&self.name);
            for class in ["kubepods", "kubepods/besteffort", "kubepods/burstable"] {
                let groups = fs::read_dir(root.join(class)).into_iter().flatten().flatten();
                let names = groups.map(|it| it.path().display().to_string());
                found.extend(names.filter(|it| it.contains(&format!("/pod{uid}"))));
            }
        }
        found
    }

    /// A test that failed leaves pods: they go the way that takes their network with them.
    pub(super) fn remove_sandboxes(&self) {
        let socket = self.socket();
        let work = async move {
            let mut client = RuntimeClient::new(api_cri::connect(&socket).unwrap());
            let list = client.list_pod_sandbox(v1::ListPodSandboxRequest::default()).await;
            for sandbox in list.map(|it| it.into_inner().items).unwrap_or_default() {
                let pod_sandbox_id = sandbox.id;
                let stop = v1::StopPodSandboxRequest { pod_sandbox_id: pod_sandbox_id.clone() };
                drop(client.stop_pod_sandbox(stop).await);
                drop(
                    client.remove_pod_sandbox(v1::RemovePodSandboxRequest { pod_sandbox_id }).await,
                );
            }
        };
        elsewhere(work);
    }

    pub(super) fn kill_shims(&self) {
        let socket = self.socket();
        for entry in fs::read_dir("/proc").unwrap().flatten() {
            let Ok(pid) = entry.file_name().to_string_lossy().parse::<i32>() else { continue };
            let command = fs::read_to_string(entry.path().join("cmdline")).unwrap_or_default();
            if command.contains("containerd-shim") && command.contains(&socket) {
                let pid = nix::unistd::Pid::from_raw(pid);
                nix::sys::signal::kill(pid, nix::sys::signal::Signal::SIGKILL).ok();
            }
        }
    }
}

pub(super) fn start_containerd(folder: &Path) -> Child {
    Command::new("/usr/bin/containerd")
        .arg("--config")
        .arg(folder.join("config.toml"))
        .stdout(Stdio::null())
        .stderr(fs::File::create(folder.join("containerd.log")).unwrap())
        .spawn()
        .unwrap()
}

pub(super) fn write_configuration(folder: &Path) {
    fs::create_dir_all(folder.join("cni/net.d")).unwrap();
    let at = folder.display();
    // On a machine that has it pods are confined, as they are by default.
    let enabled = fs::read_to_string("/sys/module/apparmor/parameters/enabled");
    let has_no_apparmor = !enabled.is_ok_and(|it| it.starts_with('Y'));
    // Instances have `crun` beside it, for pods that ask for it.
    let runtime = std::env::var("NODESTEAD_OCI_RUNTIME").unwrap_or_else(|_| "runc".to_owned());
    let config = format!(
        r#"version = 2
root = "{at}/root"
state = "{at}/state"
disabled_plugins = ["io.containerd.snapshotter.v1.aufs", "io.containerd.snapshotter.v1.btrfs", "io.containerd.snapshotter.v1.devmapper", "io.containerd.snapshotter.v1.zfs", "io.containerd.internal.v1.opt"]
[grpc]
address = "{at}/c.sock"
[ttrpc]
address = "{at}/t.sock"
[plugins."io.containerd.grpc.v1.cri"]
sandbox_image = "{PAUSE}"
netns_mounts_under_state_dir = true
restrict_oom_score_adj = true
disable_apparmor = {has_no_apparmor}
stream_server_address = "127.0.0.1"
[plugins."io.containerd.grpc.v1.cri".cni]
bin_dir = "{at}/cni/bin"
conf_dir = "{at}/cni/net.d"
[plugins."io.containerd.grpc.v1.cri".containerd]
default_runtime_name = "{runtime}"
[plugins."io.containerd.grpc.v1.cri".containerd.runtimes.{runtime}]
runtime_type = "io.containerd.runc.v2"
[plugins."io.containerd.grpc.v1.cri".containerd.runtimes.{runtime}.options]
BinaryName = "{runtime}"
"#
    );
    fs::write(folder.join("config.toml"), config).unwrap();
}
