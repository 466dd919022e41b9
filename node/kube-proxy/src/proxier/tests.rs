//! What a change costs, and who gets an address that two want.

use linux_nftables::Family as Table;
use serde_json::json;

use super::*;
use crate::{
    compile::{LocalDetector, NodePorts},
    endpoint_slices::reduce,
    service_map::ports_of,
};

fn proxier() -> Proxier {
    let options = Options {
        family: Table::Ip,
        masquerade_mark: 0x4000,
        masquerade_all: false,
        local: LocalDetector::Nobody,
        node_ports: NodePorts::All,
        node_ip: None,
        service_cidrs: Vec::new(),
    };
    let mut proxier =
        Proxier::new(Nft::here(), Here { node: "node".into(), zone: None }, vec![options]);
    assert!(proxier.plan().is_whole);
    proxier
}

fn service(name: &str, ip: &str, external: &[&str]) -> (ServiceName, Vec<ServicePort>) {
    let value = json!({
        "metadata": { "namespace": "default", "name": name },
        "spec": { "clusterIP": ip, "externalIPs": external, "ports": [{ "port": 80 }] },
    });
    let ports = ports_of(&serde_json::from_value(value).unwrap());
    (ServiceName { namespace: "default".into(), name: name.into() }, ports)
}

fn slice(count: u8) -> Option<Slice> {
    let endpoints: Vec<_> =
        (1..=count).map(|n| json!({ "addresses": [format!("192.168.0.{n}")] })).collect();
    let value = json!({
        "metadata": { "namespace": "default", "labels": { "kubernetes.io/service-name": "x" } },
        "addressType": "IPv4",
        "ports": [{ "name": "", "port": 8080 }],
        "endpoints": endpoints,
    });
    reduce(&serde_json::from_value(value).unwrap()).map(|(_, slice)| slice)
}

fn text(pass: &Pass) -> String {
    pass.transactions[0].text()
}

#[test]
fn another_endpoint_costs_three_elements_whatever_else_there_is() {
    let mut proxier = proxier();
    for n in 0..200 {
        let (name, ports) = service(&format!("s{n}"), &format!("10.100.1.{n}"), &[]);
        proxier.set_service(&name, ports);
        proxier.set_slice(&name, "a", slice(2));
    }
    proxier.plan();
    let (name, _) = service("s7", "10.100.1.7", &[]);
    proxier.set_slice(&name, "a", slice(3));
    let pass = proxier.plan();
    assert_eq!(
        text(&pass),
        "add chain ip kube-proxy lb-tcp-3\n\
         add rule ip kube-proxy lb-tcp-3 dnat ip to ip daddr . tcp dport . numgen random mod 3 map \
         @endpoints-tcp\n\
         delete element ip kube-proxy service-ips { 10.100.1.7 . tcp . 80 }\n\
         add element ip kube-proxy endpoints-tcp { 10.100.1.7 . 80 . 2 : 192.168.0.3 . 8080 }\n\
         add element ip kube-proxy service-ips { 10.100.1.7 . tcp . 80 : goto lb-tcp-3 }\n"
    );
    assert!(proxier.plan().is_empty());
}

#[test]
fn an_update_that_changes_nothing_plans_nothing() {
    let mut proxier = proxier();
    let (name, ports) = service("web", "10.100.0.20", &[]);
    proxier.set_service(&name, ports.clone());
    proxier.plan();
    proxier.set_service(&name, ports);
    proxier.set_slice(&name, "gone", None);
    let pass = proxier.plan();
    assert!(pass.is_empty() && pass.services == 0);
}

#[test]
fn an_external_address_belongs_to_the_first_and_passes_to_the_next() {
    let mut proxier = proxier();
    let (a, of_a) = service("a", "10.100.0.1", &["203.0.113.9"]);
    let (b, of_b) = service("b", "10.100.0.2", &["203.0.113.9"]);
    proxier.set_service(&b, of_b);
    proxier.set_service(&a, of_a);
    proxier.set_slice(&a, "a", slice(1));
    proxier.set_slice(&b, "b", slice(2));
    let both = proxier.plan();
    assert!(text(&both).contains("203.0.113.9 . tcp . 80 : goto mlb-tcp-1"), "{}", text(&both));
    assert!(!text(&both).contains("203.0.113.9 . tcp . 80 : goto mlb-tcp-2"), "{}", text(&both));
    proxier.set_service(&a, Vec::new());
    let pass = proxier.plan();
    assert!(text(&pass).contains("203.0.113.9 . tcp . 80 : goto mlb-tcp-2"), "{}", text(&pass));
}

