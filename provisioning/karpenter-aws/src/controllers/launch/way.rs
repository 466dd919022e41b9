//! How an instance is paid for: as Spot, On-Demand, or out of a capacity reservation.

use std::collections::BTreeMap;

use api_kube::karpenter::{capacity_types, labels};
use aws_ec2::instance::Instance;
use karpenter_core::Offering;

const BLOCK: &str = "capacity-block";
const INTERRUPTIBLE: &str = "interruptible-capacity-reservation";

/// How an instance is paid for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Way {
    pub(super) capacity_type: &'static str,
    /// The capacity reservation whose room it takes.
    pub(super) reservation: Option<String>,
    /// What EC2 sells, where it is more than an instance: [`BLOCK`] or [`INTERRUPTIBLE`].
    pub(super) market: Option<&'static str>,
}

impl Way {
    pub(super) fn bought(is_spot: bool) -> Self {
        let capacity_type = if is_spot { capacity_types::SPOT } else { capacity_types::ON_DEMAND };
        Self { capacity_type, reservation: None, market: None }
    }

    /// Into the reservation that the offering is of; `None`: it is of none.
    pub(super) fn reserved(offering: &Offering) -> Option<Self> {
        let id = offering.reservation.as_ref()?.id.to_string();
        let is = |key: &str, value: &str| offering.labels.get(key).is_some_and(|it| it == value);
        let market = match () {
            () if is(labels::CAPACITY_RESERVATION_TYPE, BLOCK) => Some(BLOCK),
            () if is(labels::CAPACITY_RESERVATION_INTERRUPTIBLE, "true") => Some(INTERRUPTIBLE),
            () => None,
        };
        Some(Self { capacity_type: capacity_types::RESERVED, reservation: Some(id), market })
    }

    /// How an instance was made. One that names no reservation may be in an open one: it was bought.
    pub(super) fn of(instance: &Instance) -> Self {
        let wanted = instance.capacity_reservation_specification.as_ref();
        let target = wanted.and_then(|it| it.capacity_reservation_target.as_ref());
        let named = target.and_then(|it| it.capacity_reservation_id.as_ref());
        let lifecycle = instance.instance_lifecycle.as_deref();
        match named.filter(|it| instance.capacity_reservation_id.as_ref() == Some(it)) {
            Some(id) => Self {
                capacity_type: capacity_types::RESERVED,
                reservation: Some(id.clone()),
                market: [BLOCK, INTERRUPTIBLE].into_iter().find(|it| lifecycle == Some(*it)),
            },
            None => Self::bought(lifecycle == Some("spot")),
        }
    }

    /// What is known of an instance whose offering is there no more.
    pub(super) fn labels(&self, zone: &str) -> BTreeMap<String, String> {
        let mut all = BTreeMap::from([
            (labels::ZONE.to_owned(), zone.to_owned()),
            (labels::CAPACITY_TYPE.to_owned(), self.capacity_type.to_owned()),
        ]);
        if let Some(id) = &self.reservation {
            let kind = self.market.filter(|it| *it == BLOCK).unwrap_or("default");
            let is_interruptible = self.market == Some(INTERRUPTIBLE);
            all.extend([
                (labels::CAPACITY_RESERVATION_ID.to_owned(), id.clone()),
                (labels::CAPACITY_RESERVATION_TYPE.to_owned(), kind.to_owned()),
                (
                    labels::CAPACITY_RESERVATION_INTERRUPTIBLE.to_owned(),
                    is_interruptible.to_string(),
                ),
            ]);
        }
        all
    }

    pub(super) fn is_spot(&self) -> bool {
        self.capacity_type == capacity_types::SPOT
    }

    pub(super) fn is_interruptible(&self) -> bool {
        self.market == Some(INTERRUPTIBLE)
    }

    /// What a fleet calls it. Instances in other reservations are On-Demand ones to EC2, which name
    /// theirs.
    pub(super) fn target(&self) -> &'static str {
        match self.market {
            Some(BLOCK) => BLOCK,
            Some(_) => "reserved-capacity",
            None if self.is_spot() => capacity_types::SPOT,
            None => capacity_types::ON_DEMAND,
        }
    }

    /// The types of reservations that a fleet may use, where it has to be told.
    pub(super) fn reservation_types(&self) -> Option<Vec<String>> {
        self.is_interruptible().then(|| vec![INTERRUPTIBLE.to_owned()])
    }

    pub(super) fn is_of(&self, offering: &Offering) -> bool {
        let reservation = offering.reservation.as_ref().map(|it| &*it.id);
        offering.capacity_type() == self.capacity_type && reservation == self.reservation.as_deref()
    }
}

#[cfg(test)]
mod tests {
    use karpenter_core::Reservation;

    use super::*;

    #[test]
    fn each_kind_of_reservation_is_asked_for_by_its_name() {
        for (kind, is_interruptible, target, market) in [
            ("default", "false", "on-demand", None),
            ("default", "true", "reserved-capacity", Some(INTERRUPTIBLE)),
            ("capacity-block", "false", "capacity-block", Some(BLOCK)),
        ] {
            let room = Reservation { id: "cr-1".into(), left: 1 };
            let mut offering = Offering::reserved("a", room, 1.0);
            for (key, value) in [
                (labels::CAPACITY_RESERVATION_TYPE, kind),
                (labels::CAPACITY_RESERVATION_INTERRUPTIBLE, is_interruptible),
            ] {
                offering.labels.insert(key.to_owned(), value.to_owned());
            }
            let way = Way::reserved(&offering).unwrap();
            assert_eq!((way.target(), way.market), (target, market), "{kind} {is_interruptible}");
            assert_eq!(way.reservation_types().is_some(), market == Some(INTERRUPTIBLE));
            assert_eq!(way.labels("a"), offering.labels, "the same, once the offering is gone");
        }
        assert_eq!(Way::bought(true).target(), "spot");
        assert_eq!(Way::reserved(&Offering::new("a", "on-demand", 1.0)), None);
    }
}
