//! An add-on's objects: filled in, configured, applied, removed.
//!
//! Deviation: without `enableNetworkPolicy` `aws-node` has no container `aws-eks-nodeagent`; on EKS it
//! is there and idles.

use aws_wire::Fault;
use kube::{
    Api, Client,
    api::{DeleteParams, DynamicObject, Patch, PatchParams, PostParams},
    core::{ApiResource, GroupVersionKind},
};
use serde_json::{Value, json};

use super::catalog;
use crate::{
    faults,
    records::{Addon, Cluster},
};

/// The account that owns EKS's images, by region; this is us-east-1's.
const REGISTRY_ACCOUNT: &str = "602401143452";
/// The container of `aws-node` that enforces network policies.
const POLICY_AGENT: &str = "aws-eks-nodeagent";
/// What `nodeAgent` configures: the argument, and what is before its value.
const AGENT_ARGUMENTS: [(&str, &str); 2] = [
    ("enablePolicyEventLogs", "--enable-policy-event-logs="),
    ("metricsBindAddr", "--metrics-bind-addr=:"),
];

#[derive(Debug, thiserror::Error)]
pub(crate) enum ManifestError {
    #[error("the manifest of add-on `{addon}` is broken: {reason}")]
    Broken { addon: String, reason: String },
    #[error("failed to apply {kind} `{name}`")]
    Apply {
        kind: String,
        name: String,
        #[source]
        source: Box<kube::Error>,
    },
}

/// Creates the add-on's objects, or merges them into what is there.
pub(crate) async fn apply(
    client: &Client,
    region: &str,
    cluster: &Cluster,
    addon: &Addon,
) -> Result<(), ManifestError> {
    for object in objects(region, cluster, addon)? {
        let (api, name, kind) = parts(client, addon, &object)?;
        let failed = |source| ManifestError::Apply {
            kind: kind.clone(),
            name: name.clone(),
            source: Box::new(source),
        };
        match api.create(&PostParams::default(), &object).await {
            Err(kube::Error::Api(status)) if status.is_already_exists() => {
                let patch = Patch::Merge(&object);
                api.patch(&name, &PatchParams::default(), &patch).await.map_err(failed)?;
            }
            result => drop(result.map_err(failed)?),
        }
    }
    Ok(())
}

/// Deletes the add-on's objects, in the reverse of their order.
pub(crate) async fn remove(
    client: &Client,
    region: &str,
    cluster: &Cluster,
    addon: &Addon,
) -> Result<(), ManifestError> {
    for object in objects(region, cluster, addon)?.into_iter().rev() {
        let (api, name, kind) = parts(client, addon, &object)?;
        match api.delete(&name, &DeleteParams::background()).await {
            Err(kube::Error::Api(status)) if status.is_not_found() => {}
            Err(source) => {
                return Err(ManifestError::Apply { kind, name, source: Box::new(source) });
            }
            Ok(_) => {}
        }
    }
    Ok(())
}

fn parts(
    client: &Client,
    addon: &Addon,
    object: &DynamicObject,
) -> Result<(Api<DynamicObject>, String, String), ManifestError> {
    let broken = |reason: &str| ManifestError::Broken {
        addon: addon.name.clone(),
        reason: reason.to_owned(),
    };
    let types = object.types.as_ref().ok_or_else(|| broken("an object without a kind"))?;
    let kind = GroupVersionKind::try_from(types).map_err(|error| broken(&error.to_string()))?;
    let name = object.metadata.name.clone().ok_or_else(|| broken("an object without a name"))?;
    let resource = ApiResource::from_gvk(&kind);
    let api = match &object.metadata.namespace {
        Some(namespace) => Api::namespaced_with(client.clone(), namespace, &resource),
        None => Api::all_with(client.clone(), &resource),
    };
    Ok((api, name, kind.kind))
}

fn objects(
    region: &str,
    cluster: &Cluster,
    addon: &Addon,
) -> Result<Vec<DynamicObject>, ManifestError> {
    let broken = |reason: String| ManifestError::Broken { addon: addon.name.clone(), reason };
    let known = catalog::find(&addon.name).map_err(|fault| broken(fault.message))?;
    let registry = format!("{REGISTRY_ACCOUNT}.dkr.ecr.{region}.amazonaws.com");
    let text = known
        .manifest
        .replace("{{REGISTRY}}", &registry)
        .replace("{{VERSION}}", known.version)
        .replace("{{REGION}}", region)
        .replace("{{CLUSTER}}", &cluster.name)
        .replace("{{VPC}}", &cluster.vpc_id)
        .replace("{{API_HOST}}", &cluster.endpoint_host(region));
    let configuration = configuration(addon.configuration.as_deref()).unwrap_or(Value::Null);
    let mut found = Vec::new();
    for part in text.split("\n---\n") {
        let mut value: Value =
            serde_saphyr::from_str(part).map_err(|error| broken(error.to_string()))?;
        configure(&mut value, &configuration);
        found.push(serde_json::from_value(value).map_err(|error| broken(error.to_string()))?);
    }
    Ok(found)
}

