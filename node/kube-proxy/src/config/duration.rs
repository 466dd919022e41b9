//! Go's notation of durations (`1h2m3.5s`, `-2s`), which `KubeProxyConfiguration` uses.

use std::{fmt, time::Duration};

use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

/// A duration as it is written in configuration files, in nanoseconds; it may be negative, which
/// validation refuses.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct GoDuration(pub i64);

impl GoDuration {
    pub const fn seconds(count: i64) -> Self {
        Self(count * 1_000_000_000)
    }

    /// Zero where it is negative.
    pub fn get(self) -> Duration {
        Duration::from_nanos(u64::try_from(self.0).unwrap_or(0))
    }
}

/// `None` for text that is no duration.
pub fn parse(text: &str) -> Option<GoDuration> {
    let (sign, mut rest) = match text.strip_prefix('-') {
        Some(rest) => (-1, rest),
        None => (1, text.strip_prefix('+').unwrap_or(text)),
    };
    if rest == "0" {
        return Some(GoDuration(0));
    }
    if rest.is_empty() {
        return None;
    }
    let mut total = Duration::ZERO;
    while !rest.is_empty() {
        let digits = rest.find(|it: char| !it.is_ascii_digit() && it != '.')?;
        let number: f64 = rest[..digits].parse().ok()?;
        rest = &rest[digits..];
        let unit = rest.find(|it: char| it.is_ascii_digit() || it == '.').unwrap_or(rest.len());
        let seconds = match &rest[..unit] {
            "ns" => 1e-9,
            "us" | "µs" => 1e-6,
            "ms" => 1e-3,
            "s" => 1.0,
            "m" => 60.0,
            "h" => 3600.0,
            _ => return None,
        };
        total = total.checked_add(Duration::try_from_secs_f64(number * seconds).ok()?)?;
        rest = &rest[unit..];
    }
    // What does not fit is no duration in Go either.
    i64::try_from(total.as_nanos()).ok().map(|nanos| GoDuration(sign * nanos))
}

/// As Go prints it: `2m40s`, `10s`, `500ms`.
impl fmt::Display for GoDuration {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let nanos = self.0.unsigned_abs();
        if self.0 < 0 {
            f.write_str("-")?;
        }
        let trimmed = |text: String| match text.contains('.') {
            true => text.trim_end_matches('0').trim_end_matches('.').to_owned(),
            false => text,
        };
        match nanos {
            0 => return f.write_str("0s"),
            1..1_000 => return write!(f, "{nanos}ns"),
            1_000..1_000_000 => {
                return write!(f, "{}µs", trimmed(format!("{:.3}", nanos as f64 / 1e3)));
            }
            1_000_000..1_000_000_000 => {
                return write!(f, "{}ms", trimmed(format!("{:.6}", nanos as f64 / 1e6)));
            }
            _ => {}
        }
        let seconds = nanos / 1_000_000_000;
        let (hours, minutes) = (seconds / 3600, seconds / 60 % 60);
        if hours > 0 {
            write!(f, "{hours}h")?;
        }
        if seconds >= 60 {
            write!(f, "{minutes}m")?;
        }
        let fraction = format!("{}.{:09}", seconds % 60, nanos % 1_000_000_000);
        write!(f, "{}s", trimmed(fraction))
    }
}

impl<'de> Deserialize<'de> for GoDuration {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        parse(&text).ok_or_else(|| de::Error::custom(format!("time: invalid duration \"{text}\"")))
    }
}

impl Serialize for GoDuration {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&self.to_string())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_read_and_print_as_in_go() {
        for text in ["10s", "2m40s", "1h0m0s", "1.5s", "500ms", "0s", "24h0m0s", "-2s", "1.5µs"] {
            assert_eq!(parse(text).unwrap().to_string(), text);
        }
        assert_eq!(parse("1m"), Some(GoDuration::seconds(60)));
        for text in ["5", "", "5 s", "s", "1d"] {
            assert_eq!(parse(text), None, "{text}");
        }
        assert_eq!(GoDuration::seconds(-1).get(), Duration::ZERO);
    }
}
