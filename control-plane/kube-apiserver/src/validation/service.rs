//! Services.
//!
//! Upstream: `ValidateService` in pkg/apis/core/validation.

mod update;

use std::collections::HashSet;

use serde_json::{Value, json};

pub(super) use self::update::{check as update, load_balancer_status};
use super::{Faults, fields, items, text};
use crate::status::FieldError;

const TYPES: &[&str] = &["ClusterIP", "ExternalName", "LoadBalancer", "NodePort"];
const PROTOCOLS: &[&str] = &["SCTP", "TCP", "UDP"];
const AFFINITIES: &[&str] = &["ClientIP", "None"];
const TRAFFIC: &[&str] = &["Cluster", "Local"];
const FAMILY_POLICIES: &[&str] = &["PreferDualStack", "RequireDualStack", "SingleStack"];
const DISTRIBUTIONS: &[&str] = &["PreferClose", "PreferSameNode", "PreferSameZone"];
const HINTS: &str = "service.kubernetes.io/topology-aware-hints";
const MODE: &str = "service.kubernetes.io/topology-mode";
const SOURCE_RANGES: &str = "service.beta.kubernetes.io/load-balancer-source-ranges";
const ONLY_BALANCED: &str = "may only be used when `type` is 'LoadBalancer'";
const LONGEST_AFFINITY: i64 = 86_400;

pub(super) fn check(faults: &mut Faults, object: &Value) {
    let (spec, annotations) = (&object["spec"], &object["metadata"]["annotations"]);
    if let (Some(mode), Some(hints)) = (annotations[MODE].as_str(), annotations[HINTS].as_str())
        && mode != hints
    {
        let why = format!("must match annotations[{HINTS}] when both are specified");
        faults.invalid(format!("metadata.annotations[{MODE}]"), mode, why);
    }
    let kind = text(spec, "type");
    let is_headless = is_headless(spec);
    if items(spec, "ports").next().is_none() && kind != "ExternalName" && !is_headless {
        faults.required("spec.ports");
    }
    match kind {
        "NodePort" | "LoadBalancer" if is_headless => {
            let why = format!("may not be set to 'None' for {kind} services");
            faults.invalid("spec.clusterIPs[0]", "None", why);
        }
        "ExternalName" => external_name(faults, spec),
        _ => {}
    }
    ports(faults, spec, kind);
    fields::labels(faults, "spec.selector", &spec["selector"]);
    affinity(faults, spec);
    if kind != "ExternalName" {
        cluster_ips(faults, spec);
    }
    for (index, address) in items(spec, "externalIPs") {
        let (field, address) =
            (format!("spec.externalIPs[{index}]"), address.as_str().unwrap_or_default());
        super::endpoints::address(faults, &field, address);
    }
    faults.one_of("spec.type", &spec["type"], TYPES);
    source_ranges(faults, spec, annotations, kind);
    balancer(faults, spec, kind);
    traffic(faults, spec, kind);
}

fn is_headless(spec: &Value) -> bool {
    spec["clusterIP"] == "None" || spec["clusterIPs"] == json!(["None"])
}

fn external_name(faults: &mut Faults, spec: &Value) {
    let why = "may not be set for ExternalName services";
    if !text(spec, "clusterIP").is_empty() || items(spec, "clusterIPs").next().is_some() {
        faults.forbidden("spec.clusterIPs", why);
    }
    if items(spec, "ipFamilies").next().is_some() {
        faults.forbidden("spec.ipFamilies", why);
    }
    if !spec["ipFamilyPolicy"].is_null() {
        faults.forbidden("spec.ipFamilyPolicy", why);
    }
    let name = text(spec, "externalName");
    let name = name.strip_suffix('.').unwrap_or(name);
    if name.is_empty() {
        faults.required("spec.externalName");
    } else {
        faults.each("spec.externalName", name, fields::subdomain(name));
    }
}

