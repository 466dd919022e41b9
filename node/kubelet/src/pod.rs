//! Questions about a `Pod` object that every part of the kubelet asks.

use std::fmt;

use k8s_openapi::api::core::v1::{Container, EphemeralContainer, Pod, PodSpec};
use serde::{Deserialize, Serialize};

/// A pod's `metadata.uid`.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub(crate) struct PodUid(pub String);

impl fmt::Display for PodUid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// Which of the three lists of a pod a container is in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    /// Runs to completion before the others start.
    Init,
    /// An init container with `restartPolicy: Always`.
    Sidecar,
    Regular,
    Ephemeral,
}

pub(crate) trait PodExt {
    fn uid(&self) -> PodUid;
    fn name(&self) -> &str;
    fn namespace(&self) -> &str;
    fn spec(&self) -> &PodSpec;
    /// `name_namespace(uid)`, upstream's way to name a pod in messages.
    fn full_name(&self) -> String;
    fn restart_policy(&self) -> RestartPolicy;
    fn is_host_network(&self) -> bool;
    fn is_terminating(&self) -> bool;
    fn annotation(&self, key: &str) -> Option<&str>;
    fn grace_seconds(&self) -> i64;
    /// All containers: init, regular, ephemeral, in this order.
    fn all_containers(&self) -> Vec<(Kind, Container)>;
    fn find_container(&self, name: &str) -> Option<(Kind, Container)>;
    fn is_mirror_or_static(&self) -> bool;
    fn is_critical(&self) -> bool;
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum RestartPolicy {
    Always,
    OnFailure,
    Never,
}

impl RestartPolicy {
    pub(crate) fn parse(text: Option<&str>) -> Self {
        match text {
            Some("Never") => Self::Never,
            Some("OnFailure") => Self::OnFailure,
            _ => Self::Always,
        }
    }
}

/// The annotation that says which source a pod came from (`file` for static pods).
pub(crate) const SOURCE_ANNOTATION: &str = "kubernetes.io/config.source";
pub(crate) const HASH_ANNOTATION: &str = "kubernetes.io/config.hash";
pub(crate) const MIRROR_ANNOTATION: &str = "kubernetes.io/config.mirror";

impl PodExt for Pod {
    fn uid(&self) -> PodUid {
        PodUid(self.metadata.uid.clone().unwrap_or_default())
    }

    fn name(&self) -> &str {
        self.metadata.name.as_deref().unwrap_or_default()
    }

    fn namespace(&self) -> &str {
        self.metadata.namespace.as_deref().unwrap_or("default")
    }

    fn spec(&self) -> &PodSpec {
        static EMPTY: std::sync::LazyLock<PodSpec> = std::sync::LazyLock::new(PodSpec::default);
        self.spec.as_ref().unwrap_or(&EMPTY)
    }

    fn full_name(&self) -> String {
        format!("{}_{}({})", self.name(), self.namespace(), self.uid())
    }

    fn restart_policy(&self) -> RestartPolicy {
        RestartPolicy::parse(PodExt::spec(self).restart_policy.as_deref())
    }

    fn is_host_network(&self) -> bool {
        PodExt::spec(self).host_network.unwrap_or(false)
    }

    fn is_terminating(&self) -> bool {
        self.metadata.deletion_timestamp.is_some()
    }

    fn annotation(&self, key: &str) -> Option<&str> {
        self.metadata.annotations.as_ref()?.get(key).map(String::as_str)
    }

    fn grace_seconds(&self) -> i64 {
        let spec = PodExt::spec(self).termination_grace_period_seconds.unwrap_or(30);
        self.metadata.deletion_grace_period_seconds.unwrap_or(spec).max(0)
    }

    fn all_containers(&self) -> Vec<(Kind, Container)> {
        let spec = PodExt::spec(self);
        let init = spec.init_containers.iter().flatten().map(|it| (init_kind(it), it.clone()));
        let regular = spec.containers.iter().map(|it| (Kind::Regular, it.clone()));
        let ephemeral = spec.ephemeral_containers.iter().flatten();
        init.chain(regular)
            .chain(ephemeral.map(|it| (Kind::Ephemeral, from_ephemeral(it))))
            .collect()
    }

    fn find_container(&self, name: &str) -> Option<(Kind, Container)> {
        self.all_containers().into_iter().find(|(_, it)| it.name == name)
    }

    fn is_mirror_or_static(&self) -> bool {
        self.annotation(MIRROR_ANNOTATION).is_some()
            || matches!(self.annotation(SOURCE_ANNOTATION), Some(it) if it != "api")
    }

    fn is_critical(&self) -> bool {
        self.is_mirror_or_static()
            || PodExt::spec(self).priority.is_some_and(|it| it >= SYSTEM_CRITICAL_PRIORITY)
    }
}

/// `system-cluster-critical`; `system-node-critical` is 1,000 higher.
const SYSTEM_CRITICAL_PRIORITY: i32 = 2_000_000_000;

pub(crate) fn init_kind(container: &Container) -> Kind {
    match container.restart_policy.as_deref() {
        Some("Always") => Kind::Sidecar,
        _ => Kind::Init,
    }
}

fn from_ephemeral(it: &EphemeralContainer) -> Container {
    Container {
        name: it.name.clone(),
        image: it.image.clone(),
        image_pull_policy: it.image_pull_policy.clone(),
        command: it.command.clone(),
        args: it.args.clone(),
        working_dir: it.working_dir.clone(),
        env: it.env.clone(),
        env_from: it.env_from.clone(),
        volume_mounts: it.volume_mounts.clone(),
        security_context: it.security_context.clone(),
        stdin: it.stdin,
        stdin_once: it.stdin_once,
        tty: it.tty,
        termination_message_path: it.termination_message_path.clone(),
        termination_message_policy: it.termination_message_policy.clone(),
        resources: it.resources.clone(),
        ..Container::default()
    }
}
