//! How an instance is paid for: as Spot, On-Demand, or out of a capacity reservation.

use std::collections::BTreeMap;

use api_kube::karpenter::{capacity_types, labels};
use aws_ec2::instance::Instance;
use karpenter_core::Offering;

const BLOCK: &str = "capacity-block";

/// How an instance is paid for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Way {
    pub(super) capacity_type: &'static str,
    /// The capacity reservation whose room it takes.
    pub(super) reservation: Option<String>,
    /// What EC2 sells, where it is more than an instance: [`BLOCK`].
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
        let kind = offering.labels.get(labels::CAPACITY_RESERVATION_TYPE);
        let market = kind.is_some_and(|it| it == BLOCK).then_some(BLOCK);
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
                market: (lifecycle == Some(BLOCK)).then_some(BLOCK),
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
            let kind = self.market.unwrap_or("default");
            all.extend([
                (labels::CAPACITY_RESERVATION_ID.to_owned(), id.clone()),
                (labels::CAPACITY_RESERVATION_TYPE.to_owned(), kind.to_owned()),
                (labels::CAPACITY_RESERVATION_INTERRUPTIBLE.to_owned(), "false".to_owned()),
            ]);
        }
        all
    }

    pub(super) fn is_spot(&self) -> bool {
        self.capacity_type == capacity_types::SPOT
    }

    /// What a fleet calls it. Instances in other reservations are On-Demand ones to EC2, which name
    /// theirs.
    pub(super) fn target(&self) -> &'static str {
        let bought = if self.is_spot() { capacity_types::SPOT } else { capacity_types::ON_DEMAND };
        self.market.unwrap_or(bought)
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
        for (kind, target, market) in
            [("default", "on-demand", None), ("capacity-block", "capacity-block", Some(BLOCK))]
        {
            let room = Reservation { id: "cr-1".into(), left: 1 };
            let mut offering = Offering::reserved("a", room, 1.0);
            for (key, value) in [
                (labels::CAPACITY_RESERVATION_TYPE, kind),
                (labels::CAPACITY_RESERVATION_INTERRUPTIBLE, "false"),
            ] {
                offering.labels.insert(key.to_owned(), value.to_owned());
            }
            let way = Way::reserved(&offering).unwrap();
            assert_eq!((way.target(), way.market), (target, market), "{kind}");
            assert_eq!(way.labels("a"), offering.labels, "the same, once the offering is gone");
        }
        assert_eq!(Way::bought(true).target(), "spot");
        assert_eq!(Way::reserved(&Offering::new("a", "on-demand", 1.0)), None);
    }
}
