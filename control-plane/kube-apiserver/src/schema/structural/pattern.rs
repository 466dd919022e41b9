//! `pattern`: regular expressions in Go's syntax, run by Rust's engine of the same kind (no
//! backtracking, so no expression takes more than linear time).
//!
//! What the two read differently is rewritten: `\d`, `\w`, `\s` and `\b` mean ASCII in Go, brackets
//! inside of a class are plain, and braces that are no count are plain. What Go refuses is refused in
//! its words.
//!
//! Upstream: regexp/syntax of Go.

use std::sync::OnceLock;

use regex::Regex;
use regex_syntax::ast::ErrorKind;

/// The largest count of a repetition that Go takes.
const MOST_REPEATS: u32 = 1000;
/// The compiled form's limit, in bytes.
const LARGEST: usize = 4 << 20;

#[derive(Debug, Clone)]
pub(crate) struct Pattern {
    /// As it is written in the schema.
    pub(crate) text: String,
    /// Compiled when the first text is compared; `None`: it is none, and was stored all the same.
    compiled: OnceLock<Option<Regex>>,
}

impl Pattern {
    pub(crate) fn of(text: &str) -> Self {
        Self { text: text.to_owned(), compiled: OnceLock::new() }
    }

    /// Compiles it, or says why Go would not.
    pub(crate) fn compile(text: &str) -> Result<Regex, String> {
        let refused = |why: String| format!("error parsing regexp: {why}");
        let translated = translate(text).map_err(refused)?;
        if let Err(error) = regex_syntax::ast::parse::Parser::new().parse(&translated) {
            return Err(refused(words(text, &error)));
        }
        let compiled = regex::RegexBuilder::new(&translated).size_limit(LARGEST).build();
        compiled.map_err(|error| match error {
            regex::Error::CompiledTooBig(_) => refused("expression too large".to_owned()),
            other => refused(other.to_string().lines().last().unwrap_or_default().to_owned()),
        })
    }

    /// Whether it is found anywhere in the text, as Go's `MatchString`.
    pub(crate) fn matches(&self, text: &str) -> bool {
        let compiled = self.compiled.get_or_init(|| Self::compile(&self.text).ok());
        compiled.as_ref().is_none_or(|it| it.is_match(text))
    }
}

/// Go's words for what the expression has wrong.
fn words(text: &str, error: &regex_syntax::ast::Error) -> String {
    let span = error.span();
    let part = error.pattern().get(span.start.offset..span.end.offset).unwrap_or(text);
    match error.kind() {
        ErrorKind::GroupUnclosed => format!("missing closing ): `{text}`"),
        ErrorKind::GroupUnopened => format!("unexpected ): `{text}`"),
        ErrorKind::ClassUnclosed => {
            format!(
                "missing closing ]: `{}`",
                error.pattern().get(span.start.offset..).unwrap_or(text)
            )
        }
        ErrorKind::ClassRangeInvalid => format!("invalid character class range: `{part}`"),
        ErrorKind::RepetitionMissing => {
            let sign = error.pattern().get(span.start.offset..).unwrap_or(text);
            format!("missing argument to repetition operator: `{}`", &sign[..sign.len().min(1)])
        }
        ErrorKind::RepetitionCountInvalid => format!("invalid repeat count: `{part}`"),
        ErrorKind::EscapeUnexpectedEof => "trailing backslash at end of expression: ``".to_owned(),
        ErrorKind::UnsupportedLookAround => {
            format!("invalid or unsupported Perl syntax: `{part}`")
        }
        _ => format!("invalid escape sequence: `{part}`"),
    }
}

/// The expression in Rust's syntax.
fn translate(text: &str) -> Result<String, String> {
    let mut out = String::with_capacity(text.len() + 16);
    let mut rest = text;
    let mut repeated = "";
    while let Some(sign) = rest.chars().next() {
        let (length, is_repeat) = match sign {
            '\\' => (escape(rest, &mut out, false), false),
            '[' => (class(rest, &mut out), false),
            '*' | '+' | '?' => (push(&mut out, &rest[..1]), true),
            '{' => match count(rest)? {
                Some(length) => (push(&mut out, &rest[..length]), true),
                None => {
                    out.push_str("\\{");
                    (1, false)
                }
            },
            _ => (push(&mut out, &rest[..sign.len_utf8()]), false),
        };
        let is_lazy = &rest[..length] == "?";
        if is_repeat && !repeated.is_empty() && !is_lazy {
            return Err(format!(
                "invalid nested repetition operator: `{repeated}{}`",
                &rest[..length]
            ));
        }
        // One question mark after a repetition makes it lazy; what follows is another.
        repeated = if is_repeat { &rest[..length] } else { "" };
        rest = &rest[length..];
    }
    Ok(out)
}

fn push(out: &mut String, part: &str) -> usize {
    out.push_str(part);
    part.len()
}