/// What the customer configured, written over the manifest: environment, replicas and whether
/// network policies are enforced.
fn configure(object: &mut Value, configuration: &Value) {
    if object["kind"] == "DaemonSet"
        && let Some(containers) =
            object.pointer_mut("/spec/template/spec/containers").and_then(Value::as_array_mut)
    {
        configure_policies(containers, is_true(&configuration["enableNetworkPolicy"]));
        configure_agent(containers, &configuration["nodeAgent"]);
        for (name, value) in configuration["env"].as_object().into_iter().flatten() {
            let value = value.as_str().map_or_else(|| value.to_string(), str::to_owned);
            for (number, container) in containers.iter_mut().enumerate() {
                set_environment(container, name, &value, number == 0);
            }
        }
    }
    if let Some(count) = configuration["replicaCount"].as_u64()
        && object["kind"] == "Deployment"
    {
        object["spec"]["replicas"] = count.into();
    }
}

/// The agent's container is there where it has work.
fn configure_policies(containers: &mut Vec<Value>, is_enabled: bool) {
    if !containers.iter().any(|it| it["name"] == POLICY_AGENT) {
        return;
    }
    if is_enabled {
        set_environment(&mut containers[0], "ENABLE_NETWORK_POLICY", "true", true);
    } else {
        containers.retain(|it| it["name"] != POLICY_AGENT);
    }
}

fn configure_agent(containers: &mut [Value], configuration: &Value) {
    let agent = containers.iter_mut().find(|it| it["name"] == POLICY_AGENT);
    let Some(arguments) = agent.and_then(|it| it["args"].as_array_mut()) else { return };
    for (name, start) in AGENT_ARGUMENTS {
        let value = &configuration[name];
        let value = value.as_str().map_or_else(|| value.to_string(), str::to_owned);
        let flag = start.trim_end_matches(':');
        let is_it = |it: &&mut Value| it.as_str().is_some_and(|it| it.starts_with(flag));
        if !configuration[name].is_null()
            && let Some(argument) = arguments.iter_mut().find(is_it)
        {
            *argument = format!("{start}{value}").into();
        }
    }
}

/// Sets a variable; in a container other than the first only one that it has.
fn set_environment(container: &mut Value, name: &str, value: &str, is_first: bool) {
    let Some(list) = container["env"].as_array_mut() else { return };
    let is_there = list.iter().any(|it| it["name"] == name);
    if is_there || is_first {
        list.retain(|it| it["name"] != name);
        list.push(json!({"name": name, "value": value}));
    }
}

/// EKS's schema has strings for flags.
fn is_true(value: &Value) -> bool {
    value == "true" || *value == true
}

/// JSON or YAML; `None` stands for nothing.
fn configuration(text: Option<&str>) -> Result<Value, Fault> {
    let Some(text) = text.filter(|it| !it.trim().is_empty()) else { return Ok(Value::Null) };
    serde_saphyr::from_str(text).map_err(|_| unsupported("it is neither JSON nor YAML"))
}

/// What can be configured, and the JSON type of each.
fn settings(addon: &str) -> &'static [(&'static str, &'static str)] {
    match addon {
        // A string, as on EKS: `"true"`.
        "vpc-cni" => {
            &[("enableNetworkPolicy", "string"), ("env", "object"), ("nodeAgent", "object")]
        }
        "coredns" => &[("replicaCount", "integer")],
        _ => &[],
    }
}

/// The JSON schema of an add-on's configuration.
pub(crate) fn schema(addon: &str) -> String {
    let property = |(name, kind): &(&str, &str)| {
        let mut property = json!({"type": kind});
        if *name == "nodeAgent" {
            property["additionalProperties"] = false.into();
            let arguments = AGENT_ARGUMENTS.map(|(name, _)| (name.to_owned(), string()));
            property["properties"] = Value::Object(arguments.into_iter().collect());
        }
        ((*name).to_owned(), property)
    };
    let properties: serde_json::Map<_, _> = settings(addon).iter().map(property).collect();
    json!({
        "$schema": "http://json-schema.org/draft-06/schema#",
        "type": "object",
        "additionalProperties": false,
        "properties": properties,
    })
    .to_string()
}

/// Flags and ports are strings, as on EKS.
fn string() -> Value {
    json!({"type": "string"})
}

