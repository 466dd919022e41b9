//! A region with the real EC2 and IMDS in this process, and an instance that is a throw-away
//! network namespace: attaching an interface makes a veth pair in it.

use std::{
    collections::BTreeMap, fs::File, os::fd::AsFd, path::PathBuf, process::Command, sync::Arc,
};

use api_imds::SecurityCredentials;
use aws_ec2::{
    network_interface::{
        AttachNetworkInterface, AttachNetworkInterfaceRequest, CreateNetworkInterface,
        CreateNetworkInterfaceRequest,
    },
    run_instances::{RunInstances, RunInstancesRequest},
    subnet::{CreateSubnet, CreateSubnetRequest},
};
use aws_wire::{
    Client,
    client::{Config as ClientConfig, Endpoints, Exchange},
    credentials::Credentials,
};
use bytes::Bytes;
use clock::Clock;
use http::Request;
use http_body_util::Full;
use lifecycle::Scope;
use linux_netlink::{Mac, Netlink, Veth, VethEnd};
use parking_lot::Mutex;
use region_ec2::{Config as Ec2Config, Ec2, Environment, ProfileInfo, records, routes, seed};
use region_gateway::{
    AccessKey, AccessKeys, Attached, CallerKind, Config as GatewayConfig, Events, Gateway,
    Identities, Principal, Role, Side,
};
use region_imds::{
    CredentialsError, Identity, Imds, InstanceMetadata, Interface, Metadata as Served, Options,
};
use region_store::Store;
use tower::ServiceExt;
use transport::Place;
use vpc_cni::{
    cloud::Cloud,
    config::Config,
    events::Events as PodEvents,
    ipamd::{Ipamd, IpamdError, Parts},
    metadata::Metadata,
    plan::Limits,
};

use crate::faults::Faults;

const ACCOUNT: &str = "111122223333";

/// What the region asks about IAM: two access keys, of the root user and of somebody who may not.
struct Iam;

impl Environment for Iam {
    fn instance_profile(&self, _: &str) -> Option<ProfileInfo> {
        None
    }

    fn console(&self, _: &str) -> Option<Vec<u8>> {
        None
    }
}

impl AccessKeys for Iam {
    fn access_key(&self, access_key_id: &str) -> Option<AccessKey> {
        let kind = match access_key_id {
            "root" => CallerKind::Root,
            name => CallerKind::User { name: name.to_owned() },
        };
        let principal = Principal {
            account: ACCOUNT.to_owned(),
            arn: format!("arn:aws:iam::{ACCOUNT}:{access_key_id}"),
            user_id: "AIDA".to_owned(),
            kind,
            tags: BTreeMap::new(),
        };
        Some(AccessKey {
            secret: "secret".to_owned(),
            session_token: None,
            expires: None,
            principal,
            session_policies: Vec::new(),
            session_context: BTreeMap::new(),
        })
    }
}

impl Identities for Iam {
    fn attached(&self, _: &CallerKind) -> Option<Attached> {
        Some(Attached::default())
    }

    fn role(&self, _: &str) -> Option<Role> {
        None
    }

    fn managed_policy(&self, _: &str) -> Option<iam_policy::Named> {
        None
    }
}

/// IMDS's view of EC2's records.
struct View {
    ec2: Arc<Ec2>,
    instance: String,
    /// What is told instead.
    stale: Arc<Mutex<Option<Arc<InstanceMetadata>>>>,
}

