//! EC2's records as what the kernel shall be: pure.
//!
//! EC2 knows no namespaces and the VPC knows no instances; here one's view becomes the other's
//! specification.

mod rules;

use std::{
    collections::BTreeMap,
    net::Ipv4Addr,
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use ipnet::{IpNet, Ipv4Net};
use latency::Latency;
use region_ec2::{
    State, names,
    records::{Attachment, Instance, NetworkInterface},
};
use region_eks::Cluster;
use region_host::{HostSpec, Remains};
use region_vpc::{Egress, Location, Setup, VpcSpec};
use sha2::{Digest, Sha256};

use super::{region::REGION, snapshots};
use crate::{
    layout::{Layout, Settings},
    sweep,
};

/// The routing table of a control plane's first interface; the second's follows. Both are needed:
/// nodes of the second's subnet ask at the first's address too.
const FIRST_TABLE: u32 = 100;

/// Names of this region's things on this machine.
#[derive(Clone, Debug)]
pub(crate) struct Names {
    id: String,
    folder: PathBuf,
    snapshots: PathBuf,
    binary: PathBuf,
    egress: bool,
    /// The machine passes IPv6 on, as the daemon found it.
    egress_ipv6: bool,
    latency: Latency,
}

impl Names {
    pub(crate) fn new(layout: &Layout, settings: &Settings) -> Self {
        Self {
            id: layout.id(),
            folder: layout.instances(),
            snapshots: layout.snapshots(),
            binary: layout.binaries().join("nodestead"),
            egress: settings.egress,
            egress_ipv6: settings.egress && region_vpc::forwards_ipv6(None),
            latency: Latency::of(settings.latency),
        }
    }

    /// The VPC's way out of this machine. A link's name has 15 characters: the region's id and four
    /// digits that tell its VPCs apart.
    pub(crate) fn way_out(&self, vpc: &str) -> Option<Egress> {
        let digest = hex::encode(Sha256::digest(vpc));
        let link = format!("{}{}", sweep::netns_prefix(&self.id), &digest[..4]);
        self.egress.then_some(Egress { link, machine: None })
    }

    pub(crate) fn instance(&self, id: &str) -> String {
        format!("{}{id}", sweep::netns_prefix(&self.id))
    }

    pub(crate) fn cgroup(&self, id: &str) -> String {
        format!("{}/{id}", sweep::cgroup_path(&self.id))
    }

    /// The root file system that is behind a snapshot.
    pub(crate) fn snapshot(&self, id: &str) -> PathBuf {
        snapshots::root_of(&self.snapshots, id)
    }

    /// What an instance has on this machine outside of its folder, by its id alone.
    pub(crate) fn remains(&self, id: &str) -> Remains {
        Remains { instance_id: id.to_owned(), netns: self.instance(id), cgroup: self.cgroup(id) }
    }

    pub(crate) fn router(&self, vpc: &str) -> String {
        format!("{}{vpc}", sweep::netns_prefix(&self.id))
    }

    /// Of the node behind this interface.
    pub(crate) fn load_balancer(&self, interface: &str) -> String {
        format!("{}elb-{interface}", sweep::netns_prefix(&self.id))
    }

    pub(crate) fn control_plane(&self, cluster: &str) -> String {
        format!("{}cp-{cluster}", sweep::netns_prefix(&self.id))
    }
}

/// Interfaces of control planes and load balancers: ENI → namespace and place in the order of interfaces.
pub(crate) type ControlPlanes = BTreeMap<String, (String, usize)>;

/// The public endpoints of all clusters, each with the networks that it lets in. IPv6 has no way
/// to them.
pub(crate) fn public_endpoints(clusters: &[Arc<Cluster>]) -> BTreeMap<Ipv4Addr, Vec<Ipv4Net>> {
    let public = clusters.iter().filter(|it| it.endpoint_public_access);
    let endpoint = |it: &Arc<Cluster>| {
        let sources = it.public_access_cidrs.iter().filter_map(|it| it.parse().ok());
        Some((it.public_address?, sources.collect()))
    };
    public.filter_map(endpoint).collect()
}

/// Every VPC, as its router shall be: all of them see the same internet.
pub(crate) fn vpcs(
    state: &State,
    planes: &ControlPlanes,
    public: &BTreeMap<Ipv4Addr, Vec<Ipv4Net>>,
    names: &Names,
) -> Vec<VpcSpec> {
    let spec =
        |vpc| VpcSpec { public_endpoints: public.clone(), ..vpc_spec(state, planes, names, vpc) };
    state.vpcs.iter().map(spec).collect()
}

fn vpc_spec(
    state: &State,
    planes: &ControlPlanes,
    names: &Names,
    vpc: &region_ec2::records::Vpc,
) -> VpcSpec {
    let subnets = state.subnets.iter().filter(|it| it.vpc_id == vpc.id);
    let enis = state.network_interfaces.iter().filter(|it| it.vpc_id == vpc.id);
    let groups = state.security_groups.iter().filter(|it| it.vpc_id == vpc.id);
    let tables = state.route_tables.iter().filter(|it| it.vpc_id == vpc.id);
    let acls = state.network_acls.iter().filter(|it| it.vpc_id == vpc.id);
    let groups: BTreeMap<_, _> =
        groups.map(|it| (it.id.clone(), rules::security_group(it))).collect();
    VpcSpec {
        id: vpc.id.clone(),
        netns: names.router(&vpc.id),
        cidrs: vpc.cidrs.iter().map(|it| it.cidr).collect(),
        ipv6_cidrs: vpc.ipv6_cidrs.iter().map(|it| it.cidr).collect(),
        subnets: subnets.map(|it| (it.id.clone(), subnet(state, it))).collect(),
        route_tables: tables.map(|it| (it.id.clone(), route_table(state, it))).collect(),
        network_acls: acls.map(|it| (it.id.clone(), rules::network_acl(it))).collect(),
        enis: enis.filter_map(|it| eni(it, state, planes, names)).collect(),
        prefix_lists: rules::prefix_lists(state, &groups),
        security_groups: groups,
        has_way_out: names.egress,
        has_ipv6_way_out: names.egress_ipv6,
        public_endpoints: BTreeMap::new(),
    }
}

fn subnet(state: &State, subnet: &region_ec2::records::Subnet) -> region_vpc::Subnet {
    region_vpc::Subnet {
        cidr: subnet.cidr,
        route_table: state.route_table_of(subnet).map(|it| it.id.clone()).unwrap_or_default(),
        network_acl: state.network_acl_of(subnet).map(|it| it.id.clone()).unwrap_or_default(),
    }
}

fn route_table(state: &State, table: &region_ec2::records::RouteTable) -> region_vpc::RouteTable {
    use region_ec2::Next;
    use region_vpc::{RouteTable, Target};
    let target = |next| match next {
        Next::InternetGateway(id) => Target::InternetGateway(id),
        Next::EgressOnlyInternetGateway(id) => Target::EgressOnlyInternetGateway(id),
        Next::NatGateway { id, address } => Target::NatGateway { id, address },
        Next::GatewayEndpoint(id) => Target::GatewayEndpoint(id),
        Next::Interface(id) => Target::Interface(id),
        Next::Blackhole(id) => Target::Blackhole(id),
    };
    let ipv4 = state.routes(table).into_iter().map(|(to, next)| (IpNet::V4(to), next));
    let ipv6 = state.ipv6_routes(table).into_iter().map(|(to, next)| (IpNet::V6(to), next));
    ipv4.chain(ipv6).fold(RouteTable::default(), |all, (to, next)| all.with(to, target(next)))
}

fn eni(
    eni: &NetworkInterface,
    state: &State,
    planes: &ControlPlanes,
    names: &Names,
) -> Option<region_vpc::Eni> {
    Some(region_vpc::Eni {
        id: eni.id.clone(),
        mac: eni.mac.parse().ok()?,
        subnet: eni.subnet_id.clone(),
        primary: eni.primary_address,
        secondary: eni.secondary_addresses.clone(),
        prefixes: eni.prefixes.clone(),
        ipv6_addresses: eni.ipv6_addresses.clone(),
        ipv6_prefixes: eni.ipv6_prefixes.clone(),
        security_groups: eni.security_groups.clone(),
        source_dest_check: eni.source_dest_check,
        public_ip: eni.public_address(),
        tracking: tracking(eni),
        location: location(eni, state, planes, names),
        is_asleep: state
            .attachment_of(eni)
            .and_then(|it| state.instances.get(&it.instance_id))
            .is_some_and(is_asleep),
    })
}

fn tracking(eni: &NetworkInterface) -> region_vpc::Tracking {
    let said = eni.tracking.unwrap_or_default();
    region_vpc::Tracking {
        tcp_established: said.tcp_established,
        udp: said.udp,
        udp_stream: said.udp_stream,
    }
}

fn location(
    eni: &NetworkInterface,
    state: &State,
    planes: &ControlPlanes,
    names: &Names,
) -> Location {
    let netns = |name: &str| Path::new(linux_netns::DIR).join(name);
    if eni.interface_type == "vpc_endpoint" {
        return Location::Router;
    }
    if let Some((name, index)) = planes.get(&eni.id) {
        let setup = match index {
            0 => Setup::First { table: FIRST_TABLE },
            _ => Setup::Additional { table: FIRST_TABLE + 1 },
        };
        return Location::Netns { path: netns(name), device: format!("eth{index}"), setup };
    }
    let Some(attachment) = state.attachment_of(eni).filter(|it| it.is_in_place()) else {
        return Location::Unattached;
    };
    let is_there = state.instances.get(&attachment.instance_id).is_some_and(is_on_machine);
    if !is_there {
        return Location::Unattached;
    }
    let path = netns(&names.instance(&attachment.instance_id));
    if let Some(trunk) = &eni.trunk {
        // A link of its own, named as the VPC CNI calls its VLAN device (docs/adr/0005).
        let device = format!("vlan.eth.{}", trunk.vlan_id);
        return Location::Netns { path, device, setup: Setup::Bare };
    }
    let setup = if attachment.device_index == 0 { Setup::Primary } else { Setup::Bare };
    Location::Netns { path, device: format!("eth{}", attachment.device_index), setup }
}

/// Whether it hibernates: its interfaces stay where they are, and nothing passes.
fn is_asleep(instance: &Instance) -> bool {
    instance.state == region_ec2::records::InstanceState::Stopped && instance.is_hibernated
}

/// Whether the instance has (or is about to have) a host.
pub(crate) fn is_on_machine(instance: &Instance) -> bool {
    use region_ec2::records::InstanceState::{Pending, Running, ShuttingDown, Stopping};
    matches!(instance.state, Pending | Running | Stopping | ShuttingDown) || is_asleep(instance)
}

/// The host that an instance shall be; `None` while EC2 has not given it an interface or a type.
pub(crate) fn host(
    state: &State,
    instance: &Instance,
    ami: &Path,
    names: &Names,
) -> Option<HostSpec> {
    let primary = primary(state, &instance.id)?;
    let kind = instance_types::find(&instance.instance_type)?;
    // It ends before it runs.
    if instance.block_devices.iter().any(|it| it.kms_key.is_some()) {
        return None;
    }
    let cpus = instance.cpus(kind);
    let vpc = state.vpcs.get(&instance.vpc_id)?;
    let resolver = Ipv4Addr::from(u32::from(vpc.cidr().network()) + 2);
    let options = state.dhcp_options.get(&vpc.dhcp_options_id);
    Some(HostSpec {
        instance_id: instance.id.clone(),
        hostname: names::private_dns(REGION, primary.primary_address),
        vcpus: cpus.count(),
        threads_per_core: cpus.threads_per_core,
        memory_bytes: kind.memory_mib << 20,
        folder: names.folder.join(&instance.id),
        ami: ami.to_owned(),
        image: instance.root_snapshot.as_deref().map(|id| names.snapshot(id)),
        binary: names.binary.clone(),
        netns: names.instance(&instance.id),
        cgroup: names.cgroup(&instance.id),
        resolver,
        search_domain: options.map(|it| it.domain_name.clone()).unwrap_or_default(),
        init: init(names.latency.boot),
        boot: instance.boot,
    })
}

/// What PID 1 is started with.
fn init(boot: Duration) -> Vec<String> {
    let mut arguments = HostSpec::default_init();
    if !boot.is_zero() {
        arguments.push(format!("--boot-seconds={}", boot.as_secs()));
    }
    arguments
}

/// The interface with device index 0.
pub(crate) fn primary<'a>(state: &'a State, instance: &str) -> Option<&'a NetworkInterface> {
    interfaces(state, instance).into_iter().next().map(|(_, eni)| eni)
}

/// The interfaces of an instance, by device index.
pub(crate) fn interfaces<'a>(
    state: &'a State,
    instance: &str,
) -> BTreeMap<u32, &'a NetworkInterface> {
    let attached = state.network_interfaces.iter().filter_map(|eni| {
        let is_meant = |it: &&Attachment| it.instance_id == instance && it.is_in_place();
        let attachment = eni.attachment.as_ref().filter(is_meant)?;
        Some((attachment.device_index, eni))
    });
    attached.collect()
}
