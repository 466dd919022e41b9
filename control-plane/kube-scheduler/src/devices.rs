//! The claims of devices of a pod: where they can be had, and which devices they are given.
//!
//! What is decided is assumed until the claim's own status shows it, so that no device is given twice.
//!
//! Upstream: `pkg/scheduler/framework/plugins/dynamicresources`.
//!
//! Deviation: what a search may cost is counted in steps, not measured in time, and bounded for all nodes
//! together too.
//!
//! Deviation: a claim that is allocated where its pods cannot go stays allocated until its last pod
//! goes; upstream frees it.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    sync::Arc,
};

use controller::{Key, object};
use k8s_openapi::api::{
    core::v1::Pod,
    resource::v1::{DeviceClass, ResourceClaim},
};
use scheduling::{
    AllocateError, ClaimRequest, Cluster, DeviceFact, DeviceId, Effort, Given, Inventory,
    matches_node_selector_terms,
    resourceclaim::{self, ResourceClaimError, UsedClaim, is_allocated},
};
use serde_json::{Value, json};

use crate::stores::Stores;

/// The devices of claims (by UID) whose allocation no watch has shown yet.
pub(crate) type Assumed = HashMap<String, BTreeSet<DeviceId>>;

/// What is to be written about one claim before its pod is bound.
#[derive(Clone, Debug)]
pub(crate) struct ClaimWrite {
    pub(crate) key: Key,
    pub(crate) uid: String,
    pub(crate) allocation: Option<Value>,
}

/// What was found out for one attempt.
#[derive(Default)]
pub(crate) struct Devices {
    pub(crate) fact: DeviceFact,
    claims: Vec<Arc<ResourceClaim>>,
    /// What the claims that are not allocated yet are given, by node.
    given: BTreeMap<String, Vec<Vec<Given>>>,
}

/// Whether a claim of a template is still to be made.
pub(crate) fn waits_for_claims(pod: &Pod) -> bool {
    let mut entries = resourceclaim::entries(pod);
    entries.any(|it| {
        matches!(resourceclaim::resolve(pod, it), Err(ResourceClaimError::NotCreated { .. }))
    })
}

/// `None` for a pod without claims.
pub(crate) fn of(
    stores: &Stores,
    cluster: &Cluster,
    assumed: &Assumed,
    pod: &Pod,
) -> Option<Devices> {
    resourceclaim::entries(pod).next()?;
    let mut devices = Devices::default();
    match claims(stores, assumed, pod) {
        Ok(claims) => devices.claims = claims,
        Err(message) => devices.fact.prerequisite = Some(message),
    }
    if devices.fact.prerequisite.is_none()
        && let Err(message) = look(stores, cluster, assumed, &mut devices)
    {
        devices.fact.prerequisite = Some(message);
    }
    Some(devices)
}

fn claims(
    stores: &Stores,
    assumed: &Assumed,
    pod: &Pod,
) -> Result<Vec<Arc<ResourceClaim>>, String> {
    let namespace = pod.metadata.namespace.clone().unwrap_or_default();
    let mut found = Vec::new();
    for UsedClaim { name, is_owned } in resourceclaim::known(pod) {
        let claim = stores.resource_claims.get(&Key::new(&namespace, &name));
        let claim =
            claim.ok_or_else(|| format!("resourceclaim.resource.k8s.io \"{name}\" not found"))?;
        if object::is_terminating(&*claim) {
            return Err(format!("resourceclaim \"{name}\" is being deleted"));
        }
        if is_owned {
            resourceclaim::check_owner(pod, &claim).map_err(|it| it.to_string())?;
        }
        if assumed.contains_key(&object::uid(&*claim)) {
            return Err(format!("resourceclaim \"{name}\" is being allocated"));
        }
        if !resourceclaim::can_be_reserved(pod, &claim) {
            return Err("resourceclaim in use".to_owned());
        }
        found.push(claim);
    }
    Ok(found)
}