fn ports(faults: &mut Faults, spec: &Value, kind: &str) {
    let has_several = items(spec, "ports").count() > 1;
    let (mut names, mut places, mut nodes) = (HashSet::new(), HashSet::new(), HashSet::new());
    for (index, port) in items(spec, "ports") {
        let at = format!("spec.ports[{index}]");
        let name = text(port, "name");
        if name.is_empty() && has_several {
            faults.required(format!("{at}.name"));
        } else if !name.is_empty() {
            faults.each(&format!("{at}.name"), name, fields::label(name));
            if !names.insert(name) {
                faults.add(FieldError::duplicate(format!("{at}.name"), name));
            }
        }
        fields::port(faults, &format!("{at}.port"), &port["port"]);
        faults.one_of(&format!("{at}.protocol"), &port["protocol"], PROTOCOLS);
        fields::port_or_name(faults, &format!("{at}.targetPort"), &port["targetPort"]);
        if let Some(name) = port["appProtocol"].as_str() {
            faults.each(&format!("{at}.appProtocol"), name, fields::qualified_name(name));
        }
    }
    for (index, port) in items(spec, "ports") {
        let at = format!("spec.ports[{index}]");
        let number = port["nodePort"].as_i64().unwrap_or_default();
        let protocol = text(port, "protocol");
        if number != 0 && kind == "ClusterIP" {
            let why = "may not be used when `type` is 'ClusterIP'";
            faults.forbidden(format!("{at}.nodePort"), why);
        }
        if number != 0 && !nodes.insert((number, protocol)) {
            faults.add(FieldError::duplicate(format!("{at}.nodePort"), number));
        }
        if !places.insert((port["port"].as_i64(), protocol)) {
            let told = json!({ "port": port["port"], "protocol": protocol, "targetPort": 0 });
            faults.add(FieldError::duplicate(at, told));
        }
    }
}

fn affinity(faults: &mut Faults, spec: &Value) {
    faults.one_of("spec.sessionAffinity", &spec["sessionAffinity"], AFFINITIES);
    let (at, config) = ("spec.sessionAffinityConfig", &spec["sessionAffinityConfig"]);
    match text(spec, "sessionAffinity") {
        "ClientIP" => {
            let at = format!("{at}.clientIP.timeoutSeconds");
            match config["clientIP"]["timeoutSeconds"].as_i64() {
                None => {
                    let why = "when session affinity type is ClientIP";
                    faults.add(FieldError::required(at, why));
                }
                Some(seconds) if !(1..=LONGEST_AFFINITY).contains(&seconds) => {
                    let why = format!("must be greater than 0 and less than {LONGEST_AFFINITY}");
                    faults.invalid(at, seconds, why);
                }
                Some(_) => {}
            }
        }
        "None" if config.is_object() => {
            faults.forbidden(at, "must not be set when session affinity is None");
        }
        _ => {}
    }
}

/// Addresses and families, as far as they can be looked at without the cluster's.
fn cluster_ips(faults: &mut Faults, spec: &Value) {
    let (field, all) = ("spec.clusterIPs", &spec["clusterIPs"]);
    let ips: Vec<&str> = items(spec, "clusterIPs").filter_map(|(_, it)| it.as_str()).collect();
    let first = text(spec, "clusterIP");
    if !first.is_empty() && !ips.is_empty() && ips[0] != first {
        faults.invalid(field, all.clone(), "first value must match `clusterIP`");
    } else if first.is_empty() && !ips.is_empty() {
        faults.invalid(field, all.clone(), "must be empty when `clusterIP` is not specified");
    }
    let mut seen = HashSet::new();
    for (index, family) in items(spec, "ipFamilies") {
        let (at, family) =
            (format!("spec.ipFamilies[{index}]"), family.as_str().unwrap_or_default());
        if !matches!(family, "IPv4" | "IPv6") {
            faults.add(FieldError::not_supported(&*at, family, &["IPv4", "IPv6"]));
        }
        if !seen.insert(family) {
            faults.add(FieldError::duplicate(at, family));
        }
    }
    let policy = text(spec, "ipFamilyPolicy");
    if !policy.is_empty() && !FAMILY_POLICIES.contains(&policy) {
        faults.add(FieldError::not_supported("spec.ipFamilyPolicy", policy, FAMILY_POLICIES));
    }
    let before = faults.count();
    for (index, ip) in ips.iter().enumerate() {
        match (index, *ip) {
            (0, "None") if ips.len() > 1 => {
                faults.invalid(field, all.clone(), "'None' must be the first and only value");
            }
            (0, "None") => {}
            _ => fields::ip(faults, &format!("{field}[{index}]"), ip),
        }
    }
    if ips.len() > 2 {
        faults.invalid(field, all.clone(), "may only hold up to 2 values");
    }
    if faults.count() > before {
        return;
    }
    let of_four: Vec<bool> = ips.iter().map(|it| !it.contains(':')).collect();
    if of_four.len() > 1 && of_four[0] == of_four[1] {
        let why = "may specify no more than one IP for each IP family";
        faults.invalid(field, all.clone(), why);
    }
    if is_headless(spec) {
        return;
    }
    for (index, family) in items(spec, "ipFamilies").take(ips.len()) {
        let family = family.as_str().unwrap_or_default();
        if family == if of_four[index] { "IPv6" } else { "IPv4" } {
            let why = format!("expected an {family} value as indicated by `ipFamilies[{index}]`");
            faults.invalid(format!("{field}[{index}]"), ips[index], why);
        }
    }
}

