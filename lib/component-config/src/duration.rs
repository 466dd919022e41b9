//! Go's notation of durations: `1h2m3.5s`, `-2s`, `500ms`.
//!
//! **Invariant:** what is written is what Go writes, and what is read is what Go reads, with its words
//! for what it cannot read.
//!
//! Upstream: `time.ParseDuration`, `Duration.String`.

use std::{fmt, time::Duration};

use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

const SECOND: u128 = 1_000_000_000;

/// Why a text is no duration.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ParseDurationError {
    #[error("time: invalid duration {0:?}")]
    Invalid(String),
    #[error("time: missing unit in duration {0:?}")]
    NoUnit(String),
    #[error("time: unknown unit {unit:?} in duration {text:?}")]
    UnknownUnit { unit: String, text: String },
}

/// A duration as it is written in configuration files.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct GoDuration(pub Duration);

impl GoDuration {
    pub const fn seconds(count: u64) -> Self {
        Self(Duration::from_secs(count))
    }
}

/// One that may be negative, in nanoseconds: where something is said about such ones.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct SignedGoDuration(pub i64);

impl SignedGoDuration {
    pub const fn seconds(count: i64) -> Self {
        Self(count * 1_000_000_000)
    }

    /// Zero where it is negative.
    pub fn get(self) -> Duration {
        Duration::from_nanos(u64::try_from(self.0).unwrap_or(0))
    }
}

/// `None` for text that is no duration, or a negative one.
pub fn parse(text: &str) -> Option<Duration> {
    read(text).ok().and_then(not_negative)
}

fn not_negative(read: SignedGoDuration) -> Option<Duration> {
    u64::try_from(read.0).ok().map(Duration::from_nanos)
}

/// As Go reads it.
pub fn read(text: &str) -> Result<SignedGoDuration, ParseDurationError> {
    let invalid = || ParseDurationError::Invalid(text.to_owned());
    let (is_negative, mut rest) = match text.strip_prefix('-') {
        Some(rest) => (true, rest),
        None => (false, text.strip_prefix('+').unwrap_or(text)),
    };
    if rest == "0" {
        return Ok(SignedGoDuration(0));
    }
    if rest.is_empty() {
        return Err(invalid());
    }
    let is_number = |it: char| it.is_ascii_digit() || it == '.';
    let mut total: u128 = 0;
    while !rest.is_empty() {
        let digits = rest.find(|it| !is_number(it)).unwrap_or(rest.len());
        let (number, behind) = rest.split_at(digits);
        let unit = behind.find(is_number).unwrap_or(behind.len());
        let (unit, behind) = behind.split_at(unit);
        let (whole, fraction) = number.split_once('.').unwrap_or((number, ""));
        if (whole.is_empty() && fraction.is_empty()) || fraction.contains('.') {
            return Err(invalid());
        }
        let nanos: u128 = match unit {
            "" => return Err(ParseDurationError::NoUnit(text.to_owned())),
            "ns" => 1,
            "us" | "µs" | "μs" => 1_000,
            "ms" => 1_000_000,
            "s" => SECOND,
            "m" => 60 * SECOND,
            "h" => 3600 * SECOND,
            unit => {
                let (unit, text) = (unit.to_owned(), text.to_owned());
                return Err(ParseDurationError::UnknownUnit { unit, text });
            }
        };
        let whole: u64 = if whole.is_empty() { 0 } else { whole.parse().map_err(|_| invalid())? };
        // Digits that are worth less than a nanosecond of an hour are nothing.
        let fraction = &fraction[..fraction.len().min(18)];
        let parts: u128 = fraction.parse().unwrap_or(0);
        let scale = 10_u128.pow(u32::try_from(fraction.len()).unwrap_or(0));
        total += u128::from(whole) * nanos + parts * nanos / scale;
        rest = behind;
    }
    // What does not fit is no duration in Go either.
    let total = i128::try_from(total).map_err(|_| invalid())?;
    let signed = if is_negative { -total } else { total };
    i64::try_from(signed).map(SignedGoDuration).map_err(|_| invalid())
}

