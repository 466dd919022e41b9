//! Probes and lifecycle hooks.

use serde_json::Value;

use super::{Faults, fields, items, text};
use crate::status::FieldError;

const HANDLERS: [&str; 4] = ["exec", "httpGet", "tcpSocket", "grpc"];

pub(super) fn container(faults: &mut Faults, at: &str, container: &Value) {
    for name in ["livenessProbe", "readinessProbe", "startupProbe"] {
        if container[name].is_object() {
            probe(faults, &format!("{at}.{name}"), &container[name], name != "readinessProbe");
        }
    }
    for hook in ["postStart", "preStop"] {
        let hook_at = format!("{at}.lifecycle.{hook}");
        if container["lifecycle"][hook].is_object() {
            handler(faults, &hook_at, &container["lifecycle"][hook], &["sleep"]);
        }
    }
}

fn probe(faults: &mut Faults, at: &str, probe: &Value, succeeds_once: bool) {
    handler(faults, at, probe, &[]);
    for field in [
        "initialDelaySeconds",
        "timeoutSeconds",
        "periodSeconds",
        "successThreshold",
        "failureThreshold",
    ] {
        faults.not_negative(&format!("{at}.{field}"), &probe[field]);
    }
    let successes = probe["successThreshold"].as_i64().unwrap_or(1);
    if succeeds_once && successes != 1 {
        faults.invalid(format!("{at}.successThreshold"), successes, "must be 1");
    }
    let grace = &probe["terminationGracePeriodSeconds"];
    if let Some(seconds) = grace.as_i64().filter(|it| *it <= 0) {
        faults.invalid(
            format!("{at}.terminationGracePeriodSeconds"),
            seconds,
            "must be greater than 0",
        );
    }
}

fn handler(faults: &mut Faults, at: &str, handler: &Value, more: &[&str]) {
    let kinds = HANDLERS.iter().chain(more).filter(|it| handler[**it].is_object());
    let kinds: Vec<&&str> = kinds.collect();
    if kinds.is_empty() {
        faults.add(FieldError::required(at, "must specify a handler type"));
    }
    for extra in kinds.iter().skip(1) {
        let field = format!("{at}.{extra}");
        faults.add(FieldError::forbidden(field, "may not specify more than 1 handler type"));
    }
    if handler["exec"].is_object()
        && handler["exec"]["command"].as_array().is_none_or(Vec::is_empty)
    {
        faults.required(format!("{at}.exec.command"));
    }
    for kind in ["httpGet", "tcpSocket"] {
        if handler[kind].is_object() {
            fields::port_or_name(faults, &format!("{at}.{kind}.port"), &handler[kind]["port"]);
        }
    }
    if handler["grpc"].is_object() {
        fields::port(faults, &format!("{at}.grpc.port"), &handler["grpc"]["port"]);
    }
    let get = &handler["httpGet"];
    if get.is_object() {
        let supported = &["HTTP", "HTTPS"];
        if !supported.contains(&text(get, "scheme")) {
            let field = format!("{at}.httpGet.scheme");
            faults.add(FieldError::not_supported(field, text(get, "scheme"), supported));
        }
        for (index, header) in items(get, "httpHeaders") {
            faults.text(format!("{at}.httpGet.httpHeaders[{index}].name"), &header["name"]);
        }
    }
}
