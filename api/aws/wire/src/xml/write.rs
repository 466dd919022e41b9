//! Values as XML, written at once: an answer of a hundred instances has ten thousand elements, and a
//! tree of them in between costs more than everything else.
//!
//! **Invariant:** what is written is what [`write_content`](super::write_content) writes of the same
//! value's tree, but for the order of elements, which is that of declaration.

use std::fmt::Write;

use serde::{
    Serialize, Serializer,
    ser::{
        Error as _, SerializeMap, SerializeSeq, SerializeStruct, SerializeStructVariant,
        SerializeTuple, SerializeTupleStruct, SerializeTupleVariant,
    },
};

use super::escape;

/// Why a value has no XML: a map whose keys are no texts, or what its own `Serialize` says.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub struct WriteError(String);

impl serde::ser::Error for WriteError {
    fn custom<T: std::fmt::Display>(message: T) -> Self {
        Self(message.to_string())
    }
}

/// What is inside of an element; the items of lists are elements named `item`.
pub fn content_of<T: Serialize>(value: &T, item: &'static str) -> Result<String, WriteError> {
    let mut out = String::with_capacity(1024);
    value.serialize(Content { out: &mut out, item })?;
    Ok(out)
}

/// Gives whether there was a value: one that is null has no element.
struct Content<'a> {
    out: &'a mut String,
    item: &'static str,
}

/// Several elements.
struct Elements<'a> {
    out: &'a mut String,
    item: &'static str,
    /// The key of a map whose value follows.
    key: String,
    /// An element that is open around them: that of an enum's variant.
    around: Option<&'static str>,
}

impl<'a> Content<'a> {
    fn elements(self, around: Option<&'static str>) -> Elements<'a> {
        if let Some(name) = around {
            open(self.out, name);
        }
        Elements { out: self.out, item: self.item, key: String::new(), around }
    }

    fn shown(self, value: impl std::fmt::Display) -> Result<bool, WriteError> {
        write!(self.out, "{value}").map_err(WriteError::custom)?;
        Ok(true)
    }
}

impl Elements<'_> {
    fn element<T: Serialize + ?Sized>(&mut self, name: &str, value: &T) -> Result<(), WriteError> {
        let start = self.out.len();
        open(self.out, name);
        match value.serialize(Content { out: self.out, item: self.item })? {
            true => close(self.out, name),
            false => self.out.truncate(start),
        }
        Ok(())
    }

    fn done(self) -> bool {
        if let Some(name) = self.around {
            close(self.out, name);
        }
        true
    }
}

fn open(out: &mut String, name: &str) {
    out.push('<');
    out.push_str(name);
    out.push('>');
}

fn close(out: &mut String, name: &str) {
    out.push_str("</");
    out.push_str(name);
    out.push('>');
}

macro_rules! shown {
    ($($method:ident $kind:ty),*) => {$(
        fn $method(self, value: $kind) -> Result<bool, WriteError> {
            self.shown(value)
        }
    )*};
}

impl<'a> Serializer for Content<'a> {
    type Ok = bool;
    type Error = WriteError;
    type SerializeSeq = Elements<'a>;
    type SerializeTuple = Elements<'a>;
    type SerializeTupleStruct = Elements<'a>;
    type SerializeTupleVariant = Elements<'a>;
    type SerializeMap = Elements<'a>;
    type SerializeStruct = Elements<'a>;
    type SerializeStructVariant = Elements<'a>;

    shown!(serialize_bool bool, serialize_i8 i8, serialize_i16 i16, serialize_i32 i32,
        serialize_i64 i64, serialize_u8 u8, serialize_u16 u16, serialize_u32 u32,
        serialize_u64 u64);

    fn serialize_f32(self, value: f32) -> Result<bool, WriteError> {
        self.serialize_f64(f64::from(value))
    }

    fn serialize_f64(self, value: f64) -> Result<bool, WriteError> {
        match serde_json::Number::from_f64(value) {
            Some(number) => self.shown(number),
            None => Ok(false),
        }
    }

