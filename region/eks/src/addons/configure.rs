//! What the customer configured, written over an add-on's manifest.
//!
//! Source: the charts `aws-vpc-cni` and the schemas that EKS publishes.
//! Deviation: without `enableNetworkPolicy` `aws-node` has no container `aws-eks-nodeagent`; on EKS it
//! is there and idles.

use serde_json::{Value, json};

/// The container of `aws-node` that enforces network policies.
const POLICY_AGENT: &str = "aws-eks-nodeagent";
/// What `nodeAgent` configures: the argument, and what is before its value.
const AGENT_ARGUMENTS: [(&str, &str); 3] = [
    ("enablePolicyEventLogs", "--enable-policy-event-logs="),
    ("metricsBindAddr", "--metrics-bind-addr=:"),
    ("healthProbeBindAddr", "--health-probe-bind-addr=:"),
];
/// Keys that are fields of the pods.
const OF_PODS: [&str; 4] = ["affinity", "nodeSelector", "tolerations", "topologySpreadConstraints"];

/// Writes the configuration over one object of the manifest.
pub(crate) fn configure(object: &mut Value, configuration: &Value) {
    if object["kind"] != "DaemonSet" && object["kind"] != "Deployment" {
        return;
    }
    if let Some(count) = configuration["replicaCount"].as_u64() {
        object["spec"]["replicas"] = count.into();
    }
    let template = &mut object["spec"]["template"];
    for (key, field) in [("podAnnotations", "annotations"), ("podLabels", "labels")] {
        for (name, value) in configuration[key].as_object().into_iter().flatten() {
            template["metadata"][field][name] = text(value).into();
        }
    }
    for field in OF_PODS {
        if !configuration[field].is_null() {
            template["spec"][field] = configuration[field].clone();
        }
    }
    if let Some(containers) = template.pointer_mut("/spec/containers").and_then(Value::as_array_mut)
    {
        configure_containers(containers, configuration);
    }
    let inits = template.pointer_mut("/spec/initContainers");
    if let Some(container) = inits.and_then(|it| it.get_mut(0)) {
        for (name, value) in configuration["init"]["env"].as_object().into_iter().flatten() {
            set_environment(container, name, &text(value), true);
        }
    }
}

fn configure_containers(containers: &mut Vec<Value>, configuration: &Value) {
    configure_policies(containers, configuration["enableNetworkPolicy"] == "true");
    configure_agent(containers, &configuration["nodeAgent"]);
    for (name, value) in configuration["env"].as_object().into_iter().flatten() {
        for (number, container) in containers.iter_mut().enumerate() {
            set_environment(container, name, &text(value), number == 0);
        }
    }
    let Some(first) = containers.first_mut() else { return };
    if configuration["resources"].is_object() {
        first["resources"] = configuration["resources"].clone();
    }
    for (key, probe) in [
        ("livenessProbeTimeoutSeconds", "livenessProbe"),
        ("readinessProbeTimeoutSeconds", "readinessProbe"),
    ] {
        if configuration[key].is_number() {
            first[probe]["timeoutSeconds"] = configuration[key].clone();
        }
    }
}

/// What the configuration adds to the manifest.
pub(crate) fn further_objects(configuration: &Value) -> Vec<Value> {
    let mut objects = Vec::new();
    if let Some(seconds) = configuration["branchENICooldown"].as_str() {
        objects.push(json!({
            "apiVersion": "v1", "kind": "ConfigMap",
            "metadata": {"name": "amazon-vpc-cni", "namespace": "kube-system", "labels": labels()},
            "data": {"branch-eni-cooldown": seconds},
        }));
    }
    let wanted = &configuration["eniConfig"];
    if wanted["create"] == true {
        let region = wanted["region"].as_str().unwrap_or_default();
        let subnets = wanted["subnets"].as_object().into_iter().flatten();
        objects
            .extend(subnets.map(|(zone, subnet)| eni_config(&format!("{region}{zone}"), subnet)));
    }
    objects
}

/// Named as a zone is, so that `ENI_CONFIG_LABEL_DEF=topology.kubernetes.io/zone` finds it.
fn eni_config(name: &str, subnet: &Value) -> Value {
    let mut spec = json!({"subnet": subnet["id"]});
    if !subnet["securityGroups"].is_null() {
        spec["securityGroups"] = subnet["securityGroups"].clone();
    }
    json!({
        "apiVersion": "crd.k8s.amazonaws.com/v1alpha1", "kind": "ENIConfig",
        "metadata": {"name": name, "labels": labels()}, "spec": spec,
    })
}

