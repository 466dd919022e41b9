//! Everything that is not a resource: health, version, discovery, OpenAPI.
//!
//! Upstream: the discovery and endpoints packages of k8s.io/apiserver.

mod health;

use std::sync::Arc;

use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Response, StatusCode, header};
use serde_json::{Value, json};
use sha2::{Digest, Sha256, Sha512};
use transport::Body;

use crate::{
    aggregation::Merged,
    authn::ServiceAccounts,
    metrics::head,
    negotiate::{self, Form, Format},
    openapi, render,
    request::{RequestInfo, UserInfo},
    resources::{Catalog, Resource},
    server::Server,
    status::Status,
};

/// Paths that `/` lists beside the API's own.
pub(crate) const PATHS: [&str; 8] = [
    "/healthz",
    "/livez",
    "/metrics",
    "/metrics/slis",
    "/openapi/v2",
    "/openapi/v3",
    "/readyz",
    "/version",
];

pub(crate) async fn answer(
    server: &Arc<Server>,
    info: &RequestInfo,
    head: &http::request::Parts,
) -> Result<Response<Body>, Status> {
    if head.method != http::Method::GET && head.method != http::Method::HEAD {
        return Err(Status::no_such_method());
    }
    let merged = server.aggregator.merged(server.catalog());
    let catalog = &merged.catalog;
    let path = info.path.trim_end_matches('/');
    let parts: Vec<&str> = path.split('/').skip(1).collect();
    if head.method == http::Method::HEAD && is_got_only(catalog, &parts) {
        return Err(Status::no_such_method());
    }
    let document = match parts.as_slice() {
        [] | [""] => return Ok(plain_json(&paths(&merged))),
        [name @ ("healthz" | "livez" | "readyz")] => {
            return Ok(health::all(server, name, head.uri.query().unwrap_or_default()).await);
        }
        [name @ ("healthz" | "livez" | "readyz"), check @ ..] => {
            return health::one(server, name, &check.join("/")).await;
        }
        ["version"] => return Ok(plain_json(&version(server))),
        ["metrics"] => return Ok(metrics(server)),
        ["metrics", "slis"] => {
            let mut text = String::new();
            server.metrics.write_health(&mut text);
            return Ok(plain(text));
        }
        [".well-known", "openid-configuration"] => {
            return issuer(server, "application/json", configuration);
        }
        ["openid", "v1", "jwks"] => {
            return issuer(server, "application/jwk-set+json", |it| it.keys.jwks());
        }
        ["openapi", "v3", "apis", group, version] if merged.is_remote(group, version) => {
            return Ok(remote_document(server, group, version, head).await);
        }
        ["openapi", rest @ ..] => {
            return openapi::answer(&merged, rest, head, server.clock.now());
        }
        ["api"] | ["apis"] => return groups(server, &merged, parts[0] == "api", head),
        ["api", version] if catalog.has_version("", version) => resources(catalog, "", version),
        ["apis", group] => group_document(&merged, group).ok_or_else(Status::page_not_found)?,
        ["apis", group, version] if catalog.has_version(group, version) => {
            resources(catalog, group, version)
        }
        _ => return Err(nothing_at(catalog, path)),
    };
    let accept = negotiate::of_object(&head.headers)?;
    Ok(render::response(StatusCode::OK, accept.format, document.to_string().into()))
}

/// What upstream's router serves, which knows each method by itself; a `HEAD` of the other paths is a
/// `GET`.
fn is_got_only(catalog: &Catalog, parts: &[&str]) -> bool {
    match parts {
        ["version"] | ["api"] => true,
        [".well-known", "openid-configuration"] | ["openid", "v1", "jwks"] => true,
        ["api", version] => catalog.has_version("", version),
        ["apis", group, version] => {
            is_builtin(catalog, group) && catalog.has_version(group, version)
        }
        _ => false,
    }
}

fn is_builtin(catalog: &Catalog, group: &str) -> bool {
    catalog.all().iter().any(|it| it.group == group && it.custom.is_none())
}

