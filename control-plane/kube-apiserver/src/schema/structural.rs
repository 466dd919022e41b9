//! The schema of a custom resource's version, read once: what values, pruning, defaults and rules
//! are checked with.
//!
//! Upstream: `structural schemas` of k8s.io/apiextensions-apiserver, pkg/apiserver/schema.

pub(crate) mod pattern;
pub(crate) mod shaping;

use std::collections::BTreeMap;

use serde_json::Value;

use self::pattern::Pattern;

/// What fields beside the named ones may be there.
#[derive(Debug, Default)]
pub(crate) enum Others {
    /// None: they are pruned.
    #[default]
    None,
    /// Any, as they are.
    Any,
    Of(Box<Node>),
}

/// `x-kubernetes-list-type`.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub(crate) enum ListKind {
    #[default]
    Atomic,
    Set,
    Map(Vec<String>),
}

/// The limits of numbers, texts, lists and maps.
#[derive(Debug, Default)]
pub(crate) struct Limits {
    pub(crate) minimum: Option<f64>,
    pub(crate) maximum: Option<f64>,
    pub(crate) is_above_minimum: bool,
    pub(crate) is_below_maximum: bool,
    pub(crate) multiple_of: Option<f64>,
    pub(crate) length: Range,
    pub(crate) items: Range,
    pub(crate) properties: Range,
}

#[derive(Debug, Default, Clone, Copy)]
pub(crate) struct Range {
    pub(crate) least: Option<usize>,
    pub(crate) most: Option<usize>,
}

/// One place of a schema.
#[derive(Debug, Default)]
pub(crate) struct Node {
    /// `type`; empty where it is not said.
    pub(crate) kind: String,
    pub(crate) format: String,
    pub(crate) is_nullable: bool,
    pub(crate) default: Option<Value>,
    pub(crate) fields: BTreeMap<String, Node>,
    pub(crate) others: Others,
    pub(crate) items: Option<Box<Node>>,
    pub(crate) required: Vec<String>,
    pub(crate) limits: Limits,
    pub(crate) pattern: Option<Pattern>,
    /// `enum`.
    pub(crate) choices: Option<Vec<Value>>,
    pub(crate) all_of: Vec<Node>,
    pub(crate) any_of: Vec<Node>,
    pub(crate) one_of: Vec<Node>,
    pub(crate) not: Option<Box<Node>>,
    pub(crate) keeps_unknown: bool,
    pub(crate) is_embedded: bool,
    pub(crate) is_int_or_string: bool,
    pub(crate) list: ListKind,
    /// `x-kubernetes-validations`, as given.
    pub(crate) rules: Vec<Value>,
    /// Whether there are rules here or below.
    pub(crate) has_rules: bool,
}

impl Node {
    pub(crate) fn of(schema: &Value) -> Self {
        let flag = |name: &str| schema[name] == true;
        let all = |name: &str| -> Vec<Self> {
            schema[name].as_array().into_iter().flatten().map(Self::of).collect()
        };
        let boxed = |value: &Value| value.is_object().then(|| Box::new(Self::of(value)));
        let fields = schema["properties"].as_object().into_iter().flatten();
        let others = match &schema["additionalProperties"] {
            Value::Bool(true) => Others::Any,
            it @ Value::Object(_) => Others::Of(Box::new(Self::of(it))),
            _ => Others::None,
        };
        let mut node = Self {
            kind: text(&schema["type"]),
            format: text(&schema["format"]),
            is_nullable: flag("nullable"),
            default: schema.get("default").filter(|it| !it.is_null()).map(whole),
            fields: fields.map(|(name, it)| (name.clone(), Self::of(it))).collect(),
            others,
            items: boxed(&schema["items"]),
            required: texts(&schema["required"]),
            limits: limits(schema),
            pattern: schema["pattern"].as_str().map(Pattern::of),
            choices: schema["enum"]
                .as_array()
                .filter(|it| !it.is_empty())
                .map(|it| it.iter().map(whole).collect()),
            all_of: all("allOf"),
            any_of: all("anyOf"),
            one_of: all("oneOf"),
            not: boxed(&schema["not"]),
            keeps_unknown: flag("x-kubernetes-preserve-unknown-fields"),
            is_embedded: flag("x-kubernetes-embedded-resource"),
            is_int_or_string: flag("x-kubernetes-int-or-string"),
            list: list_kind(schema),
            rules: schema["x-kubernetes-validations"].as_array().cloned().unwrap_or_default(),
            has_rules: false,
        };
        node.has_rules = !node.rules.is_empty() || node.parts().any(|it| it.has_rules);
        node
    }

    /// The places right below: fields, other fields, items.
    fn parts(&self) -> impl Iterator<Item = &Self> {
        self.fields.values().chain(self.other()).chain(self.items.as_deref())
    }

    /// What fields beside the named ones have to be.
    pub(crate) fn other(&self) -> Option<&Self> {
        match &self.others {
            Others::Of(node) => Some(node),
            _ => None,
        }
    }

    /// The place of a field, if the schema says anything about it.
    pub(crate) fn field(&self, name: &str) -> Option<&Self> {
        self.fields.get(name).or_else(|| self.other())
    }

    /// Whether a null counts as no value here.
    pub(crate) fn drops(&self, value: &Value) -> bool {
        value.is_null() && !self.is_nullable
    }
}

/// As objects have it.
fn whole(value: &Value) -> Value {
    let mut value = value.clone();
    shaping::make_whole(&mut value);
    value
}

fn limits(schema: &Value) -> Limits {
    let number = |name: &str| schema[name].as_f64();
    let range = |least: &str, most: &str| {
        let count = |name: &str| schema[name].as_u64().and_then(|it| usize::try_from(it).ok());
        Range { least: count(least), most: count(most) }
    };
    Limits {
        minimum: number("minimum"),
        maximum: number("maximum"),
        is_above_minimum: schema["exclusiveMinimum"] == true,
        is_below_maximum: schema["exclusiveMaximum"] == true,
        multiple_of: number("multipleOf"),
        length: range("minLength", "maxLength"),
        items: range("minItems", "maxItems"),
        properties: range("minProperties", "maxProperties"),
    }
}

fn list_kind(schema: &Value) -> ListKind {
    match schema["x-kubernetes-list-type"].as_str() {
        Some("set") => ListKind::Set,
        Some("map") => ListKind::Map(texts(&schema["x-kubernetes-list-map-keys"])),
        _ => ListKind::Atomic,
    }
}

fn text(value: &Value) -> String {
    value.as_str().unwrap_or_default().to_owned()
}

fn texts(value: &Value) -> Vec<String> {
    value.as_array().into_iter().flatten().map(text).collect()
}
