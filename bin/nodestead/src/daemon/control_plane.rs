//! A cluster's control plane: API server, scheduler, controllers, in this process.
//!
//! It listens on 127.0.0.1 for the machine's users and, in its own network namespace, on the two
//! interfaces that EKS put into the VPC; from that namespace alone it reaches kubelets and pods.
//! What it keeps lies in one folder per cluster.

use std::{
    collections::BTreeMap,
    fs,
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
    path::PathBuf,
    sync::Arc,
    time::Duration,
};

use anyhow::Context;
use api_kube::vpc_resources::CONTROLLER_USERS;
use aws_iam_authenticator::{AccessService, Authenticator, ConfigMapMappings, TokenRules};
use clock::Clock;
use futures::future::BoxFuture;
use kube_apiserver::{ApiServer, Delegate, authn, proxy, request::UserInfo};
use kube_controller_manager::Switches;
use lifecycle::Scope;
use metrics_server::MetricsServer;
use parking_lot::Mutex;
use pki::{Ca, Credentials, Identity, Kubeconfig, Profile, Usage};
use region_ec2::Ec2;
use region_eks::{Cluster, ControlPlane, ControlPlaneError, ControlPlanes, FargateWebhook};
use transport::{Place, tls};

use super::{
    associations::PodIdentities,
    cluster_role,
    driver::Driver,
    endpoints::PublicApi,
    fargate, files,
    mappings::AccessEntries,
    pod_identity,
    region::{REGION, Region, authority},
    serving,
    signing_keys::{KeyFolder, legacy_key},
    system_images,
    world::Names,
};
use crate::layout::{Etcd, Layout, Settings, write_atomically};

