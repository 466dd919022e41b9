//! Reads shapes from trees whose leaves may all be text.
//!
//! Form parameters, XML, path labels and query strings know only text and names. [`from_text`] lets
//! the wanted type decide what a leaf is: `"3"` becomes `3` for an integer, `"true"` a boolean.
//! Lists arrive in the form that their protocol gives them and are recognised where a list is
//! wanted:
//!
//! - `{"1": a, "2": b}`: `Name.1=a&Name.2=b` (EC2);
//! - `{"member": …}`, `{"item": …}`: wrapped lists (query, XML);
//! - `""` or nothing: an empty list; any other single value: a list of one.
//!
//! Shapes must not use `#[serde(flatten)]` or `#[serde(untagged)]`: serde buffers such values
//! before their type is known, so numbers in them would stay text.

use serde::{
    Deserializer,
    de::{
        self, DeserializeOwned, DeserializeSeed, EnumAccess, IntoDeserializer, MapAccess,
        SeqAccess, VariantAccess, Visitor,
    },
    forward_to_deserialize_any,
};
use serde_json::{Map, Value};

/// Why a tree is not the wanted shape.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub struct ShapeError(String);

impl de::Error for ShapeError {
    fn custom<T: std::fmt::Display>(message: T) -> Self {
        Self(message.to_string())
    }
}

/// See the module.
pub fn from_text<T: DeserializeOwned>(tree: Value) -> Result<T, ShapeError> {
    T::deserialize(Text(tree))
}

/// Reads a tree of JSON, whose leaves have their types.
pub fn from_json<T: DeserializeOwned>(tree: Value) -> Result<T, ShapeError> {
    // An empty body stands for an empty structure.
    let tree = if tree.is_null() { Value::Object(Map::new()) } else { tree };
    T::deserialize(tree).map_err(de::Error::custom)
}

/// The names that a structure's members have on the wire; none of what is no structure.
pub fn fields<T: DeserializeOwned>() -> &'static [&'static str] {
    let mut found: &'static [&'static str] = &[];
    // Nothing can be read from it, which is not asked.
    drop(T::deserialize(Names(&mut found)));
    found
}

/// Looks at what is wanted, and has nothing.
struct Names<'a>(&'a mut &'static [&'static str]);

impl<'de> Deserializer<'de> for Names<'_> {
    type Error = ShapeError;

    fn deserialize_any<V: Visitor<'de>>(self, _: V) -> Result<V::Value, ShapeError> {
        Err(ShapeError(String::new()))
    }

    fn deserialize_struct<V: Visitor<'de>>(
        self,
        _: &'static str,
        fields: &'static [&'static str],
        _: V,
    ) -> Result<V::Value, ShapeError> {
        *self.0 = fields;
        Err(ShapeError(String::new()))
    }

    fn deserialize_newtype_struct<V: Visitor<'de>>(
        self,
        _: &'static str,
        visitor: V,
    ) -> Result<V::Value, ShapeError> {
        visitor.visit_newtype_struct(self)
    }

    forward_to_deserialize_any! {
        bool i8 i16 i32 i64 i128 u8 u16 u32 u64 u128 f32 f64 char str string bytes byte_buf option
        unit unit_struct seq tuple tuple_struct map enum identifier ignored_any
    }
}

struct Text(Value);

impl Text {
    fn text(&self) -> Option<&str> {
        self.0.as_str().map(str::trim)
    }
}

/// A number may come as a number or as text.
macro_rules! numbers {
    ($($method:ident $visit:ident $type:ty),*) => {$(
        fn $method<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, ShapeError> {
            match self.text() {
                None => self.deserialize_any(visitor),
                Some(text) => match text.parse::<$type>() {
                    Ok(number) => visitor.$visit(number),
                    Err(_) => Err(ShapeError(format!("`{text}` is not a valid number"))),
                },
            }
        }
    )*};
}

impl<'de> Deserializer<'de> for Text {
    type Error = ShapeError;

    fn deserialize_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, ShapeError> {
        match self.0 {
            Value::Null => visitor.visit_unit(),
            Value::Bool(it) => visitor.visit_bool(it),
            Value::Number(it) => it.deserialize_any(visitor).map_err(de::Error::custom),
            Value::String(it) => visitor.visit_string(it),
            Value::Array(items) => visitor.visit_seq(Items(items.into_iter())),
            Value::Object(fields) => visitor.visit_map(Fields::new(fields)),
        }
    }

    numbers! {
        deserialize_i8 visit_i8 i8, deserialize_i16 visit_i16 i16, deserialize_i32 visit_i32 i32,
        deserialize_i64 visit_i64 i64, deserialize_u8 visit_u8 u8, deserialize_u16 visit_u16 u16,
        deserialize_u32 visit_u32 u32, deserialize_u64 visit_u64 u64, deserialize_f32 visit_f32 f32,
        deserialize_f64 visit_f64 f64
    }

