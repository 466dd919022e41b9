//! How the zones stand, and how fast each may lose nodes for that.
//!
//! Many silent nodes of a zone at once are rather a fault of the network than of the nodes: then the
//! zone is emptied more slowly, or not at all where it is small. When all zones are lost to us, it is we
//! who are cut off, and nobody is driven away.
//!
//! Upstream: `ComputeZoneState`, `handleDisruption`, `ReducedQPSFunc` of `node_lifecycle_controller.go`.

use std::{collections::BTreeMap, time::Duration};

use controller::object;
use k8s_openapi::api::core::v1::Node;

use super::health::ready;
use crate::EvictionPace;

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Count {
    ready: usize,
    not_ready: usize,
}

impl Count {
    /// The number of those that are as this one is.
    fn of(&mut self, node: &Node) -> &mut usize {
        if ready(node) == Some("True") { &mut self.ready } else { &mut self.not_ready }
    }
}

/// See the module. Kept up to date change by change: all nodes are looked after all the time.
#[derive(Debug, Default)]
pub(super) struct Zones(BTreeMap<String, Count>);

impl Zones {
    /// A node came, changed or went.
    pub(super) fn change(&mut self, old: Option<&Node>, new: Option<&Node>) {
        if let Some(node) = new {
            *self.0.entry(zone_of(node)).or_default().of(node) += 1;
        }
        let Some(node) = old else { return };
        let zone = zone_of(node);
        if let Some(count) = self.0.get_mut(&zone) {
            *count.of(node) -= 1;
            if *count == Count::default() {
                self.0.remove(&zone);
            }
        }
    }

    /// Whether no node of any zone is well.
    pub(super) fn are_all_lost(&self) -> bool {
        !self.0.is_empty() && self.0.values().all(|it| it.ready == 0)
    }

    /// How long after one node of the zone the next may go; `None`: not at all for now.
    pub(super) fn interval(&self, zone: &str, pace: &EvictionPace) -> Option<Duration> {
        let count = self.0.get(zone).copied().unwrap_or_default();
        let all = count.ready + count.not_ready;
        let share = |part: usize| part as f64 / all.max(1) as f64;
        let is_partly_lost = count.ready > 0
            && count.not_ready > 2
            && share(count.not_ready) >= pace.unhealthy_zone_threshold;
        let rate = match (is_partly_lost, all > pace.large_cluster_size_threshold) {
            (false, _) => pace.rate,
            (true, true) => pace.secondary_rate,
            (true, false) => 0.0,
        };
        (rate > 0.0).then(|| Duration::try_from_secs_f64(1.0 / rate).unwrap_or(Duration::MAX))
    }
}

/// Region and zone, as far as the node tells them.
pub(super) fn zone_of(node: &Node) -> String {
    let label = |name| object::label(node, name).unwrap_or_default();
    format!("{}:{}", label("topology.kubernetes.io/region"), label("topology.kubernetes.io/zone"))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn nodes(zone: &str, ready: usize, not_ready: usize) -> Vec<Node> {
        let node = |status: &str| -> Node {
            serde_json::from_value(json!({
                "metadata": { "labels": { "topology.kubernetes.io/zone": zone } },
                "status": { "conditions": [{ "type": "Ready", "status": status }] } }))
            .unwrap()
        };
        let well = (0..ready).map(|_| node("True"));
        well.chain((0..not_ready).map(|_| node("Unknown"))).collect()
    }

    fn zones(nodes: &[Node]) -> Zones {
        let mut zones = Zones::default();
        nodes.iter().for_each(|it| zones.change(None, Some(it)));
        zones
    }

    #[test]
    fn the_more_of_a_zone_is_silent_the_slower_it_is_emptied() {
        for (ready, not_ready, expected) in [
            (5, 1, Some(10)),
            (1, 2, Some(10)),
            (3, 3, Some(10)),
            (2, 3, None),
            (0, 3, Some(10)),
            (20, 40, Some(100)),
            (40, 20, Some(10)),
        ] {
            let zones = zones(&nodes("a", ready, not_ready));
            let interval = zones.interval(":a", &EvictionPace::default());
            assert_eq!(interval.map(|it| it.as_secs()), expected, "{ready} {not_ready}");
        }
    }

    #[test]
    fn the_pace_is_what_the_flags_say() {
        let zones = zones(&nodes("a", 2, 3));
        let pace = EvictionPace { rate: 0.5, unhealthy_zone_threshold: 0.7, ..Default::default() };
        assert_eq!(zones.interval(":a", &pace), Some(Duration::from_secs(2)));
        let never = EvictionPace { rate: 0.0, ..pace };
        assert_eq!(zones.interval(":a", &never), None);
        let small = EvictionPace { large_cluster_size_threshold: 4, ..Default::default() };
        assert_eq!(zones.interval(":a", &small), Some(Duration::from_secs(100)));
    }

    #[test]
    fn when_no_zone_has_a_node_that_is_well_it_is_we_who_are_cut_off() {
        let mut all = nodes("a", 0, 3);
        all.extend(nodes("b", 0, 1));
        assert!(zones(&all).are_all_lost());
        all.extend(nodes("c", 1, 0));
        assert!(!zones(&all).are_all_lost());
        assert!(!zones(&[]).are_all_lost());
    }

    #[test]
    fn a_node_is_counted_as_it_is_now_where_it_is_now() {
        let mut all = zones(&nodes("a", 0, 1));
        let (silent, well, moved) =
            (&nodes("a", 0, 1)[0], &nodes("a", 1, 0)[0], &nodes("b", 0, 1)[0]);
        all.change(Some(silent), Some(well));
        assert!(!all.are_all_lost());
        all.change(Some(well), Some(moved));
        assert!(all.are_all_lost());
        all.change(Some(moved), None);
        assert!(all.0.is_empty());
    }
}
