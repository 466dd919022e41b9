//! The claims of devices of a pod: where they can be had, and which devices they are given.
//!
//! What is decided is assumed until the claim's own status shows it, so that no device is given twice.
//!
//! Upstream: `pkg/scheduler/framework/plugins/dynamicresources`.
//!
//! Deviation: what a search may cost is counted in steps, not measured in time, and bounded for all nodes
//! together too.

use std::{
    collections::{BTreeMap, HashMap},
    sync::Arc,
};

use controller::{Key, object};
use jiff::Timestamp;
use k8s_openapi::api::{
    core::v1::Pod,
    resource::v1::{DeviceClass, DeviceRequestAllocationResult, ResourceClaim},
};
use scheduling::{
    AllocateError, ClaimRequest, Cluster, Consumed, DeviceFact, DeviceId, Diagnosis, Effort, Given,
    Inventory, NodeInfo, Reason, Taken, Verdict, matches_node_selector_terms,
    resourceclaim::{self, ResourceClaimError, UsedClaim, is_allocated},
};
use serde_json::{Value, json};

use crate::{
    extended::{self, NewClaim, Wish},
    stores::Stores,
};

/// The devices of claims (by UID) whose allocation no watch has shown yet.
pub(crate) type Assumed = HashMap<String, Taken>;

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
    /// What the claims that are not allocated yet are given, by node; last that for the wishes.
    given: BTreeMap<String, Vec<Vec<Given>>>,
    /// Extended resources for which no claim is made yet.
    wishes: Vec<Wish>,
}

/// What is written, and what is assumed until it is seen.
pub(crate) struct Placement {
    pub(crate) claims: Vec<ClaimWrite>,
    pub(crate) new: Option<Box<NewClaim>>,
    pub(crate) assumed: Assumed,
}

impl ClaimWrite {
    /// Whether the pod has to wait for the devices that it is given here.
    pub(crate) fn must_be_readied(&self) -> bool {
        let results = self.allocation.as_ref().and_then(|it| it["devices"]["results"].as_array());
        results.into_iter().flatten().any(|it| !it["bindingConditions"].is_null())
    }
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
    let mut devices = Devices { wishes: extended::wishes(stores, pod), ..Devices::default() };
    if resourceclaim::entries(pod).next().is_none() && devices.wishes.is_empty() {
        return None;
    }
    let made = extended::made(stores, pod).filter(|_| !devices.wishes.is_empty());
    if made.is_some() || assumed.contains_key(&object::uid(pod)) {
        devices.wishes.clear();
    }
    match claims(stores, assumed, pod, made) {
        Ok(claims) => devices.claims = claims,
        Err(message) => devices.fact.prerequisite = Some(message),
    }
    if devices.fact.prerequisite.is_none()
        && let Err(message) = look(stores, cluster, assumed, pod, &mut devices)
    {
        devices.fact.prerequisite = Some(message);
    }
    Some(devices)
}

