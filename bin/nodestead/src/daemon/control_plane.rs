//! A cluster's control plane: API server, scheduler, controllers, in this process.
//!
//! It listens on 127.0.0.1 for the machine's users and, in its own network namespace, on the two
//! interfaces that EKS put into the VPC; from that namespace alone it reaches kubelets and pods.
//! What it keeps lies in one folder per cluster.

use std::{
    collections::BTreeMap,
    fs,
    net::{Ipv4Addr, SocketAddr},
    path::PathBuf,
    sync::Arc,
    time::Duration,
};

use anyhow::Context;
use aws_iam_authenticator::{AccessService, Authenticator, TokenRules};
use aws_wire::client::Exchange;
use bytes::Bytes;
use clock::Clock;
use futures::future::BoxFuture;
use http::Request;
use kube_apiserver::{ApiServer, Delegate, authn, proxy, request::UserInfo};
use lifecycle::Scope;
use metrics_server::MetricsServer;
use parking_lot::Mutex;
use pki::{Ca, Credentials, Identity, Kubeconfig, Profile, Usage};
use region_ec2::Ec2;
use region_eks::{Cluster, ControlPlane, ControlPlaneError, ControlPlanes};
use region_gateway::{Gateway, Source};
use transport::{Place, tls};

use super::{
    driver::Driver,
    endpoints::PublicApi,
    files,
    mappings::AccessEntries,
    region::{REGION, Region},
    serving,
    world::Names,
};
use crate::layout::{Etcd, Layout, Settings, write_atomically};

const CERTIFICATE_LIFE: Duration = Duration::from_secs(365 * 24 * 3600);
/// Upstream's limit for dialling a kubelet.
const DIAL_LIMIT: Duration = Duration::from_secs(30);
const HTTPS: u16 = 443;
/// How long the webhooks' answers are remembered: a new access entry works within this.
const WEBHOOK_MEMORY: Duration = Duration::from_secs(2);

/// See the module.
pub(crate) struct Planes {
    layout: Layout,
    region: Region,
    driver: Driver,
    names: Names,
    /// The port that `up` was asked for: the first cluster's.
    api_port: u16,
    etcd: Option<Etcd>,
    clock: Clock,
    scope: Scope,
    running: Mutex<BTreeMap<String, (Scope, ControlPlane)>>,
    /// A port is free until it is listened on: clusters that start at once choose one by one.
    ports: Mutex<()>,
}

impl Planes {
    pub(crate) fn new(
        layout: Layout,
        region: Region,
        driver: Driver,
        names: Names,
        settings: &Settings,
        clock: Clock,
        scope: Scope,
    ) -> Self {
        let running = Mutex::default();
        let (api_port, etcd) = (settings.api_port, settings.etcd.clone());
        let ports = Mutex::default();
        Self { layout, region, driver, names, api_port, etcd, clock, scope, running, ports }
    }

    fn folder(&self, cluster: &str) -> PathBuf {
        self.layout.clusters().join(cluster)
    }

    async fn start(&self, cluster: &Cluster) -> anyhow::Result<ControlPlane> {
        if let Some((_, plane)) = self.running.lock().get(&cluster.name) {
            return Ok(plane.clone());
        }
        let interfaces: Vec<String> = cluster.interfaces.iter().map(|it| it.id.clone()).collect();
        if !self.driver.await_placed(&interfaces).await {
            anyhow::bail!("the interfaces {} are not in place", interfaces.join(", "));
        }
        let scope = self.scope.child();
        let result = self.start_in(cluster, &scope).await;
        match &result {
            Err(_) => scope.cancel(),
            Ok(plane) => {
                let running = (scope, plane.clone());
                self.running.lock().insert(cluster.name.clone(), running);
            }
        }
        result
    }

    async fn start_in(&self, cluster: &Cluster, scope: &Scope) -> anyhow::Result<ControlPlane> {
        let folder = self.folder(&cluster.name);
        fs::create_dir_all(&folder)?;
        let ca = files::ca(&folder, "ca", "kubernetes")?;
        let place = Place::named(&self.names.control_plane(&cluster.name));
        let api = self.api_server(cluster, &ca, &place, scope).await?;
        let port = {
            let _alone = self.ports.lock();
            let port = self.port(cluster)?;
            self.listen(cluster, &ca, &api, &place, port, scope)?;
            port
        };
        let upkeep = api.clone();
        drop(scope.spawn("upkeep", async move { upkeep.maintain().await }));
        self.start_controllers(cluster, &ca, &api, scope)?;
        let host_endpoint = format!("https://127.0.0.1:{port}");
        self.write_kubeconfig(cluster, &ca, &host_endpoint)?;
        Ok(ControlPlane {
            certificate_authority_pem: ca.certificate_pem().to_owned(),
            host_endpoint,
            client: api.client(UserInfo::new("eks:cluster-bootstrap", &["system:masters"])),
        })
    }

