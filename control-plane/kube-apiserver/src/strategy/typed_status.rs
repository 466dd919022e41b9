//! The status that a typed object has before anybody wrote one: upstream's are structures, so that
//! what is not set is there as its zero value, and expressions may read it.

use serde_json::{Value, json};

use crate::resources::Resource;

/// Adds what the status lacks of that.
pub(super) fn complete(resource: &Resource, object: &mut Value) {
    let Some(Value::Object(zero)) = zero(resource) else { return };
    if !object["status"].is_object() {
        object["status"] = json!({});
    }
    for (field, value) in zero {
        if object["status"].get(&field).is_none() {
            object["status"][field] = value;
        }
    }
}

fn zero(resource: &Resource) -> Option<Value> {
    let zero = match (resource.group.as_str(), resource.plural.as_str()) {
        ("", "nodes") => json!({
            "daemonEndpoints": { "kubeletEndpoint": { "Port": 0 } },
            "nodeInfo": {
                "architecture": "", "bootID": "", "containerRuntimeVersion": "",
                "kernelVersion": "", "kubeProxyVersion": "", "kubeletVersion": "",
                "machineID": "", "operatingSystem": "", "osImage": "", "systemUUID": "",
            },
        }),
        ("policy", "poddisruptionbudgets") => json!({
            "currentHealthy": 0, "desiredHealthy": 0, "disruptionsAllowed": 0, "expectedPods": 0,
        }),
        ("networking.k8s.io", "ingresses") => json!({ "loadBalancer": {} }),
        ("storage.k8s.io", "volumeattachments") => json!({ "attached": false }),
        ("autoscaling", "horizontalpodautoscalers") => json!({ "desiredReplicas": 0 }),
        ("", "resourcequotas")
        | ("batch", "jobs")
        | ("resource.k8s.io", "resourceclaims")
        | ("flowcontrol.apiserver.k8s.io", "flowschemas" | "prioritylevelconfigurations") => {
            json!({})
        }
        _ => return None,
    };
    Some(zero)
}

#[cfg(test)]
mod tests {
    use crate::tests::Cluster;
    use serde_json::json;

    #[tokio::test]
    async fn a_new_object_has_the_empty_status_of_its_kind() {
        let cluster = Cluster::start().await;
        let pod = json!({ "spec": { "restartPolicy": "Never",
            "containers": [{ "name": "c", "image": "i" }] } });
        for (path, spec, expected) in [
            ("/apis/batch/v1/namespaces/default/jobs", json!({ "template": pod }), json!({})),
            ("/api/v1/namespaces/default/resourcequotas", json!({}), json!({})),
            (
                "/apis/policy/v1/namespaces/default/poddisruptionbudgets",
                json!({ "minAvailable": 1 }),
                json!({ "currentHealthy": 0, "desiredHealthy": 0, "disruptionsAllowed": 0,
                    "expectedPods": 0 }),
            ),
            (
                "/apis/networking.k8s.io/v1/namespaces/default/ingresses",
                json!({ "defaultBackend": { "service": { "name": "s", "port": { "number": 1 } } } }),
                json!({ "loadBalancer": {} }),
            ),
        ] {
            let object = json!({ "metadata": { "name": "o" }, "spec": spec });
            let (code, made) = cluster.post(path, object).await;
            assert_eq!((code.as_u16(), &made["status"]), (201, &expected), "{made}");
        }
        let (_, node) = cluster.post("/api/v1/nodes", json!({ "metadata": { "name": "n" } })).await;
        assert_eq!(node["status"]["nodeInfo"]["kubeletVersion"], "", "{node}");
        let map = json!({ "metadata": { "name": "m" } });
        let (_, map) = cluster.post("/api/v1/namespaces/default/configmaps", map).await;
        assert_eq!(map.get("status"), None);
    }
}
