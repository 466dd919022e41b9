//! Lifecycle hooks: postStart and preStop.

use std::{net::IpAddr, sync::Arc, time::Duration};

use k8s_openapi::{
    api::core::v1::{LifecycleHandler, Pod},
    apimachinery::pkg::util::intstr::IntOrString,
};

use crate::{context::Context, pod::PodExt, probes::http};

/// Upstream's bound of a hook without one of its own.
const LIMIT: Duration = Duration::from_secs(600);

#[derive(Debug, thiserror::Error)]
pub(crate) enum HookError {
    #[error("command '{command}' exited with {code}: {output}")]
    Exit { command: String, code: i32, output: String },
    #[error("{message}")]
    Failed { message: String },
}

pub(crate) async fn run(
    context: &Arc<Context>,
    pod: &Pod,
    container: &str,
    id: &str,
    hook: &LifecycleHandler,
) -> Result<(), HookError> {
    if let Some(exec) = &hook.exec {
        let command = exec.command.clone().unwrap_or_default();
        let ran = context.runtime.exec_sync(id, &command, LIMIT).await;
        let ran = ran.map_err(|it| HookError::Failed { message: it.to_string() })?;
        if ran.exit_code != 0 {
            let output = [ran.stdout, ran.stderr].concat();
            return Err(HookError::Exit {
                command: command.join(" "),
                code: ran.exit_code,
                output: String::from_utf8_lossy(&output).trim().to_owned(),
            });
        }
    } else if let Some(get) = &hook.http_get {
        let ip = pod_ip(context, pod, id).await;
        let result = http::get(pod, container, get, ip, LIMIT).await;
        let answer = result.map_err(|message| HookError::Failed { message })?;
        if answer.status.as_u16() >= 400 {
            let message = format!("HTTP hook answered {}", answer.status);
            return Err(HookError::Failed { message });
        }
    } else if let Some(sleep) = &hook.sleep {
        let seconds = u64::try_from(sleep.seconds).unwrap_or(0);
        tokio::time::sleep(Duration::from_secs(seconds)).await;
    } else if let Some(tcp) = &hook.tcp_socket {
        let port = match &tcp.port {
            IntOrString::Int(port) => port.to_string(),
            IntOrString::String(name) => name.clone(),
        };
        let message = format!("tcpSocket hooks are not supported (port {port})");
        return Err(HookError::Failed { message });
    }
    Ok(())
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
