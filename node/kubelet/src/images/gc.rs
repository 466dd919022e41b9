//! Which images go when the disk fills up, or when they have been unused for too long.
//!
//! Upstream: `pkg/kubelet/images/image_gc_manager.go`: above the high threshold, the images that have
//! been unused for longest go until the low one is reached.

use std::{collections::HashMap, time::Duration};

use api_cri::v1;
use jiff::Timestamp;

use crate::config::KubeletConfiguration;

/// How much is used and how much there is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Disk {
    pub capacity: u64,
    pub available: u64,
}

#[derive(Clone, Copy, Debug)]
pub(crate) struct Thresholds {
    pub high_percent: u8,
    pub low_percent: u8,
    pub minimum_age: Duration,
    /// Zero is no limit.
    pub maximum_age: Duration,
}

impl Thresholds {
    pub(crate) fn of(config: &KubeletConfiguration) -> Self {
        Self {
            high_percent: config.image_gc_high_threshold_percent,
            low_percent: config.image_gc_low_threshold_percent,
            minimum_age: config.image_minimum_gc_age.0,
            maximum_age: config.image_maximum_gc_age.0,
        }
    }
}

/// When an image was first seen and last used.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Use {
    pub first_seen: Timestamp,
    pub last_used: Option<Timestamp>,
}

/// The images to remove, in this order, and how far that goes.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Plan {
    pub removed: Vec<String>,
    pub wanted: u64,
    pub found: u64,
}

impl Plan {
    pub(crate) fn is_short(&self) -> bool {
        self.found < self.wanted
    }
}

/// What the disk needs.
pub(crate) fn plan(
    images: &[v1::Image],
    in_use: impl Fn(&v1::Image) -> bool,
    uses: &HashMap<String, Use>,
    disk: Disk,
    thresholds: Thresholds,
    now: Timestamp,
) -> Plan {
    let used = disk.capacity.saturating_sub(disk.available);
    let part = |percent: u8| disk.capacity / 100 * u64::from(percent);
    // A threshold of 100 switches it off.
    let is_off = thresholds.high_percent >= 100 || disk.capacity == 0;
    if is_off || used < part(thresholds.high_percent) {
        return Plan::default();
    }
    let wanted = used.saturating_sub(part(thresholds.low_percent));
    let mut plan = Plan { wanted, ..Plan::default() };
    for (image, of) in unused(images, in_use, uses) {
        if plan.found >= wanted {
            break;
        }
        if of.first_seen + thresholds.minimum_age <= now {
            plan.found += image.size;
            plan.removed.push(image.id.clone());
        }
    }
    plan
}

/// What nobody has used for the maximum age.
pub(crate) fn too_old(
    images: &[v1::Image],
    in_use: impl Fn(&v1::Image) -> bool,
    uses: &HashMap<String, Use>,
    thresholds: Thresholds,
    now: Timestamp,
) -> Vec<String> {
    if thresholds.maximum_age.is_zero() {
        return Vec::new();
    }
    let is_old = |of: &Use| of.last_used.unwrap_or(of.first_seen) + thresholds.maximum_age < now;
    let old = unused(images, in_use, uses).into_iter().filter(|(_, of)| is_old(of));
    old.map(|(image, _)| image.id.clone()).collect()
}

/// Everything that can go.
pub(crate) fn all_unused(
    images: &[v1::Image],
    in_use: impl Fn(&v1::Image) -> bool,
    uses: &HashMap<String, Use>,
    thresholds: Thresholds,
    now: Timestamp,
) -> Vec<String> {
    let is_grown = |of: &Use| of.first_seen + thresholds.minimum_age <= now;
    let unused = unused(images, in_use, uses).into_iter().filter(|(_, of)| is_grown(of));
    unused.map(|(image, _)| image.id.clone()).collect()
}

/// Longest unused first.
fn unused<'a>(
    images: &'a [v1::Image],
    in_use: impl Fn(&v1::Image) -> bool,
    uses: &HashMap<String, Use>,
) -> Vec<(&'a v1::Image, Use)> {
    let mut unused: Vec<_> = images
        .iter()
        .filter(|it| !it.pinned && !in_use(it))
        .filter_map(|it| uses.get(&it.id).map(|of| (it, *of)))
        .collect();
    unused.sort_by_key(|(_, of)| (of.last_used, of.first_seen));
    unused
}

#[cfg(test)]
mod tests {
    use super::*;

    fn images() -> [v1::Image; 4] {
        let image = |id: &str, pinned| v1::Image {
            id: id.to_owned(),
            size: 60,
            pinned,
            ..Default::default()
        };
        [image("used", false), image("old", false), image("new", false), image("pause", true)]
    }

    fn at(seconds: u64) -> Timestamp {
        Timestamp::UNIX_EPOCH + Duration::from_secs(seconds)
    }

    fn uses() -> HashMap<String, Use> {
        [("used", 1), ("old", 2), ("new", 3), ("pause", 0)]
            .map(|(id, used)| {
                let of = Use { first_seen: at(0), last_used: Some(at(used)) };
                (id.to_owned(), of)
            })
            .into()
    }

    fn thresholds(maximum_age: u64) -> Thresholds {
        Thresholds {
            high_percent: 85,
            low_percent: 80,
            minimum_age: Duration::from_secs(120),
            maximum_age: Duration::from_secs(maximum_age),
        }
    }

    #[test]
    fn the_longest_unused_images_go_until_the_low_threshold() {
        let ask = |available, now| {
            let disk = Disk { capacity: 1000, available };
            plan(&images(), |it| it.id == "used", &uses(), disk, thresholds(0), at(now))
        };
        assert_eq!(ask(151, 500).removed, Vec::<String>::new());
        assert_eq!(ask(150, 500).removed, ["old"]);
        assert_eq!(ask(100, 500).removed, ["old", "new"]);
        assert!(!ask(100, 500).is_short());
        let short = ask(50, 500);
        assert_eq!((short.is_short(), short.wanted, short.found), (true, 150, 120));
        assert_eq!(ask(100, 60).removed, Vec::<String>::new(), "too young");
    }

    #[test]
    fn an_image_that_was_just_pulled_is_not_taken_away_before_its_container_is_made() {
        let ask =
            |now| all_unused(&images(), |it| it.id == "used", &uses(), thresholds(0), at(now));
        assert!(ask(119).is_empty());
        assert_eq!(ask(120), ["old", "new"]);
    }

    #[test]
    fn what_was_unused_for_the_maximum_age_goes_whatever_the_disk() {
        let ask =
            |age, now| too_old(&images(), |it| it.id == "used", &uses(), thresholds(age), at(now));
        assert!(ask(0, 10_000).is_empty(), "zero is no limit");
        assert_eq!(ask(600, 603), ["old"]);
        assert_eq!(ask(600, 604), ["old", "new"]);
    }
}
