//! Removes images that nothing uses when the disk fills up.
//!
//! Upstream: `pkg/kubelet/images/image_gc_manager.go`: above the high threshold, the images that have
//! been unused for longest go until the low one is reached.

use std::{collections::HashMap, time::Duration};

use api_cri::v1;
use jiff::Timestamp;

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
}

/// When an image was first seen and last used.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Use {
    pub first_seen: Timestamp,
    pub last_used: Option<Timestamp>,
}

/// The images to remove, in this order.
pub(crate) fn plan(
    images: &[v1::Image],
    in_use: impl Fn(&v1::Image) -> bool,
    uses: &HashMap<String, Use>,
    disk: Disk,
    thresholds: Thresholds,
    now: Timestamp,
) -> Vec<String> {
    let used = disk.capacity.saturating_sub(disk.available);
    let part = |percent: u8| disk.capacity / 100 * u64::from(percent);
    if disk.capacity == 0 || used < part(thresholds.high_percent) {
        return Vec::new();
    }
    let mut to_free = used.saturating_sub(part(thresholds.low_percent));
    let mut unused: Vec<_> = images
        .iter()
        .filter(|it| !it.pinned && !in_use(it))
        .filter_map(|it| uses.get(&it.id).map(|of| (it, of)))
        .filter(|(_, of)| of.first_seen + thresholds.minimum_age <= now)
        .collect();
    unused.sort_by_key(|(_, of)| (of.last_used, of.first_seen));
    let mut removed = Vec::new();
    for (image, _) in unused {
        if to_free == 0 {
            break;
        }
        to_free = to_free.saturating_sub(image.size);
        removed.push(image.id.clone());
    }
    removed
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_longest_unused_images_go_until_the_low_threshold() {
        let image = |id: &str, pinned| v1::Image {
            id: id.to_owned(),
            size: 60,
            pinned,
            ..Default::default()
        };
        let images =
            [image("used", false), image("old", false), image("new", false), image("pause", true)];
        let at = |seconds| Timestamp::UNIX_EPOCH + Duration::from_secs(seconds);
        let uses: HashMap<_, _> = [("used", 1), ("old", 2), ("new", 3), ("pause", 0)]
            .map(|(id, used)| {
                let of = Use { first_seen: at(0), last_used: Some(at(used)) };
                (id.to_owned(), of)
            })
            .into();
        let thresholds =
            Thresholds { high_percent: 85, low_percent: 80, minimum_age: Duration::from_secs(120) };
        let ask = |available, now| {
            let disk = Disk { capacity: 1000, available };
            plan(&images, |it| it.id == "used", &uses, disk, thresholds, at(now))
        };
        assert_eq!(ask(151, 500), Vec::<String>::new());
        assert_eq!(ask(150, 500), ["old"]);
        assert_eq!(ask(100, 500), ["old", "new"]);
        assert_eq!(ask(100, 60), Vec::<String>::new(), "too young");
    }
}
