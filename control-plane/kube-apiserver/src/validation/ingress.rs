//! Ingresses and their classes.
//!
//! Upstream: `ValidateIngressCreate`, `ValidateIngressClass` in pkg/apis/networking/validation.

use serde_json::Value;

use super::{Faults, fields, items, text};
use crate::status::FieldError;

const CLASS: &str = "kubernetes.io/ingress.class";
const PATH_TYPES: &[&str] = &["Exact", "ImplementationSpecific", "Prefix"];
const SCOPES: &[&str] = &["Cluster", "Namespace"];
const LONGEST_CONTROLLER: usize = 250;

/// What is asked of new ones alone.
pub(super) fn create(faults: &mut Faults, object: &Value) {
    let class = &object["spec"]["ingressClassName"];
    let annotated = object["metadata"]["annotations"][CLASS].as_str();
    if let Some(it) = annotated.filter(|it| class.is_string() && class != it) {
        let why = "must match `ingressClassName` when both are specified";
        faults.invalid(format!("annotations.{CLASS}"), it, why);
    }
}

/// Names that were accepted before stay accepted.
pub(super) fn check(faults: &mut Faults, object: &Value, old: Option<&Value>) {
    let spec = &object["spec"];
    if items(spec, "rules").next().is_none() && !spec["defaultBackend"].is_object() {
        let why = "either `defaultBackend` or `rules` must be specified";
        faults.invalid("spec", spec["rules"].clone(), why);
    }
    if spec["defaultBackend"].is_object() {
        backend(faults, "spec.defaultBackend", &spec["defaultBackend"]);
    }
    for (index, rule) in items(spec, "rules") {
        let at = format!("spec.rules[{index}]");
        let name = text(rule, "host");
        if !name.is_empty() {
            let field = format!("{at}.host");
            if name.parse::<std::net::IpAddr>().is_ok() {
                faults.invalid(&*field, name, "must be a DNS name, not an IP address");
            }
            host(faults, &field, name);
        }
        if rule["http"].is_object() {
            paths(faults, &format!("{at}.http.paths"), &rule["http"]);
        }
    }
    tls(faults, spec, old);
    if let Some(class) = spec["ingressClassName"].as_str() {
        faults.each("spec.ingressClassName", class, fields::subdomain(class));
    }
}

fn host(faults: &mut Faults, field: &str, name: &str) {
    let is_wild = name.contains('*');
    let why = if is_wild { fields::wildcard_subdomain(name) } else { fields::subdomain(name) };
    faults.each(field, name, why);
}

fn tls(faults: &mut Faults, spec: &Value, old: Option<&Value>) {
    let is_bad = |it: &str| !it.is_empty() && !fields::subdomain(it).is_empty();
    let was_bad = old.is_some_and(|old| {
        items(&old["spec"], "tls").any(|(_, it)| is_bad(text(it, "secretName")))
    });
    for (index, it) in items(spec, "tls") {
        let at = format!("spec.tls[{index}]");
        for (number, name) in items(it, "hosts") {
            host(faults, &format!("{at}.hosts[{number}]"), name.as_str().unwrap_or_default());
        }
        let secret = text(it, "secretName");
        if !was_bad && is_bad(secret) {
            faults.each(&format!("{at}.secretName"), secret, fields::subdomain(secret));
        }
    }
}

fn paths(faults: &mut Faults, list: &str, http: &Value) {
    if items(http, "paths").next().is_none() {
        faults.required(list);
    }
    for (index, path) in items(http, "paths") {
        let at = format!("{list}[{index}]");
        let Some(kind) = path["pathType"].as_str() else {
            let why = "pathType must be specified";
            faults.add(FieldError::required(format!("{at}.pathType"), why));
            continue;
        };
        self::path(faults, &at, kind, text(path, "path"));
        backend(faults, &format!("{at}.backend"), &path["backend"]);
    }
}