    fn serialize_char(self, value: char) -> Result<bool, WriteError> {
        self.serialize_str(value.encode_utf8(&mut [0; 4]))
    }

    fn serialize_str(self, value: &str) -> Result<bool, WriteError> {
        escape(self.out, value);
        Ok(true)
    }

    fn serialize_bytes(self, value: &[u8]) -> Result<bool, WriteError> {
        value.serialize(self)
    }

    fn serialize_none(self) -> Result<bool, WriteError> {
        Ok(false)
    }

    fn serialize_some<T: Serialize + ?Sized>(self, value: &T) -> Result<bool, WriteError> {
        value.serialize(self)
    }

    fn serialize_unit(self) -> Result<bool, WriteError> {
        Ok(false)
    }

    fn serialize_unit_struct(self, _: &'static str) -> Result<bool, WriteError> {
        Ok(false)
    }

    fn serialize_unit_variant(
        self,
        _: &'static str,
        _: u32,
        variant: &'static str,
    ) -> Result<bool, WriteError> {
        self.serialize_str(variant)
    }

    /// One that is called `list of NAME` is a list whose items have that name.
    fn serialize_newtype_struct<T: Serialize + ?Sized>(
        self,
        name: &'static str,
        value: &T,
    ) -> Result<bool, WriteError> {
        let item = name.strip_prefix("list of ").unwrap_or(self.item);
        value.serialize(Content { out: self.out, item })
    }

    fn serialize_newtype_variant<T: Serialize + ?Sized>(
        self,
        _: &'static str,
        _: u32,
        variant: &'static str,
        value: &T,
    ) -> Result<bool, WriteError> {
        let mut elements = self.elements(None);
        elements.element(variant, value)?;
        Ok(elements.done())
    }

    fn serialize_seq(self, _: Option<usize>) -> Result<Elements<'a>, WriteError> {
        Ok(self.elements(None))
    }

    fn serialize_tuple(self, _: usize) -> Result<Elements<'a>, WriteError> {
        Ok(self.elements(None))
    }

    fn serialize_tuple_struct(self, _: &'static str, _: usize) -> Result<Elements<'a>, WriteError> {
        Ok(self.elements(None))
    }

    fn serialize_tuple_variant(
        self,
        _: &'static str,
        _: u32,
        variant: &'static str,
        _: usize,
    ) -> Result<Elements<'a>, WriteError> {
        Ok(self.elements(Some(variant)))
    }

    fn serialize_map(self, _: Option<usize>) -> Result<Elements<'a>, WriteError> {
        Ok(self.elements(None))
    }

    fn serialize_struct(self, _: &'static str, _: usize) -> Result<Elements<'a>, WriteError> {
        Ok(self.elements(None))
    }

    fn serialize_struct_variant(
        self,
        _: &'static str,
        _: u32,
        variant: &'static str,
        _: usize,
    ) -> Result<Elements<'a>, WriteError> {
        Ok(self.elements(Some(variant)))
    }
}

macro_rules! items {
    ($($kind:ident $method:ident),*) => {$(
        impl $kind for Elements<'_> {
            type Ok = bool;
            type Error = WriteError;

            fn $method<T: Serialize + ?Sized>(&mut self, value: &T) -> Result<(), WriteError> {
                self.element(self.item, value)
            }

            fn end(self) -> Result<bool, WriteError> {
                Ok(self.done())
            }
        }
    )*};
}

items!(SerializeSeq serialize_element, SerializeTuple serialize_element,
    SerializeTupleStruct serialize_field, SerializeTupleVariant serialize_field);

macro_rules! fields {
    ($($kind:ident),*) => {$(
        impl $kind for Elements<'_> {
            type Ok = bool;
            type Error = WriteError;

            fn serialize_field<T: Serialize + ?Sized>(
                &mut self,
                name: &'static str,
                value: &T,
            ) -> Result<(), WriteError> {
                self.element(name, value)
            }

            fn end(self) -> Result<bool, WriteError> {
                Ok(self.done())
            }
        }
    )*};
}

