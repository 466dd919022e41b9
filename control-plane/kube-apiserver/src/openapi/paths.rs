//! The paths of the documents, with their operations: what clients look for in them, and generators
//! make calls of.
//!
//! Deviation: paths of streams into pods, of proxies and of the deprecated `/watch/`, documents of groups
//! (`/apis/apps/`) and what is no resource (`/version`, `/logs`, OpenID's) are not told of; descriptions are
//! shorter than upstream's.
//!
//! Upstream: k8s.io/apiserver/pkg/endpoints/installer.go; for custom resources `buildRoute` in
//! k8s.io/apiextensions-apiserver/pkg/controller/openapi/builder.

use serde_json::{Map, Value, json};

use super::{REFERENCE, parameters};
use crate::{discovery, resources::Resource};

const META: &str = "io.k8s.apimachinery.pkg.apis.meta.v1";
const JSON: &str = "application/json";
const YAML: &str = "application/yaml";
const PROTOBUF: &str = kube_protobuf::MEDIA_TYPE;
const STREAMS: [&str; 2] = ["application/json;stream=watch", kube_protobuf::STREAM_MEDIA_TYPE];
const PATCHES: [&str; 4] = [
    "application/json-patch+json",
    "application/merge-patch+json",
    "application/apply-patch+yaml",
    "application/strategic-merge-patch+json",
];
/// What is passed on.
const CONNECTED: [&str; 4] = ["exec", "attach", "portforward", "proxy"];

/// Of the document.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Version {
    Second,
    Third,
}

impl Version {
    fn reference(self, schema: &str) -> Value {
        let root = if self == Self::Third { REFERENCE } else { "#/definitions/" };
        json!({ "$ref": format!("{root}{schema}") })
    }
}

/// The schema of patches, of which no more is said.
pub(super) fn patch_schema() -> (String, Value) {
    let what = "Patch is the body of a patch, whose form its content type says.";
    (format!("{META}.Patch"), json!({ "description": what, "type": "object" }))
}

pub(super) fn add_paths(
    paths: &mut Map<String, Value>,
    resource: &Resource,
    schema: &str,
    version: Version,
) {
    let writer = Writer { resource, schema, version };
    let root = if resource.group.is_empty() {
        format!("/api/{}", resource.version)
    } else {
        format!("/apis/{}/{}", resource.group, resource.version)
    };
    let scope = if resource.namespaced { "/namespaces/{namespace}" } else { "" };
    let (plural, verbs) = (&resource.plural, resource.verbs());
    let mut add = |path: String, verbs: &[&str], part: Part| {
        let operations = writer.operations(&path, verbs, part);
        paths.insert(path, operations);
    };
    let of = |all: &[&'static str]| -> Vec<&str> {
        all.iter().copied().filter(|it| verbs.contains(it)).collect()
    };
    let collection = format!("{root}{scope}/{plural}");
    add(collection.clone(), &of(&["list", "create", "deletecollection"]), Part::Objects);
    if resource.namespaced && verbs.contains(&"list") {
        add(format!("{root}/{plural}"), &["list"], Part::EveryNamespace);
    }
    let one = of(&["get", "update", "patch", "delete"]);
    if !one.is_empty() {
        add(format!("{collection}/{{name}}"), &one, Part::Objects);
    }
    for name in &resource.subresources {
        if !CONNECTED.contains(&name.as_str()) {
            let verbs = discovery::subresource(name).0;
            add(format!("{collection}/{{name}}/{name}"), verbs, Part::Subresource(name));
        }
    }
}

/// What of a resource a path is of.
#[derive(Clone, Copy)]
enum Part<'a> {
    Objects,
    EveryNamespace,
    Subresource(&'a str),
}

struct Writer<'a> {
    resource: &'a Resource,
    schema: &'a str,
    version: Version,
}

/// What an operation takes, and what it answers with which codes.
struct Exchange {
    parameters: &'static [&'static str],
    body: Option<String>,
    codes: &'static [&'static str],
    answer: Option<String>,
}

