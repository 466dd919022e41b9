//! The instance types that NodePools may have: what their classes offer, with what EC2 has left, under
//! the NodeOverlays.

use std::{
    cell::RefCell,
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use api_kube::karpenter::{Ec2NodeClass, Ec2NodeClassStatus, NodeClaim, NodeOverlay, NodePool};
use karpenter_aws::{Kubelet, Market, Reserved, Zone, instance_types, offers, spoken_for};
use karpenter_core::{InstanceType, Overlays, Refusal};

use super::gather::Left;

/// What the types depend on.
pub(super) struct Given<'a> {
    pub(super) classes: &'a [Ec2NodeClass],
    pub(super) overlays: &'a [NodeOverlay],
    pub(super) claims: &'a [NodeClaim],
    /// `None`: EC2 was not asked.
    pub(super) left: Option<&'a Left>,
    /// Where a class does not say so.
    pub(super) zones: &'a [String],
    /// Of On-Demand's price; `None`: there is no Spot.
    pub(super) spot_share: Option<f64>,
}

/// See the module.
pub(super) struct Offers<'a> {
    given: Given<'a>,
    overlays: Overlays,
    known: RefCell<BTreeMap<String, Arc<[InstanceType]>>>,
}

impl<'a> Offers<'a> {
    /// With the overlays that take effect, and what is to be said of all this.
    pub(super) fn new(given: Given<'a>, pools: &[NodePool]) -> (Self, Vec<String>) {
        let mut it = Self { given, overlays: Overlays::default(), known: RefCell::default() };
        let mut notes = it.unknown();
        notes.extend(it.full_zones());
        let (in_effect, shut): (Vec<&NodeOverlay>, _) =
            it.given.overlays.iter().partition(|it| is_looked_at(it));
        notes.extend(shut.iter().map(|it| {
            format!(
                "NodeOverlay {} is left aside: Karpenter has not looked at it (its gate NodeOverlay \
                 is shut)",
                it.name()
            )
        }));
        let in_effect: Vec<NodeOverlay> = in_effect.into_iter().cloned().collect();
        let with_types: Vec<(&NodePool, Arc<[InstanceType]>)> =
            pools.iter().filter_map(|pool| Some((pool, it.of_class(pool)?))).collect();
        let (overlays, refused) = Overlays::new(&in_effect, &with_types);
        drop(with_types);
        notes.extend(refused.into_iter().map(|(name, why)| match why {
            Refusal::Faults(faults) => {
                format!("NodeOverlay {name} takes no part: {}", faults.join("; "))
            }
            Refusal::Conflict => {
                format!("NodeOverlay {name} takes no part: it conflicts with another overlay")
            }
        }));
        it.overlays = overlays;
        (it, notes)
    }

    /// The types of a pool; `None`: its class is not ready.
    pub(super) fn of(&self, pool: &NodePool) -> Option<Arc<[InstanceType]>> {
        Some(self.overlays.apply(pool, self.of_class(pool)?))
    }

    fn of_class(&self, pool: &NodePool) -> Option<Arc<[InstanceType]>> {
        let name = &pool.spec.template.spec.node_class_ref.name;
        if let Some(known) = self.known.borrow().get(name) {
            return Some(known.clone());
        }
        let class = self.given.classes.iter().find(|it| it.name() == name);
        let found = class.and_then(|it| Some((it, it.status.as_ref()?)));
        let types = match found {
            Some((class, status)) => offers(class, self.market_of(status), |_| true)?,
            None => {
                let kubelet = class.map(Kubelet::of).unwrap_or_default();
                let zones = self.given.zones.iter();
                let zones = zones.map(|it| Zone { name: it.clone(), id: None }).collect();
                instance_types(&kubelet, &Market { zones, ..self.market(self.given.zones.first()) })
            }
        };
        self.known.borrow_mut().insert(name.clone(), types.clone());
        Some(types)
    }

    fn market(&self, zone: Option<&String>) -> Market {
        let region = zone.map(|it| it.trim_end_matches(|it: char| it.is_ascii_lowercase()));
        Market {
            region: region.unwrap_or_default().to_owned(),
            spot_share: self.given.spot_share,
            ..Market::default()
        }
    }

