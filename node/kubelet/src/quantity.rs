//! Kubernetes quantities as numbers: `100m`, `1.5Gi`, `2e3`.
//!
//! **Invariant:** rounding is upwards, as upstream's `Quantity.Value()` and `MilliValue()` do; what is
//! larger than any number is the largest number, and never none.

use std::num::{IntErrorKind, ParseIntError};

use k8s_openapi::apimachinery::pkg::api::resource::Quantity;

/// Whole units, rounded up. `None` for text that is no quantity.
pub(crate) fn value(quantity: &Quantity) -> Option<i64> {
    nanos(&quantity.0).map(|nanos| rounded_up(nanos, 1_000_000_000))
}

/// Thousandths, rounded up.
pub(crate) fn milli(quantity: &Quantity) -> Option<i64> {
    nanos(&quantity.0).map(|nanos| rounded_up(nanos, 1_000_000))
}

/// Whole units of a quantity in text.
pub(crate) fn parse(text: &str) -> Option<i64> {
    nanos(text).map(|nanos| rounded_up(nanos, 1_000_000_000))
}

/// A sum that is no less than its parts.
pub(crate) fn sum(numbers: impl Iterator<Item = i64>) -> i64 {
    numbers.fold(0, i64::saturating_add)
}

/// Whole bytes as text, with the largest binary suffix that keeps them whole.
pub(crate) fn binary(bytes: i64) -> String {
    let (mut number, mut power) = (bytes, 0);
    while number != 0 && number % 1024 == 0 && power < 6 {
        number /= 1024;
        power += 1;
    }
    format!("{number}{}", ["", "Ki", "Mi", "Gi", "Ti", "Pi", "Ei"][power])
}

fn rounded_up(nanos: i128, unit: i128) -> i64 {
    let whole = nanos.div_euclid(unit) + i128::from(nanos.rem_euclid(unit) != 0);
    let largest = if whole < 0 { i64::MIN } else { i64::MAX };
    i64::try_from(whole).unwrap_or(largest)
}

/// As many digits as anybody writes.
fn digits(text: &str) -> Option<i128> {
    text.parse()
        .or_else(|error: ParseIntError| match error.kind() {
            IntErrorKind::PosOverflow => Ok(i128::MAX),
            IntErrorKind::NegOverflow => Ok(i128::MIN),
            _ => Err(error),
        })
        .ok()
}

fn nanos(text: &str) -> Option<i128> {
    let text = text.trim();
    let end = text
        .char_indices()
        .find(|(index, it)| {
            !(it.is_ascii_digit() || *it == '.' || (*index == 0 && matches!(it, '+' | '-')))
        })
        .map_or(text.len(), |(index, _)| index);
    let (number, suffix) = text.split_at(end);
    let (scale, power) = scale(suffix)?;
    let (whole, fraction) = number.split_once('.').unwrap_or((number, ""));
    if whole.trim_start_matches(['+', '-']).is_empty() && fraction.is_empty() {
        return None;
    }
    let digits = digits(&format!("{whole}{fraction}"))?;
    let places = i32::try_from(fraction.len()).ok()?;
    let exponent = power.saturating_add(9).saturating_sub(places);
    let scaled = digits.saturating_mul(scale);
    let factor = 10_i128.saturating_pow(exponent.unsigned_abs());
    if exponent >= 0 {
        return Some(scaled.saturating_mul(factor));
    }
    // Finer than a nano: rounded up like everything else.
    Some(scaled.div_euclid(factor) + i128::from(scaled.rem_euclid(factor) != 0))
}

/// The binary multiplier and the decimal power of a suffix.
fn scale(suffix: &str) -> Option<(i128, i32)> {
    Some(match suffix {
        "" => (1, 0),
        "n" => (1, -9),
        "u" => (1, -6),
        "m" => (1, -3),
        "k" => (1, 3),
        "M" => (1, 6),
        "G" => (1, 9),
        "T" => (1, 12),
        "P" => (1, 15),
        "E" => (1, 18),
        "Ki" => (1 << 10, 0),
        "Mi" => (1 << 20, 0),
        "Gi" => (1 << 30, 0),
        "Ti" => (1 << 40, 0),
        "Pi" => (1 << 50, 0),
        "Ei" => (1 << 60, 0),
        _ => (1, suffix.strip_prefix(['e', 'E'])?.parse().ok()?),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quantities_are_rounded_up_in_every_notation() {
        let cases = [
            ("100m", 1, 100),
            ("1.5", 2, 1500),
            ("1500m", 2, 1500),
            ("1Ki", 1024, 1_024_000),
            ("0.5Gi", 536_870_912, 536_870_912_000),
            ("2e3", 2000, 2_000_000),
            ("1u", 1, 1),
            ("128Mi", 134_217_728, 134_217_728_000),
            ("0", 0, 0),
        ];
        for (text, whole, thousandths) in cases {
            let quantity = Quantity(text.to_owned());
            assert_eq!(value(&quantity), Some(whole), "{text}");
            assert_eq!(milli(&quantity), Some(thousandths), "{text}");
        }
    }

    #[test]
    fn what_is_larger_than_any_number_is_not_taken_for_nothing() {
        let long = "9".repeat(60);
        for text in ["10E", "9223372036854775808", "1e40", "1e2147483647", "8Ei", &long] {
            let quantity = Quantity(text.to_owned());
            assert_eq!(value(&quantity), Some(i64::MAX), "{text}");
            assert_eq!(milli(&quantity), Some(i64::MAX), "{text}");
        }
        assert_eq!(value(&Quantity("-1e40".to_owned())), Some(i64::MIN));
        assert_eq!(value(&Quantity("1e-40".to_owned())), Some(1));
        assert_eq!(value(&Quantity("0e40".to_owned())), Some(0));
        assert_eq!(
            milli(&Quantity("9223372036854775".to_owned())),
            Some(9_223_372_036_854_775_000)
        );
    }

    #[test]
    fn nonsense_is_no_quantity() {
        for text in ["", "Mi", "1Q", "abc", "1.2.3"] {
            assert_eq!(parse(text), None, "{text}");
        }
    }
}
