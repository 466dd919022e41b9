//! One attempt of a probe: exec, HTTP, TCP or gRPC.

use std::{
    net::{IpAddr, SocketAddr},
    sync::Arc,
    time::Duration,
};

use k8s_openapi::{
    api::core::v1::{Container, ContainerPort, ExecAction, Pod, Probe, TCPSocketAction},
    apimachinery::pkg::util::intstr::IntOrString,
};
use tonic::Code;
use transport::Place;

use super::{grpc, host, http, worker::Task};
use crate::{context::Context, expand::expand, pod::PodExt};

#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Answer {
    Good,
    Bad(String),
    /// Good enough, and worth an event.
    Warned(String),
    /// The probe itself did not work: says nothing about the container.
    Failed(String),
    /// The same, of an answer that was begun.
    Unread(String),
}

impl Answer {
    /// `None` when nothing was found out.
    pub(super) fn is_good(&self) -> Option<bool> {
        match self {
            Self::Good | Self::Warned(_) => Some(true),
            Self::Bad(_) => Some(false),
            Self::Failed(_) | Self::Unread(_) => None,
        }
    }
}

pub(super) async fn attempt(
    context: &Arc<Context>,
    pod: &Pod,
    task: &Task,
    probe: &Probe,
    limit: Duration,
) -> Answer {
    if let Some(action) = &probe.exec {
        let command = command(action, &task.container);
        return exec(context, &task.id, &command, limit).await;
    }
    let status = context.statuses.get(&pod.uid()).and_then(|it| it.pod_ip);
    let ip = status.and_then(|it| it.parse::<IpAddr>().ok());
    if let Some(action) = &probe.http_get {
        let asked = http::get(pod, &task.container.name, action, ip, limit, PROBE).await;
        return match asked {
            Ok(answer) => http_answer(&answer),
            Err(http::GetError::Answer(text) | http::GetError::Plain { text, .. }) => {
                Answer::Bad(text)
            }
            Err(http::GetError::Request(message)) => Answer::Failed(message),
            Err(http::GetError::Unread(message)) => Answer::Unread(message),
        };
    }
    if let Some(action) = &probe.tcp_socket {
        return tcp(&task.container, action, ip, limit).await;
    }
    if let Some(action) = &probe.grpc {
        return grpc::ask(action, ip, limit).await;
    }
    Answer::Failed(format!("missing probe handler for {}:{}", pod.full_name(), task.container.name))
}

fn http_answer(answer: &http::Answer) -> Answer {
    let code = answer.status.as_u16();
    match code {
        300..400 if answer.is_redirect => {
            let body = &answer.body;
            Answer::Warned(format!("Probe terminated redirects, Response body: {body}"))
        }
        200..400 => Answer::Good,
        _ => Answer::Bad(format!("HTTP probe failed with statuscode: {code}")),
    }
}

/// With the variables that the container's own list gives; upstream takes one that comes from elsewhere
/// for empty.
fn command(action: &ExecAction, container: &Container) -> Vec<String> {
    let env = container.env.as_deref().unwrap_or_default();
    let lookup = |name: &str| {
        let found = env.iter().rev().find(|it| it.name == name)?;
        Some(found.value.as_deref().unwrap_or_default())
    };
    action.command.iter().flatten().map(|text| expand(text, lookup)).collect()
}

async fn exec(context: &Context, id: &str, command: &[String], limit: Duration) -> Answer {
    match context.runtime.exec_sync(id, command, limit).await {
        Ok(ran) if ran.exit_code == 0 => Answer::Good,
        Ok(ran) => Answer::Bad(said(ran.stdout, &ran.stderr)),
        Err(error) if error.code == Code::DeadlineExceeded => {
            let seconds = limit.as_secs();
            let text = command.join(" ");
            Answer::Bad(format!("command timed out: \"{text}\" timed out after {seconds}s"))
        }
        Err(error) => Answer::Failed(error.to_string()),
    }
}

/// The client's name in a probe's requests.
const PROBE: &str = "kube-probe/1.36";

/// What a command wrote, its last newline too; upstream's `maxReadLength`.
fn said(mut stdout: Vec<u8>, stderr: &[u8]) -> String {
    stdout.extend_from_slice(stderr);
    stdout.truncate(10 << 10);
    String::from_utf8_lossy(&stdout).into_owned()
}

