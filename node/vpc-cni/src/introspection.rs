//! `/metrics` on 61678 and what ipamd knows, as JSON, on 127.0.0.1:61679.

use std::{collections::BTreeMap, convert::Infallible, sync::Arc};

use base64::{Engine, prelude::BASE64_STANDARD};

use http::{Request, Response, StatusCode, header::CONTENT_TYPE};
use hyper::body::Incoming;
use ipnet::Ipv4Net;
use serde_json::{Map, Value, json};
use transport::Body;

use crate::{
    config::Config,
    datastore::{Datastore, Eni},
    ipamd::Ipamd,
    network,
};

/// Answers `/metrics`.
pub async fn metrics(
    request: Request<Incoming>,
    ipamd: Arc<Ipamd>,
) -> Result<Response<Body>, Infallible> {
    if request.uri().path() != "/metrics" {
        return Ok(plain(StatusCode::NOT_FOUND, "text/plain", "404 page not found\n".to_owned()));
    }
    ipamd.measure();
    Ok(plain(StatusCode::OK, "text/plain; version=0.0.4", ipamd.metrics.render()))
}

const COMMANDS: [&str; 5] = [
    "/v1/enis",
    "/v1/eni-configs",
    "/v1/networkutils-env-settings",
    "/v1/ipamd-env-settings",
    "/v1/pool",
];

/// Answers [`COMMANDS`].
///
/// Deviation: `/v1/pool` is ours: the next step of the pool and its reason, and the ENIConfig.
pub async fn introspect(
    request: Request<Incoming>,
    ipamd: Arc<Ipamd>,
) -> Result<Response<Body>, Infallible> {
    let answer = match request.uri().path() {
        "/v1/enis" => enis(&ipamd),
        "/v1/eni-configs" => eni_configs(&ipamd),
        "/v1/networkutils-env-settings" => network_settings(ipamd.config()),
        "/v1/pool" => pool(&ipamd),
        "/v1/ipamd-env-settings" => pool_settings(ipamd.config()),
        _ => json!({ "AvailableCommands": COMMANDS }),
    };
    Ok(plain(StatusCode::OK, "application/json", answer.to_string()))
}

/// The name alone, as upstream has it.
fn eni_configs(ipamd: &Ipamd) -> Value {
    json!(ipamd.eni_config().map_or_else(|| "default".to_owned(), |it| it.name))
}

fn pool(ipamd: &Ipamd) -> Value {
    let plan = ipamd.plan();
    let spec = ipamd.eni_config().and_then(|it| it.spec);
    json!({
        "step": format!("{:?}", plan.step),
        "reason": plan.reason,
        "eniConfig":
            spec.map(|it| json!({ "subnet": it.subnet, "securityGroups": it.security_groups })),
    })
}

fn pool_settings(config: &Config) -> Value {
    let targets = config.targets;
    json!({
        "WARM_ENI_TARGET": targets.warm_eni,
        "WARM_IP_TARGET": targets.warm_ip,
        "MINIMUM_IP_TARGET": targets.minimum_ip,
        "WARM_PREFIX_TARGET": targets.warm_prefix,
        "ENABLE_PREFIX_DELEGATION": targets.is_prefix_mode,
        "MAX_ENI": config.max_eni,
        "IP_COOLDOWN_PERIOD": config.cooldown.as_secs(),
        "AWS_VPC_K8S_CNI_CUSTOM_NETWORK_CFG": config.is_custom_networking,
        "ENABLE_SUBNET_DISCOVERY": config.discovers_subnets,
        "DISABLE_NETWORK_RESOURCE_PROVISIONING": config.is_provisioning_disabled,
        "MANAGE_UNTAGGED_ENI": config.manages_untagged,
        "ADDITIONAL_ENI_TAGS": config.additional_tags,
        "DISABLE_METRICS": config.is_metrics_disabled,
        "ENABLE_POD_ENI": config.enables_pod_eni,
        "ENABLE_IPv4": !config.is_ipv6,
        "ENABLE_IPv6": config.is_ipv6,
    })
}