fn labels() -> Value {
    json!({"app.kubernetes.io/name": "aws-node", "k8s-app": "aws-node"})
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
    let Some(agent) = agent else { return };
    if configuration["resources"].is_object() {
        agent["resources"] = configuration["resources"].clone();
    }
    let port = |key: &str| configuration[key].as_str().and_then(|it| it.parse::<u16>().ok());
    if let Some(port) = port("healthProbeBindAddr") {
        agent["readinessProbe"]["httpGet"]["port"] = port.into();
    }
    if let Some(port) = port("metricsBindAddr") {
        agent["ports"][0]["containerPort"] = port.into();
    }
    let Some(arguments) = agent["args"].as_array_mut() else { return };
    for (name, start) in AGENT_ARGUMENTS {
        let flag = start.trim_end_matches(':');
        let is_it = |it: &&mut Value| it.as_str().is_some_and(|it| it.starts_with(flag));
        if !configuration[name].is_null()
            && let Some(argument) = arguments.iter_mut().find(is_it)
        {
            *argument = format!("{start}{}", text(&configuration[name])).into();
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

fn text(value: &Value) -> String {
    value.as_str().map_or_else(|| value.to_string(), str::to_owned)
}

#[cfg(test)]
mod tests {
    use super::{super::catalog, *};

    /// The workload of an add-on, configured.
    fn workload(addon: &str, configuration: &Value) -> Value {
        let known = catalog::find(addon).unwrap();
        let parts = known.manifest.split("\n---\n");
        let mut objects = parts.map(|it| serde_saphyr::from_str::<Value>(it).unwrap());
        let is_workload = |it: &Value| it["kind"] == "DaemonSet" || it["kind"] == "Deployment";
        let mut found = objects.find(is_workload).unwrap();
        configure(&mut found, configuration);
        found
    }

    fn pods(addon: &str, configuration: &Value) -> Value {
        workload(addon, configuration)["spec"]["template"].clone()
    }

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
    fn the_init_container_has_an_environment_of_its_own() {
        let given = json!({"init": {"env": {"DISABLE_TCP_EARLY_DEMUX": "true"}}});
        let spec = &pods("vpc-cni", &given)["spec"];
        let wanted = json!({"name": "DISABLE_TCP_EARLY_DEMUX", "value": "true"});
        let init = spec["initContainers"][0]["env"].as_array().unwrap();
        assert!(init.contains(&wanted) && init.len() == 2, "{init:?}");
        assert!(!spec["containers"][0]["env"].as_array().unwrap().contains(&wanted));
    }

    #[test]
    fn the_policy_agent_is_there_when_it_is_asked_for() {
        let set = |configuration: Value| {
            let pods = pods("vpc-cni", &configuration);
            pods["spec"]["containers"].as_array().unwrap().clone()
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
        assert!(
            !with[1]["env"].as_array().unwrap().iter().any(|it| it["name"] == "WARM_ENI_TARGET")
        );
        let arguments = |container: &Value| container["args"].to_string();
        assert!(arguments(&with[1]).contains("--enable-policy-event-logs=false"));
        let told = set(json!({"enableNetworkPolicy": "true", "nodeAgent": {
            "enablePolicyEventLogs": "true", "metricsBindAddr": "9162",
            "healthProbeBindAddr": "9163", "resources": {"requests": {"cpu": "50m"}},
        }}));
        for wanted in [
            "--enable-policy-event-logs=true",
            "--metrics-bind-addr=:9162",
            "--health-probe-bind-addr=:9163",
        ] {
            assert!(arguments(&told[1]).contains(wanted), "{}", arguments(&told[1]));
        }
        assert_eq!(told[1]["readinessProbe"]["httpGet"]["port"], 9163);
        assert_eq!(told[1]["resources"]["requests"]["cpu"], "50m");
    }

    #[test]
    fn pods_get_what_is_configured_for_them() {
        let given = json!({
            "podAnnotations": {"a": "b"}, "podLabels": {"c": "d"}, "tolerations": [],
            "resources": {"limits": {"memory": "200Mi"}}, "replicaCount": 3,
            "affinity": null, "nodeSelector": {"e": "f"},
        });
        let plain = pods("coredns", &json!({}));
        let deployment = workload("coredns", &given);
        let told = &deployment["spec"]["template"];
        assert_eq!(deployment["spec"]["replicas"], 3);
        assert_eq!(told["metadata"]["annotations"], json!({"a": "b"}));
        assert_eq!(told["metadata"]["labels"]["k8s-app"], "kube-dns");
        assert_eq!(told["metadata"]["labels"]["c"], "d");
        assert_eq!(told["spec"]["tolerations"], json!([]));
        assert_eq!(told["spec"]["nodeSelector"], json!({"e": "f"}));
        assert_eq!(told["spec"]["affinity"], plain["spec"]["affinity"], "null asks for nothing");
        let constraints = "topologySpreadConstraints";
        assert_eq!(told["spec"][constraints], plain["spec"][constraints]);
        let resources = &told["spec"]["containers"][0]["resources"];
        assert_eq!(*resources, json!({"limits": {"memory": "200Mi"}}));
        let timeouts = json!({"livenessProbeTimeoutSeconds": 60});
        let pods = pods("vpc-cni", &timeouts);
        let probe = &pods["spec"]["containers"][0]["livenessProbe"];
        assert_eq!(probe["timeoutSeconds"], 60);
        assert_eq!(probe["initialDelaySeconds"], 60, "the manifest's");
    }

    #[test]
    fn eni_configs_are_made_for_zones() {
        let subnets = json!({
            "a": {"id": "subnet-1", "securityGroups": ["sg-1"]}, "b": {"id": "subnet-2"},
        });
        let of = |create: bool| {
            let wanted = json!({"create": create, "region": "us-east-1", "subnets": subnets});
            further_objects(&json!({"eniConfig": wanted}))
        };
        assert!(of(false).is_empty());
        let made = of(true);
        let names: Vec<_> = made.iter().map(|it| it["metadata"]["name"].clone()).collect();
        assert_eq!(names, ["us-east-1a", "us-east-1b"]);
        assert_eq!(made[0]["spec"], json!({"subnet": "subnet-1", "securityGroups": ["sg-1"]}));
        assert_eq!(made[1]["spec"], json!({"subnet": "subnet-2"}));
    }
}
