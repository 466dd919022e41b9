//! `format` of texts: those that upstream checks; others mean nothing.
//!
//! Upstream: k8s.io/kube-openapi/pkg/validation/strfmt.

use std::{collections::BTreeSet, net::IpAddr, sync::LazyLock};

use base64::{Engine, prelude::BASE64_STANDARD};
use regex::Regex;
use serde_json::Value;

use super::super::fields;

/// The formats that a definition may name without a warning.
const KNOWN: [&str; 36] = [
    "bsonobjectid",
    "byte",
    "cidr",
    "creditcard",
    "date",
    "date-time",
    "datetime",
    "duration",
    "email",
    "hexcolor",
    "hostname",
    "ipv4",
    "ipv6",
    "isbn",
    "isbn10",
    "isbn13",
    "k8s-long-name",
    "k8s-short-name",
    "mac",
    "password",
    "rgbcolor",
    "ssn",
    "uri",
    "uuid",
    "uuid3",
    "uuid4",
    "uuid5",
    "int32",
    "int64",
    "int8",
    "int16",
    "uint8",
    "uint16",
    "uint32",
    "uint64",
    "float",
];

/// The formats of a schema that mean nothing to the server.
pub(crate) fn unknown(schema: &Value, into: &mut BTreeSet<String>) {
    match schema {
        Value::Object(fields) => {
            let format = fields.get("format").and_then(Value::as_str).unwrap_or_default();
            // A property may be called `format`: its schema is no text.
            if !format.is_empty() && !KNOWN.contains(&format) && format != "double" {
                into.insert(format.to_owned());
            }
            fields.values().for_each(|it| unknown(it, into));
        }
        Value::Array(all) => all.iter().for_each(|it| unknown(it, into)),
        _ => {}
    }
}

/// Whether a text has the format.
pub(super) fn fits(format: &str, text: &str) -> bool {
    match format {
        "date" => is_date(text),
        "date-time" | "datetime" => is_date_time(text),
        "duration" => is_duration(text),
        "ipv4" => text.contains('.') && text.parse::<IpAddr>().is_ok(),
        "ipv6" => text.contains(':') && text.parse::<IpAddr>().is_ok(),
        "cidr" => text.parse::<ipnet::IpNet>().is_ok(),
        "uri" => is_uri(text),
        "email" => is_email(text),
        "hostname" => is_host(text),
        "byte" => BASE64_STANDARD.decode(text).is_ok(),
        "mac" => is_mac(text),
        "uuid" => is_uuid(text, None),
        "uuid3" => is_uuid(text, Some('3')),
        "uuid4" => is_uuid(text, Some('4')),
        "uuid5" => is_uuid(text, Some('5')),
        "isbn" => is_isbn10(text) || is_isbn13(text),
        "isbn10" => is_isbn10(text),
        "isbn13" => is_isbn13(text),
        "creditcard" => is_card(text),
        "k8s-short-name" => fields::label(text).is_empty(),
        "k8s-long-name" => fields::subdomain(text).is_empty(),
        other => by_expression(other).is_none_or(|it| it.is_match(text)),
    }
}

/// Formats that are nothing but a regular expression.
fn by_expression(format: &str) -> Option<&'static Regex> {
    static ALL: LazyLock<Vec<(&str, Regex)>> = LazyLock::new(|| {
        let number = r"([01]?[0-9]?[0-9]|2[0-4][0-9]|25[0-5])";
        let color = format!(r"^rgb\(\s*{number}\s*,\s*{number}\s*,\s*{number}\s*\)$");
        let all = [
            ("bsonobjectid", "^[0-9a-fA-F]{24}$"),
            ("hexcolor", "^#?([0-9a-fA-F]{3}|[0-9a-fA-F]{6})$"),
            ("rgbcolor", color.as_str()),
            ("ssn", r"^[0-9]{3}[- ]?[0-9]{2}[- ]?[0-9]{4}$"),
        ];
        let compile = |(name, text): (&'static str, &str)| Some((name, Regex::new(text).ok()?));
        all.into_iter().filter_map(compile).collect()
    });
    ALL.iter().find(|(name, _)| *name == format).map(|(_, it)| it)
}

fn is_date(text: &str) -> bool {
    text.len() == 10 && text.parse::<jiff::civil::Date>().is_ok()
}

fn is_date_time(text: &str) -> bool {
    let lower = text.to_lowercase();
    let Some((date, time)) = lower.split_once('t') else { return false };
    let Some(at) = time.find(['z', '+', '-']) else { return false };
    let (clock, zone) = time.split_at(at);
    let (clock, fraction) = clock.split_once('.').unwrap_or((clock, "0"));
    let is_number = |it: &str| !it.is_empty() && it.bytes().all(|it| it.is_ascii_digit());
    let pair = |it: &str, most: u8| {
        it.len() == 2 && is_number(it) && it.parse::<u8>().is_ok_and(|it| it <= most)
    };
    let parts: Vec<&str> = clock.split(':').collect();
    let is_clock = matches!(parts[..], [h, m, s] if pair(h, 23) && pair(m, 59) && pair(s, 59));
    let is_zone = zone == "z"
        || zone
            .get(1..)
            .and_then(|it| it.split_once(':'))
            .is_some_and(|(h, m)| pair(h, 99) && pair(m, 99));
    is_date(date) && is_clock && is_zone && is_number(fraction)
}