fields!(SerializeStruct, SerializeStructVariant);

impl SerializeMap for Elements<'_> {
    type Ok = bool;
    type Error = WriteError;

    fn serialize_key<T: Serialize + ?Sized>(&mut self, key: &T) -> Result<(), WriteError> {
        match serde_json::to_value(key).map_err(WriteError::custom)? {
            serde_json::Value::String(key) => self.key = key,
            other => return Err(WriteError(format!("{other} is no name of an element"))),
        }
        Ok(())
    }

    fn serialize_value<T: Serialize + ?Sized>(&mut self, value: &T) -> Result<(), WriteError> {
        let name = std::mem::take(&mut self.key);
        self.element(&name, value)
    }

    fn end(self) -> Result<bool, WriteError> {
        Ok(self.done())
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use proptest::prelude::*;
    use serde_json::{Value, json};

    use super::*;

    fn by_tree<T: Serialize>(value: &T) -> String {
        let mut out = String::new();
        super::super::write_content(&mut out, &serde_json::to_value(value).unwrap(), "item");
        out
    }

    /// In the order of names, as trees are.
    #[derive(Serialize)]
    struct Shape {
        absent: Option<String>,
        #[serde(skip_serializing_if = "Option::is_none")]
        before: Option<String>,
        choice: Choice,
        counts: Vec<Option<i64>>,
        empty: Vec<String>,
        flag: bool,
        #[serde(flatten)]
        further: BTreeMap<String, f64>,
        pair: (u8, String),
        whole: Vec<Choice>,
        zero: (),
    }

    #[derive(Serialize)]
    #[serde(rename = "list of groupId")]
    struct Groups(Vec<&'static str>);

    #[test]
    fn the_items_of_a_list_may_have_a_name_of_its_own() {
        let lists = BTreeMap::from([("a", Groups(vec!["x", "y"]))]);
        let written = content_of(&lists, "item").unwrap();
        assert_eq!(written, "<a><groupId>x</groupId><groupId>y</groupId></a>");
    }

    #[derive(Serialize)]
    enum Choice {
        Plain,
        New(i32),
        Named { a: u8 },
        Both(u8, bool),
    }

    #[test]
    fn what_is_written_is_what_the_tree_would_be() {
        let value = Shape {
            absent: None,
            before: None,
            choice: Choice::Named { a: 1 },
            counts: vec![Some(1), None, Some(-2)],
            empty: Vec::new(),
            flag: true,
            further: BTreeMap::from([("ga".to_owned(), 1.0), ("gb".to_owned(), f64::NAN)]),
            pair: (7, "<a> & \"b\"\r\u{1}".to_owned()),
            whole: vec![Choice::Plain, Choice::New(3), Choice::Both(1, false)],
            zero: (),
        };
        assert_eq!(content_of(&value, "item").unwrap(), by_tree(&value));
        assert_eq!(content_of(&(), "item").unwrap(), "");
        assert!(content_of(&BTreeMap::from([(vec![1], 1)]), "item").is_err());
    }

    fn tree() -> impl Strategy<Value = Value> {
        let leaf = prop_oneof![
            Just(Value::Null),
            any::<bool>().prop_map(Value::from),
            any::<i64>().prop_map(Value::from),
            "[\\PC\\r\\n\\t\u{0}-\u{1f}\u{fffe}\u{ffff}]{0,12}".prop_map(Value::from),
        ];
        leaf.prop_recursive(4, 32, 5, |inner| {
            prop_oneof![
                prop::collection::vec(inner.clone(), 0..4).prop_map(Value::from),
                prop::collection::btree_map("[a-zA-Z]{1,6}", inner, 0..4).prop_map(|it| json!(it)),
            ]
        })
    }

    proptest! {
        #[test]
        fn every_tree_is_written_alike(tree in tree()) {
            prop_assert_eq!(content_of(&tree, "item").unwrap(), by_tree(&tree));
        }
    }
}
