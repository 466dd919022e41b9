//! A pod that asks for a branch: makes it and says so.
//!
//! **Invariant:** a pass that ends anywhere, also by being cut off, leaves no VLAN id taken for ever
//! and no branch that nobody knows.
//!
//! Upstream: `controllers/core/pod_controller.go`, `CreateAndAnnotateResources`.

use api_kube::vpc_resources::{POD_ENI, PodEni};
use controller::{Action, ApplyError, Key, object};
use k8s_openapi::api::core::v1::{Pod, ServiceAccount};
use kube::{
    Api,
    api::{Patch, PatchParams},
};
use serde_json::json;
use tracing::info;

use crate::{
    Context,
    cloud::{CloudError, Wanted},
    ledger::NoRoom,
    making::Making,
    node::failed,
    policy,
    trunk::Trunk,
};

/// How many branches the pod asks for.
pub(crate) fn wanted(pod: &Pod) -> usize {
    let containers = pod.spec.iter().flat_map(|it| &it.containers);
    let requests = containers.filter_map(|it| it.resources.as_ref()?.requests.as_ref());
    requests.filter_map(|it| it.get(POD_ENI)?.0.parse::<usize>().ok()).sum()
}

pub(crate) fn node_of(pod: &Pod) -> Option<&str> {
    pod.spec.as_ref()?.node_name.as_deref().filter(|it| !it.is_empty())
}

/// Its containers run no more: it needs no network.
pub(crate) fn has_ended(pod: &Pod) -> bool {
    let phase = pod.status.as_ref().and_then(|it| it.phase.as_deref());
    matches!(phase, Some("Succeeded" | "Failed"))
}

pub(crate) fn annotation(pod: &Pod) -> Option<&str> {
    object::annotation(pod, POD_ENI)
}

pub(crate) fn branches_of(pod: &Pod) -> Option<Vec<PodEni>> {
    annotation(pod).and_then(PodEni::parse)
}

impl Context {
    pub(crate) async fn reconcile_pod(&self, key: &Key) -> Result<Action, ApplyError> {
        let Some(pod) = self.pods.get(key).filter(|it| needs_branch(it)) else {
            return Ok(Action::Done);
        };
        let Some(trunk) = node_of(&pod).and_then(|it| self.trunks.get(it)) else {
            // It is called up again when there is one.
            return Ok(Action::Done);
        };
        // What is cached may be older than what an earlier pass has done.
        let api = Api::<Pod>::namespaced(self.client.clone(), &key.namespace);
        let fresh = api.get_opt(&key.name).await;
        let fresh = fresh.map_err(|it| ApplyError::new::<Pod>("get", &key.name, it))?;
        let is_same = |it: &Pod| it.metadata.uid == pod.metadata.uid && needs_branch(it);
        let Some(pod) = fresh.filter(is_same) else { return Ok(Action::Done) };
        let groups = self.groups(&pod).await?;
        self.give(&api, &pod, &trunk, groups).await
    }

    /// Those of the policies that select the pod.
    async fn groups(&self, pod: &Pod) -> Result<Vec<String>, ApplyError> {
        let namespace = pod.metadata.namespace.clone().unwrap_or_default();
        let policies = self.policies.in_namespace(&namespace);
        let name = pod.spec.as_ref().and_then(|it| it.service_account_name.clone());
        let name = name.unwrap_or_else(|| "default".to_owned());
        let api = Api::<ServiceAccount>::namespaced(self.client.clone(), &namespace);
        let account = api.get_opt(&name).await;
        let account = account.map_err(|it| ApplyError::new::<ServiceAccount>("get", &name, it))?;
        let account = account.and_then(|it| it.metadata.labels);
        Ok(policy::groups_of(&policies, pod.metadata.labels.as_ref(), account.as_ref()))
    }

    async fn give(
        &self,
        api: &Api<Pod>,
        pod: &Pod,
        trunk: &Trunk,
        groups: Vec<String>,
    ) -> Result<Action, ApplyError> {
        let uid = object::uid(pod);
        let known = trunk.ledger.lock().of(&uid);
        if let Some(known) = known {
            // An earlier pass was cut off before the pod was told.
            return self.tell(api, pod, trunk, &known).await;
        }
        let reserved = trunk.ledger.lock().reserve(&uid, wanted(pod));
        let vlans = match reserved {
            Ok(vlans) => vlans,
            Err(NoRoom::Known) => return Ok(Action::Done),
            // Called up earlier, if something is deleted earlier.
            Err(NoRoom::Full) => return Ok(Action::After(self.cooldown.get())),
        };
        let mut making = Making::new(self, trunk, pod);
        self.tell_groups(pod, &groups);
        if let Err(error) = self.make(trunk, &vlans, groups, making.made()).await {
            making.fail(&error);
            let why = telemetry::chain(&error);
            let message = format!("failed to allocate branch ENI to pod: {why}");
            self.recorder.warn(pod, "BranchAllocationFailed", message);
            return Err(failed(&error));
        }
        let made = making.settle();
        self.tell(api, pod, trunk, &made).await
    }

