//! The node's pods, as far as they ask for branch interfaces.
//!
//! Watched only where `ENABLE_POD_ENI` says so, and only those of this node: a sandbox's pod is known
//! when its ADD comes, and an annotation is met when it is written.

use api_cni::backend::Sandbox;
use api_kube::vpc_resources::{POD_ENI, PodEni};
use controller::{Key, Store, StoreSpec};
use k8s_openapi::api::core::v1::Pod;
use kube::Client;
use lifecycle::Scope;
use tokio::{sync::watch, time::Instant};

/// See the module.
#[derive(Clone, Debug)]
pub struct Pods {
    store: Store<Pod>,
    changes: watch::Sender<u64>,
}

/// What a sandbox's pod asks for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Wanted {
    /// An address like any other.
    Plain,
    Branch(PodEni),
    /// A branch that there is not.
    NotYet,
    /// Its annotation is no list of branches.
    Unreadable,
    /// There is no such pod.
    Unknown,
}

impl Pods {
    /// Starts to watch the pods of this node.
    pub fn watch(client: Client, node: &str, scope: &Scope) -> Self {
        let spec = StoreSpec::default().fields(&format!("spec.nodeName={node}")).trim(trim);
        Self::of(controller::reflect(client, spec, scope))
    }

    fn of(store: Store<Pod>) -> Self {
        let changes = watch::Sender::new(0);
        let on = changes.clone();
        store.subscribe(move |_| on.send_modify(|version| *version += 1));
        Self { store, changes }
    }

    /// What the sandbox's pod asks for; waits until `deadline` for what is not there yet.
    pub async fn wanted(&self, sandbox: &Sandbox, deadline: Instant) -> Wanted {
        let mut changes = self.changes.subscribe();
        loop {
            let found = self.look(sandbox);
            if !matches!(found, Wanted::NotYet | Wanted::Unknown)
                || tokio::time::timeout_at(deadline, changes.changed()).await.is_err()
            {
                return found;
            }
        }
    }

    /// The branch that the sandbox's pod has.
    pub fn branch_of(&self, sandbox: &Sandbox) -> Option<PodEni> {
        match self.look(sandbox) {
            Wanted::Branch(branch) => Some(branch),
            _ => None,
        }
    }

    fn look(&self, sandbox: &Sandbox) -> Wanted {
        let key = Key::new(sandbox.pod_namespace.clone(), sandbox.pod_name.clone());
        let pod = self.store.get(&key).filter(|pod| {
            let uid = pod.metadata.uid.as_deref().unwrap_or_default();
            // Runtimes need not say; a static pod's is another one in the API server.
            sandbox.pod_uid.is_empty() || uid == sandbox.pod_uid || is_mirror(pod)
        });
        pod.map_or(Wanted::Unknown, |pod| wanted(&pod))
    }
}

fn is_mirror(pod: &Pod) -> bool {
    let annotations = pod.metadata.annotations.as_ref();
    annotations.is_some_and(|it| it.contains_key("kubernetes.io/config.mirror"))
}

fn wanted(pod: &Pod) -> Wanted {
    let first = pod.spec.as_ref().and_then(|it| it.containers.first());
    let limits = first.and_then(|it| it.resources.as_ref()?.limits.as_ref());
    if !limits.is_some_and(|it| it.contains_key(POD_ENI)) {
        return Wanted::Plain;
    }
    let annotations = pod.metadata.annotations.as_ref();
    let Some(text) = annotations.and_then(|it| it.get(POD_ENI)) else { return Wanted::NotYet };
    let first = PodEni::parse(text).and_then(|it| it.into_iter().next());
    first.map_or(Wanted::Unreadable, Wanted::Branch)
}

/// Little of a pod is looked at.
fn trim(pod: &mut Pod) {
    (pod.status, pod.metadata.labels, pod.metadata.owner_references) = (None, None, None);
    let Some(spec) = &mut pod.spec else { return };
    (spec.volumes, spec.affinity, spec.tolerations) = (None, None, None);
    spec.init_containers = None;
    spec.containers.truncate(1);
    for it in &mut spec.containers {
        (it.env, it.volume_mounts, it.command, it.args) = (None, None, None, None);
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use serde_json::json;

    use super::*;

    const ANNOTATION: &str = r#"[{"eniId":"eni-1","ifAddress":"02:00:00:00:00:01",
        "privateIp":"192.168.0.9","vlanId":3,"subnetCidr":"192.168.0.0/19"}]"#;

    fn pod(asks: bool, annotation: Option<&str>) -> Pod {
        let limits = if asks { json!({ POD_ENI: "1" }) } else { json!({ "cpu": "1" }) };
        serde_json::from_value(json!({
            "metadata": { "namespace": "default", "name": "p", "uid": "u",
                "annotations": annotation.map(|it| json!({ POD_ENI: it })) },
            "spec": { "containers": [{ "name": "c", "resources": { "limits": limits } }] },
        }))
        .unwrap()
    }

    fn sandbox(uid: &str) -> Sandbox {
        Sandbox {
            pod_namespace: "default".into(),
            pod_name: "p".into(),
            pod_uid: uid.into(),
            ..Sandbox::default()
        }
    }

    async fn of(pod: Pod, uid: &str) -> Wanted {
        let pods = Pods::of(Store::fixed(StoreSpec::default(), [pod]));
        pods.wanted(&sandbox(uid), Instant::now() + Duration::from_millis(20)).await
    }

    #[tokio::test]
    async fn a_pod_asks_by_its_limit_and_is_answered_by_its_annotation() {
        assert_eq!(of(pod(false, Some(ANNOTATION)), "u").await, Wanted::Plain);
        assert_eq!(of(pod(true, None), "u").await, Wanted::NotYet);
        assert_eq!(of(pod(true, Some("[]")), "u").await, Wanted::Unreadable);
        assert_eq!(of(pod(true, Some("{")), "u").await, Wanted::Unreadable);
        match of(pod(true, Some(ANNOTATION)), "u").await {
            Wanted::Branch(branch) => assert_eq!(branch.vlan_id, 3),
            other => panic!("no branch: {other:?}"),
        }
    }

    #[tokio::test]
    async fn another_pod_of_the_name_has_another_branch() {
        assert_eq!(of(pod(true, Some(ANNOTATION)), "new").await, Wanted::Unknown);
        assert!(matches!(of(pod(true, Some(ANNOTATION)), "").await, Wanted::Branch(_)));
    }
}
