//! How many volumes of CSI drivers nodes may have attached.
//!
//! To the solver a driver's volumes are a resource: a node that there is has as much of it as its
//! CSINode says, one that says nothing has enough, and so has any new node, whose driver has not spoken
//! yet. A volume that several pods of a node use counts once there; of pods that wait each brings its
//! own. Upstream: `pkg/scheduling/volumeusage.go`.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use k8s_openapi::api::{core::v1 as core, storage::v1::StorageClass};
use resources::Amounts;

use super::Snapshot;

/// How such a resource is named.
const PREFIX: &str = "attachable-volumes-csi-";
/// More volumes than anything has.
pub(crate) const ENOUGH: i64 = 1 << 40;

/// Whether a resource is a driver's volumes.
pub(crate) fn is_attachment(resource: &str) -> bool {
    resource.starts_with(PREFIX)
}

/// What is known of the volumes of drivers that limit some node.
pub(super) struct Attachments<'a> {
    /// By driver and node.
    limits: BTreeMap<&'a str, HashMap<&'a str, i64>>,
    claims: HashMap<(&'a str, &'a str), &'a core::PersistentVolumeClaim>,
    volumes: HashMap<&'a str, &'a core::PersistentVolume>,
    classes: &'a [StorageClass],
}

impl<'a> Attachments<'a> {
    /// Of all pods, or of one; `None`: no node is limited.
    pub(super) fn new(snapshot: &'a Snapshot, of: Option<&core::Pod>) -> Option<Self> {
        let mut limits: BTreeMap<&str, HashMap<&str, i64>> = BTreeMap::new();
        for node in &snapshot.csi_nodes {
            let name = node.metadata.name.as_deref().unwrap_or_default();
            for driver in &node.spec.drivers {
                if let Some(count) = driver.allocatable.as_ref().and_then(|it| it.count) {
                    limits.entry(driver.name.as_str()).or_default().insert(name, i64::from(count));
                }
            }
        }
        if limits.is_empty() {
            return None;
        }
        let is_meant = |namespace: &str, name: &str| {
            of.is_none_or(|pod| {
                namespace_of(pod) == namespace && claims_of(pod).any(|it| it.0 == name)
            })
        };
        let claims = snapshot.volume_claims.iter().filter_map(|it| {
            let key = (it.metadata.namespace.as_deref()?, it.metadata.name.as_deref()?);
            is_meant(key.0, key.1).then_some((key, it))
        });
        let claims: HashMap<(&str, &str), _> = claims.collect();
        let bound: BTreeSet<&str> = claims.values().filter_map(|it| volume_of(it)).collect();
        let volumes = snapshot.volumes.iter().filter_map(|it| {
            let name = it.metadata.name.as_deref()?;
            bound.contains(name).then_some((name, it))
        });
        let volumes = volumes.collect();
        Some(Self { limits, claims, volumes, classes: &snapshot.storage_classes })
    }

    /// A pod's volumes of such drivers: the driver, and what tells one from another.
    fn of(&self, pod: &core::Pod) -> BTreeSet<(String, String)> {
        let namespace = namespace_of(pod);
        let each = claims_of(pod).filter_map(|(name, class)| {
            let claim = self.claims.get(&(namespace, name.as_str()));
            if let Some(volume) = claim.and_then(|it| volume_of(it)) {
                let csi = self.volumes.get(volume)?.spec.as_ref()?.csi.as_ref()?;
                return Some((csi.driver.clone(), csi.volume_handle.clone()));
            }
            let spec = claim.and_then(|it| it.spec.as_ref());
            let class = spec.and_then(|it| it.storage_class_name.clone()).or(class)?;
            let mut classes = self.classes.iter();
            let class = classes.find(|it| it.metadata.name.as_ref() == Some(&class))?;
            Some((class.provisioner.clone(), format!("{namespace}/{name}")))
        });
        each.filter(|(driver, _)| self.limits.contains_key(driver.as_str())).collect()
    }

    /// Adds a pod's volumes to what it requests.
    pub(super) fn request(&self, pod: &core::Pod, requests: &mut Amounts) {
        for (driver, _) in self.of(pod) {
            *requests.scalars.entry(format!("{PREFIX}{driver}")).or_default() += 1;
        }
    }

    /// Adds to what a node has how many volumes it may have, whatever its pods share.
    pub(super) fn allow(&self, node: &str, pods: &[&core::Pod], allocatable: &mut Amounts) {
        for (driver, limits) in &self.limits {
            let name = format!("{PREFIX}{driver}");
            let limit = limits.get(node).map(|limit| {
                let each = pods.iter().flat_map(|it| self.of(it));
                let all: Vec<_> = each.filter(|(of, _)| of == driver).collect();
                let several = all.len() - all.iter().collect::<BTreeSet<_>>().len();
                limit + i64::try_from(several).unwrap_or(0)
            });
            allocatable.set(&name, limit.unwrap_or(ENOUGH));
        }
    }
}

fn namespace_of(pod: &core::Pod) -> &str {
    pod.metadata.namespace.as_deref().unwrap_or_default()
}

fn volume_of(claim: &core::PersistentVolumeClaim) -> Option<&str> {
    claim.spec.as_ref()?.volume_name.as_deref().filter(|it| !it.is_empty())
}

/// The names of the claims that a pod uses, with the class of those that are made with it.
fn claims_of(pod: &core::Pod) -> impl Iterator<Item = (String, Option<String>)> {
    let volumes = pod.spec.as_ref().and_then(|it| it.volumes.as_deref()).unwrap_or_default();
    let pod = pod.metadata.name.as_deref().unwrap_or_default();
    volumes.iter().filter_map(move |volume| {
        if let Some(claim) = &volume.persistent_volume_claim {
            return Some((claim.claim_name.clone(), None));
        }
        let template = volume.ephemeral.as_ref()?.volume_claim_template.as_ref()?;
        let name = format!("{pod}-{}", volume.name);
        Some((name, template.spec.storage_class_name.clone()))
    })
}
