//! How many volumes the pods of this node are to have, and have: `volume_manager_total_volumes`.
//!
//! Upstream: `pkg/kubelet/volumemanager/metrics`.

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::{Pod, Volume};

use super::{Made, Source, Used, Volumes, payload, spec};
use crate::pod::PodExt;

const WANTED: &str = "desired_state_of_world";
const HAD: &str = "actual_state_of_world";

/// By plug-in and state.
pub(crate) type Totals = BTreeMap<(String, &'static str), u32>;

impl Volumes {
    pub(crate) fn totals(&self, pods: &[Pod]) -> Totals {
        let (all, mut totals) = (self.made.lock(), Totals::new());
        for pod in pods {
            count(pod, all.get(&pod.uid()), &mut totals);
        }
        totals
    }
}

/// A claim that has led to nothing yet is of no plug-in.
fn count(pod: &Pod, made: Option<&BTreeMap<String, Made>>, totals: &mut Totals) {
    let used = Used::by(pod);
    for volume in PodExt::spec(pod).volumes.iter().flatten().filter(|it| used.has(&it.name)) {
        let found = made.and_then(|it| it.get(&volume.name));
        let plugin = match found {
            Some(made) => Some(plugin(&made.spec.source, volume)),
            None if volume.persistent_volume_claim.is_some() || volume.ephemeral.is_some() => None,
            None => spec::of(pod, volume, None, &used).ok().map(|it| plugin(&it.source, volume)),
        };
        let Some(plugin) = plugin else { continue };
        if found.is_some() {
            *totals.entry((plugin.clone(), HAD)).or_default() += 1;
        }
        if !pod.is_terminating() {
            *totals.entry((plugin, WANTED)).or_default() += 1;
        }
    }
}

/// Upstream's name of a plug-in; that of a driver has the driver's behind it.
pub(super) fn plugin(source: &Source, volume: &Volume) -> String {
    let name = match source {
        Source::HostPath(_) => "host-path",
        Source::EmptyDir(_) => "empty-dir",
        Source::Payload => payload::plugin(volume).unwrap_or_default().name,
        Source::Local(_) => "local-volume",
        Source::Nfs(_) => "nfs",
        Source::Csi(it) => return format!("kubernetes.io/csi:{}", it.driver),
        Source::Image(_) => "image",
    };
    format!("kubernetes.io/{name}")
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn volumes_that_are_wanted_and_had_are_told_by_plugin_and_unused_ones_are_not() {
        let mounts = ["e", "c", "p"].map(|it| json!({ "name": it, "mountPath": it }));
        let pod: Pod = serde_json::from_value(json!({
            "metadata": { "uid": "u" },
            "spec": {
                "containers": [{ "name": "c", "volumeMounts": mounts }],
                "volumes": [
                    { "name": "e", "emptyDir": {} },
                    { "name": "c", "csi": { "driver": "d" } },
                    { "name": "p", "persistentVolumeClaim": { "claimName": "x" } },
                    { "name": "unused", "secret": { "secretName": "s" } },
                ],
            },
        }))
        .unwrap();
        let volumes = pod.spec.as_ref().unwrap().volumes.as_ref().unwrap();
        let spec = spec::of(&pod, &volumes[0], None, &Used::default()).unwrap();
        let (path, image, refresh_at, stale) = Default::default();
        let made = Made { spec: Box::new(spec), path, image, refresh_at, stale };
        let mut totals = Totals::new();
        count(&pod, Some(&[("e".to_owned(), made)].into()), &mut totals);
        let wanted = [
            (("kubernetes.io/csi:d".to_owned(), WANTED), 1),
            (("kubernetes.io/empty-dir".to_owned(), HAD), 1),
            (("kubernetes.io/empty-dir".to_owned(), WANTED), 1),
        ];
        assert_eq!(totals, wanted.into());
    }
}