/// Groups that are built in answer for all below them; for everything else nobody does.
pub(crate) fn nothing_at(catalog: &Catalog, path: &str) -> Status {
    let parts: Vec<&str> = path.split('/').skip(1).collect();
    match parts.as_slice() {
        ["api" | "version", ..] => Status::no_such_path(),
        ["apis", group, ..] if is_builtin(catalog, group) => Status::no_such_path(),
        _ => Status::page_not_found(),
    }
}

/// What is no object is JSON, whatever the client would like.
fn plain_json(document: &Value) -> Response<Body> {
    render::response(StatusCode::OK, Format::Json, document.to_string().into())
}

/// The OpenAPI v3 document of a version that a server behind a Service has, as that server tells it.
async fn remote_document(
    server: &Server,
    group: &str,
    version: &str,
    head: &http::request::Parts,
) -> Response<Body> {
    let mut request = http::Request::new(transport::empty());
    *request.uri_mut() = head.uri.clone();
    *request.headers_mut() = head.headers.clone();
    let user = UserInfo::new("system:aggregator", &[]);
    match server.aggregator.remote(group, version) {
        Some(remote) => server.aggregator.forward(&remote, &user, request).await,
        None => render::status(&Status::no_such_path(), Format::Json),
    }
}

fn plain(text: impl Into<Bytes>) -> Response<Body> {
    let mut response = Response::new(transport::full(text));
    let media = HeaderValue::from_static("text/plain; charset=utf-8");
    response.headers_mut().insert(header::CONTENT_TYPE, media);
    response
}

/// How long relying parties may keep the issuer's documents: upstream's hour.
const ISSUER_CACHE: HeaderValue = HeaderValue::from_static("public, max-age=3600");

/// What relying parties ask to check service-account tokens by themselves.
fn issuer(
    server: &Server,
    media: &'static str,
    document: fn(&ServiceAccounts) -> Value,
) -> Result<Response<Body>, Status> {
    let accounts = server.authenticator.service_accounts().ok_or_else(Status::page_not_found)?;
    let mut response = Response::new(transport::full(document(accounts).to_string()));
    response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static(media));
    response.headers_mut().insert(header::CACHE_CONTROL, ISSUER_CACHE);
    Ok(response)
}

fn configuration(accounts: &ServiceAccounts) -> Value {
    json!({
        "issuer": accounts.issuer, "jwks_uri": accounts.jwks_uri,
        "response_types_supported": ["id_token"], "subject_types_supported": ["public"],
        "id_token_signing_alg_values_supported": ["RS256"],
    })
}

fn metrics(server: &Server) -> Response<Body> {
    let mut text = String::new();
    objects(server, &mut text);
    server.metrics.write(&mut text);
    server.admission.measures.write(&mut text);
    server.flow.metrics(&mut text);
    const EXPIRATION: &str = "apiserver_client_certificate_expiration_seconds";
    let help = "Distribution of the remaining lifetime on the certificate used to authenticate a \
                request.";
    head(&mut text, EXPIRATION, "histogram", help);
    server.authenticator.expirations().write(&mut text, EXPIRATION, "");
    if let Some(log) = &server.config.audit {
        let name = "apiserver_audit_event_total";
        let help = "Counter of audit events generated and sent to the audit backend.";
        head(&mut text, name, "counter", help);
        text.push_str(&format!("{name} {}\n", log.count()));
    }
    build(server, &mut text);
    telemetry::process::write_metrics(&mut text);
    plain(text)
}

