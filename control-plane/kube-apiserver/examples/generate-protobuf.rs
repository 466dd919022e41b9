//! Writes `schemas/protobuf.json.gz`: the numbers of the fields of all built-in types.
//!
//! They are read from the sources of the crate `k8s-pb` (whose structs carry them as attributes),
//! and matched with the schemas that `generate-openapi` wrote: only what those have is kept. A
//! message that JSON shows in the message around it becomes a nested table. Fields that are newer
//! than the crate are listed on standard error; they cannot be read from protobuf until it has
//! them.
//!
//! ```text
//! cargo run -p kube-apiserver --example generate-protobuf -- \
//!     ~/.cargo/registry/src/*/k8s-pb-0.9.0/src control-plane/kube-apiserver/schemas
//! ```

use std::{
    collections::{BTreeMap, HashMap},
    env, fs,
    io::{Read, Write},
    path::Path,
};

use flate2::{Compression, read::GzDecoder, write::GzEncoder};
use serde_json::{Map, Value};

type Failure = Box<dyn std::error::Error>;

/// One field of a message: its number, its name in Rust, and its type if that is a message.
struct Field {
    number: u32,
    name: String,
    message: Option<String>,
}

/// Messages by schema name in lower case.
type Messages = HashMap<String, Vec<Field>>;

fn main() -> Result<(), Failure> {
    let mut args = env::args().skip(1);
    let usage = "usage: generate-protobuf K8S-PB-SOURCES SCHEMAS-FOLDER";
    let (sources, folder) = (args.next().ok_or(usage)?, args.next().ok_or(usage)?);
    let mut messages = Messages::new();
    read_folder(Path::new(&sources), &mut Vec::new(), &mut messages)?;
    let mut text = Vec::new();
    let schemas = fs::File::open(format!("{folder}/kubernetes.json.gz"))?;
    GzDecoder::new(schemas).read_to_end(&mut text)?;
    let document: Value = serde_json::from_slice(&text)?;
    let mut table = BTreeMap::new();
    for (schema, body) in document["schemas"].as_object().into_iter().flatten() {
        let Some(properties) = body["properties"].as_object() else { continue };
        let mut missing: Vec<&String> = properties.keys().collect();
        let row = numbers(&schema.to_lowercase(), properties, &messages, &mut missing, 0);
        let is_root = properties.contains_key("metadata") || schema.ends_with("DeleteOptions");
        missing.retain(|it| !(is_root && matches!(it.as_str(), "apiVersion" | "kind")));
        for field in missing {
            eprintln!("no number for {schema}.{field}");
        }
        if let Some(row) = row {
            table.insert(schema.clone(), row);
        }
    }
    let file = fs::File::create(format!("{folder}/protobuf.json.gz"))?;
    let mut encoder = GzEncoder::new(file, Compression::best());
    encoder.write_all(serde_json::to_string(&table)?.as_bytes())?;
    encoder.finish()?;
    println!("{} messages", table.len());
    Ok(())
}

/// Upper and lower case and word separators differ between Rust's names and JSON's.
fn normal(name: &str) -> String {
    name.chars().filter(char::is_ascii_alphanumeric).collect::<String>().to_lowercase()
}

fn numbers(
    message: &str,
    properties: &Map<String, Value>,
    messages: &Messages,
    missing: &mut Vec<&String>,
    depth: usize,
) -> Option<Value> {
    let mut row = Map::new();
    for field in messages.get(message).filter(|_| depth < 4)? {
        let same = properties.keys().find(|it| normal(it) == normal(&field.name));
        let value = match (same, &field.message) {
            (Some(name), _) => {
                missing.retain(|it| *it != name);
                Value::String(name.clone())
            }
            (None, Some(inner)) => match numbers(inner, properties, messages, missing, depth + 1) {
                Some(inner) => inner,
                None => continue,
            },
            (None, None) => continue,
        };
        row.insert(field.number.to_string(), value);
    }
    Some(Value::Object(row))
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
    let (name, kind) = declared.strip_prefix("pub ")?.split_once(':')?;
    let is_message = attribute.contains("(message");
    Some(Field {
        number,
        name: name.trim_start_matches("r#").to_owned(),
        message: is_message.then(|| resolve(kind, module)),
    })
}

/// The schema name of a type: the innermost of `Option<Vec<…>>`, relative to its module.
fn resolve(kind: &str, module: &[String]) -> String {
    let inner = kind.trim().trim_end_matches(',').trim_end_matches('>');
    let inner = inner.rsplit(['<', ' ']).next().unwrap_or(inner);
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
