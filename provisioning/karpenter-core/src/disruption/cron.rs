//! Schedules of budgets: five fields of cron in UTC, or `@daily` and its like.
//!
//! Upstream: `robfig/cron`, standard parser. A day has to match both of day of month and day of week
//! where one of them is `*`, and either where neither is.

use std::time::Duration;

use jiff::{SignedDuration, Timestamp, civil::DateTime, tz::TimeZone};

/// See the module: per field a set of numbers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Schedule {
    minutes: u64,
    hours: u64,
    days: u64,
    months: u64,
    weekdays: u64,
    any_day: bool,
    any_weekday: bool,
}

const MONTHS: [&str; 12] =
    ["jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec"];
const WEEKDAYS: [&str; 7] = ["sun", "mon", "tue", "wed", "thu", "fri", "sat"];

impl Schedule {
    /// `None`: it is no schedule.
    pub(crate) fn parse(text: &str) -> Option<Self> {
        let text = match text.trim() {
            "@yearly" | "@annually" => "0 0 1 1 *",
            "@monthly" => "0 0 1 * *",
            "@weekly" => "0 0 * * 0",
            "@daily" | "@midnight" => "0 0 * * *",
            "@hourly" => "0 * * * *",
            other => other,
        };
        let fields: Vec<&str> = text.split_whitespace().collect();
        let [minutes, hours, days, months, weekdays] = fields.as_slice() else { return None };
        // With a step it says which days.
        let is_any = |it: &str| {
            it.split(',').any(|it| matches!(it.strip_suffix("/1").unwrap_or(it), "*" | "?"))
        };
        Some(Self {
            minutes: field(minutes, 0, 59, &[])?,
            hours: field(hours, 0, 23, &[])?,
            days: field(days, 1, 31, &[])?,
            months: field(months, 1, 12, &MONTHS)?,
            weekdays: field(weekdays, 0, 6, &WEEKDAYS)?,
            any_day: is_any(days),
            any_weekday: is_any(weekdays),
        })
    }

    /// Whether it hit within `duration` before `now` (or now).
    pub(crate) fn is_active(&self, now: Timestamp, duration: Duration) -> bool {
        let Ok(duration) = SignedDuration::try_from(duration) else { return false };
        let Ok(from) = now.checked_sub(duration) else { return false };
        let (mut day, end) =
            (from.to_zoned(TimeZone::UTC).datetime(), now.to_zoned(TimeZone::UTC).datetime());
        loop {
            if self.is_day(day) && self.hits(day, from, now) {
                return true;
            }
            let next = day.date().tomorrow().ok().map(|it| it.at(0, 0, 0, 0));
            match next {
                Some(next) if next <= end => day = next,
                _ => return false,
            }
        }
    }

    /// Whether any of the day's hits lies after `from` and not after `until`.
    fn hits(&self, day: DateTime, from: Timestamp, until: Timestamp) -> bool {
        (0..24_i8).filter(|it| has(self.hours, *it)).any(|hour| {
            (0..60_i8).filter(|it| has(self.minutes, *it)).any(|minute| {
                let hit = day.date().at(hour, minute, 0, 0).to_zoned(TimeZone::UTC);
                hit.is_ok_and(|it| it.timestamp() > from && it.timestamp() <= until)
            })
        })
    }

    fn is_day(&self, day: DateTime) -> bool {
        let is_day = has(self.days, day.day());
        let is_weekday = has(self.weekdays, day.weekday().to_sunday_zero_offset());
        let either = match self.any_day || self.any_weekday {
            true => is_day && is_weekday,
            false => is_day || is_weekday,
        };
        either && has(self.months, day.month())
    }
}

fn has(set: u64, number: i8) -> bool {
    set & (1 << number) != 0
}

fn field(text: &str, least: u64, most: u64, names: &[&str]) -> Option<u64> {
    let mut set = 0;
    for part in text.split(',') {
        let (range, step) = match part.split_once('/') {
            Some((range, step)) => (range, step.parse::<u64>().ok().filter(|it| *it > 0)?),
            None => (part, 1),
        };
        let number = |text: &str| {
            let name = names.iter().position(|it| it.eq_ignore_ascii_case(text));
            let offset = if names.len() == 12 { 1 } else { 0 };
            match name.and_then(|it| u64::try_from(it).ok()) {
                Some(at) => Some(at + offset),
                None => text.parse::<u64>().ok(),
            }
        };
        let (from, to) = match range {
            "*" | "?" => (least, most),
            _ => match range.split_once('-') {
                Some((from, to)) => (number(from)?, number(to)?),
                // A start with a step goes on to the end.
                None if part.contains('/') => (number(range)?, most),
                None => (number(range)?, number(range)?),
            },
        };
        if from < least || to > most || from > to {
            return None;
        }
        let mut at = from;
        while at <= to {
            set |= 1 << at;
            at = at.saturating_add(step);
        }
    }
    Some(set)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(text: &str) -> Timestamp {
        text.parse().unwrap()
    }

    #[test]
    fn a_schedule_is_active_for_its_duration_after_each_hit() {
        let hours = |it: u64| Duration::from_secs(it * 3600);
        for (schedule, now, duration, expected) in [
            ("0 9 * * mon-fri", "2026-11-27T09:00:00Z", 8, true),
            ("0 9 * * mon-fri", "2026-11-27T16:59:00Z", 8, true),
            ("0 9 * * mon-fri", "2026-11-27T17:00:00Z", 8, false),
            ("0 9 * * mon-fri", "2026-11-28T09:30:00Z", 8, false),
            ("@daily", "2026-11-28T00:30:00Z", 1, true),
            ("@daily", "2026-11-28T01:30:00Z", 1, false),
            ("*/15 * * * *", "2026-11-28T01:59:00Z", 1, true),
            ("0 0 1 * *", "2026-11-28T01:59:00Z", 24 * 27, false),
            ("0 0 1 * *", "2026-11-28T01:59:00Z", 24 * 28, true),
            ("0 0 13 * fri", "2026-11-27T00:00:00Z", 1, true),
            ("0 0 */2 * fri", "2026-11-27T00:30:00Z", 1, true),
            ("0 0 */2 * fri", "2026-11-28T00:30:00Z", 1, false),
            ("0 0 */2 * fri", "2026-11-29T00:30:00Z", 1, true),
            ("5/18446744073709551615 0 * * *", "2026-11-28T00:04:00Z", 1, false),
        ] {
            let parsed = Schedule::parse(schedule).unwrap();
            assert_eq!(parsed.is_active(at(now), hours(duration)), expected, "{schedule} {now}");
        }
    }

    #[test]
    fn what_is_no_schedule_is_refused() {
        for text in
            ["", "* * * *", "60 * * * *", "* * * * 7", "a * * * *", "5-1 * * * *", "*/0 * * * *"]
        {
            assert!(Schedule::parse(text).is_none(), "{text}");
        }
    }
}
