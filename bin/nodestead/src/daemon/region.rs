//! The AWS side, composed: one store, the services over it, one gateway in front.

use std::{path::Path, sync::Arc};

use anyhow::Context;
use clock::Clock;
use latency::Latency;
use lifecycle::Scope;
use region_autoscaling::AutoScaling;
use region_ec2::Ec2;
use region_ecr::Ecr;
use region_eks::{Eks, IssuerService};
use region_eks_auth::EksAuth;
use region_elasticloadbalancing::{Balancers, ElasticLoadBalancing};
use region_events::EventBridge;
use region_gateway::{AccessKeys, Events, Gateway, Identities, Routes, Upstream};
use region_iam::Iam;
use region_sqs::Sqs;
use region_ssm::{ChannelService, Ssm};
use region_store::Store;
use region_sts::Sts;

use super::{
    associations::PodIdentities,
    consoles::Consoles,
    environment::{Ec2Environment, EksRoles, SsmInstances},
    issuers::Issuers,
    load_balancers,
};
use crate::{
    layout::{Layout, Settings},
    room, root_key,
};

pub(crate) const ACCOUNT: &str = "111122223333";
pub(crate) const REGION: &str = "us-east-1";
/// How often load balancers check new instances at first.
const EAGER_CHECKS: std::time::Duration = std::time::Duration::from_secs(1);
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
    pub(crate) channels: ChannelService,
    pub(crate) load_balancing: Arc<ElasticLoadBalancing>,
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
        let iam = Iam::open(&store, ACCOUNT, root_key::ensure(layout)?, clock)?;
        let identities: Arc<dyn Identities> = iam.clone();
        let sts = Sts::open(&store, ACCOUNT, REGION, identities.clone(), clock)?;
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
        gateway.finish_calls_in(scope.clone());
        if let Some(url) = &settings.proxy_unowned {
            gateway.pass_unowned_to(Upstream::parse(url)?);
        }
        if settings.latency == latency::Profile::Aws {
            gateway.limit_rates();
        }
        let environment = Ec2Environment::new(iam.clone(), Consoles::new(layout));
        let ec2 = region_ec2::Config {
            latency,
            capacity: room::instances(),
            spot_seed: settings.spot_seed,
            ..region_ec2::Config::new(ACCOUNT, REGION)
        };
        let ec2 = Arc::new(Ec2::open(&store, ec2, clock, Arc::new(environment))?);
        let autoscaling = autoscaling(&store, &gateway, ec2.clone(), latency, clock)?;
        let ssm = ssm_config(ec2.clone(), settings);
        let ssm = Arc::new(Ssm::open(&store, ssm, clock)?);
        drop(scope.spawn("Systems Manager", Ssm::clone(&ssm).run()));
        let eks = Eks::open(&store, eks_config(&gateway, iam.clone(), latency, clock))?;
        let eks_auth = EksAuth::new(ACCOUNT, REGION, &gateway, clock);
        eks_auth.connect(Arc::new(PodIdentities::new(eks.clone())));
        sts.reach_issuers_by(Arc::new(Issuers::new(IssuerService::new(eks.clone()))));
        let ecr = ecr(&store, layout, &gateway, clock, scope)?;
        let load_balancing = load_balancing(&store, layout, &gateway, latency, clock, scope)?;
        let sqs = sqs(&store, &gateway, latency, clock)?;
        let bus = event_bridge(&store, &gateway, clock, scope)?;
        let routes = region_iam::routes(&iam)
            .merge(region_sts::routes(&sts))
            .merge(region_ec2::routes(&ec2))
            .merge(region_autoscaling::routes(&autoscaling))
            .merge(region_ssm::routes(&ssm))
            .merge(region_eks::routes(&eks))
            .merge(region_eks_auth::routes(&eks_auth))
            .merge(region_elasticloadbalancing::routes(&load_balancing))
            .merge(region_sqs::routes(&sqs))
            .merge(region_events::routes(&bus))
            .merge(ecr.routes());
        open(&gateway, routes)?;
        let publish = Ec2::clone(&ec2).publish(gateway.client_as("ec2.amazonaws.com"));
        drop(scope.spawn("EC2 events", publish));
        let channels = ChannelService::new(Ssm::clone(&ssm), scope.child());
        Ok(Self {
            iam,
            sts,
            ec2,
            autoscaling,
            eks,
            gateway,
            ecr,
            channels,
            load_balancing,
            latency,
        })
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
    service.connect(gateway.client_as("autoscaling.amazonaws.com"), ec2.clone());
    service.heed(move || {
        let state = ec2.view();
        let at_risk = state.instances.iter().filter(|it| it.interruption.is_some());
        at_risk.map(|it| it.id.clone()).collect()
    });
    Ok(Arc::new(service))
}