fn path(faults: &mut Faults, at: &str, kind: &str, path: &str) {
    let field = format!("{at}.path");
    if !PATH_TYPES.contains(&kind) {
        let field = format!("{at}.pathType");
        return faults.add(FieldError::not_supported(field, kind, PATH_TYPES));
    }
    let is_free = kind == "ImplementationSpecific";
    if !(path.starts_with('/') || is_free && path.is_empty()) {
        faults.invalid(&*field, path, "must be an absolute path");
    }
    if is_free {
        return;
    }
    for part in ["//", "/./", "/../", "%2f", "%2F"] {
        if path.contains(part) {
            faults.invalid(&*field, path, format!("must not contain '{part}'"));
        }
    }
    for end in ["/..", "/."] {
        if path.ends_with(end) {
            faults.invalid(&*field, path, format!("cannot end with '{end}'"));
        }
    }
}

fn backend(faults: &mut Faults, at: &str, backend: &Value) {
    let (service, resource) = (&backend["service"], &backend["resource"]);
    match (service.is_object(), resource.is_object()) {
        (true, true) => {
            return faults.invalid(at, "", "cannot set both resource and service backends");
        }
        (false, true) => return reference(faults, &format!("{at}.resource"), resource),
        (false, false) => {
            return faults.invalid(at, "", "resource or service backend is required");
        }
        (true, false) => {}
    }
    let name = text(service, "name");
    if name.is_empty() {
        faults.required(format!("{at}.service.name"));
    } else {
        faults.each(&format!("{at}.service.name"), name, fields::label_1035(name));
    }
    let (name, number) =
        (text(&service["port"], "name"), service["port"]["number"].as_i64().unwrap_or_default());
    match (name, number) {
        ("", 0) => faults.add(FieldError::required(at, "port name or number is required")),
        ("", _) => {
            let field = format!("{at}.service.port.number");
            fields::port(faults, &field, &service["port"]["number"]);
        }
        (name, 0) => {
            let field = format!("{at}.service.port.name");
            faults.each(&field, name, fields::port_name(name));
        }
        _ => faults.invalid(at, "", "cannot set both port name & port number"),
    }
}

/// An object of any kind, in the same namespace.
fn reference(faults: &mut Faults, at: &str, it: &Value) {
    if let Some(group) = it["apiGroup"].as_str() {
        faults.each(&format!("{at}.apiGroup"), group, fields::subdomain(group));
    }
    for field in ["kind", "name"] {
        let (at, value) = (format!("{at}.{field}"), text(it, field));
        if value.is_empty() {
            faults.add(FieldError::required(at, format!("{field} is required")));
        } else {
            faults.each(&at, value, fields::path_segment(value));
        }
    }
}

pub(super) fn class(faults: &mut Faults, object: &Value) {
    let spec = &object["spec"];
    let controller = text(spec, "controller");
    if controller.len() > LONGEST_CONTROLLER {
        faults.add(FieldError::too_long("spec.controller", LONGEST_CONTROLLER));
    }
    fields::domain_prefixed_path(faults, "spec.controller", controller);
    let (at, it) = ("spec.parameters", &spec["parameters"]);
    if !it.is_object() {
        return;
    }
    reference(faults, at, it);
    let (field, namespace) = (format!("{at}.namespace"), it["namespace"].as_str());
    match it["scope"].as_str() {
        None => faults.required(format!("{at}.scope")),
        Some("Namespace") => match namespace {
            None => {
                let why = "`parameters.scope` is set to 'Namespace'";
                faults.add(FieldError::required(field, why));
            }
            Some(name) => faults.each(&field, name, fields::label(name)),
        },
        Some("Cluster") => {
            if namespace.is_some() {
                faults.forbidden(field, "`parameters.scope` is set to 'Cluster'");
            }
        }
        Some(other) => {
            faults.add(FieldError::not_supported(format!("{at}.scope"), other, SCOPES));
        }
    }
}

pub(super) fn class_update(faults: &mut Faults, old: &Value, new: &Value) {
    let controller = |it: &Value| it["spec"]["controller"].clone();
    faults.immutable("spec.controller", &controller(old), &controller(new));
}
