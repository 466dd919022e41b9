//! Services and what is behind and in front of them.

use serde_json::{Value, json};

use super::{
    Printer, narrow,
    text::{NONE, age, first_three, items, labels, name, number, selector, text, text_or},
    wide,
};

const SERVICES: Printer = Printer {
    columns: &[
        narrow("Name"),
        narrow("Type"),
        narrow("Cluster-IP"),
        narrow("External-IP"),
        narrow("Port(s)"),
        narrow("Age"),
        wide("Selector"),
    ],
    cells: |it, now| {
        vec![
            name(it),
            text(it, "/spec/type").into(),
            text_or(it, "/spec/clusterIP", NONE),
            external(it).into(),
            ports(it),
            age(it, now),
            labels(&it["spec"]["selector"]),
        ]
    },
};

fn external(service: &Value) -> String {
    let mut addresses: Vec<String> = items(service, "/spec/externalIPs")
        .iter()
        .filter_map(|it| it.as_str().map(str::to_owned))
        .collect();
    match text(service, "/spec/type") {
        "ExternalName" => return text(service, "/spec/externalName").into(),
        "LoadBalancer" => {
            for ingress in items(service, "/status/loadBalancer/ingress") {
                let (ip, host) = (text(ingress, "/ip"), text(ingress, "/hostname"));
                addresses.push(if ip.is_empty() { host } else { ip }.to_owned());
            }
            if addresses.is_empty() {
                return "<pending>".into();
            }
        }
        _ => {}
    }
    if addresses.is_empty() { NONE.into() } else { addresses.join(",") }
}

fn ports(service: &Value) -> Value {
    let all: Vec<String> = items(service, "/spec/ports")
        .iter()
        .map(|it| {
            let (port, protocol) = (number(it, "/port"), text(it, "/protocol"));
            match number(it, "/nodePort") {
                0 => format!("{port}/{protocol}"),
                node => format!("{port}:{node}/{protocol}"),
            }
        })
        .collect();
    if all.is_empty() { NONE.into() } else { all.join(",").into() }
}

const ENDPOINTS: Printer = Printer {
    columns: &[narrow("Name"), narrow("Endpoints"), narrow("Age")],
    cells: |it, now| {
        let mut all = Vec::new();
        for subset in items(it, "/subsets") {
            let addresses = items(subset, "/addresses").iter().map(|it| text(it, "/ip"));
            for address in addresses {
                let ports = items(subset, "/ports");
                if ports.is_empty() {
                    all.push(address.to_owned());
                }
                all.extend(ports.iter().map(|it| format!("{address}:{}", number(it, "/port"))));
            }
        }
        vec![name(it), first_three(&all), age(it, now)]
    },
};

const SLICES: Printer = Printer {
    columns: &[
        narrow("Name"),
        narrow("AddressType"),
        narrow("Ports"),
        narrow("Endpoints"),
        narrow("Age"),
    ],
    cells: |it, now| {
        let ports: Vec<String> = items(it, "/ports")
            .iter()
            .map(|it| it["port"].as_i64().map_or_else(|| "*".into(), |it| it.to_string()))
            .collect();
        let ports = if ports.is_empty() { Value::from("<unset>") } else { first_three(&ports) };
        let addresses: Vec<String> = items(it, "/endpoints")
            .iter()
            .flat_map(|it| items(it, "/addresses"))
            .filter_map(|it| it.as_str().map(str::to_owned))
            .collect();
        let addresses =
            if addresses.is_empty() { Value::from("<unset>") } else { first_three(&addresses) };
        vec![name(it), text(it, "/addressType").into(), ports, addresses, age(it, now)]
    },
};

const INGRESSES: Printer = Printer {
    columns: &[
        narrow("Name"),
        narrow("Class"),
        narrow("Hosts"),
        narrow("Address"),
        narrow("Ports"),
        narrow("Age"),
    ],
    cells: |it, now| {
        let hosts: Vec<String> = items(it, "/spec/rules")
            .iter()
            .map(|it| text(it, "/host").to_owned())
            .filter(|it| !it.is_empty())
            .collect();
        let hosts = if hosts.is_empty() { Value::from("*") } else { first_three(&hosts) };
        let addresses: Vec<&str> = items(it, "/status/loadBalancer/ingress")
            .iter()
            .map(|it| match text(it, "/ip") {
                "" => text(it, "/hostname"),
                ip => ip,
            })
            .collect();
        let has_tls = !items(it, "/spec/tls").is_empty();
        vec![
            name(it),
            text_or(it, "/spec/ingressClassName", NONE),
            hosts,
            addresses.join(",").into(),
            if has_tls { "80, 443" } else { "80" }.into(),
            age(it, now),
        ]
    },
};

const POLICIES: Printer = Printer {
    columns: &[narrow("Name"), narrow("Pod-Selector"), narrow("Age")],
    cells: |it, now| vec![name(it), selector(&it["spec"]["podSelector"]), age(it, now)],
};

const INGRESS_CLASSES: Printer = Printer {
    columns: &[narrow("Name"), narrow("Controller"), narrow("Parameters"), narrow("Age")],
    cells: |it, now| {
        let parameters = &it["spec"]["parameters"];
        let shown = if parameters.is_object() {
            let kind = text(parameters, "/kind");
            let group = text(parameters, "/apiGroup");
            let dot = if group.is_empty() { "" } else { "." };
            format!("{kind}{dot}{group}/{}", text(parameters, "/name"))
        } else {
            NONE.into()
        };
        vec![name(it), text(it, "/spec/controller").into(), shown.into(), age(it, now)]
    },
};

const ADDRESSES: Printer = Printer {
    columns: &[narrow("Name"), narrow("ParentRef")],
    cells: |it, _| {
        let parent = &it["spec"]["parentRef"];
        let part = |field: &str| parent[field].as_str().unwrap_or_default();
        let shown = format!("{}/{}/{}", part("resource"), part("namespace"), part("name"));
        vec![name(it), shown.trim_matches('/').into()]
    },
};

const CIDRS: Printer = Printer {
    columns: &[narrow("Name"), narrow("CIDRs"), narrow("Age")],
    cells: |it, now| {
        let cidrs: Vec<&str> = items(it, "/spec/cidrs").iter().filter_map(Value::as_str).collect();
        vec![name(it), json!(cidrs.join(",")), age(it, now)]
    },
};

pub(super) fn printer(group: &str, plural: &str) -> Option<&'static Printer> {
    Some(match (group, plural) {
        ("", "services") => &SERVICES,
        ("", "endpoints") => &ENDPOINTS,
        ("discovery.k8s.io", "endpointslices") => &SLICES,
        ("networking.k8s.io", "ingresses") => &INGRESSES,
        ("networking.k8s.io", "networkpolicies") => &POLICIES,
        ("networking.k8s.io", "ingressclasses") => &INGRESS_CLASSES,
        ("networking.k8s.io", "ipaddresses") => &ADDRESSES,
        ("networking.k8s.io", "servicecidrs") => &CIDRS,
        _ => return None,
    })
}
