//! Endpoints and EndpointSlices.
//!
//! Upstream: `ValidateEndpoints` in pkg/apis/core/validation, pkg/apis/discovery/validation.

use std::{
    collections::HashSet,
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
};

use serde_json::Value;

use super::{Faults, fields, items, text};
use crate::status::FieldError;

const PROTOCOLS: &[&str] = &["SCTP", "TCP", "UDP"];
const MOST_ENDPOINTS: usize = 1000;
const MOST_ADDRESSES: usize = 100;
const MOST_PORTS: usize = 20_000;
const MOST_HINTS: usize = 8;
const MOST_TOPOLOGY: usize = 16;

/// An address that something outside of the node can have.
pub(super) fn address(faults: &mut Faults, field: &str, address: &str) {
    match address.parse::<IpAddr>() {
        Err(_) => faults.invalid(field, address, fields::IP),
        Ok(it) => {
            if let Some(why) = special(it) {
                faults.invalid(field, address, why);
            }
        }
    }
}

/// Why an address cannot be that of an endpoint.
pub(super) fn special(address: IpAddr) -> Option<&'static str> {
    match address {
        IpAddr::V4(it) if it.is_unspecified() => Some("may not be unspecified (0.0.0.0)"),
        IpAddr::V6(it) if it.is_unspecified() => Some("may not be unspecified (::)"),
        it if it.is_loopback() => Some("may not be in the loopback range (127.0.0.0/8, ::1/128)"),
        it if is_link_local(it) => {
            Some("may not be in the link-local range (169.254.0.0/16, fe80::/10)")
        }
        it if is_local_multicast(it) => {
            Some("may not be in the link-local multicast range (224.0.0.0/24, ff02::/10)")
        }
        _ => None,
    }
}

fn is_link_local(address: IpAddr) -> bool {
    match address {
        IpAddr::V4(it) => it.is_link_local(),
        IpAddr::V6(it) => it.is_unicast_link_local(),
    }
}

fn is_local_multicast(address: IpAddr) -> bool {
    match address {
        IpAddr::V4(it) => it.octets()[..3] == [224, 0, 0],
        IpAddr::V6(it) => it.octets()[0] == 0xff && it.octets()[1] & 0xf == 2,
    }
}

pub(super) fn endpoints(faults: &mut Faults, object: &Value) {
    for (index, subset) in items(object, "subsets") {
        let at = format!("subsets[{index}]");
        let lists = ["addresses", "notReadyAddresses"];
        if lists.iter().all(|it| items(subset, it).next().is_none()) {
            let why = "must specify `addresses` or `notReadyAddresses`";
            faults.add(FieldError::required(at.clone(), why));
        }
        for list in lists {
            for (number, it) in items(subset, list) {
                let at = format!("{at}.{list}[{number}]");
                of_subset(faults, &at, it);
            }
        }
        let has_several = items(subset, "ports").count() > 1;
        for (number, it) in items(subset, "ports") {
            let at = format!("{at}.ports[{number}]");
            if has_several && text(it, "name").is_empty() {
                faults.required(format!("{at}.name"));
            }
            fields::port(faults, &format!("{at}.port"), &it["port"]);
            port(faults, &at, it);
        }
    }
}

fn of_subset(faults: &mut Faults, at: &str, it: &Value) {
    address(faults, &format!("{at}.ip"), text(it, "ip"));
    let host = text(it, "hostname");
    if !host.is_empty() {
        faults.each(&format!("{at}.hostname"), host, fields::label(host));
    }
    if let Some(node) = it["nodeName"].as_str() {
        faults.each(&format!("{at}.nodeName"), node, fields::subdomain(node));
    }
}

/// What ports of both kinds have in common.
fn port(faults: &mut Faults, at: &str, port: &Value) {
    let name = text(port, "name");
    if !name.is_empty() {
        faults.each(&format!("{at}.name"), name, fields::label(name));
    }
    faults.one_of(&format!("{at}.protocol"), &port["protocol"], PROTOCOLS);
    if let Some(name) = port["appProtocol"].as_str() {
        faults.each(&format!("{at}.appProtocol"), name, fields::qualified_name(name));
    }
}

