//! What a name means in a VPC: pure.

use std::{
    fmt,
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
    sync::Arc,
};

use ipnet::Ipv4Net;

/// Names that the region gives inside of this VPC (cluster endpoints, load balancers, services with
/// an interface endpoint), without the final dot, in lower case.
pub type Names = Arc<dyn Fn(&str) -> Option<Vec<Ipv4Addr>> + Send + Sync>;

/// Resolvers for everything else, as of now; none where the VPC has no way out.
pub type Outside = Arc<dyn Fn() -> Vec<SocketAddr> + Send + Sync>;

/// All that the resolver of a VPC knows.
#[derive(Clone)]
pub struct Zone {
    pub cidrs: Vec<Ipv4Net>,
    /// The domain of private names: `ec2.internal` in us-east-1.
    pub private_domain: String,
    /// The address of all AWS endpoints.
    pub endpoints: Ipv4Addr,
    /// That of the dual-stack ones, by IPv6.
    pub endpoints_v6: Ipv6Addr,
    pub names: Names,
    pub outside: Outside,
}

/// What was found out about a name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Found {
    Addresses(Vec<Ipv4Addr>),
    Ipv6Address(Ipv6Addr),
    /// The name of an address.
    Name(String),
    /// It exists, but has nothing of the kind that was asked for.
    Nothing,
    Unknown,
    /// Somebody else has to be asked.
    Outside,
}

/// The domain of the endpoints that have IPv6 too.
const DUAL_STACK_DOMAIN: &str = "api.aws";
/// The domains of AWS's endpoints.
const ENDPOINT_DOMAINS: [&str; 2] = ["amazonaws.com", DUAL_STACK_DOMAIN];
/// Cluster endpoints are below this; those that the region does not know do not exist.
const CLUSTER_DOMAIN: &str = "eks.amazonaws.com";
/// As load balancers are below this.
const LOAD_BALANCER_DOMAIN: &str = "elb.amazonaws.com";

impl fmt::Debug for Zone {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Zone").field("cidrs", &self.cidrs).finish_non_exhaustive()
    }
}

/// The private name of an instance's address.
pub fn private_name(address: Ipv4Addr, domain: &str) -> String {
    format!("ip-{}.{domain}", address.to_string().replace('.', "-"))
}

impl Zone {
    /// Looks up the addresses of `name`.
    pub fn addresses(&self, name: &str) -> Found {
        let name = normal(name);
        if let Some(addresses) = (self.names)(&name) {
            return Found::Addresses(addresses);
        }
        if let Some(host) = below(&name, &self.private_domain) {
            return match parse_private(host).filter(|it| self.is_inside(*it)) {
                Some(address) => Found::Addresses(vec![address]),
                None => Found::Unknown,
            };
        }
        let is_cluster = below(&name, CLUSTER_DOMAIN).is_some_and(|it| it.split('.').count() > 2)
            || name.contains(".gr7.");
        let is_load_balancer = below(&name, LOAD_BALANCER_DOMAIN).is_some();
        let is_endpoint = ENDPOINT_DOMAINS.iter().any(|it| below(&name, it).is_some());
        match (is_endpoint, is_cluster || is_load_balancer) {
            (true, false) => Found::Addresses(vec![self.endpoints]),
            (_, true) => Found::Unknown,
            (false, false) => self.elsewhere(),
        }
    }

    /// Looks up the IPv6 address of `name`.
    pub fn ipv6_address(&self, name: &str) -> Found {
        match below(&normal(name), DUAL_STACK_DOMAIN) {
            Some(_) => Found::Ipv6Address(self.endpoints_v6),
            None => self.other(name),
        }
    }

    /// Looks up the name of an address.
    pub fn name_of(&self, address: Ipv4Addr) -> Found {
        if self.is_inside(address) {
            Found::Name(private_name(address, &self.private_domain))
        } else {
            self.elsewhere()
        }
    }

    /// Looks up anything but addresses and their names.
    pub fn other(&self, name: &str) -> Found {
        match self.addresses(name) {
            Found::Addresses(_) => Found::Nothing,
            other => other,
        }
    }

    fn elsewhere(&self) -> Found {
        if (self.outside)().is_empty() { Found::Unknown } else { Found::Outside }
    }

    fn is_inside(&self, address: Ipv4Addr) -> bool {
        self.cidrs.iter().any(|cidr| cidr.contains(&address))
    }
}

/// The name servers of a `resolv.conf`, in its order.
pub fn resolvers(resolv_conf: &str) -> Vec<SocketAddr> {
    const PORT: u16 = 53;
    let address = |line: &str| {
        let (key, value) = line.trim().split_once(char::is_whitespace)?;
        // A zone index says which link: it has no meaning in a list of addresses.
        let value = value.split(['%', '#', ';']).next()?.trim();
        (key == "nameserver").then(|| value.parse::<IpAddr>().ok()).flatten()
    };
    resolv_conf.lines().filter_map(address).map(|it| SocketAddr::from((it, PORT))).collect()
}