/// How many objects of each kind are stored, by both names that upstream has for it.
fn objects(server: &Server, text: &mut String) {
    let catalog = server.catalog();
    let stored = catalog.all().iter().filter(|it| it.is_stored() && it.stored_as.is_none());
    let counts: Vec<_> =
        stored.map(|it| (it.clone(), server.store.scan(&it.prefix("")).len())).collect();
    let help = "[DEPRECATED, consider using apiserver_resource_objects instead] Number of stored \
                objects at the time of last check split by kind.";
    head(text, "apiserver_storage_objects", "gauge", help);
    for (resource, count) in &counts {
        let name = resource.qualified();
        text.push_str(&format!("apiserver_storage_objects{{resource=\"{name}\"}} {count}\n"));
    }
    let help = "Number of stored objects at the time of last check split by kind.";
    head(text, "apiserver_resource_objects", "gauge", help);
    for (resource, count) in &counts {
        let (group, plural) = (&resource.group, &resource.plural);
        text.push_str(&format!(
            "apiserver_resource_objects{{group=\"{group}\",resource=\"{plural}\"}} {count}\n"
        ));
    }
}

fn build(server: &Server, text: &mut String) {
    let version = version(server);
    let said = |field: &str| version[field].as_str().unwrap_or_default().to_owned();
    let labels = [
        ("build_date", "buildDate"),
        ("compiler", "compiler"),
        ("git_commit", "gitCommit"),
        ("git_tree_state", "gitTreeState"),
        ("git_version", "gitVersion"),
        ("go_version", "goVersion"),
        ("major", "major"),
        ("minor", "minor"),
        ("platform", "platform"),
    ];
    let labels: Vec<_> =
        labels.iter().map(|(label, field)| format!("{label}=\"{}\"", said(field))).collect();
    let help = "A metric with a constant '1' value labeled by major, minor, git version, git commit, \
                git tree state, build date, Go version, and compiler from which Kubernetes was \
                built, and platform on which it is running.";
    head(text, "kubernetes_build_info", "gauge", help);
    text.push_str(&format!("kubernetes_build_info{{{}}} 1\n", labels.join(",")));
}

fn version(server: &Server) -> Value {
    let git = &server.config.git_version;
    let mut numbers = git.trim_start_matches('v').split(['.', '-']);
    let mut next = || numbers.next().unwrap_or_default().to_owned();
    let (major, minor) = (next(), next());
    json!({
        "major": major, "minor": format!("{minor}+"), "emulationMajor": major,
        "emulationMinor": minor, "minCompatibilityMajor": major, "minCompatibilityMinor": minor,
        // The build does not know its commit or date.
        "gitVersion": git, "gitCommit": "", "gitTreeState": "", "buildDate": "",
        "goVersion": "", "compiler": "rustc",
        "platform": format!("{}/{}", std::env::consts::OS, platform()),
    })
}

/// The architecture in Go's spelling.
fn platform() -> &'static str {
    match std::env::consts::ARCH {
        "x86_64" => "amd64",
        "aarch64" => "arm64",
        other => other,
    }
}

fn paths(merged: &Merged) -> Value {
    let mut all: Vec<String> =
        vec!["/api".into(), "/api/v1".into(), "/apis".into(), "/apis/".into()];
    for (group, versions) in merged.groups() {
        all.push(format!("/apis/{group}"));
        all.extend(versions.iter().map(|version| format!("/apis/{group}/{version}")));
    }
    all.extend(PATHS.iter().map(ToString::to_string));
    all.sort();
    json!({ "paths": all })
}

/// What the content type of the groups in one document says beside the format.
const AGGREGATED: &str = "g=apidiscovery.k8s.io;v=v2;as=APIGroupDiscoveryList";

fn groups(
    server: &Server,
    merged: &Merged,
    is_core: bool,
    head: &http::request::Parts,
) -> Result<Response<Body>, Status> {
    let accept = negotiate::of_groups(&head.headers)?;
    if accept.form == Form::AggregatedDiscovery {
        return Ok(aggregated_groups(merged, is_core, accept.format, &head.headers));
    }
    let document = if is_core {
        let address = format!("{}:443", server.services.first_address());
        json!({
            "kind": "APIVersions", "versions": ["v1"],
            "serverAddressByClientCIDRs": [{ "clientCIDR": "0.0.0.0/0", "serverAddress": address }],
        })
    } else {
        let groups: Vec<Value> =
            merged.groups().filter_map(|(group, _)| group_entry(merged, group)).collect();
        json!({ "kind": "APIGroupList", "apiVersion": "v1", "groups": groups })
    };
    Ok(render::response(StatusCode::OK, accept.format, document.to_string().into()))
}

