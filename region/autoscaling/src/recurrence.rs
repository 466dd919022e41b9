//! Times that recur, as cron expressions of five fields say them.
//!
//! Where both the day of the month and that of the week are given, either is enough, as in cron. Times that
//! the clock skips in spring are skipped.
//!
//! Source: user guide, "Scheduled scaling for Amazon EC2 Auto Scaling" (recurring schedules).

use jiff::{Timestamp, Zoned, civil::Date, tz::TimeZone};

/// Far enough for every expression that ever comes true (29 February).
const MOST_DAYS: usize = 366 * 8;
const MONTHS: [&str; 12] =
    ["JAN", "FEB", "MAR", "APR", "MAY", "JUN", "JUL", "AUG", "SEP", "OCT", "NOV", "DEC"];
const DAYS: [&str; 7] = ["SUN", "MON", "TUE", "WED", "THU", "FRI", "SAT"];

/// A bit of each field for each value that it allows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Recurrence {
    minutes: u64,
    hours: u64,
    days: u64,
    months: u64,
    weekdays: u64,
    is_either_day: bool,
}

impl Recurrence {
    pub(crate) fn parse(text: &str) -> Option<Self> {
        let fields: Vec<&str> = text.split_whitespace().collect();
        let [minute, hour, day, month, weekday] = fields[..] else { return None };
        let weekdays = field(weekday, 0, 7, &DAYS)?;
        Some(Self {
            minutes: field(minute, 0, 59, &[])?,
            hours: field(hour, 0, 23, &[])?,
            days: field(day, 1, 31, &[])?,
            months: field(month, 1, 12, &MONTHS)?,
            // Both 0 and 7 are Sunday.
            weekdays: (weekdays | weekdays >> 7) & 0x7f,
            is_either_day: !day.starts_with('*') && !weekday.starts_with('*'),
        })
    }

    /// The first time after `after`.
    pub(crate) fn next(&self, after: Timestamp, zone: &TimeZone) -> Option<Timestamp> {
        let mut date = after.to_zoned(zone.clone()).date();
        for _ in 0..MOST_DAYS {
            if self.is_on(date)
                && let Some(at) = self.first(date, after, zone)
            {
                return Some(at);
            }
            date = date.tomorrow().ok()?;
        }
        None
    }

    fn is_on(&self, date: Date) -> bool {
        let has = |bits: u64, value: i8| bits >> value & 1 == 1;
        let day = has(self.days, date.day());
        let weekday = has(self.weekdays, date.weekday().to_sunday_zero_offset());
        let is_day = if self.is_either_day { day || weekday } else { day && weekday };
        is_day && has(self.months, date.month())
    }

    fn first(&self, date: Date, after: Timestamp, zone: &TimeZone) -> Option<Timestamp> {
        let minutes = (0..24_i8).flat_map(|hour| (0..60_i8).map(move |minute| (hour, minute)));
        let mut allowed = minutes.filter(|(hour, minute)| {
            self.hours >> hour & 1 == 1 && self.minutes >> minute & 1 == 1
        });
        allowed.find_map(|(hour, minute)| {
            let at = date.at(hour, minute, 0, 0);
            let zoned: Zoned = zone.to_ambiguous_zoned(at).earlier().ok()?;
            (zoned.datetime() == at && zoned.timestamp() > after).then(|| zoned.timestamp())
        })
    }
}

/// Ranges and steps with commas between them; `None` for what is none.
fn field(text: &str, least: u32, most: u32, names: &[&str]) -> Option<u64> {
    let number = |it: &str| {
        let named = names.iter().position(|name| it.eq_ignore_ascii_case(name));
        named.map_or_else(|| it.parse().ok(), |at| Some(u32::try_from(at).ok()? + least))
    };
    let mut bits = 0;
    for part in text.split(',') {
        let (range, step) = part.split_once('/').map_or((part, "1"), |it| it);
        let step: usize = step.parse().ok().filter(|it| *it > 0)?;
        let (first, last) = match range.split_once('-') {
            _ if range == "*" => (least, most),
            Some((first, last)) => (number(first)?, number(last)?),
            // `5/10` means from 5 on.
            None if part.contains('/') => (number(range)?, most),
            None => (number(range)?, number(range)?),
        };
        if first < least || last > most || first > last {
            return None;
        }
        bits |= (first..=last).step_by(step).fold(0, |bits, value| bits | 1 << value);
    }
    Some(bits)
}

/// The zone of that name; UTC without one.
pub(crate) fn zone(name: Option<&str>) -> Option<TimeZone> {
    name.map_or(Some(TimeZone::UTC), |name| TimeZone::get(name).ok())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn next(expression: &str, after: &str, name: Option<&str>) -> String {
        let recurrence = Recurrence::parse(expression).unwrap();
        let found = recurrence.next(after.parse().unwrap(), &zone(name).unwrap());
        found.unwrap().to_string()
    }

    #[test]
    fn the_next_time_is_found() {
        // A Monday.
        let after = "2026-11-23T12:00:00Z";
        for (expression, expected) in [
            ("* * * * *", "2026-11-23T12:01:00Z"),
            ("30 8 * * *", "2026-11-24T08:30:00Z"),
            ("0 12 * * MON-FRI", "2026-11-24T12:00:00Z"),
            ("0 0 1 1,6,12 *", "2026-12-01T00:00:00Z"),
            ("*/20 12 * * *", "2026-11-23T12:20:00Z"),
            ("0 9 1 * 7", "2026-11-29T09:00:00Z"),
            ("0 0 29 2 *", "2028-02-29T00:00:00Z"),
        ] {
            assert_eq!(next(expression, after, None), expected, "{expression}");
        }
        assert_eq!(next("0 9 * * *", after, Some("America/New_York")), "2026-11-23T14:00:00Z");
        // Two o'clock does not come on that Sunday.
        let spring = next("30 2 * * *", "2026-03-08T05:00:00Z", Some("America/New_York"));
        assert_eq!(spring, "2026-03-09T06:30:00Z");
    }

    #[test]
    fn what_is_no_expression_is_refused() {
        for wrong in
            ["", "* * * *", "60 * * * *", "* * 0 * *", "5-1 * * * *", "*/0 * * * *", "x * * * *"]
        {
            assert_eq!(Recurrence::parse(wrong), None, "{wrong}");
        }
        assert!(zone(Some("Mars/Olympus")).is_none());
    }
}
