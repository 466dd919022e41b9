//! The search for devices: depth first, with a bound, in the order of requests and of slices.

use k8s_openapi::api::resource::v1::{
    Device, DeviceAttribute, DeviceConstraint, DeviceTaint, DeviceToleration,
};

use super::{
    ClaimRequest, Consumed, DeviceId, Inventory, Offer, Taken,
    capacity::{consumed, has_room},
    cel_value,
    counters::Counters,
    request::{Request, Want},
};
use crate::NodeInfo;

/// Steps after which the search on one node is given up, and that on all nodes for one pod.
const MOST_STEPS: u64 = 100_000;
const MOST_STEPS_IN_ALL: u64 = 1_000_000;

/// What one attempt to find a place for a pod may cost: others wait meanwhile.
#[derive(Debug)]
pub struct Effort {
    left: u64,
}

impl Effort {
    pub fn of(steps: u64) -> Self {
        Self { left: steps }
    }
}

impl Default for Effort {
    fn default() -> Self {
        Self::of(MOST_STEPS_IN_ALL)
    }
}

/// Why it is not known whether a node has devices.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum AllocateError {
    /// A selector does not fit a device.
    #[error("{0}")]
    Selector(String),
    #[error("timed out trying to allocate devices")]
    TimedOut,
}

/// A device for a request.
#[derive(Clone, Debug, PartialEq)]
pub struct Given {
    /// `REQUEST`, or `REQUEST/ALTERNATIVE`.
    pub request: String,
    pub class: String,
    pub id: DeviceId,
    pub is_admin: bool,
    /// It is not at hand on every node.
    pub is_local: bool,
    pub tolerations: Vec<DeviceToleration>,
    /// Of a device that several may share: how much of it.
    pub consumed: Option<Consumed>,
    pub binding: Binding,
}

/// What must happen before a pod with the device is bound.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Binding {
    /// All of these conditions must hold of it.
    pub conditions: Vec<String>,
    /// None of these may.
    pub failures: Vec<String>,
    /// The claim is for the chosen node only, wherever else the device could be had.
    pub is_to_node: bool,
}

impl Binding {
    fn of(device: &Device) -> Self {
        Self {
            conditions: device.binding_conditions.clone().unwrap_or_default(),
            failures: device.binding_failure_conditions.clone().unwrap_or_default(),
            is_to_node: device.binds_to_node == Some(true),
        }
    }
}

impl Inventory<'_> {
    /// Devices for all claims on a node, claim by claim; `None` when there are not enough.
    pub fn allocate(
        &self,
        node: &NodeInfo,
        claims: &[&ClaimRequest],
        taken: &Taken,
        effort: &mut Effort,
    ) -> Result<Option<Vec<Vec<Given>>>, AllocateError> {
        let most = effort.left.min(MOST_STEPS);
        if most == 0 {
            return Err(AllocateError::TimedOut);
        }
        let offers = self.on(node);
        let mut todo = Vec::new();
        for (claim, it) in claims.iter().enumerate() {
            for request in &it.requests {
                let matching: Result<Vec<_>, _> =
                    request.alternatives.iter().map(|it| matching(it, &offers)).collect();
                let matching = matching.map_err(AllocateError::Selector)?;
                todo.push(Todo { claim, request, matching });
            }
        }
        let counters = Counters::new(self, &offers, taken);
        let given = Vec::new();
        let mut search =
            Search { claims, offers: &offers, todo, taken, counters, given, steps: 0, most };
        let is_found = search.from(0);
        effort.left -= search.steps.min(most);
        if !is_found {
            let is_over = search.steps > most;
            return if is_over { Err(AllocateError::TimedOut) } else { Ok(None) };
        }
        let mut all = vec![Vec::new(); claims.len()];
        for it in search.given {
            all[it.claim].push(search.todo[it.todo].given(&offers[it.offer], it.alternative));
        }
        Ok(Some(all))
    }
}

