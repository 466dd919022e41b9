//! Messages of D-Bus as bytes. Ours are little-endian; the peer's must be, too.

use std::os::fd::OwnedFd;

use bytes::{Buf, BufMut, BytesMut};

use super::{BusError, Object};

/// Far more than any message that concerns us.
const LONGEST: usize = 1 << 20;
const HEAD: usize = 16;

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
    fn signature(&self) -> &'static str {
        match self {
            Self::Text(_) => "s",
            Self::Flag(_) => "b",
            Self::U32(_) => "u",
            Self::I32(_) => "i",
            Self::U64(_) => "t",
            Self::Descriptor(_) => "h",
            Self::Variant(_) => "v",
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
                put_signature(out, inner.signature());
                inner.put(out);
            }
        }
    }
}

/// The fields of a header: their codes and types.
pub(super) struct Fields {
    pub path: &'static str,
    pub interface: &'static str,
    pub destination: &'static str,
    pub reply_to: u32,
    pub descriptors: u32,
}

pub(super) fn encode_call(serial: u32, to: Object, member: &str, body: &[Value]) -> BytesMut {
    let fields = Fields {
        path: to.path,
        interface: to.interface,
        destination: to.destination,
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
    let mut reader = Reader { bytes: &whole[..HEAD + fields], at: HEAD };
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
    let mut reader = Reader { bytes: &whole[begin..], at: 0 };
    for of in signature.chars() {
        // What is not understood, and what comes after it, is not asked for.
        let Ok(value) = reader.value(&of.to_string()) else { break };
        message.body.push(value);
    }
    Ok(Some(message))
}

struct Reader<'a> {
    bytes: &'a [u8],
    at: usize,
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
            _ => return Err(BusError::Malformed("a type that nobody asked for")),
        })
    }
}
