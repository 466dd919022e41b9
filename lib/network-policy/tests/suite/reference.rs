//! The API's words, read one connection at a time from the policies' JSON: no PolicyEndpoints, no
//! ranges, no types of the code that is tested.

use std::net::IpAddr;

use serde_json::Value;

use super::model::{At, Labels, Model, named_port};

/// Whether a connection may begin: the source's egress and the target's ingress have to allow it.
pub(crate) fn allows(model: &Model, from: &At, to: &At, protocol: &str, port: u16) -> bool {
    let to_port = Target { protocol, port };
    from == to
        || (side(model, "Egress", from, to, &to_port) && side(model, "Ingress", to, from, &to_port))
}

struct Target<'a> {
    protocol: &'a str,
    port: u16,
}

fn side(model: &Model, direction: &str, here: &At, peer: &At, target: &Target<'_>) -> bool {
    let (rules, peers) =
        if direction == "Ingress" { ("ingress", "from") } else { ("egress", "to") };
    let mut is_isolated = false;
    for ((ns, _), spec) in &model.policies {
        if *ns != here.ns || !selects(&spec["podSelector"], &here.labels) {
            continue;
        }
        if !has_type(spec, direction) {
            continue;
        }
        is_isolated = true;
        for rule in spec[rules].as_array().into_iter().flatten() {
            let at_port = unrestricted_or(&rule["ports"], |it| is_port(it, target));
            let with_peer = unrestricted_or(&rule[peers], |it| is_peer(model, it, ns, peer));
            if at_port && with_peer {
                return true;
            }
        }
    }
    !is_isolated
}

/// "If this field is empty or missing, this rule matches all".
fn unrestricted_or(list: &Value, holds: impl Fn(&Value) -> bool) -> bool {
    match list.as_array() {
        None => true,
        Some(list) => list.is_empty() || list.iter().any(holds),
    }
}

/// "If not specified: Ingress, and Egress where there are egress rules".
fn has_type(spec: &Value, direction: &str) -> bool {
    let has_egress_rules = spec["egress"].as_array().is_some_and(|it| !it.is_empty());
    match spec["policyTypes"].as_array() {
        Some(types) => types.iter().any(|it| it == direction),
        None => direction == "Ingress" || has_egress_rules,
    }
}

fn is_port(wanted: &Value, target: &Target<'_>) -> bool {
    let protocol = wanted["protocol"].as_str().unwrap_or("TCP").to_lowercase();
    if protocol != target.protocol {
        return false;
    }
    if let Some(name) = wanted["port"].as_str() {
        return named_port(name, &protocol) == Some(target.port);
    }
    let Some(first) = wanted["port"].as_u64() else { return true };
    let last = wanted["endPort"].as_u64().unwrap_or(first);
    first <= u64::from(target.port) && u64::from(target.port) <= last
}

fn is_peer(model: &Model, wanted: &Value, policy_ns: &str, peer: &At) -> bool {
    if !wanted["ipBlock"].is_null() {
        let block = &wanted["ipBlock"];
        let excepted = block["except"].as_array().into_iter().flatten();
        let mut excepted = excepted.filter(|it| is_in(it, peer.address));
        return is_in(&block["cidr"], peer.address) && excepted.next().is_none();
    }
    let is_of_namespace = match &wanted["namespaceSelector"] {
        Value::Null => peer.ns == policy_ns,
        selector => selects(selector, &model.namespaces[peer.ns]),
    };
    is_of_namespace && selects(&wanted["podSelector"], &peer.labels)
}

fn is_in(cidr: &Value, address: IpAddr) -> bool {
    let (base, len) = cidr.as_str().unwrap().split_once('/').unwrap();
    let (base, len): (IpAddr, u32) = (base.parse().unwrap(), len.parse().unwrap());
    let network = |it: IpAddr| match it {
        IpAddr::V4(it) => u128::from(it.to_bits()).checked_shr(32 - len),
        IpAddr::V6(it) => it.to_bits().checked_shr(128 - len),
    };
    base.is_ipv4() == address.is_ipv4() && network(base) == network(address)
}

/// A missing selector and an empty one select everything.
fn selects(selector: &Value, labels: &Labels) -> bool {
    let wanted = selector["matchLabels"].as_object().into_iter().flatten();
    let expressions = selector["matchExpressions"].as_array().into_iter().flatten();
    let mut unmet =
        wanted.filter(|(key, value)| labels.get(*key).map(String::as_str) != value.as_str());
    let holds = |it: &Value| {
        let has = labels.get(it["key"].as_str().unwrap());
        let values = it["values"].as_array().into_iter().flatten();
        let is_listed = has.is_some_and(|has| values.into_iter().any(|it| it == has));
        match it["operator"].as_str().unwrap() {
            "In" => is_listed,
            "NotIn" => !is_listed,
            "Exists" => has.is_some(),
            "DoesNotExist" => has.is_none(),
            other => panic!("{other}"),
        }
    };
    unmet.next().is_none() && expressions.into_iter().all(holds)
}