/// Asks all nodes.
fn look(
    stores: &Stores,
    cluster: &Cluster,
    assumed: &Assumed,
    devices: &mut Devices,
) -> Result<(), String> {
    let (done, open): (Vec<_>, Vec<_>) = devices.claims.iter().partition(|it| is_allocated(it));
    let class = |name: &str| stores.device_classes.get(&Key::cluster(name));
    let mut requests = Vec::new();
    for claim in &open {
        requests.push(ClaimRequest::new::<Arc<DeviceClass>>(claim, class).map_err(|it| it.0)?);
    }
    let requests: Vec<_> = requests.iter().collect();
    let taken = taken(stores, assumed);
    let slices = stores.resource_slices.all();
    let inventory = Inventory::new(slices.iter().map(|it| &**it));
    let (mut wrong, mut effort) = (None, Effort::default());
    for node in cluster.nodes() {
        let is_here = |claim: &&Arc<ResourceClaim>| {
            let allocation = claim.status.as_ref().and_then(|it| it.allocation.as_ref());
            let selector = allocation.and_then(|it| it.node_selector.as_ref());
            selector.is_none_or(|it| {
                matches_node_selector_terms(&it.node_selector_terms, &node.name, &node.labels)
            })
        };
        if !done.iter().all(is_here) {
            devices.fact.elsewhere.insert(node.name.clone());
            continue;
        }
        match inventory.allocate(node, &requests, &taken, &mut effort) {
            Ok(Some(given)) => {
                devices.fact.nodes.insert(node.name.clone());
                devices.given.insert(node.name.clone(), given);
            }
            Ok(None) => {}
            Err(AllocateError::TimedOut) => {
                devices.fact.timed_out.insert(node.name.clone());
            }
            Err(AllocateError::Selector(error)) => wrong = Some(error),
        }
    }
    // A selector that fits no device anywhere is the user's to know.
    wrong.filter(|_| devices.fact.nodes.is_empty()).map_or(Ok(()), Err)
}

/// The devices that claims have, or are about to have.
fn taken(stores: &Stores, assumed: &Assumed) -> BTreeSet<DeviceId> {
    let mut taken: BTreeSet<_> = assumed.values().flatten().cloned().collect();
    for claim in stores.resource_claims.all() {
        let allocation = claim.status.as_ref().and_then(|it| it.allocation.as_ref());
        let results = allocation.and_then(|it| it.devices.as_ref()?.results.as_ref());
        let held = results.into_iter().flatten().filter(|it| it.admin_access != Some(true));
        taken.extend(held.map(|it| DeviceId {
            driver: it.driver.clone(),
            pool: it.pool.clone(),
            device: it.device.clone(),
        }));
    }
    taken
}

impl Devices {
    /// What is to be written when the pod goes to `node`, and what is assumed until then.
    pub(crate) fn place(&self, stores: &Stores, node: &str) -> (Vec<ClaimWrite>, Assumed) {
        let mut given = self.given.get(node).cloned().unwrap_or_default().into_iter();
        let (mut writes, mut assumed) = (Vec::new(), Assumed::new());
        for claim in &self.claims {
            let uid = object::uid(&**claim);
            let allocation = (!is_allocated(claim)).then(|| {
                let given = given.next().unwrap_or_default();
                let held = given.iter().filter(|it| !it.is_admin).map(|it| it.id.clone());
                assumed.insert(uid.clone(), held.collect());
                allocation(stores, claim, &given, node)
            });
            writes.push(ClaimWrite { key: Key::of(&**claim), uid, allocation });
        }
        (writes, assumed)
    }
}

/// `status.allocation`.
fn allocation(stores: &Stores, claim: &ResourceClaim, given: &[Given], node: &str) -> Value {
    let results = given.iter().map(|it| {
        let mut result = json!({
            "request": it.request, "driver": it.id.driver, "pool": it.id.pool,
            "device": it.id.device,
        });
        if it.is_admin {
            result["adminAccess"] = json!(true);
        }
        if !it.tolerations.is_empty() {
            result["tolerations"] = json!(it.tolerations);
        }
        result
    });
    let results: Vec<_> = results.collect();
    let mut config = Vec::new();
    let by_request: BTreeMap<_, _> = given.iter().map(|it| (&it.request, &it.class)).collect();
    for (request, class) in by_request {
        let class = stores.device_classes.get(&Key::cluster(class.clone()));
        for it in class.iter().flat_map(|it| it.spec.config.iter().flatten()) {
            config.push(json!({
                "source": "FromClass", "requests": [request], "opaque": it.opaque,
            }));
        }
    }
    let own = claim.spec.devices.as_ref().and_then(|it| it.config.as_ref());
    for it in own.into_iter().flatten() {
        config.push(json!({
            "source": "FromClaim", "requests": it.requests, "opaque": it.opaque,
        }));
    }
    let mut allocation = json!({ "devices": { "results": results } });
    if !config.is_empty() {
        allocation["devices"]["config"] = json!(config);
    }
    if given.iter().any(|it| it.is_local) {
        let field = json!({ "key": "metadata.name", "operator": "In", "values": [node] });
        allocation["nodeSelector"] = json!({ "nodeSelectorTerms": [{ "matchFields": [field] }] });
    }
    allocation
}
