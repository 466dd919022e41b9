//! Writes `types.json.gz`: the kinds that there are, and of all their messages the fields' numbers
//! and types.
//!
//! They are read from the sources of the crate `k8s-pb` (whose structs carry them as attributes),
//! and matched with the schemas that `generate-openapi` of the API server wrote: only what those
//! have is kept, and what [`BESIDE`] names, which has no schema. A field is `NAME=TYPE`, where the
//! type is a scalar's or a message's name, behind `[` if it is repeated and behind `{` if it is a
//! map, with a `!` behind it if the schema requires the field. A message that
//! JSON shows in the message around it becomes a nested table. Fields that are newer than the crate
//! are listed on standard error: `newer.json` has them, by hand.
//!
//! ```text
//! cargo run -p kube-protobuf --example generate -- ~/.cargo/registry/src/*/k8s-pb-0.9.0/src \
//!     control-plane/kube-apiserver/schemas/kubernetes.json.gz lib/kube-protobuf/types.json.gz
//! ```

use std::{
    collections::{BTreeMap, HashMap},
    env, fs,
    io::{Read, Write},
    path::Path,
};

use flate2::{Compression, read::GzDecoder, write::GzEncoder};
use serde_json::{Map, Value, json};

type Failure = Box<dyn std::error::Error>;

/// Messages that have no schema, with their fields' names in JSON.
const BESIDE: &[(&str, &[&str])] = &[
    ("io.k8s.api.apidiscovery.v2.APIGroupDiscovery", &["metadata", "versions"]),
    ("io.k8s.api.apidiscovery.v2.APIGroupDiscoveryList", &["metadata", "items"]),
    (
        "io.k8s.api.apidiscovery.v2.APIResourceDiscovery",
        &[
            "resource",
            "responseKind",
            "scope",
            "singularResource",
            "verbs",
            "shortNames",
            "categories",
            "subresources",
        ],
    ),
    (
        "io.k8s.api.apidiscovery.v2.APISubresourceDiscovery",
        &["subresource", "responseKind", "acceptedTypes", "verbs"],
    ),
    ("io.k8s.api.apidiscovery.v2.APIVersionDiscovery", &["version", "resources", "freshness"]),
    ("io.k8s.api.core.v1.ComponentCondition", &["type", "status", "message", "error"]),
    ("io.k8s.api.core.v1.ComponentStatus", &["metadata", "conditions"]),
    (
        "io.k8s.apimachinery.pkg.apis.meta.v1.APIGroup",
        &["name", "versions", "preferredVersion", "serverAddressByClientCIDRs"],
    ),
    ("io.k8s.apimachinery.pkg.apis.meta.v1.APIGroupList", &["groups"]),
    (
        "io.k8s.apimachinery.pkg.apis.meta.v1.APIResource",
        &[
            "name",
            "singularName",
            "namespaced",
            "group",
            "version",
            "kind",
            "verbs",
            "shortNames",
            "categories",
            "storageVersionHash",
        ],
    ),
    ("io.k8s.apimachinery.pkg.apis.meta.v1.APIResourceList", &["groupVersion", "resources"]),
    (
        "io.k8s.apimachinery.pkg.apis.meta.v1.APIVersions",
        &["versions", "serverAddressByClientCIDRs"],
    ),
    ("io.k8s.apimachinery.pkg.apis.meta.v1.GroupVersionForDiscovery", &["groupVersion", "version"]),
    ("io.k8s.apimachinery.pkg.apis.meta.v1.GroupVersionKind", &["group", "version", "kind"]),
    ("io.k8s.apimachinery.pkg.apis.meta.v1.PartialObjectMetadata", &["metadata"]),
    (
        "io.k8s.apimachinery.pkg.apis.meta.v1.ServerAddressByClientCIDR",
        &["clientCIDR", "serverAddress"],
    ),
];

/// Kinds that have no schema, by their API versions.
const KINDS_BESIDE: &[(&str, &str, &str)] = &[
    ("", "APIVersions", META),
    ("", "APIResourceList", META),
    ("v1", "APIGroup", META),
    ("v1", "APIGroupList", META),
    ("v1", "APIResourceList", META),
    ("meta.k8s.io/v1", "PartialObjectMetadata", META),
    ("apidiscovery.k8s.io/v2", "APIGroupDiscovery", "io.k8s.api.apidiscovery.v2"),
    ("v1", "ComponentStatus", "io.k8s.api.core.v1"),
];

const META: &str = "io.k8s.apimachinery.pkg.apis.meta.v1";

