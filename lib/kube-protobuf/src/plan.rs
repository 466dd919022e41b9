//! The built-in types as protobuf has them: one table for reading and for writing.
//!
//! It is unpacked when it is first needed. A field that it lacks is neither read nor written; a test
//! says that it lacks none of those that are served.

use std::{
    collections::{BTreeMap, HashMap},
    io::Read,
    sync::LazyLock,
};

use flate2::read::GzDecoder;
use serde::Deserialize;
use serde_json::{Map, Value};

use crate::pointers::is_zero_a_value;

/// What a field's value is, in JSON and on the wire.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Kind {
    Text,
    Bytes,
    Integer,
    Boolean,
    Double,
    Time,
    MicroTime,
    Quantity,
    IntOrString,
    /// JSON's text in a message of its own: whatever it is, it is kept.
    Raw,
    /// A list of texts in a message of its own.
    Texts,
    Message(usize),
    /// A schema, with that index, or whether there may be anything.
    SchemaOrBoolean(usize),
    SchemaOrSchemas(usize),
    SchemaOrTexts(usize),
}

#[derive(Clone, Copy, Debug)]
pub(crate) enum Many {
    One,
    List,
    Map,
}

#[derive(Debug)]
pub(crate) struct Field {
    pub(crate) name: String,
    /// The messages around it that JSON does not show, outermost first.
    pub(crate) outer: Vec<u32>,
    pub(crate) number: u32,
    pub(crate) many: Many,
    pub(crate) kind: Kind,
    /// Whether a zero is a value rather than none.
    pub(crate) keeps_zero: bool,
}

/// What a field number stands for.
#[derive(Debug)]
pub(crate) enum Entry {
    /// A field, by its place in [`Message::fields`].
    Field(usize),
    /// A message whose fields JSON shows in the message around it.
    Inline(Numbers),
}

pub(crate) type Numbers = BTreeMap<u32, Entry>;

#[derive(Debug, Default)]
pub(crate) struct Message {
    /// Sorted by name.
    pub(crate) fields: Vec<Field>,
    pub(crate) numbers: Numbers,
}

impl Message {
    /// The field of that name. Names mostly come in order, so the search goes on where the last one
    /// ended, which `at` keeps.
    pub(crate) fn field(&self, name: &[u8], at: &mut usize) -> Option<&Field> {
        let is_it = |it: &Field| it.name.as_bytes() == name;
        let (before, after) = self.fields.split_at_checked(*at).unwrap_or((&self.fields, &[]));
        let found = match after.iter().position(is_it) {
            Some(found) => *at + found,
            None => before.iter().position(is_it)?,
        };
        *at = found + 1;
        self.fields.get(found)
    }
}

/// What an envelope holds.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Root {
    One(&'static Message),
    List(List),
}

/// A list, and the numbers of its two fields, which JSON calls `metadata` and `items`.
#[derive(Clone, Copy, Debug)]
pub(crate) struct List {
    pub(crate) item: &'static Message,
    pub(crate) metadata: u32,
    pub(crate) items: u32,
}

struct Plan {
    messages: Vec<Message>,
    names: HashMap<String, usize>,
    /// By kind, then by API version.
    kinds: HashMap<String, Vec<(String, usize)>>,
}

/// The table as it is packed.
#[derive(Deserialize)]
struct Table {
    /// API version, kind and message.
    kinds: Vec<(String, String, String)>,
    messages: Map<String, Value>,
}

static PLAN: LazyLock<Plan> = LazyLock::new(|| {
    let packed: &[u8] = include_bytes!("../types.json.gz");
    let mut text = Vec::new();
    GzDecoder::new(packed).read_to_end(&mut text).expect("the packed table is part of the binary");
    let mut table: Table =
        serde_json::from_slice(&text).expect("the packed table is part of the binary");
    // What the crate that the packed one is made from does not have yet, by hand.
    let newer: Table = serde_json::from_str(include_str!("../newer.json"))
        .expect("the table is part of the binary");
    table.add(newer);
    Plan::of(table)
});

impl Table {
    /// Adds kinds, messages, and fields of messages that are there.
    fn add(&mut self, newer: Self) {
        self.kinds.extend(newer.kinds);
        for (name, entries) in newer.messages {
            let known = self.messages.entry(name).or_insert_with(|| Map::new().into());
            if let (Value::Object(known), Value::Object(entries)) = (known, entries) {
                known.extend(entries);
            }
        }
    }
}

impl Plan {
    fn of(table: Table) -> Self {
        let names = table.messages.keys().enumerate().map(|(at, name)| (name.clone(), at));
        let mut plan = Self { messages: Vec::new(), names: names.collect(), kinds: HashMap::new() };
        for (api_version, kind, message) in table.kinds {
            let place = (api_version, plan.index(&message));
            plan.kinds.entry(kind).or_default().push(place);
        }
        for (name, entries) in &table.messages {
            let mut fields = Vec::new();
            plan.collect(name, entries, &[], &mut fields);
            fields.sort_by(|a, b| a.name.cmp(&b.name));
            let numbers = numbers(entries, &fields);
            plan.messages.push(Message { fields, numbers });
        }
        // What has no fields of its own, such as the marker of the subresource `status`.
        plan.messages.push(Message::default());
        plan
    }

