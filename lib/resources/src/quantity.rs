//! The quantity of `k8s.io/apimachinery/pkg/api/resource`: `500m`, `1.5Gi`, `3e3`.
//!
//! A quantity is a whole number of nanos in 128 bits, which holds every value that upstream allows
//! (up to 2^63 - 1 units, down to one nano). It remembers the family of its suffix and is written
//! in canonical form: no fraction, the largest suffix that loses nothing.
//!
//! Upstream: `quantity.go`, `suffix.go`. Finer than a nano is rounded away from zero; larger than
//! 2^63 - 1 is capped, as there.

use std::{cmp::Ordering, fmt, str::FromStr};

const NANO: i128 = 1_000_000_000;
const MAX: i128 = i64::MAX as i128 * NANO;

/// Which family of suffixes a quantity is written with.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Format {
    /// `n`, `u`, `m`, none, `k`, `M`, `G`, `T`, `P`, `E`.
    #[default]
    DecimalSi,
    /// `Ki`, `Mi`, `Gi`, `Ti`, `Pi`, `Ei`.
    BinarySi,
    /// `e3`, `e6`, …
    DecimalExponent,
}

/// A fixed-point number with a suffix. Compared by value: `1Ki` equals `1024`.
#[derive(Clone, Copy, Debug, Default)]
pub struct Quantity {
    nanos: i128,
    format: Format,
}

/// Why a string is not a quantity. The message is upstream's.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ParseQuantityError {
    #[error(
        "quantities must match the regular expression '^([+-]?[0-9.]+)([eEinumkKMGTP]*[-+]?[0-9]*)$'"
    )]
    Format,
    #[error("unable to parse quantity's suffix")]
    Suffix,
    #[error("unable to parse numeric part of quantity")]
    Number,
}

impl Quantity {
    pub const ZERO: Self = Self { nanos: 0, format: Format::DecimalSi };

    /// A whole number of units.
    pub const fn new(value: i64, format: Format) -> Self {
        Self { nanos: value as i128 * NANO, format }
    }

    /// A whole number of thousandths.
    pub const fn from_millis(millis: i64) -> Self {
        Self { nanos: millis as i128 * (NANO / 1000), format: Format::DecimalSi }
    }

    /// The value in units, rounded up.
    pub fn value(&self) -> i64 {
        self.rounded_up(NANO)
    }

    /// The value in thousandths, rounded up, and capped where it does not fit.
    pub fn millis(&self) -> i64 {
        self.rounded_up(NANO / 1000)
    }

    fn rounded_up(&self, unit: i128) -> i64 {
        let whole = div_away(self.nanos, unit);
        i64::try_from(whole).unwrap_or(if whole < 0 { i64::MIN } else { i64::MAX })
    }

    pub fn is_zero(&self) -> bool {
        self.nanos == 0
    }

    pub fn is_negative(&self) -> bool {
        self.nanos < 0
    }

    pub fn format(&self) -> Format {
        self.format
    }

    /// The sum, in the format of the first that is not zero.
    #[must_use]
    pub fn plus(self, other: Self) -> Self {
        let format = if self.is_zero() { other.format } else { self.format };
        Self { nanos: self.nanos + other.nanos, format }
    }

    #[must_use]
    pub fn minus(self, other: Self) -> Self {
        let format = if self.is_zero() { other.format } else { self.format };
        Self { nanos: self.nanos - other.nanos, format }
    }
}

/// Divides and rounds away from zero.
fn div_away(value: i128, by: i128) -> i128 {
    let whole = value / by;
    if value % by == 0 { whole } else { whole + value.signum() }
}

impl PartialEq for Quantity {
    fn eq(&self, other: &Self) -> bool {
        self.nanos == other.nanos
    }
}

impl Eq for Quantity {}

impl PartialOrd for Quantity {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Quantity {
    fn cmp(&self, other: &Self) -> Ordering {
        self.nanos.cmp(&other.nanos)
    }
}

// === parsing ===

/// What a suffix multiplies by.
enum Scale {
    Ten(i32),
    /// A power of 1024.
    Binary(u32),
}

impl FromStr for Quantity {
    type Err = ParseQuantityError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let is_number = |c: char| c.is_ascii_digit() || c == '.';
        let unsigned = text.strip_prefix(['+', '-']).unwrap_or(text);
        let end = unsigned.find(|c| !is_number(c)).unwrap_or(unsigned.len());
        let (number, suffix) = unsigned.split_at(end);
        if number.is_empty() {
            return Err(ParseQuantityError::Format);
        }
        let (format, scale) = parse_suffix(suffix)?;
        let nanos = scaled(number, &scale)?.min(MAX);
        let nanos = if text.starts_with('-') { -nanos } else { nanos };
        // A fraction of a byte cannot be written with a binary suffix.
        let is_fraction = nanos != 0 && nanos.abs() < NANO;
        let format =
            if format == Format::BinarySi && is_fraction { Format::DecimalSi } else { format };
        Ok(Self { nanos, format })
    }
}