    async fn api_server(
        &self,
        cluster: &Cluster,
        ca: &Ca,
        place: &Place,
        scope: &Scope,
    ) -> anyhow::Result<ApiServer> {
        let folder = self.folder(&cluster.name);
        let store = self.store(&cluster.name).await?;
        let mut config = kube_apiserver::Config::new(store, self.clock);
        config.endpoints = cluster.interfaces.iter().map(|it| it.address).collect();
        let entries = || {
            let (eks, ec2) = (self.region.eks.clone(), self.region.ec2.clone());
            Arc::new(AccessEntries::new(eks, ec2, &cluster.name))
        };
        let issuer = cluster.issuer(REGION);
        config.authn = authn::Config {
            service_accounts: Some(authn::ServiceAccounts {
                audiences: vec![issuer.clone(), "https://kubernetes.default.svc".to_owned()],
                issuer,
                keys: vec![files::account_key(&folder.join("sa.key"))?],
            }),
            token_webhook: Some(authn::Hook::local(
                "/authenticate",
                self.authenticator(cluster, entries()).service(),
            )),
            token_webhook_memory: WEBHOOK_MEMORY,
        };
        let access = authn::Hook::local("/authorize", AccessService::new(entries()));
        config.authorization_webhook = Some((access, WEBHOOK_MEMORY));
        let identity =
            self.issue(ca, "kube-apiserver-kubelet-client", "system:masters", &[], Usage::Client)?;
        config.proxy = proxy::Config {
            place: place.clone(),
            kubelet_tls: Some(tls::client(ca.certificate_pem(), Some(&identity))?),
            dial_limit: DIAL_LIMIT,
            scope: scope.clone(),
        };
        let metrics = MetricsServer::new(self.clock);
        let (group, version) = (metrics_server::GROUP, metrics_server::VERSION);
        config.delegates.push(Delegate::new(group, version, metrics.service()));
        let api = ApiServer::start(config).await?;
        let account = "system:serviceaccount:kube-system:metrics-server";
        metrics.connect(api.client(UserInfo::new(account, &["system:masters"])));
        Ok(api)
    }

    /// The cluster's state: a file of its own, or its part of etcd.
    async fn store(&self, cluster: &str) -> anyhow::Result<mvcc::Store> {
        if let Some(etcd) = &self.etcd {
            return Ok(mvcc::Store::etcd(etcd.config(cluster)?).await?);
        }
        let file = self.folder(cluster).join("state.redb");
        Ok(tokio::task::spawn_blocking(move || mvcc::Store::open(&file)).await??)
    }

    fn authenticator(&self, cluster: &Cluster, entries: Arc<AccessEntries>) -> Authenticator {
        let settings = Settings::load(&self.layout).ok().flatten();
        let port = settings.map_or(4566, |it| it.aws_port);
        let origins = ["127.0.0.1", "localhost"].map(|host| format!("http://{host}:{port}"));
        Authenticator::new(aws_iam_authenticator::Config {
            cluster: cluster.name.clone(),
            rules: TokenRules { origins: origins.to_vec(), ..TokenRules::default() },
            sts: sts(self.region.gateway.clone()),
            mappings: entries,
            clock: self.clock,
        })
    }

    fn issue(
        &self,
        ca: &Ca,
        cn: &str,
        group: &str,
        sans: &[String],
        usage: Usage,
    ) -> anyhow::Result<Identity> {
        let organizations = if group.is_empty() { Vec::new() } else { vec![group.to_owned()] };
        let profile = Profile {
            cn: cn.to_owned(),
            organizations,
            sans: sans.to_vec(),
            usages: vec![usage],
            not_after: self.clock.now() + CERTIFICATE_LIFE,
        };
        Ok(ca.issue(&profile)?)
    }

    fn listen(
        &self,
        cluster: &Cluster,
        ca: &Ca,
        api: &ApiServer,
        place: &Place,
        port: u16,
        scope: &Scope,
    ) -> anyhow::Result<()> {
        let identity =
            self.issue(ca, "kube-apiserver", "", &serving_names(cluster), Usage::Server)?;
        let config = tls::server(&identity, Some(ca.certificate_pem()))?;
        let sides = [
            (Place::Here, SocketAddr::from((Ipv4Addr::LOCALHOST, port))),
            (place.clone(), SocketAddr::from((Ipv4Addr::UNSPECIFIED, HTTPS))),
        ];
        for (place, address) in sides {
            let listener = place
                .listen(address)
                .with_context(|| format!("the API server cannot listen on {address}"))?;
            let serving =
                transport::serve(listener, Some(config.clone()), api.service(), scope.clone());
            drop(scope.spawn("kube-apiserver", serving));
        }
        if let Some(address) = cluster.public_address {
            let (service, scope) = (api.service(), scope.clone());
            self.driver.publish(address, PublicApi { tls: config, service, scope });
        }
        Ok(())
    }

