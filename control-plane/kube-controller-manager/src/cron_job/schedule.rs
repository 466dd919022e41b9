//! Cron expressions: five fields, names, steps, and the `@` shorthands.
//!
//! When both day fields are restricted, either of them is enough, as in cron. Times that the
//! clock skips in spring are skipped, and those it repeats in autumn come once.
//!
//! Upstream: `robfig/cron` (standard parser).

use std::{str::FromStr, time::Duration};

use jiff::{Timestamp, Unit, Zoned, civil, tz::TimeZone};

/// Far enough for every schedule that ever comes (29 February).
const HORIZON_DAYS: usize = 366 * 8;

const MONTHS: [&str; 12] =
    ["jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec"];
const DAYS: [&str; 7] = ["sun", "mon", "tue", "wed", "thu", "fri", "sat"];

/// A parsed expression. Bits of each field stand for its values.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Schedule {
    Fields { minutes: u64, hours: u64, days: u64, months: u64, weekdays: u64, either_day: bool },
    Every(Duration),
}

#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum ParseScheduleError {
    #[error("expected exactly 5 fields, found {found}: `{text}`")]
    Fields { found: usize, text: String },
    #[error("`{text}` is not a valid {field}")]
    Field { field: &'static str, text: String },
    #[error("unrecognized descriptor: `{text}`")]
    Descriptor { text: String },
    #[error("unknown time zone `{name}`")]
    TimeZone { name: String },
}

impl FromStr for Schedule {
    type Err = ParseScheduleError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let text = text.trim();
        if let Some(descriptor) = text.strip_prefix('@') {
            return parse_descriptor(descriptor);
        }
        let fields: Vec<_> = text.split_whitespace().collect();
        let [minute, hour, day, month, weekday] = fields[..] else {
            return Err(ParseScheduleError::Fields { found: fields.len(), text: text.to_owned() });
        };
        let is_open = |field: &str| field.starts_with('*') || field.starts_with('?');
        let weekdays = parse_field("day of week", weekday, 0, 7, &DAYS)?;
        Ok(Self::Fields {
            minutes: parse_field("minute", minute, 0, 59, &[])?,
            hours: parse_field("hour", hour, 0, 23, &[])?,
            days: parse_field("day of month", day, 1, 31, &[])?,
            months: parse_field("month", month, 1, 12, &MONTHS)?,
            // Both 0 and 7 are Sunday.
            weekdays: (weekdays | (weekdays >> 7)) & 0x7f,
            either_day: !is_open(day) && !is_open(weekday),
        })
    }
}

fn parse_descriptor(descriptor: &str) -> Result<Schedule, ParseScheduleError> {
    let wrong = || ParseScheduleError::Descriptor { text: format!("@{descriptor}") };
    match descriptor {
        "yearly" | "annually" => "0 0 1 1 *".parse(),
        "monthly" => "0 0 1 * *".parse(),
        "weekly" => "0 0 * * 0".parse(),
        "daily" | "midnight" => "0 0 * * *".parse(),
        "hourly" => "0 * * * *".parse(),
        _ => {
            let span = descriptor.strip_prefix("every ").ok_or_else(wrong)?;
            let span: jiff::SignedDuration = span.trim().parse().map_err(|_| wrong())?;
            let seconds = u64::try_from(span.as_secs()).map_err(|_| wrong())?.max(1);
            Ok(Schedule::Every(Duration::from_secs(seconds)))
        }
    }
}

fn parse_field(
    field: &'static str,
    text: &str,
    least: u32,
    most: u32,
    names: &[&str],
) -> Result<u64, ParseScheduleError> {
    let wrong = || ParseScheduleError::Field { field, text: text.to_owned() };
    let number = |it: &str| -> Option<u32> {
        let offset = names.iter().position(|name| it.eq_ignore_ascii_case(name));
        match offset {
            Some(offset) => Some(u32::try_from(offset).ok()? + least),
            None => it.parse().ok(),
        }
    };
    let mut bits = 0_u64;
    for part in text.split(',') {
        let (range, step) = part.split_once('/').map_or((part, None), |(a, b)| (a, Some(b)));
        let step = step.map_or(Some(1), |it| it.parse::<u32>().ok()).filter(|it| *it > 0);
        let step = step.ok_or_else(wrong)?;
        let (first, last) = if range == "*" || range == "?" {
            (least, most)
        } else if let Some((first, last)) = range.split_once('-') {
            (number(first).ok_or_else(wrong)?, number(last).ok_or_else(wrong)?)
        } else {
            let first = number(range).ok_or_else(wrong)?;
            // `5/10` means from 5 on.
            (first, if part.contains('/') { most } else { first })
        };
        if first < least || last > most || first > last {
            return Err(wrong());
        }
        let mut value = first;
        while value <= last {
            bits |= 1 << value;
            value += step;
        }
    }
    Ok(bits)
}