/// Clients keep the document for as long as it is the same.
fn aggregated_groups(
    merged: &Merged,
    is_core: bool,
    format: Format,
    asked: &HeaderMap,
) -> Response<Body> {
    let document = aggregated(merged, is_core).to_string();
    let etag = format!("\"{}\"", hex::encode_upper(Sha512::digest(&document)));
    let is_known = asked.get(header::IF_NONE_MATCH).is_some_and(|it| *it == etag);
    let mut response = if is_known {
        let mut response = Response::new(transport::empty());
        *response.status_mut() = StatusCode::NOT_MODIFIED;
        response
    } else {
        render::response(StatusCode::OK, format, document.into())
    };
    let media = format!("{};{AGGREGATED}", format.media_type());
    let headers = response.headers_mut();
    for (name, value) in [(header::CONTENT_TYPE, media), (header::ETAG, etag)] {
        if let Ok(value) = HeaderValue::from_str(&value) {
            headers.insert(name, value);
        }
    }
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("public"));
    headers.insert(header::VARY, HeaderValue::from_static("Accept"));
    response
}

fn group_entry(merged: &Merged, group: &str) -> Option<Value> {
    let (_, versions) = merged.groups().find(|(it, _)| it == group)?;
    let versions: Vec<Value> = versions
        .iter()
        .map(|it| json!({ "groupVersion": format!("{group}/{it}"), "version": it }))
        .collect();
    let preferred = versions.first().cloned();
    Some(json!({ "name": group, "versions": versions, "preferredVersion": preferred }))
}

fn group_document(merged: &Merged, group: &str) -> Option<Value> {
    let mut document = group_entry(merged, group)?;
    document["kind"] = "APIGroup".into();
    document["apiVersion"] = "v1".into();
    Some(document)
}

/// The verbs, kind and version of a subresource.
pub(crate) fn subresource(name: &str) -> (&'static [&'static str], Option<[&'static str; 3]>) {
    const CONNECT: &[&str] = &["create", "delete", "get", "patch", "update"];
    match name {
        "status" | "approval" | "ephemeralcontainers" | "resize" => {
            (&["get", "patch", "update"], None)
        }
        "scale" => (&["get", "patch", "update"], Some(["autoscaling", "v1", "Scale"])),
        "log" => (&["get"], None),
        "exec" => (&["create", "get"], Some(["", "v1", "PodExecOptions"])),
        "attach" => (&["create", "get"], Some(["", "v1", "PodAttachOptions"])),
        "portforward" => (&["create", "get"], Some(["", "v1", "PodPortForwardOptions"])),
        "proxy" => (CONNECT, None),
        "binding" => (&["create"], Some(["", "v1", "Binding"])),
        "eviction" => (&["create"], Some(["policy", "v1", "Eviction"])),
        "token" => (&["create"], Some(["authentication.k8s.io", "v1", "TokenRequest"])),
        "finalize" => (&["update"], None),
        _ => (&["get"], None),
    }
}

/// What can be asked of a subresource.
#[cfg(test)]
pub(crate) fn subresource_verbs(name: &str) -> &'static [&'static str] {
    subresource(name).0
}

fn proxy_kind(resource: &Resource) -> [&'static str; 3] {
    match resource.plural.as_str() {
        "nodes" => ["", "v1", "NodeProxyOptions"],
        "services" => ["", "v1", "ServiceProxyOptions"],
        _ => ["", "v1", "PodProxyOptions"],
    }
}