fn source_ranges(faults: &mut Faults, spec: &Value, annotations: &Value, kind: &str) {
    // As upstream spells it.
    let field = "spec.LoadBalancerSourceRanges";
    if items(spec, "loadBalancerSourceRanges").next().is_some() {
        if kind != "LoadBalancer" {
            faults.forbidden(field, ONLY_BALANCED);
        }
        for (index, range) in items(spec, "loadBalancerSourceRanges") {
            let range = range.as_str().unwrap_or_default().trim();
            fields::cidr(faults, &format!("{field}[{index}]"), range);
        }
    } else if let Some(ranges) = annotations[SOURCE_RANGES].as_str() {
        let field = format!("metadata.annotations[{SOURCE_RANGES}]");
        if kind != "LoadBalancer" {
            faults.forbidden(&*field, ONLY_BALANCED);
        }
        for range in ranges.split(',').filter(|_| !ranges.trim().is_empty()) {
            fields::cidr(faults, &field, range.trim());
        }
    }
}

fn balancer(faults: &mut Faults, spec: &Value, kind: &str) {
    let (field, allocates) =
        ("spec.allocateLoadBalancerNodePorts", &spec["allocateLoadBalancerNodePorts"]);
    if kind != "LoadBalancer" && !allocates.is_null() {
        faults.forbidden(field, ONLY_BALANCED);
    }
    if kind == "LoadBalancer" && allocates.is_null() {
        faults.required("allocateLoadBalancerNodePorts");
    }
    let Some(class) = spec["loadBalancerClass"].as_str() else { return };
    if kind == "LoadBalancer" {
        faults.each("spec.loadBalancerClass", class, fields::qualified_name(class));
    } else {
        faults.forbidden("spec.loadBalancerClass", ONLY_BALANCED);
    }
}

fn traffic(faults: &mut Faults, spec: &Value, kind: &str) {
    let (field, policy) = ("spec.externalTrafficPolicy", text(spec, "externalTrafficPolicy"));
    let has_ips = items(spec, "externalIPs").next().is_some();
    let is_reachable =
        matches!(kind, "NodePort" | "LoadBalancer") || kind == "ClusterIP" && has_ips;
    match (is_reachable, policy) {
        (false, "") => {}
        (false, _) => {
            let why = "may only be set for externally-accessible services";
            faults.invalid(field, policy, why);
        }
        (true, _) => faults.one_of(field, &spec["externalTrafficPolicy"], TRAFFIC),
    }
    let port = spec["healthCheckNodePort"].as_i64().unwrap_or_default();
    let is_asked = kind == "LoadBalancer" && policy == "Local";
    if port != 0 && !is_asked {
        let why =
            "may only be set when `type` is 'LoadBalancer' and `externalTrafficPolicy` is 'Local'";
        faults.invalid("spec.healthCheckNodePort", port, why);
    }
    let inner = &spec["internalTrafficPolicy"];
    if inner.is_null() && matches!(kind, "ClusterIP" | "NodePort" | "LoadBalancer") {
        faults.required("spec.internalTrafficPolicy");
    } else if let Some(it) = inner.as_str().filter(|it| !TRAFFIC.contains(it)) {
        faults.add(FieldError::not_supported("spec.internalTrafficPolicy", it, TRAFFIC));
    }
    if let Some(it) = spec["trafficDistribution"].as_str().filter(|it| !DISTRIBUTIONS.contains(it))
    {
        faults.add(FieldError::not_supported("spec.trafficDistribution", it, DISTRIBUTIONS));
    }
}
