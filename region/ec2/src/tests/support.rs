//! A region with EC2 alone, a root user, and a user who may do nothing.

use std::{collections::BTreeMap, sync::Arc};

use aws_ec2::{
    common::Filter,
    instance::Instance,
    run_instances::{RunInstances, RunInstancesRequest},
    subnet::{DescribeSubnets, DescribeSubnetsRequest, Subnet},
};
use aws_wire::{
    Client, Fault, Operation,
    client::{Config as ClientConfig, Endpoints, Exchange},
    credentials::Credentials,
};
use bytes::Bytes;
use clock::Clock;
use http::Request;
use http_body_util::Full;
use latency::Latency;
use region_gateway::{
    AccessKey, AccessKeys, Attached, CallerKind, Config as GatewayConfig, Events, Gateway,
    Identities, Principal, Role, Side,
};
use region_store::Store;
use tower::ServiceExt;

use crate::{Config, Ec2, Environment, ProfileInfo, records::HostReport, routes, seed};

pub(super) const ACCOUNT: &str = "111122223333";

struct World;

impl Environment for World {
    fn instance_profile(&self, name_or_arn: &str) -> Option<ProfileInfo> {
        name_or_arn.ends_with("node").then(|| ProfileInfo {
            arn: format!("arn:aws:iam::{ACCOUNT}:instance-profile/node"),
            id: "AIPANODE".to_owned(),
            role_arn: Some(format!("arn:aws:iam::{ACCOUNT}:role/node")),
        })
    }

    fn console(&self, _: &str) -> Option<Vec<u8>> {
        Some(b"booting".to_vec())
    }
}

impl AccessKeys for World {
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

impl Identities for World {
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

pub(super) struct Region {
    pub(super) ec2: Arc<Ec2>,
    pub(super) root: Client,
    pub(super) gateway: Gateway,
    pub(super) store: Store,
    pub(super) clock: Clock,
}

/// Must be called inside a runtime whose time is paused.
pub(super) fn region() -> Region {
    let clock = Clock::simulated("2026-11-23T12:00:00Z".parse().unwrap());
    over(Store::in_memory(), clock)
}

/// A region over what another one left behind.
pub(super) fn over(store: Store, clock: Clock) -> Region {
    with(store, clock, Latency::INSTANT)
}

pub(super) fn with(store: Store, clock: Clock, latency: Latency) -> Region {
    configured(store, clock, Config { latency, ..Config::new(ACCOUNT, "us-east-1") })
}

/// A region whose machine holds so many instances.
pub(super) fn with_capacity(capacity: usize) -> Region {
    let clock = Clock::simulated("2026-11-23T12:00:00Z".parse().unwrap());
    let config = Config { capacity, ..Config::new(ACCOUNT, "us-east-1") };
    configured(Store::in_memory(), clock, config)
}

/// A region whose settings are changed.
pub(super) fn configured_with(change: impl Fn(Config) -> Config) -> Region {
    let clock = Clock::simulated("2026-11-23T12:00:00Z".parse().unwrap());
    configured(Store::in_memory(), clock, change(Config::new(ACCOUNT, "us-east-1")))
}

fn configured(store: Store, clock: Clock, config: Config) -> Region {
    let ec2 = Arc::new(Ec2::open(&store, config, clock, Arc::new(World)).unwrap());
    let gateway = Gateway::new(GatewayConfig {
        region: "us-east-1".to_owned(),
        account: ACCOUNT.to_owned(),
        clock,
        keys: vec![Arc::new(World)],
        identities: Arc::new(World),
        events: Events::in_memory(),
    });
    assert!(gateway.open(routes(&ec2)));
    let root = client(&gateway, clock, "root");
    Region { ec2, root, gateway, store, clock }
}

pub(super) fn client(gateway: &Gateway, clock: Clock, key: &str) -> Client {
    let service = gateway.service(Side::Host);
    let exchange = Exchange::service(tower::service_fn(move |request: Request<Bytes>| {
        service.clone().oneshot(request.map(Full::new))
    }));
    Client::new(ClientConfig {
        region: "us-east-1".to_owned(),
        endpoints: Endpoints::single("http://127.0.0.1:4566"),
        exchange,
        credentials: Some(Arc::new(Credentials::new(key, "secret"))),
        clock,
        attempts: 1,
    })
}

impl Region {
    pub(super) async fn call<O: Operation>(&self, request: O::Request) -> O::Response {
        self.root.call::<O>(request).await.unwrap_or_else(|it| panic!("{}: {it}", O::ACTION))
    }

    pub(super) async fn refused<O: Operation>(&self, request: O::Request) -> Fault {
        match self.root.call::<O>(request).await {
            Ok(_) => panic!("{} was not refused", O::ACTION),
            Err(error) => error.fault().cloned().unwrap_or_else(|| panic!("no fault: {error:?}")),
        }
    }

    pub(super) async fn code<O: Operation>(&self, request: O::Request) -> String {
        self.refused::<O>(request).await.code.into_owned()
    }

    /// The default subnets, by zone.
    pub(super) async fn subnets(&self) -> Vec<Subnet> {
        let request = DescribeSubnetsRequest {
            filters: vec![filter("default-for-az", &["true"])],
            ..Default::default()
        };
        let mut found = self.call::<DescribeSubnets>(request).await.subnets;
        found.sort_by_key(|it| it.availability_zone.clone());
        found
    }

    pub(super) async fn run(&self, request: RunInstancesRequest) -> Vec<Instance> {
        self.call::<RunInstances>(request).await.instances
    }

    pub(super) fn report(&self, id: &str, report: &HostReport) {
        self.ec2.report(id, report).unwrap();
    }
}

/// One m5.large of the newest image.
pub(super) fn launch() -> RunInstancesRequest {
    RunInstancesRequest {
        image_id: Some(image_id()),
        instance_type: Some("m5.large".to_owned()),
        min_count: 1,
        max_count: 1,
        ..Default::default()
    }
}

pub(super) fn image_id() -> String {
    seed::releases().last().unwrap().image_id()
}

pub(super) fn filter(name: &str, values: &[&str]) -> Filter {
    let values = values.iter().map(ToString::to_string).collect();
    Filter { name: Some(name.to_owned()), values }
}

pub(super) fn text(it: &str) -> Option<String> {
    Some(it.to_owned())
}
