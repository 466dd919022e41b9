//! Lifecycle hooks: postStart and preStop.
//!
//! Upstream: `pkg/kubelet/lifecycle/handlers.go`. The status of an HTTP answer does not matter there
//! either: a hook is told, not asked.

use std::{net::IpAddr, sync::Arc, time::Duration};

use k8s_openapi::api::core::v1::{LifecycleHandler, Pod};

use crate::{context::Context, pod::PodExt, probes::http};

/// Upstream's bound of a hook without one of its own.
const LIMIT: Duration = Duration::from_secs(600);
/// The client's name in a hook's requests.
const AGENT: &str = "kube-lifecycle/1.36";

/// What a container's `waiting` state says. The events of hooks tell no more than that they failed, so
/// that nothing that a server answered leaks into them.
#[derive(Debug, thiserror::Error)]
pub(crate) enum HookError {
    #[error(
        "Exec lifecycle hook ({command}) for Container \"{container}\" in Pod \"{pod}\" failed - error: {error}, message: {output:?}"
    )]
    Exec { command: String, container: String, pod: String, error: String, output: String },
    #[error(
        "HTTP lifecycle hook ({path}) for Container \"{container}\" in Pod \"{pod}\" failed - error: {error}"
    )]
    Http { path: String, container: String, pod: String, error: String },
    #[error(
        "Cannot run handler: invalid handler: a lifecycle hook is exec, httpGet or sleep; tcpSocket is not supported"
    )]
    Invalid,
}

pub(crate) async fn run(
    context: &Arc<Context>,
    pod: &Pod,
    container: &str,
    id: &str,
    hook: &LifecycleHandler,
) -> Result<(), HookError> {
    let name = || (container.to_owned(), pod.full_name());
    if let Some(exec) = &hook.exec {
        let command = exec.command.clone().unwrap_or_default();
        let (error, output) = match context.runtime.exec_sync(id, &command, LIMIT).await {
            Ok(ran) if ran.exit_code == 0 => return Ok(()),
            Ok(ran) => {
                let output = [ran.stdout, ran.stderr].concat();
                let error =
                    format!("command '{}' exited with {}", command.join(" "), ran.exit_code);
                (error, String::from_utf8_lossy(&output).into_owned())
            }
            Err(error) => (error.to_string(), String::new()),
        };
        let (container, pod) = name();
        let command = format!("[{}]", command.join(" "));
        return Err(HookError::Exec { command, container, pod, error, output });
    }
    if let Some(get) = &hook.http_get {
        let ip = pod_ip(context, pod, id).await;
        let asked = http::get(pod, container, get, ip, LIMIT, AGENT).await;
        let (container, pod) = name();
        let path = get.path.clone().unwrap_or_default();
        return asked.map(drop).map_err(|error| HookError::Http {
            path,
            container,
            pod,
            error: error.to_string(),
        });
    }
    if let Some(sleep) = &hook.sleep {
        let seconds = u64::try_from(sleep.seconds).unwrap_or(0);
        tokio::time::sleep(Duration::from_secs(seconds)).await;
        return Ok(());
    }
    Err(HookError::Invalid)
}

/// Where the pod can be reached; its status may not have been made yet.
async fn pod_ip(context: &Arc<Context>, pod: &Pod, id: &str) -> Option<IpAddr> {
    if pod.is_host_network() {
        return context.node_ips.first().copied();
    }
    let status = context.statuses.get(&pod.uid()).and_then(|it| it.pod_ip);
    if let Some(ip) = status.and_then(|it| it.parse().ok()) {
        return Some(ip);
    }
    let observed = crate::observed::observe(&context.runtime, &pod.uid()).await.ok()?;
    let of = observed.containers.iter().find(|it| it.id == id)?.sandbox_id.clone();
    let sandbox = observed.sandboxes.into_iter().find(|it| it.id == of)?;
    sandbox.ips.first().copied()
}