const UNITS: [&str; 39] = [
    "ns",
    "nano",
    "nanos",
    "nanosecond",
    "nanoseconds",
    "us",
    "µs",
    "μs",
    "micro",
    "micros",
    "microsecond",
    "microseconds",
    "ms",
    "milli",
    "millis",
    "millisecond",
    "milliseconds",
    "s",
    "sec",
    "secs",
    "second",
    "seconds",
    "m",
    "min",
    "mins",
    "minute",
    "minutes",
    "h",
    "hr",
    "hrs",
    "hour",
    "hours",
    "d",
    "day",
    "days",
    "w",
    "wk",
    "week",
    "weeks",
];

fn is_duration(text: &str) -> bool {
    go_duration(text).is_some() || is_spoken(text)
}

/// `3 days`: numbers and units that people write.
fn is_spoken(text: &str) -> bool {
    let mut rest = text.trim();
    while !rest.is_empty() {
        let digits = rest.len() - rest.trim_start_matches(|it: char| it.is_ascii_digit()).len();
        let after = rest[digits..].trim_start();
        let letters = after.len() - after.trim_start_matches(char::is_alphabetic).len();
        if digits == 0 || !UNITS.contains(&after[..letters].to_lowercase().as_str()) {
            return false;
        }
        rest = after[letters..].trim_start();
    }
    !text.trim().is_empty()
}

/// A duration as Go's `time.ParseDuration` reads it, in nanoseconds.
pub(super) fn go_duration(text: &str) -> Option<i64> {
    let unsigned = text.strip_prefix(['-', '+']).unwrap_or(text);
    if unsigned == "0" {
        return Some(0);
    }
    let (mut rest, mut sum) = (unsigned, 0.0_f64);
    if rest.is_empty() {
        return None;
    }
    while !rest.is_empty() {
        let end = rest.find(|it: char| !it.is_ascii_digit() && it != '.')?;
        let number: f64 = rest[..end].parse().ok()?;
        rest = &rest[end..];
        let letters = rest.find(|it: char| it.is_ascii_digit() || it == '.').unwrap_or(rest.len());
        let unit = match &rest[..letters] {
            "ns" => 1.0,
            "us" | "µs" | "μs" => 1e3,
            "ms" => 1e6,
            "s" => 1e9,
            "m" => 60e9,
            "h" => 3600e9,
            _ => return None,
        };
        sum += number * unit;
        rest = &rest[letters..];
    }
    let signed = if text.starts_with('-') { -sum } else { sum };
    // Go refuses what does not fit into 63 bits of nanoseconds.
    #[expect(clippy::cast_possible_truncation, reason = "its size is looked at first")]
    (signed.abs() < 9.2e18).then_some(signed as i64)
}

fn is_uri(text: &str) -> bool {
    if text.contains([' ', '#', '"', '<', '>']) || text.chars().any(char::is_control) {
        return false;
    }
    let Some((scheme, rest)) = text.split_once(':') else { return text.starts_with('/') };
    let mut signs = scheme.chars();
    let is_scheme = signs.next().is_some_and(|it| it.is_ascii_alphabetic())
        && signs.all(|it| it.is_ascii_alphanumeric() || "+-.".contains(it));
    text.starts_with('/') || is_scheme && !rest.is_empty()
}

fn is_email(text: &str) -> bool {
    // `Name <a@b>` is an address, too.
    let inside = text.strip_suffix('>').and_then(|it| it.split_once('<')).map(|(_, it)| it);
    let Some((local, domain)) = inside.unwrap_or(text).rsplit_once('@') else { return false };
    let is_plain = |it: &str| {
        !it.is_empty() && !it.starts_with('.') && !it.ends_with('.') && !it.contains("..")
    };
    let is_atom = |it: char| it.is_alphanumeric() || "!#$%&'*+-/=?^_`{|}~.".contains(it);
    is_plain(local) && is_plain(domain) && local.chars().all(is_atom) && domain.chars().all(is_atom)
}

fn is_host(text: &str) -> bool {
    let is_label = |label: &str| {
        let is_inner = |it: char| it.is_alphanumeric() || it == '-';
        !label.is_empty()
            && label.len() <= 63
            && label.chars().all(is_inner)
            && !label.starts_with('-')
            && !label.ends_with('-')
    };
    !text.is_empty() && text.len() <= 255 && text.trim_end_matches('.').split('.').all(is_label)
}

