//! XML as trees: an element is an object of its children, or its text.
//!
//! Attributes, comments and namespaces carry nothing in AWS's responses and are dropped. Repeated
//! children become an array under their name; that a list is wanted there is known only to the
//! shape, see [`tree`](crate::tree).

mod write;

use quick_xml::{
    Reader,
    events::{BytesRef, Event},
};
use serde_json::{Map, Value};

pub use self::write::{WriteError, content_of};

const MAX_DEPTH: usize = 64;

/// Why bytes are not a document.
#[derive(Debug, thiserror::Error)]
pub enum XmlError {
    #[error("the document is not well formed")]
    Malformed {
        #[source]
        source: quick_xml::Error,
    },
    #[error("the document is nested too deeply")]
    TooDeep,
    #[error("the document has no root element, or more than one")]
    NoRoot,
    #[error("`&{name};` is not a known entity")]
    UnknownEntity { name: String },
}

/// Reads a document: the root's name and tree.
pub fn parse(document: &str) -> Result<(String, Value), XmlError> {
    let mut reader = Reader::from_str(document);
    // The bottom frame stands for the document.
    let mut open = vec![Frame::default()];
    loop {
        match reader.read_event().map_err(|source| XmlError::Malformed { source })? {
            Event::Start(start) => {
                if open.len() > MAX_DEPTH {
                    return Err(XmlError::TooDeep);
                }
                open.push(Frame::named(start.local_name().into_inner()));
            }
            Event::Empty(start) => {
                let frame = Frame::named(start.local_name().into_inner());
                close(&mut open, frame);
            }
            Event::End(_) => {
                if let Some(frame) = open.pop() {
                    close(&mut open, frame);
                }
            }
            Event::Text(text) => append(&mut open, &text.xml10_content()),
            Event::CData(text) => append(&mut open, &text.xml10_content()),
            Event::GeneralRef(reference) => append(&mut open, &resolve(&reference)?),
            Event::Eof => break,
            Event::Comment(_) | Event::Decl(_) | Event::PI(_) | Event::DocType(_) => {}
        }
    }
    let document = open.into_iter().next().unwrap_or_default();
    let mut roots = document.children.into_iter();
    match (roots.next(), roots.next()) {
        (Some(root), None) => Ok(root),
        _ => Err(XmlError::NoRoot),
    }
}

#[derive(Default)]
struct Frame {
    name: String,
    children: Map<String, Value>,
    text: String,
}

impl Frame {
    fn named(name: &str) -> Self {
        Self { name: name.to_owned(), ..Self::default() }
    }

    fn into_value(self) -> Value {
        if self.children.is_empty() {
            return Value::String(self.text);
        }
        Value::Object(self.children)
    }
}

fn close(open: &mut [Frame], frame: Frame) {
    let Some(parent) = open.last_mut() else { return };
    let name = frame.name.clone();
    let value = frame.into_value();
    match parent.children.get_mut(&name) {
        None => drop(parent.children.insert(name, value)),
        Some(Value::Array(items)) => items.push(value),
        Some(first) => *first = Value::Array(vec![first.take(), value]),
    }
}

fn append(open: &mut [Frame], text: &str) {
    if let Some(frame) = open.last_mut() {
        frame.text.push_str(text);
    }
}

fn resolve(reference: &BytesRef<'_>) -> Result<String, XmlError> {
    let known = reference.resolve_char_ref().map_err(|source| XmlError::Malformed { source })?;
    if let Some(character) = known {
        return Ok(character.to_string());
    }
    let name = reference.xml10_content();
    match &*name {
        "amp" => Ok("&".to_owned()),
        "lt" => Ok("<".to_owned()),
        "gt" => Ok(">".to_owned()),
        "quot" => Ok("\"".to_owned()),
        "apos" => Ok("'".to_owned()),
        _ => Err(XmlError::UnknownEntity { name: name.into_owned() }),
    }
}

/// Appends `<name>tree</name>`; the items of lists are elements named `item`. Nulls are left out.
pub fn write_element(out: &mut String, name: &str, tree: &Value, item: &str) {
    if tree.is_null() {
        return;
    }
    out.push('<');
    out.push_str(name);
    out.push('>');
    write_content(out, tree, item);
    out.push_str("</");
    out.push_str(name);
    out.push('>');
}

/// Appends what is inside of an element.
pub fn write_content(out: &mut String, tree: &Value, item: &str) {
    match tree {
        Value::Null => {}
        Value::Bool(it) => out.push_str(if *it { "true" } else { "false" }),
        Value::Number(it) => out.push_str(&it.to_string()),
        Value::String(it) => escape(out, it),
        Value::Array(items) => items.iter().for_each(|it| write_element(out, item, it, item)),
        Value::Object(fields) => {
            fields.iter().for_each(|(name, value)| write_element(out, name, value, item));
        }
    }
}

/// Characters that XML 1.0 cannot hold are replaced.
fn escape(out: &mut String, text: &str) {
    // 0xEF begins those that are not characters, among others.
    let is_plain = |it: u8| !matches!(it, b'&' | b'<' | b'>' | b'"' | 0..=0x1f | 0xef);
    if text.bytes().all(is_plain) {
        out.push_str(text);
        return;
    }
    for character in text.chars() {
        match character {
            '&' => out.push_str("&amp;"),
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '"' => out.push_str("&quot;"),
            '\r' => out.push_str("&#xD;"),
            '\n' | '\t' => out.push(character),
            '\0'..='\u{1f}' | '\u{fffe}' | '\u{ffff}' => out.push('\u{fffd}'),
            _ => out.push(character),
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn round_trip(tree: &Value) -> Value {
        let mut text = "<?xml version=\"1.0\"?>".to_owned();
        write_element(&mut text, "R", tree, "item");
        parse(&text).unwrap().1
    }

    #[test]
    fn text_survives_escaping() {
        let text = " <a href=\"x\">&amp; 'b'\r\n\ttab ü 漢 ";
        assert_eq!(round_trip(&json!({"a": text})), json!({"a": text}));
        assert_eq!(round_trip(&json!({"a": "x\u{0}y"})), json!({"a": "x\u{fffd}y"}));
    }

    #[test]
    fn repeated_elements_become_a_list_and_an_empty_one_is_empty_text() {
        let tree = round_trip(&json!({"s": [{"n": 1}, {"n": 2}], "one": ["x"], "no": []}));
        let expected = json!({
            "s": {"item": [{"n": "1"}, {"n": "2"}]}, "one": {"item": "x"}, "no": ""
        });
        assert_eq!(tree, expected);
    }

    #[test]
    fn broken_documents_are_refused() {
        let deep = "<a>".repeat(100_000);
        for document in ["", "<a>", "<a></b>", "x", "<a/><b/>", "<a>&nope;</a>", &deep] {
            assert!(parse(document).is_err(), "{}", &document[..document.len().min(20)]);
        }
    }
}