impl Served for View {
    fn instance(&self, _: &str, _: std::net::IpAddr) -> Option<Arc<InstanceMetadata>> {
        if let Some(stale) = &*self.stale.lock() {
            return Some(stale.clone());
        }
        let state = self.ec2.view();
        let instance = state.instances.get(&self.instance)?;
        let interface = |eni: &records::NetworkInterface| Interface {
            id: eni.id.clone(),
            mac: eni.mac.clone(),
            device_number: eni.attachment.as_ref().map_or(0, |it| it.device_index),
            primary: eni.primary_address,
            secondary: eni.secondary_addresses.iter().copied().collect(),
            prefixes: eni.prefixes.iter().copied().collect(),
            ipv6_addresses: eni.ipv6_addresses.clone(),
            ipv6_prefixes: eni.ipv6_prefixes.iter().copied().collect(),
            subnet_ipv6_cidrs: Vec::new(),
            vpc_ipv6_cidrs: Vec::new(),
            subnet_id: eni.subnet_id.clone(),
            subnet_cidr: state.subnets.get(&eni.subnet_id).expect("it is in a subnet").cidr,
            vpc_id: eni.vpc_id.clone(),
            vpc_cidrs: state
                .vpcs
                .get(&eni.vpc_id)
                .expect("it is in a VPC")
                .cidrs
                .iter()
                .map(|it| it.cidr)
                .collect(),
            security_groups: eni
                .security_groups
                .iter()
                .map(|id| (id.clone(), id.clone()))
                .collect(),
            public_ipv4: None,
            owner: ACCOUNT.to_owned(),
            hostname: String::new(),
        };
        let interfaces = state.interfaces_of(&self.instance).into_iter().map(interface).collect();
        Some(Arc::new(InstanceMetadata {
            identity: Identity {
                zone: instance.zone.clone(),
                instance_id: instance.id.clone(),
                instance_type: instance.instance_type.clone(),
                ..Identity::default()
            },
            interfaces,
            options: Options {
                by_ipv6: false,
                is_enabled: true,
                tokens_required: true,
                hop_limit: 2,
                tags_enabled: false,
            },
            ..InstanceMetadata::default()
        }))
    }

    async fn credentials(
        &self,
        _: &InstanceMetadata,
        role: &str,
    ) -> Result<SecurityCredentials, CredentialsError> {
        let source = "no roles in this region".into();
        Err(CredentialsError { role: role.to_owned(), code: String::new(), source })
    }
}

/// The region, one instance in it, and its namespace.
pub(crate) struct World {
    pub(crate) ec2: Arc<Ec2>,
    pub(crate) instance: String,
    pub(crate) folder: tempfile::TempDir,
    gateway: Gateway,
    netns: Netns,
    imds: String,
    view: Arc<View>,
    /// What goes wrong between ipamd and EC2.
    pub(crate) faults: Arc<Faults>,
    /// Where ipamd tells about pods.
    pub(crate) events: Option<PodEvents>,
    _scope: Guard,
}

struct Guard(Scope);

impl Drop for Guard {
    fn drop(&mut self) {
        self.0.cancel();
    }
}

struct Netns(String);

impl Drop for Netns {
    fn drop(&mut self) {
        drop(Command::new("ip").args(["netns", "delete", &self.0]).status());
    }
}

impl World {
    /// An m5.large in a subnet of its own with this CIDR. `None`, with a word on the terminal, where
    /// namespaces cannot be made.
    pub(crate) async fn new(tail: &str, cidr: &str) -> Option<Self> {
        let name = format!("nst-t-ipamd-{}-{tail}", std::process::id());
        let made = Command::new("ip").args(["netns", "add", &name]).status();
        if !made.is_ok_and(|status| status.success()) {
            eprintln!("not run: cannot make network namespaces here");
            return None;
        }
        let netns = Netns(name);
        let clock = Clock::system();
        let config = Ec2Config::new(ACCOUNT, "us-east-1");
        let ec2 = Ec2::open(&Store::in_memory(), config, clock, Arc::new(Iam)).expect("it is new");
        let ec2 = Arc::new(ec2);
        let gateway = Gateway::new(GatewayConfig {
            region: "us-east-1".to_owned(),
            account: ACCOUNT.to_owned(),
            clock,
            keys: vec![Arc::new(Iam)],
            identities: Arc::new(Iam),
            events: Events::in_memory(),
        });
        assert!(gateway.open(routes(&ec2)));
        let instance = launch(&client(&gateway, "root", Arc::default(), 1), &ec2, cidr).await;
        let scope = Scope::new();
        let listener = Place::Here.listen(([127, 0, 0, 1], 0).into()).expect("a free port");
        let imds = format!("http://{}", listener.local_addr().expect("it listens"));
        let stale = Arc::default();
        let view = View { ec2: ec2.clone(), instance: instance.clone(), stale };
        let view = Arc::new(view);
        drop(
            scope.spawn(
                "imds",
                Imds::new("vpc", view.clone(), clock).accept(listener, scope.clone()),
            ),
        );
        let world = Self {
            ec2,
            instance,
            folder: tempfile::tempdir().expect("a folder"),
            gateway,
            netns,
            imds,
            view,
            faults: Arc::default(),
            events: None,
            _scope: Guard(scope.clone()),
        };
        world.plug();
        let (ec2, instance, netns) = (world.ec2.clone(), world.instance.clone(), world.netns());
        drop(scope.spawn("cables", async move {
            let mut changes = ec2.changes();
            while changes.changed().await.is_ok() {
                plug(&ec2, &instance, &netns);
            }
        }));
        Some(world)
    }

