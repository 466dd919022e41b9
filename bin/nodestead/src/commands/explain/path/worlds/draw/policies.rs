//! Network policies, drawn at random: selectors, blocks with exceptions, ports by number, name and range.

use k8s_openapi::api::networking::v1::NetworkPolicy;
use serde_json::{Value, json};

use super::{Dice, Family, NAMESPACES, PARTIES, PORTS, object};

fn selector(dice: &mut Dice, key: &str, values: [&str; 2]) -> Value {
    match dice.below(4) {
        0 => json!({}),
        1 => json!({ "matchExpressions": [
            { "key": key, "operator": "NotIn", "values": [dice.of(&values)] },
        ] }),
        _ => json!({ "matchLabels": { (key): dice.of(&values) } }),
    }
}

fn block(dice: &mut Dice, family: Family) -> Value {
    let (all, vpc, subnet, aws) = match family {
        Family::V4 => ("0.0.0.0/0", "10.0.0.0/16", "10.0.1.0/24", "203.0.113.0/24"),
        Family::V6 => ("::/0", "2001:db8:0:100::/56", "2001:db8:0:101::/64", "3fff::/20"),
    };
    let cidr = dice.of(&[all, vpc, subnet, aws]);
    if cidr == aws || dice.one_in(2) {
        return json!({ "ipBlock": { "cidr": cidr } });
    }
    let except = format!("{}/{}", family.address(dice.below(PARTIES)), family.host_len());
    let of_subnet = if family == Family::V4 { "10.0.1." } else { "2001:db8:0:101:" };
    let inside = cidr != subnet || except.starts_with(of_subnet);
    let except = if inside { vec![except] } else { Vec::new() };
    json!({ "ipBlock": { "cidr": cidr, "except": except } })
}

fn peer(dice: &mut Dice, family: Family) -> Value {
    let pods = selector(dice, "app", ["x", "y"]);
    let namespaces = selector(dice, "team", NAMESPACES);
    match dice.below(4) {
        0 => block(dice, family),
        1 => json!({ "podSelector": pods }),
        2 => json!({ "namespaceSelector": namespaces }),
        _ => json!({ "podSelector": pods, "namespaceSelector": namespaces }),
    }
}

fn policy_port(dice: &mut Dice) -> Value {
    let protocol = dice.of(&["TCP", "UDP"]);
    match dice.below(5) {
        0 => json!({ "protocol": protocol }),
        1 => json!({ "protocol": "TCP", "port": "web" }),
        2 => json!({ "protocol": "UDP", "port": "dns" }),
        3 => json!({ "protocol": protocol, "port": 900, "endPort": 1500 }),
        _ => json!({ "protocol": protocol, "port": dice.of(&PORTS) }),
    }
}

fn policy_rules(dice: &mut Dice, family: Family, peers: &str) -> Vec<Value> {
    let rule = |dice: &mut Dice| {
        let of: Vec<Value> = (0..dice.below(3)).map(|_| peer(dice, family)).collect();
        let ports: Vec<Value> = (0..dice.below(3)).map(|_| policy_port(dice)).collect();
        json!({ (peers): of, "ports": ports })
    };
    (0..dice.below(3)).map(|_| rule(dice)).collect()
}

pub(super) fn policy(dice: &mut Dice, family: Family, number: usize) -> NetworkPolicy {
    let types = dice.of(&[vec!["Ingress"], vec!["Egress"], vec!["Ingress", "Egress"]]);
    let mut spec = json!({
        "podSelector": selector(dice, "app", ["x", "y"]), "policyTypes": types,
    });
    for (direction, peers) in [("Ingress", "from"), ("Egress", "to")] {
        if types.contains(&direction) {
            spec[direction.to_lowercase()] = policy_rules(dice, family, peers).into();
        }
    }
    let namespace = dice.of(&NAMESPACES);
    object(json!({
        "metadata": { "name": format!("np{number}"), "namespace": namespace }, "spec": spec,
    }))
}
