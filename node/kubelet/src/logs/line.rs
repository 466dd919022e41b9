//! One line of a CRI log: `2026-11-23T10:00:00.123456789Z stdout F text`.

use jiff::Timestamp;

#[derive(Debug, PartialEq, Eq)]
pub(super) struct Line<'a> {
    pub time_text: &'a str,
    pub stream: &'a str,
    /// The text goes on in the next line.
    pub is_partial: bool,
    pub text: &'a [u8],
}

impl<'a> Line<'a> {
    /// `None` for a line that is not in the format. `raw` is without its newline.
    pub(super) fn parse(raw: &'a [u8]) -> Option<Self> {
        let mut parts = raw.splitn(4, |byte| *byte == b' ');
        let mut word = || parts.next().and_then(|it| std::str::from_utf8(it).ok());
        let (time_text, stream, tags) = (word()?, word()?, word()?);
        if !matches!(stream, "stdout" | "stderr") {
            return None;
        }
        let text = parts.next().unwrap_or_default();
        let is_partial = tags.split(':').next() == Some("P");
        Some(Self { time_text, stream, is_partial, text })
    }

    pub(super) fn time(&self) -> Option<Timestamp> {
        self.time_text.parse().ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn whole_and_partial_lines_are_told_apart() {
        let line = Line::parse(b"2026-11-23T10:00:00.5Z stderr P half a line").unwrap();
        assert!(line.is_partial);
        assert_eq!((line.stream, line.text), ("stderr", &b"half a line"[..]));
        assert!(line.time().is_some());
        assert_eq!(Line::parse(b"2026-11-23T10:00:00Z stdout F ").unwrap().text, b"");
        assert_eq!(Line::parse(b"not a log"), None);
    }
}
