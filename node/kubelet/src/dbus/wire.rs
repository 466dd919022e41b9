//! Messages of D-Bus as bytes. Ours are little-endian; the peer's must be, too.

use std::os::fd::OwnedFd;

use bytes::{Buf, BufMut, BytesMut};

use super::{BusError, Object};

/// Far more than any message that concerns us.
const LONGEST: usize = 1 << 20;
const HEAD: usize = 16;
/// Lists and structs in one another.
const DEEPEST: usize = 8;

#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Value {
    Text(String),
    Flag(bool),
    U32(u32),
    I32(i32),
    U64(u64),
    /// A place among the descriptors of the message.
    Descriptor(u32),
    Variant(Box<Value>),
    /// The type of its items, and they.
    List(String, Vec<Value>),
    Struct(Vec<Value>),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    Call,
    Answer,
    Error,
    Signal,
    Other,
}

#[derive(Debug)]
pub(crate) struct Message {
    pub kind: Kind,
    #[cfg(test)]
    pub serial: u32,
    pub reply_to: u32,
    pub member: String,
    pub error: String,
    pub body: Vec<Value>,
    pub descriptor_count: u32,
    pub descriptors: Vec<OwnedFd>,
}

fn pad(out: &mut BytesMut, to: usize) {
    while !out.len().is_multiple_of(to) {
        out.put_u8(0);
    }
}

fn put_text(out: &mut BytesMut, text: &str) {
    pad(out, 4);
    out.put_u32_le(u32::try_from(text.len()).unwrap_or(u32::MAX));
    out.extend_from_slice(text.as_bytes());
    out.put_u8(0);
}

fn put_signature(out: &mut BytesMut, signature: &str) {
    out.put_u8(u8::try_from(signature.len()).unwrap_or(u8::MAX));
    out.extend_from_slice(signature.as_bytes());
    out.put_u8(0);
}

impl Value {
    pub(crate) fn list(of: &str, items: Vec<Self>) -> Self {
        Self::List(of.to_owned(), items)
    }

    fn signature(&self) -> String {
        match self {
            Self::Text(_) => "s".to_owned(),
            Self::Flag(_) => "b".to_owned(),
            Self::U32(_) => "u".to_owned(),
            Self::I32(_) => "i".to_owned(),
            Self::U64(_) => "t".to_owned(),
            Self::Descriptor(_) => "h".to_owned(),
            Self::Variant(_) => "v".to_owned(),
            Self::List(of, _) => format!("a{of}"),
            Self::Struct(parts) => {
                format!("({})", parts.iter().map(Self::signature).collect::<String>())
            }
        }
    }

    fn put(&self, out: &mut BytesMut) {
        match self {
            Self::Text(text) => put_text(out, text),
            Self::Flag(flag) => Self::U32(u32::from(*flag)).put(out),
            Self::U32(number) | Self::Descriptor(number) => {
                pad(out, 4);
                out.put_u32_le(*number);
            }
            Self::I32(number) => {
                pad(out, 4);
                out.put_i32_le(*number);
            }
            Self::U64(number) => {
                pad(out, 8);
                out.put_u64_le(*number);
            }
            Self::Variant(inner) => {
                put_signature(out, &inner.signature());
                inner.put(out);
            }
            Self::List(of, items) => {
                pad(out, 4);
                let at = out.len();
                out.put_u32_le(0);
                pad(out, alignment(of));
                let begin = out.len();
                items.iter().for_each(|it| it.put(out));
                let length = u32::try_from(out.len() - begin).unwrap_or(u32::MAX);
                out[at..at + 4].copy_from_slice(&length.to_le_bytes());
            }
            Self::Struct(parts) => {
                pad(out, 8);
                parts.iter().for_each(|it| it.put(out));
            }
        }
    }
}

/// Of values of a type, by its first letter.
fn alignment(signature: &str) -> usize {
    match signature.bytes().next() {
        Some(b'(' | b't' | b'x' | b'd') => 8,
        Some(b'g' | b'v' | b'y') => 1,
        _ => 4,
    }
}

/// The first whole type of a signature, and the rest.
fn split(signature: &str) -> Option<(&str, &str)> {
    let mut depth = 0usize;
    for (at, byte) in signature.bytes().enumerate() {
        match byte {
            b'a' => continue,
            b'(' => depth += 1,
            b')' => depth = depth.checked_sub(1)?,
            _ if byte.is_ascii_lowercase() => {}
            _ => return None,
        }
        if depth == 0 {
            return Some(signature.split_at(at + 1));
        }
    }
    None
}

/// The fields of a header: their codes and types.
pub(super) struct Fields {
    pub path: &'static str,
    pub interface: &'static str,
    pub destination: &'static str,
    pub error: &'static str,
    pub reply_to: u32,
    pub descriptors: u32,
}

pub(super) fn encode_call(serial: u32, to: Object, member: &str, body: &[Value]) -> BytesMut {
    let fields = Fields {
        path: to.path,
        interface: to.interface,
        destination: to.destination,
        error: "",
        reply_to: 0,
        descriptors: 0,
    };
    encode(1, serial, &fields, member, body)
}