/// As Go prints it: `2m40s`, `10s`, `500ms`.
pub fn format(duration: Duration) -> String {
    let nanos = duration.as_nanos();
    match nanos {
        0 => return "0s".to_owned(),
        1..1_000 => return format!("{nanos}ns"),
        1_000..1_000_000 => return format!("{}µs", decimal(nanos, 1_000, 3)),
        1_000_000..SECOND => return format!("{}ms", decimal(nanos, 1_000_000, 6)),
        _ => {}
    }
    let seconds = nanos / SECOND;
    let (hours, minutes) = (seconds / 3600, seconds / 60 % 60);
    let rest = decimal(nanos % (60 * SECOND), SECOND, 9);
    match (hours, minutes) {
        (0, 0) => format!("{rest}s"),
        (0, _) => format!("{minutes}m{rest}s"),
        _ => format!("{hours}h{minutes}m{rest}s"),
    }
}

/// `value / unit` with as many of the `digits` behind the point as say something.
fn decimal(value: u128, unit: u128, digits: usize) -> String {
    let text = format!("{}.{:0digits$}", value / unit, value % unit);
    text.trim_end_matches('0').trim_end_matches('.').to_owned()
}

impl fmt::Display for SignedGoDuration {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let sign = if self.0 < 0 { "-" } else { "" };
        write!(f, "{sign}{}", format(Duration::from_nanos(self.0.unsigned_abs())))
    }
}

impl<'de> Deserialize<'de> for SignedGoDuration {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        read(&String::deserialize(deserializer)?).map_err(de::Error::custom)
    }
}

impl<'de> Deserialize<'de> for GoDuration {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        let read = read(&text).map_err(de::Error::custom)?;
        let invalid = || de::Error::custom(ParseDurationError::Invalid(text));
        not_negative(read).map(Self).ok_or_else(invalid)
    }
}

impl Serialize for SignedGoDuration {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&self.to_string())
    }
}

impl Serialize for GoDuration {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&format(self.0))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_read_and_print_as_in_go() {
        for text in [
            "10s",
            "2m40s",
            "1h0m0s",
            "1.5s",
            "500ms",
            "0s",
            "24h0m0s",
            "-2s",
            "1.5µs",
            "1m20.25s",
            "2540400h10m10s",
            "999ns",
        ] {
            assert_eq!(read(text).unwrap().to_string(), text);
        }
        for (text, printed) in
            [("1m", "1m0s"), ("+1.h", "1h0m0s"), (".5s", "500ms"), ("90s", "1m30s"), ("0", "0s")]
        {
            assert_eq!(read(text).unwrap().to_string(), printed);
        }
        assert_eq!(parse("1m"), Some(Duration::from_secs(60)));
        assert_eq!((parse("-1s"), SignedGoDuration::seconds(-1).get()), (None, Duration::ZERO));
    }

    #[test]
    fn what_is_no_duration_is_told_in_gos_words() {
        for (text, why) in [
            ("", "time: invalid duration \"\""),
            ("soon", "time: invalid duration \"soon\""),
            ("1.2.3s", "time: invalid duration \"1.2.3s\""),
            ("5", "time: missing unit in duration \"5\""),
            ("1h5", "time: missing unit in duration \"1h5\""),
            ("5 s", "time: unknown unit \" s\" in duration \"5 s\""),
            ("1d", "time: unknown unit \"d\" in duration \"1d\""),
            ("9999999h", "time: invalid duration \"9999999h\""),
            ("99999999999999999999s", "time: invalid duration \"99999999999999999999s\""),
        ] {
            assert_eq!(read(text).unwrap_err().to_string(), why);
        }
        let negative = serde_json::from_str::<GoDuration>("\"-1s\"").unwrap_err().to_string();
        assert!(negative.starts_with("time: invalid duration \"-1s\""), "{negative}");
    }
}