fn normal(name: &str) -> String {
    name.trim_end_matches('.').to_ascii_lowercase()
}

/// What stands before `.domain`.
fn below<'a>(name: &'a str, domain: &str) -> Option<&'a str> {
    name.strip_suffix(domain)?.strip_suffix('.')
}

fn parse_private(host: &str) -> Option<Ipv4Addr> {
    let parts: Vec<&str> = host.strip_prefix("ip-")?.split('-').collect();
    parts.join(".").parse().ok().filter(|_| parts.len() == 4)
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    pub(crate) fn zone() -> Zone {
        let names = |name: &str| {
            (name == "abc.gr7.us-east-1.eks.amazonaws.com")
                .then(|| vec![Ipv4Addr::new(192, 168, 0, 7), Ipv4Addr::new(192, 168, 32, 7)])
        };
        Zone {
            cidrs: vec!["192.168.0.0/16".parse().unwrap()],
            private_domain: "ec2.internal".to_owned(),
            endpoints: Ipv4Addr::new(203, 0, 113, 1),
            endpoints_v6: Ipv6Addr::new(0x3fff, 0, 0, 0, 0, 0, 0, 1),
            names: Arc::new(names),
            outside: Arc::new(Vec::new),
        }
    }

    #[test]
    fn each_kind_of_name_has_its_answer() {
        let one = |a, b, c, d| Found::Addresses(vec![Ipv4Addr::new(a, b, c, d)]);
        for (name, wanted) in [
            ("ip-192-168-0-12.ec2.internal.", one(192, 168, 0, 12)),
            ("IP-192-168-0-12.EC2.internal", one(192, 168, 0, 12)),
            ("ip-10-0-0-1.ec2.internal", Found::Unknown),
            ("ip-192-168-0.ec2.internal", Found::Unknown),
            ("web.ec2.internal", Found::Unknown),
            ("sts.us-east-1.amazonaws.com", one(203, 0, 113, 1)),
            ("eks.us-east-1.amazonaws.com", one(203, 0, 113, 1)),
            ("602401143452.dkr.ecr.us-east-1.amazonaws.com", one(203, 0, 113, 1)),
            ("xyz.gr7.us-east-1.eks.amazonaws.com", Found::Unknown),
            ("web-1.us-east-1.elb.amazonaws.com", Found::Unknown),
            ("elasticloadbalancing.us-east-1.amazonaws.com", one(203, 0, 113, 1)),
            ("example.com", Found::Unknown),
            ("notamazonaws.com", Found::Unknown),
        ] {
            assert_eq!(zone().addresses(name), wanted, "{name}");
        }
        let cluster = zone().addresses("ABC.gr7.us-east-1.eks.amazonaws.com");
        assert!(matches!(cluster, Found::Addresses(found) if found.len() == 2));
    }

    #[test]
    fn dual_stack_endpoints_alone_have_an_ipv6_address() {
        let six = zone().endpoints_v6;
        assert_eq!(zone().ipv6_address("ec2.us-east-1.api.aws."), Found::Ipv6Address(six));
        assert_eq!(zone().ipv6_address("ec2.us-east-1.amazonaws.com"), Found::Nothing);
        assert_eq!(zone().ipv6_address("ip-192-168-0-12.ec2.internal"), Found::Nothing);
        assert_eq!(zone().ipv6_address("example.com"), Found::Unknown);
    }

    #[test]
    fn a_resolv_conf_lists_the_name_servers_that_are_addresses() {
        let text = "# nameserver 1.1.1.1\nsearch a.example\nnameserver 127.0.0.53\n\
                    \tnameserver  2001:db8::1 # second\nnameserver fe80::1%eth0\nnameserver x\n";
        let found: Vec<_> = resolvers(text).iter().map(ToString::to_string).collect();
        assert_eq!(found, ["127.0.0.53:53", "[2001:db8::1]:53", "[fe80::1]:53"]);
    }

    #[test]
    fn only_what_is_not_ours_is_asked_outside() {
        let mut zone = zone();
        zone.outside = Arc::new(|| resolvers("nameserver 9.9.9.9"));
        assert_eq!(zone.addresses("example.com"), Found::Outside);
        assert_eq!(zone.addresses("ip-10-0-0-1.ec2.internal"), Found::Unknown);
        assert_eq!(zone.addresses("xyz.gr7.us-east-1.eks.amazonaws.com"), Found::Unknown);
        assert_eq!(zone.name_of(Ipv4Addr::new(8, 8, 8, 8)), Found::Outside);
        let ours = zone.name_of(Ipv4Addr::new(192, 168, 1, 2));
        assert_eq!(ours, Found::Name("ip-192-168-1-2.ec2.internal".to_owned()));
    }
}
