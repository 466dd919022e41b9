//! Why a pod waits, node by node: the scheduler's own judgement over a picture that is made for the
//! question, so that whoever may read the cluster can ask, whichever scheduler it has.

use std::sync::Arc;

use controller::Key;
use k8s_openapi::api::core::v1::Pod;
use kube::Client;
use scheduling::{
    Cluster, DeviceFact, Explanation, PodInfo, Preemption, Profile, evaluate, preempt,
};

use crate::{devices, observe, pass, stores::Stores};

/// What the plug-ins say about each node, as the cluster is now.
pub async fn explain(client: &Client, pod: &Pod) -> Result<Explanation, kube::Error> {
    let stores = Stores::listed(client).await?;
    Ok(judge(&stores, pod))
}

fn judge(stores: &Stores, pod: &Pod) -> Explanation {
    let mut info = pass::info(stores, &Profile::shared(), pod);
    let mut cluster = picture(stores, &Key::of(pod), info.priority);
    let devices = devices::of(stores, &cluster, &devices::Assumed::new(), pod);
    info.devices = devices.map(|it| {
        let details = it.details(stores, &cluster, pod);
        DeviceFact { details, ..it.fact }
    });
    let mut explanation = scheduling::explain(&cluster, &info);
    explanation.preemption = preemption(stores, &mut cluster, &info);
    explanation
}

/// Which pods the scheduler would remove for this one, or why that is of no use.
fn preemption(stores: &Stores, cluster: &mut Cluster, pod: &PodInfo) -> Option<String> {
    let diagnosis = evaluate(cluster, pod, 0).err().filter(|it| it.prerequisite.is_none())?;
    match preempt(cluster, pod, &diagnosis, &pass::budgets(stores)) {
        Preemption::Futile(why) => Some(why),
        Preemption::Evict { node, victims } => {
            let names = victims.iter().map(|it| format!("{}/{}", it.namespace, it.name));
            let names: Vec<_> = names.collect();
            Some(format!("on {node} it would take the place of {}", names.join(", ")))
        }
    }
}

/// The cluster, with the pods that others were promised their place for.
fn picture(stores: &Stores, but: &Key, priority: i32) -> Cluster {
    let mut cluster = Cluster::default();
    for it in stores.namespaces.all() {
        let labels = it.metadata.labels.clone().unwrap_or_default();
        cluster.set_namespace(it.metadata.name.as_deref().unwrap_or_default(), labels);
    }
    stores.nodes.all().iter().for_each(|it| cluster.set_node(it));
    for it in stores.pods.all().iter().filter(|it| !observe::is_over(it) && Key::of(&***it) != *but)
    {
        let there = PodInfo::shared(it);
        if let Some(node) = place(it, &there, priority) {
            cluster.set_pod(node, there);
        }
    }
    cluster
}

fn place<'a>(pod: &'a Pod, info: &Arc<PodInfo>, priority: i32) -> Option<&'a str> {
    let nominated = || {
        let node = pod.status.as_ref()?.nominated_node_name.as_deref();
        node.filter(|it| !it.is_empty() && info.priority >= priority)
    };
    observe::node_of(pod).or_else(nominated)
}

#[cfg(test)]
mod tests {
    use controller::StoreSpec;
    use k8s_openapi::api::core::v1::{Node, PersistentVolumeClaim};
    use serde_json::{Value, json};

    use super::*;

    fn node(name: &str) -> Node {
        let allocatable = json!({ "cpu": "2", "memory": "4Gi", "pods": "10" });
        serde_json::from_value(json!({ "metadata": { "name": name },
            "status": { "allocatable": allocatable } }))
        .unwrap()
    }

    fn pod(name: &str, priority: i32, spec: Value, nominated: &str) -> Pod {
        let resources = json!({ "requests": { "cpu": "1500m" } });
        let mut full = json!({ "priority": priority,
            "containers": [{ "name": "c", "resources": resources }] });
        full.as_object_mut().unwrap().extend(spec.as_object().unwrap().clone());
        serde_json::from_value(json!({
            "metadata": { "namespace": "default", "name": name, "uid": name },
            "spec": full, "status": { "nominatedNodeName": nominated },
        }))
        .unwrap()
    }

    fn stores(pods: Vec<Pod>) -> Stores {
        Stores {
            nodes: controller::Store::fixed(StoreSpec::default(), ["a", "b", "c"].map(node)),
            pods: controller::Store::fixed(StoreSpec::default(), pods),
            ..Stores::empty()
        }
    }

    #[test]
    fn pods_and_those_who_were_promised_a_place_take_room_but_the_pod_itself_does_not() {
        let waiting = pod("waiting", 5, json!({}), "c");
        let stores = stores(vec![
            pod("there", 0, json!({ "nodeName": "a" }), ""),
            pod("promised", 9, json!({}), "b"),
            pod("lesser", 1, json!({}), "c"),
            waiting.clone(),
        ]);
        let explanation = judge(&stores, &waiting);
        let told: Vec<_> =
            explanation.nodes.iter().map(|it| (it.node.as_str(), it.objections.len())).collect();
        assert_eq!(told, [("c", 0), ("a", 1), ("b", 1)]);
        let detail = explanation.nodes[1].objections[0].detail.as_deref();
        assert_eq!(detail, Some("asks for 1500m, 500m of 2 is free"));
        assert_eq!(explanation.preemption, None, "it fits");
        let large = json!({ "containers": [{ "name": "c",
            "resources": { "requests": { "cpu": "2" } } }] });
        let nodes = controller::Store::fixed(StoreSpec::default(), [node("a")]);
        let stores = Stores { nodes, ..stores };
        let told = judge(&stores, &pod("large", 5, large.clone(), "")).preemption.unwrap();
        assert_eq!(told, "on a it would take the place of default/there");
        let told = judge(&stores, &pod("modest", 0, large, "")).preemption.unwrap();
        assert!(told.contains("No preemption victims found for incoming pod"), "{told}");
    }

    #[test]
    fn a_claim_that_waits_for_its_volume_is_told_instead_of_nodes() {
        let volume = json!({ "volumes": [{ "name": "v",
            "persistentVolumeClaim": { "claimName": "data" } }] });
        let claim: PersistentVolumeClaim = serde_json::from_value(
            json!({ "metadata": { "namespace": "default", "name": "data" } }),
        )
        .unwrap();
        let mut stores = stores(vec![]);
        stores.claims = controller::Store::fixed(StoreSpec::default(), [claim]);
        let explanation = judge(&stores, &pod("p", 0, volume, ""));
        let (plugin, message) = explanation.prerequisite.unwrap();
        assert_eq!(plugin, scheduling::Plugin::VolumeBinding);
        assert_eq!(message, "pod has unbound immediate PersistentVolumeClaims");
    }
}
