//! How many volumes of each CSI driver a node may have attached.
//!
//! A volume counts once per node, however many pods use it there, and also while it is attached though
//! no pod needs it any more. A driver without a limit on a node (`CSINode`) is not counted there.
//!
//! Upstream: `nodevolumelimits/csi.go`. Deviation: volumes of in-tree plug-ins that were moved to drivers
//! are not counted.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use crate::NodeInfo;

/// A volume, by its driver and the driver's name for it.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct CsiVolume {
    pub driver: String,
    pub handle: String,
}

/// What is known when a pod with such volumes is scheduled.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct CsiFact {
    /// The pod's own.
    pub wanted: BTreeSet<CsiVolume>,
    /// Those of the claims in the cluster, by namespace and name.
    pub volumes: HashMap<(String, String), CsiVolume>,
    /// By node and driver.
    pub limits: HashMap<String, BTreeMap<String, usize>>,
    /// By node: what is attached, or about to be.
    pub attached: HashMap<String, BTreeSet<CsiVolume>>,
}

impl CsiFact {
    /// Whether a node would have more of some driver's volumes than it may. Drivers of which the pod
    /// brings nothing new are not asked.
    pub(crate) fn exceeds(&self, node: &NodeInfo) -> bool {
        let Some(limits) = self.limits.get(&node.name) else { return false };
        let is_limited = |it: &&CsiVolume| limits.contains_key(&it.driver);
        if !self.wanted.iter().any(|it| is_limited(&it)) {
            return false;
        }
        let there = self.on(node);
        limits.iter().any(|(driver, limit)| {
            let of_driver = |it: &&&CsiVolume| it.driver == *driver;
            let new = self.wanted.iter().filter(|it| !there.contains(*it));
            let new = new.filter(|it| it.driver == *driver).count();
            new > 0 && there.iter().filter(of_driver).count() + new > *limit
        })
    }

    fn on<'a>(&'a self, node: &'a NodeInfo) -> BTreeSet<&'a CsiVolume> {
        let of_pods = node.pods().filter(|it| !it.claims.is_empty()).flat_map(|pod| {
            let key = |claim: &String| (pod.namespace.clone(), claim.clone());
            pod.claims.iter().filter_map(move |it| self.volumes.get(&key(it)))
        });
        of_pods.chain(self.attached.get(&node.name).into_iter().flatten()).collect()
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::{
        Cluster, PodInfo, Reason, Verdict, filter_node,
        testing::{node, placed, pod},
    };

    fn volume(handle: &str) -> CsiVolume {
        CsiVolume { driver: "disk".into(), handle: handle.into() }
    }

    fn uses(claim: &str) -> String {
        serde_json::json!({ "volumes": [{ "name": "v",
            "persistentVolumeClaim": { "claimName": claim } }] })
        .to_string()
    }

    fn asks(fact: &CsiFact, wanted: &[&str]) -> PodInfo {
        let wanted = wanted.iter().map(|it| volume(it)).collect();
        PodInfo { csi: Some(Arc::new(CsiFact { wanted, ..fact.clone() })), ..pod("{}") }
    }

    #[test]
    fn a_volume_counts_once_and_a_node_takes_as_many_as_its_driver_allows() {
        let mut cluster = Cluster::default();
        cluster.set_node(&node("n", "4", "8Gi", 10));
        cluster.set_pod("n", placed("p", &uses("one")));
        cluster.set_pod("n", placed("q", &uses("one")));
        let claim = |it: &str| (("default".to_owned(), it.to_owned()), volume(it));
        let fact = CsiFact {
            volumes: [claim("one"), claim("two")].into(),
            limits: [("n".to_owned(), [("disk".to_owned(), 2)].into())].into(),
            ..CsiFact::default()
        };
        let verdict = |cluster: &Cluster, fact: &CsiFact, wanted: &[&str]| {
            filter_node(cluster, &asks(fact, wanted), "n").unwrap()
        };
        let full = Verdict::Refused(vec![Reason::TooManyVolumes]);
        assert_eq!(verdict(&cluster, &fact, &["two"]), Verdict::Fits);
        assert_eq!(verdict(&cluster, &fact, &["two", "three"]), full);
        assert_eq!(verdict(&cluster, &fact, &["one", "two"]), Verdict::Fits, "one is there");
        let attached = [("n".to_owned(), [volume("old")].into())].into();
        let fact = CsiFact { attached, ..fact };
        assert_eq!(verdict(&cluster, &fact, &["two"]), full);
        assert_eq!(verdict(&cluster, &fact, &["old"]), Verdict::Fits);
        cluster.remove_pod("p");
        cluster.remove_pod("q");
        assert_eq!(verdict(&cluster, &fact, &["two"]), Verdict::Fits);
        let other = CsiVolume { driver: "tape".into(), handle: "x".into() };
        let unlimited = CsiFact { wanted: [other].into(), ..fact };
        let pod = PodInfo { csi: Some(Arc::new(unlimited)), ..pod("{}") };
        assert_eq!(filter_node(&cluster, &pod, "n"), Some(Verdict::Fits));
    }

    #[test]
    fn a_claim_for_one_pod_at_a_time_keeps_the_next_from_every_node() {
        let mut cluster = Cluster::default();
        cluster.set_node(&node("a", "4", "8Gi", 10));
        cluster.set_node(&node("b", "4", "8Gi", 10));
        cluster.set_pod("a", placed("p", &uses("data")));
        let next = PodInfo { exclusive_claims: vec!["data".into()], ..pod(&uses("data")) };
        let refused = Some(Verdict::Refused(vec![Reason::ClaimInUse]));
        for node in ["a", "b"] {
            assert_eq!(filter_node(&cluster, &next, node), refused);
        }
        let elsewhere = PodInfo { namespace: "other".into(), ..next.clone() };
        assert_eq!(filter_node(&cluster, &elsewhere, "b"), Some(Verdict::Fits));
        cluster.remove_pod("p");
        assert_eq!(filter_node(&cluster, &next, "b"), Some(Verdict::Fits));
    }
}
