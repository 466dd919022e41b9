//! From HTTP to an operation: which service, which action, which tree.

use aws_wire::{
    Fault, codec, form, percent, rest,
    service::{self, Protocol, Service},
    sigv4::Presented,
};
use bytes::Bytes;
use http::{header::HOST, request::Parts};
use serde_json::{Map, Value};

use crate::{
    refusal,
    routes::{Leaves, Routes},
};

/// What a request asks for, before it is decoded into the operation's shape.
#[derive(Debug)]
pub(crate) struct Asked {
    pub(crate) action: String,
    pub(crate) tree: Value,
    pub(crate) leaves: Leaves,
}

/// The service: the one that it was signed for, else by target, host or version.
pub(crate) fn service(
    parts: &Parts,
    body: &Bytes,
    presented: Option<&Presented>,
) -> Option<&'static Service> {
    if let Some(presented) = presented {
        return service::find(&presented.service);
    }
    if let Some(target) = header(parts, "x-amz-target") {
        return service::by_target(target.split('.').next()?);
    }
    let host = header(parts, HOST.as_str()).or_else(|| parts.uri.host());
    if let Some(found) = host.and_then(service::by_host) {
        return Some(found);
    }
    if parts.uri.path() != "/" {
        return service::find("eks");
    }
    let pairs = parameters(parts, body);
    let version = pairs.iter().find(|(name, _)| name == "Version").map(|(_, value)| value);
    version.and_then(|it| service::by_version(it))
}

/// Reads what the service's protocol says. An unknown action is found out later, after the caller
/// is known.
pub(crate) fn read(
    service: &Service,
    routes: &Routes,
    parts: &Parts,
    body: &Bytes,
) -> Result<Asked, Fault> {
    match service.protocol {
        Protocol::Query | Protocol::Ec2 => read_query(service, parts, body),
        Protocol::Json11 => read_json(service, parts, body),
        Protocol::RestJson => read_rest(service, routes, parts, body),
    }
}

fn read_query(service: &Service, parts: &Parts, body: &Bytes) -> Result<Asked, Fault> {
    let mut action = None;
    let mut pairs = Vec::new();
    for (name, value) in parameters(parts, body) {
        match name.as_str() {
            "Action" => action = Some(value),
            "Version" => {}
            _ => pairs.push((name, value)),
        }
    }
    let action = action.filter(|it| !it.is_empty()).ok_or_else(refusal::no_action)?;
    let tree =
        form::to_tree(pairs).map_err(|error| refusal::malformed(service, &error.to_string()))?;
    Ok(Asked { action, tree, leaves: Leaves::Text })
}

/// The query's and the form's parameters, without those of a presigned URL.
fn parameters(parts: &Parts, body: &Bytes) -> Vec<(String, String)> {
    let mut pairs = percent::pairs(parts.uri.query().unwrap_or_default());
    if let Ok(form) = std::str::from_utf8(body) {
        pairs.extend(percent::pairs(form.trim_end()));
    }
    pairs.retain(|(name, _)| !name.starts_with("X-Amz-"));
    pairs
}

fn read_json(service: &Service, parts: &Parts, body: &Bytes) -> Result<Asked, Fault> {
    let target = header(parts, "x-amz-target").unwrap_or_default();
    let (prefix, action) = target.split_once('.').unwrap_or_default();
    if prefix != service.target {
        return Err(refusal::unknown_action(service, action));
    }
    let tree = json_body(service, body)?;
    Ok(Asked { action: action.to_owned(), tree, leaves: Leaves::Typed })
}

fn json_body(service: &Service, body: &Bytes) -> Result<Value, Fault> {
    if body.iter().all(u8::is_ascii_whitespace) {
        return Ok(Value::Object(Map::new()));
    }
    match serde_json::from_slice(body) {
        Ok(tree @ Value::Object(_)) => Ok(tree),
        Ok(_) => {
            Err(refusal::malformed(service, "Start of structure or map found where not expected."))
        }
        Err(error) => Err(refusal::malformed(service, &error.to_string())),
    }
}

/// The most specific template that fits, with its labels, the query and the body in one tree.
fn read_rest(
    service: &Service,
    routes: &Routes,
    parts: &Parts,
    body: &Bytes,
) -> Result<Asked, Fault> {
    let path = parts.uri.path();
    let candidates = routes
        .of(service.name)
        .filter(|it| it.http().method == parts.method.as_str())
        .filter_map(|it| Some((it, rest::match_path(it.http().path, path)?)));
    let best = candidates.max_by_key(|(it, _)| rest::literals(it.http().path));
    let Some((route, labels)) = best else {
        return Err(refusal::unknown_action(service, path));
    };
    let mut fields = rest::query_fields(percent::pairs(parts.uri.query().unwrap_or_default()));
    if codec::has_body(parts.method.as_str())
        && let Value::Object(body) = json_body(service, body)?
    {
        fields.extend(body);
    }
    // Labels win: what was authorized is what the path names.
    fields.extend(labels);
    let action = route.action().to_owned();
    Ok(Asked { action, tree: Value::Object(fields), leaves: Leaves::Text })
}

fn header<'a>(parts: &'a Parts, name: &str) -> Option<&'a str> {
    parts.headers.get(name).and_then(|it| it.to_str().ok())
}
