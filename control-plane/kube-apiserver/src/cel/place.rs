//! Where in its text a part of an expression stands, for errors: `<input>:1:7`.
//!
//! The parser keeps no places. The checker meets names and operators in the order of the text, so the
//! n-th time that it meets a word is the word's n-th place.

use std::collections::HashMap;

pub(super) struct Places<'a> {
    source: &'a str,
    words: Vec<(&'a str, usize)>,
    seen: HashMap<String, usize>,
}

impl<'a> Places<'a> {
    pub(super) fn of(source: &'a str) -> Self {
        Self { source, words: words(source), seen: HashMap::new() }
    }

    /// The next place of `word`, counted in bytes.
    pub(super) fn next(&mut self, word: &str) -> usize {
        let seen = self.seen.entry(word.to_owned()).or_default();
        let place = self.words.iter().filter(|(it, _)| *it == word).nth(*seen);
        *seen += 1;
        place.map_or(0, |(_, at)| *at)
    }

    /// The last sign `sign` before `at`, or `at`.
    pub(super) fn before(&self, at: usize, sign: char) -> usize {
        self.source.get(..at).and_then(|it| it.rfind(sign)).unwrap_or(at)
    }

    /// The first sign `sign` behind `at`, or `at`.
    pub(super) fn behind(&self, at: usize, sign: char) -> usize {
        self.source.get(at..).and_then(|it| it.find(sign)).map_or(at, |it| at + it)
    }

    /// The error as cel-go shows it: with the line, and a mark under the place.
    pub(super) fn show(&self, at: usize, why: &str) -> String {
        let before = self.source.get(..at).unwrap_or_default();
        let line = before.matches('\n').count();
        let begin = before.rfind('\n').map_or(0, |it| it + 1);
        let column = before[begin..].chars().count();
        let text = self.source.lines().nth(line).unwrap_or_default();
        let dots = ".".repeat(column);
        format!("ERROR: <input>:{}:{}: {why}\n | {text}\n | {dots}^", line + 1, column + 1)
    }
}

/// Words and signs outside of texts and comments. Signs of two letters are one.
fn words(source: &str) -> Vec<(&str, usize)> {
    let bytes = source.as_bytes();
    let (mut words, mut at) = (Vec::new(), 0);
    while let Some(&it) = bytes.get(at) {
        let end = match it {
            b'/' if bytes.get(at + 1) == Some(&b'/') => {
                at = source[at..].find('\n').map_or(bytes.len(), |it| at + it);
                continue;
            }
            b'"' | b'\'' => {
                at = behind_text(bytes, at);
                continue;
            }
            it if is_part(it) => at + bytes[at..].iter().take_while(|it| is_part(**it)).count(),
            b'=' | b'!' | b'<' | b'>' if bytes.get(at + 1) == Some(&b'=') => at + 2,
            b'&' | b'|' if bytes.get(at + 1) == Some(&it) => at + 2,
            _ => at + 1,
        };
        // A letter of several bytes can stand in texts only; elsewhere the parser refused it.
        if let Some(word) = source.get(at..end) {
            words.push((word, at));
        }
        at = end;
    }
    words
}

fn is_part(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || byte == b'_'
}

/// Where the text that begins at `at` is over.
fn behind_text(bytes: &[u8], at: usize) -> usize {
    let mark = bytes[at];
    let is_raw = at > 0 && b"rR".contains(&bytes[at - 1]);
    let is_long = bytes.get(at..at + 3) == Some(&[mark; 3]);
    let wanted = if is_long { 3 } else { 1 };
    let mut here = at + wanted;
    while here < bytes.len() {
        if bytes[here] == b'\\' && !is_raw {
            here += 2;
        } else if bytes[here..].starts_with(&[mark; 3][..wanted]) {
            return here + wanted;
        } else {
            here += 1;
        }
    }
    bytes.len()
}
