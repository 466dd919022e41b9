//! A containerd of its own, an API server in this process, and a kubelet between them.

use std::{
    fs,
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    time::Duration,
};

use api_cri::{RuntimeClient, v1};
use clock::Clock;
use k8s_openapi::api::core::v1::{ConfigMap, Node, Pod, PodStatus, ServiceAccount};
use kube::{
    Api, Client, ResourceExt,
    api::{DeleteParams, Patch, PatchParams, PostParams},
};
use kube_apiserver::{ApiServer, Delegate, request::UserInfo};
use kubelet::{Kubelet, KubeletConfiguration, Settings};
use lifecycle::Scope;
use oci_archive::{Image, Layer};
use pki::Ca;
use serde_json::{Value, json};
use tokio::time::Instant;
use transport::{Place, tls::Identity};

pub(crate) const IMAGE: &str = "nst.test/busybox:1";
const PAUSE: &str = "nst.test/pause:1";
pub(crate) const NODE: &str = "nst-node";
pub(crate) const LIMIT: Duration = Duration::from_secs(30);

/// Everything that one test needs; taken down when it is dropped.
pub(crate) struct Bed {
    folder: PathBuf,
    name: String,
    containerd: Child,
    api: ApiServer,
    client: Client,
    pub(crate) port: u16,
    scope: Scope,
    ca: Ca,
}

pub(crate) struct Running {
    scope: Scope,
}

impl Running {
    /// Ends at once, like a process that is killed.
    pub(crate) async fn kill(self) {
        self.scope.drain(Duration::from_secs(2)).await;
    }
}

impl Bed {
    /// `None` where it cannot be had.
    pub(crate) async fn new(name: &str) -> Option<Self> {
        let has = |path: &str| Path::new(path).exists();
        if !nix::unistd::geteuid().is_root() || !has("/usr/bin/containerd") || !has("/bin/busybox")
        {
            println!("{name}: not run: needs root, containerd and busybox-static");
            return None;
        }
        telemetry::init("error");
        let name = format!("nst-t-kubelet-{name}-{}", std::process::id());
        let folder = PathBuf::from(format!("/var/tmp/{name}"));
        fs::create_dir_all(&folder).unwrap();
        write_configuration(&folder);
        let ca = Ca::new("kubernetes").unwrap();
        let mut config = kube_apiserver::Config::new(mvcc::Store::memory(), Clock::system());
        config.endpoints.push([192, 0, 2, 1].into());
        config.authn.service_accounts = Some(kube_apiserver::authn::ServiceAccounts {
            issuer: "https://nst.test".to_owned(),
            audiences: vec!["https://nst.test".to_owned()],
            keys: vec![pki::ServiceAccountKey::generate().unwrap()],
        });
        let identity = issue(&ca, "kube-apiserver-kubelet-client", "system:masters", &[]);
        let tls = transport::tls::client(ca.certificate_pem(), Some(&identity)).unwrap();
        config.proxy.kubelet_tls = Some(tls);
        let metrics = metrics_server::MetricsServer::new(Clock::system());
        let (group, version) = (metrics_server::GROUP, metrics_server::VERSION);
        config.delegates.push(Delegate::new(group, version, metrics.service()));
        let api = ApiServer::start(config).await.unwrap();
        let client = api.client(UserInfo::master("admin"));
        metrics.connect(client.clone());
        let listener = Place::Here.listen(([127, 0, 0, 1], 0).into()).unwrap();
        let port = listener.local_addr().unwrap().port();
        drop(listener);
        let containerd = start_containerd(&folder);
        let scope = Scope::new();
        let bed = Self { folder, name, containerd, api, client, port, scope, ca };
        bed.until_runtime().await;
        bed.import_images();
        bed.create_service_account().await;
        Some(bed)
    }

    pub(crate) fn socket(&self) -> String {
        self.folder.join("c.sock").display().to_string()
    }

    pub(crate) fn runtime(&self) -> RuntimeClient {
        RuntimeClient::new(api_cri::connect(&self.socket()).unwrap())
    }