    pub(crate) fn netns(&self) -> PathBuf {
        PathBuf::from("/run/netns").join(&self.netns.0)
    }

    pub(crate) fn netlink(&self) -> Netlink {
        Netlink::at(&self.netns()).expect("the namespace is there")
    }

    pub(crate) fn root(&self) -> Client {
        client(&self.gateway, "root", Arc::default(), 1)
    }

    /// Has a trunk attached as this device, as the controller of VPC resources does.
    pub(crate) async fn attach_trunk(&self, device_index: i64) -> String {
        let subnet = self.ec2.view().instances.get(&self.instance).map(|it| it.subnet_id.clone());
        let request = CreateNetworkInterfaceRequest {
            interface_type: Some("trunk".to_owned()),
            subnet_id: subnet.expect("the instance is there"),
            ..Default::default()
        };
        let made = self.root().call::<CreateNetworkInterface>(request).await.expect("it fits");
        let made = made.network_interface.and_then(|it| it.network_interface_id);
        let network_interface_id = made.expect("it has an id");
        let request = AttachNetworkInterfaceRequest {
            network_interface_id: network_interface_id.clone(),
            instance_id: self.instance.clone(),
            device_index,
            ..Default::default()
        };
        self.root().call::<AttachNetworkInterface>(request).await.expect("there is a slot");
        self.plug();
        network_interface_id
    }

    /// From now on IMDS tells what it tells now, of the interfaces that `shows` chooses.
    pub(crate) fn stop_imds(&self, shows: impl Fn(&Interface) -> bool) {
        self.go_on_with_imds();
        let anybody = std::net::Ipv4Addr::LOCALHOST.into();
        let now = self.view.instance("vpc", anybody).expect("the instance is there");
        let mut shown = InstanceMetadata::clone(&now);
        shown.interfaces.retain(|it| shows(it));
        *self.view.stale.lock() = Some(Arc::new(shown));
    }

    pub(crate) fn go_on_with_imds(&self) {
        *self.view.stale.lock() = None;
    }

    /// Makes the links of what is attached, now.
    pub(crate) fn plug(&self) {
        plug(&self.ec2, &self.instance, &self.netns());
    }

    /// ipamd with this environment, as the root user or as somebody who may not.
    pub(crate) async fn start(
        &self,
        environment: &[(&str, &str)],
        key: &str,
    ) -> Result<Arc<Ipamd>, IpamdError> {
        self.start_at(environment, key, Clock::system()).await
    }

    pub(crate) async fn start_at(
        &self,
        environment: &[(&str, &str)],
        key: &str,
        clock: Clock,
    ) -> Result<Arc<Ipamd>, IpamdError> {
        let cloud = client(&self.gateway, key, self.faults.clone(), 1);
        self.start_with(environment, cloud, clock).await
    }

    /// As [`Self::start`] by the root user, whose client makes a call so often at the most.
    pub(crate) async fn start_repeating(
        &self,
        environment: &[(&str, &str)],
        attempts: u32,
    ) -> Result<Arc<Ipamd>, IpamdError> {
        let cloud = client(&self.gateway, "root", self.faults.clone(), attempts);
        self.start_with(environment, cloud, Clock::system()).await
    }

