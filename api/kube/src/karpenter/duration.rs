//! A duration that may also be `Never`, as Karpenter writes it: `720h`, `1h30m`, `Never`.

use std::time::Duration;

use serde::{Deserialize, Deserializer, Serialize, Serializer, de::Error};

/// See the module. Only hours, minutes and seconds are units.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum NillableDuration {
    After(Duration),
    Never,
}

impl NillableDuration {
    pub const ZERO: Self = Self::After(Duration::ZERO);

    /// `None` where it never comes.
    pub fn get(self) -> Option<Duration> {
        match self {
            Self::After(duration) => Some(duration),
            Self::Never => None,
        }
    }

    pub const fn hours(hours: u64) -> Self {
        Self::After(Duration::from_secs(hours * 3600))
    }
}

/// Reads `1h30m`; `None` for what is not one or more numbers with a unit.
pub(crate) fn parse(text: &str) -> Option<Duration> {
    let (mut seconds, mut number, mut is_read) = (0_u64, String::new(), false);
    for letter in text.chars() {
        if letter.is_ascii_digit() {
            number.push(letter);
            continue;
        }
        let unit = match letter {
            'h' => 3600,
            'm' => 60,
            's' => 1,
            _ => return None,
        };
        seconds = seconds.checked_add(number.parse::<u64>().ok()?.checked_mul(unit)?)?;
        number.clear();
        is_read = true;
    }
    (is_read && number.is_empty()).then(|| Duration::from_secs(seconds))
}

/// As Go prints it: `720h0m0s`, `15m0s`, `0s`.
fn written(duration: Duration) -> String {
    let seconds = duration.as_secs();
    let (hours, minutes, rest) = (seconds / 3600, seconds / 60 % 60, seconds % 60);
    match (hours, minutes) {
        (0, 0) => format!("{rest}s"),
        (0, _) => format!("{minutes}m{rest}s"),
        _ => format!("{hours}h{minutes}m{rest}s"),
    }
}

impl std::fmt::Display for NillableDuration {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::After(duration) => f.write_str(&written(*duration)),
            Self::Never => f.write_str("Never"),
        }
    }
}

impl std::str::FromStr for NillableDuration {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        if text == "Never" {
            return Ok(Self::Never);
        }
        parse(text).map(Self::After).ok_or_else(|| format!("`{text}` is no duration"))
    }
}

impl Serialize for NillableDuration {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for NillableDuration {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(D::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_are_read_in_hours_minutes_and_seconds() {
        for (text, expected) in [
            ("720h", Some(720 * 3600)),
            ("1h30m", Some(5400)),
            ("90s", Some(90)),
            ("0s", Some(0)),
            ("10", None),
            ("", None),
            ("1d", None),
            ("h", None),
        ] {
            assert_eq!(parse(text), expected.map(Duration::from_secs), "{text}");
        }
    }

    #[test]
    fn never_is_kept_and_others_are_written_as_go_does() {
        for (text, written) in
            [("Never", "Never"), ("720h", "720h0m0s"), ("90s", "1m30s"), ("0s", "0s")]
        {
            assert_eq!(text.parse::<NillableDuration>().unwrap().to_string(), written);
        }
    }
}