/// Six, eight or twenty bytes, between colons or hyphens, or in fours between dots.
fn is_mac(text: &str) -> bool {
    let is_hex =
        |it: &str, length: usize| it.len() == length && it.bytes().all(|it| it.is_ascii_hexdigit());
    let pairs = |sign: char| {
        let parts: Vec<&str> = text.split(sign).collect();
        matches!(parts.len(), 6 | 8 | 20) && parts.iter().all(|it| is_hex(it, 2))
    };
    let fours: Vec<&str> = text.split('.').collect();
    pairs(':')
        || pairs('-')
        || matches!(fours.len(), 3 | 4 | 10) && fours.iter().all(|it| is_hex(it, 4))
}

fn is_uuid(text: &str, version: Option<char>) -> bool {
    let mut plain = String::with_capacity(32);
    let mut rest = text;
    for length in [8, 4, 4, 4, 12] {
        if !plain.is_empty() {
            rest = rest.strip_prefix('-').unwrap_or(rest);
        }
        let Some(part) = rest.get(..length) else { return false };
        plain.push_str(part);
        rest = &rest[length..];
    }
    let sign = |at: usize| plain.chars().nth(at).unwrap_or_default();
    let is_variant = || matches!(sign(16).to_ascii_lowercase(), '8' | '9' | 'a' | 'b');
    rest.is_empty()
        && plain.bytes().all(|it| it.is_ascii_hexdigit())
        && version.is_none_or(|it| sign(12) == it && (it == '3' || is_variant()))
}

fn digits(text: &str) -> Vec<u32> {
    let plain = text.replace(['-', ' '], "");
    let digit = |it: char| if it == 'X' { Some(10) } else { it.to_digit(10) };
    plain.chars().map(|it| digit(it).unwrap_or(99)).collect()
}

fn is_isbn10(text: &str) -> bool {
    let digits = digits(text);
    let sum: u32 = digits.iter().zip(1..).map(|(it, place)| it * place).sum();
    digits.len() == 10
        && digits[..9].iter().all(|it| *it < 10)
        && digits[9] <= 10
        && sum.is_multiple_of(11)
}

fn is_isbn13(text: &str) -> bool {
    let digits = digits(text);
    let sum: u32 = digits.iter().zip([1, 3].iter().cycle()).map(|(it, weight)| it * weight).sum();
    digits.len() == 13 && digits.iter().all(|it| *it < 10) && sum.is_multiple_of(10)
}

/// Luhn's sum, over the usual lengths.
fn is_card(text: &str) -> bool {
    let digits = digits(text);
    let doubled = |it: u32| if it > 4 { 2 * it - 9 } else { 2 * it };
    let weighed = digits.iter().rev().enumerate();
    let sum: u32 = weighed.map(|(at, it)| if at % 2 == 1 { doubled(*it) } else { *it }).sum();
    (13..=16).contains(&digits.len()) && digits.iter().all(|it| *it < 10) && sum.is_multiple_of(10)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_format_takes_what_it_names_and_nothing_else() {
        for (format, good, bad) in [
            ("date", "2026-02-28", "2026-02-30"),
            ("date-time", "2026-02-28T10:00:00.5+01:00", "2026-02-28 10:00:00Z"),
            ("date-time", "2026-02-28t10:00:00z", "2026-02-28T25:00:00Z"),
            ("duration", "1h30m", "1x"),
            ("duration", "3 days", "days"),
            ("ipv4", "10.0.0.1", "fe80::1"),
            ("ipv6", "fe80::1", "10.0.0.1"),
            ("cidr", "10.0.0.0/8", "10.0.0.0"),
            ("uri", "https://a.b/c?d", "a b"),
            ("email", "a@b.c", "a.b.c"),
            ("hostname", "a-b.c", "-a.b"),
            ("byte", "YWJj", "Y$"),
            ("mac", "00:11:22:aa:bb:cc", "00:11:22"),
            ("uuid", "123e4567-e89b-12d3-a456-426614174000", "123e4567"),
            (
                "uuid4",
                "f47ac10b-58cc-4372-a567-0e02b2c3d479",
                "123e4567-e89b-12d3-a456-426614174000",
            ),
            ("isbn10", "0-306-40615-2", "0-306-40615-3"),
            ("isbn13", "978-0-306-40615-7", "978-0-306-40615-8"),
            ("creditcard", "4111111111111111", "4111111111111112"),
            ("ssn", "111-11-1111", "1-1-1"),
            ("hexcolor", "#fff", "#ffff"),
            ("rgbcolor", "rgb(0,10,255)", "rgb(0,10,256)"),
            ("bsonobjectid", "507f1f77bcf86cd799439011", "507f"),
            ("k8s-short-name", "a", "a.b"),
            ("k8s-long-name", "a.b", "A"),
        ] {
            assert!(fits(format, good), "{format} takes {good}");
            assert!(!fits(format, bad), "{format} takes {bad}");
        }
        assert!(fits("password", "x") && fits("nobodys", "x"));
    }

    #[test]
    fn a_duration_of_gos_is_counted_in_nanoseconds() {
        assert_eq!(go_duration("1m1.5s"), Some(61_500_000_000));
        assert_eq!(go_duration("-2us"), Some(-2_000));
        assert_eq!(go_duration(""), None);
        assert_eq!(go_duration("1"), None);
    }
}