    async fn start_with(
        &self,
        environment: &[(&str, &str)],
        cloud: Client,
        clock: Clock,
    ) -> Result<Arc<Ipamd>, IpamdError> {
        let variable = |name: &str| {
            let found = environment.iter().find(|(key, _)| *key == name);
            found.map(|(_, value)| (*value).to_owned())
        };
        let metadata = Metadata::new(Some(&self.imds));
        let identity = metadata.identity().await.expect("IMDS serves");
        let parts = Parts {
            config: Config::from_environment(variable).expect("it is valid"),
            limits: Limits { max_enis: 3, per_eni: 9, max_pods: 29 },
            cloud: Some(Cloud::new(cloud, &self.instance)),
            identity,
            metadata,
            events: self.events.clone(),
            pods: None,
            clock,
            checkpoint: self.folder.path().join("ipam.json"),
            netns: Some(self.netns()),
        };
        Ipamd::start(parts).await.map(Arc::new)
    }
}

/// Makes links for attached interfaces and removes those of others.
fn plug(ec2: &Ec2, instance: &str, netns: &std::path::Path) {
    let (here, there) = (Netlink::here().expect("root"), Netlink::at(netns).expect("it is there"));
    let namespace = File::open(netns).expect("it is there");
    let state = ec2.view();
    let attached = state.interfaces_of(instance);
    for eni in &attached {
        let mac: Mac = eni.mac.parse().expect("EC2 writes hardware addresses");
        if there.link_by_mac(mac).expect("it can be asked").is_some() {
            continue;
        }
        let index = eni.attachment.as_ref().map_or(0, |it| it.device_index);
        let (end, name) = (format!("nstt{}", &eni.id[eni.id.len() - 9..]), format!("eth{index}"));
        let peer =
            VethEnd { mac: Some(mac), netns: Some(namespace.as_fd()), ..VethEnd::named(&name) };
        here.create_veth(&Veth { end: VethEnd::named(&end), peer }).expect("the names are free");
        let link = there.link_by_mac(mac).expect("it can be asked").expect("it was just made");
        there.set_up(link.index).expect("it is there");
        let outer = here.link_by_name(&end).expect("it can be asked").expect("it was just made");
        here.set_up(outer.index).expect("it is there");
    }
    for link in there.links().expect("it can be asked") {
        let is_eni = link.name.starts_with("eth");
        let is_attached = attached.iter().any(|eni| eni.mac.parse().ok() == link.mac);
        if is_eni && !is_attached {
            there.delete_link(link.index).expect("it is there");
        }
    }
}

async fn launch(root: &Client, ec2: &Ec2, cidr: &str) -> String {
    let vpc = ec2.default_vpc().expect("the account has one").id;
    let request = CreateSubnetRequest {
        vpc_id: vpc,
        cidr_block: Some(cidr.to_owned()),
        availability_zone: Some("us-east-1a".to_owned()),
        ..Default::default()
    };
    let subnet = root.call::<CreateSubnet>(request).await.expect("the CIDR is free").subnet;
    let request = RunInstancesRequest {
        image_id: Some(seed::releases().last().expect("there are images").image_id()),
        instance_type: Some("m5.large".to_owned()),
        subnet_id: subnet.and_then(|it| it.subnet_id),
        min_count: 1,
        max_count: 1,
        ..Default::default()
    };
    let mut launched = root.call::<RunInstances>(request).await.expect("it fits").instances;
    let id = launched.remove(0).instance_id.expect("it has an id");
    ec2.report(&id, &records::HostReport::Started).expect("it is pending");
    id
}

fn client(gateway: &Gateway, key: &str, faults: Arc<Faults>, attempts: u32) -> Client {
    let service = gateway.service(Side::Host);
    let exchange = Exchange::service(tower::service_fn(move |request: Request<Bytes>| {
        let (service, fault) = (service.clone(), faults.next(request.body()));
        let call = move |request: Request<Bytes>| service.oneshot(request.map(Full::new));
        async move {
            match fault {
                Some(fault) => Ok(fault.meet(request, call).await),
                None => call(request).await,
            }
        }
    }));
    Client::new(ClientConfig {
        region: "us-east-1".to_owned(),
        endpoints: Endpoints::single("http://127.0.0.1:4566"),
        exchange,
        credentials: Some(Arc::new(Credentials::new(key, "secret"))),
        clock: Clock::system(),
        attempts,
    })
}
