//! Makes a pod's claims ready, before its sandbox is made.
//!
//! First all is checked without a trace, so that a pod that cannot have its claims can be deleted; then
//! what is planned is written down; then drivers are asked, each once for all of its claims. Pods that
//! share a claim wait for each other: who comes second finds it prepared.
//!
//! Upstream: `PrepareResources`, `GetResources` in `pkg/kubelet/cm/dra/manager.go`.

use std::{collections::BTreeMap, time::Duration};

use api_kubelet::dra;
use k8s_openapi::api::{
    core::v1::{Container, Pod},
    resource::v1::ResourceClaim,
};
use kube::Api;
use scheduling::resourceclaim::{self, UsedClaim};
use tokio::time::Instant;

use super::{
    DraError, DraManager,
    claim::{ClaimInfo, Device, Empty},
    lookup,
};
use crate::pod::PodExt;

const CALL: &str = "NodePrepareResources";
/// Of one question to the API server.
const LIMIT: Duration = Duration::from_secs(10);

/// The claims that each driver is to be asked for.
pub(super) type Batches = BTreeMap<String, Vec<dra::Claim>>;

impl DraManager {
    /// Asking again for a pod whose claims are ready changes nothing.
    pub(crate) async fn prepare(&self, pod: &Pod) -> Result<(), DraError> {
        let used = lookup::of_pod(pod)?;
        if used.is_empty() {
            return Ok(());
        }
        let begun = Instant::now();
        let prepared = self.prepare_all(pod, &used).await;
        self.note("PrepareResources", begun, prepared.is_err());
        prepared
    }

    async fn prepare_all(&self, pod: &Pod, used: &[UsedClaim]) -> Result<(), DraError> {
        let mut wanted = Vec::new();
        for it in used {
            let claim = self.fetch(pod, &it.name).await?;
            check(pod, it, &claim)?;
            let info = ClaimInfo::of(&claim)?;
            for driver in info.driver_state.keys() {
                // If it is away something is wrong, also where all is prepared.
                self.drivers.get(driver)?;
            }
            wanted.push(info);
        }
        let _turn = self.turn(wanted.iter().map(|it| it.claim_uid.clone())).await;
        let (batches, keys) = self.take_up(&pod.uid().0, wanted)?;
        for (name, claims) in batches {
            let driver = self.drivers.get(&name)?;
            let begun = Instant::now();
            let response = driver.prepare(claims.clone()).await;
            self.note_call(&name, driver.method(CALL), begun, &response);
            let response = response
                .map_err(|status| DraError::Rpc { call: CALL, status: Box::new(status) })?;
            self.take_devices(&name, &claims, response.claims)?;
        }
        let mut claims = self.claims.lock();
        for key in keys {
            if let Some(it) = claims.get_mut(&key) {
                it.is_prepared = true;
            }
        }
        self.count(&claims);
        self.save(&claims)
    }

    async fn fetch(&self, pod: &Pod, name: &str) -> Result<ResourceClaim, DraError> {
        let api = Api::<ResourceClaim>::namespaced(self.client.clone(), pod.namespace());
        let message = match tokio::time::timeout(LIMIT, api.get(name)).await {
            Ok(Ok(claim)) => return Ok(claim),
            Ok(Err(kube::Error::Api(status))) => status.message.clone(),
            Ok(Err(error)) => telemetry::chain(&error).to_string(),
            Err(_) => "context deadline exceeded".to_owned(),
        };
        Err(DraError::Fetch { name: name.to_owned(), message })
    }

