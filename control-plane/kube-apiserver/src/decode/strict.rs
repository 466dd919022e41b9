//! Faults that only strict decoding tells: fields that a type does not have, and that stand twice.
//!
//! They are told in the order of the body, each once, and a hundred at most. A field that a type does
//! not have is not looked into, and may stand twice.
//!
//! Upstream: `UnmarshalStrict` of sigs.k8s.io/json, and `YAMLToJSONStrict` of sigs.k8s.io/yaml.

use std::{
    cell::RefCell,
    collections::{BTreeMap, HashSet},
    fmt,
    sync::{Arc, LazyLock},
};

use serde::de::{
    Deserialize, DeserializeSeed, Deserializer, Error as _, IgnoredAny, MapAccess, SeqAccess,
    Visitor,
};
use serde_saphyr::Spanned;

use super::Place;
use crate::schema::{Field, Merge, Object, Shape};

/// As many faults are told.
const LIMIT: usize = 100;

/// Faults as they are found.
#[derive(Debug, Default)]
pub(super) struct Faults(RefCell<Vec<String>>);

impl Faults {
    pub(super) fn twice(&self, at: &Place<'_>) {
        self.add(format!("duplicate field \"{at}\""));
    }

    fn unknown(&self, at: &Place<'_>) {
        self.add(format!("unknown field \"{at}\""));
    }

    fn add(&self, fault: String) {
        let mut all = self.0.borrow_mut();
        if all.len() < LIMIT && !all.contains(&fault) {
            all.push(fault);
        }
    }

    pub(super) fn into_inner(self) -> Vec<String> {
        self.0.into_inner()
    }
}

/// The faults of a JSON body of that type.
pub(super) fn of_type(body: &[u8], object: &Arc<Object>) -> Vec<String> {
    found(body, Kind::Object(object))
}

/// The faults of a JSON patch: of its operations, and of the values in them.
pub(crate) fn of_json_patch(body: &[u8]) -> Vec<String> {
    static OPERATION: LazyLock<Arc<Object>> = LazyLock::new(|| {
        let field = |name: &str| {
            let shape = if name == "value" { Shape::Any } else { Shape::String };
            let merge = Merge::default();
            let field = Field {
                shape,
                merge,
                is_always_there: false,
                is_left_out_empty: false,
                default: None,
            };
            (name.to_owned(), field)
        };
        let fields = ["op", "path", "from", "value"].map(field).into_iter().collect();
        Arc::new(Object { fields, ..Object::default() })
    });
    let faults = found(body, Kind::Operations(&OPERATION));
    faults.into_iter().map(|it| format!("json patch {it}")).collect()
}

fn found(body: &[u8], kind: Kind<'_>) -> Vec<String> {
    let faults = Faults::default();
    let mut deserializer = serde_json::Deserializer::from_slice(body);
    let walk = Walk { kind, at: &Place::Root, faults: &faults };
    // What is no JSON was refused before.
    let _was_read = walk.deserialize(&mut deserializer);
    faults.into_inner()
}

/// What a value is to be.
#[derive(Clone, Copy)]
enum Kind<'a> {
    Object(&'a Arc<Object>),
    List(&'a Shape),
    Map(&'a Shape),
    /// A JSON patch.
    Operations(&'a Arc<Object>),
    Operation(&'a Arc<Object>),
    /// Anything at all, in which no field stands twice.
    Anything,
    /// Nothing that is looked into.
    Leaf,
}

struct Walk<'a> {
    kind: Kind<'a>,
    at: &'a Place<'a>,
    faults: &'a Faults,
}

impl<'de> DeserializeSeed<'de> for Walk<'_> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        match self.kind {
            Kind::Leaf => IgnoredAny::deserialize(deserializer).map(|_| ()),
            _ => deserializer.deserialize_any(self),
        }
    }
}

impl Walk<'_> {
    /// Goes on with a value of that shape.
    fn within<T>(&self, shape: &Shape, at: &Place<'_>, then: impl FnOnce(Walk<'_>) -> T) -> T {
        let object = shape.object();
        let kind = match (shape, &object) {
            (_, Some(object)) => Kind::Object(object),
            (Shape::List(inner), _) => Kind::List(inner),
            (Shape::Map(inner), _) => Kind::Map(inner),
            (Shape::Any, _) if matches!(self.kind, Kind::Operation(_)) => Kind::Anything,
            _ => Kind::Leaf,
        };
        then(Walk { kind, at, faults: self.faults })
    }

    fn with<'b>(&'b self, kind: Kind<'b>, at: &'b Place<'b>) -> Walk<'b> {
        Walk { kind, at, faults: self.faults }
    }
}

/// The rest of what JSON has: nothing to be looked into.
macro_rules! nothing {
    ($($visit:ident: $kind:ty),*) => {
        $(fn $visit<E>(self, _: $kind) -> Result<Self::Value, E> {
            Ok(Default::default())
        })*

        fn visit_unit<E>(self) -> Result<Self::Value, E> {
            Ok(Default::default())
        }

        fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str("a value")
        }
    };
}

