//! Probes and lifecycle hooks.
//!
//! Upstream: `validateProbe`, `validateHandler` in pkg/apis/core/validation.

use serde_json::Value;

use super::{Faults, fields, items, text};
use crate::status::FieldError;

const SCHEMES: &[&str] = &["HTTP", "HTTPS"];

/// The grace period is that of the pod, where it is known.
pub(super) fn container(faults: &mut Faults, at: &str, container: &Value, grace: Option<i64>) {
    for hook in ["postStart", "preStop"] {
        let it = &container["lifecycle"][hook];
        if it.is_object() {
            let kinds = ["exec", "httpGet", "tcpSocket", "sleep"];
            handler(faults, &format!("{at}.lifecycle.{hook}"), it, kinds, grace);
        }
    }
    for name in ["livenessProbe", "readinessProbe", "startupProbe"] {
        if container[name].is_object() {
            probe(faults, &format!("{at}.{name}"), &container[name], name == "readinessProbe");
        }
    }
}

fn probe(faults: &mut Faults, at: &str, probe: &Value, is_readiness: bool) {
    handler(faults, at, probe, ["exec", "httpGet", "tcpSocket", "grpc"], None);
    for field in [
        "initialDelaySeconds",
        "timeoutSeconds",
        "periodSeconds",
        "successThreshold",
        "failureThreshold",
    ] {
        faults.not_negative(&format!("{at}.{field}"), &probe[field]);
    }
    let field = format!("{at}.terminationGracePeriodSeconds");
    let grace = probe["terminationGracePeriodSeconds"].as_i64();
    if let Some(seconds) = grace.filter(|it| *it <= 0) {
        faults.invalid(&*field, seconds, "must be greater than 0");
    }
    if is_readiness {
        if let Some(seconds) = grace {
            faults.invalid(field, seconds, "must not be set for readinessProbes");
        }
        return;
    }
    let successes = probe["successThreshold"].as_i64().unwrap_or_default();
    if successes != 1 {
        faults.invalid(format!("{at}.successThreshold"), successes, "must be 1");
    }
}

fn handler(faults: &mut Faults, at: &str, handler: &Value, kinds: [&str; 4], grace: Option<i64>) {
    let mut found = kinds.into_iter().filter(|it| handler[*it].is_object());
    let Some(kind) = found.next() else {
        return faults.add(FieldError::required(at, "must specify a handler type"));
    };
    let it = &handler[kind];
    let field = format!("{at}.{kind}");
    match kind {
        "exec" if items(it, "command").next().is_none() => {
            faults.required(format!("{field}.command"));
        }
        "httpGet" => http_get(faults, &field, it),
        "tcpSocket" => fields::port_or_name(faults, &format!("{field}.port"), &it["port"]),
        "grpc" => fields::port(faults, &format!("{field}.port"), &it["port"]),
        "sleep" => {
            let seconds = it["seconds"].as_i64().unwrap_or_default();
            if let Some(grace) = grace.filter(|grace| !(0..=*grace).contains(&seconds)) {
                let why = format!(
                    "must be non-negative and less than terminationGracePeriodSeconds ({grace})"
                );
                faults.invalid(&*field, seconds, why);
            }
        }
        _ => {}
    }
    for extra in found {
        faults.forbidden(format!("{at}.{extra}"), "may not specify more than 1 handler type");
    }
}

fn http_get(faults: &mut Faults, at: &str, get: &Value) {
    faults.text(format!("{at}.path"), &get["path"]);
    fields::port_or_name(faults, &format!("{at}.port"), &get["port"]);
    let scheme = text(get, "scheme");
    if !SCHEMES.contains(&scheme) {
        faults.add(FieldError::not_supported(format!("{at}.scheme"), scheme, SCHEMES));
    }
    for (_, header) in items(get, "httpHeaders") {
        let name = text(header, "name");
        let is_good =
            !name.is_empty() && name.chars().all(|it| it.is_ascii_alphanumeric() || it == '-');
        if !is_good {
            let why = "a valid HTTP header must consist of alphanumeric characters or '-' (e.g. 'X-Header-Name', regex used for validation is '[-A-Za-z0-9]+')";
            faults.invalid(format!("{at}.httpHeaders"), name, why);
        }
    }
}
