//! An API server of ours with an address, one node, and whoever controls and schedules.

use std::{
    fs,
    net::{Ipv4Addr, SocketAddr},
    path::PathBuf,
    sync::{Arc, LazyLock},
    time::{Duration, Instant},
};

use clock::Clock;
use free_port::free_port;
use k8s_openapi::api::coordination::v1::Lease;
use kube::{Api, Client};
use kube_apiserver::{ApiServer, Config, authn, request::UserInfo};
use lifecycle::Scope;
use parking_lot::Mutex;
use pki::{Ca, Credentials, Kubeconfig, Profile, Usage};
use tempfile::TempDir;
use transport::{Place, tls};

use crate::{binaries::Program, imitated_kubelet};

pub(crate) const NODE: &str = "n1";
/// Everything must come about within this, upstream's back-offs and elections included.
const LIMIT: Duration = Duration::from_secs(120);
const LOOK_AGAIN: Duration = Duration::from_millis(100);
const DAY: Duration = Duration::from_secs(24 * 3600);
const HOST: &str = "127.0.0.1";

/// Who does a part of the control plane's work.
pub(crate) enum Control {
    Ours,
    Upstream(PathBuf),
}

pub(crate) struct Bed {
    pub(crate) client: Client,
    pub(crate) folder: TempDir,
    api: ApiServer,
    ca: Ca,
    port: u16,
    scope: Scope,
    programs: Mutex<Vec<Program>>,
}

impl Bed {
    pub(crate) async fn start() -> Self {
        Self::start_in(&Place::Here).await
    }

    /// With the API server on the loopback of this place.
    pub(crate) async fn start_in(place: &Place) -> Self {
        tls::install_provider();
        let ca = Ca::new("kubernetes").unwrap();
        let front_proxy = Ca::new("front-proxy-ca").unwrap();
        let mut config = Config::new(mvcc::Store::memory(), Clock::system());
        config.authn.client_ca_pem = Some(ca.certificate_pem().to_owned());
        config.authn.service_accounts = Some(accounts());
        let names = ["front-proxy-client"];
        config.authn.request_header =
            Some(authn::RequestHeader::new(front_proxy.certificate_pem(), &names));
        let api = ApiServer::start(config).await.unwrap();
        let scope = Scope::new();
        let listener = place.listen(SocketAddr::from((Ipv4Addr::LOCALHOST, 0))).unwrap();
        let port = listener.local_addr().unwrap().port();
        let identity = issue(&ca, "kube-apiserver", "", &[HOST.to_owned()], Usage::Server);
        let tls = tls::server(&identity, Some(ca.certificate_pem())).unwrap();
        let serving = transport::serve(listener, Some(tls), api.service(), scope.clone());
        drop(scope.spawn("kube-apiserver", serving));
        let client = api.client(UserInfo::master("admin"));
        imitated_kubelet::register(&client, NODE).await;
        drop(scope.spawn("kubelet", imitated_kubelet::run(client.clone(), NODE)));
        let folder = tempfile::tempdir().unwrap();
        fs::write(folder.path().join("ca.crt"), ca.certificate_pem()).unwrap();
        fs::write(folder.path().join("ca.key"), ca.key_pem()).unwrap();
        fs::write(folder.path().join("sa.key"), key().private_pem()).unwrap();
        let programs = Mutex::default();
        Self { client, folder, api, ca, port, scope, programs }
    }

    /// The path of a kubeconfig of this user.
    pub(crate) fn kubeconfig(&self, user: &str) -> String {
        let config = Kubeconfig {
            name: "swap".into(),
            server: format!("https://{HOST}:{}", self.port),
            ca_pem: self.ca.certificate_pem().into(),
            tls_server_name: None,
            credentials: Credentials::Certificate(issue(&self.ca, user, "", &[], Usage::Client)),
        };
        let path = self.path(&format!("{}.conf", user.replace(':', "-")));
        fs::write(&path, config.render().unwrap()).unwrap();
        path
    }

    pub(crate) fn path(&self, name: &str) -> String {
        self.folder.path().join(name).display().to_string()
    }

    pub(crate) fn run_scheduler(&self, control: Control) {
        let user = "system:kube-scheduler";
        let Control::Upstream(binary) = control else {
            let client = self.api.client(UserInfo::new(user, &[]));
            let running = kube_scheduler::run(client, Clock::system(), self.scope.clone());
            drop(self.scope.spawn("kube-scheduler", running));
            return;
        };
        let config = self.kubeconfig(user);
        self.keep(Program::start(
            &binary,
            self.folder.path(),
            &[
                format!("--kubeconfig={config}"),
                format!("--authentication-kubeconfig={config}"),
                format!("--authorization-kubeconfig={config}"),
                "--leader-elect=true".to_owned(),
                format!("--bind-address={HOST}"),
                format!("--secure-port={}", free_port()),
            ],
        ));
    }

