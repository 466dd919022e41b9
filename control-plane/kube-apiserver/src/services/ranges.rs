//! ServiceCIDRs: the ranges that ClusterIPs come from.
//!
//! The configured range is the object `kubernetes`. Others can be added while the server runs; the
//! controllers hold one that is deleted as long as a Service has an address that is in no other.
//!
//! Upstream: KEP-1880, pkg/controlplane/controller/defaultservicecidr, `isReady` of
//! pkg/registry/core/service/ipallocator.

use ipnet::IpNet;
use serde_json::{Value, json};

use super::Allocator;
use crate::{registry, resources::meta};

pub(crate) const DEFAULT: &str = "kubernetes";
const RANGES: (&str, &str) = ("networking.k8s.io", "servicecidrs");

/// The configured range is ready; of others the controllers say so.
pub(crate) fn prepare(range: &mut Value, now: &str) {
    if meta(range, "name") == DEFAULT {
        range["status"] = json!({"conditions": [{
            "type": "Ready", "status": "True", "reason": "",
            "message": "Kubernetes default Service CIDR is ready", "lastTransitionTime": now,
        }]});
    }
}

fn cidrs(range: &Value) -> impl Iterator<Item = IpNet> {
    let all = range["spec"]["cidrs"].as_array().into_iter().flatten();
    all.filter_map(|it| it.as_str()?.parse().ok())
}

/// One of which nobody has said anything can be used: perhaps there are no controllers.
fn is_usable(range: &Value) -> bool {
    let conditions = range["status"]["conditions"].as_array().into_iter().flatten();
    let mut ready = conditions.filter(|it| it["type"] == "Ready");
    let is_ready = ready.next().is_none_or(|it| it["status"] == "True");
    is_ready && meta(range, "deletionTimestamp").is_empty()
}

impl Allocator {
    /// The object of the configured range.
    pub(crate) fn default_range(&self) -> Value {
        json!({
            "apiVersion": "networking.k8s.io/v1", "kind": "ServiceCIDR",
            "metadata": { "name": DEFAULT }, "spec": { "cidrs": [self.cidr.to_string()] },
        })
    }

    /// Where addresses come from: the configured range first.
    pub(super) fn ranges(&self) -> Vec<IpNet> {
        let is_ipv4 = |it: &IpNet| matches!(it, IpNet::V4(_));
        let mut ranges = vec![self.cidr];
        for record in self.store.scan(&registry::prefix(RANGES.0, RANGES.1, "")) {
            let range = registry::decode(&record);
            if is_usable(&range) {
                let same = cidrs(&range).filter(|it| is_ipv4(it) == is_ipv4(&self.cidr));
                ranges.extend(same.filter(|it| *it != self.cidr));
            }
        }
        ranges
    }
}
