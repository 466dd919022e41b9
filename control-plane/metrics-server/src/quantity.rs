//! Quantities and durations as upstream prints them.

use std::time::Duration;

/// Nanocores, in the largest unit that loses nothing.
pub(crate) fn cpu(nanos: u64) -> String {
    for (size, unit) in [(1_000_000_000, ""), (1_000_000, "m"), (1_000, "u")] {
        if nanos.is_multiple_of(size) {
            return format!("{}{unit}", nanos / size);
        }
    }
    format!("{nanos}n")
}

/// Bytes, likewise.
pub(crate) fn memory(bytes: u64) -> String {
    let (mut number, mut unit) = (bytes, "");
    for next in ["Ki", "Mi", "Gi", "Ti"] {
        if number == 0 || !number.is_multiple_of(1024) {
            break;
        }
        (number, unit) = (number / 1024, next);
    }
    format!("{number}{unit}")
}

/// `1m2.5s`, to the millisecond.
pub(crate) fn duration(it: Duration) -> String {
    let (minutes, seconds, millis) = (it.as_secs() / 60, it.as_secs() % 60, it.subsec_millis());
    let fraction = format!(".{millis:03}");
    let fraction = fraction.trim_end_matches('0').trim_end_matches('.');
    match minutes {
        0 => format!("{seconds}{fraction}s"),
        _ => format!("{minutes}m{seconds}{fraction}s"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_largest_unit_that_loses_nothing_is_used() {
        assert_eq!(cpu(0), "0");
        assert_eq!(cpu(2_000_000_000), "2");
        assert_eq!(cpu(1_500_000_000), "1500m");
        assert_eq!(cpu(1_234_567), "1234567n");
        assert_eq!(cpu(5_000), "5u");
        assert_eq!(memory(0), "0");
        assert_eq!(memory(3 << 20), "3Mi");
        assert_eq!(memory(1025), "1025");
        assert_eq!(duration(Duration::from_millis(15_040)), "15.04s");
        assert_eq!(duration(Duration::from_secs(62)), "1m2s");
    }
}
