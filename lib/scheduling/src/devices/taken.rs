//! What claims hold of the devices already.

use std::collections::{BTreeMap, BTreeSet};

use super::{Consumed, DeviceId};

/// See the module.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Taken {
    /// Devices that somebody has alone.
    devices: BTreeSet<DeviceId>,
    /// Of devices that several may share, what each share consumes.
    shares: BTreeMap<DeviceId, Vec<Consumed>>,
}

impl Taken {
    /// Somebody has the device alone.
    pub fn hold(&mut self, id: DeviceId) {
        self.devices.insert(id);
    }

    /// Somebody has a share of the device.
    pub fn share(&mut self, id: DeviceId, consumed: Consumed) {
        self.shares.entry(id).or_default().push(consumed);
    }

    pub fn merge(&mut self, other: Self) {
        self.devices.extend(other.devices);
        for (id, shares) in other.shares {
            self.shares.entry(id).or_default().extend(shares);
        }
    }

    pub(super) fn is_held(&self, id: &DeviceId) -> bool {
        self.devices.contains(id)
    }

    pub(super) fn shares(&self, id: &DeviceId) -> &[Consumed] {
        self.shares.get(id).map(Vec::as_slice).unwrap_or_default()
    }

    /// Whether anybody has it, or a share of it: it uses its pool's counters then.
    pub(super) fn is_used(&self, id: &DeviceId) -> bool {
        self.is_held(id) || !self.shares(id).is_empty()
    }
}

impl FromIterator<DeviceId> for Taken {
    fn from_iter<I: IntoIterator<Item = DeviceId>>(devices: I) -> Self {
        Self { devices: devices.into_iter().collect(), shares: BTreeMap::new() }
    }
}
