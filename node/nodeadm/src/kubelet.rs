//! The kubelet's configuration and flags.

use std::net::IpAddr;

use instance_types::InstanceType;
use serde_json::{Value, json};

use crate::{
    Facts,
    expression::{ExpressionError, Variables, evaluate},
    files::PlannedFile,
    merge::merge,
    node_config::NodeConfig,
};

/// For types that nothing is known about: upstream's fallback.
const UNKNOWN_MAX_PODS: u32 = 110;

pub(crate) const CONFIG: &str = "/etc/kubernetes/kubelet/config.json";
pub(crate) const CLIENT_CA: &str = "/etc/kubernetes/pki/ca.crt";
const ENVIRONMENT: &str = "/etc/eks/kubelet/environment";

/// The configuration and the environment file.
pub(crate) fn files(
    config: &NodeConfig,
    facts: &Facts,
    node_name: &str,
) -> Result<Vec<PlannedFile>, ExpressionError> {
    let merged = configuration(config, facts)?;
    let text = format!("{merged:#}\n");
    Ok(vec![
        PlannedFile::new(CONFIG, text).mode(0o644),
        PlannedFile::new(CLIENT_CA, &*config.cluster.certificate_authority),
        PlannedFile::new(ENVIRONMENT, environment(config, facts, node_name)),
    ])
}

fn configuration(config: &NodeConfig, facts: &Facts) -> Result<Value, ExpressionError> {
    let known = instance_types::find(&facts.instance_type);
    let max_pods = max_pods(config, known)?;
    let mut value = base(config, facts);
    let machine = json!({
        "maxPods": max_pods,
        "kubeReserved": kube_reserved(facts.cpus, max_pods),
    });
    merge(&mut value, machine);
    merge(&mut value, Value::Object(config.kubelet.config.clone()));
    Ok(value)
}

fn max_pods(config: &NodeConfig, known: Option<&InstanceType>) -> Result<u32, ExpressionError> {
    // Pods of an IPv6 node are of one large prefix, not of the interfaces' addresses.
    let by_interfaces = known.map_or(UNKNOWN_MAX_PODS, InstanceType::max_pods);
    let by_cpus = known.map_or(UNKNOWN_MAX_PODS, InstanceType::max_pods_with_prefixes);
    let by_type = if config.is_ipv6() { by_cpus } else { by_interfaces };
    let Some(expression) = &config.kubelet.max_pods_expression else { return Ok(by_type) };
    let Some(known) = known else { return Ok(by_type) };
    let variables = Variables {
        default_enis: known.enis.into(),
        ips_per_eni: known.ipv4_per_eni.into(),
        max_pods: by_type.into(),
    };
    let value = evaluate(expression, variables)?;
    let out_of_range = |_| ExpressionError {
        expression: expression.clone(),
        reason: format!("{value} is not a number of pods"),
    };
    u32::try_from(value).map_err(out_of_range)
}

fn kube_reserved(cpus: u32, max_pods: u32) -> Value {
    let memory = instance_types::kube_reserved_memory_mib(max_pods);
    json!({
        "cpu": format!("{}m", instance_types::kube_reserved_cpu_millis(cpus)),
        "memory": format!("{memory}Mi"),
        "ephemeral-storage": "1Gi",
    })
}

/// Upstream: nodeadm's `kubelet` package.
fn base(config: &NodeConfig, facts: &Facts) -> Value {
    json!({
        "kind": "KubeletConfiguration",
        "apiVersion": "kubelet.config.k8s.io/v1beta1",
        "address": if config.is_ipv6() { "::" } else { "0.0.0.0" },
        "authentication": {
            "anonymous": { "enabled": false },
            "webhook": { "enabled": true, "cacheTTL": "2m0s" },
            "x509": { "clientCAFile": CLIENT_CA },
        },
        "authorization": {
            "mode": "Webhook",
            "webhook": { "cacheAuthorizedTTL": "5m0s", "cacheUnauthorizedTTL": "30s" },
        },
        "cgroupDriver": "cgroupfs",
        "cgroupRoot": "/",
        "clusterDomain": "cluster.local",
        "clusterDNS": [config.cluster_dns()],
        "containerRuntimeEndpoint": "unix:///run/containerd/containerd.sock",
        "evictionHard": {
            "memory.available": "100Mi",
            "nodefs.available": "10%",
            "nodefs.inodesFree": "5%",
        },
        "featureGates": { "RotateKubeletServerCertificate": true },
        "hairpinMode": "hairpin-veth",
        "logging": { "verbosity": 2 },
        "protectKernelDefaults": true,
        "providerID": format!("aws:///{}/{}", facts.zone, facts.instance_id),
        "readOnlyPort": 0,
        "serializeImagePulls": false,
        "serverTLSBootstrap": true,
        "shutdownGracePeriod": "2m30s",
        "shutdownGracePeriodCriticalPods": "30s",
        "tlsCipherSuites": [
            "TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256",
            "TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256",
            "TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305",
            "TLS_ECDHE_RSA_WITH_AES_256_GCM_SHA384",
            "TLS_ECDHE_RSA_WITH_CHACHA20_POLY1305",
            "TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384",
            "TLS_RSA_WITH_AES_256_GCM_SHA384",
            "TLS_RSA_WITH_AES_128_GCM_SHA256",
        ],
    })
}

