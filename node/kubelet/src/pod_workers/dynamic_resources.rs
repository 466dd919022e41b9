//! The dynamic resources of a pod, as its worker sees to them.
//!
//! Upstream: `SyncPod` in `kuberuntime_manager.go`, `SyncTerminatingPod` in `kubelet.go`.

use k8s_openapi::api::core::v1::Pod;
use tracing::warn;

use super::worker::Worker;
use crate::{
    cm::dra::DraError,
    pod::PodExt,
    timeline::{Begun, Phase},
};

impl Worker {
    /// No sandbox is made for a pod whose claims are not ready.
    pub(super) fn fail_prepare<T>(&self, pod: &Pod, begun: &Begun, error: &DraError) -> Option<T> {
        let message =
            format!("Failed to prepare dynamic resources: prepare dynamic resources: {error}");
        let step = begun.ended(Phase::Sandbox).failed("PrepareDynamicResources", &message);
        self.context.timelines.add(&pod.uid(), step);
        self.context.recorder.warning(pod, "FailedPrepareDynamicResources", message);
        None
    }

    /// Gives a pod's claims back, when its containers have ended. Says whether it worked.
    pub(super) async fn unprepare(&self, pod: &Pod) -> bool {
        match self.context.cm.dra.unprepare(&pod.uid()).await {
            Ok(()) => true,
            Err(error) => {
                let pod = pod.full_name();
                warn!(pod, %error, "the dynamic resources of a pod were not unprepared");
                false
            }
        }
    }
}
