//! Streams into pods and ways through the server (`exec`, `attach`, `portforward`, `proxy`), as webhooks
//! and policies are asked about them: the operation `CONNECT` of an object that holds its options.
//!
//! Upstream: `ConnectResource` of k8s.io/apiserver, and the `PodExecOptions` of k8s.io/api and their kin.

use serde_json::{Map, Value, json};

use super::{Attributes, Operation, policy, webhook};
use crate::{server::Call, status::Status};

/// Lets webhooks and policies refuse a connection. What they change in its options changes nothing, as
/// upstream.
pub(crate) async fn admit(call: &mut Call) -> Result<(), Status> {
    let mut options = options(call);
    let mut effects = policy::Effects::default();
    let decided = decide(call, &mut options, &mut effects).await;
    call.annotations.add(effects.annotations);
    call.warnings.extend(effects.warnings);
    decided
}

async fn decide(
    call: &Call,
    options: &mut Value,
    effects: &mut policy::Effects,
) -> Result<(), Status> {
    let operation = Operation::Connect;
    let attributes = Attributes { operation, user: &call.user, info: &call.info, old: None };
    let asked = webhook::mutate(call, &attributes, options, &mut effects.warnings).await?;
    webhook::mutate_again(call, &attributes, options, &mut effects.warnings, asked).await?;
    policy::validate(call, &attributes, options, effects).await?;
    effects.warnings.extend(webhook::validate(call, &attributes, options).await?);
    Ok(())
}

/// The query as the object that upstream makes of it.
fn options(call: &Call) -> Value {
    let kind = match (call.info.resource.as_str(), call.info.subresource.as_str()) {
        (_, "exec") => "PodExecOptions",
        (_, "attach") => "PodAttachOptions",
        (_, "portforward") => "PodPortForwardOptions",
        ("nodes", _) => "NodeProxyOptions",
        ("services", _) => "ServiceProxyOptions",
        _ => "PodProxyOptions",
    };
    let mut options = Map::new();
    options.insert("kind".into(), kind.into());
    options.insert("apiVersion".into(), "v1".into());
    match kind {
        "PodExecOptions" | "PodAttachOptions" => {
            for stream in ["stdin", "stdout", "stderr", "tty"] {
                if call.is_set(stream) {
                    options.insert(stream.into(), true.into());
                }
            }
            if let Some(container) = call.parameter("container") {
                options.insert("container".into(), container.into());
            }
            if kind == "PodExecOptions" {
                options.insert("command".into(), all(call, "command").into());
            }
        }
        "PodPortForwardOptions" => {
            let ports = all(call, "ports").into_iter().filter_map(|it| it.parse::<i64>().ok());
            let ports: Vec<i64> = ports.collect();
            if !ports.is_empty() {
                options.insert("ports".into(), json!(ports));
            }
        }
        _ if !call.info.rest.is_empty() => {
            options.insert("path".into(), format!("/{}", call.info.rest).into());
        }
        _ => {}
    }
    Value::Object(options)
}

/// All values of a parameter that may be given more than once.
fn all(call: &Call, parameter: &str) -> Vec<String> {
    let named = call.query.iter().filter(|(name, _)| name == parameter);
    named.map(|(_, value)| value.clone()).collect()
}
