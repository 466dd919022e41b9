//! Reasons and steps in words.

use std::fmt;

use super::{Reason, Step};
use crate::network_acl::DENY_ALL;

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let list = |groups: &[String]| groups.join(", ");
        match self {
            Self::NoSuchSource { address } => {
                write!(f, "no interface owns {address}: the source check drops it")
            }
            Self::NoRoute { address } => write!(f, "no interface owns {address}"),
            Self::NoWayOut { address } if address.is_ipv6() => write!(
                f,
                "the region has no way out to {address}: its gateways lead to AWS alone unless it \
                 is started with `up --egress` on a machine that forwards IPv6"
            ),
            Self::NoWayOut { address } => write!(
                f,
                "the region has no way out to {address}: its gateways lead to AWS alone unless it \
                 is started with `up --egress`"
            ),
            Self::NoRouteToEndpoints { eni, subnet } => write!(
                f,
                "{subnet} gives {eni} no way to AWS: it takes an internet gateway and a public \
                 address, a NAT gateway or a VPC endpoint"
            ),
            Self::NoRouteOut { eni, subnet } => write!(
                f,
                "{subnet} gives {eni} no way out: it takes an internet gateway and a public \
                 address, or a NAT gateway"
            ),
            Self::NotAttached { eni } => write!(f, "{eni} is in no running instance"),
            Self::Blackhole { subnet, route } => {
                write!(f, "the route {route} of {subnet} leads to nothing")
            }
            Self::ReplyRoute { subnet, route } => {
                write!(f, "the reply takes another way: the route {route} of {subnet}")
            }
            Self::LeadsBack { eni } => write!(f, "the route leads back to {eni}, which sends it"),
            Self::DestinationCheck { eni } => write!(
                f,
                "the route leads to {eni}, whose source/destination check drops what is not \
                 addressed to it"
            ),
            Self::Acl { acl, subnet, is_egress, is_reply, entry } => {
                let way = if *is_egress { "out of" } else { "into" };
                let what = if *is_reply { "the reply" } else { "it" };
                match *entry {
                    DENY_ALL => {
                        write!(f, "no entry of {acl} allows {what} {way} {subnet}")?;
                    }
                    number => write!(f, "entry {number} of {acl} denies {what} {way} {subnet}")?,
                }
                if *is_reply { f.write_str(" (network ACLs are stateless)") } else { Ok(()) }
            }
            Self::HandedTo { eni } => {
                write!(f, "a route hands it to {eni}; what becomes of it is decided there")
            }
            Self::NotLetIn { eni, outside } => {
                write!(
                    f,
                    "the endpoint's public access list has no {outside}, by which {eni} comes"
                )
            }
            Self::Egress { eni, groups } => {
                write!(f, "no egress rule of {} ({eni}) allows it", list(groups))
            }
            Self::Ingress { eni, groups } => {
                write!(f, "no ingress rule of {} ({eni}) allows it", list(groups))
            }
            Self::Service => f.write_str("security groups do not filter IMDS and the resolver"),
            Self::NoService { address } => write!(f, "{address} has no such service"),
            Self::Allowed { egress, ingress } => {
                let (out, sent) = &**egress;
                match ingress.as_deref() {
                    None => write!(f, "{out} allows {sent} to leave"),
                    Some((into, taken)) => {
                        write!(f, "{out} allows {sent} to leave and {into} allows {taken} to enter")
                    }
                }
            }
        }
    }
}

impl fmt::Display for Step {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::SourceCheck { eni, is_checked: true } => {
                write!(f, "{eni} owns the address that it sends from")
            }
            Self::SourceCheck { eni, is_checked: false } => {
                write!(f, "{eni} may send from any address")
            }
            Self::Route { subnet, table, route: Some(route) } => {
                write!(f, "{table} of {subnet}: {route}")
            }
            Self::Route { subnet, table, route: None } => {
                write!(f, "{table} of {subnet} has no route to it")
            }
            Self::Egress { eni, rule: Some((group, rule)) } => {
                write!(f, "{group} of {eni} allows {rule} to leave")
            }
            Self::Egress { eni, rule: None } => {
                write!(f, "no group of {eni} allows it to leave")
            }
            Self::Ingress { eni, rule: Some((group, rule)) } => {
                write!(f, "{group} of {eni} allows {rule} to enter")
            }
            Self::Ingress { eni, rule: None } => {
                write!(f, "no group of {eni} allows it to enter")
            }
            Self::Acl { acl, subnet, is_egress, is_reply, denied_by } => {
                let verdict = match *denied_by {
                    None => "allows".to_owned(),
                    Some(DENY_ALL) => "has no entry for".to_owned(),
                    Some(entry) => format!("denies by entry {entry}"),
                };
                let what = if *is_reply { "the reply" } else { "it" };
                let way = if *is_egress { "out of" } else { "into" };
                write!(f, "{acl} {verdict} {what} {way} {subnet}")
            }
        }
    }
}