pub(super) fn slice(faults: &mut Faults, object: &Value) {
    faults.one_of("addressType", &object["addressType"], &["FQDN", "IPv4", "IPv6"]);
    let kind = text(object, "addressType");
    let count = items(object, "endpoints").count();
    if count > MOST_ENDPOINTS {
        faults.add(FieldError::too_many("endpoints", count, MOST_ENDPOINTS));
    } else {
        for (index, it) in items(object, "endpoints") {
            endpoint(faults, &format!("endpoints[{index}]"), it, kind);
        }
    }
    let count = items(object, "ports").count();
    if count > MOST_PORTS {
        return faults.add(FieldError::too_many("ports", count, MOST_PORTS));
    }
    let mut names = HashSet::new();
    for (index, it) in items(object, "ports") {
        let at = format!("ports[{index}]");
        port(faults, &at, it);
        if !names.insert(text(it, "name")) {
            faults.add(FieldError::duplicate(format!("{at}.name"), text(it, "name")));
        }
        if !it["port"].is_null() {
            fields::port(faults, &format!("{at}.port"), &it["port"]);
        }
    }
}

fn endpoint(faults: &mut Faults, at: &str, endpoint: &Value, kind: &str) {
    let list = format!("{at}.addresses");
    match items(endpoint, "addresses").count() {
        0 => faults.add(FieldError::required(&*list, "must contain at least 1 address")),
        count if count > MOST_ADDRESSES => {
            faults.add(FieldError::too_many(&*list, count, MOST_ADDRESSES));
        }
        _ => {}
    }
    for (index, it) in items(endpoint, "addresses") {
        typed_address(faults, &format!("{list}[{index}]"), it.as_str().unwrap_or_default(), kind);
    }
    if let Some(node) = endpoint["nodeName"].as_str() {
        faults.each(&format!("{at}.nodeName"), node, fields::subdomain(node));
    }
    let topology = &endpoint["deprecatedTopology"];
    let field = format!("{at}.deprecatedTopology");
    let count = topology.as_object().map_or(0, serde_json::Map::len);
    if count > MOST_TOPOLOGY {
        faults.add(FieldError::too_many(&*field, count, MOST_TOPOLOGY));
    }
    fields::labels(faults, &field, topology);
    if let Some(host) = endpoint["hostname"].as_str() {
        faults.each(&format!("{at}.hostname"), host, fields::label(host));
    }
    for (hints, check) in [
        ("forZones", fields::label_value as fn(&str) -> Vec<String>),
        ("forNodes", fields::subdomain),
    ] {
        self::hints(faults, &format!("{at}.hints.{hints}"), &endpoint["hints"], hints, check);
    }
}

fn typed_address(faults: &mut Faults, field: &str, it: &str, kind: &str) {
    match kind {
        "IPv4" if it.parse::<Ipv4Addr>().is_err() => {
            faults.invalid(field, it, "must be a valid IPv4 address");
        }
        "IPv6" if it.parse::<Ipv6Addr>().is_err() => {
            faults.invalid(field, it, "must be a valid IPv6 address");
        }
        "IPv4" | "IPv6" => address(faults, field, it),
        "FQDN" => {
            let name = it.strip_suffix('.').unwrap_or(it);
            if name.is_empty() {
                return faults.required(field);
            }
            faults.each(field, it, fields::subdomain(name));
            if !name.contains('.') {
                let why = "should be a domain with at least two segments separated by dots";
                faults.invalid(field, it, why);
            }
        }
        _ => {}
    }
}

fn hints(
    faults: &mut Faults,
    list: &str,
    owner: &Value,
    field: &str,
    check: fn(&str) -> Vec<String>,
) {
    let count = items(owner, field).count();
    if count > MOST_HINTS {
        return faults.add(FieldError::too_many(list, count, MOST_HINTS));
    }
    let mut names = HashSet::new();
    for (index, hint) in items(owner, field) {
        let (at, name) = (format!("{list}[{index}].name"), text(hint, "name"));
        if !names.insert(name) {
            faults.add(FieldError::duplicate(&*at, name));
        }
        faults.each(&at, name, check(name));
    }
}
