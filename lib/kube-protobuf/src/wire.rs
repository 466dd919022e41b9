//! Protobuf's wire format: fields out of bytes, and into them.

use crate::ProtobufError;

/// Two's complement, as protobuf writes negative numbers.
pub(crate) fn signed(number: u64) -> i64 {
    i64::from_le_bytes(number.to_le_bytes())
}

/// One field's value on the wire.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Wire<'a> {
    Varint(u64),
    Fixed64(u64),
    Bytes(&'a [u8]),
    Fixed32,
}

/// The fields of a message, in order.
pub(crate) struct Fields<'a>(pub(crate) &'a [u8]);

impl<'a> Iterator for Fields<'a> {
    type Item = Result<(u32, Wire<'a>), ProtobufError>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.0.is_empty() {
            return None;
        }
        let field = self.field();
        if field.is_err() {
            self.0 = &[];
        }
        Some(field)
    }
}

impl<'a> Fields<'a> {
    fn field(&mut self) -> Result<(u32, Wire<'a>), ProtobufError> {
        let tag = varint(&mut self.0)?;
        let number = u32::try_from(tag >> 3).map_err(|_| ProtobufError::Malformed)?;
        let wire = match tag & 7 {
            0 => Wire::Varint(varint(&mut self.0)?),
            1 => {
                let bytes = self.take(8)?.try_into().map_err(|_| ProtobufError::Malformed)?;
                Wire::Fixed64(u64::from_le_bytes(bytes))
            }
            2 => {
                let length = varint(&mut self.0)?;
                let length = usize::try_from(length).map_err(|_| ProtobufError::Malformed)?;
                Wire::Bytes(self.take(length)?)
            }
            5 => {
                self.take(4)?;
                Wire::Fixed32
            }
            _ => return Err(ProtobufError::Malformed),
        };
        Ok((number, wire))
    }

    fn take(&mut self, length: usize) -> Result<&'a [u8], ProtobufError> {
        let (taken, rest) = self.0.split_at_checked(length).ok_or(ProtobufError::Malformed)?;
        self.0 = rest;
        Ok(taken)
    }
}

pub(crate) fn varint(bytes: &mut &[u8]) -> Result<u64, ProtobufError> {
    let mut number = 0_u64;
    for shift in (0..70).step_by(7) {
        let (first, rest) = bytes.split_first().ok_or(ProtobufError::Malformed)?;
        *bytes = rest;
        number |= u64::from(first & 0x7f).checked_shl(shift).unwrap_or_default();
        if first & 0x80 == 0 {
            return Ok(number);
        }
    }
    Err(ProtobufError::Malformed)
}

const VARINT: u64 = 0;
const FIXED64: u64 = 1;
const BYTES: u64 = 2;

fn push_varint(out: &mut Vec<u8>, mut number: u64) {
    while number >= 0x80 {
        out.push(number.to_le_bytes()[0] | 0x80);
        number >>= 7;
    }
    out.push(number.to_le_bytes()[0]);
}

fn push_tag(out: &mut Vec<u8>, field: u32, wire: u64) {
    push_varint(out, u64::from(field) << 3 | wire);
}

fn length(length: usize) -> u64 {
    u64::try_from(length).unwrap_or_default()
}

/// Negative numbers are written in two's complement of 64 bits, as Go does.
pub(crate) fn push_integer(out: &mut Vec<u8>, field: u32, number: i64) {
    push_tag(out, field, VARINT);
    push_varint(out, u64::from_le_bytes(number.to_le_bytes()));
}

pub(crate) fn push_double(out: &mut Vec<u8>, field: u32, number: f64) {
    push_tag(out, field, FIXED64);
    out.extend_from_slice(&number.to_bits().to_le_bytes());
}

pub(crate) fn push_bytes(out: &mut Vec<u8>, field: u32, bytes: &[u8]) {
    push_head(out, field, bytes.len());
    out.extend_from_slice(bytes);
}

/// What stands before so many bytes.
pub(crate) fn push_head(out: &mut Vec<u8>, field: u32, size: usize) {
    push_tag(out, field, BYTES);
    push_varint(out, length(size));
}

/// A field whose length is known only when it is written: most are short, so that one byte is kept
/// for it, and a longer one is moved.
pub(crate) fn push_nested<E>(
    out: &mut Vec<u8>,
    field: u32,
    write: impl FnOnce(&mut Vec<u8>) -> Result<(), E>,
) -> Result<(), E> {
    push_tag(out, field, BYTES);
    let start = out.len();
    out.push(0);
    write(out)?;
    let end = out.len();
    push_varint(out, length(end - start - 1));
    // The length stands behind the field, and belongs in front of it.
    let width = out.len() - end;
    if width == 1 {
        out[start] = out[end];
        out.truncate(end);
        return Ok(());
    }
    let mut prefix = [0; 10];
    prefix[..width].copy_from_slice(&out[end..]);
    out.copy_within(start + 1..end, start + width);
    out[start..start + width].copy_from_slice(&prefix[..width]);
    out.truncate(end + width - 1);
    Ok(())
}
