//! What is told of dynamic resources: in a container's status, to agents on the node, in metrics.
//!
//! Upstream: `UpdateAllocatedResourcesStatus` in `manager.go`, `pkg/kubelet/cm/dra/claiminfo.go`,
//! `pkg/kubelet/metrics`.

use std::collections::{BTreeMap, BTreeSet};

use api_kubelet::pod_resources as v1;
use k8s_openapi::api::core::v1::{Container, Pod, ResourceHealth, ResourceStatus};
use tokio::time::Instant;
use tonic::Status;

use super::{Claims, DraManager, claim::Device, lookup};
use crate::pod::PodExt;

/// The claims that are counted of no driver in particular.
const ANY: &str = "<any>";

impl DraManager {
    /// `allocatedResourcesStatus` of a container.
    pub(crate) fn status(&self, pod: &Pod, container: &Container) -> Vec<ResourceStatus> {
        let wanted = container.resources.iter().flat_map(|it| it.claims.iter().flatten());
        let (claims, health) = (self.claims.lock(), self.health.lock());
        let mut all = BTreeMap::<String, Vec<ResourceHealth>>::new();
        for it in wanted {
            let request = it.request.clone().unwrap_or_default();
            let Some(name) = lookup::named(pod, &it.name) else { continue };
            let Some(info) = claims.get(&(pod.namespace().to_owned(), name)) else { continue };
            let separator = if request.is_empty() { "" } else { "/" };
            let list = all.entry(format!("claim:{}{separator}{request}", it.name)).or_default();
            for (driver, device) in info.serving(&request) {
                let resource_id = resource_id(driver, device);
                if list.iter().any(|known| known.resource_id == resource_id) {
                    continue;
                }
                let known = health.of(driver, &device.pool_name, &device.device_name);
                list.push(ResourceHealth {
                    health: Some(known.map_or("Unknown", |it| it.status).to_owned()),
                    message: known.and_then(|it| it.message.clone()),
                    resource_id,
                });
            }
        }
        let told = all.into_iter().filter(|(_, resources)| !resources.is_empty());
        told.map(|(name, it)| ResourceStatus { name, resources: Some(it) }).collect()
    }

    /// What an agent on the node is told of a container.
    pub(crate) fn of_container(
        &self,
        pod: &Pod,
        container: &Container,
    ) -> Vec<v1::DynamicResource> {
        let Ok(wanted) = lookup::of_container(pod, container) else { return Vec::new() };
        let claims = self.claims.lock();
        let mut all = Vec::new();
        for (claim_name, _) in wanted {
            let claim_namespace = pod.namespace().to_owned();
            let Some(info) = claims.get(&(claim_namespace.clone(), claim_name.clone())) else {
                continue;
            };
            let claim_resources = info.serving("").map(|(driver, it)| claim_resource(driver, it));
            let claim_resources = claim_resources.collect();
            all.push(v1::DynamicResource { claim_name, claim_namespace, claim_resources });
        }
        all
    }

    pub(super) fn note(&self, operation: &str, begun: Instant, is_error: bool) {
        let labels =
            [("is_error", if is_error { "true" } else { "false" }), ("operation_name", operation)];
        self.metrics.observe("dra_operations_duration_seconds", &labels, begun.elapsed());
    }

    pub(super) fn note_call<T>(
        &self,
        driver: &str,
        method: String,
        begun: Instant,
        result: &Result<T, Status>,
    ) {
        let code = match result {
            Ok(_) => "OK".to_owned(),
            Err(status) => format!("{:?}", status.code()),
        };
        let labels = [
            ("driver_name", driver),
            ("grpc_status_code", code.as_str()),
            ("method_name", method.as_str()),
        ];
        self.metrics.observe("dra_grpc_operations_duration_seconds", &labels, begun.elapsed());
    }

    /// Counts the claims of each driver.
    pub(super) fn count(&self, claims: &Claims) {
        let name = "dra_resource_claims_in_use";
        let mut drivers: BTreeSet<_> =
            claims.values().flat_map(|it| it.driver_state.keys().cloned()).collect();
        drivers.extend(self.metrics.label_values(name, "driver_name"));
        drivers.remove(ANY);
        for driver in drivers {
            let own = claims.values().filter(|it| it.driver_state.contains_key(&driver)).count();
            self.metrics.set(name, &[("driver_name", driver.as_str())], own as f64);
        }
        self.metrics.set(name, &[("driver_name", ANY)], claims.len() as f64);
    }
}

fn resource_id(driver: &str, device: &Device) -> String {
    let named = || format!("{driver}/{}/{}", device.pool_name, device.device_name);
    device.cdi().first().cloned().unwrap_or_else(named)
}

fn claim_resource(driver: &str, device: &Device) -> v1::ClaimResource {
    let cdi = device.cdi().iter().cloned();
    v1::ClaimResource {
        cdi_devices: cdi.map(|name| v1::CdiDevice { name }).collect(),
        driver_name: driver.to_owned(),
        pool_name: device.pool_name.clone(),
        device_name: device.device_name.clone(),
        share_id: device.share_id.clone(),
    }
}
