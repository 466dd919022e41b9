//! Lifecycle hooks: postStart and preStop.
//!
//! Upstream: `pkg/kubelet/lifecycle/handlers.go`. The status of an HTTP answer does not matter there
//! either: a hook is told, not asked. One that is to be told over HTTPS and speaks HTTP only is told so.

use std::{net::IpAddr, sync::Arc, time::Duration};

use k8s_openapi::api::core::v1::{HTTPGetAction, LifecycleHandler, Pod};

use crate::{
    context::Context,
    pod::PodExt,
    probes::http::{self, GetError},
};

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
        let ask = async |get: &HTTPGetAction| {
            match http::get(pod, container, get, ip, LIMIT, AGENT).await {
                // Nobody looks at the body.
                Ok(_) | Err(GetError::Unread(_)) => Ok(()),
                Err(error) => Err(error),
            }
        };
        let asked = match ask(get).await {
            Err(GetError::Plain { host, text }) => {
                let plain = ask(&without_tls(get)).await;
                if plain.is_ok() {
                    tell_fallback(context, pod, &host);
                }
                plain.map_err(|_| text)
            }
            asked => asked.map_err(|it| it.to_string()),
        };
        let (container, pod) = name();
        let path = get.path.clone().unwrap_or_default();
        let failed = |error| HookError::Http { path, container, pod, error };
        return asked.map_err(failed);
    }
    if let Some(sleep) = &hook.sleep {
        let seconds = u64::try_from(sleep.seconds).unwrap_or(0);
        tokio::time::sleep(Duration::from_secs(seconds)).await;
        return Ok(());
    }
    Err(HookError::Invalid)
}

/// The same request for a server that speaks no TLS; it does not tell who asks.
fn without_tls(get: &HTTPGetAction) -> HTTPGetAction {
    let mut get = get.clone();
    get.scheme = Some("HTTP".to_owned());
    if let Some(headers) = &mut get.http_headers {
        headers.retain(|it| !it.name.eq_ignore_ascii_case("authorization"));
    }
    get
}

fn tell_fallback(context: &Context, pod: &Pod, host: &str) {
    context.metrics.add("kubelet_lifecycle_handler_http_fallbacks_total", &[], 1.0);
    let message = format!(
        "request to HTTPS lifecycle hook {host} got HTTP response, retry with HTTP succeeded"
    );
    context.recorder.warning(pod, "LifecycleHTTPFallback", message);
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
    let observed = crate::observed::observe(context, &pod.uid()).await.ok()?;
    let of = observed.containers.iter().find(|it| it.id == id)?.sandbox_id.clone();
    let sandbox = observed.sandboxes.into_iter().find(|it| it.id == of)?;
    sandbox.ips.first().copied()
}
