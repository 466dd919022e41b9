//! What a VPC sees of AWS: metadata, names, and the endpoints of all services, in its router.
//!
//! Sockets live in the router's namespace and in this process; they are made when a router is first
//! applied and again after a restart.
//!
//! Deviation: this machine's own users reach every cluster on 127.0.0.1, whatever its endpoint access
//! is and whoever its public access list names.

mod issuers;
mod public;

use std::{
    collections::{BTreeMap, BTreeSet, HashMap, btree_map::Entry, hash_map},
    net::{IpAddr, Ipv4Addr, SocketAddr},
    sync::Arc,
    time::Duration,
};

use anyhow::Context;
use clock::Clock;
use lifecycle::Scope;
use parking_lot::Mutex;
use pki::Ca;
use region_dns::Zone;
use region_ec2::{Ec2, names};
use region_ecr::Ecr;
use region_eks::{Eks, IssuerService};
use region_elasticloadbalancing::ElasticLoadBalancing;
use region_gateway::{Gateway, Side};
use region_imds::Imds;
use region_ssm::ChannelService;
use region_vpc::{
    DYNAMODB, ENDPOINTS, ENDPOINTS_V6, IMDS, IMDS_V6, RESOLVER, RESOLVER_V6, S3, SERVICES, VpcSpec,
};
use transport::Place;

use super::{
    front::Front,
    metadata::RegionMetadata,
    region::{REGION, Region},
};

pub(crate) use self::public::PublicApi;
use self::{issuers::Certificates, public::Public};

const HTTPS: u16 = 443;

/// See the module. Clones share the state.
#[derive(Clone)]
pub(crate) struct Endpoints(Arc<Inner>);