/// One field of a message: its number, its name in Rust, its kind, and its type if that is a
/// message.
struct Field {
    number: u32,
    name: String,
    kind: String,
    message: Option<String>,
}

/// Messages by schema name in lower case.
type Messages = HashMap<String, Vec<Field>>;

fn main() -> Result<(), Failure> {
    let mut args = env::args().skip(1);
    let mut argument = || args.next().ok_or("usage: generate K8S-PB-SOURCES SCHEMAS TYPES");
    let (sources, schemas, target) = (argument()?, argument()?, argument()?);
    let mut messages = Messages::new();
    read_folder(Path::new(&sources), &mut Vec::new(), &mut messages)?;
    let mut text = Vec::new();
    GzDecoder::new(fs::File::open(schemas)?).read_to_end(&mut text)?;
    let document: Value = serde_json::from_slice(&text)?;
    let mut types: Types = BESIDE
        .iter()
        .map(|(name, fields)| ((*name).into(), fields.iter().map(ToString::to_string).collect()))
        .collect();
    for (schema, body) in document["schemas"].as_object().into_iter().flatten() {
        let fields = body["properties"].as_object().into_iter().flatten();
        types.insert(schema.clone(), fields.map(|(name, _)| name.clone()).collect());
    }
    let mut matcher = Matcher { messages, ..Matcher::default() };
    matcher.names = types.keys().map(|name| (name.to_lowercase(), name.clone())).collect();
    let mut table = BTreeMap::new();
    for (schema, fields) in types.iter().filter(|(_, fields)| !fields.is_empty()) {
        matcher.missing = fields.clone();
        let required = document["schemas"][schema]["required"].as_array().into_iter().flatten();
        matcher.required = required.filter_map(|it| it.as_str().map(str::to_owned)).collect();
        let row = matcher.row(&schema.to_lowercase(), fields, 0);
        let mut missing = std::mem::take(&mut matcher.missing);
        let is_root = fields.iter().any(|it| it == "metadata") || schema.ends_with("DeleteOptions");
        missing.retain(|it| !(is_root && matches!(it.as_str(), "apiVersion" | "kind")));
        for field in missing {
            eprintln!("no number for {schema}.{field}");
        }
        if let Some(row) = row {
            table.insert(schema.clone(), row);
        }
    }
    println!("{} messages", table.len());
    let text = json!({ "kinds": kinds(&document), "messages": table }).to_string();
    let mut encoder = GzEncoder::new(fs::File::create(target)?, Compression::best());
    encoder.write_all(text.as_bytes())?;
    encoder.finish()?;
    Ok(())
}

/// Each kind's API version, name and message.
fn kinds(document: &Value) -> Vec<[String; 3]> {
    let of_schema = document["kinds"].as_object().into_iter().flatten().map(|(message, kind)| {
        let part = |name: &str| kind[name].as_str().unwrap_or_default().to_owned();
        let group = part("group");
        let slash = if group.is_empty() { "" } else { "/" };
        [format!("{group}{slash}{}", part("version")), part("kind"), message.clone()]
    });
    let beside = KINDS_BESIDE.iter().map(|(version, kind, package)| {
        [(*version).to_owned(), (*kind).to_owned(), format!("{package}.{kind}")]
    });
    of_schema.chain(beside).collect()
}

/// Upper and lower case and word separators differ between Rust's names and JSON's.
fn normal(name: &str) -> String {
    name.chars().filter(char::is_ascii_alphanumeric).collect::<String>().to_lowercase()
}

/// The names of fields in JSON, by schema.
type Types = BTreeMap<String, Vec<String>>;

#[derive(Default)]
struct Matcher {
    messages: Messages,
    /// Schema names by themselves in lower case.
    names: HashMap<String, String>,
    /// Fields of the current type that no number was found for.
    missing: Vec<String>,
    /// Fields that the current type always has.
    required: Vec<String>,
}

impl Matcher {
    fn row(&mut self, message: &str, properties: &[String], depth: usize) -> Option<Value> {
        if depth == 4 {
            return None;
        }
        let mut row = Map::new();
        let fields = self.messages.remove(message)?;
        for field in &fields {
            let same = properties.iter().find(|it| normal(it) == normal(&field.name));
            let value = match (same, &field.message) {
                (Some(name), _) => {
                    self.missing.retain(|it| it != name);
                    let mark = if self.required.contains(name) { "!" } else { "" };
                    Some(Value::String(format!("{name}={}{mark}", self.kind(field))))
                }
                (None, Some(inner)) => self.row(inner, properties, depth + 1),
                (None, None) => None,
            };
            if let Some(value) = value {
                row.insert(field.number.to_string(), value);
            }
        }
        self.messages.insert(message.to_owned(), fields);
        Some(Value::Object(row))
    }