fn load_balancing(
    store: &Store,
    layout: &Layout,
    gateway: &Gateway,
    latency: Latency,
    clock: Clock,
    scope: &Scope,
) -> anyhow::Result<Arc<ElasticLoadBalancing>> {
    let config = region_elasticloadbalancing::Config {
        account: ACCOUNT.to_owned(),
        region: REGION.to_owned(),
        host_network: load_balancers::host_network(&layout.id()),
    };
    // Where nothing takes its time, new instances do not either.
    let eager = latency.call.is_zero().then_some(EAGER_CHECKS);
    let balancers = Balancers::new(eager, scope.child());
    let ec2 = gateway.client_as(region_elasticloadbalancing::REQUESTER);
    Ok(Arc::new(ElasticLoadBalancing::open(store, config, ec2, balancers, clock)?))
}

fn sqs(
    store: &Store,
    gateway: &Gateway,
    latency: Latency,
    clock: Clock,
) -> anyhow::Result<Arc<Sqs>> {
    let config = region_sqs::Config {
        account: ACCOUNT.to_owned(),
        region: REGION.to_owned(),
        latency,
        authorizer: gateway.authorizer().clone(),
    };
    Ok(Arc::new(Sqs::open(store, config, clock)?))
}

fn event_bridge(
    store: &Store,
    gateway: &Gateway,
    clock: Clock,
    scope: &Scope,
) -> anyhow::Result<Arc<EventBridge>> {
    let config = region_events::Config {
        account: ACCOUNT.to_owned(),
        region: REGION.to_owned(),
        gateway: gateway.clone(),
    };
    let bus = EventBridge::open(store, config, clock)?;
    drop(scope.spawn("EventBridge", bus.clone().run()));
    Ok(Arc::new(bus))
}

fn ssm_config(ec2: Arc<Ec2>, settings: &Settings) -> region_ssm::Config {
    let amis: Vec<_> = region_ec2::seed::releases()
        .iter()
        .map(|it| region_ssm::Ami {
            kubernetes: it.kubernetes.to_owned(),
            release_version: it.release_version(),
            image_id: it.image_id(),
            image_name: it.name(),
        })
        .collect();
    let bottlerocket: Vec<_> = region_ec2::seed::bottlerocket_releases()
        .iter()
        .map(|it| region_ssm::BottlerocketAmi {
            kubernetes: it.kubernetes.to_owned(),
            version: it.version.to_owned(),
            image_version: it.image_version(),
            image_id: it.image_id(),
        })
        .collect();
    let mut public = region_ssm::eks_parameters(&amis);
    public.extend(region_ssm::bottlerocket_parameters(&bottlerocket));
    region_ssm::Config {
        account: ACCOUNT.to_owned(),
        region: REGION.to_owned(),
        public,
        instances: Arc::new(SsmInstances::new(ec2)),
        endpoint: format!("127.0.0.1:{}", settings.aws_port),
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

#[cfg(test)]
mod contract;
#[cfg(test)]
mod nodegroups;
