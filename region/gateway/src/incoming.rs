//! From HTTP to an operation: which service, which action, which tree.

use std::sync::Arc;

use aws_wire::{
    Fault,
    codec::{self, older},
    form, percent, rest,
    service::{self, Protocol, Service},
    sigv4::{Presented, Style},
};
use bytes::Bytes;
use http::{
    Method,
    header::{AUTHORIZATION, CONTENT_TYPE, HOST},
    request::Parts,
};
use serde_json::{Map, Value};

use crate::{
    refusal,
    routes::{Leaves, Route, Routes},
};

/// Headers that name an action, or say where it is.
const TARGET: &str = "x-amz-target";
const RPC: &str = "smithy-protocol";

/// Headers that decide about a request, where its signature is in the query.
pub(crate) const ADDED: [&str; 5] =
    [TARGET, RPC, "x-amz-date", "x-amz-security-token", "x-amz-content-sha256"];

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
    if let Some(target) = header(parts, TARGET) {
        return service::by_target(target.split('.').next()?);
    }
    if let Some(found) = host(parts).and_then(service::by_host) {
        return Some(found);
    }
    if parts.uri.path() != "/" {
        return service::find("eks");
    }
    service::by_version(&version(parts, body)?)
}

/// HTTP/2 has its host in the URI.
pub(crate) fn host(parts: &Parts) -> Option<&str> {
    header(parts, HOST.as_str()).or_else(|| parts.uri.host())
}

/// Whether a request is in the query protocol, which services of [`Protocol::Json10`] spoke before.
pub(crate) fn is_older(service: &Service, parts: &Parts, body: &Bytes) -> bool {
    service.protocol == Protocol::Json10
        && !parts.headers.contains_key(TARGET)
        && parameters(parts, body).any(|(name, _)| name == "Action")
}

/// A signed call that this region does not serve.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Unowned {
    /// The name that it is signed for.
    pub(crate) service: String,
    /// `None`: the request does not name it.
    pub(crate) action: Option<String>,
}

/// What a request asks of another region than this one; `None`: it is for this one to answer, if
/// only that it is malformed. A request whose service or action may be read in two ways is for nobody
/// else.
pub(crate) fn unowned(
    routes: &Routes,
    parts: &Parts,
    body: &Bytes,
    presented: &Presented,
) -> Option<Unowned> {
    if !names_one_service(parts, presented) {
        return None;
    }
    let of = |action| Some(Unowned { service: presented.service.clone(), action });
    let Some(service) = service::find(&presented.service) else {
        return match presented.service.starts_with("s3") || !names_action(parts, body) {
            true => of(None),
            false => of(Some(named_action(parts, body)?)),
        };
    };
    match service.protocol {
        Protocol::Query | Protocol::Ec2 => {
            let action = action(service, parts, body).ok()?;
            let is_other = service.protocol == Protocol::Query
                && version(parts, body).is_some_and(|it| it != service.version);
            let is_served = !is_other && routes.find(service.name, &action).is_some();
            if is_served { None } else { of(Some(named_action(parts, body)?)) }
        }
        Protocol::Json11 | Protocol::Json10 => {
            let (prefix, action) = header(parts, TARGET)?.split_once('.')?;
            let is_served = prefix == service.target && routes.find(service.name, action).is_some();
            if is_served { None } else { of(Some(named_action(parts, body)?)) }
        }
        Protocol::RestJson => {
            let (method, path) = (parts.method.as_str(), parts.uri.path());
            let fits = |it: &Arc<dyn Route>| {
                it.http().method == method && rest::match_path(it.http().path, path).is_some()
            };
            if routes.of(service.name).any(fits) { None } else { of(None) }
        }
    }
}

/// Whether a signature, its place and the host all mean the service that was decided on: emulators
/// tell services apart by any of them.
fn names_one_service(parts: &Parts, presented: &Presented) -> bool {
    let headers = &parts.headers;
    let is_once = |name: &str| headers.get_all(name).iter().count() <= 1;
    if ![AUTHORIZATION.as_str(), HOST.as_str()].into_iter().all(is_once) {
        return false;
    }
    let claims = header(parts, AUTHORIZATION.as_str()).unwrap_or_default();
    if claims.matches("Credential=").count() > 1 {
        return false;
    }
    // S3's paths are signed as they are sent.
    if presented.service != "s3" && !is_plain(parts.uri.path()) {
        return false;
    }
    let query = percent::pairs(parts.uri.query().unwrap_or_default());
    let in_query = query.iter().filter(|(it, _)| it.eq_ignore_ascii_case("X-Amz-Credential"));
    if in_query.count() != usize::from(presented.style != Style::Header) {
        return false;
    }
    let named = header(parts, HOST.as_str());
    let hosts = [named, parts.uri.authority().map(http::uri::Authority::as_str)];
    hosts.into_iter().flatten().all(|it| may_be_host_of(&presented.service, it))
}

