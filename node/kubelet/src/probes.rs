//! Startup, liveness and readiness probes.
//!
//! Each probe of a running container has a task of its own; what it finds goes into one table, and
//! the pod's worker is woken when an answer changes. The decisions that follow from the answers are
//! the plan's and the status's.
//!
//! Upstream: `pkg/kubelet/prober`.
//!
//! **Invariant:** a container that has no probe of a kind passes it.
//!
//! A container that the API says has started is not asked again whether it has.
//!
//! Deviation: after a restart of the kubelet a container that the API says is ready stays ready until
//! its probe says otherwise; upstream takes it out of Services for a moment.

pub(crate) mod attempt;
mod exchange;
mod grpc;
mod host;
pub(crate) mod http;
mod thresholds;
mod worker;

use std::{collections::HashMap, sync::Arc};

use k8s_openapi::api::core::v1::{Container, Pod, Probe};
use lifecycle::Scope;
use parking_lot::Mutex;
use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;

use crate::{
    context::Context,
    observed::{RuntimeContainer, RuntimePod},
    plan::{ProbeFailure, ProbeState, ProbeStates},
    pod::{Kind, PodExt, PodUid},
    pod_workers::PodWorkers,
};

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum ProbeKind {
    Startup,
    Liveness,
    Readiness,
}

impl ProbeKind {
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Startup => "startup",
            Self::Liveness => "liveness",
            Self::Readiness => "readiness",
        }
    }

    /// As it begins a sentence.
    pub(crate) fn title(self) -> &'static str {
        match self {
            Self::Startup => "Startup",
            Self::Liveness => "Liveness",
            Self::Readiness => "Readiness",
        }
    }

    pub(crate) fn of(self, container: &Container) -> Option<&Probe> {
        match self {
            Self::Startup => container.startup_probe.as_ref(),
            Self::Liveness => container.liveness_probe.as_ref(),
            Self::Readiness => container.readiness_probe.as_ref(),
        }
    }
}

struct Followed {
    uid: PodUid,
    has_startup: bool,
    has_readiness: bool,
    is_started: bool,
    is_ready: bool,
    failure: Option<ProbeFailure>,
    token: CancellationToken,
}

#[derive(Default)]
pub(crate) struct Probes {
    followed: Mutex<HashMap<String, Followed>>,
    /// A startup probe has succeeded.
    started: Notify,
}

impl Probes {
    /// The answers for the containers that run.
    pub(crate) fn states(&self, observed: &RuntimePod) -> ProbeStates {
        let followed = self.followed.lock();
        let state = |it: &RuntimeContainer| match followed.get(&it.id) {
            None => ProbeState { is_started: true, is_ready: true, failure: None },
            Some(known) => {
                let is_started = !known.has_startup || known.is_started;
                ProbeState {
                    is_started,
                    is_ready: is_started && (!known.has_readiness || known.is_ready),
                    failure: known.failure.clone(),
                }
            }
        };
        let running = observed.containers.iter().filter(|it| it.is_running());
        running.map(|it| (it.id.clone(), state(it))).collect()
    }

    /// Starts the probes of containers that have begun to run, ends those of containers that do not.
    pub(crate) fn follow(
        self: &Arc<Self>,
        pod: &Arc<Pod>,
        observed: &RuntimePod,
        workers: &Arc<PodWorkers>,
    ) {
        let uid = pod.uid();
        let running: Vec<_> = observed.containers.iter().filter(|it| it.is_running()).collect();
        self.followed.lock().retain(|id, it| {
            let stays = it.uid != uid || running.iter().any(|now| now.id == *id);
            if !stays {
                it.token.cancel();
            }
            stays
        });
        for container in running {
            if self.followed.lock().contains_key(&container.id) {
                continue;
            }
            let Some((kind, spec)) = pod.find_container(&container.name) else { continue };
            if matches!(kind, Kind::Regular | Kind::Sidecar) {
                self.begin(pod, &spec, container, workers);
            }
        }
    }