    /// Tells the pod which branches it has. Where nobody knows whether it has heard, they stay its.
    async fn tell(
        &self,
        api: &Api<Pod>,
        pod: &Pod,
        trunk: &Trunk,
        made: &[PodEni],
    ) -> Result<Action, ApplyError> {
        let error = match self.annotate(api, pod, made).await {
            Ok(text) => {
                let message = format!("Allocated {text} to the pod");
                self.recorder.normal(pod, "ResourceAllocated", message);
                let vlans: Vec<u32> = made.iter().map(|it| it.vlan_id).collect();
                info!(pod = %Key::of(pod), ?vlans, "gave a pod its branches");
                return Ok(Action::Done);
            }
            Err(error) => error,
        };
        if error.is_answered() {
            let now = self.clock.now();
            trunk.ledger.lock().abandon(&object::uid(pod), made.to_vec(), now);
            self.wake_node(pod);
        }
        if error.is_not_found() || error.is_conflict() {
            // The pod is gone, or it is another one.
            return Ok(Action::Done);
        }
        let why = telemetry::chain(&error);
        let message = format!("failed to annotate pod with branch ENI details: {why}");
        self.recorder.warn(pod, "BranchENIAnnotationFailed", message);
        Err(error)
    }

    fn tell_groups(&self, pod: &Pod, groups: &[String]) {
        const REASON: &str = "SecurityGroupRequested";
        if groups.is_empty() {
            let message = "Pod will get the instance security group as the pod didn't match any \
                           Security Group from SecurityGroupPolicy";
            self.recorder.warn(pod, REASON, message);
        } else {
            let list = groups.join(" ");
            let message = format!("Pod will get the following Security Groups [{list}]");
            self.recorder.normal(pod, REASON, message);
        }
    }

    async fn make(
        &self,
        trunk: &Trunk,
        vlans: &[u32],
        groups: Vec<String>,
        made: &mut Vec<PodEni>,
    ) -> Result<(), CloudError> {
        let home = trunk.home.lock().1.clone();
        let id = trunk.ledger.lock().trunk.clone();
        let groups = if groups.is_empty() { home.security_groups.clone() } else { groups };
        for vlan in vlans {
            let wanted = Wanted {
                trunk: &id,
                instance: &trunk.instance,
                security_groups: &groups,
                vlan: *vlan,
            };
            match self.cloud.add_branch(&wanted, &home).await {
                Ok(branch) => made.push(branch),
                Err((error, left)) => {
                    made.extend(left);
                    return Err(error);
                }
            }
        }
        Ok(())
    }

    async fn annotate(
        &self,
        api: &Api<Pod>,
        pod: &Pod,
        branches: &[PodEni],
    ) -> Result<String, ApplyError> {
        let name = pod.metadata.name.clone().unwrap_or_default();
        let text = serde_json::to_string(branches)
            .map_err(|error| ApplyError::other(error.to_string()))?;
        // With the UID, so that no other pod of the name gets it.
        let patch = json!({ "metadata": {
            "uid": pod.metadata.uid, "annotations": { POD_ENI: text },
        } });
        let done = api.patch(&name, &PatchParams::default(), &Patch::Merge(&patch)).await;
        done.map_err(|source| ApplyError::new::<Pod>("annotate", &name, source))?;
        Ok(text)
    }

    pub(crate) fn wake_node(&self, pod: &Pod) {
        if let Some(node) = node_of(pod) {
            self.node_queue.add(Key::cluster(node));
        }
    }
}

fn needs_branch(pod: &Pod) -> bool {
    wanted(pod) > 0
        && node_of(pod).is_some()
        && annotation(pod).is_none()
        && !has_ended(pod)
        && !object::is_terminating(pod)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pod(value: serde_json::Value) -> Pod {
        serde_json::from_value(value).unwrap()
    }

    #[test]
    fn requests_of_all_containers_count() {
        let asks = json!({ "name": "c", "resources": { "requests": { POD_ENI: "1" } } });
        let plain = json!({ "name": "d" });
        let of = |containers: &[&serde_json::Value]| {
            wanted(&pod(json!({ "metadata": {}, "spec": { "containers": containers } })))
        };
        assert_eq!(of(&[&plain]), 0);
        assert_eq!(of(&[&asks, &plain]), 1);
        assert_eq!(of(&[&asks, &asks]), 2);
    }

    #[test]
    fn only_a_scheduled_pod_that_runs_and_has_none_needs_a_branch() {
        let asks = json!({ "name": "c", "resources": { "requests": { POD_ENI: "1" } } });
        let of = |node: &str, phase: &str, annotations: serde_json::Value| {
            needs_branch(&pod(json!({
                "metadata": { "annotations": annotations },
                "spec": { "nodeName": node, "containers": [asks] },
                "status": { "phase": phase },
            })))
        };
        assert!(of("n", "Pending", json!({})));
        assert!(!of("", "Pending", json!({})));
        assert!(!of("n", "Succeeded", json!({})));
        assert!(!of("n", "Failed", json!({})));
        assert!(!of("n", "Running", json!({ POD_ENI: "[]" })));
    }
}
