//! The cluster's names: what the API says, and look-ups in it.
//!
//! Source: Kubernetes DNS-Based Service Discovery, schema version 1.1.0.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
};

use k8s_openapi::api::{core::v1::Service, discovery::v1::EndpointSlice};

/// `namespace/name`
pub type Id = (String, String);

/// A Service, reduced.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ServiceRecord {
    /// Empty for a headless one.
    pub cluster_ips: Vec<IpAddr>,
    pub external_name: Option<String>,
    pub publishes_not_ready: bool,
    /// Name, protocol, number.
    pub ports: Vec<(String, String, u16)>,
}

/// An endpoint of a headless Service.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EndpointRecord {
    pub addresses: Vec<IpAddr>,
    pub hostname: Option<String>,
    pub is_ready: bool,
    /// Name, protocol, number.
    pub ports: Vec<(String, String, u16)>,
}

impl EndpointRecord {
    /// Its own name or, where it has none, its address with dashes.
    fn label(&self, address: &IpAddr) -> String {
        match &self.hostname {
            Some(hostname) => hostname.clone(),
            None => address.to_string().replace(['.', ':'], "-"),
        }
    }
}

/// See the module.
#[derive(Clone, Debug)]
pub struct Zone {
    /// `cluster.local`
    pub domain: String,
    services: HashMap<Id, ServiceRecord>,
    slices: HashMap<Id, BTreeMap<String, Vec<EndpointRecord>>>,
    namespaces: BTreeSet<String>,
    names: HashMap<IpAddr, BTreeSet<String>>,
}

/// What a name leads to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Found {
    Addresses(Vec<IpAddr>),
    Alias(String),
    /// With the targets' addresses.
    Servers(Vec<Server>),
    Text(&'static str),
    Names(Vec<String>),
    /// The name exists and has nothing of this type.
    Nothing,
    Unknown,
    /// Not of the cluster.
    Outside,
}

/// A target of an `SRV` record.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Server {
    pub target: String,
    pub port: u16,
    pub addresses: Vec<IpAddr>,
}

impl Zone {
    pub fn new(domain: &str) -> Self {
        Self {
            domain: domain.trim_matches('.').to_ascii_lowercase(),
            services: HashMap::new(),
            slices: HashMap::new(),
            namespaces: BTreeSet::new(),
            names: HashMap::new(),
        }
    }

    // === what the API says ===

    pub fn set_service(&mut self, id: Id, record: Option<ServiceRecord>) {
        let name = self.service_name(&id);
        if let Some(old) = self.services.remove(&id) {
            old.cluster_ips.iter().for_each(|ip| self.unname(ip, &name));
        }
        if let Some(record) = record {
            record.cluster_ips.iter().for_each(|ip| self.name(ip, &name));
            self.services.insert(id, record);
        }
    }

    pub fn set_slice(&mut self, id: Id, slice: &str, endpoints: Option<Vec<EndpointRecord>>) {
        let parent = self.service_name(&id);
        let slices = self.slices.entry(id.clone()).or_default();
        let old = match endpoints.clone() {
            Some(endpoints) => slices.insert(slice.to_owned(), endpoints),
            None => slices.remove(slice),
        };
        if slices.is_empty() {
            self.slices.remove(&id);
        }
        // Only endpoints with a name of their own have one to give back.
        let named = |endpoints: Option<Vec<EndpointRecord>>| {
            let endpoints = endpoints.into_iter().flatten();
            endpoints.filter_map(|it| it.hostname.map(|hostname| (hostname, it.addresses)))
        };
        for (hostname, addresses) in named(old) {
            addresses.iter().for_each(|ip| self.unname(ip, &format!("{hostname}.{parent}")));
        }
        for (hostname, addresses) in named(endpoints) {
            addresses.iter().for_each(|ip| self.name(ip, &format!("{hostname}.{parent}")));
        }
    }

    pub fn set_namespace(&mut self, name: &str, exists: bool) {
        if exists {
            self.namespaces.insert(name.to_owned());
        } else {
            self.namespaces.remove(name);
        }
    }

    /// Drops what a new list does not hold.
    pub fn retain_services(&mut self, present: &BTreeSet<Id>) {
        let gone: Vec<Id> =
            self.services.keys().filter(|id| !present.contains(*id)).cloned().collect();
        gone.into_iter().for_each(|id| self.set_service(id, None));
    }

    pub fn retain_slices(&mut self, present: &BTreeSet<(Id, String)>) {
        let all = self
            .slices
            .iter()
            .flat_map(|(id, slices)| slices.keys().map(|slice| (id.clone(), slice.clone())));
        let gone: Vec<(Id, String)> = all.filter(|it| !present.contains(it)).collect();
        gone.into_iter().for_each(|(id, slice)| self.set_slice(id, &slice, None));
    }