/// `kind` is the number of the message's type.
pub(super) fn encode(
    kind: u8,
    serial: u32,
    fields: &Fields,
    member: &str,
    body: &[Value],
) -> BytesMut {
    let mut content = BytesMut::new();
    body.iter().for_each(|it| it.put(&mut content));
    let signature: String = body.iter().map(Value::signature).collect();
    let mut head = BytesMut::new();
    head.extend_from_slice(&[b'l', kind, 0, 1]);
    head.put_u32_le(u32::try_from(content.len()).unwrap_or(u32::MAX));
    head.put_u32_le(serial);
    head.put_u32_le(0);
    let mut field = |code: u8, of: &str, put: &dyn Fn(&mut BytesMut)| {
        pad(&mut head, 8);
        head.put_u8(code);
        put_signature(&mut head, of);
        put(&mut head);
    };
    let texts = [
        (1, "o", fields.path),
        (2, "s", fields.interface),
        (3, "s", member),
        (4, "s", fields.error),
        (6, "s", fields.destination),
    ];
    for (code, of, text) in texts.into_iter().filter(|it| !it.2.is_empty()) {
        field(code, of, &|out| put_text(out, text));
    }
    for (code, number) in [(5, fields.reply_to), (9, fields.descriptors)] {
        if number > 0 {
            field(code, "u", &|out| Value::U32(number).put(out));
        }
    }
    if !signature.is_empty() {
        field(8, "g", &|out| put_signature(out, &signature));
    }
    let length = u32::try_from(head.len() - HEAD).unwrap_or(u32::MAX);
    head[12..16].copy_from_slice(&length.to_le_bytes());
    pad(&mut head, 8);
    head.unsplit(content);
    head
}

/// Takes the next whole message out of what was received.
pub(super) fn decode(received: &mut BytesMut) -> Result<Option<Message>, BusError> {
    if received.len() < HEAD {
        return Ok(None);
    }
    if received[0] != b'l' {
        return Err(BusError::Malformed("a message is not little-endian"));
    }
    let number = |at: usize| {
        u32::from_le_bytes([received[at], received[at + 1], received[at + 2], received[at + 3]])
    };
    #[cfg(test)]
    let serial = number(8);
    let (body, fields) = (number(4) as usize, number(12) as usize);
    if body > LONGEST || fields > LONGEST {
        return Err(BusError::Malformed("a message is too long"));
    }
    let begin = HEAD + fields.next_multiple_of(8);
    if received.len() < begin + body {
        return Ok(None);
    }
    let whole = received.split_to(begin + body).freeze();
    let kind = match whole[1] {
        1 => Kind::Call,
        2 => Kind::Answer,
        3 => Kind::Error,
        4 => Kind::Signal,
        _ => Kind::Other,
    };
    let mut message = Message {
        kind,
        #[cfg(test)]
        serial,
        reply_to: 0,
        member: String::new(),
        error: String::new(),
        body: Vec::new(),
        descriptor_count: 0,
        descriptors: Vec::new(),
    };
    let mut reader = Reader { bytes: &whole[..HEAD + fields], at: HEAD, depth: 0 };
    let mut signature = String::new();
    while reader.at < reader.bytes.len() {
        reader.align(8)?;
        let code = reader.take(1)?[0];
        let of = reader.signature()?;
        let value = reader.value(&of)?;
        match (code, value) {
            (3, Value::Text(text)) => message.member = text,
            (4, Value::Text(text)) => message.error = text,
            (5, Value::U32(number)) => message.reply_to = number,
            (8, Value::Text(text)) => signature = text,
            (9, Value::U32(number)) => message.descriptor_count = number.min(4),
            _ => {}
        }
    }
    let mut reader = Reader { bytes: &whole[begin..], at: 0, depth: 0 };
    let mut rest = signature.as_str();
    while let Some((of, next)) = split(rest) {
        // What is not understood, and what comes after it, is not asked for.
        let Ok(value) = reader.value(of) else { break };
        message.body.push(value);
        rest = next;
    }
    Ok(Some(message))
}

struct Reader<'a> {
    bytes: &'a [u8],
    at: usize,
    depth: usize,
}

const SHORT: BusError = BusError::Malformed("a message is too short");