    fn begin(
        self: &Arc<Self>,
        pod: &Arc<Pod>,
        spec: &Container,
        container: &RuntimeContainer,
        workers: &Arc<PodWorkers>,
    ) {
        let kinds = [ProbeKind::Startup, ProbeKind::Liveness, ProbeKind::Readiness];
        let mut kinds: Vec<_> = kinds.into_iter().filter(|it| it.of(spec).is_some()).collect();
        if kinds.is_empty() {
            return;
        }
        // All probes of a container share what they are about.
        let container_spec = Arc::new(spec.clone());
        let context = workers.context();
        let earlier = earlier(context, pod, container);
        if earlier.is_started {
            // What has started once is never asked again whether it has.
            kinds.retain(|it| *it != ProbeKind::Startup);
        }
        let token = CancellationToken::new();
        let followed = Followed {
            uid: pod.uid(),
            has_startup: spec.startup_probe.is_some(),
            has_readiness: spec.readiness_probe.is_some(),
            is_started: earlier.is_started,
            is_ready: earlier.is_ready,
            failure: None,
            token: token.clone(),
        };
        self.followed.lock().insert(container.id.clone(), followed);
        for kind in kinds {
            let task = worker::Task {
                probes: self.clone(),
                workers: workers.clone(),
                context: context.clone(),
                uid: pod.uid(),
                container: container_spec.clone(),
                id: container.id.clone(),
                started: started(container),
                kind,
            };
            let (token, run) = (token.clone(), Box::pin(task.run()));
            let run = async move { token.run_until_cancelled(run).await };
            drop(Scope::clone(&context.scope).spawn("probe", run));
        }
    }

    pub(crate) fn forget(&self, uid: &PodUid) {
        self.followed.lock().retain(|_, it| {
            if it.uid == *uid {
                it.token.cancel();
            }
            it.uid != *uid
        });
    }

    fn is_started(&self, id: &str) -> bool {
        self.followed.lock().get(id).is_some_and(|it| !it.has_startup || it.is_started)
    }

    /// Ends when a container's startup probe has succeeded, or at once where it has none.
    async fn until_started(&self, id: &str) {
        loop {
            let started = self.started.notified();
            if self.is_started(id) {
                return;
            }
            started.await;
        }
    }

    /// Notes an answer. Says whether it is a new one.
    fn note(&self, id: &str, kind: ProbeKind, answer: bool, probe: &Probe) -> bool {
        let mut followed = self.followed.lock();
        let Some(it) = followed.get_mut(id) else { return false };
        let failure = || {
            let grace = probe.termination_grace_period_seconds;
            let grace = grace.and_then(|it| u64::try_from(it).ok());
            ProbeFailure { kind: kind.name(), grace: grace.map(std::time::Duration::from_secs) }
        };
        match kind {
            ProbeKind::Readiness => std::mem::replace(&mut it.is_ready, answer) != answer,
            ProbeKind::Startup if answer => {
                self.started.notify_waiters();
                !std::mem::replace(&mut it.is_started, true)
            }
            ProbeKind::Liveness if answer => it.failure.take().is_some(),
            _ => it.failure.replace(failure()).is_none(),
        }
    }
}

fn started(container: &RuntimeContainer) -> jiff::Timestamp {
    match container.state {
        crate::observed::State::Running { started } => started,
        _ => container.created,
    }
}

/// What the API already says of this very container.
fn earlier(context: &Context, pod: &Pod, container: &RuntimeContainer) -> ProbeState {
    let status = context.statuses.get(&pod.uid()).unwrap_or_default();
    let lists = [status.container_statuses, status.init_container_statuses];
    let mut told = lists.into_iter().flatten().flatten();
    let told = told.find(|it| {
        let id = it.container_id.as_deref().and_then(|id| id.rsplit('/').next());
        id == Some(&container.id)
    });
    told.map_or_else(ProbeState::default, |it| ProbeState {
        is_started: it.started == Some(true),
        is_ready: it.ready,
        failure: None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::observed::{State, sorted};

    #[test]
    fn a_container_with_a_startup_probe_is_not_ready_before_it_has_started() {
        let probes = Probes::default();
        let followed = Followed {
            uid: PodUid("u".to_owned()),
            has_startup: true,
            has_readiness: false,
            is_started: false,
            is_ready: false,
            failure: None,
            token: CancellationToken::new(),
        };
        probes.followed.lock().insert("c".to_owned(), followed);
        let container = RuntimeContainer {
            id: "c".to_owned(),
            sandbox_id: String::new(),
            name: "c".to_owned(),
            restart_count: 0,
            hash: String::new(),
            image: String::new(),
            image_ref: String::new(),
            created: jiff::Timestamp::UNIX_EPOCH,
            state: State::Running { started: jiff::Timestamp::UNIX_EPOCH },
            message_path: None,
            log_path: String::new(),
            stop_signal: None,
            user: None,
            recursive_read_only: Default::default(),
        };
        let observed = sorted(Vec::new(), vec![container]);
        let state = || probes.states(&observed)["c"].clone();
        assert!(!state().is_ready && !state().is_started);
        assert!(probes.note("c", ProbeKind::Startup, true, &Probe::default()));
        assert!(state().is_ready && state().is_started);
        assert!(probes.note("c", ProbeKind::Liveness, false, &Probe::default()));
        assert_eq!(state().failure.unwrap().kind, "liveness");
    }
}
