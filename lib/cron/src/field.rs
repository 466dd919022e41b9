//! One field of an expression: numbers and names, ranges, steps, and commas between them.

use crate::Dialect;

/// What a field can say.
pub(crate) struct Bounds {
    least: u32,
    most: u32,
    names: &'static [&'static str],
}

const fn numbers(least: u32, most: u32) -> Bounds {
    Bounds { least, most, names: &[] }
}

const WEEKDAYS: &[&str] = &["sun", "mon", "tue", "wed", "thu", "fri", "sat"];

pub(crate) const MINUTES: Bounds = numbers(0, 59);
pub(crate) const HOURS: Bounds = numbers(0, 23);
pub(crate) const DAYS: Bounds = numbers(1, 31);
pub(crate) const MONTHS: Bounds = Bounds {
    names: &["jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec"],
    ..numbers(1, 12)
};
pub(crate) const WEEK: Bounds = Bounds { names: WEEKDAYS, ..numbers(0, 6) };
/// With both Sundays.
pub(crate) const LONG_WEEK: Bounds = Bounds { names: WEEKDAYS, ..numbers(0, 7) };

/// The values of a field, a bit for each.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Set {
    bits: u64,
    /// It does not say which.
    pub(crate) is_open: bool,
}

impl Set {
    pub(crate) fn has(self, value: i8) -> bool {
        self.bits >> value & 1 == 1
    }

    /// Both 0 and 7 are Sunday.
    pub(crate) fn with_sunday(self) -> Self {
        Self { bits: self.bits | self.bits >> 7, ..self }
    }
}

pub(crate) fn read(text: &str, bounds: &Bounds, dialect: Dialect) -> Result<Set, String> {
    let mut set = Set::default();
    for part in text.split(',').filter(|it| !it.is_empty()) {
        let Set { bits, is_open } = range(part, bounds, dialect)?;
        set = Set { bits: set.bits | bits, is_open: set.is_open || is_open };
    }
    if !dialect.steps_say_which {
        set.is_open = text.starts_with('*');
    }
    Ok(set)
}

fn range(text: &str, bounds: &Bounds, dialect: Dialect) -> Result<Set, String> {
    let mut parts = text.split('/');
    let (limits, step) = (parts.next().unwrap_or_default(), parts.next());
    let mut ends = limits.split('-');
    let (first, last) = (ends.next().unwrap_or_default(), ends.next());
    let is_open = first == "*" || (first == "?" && dialect.has_question_mark);
    let (from, to) = match (is_open, last) {
        (true, _) => (bounds.least, bounds.most),
        // A start with a step goes on to the end.
        (false, None) if step.is_some() => (value(first, bounds)?, bounds.most),
        (false, None) => (value(first, bounds)?, value(first, bounds)?),
        (false, Some(last)) => (value(first, bounds)?, value(last, bounds)?),
    };
    if !is_open && ends.next().is_some() {
        return Err(format!("too many hyphens: {text}"));
    }
    let by = step.map_or(Ok(1), number)?;
    let Bounds { least, most, .. } = bounds;
    match () {
        () if parts.next().is_some() => return Err(format!("too many slashes: {text}")),
        () if from < *least => {
            return Err(format!("beginning of range ({from}) below minimum ({least}): {text}"));
        }
        () if to > *most => {
            return Err(format!("end of range ({to}) above maximum ({most}): {text}"));
        }
        () if from > to => {
            return Err(format!("beginning of range ({from}) beyond end of range ({to}): {text}"));
        }
        () if by == 0 => {
            return Err(format!("step of range should be a positive number: {text}"));
        }
        () => {}
    }
    let by = usize::try_from(by).unwrap_or(usize::MAX);
    let bits = (from..=to).step_by(by).fold(0, |bits, value| bits | 1 << value);
    Ok(Set { bits, is_open: is_open && by == 1 })
}

fn value(text: &str, bounds: &Bounds) -> Result<u32, String> {
    let named = bounds.names.iter().position(|name| text.eq_ignore_ascii_case(name));
    match named.and_then(|it| u32::try_from(it).ok()) {
        Some(at) => Ok(at + bounds.least),
        None => number(text),
    }
}

/// As Go reads a number.
fn number(text: &str) -> Result<u32, String> {
    let fault = |why: &str| {
        format!("failed to parse int from {text}: strconv.Atoi: parsing {text:?}: {why}")
    };
    match text.parse::<i64>() {
        Ok(it) if it < 0 => Err(format!("negative number ({it}) not allowed: {text}")),
        // More than any bound; too great a step gives the start alone.
        Ok(it) => Ok(u32::try_from(it).unwrap_or(u32::MAX)),
        Err(error) => match error.kind() {
            std::num::IntErrorKind::PosOverflow | std::num::IntErrorKind::NegOverflow => {
                Err(fault("value out of range"))
            }
            _ => Err(fault("invalid syntax")),
        },
    }
}