    pub(crate) fn run_controllers(&self, control: Control) {
        let user = "system:kube-controller-manager";
        let Control::Upstream(binary) = control else {
            let client = self.api.client(UserInfo::new(user, &[]));
            let ca = Arc::new(Ca::from_pem(self.ca.certificate_pem(), self.ca.key_pem()).unwrap());
            let pem = ca.certificate_pem().to_owned();
            let mut config = kube_controller_manager::Config::new(ca, pem);
            config.service_account_key = Some(Arc::new(key().clone()));
            let clock = Clock::system();
            let running = kube_controller_manager::run(client, config, clock, self.scope.clone());
            drop(self.scope.spawn("kube-controller-manager", running));
            return;
        };
        let config = self.kubeconfig(user);
        self.keep(Program::start(
            &binary,
            self.folder.path(),
            &[
                format!("--kubeconfig={config}"),
                format!("--authentication-kubeconfig={config}"),
                format!("--authorization-kubeconfig={config}"),
                "--leader-elect=true".to_owned(),
                "--use-service-account-credentials=true".to_owned(),
                "--controllers=*,bootstrap-signer-controller,token-cleaner-controller".to_owned(),
                format!("--root-ca-file={}", self.path("ca.crt")),
                format!("--cluster-signing-cert-file={}", self.path("ca.crt")),
                format!("--cluster-signing-key-file={}", self.path("ca.key")),
                format!("--service-account-private-key-file={}", self.path("sa.key")),
                format!("--bind-address={HOST}"),
                format!("--secure-port={}", free_port()),
            ],
        ));
    }

    pub(crate) fn keep(&self, program: Program) {
        self.programs.lock().push(program);
    }

    /// Waits until something holds; when it never does, the programs' last words are told.
    pub(crate) async fn eventually(&self, what: &str, holds: impl AsyncFn() -> bool) {
        let deadline = Instant::now() + LIMIT;
        while !holds().await {
            let ended: Vec<String> =
                self.programs.lock().iter_mut().filter_map(Program::ended).collect();
            assert!(ended.is_empty(), "before it came about: {what}\n{}", ended.join("\n"));
            if Instant::now() > deadline {
                let words: Vec<String> =
                    self.programs.lock().iter().map(Program::last_words).collect();
                panic!("never came about: {what}\n{}", words.join("\n"));
            }
            tokio::time::sleep(LOOK_AGAIN).await;
        }
    }

    /// Waits until somebody holds the Lease of this name.
    pub(crate) async fn is_led(&self, name: &str) {
        let leases = Api::<Lease>::namespaced(self.client.clone(), "kube-system");
        self.eventually(&format!("the Lease of {name}"), async || {
            let lease = leases.get_opt(name).await.unwrap();
            let holder = lease.and_then(|it| it.spec?.holder_identity);
            holder.is_some_and(|it| !it.is_empty())
        })
        .await;
    }
}

impl Drop for Bed {
    fn drop(&mut self) {
        self.scope.cancel();
    }
}

fn issue(ca: &Ca, name: &str, group: &str, sans: &[String], usage: Usage) -> pki::Identity {
    let profile = Profile {
        cn: name.into(),
        organizations: Some(group.to_owned()).into_iter().filter(|it| !it.is_empty()).collect(),
        sans: sans.to_vec(),
        usages: vec![usage],
        not_after: Clock::system().now() + DAY,
    };
    ca.issue(&profile).unwrap()
}

/// Who signs tokens. Making an RSA key is slow, and one serves all tests.
fn key() -> &'static pki::ServiceAccountKey {
    static KEY: LazyLock<pki::ServiceAccountKey> =
        LazyLock::new(|| pki::ServiceAccountKey::generate().unwrap());
    &KEY
}

fn accounts() -> authn::ServiceAccounts {
    let issuer = "https://kubernetes.default.svc".to_owned();
    authn::ServiceAccounts {
        audiences: vec![issuer.clone()],
        jwks_uri: format!("{issuer}/openid/v1/jwks"),
        issuer,
        keys: authn::SigningKeys::new(vec![key().clone()]),
        legacy_keys: authn::SigningKeys::default(),
    }
}