    pub fn retain_namespaces(&mut self, present: BTreeSet<String>) {
        self.namespaces = present;
    }

    fn service_name(&self, (namespace, name): &Id) -> String {
        format!("{name}.{namespace}.svc.{}", self.domain)
    }

    fn name(&mut self, ip: &IpAddr, name: &str) {
        self.names.entry(*ip).or_default().insert(name.to_owned());
    }

    fn unname(&mut self, ip: &IpAddr, name: &str) {
        if let Some(names) = self.names.get_mut(ip) {
            names.remove(name);
            if names.is_empty() {
                self.names.remove(ip);
            }
        }
    }

    // === look-ups; names in lower case, without the last dot ===

    /// The names of an address; `Outside` where it is not a Service's.
    pub fn reverse(&self, ip: &IpAddr) -> Found {
        match self.names.get(ip) {
            Some(names) => Found::Names(names.iter().cloned().collect()),
            None => Found::Outside,
        }
    }

    /// The addresses of `name`, or what stands in their place.
    pub fn addresses(&self, name: &str) -> Found {
        self.find(name, false)
    }

    /// The servers of `_port._protocol.service…`, or of all ports of a Service.
    pub fn servers(&self, name: &str) -> Found {
        self.find(name, true)
    }

    fn find(&self, name: &str, wants_servers: bool) -> Found {
        let Some(rest) = self.inside(name) else { return Found::Outside };
        let labels: Vec<&str> = rest.rsplit('.').filter(|label| !label.is_empty()).collect();
        match labels.as_slice() {
            [] | ["svc"] | ["pod"] => Found::Nothing,
            ["dns-version"] => Found::Text("1.1.0"),
            ["svc" | "pod", namespace] if self.namespaces.contains(*namespace) => Found::Nothing,
            ["pod", namespace, address] => self.pod(namespace, address),
            ["svc", namespace, service, more @ ..] => {
                self.service(&((*namespace).to_owned(), (*service).to_owned()), more, wants_servers)
            }
            _ => Found::Unknown,
        }
    }

    /// What precedes the cluster's domain.
    fn inside<'a>(&self, name: &'a str) -> Option<&'a str> {
        if name == self.domain {
            return Some("");
        }
        name.strip_suffix(self.domain.as_str())?.strip_suffix('.')
    }

    /// `1-2-3-4.default.pod`: the address is in the name. As insecure as it says: nobody checks that
    /// the pod exists, but for its namespace.
    fn pod(&self, namespace: &str, address: &str) -> Found {
        if !self.namespaces.contains(namespace) {
            return Found::Unknown;
        }
        let v4 = address.replace('-', ".").parse::<Ipv4Addr>().map(IpAddr::from);
        let v6 = || address.replace('-', ":").parse::<Ipv6Addr>().map(IpAddr::from);
        v4.or_else(|_| v6()).map_or(Found::Unknown, |ip| Found::Addresses(vec![ip]))
    }

    fn service(&self, id: &Id, more: &[&str], wants_servers: bool) -> Found {
        let Some(service) = self.services.get(id) else { return Found::Unknown };
        match more {
            [] => match &service.external_name {
                Some(target) => Found::Alias(target.trim_end_matches('.').to_owned()),
                None if wants_servers => some_servers(self.servers_of(id, service, |_, _| true)),
                None => self.addresses_of(id, service),
            },
            [protocol, port] if protocol.starts_with('_') && port.starts_with('_') => {
                let (protocol, port) = (&protocol[1..], &port[1..]);
                let is_wanted = |name: &str, of: &str| name == port && of == protocol;
                match self.servers_of(id, service, is_wanted) {
                    servers if servers.is_empty() => Found::Unknown,
                    _ if !wants_servers => Found::Nothing,
                    servers => Found::Servers(servers),
                }
            }
            [protocol] if protocol.starts_with('_') => Found::Nothing,
            [hostname] => self.endpoint(id, service, hostname),
            _ => Found::Unknown,
        }
    }

    fn addresses_of(&self, id: &Id, service: &ServiceRecord) -> Found {
        if !service.cluster_ips.is_empty() {
            return Found::Addresses(service.cluster_ips.clone());
        }
        let all: BTreeSet<IpAddr> =
            self.endpoints(id, service).flat_map(|it| it.addresses.iter().copied()).collect();
        // A headless Service without endpoints has a name all the same.
        if all.is_empty() { Found::Nothing } else { Found::Addresses(all.into_iter().collect()) }
    }

    fn endpoint(&self, id: &Id, service: &ServiceRecord, hostname: &str) -> Found {
        if !service.cluster_ips.is_empty() {
            return Found::Unknown;
        }
        let pairs = self
            .endpoints(id, service)
            .flat_map(|endpoint| endpoint.addresses.iter().map(move |ip| (endpoint, *ip)));
        let found: BTreeSet<IpAddr> =
            pairs.filter(|(it, ip)| it.label(ip) == hostname).map(|(_, ip)| ip).collect();
        if found.is_empty() {
            Found::Unknown
        } else {
            Found::Addresses(found.into_iter().collect())
        }
    }

    fn servers_of(
        &self,
        id: &Id,
        service: &ServiceRecord,
        is_wanted: impl Fn(&str, &str) -> bool,
    ) -> Vec<Server> {
        let parent = self.service_name(id);
        if !service.cluster_ips.is_empty() {
            let ports = service.ports.iter().filter(|(name, of, _)| is_wanted(name, of));
            return ports
                .map(|(_, _, port)| Server {
                    target: parent.clone(),
                    port: *port,
                    addresses: service.cluster_ips.clone(),
                })
                .collect();
        }
        let mut servers = BTreeSet::new();
        for endpoint in self.endpoints(id, service) {
            for (_, _, port) in endpoint.ports.iter().filter(|(name, of, _)| is_wanted(name, of)) {
                for address in &endpoint.addresses {
                    servers.insert(Server {
                        target: format!("{}.{parent}", endpoint.label(address)),
                        port: *port,
                        addresses: vec![*address],
                    });
                }
            }
        }
        servers.into_iter().collect()
    }

    fn endpoints(&self, id: &Id, service: &ServiceRecord) -> impl Iterator<Item = &EndpointRecord> {
        let is_published = service.publishes_not_ready;
        let slices = self.slices.get(id).into_iter().flat_map(BTreeMap::values);
        slices.flatten().filter(move |endpoint| endpoint.is_ready || is_published)
    }
}