fn parse_suffix(suffix: &str) -> Result<(Format, Scale), ParseQuantityError> {
    let decimal = |exponent| Ok((Format::DecimalSi, Scale::Ten(exponent)));
    let binary = |power| Ok((Format::BinarySi, Scale::Binary(power)));
    match suffix {
        "n" => decimal(-9),
        "u" => decimal(-6),
        "m" => decimal(-3),
        "" => decimal(0),
        "k" => decimal(3),
        "M" => decimal(6),
        "G" => decimal(9),
        "T" => decimal(12),
        "P" => decimal(15),
        "E" => decimal(18),
        "Ki" => binary(1),
        "Mi" => binary(2),
        "Gi" => binary(3),
        "Ti" => binary(4),
        "Pi" => binary(5),
        "Ei" => binary(6),
        _ => {
            let digits = suffix.strip_prefix(['e', 'E']).ok_or(ParseQuantityError::Suffix)?;
            let exponent = digits.parse().map_err(|_| ParseQuantityError::Suffix)?;
            Ok((Format::DecimalExponent, Scale::Ten(exponent)))
        }
    }
}

/// `number` times `scale` in nanos, rounded up; saturates far above [`MAX`].
fn scaled(number: &str, scale: &Scale) -> Result<i128, ParseQuantityError> {
    let (whole, fraction) = number.split_once('.').unwrap_or((number, ""));
    if fraction.contains('.') || (whole.is_empty() && fraction.is_empty()) {
        return Err(ParseQuantityError::Number);
    }
    let digits: String = format!("{whole}{fraction}");
    let digits = digits.trim_start_matches('0');
    if digits.is_empty() {
        return Ok(0);
    }
    let places = i32::try_from(fraction.len()).map_err(|_| ParseQuantityError::Number)?;
    let (exponent, bits) = match scale {
        Scale::Ten(exponent) => (exponent.saturating_sub(places), 0),
        Scale::Binary(power) => (-places, 10 * power),
    };
    let length = i32::try_from(digits.len()).map_err(|_| ParseQuantityError::Number)?;
    // The number lies in [10^(magnitude-1), 10^magnitude).
    let magnitude = length.saturating_add(exponent);
    if magnitude > 20 {
        return Ok(MAX);
    }
    if magnitude < -28 {
        return Ok(1);
    }
    Ok(exact(digits, exponent + 9, bits))
}

/// `digits` times `10^exponent` times `2^bits`, rounded up; [`MAX`] when it overflows.
fn exact(digits: &str, exponent: i32, bits: u32) -> i128 {
    // More than 30 significant digits only decide whether to round up.
    let (head, tail) = digits.split_at(digits.len().min(30));
    let mut value: i128 = head.parse().unwrap_or(MAX);
    let dropped = i32::try_from(tail.len()).unwrap_or(i32::MAX);
    if tail.bytes().any(|digit| digit != b'0') {
        value += 1;
    }
    let exponent = exponent.saturating_add(dropped);
    if exponent < 0 {
        return divided(value, exponent.unsigned_abs(), bits);
    }
    let power = 10_i128.checked_pow(exponent.unsigned_abs());
    power.and_then(|it| value.checked_mul(it)?.checked_mul(1 << bits)).unwrap_or(MAX)
}

/// `value`, of 30 digits at most, times `2^bits` by `10^power`, rounded up. What both sides have of 2 is
/// taken away first, so that the products have room.
fn divided(value: i128, power: u32, bits: u32) -> i128 {
    let common = power.min(bits);
    let twos = 2_i128.checked_pow(power - common);
    let by = twos.and_then(|it| 5_i128.checked_pow(power)?.checked_mul(it));
    // It is larger than any value.
    let Some(by) = by else { return 1 };
    let factor = 1_i128 << (bits - common);
    let rest = div_away(value % by * factor, by);
    (value / by).checked_mul(factor).map_or(MAX, |it| it.saturating_add(rest))
}

// === writing ===

impl fmt::Display for Quantity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.nanos == 0 {
            return f.write_str("0");
        }
        let is_small = self.nanos.abs() < 1024 * NANO;
        match self.format {
            Format::BinarySi if !is_small => self.write_binary(f),
            Format::DecimalExponent => self.write_decimal(f, |exponent| {
                if exponent == 0 { String::new() } else { format!("e{exponent}") }
            }),
            Format::BinarySi | Format::DecimalSi => self.write_decimal(f, |exponent| {
                let names = ["n", "u", "m", "", "k", "M", "G", "T", "P", "E"];
                let index = usize::try_from((exponent + 9) / 3).unwrap_or(0);
                names.get(index).copied().unwrap_or_default().to_owned()
            }),
        }
    }
}

impl Quantity {
    fn write_decimal(
        &self,
        f: &mut fmt::Formatter<'_>,
        suffix: impl Fn(i32) -> String,
    ) -> fmt::Result {
        let (mut mantissa, mut exponent) = (self.nanos, -9);
        while mantissa % 1000 == 0 && exponent < 18 {
            mantissa /= 1000;
            exponent += 3;
        }
        write!(f, "{mantissa}{}", suffix(exponent))
    }