    fn market_of(&self, status: &Ec2NodeClassStatus) -> Market {
        let coming = self
            .given
            .claims
            .iter()
            .filter(|it| it.metadata.deletion_timestamp.is_none() && !it.is_true("Launched"));
        let taken = spoken_for(coming);
        let left = |id: &str| self.given.left.and_then(|it| it.reservations.get(id)).copied();
        let reserved = status.capacity_reservations.iter().map(|it| {
            let taken = taken.get(&it.id).copied().unwrap_or(0);
            Reserved::of(it, left(&it.id).unwrap_or(0).saturating_sub(taken))
        });
        let any = || "*".to_owned();
        let full = self.without_addresses(status).into_iter();
        Market {
            reservations: reserved.collect(),
            unavailable: full.map(|zone| (any(), zone, any())).collect(),
            ..self.market(status.subnets.first().map(|it| &it.zone))
        }
    }

    /// Zones in which no subnet of a class has a free address.
    fn without_addresses(&self, status: &Ec2NodeClassStatus) -> BTreeSet<String> {
        let Some(left) = self.given.left else { return BTreeSet::new() };
        let mut most: BTreeMap<&str, i64> = BTreeMap::new();
        for subnet in &status.subnets {
            // One that EC2 does not tell of is not taken for full.
            let free = left.addresses.get(&subnet.id).copied().unwrap_or(i64::MAX);
            let most = most.entry(subnet.zone.as_str()).or_default();
            *most = free.max(*most);
        }
        most.into_iter().filter(|(_, it)| *it == 0).map(|(zone, _)| zone.to_owned()).collect()
    }

    fn full_zones(&self) -> Vec<String> {
        let mut notes = Vec::new();
        for class in self.given.classes {
            let full = class.status.iter().flat_map(|it| self.without_addresses(it));
            notes.extend(full.map(|zone| {
                let class = class.name();
                format!(
                    "{zone} is left out: no subnet of EC2NodeClass {class} there has a free address"
                )
            }));
        }
        notes
    }

    fn unknown(&self) -> Vec<String> {
        let has_reservations = |it: &Ec2NodeClass| {
            it.status.as_ref().is_some_and(|it| !it.capacity_reservations.is_empty())
        };
        let is_unknown =
            self.given.left.is_none() && self.given.classes.iter().any(has_reservations);
        let note = "capacity reservations are left out: EC2 was not asked how much room they have";
        is_unknown.then(|| note.to_owned()).into_iter().collect()
    }

    /// Free addresses where a class's nodes would be, by zone; nothing where nobody knows.
    pub(super) fn addresses(&self, pool: &NodePool, zone: &str) -> Option<i64> {
        let name = &pool.spec.template.spec.node_class_ref.name;
        let class = self.given.classes.iter().find(|it| it.name() == name)?;
        let (left, status) = (self.given.left?, class.status.as_ref()?);
        let subnets = status.subnets.iter().filter(|it| it.zone == zone);
        subnets.map(|it| left.addresses.get(&it.id).copied()).sum()
    }
}