impl Writer<'_> {
    fn operations(&self, path: &str, verbs: &[&str], part: Part<'_>) -> Value {
        let mut all = Map::new();
        let parameters = parameters::of_path(path, &self.resource.kind, self.version);
        all.insert("parameters".into(), parameters);
        for verb in verbs {
            let method = match *verb {
                "create" => "post",
                "update" => "put",
                "patch" => "patch",
                "delete" | "deletecollection" => "delete",
                _ => "get",
            };
            all.insert(method.into(), self.operation(verb, part));
        }
        Value::Object(all)
    }

    fn operation(&self, verb: &str, part: Part<'_>) -> Value {
        let action = match verb {
            "create" => "post",
            "update" => "put",
            other => other,
        };
        let exchange = self.exchange(verb, part);
        let mut operation = json!({
            "operationId": self.id(verb, part), "tags": [self.tag()],
            "x-kubernetes-action": action, "x-kubernetes-group-version-kind": self.kind(part),
        });
        let named = exchange.parameters.iter();
        let mut parameters: Vec<Value> =
            named.map(|it| parameters::in_query(it, self.version)).collect();
        let is_list = verb == "list";
        match self.version {
            Version::Second => {
                operation["consumes"] = json!(self.consumes(verb));
                operation["produces"] = json!(self.produces(&exchange, is_list));
                if let Some(schema) = &exchange.body {
                    let mut body = json!({
                        "name": "body", "in": "body", "schema": self.version.reference(schema),
                    });
                    if is_required(verb) {
                        body["required"] = true.into();
                    }
                    parameters.insert(0, body);
                }
            }
            Version::Third => {
                if let Some(schema) = &exchange.body {
                    let content = self.content(&self.consumes(verb), schema);
                    operation["requestBody"] = json!({ "content": content });
                    if is_required(verb) {
                        operation["requestBody"]["required"] = true.into();
                    }
                }
            }
        }
        operation["parameters"] = parameters.into();
        operation["responses"] = self.responses(&exchange, is_list);
        operation
    }

    fn exchange(&self, verb: &str, part: Part<'_>) -> Exchange {
        let own = match part {
            Part::Subresource(name) => subresource_schema(name).unwrap_or(self.schema),
            _ => self.schema,
        };
        let (status, options) = (format!("{META}.Status"), format!("{META}.DeleteOptions"));
        let own = own.to_owned();
        let is_custom = self.resource.custom.is_some();
        let (parameters, body, codes, answer): (_, _, &[&str], _) = match verb {
            "list" => (parameters::LIST, None, &["200"], format!("{}List", self.schema)),
            "create" => (parameters::WRITE, Some(own.clone()), &["200", "201", "202"], own),
            "update" => (parameters::WRITE, Some(own.clone()), &["200", "201"], own),
            "patch" => {
                let codes: &[&str] = if is_custom { &["200"] } else { &["200", "201"] };
                (parameters::PATCH, Some(format!("{META}.Patch")), codes, own)
            }
            "delete" => {
                let answer = if self.resource.returns_deleted { own } else { status };
                (parameters::DELETE, Some(options), &["200", "202"], answer)
            }
            "deletecollection" if is_custom => (parameters::LIST, None, &["200"], status),
            "deletecollection" => (parameters::COLLECTION, Some(options), &["200"], status),
            _ if is_custom => (&["resourceVersion"], None, &["200"], own),
            _ if is_log(part) => (parameters::LOG, None, &["200"], own),
            _ => (&[][..], None, &["200"], own),
        };
        Exchange { parameters, body, codes, answer: (!is_log(part)).then_some(answer) }
    }

    fn responses(&self, exchange: &Exchange, is_list: bool) -> Value {
        let mut all = Map::new();
        for code in exchange.codes {
            let what = match *code {
                "201" => "Created",
                "202" => "Accepted",
                _ => "OK",
            };
            let mut response = json!({ "description": what });
            match (&exchange.answer, self.version) {
                (Some(schema), Version::Second) => {
                    response["schema"] = self.version.reference(schema);
                }
                (Some(schema), Version::Third) => {
                    let media = self.produces(exchange, is_list);
                    response["content"] = self.content(&media, schema);
                }
                (None, Version::Second) => response["schema"] = json!({ "type": "string" }),
                (None, Version::Third) => {
                    response["content"] =
                        json!({ "text/plain": { "schema": { "type": "string" } } });
                }
            }
            all.insert((*code).to_owned(), response);
        }
        all.insert("401".into(), json!({ "description": "Unauthorized" }));
        Value::Object(all)
    }

    fn content(&self, media: &[&str], schema: &str) -> Value {
        let entry = json!({ "schema": self.version.reference(schema) });
        media.iter().map(|it| ((*it).to_owned(), entry.clone())).collect::<Map<_, _>>().into()
    }

    fn produces(&self, exchange: &Exchange, is_list: bool) -> Vec<&'static str> {
        if exchange.answer.is_none() {
            return vec!["text/plain"];
        }
        if self.resource.custom.is_some() {
            return vec![JSON, YAML];
        }
        let streams = if is_list { &STREAMS[..] } else { &[] };
        [JSON, YAML, PROTOBUF].into_iter().chain(streams.iter().copied()).collect()
    }

    fn consumes(&self, verb: &str) -> Vec<&'static str> {
        match self.resource.custom {
            _ if verb == "patch" => self.patches(),
            Some(_) => vec![JSON, YAML],
            None => vec!["*/*"],
        }
    }

    fn patches(&self) -> Vec<&'static str> {
        let count = if self.resource.custom.is_some() { 3 } else { 4 };
        PATCHES.into_iter().take(count).collect()
    }

    fn kind(&self, part: Part<'_>) -> Value {
        let other = match part {
            Part::Subresource(name) => discovery::subresource(name).1,
            _ => None,
        };
        let Resource { group, version, kind, .. } = self.resource;
        match other {
            Some([group, version, kind]) => {
                json!({ "group": group, "version": version, "kind": kind })
            }
            None => json!({ "group": group, "version": version, "kind": kind }),
        }
    }

    /// The group as names of calls have it: `RbacAuthorization`.
    fn group(&self) -> String {
        match self.resource.group.trim_end_matches(".k8s.io") {
            "" => "Core".to_owned(),
            group => group.split(['.', '-']).map(capitalized).collect(),
        }
    }

    /// `rbacAuthorization_v1`
    fn tag(&self) -> String {
        let group = self.group();
        let (first, rest) = group.split_at(1);
        format!("{}{rest}_{}", first.to_lowercase(), self.resource.version)
    }

    /// Unique in a document: `listCoreV1NamespacedPod`.
    fn id(&self, verb: &str, part: Part<'_>) -> String {
        let verb = match verb {
            "get" => "read",
            "update" => "replace",
            "deletecollection" => "deleteCollection",
            other => other,
        };
        let (verb, collection) = match verb.strip_suffix("Collection") {
            Some(verb) => (verb, "Collection"),
            None => (verb, ""),
        };
        let group = format!("{}{}", self.group(), capitalized(&self.resource.version));
        let kind = &self.resource.kind;
        let scope = if self.resource.namespaced { "Namespaced" } else { "" };
        match part {
            Part::Objects => format!("{verb}{group}{collection}{scope}{kind}"),
            Part::EveryNamespace => format!("{verb}{group}{kind}ForAllNamespaces"),
            Part::Subresource(name) => {
                format!("{verb}{group}{scope}{kind}{}", capitalized(name))
            }
        }
    }
}

fn is_log(part: Part<'_>) -> bool {
    matches!(part, Part::Subresource("log"))
}

fn is_required(verb: &str) -> bool {
    matches!(verb, "create" | "update" | "patch")
}

fn capitalized(word: &str) -> String {
    let mut letters = word.chars();
    letters.next().map(|it| it.to_uppercase().chain(letters).collect()).unwrap_or_default()
}

/// The schema of what is not the resource's own.
pub(super) fn subresource_schema(name: &str) -> Option<&'static str> {
    match name {
        "scale" => Some("io.k8s.api.autoscaling.v1.Scale"),
        "binding" => Some("io.k8s.api.core.v1.Binding"),
        "eviction" => Some("io.k8s.api.policy.v1.Eviction"),
        "token" => Some("io.k8s.api.authentication.v1.TokenRequest"),
        _ => None,
    }
}