    /// Writes down that the pod uses these, and says who has to be asked for what.
    fn take_up(
        &self,
        uid: &str,
        wanted: Vec<ClaimInfo>,
    ) -> Result<(Batches, Vec<super::Key>), DraError> {
        let mut claims = self.claims.lock();
        for it in &wanted {
            let known = claims.get(&it.key()).filter(|known| known.claim_uid != it.claim_uid);
            if let Some(known) = known {
                let (name, uid) = (it.claim_name.clone(), known.claim_uid.clone());
                return Err(DraError::Replaced { name, uid });
            }
        }
        let (mut batches, mut keys) = (Batches::new(), Vec::new());
        for it in wanted {
            let key = it.key();
            let known = claims.entry(key.clone()).or_insert(it);
            known.pod_uids.insert(uid.to_owned(), Empty {});
            if known.is_prepared || keys.contains(&key) {
                continue;
            }
            keys.push(key);
            for driver in known.driver_state.keys() {
                batches.entry(driver.clone()).or_default().push(known.request());
            }
        }
        self.save(&claims)?;
        Ok((batches, keys))
    }

    fn take_devices(
        &self,
        driver: &str,
        asked: &[dra::Claim],
        answered: BTreeMap<String, dra::NodePrepareResourceResponse>,
    ) -> Result<(), DraError> {
        let errors = answered.iter().map(|(uid, it)| (uid.as_str(), it.error.as_str()));
        check_answers(CALL, asked, errors)?;
        let mut claims = self.claims.lock();
        for (uid, answer) in answered {
            let Some(it) = asked.iter().find(|it| it.uid == uid) else { continue };
            let known = claims.get_mut(&(it.namespace.clone(), it.name.clone()));
            let Some(known) = known.filter(|known| known.claim_uid == uid) else { continue };
            let devices: Vec<_> = answer.devices.into_iter().map(Device::from).collect();
            let state = known.driver_state.entry(driver.to_owned()).or_default();
            state.devices = (!devices.is_empty()).then_some(devices);
        }
        Ok(())
    }

    /// The CDI devices that a container of a prepared pod is given.
    pub(crate) fn cdi_devices(
        &self,
        pod: &Pod,
        container: &Container,
    ) -> Result<Vec<String>, String> {
        let wanted = lookup::of_container(pod, container).map_err(|it| it.to_string())?;
        let (claims, namespace) = (self.claims.lock(), pod.namespace());
        let mut names = Vec::<String>::new();
        for (name, requests) in wanted {
            let Some(info) = claims.get(&(namespace.to_owned(), name.clone())) else {
                return Err(format!(
                    "internal error: unable to get claim info for ResourceClaim {name} in namespace {namespace}"
                ));
            };
            for request in &requests {
                for id in info.serving(request).flat_map(|(_, it)| it.cdi()) {
                    if !names.contains(id) {
                        names.push(id.clone());
                    }
                }
            }
        }
        Ok(names)
    }
}

fn check(pod: &Pod, used: &UsedClaim, claim: &ResourceClaim) -> Result<(), DraError> {
    if used.is_owned {
        resourceclaim::check_owner(pod, claim)?;
    }
    if resourceclaim::is_reserved_for(pod, claim) {
        return Ok(());
    }
    Err(DraError::NotReserved {
        pod: pod.name().to_owned(),
        uid: pod.uid().0,
        claim: used.name.clone(),
        claim_uid: claim.metadata.uid.clone().unwrap_or_default(),
    })
}

/// All that was asked for must be answered, and nothing else; an answer may be a failure.
pub(super) fn check_answers<'a>(
    call: &'static str,
    asked: &[dra::Claim],
    answers: impl Iterator<Item = (&'a str, &'a str)>,
) -> Result<(), DraError> {
    let mut missing = asked.len();
    for (uid, error) in answers {
        let Some(it) = asked.iter().find(|it| it.uid == uid) else {
            return Err(DraError::Unknown { call, uid: uid.to_owned() });
        };
        if !error.is_empty() {
            let (name, message) = (it.name.clone(), error.to_owned());
            return Err(DraError::Failed { call, name, message });
        }
        missing -= 1;
    }
    if missing == 0 { Ok(()) } else { Err(DraError::Skipped { call, count: missing }) }
}