    fn write_binary(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (mut mantissa, mut power) = (div_away(self.nanos, NANO), 0);
        while mantissa % 1024 == 0 && power < 6 {
            mantissa /= 1024;
            power += 1;
        }
        write!(f, "{mantissa}{}", ["", "Ki", "Mi", "Gi", "Ti", "Pi", "Ei"][power])
    }
}

// === the API's type ===

impl From<Quantity> for k8s_openapi::apimachinery::pkg::api::resource::Quantity {
    fn from(quantity: Quantity) -> Self {
        Self(quantity.to_string())
    }
}

impl TryFrom<&k8s_openapi::apimachinery::pkg::api::resource::Quantity> for Quantity {
    type Error = ParseQuantityError;

    fn try_from(
        quantity: &k8s_openapi::apimachinery::pkg::api::resource::Quantity,
    ) -> Result<Self, Self::Error> {
        quantity.0.parse()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &str) -> Quantity {
        text.parse().unwrap_or_else(|error| panic!("{text}: {error}"))
    }

    #[test]
    fn quantities_are_written_in_canonical_form() {
        for (text, canonical) in [
            ("0", "0"),
            ("0Gi", "0"),
            ("0.5", "500m"),
            ("1.5", "1500m"),
            ("1.5Gi", "1536Mi"),
            ("1024", "1024"),
            ("1024Ki", "1Mi"),
            ("1000Ki", "1000Ki"),
            ("1000m", "1"),
            ("1000k", "1M"),
            ("1000000", "1M"),
            ("1e3", "1e3"),
            ("12E6", "12e6"),
            ("1500e-3", "1500e-3"),
            ("1E", "1E"),
            ("100m", "100m"),
            ("0.1m", "100u"),
            ("0.0000000001", "1n"),
            ("-1.5", "-1500m"),
            ("+5", "5"),
            (".5", "500m"),
            ("5.", "5"),
            ("0.5Ki", "512"),
            ("0.3Ki", "307200m"),
            ("7936Mi", "7936Mi"),
            ("8129724Ki", "8129724Ki"),
            ("9223372036854775807", "9223372036854775807"),
            ("92233720368547758070", "9223372036854775807"),
            ("1e400", "9223372036854775807"),
        ] {
            assert_eq!(parse(text).to_string(), canonical, "{text}");
        }
    }

    #[test]
    fn a_fraction_of_any_length_is_rounded_up_from_its_exact_value() {
        let (nines, zeros) = ("9".repeat(100), "0".repeat(100));
        let long = format!("0.{}1", "0".repeat(1_000_000));
        for (text, nanos) in [
            (format!("0.{nines}"), NANO),
            (format!("0.{zeros}1"), 1),
            (format!("5.{zeros}"), 5 * NANO),
            (format!("5.{zeros}1"), 5 * NANO + 1),
            (format!("-5.{zeros}1"), -5 * NANO - 1),
            (format!("0.{zeros}1Ei"), 1),
            (format!("0.5{zeros}Ei"), NANO << 59),
            // 3 * 2^60 / 10^18, by hand: 3.458764513820540928.
            ("0.000000000000000003Ei".to_owned(), 3_458_764_514),
            // Nearly that, by 30 digits that are not 0.
            (format!("0.{}2{}Ei", "0".repeat(17), "9".repeat(40)), 3_458_764_514),
            ("0.1234567890123456789012345678901Ki".to_owned(), 126_419_751_949),
            (long, 1),
        ] {
            assert_eq!(parse(&text).nanos, nanos, "{}", &text[..text.len().min(80)]);
        }
    }

    #[test]
    fn what_is_no_quantity_is_refused() {
        for text in ["", "Gi", "1.1.1", ".", "1 ", "1KB", "1ki", "e5", "1e", "--1", "1mm", "abc"] {
            assert!(text.parse::<Quantity>().is_err(), "{text}");
        }
    }

    #[test]
    fn values_round_up() {
        assert_eq!(parse("0.1").value(), 1);
        assert_eq!(parse("1m").value(), 1);
        assert_eq!(parse("100u").millis(), 1);
        assert_eq!(parse("2.5").millis(), 2500);
        assert_eq!(parse("-0.1").value(), -1);
        assert_eq!(parse("8E").millis(), i64::MAX);
    }

    #[test]
    fn comparison_ignores_the_suffix() {
        assert_eq!(parse("1Ki"), parse("1024"));
        assert!(parse("1G") < parse("1Gi"));
        assert!(parse("999m") < parse("1"));
    }

    #[test]
    fn a_sum_takes_the_format_of_what_is_not_zero() {
        assert_eq!(parse("0").plus(parse("1Gi")).to_string(), "1Gi");
        assert_eq!(parse("1Gi").plus(parse("1Gi")).to_string(), "2Gi");
        assert_eq!(parse("1Gi").minus(parse("512Mi")).to_string(), "512Mi");
        assert_eq!(parse("250m").plus(parse("1")).to_string(), "1250m");
    }
}