    async fn until_runtime(&self) {
        let deadline = Instant::now() + LIMIT;
        let mut client = self.runtime();
        while client.status(v1::StatusRequest::default()).await.is_err() {
            assert!(Instant::now() < deadline, "containerd does not start");
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }

    fn import_images(&self) {
        let busybox = fs::read("/bin/busybox").unwrap();
        for (name, command) in [(PAUSE, vec!["/bin/busybox", "sleep", "1000000"]), (IMAGE, vec![])]
        {
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
                entrypoint: command.into_iter().map(str::to_owned).collect(),
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
    }

    async fn create_service_account(&self) {
        let api = Api::<ServiceAccount>::namespaced(self.client.clone(), "default");
        // Nobody publishes the cluster's CA here, which a token's volume needs.
        let account: ServiceAccount = serde_json::from_value(json!({
            "metadata": { "name": "default" }, "automountServiceAccountToken": false,
        }))
        .unwrap();
        // The namespace is made behind the start of the API server.
        self.eventually(async || {
            let created = api.create(&PostParams::default(), &account).await;
            let is_there = created.is_err_and(|it| it.to_string().contains("already exists"));
            is_there.then_some(())
        })
        .await;
    }

    pub(crate) async fn start_kubelet(&self) -> Running {
        self.start_kubelet_configured(|_| {}).await
    }

    /// The kubelet's folder.
    pub(crate) fn root(&self) -> PathBuf {
        self.folder.join("kubelet")
    }

    pub(crate) async fn start_kubelet_configured(
        &self,
        change: impl FnOnce(&mut Settings),
    ) -> Running {
        let folder = self.folder.display().to_string();
        let mut config = KubeletConfiguration {
            port: self.port,
            healthz_port: 0,
            address: "127.0.0.1".to_owned(),
            cgroup_root: format!("/{}", self.name),
            pod_logs_dir: format!("{folder}/log/pods"),
            cluster_dns: vec!["10.100.0.10".to_owned()],
            cluster_domain: "cluster.local".to_owned(),
            ..KubeletConfiguration::default()
        };
        config.authentication.anonymous.enabled = true;
        config.authorization.mode = "AlwaysAllow".to_owned();
        let mut settings = Settings::new(config, NODE);
        settings.root_dir = format!("{folder}/kubelet");
        settings.node_ips = vec!["127.0.0.1".parse().unwrap()];
        change(&mut settings);
        let scope = self.scope.child();
        let client =
            self.api.client(UserInfo::new(&format!("system:node:{NODE}"), &["system:nodes"]));
        let channel = api_cri::connect(&self.socket()).unwrap();
        let kubelet =
            Kubelet::new(settings, client, channel, Clock::system(), scope.clone()).unwrap();
        drop(scope.spawn("kubelet", kubelet.run()));
        Running { scope }
    }

    // === Over sockets, as separate processes would ===

    /// Serves the API over TLS, and returns the administrator's kubeconfig.
    pub(crate) async fn serve_api(&self) -> PathBuf {
        let identity = issue(&self.ca, "kube-apiserver", "", &["127.0.0.1"]);
        let tls = transport::tls::server(&identity, Some(self.ca.certificate_pem())).unwrap();
        let listener = Place::Here.listen(([127, 0, 0, 1], 0).into()).unwrap();
        let address = listener.local_addr().unwrap();
        let (service, scope) = (self.api.service(), self.scope.clone());
        let serving = transport::serve(listener, Some(tls), service, scope.clone());
        drop(scope.spawn("api", serving));
        let write = |file: &str, user: &str, group: &str| {
            let config = pki::Kubeconfig {
                name: "test".to_owned(),
                server: format!("https://{address}"),
                ca_pem: self.ca.certificate_pem().to_owned(),
                tls_server_name: None,
                credentials: pki::Credentials::Certificate(issue(&self.ca, user, group, &[])),
            };
            let path = self.folder.join(file);
            fs::write(&path, config.render().unwrap()).unwrap();
            path
        };
        write("node.conf", &format!("system:node:{NODE}"), "system:nodes");
        write("admin.conf", "admin", "system:masters")
    }

    /// A kubelet as its command line makes it.
    pub(crate) async fn start_kubelet_command(&self) -> Running {
        let kubeconfig = self.folder.join("node.conf").display().to_string();
        self.start_kubelet_flags(&[&format!("--kubeconfig={kubeconfig}")]).await
    }

    pub(crate) fn path(&self, file: &str) -> PathBuf {
        self.folder.join(file)
    }

    /// A kubelet as its command line makes it, with these flags too.
    pub(crate) async fn start_kubelet_flags(&self, flags: &[&str]) -> Running {
        #[derive(Debug, clap::Parser)]
        struct Cli {
            #[command(flatten)]
            args: kubelet::command::Args,
        }
        let at = self.folder.display().to_string();
        let ca = self.folder.join("ca.crt");
        fs::write(&ca, self.ca.certificate_pem()).unwrap();
        let config = json!({
            "apiVersion": "kubelet.config.k8s.io/v1beta1",
            "kind": "KubeletConfiguration",
            "authentication": { "x509": { "clientCAFile": ca } },
            "serverTLSBootstrap": true,
            "port": self.port,
            "healthzPort": 0,
            "cgroupRoot": format!("/{}", self.name),
            "podLogsDir": format!("{at}/log/pods"),
            "containerRuntimeEndpoint": format!("unix://{at}/c.sock"),
            "providerID": "aws:///us-east-1a/i-1",
        });
        fs::write(self.folder.join("kubelet.json"), config.to_string()).unwrap();
        let own = [
            "kubelet".to_owned(),
            format!("--config={at}/kubelet.json"),
            format!("--root-dir={at}/kubelet"),
            format!("--hostname-override={NODE}"),
            "--node-ip=127.0.0.1".to_owned(),
            "--node-labels=example.com/a=b".to_owned(),
        ];
        let given = flags.iter().map(|&it| it.to_owned());
        let cli = <Cli as clap::Parser>::parse_from(own.into_iter().chain(given));
        let scope = self.scope.child();
        let kubelet = kubelet::command::build(&cli.args, scope.clone()).await.unwrap();
        drop(scope.spawn("kubelet", kubelet.run()));
        Running { scope }
    }

    /// Signs what kubelets ask for, as the controller manager does.
    pub(crate) async fn sign_requests(&self) {
        self.sign_requests_for(Duration::from_secs(86_400)).await;
    }

    /// Certificates that live so long, counted from now.
    pub(crate) async fn sign_requests_for(&self, life: Duration) {
        use k8s_openapi::api::certificates::v1::CertificateSigningRequest;
        let api = Api::<CertificateSigningRequest>::all(self.client.clone());
        let ca = Ca::from_pem(self.ca.certificate_pem(), self.ca.key_pem()).unwrap();
        let signing = async move {
            loop {
                for it in api.list(&Default::default()).await.unwrap() {
                    if it.status.as_ref().is_some_and(|it| it.certificate.is_some()) {
                        continue;
                    }
                    let pem = String::from_utf8(it.spec.request.0.clone()).unwrap();
                    let now = Clock::system().now();
                    let until = now + life;
                    let usage = match it.spec.signer_name.as_str() {
                        "kubernetes.io/kube-apiserver-client-kubelet" => pki::Usage::Client,
                        _ => pki::Usage::Server,
                    };
                    let signed = ca.sign_csr(&pem, &[usage], now, until).unwrap();
                    let signed = k8s_openapi::ByteString(signed.into_bytes());
                    let patch = json!({ "status": { "certificate": signed } });
                    let patch = Patch::Merge(patch);
                    api.patch_status(&it.name_any(), &Default::default(), &patch).await.unwrap();
                }
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
        };
        drop(self.scope.spawn("signer", signing));
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

    /// Puts the kubelet's folder on a small disk of its own; call it before the kubelet starts.
    pub(crate) fn give_a_small_disk(&self) -> PathBuf {
        let root = self.folder.join("kubelet");
        fs::create_dir_all(&root).unwrap();
        let mount = ["-t", "tmpfs", "-o", "size=4m", "tmpfs"];
        assert!(Command::new("mount").args(mount).arg(&root).status().unwrap().success());
        root
    }

    /// Open descriptors of this process, which is the kubelet here.
    pub(crate) fn descriptors(&self) -> usize {
        fs::read_dir("/proc/self/fd").unwrap().count()
    }

    pub(crate) async fn start_containerd(&mut self) {
        self.containerd = start_containerd(&self.folder);
        self.until_runtime().await;
    }

    /// A CNI plug-in that puts an address on the loopback device.
    pub(crate) fn install_cni(&self) {
        let bin = self.folder.join("cni/bin");
        let counter = self.folder.join("cni/next");
        fs::create_dir_all(&bin).unwrap();
        let script = format!(
            "#!/bin/sh\ncat > /dev/null\n\
             case $CNI_COMMAND in\n\
             ADD) n=$(flock {0} sh -c 'n=$(cat {0}.n 2>/dev/null || echo 1); n=$((n+1)); echo $n > {0}.n; echo $n')\n\
             nsenter --net=$CNI_NETNS ip link set lo up\n\
             nsenter --net=$CNI_NETNS ip addr add 10.99.0.$n/32 dev lo\n\
             echo '{{\"cniVersion\":\"0.4.0\",\"interfaces\":[{{\"name\":\"eth0\",\"sandbox\":\"x\"}}],\"ips\":[{{\"version\":\"4\",\"interface\":0,\"address\":\"10.99.0.'$n'/32\"}}]}}';;\n\
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

    // === The API ===

    fn pods(&self) -> Api<Pod> {
        Api::namespaced(self.client.clone(), "default")
    }

    pub(crate) fn container(&self, name: &str, script: &str) -> Value {
        json!({
            "name": name,
            "image": IMAGE,
            "command": ["/bin/busybox", "sh", "-c", script],
            "volumeMounts": if name == "prepare" {
                json!([{ "name": "work", "mountPath": "/work" }])
            } else {
                json!([])
            },
        })
    }

    pub(crate) async fn create_pod(&self, mut pod: Value) {
        pod["spec"]["nodeName"] = json!(NODE);
        pod["spec"]["automountServiceAccountToken"] = json!(false);
        let pod = serde_json::from_value(pod).unwrap();
        self.pods().create(&PostParams::default(), &pod).await.unwrap();
    }

    /// Asks for other resources of a pod's container `main`.
    pub(crate) async fn resize(&self, name: &str, resources: Value) {
        let containers = json!([{ "name": "main", "resources": resources }]);
        let patch = Patch::Strategic(json!({ "spec": { "containers": containers } }));
        let params = PatchParams::default();
        self.pods().patch_subresource("resize", name, &params, &patch).await.unwrap();
    }

    pub(crate) fn pod_memory_limit(&self, class: &str, uid: &str) -> i64 {
        memory_limit(&self.pod_group(class, uid)).unwrap()
    }

    /// The least limit of the pod's containers: the pause container has none.
    pub(crate) fn container_memory_limit(&self, class: &str, uid: &str) -> i64 {
        let groups = fs::read_dir(self.pod_group(class, uid)).unwrap().flatten();
        groups.filter_map(|it| memory_limit(&it.path())).min().unwrap()
    }

    fn pod_group(&self, class: &str, uid: &str) -> PathBuf {
        let root = Path::new("/sys/fs/cgroup");
        let root = if root.join("memory").exists() { root.join("memory") } else { root.into() };
        root.join(&self.name).join("kubepods").join(class).join(format!("pod{uid}"))
    }

    pub(crate) async fn create_config_map(&self, name: &str, data: &[(&str, &str)]) {
        let data: serde_json::Map<_, _> =
            data.iter().map(|(key, value)| ((*key).to_owned(), json!(value))).collect();
        let map: ConfigMap =
            serde_json::from_value(json!({ "metadata": { "name": name }, "data": data })).unwrap();
        let api = Api::<ConfigMap>::namespaced(self.client.clone(), "default");
        api.create(&PostParams::default(), &map).await.unwrap();
    }

    pub(crate) async fn delete_pod(&self, name: &str, grace: u32) {
        let params = DeleteParams::default().grace_period(grace);
        self.pods().delete(name, &params).await.unwrap();
    }

    pub(crate) async fn until_node(&self, status: &str, message: &str) {
        let api = Api::<Node>::all(self.client.clone());
        let deadline = Instant::now() + LIMIT;
        loop {
            let node = api.get_opt(NODE).await.unwrap();
            let conditions = node.and_then(|it| it.status?.conditions).unwrap_or_default();
            let ready = conditions.into_iter().find(|it| it.type_ == "Ready");
            let is_it = ready.as_ref().is_some_and(|it| {
                it.status == status && it.message.as_deref().unwrap_or_default().contains(message)
            });
            if is_it {
                return;
            }
            assert!(Instant::now() < deadline, "the node is not {status}: {ready:?}");
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }

    pub(crate) async fn until(&self, name: &str, is_it: impl Fn(&PodStatus) -> bool) -> Pod {
        let deadline = Instant::now() + LIMIT;
        loop {
            let pod = self.pods().get(name).await.unwrap();
            if pod.status.as_ref().is_some_and(&is_it) {
                return pod;
            }
            assert!(
                Instant::now() < deadline,
                "{name}: {}\n{}",
                json!(pod.status),
                self.events().await
            );
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    }

    pub(crate) fn client(&self) -> Client {
        self.client.clone()
    }

    /// A folder that goes with the test; the kubelet's root is `kubelet` in it.
    pub(crate) fn folder(&self) -> &Path {
        &self.folder
    }

    pub(crate) async fn pod(&self, name: &str) -> Pod {
        self.pods().get(name).await.unwrap()
    }

    pub(crate) async fn events(&self) -> String {
        use k8s_openapi::api::core::v1::Event;
        let api = Api::<Event>::namespaced(self.client.clone(), "default");
        let events = api.list(&Default::default()).await.unwrap();
        let line = |it: Event| {
            let (reason, message) = (it.reason.unwrap_or_default(), it.message.unwrap_or_default());
            format!("{} {reason}: {message}", it.involved_object.name.unwrap_or_default())
        };
        events.into_iter().map(line).collect::<Vec<_>>().join("\n")
    }

    /// Tries until it works.
    pub(crate) async fn eventually<T>(&self, work: impl AsyncFn() -> Option<T>) -> T {
        let deadline = Instant::now() + LIMIT;
        loop {
            if let Some(done) = work().await {
                return done;
            }
            assert!(Instant::now() < deadline, "it never works:\n{}", self.events().await);
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    }

    pub(crate) async fn until_ready(&self, name: &str) -> Pod {
        self.until(name, |it| {
            it.conditions.iter().flatten().any(|it| it.type_ == "Ready" && it.status == "True")
        })
        .await
    }

    pub(crate) async fn until_gone(&self, name: &str) {
        let deadline = Instant::now() + LIMIT;
        while let Some(pod) = self.pods().get_opt(name).await.unwrap() {
            assert!(Instant::now() < deadline, "{name} stays: {}", json!(pod.status));
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    }

    pub(crate) async fn container_id(&self, name: &str, index: usize) -> Option<String> {
        let status = self.pods().get(name).await.unwrap().status.unwrap();
        status.container_statuses.unwrap()[index].container_id.clone()
    }

    pub(crate) async fn pod_names(&self) -> Vec<String> {
        let pods = self.pods().list(&Default::default()).await.unwrap();
        pods.iter().map(ResourceExt::name_any).collect()
    }

    pub(crate) async fn restarts(&self, name: &str) -> i32 {
        restarts(&self.pods().get(name).await.unwrap().status.unwrap())
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

    async fn left(&self) -> Vec<String> {
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
        for hierarchy in ["cpu", "memory", "systemd", "unified"] {
            let root = Path::new("/sys/fs/cgroup").join(hierarchy).join(&self.name);
            for class in ["kubepods", "kubepods/besteffort", "kubepods/burstable"] {
                let groups = fs::read_dir(root.join(class)).into_iter().flatten().flatten();
                let names = groups.map(|it| it.path().display().to_string());
                left.extend(names.filter(|it| it.contains("/pod")));
            }
        }
        left
    }
}

fn memory_limit(group: &Path) -> Option<i64> {
    let files = ["memory.limit_in_bytes", "memory.max"];
    let text = files.iter().find_map(|it| fs::read_to_string(group.join(it)).ok())?;
    text.trim().parse().ok()
}

fn issue(ca: &Ca, name: &str, group: &str, sans: &[&str]) -> Identity {
    let organizations = if group.is_empty() { Vec::new() } else { vec![group.to_owned()] };
    let usage = if group.is_empty() { pki::Usage::Server } else { pki::Usage::Client };
    let profile = pki::Profile {
        cn: name.to_owned(),
        organizations,
        sans: sans.iter().map(|it| (*it).to_owned()).collect(),
        usages: vec![usage],
        not_after: Clock::system().now() + Duration::from_secs(86_400),
    };
    ca.issue(&profile).unwrap()
}

pub(crate) fn restarts(status: &PodStatus) -> i32 {
    status.container_statuses.iter().flatten().map(|it| it.restart_count).sum()
}

pub(crate) fn waiting(status: &PodStatus) -> Option<String> {
    let first = status.container_statuses.as_ref()?.first()?;
    first.state.as_ref()?.waiting.as_ref()?.reason.clone()
}

fn start_containerd(folder: &Path) -> Child {
    Command::new("/usr/bin/containerd")
        .arg("--config")
        .arg(folder.join("config.toml"))
        .stdout(Stdio::null())
        .stderr(fs::File::create(folder.join("containerd.log")).unwrap())
        .spawn()
        .unwrap()
}

fn write_configuration(folder: &Path) {
    fs::create_dir_all(folder.join("cni/net.d")).unwrap();
    let at = folder.display();
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
restrict_oom_score_adj = true
disable_apparmor = true
stream_server_address = "127.0.0.1"
[plugins."io.containerd.grpc.v1.cri".cni]
bin_dir = "{at}/cni/bin"
conf_dir = "{at}/cni/net.d"
"#
    );
    fs::write(folder.join("config.toml"), config).unwrap();
}

impl Drop for Bed {
    fn drop(&mut self) {
        self.scope.cancel();
        self.remove_sandboxes();
        drop(self.containerd.kill());
        drop(self.containerd.wait());
        self.kill_shims();
        let at = self.folder.display().to_string();
        let mounts = fs::read_to_string("/proc/self/mountinfo").unwrap_or_default();
        let points = mounts.lines().filter_map(|it| it.split(' ').nth(4));
        for point in points.filter(|it| it.starts_with(&at)).collect::<Vec<_>>().into_iter().rev() {
            drop(Command::new("umount").args(["-l", point]).status());
        }
        drop(fs::remove_dir_all(&self.folder));
        for hierarchy in fs::read_dir("/sys/fs/cgroup").into_iter().flatten().flatten() {
            remove_groups(&hierarchy.path().join(&self.name));
        }
    }
}

impl Bed {
    /// A test that failed leaves pods: they go the way that takes their network with them.
    fn remove_sandboxes(&self) {
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
        let thread = std::thread::spawn(move || {
            let runtime =
                tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
            drop(runtime.block_on(async { tokio::time::timeout(LIMIT, work).await }));
        });
        drop(thread.join());
    }

    fn kill_shims(&self) {
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

fn remove_groups(path: &Path) {
    for entry in fs::read_dir(path).into_iter().flatten().flatten() {
        if entry.path().is_dir() {
            remove_groups(&entry.path());
        }
    }
    drop(fs::remove_dir(path));
}