/// One that comes from a manifest has not been looked at by anybody, and is to be.
fn is_looked_at(overlay: &NodeOverlay) -> bool {
    let has_said = |it: &api_kube::karpenter::NodeOverlayStatus| !it.conditions.is_empty();
    overlay.metadata.uid.is_none() || overlay.status.as_ref().is_some_and(has_said)
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn class(reservations: Value) -> Ec2NodeClass {
        serde_json::from_value(json!({ "metadata": { "name": "default" }, "spec": {}, "status": {
            "subnets": [{ "id": "subnet-1", "zone": "us-east-1a" },
                { "id": "subnet-2", "zone": "us-east-1b" }],
            "amis": [{ "id": "ami-1", "requirements": [{ "key": "kubernetes.io/arch",
                "operator": "In", "values": ["amd64"] }] }],
            "capacityReservations": reservations,
            "conditions": [{ "type": "Ready", "status": "True", "reason": "", "message": "",
                "lastTransitionTime": "2026-01-01T00:00:00Z" }] } }))
        .unwrap()
    }

    fn pool() -> NodePool {
        let spec = json!({ "template": { "spec": { "nodeClassRef": {
            "group": "karpenter.k8s.aws", "kind": "EC2NodeClass", "name": "default" } } } });
        NodePool::new("default", serde_json::from_value(spec).unwrap())
    }

    fn given(classes: &[Ec2NodeClass]) -> Given<'_> {
        Given { classes, overlays: &[], claims: &[], left: None, zones: &[], spot_share: None }
    }

    fn m5_large(given: Given<'_>) -> (InstanceType, Vec<String>) {
        let pools = [pool()];
        let (offers, notes) = Offers::new(given, &pools);
        let types = offers.of(&pools[0]).unwrap();
        (types.iter().find(|it| &*it.name == "m5.large").unwrap().clone(), notes)
    }

    #[test]
    fn a_reservation_has_the_room_that_ec2_says_less_what_claims_are_to_have() {
        let room = json!([{ "id": "cr-1", "availabilityZone": "us-east-1a",
            "instanceMatchCriteria": "open", "instanceType": "m5.large", "ownerID": "1" }]);
        let classes = [class(room)];
        let left = Left { reservations: [("cr-1".to_owned(), 3)].into(), ..Left::default() };
        let claim: NodeClaim = serde_json::from_value(json!({ "metadata": { "name": "a" },
            "spec": { "requirements": [{ "key": "karpenter.k8s.aws/capacity-reservation-id",
                "operator": "In", "values": ["cr-1"] }] } }))
        .unwrap();
        let claims = [claim];
        let (it, notes) = m5_large(Given { claims: &claims, left: Some(&left), ..given(&classes) });
        let reserved = it.offerings.iter().find_map(|it| it.reservation.as_ref()).unwrap();
        assert_eq!((reserved.left, notes), (2, Vec::new()));
        let (it, notes) = m5_large(given(&classes));
        let mut offerings = it.offerings.iter();
        assert!(!offerings.any(|it| it.reservation.is_some() && it.is_available));
        assert!(notes[0].contains("EC2 was not asked"), "{notes:?}");
    }

    #[test]
    fn a_zone_whose_subnets_have_no_free_address_is_left_out_and_said() {
        let classes = [class(json!([]))];
        for (free, is_available) in [(0, false), (1, true)] {
            let addresses = [("subnet-1".to_owned(), 100), ("subnet-2".to_owned(), free)];
            let left = Left { addresses: addresses.into(), ..Left::default() };
            let (it, notes) = m5_large(Given { left: Some(&left), ..given(&classes) });
            let in_b = it.offerings.iter().find(|it| it.zone() == "us-east-1b").unwrap();
            assert_eq!(in_b.is_available, is_available);
            assert_eq!(
                notes.iter().any(|it| it.contains("us-east-1b")),
                !is_available,
                "{notes:?}"
            );
        }
    }

    #[test]
    fn overlays_set_prices_unless_they_are_wrong_or_karpenter_does_not_look_at_them() {
        let classes = [class(json!([]))];
        let overlay = |value: Value| -> NodeOverlay { serde_json::from_value(value).unwrap() };
        let of = |it: NodeOverlay| {
            let overlays = [it];
            let (it, notes) = m5_large(Given { overlays: &overlays, ..given(&classes) });
            (it.offerings[0].price, notes)
        };
        let spec = |price: &str| json!({ "requirements": [], "price": price });
        let (price, notes) = of(overlay(json!({ "metadata": { "name": "a" }, "spec": spec("7") })));
        assert_eq!((price, notes), (7.0, Vec::new()));
        let (price, notes) = of(overlay(json!({ "metadata": { "name": "a" }, "spec": spec("x") })));
        assert!(price < 1.0 && notes[0].contains("takes no part"), "{notes:?}");
        let (price, notes) =
            of(overlay(json!({ "metadata": { "name": "a", "uid": "u" }, "spec": spec("7") })));
        assert!(price < 1.0 && notes[0].contains("gate NodeOverlay"), "{notes:?}");
    }
}