    fn start_controllers(
        &self,
        cluster: &Cluster,
        ca: &Ca,
        api: &ApiServer,
        scope: &Scope,
    ) -> anyhow::Result<()> {
        // With the rights of their upstream roles, no more.
        let client = |name: &str| api.client(UserInfo::new(name, &[]));
        let (clock, child) = (self.clock, scope.child());
        let pem = ca.certificate_pem().to_owned();
        let ca = Arc::new(Ca::from_pem(ca.certificate_pem(), ca.key_pem())?);
        let mut config = kube_controller_manager::Config::new(ca, pem);
        config.node_names = Some(node_names(self.region.ec2.clone()));
        let controllers = kube_controller_manager::run(
            client("system:kube-controller-manager"),
            config,
            clock,
            child.clone(),
        );
        drop(scope.spawn("kube-controller-manager", controllers));
        let scheduler = kube_scheduler::run(client("system:kube-scheduler"), clock, child.clone());
        drop(scope.spawn("kube-scheduler", scheduler));
        let ec2 = self.region.gateway.client_as("eks.amazonaws.com");
        // As EKS does it: by this tag an instance is known as a node of the cluster.
        let tags = [("aws:eks:cluster-name".to_owned(), cluster.name.clone())].into();
        let cloud = cloud_controller_manager::run(
            client("system:cloud-controller-manager"),
            ec2,
            cloud_controller_manager::Config { tags },
            clock,
            child.clone(),
        );
        drop(scope.spawn("cloud-controller-manager", cloud));
        let policies = network_policy_controller::run(
            client("eks:network-policy-controller"),
            network_policy_controller::Config::default(),
            child,
        );
        drop(scope.spawn("network-policy-controller", policies));
        Ok(())
    }

    /// The cluster's port on 127.0.0.1: the same for its whole life.
    fn port(&self, cluster: &Cluster) -> anyhow::Result<u16> {
        let path = self.folder(&cluster.name).join("port");
        if let Ok(text) = fs::read_to_string(&path) {
            return Ok(text.trim().parse()?);
        }
        let port = crate::commands::up::free_port(None, self.api_port)?;
        write_atomically(&path, port.to_string().as_bytes())?;
        Ok(port)
    }

    /// The administrator's way in, with a client certificate.
    fn write_kubeconfig(&self, cluster: &Cluster, ca: &Ca, server: &str) -> anyhow::Result<()> {
        let identity = self.issue(ca, "kubernetes-admin", "system:masters", &[], Usage::Client)?;
        let config = Kubeconfig {
            name: cluster.name.clone(),
            server: server.to_owned(),
            ca_pem: ca.certificate_pem().to_owned(),
            tls_server_name: None,
            credentials: Credentials::Certificate(identity),
        };
        files::secret(&self.folder(&cluster.name).join("kubeconfig"), &config.render()?)
    }

    async fn end(&self, cluster: &Cluster) -> anyhow::Result<()> {
        let running = self.running.lock().remove(&cluster.name);
        if let Some((scope, _)) = running {
            scope.drain(Duration::from_secs(5)).await;
        }
        let folder = self.folder(&cluster.name);
        if folder.exists() {
            fs::remove_dir_all(&folder)?;
        }
        if let Some(etcd) = &self.etcd {
            mvcc::erase(&etcd.config(&cluster.name)?).await?;
        }
        linux_netns::delete(&self.names.control_plane(&cluster.name))?;
        Ok(())
    }
}

/// Answers for EC2 whether a node may have a serving certificate for these names.
fn node_names(ec2: Arc<Ec2>) -> Arc<kube_controller_manager::NodeNamesCheck> {
    Arc::new(move |node, dns, ips| serving::are_of_instance(&ec2.view(), node, dns, ips))
}

/// Every name and address by which somebody reaches the API server.
fn serving_names(cluster: &Cluster) -> Vec<String> {
    let mut names = vec![cluster.endpoint_host(REGION).to_lowercase()];
    let fixed = [
        "kubernetes",
        "kubernetes.default",
        "kubernetes.default.svc",
        "kubernetes.default.svc.cluster.local",
        "localhost",
        "127.0.0.1",
        "10.100.0.1",
    ];
    names.extend(fixed.map(str::to_owned));
    names.extend(cluster.interfaces.iter().map(|it| it.address.to_string()));
    names
}

/// STS in this process: the presigned request is verified like any other.
fn sts(gateway: Gateway) -> Exchange {
    Exchange::service(tower::service_fn(move |request: Request<Bytes>| {
        let gateway = gateway.clone();
        async move {
            let (parts, body) = request.into_parts();
            let response = gateway.answer(&parts, &body, Source::Internal, None).await;
            Ok::<_, std::convert::Infallible>(response.map(transport::full))
        }
    }))
}

impl ControlPlanes for Planes {
    fn ensure<'a>(
        &'a self,
        cluster: &'a Cluster,
    ) -> BoxFuture<'a, Result<ControlPlane, ControlPlaneError>> {
        Box::pin(async move {
            self.start(cluster).await.map_err(|error| ControlPlaneError {
                cluster: cluster.name.clone(),
                reason: format!("{error:#}"),
            })
        })
    }

    fn remove<'a>(&'a self, cluster: &'a Cluster) -> BoxFuture<'a, Result<(), ControlPlaneError>> {
        Box::pin(async move {
            self.end(cluster).await.map_err(|error| ControlPlaneError {
                cluster: cluster.name.clone(),
                reason: format!("{error:#}"),
            })
        })
    }
}
