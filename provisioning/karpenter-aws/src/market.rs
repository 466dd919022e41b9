//! What can be bought where, and for how much.

use std::collections::BTreeMap;

use api_kube::karpenter::{CapacityReservation, NodeClaim, labels};

/// An Availability Zone, by its name and its id.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Zone {
    pub name: String,
    pub id: Option<String>,
}

/// Room of a capacity reservation.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reserved {
    pub id: String,
    /// `default` or `capacity-block`.
    pub kind: String,
    /// Whether EC2 may take its instances back.
    pub is_interruptible: bool,
    pub instance_type: String,
    pub zone: String,
    /// For how many instances more.
    pub left: u32,
}

/// The placement group that a class's instances are launched into.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Group {
    pub id: String,
    /// How many, where it has partitions.
    pub partitions: Option<u32>,
}

impl Reserved {
    /// Of what a class's status shows; one that is about to end has no room for anybody.
    pub fn of(it: &CapacityReservation, left: u32) -> Self {
        let is_ending = it.state.as_deref() == Some("expiring");
        Self {
            id: it.id.clone(),
            kind: it.reservation_type.clone().unwrap_or_else(|| "default".to_owned()),
            is_interruptible: it.interruptible == Some(true),
            instance_type: it.instance_type.clone(),
            zone: it.availability_zone.clone(),
            left: if is_ending { 0 } else { left },
        }
    }
}

/// How many of these claims are to have room of each reservation, by its id.
pub fn spoken_for<'a>(claims: impl IntoIterator<Item = &'a NodeClaim>) -> BTreeMap<String, u32> {
    let mut counts = BTreeMap::new();
    for claim in claims {
        let mut wanted = claim.spec.requirements.iter();
        let named = wanted.find(|it| it.key == labels::CAPACITY_RESERVATION_ID);
        if let Some([id]) = named.map(|it| it.values.as_slice()) {
            *counts.entry(id.clone()).or_default() += 1;
        }
    }
    counts
}

/// See the module. On-Demand prices are AWS's for us-east-1.
#[derive(Clone, Debug, Default)]
pub struct Market {
    pub region: String,
    pub zones: Vec<Zone>,
    /// Spot prices per type and zone, US dollars per hour; what is not here is not sold as Spot,
    /// unless [`Self::spot_share`] is given.
    pub spot: BTreeMap<(String, String), f64>,
    /// Spot prices as a share of the On-Demand price, where no price is known.
    pub spot_share: Option<f64>,
    /// Room that is paid for already.
    pub reservations: Vec<Reserved>,
    pub group: Option<Group>,
    /// Types and zones that a type is not offered in, or whose capacity ran out: (type, zone,
    /// capacity type); `*` stands for all of them.
    pub unavailable: Vec<(String, String, String)>,
}

impl Market {
    /// The price of a Spot Instance.
    pub(crate) fn spot_price(&self, kind: &str, zone: &str, on_demand: f64) -> Option<f64> {
        let known = self.spot.get(&(kind.to_owned(), zone.to_owned())).copied();
        known.or_else(|| self.spot_share.map(|it| it * on_demand))
    }

    pub(crate) fn is_available(&self, kind: &str, zone: &str, capacity_type: &str) -> bool {
        let is = |known: &str, asked: &str| known == "*" || known == asked;
        let of = |it: &(String, String, String)| {
            is(&it.0, kind) && is(&it.1, zone) && is(&it.2, capacity_type)
        };
        !self.unavailable.iter().any(of)
    }
}
