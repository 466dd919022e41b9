//! Where a webhook is: its URL, or a Service and a path.
//!
//! Upstream: k8s.io/apiserver/pkg/util/webhook/validation.go.

use serde_json::Value;

use super::{Faults, fields, text};
use crate::status::FieldError;

const HTTPS: i64 = 443;
const FORM: &str = "; desired format: https://host[/path]";

/// A `clientConfig`.
pub(super) fn client(faults: &mut Faults, field: &str, client: &Value) {
    match (client["url"].as_str(), client["service"].is_object()) {
        (Some(it), false) => url(faults, &format!("{field}.url"), it),
        (None, true) => service(faults, &format!("{field}.service"), &client["service"]),
        _ => {
            let why = "exactly one of url or service is required";
            faults.add(FieldError::required(field, why));
        }
    }
}

fn url(faults: &mut Faults, field: &str, url: &str) {
    let (rest, fragment) = url.split_once('#').unwrap_or((url, ""));
    let (rest, query) = rest.split_once('?').unwrap_or((rest, ""));
    let is_scheme = |it: &str| {
        it.starts_with(|it: char| it.is_ascii_alphabetic())
            && it.chars().all(|it| it.is_ascii_alphanumeric() || "+-.".contains(it))
    };
    let scheme = rest.split_once(':').filter(|(scheme, _)| is_scheme(scheme));
    let (scheme, rest) = scheme.unwrap_or(("", rest));
    let authority = rest.strip_prefix("//").and_then(|it| it.split('/').next()).unwrap_or_default();
    let (user, host) = authority.rsplit_once('@').unwrap_or(("", authority));
    if let Err(error) = host.parse::<http::uri::Authority>()
        && !host.is_empty()
    {
        let why = format!("url must be a valid URL: parse \"{url}\": {error}{FORM}");
        return faults.add(FieldError::required(field, why));
    }
    if !scheme.eq_ignore_ascii_case("https") {
        let why = format!("'https' is the only allowed URL scheme{FORM}");
        faults.invalid(field, scheme.to_ascii_lowercase(), why);
    }
    if host.is_empty() {
        faults.invalid(field, host, format!("host must be provided{FORM}"));
    }
    if authority.contains('@') {
        faults.invalid(field, user, "user information is not permitted in the URL");
    }
    for (what, found) in [("fragments", fragment), ("query parameters", query)] {
        if !found.is_empty() {
            faults.invalid(field, found, format!("{what} are not permitted in the URL"));
        }
    }
}

fn service(faults: &mut Faults, field: &str, service: &Value) {
    for part in ["name", "namespace"] {
        if text(service, part).is_empty() {
            let why = format!("service {part} is required");
            faults.add(FieldError::required(format!("{field}.{part}"), why));
        }
    }
    let port = service["port"].as_i64().unwrap_or(HTTPS);
    if !(1..=65_535).contains(&port) {
        let why = "port is not valid: must be between 1 and 65535, inclusive";
        faults.invalid(format!("{field}.port"), port, why);
    }
    path(faults, &format!("{field}.path"), text(service, "path"));
}

/// Each of its segments is the name of a DNS subdomain; one `/` at its end is none.
fn path(faults: &mut Faults, field: &str, path: &str) {
    if matches!(path, "" | "/") {
        return;
    }
    if !path.starts_with('/') {
        faults.invalid(field, path, "must start with a '/'");
    }
    // Upstream cuts off the first byte, whichever it is.
    let rest = path.get(1..).unwrap_or(path);
    let rest = rest.strip_suffix('/').unwrap_or(rest);
    for (at, segment) in rest.split('/').enumerate() {
        if segment.is_empty() {
            faults.invalid(field, path, format!("segment[{at}] may not be empty"));
            continue;
        }
        for why in fields::subdomain(segment) {
            faults.invalid(field, path, format!("segment[{at}]: {why}"));
        }
    }
}