    fn deserialize_bool<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, ShapeError> {
        match self.text() {
            None => self.deserialize_any(visitor),
            Some("true" | "True" | "TRUE" | "1") => visitor.visit_bool(true),
            Some("false" | "False" | "FALSE" | "0") => visitor.visit_bool(false),
            Some(other) => Err(ShapeError(format!("`{other}` is not a valid boolean"))),
        }
    }

    fn deserialize_option<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, ShapeError> {
        match self.0 {
            Value::Null => visitor.visit_none(),
            _ => visitor.visit_some(self),
        }
    }

    fn deserialize_unit<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, ShapeError> {
        visitor.visit_unit()
    }

    fn deserialize_unit_struct<V: Visitor<'de>>(
        self,
        _: &'static str,
        visitor: V,
    ) -> Result<V::Value, ShapeError> {
        visitor.visit_unit()
    }

    fn deserialize_newtype_struct<V: Visitor<'de>>(
        self,
        _: &'static str,
        visitor: V,
    ) -> Result<V::Value, ShapeError> {
        visitor.visit_newtype_struct(self)
    }

    fn deserialize_seq<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, ShapeError> {
        visitor.visit_seq(Items(list(self.0).into_iter()))
    }

    fn deserialize_tuple<V: Visitor<'de>>(
        self,
        _: usize,
        visitor: V,
    ) -> Result<V::Value, ShapeError> {
        self.deserialize_seq(visitor)
    }

    fn deserialize_struct<V: Visitor<'de>>(
        self,
        _: &'static str,
        _: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, ShapeError> {
        self.deserialize_map(visitor)
    }

    fn deserialize_map<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, ShapeError> {
        match self.0 {
            Value::Object(fields) => visitor.visit_map(Fields::new(entries(fields))),
            // An empty XML element is an empty structure.
            Value::Null => visitor.visit_map(Fields::new(Map::new())),
            Value::String(text) if text.trim().is_empty() => {
                visitor.visit_map(Fields::new(Map::new()))
            }
            _ => self.deserialize_any(visitor),
        }
    }

    fn deserialize_enum<V: Visitor<'de>>(
        self,
        _: &'static str,
        _: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, ShapeError> {
        match self.0 {
            Value::String(name) => visitor.visit_enum(name.into_deserializer()),
            Value::Object(fields) => match fields.into_iter().next() {
                Some((name, value)) => visitor.visit_enum(Variant { name, value }),
                None => Err(ShapeError("an empty structure names no variant".to_owned())),
            },
            _ => Err(ShapeError("expected the name of a variant".to_owned())),
        }
    }

    forward_to_deserialize_any! {
        i128 u128 char str string bytes byte_buf tuple_struct identifier ignored_any
    }
}

/// The items of a list in any of the forms of the module's documentation.
fn list(tree: Value) -> Vec<Value> {
    match tree {
        Value::Null => Vec::new(),
        Value::Array(items) => items,
        Value::String(text) if text.trim().is_empty() => Vec::new(),
        Value::Object(mut fields) if fields.len() == 1 => {
            // The last is EC2's one list whose items are no `item`s: a launch template's groups.
            let names = ["member", "item", "groupId"];
            match names.iter().find_map(|it| fields.remove(*it)) {
                Some(inner) => wrapped(inner),
                None => numbered(fields).unwrap_or_else(|fields| vec![Value::Object(fields)]),
            }
        }
        Value::Object(fields) => {
            numbered(fields).unwrap_or_else(|fields| vec![Value::Object(fields)])
        }
        single => vec![single],
    }
}

/// What is in a `member` or `item` is the items already; an empty one is one empty item.
fn wrapped(inner: Value) -> Vec<Value> {
    match inner {
        Value::Array(items) => items,
        Value::Object(fields) => {
            numbered(fields).unwrap_or_else(|fields| vec![Value::Object(fields)])
        }
        single => vec![single],
    }
}

fn numbered(fields: Map<String, Value>) -> Result<Vec<Value>, Map<String, Value>> {
    let is_numbered = !fields.is_empty() && fields.keys().all(|it| it.parse::<u32>().is_ok());
    if !is_numbered {
        return Err(fields);
    }
    let mut items: Vec<(u32, Value)> =
        fields.into_iter().filter_map(|(index, item)| Some((index.parse().ok()?, item))).collect();
    items.sort_by_key(|(index, _)| *index);
    Ok(items.into_iter().map(|(_, item)| item).collect())
}

/// A map of the query protocol is a list of `{key, value}` named `entry`.
fn entries(fields: Map<String, Value>) -> Map<String, Value> {
    let items = match fields.get("entry") {
        Some(entry) if fields.len() == 1 => wrapped(entry.clone()),
        _ => return fields,
    };
    let pair = |item: Value| {
        let Value::Object(mut item) = item else { return None };
        let key = item.remove("key")?.as_str()?.to_owned();
        Some((key, item.remove("value").unwrap_or_default()))
    };
    // Any other map may have a key of this name.
    items.into_iter().map(pair).collect::<Option<_>>().unwrap_or(fields)
}

struct Items(std::vec::IntoIter<Value>);

