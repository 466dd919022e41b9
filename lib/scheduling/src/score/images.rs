//! How much of the pod's images a node has already.
//!
//! An image that few nodes have counts less, so that not all pods of a new image end up where the first
//! one went.
//!
//! Upstream: `imagelocality/image_locality.go`.

use super::MAX;
use crate::{Cluster, NodeInfo, PodInfo};

const MIB: i64 = 1024 * 1024;
/// Less is fetched so quickly that it does not matter.
const LEAST: i64 = 23 * MIB;
/// More than this, for each container, counts no more.
const MOST: i64 = 1000 * MIB;

pub(super) fn mark(cluster: &Cluster, pod: &PodInfo, node: &NodeInfo) -> i64 {
    let containers = i64::try_from(pod.images.len()).unwrap_or(i64::MAX);
    if containers == 0 || node.images.is_empty() {
        return 0;
    }
    let all = i64::try_from(cluster.nodes().len()).unwrap_or(i64::MAX).max(1);
    let spread = |image: &String| {
        let size = node.images.get(image)?;
        let nodes = i64::try_from(cluster.nodes_with_image(image)).unwrap_or(i64::MAX);
        i64::try_from(i128::from(*size) * i128::from(nodes) / i128::from(all)).ok()
    };
    let sum: i64 = pod.images.iter().filter_map(spread).sum();
    let most = MOST.saturating_mul(containers);
    MAX * (sum.clamp(LEAST, most) - LEAST) / (most - LEAST)
}