#[test]
fn an_external_address_cannot_take_a_cluster_address() {
    let mut proxier = proxier();
    let (dns, of_dns) = service("z-dns", "10.100.0.10", &[]);
    let (evil, of_evil) = service("evil", "10.100.0.66", &["10.100.0.10"]);
    proxier.set_service(&evil, of_evil);
    proxier.set_service(&dns, of_dns);
    for name in [&dns, &evil] {
        proxier.set_slice(name, "s", slice(1));
    }
    let pass = proxier.plan();
    assert!(!text(&pass).contains("goto mlb"), "{}", text(&pass));
}

/// What a watch that begins anew tells of first, where a Service went unseen and another took its
/// cluster address and its node port.
#[test]
fn a_service_that_took_over_anothers_address_and_node_port_has_them_once_the_list_is_whole() {
    for (old, new) in [("a", "b"), ("b", "a")] {
        let mut proxier = proxier();
        let of = |name: &str| {
            let value = json!({
                "metadata": { "namespace": "default", "name": name },
                "spec": {
                    "clusterIP": "10.100.0.1",
                    "type": "NodePort",
                    "ports": [{ "port": 80, "nodePort": 30080 }],
                },
            });
            let ports = ports_of(&serde_json::from_value(value).unwrap());
            (ServiceName { namespace: "default".into(), name: name.into() }, ports)
        };
        let ((gone, of_gone), (heir, of_heir)) = (of(old), of(new));
        let mut kernel = Kernel::default();
        proxier.set_service(&gone, of_gone);
        proxier.set_slice(&gone, "s", slice(1));
        kernel.apply(&text(&proxier.plan()));
        proxier.set_service(&heir, of_heir);
        proxier.set_slice(&heir, "s", slice(2));
        kernel.apply(&text(&proxier.plan()));
        proxier.retain_services(&BTreeSet::from([heir.clone()]));
        proxier.retain_slices(&BTreeSet::from([(heir.clone(), "s".to_owned())]));
        kernel.apply(&text(&proxier.plan()));
        let has = |map: &str, key: &str| {
            kernel.0.get(&(map.to_owned(), key.to_owned())).map(String::as_str)
        };
        let address = has("service-ips", "10.100.0.1 . tcp . 80");
        let node_port = has("service-nodeports", "tcp . 30080");
        assert_eq!(
            (address, node_port),
            (Some("goto lb-tcp-2"), Some("goto mnp-tcp-2")),
            "{old} → {new}: {kernel:?}"
        );
        assert_eq!(kernel.0.keys().filter(|(map, _)| map.contains("endpoints-tcp")).count(), 4);
    }
}

/// The elements of maps, which take no key twice and give back none that is not there.
#[derive(Debug, Default)]
struct Kernel(BTreeMap<(String, String), String>);

impl Kernel {
    fn apply(&mut self, text: &str) {
        for line in text.lines().filter(|it| it.contains(" element ")) {
            let (head, elements) = line.split_once(" { ").unwrap();
            let mut head = head.split(' ');
            let (verb, map) = (head.next().unwrap(), head.nth(3).unwrap());
            for element in elements.trim_end_matches(" }").split(", ") {
                let (key, value) = element.split_once(" : ").unwrap_or((element, ""));
                let id = (map.to_owned(), key.to_owned());
                match verb {
                    "add" => {
                        let old = self.0.insert(id, value.to_owned());
                        assert!(old.is_none_or(|it| it == value), "twice: {line}");
                    }
                    _ => assert!(self.0.remove(&id).is_some(), "not there: {line}"),
                }
            }
        }
    }
}

#[test]
fn a_new_list_drops_what_it_does_not_hold() {
    let mut proxier = proxier();
    let (name, ports) = service("web", "10.100.0.20", &[]);
    proxier.set_service(&name, ports);
    proxier.set_slice(&name, "s", slice(1));
    proxier.plan();
    proxier.retain_slices(&BTreeSet::new());
    proxier.retain_services(&BTreeSet::new());
    let pass = proxier.plan();
    assert!(text(&pass).contains("delete element ip kube-proxy service-ips"), "{}", text(&pass));
    assert!(text(&pass).contains("delete element ip kube-proxy cluster-ips"), "{}", text(&pass));
    assert!(!text(&pass).contains("add element"), "{}", text(&pass));
}