    fn kind(&self, field: &Field) -> String {
        let Some(message) = &field.message else { return field.kind.clone() };
        let name = self.names.get(message).unwrap_or(message);
        format!("{}{name}", field.kind)
    }
}

fn read_folder(
    folder: &Path,
    module: &mut Vec<String>,
    messages: &mut Messages,
) -> Result<(), Failure> {
    for entry in fs::read_dir(folder)? {
        let entry = entry?;
        let name = entry.file_name().to_string_lossy().into_owned();
        if entry.file_type()?.is_dir() {
            module.push(name);
            read_folder(&entry.path(), module, messages)?;
            module.pop();
        } else if name == "mod.rs" {
            read_file(&fs::read_to_string(entry.path())?, module, messages);
        }
    }
    Ok(())
}

/// The schema name of a Rust path, in lower case.
fn schema_name(module: &[String], name: &str) -> String {
    let root = match module.first().map(String::as_str) {
        Some("apiextensions_apiserver") => "io.k8s.apiextensions-apiserver",
        Some("kube_aggregator") => "io.k8s.kube-aggregator",
        Some("apimachinery") => "io.k8s.apimachinery",
        _ => "io.k8s.api",
    };
    let rest: String = module.iter().skip(1).map(|it| format!("{it}.")).collect();
    format!("{root}.{rest}{name}").to_lowercase()
}

fn read_file(source: &str, module: &[String], messages: &mut Messages) {
    let (mut current, mut attribute, mut declared) = (String::new(), String::new(), String::new());
    for line in source.lines().map(str::trim).filter(|it| !it.starts_with("//")) {
        if let Some(rest) = line.strip_prefix("pub struct ") {
            let name = rest.trim_end_matches(|it: char| !it.is_alphanumeric());
            current = schema_name(module, name);
            messages.insert(current.clone(), Vec::new());
        } else if line.starts_with("#[prost(") || !attribute.is_empty() && !attribute.contains(")]")
        {
            if line.starts_with("#[prost(") {
                attribute.clear();
            }
            attribute.push_str(line);
        } else if line.starts_with("pub ") && line.contains(": ")
            || line.starts_with("pub ") && line.ends_with(':')
        {
            declared = line.to_owned();
        } else if !declared.is_empty() {
            declared.push_str(line);
        }
        if declared.ends_with(',') && declared.matches('<').count() == declared.matches('>').count()
        {
            if let Some(field) = field(&attribute, &declared, module) {
                messages.entry(current.clone()).or_default().push(field);
            }
            attribute.clear();
            declared.clear();
        }
    }
}

fn field(attribute: &str, declared: &str, module: &[String]) -> Option<Field> {
    let (_, tag) = attribute.split_once("tag = \"")?;
    let number = tag.split('"').next()?.parse().ok()?;
    let (name, declared) = declared.strip_prefix("pub ")?.split_once(':')?;
    let (many, scalar) = match attribute.split_once("btree_map = \"string, ") {
        Some((_, value)) => ("{", value.split('"').next()?),
        None if attribute.contains("repeated") => ("[", attribute.strip_prefix("#[prost(")?),
        None => ("", attribute.strip_prefix("#[prost(")?),
    };
    let scalar = match scalar.split([',', ' ', ')']).next()? {
        "string" => "text",
        "int32" | "int64" => "integer",
        "bool" => "boolean",
        "message" => "",
        other => other,
    };
    Some(Field {
        number,
        name: name.trim_start_matches("r#").to_owned(),
        kind: format!("{many}{scalar}"),
        message: scalar.is_empty().then(|| resolve(declared, module)),
    })
}

/// The schema name of a type: the innermost of `Option<Vec<…>>`, relative to its module.
fn resolve(kind: &str, module: &[String]) -> String {
    let inner = kind.trim_end_matches([' ', ',', '>']);
    let inner = inner.rsplit(['<', ' ', ',']).next().unwrap_or(inner);
    let mut path = module.to_vec();
    let mut segments: Vec<&str> = inner.split("::").collect();
    let name = segments.pop().unwrap_or_default();
    for segment in segments {
        if segment == "super" {
            path.pop();
        } else {
            path.push(segment.to_owned());
        }
    }
    schema_name(&path, name)
}
