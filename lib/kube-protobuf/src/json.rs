//! A cursor over JSON: the stored text goes to the wire without becoming a tree in between.
//!
//! The text is the server's own. What does not concern the reader is passed over, not checked.

use std::borrow::Cow;

use crate::ProtobufError;

/// What is left of a text.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Cursor<'a>(pub(crate) &'a [u8]);

impl<'a> Cursor<'a> {
    /// The next byte that is no white space.
    pub(crate) fn peek(&mut self) -> Result<u8, ProtobufError> {
        while let Some((first, rest)) = self.0.split_first() {
            if !first.is_ascii_whitespace() {
                return Ok(*first);
            }
            self.0 = rest;
        }
        Err(ProtobufError::Malformed)
    }

    pub(crate) fn take(&mut self, byte: u8) -> Result<(), ProtobufError> {
        if self.peek()? != byte {
            return Err(ProtobufError::Malformed);
        }
        self.0 = &self.0[1..];
        Ok(())
    }

    /// The name of the next member of an object that was opened; its value comes next.
    pub(crate) fn member(&mut self) -> Result<Option<Cow<'a, [u8]>>, ProtobufError> {
        if !self.goes_on(b'}')? {
            return Ok(None);
        }
        let name = self.text()?;
        self.take(b':')?;
        Ok(Some(name))
    }

    /// Whether there is one more element in a list that was opened.
    pub(crate) fn element(&mut self) -> Result<bool, ProtobufError> {
        self.goes_on(b']')
    }

    fn goes_on(&mut self, end: u8) -> Result<bool, ProtobufError> {
        let next = self.peek()?;
        if next == end || next == b',' {
            self.0 = &self.0[1..];
        }
        Ok(next != end)
    }

    /// Passes over a `null`, if it is one.
    pub(crate) fn take_null(&mut self) -> Result<bool, ProtobufError> {
        let is_null = self.peek()? == b'n';
        if is_null {
            self.value()?;
        }
        Ok(is_null)
    }

    /// A string without its quotes and escapes.
    pub(crate) fn text(&mut self) -> Result<Cow<'a, [u8]>, ProtobufError> {
        self.peek()?;
        let (end, has_escapes) = end_of_text(self.0)?;
        let quoted = self.split(end);
        if !has_escapes {
            return Ok(Cow::Borrowed(&quoted[1..end - 1]));
        }
        let text: String = serde_json::from_slice(quoted).map_err(|_| ProtobufError::Malformed)?;
        Ok(Cow::Owned(text.into_bytes()))
    }

    /// The text of a value of any type.
    pub(crate) fn value(&mut self) -> Result<&'a [u8], ProtobufError> {
        let end = match self.peek()? {
            b'"' => end_of_text(self.0)?.0,
            b'{' | b'[' => end_of_structure(self.0)?,
            _ => {
                let is_end = |it: &u8| matches!(it, b',' | b'}' | b']') || it.is_ascii_whitespace();
                self.0.iter().position(is_end).unwrap_or(self.0.len())
            }
        };
        Ok(self.split(end))
    }

    fn split(&mut self, at: usize) -> &'a [u8] {
        let (taken, rest) = self.0.split_at(at);
        self.0 = rest;
        taken
    }
}

/// Where a text's string ends, behind its quote, and whether anything in it is escaped.
fn end_of_text(text: &[u8]) -> Result<(usize, bool), ProtobufError> {
    if text.first() != Some(&b'"') {
        return Err(ProtobufError::Malformed);
    }
    let (mut at, mut has_escapes) = (1, false);
    loop {
        while let Some(eight) = text.get(at..).and_then(<[u8]>::first_chunk::<8>) {
            let word = u64::from_le_bytes(*eight);
            let found = places(word, b'"') | places(word, b'\\');
            if found != 0 {
                at += found.trailing_zeros() as usize / 8;
                break;
            }
            at += 8;
        }
        match text.get(at) {
            Some(b'"') => return Ok((at + 1, has_escapes)),
            Some(b'\\') => {
                has_escapes = true;
                at += 2;
            }
            Some(_) => at += 1,
            None => return Err(ProtobufError::Malformed),
        }
    }
}

/// The highest bit of each byte of `word` that is `byte`; behind the first such byte others may have it,
/// too.
fn places(word: u64, byte: u8) -> u64 {
    const ONES: u64 = u64::from_le_bytes([1; 8]);
    let differs = word ^ (ONES * u64::from(byte));
    differs.wrapping_sub(ONES) & !differs & (ONES << 7)
}

/// Where a text's object or list ends.
fn end_of_structure(text: &[u8]) -> Result<usize, ProtobufError> {
    let (mut at, mut depth) = (0, 0_usize);
    while let Some(byte) = text.get(at) {
        match byte {
            b'"' => {
                at += end_of_text(&text[at..])?.0;
                continue;
            }
            b'{' | b'[' => depth += 1,
            b'}' | b']' if depth == 1 => return Ok(at + 1),
            b'}' | b']' => depth -= 1,
            _ => {}
        }
        at += 1;
    }
    Err(ProtobufError::Malformed)
}