/// The time zone of a schedule; UTC where it names none.
pub(super) fn zone(name: Option<&str>) -> Result<TimeZone, ParseScheduleError> {
    match name {
        None => Ok(TimeZone::UTC),
        Some(name) => {
            TimeZone::get(name).map_err(|_| ParseScheduleError::TimeZone { name: name.to_owned() })
        }
    }
}

impl Schedule {
    /// The first time after `after`. `None` for a day that never comes (31 February).
    pub(super) fn next(&self, after: Timestamp, zone: &TimeZone) -> Option<Timestamp> {
        match self {
            Self::Every(period) => {
                let whole = Timestamp::from_second(after.as_second()).ok()?;
                whole.checked_add(*period).ok()
            }
            Self::Fields { .. } => self.next_in_calendar(after, zone),
        }
    }

    fn next_in_calendar(&self, after: Timestamp, zone: &TimeZone) -> Option<Timestamp> {
        let local = after.to_zoned(zone.clone());
        let mut date = local.date();
        for _ in 0..HORIZON_DAYS {
            if self.has_date(date)
                && let Some(found) = self.first_on(date, after, zone)
            {
                return Some(found);
            }
            date = date.tomorrow().ok()?;
        }
        None
    }

    fn has_date(&self, date: civil::Date) -> bool {
        let Self::Fields { days, months, weekdays, either_day, .. } = self else { return false };
        let has =
            |bits: &u64, value: i8| u32::try_from(value).is_ok_and(|it| bits & (1 << it) != 0);
        let by_day = has(days, date.day());
        let by_weekday = has(weekdays, date.weekday().to_sunday_zero_offset());
        has(months, date.month())
            && if *either_day { by_day || by_weekday } else { by_day && by_weekday }
    }

    fn first_on(&self, date: civil::Date, after: Timestamp, zone: &TimeZone) -> Option<Timestamp> {
        let Self::Fields { minutes, hours, .. } = self else { return None };
        for hour in (0..24_i8).filter(|it| hours & (1 << *it) != 0) {
            for minute in (0..60_i8).filter(|it| minutes & (1 << *it) != 0) {
                let local = date.at(hour, minute, 0, 0);
                let Some(found) = real(local, zone) else { continue };
                if found > after {
                    return Some(found);
                }
            }
        }
        None
    }
}

/// The instant of a local time; `None` when the clock skips it.
fn real(local: civil::DateTime, zone: &TimeZone) -> Option<Timestamp> {
    let zoned: Zoned = local.to_zoned(zone.clone()).ok()?;
    let is_kept = zoned.datetime().round(Unit::Minute).ok()? == local;
    is_kept.then(|| zoned.timestamp())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn next(schedule: &str, after: &str, zone: &str) -> String {
        let schedule: Schedule = schedule.parse().unwrap();
        let zone = super::zone(Some(zone)).unwrap();
        let found = schedule.next(after.parse().unwrap(), &zone);
        found.map_or("never".to_owned(), |it| it.to_string())
    }

    #[test]
    fn the_next_time_is_the_first_that_matches_every_field() {
        for (schedule, after, expected) in [
            ("* * * * *", "2026-11-23T12:00:00Z", "2026-11-23T12:01:00Z"),
            ("* * * * *", "2026-11-23T12:00:30Z", "2026-11-23T12:01:00Z"),
            ("*/15 * * * *", "2026-11-23T12:46:00Z", "2026-11-23T13:00:00Z"),
            ("30 2 * * *", "2026-11-23T12:00:00Z", "2026-11-24T02:30:00Z"),
            ("0 0 1 jan *", "2026-11-23T12:00:00Z", "2027-01-01T00:00:00Z"),
            ("0 9 * * mon-fri", "2026-11-20T12:00:00Z", "2026-11-23T09:00:00Z"),
            ("0 0 29 2 *", "2026-11-23T12:00:00Z", "2028-02-29T00:00:00Z"),
            ("0 0 13 * 5", "2026-11-23T12:00:00Z", "2026-11-27T00:00:00Z"),
            ("0 0 * * 7", "2026-11-23T12:00:00Z", "2026-11-29T00:00:00Z"),
            ("5/20 * * * *", "2026-11-23T12:26:00Z", "2026-11-23T12:45:00Z"),
            ("@hourly", "2026-11-23T12:00:00Z", "2026-11-23T13:00:00Z"),
            ("@every 90s", "2026-11-23T12:00:00Z", "2026-11-23T12:01:30Z"),
            ("0 0 31 2 *", "2026-11-23T12:00:00Z", "never"),
        ] {
            assert_eq!(next(schedule, after, "UTC"), expected, "{schedule} after {after}");
        }
    }

    #[test]
    fn what_is_no_schedule_is_refused() {
        for text in [
            "",
            "* * * *",
            "60 * * * *",
            "* * 0 * *",
            "a * * * *",
            "*/0 * * * *",
            "@never",
            "5-1 * * * *",
        ] {
            assert!(text.parse::<Schedule>().is_err(), "{text}");
        }
        assert!(zone(Some("Mars/Olympus")).is_err());
    }
}
