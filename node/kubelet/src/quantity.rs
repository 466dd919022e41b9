//! Kubernetes quantities as numbers: `100m`, `1.5Gi`, `2e3`.
//!
//! **Invariant:** rounding is upwards, as upstream's `Quantity.Value()` and `MilliValue()` do; what is
//! larger than any number is the largest number, and never none.

use k8s_openapi::apimachinery::pkg::api::resource::Quantity;
use resources::Quantity as Parsed;

/// Whole units, rounded up. `None` for text that is no quantity.
pub(crate) fn value(quantity: &Quantity) -> Option<i64> {
    parse(&quantity.0)
}

/// Thousandths, rounded up.
pub(crate) fn milli(quantity: &Quantity) -> Option<i64> {
    quantity.0.parse::<Parsed>().ok().map(|it| it.millis())
}

/// Whole units of a quantity in text.
pub(crate) fn parse(text: &str) -> Option<i64> {
    text.parse::<Parsed>().ok().map(|it| it.value())
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
        assert_eq!(value(&Quantity("-1e40".to_owned())), Some(-i64::MAX));
        assert_eq!(value(&Quantity("1e-40".to_owned())), Some(1));
        assert_eq!(value(&Quantity("0e40".to_owned())), Some(0));
        assert_eq!(
            milli(&Quantity("9223372036854775".to_owned())),
            Some(9_223_372_036_854_775_000)
        );
    }

    #[test]
    fn a_long_fraction_is_no_less_than_it_says() {
        let (nines, zeros) = ("9".repeat(60), "0".repeat(60));
        for (text, thousandths) in
            [(format!("0.{nines}"), 1000), (format!("5.{zeros}"), 5000), (format!("0.{zeros}1"), 1)]
        {
            assert_eq!(milli(&Quantity(text.clone())), Some(thousandths), "{text}");
        }
    }

    #[test]
    fn nonsense_is_no_quantity() {
        for text in ["", "1 ", "Mi", "1Q", "abc", "1.2.3"] {
            assert_eq!(parse(text), None, "{text}");
        }
    }
}