    fn collect(&self, message: &str, entries: &Value, outer: &[u32], out: &mut Vec<Field>) {
        for (number, entry) in entries.as_object().into_iter().flatten() {
            let Ok(number) = number.parse() else { continue };
            match entry.as_str().and_then(|it| it.split_once('=')) {
                Some((name, kind)) => {
                    let is_required = kind.ends_with('!');
                    let kind = kind.trim_end_matches('!');
                    let (many, kind) = match kind.split_at(kind.len().min(1)) {
                        ("[", kind) => (Many::List, kind),
                        ("{", kind) => (Many::Map, kind),
                        _ => (Many::One, kind),
                    };
                    let kind = self.kind(kind);
                    let is_message = matches!(kind, Kind::Raw | Kind::SchemaOrBoolean(_));
                    let owner = message.rsplit('.').next().unwrap_or(message);
                    out.push(Field {
                        name: name.to_owned(),
                        outer: outer.to_vec(),
                        number,
                        many,
                        kind,
                        keeps_zero: is_required || is_message || is_zero_a_value(owner, name),
                    });
                }
                None => self.collect(message, entry, &[outer, &[number]].concat(), out),
            }
        }
    }

    fn kind(&self, name: &str) -> Kind {
        let (package, short) = name.rsplit_once('.').unwrap_or(("", name));
        let schema = || self.index(&format!("{package}.JSONSchemaProps"));
        match short {
            "text" => Kind::Text,
            "bytes" => Kind::Bytes,
            "integer" => Kind::Integer,
            "boolean" => Kind::Boolean,
            "double" => Kind::Double,
            "Time" => Kind::Time,
            "MicroTime" => Kind::MicroTime,
            "Quantity" => Kind::Quantity,
            "IntOrString" => Kind::IntOrString,
            "FieldsV1" | "JSON" | "RawExtension" => Kind::Raw,
            "extravalue" | "verbs" => Kind::Texts,
            "JSONSchemaPropsOrBool" => Kind::SchemaOrBoolean(schema()),
            "JSONSchemaPropsOrArray" => Kind::SchemaOrSchemas(schema()),
            "JSONSchemaPropsOrStringArray" => Kind::SchemaOrTexts(schema()),
            _ => Kind::Message(self.index(name)),
        }
    }

    /// The message of that name, or the empty one behind all others.
    fn index(&self, name: &str) -> usize {
        self.names.get(name).copied().unwrap_or(self.names.len())
    }
}

/// The same entries by number, with the fields' places.
fn numbers(entries: &Value, fields: &[Field]) -> Numbers {
    let entry = |value: &Value| match value.as_str().and_then(|it| it.split_once('=')) {
        Some((name, _)) => fields.iter().position(|it| it.name == name).map(Entry::Field),
        None => Some(Entry::Inline(numbers(value, fields))),
    };
    let entries = entries.as_object().into_iter().flatten();
    entries.filter_map(|(number, value)| Some((number.parse().ok()?, entry(value)?))).collect()
}

/// The message at an index that a [`Kind`] holds.
pub(crate) fn message(index: usize) -> &'static Message {
    &PLAN.messages[index]
}

/// The message of lists' metadata.
pub(crate) fn list_metadata() -> &'static Message {
    static INDEX: LazyLock<usize> =
        LazyLock::new(|| PLAN.index("io.k8s.apimachinery.pkg.apis.meta.v1.ListMeta"));
    message(*INDEX)
}

/// The message of a kind that has one.
pub(crate) fn of_kind(api_version: &str, kind: &str) -> Option<&'static Message> {
    if kind == "DeleteOptions" {
        // It is sent under every group's name.
        return Some(message(PLAN.index("io.k8s.apimachinery.pkg.apis.meta.v1.DeleteOptions")));
    }
    let versions = PLAN.kinds.get(kind)?;
    versions.iter().find(|(it, _)| it == api_version).map(|(_, index)| message(*index))
}

#[cfg(test)]
pub(crate) fn named(name: &str) -> Option<&'static Message> {
    PLAN.names.get(name).map(|at| message(*at))
}

#[cfg(test)]
pub(crate) fn messages() -> impl Iterator<Item = (&'static String, &'static Message)> {
    PLAN.names.iter().map(|(name, at)| (name, message(*at)))
}

/// API versions and names.
#[cfg(test)]
pub(crate) fn kinds() -> impl Iterator<Item = (&'static str, &'static str)> {
    let all = PLAN.kinds.iter();
    all.flat_map(|(kind, versions)| versions.iter().map(|(it, _)| (it.as_str(), kind.as_str())))
}

/// What an envelope of that kind holds.
pub(crate) fn root(api_version: &str, kind: &str) -> Option<Root> {
    if let Some(message) = of_kind(api_version, kind) {
        return Some(Root::One(message));
    }
    list(api_version, kind.strip_suffix("List")?).map(Root::List)
}

/// The list of objects of that kind. All have the same numbers, but for the one of `v1beta1` in which
/// they are the other way round.
pub(crate) fn list(api_version: &str, kind: &str) -> Option<List> {
    let item = of_kind(api_version, kind)?;
    let (metadata, items) = if api_version == "meta.k8s.io/v1beta1" { (2, 1) } else { (1, 2) };
    Some(List { item, metadata, items })
}