impl<'a> Reader<'a> {
    fn take(&mut self, count: usize) -> Result<&'a [u8], BusError> {
        let end = self.at.checked_add(count).ok_or(SHORT)?;
        let taken = self.bytes.get(self.at..end).ok_or(SHORT)?;
        self.at = end;
        Ok(taken)
    }

    fn align(&mut self, to: usize) -> Result<(), BusError> {
        self.take(self.at.next_multiple_of(to) - self.at).map(drop)
    }

    fn u32(&mut self) -> Result<u32, BusError> {
        self.align(4)?;
        self.take(4).map(|mut it| it.get_u32_le())
    }

    fn signature(&mut self) -> Result<String, BusError> {
        let length = usize::from(self.take(1)?[0]);
        let text = self.take(length + 1)?;
        Ok(String::from_utf8_lossy(&text[..length]).into_owned())
    }

    fn value(&mut self, signature: &str) -> Result<Value, BusError> {
        Ok(match signature {
            "s" | "o" => {
                let length = self.u32()? as usize;
                let text = self.take(length.checked_add(1).ok_or(SHORT)?)?;
                Value::Text(String::from_utf8_lossy(&text[..length]).into_owned())
            }
            "g" => Value::Text(self.signature()?),
            "b" => Value::Flag(self.u32()? != 0),
            "u" => Value::U32(self.u32()?),
            "h" => Value::Descriptor(self.u32()?),
            "i" => {
                self.align(4)?;
                Value::I32(self.take(4)?.get_i32_le())
            }
            "t" => {
                self.align(8)?;
                Value::U64(self.take(8)?.get_u64_le())
            }
            "v" => {
                let inner = self.signature()?;
                if inner == "v" {
                    return Err(BusError::Malformed("a variant in a variant"));
                }
                Value::Variant(Box::new(self.value(&inner)?))
            }
            _ => {
                self.depth += 1;
                let value = self.inner(signature);
                self.depth -= 1;
                value?
            }
        })
    }

    /// A list or a struct.
    fn inner(&mut self, signature: &str) -> Result<Value, BusError> {
        const UNKNOWN: BusError = BusError::Malformed("a type that nobody asked for");
        if self.depth > DEEPEST {
            return Err(UNKNOWN);
        }
        if let Some(of) = signature.strip_prefix('a') {
            let length = self.u32()? as usize;
            self.align(alignment(of))?;
            let end = self.at.checked_add(length).ok_or(SHORT)?;
            let mut items = Vec::new();
            while self.at < end {
                let before = self.at;
                items.push(self.value(of)?);
                if self.at == before {
                    return Err(UNKNOWN);
                }
            }
            return Ok(Value::list(of, items));
        }
        let inside = signature.strip_prefix('(').and_then(|it| it.strip_suffix(')'));
        let mut rest = inside.filter(|it| !it.is_empty()).ok_or(UNKNOWN)?;
        self.align(8)?;
        let mut parts = Vec::new();
        while !rest.is_empty() {
            let (of, next) = split(rest).ok_or(UNKNOWN)?;
            parts.push(self.value(of)?);
            rest = next;
        }
        Ok(Value::Struct(parts))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TO: Object = Object { destination: "d.d", path: "/p", interface: "i.i" };

    fn nested() -> Vec<Value> {
        let text = |it: &str| Value::Text(it.to_owned());
        let property = |name: &str, value: Value| {
            Value::Struct(vec![text(name), Value::Variant(Box::new(value))])
        };
        let properties = vec![
            property("Wants", Value::list("s", vec![text("a"), text("bc")])),
            property("MemoryMax", Value::U64(u64::MAX)),
            property("Delegate", Value::Flag(true)),
        ];
        vec![
            text("unit"),
            Value::list("(sv)", properties),
            Value::list("(sa(sv))", Vec::new()),
            Value::I32(-1),
        ]
    }

    #[test]
    fn lists_of_structs_are_read_as_they_were_written() {
        let mut bytes = encode_call(7, TO, "M", &nested());
        let message = decode(&mut bytes).unwrap().unwrap();
        assert_eq!((message.kind, message.serial), (Kind::Call, 7));
        assert_eq!(message.body, nested());
        assert!(bytes.is_empty());
    }

    #[test]
    fn a_part_of_a_message_is_waited_for_and_a_body_that_lies_is_not_believed() {
        let whole = encode_call(7, TO, "M", &nested());
        for length in 0..whole.len() {
            let mut part = BytesMut::from(&whole[..length]);
            assert!(decode(&mut part).unwrap().is_none(), "{length}");
        }
        // Whatever the bytes of the body say, nothing beyond them is read, and nothing is endless.
        let body = u32::from_le_bytes(whole[4..8].try_into().unwrap()) as usize;
        for at in whole.len() - body..whole.len() {
            for byte in [0, 1, 0x7f, 0xff] {
                let mut changed = whole.clone();
                changed[at] = byte;
                decode(&mut changed).unwrap().unwrap();
            }
        }
    }

    #[test]
    fn types_in_types_end_somewhere() {
        for (signature, first) in
            [("a(sv)s", Some("a(sv)")), ("sas", Some("s")), ("aas", Some("aas"))]
        {
            assert_eq!(split(signature).map(|it| it.0), first);
        }
        for signature in ["", "a", "(", "(s", ")", "a(", "{sv}", "é"] {
            assert!(split(signature).is_none(), "{signature}");
        }
        let deep = format!("{}s", "a".repeat(DEEPEST + 1));
        let bytes = [0u8; 64];
        let mut reader = Reader { bytes: &bytes, at: 0, depth: 0 };
        assert!(reader.value("()").is_err() && reader.value("as").is_ok());
        let lengths = [60u8, 0, 0, 0].repeat(16);
        let mut reader = Reader { bytes: &lengths, at: 0, depth: 0 };
        assert!(reader.value(&deep).is_err());
    }
}
