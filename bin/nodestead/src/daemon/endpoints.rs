//! What a VPC sees of AWS: metadata, names, and the endpoints of all services, in its router.
//!
//! Sockets live in the router's namespace and in this process; they are made when a router is first
//! applied and again after a restart.
//!
//! Deviation: this machine's own users reach every cluster on 127.0.0.1, whatever its endpoint access
//! is and whoever its public access list names.

mod public;

use std::{
    collections::HashMap,
    net::{Ipv4Addr, SocketAddr},
    sync::Arc,
    time::Duration,
};

use anyhow::Context;
use clock::Clock;
use lifecycle::Scope;
use parking_lot::Mutex;
use pki::{Ca, Profile, Usage};
use region_dns::Zone;
use region_ec2::{Ec2, names};
use region_ecr::Ecr;
use region_eks::Eks;
use region_gateway::{Gateway, Side};
use region_imds::Imds;
use region_vpc::{ENDPOINTS, INTERFACE_ENDPOINTS, RESOLVER, VpcSpec};
use rustls::ServerConfig;
use transport::{Place, tls};

use super::{
    front::Front,
    metadata::RegionMetadata,
    region::{REGION, Region},
};

use self::public::Public;
pub(crate) use self::public::PublicApi;

const HTTPS: u16 = 443;
const CERTIFICATE_LIFE: Duration = Duration::from_secs(365 * 24 * 3600);

/// See the module. Clones share the state.
#[derive(Clone)]
pub(crate) struct Endpoints(Arc<Inner>);

struct Inner {
    eks: Eks,
    ec2: Arc<Ec2>,
    gateway: Gateway,
    ecr: Arc<Ecr>,
    metadata: Arc<RegionMetadata>,
    tls: Arc<ServerConfig>,
    clock: Clock,
    call_takes: Duration,
    scope: Scope,
    served: Mutex<HashMap<String, Scope>>,
    public: Public,
}

impl Endpoints {
    pub(crate) fn new(
        region: &Region,
        metadata: RegionMetadata,
        ca: &Ca,
        clock: Clock,
        scope: Scope,
    ) -> anyhow::Result<Self> {
        let identity = ca.issue(&certificate(clock))?;
        let tls = tls::server(&identity, None)?;
        let metadata = Arc::new(metadata);
        let served = Mutex::default();
        Ok(Self(Arc::new(Inner {
            eks: region.eks.clone(),
            ec2: region.ec2.clone(),
            gateway: region.gateway.clone(),
            ecr: region.ecr.clone(),
            metadata,
            tls,
            clock,
            call_takes: region.latency.call,
            scope,
            served,
            public: Public::default(),
        })))
    }

    /// Makes sure that the VPC's endpoints are served; its router must have been applied.
    pub(crate) fn ensure(&self, vpc: &VpcSpec) -> anyhow::Result<()> {
        self.ensure_services(vpc)?;
        self.0.public.ensure(vpc)
    }

    /// Has a cluster's API server answer on its public address, from the next [`Self::ensure`] on.
    pub(crate) fn publish(&self, address: Ipv4Addr, api: PublicApi) {
        self.0.public.publish(address, api);
    }

    fn ensure_services(&self, vpc: &VpcSpec) -> anyhow::Result<()> {
        let mut served = self.0.served.lock();
        if served.contains_key(&vpc.id) {
            return Ok(());
        }
        let scope = self.0.scope.child();
        let result = self.serve(vpc, &scope);
        if result.is_err() {
            // Half of the listeners would keep the other half from being made again.
            scope.cancel();
        } else {
            served.insert(vpc.id.clone(), scope);
        }
        result
    }

    pub(crate) fn remove(&self, vpc: &str) {
        self.0.public.remove(vpc);
        if let Some(scope) = self.0.served.lock().remove(vpc) {
            scope.cancel();
        }
    }

    fn serve(&self, vpc: &VpcSpec, scope: &Scope) -> anyhow::Result<()> {
        let inner = &self.0;
        let router = Place::named(&vpc.netns);
        let resolver = vpc.resolver().context("a VPC without a CIDR")?;
        region_dns::serve(&router, &[resolver, RESOLVER], self.zone(vpc), scope)?;
        for address in [ENDPOINTS, INTERFACE_ENDPOINTS] {
            let listener = router.listen(SocketAddr::from((address, HTTPS)))?;
            let gateway = inner.gateway.service(Side::Vpc(vpc.id.clone()));
            let front = Front::new(gateway, inner.ecr.registry(), inner.call_takes);
            let serving = transport::serve(listener, Some(inner.tls.clone()), front, scope.clone());
            drop(scope.spawn("AWS endpoints", serving));
        }
        let imds = Imds::new(&vpc.id, inner.metadata.clone(), inner.clock);
        let metadata = region_imds::serve(router, imds, scope.clone());
        drop(scope.spawn("instance metadata", async move {
            if let Err(error) = metadata.await {
                tracing::error!(%error, "instance metadata is not served");
            }
        }));
        Ok(())
    }

    fn zone(&self, vpc: &VpcSpec) -> Zone {
        let (eks, ec2, vpc_id) = (self.0.eks.clone(), self.0.ec2.clone(), vpc.id.clone());
        let has_way_out = vpc.has_way_out;
        Zone {
            cidrs: vpc.cidrs.clone(),
            private_domain: names::private_domain(REGION),
            endpoints: ENDPOINTS,
            names: Arc::new(move |name| {
                cluster_addresses(&eks, &vpc_id, name)
                    .or_else(|| endpoint_addresses(&ec2, &vpc_id, name))
            }),
            outside: Arc::new(move || if has_way_out { host_resolvers() } else { Vec::new() }),
        }
    }
}

/// Where a cluster's endpoint is for who asks inside of a VPC.
fn cluster_addresses(eks: &Eks, vpc: &str, name: &str) -> Option<Vec<Ipv4Addr>> {
    let clusters = eks.clusters();
    let cluster = clusters.iter().find(|it| it.endpoint_host(REGION).eq_ignore_ascii_case(name))?;
    Some(cluster.endpoint_addresses(vpc))
}

/// Where a service is for a VPC that has an interface endpoint for it.
fn endpoint_addresses(ec2: &Ec2, vpc: &str, name: &str) -> Option<Vec<Ipv4Addr>> {
    let state = ec2.view();
    let is_here = state.interface_endpoints(vpc).any(|it| it.serves(name));
    is_here.then(|| vec![INTERFACE_ENDPOINTS])
}

/// Read for each question: a machine moves between networks.
fn host_resolvers() -> Vec<SocketAddr> {
    region_dns::resolvers(&std::fs::read_to_string("/etc/resolv.conf").unwrap_or_default())
}

/// One certificate for all names that the resolver gives the endpoints' address for.
fn certificate(clock: Clock) -> Profile {
    let names = [
        format!("*.{REGION}.amazonaws.com"),
        "*.amazonaws.com".to_owned(),
        format!("*.ecr.{REGION}.amazonaws.com"),
        format!("*.dkr.ecr.{REGION}.amazonaws.com"),
        format!("*.registry.{REGION}.amazonaws.com"),
        format!("*.eks.{REGION}.amazonaws.com"),
        format!("*.{REGION}.api.aws"),
    ];
    Profile {
        cn: format!("{REGION}.amazonaws.com"),
        organizations: Vec::new(),
        sans: names.to_vec(),
        usages: vec![Usage::Server],
        not_after: clock.now() + CERTIFICATE_LIFE,
    }
}