/// Whether requests of the service may go to this host: its endpoint, one of its resources there, or
/// an address, which names nothing.
fn may_be_host_of(service: &str, host: &str) -> bool {
    const DOMAINS: [&str; 3] = [".amazonaws.com", ".api.aws", ".localhost"];
    let host = host.to_ascii_lowercase();
    let bare = match host.strip_prefix('[').and_then(|it| it.split_once(']')) {
        Some((address, _)) => address,
        None => host.split(':').next().unwrap_or_default(),
    };
    if bare == "localhost" || bare.parse::<std::net::IpAddr>().is_ok() {
        return true;
    }
    let Some(rest) = DOMAINS.iter().find_map(|it| bare.strip_suffix(it)) else { return false };
    let is_region = |it: &str| it.rsplit('-').next().is_some_and(|it| it.parse::<u8>().is_ok());
    let mut labels: Vec<&str> = rest.split('.').collect();
    if labels.len() > 1 && labels.last().is_some_and(|it| it.contains('-') && is_region(it)) {
        labels.pop();
    }
    labels.retain(|it| *it != "dualstack");
    // `BUCKET.localhost` is how SDKs name a bucket of an emulator.
    let is_bucket = bare.ends_with(".localhost") && service == "s3";
    is_bucket || labels.last().is_some_and(|it| it.trim_end_matches("-fips") == service)
}

/// Whether a request names its action, somewhere: others are known by method and path.
fn names_action(parts: &Parts, body: &Bytes) -> bool {
    let is_action = |it: &str| percent::each_pair(it).any(|(name, _)| name == "Action");
    parts.headers.contains_key(TARGET)
        || parts.headers.contains_key(RPC)
        || is_action(parts.uri.query().unwrap_or_default())
        || is_form(parts) && is_action(&String::from_utf8_lossy(body))
}

/// The action of a request whose protocol has one place for it, and that names it there alone: who
/// answers must not take it for another action than who decided.
fn named_action(parts: &Parts, body: &Bytes) -> Option<String> {
    let named = |it: &str| {
        let is_name = !it.is_empty() && it.bytes().all(|it| it.is_ascii_alphanumeric());
        is_name.then(|| it.to_owned())
    };
    // Of a header that is there twice, one reader takes the first, another one the last.
    let is_twice = |it: &&str| parts.headers.get_all(*it).iter().count() > 1;
    if [CONTENT_TYPE.as_str(), TARGET, RPC].iter().any(is_twice) {
        return None;
    }
    let (path, has_query) = (parts.uri.path(), parts.uri.query().is_some());
    let is_post = parts.method == Method::POST;
    let is_form = is_form(parts);
    let media = media(parts);
    match (parts.headers.contains_key(TARGET), parts.headers.contains_key(RPC)) {
        (false, false) if path == "/" => {
            let is_get = parts.method == Method::GET && body.is_empty();
            let is_posted = is_post && is_form && std::str::from_utf8(body).is_ok();
            let pairs = (is_get || is_posted).then(|| parameters(parts, body))?;
            let mut actions = pairs.filter(|(name, _)| name == "Action");
            let (_, action) = actions.next()?;
            if actions.next().is_none() { named(&action) } else { None }
        }
        (true, false) if is_post && path == "/" && !has_query => {
            let target =
                header(parts, TARGET).filter(|_| media.starts_with("application/x-amz-"))?;
            target.rsplit('.').next().and_then(named)
        }
        (false, true) if is_post && !has_query && !is_form && !media.starts_with("multipart/") => {
            path.rsplit_once("/operation/").and_then(|(_, it)| named(it))
        }
        _ => None,
    }
}

fn media(parts: &Parts) -> String {
    header(parts, CONTENT_TYPE.as_str()).unwrap_or_default().to_ascii_lowercase()
}

fn is_form(parts: &Parts) -> bool {
    media(parts).starts_with("application/x-www-form-urlencoded")
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
        Protocol::Json10 if is_older(service, parts, body) => {
            let asked = read_query(service, parts, body)?;
            let mut tree = older::request(&asked.action, asked.tree);
            let route = routes.find(service.name, &asked.action);
            if route.is_some_and(|it| it.parameters().contains(&older::QUEUE_URL)) {
                older::address(&mut tree, parts.uri.path());
            }
            Ok(Asked { tree, ..asked })
        }
        Protocol::Json11 | Protocol::Json10 => read_json(service, parts, body),
        Protocol::RestJson => read_rest(service, routes, parts, body),
    }
}