/// The offers (by index) that a request may be given.
pub(super) fn matching(want: &Want, offers: &[Offer<'_>]) -> Result<Vec<usize>, String> {
    let mut found = Vec::new();
    for (index, offer) in offers.iter().enumerate() {
        let mut is_match = true;
        for (number, selector) in want.selectors.iter().enumerate() {
            is_match = cel_value::selects(selector, &offer.spec.driver, offer.device).map_err(
                |error| {
                    let DeviceId { driver, pool, device } = offer.id();
                    format!(
                        "device {driver}/{pool}/{device}: selector #{number}: CEL runtime error: {error}"
                    )
                },
            )?;
            if !is_match {
                break;
            }
        }
        let has_enough = want.capacity.is_empty() || consumed(offer, &want.capacity).is_some();
        if is_match && has_enough && tolerated(offer.device, want) {
            found.push(index);
        }
    }
    Ok(found)
}

fn tolerated(device: &Device, want: &Want) -> bool {
    let mut bars = device.taints.iter().flatten().filter(|it| it.effect != "None");
    bars.all(|taint| want.tolerations.iter().any(|it| tolerates_device(it, taint)))
}

/// Whether one toleration of a claim tolerates one taint of a device.
pub fn tolerates_device(toleration: &DeviceToleration, taint: &DeviceTaint) -> bool {
    let is_any = |it: &Option<String>| it.as_ref().is_none_or(String::is_empty);
    let is_effect = is_any(&toleration.effect) || toleration.effect.as_ref() == Some(&taint.effect);
    let is_key = is_any(&toleration.key) || toleration.key.as_ref() == Some(&taint.key);
    let is_value = toleration.operator.as_deref() == Some("Exists")
        || toleration.value.as_deref().unwrap_or_default()
            == taint.value.as_deref().unwrap_or_default();
    is_effect && is_key && is_value
}

struct Todo<'a> {
    claim: usize,
    request: &'a Request,
    /// Of each alternative.
    matching: Vec<Vec<usize>>,
}

impl Todo<'_> {
    fn given(&self, offer: &Offer<'_>, alternative: usize) -> Given {
        let want = &self.request.alternatives[alternative];
        Given {
            request: want.name.clone(),
            class: want.class.clone(),
            id: offer.id(),
            is_admin: want.is_admin,
            is_local: offer.is_local,
            tolerations: want.tolerations.clone(),
            consumed: offer.is_shared().then(|| consumed(offer, &want.capacity)).flatten(),
            binding: Binding::of(offer.device),
        }
    }
}

#[derive(Clone, Copy)]
struct Pick {
    claim: usize,
    todo: usize,
    alternative: usize,
    offer: usize,
}

struct Search<'a> {
    claims: &'a [&'a ClaimRequest],
    offers: &'a [Offer<'a>],
    todo: Vec<Todo<'a>>,
    taken: &'a Taken,
    counters: Counters<'a>,
    given: Vec<Pick>,
    steps: u64,
    /// After so many the search is given up.
    most: u64,
}

impl<'a> Search<'a> {
    /// Serves this request and those after it.
    fn from(&mut self, at: usize) -> bool {
        let Some(todo) = self.todo.get(at) else { return true };
        let alternatives = todo.request.alternatives.len();
        (0..alternatives).any(|alternative| {
            let begun = self.given.len();
            let is_served = match self.todo[at].request.alternatives[alternative].count {
                Some(count) => self.some(at, alternative, count, 0),
                None => self.all(at, alternative),
            };
            if !is_served {
                self.given.truncate(begun);
            }
            is_served
        })
    }

    /// Gives so many more, of the matching ones from this position on.
    fn some(&mut self, at: usize, alternative: usize, count: usize, begin: usize) -> bool {
        if count == 0 {
            return self.from(at + 1);
        }
        for position in begin..self.todo[at].matching[alternative].len() {
            self.steps += 1;
            if self.steps > self.most {
                return false;
            }
            let offer = self.todo[at].matching[alternative][position];
            if !self.take(at, alternative, offer) {
                continue;
            }
            let begun = self.given.len() - 1;
            // Of a device that several may share, one request may have several shares.
            let is_admin = self.todo[at].request.alternatives[alternative].is_admin;
            let is_shared = self.offers[offer].is_shared() && !is_admin;
            if self.some(at, alternative, count - 1, position + usize::from(!is_shared)) {
                return true;
            }
            self.given.truncate(begun);
        }
        false
    }

