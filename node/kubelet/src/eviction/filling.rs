//! A disk that fills up, told before eviction begins.
//!
//! Above 85 % the node has the condition `DiskFillingUp`; it goes when the disk is below 80 % again,
//! so that it does not come and go with every write.

use super::{
    observe::{Observation, Observations},
    signal::Signal,
};

const ON_PERCENT: i64 = 85;
const OFF_PERCENT: i64 = 80;

#[derive(Debug, Default)]
pub(super) struct Filling {
    nodefs: bool,
    imagefs: bool,
}

impl Filling {
    pub(super) fn is_on(&self) -> bool {
        self.nodefs || self.imagefs
    }

    /// Looks at the disks. Returns what to tell when one has begun to fill up.
    pub(super) fn step(&mut self, observed: &Observations) -> Option<String> {
        let mut told = None;
        let disks = [
            (Signal::NodeFs, &mut self.nodefs, "nodefs"),
            (Signal::ImageFs, &mut self.imagefs, "imagefs"),
        ];
        for (signal, is_on, name) in disks {
            let Some(it) = observed.signals.get(&signal) else { continue };
            let percent = used_percent(*it);
            let was_on = *is_on;
            *is_on = if was_on { percent >= OFF_PERCENT } else { percent > ON_PERCENT };
            if *is_on && !was_on {
                told.get_or_insert_with(|| {
                    format!(
                        "The disk of the node ({name}) is {percent}% full; pods are evicted when it reaches the eviction threshold."
                    )
                });
            }
        }
        told
    }
}

fn used_percent(it: Observation) -> i64 {
    if it.capacity <= 0 {
        return 0;
    }
    let used = i128::from(it.capacity - it.available) * 100 / i128::from(it.capacity);
    i64::try_from(used).unwrap_or(100)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_filling_disk_is_told_once_until_there_is_room_again() {
        let mut filling = Filling::default();
        let mut look = |available| {
            let observation = Observation { available, capacity: 100 };
            let signals = [(Signal::NodeFs, observation)].into();
            let told = filling.step(&Observations { signals, ..Observations::default() });
            (told.is_some(), filling.is_on())
        };
        assert_eq!(look(15), (false, false), "85 % is not above 85 %");
        assert_eq!(look(14), (true, true));
        assert_eq!(look(18), (false, true));
        assert_eq!(look(21), (false, false));
        assert_eq!(look(5), (true, true));
    }
}