/// By which the cluster knows the node.
fn node_ip(config: &NodeConfig, facts: &Facts) -> IpAddr {
    let ipv6 = facts.ipv6_address.filter(|_| config.is_ipv6());
    ipv6.map_or(IpAddr::V4(facts.address), IpAddr::V6)
}

/// The user's flags come last and so win.
fn flags(config: &NodeConfig, facts: &Facts, node_name: &str) -> Vec<String> {
    let mut flags = vec![
        "--cloud-provider=external".to_owned(),
        format!("--config={CONFIG}"),
        format!("--hostname-override={node_name}"),
        format!("--image-credential-provider-bin-dir={}", crate::credentials::FOLDER),
        format!("--image-credential-provider-config={}", crate::credentials::CONFIG),
        format!("--kubeconfig={}", crate::kubeconfig::PATH),
        format!("--node-ip={}", node_ip(config, facts)),
    ];
    flags.extend(config.kubelet.flags.iter().cloned());
    flags
}

/// A systemd environment file: the unit's variables, and the flags as one.
fn environment(config: &NodeConfig, facts: &Facts, node_name: &str) -> String {
    let mut text = String::new();
    for unit in ["default", "kubelet"] {
        let variables = config.instance.environment.get(unit).into_iter().flatten();
        for (name, value) in variables {
            text.push_str(&format!("{name}=\"{}\"\n", escape(value)));
        }
    }
    let flags: Vec<String> =
        flags(config, facts, node_name).iter().map(|flag| word(flag)).collect();
    text.push_str(&format!("NODEADM_KUBELET_ARGS=\"{}\"\n", escape(&flags.join(" "))));
    text
}

/// A flag with a blank stays one word.
fn word(flag: &str) -> String {
    if flag.contains(char::is_whitespace) { format!("'{flag}'") } else { flag.to_owned() }
}

fn escape(text: &str) -> String {
    text.replace('\\', "\\\\").replace('"', "\\\"")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::plan::tests::{config, facts};

    #[test]
    fn a_node_of_an_ipv6_cluster_is_known_by_its_ipv6_address() {
        let text = crate::node_config::tests::document("").replace("10.100.0.0/16", "fd00:7::/108");
        let config = NodeConfig::parse(&[text]).unwrap().unwrap();
        let four = facts();
        assert!(crate::plan::plan(&config, &four, "node").is_err(), "it has none");
        let facts = Facts { ipv6_address: Some("2001:db8::7".parse().unwrap()), ..four };
        let value = configuration(&config, &facts).unwrap();
        assert_eq!(
            (&value["clusterDNS"][0], &value["address"]),
            (&json!("fd00:7::a"), &json!("::"))
        );
        assert_eq!(value["maxPods"], 110);
        assert!(flags(&config, &facts, "node").contains(&"--node-ip=2001:db8::7".to_owned()));
    }

    #[test]
    fn an_m5_large_gets_eks_own_numbers() {
        let value = configuration(&config(""), &facts()).unwrap();
        assert_eq!(value["maxPods"], 29);
        assert_eq!(value["kubeReserved"]["memory"], "574Mi");
        assert_eq!(value["kubeReserved"]["cpu"], "70m");
        let with_options = Facts { cpus: 1, ..facts() };
        let value = configuration(&config(""), &with_options).unwrap();
        assert_eq!((&value["kubeReserved"]["cpu"], &value["maxPods"]), (&json!("60m"), &json!(29)));
        assert_eq!(value["clusterDNS"][0], "10.100.0.10");
        assert_eq!(value["providerID"], "aws:///us-east-1a/i-0abc");
        assert_eq!(value["serverTLSBootstrap"], true);
    }

    #[test]
    fn the_users_configuration_wins() {
        let extra = "  kubelet:\n    maxPodsExpression: (default_enis - 1) * (ips_per_eni - 1) + 2\n    \
                     config:\n      evictionHard:\n        memory.available: 5%\n";
        let value = configuration(&config(extra), &facts()).unwrap();
        assert_eq!(value["maxPods"], 20);
        assert_eq!(value["kubeReserved"]["memory"], "475Mi");
        assert_eq!(value["evictionHard"]["memory.available"], "5%");
        assert_eq!(value["evictionHard"]["nodefs.available"], "10%");
    }

    #[test]
    fn flags_are_one_variable_of_the_environment() {
        let extra = "  kubelet:\n    flags: ['--node-labels=a=b', '--x=\"y z\"']\n  instance:\n    \
                     environment:\n      default:\n        HTTP_PROXY: http://p\n";
        let text = environment(&config(extra), &facts(), "ip-192-168-0-12.ec2.internal");
        assert!(text.starts_with("HTTP_PROXY=\"http://p\"\n"));
        let line = text.lines().last().unwrap();
        assert!(line.contains("--hostname-override=ip-192-168-0-12.ec2.internal "), "{line}");
        assert!(line.contains("--node-ip=192.168.0.12 "), "{line}");
        assert!(line.ends_with("--node-labels=a=b '--x=\\\"y z\\\"'\""), "{line}");
    }

    #[test]
    fn a_type_that_nobody_knows_gets_the_fallback() {
        let unknown = Facts { instance_type: "x99.huge".to_owned(), ..facts() };
        assert_eq!(configuration(&config(""), &unknown).unwrap()["maxPods"], 110);
        let negative = config("  kubelet: {maxPodsExpression: 1 - 2}\n");
        assert!(configuration(&negative, &facts()).is_err());
    }
}
