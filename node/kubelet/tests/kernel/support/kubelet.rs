//! Kubelets of the test, in its process: by settings, or as the command line makes them.

use super::*;

impl Bed {
    pub(crate) async fn start_kubelet(&self) -> Running {
        self.start_kubelet_configured(|_| {}).await
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
            container_runtime_endpoint: format!("unix://{folder}/c.sock"),
            cluster_dns: vec!["10.100.0.10".to_owned()],
            cluster_domain: "cluster.local".to_owned(),
            ..KubeletConfiguration::default()
        };
        config.authentication.anonymous.enabled = true;
        config.authorization.mode = "AlwaysAllow".to_owned();
        let mut settings = Settings::new(config, self.node_name());
        settings.root_dir = format!("{folder}/kubelet");
        settings.node_ips = vec!["127.0.0.1".parse().unwrap()];
        let client = match &self.server {
            Server::Own(api) => {
                api.client(UserInfo::new(&format!("system:node:{NODE}"), &["system:nodes"]))
            }
            Server::Given(given) => {
                swap::keep_apart(&mut settings);
                given.node_client()
            }
        };
        change(&mut settings);
        let scope = self.scope.child();
        let channel = api_cri::connect(&self.socket()).unwrap();
        let kubelet =
            Kubelet::new(settings, client, channel, Clock::system(), scope.clone()).unwrap();
        drop(scope.spawn("kubelet", kubelet.run()));
        Running { scope }
    }

    /// A kubelet as its command line makes it.
    pub(crate) async fn start_kubelet_command(&self) -> Running {
        let kubeconfig = self.folder.join("node.conf").display().to_string();
        self.start_kubelet_flags(&[&format!("--kubeconfig={kubeconfig}")]).await
    }

    /// A kubelet as its command line makes it, with these flags too.
    pub(crate) async fn start_kubelet_flags(&self, flags: &[&str]) -> Running {
        let scope = self.scope.child();
        let kubelet = build(self.command_line(flags), scope.clone()).await;
        drop(scope.spawn("kubelet", kubelet.run()));
        Running { scope }
    }

    /// The command line of a kubelet of this bed, whose configuration file is written.
    pub(crate) fn command_line(&self, flags: &[&str]) -> Vec<String> {
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
        own.into_iter().chain(flags.iter().map(|&it| it.to_owned())).collect()
    }

    /// Serves the API over TLS, and returns the administrator's kubeconfig.
    pub(crate) async fn serve_api(&self) -> PathBuf {
        let identity = issue(&self.ca, "kube-apiserver", "", &["127.0.0.1"]);
        let tls = transport::tls::server(&identity, Some(self.ca.certificate_pem())).unwrap();
        let listener = Place::Here.listen(([127, 0, 0, 1], 0).into()).unwrap();
        let address = listener.local_addr().unwrap();
        let (service, scope) = (self.api().service(), self.scope.clone());
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

    /// Puts the kubelet's folder on a small disk of its own; call it before the kubelet starts.
    pub(crate) fn give_a_small_disk(&self) -> PathBuf {
        let root = self.folder.join("kubelet");
        fs::create_dir_all(&root).unwrap();
        let mount = ["-t", "tmpfs", "-o", "size=4m", "tmpfs"];
        assert!(Command::new("mount").args(mount).arg(&root).status().unwrap().success());
        root
    }
}

/// A kubelet of this command line.
pub(crate) async fn build(command_line: Vec<String>, scope: Scope) -> Kubelet {
    ::kubelet::command::build(&args(command_line), scope).await.unwrap()
}

pub(crate) fn args(command_line: Vec<String>) -> ::kubelet::command::Args {
    #[derive(Debug, clap::Parser)]
    struct Cli {
        #[command(flatten)]
        args: ::kubelet::command::Args,
    }
    <Cli as clap::Parser>::parse_from(command_line).args
}

pub(super) fn issue(ca: &Ca, name: &str, group: &str, sans: &[&str]) -> Identity {
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
