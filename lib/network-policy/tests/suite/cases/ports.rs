//! `ports` and `end-port`: protocols × ports, alone and in pairs, and ranges, in each direction.

use serde_json::{Value, json};

use super::super::model::Case;
use super::{DIRECTIONS, base, base_with, single};

/// The last name is one of TCP's: of other protocols no port has it.
fn kinds() -> Vec<Value> {
    let mut kinds = Vec::new();
    for protocol in [json!(null), json!("TCP"), json!("UDP"), json!("SCTP")] {
        for port in [json!(null), json!(81), json!("serve-81-tcp")] {
            let mut kind = json!({});
            for (key, value) in [("protocol", &protocol), ("port", &port)] {
                if !value.is_null() {
                    kind[key] = value.clone();
                }
            }
            kinds.push(kind);
        }
    }
    kinds.push(json!({"protocol": "UDP", "port": "serve-80-udp"}));
    kinds.push(json!({"protocol": "SCTP", "port": "serve-80-sctp"}));
    kinds
}

fn ranges() -> [Value; 9] {
    [
        json!({"port": 80, "endPort": 81}),
        json!({"port": 79, "endPort": 80}),
        json!({"port": 81, "endPort": 81}),
        json!({"port": 81, "endPort": 65535}),
        json!({"port": 1, "endPort": 79}),
        json!({"port": 82, "endPort": 9000}),
        json!({"protocol": "UDP", "port": 80, "endPort": 90}),
        json!({"protocol": "UDP", "port": 1, "endPort": 80}),
        json!({"protocol": "SCTP", "port": 81, "endPort": 82}),
    ]
}

pub(super) fn all() -> Vec<Case> {
    let mut all = Vec::new();
    for (kind, rules, _) in DIRECTIONS {
        let mut add = |family: &'static str, ports: Value| {
            let spec = base_with(rules, "ports", &ports);
            all.push(single(family, format!("{kind}: {ports}"), &[("x", spec)]));
        };
        for range in ranges() {
            add("end-port", json!([range]));
        }
        add("end-port", json!([{"port": 79, "endPort": 80}, {"port": 80, "endPort": 82}]));
        add("end-port", json!([{"port": 80}, {"protocol": "UDP", "port": 81, "endPort": 90}]));
        add("ports", json!([]));
        let kinds = kinds();
        kinds.iter().for_each(|it| add("ports", json!([it])));
        for (number, first) in kinds.iter().enumerate() {
            kinds[..number].iter().for_each(|second| add("ports", json!([first, second])));
        }
    }
    // Ports that open for everybody, not for the peers of the base.
    for port in kinds() {
        let mut spec = base();
        spec["ingress"] = json!([{"ports": [port]}]);
        spec["egress"] = json!([{"ports": [port]}]);
        all.push(single("ports", format!("no peers: {port}"), &[("x", spec)]));
    }
    all
}