impl<'de> Visitor<'de> for Walk<'_> {
    type Value = ();

    nothing!(visit_bool: bool, visit_i64: i64, visit_u64: u64, visit_f64: f64, visit_str: &str);

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<(), A::Error> {
        for index in 0.. {
            let at = Place::Item(self.at, index);
            let next = match self.kind {
                Kind::List(inner) => self.within(inner, &at, |it| items.next_element_seed(it))?,
                Kind::Operations(of) => {
                    items.next_element_seed(self.with(Kind::Operation(of), &at))?
                }
                Kind::Anything => items.next_element_seed(self.with(Kind::Anything, &at))?,
                _ => items.next_element_seed(self.with(Kind::Leaf, &at))?,
            };
            if next.is_none() {
                break;
            }
        }
        Ok(())
    }

    fn visit_map<A: MapAccess<'de>>(self, mut entries: A) -> Result<(), A::Error> {
        let mut seen = HashSet::new();
        while let Some(name) = entries.next_key::<String>()? {
            let at = Place::Field(self.at, &name);
            let known = match self.kind {
                Kind::Object(object) | Kind::Operation(object) => object.fields.get(&name),
                _ => None,
            };
            let is_unknown =
                known.is_none() && matches!(self.kind, Kind::Object(_) | Kind::Operation(_));
            if is_unknown {
                self.faults.unknown(&at);
            } else if !seen.insert(name.clone()) {
                self.faults.twice(&at);
            }
            match (self.kind, known) {
                (_, Some(field)) => {
                    self.within(&field.shape, &at, |it| entries.next_value_seed(it))?;
                }
                (Kind::Map(inner), _) => {
                    self.within(inner, &at, |it| entries.next_value_seed(it))?;
                }
                (Kind::Anything, _) => entries.next_value_seed(self.with(Kind::Anything, &at))?,
                _ => entries.next_value_seed(self.with(Kind::Leaf, &at))?,
            }
        }
        Ok(())
    }
}

/// Keys that stand twice in YAML, in the words of Go's reader, which names the lines of their values.
#[derive(Debug, Default)]
pub(super) struct Lines(pub(super) Vec<String>);

impl<'de> Deserialize<'de> for Lines {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(LinesVisitor)
    }
}

struct LinesVisitor;

impl<'de> Visitor<'de> for LinesVisitor {
    type Value = Lines;

    nothing!(visit_bool: bool, visit_i64: i64, visit_u64: u64, visit_f64: f64, visit_str: &str);

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Lines, A::Error> {
        let mut all = Vec::new();
        while let Some(Lines(more)) = items.next_element()? {
            all.extend(more);
        }
        Ok(Lines(all))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut entries: A) -> Result<Lines, A::Error> {
        let (mut all, mut seen) = (Vec::new(), BTreeMap::new());
        while let Some(key) = entries.next_key::<String>()? {
            let value: Spanned<Lines> = entries.next_value()?;
            if all.len() > LIMIT * LIMIT {
                return Err(A::Error::custom("too many keys stand twice"));
            }
            all.extend(value.value.0);
            let line = value.referenced.line();
            if seen.insert(key.clone(), line).is_some() {
                all.push(format!("line {line}: key {key:?} already set in map"));
            }
        }
        Ok(Lines(all))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn faults_are_told_in_the_order_of_the_body_and_each_once() {
        let deployment = crate::schema::find("io.k8s.api.apps.v1.Deployment").unwrap();
        let body = br#"{"metadata": {"name": "a", "name": "a", "more": {}}, "spec": {
            "odd": 1, "twice": {"a": 1, "a": 2}, "twice": 2, "paused": true, "paused": false,
            "paused": true, "selector": {"matchLabels": {"a": "b", "a": "c"}},
            "template": {"spec": {"containers": [{"nested": 1, "image": "a", "image": "b"}]}}}}"#;
        assert_eq!(
            of_type(body, &deployment),
            [
                "duplicate field \"metadata.name\"",
                "unknown field \"metadata.more\"",
                "unknown field \"spec.odd\"",
                "unknown field \"spec.twice\"",
                "duplicate field \"spec.paused\"",
                "duplicate field \"spec.selector.matchLabels.a\"",
                "unknown field \"spec.template.spec.containers[0].nested\"",
                "duplicate field \"spec.template.spec.containers[0].image\"",
            ]
        );
    }

    #[test]
    fn a_patch_has_faults_of_its_operations_and_of_their_values() {
        let body = br#"[{"op": "add", "path": "/a", "value": {"k": 1, "k": 2}, "foo": 1},
            {"op": "add", "path": "/b", "path": "/c", "value": 1}]"#;
        assert_eq!(
            of_json_patch(body),
            [
                "json patch duplicate field \"[0].value.k\"",
                "json patch unknown field \"[0].foo\"",
                "json patch duplicate field \"[1].path\"",
            ]
        );
    }

    #[test]
    fn no_more_than_a_hundred_faults_are_told() {
        let fields: Vec<String> = (0..120).map(|it| format!("\"f{it}\": 1")).collect();
        let body = format!("{{{}}}", fields.join(","));
        let deployment = crate::schema::find("io.k8s.api.apps.v1.Deployment").unwrap();
        assert_eq!(of_type(body.as_bytes(), &deployment).len(), LIMIT);
    }
}