async fn tcp(
    container: &Container,
    action: &TCPSocketAction,
    ip: Option<IpAddr>,
    limit: Duration,
) -> Answer {
    let Some(port) = port(&action.port, container) else {
        return Answer::Failed(format!("{} is no port of the container", named(&action.port)));
    };
    let addresses = match (action.host.as_deref().filter(|it| !it.is_empty()), ip) {
        (Some(host), _) => match host::addresses(host, limit).await {
            Ok(addresses) => addresses,
            Err(message) => return Answer::Bad(message),
        },
        (None, Some(ip)) => vec![ip],
        (None, None) => return Answer::Failed("the pod has no address".to_owned()),
    };
    let mut answer = Answer::Failed("the host has no address".to_owned());
    let started = tokio::time::Instant::now();
    for ip in addresses {
        let (address, left) = (SocketAddr::new(ip, port), limit.saturating_sub(started.elapsed()));
        answer = match Place::Here.connect(address, left).await {
            Ok(_) => return Answer::Good,
            Err(error) => Answer::Bad(dial_error(address, &error)),
        };
    }
    answer
}

/// As Go's dialler says it.
pub(super) fn dial_error(address: SocketAddr, error: &std::io::Error) -> String {
    match error.kind() {
        std::io::ErrorKind::TimedOut => format!("dial tcp {address}: i/o timeout"),
        _ => format!("dial tcp {address}: connect: {}", os_text(error)),
    }
}

/// As Go says what the system says.
pub(super) fn os_text(error: &std::io::Error) -> String {
    match error.raw_os_error() {
        Some(number) => nix::errno::Errno::from_raw(number).desc().to_lowercase(),
        None => error.to_string(),
    }
}

/// The number of a port that may be given by its name.
pub(super) fn port(port: &IntOrString, container: &Container) -> Option<u16> {
    let number = match port {
        IntOrString::Int(number) => *number,
        IntOrString::String(name) => {
            let has_name = |it: &&ContainerPort| it.name.as_deref() == Some(name);
            match container.ports.iter().flatten().find(has_name) {
                Some(found) => found.container_port,
                None => name.parse().ok()?,
            }
        }
    };
    u16::try_from(number).ok().filter(|it| *it > 0)
}

pub(super) fn named(port: &IntOrString) -> String {
    match port {
        IntOrString::Int(number) => number.to_string(),
        IntOrString::String(name) => name.clone(),
    }
}

#[cfg(test)]
mod tests {
    use k8s_openapi::api::core::v1::EnvVar;

    use super::*;

    #[test]
    fn what_a_dialler_meets_is_told_in_gos_words() {
        let address = "192.0.2.1:80".parse().unwrap();
        let of = |it: nix::errno::Errno| dial_error(address, &std::io::Error::from(it));
        use nix::errno::Errno::{ECONNREFUSED, EHOSTUNREACH, ENETUNREACH};
        assert_eq!(of(ECONNREFUSED), "dial tcp 192.0.2.1:80: connect: connection refused");
        assert_eq!(of(EHOSTUNREACH), "dial tcp 192.0.2.1:80: connect: no route to host");
        assert_eq!(of(ENETUNREACH), "dial tcp 192.0.2.1:80: connect: network is unreachable");
        let late = std::io::ErrorKind::TimedOut.into();
        assert_eq!(dial_error(address, &late), "dial tcp 192.0.2.1:80: i/o timeout");
    }

    #[test]
    fn what_a_command_says_is_told_as_it_is_up_to_ten_kibibytes() {
        assert_eq!(said(b"out\n".to_vec(), b"err\n"), "out\nerr\n");
        assert_eq!(said(vec![b'x'; 11_000], b"err").len(), 10_240);
    }

    #[test]
    fn a_command_has_the_variables_that_the_container_names() {
        let variable = |name: &str, value: Option<&str>| EnvVar {
            name: name.to_owned(),
            value: value.map(str::to_owned),
            ..EnvVar::default()
        };
        let env = vec![variable("PORT", Some("80")), variable("NODE", None)];
        let container = Container { env: Some(env), ..Container::default() };
        let texts = ["check", "$(PORT)", "$(NODE)", "$(OTHER)", "$$(PORT)"];
        let action = ExecAction { command: Some(texts.map(str::to_owned).to_vec()) };
        assert_eq!(command(&action, &container), ["check", "80", "", "$(OTHER)", "$(PORT)"]);
    }
}