fn claims(
    stores: &Stores,
    assumed: &Assumed,
    pod: &Pod,
    extended: Option<Arc<ResourceClaim>>,
) -> Result<Vec<Arc<ResourceClaim>>, String> {
    let namespace = pod.metadata.namespace.clone().unwrap_or_default();
    let extended = extended.and_then(|it| it.metadata.name.clone());
    let extended = extended.map(|name| UsedClaim { name, is_owned: true });
    let mut found = Vec::new();
    for UsedClaim { name, is_owned } in resourceclaim::known(pod).chain(extended) {
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
    pod: &Pod,
    devices: &mut Devices,
) -> Result<(), String> {
    let (done, open): (Vec<_>, Vec<_>) = devices.claims.iter().partition(|it| is_allocated(it));
    let class = |name: &str| stores.device_classes.get(&Key::cluster(name));
    let mut requests = Vec::new();
    for claim in &open {
        requests.push(ClaimRequest::new::<Arc<DeviceClass>>(claim, class).map_err(|it| it.0)?);
    }
    // Which wishes a node leaves open is the same for most nodes.
    let mut of_wishes = Vec::<(Vec<Wish>, ClaimRequest)>::new();
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
        let wishes = extended::on_node(&devices.wishes, node);
        if !wishes.is_empty() && !of_wishes.iter().any(|it| it.0 == wishes) {
            let claim = extended::claim(pod, &wishes);
            let request = ClaimRequest::new::<Arc<DeviceClass>>(&claim, class);
            of_wishes.push((wishes.clone(), request.map_err(|it| it.0)?));
        }
        let wished = of_wishes.iter().filter(|it| it.0 == wishes).map(|it| &it.1);
        let requests: Vec<_> = requests.iter().chain(wished).collect();
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
fn taken(stores: &Stores, assumed: &Assumed) -> Taken {
    let mut taken = Taken::default();
    assumed.values().for_each(|it| taken.merge(it.clone()));
    for claim in stores.resource_claims.all() {
        let allocation = claim.status.as_ref().and_then(|it| it.allocation.as_ref());
        let results = allocation.and_then(|it| it.devices.as_ref()?.results.as_ref());
        let held = results.into_iter().flatten().filter(|it| it.admin_access != Some(true));
        held.for_each(|it| take(&mut taken, it));
    }
    taken
}

fn take(taken: &mut Taken, held: &DeviceRequestAllocationResult) {
    let id = DeviceId {
        driver: held.driver.clone(),
        pool: held.pool.clone(),
        device: held.device.clone(),
    };
    if held.share_id.is_none() {
        return taken.hold(id);
    }
    let consumed = held.consumed_capacity.iter().flatten();
    let consumed: Consumed =
        consumed.filter_map(|(name, it)| Some((name.clone(), it.try_into().ok()?))).collect();
    taken.share(id, consumed);
}

impl Devices {
    /// What is to be written when the pod goes to `node`, and what is assumed until then.
    pub(crate) fn place(
        &self,
        stores: &Stores,
        pod: &Pod,
        node: &NodeInfo,
        now: Timestamp,
    ) -> Placement {
        let mut given = self.given.get(&node.name).cloned().unwrap_or_default().into_iter();
        let mut placed = Placement { claims: Vec::new(), new: None, assumed: Assumed::new() };
        for claim in &self.claims {
            let uid = object::uid(&**claim);
            let allocation = (!is_allocated(claim)).then(|| {
                let given = given.next().unwrap_or_default();
                placed.assumed.insert(uid.clone(), held(&given));
                allocation(stores, claim, &given, &node.name, now)
            });
            placed.claims.push(ClaimWrite { key: Key::of(&**claim), uid, allocation });
        }
        let wishes = extended::on_node(&self.wishes, node);
        if let Some(given) = given.next().filter(|_| !wishes.is_empty()) {
            let claim = extended::claim(pod, &wishes);
            let allocation = allocation(stores, &claim, &given, &node.name, now);
            // Its own UID is known when it is made.
            placed.assumed.insert(object::uid(pod), held(&given));
            placed.new = Some(Box::new(NewClaim::new(claim, &wishes, allocation)));
        }
        placed
    }

    /// What the nodes that have not the devices fall short of.
    pub(crate) fn details(
        &self,
        stores: &Stores,
        cluster: &Cluster,
        pod: &Pod,
    ) -> BTreeMap<String, String> {
        let class = |name: &str| stores.device_classes.get(&Key::cluster(name));
        let requests =
            |claim: &ResourceClaim| ClaimRequest::new::<Arc<DeviceClass>>(claim, class).ok();
        let open = self.claims.iter().filter(|it| !is_allocated(it));
        let open: Vec<_> = open.filter_map(|it| requests(it)).collect();
        let taken = taken(stores, &Assumed::new());
        let slices = stores.resource_slices.all();
        let inventory = Inventory::new(slices.iter().map(|it| &**it));
        let lacking = cluster.nodes().iter().filter(|it| !self.fact.nodes.contains(&it.name));
        let told = lacking.map(|node| {
            let wishes = extended::on_node(&self.wishes, node);
            let wished = requests(&extended::claim(pod, &wishes)).filter(|_| !wishes.is_empty());
            let all: Vec<_> = open.iter().chain(&wished).collect();
            (node.name.clone(), inventory.shortfall(node, &all, &taken))
        });
        told.collect()
    }

    /// A claim that keeps the pod from some node by where it is allocated, and that no other pod uses.
    pub(crate) fn misplaced(&self, pod: &Pod, diagnosis: &Diagnosis) -> Option<Key> {
        let mut reasons = diagnosis.verdicts.values().flat_map(Verdict::reasons);
        if !reasons.any(|it| *it == Reason::ClaimElsewhere) {
            return None;
        }
        let is_bound = |it: &&Arc<ResourceClaim>| {
            let allocation = it.status.as_ref().and_then(|it| it.allocation.as_ref());
            allocation.is_some_and(|it| it.node_selector.is_some())
        };
        let mut bound = self.claims.iter().filter(is_bound);
        bound.find(|it| is_at_most_for(it, pod)).map(|it| Key::of(&**it))
    }
}

/// No other pod has it.
pub(crate) fn is_at_most_for(claim: &ResourceClaim, pod: &Pod) -> bool {
    let mut consumers = claim.status.iter().flat_map(|it| it.reserved_for.iter().flatten());
    consumers.all(|it| Some(&it.uid) == pod.metadata.uid.as_ref())
}

fn held(given: &[Given]) -> Taken {
    let mut held = Taken::default();
    for it in given.iter().filter(|it| !it.is_admin) {
        match &it.consumed {
            None => held.hold(it.id.clone()),
            Some(consumed) => held.share(it.id.clone(), consumed.clone()),
        }
    }
    held
}

fn result(it: &Given) -> Value {
    let mut result = json!({
        "request": it.request, "driver": it.id.driver, "pool": it.id.pool, "device": it.id.device,
    });
    if it.is_admin {
        result["adminAccess"] = json!(true);
    }
    if let Some(consumed) = it.consumed.as_ref().filter(|_| !it.is_admin) {
        let consumed = consumed.iter().map(|(name, it)| (name.clone(), json!(it.to_string())));
        result["consumedCapacity"] = Value::Object(consumed.collect());
        result["shareID"] = json!(entropy::uuid());
    }
    for (field, list) in [
        ("bindingConditions", &it.binding.conditions),
        ("bindingFailureConditions", &it.binding.failures),
    ] {
        if !list.is_empty() {
            result[field] = json!(list);
        }
    }
    if !it.tolerations.is_empty() {
        result["tolerations"] = json!(it.tolerations);
    }
    result
}

/// `status.allocation`.
fn allocation(
    stores: &Stores,
    claim: &ResourceClaim,
    given: &[Given],
    node: &str,
    now: Timestamp,
) -> Value {
    let results: Vec<_> = given.iter().map(result).collect();
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
    let mut allocation =
        json!({ "devices": { "results": results }, "allocationTimestamp": object::time(now) });
    if !config.is_empty() {
        allocation["devices"]["config"] = json!(config);
    }
    if given.iter().any(|it| it.is_local || it.binding.is_to_node) {
        let field = json!({ "key": "metadata.name", "operator": "In", "values": [node] });
        allocation["nodeSelector"] = json!({ "nodeSelectorTerms": [{ "matchFields": [field] }] });
    }
    allocation
}