const CERTIFICATE_LIFE: Duration = Duration::from_secs(365 * 24 * 3600);
/// Upstream's limit for dialling a kubelet.
const DIAL_LIMIT: Duration = Duration::from_secs(30);
const HTTPS: u16 = 443;
/// Who signs the certificate by which aggregated API servers know this one, and its name, as EKS's.
const FRONT_PROXY_CA: &str = "front-proxy-ca";
const FRONT_PROXY: &str = "front-proxy-client";
/// What stays ours where another controller manager does the rest: as on EKS, a kubelet's serving
/// certificate is approved by who knows EC2's instances.
const APPROVER: &str = "certificatesigningrequest-approving-controller";
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
    /// Where STS is called by whoever has a token.
    aws_port: u16,
    etcd: Option<Etcd>,
    /// Parts that others are to run.
    without: Vec<String>,
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
        let Settings { api_port, aws_port, .. } = *settings;
        let (etcd, without) = (settings.etcd.clone(), settings.without.clone());
        let ports = Mutex::default();
        Self {
            layout,
            region,
            driver,
            names,
            api_port,
            aws_port,
            etcd,
            without,
            clock,
            scope,
            running,
            ports,
        }
    }

    /// Whether this process runs that part of the control plane.
    fn is_ours(&self, part: &str) -> bool {
        !self.without.iter().any(|it| it == part)
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
        self.start_pod_identity_webhook(cluster, &ca, &api, &place, scope).await?;
        let names = ["127.0.0.1".to_owned()];
        let identity = self.issue(&ca, "fargate-webhook", "", &names, Usage::Server)?;
        let webhook = FargateWebhook::new(self.region.eks.clone(), &cluster.name);
        let fargate = fargate::start(webhook, &identity, ca.certificate_pem(), &place, scope)?;
        let port = {
            let _alone = self.ports.lock();
            let port = self.port(cluster)?;
            self.listen(cluster, &ca, &api, &place, port, scope)?;
            port
        };
        self.driver.vouch(&ca, scope)?;
        let upkeep = api.clone();
        drop(scope.spawn("upkeep", async move { upkeep.maintain().await }));
        self.start_controllers(cluster, &ca, &api, scope)?;
        let host_endpoint = format!("https://127.0.0.1:{port}");
        self.write_kubeconfig(cluster, &ca, &host_endpoint)?;
        Ok(ControlPlane {
            certificate_authority_pem: ca.certificate_pem().to_owned(),
            host_endpoint,
            client: api.client(UserInfo::new("eks:cluster-bootstrap", &["system:masters"])),
            fargate: Some(fargate),
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
        let front_proxy = files::ca(&folder, FRONT_PROXY_CA, FRONT_PROXY_CA)?;
        let store = self.store(&cluster.name).await?;
        let mut config = kube_apiserver::Config::new(store, self.clock);
        config.service_cidr = cluster.service_cidr.parse().context("the Services' range")?;
        config.endpoints = endpoints(cluster);
        let aws_auth = ConfigMapMappings::default();
        let entries = || {
            let (eks, ec2) = (self.region.eks.clone(), self.region.ec2.clone());
            Arc::new(AccessEntries::new(eks, ec2, &cluster.name, aws_auth.clone()))
        };
        let issuer = cluster.issuer(REGION);
        let keys = KeyFolder::open(&folder, self.clock.now())?;
        config.authn = authn::Config {
            service_accounts: Some(authn::ServiceAccounts {
                audiences: vec![issuer.clone(), "https://kubernetes.default.svc".to_owned()],
                jwks_uri: format!("{issuer}/keys"),
                issuer,
                keys: keys.keys(),
                legacy_keys: authn::SigningKeys::new(vec![legacy_key(&folder)?]),
            }),
            token_webhook: Some(authn::Hook::local(
                "/authenticate",
                self.authenticator(cluster, entries()).service(),
            )),
            token_webhook_memory: WEBHOOK_MEMORY,
            client_ca_pem: Some(ca.certificate_pem().to_owned()),
            request_header: Some(authn::RequestHeader::new(
                front_proxy.certificate_pem(),
                &[FRONT_PROXY],
            )),
            ..authn::Config::default()
        };
        drop(scope.spawn("signing keys", keys.rotate(self.clock)));
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
        config.proxy_client =
            Some(self.issue(&front_proxy, FRONT_PROXY, "", &[], Usage::Client)?);
        let metrics = MetricsServer::new(self.clock);
        let (group, version) = (metrics_server::GROUP, metrics_server::VERSION);
        config.delegates.push(Delegate::new(group, version, metrics.service()));
        let api = ApiServer::start(config).await?;
        let account = "system:serviceaccount:kube-system:metrics-server";
        metrics.connect(api.client(UserInfo::new(account, &["system:masters"])));
        // With EKS's own rights: it reads this one ConfigMap.
        let client = api.client(UserInfo::new("eks:authenticator", &["system:masters"]));
        drop(scope.spawn("aws-auth", aws_auth.follow(client)));
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
        let origins =
            ["127.0.0.1", "localhost"].map(|host| format!("http://{host}:{}", self.aws_port));
        Authenticator::new(aws_iam_authenticator::Config {
            cluster: cluster.name.clone(),
            rules: TokenRules { origins: origins.to_vec(), ..TokenRules::default() },
            sts: cluster_role::signed(self.region.gateway.clone()),
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
        let front_proxy = files::ca(&self.folder(&cluster.name), FRONT_PROXY_CA, FRONT_PROXY_CA)?;
        let trusted = format!("{}\n{}", ca.certificate_pem(), front_proxy.certificate_pem());
        let config = tls::server(&identity, Some(&trusted))?;
        let sides = [
            (Place::Here, SocketAddr::from((Ipv4Addr::LOCALHOST, port))),
            (place.clone(), SocketAddr::new(any_address(cluster), HTTPS)),
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
        config.local_path_image = Some(system_images::LOCAL_PATH.to_owned());
        config.node_names = Some(node_names(self.region.ec2.clone()));
        let (components, is_ours) = (api.components(), |name: &str| self.is_ours(name));
        config.service_account_key = Some(Arc::new(legacy_key(&self.folder(&cluster.name))?));
        if is_ours("kube-scheduler") {
            let client = client("system:kube-scheduler");
            let scheduler = kube_scheduler::run(client, clock, child.clone());
            let scheduler = scope.spawn("kube-scheduler", scheduler);
            components.add("scheduler", move || !scheduler.is_finished());
        }
        let is_whole = is_ours("kube-controller-manager");
        if !is_whole {
            config.controllers =
                Switches::new(&[APPROVER.to_owned()]).map_err(anyhow::Error::msg)?;
        }
        let manager = client("system:kube-controller-manager");
        let controllers = kube_controller_manager::run(manager, config, clock, child.clone());
        let controllers = scope.spawn("kube-controller-manager", controllers);
        if is_whole {
            components.add("controller-manager", move || !controllers.is_finished());
        }
        let ec2 = self.region.gateway.client_as("eks.amazonaws.com");
        // As EKS does it: by this tag an instance is known as a node of the cluster.
        let tags = [("aws:eks:cluster-name".to_owned(), cluster.name.clone())].into();
        let load_balancers = cloud_controller_manager::LoadBalancers {
            client: cluster_role::client(
                &self.region.gateway,
                cluster,
                "cloud-controller-manager",
                self.clock,
            ),
            cluster: cluster.name.clone(),
            vpc_id: cluster.vpc_id.clone(),
        };
        let cloud = cloud_controller_manager::run(
            client("system:cloud-controller-manager"),
            ec2,
            cloud_controller_manager::Config { tags, load_balancers: Some(load_balancers) },
            clock,
            child.clone(),
        );
        drop(scope.spawn("cloud-controller-manager", cloud));
        let policies = network_policy_controller::run(
            client("eks:network-policy-controller"),
            network_policy_controller::Config::default(),
            child.clone(),
        );
        drop(scope.spawn("network-policy-controller", policies));
        self.start_vpc_resource_controller(cluster, api, scope);
        Ok(())
    }

    /// Security groups for pods: with the rights of the cluster's role, as on EKS.
    fn start_vpc_resource_controller(&self, cluster: &Cluster, api: &ApiServer, scope: &Scope) {
        let gateway = &self.region.gateway;
        let clients = vpc_resource_controller::Clients {
            role: cluster_role::client(gateway, cluster, "eks-vpc-resource-controller", self.clock),
            service: gateway.client_as("eks.amazonaws.com"),
        };
        let user = UserInfo::new(CONTROLLER_USERS[0], &[]);
        let config = vpc_resource_controller::Config { cluster: cluster.name.clone() };
        let child = scope.child();
        let running =
            vpc_resource_controller::run(api.client(user), clients, config, self.clock, child);
        drop(scope.spawn("vpc-resource-controller", running));
    }

    /// Before anybody else reaches the API server, so that no pod misses it.
    async fn start_pod_identity_webhook(
        &self,
        cluster: &Cluster,
        ca: &Ca,
        api: &ApiServer,
        place: &Place,
        scope: &Scope,
    ) -> anyhow::Result<()> {
        let names = ["127.0.0.1".to_owned()];
        let associations = PodIdentities::new(self.region.eks.clone()).of(&cluster.name);
        let parts = pod_identity::Parts {
            identity: self.issue(ca, "pod-identity-webhook", "", &names, Usage::Server)?,
            ca_pem: ca.certificate_pem().to_owned(),
            authority_pem: authority(&self.layout.pki())?.certificate_pem().to_owned(),
            associations: Arc::new(associations),
            is_ipv6: cluster.is_ipv6(),
        };
        pod_identity::start(parts, api, place, self.clock, scope).await
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

/// Where the cluster's pods reach the API server: addresses of the cluster's family.
fn endpoints(cluster: &Cluster) -> Vec<IpAddr> {
    let address = |it: &region_eks::Interface| match cluster.is_ipv6() {
        true => it.ipv6_address.map(IpAddr::V6),
        false => Some(IpAddr::V4(it.address)),
    };
    cluster.interfaces.iter().filter_map(address).collect()
}

/// What is listened on in the VPC: nodes come by IPv4 in either case.
fn any_address(cluster: &Cluster) -> IpAddr {
    match cluster.is_ipv6() {
        true => Ipv6Addr::UNSPECIFIED.into(),
        false => Ipv4Addr::UNSPECIFIED.into(),
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
    ];
    names.extend(fixed.map(str::to_owned));
    let first = cluster.service_cidr.parse().map(kube_apiserver::first_address);
    names.extend(first.map(|it| it.to_string()));
    names.extend(cluster.interfaces.iter().filter_map(|it| it.ipv6_address?.to_string().into()));
    names.extend(cluster.interfaces.iter().map(|it| it.address.to_string()));
    names
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