/// Refuses what would have no effect.
pub(crate) fn check_configuration(addon: &str, text: Option<&str>) -> Result<(), Fault> {
    let value = configuration(text)?;
    let supported = settings(addon);
    let keys = match &value {
        Value::Null => return Ok(()),
        Value::Object(map) => map.keys(),
        _ => return Err(unsupported("it is not an object")),
    };
    let undefined =
        |key: &str| Err(unsupported(&format!("[$.{key}: is not defined in the schema]")));
    if let Some(key) = keys.into_iter().find(|key| !supported.iter().any(|(it, _)| it == key)) {
        return undefined(key);
    }
    let agent = value["nodeAgent"].as_object().into_iter().flatten();
    let mut agent = agent.map(|(key, _)| key);
    match agent.find(|key| !AGENT_ARGUMENTS.iter().any(|(it, _)| it == key)) {
        None => Ok(()),
        Some(key) => undefined(&format!("nodeAgent.{key}")),
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

    #[test]
    fn configured_environment_replaces_the_manifests() {
        let mut object = json!({"kind": "DaemonSet", "spec": {"template": {"spec": {"containers": [
            {"env": [{"name": "WARM_ENI_TARGET", "value": "1"}, {"name": "B", "value": "2"}]},
        ]}}}});
        configure(&mut object, &json!({"env": {"WARM_ENI_TARGET": "0"}}));
        let env = &object["spec"]["template"]["spec"]["containers"][0]["env"];
        let wanted =
            json!([{"name": "B", "value": "2"}, {"name": "WARM_ENI_TARGET", "value": "0"}]);
        assert_eq!(*env, wanted);
    }

    #[test]
    fn the_policy_agent_is_there_when_it_is_asked_for() {
        let set = |configuration: Value| {
            let known = catalog::find("vpc-cni").unwrap();
            let parts = known.manifest.split("\n---\n");
            let mut objects = parts.map(|it| serde_saphyr::from_str::<Value>(it).unwrap());
            let mut set = objects.find(|it| it["kind"] == "DaemonSet").unwrap();
            configure(&mut set, &configuration);
            set["spec"]["template"]["spec"]["containers"].as_array().unwrap().clone()
        };
        let value = |container: &Value, name: &str| {
            let env = container["env"].as_array().unwrap();
            env.iter().find(|it| it["name"] == name).unwrap()["value"].clone()
        };
        let without = set(json!({}));
        assert_eq!(without.len(), 1);
        assert_eq!(value(&without[0], "ENABLE_NETWORK_POLICY"), "false");
        let with = set(json!({"enableNetworkPolicy": "true",
            "env": {"NETWORK_POLICY_ENFORCING_MODE": "strict", "WARM_ENI_TARGET": "0"}}));
        assert_eq!(with[1]["name"], POLICY_AGENT);
        assert_eq!(value(&with[0], "ENABLE_NETWORK_POLICY"), "true");
        for container in &with {
            assert_eq!(value(container, "NETWORK_POLICY_ENFORCING_MODE"), "strict");
        }
        let logging = set(json!({"enableNetworkPolicy": "true", "nodeAgent":
            {"enablePolicyEventLogs": "true", "metricsBindAddr": "9162"}}));
        let arguments = |container: &Value| container["args"].to_string();
        assert!(arguments(&with[1]).contains("--enable-policy-event-logs=false"));
        for wanted in ["--enable-policy-event-logs=true", "--metrics-bind-addr=:9162"] {
            assert!(arguments(&logging[1]).contains(wanted), "{}", arguments(&logging[1]));
        }
        assert!(
            !with[1]["env"].as_array().unwrap().iter().any(|it| it["name"] == "WARM_ENI_TARGET")
        );
    }

    #[test]
    fn configuration_that_would_have_no_effect_is_refused() {
        assert!(check_configuration("vpc-cni", Some(r#"{"env": {"A": "b"}}"#)).is_ok());
        let agent = |key: &str| format!(r#"{{"nodeAgent": {{"{key}": "true"}}}}"#);
        assert!(check_configuration("vpc-cni", Some(&agent("enablePolicyEventLogs"))).is_ok());
        let refused = check_configuration("vpc-cni", Some(&agent("enableCloudWatchLogs")));
        assert!(format!("{refused:?}").contains("[$.nodeAgent.enableCloudWatchLogs: is not"));
        assert!(check_configuration("coredns", Some("replicaCount: 3")).is_ok());
        assert!(check_configuration("coredns", Some(r#"{"env": {}}"#)).is_err());
        assert!(check_configuration("kube-proxy", Some("[]")).is_err());
        assert!(check_configuration("kube-proxy", None).is_ok());
    }

    #[test]
    fn every_manifest_is_whole_once_filled_in() {
        for known in &catalog::ADDONS {
            for part in known.manifest.split("\n---\n") {
                let value: Value = serde_saphyr::from_str(part).unwrap();
                assert!(value["metadata"]["name"].is_string(), "{}: {part}", known.name);
            }
        }
    }
}