fn some_servers(servers: Vec<Server>) -> Found {
    if servers.is_empty() { Found::Nothing } else { Found::Servers(servers) }
}

/// A Service as the zone keeps it.
pub fn reduce_service(service: &Service) -> ServiceRecord {
    let spec = service.spec.clone().unwrap_or_default();
    let is_external = spec.type_.as_deref() == Some("ExternalName");
    let ips = match spec.cluster_ips {
        Some(ips) if !ips.is_empty() => ips,
        _ => spec.cluster_ip.into_iter().collect(),
    };
    let ports = spec
        .ports
        .unwrap_or_default()
        .into_iter()
        .filter_map(|port| port_record(port.name, port.protocol, port.port));
    ServiceRecord {
        cluster_ips: ips.iter().filter_map(|ip| ip.parse().ok()).collect(),
        external_name: spec.external_name.filter(|_| is_external),
        publishes_not_ready: spec.publish_not_ready_addresses.unwrap_or(false),
        ports: ports.collect(),
    }
}

/// The Service of a slice, and its endpoints. `None` for slices of nobody.
pub fn reduce_slice(slice: &EndpointSlice) -> Option<(Id, Vec<EndpointRecord>)> {
    let service = slice.metadata.labels.as_ref()?.get("kubernetes.io/service-name")?;
    let namespace = slice.metadata.namespace.clone().unwrap_or_default();
    let ports: Vec<_> = slice
        .ports
        .iter()
        .flatten()
        .filter_map(|it| port_record(it.name.clone(), it.protocol.clone(), it.port?))
        .collect();
    let endpoints = slice.endpoints.as_deref().unwrap_or_default().iter();
    let endpoints = endpoints.map(|endpoint| EndpointRecord {
        addresses: endpoint.addresses.iter().filter_map(|ip| ip.parse().ok()).collect(),
        hostname: endpoint.hostname.clone().filter(|it| !it.is_empty()),
        is_ready: endpoint.conditions.as_ref().and_then(|it| it.ready).unwrap_or(true),
        ports: ports.clone(),
    });
    Some(((namespace, service.clone()), endpoints.collect()))
}

fn port_record(
    name: Option<String>,
    protocol: Option<String>,
    port: i32,
) -> Option<(String, String, u16)> {
    let protocol = protocol.unwrap_or_else(|| "TCP".to_owned()).to_ascii_lowercase();
    Some((name.unwrap_or_default(), protocol, u16::try_from(port).ok()?))
}

#[cfg(test)]
pub(crate) mod tests;
