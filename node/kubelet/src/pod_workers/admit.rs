//! Admission as a worker does it: asks, and makes room for a critical pod.

use std::{collections::BTreeMap, path::Path, sync::Arc};

use k8s_openapi::api::core::v1::Pod;

use super::worker::Worker;
use crate::{
    admission::{self, Ground, Lack, Refusal, preemption},
    node, node_admission,
    pod::PodExt,
    status::Verdict,
    timeline::Phase,
};

pub(super) enum Admission {
    Admitted,
    /// Others are being ended for this pod.
    Waiting,
    Refused(Verdict),
}

impl Worker {
    pub(super) async fn admit(&mut self, pod: &Arc<Pod>) -> Admission {
        let context = self.context.clone();
        // A pod that already has a start time was admitted by an earlier run of this kubelet.
        let was_admitted = pod.status.as_ref().is_some_and(|it| it.start_time.is_some());
        let fits = |ground: &Ground<'_>| admission::fits_node(pod, ground);
        if !was_admitted && !context.settings.is_standalone && !self.on_ground(fits) {
            // The scheduler may know of labels that the watch has not brought yet.
            context.node_object.refresh(&context.client, &context.settings.node_name).await;
        }
        // What one pod is given another one must not be.
        let _turn = context.cm.turn().await;
        let refusal = if was_admitted { None } else { self.refusal(pod) };
        match refusal {
            None => {
                if let Err(error) = context.cm.allocate(pod).await {
                    let verdict = Verdict::rejected(error.reason(), error.to_string());
                    return Admission::Refused(verdict);
                }
                self.preempted.clear();
                self.inbox.set_waits_for_room(false);
                if was_admitted {
                    self.context.allocations.adopt(pod);
                } else {
                    self.context.allocations.allocate(pod);
                    self.context.timelines.note(&pod.uid(), Phase::Admitted, "");
                }
                self.inbox.set_admitted(true);
                self.workers.update_qos();
                Admission::Admitted
            }
            Some(Refusal::Final(verdict)) => Admission::Refused(verdict),
            Some(Refusal::Lacks(lacks)) if pod.is_critical() => self.make_room(pod, &lacks),
            Some(Refusal::Lacks(lacks)) => Admission::Refused(lacks[0].verdict()),
        }
    }

    fn refusal(&self, pod: &Arc<Pod>) -> Option<Refusal> {
        let pressure = *self.context.pressure.borrow();
        let is_shutting_down = *self.context.is_shutting_down.borrow();
        if let Err(verdict) = node_admission::check(pod, pressure, is_shutting_down) {
            return Some(Refusal::Final(verdict));
        }
        let others = self.workers.admitted(&pod.uid());
        self.on_ground(|ground| admission::check(pod, &others, ground)).err()
    }

    /// Asks something of the node as it is now.
    pub(super) fn on_ground<T>(&self, ask: impl FnOnce(&Ground<'_>) -> T) -> T {
        let context = &self.context;
        let known = context.node_object.known();
        let labels = match &known {
            Some(known) => known.labels.clone(),
            None => node::labels(&context.settings, &context.machine),
        };
        let none = BTreeMap::new();
        let can_be_strict =
            context.handlers.borrow().as_ref().is_some_and(|it| it.supplemental_groups_policy);
        ask(&Ground {
            config: &context.settings.config,
            machine: &context.machine,
            labels: &labels,
            taints: known.as_ref().map_or(&[], |it| it.taints.as_slice()),
            extended: known.as_ref().map_or(&none, |it| &it.extended),
            has_apparmor: has_apparmor(&context.settings.sys),
            has_groups_policy: can_be_strict,
        })
    }

    fn make_room(&mut self, pod: &Arc<Pod>, lacks: &[Lack]) -> Admission {
        self.preempted.retain(|uid| self.workers.is_holding(uid));
        if !self.preempted.is_empty() {
            return Admission::Waiting;
        }
        let others = self.workers.admitted(&pod.uid());
        let victims = match preemption::victims(pod, &others, lacks) {
            Ok(victims) => victims,
            Err(error) => {
                let message = format!(
                    "Unexpected error while attempting to recover from admission failure: preemption: error finding a set of pods to preempt: {error}"
                );
                return Admission::Refused(Verdict::rejected("UnexpectedAdmissionError", message));
            }
        };
        self.inbox.set_waits_for_room(true);
        let signal = lacks.first().map_or("", |it| it.resource.as_str());
        for victim in victims {
            let labels = [("preemption_signal", signal)];
            self.context.metrics.add("kubelet_preemptions", &labels, 1.0);
            let verdict = preemption::verdict();
            let recorder = &self.context.recorder;
            recorder.warning(&victim, preemption::REASON, verdict.message.clone());
            self.workers.evict(&victim.uid(), verdict, None);
            self.preempted.push(victim.uid());
        }
        Admission::Waiting
    }
}

fn has_apparmor(sys: &Path) -> bool {
    let enabled = std::fs::read_to_string(sys.join("module/apparmor/parameters/enabled"));
    enabled.is_ok_and(|it| it.starts_with('Y'))
}