/// The length of `{2}`, `{2,}` or `{2,5}`, if the braces are that.
fn count(rest: &str) -> Result<Option<usize>, String> {
    let Some((inside, _)) = rest[1..].split_once('}') else { return Ok(None) };
    let (least, most) = inside.split_once(',').unwrap_or((inside, ""));
    let is_number = |it: &str| !it.is_empty() && it.bytes().all(|it| it.is_ascii_digit());
    if !is_number(least) || !(most.is_empty() || is_number(most)) {
        return Ok(None);
    }
    let is_large =
        |it: &str| !it.is_empty() && it.parse().map_or(true, |it: u32| it > MOST_REPEATS);
    let length = inside.len() + 2;
    if is_large(least) || is_large(most) {
        return Err(format!("invalid repeat count: `{}`", &rest[..length]));
    }
    Ok(Some(length))
}

/// An escape, with Go's meaning. Says how much of the text it is.
fn escape(rest: &str, out: &mut String, in_class: bool) -> usize {
    let Some(sign) = rest[1..].chars().next() else { return push(out, rest) };
    let plain = match (sign, in_class) {
        ('d', false) => "[0-9]",
        ('d', true) => "0-9",
        ('D', _) => "[^0-9]",
        ('w', false) => "[0-9A-Za-z_]",
        ('w', true) => "0-9A-Za-z_",
        ('W', _) => "[^0-9A-Za-z_]",
        ('s', false) => "[\\t\\n\\x0C\\r ]",
        ('s', true) => "\\t\\n\\x0C\\r ",
        ('S', _) => "[^\\t\\n\\x0C\\r ]",
        ('b', false) => "(?-u:\\b)",
        ('B', false) => "(?-u:\\B)",
        ('Q', _) => return quoted(rest, out),
        _ => return push(out, &rest[..1 + sign.len_utf8()]),
    };
    out.push_str(plain);
    2
}

/// `\Q…\E`: as it stands there.
fn quoted(rest: &str, out: &mut String) -> usize {
    let inside = rest[2..].split_once("\\E").map(|(inside, _)| inside);
    let (inside, closing) = inside.map_or((&rest[2..], 0), |it| (it, 2));
    out.push_str(&regex::escape(inside));
    2 + inside.len() + closing
}

/// A class in brackets. Says how much of the text it is.
fn class(rest: &str, out: &mut String) -> usize {
    let mut at = push(out, "[");
    if rest[at..].starts_with('^') {
        at += push(out, "^");
    }
    if rest[at..].starts_with(']') {
        at += 1;
        out.push_str("\\]");
    }
    while let Some(sign) = rest[at..].chars().next() {
        match sign {
            ']' => return at + push(out, "]"),
            '\\' => at += escape(&rest[at..], out, true),
            '[' if rest[at..].starts_with("[:") => match rest[at..].find(":]") {
                Some(end) => at += push(out, &rest[at..at + end + 2]),
                None => at += plain(out, sign),
            },
            // In a class of Rust's, some signs mean more when they are there twice.
            '[' | '&' | '~' => at += plain(out, sign),
            '-' if rest[at..].starts_with("--") => at += plain(out, sign),
            _ => at += push(out, &rest[at..at + sign.len_utf8()]),
        }
    }
    at
}

fn plain(out: &mut String, sign: char) -> usize {
    out.push('\\');
    out.push(sign);
    sign.len_utf8()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_go_takes_means_what_it_means_there() {
        for (pattern, good, bad) in [
            (r"^\d+$", "12", "١٢"),
            (r"^[\d\s]+$", "1 2", "a"),
            ("^[[a]+$", "[a", "b"),
            ("^a{,2}$", "a{,2}", "aa"),
            ("^[^]]$", "a", "]"),
            (r"^\Qa.b\E$", "a.b", "axb"),
            ("^[a&&b]+$", "&", "c"),
            ("^[[:alpha:]]$", "x", "1"),
            ("a", "bab", "b"),
            ("^((100|[0-9]{1,2})%|[0-9]+)$", "10%", "101%"),
        ] {
            Pattern::compile(pattern).unwrap();
            let compiled = Pattern::of(pattern);
            assert!(compiled.matches(good), "{pattern} has {good}");
            assert!(!compiled.matches(bad), "{pattern} does not have {bad}");
        }
    }

    #[test]
    fn what_go_refuses_is_refused_in_its_words() {
        for (pattern, why) in [
            ("(a", "missing closing ): `(a`"),
            ("a)", "unexpected ): `a)`"),
            ("[a", "missing closing ]: `[a`"),
            ("*a", "missing argument to repetition operator: `*`"),
            ("a**", "invalid nested repetition operator: `**`"),
            ("a{1001}", "invalid repeat count: `{1001}`"),
            ("[z-a]", "invalid character class range: `z-a`"),
            ("(?=a)", "invalid or unsupported Perl syntax: `(?=`"),
        ] {
            let refused = Pattern::compile(pattern).unwrap_err();
            assert_eq!(refused, format!("error parsing regexp: {why}"));
        }
    }
}
