//! The API's words read a second time, without PolicyEndpoints, sets or ranges: policies as JSON,
//! one connection at a time.

use network_policy::Protocol;
use serde_json::Value;

use crate::world::At;

/// Whether the policies (namespace and spec) let a connection begin.
pub(crate) fn allows(
    policies: &[(&str, Value)],
    from: At,
    to: At,
    protocol: Protocol,
    port: u16,
) -> bool {
    from == to
        || (side(policies, "Egress", from, to, to, protocol, port)
            && side(policies, "Ingress", to, from, to, protocol, port))
}

fn side(
    policies: &[(&str, Value)],
    direction: &str,
    here: At,
    peer: At,
    target: At,
    protocol: Protocol,
    port: u16,
) -> bool {
    let (rules, peers) =
        if direction == "Ingress" { ("ingress", "from") } else { ("egress", "to") };
    let mut is_isolated = false;
    for (ns, spec) in policies {
        let is_mine = *ns == here.ns && matches(&spec["podSelector"], "pod", here.pod);
        if !is_mine || !has_type(spec, direction) {
            continue;
        }
        is_isolated = true;
        for rule in spec[rules].as_array().into_iter().flatten() {
            let at_port = any(&rule["ports"], |it| is_port(it, target, protocol, port));
            let with_peer = any(&rule[peers], |it| is_peer(it, ns, peer));
            if at_port && with_peer {
                return true;
            }
        }
    }
    !is_isolated
}

/// A list that is missing or empty is no restriction.
fn any(list: &Value, holds: impl Fn(&Value) -> bool) -> bool {
    list.as_array().is_none_or(|it| it.is_empty() || it.iter().any(holds))
}

fn has_type(spec: &Value, direction: &str) -> bool {
    match spec["policyTypes"].as_array() {
        Some(types) => types.iter().any(|it| it == direction),
        None => {
            direction == "Ingress" || spec["egress"].as_array().is_some_and(|it| !it.is_empty())
        }
    }
}

fn is_port(wanted: &Value, target: At, protocol: Protocol, port: u16) -> bool {
    let name = wanted["protocol"].as_str().unwrap_or("TCP");
    if !name.eq_ignore_ascii_case(protocol.lower()) {
        return false;
    }
    match &wanted["port"] {
        Value::Null => true,
        Value::String(named) => target.named(named, name) == Some(port),
        number => {
            let first = number.as_u64().unwrap();
            let last = wanted["endPort"].as_u64().unwrap_or(first);
            (first..=last).contains(&u64::from(port))
        }
    }
}

fn is_peer(wanted: &Value, ns: &str, peer: At) -> bool {
    if let Some(block) = wanted["ipBlock"].as_object() {
        let is_in = |cidr: &Value| {
            let net: ipnet::IpNet = cidr.as_str().unwrap().parse().unwrap();
            net.contains(&peer.address())
        };
        let excepted = block.get("except").and_then(Value::as_array);
        return is_in(&block["cidr"]) && !excepted.into_iter().flatten().any(is_in);
    }
    let of_namespace = match &wanted["namespaceSelector"] {
        Value::Null => peer.ns == ns,
        selector => matches(selector, "ns", peer.ns),
    };
    of_namespace && matches(&wanted["podSelector"], "pod", peer.pod)
}

/// Objects here have one label that selectors ask for.
fn matches(selector: &Value, key: &str, value: &str) -> bool {
    let labels = selector["matchLabels"].as_object();
    let by_label = labels.into_iter().flatten().all(|(name, it)| name == key && it == value);
    let expressions = selector["matchExpressions"].as_array();
    let by_expression = expressions.into_iter().flatten().all(|it| {
        let is_key = it["key"] == key;
        let is_listed = it["values"].as_array().into_iter().flatten().any(|it| it == value);
        match it["operator"].as_str().unwrap() {
            "In" => is_key && is_listed,
            "NotIn" => !is_key || !is_listed,
            "Exists" => is_key,
            _ => !is_key,
        }
    });
    by_label && by_expression
}