struct Inner {
    eks: Eks,
    ec2: Arc<Ec2>,
    load_balancing: Arc<ElasticLoadBalancing>,
    gateway: Gateway,
    ecr: Arc<Ecr>,
    channels: ChannelService,
    metadata: Arc<RegionMetadata>,
    certificates: Certificates,
    clock: Clock,
    call_takes: Duration,
    scope: Scope,
    served: Mutex<HashMap<String, Scope>>,
    /// What listens by IPv6, by VPC.
    served_v6: Mutex<HashMap<String, Scope>>,
    /// What listens for interface endpoints, by VPC and address.
    interfaces: Mutex<BTreeMap<(String, Ipv4Addr), Scope>>,
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
        let certificates = Certificates::new(ca, clock)?;
        let metadata = Arc::new(metadata);
        Ok(Self(Arc::new(Inner {
            eks: region.eks.clone(),
            ec2: region.ec2.clone(),
            load_balancing: region.load_balancing.clone(),
            gateway: region.gateway.clone(),
            ecr: region.ecr.clone(),
            channels: region.channels.clone(),
            metadata,
            certificates,
            clock,
            call_takes: region.latency.call,
            scope,
            served: Mutex::default(),
            served_v6: Mutex::default(),
            interfaces: Mutex::default(),
            public: Public::default(),
        })))
    }

    /// Makes sure that the VPC's endpoints are served; its router must have been applied.
    pub(crate) fn ensure(&self, vpc: &VpcSpec) -> anyhow::Result<()> {
        self.ensure_services(vpc)?;
        self.ensure_ipv6(vpc).context("by IPv6")?;
        self.ensure_interfaces(vpc)?;
        self.0.public.ensure(vpc)
    }

    /// Has a cluster's API server answer on its public address, from the next [`Self::ensure`] on.
    pub(crate) fn publish(&self, address: Ipv4Addr, api: PublicApi) {
        self.0.public.publish(address, api);
    }

    /// Has the issuers' pages believed by who trusts a cluster's authority, while its control plane
    /// runs.
    pub(crate) fn vouch(&self, cluster: &Ca, scope: &Scope) -> anyhow::Result<()> {
        self.0.certificates.vouch(cluster, scope)
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

    /// A VPC may get its block of IPv6 at any time, and lose it.
    fn ensure_ipv6(&self, vpc: &VpcSpec) -> anyhow::Result<()> {
        let mut served = self.0.served_v6.lock();
        let has_ipv6 = !vpc.ipv6_cidrs.is_empty();
        match served.entry(vpc.id.clone()) {
            hash_map::Entry::Occupied(known) if !has_ipv6 => known.remove().cancel(),
            hash_map::Entry::Vacant(place) if has_ipv6 => {
                let scope = self.0.scope.child();
                if let Err(error) = self.serve_v6(vpc, &scope) {
                    scope.cancel();
                    return Err(error);
                }
                place.insert(scope);
            }
            _ => {}
        }
        Ok(())
    }

    fn serve_v6(&self, vpc: &VpcSpec, scope: &Scope) -> anyhow::Result<()> {
        let router = Place::named(&vpc.netns);
        region_dns::serve(&router, &[RESOLVER_V6.into()], self.zone(vpc), scope)?;
        self.listen(vpc, ENDPOINTS_V6, scope)?;
        self.serve_metadata(vpc, IMDS_V6, scope);
        Ok(())
    }

    /// An interface endpoint answers on its own address.
    fn ensure_interfaces(&self, vpc: &VpcSpec) -> anyhow::Result<()> {
        let mut served = self.0.interfaces.lock();
        let wanted: BTreeSet<Ipv4Addr> = vpc.endpoints().map(|it| it.primary).collect();
        served.retain(|(id, address), scope| {
            let is_wanted = *id != vpc.id || wanted.contains(address);
            if !is_wanted {
                scope.cancel();
            }
            is_wanted
        });
        for address in wanted {
            if let Entry::Vacant(place) = served.entry((vpc.id.clone(), address)) {
                let scope = self.0.scope.child();
                self.listen(vpc, address, &scope).context("an interface endpoint")?;
                place.insert(scope);
            }
        }
        Ok(())
    }

    fn listen(
        &self,
        vpc: &VpcSpec,
        address: impl Into<IpAddr>,
        scope: &Scope,
    ) -> anyhow::Result<()> {
        let inner = &self.0;
        let address = SocketAddr::from((address.into(), HTTPS));
        let listener = Place::named(&vpc.netns).listen(address)?;
        let side = Side::Vpc(vpc.id.clone());
        let registry = inner.ecr.registry(side.clone());
        let (gateway, issuers) =
            (inner.gateway.service(side), IssuerService::new(inner.eks.clone()));
        let front =
            Front::new(gateway, registry, issuers, inner.channels.clone(), inner.call_takes);
        let tls = inner.certificates.server();
        let serving = transport::serve(listener, Some(tls), front, scope.clone());
        drop(scope.spawn("AWS endpoints", serving));
        Ok(())
    }

    pub(crate) fn remove(&self, vpc: &str) {
        self.0.public.remove(vpc);
        self.0.interfaces.lock().retain(|(id, _), scope| {
            if id == vpc {
                scope.cancel();
            }
            id != vpc
        });
        for served in [&self.0.served, &self.0.served_v6] {
            if let Some(scope) = served.lock().remove(vpc) {
                scope.cancel();
            }
        }
    }

    fn serve(&self, vpc: &VpcSpec, scope: &Scope) -> anyhow::Result<()> {
        let router = Place::named(&vpc.netns);
        let resolver = vpc.resolver().context("a VPC without a CIDR")?;
        let addresses = [resolver.into(), RESOLVER.into()];
        region_dns::serve(&router, &addresses, self.zone(vpc), scope)?;
        for address in SERVICES {
            self.listen(vpc, address, scope)?;
        }
        self.serve_metadata(vpc, IMDS, scope);
        Ok(())
    }

    fn serve_metadata(&self, vpc: &VpcSpec, address: impl Into<IpAddr>, scope: &Scope) {
        let (inner, address) = (&self.0, address.into());
        let imds = Imds::new(&vpc.id, inner.metadata.clone(), inner.clock);
        let router = Place::named(&vpc.netns);
        let metadata = region_imds::serve(router, address, imds, scope.clone());
        drop(scope.spawn("instance metadata", async move {
            if let Err(error) = metadata.await {
                tracing::error!(%error, %address, "instance metadata is not served");
            }
        }));
    }

    fn zone(&self, vpc: &VpcSpec) -> Zone {
        let (eks, ec2, vpc_id) = (self.0.eks.clone(), self.0.ec2.clone(), vpc.id.clone());
        let load_balancing = self.0.load_balancing.clone();
        let has_way_out = vpc.has_way_out;
        Zone {
            cidrs: vpc.cidrs.clone(),
            private_domain: names::private_domain(REGION),
            endpoints: ENDPOINTS,
            endpoints_v6: ENDPOINTS_V6,
            names: Arc::new(move |name| {
                cluster_addresses(&eks, &vpc_id, name)
                    .or_else(|| endpoint_addresses(&ec2, &vpc_id, name))
                    .or_else(|| gateway_service(name).map(|it| vec![it]))
                    .or_else(|| load_balancer_addresses(&load_balancing, name))
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
    let endpoint = state.interface_endpoints(vpc).find(|it| it.serves(name))?;
    let interfaces = endpoint.network_interface_ids.iter();
    let interfaces = interfaces.filter_map(|id| state.network_interfaces.get(id));
    Some(interfaces.map(|it| it.primary_address).collect())
}

/// Where a load balancer is: in its VPC, whoever asks.
fn load_balancer_addresses(service: &ElasticLoadBalancing, name: &str) -> Option<Vec<Ipv4Addr>> {
    let all = service.load_balancers();
    let found = all.iter().find(|it| it.dns_name.eq_ignore_ascii_case(name))?;
    Some(service.balancers().addresses(&found.name))
}

/// Where the services are that gateway endpoints lead to.
fn gateway_service(name: &str) -> Option<Ipv4Addr> {
    let name = name.trim_end_matches('.').to_ascii_lowercase();
    let is_below = |host: &str| {
        let above = name.strip_suffix(host);
        above.is_some_and(|it| it.is_empty() || it.ends_with('.'))
    };
    let hosts = |service: &str| {
        [format!("{service}.{REGION}.amazonaws.com"), format!("{service}.amazonaws.com")]
    };
    let is = |service: &str| hosts(service).iter().any(|it| is_below(it));
    if is("s3") {
        Some(S3)
    } else if is("dynamodb") {
        Some(DYNAMODB)
    } else {
        None
    }
}

/// Read for each question: a machine moves between networks.
fn host_resolvers() -> Vec<SocketAddr> {
    region_dns::resolvers(&std::fs::read_to_string("/etc/resolv.conf").unwrap_or_default())
}