fn resources(catalog: &Catalog, group: &str, version: &str) -> Value {
    let mut list = Vec::new();
    for it in catalog.of_version(group, version) {
        let mut entry = json!({
            "name": it.plural, "singularName": it.singular, "namespaced": it.namespaced,
            "kind": it.kind, "verbs": it.verbs(),
        });
        if !it.short_names.is_empty() {
            entry["shortNames"] = json!(it.short_names);
        }
        if !it.categories.is_empty() {
            entry["categories"] = json!(it.categories);
        }
        if it.is_stored() {
            entry["storageVersionHash"] = storage_hash(it).into();
        }
        list.push(entry);
        for name in &it.subresources {
            let (verbs, kind) = subresource(name);
            let kind = if name == "proxy" { Some(proxy_kind(it)) } else { kind };
            let mut entry = json!({
                "name": format!("{}/{name}", it.plural), "singularName": "",
                "namespaced": it.namespaced, "kind": it.kind, "verbs": verbs,
            });
            if let Some([group, version, kind]) = kind {
                entry["kind"] = kind.into();
                if !(group.is_empty() && it.group.is_empty()) {
                    entry["group"] = group.into();
                    entry["version"] = version.into();
                }
            }
            list.push(entry);
        }
    }
    let group_version =
        if group.is_empty() { version.to_owned() } else { format!("{group}/{version}") };
    let mut document = json!({
        "kind": "APIResourceList", "groupVersion": group_version, "resources": list,
    });
    if !group.is_empty() {
        document["apiVersion"] = "v1".into();
    }
    document
}

/// An opaque token that changes with the stored version.
fn storage_hash(resource: &Resource) -> String {
    use base64::{Engine, prelude::BASE64_STANDARD};
    let (group, plural) = resource.storage();
    let hash = Sha256::digest(format!("{group}/{}/{plural}", resource.version));
    BASE64_STANDARD.encode(&hash[..8])
}

fn aggregated(merged: &Merged, is_core: bool) -> Value {
    let catalog = &merged.catalog;
    let core = (String::new(), vec!["v1".to_owned()]);
    let all: Vec<&(String, Vec<String>)> =
        if is_core { vec![&core] } else { merged.groups().collect() };
    let items: Vec<Value> = all
        .into_iter()
        .map(|(group, versions)| {
            let versions: Vec<Value> = versions
                .iter()
                .map(|version| {
                    if let Some(remote) = merged.version(group, version) {
                        return remote;
                    }
                    let resources: Vec<Value> =
                        catalog.of_version(group, version).map(|it| aggregated_entry(it)).collect();
                    json!({ "version": version, "resources": resources, "freshness": "Current" })
                })
                .collect();
            let metadata = if group.is_empty() {
                json!({ "creationTimestamp": null })
            } else {
                json!({ "name": group, "creationTimestamp": null })
            };
            json!({ "metadata": metadata, "versions": versions })
        })
        .collect();
    json!({
        "kind": "APIGroupDiscoveryList", "apiVersion": "apidiscovery.k8s.io/v2", "metadata": {},
        "items": items,
    })
}

fn aggregated_entry(resource: &Resource) -> Value {
    let own_kind =
        || json!({ "group": resource.group, "version": resource.version, "kind": resource.kind });
    let scope = if resource.namespaced { "Namespaced" } else { "Cluster" };
    let mut entry = json!({
        "resource": resource.plural, "responseKind": own_kind(), "scope": scope,
        "singularResource": resource.singular, "verbs": resource.verbs(),
    });
    if !resource.short_names.is_empty() {
        entry["shortNames"] = json!(resource.short_names);
    }
    if !resource.categories.is_empty() {
        entry["categories"] = json!(resource.categories);
    }
    let subresources: Vec<Value> = resource
        .subresources
        .iter()
        .map(|name| {
            let (verbs, kind) = subresource(name);
            let kind = if name == "proxy" { Some(proxy_kind(resource)) } else { kind };
            let kind = kind.map_or_else(own_kind, |[group, version, kind]| {
                json!({ "group": group, "version": version, "kind": kind })
            });
            json!({ "subresource": name, "responseKind": kind, "verbs": verbs })
        })
        .collect();
    if !subresources.is_empty() {
        entry["subresources"] = subresources.into();
    }
    entry
}
