//! ServiceCIDRs: the ranges that ClusterIPs come from.
//!
//! The configured range is the object `kubernetes`. Others can be added while the server runs; one
//! that is deleted stays, not ready, as long as a Service has an address that is in no other.
//!
//! Upstream: KEP-1880, pkg/controller/servicecidrs, pkg/controlplane/controller/defaultservicecidr.

use std::net::IpAddr;

use ipnet::IpNet;
use mvcc::Txn;
use serde_json::{Value, json};

use super::{Allocator, claims::ADDRESSES, is_inside};
use crate::{registry, resources::meta, server::timestamp};

pub(crate) const DEFAULT: &str = "kubernetes";
const FINALIZER: &str = "networking.k8s.io/service-cidr-finalizer";
const RANGES: (&str, &str) = ("networking.k8s.io", "servicecidrs");

/// A new range can be used at once; upstream's controller says so a moment later.
pub(crate) fn prepare(range: &mut Value, now: &str) {
    let finalizers = range["metadata"]["finalizers"].as_array().cloned().unwrap_or_default();
    if !finalizers.iter().any(|it| it == FINALIZER) {
        let all: Vec<Value> = finalizers.into_iter().chain([FINALIZER.into()]).collect();
        range["metadata"]["finalizers"] = all.into();
    }
    let message = if meta(range, "name") == DEFAULT {
        "Kubernetes default Service CIDR is ready"
    } else {
        "Kubernetes Service CIDR is ready"
    };
    range["status"] = json!({"conditions": [condition("True", "", message, now)]});
}

fn condition(status: &str, reason: &str, message: &str, now: &str) -> Value {
    json!({
        "type": "Ready", "status": status, "reason": reason, "message": message,
        "lastTransitionTime": now,
    })
}

fn cidrs(range: &Value) -> impl Iterator<Item = IpNet> {
    let all = range["spec"]["cidrs"].as_array().into_iter().flatten();
    all.filter_map(|it| it.as_str()?.parse().ok())
}

fn is_going(range: &Value) -> bool {
    !meta(range, "deletionTimestamp").is_empty()
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
            if !is_going(&range) {
                let same = cidrs(&range).filter(|it| is_ipv4(it) == is_ipv4(&self.cidr));
                ranges.extend(same.filter(|it| *it != self.cidr));
            }
        }
        ranges
    }

    /// Lets go of deleted ranges that nobody needs, and says of the others why they stay.
    pub(crate) async fn let_ranges_go(&self) -> Result<(), mvcc::CommitError> {
        let usable = self.ranges();
        for record in self.store.scan(&registry::prefix(RANGES.0, RANGES.1, "")) {
            let mut range = registry::decode(&record);
            let has_finalizer = range["metadata"]["finalizers"]
                .as_array()
                .is_some_and(|it| it.iter().any(|it| it == FINALIZER));
            if !is_going(&range) || !has_finalizer {
                continue;
            }
            let txn = if self.has_orphans(&range, &usable) {
                const WHY: &str = "There are still IPAddresses referencing the ServiceCIDR, please \
                                   remove them or create a new ServiceCIDR";
                if range["status"]["conditions"][0]["reason"] == "Terminating" {
                    continue;
                }
                let now = timestamp(self.clock.now());
                let condition = condition("False", "Terminating", WHY, &now);
                range["status"] = json!({ "conditions": [condition] });
                Txn::update(&*record.key, record.mod_revision, registry::encode(&range))
            } else {
                let left = range["metadata"]["finalizers"].as_array().cloned().unwrap_or_default();
                let left: Vec<Value> = left.into_iter().filter(|it| it != FINALIZER).collect();
                if left.is_empty() {
                    Txn::delete(&*record.key, record.mod_revision)
                } else {
                    range["metadata"]["finalizers"] = left.into();
                    Txn::update(&*record.key, record.mod_revision, registry::encode(&range))
                }
            };
            match self.store.commit(txn).await {
                // Whoever changed it meanwhile is looked at the next time.
                Ok(_) | Err(mvcc::CommitError::Conflict { .. }) => {}
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }

    /// Whether an address that is in use is in this range and in no usable one.
    fn has_orphans(&self, range: &Value, usable: &[IpNet]) -> bool {
        let own: Vec<IpNet> = cidrs(range).collect();
        let taken = self.store.scan(&registry::prefix(ADDRESSES.0, ADDRESSES.1, ""));
        let mut taken = taken.iter().filter_map(|it| it.key.rsplit('/').next()?.parse().ok());
        taken.any(|address: IpAddr| {
            own.iter().any(|it| is_inside(*it, address))
                && !usable.iter().any(|it| is_inside(*it, address))
        })
    }
}