/// The one action that a request of the query protocol names: who decides on it and who runs it
/// must mean the same.
pub(crate) fn action(service: &Service, parts: &Parts, body: &Bytes) -> Result<String, Fault> {
    let named = parameters(parts, body).filter(|(name, _)| name == "Action");
    let mut named = named.map(|(_, value)| value);
    let action = named.next().filter(|it| !it.is_empty()).ok_or_else(refusal::no_action)?;
    match named.next() {
        None => Ok(action),
        Some(_) => Err(refusal::malformed(service, "The parameter Action is given twice.")),
    }
}

fn read_query(service: &Service, parts: &Parts, body: &Bytes) -> Result<Asked, Fault> {
    let action = action(service, parts, body)?;
    // Elastic Load Balancing has two APIs under one name, with operations of the same names.
    let other = version(parts, body).filter(|it| *it != service.version);
    if let Some(version) = other.filter(|_| service.protocol != Protocol::Ec2) {
        return Err(refusal::unknown_version(&action, &version));
    }
    let pairs = parameters(parts, body);
    let pairs = pairs.filter(|(name, _)| !matches!(name.as_str(), "Action" | "Version"));
    let tree =
        form::to_tree(pairs).map_err(|error| refusal::malformed(service, &error.to_string()))?;
    Ok(Asked { action, tree, leaves: Leaves::Text })
}

/// The query's and the form's parameters, without those of a presigned URL. Nobody knows yet who
/// sends them: they are not held together.
fn parameters(parts: &Parts, body: &Bytes) -> impl Iterator<Item = (String, String)> {
    let form = std::str::from_utf8(body).unwrap_or_default();
    let all = percent::each_pair(parts.uri.query().unwrap_or_default());
    all.chain(percent::each_pair(form.trim_end())).filter(|(name, _)| !name.starts_with("X-Amz-"))
}

/// The version of the API that the parameters are of.
fn version(parts: &Parts, body: &Bytes) -> Option<String> {
    parameters(parts, body).find(|(name, _)| name == "Version").map(|(_, value)| value)
}

fn read_json(service: &Service, parts: &Parts, body: &Bytes) -> Result<Asked, Fault> {
    let target = header(parts, TARGET).unwrap_or_default();
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

/// Whether a path is the one that its signature is over: that one is without empty segments and those
/// of dots, and another of its spellings could name another operation.
fn is_plain(path: &str) -> bool {
    let inner = path.strip_prefix('/').unwrap_or(path);
    let inner = inner.strip_suffix('/').unwrap_or(inner);
    inner.is_empty() || inner.split('/').all(|it| !matches!(it, "" | "." | ".."))
}

/// The most specific template that fits, with its labels, the query and the body in one tree.
fn read_rest(
    service: &Service,
    routes: &Routes,
    parts: &Parts,
    body: &Bytes,
) -> Result<Asked, Fault> {
    let path = parts.uri.path();
    if !is_plain(path) {
        return Err(refusal::unknown_action(service, path));
    }
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_host_is_the_services_own_or_names_none() {
        for (service, host, expected) in [
            ("sns", "127.0.0.1:4566", true),
            ("sns", "[::1]:4566", true),
            ("sns", "localhost:4566", true),
            ("sns", "sns.us-east-1.amazonaws.com", true),
            ("sns", "SNS.us-east-1.amazonaws.com:443", true),
            ("sns", "s3.us-east-1.amazonaws.com", false),
            ("sns", "sns.s3.us-east-1.amazonaws.com", false),
            ("sns", "bucket.localhost:4566", false),
            ("sns", "example.com", false),
            ("sns", "", false),
            ("s3", "bucket.s3.us-east-1.amazonaws.com", true),
            ("s3", "s3.amazonaws.com", true),
            ("s3", "s3.dualstack.us-east-1.amazonaws.com", true),
            ("s3", "bucket.localhost:4566", true),
            ("kms", "kms-fips.us-east-1.amazonaws.com", true),
        ] {
            assert_eq!(may_be_host_of(service, host), expected, "{service} {host}");
        }
    }

    #[test]
    fn another_api_under_the_same_name_is_refused_by_its_version() {
        let (parts, ()) = http::Request::post("/").body(()).unwrap().into_parts();
        let read = |service: &str, version: &str| {
            let body = format!("Action=DescribeLoadBalancers&Version={version}");
            let service = service::find(service).unwrap();
            read_query(service, &parts, &body.into()).map_err(|it| it.message)
        };
        assert!(read("elasticloadbalancing", "2012-06-01").is_ok());
        let told = read("elasticloadbalancing", "2015-12-01").unwrap_err();
        assert_eq!(told, "Could not find operation DescribeLoadBalancers for version 2015-12-01");
        // EC2 serves clients of older versions.
        assert!(read("ec2", "2014-10-01").is_ok());
    }
}
