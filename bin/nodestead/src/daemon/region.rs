//! The AWS side, composed: one store, the services over it, one gateway in front.

use std::{path::Path, sync::Arc};

use anyhow::Context;
use clock::Clock;
use latency::Latency;
use lifecycle::Scope;
use region_autoscaling::AutoScaling;
use region_ec2::Ec2;
use region_ecr::Ecr;
use region_eks::Eks;
use region_gateway::{AccessKeys, Events, Gateway, Identities, Routes};
use region_iam::{Iam, RootKey};
use region_ssm::Ssm;
use region_store::Store;
use region_sts::Sts;

use super::{
    consoles::Consoles,
    environment::{Ec2Environment, EksRoles},
};
use crate::{
    layout::{Layout, Settings},
    room,
};

pub(crate) const ACCOUNT: &str = "111122223333";
pub(crate) const REGION: &str = "us-east-1";
/// How long new instances of a node group may take to become nodes: AWS waits about as long.
const JOIN_LIMIT: std::time::Duration = std::time::Duration::from_secs(20 * 60);

/// The services of the region. Cheap to clone.
#[derive(Clone)]
pub(crate) struct Region {
    pub(crate) iam: Arc<Iam>,
    pub(crate) sts: Arc<Sts>,
    pub(crate) ec2: Arc<Ec2>,
    pub(crate) autoscaling: Arc<AutoScaling>,
    pub(crate) eks: Eks,
    pub(crate) gateway: Gateway,
    pub(crate) ecr: Arc<Ecr>,
    pub(crate) latency: Latency,
}

impl Region {
    /// Opens the region's state, or makes a new account.
    pub(crate) fn open(
        layout: &Layout,
        settings: &Settings,
        clock: Clock,
        scope: &Scope,
    ) -> anyhow::Result<Self> {
        let latency = Latency::of(settings.latency);
        let store = Store::open(layout.region_store())?;
        let root =
            RootKey { access_key_id: "test".to_owned(), secret_access_key: "test".to_owned() };
        let iam = Iam::open(&store, ACCOUNT, root, clock)?;
        let identities: Arc<dyn Identities> = iam.clone();
        let sts = Sts::open(&store, ACCOUNT, identities.clone(), clock)?;
        let events = Events::to_file(layout.aws_log()).context("cannot open the AWS event log")?;
        let keys: Vec<Arc<dyn AccessKeys>> = vec![iam.clone(), sts.clone()];
        let gateway = Gateway::new(region_gateway::Config {
            region: REGION.to_owned(),
            account: ACCOUNT.to_owned(),
            clock,
            keys,
            identities,
            events,
        });
        let environment = Ec2Environment::new(iam.clone(), Consoles::new(layout));
        let ec2 = region_ec2::Config {
            latency,
            capacity: room::instances(),
            ..region_ec2::Config::new(ACCOUNT, REGION)
        };
        let ec2 = Arc::new(Ec2::open(&store, ec2, clock, Arc::new(environment))?);
        let autoscaling = autoscaling(&store, &gateway, ec2.clone(), latency, clock)?;
        let ssm = Arc::new(Ssm::open(&store, ssm_config(), clock)?);
        let eks = Eks::open(&store, eks_config(&gateway, iam.clone(), latency, clock))?;
        let ecr = ecr(&store, layout, &gateway, clock, scope)?;
        let routes = region_iam::routes(&iam)
            .merge(region_sts::routes(&sts))
            .merge(region_ec2::routes(&ec2))
            .merge(region_autoscaling::routes(&autoscaling))
            .merge(region_ssm::routes(&ssm))
            .merge(region_eks::routes(&eks))
            .merge(ecr.routes());
        open(&gateway, routes)?;
        Ok(Self { iam, sts, ec2, autoscaling, eks, gateway, ecr, latency })
    }
}

fn open(gateway: &Gateway, routes: Routes) -> anyhow::Result<()> {
    anyhow::ensure!(gateway.open(routes), "the gateway was opened twice");
    Ok(())
}

fn autoscaling(
    store: &Store,
    gateway: &Gateway,
    ec2: Arc<Ec2>,
    latency: Latency,
    clock: Clock,
) -> anyhow::Result<Arc<AutoScaling>> {
    let config = region_autoscaling::Config {
        account: ACCOUNT.to_owned(),
        region: REGION.to_owned(),
        latency,
    };
    let service = AutoScaling::open(store, config, clock)?;
    service.connect(gateway.client_as("autoscaling.amazonaws.com"), ec2);
    Ok(Arc::new(service))
}

fn ssm_config() -> region_ssm::Config {
    let amis: Vec<_> = region_ec2::seed::releases()
        .iter()
        .map(|it| region_ssm::Ami {
            kubernetes: it.kubernetes.to_owned(),
            release_version: it.release_version(),
            image_id: it.image_id(),
            image_name: it.name(),
        })
        .collect();
    region_ssm::Config {
        account: ACCOUNT.to_owned(),
        region: REGION.to_owned(),
        public: region_ssm::eks_parameters(&amis),
    }
}

fn eks_config(
    gateway: &Gateway,
    iam: Arc<Iam>,
    latency: Latency,
    clock: Clock,
) -> region_eks::Config {
    region_eks::Config {
        account: ACCOUNT.to_owned(),
        region: REGION.to_owned(),
        clock,
        client: gateway.client_as("eks.amazonaws.com"),
        roles: Arc::new(EksRoles::new(iam)),
        join_limit: JOIN_LIMIT,
        latency,
    }
}

fn ecr(
    store: &Store,
    layout: &Layout,
    gateway: &Gateway,
    clock: Clock,
    scope: &Scope,
) -> anyhow::Result<Arc<Ecr>> {
    let config = region_ecr::Config {
        account: ACCOUNT.to_owned(),
        region: REGION.to_owned(),
        gateway: gateway.clone(),
        clock,
        scope: scope.child(),
    };
    let ecr = Ecr::open(config, store, &layout.registry())?;
    drop(scope.spawn("registry uploads", ecr.clone().keep_clean()));
    Ok(ecr)
}

/// The region's certificate authority: it signs what AWS endpoints show inside of the VPC.
pub(crate) fn authority(folder: &Path) -> anyhow::Result<pki::Ca> {
    super::files::ca(folder, "region-ca", "Nodestead region CA")
}