    /// Gives all that match: none of them may be somebody else's.
    fn all(&mut self, at: usize, alternative: usize) -> bool {
        let wanted = self.todo[at].matching[alternative].clone();
        !wanted.is_empty()
            && wanted.into_iter().all(|offer| self.take(at, alternative, offer))
            && self.from(at + 1)
    }

    fn take(&mut self, at: usize, alternative: usize, offer: usize) -> bool {
        let todo = &self.todo[at];
        if !self.is_free(at, alternative, offer) {
            return false;
        }
        let pick = Pick { claim: todo.claim, todo: at, alternative, offer };
        let constraints = &self.claims[pick.claim].constraints;
        if !constraints.iter().all(|it| self.allows(it, pick)) {
            return false;
        }
        self.given.push(pick);
        true
    }

    fn want(&self, at: usize, alternative: usize) -> &'a Want {
        &self.todo[at].request.alternatives[alternative]
    }

    /// Who only looks may have what others have, once for each request.
    fn is_free(&self, at: usize, alternative: usize, offer: usize) -> bool {
        let want = self.want(at, alternative);
        let picks = || self.given.iter().filter(move |it| it.offer == offer);
        if want.is_admin {
            return !picks().any(|it| it.todo == at);
        }
        let holders = || picks().filter(|it| !self.want(it.todo, it.alternative).is_admin);
        let (device, id) = (&self.offers[offer], self.offers[offer].id());
        if !device.is_shared() {
            return !self.taken.is_held(&id)
                && picks().all(|it| it.todo != at)
                && holders().next().is_none()
                && self.leaves_enough(offer);
        }
        let Some(more) = consumed(device, &want.capacity) else { return false };
        let own: Vec<_> = holders()
            .filter_map(|it| consumed(device, &self.want(it.todo, it.alternative).capacity))
            .collect();
        let is_used = self.taken.is_used(&id) || !own.is_empty();
        has_room(device, self.taken.shares(&id).iter().chain(&own), &more)
            && (is_used || self.leaves_enough(offer))
    }

    /// Whether the counters of its pool allow a device beside those that are picked.
    fn leaves_enough(&self, offer: usize) -> bool {
        let is_holder = |it: &&Pick| {
            let is_first = |other: &Pick| other.offer != it.offer;
            let before = self.given.iter().take_while(|other| !std::ptr::eq(*other, *it));
            !self.want(it.todo, it.alternative).is_admin && before.into_iter().all(is_first)
        };
        let offers = self.offers;
        let picked = self.given.iter().filter(is_holder).map(|it| &offers[it.offer]);
        self.counters.allow(&offers[offer], picked)
    }

    fn allows(&self, constraint: &DeviceConstraint, pick: Pick) -> bool {
        let covers = |it: &Pick| {
            let request = self.todo[it.todo].request;
            let want = &request.alternatives[it.alternative];
            let names = constraint.requests.as_deref().unwrap_or_default();
            it.claim == pick.claim
                && (names.is_empty()
                    || names.iter().any(|name| *name == request.name || *name == want.name))
        };
        if !covers(&pick) {
            return true;
        }
        let others = || self.given.iter().filter(|it| covers(it));
        let value = |attribute: &str, it: &Pick| attribute_of(attribute, &self.offers[it.offer]);
        if let Some(attribute) = &constraint.match_attribute {
            let Some(own) = value(attribute, &pick) else { return false };
            if others().any(|it| value(attribute, it) != Some(own)) {
                return false;
            }
        }
        if let Some(attribute) = &constraint.distinct_attribute {
            let Some(own) = value(attribute, &pick) else { return false };
            if others().any(|it| value(attribute, it) == Some(own)) {
                return false;
            }
        }
        true
    }
}

/// A name without a domain is one of the driver's own.
fn attribute_of<'a>(name: &str, offer: &Offer<'a>) -> Option<&'a DeviceAttribute> {
    let attributes = offer.device.attributes.as_ref()?;
    attributes.get(name).or_else(|| {
        let (domain, id) = name.split_once('/')?;
        attributes.get(id).filter(|_| domain == offer.spec.driver)
    })
}