impl<'de> SeqAccess<'de> for Items {
    type Error = ShapeError;

    fn next_element_seed<T: DeserializeSeed<'de>>(
        &mut self,
        seed: T,
    ) -> Result<Option<T::Value>, ShapeError> {
        self.0.next().map(|item| seed.deserialize(Text(item))).transpose()
    }

    fn size_hint(&self) -> Option<usize> {
        Some(self.0.len())
    }
}

struct Fields {
    rest: serde_json::map::IntoIter,
    value: Option<(String, Value)>,
}

impl Fields {
    fn new(fields: Map<String, Value>) -> Self {
        Self { rest: fields.into_iter(), value: None }
    }
}

impl<'de> MapAccess<'de> for Fields {
    type Error = ShapeError;

    fn next_key_seed<K: DeserializeSeed<'de>>(
        &mut self,
        seed: K,
    ) -> Result<Option<K::Value>, ShapeError> {
        let Some((key, value)) = self.rest.next() else { return Ok(None) };
        self.value = Some((key.clone(), value));
        seed.deserialize(key.into_deserializer()).map(Some)
    }

    fn next_value_seed<V: DeserializeSeed<'de>>(
        &mut self,
        seed: V,
    ) -> Result<V::Value, ShapeError> {
        let (key, value) = self.value.take().unwrap_or_default();
        seed.deserialize(Text(value)).map_err(|error| ShapeError(format!("{key}: {error}")))
    }
}

struct Variant {
    name: String,
    value: Value,
}

impl<'de> EnumAccess<'de> for Variant {
    type Error = ShapeError;
    type Variant = Text;

    fn variant_seed<V: DeserializeSeed<'de>>(
        self,
        seed: V,
    ) -> Result<(V::Value, Text), ShapeError> {
        let name = seed.deserialize(self.name.into_deserializer())?;
        Ok((name, Text(self.value)))
    }
}

impl<'de> VariantAccess<'de> for Text {
    type Error = ShapeError;

    fn unit_variant(self) -> Result<(), ShapeError> {
        Ok(())
    }

    fn newtype_variant_seed<T: DeserializeSeed<'de>>(
        self,
        seed: T,
    ) -> Result<T::Value, ShapeError> {
        seed.deserialize(self)
    }

    fn tuple_variant<V: Visitor<'de>>(self, _: usize, visitor: V) -> Result<V::Value, ShapeError> {
        self.deserialize_seq(visitor)
    }

    fn struct_variant<V: Visitor<'de>>(
        self,
        _: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, ShapeError> {
        self.deserialize_map(visitor)
    }
}

#[cfg(test)]
mod tests {
    use serde::Deserialize;
    use serde_json::json;

    use super::*;

    #[derive(Debug, PartialEq, Deserialize)]
    #[serde(rename_all = "PascalCase")]
    struct Shape {
        name: String,
        count: Option<i64>,
        #[serde(default)]
        subnet_id: Vec<String>,
        #[serde(default)]
        filter: Vec<Filter>,
    }

    #[derive(Debug, PartialEq, Deserialize)]
    #[serde(rename_all = "PascalCase")]
    struct Filter {
        #[serde(default)]
        value: Vec<u16>,
    }

    #[test]
    fn a_shape_says_the_names_of_its_members() {
        assert_eq!(fields::<Shape>(), ["Name", "Count", "SubnetId", "Filter"]);
        assert!(fields::<Vec<Shape>>().is_empty());
    }

    fn read(tree: Value) -> Shape {
        from_text(tree).unwrap()
    }

    #[test]
    fn leaves_become_what_the_shape_wants() {
        let shape = read(json!({"Name": "12", "Count": "7"}));
        assert_eq!((shape.name.as_str(), shape.count), ("12", Some(7)));
        assert!(from_text::<Shape>(json!({"Name": "x", "Count": "seven"})).is_err());
    }

    #[test]
    fn a_list_is_recognised_in_every_form() {
        for list in [
            json!({"1": "a", "2": "b"}),
            json!({"2": "b", "1": "a"}),
            json!({"member": {"1": "a", "2": "b"}}),
            json!({"member": ["a", "b"]}),
            json!({"item": ["a", "b"]}),
            json!(["a", "b"]),
        ] {
            let shape = read(json!({"Name": "x", "SubnetId": list.clone()}));
            assert_eq!(shape.subnet_id, ["a", "b"], "{list}");
        }
        for list in [json!(""), json!(null), json!([])] {
            assert!(read(json!({"Name": "x", "SubnetId": list})).subnet_id.is_empty());
        }
        let one = read(json!({"Name": "x", "SubnetId": {"item": "a"}}));
        assert_eq!(one.subnet_id, ["a"]);
    }

    #[test]
    fn numbered_lists_are_ordered_by_number_and_nest() {
        let shape = read(json!({"Name": "x", "Filter": {
            "10": {"Value": {"1": "10"}}, "9": {"Value": {"1": "9"}},
        }}));
        assert_eq!(shape.filter, [Filter { value: vec![9] }, Filter { value: vec![10] }]);
    }
}
