//! What of an add-on can be configured, as `DescribeAddonConfiguration` says it.
//!
//! Deviation: less than on EKS can be configured: what would have no effect here is not in the schema
//! (Windows, CloudWatch, `corefile`, kube-proxy's `mode`), and a variable of `env` may have any name.

use aws_wire::Fault;
use serde_json::{Value, json};

use super::json_schema;
use crate::faults;

/// JSON or YAML; `None` stands for nothing.
pub(crate) fn parse(text: Option<&str>) -> Result<Value, Fault> {
    let Some(text) = text.filter(|it| !it.trim().is_empty()) else { return Ok(Value::Null) };
    serde_saphyr::from_str(text).map_err(|_| unsupported("it is neither JSON nor YAML"))
}

/// The JSON schema of an add-on's configuration.
pub(crate) fn schema(addon: &str) -> Value {
    let mut schema = closed(match addon {
        "vpc-cni" => vpc_cni(),
        "coredns" => with_pods(json!({
            "affinity": affinity(),
            "nodeSelector": {"type": "object"},
            "replicaCount": {"type": "integer"},
            "tolerations": objects(),
            "topologySpreadConstraints": objects(),
        })),
        "kube-proxy" => with_pods(json!({})),
        _ => json!({}),
    });
    schema["$schema"] = "http://json-schema.org/draft-06/schema#".into();
    schema
}

fn vpc_cni() -> Value {
    let subnet = json!({
        "type": "object",
        "additionalProperties": false,
        "required": ["id"],
        "properties": {
            "id": {"type": "string"},
            "securityGroups": {"type": "array", "items": {"type": "string"}},
        },
    });
    let eni_config = json!({
        "type": "object",
        "additionalProperties": false,
        "required": ["create", "region", "subnets"],
        "properties": {
            "create": {"type": "boolean"},
            "region": {"type": "string"},
            "subnets":
                {"type": "object", "minProperties": 1, "additionalProperties": subnet},
        },
    });
    with_pods(json!({
        "affinity": affinity(),
        "branchENICooldown": number(),
        "enableNetworkPolicy": flag(),
        "eniConfig": eni_config,
        "env": environment(),
        "init": closed(json!({"env": environment()})),
        "livenessProbeTimeoutSeconds": {"type": "integer"},
        "nodeAgent": closed(json!({
            "enablePolicyEventLogs": flag(),
            "healthProbeBindAddr": number(),
            "metricsBindAddr": number(),
            "resources": resources(),
        })),
        "readinessProbeTimeoutSeconds": {"type": "integer"},
        "tolerations": objects(),
    }))
}

/// What every add-on's pods may be given.
fn with_pods(mut properties: Value) -> Value {
    properties["podAnnotations"] = json!({"type": "object"});
    properties["podLabels"] = json!({"type": "object"});
    properties["resources"] = resources();
    properties
}

fn closed(properties: Value) -> Value {
    json!({"type": "object", "additionalProperties": false, "properties": properties})
}

fn environment() -> Value {
    json!({"type": "object", "additionalProperties": {"type": "string"}})
}

fn resources() -> Value {
    closed(json!({"limits": {"type": "object"}, "requests": {"type": "object"}}))
}

fn affinity() -> Value {
    json!({"type": ["object", "null"]})
}

fn objects() -> Value {
    json!({"type": "array", "items": {"type": "object"}})
}

/// Flags and ports are strings, as on EKS.
fn flag() -> Value {
    json!({"type": "string", "format": "boolean"})
}

fn number() -> Value {
    json!({"type": "string", "format": "integer"})
}

/// Refuses what the schema does not have.
pub(crate) fn check(addon: &str, text: Option<&str>) -> Result<(), Fault> {
    let value = parse(text)?;
    if value.is_null() {
        return Ok(());
    }
    match json_schema::violation(&schema(addon), &value, "$") {
        None => Ok(()),
        Some(why) => Err(unsupported(&format!("[{why}]"))),
    }
}

fn unsupported(why: &str) -> Fault {
    faults::invalid_parameter(format!(
        "ConfigurationValue provided in request is not supported: Json schema validation failed \
         with error: {why}"
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refused(addon: &str, text: &str) -> String {
        format!("{:?}", check(addon, Some(text)).unwrap_err())
    }

    #[test]
    fn configuration_that_would_have_no_effect_is_refused() {
        assert!(check("vpc-cni", Some(r#"{"env": {"A": "b"}}"#)).is_ok());
        let agent = |key: &str| format!(r#"{{"nodeAgent": {{"{key}": "true"}}}}"#);
        assert!(check("vpc-cni", Some(&agent("enablePolicyEventLogs"))).is_ok());
        let logs = refused("vpc-cni", &agent("enableCloudWatchLogs"));
        assert!(
            logs.contains("[$.nodeAgent.enableCloudWatchLogs: is not defined in the"),
            "{logs}"
        );
        let image = refused("vpc-cni", r#"{"init": {"image": "x"}}"#);
        assert!(image.contains("[$.init.image: is not defined"), "{image}");
        assert!(check("coredns", Some("replicaCount: 3")).is_ok());
        assert!(check("coredns", Some(r#"{"env": {}}"#)).is_err());
        assert!(check("kube-proxy", Some("[]")).is_err());
        assert!(check("kube-proxy", Some("mode: iptables")).is_err());
        assert!(check("kube-proxy", None).is_ok());
    }

    #[test]
    fn values_of_the_wrong_kind_are_refused() {
        for (text, why) in [
            (r#"{"enableNetworkPolicy": true}"#, "$.enableNetworkPolicy: boolean found, string"),
            (r#"{"enableNetworkPolicy": "yes"}"#, "$.enableNetworkPolicy: does not match"),
            (r#"{"env": {"WARM_ENI_TARGET": 1}}"#, "$.env.WARM_ENI_TARGET: integer found, string"),
            (r#"{"tolerations": [1]}"#, "$.tolerations[0]: integer found, object expected"),
            (r#"{"branchENICooldown": "long"}"#, "$.branchENICooldown: does not match"),
        ] {
            let told = refused("vpc-cni", text);
            assert!(told.contains(why), "{told}");
        }
        assert!(refused("coredns", "replicaCount: two").contains("string found, integer expected"));
    }

    #[test]
    fn eni_configs_need_a_region_and_subnets() {
        let of = |it: &str| format!(r#"{{"eniConfig": {{"create": true, {it}}}}}"#);
        let good = r#""region": "us-east-1", "subnets": {"a": {"id": "subnet-1"}}"#;
        assert!(check("vpc-cni", Some(&of(good))).is_ok());
        for (text, why) in [
            (r#""region": "r""#, "$.eniConfig.subnets: is missing but it is required"),
            (r#""region": "r", "subnets": {}"#, "$.eniConfig.subnets: should have at least 1"),
            (r#""region": "r", "subnets": {"a": {}}"#, "$.eniConfig.subnets.a.id: is missing"),
        ] {
            let told = refused("vpc-cni", &of(text));
            assert!(told.contains(why), "{told}");
        }
    }
}