fn network_settings(config: &Config) -> Value {
    json!({
        "AWS_VPC_K8S_CNI_CONNMARK": network::MARK,
        "AWS_VPC_CNI_NODE_PORT_SUPPORT": true,
        "AWS_VPC_K8S_CNI_EXTERNALSNAT": config.is_external_snat,
        "AWS_VPC_K8S_CNI_EXCLUDE_SNAT_CIDRS": config.exclude_snat_cidrs,
        "AWS_EXTERNAL_SERVICE_CIDRS": config.external_service_cidrs,
        "AWS_VPC_K8S_CNI_RANDOMIZESNAT": config.randomize_snat,
        "AWS_VPC_K8S_CNI_VETHPREFIX": config.veth_prefix,
        "AWS_VPC_ENI_MTU": config.eni_mtu,
        "POD_MTU": config.pod_mtu,
        "POD_SECURITY_GROUP_ENFORCING_MODE": config.pod_eni_mode.as_str(),
    })
}

/// By network card, as upstream has it. Without container ids: whoever can read this port need not
/// know them.
fn enis(ipamd: &Ipamd) -> Value {
    let store = ipamd.snapshot();
    let stock = store.stock();
    let enis: Map<String, Value> =
        store.enis().map(|eni| (eni.attached.id.clone(), of_eni(&store, eni))).collect();
    json!({ "0": { "TotalIPs": stock.total, "AssignedIPs": stock.assigned, "ENIs": enis } })
}

fn of_eni(store: &Datastore, eni: &Eni) -> Value {
    let attached = &eni.attached;
    let mut cidrs: BTreeMap<Ipv4Net, Map<String, Value>> = BTreeMap::new();
    for prefix in &attached.prefixes {
        cidrs.entry(*prefix).or_default();
    }
    for (address, holder, released) in eni.holders() {
        let cidr = attached.prefixes.iter().find(|it| it.contains(&address)).copied();
        let row = holder.and_then(|key| store.rows().find(|it| it.key == *key));
        // Of a prefix, those addresses that were ever used.
        if cidr.is_some() && row.is_none() && released.is_none() {
            continue;
        }
        let metadata = row.map_or_else(
            || json!({}),
            |it| json!({ "k8sPodNamespace": it.pod.namespace, "k8sPodName": it.pod.name }),
        );
        let value = json!({
            "Address": address,
            "IPAMKey": { "networkName": holder.map(|it| &it.network_name), "containerID": "", "ifName": "" },
            "IPAMMetadata": metadata,
            "AssignedTime": row.map_or(NEVER.to_owned(), |it| it.since.to_string()),
            "UnassignedTime": released.map_or(NEVER.to_owned(), |it| it.to_string()),
        });
        cidrs
            .entry(cidr.unwrap_or_else(|| address.into()))
            .or_default()
            .insert(address.to_string(), value);
    }
    let cidrs: Map<String, Value> = cidrs
        .into_iter()
        .map(|(cidr, addresses)| {
            let value = json!({
                "Cidr": { "IP": cidr.network(), "Mask": BASE64_STANDARD.encode(cidr.netmask().octets()) },
                "IPAddresses": addresses,
                "IsPrefix": attached.prefixes.contains(&cidr),
                "AddressFamily": "ipv4",
            });
            (cidr.to_string(), value)
        })
        .collect();
    json!({
        "ID": attached.id,
        "IsPrimary": attached.is_primary(),
        "IsTrunk": attached.is_trunk,
        "IsEFA": false,
        "DeviceNumber": attached.device_number,
        "AvailableIPv4Cidrs": cidrs,
        "IPv6Cidrs": {},
        "IsExcludedForPodIPs": store.excludes(attached),
        "RouteTableID": attached.route_table(),
        "SubnetID": attached.subnet_id,
    })
}

/// Go's zero time.
const NEVER: &str = "0001-01-01T00:00:00Z";

fn plain(status: StatusCode, kind: &'static str, text: String) -> Response<Body> {
    let mut response = Response::new(transport::full(text));
    *response.status_mut() = status;
    response.headers_mut().insert(CONTENT_TYPE, http::HeaderValue::from_static(kind));
    response
}
