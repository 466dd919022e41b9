//! Cron expressions of five fields, and when they come: pure.
//!
//! Who writes them means slightly different things, which a [`Dialect`] holds. Where both day fields say
//! which days, either of them is enough; where one of them does not, both have to match. Times that a clock
//! skips in spring are skipped.
//!
//! **Invariant:** of one schedule, [`Schedule::next`] only ever gives later times.
//!
//! Upstream: `github.com/robfig/cron/v3`, its standard parser and `SpecSchedule`, with its words for what it
//! cannot read.

mod field;

use std::time::Duration;

use component_config::duration;
use jiff::{
    Timestamp,
    civil::{Date, DateTime},
    tz::{AmbiguousOffset, TimeZone},
};

use self::field::Set;

/// After so many years a schedule never comes.
const MOST_YEARS: i16 = 5;

/// What an expression may say, and what it means by it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Dialect {
    /// `@daily` and its like, and `@every 1h30m`.
    has_descriptors: bool,
    /// Before the fields, `TZ=Europe/Paris` or `CRON_TZ=…`.
    has_zone: bool,
    /// `?` is `*`.
    has_question_mark: bool,
    /// Sunday is 7, too.
    has_seventh_day: bool,
    /// `*/2` says which days; in cron's oldest reading, whatever begins with `*` does not.
    steps_say_which: bool,
    /// What a clock shows twice in autumn comes twice.
    repeats: bool,
}

impl Dialect {
    /// Of CronJobs.
    pub const KUBERNETES: Self = Self {
        has_descriptors: true,
        has_zone: true,
        has_question_mark: true,
        has_seventh_day: false,
        steps_say_which: true,
        repeats: true,
    };
    /// Of Karpenter's budgets, which set the zone themselves.
    pub const KARPENTER: Self = Self { has_zone: false, ..Self::KUBERNETES };
    /// Of scheduled actions of EC2 Auto Scaling. Source: its user guide, "Recurring schedules", which leaves
    /// the rest to cron.
    pub const AUTO_SCALING: Self = Self {
        has_descriptors: false,
        has_zone: false,
        has_question_mark: false,
        has_seventh_day: true,
        steps_say_which: false,
        repeats: false,
    };
}

/// Why a text is no schedule.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ParseError {
    #[error("empty spec string")]
    Empty,
    #[error("provided bad location {name}: unknown time zone {name}")]
    Zone { name: String },
    #[error("parser does not accept descriptors: {text}")]
    NoDescriptors { text: String },
    #[error("unrecognized descriptor: {text}")]
    Descriptor { text: String },
    #[error("failed to parse duration {text}: {why}")]
    Every { text: String, why: String },
    #[error("expected exactly 5 fields, found {count}: [{text}]")]
    Count { count: usize, text: String },
    /// In upstream's words.
    #[error("{0}")]
    Field(String),
}

/// Of a name that no time zone has.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("unknown time zone {0}")]
pub struct UnknownZone(pub String);

/// The zone of that name; UTC without one.
pub fn zone(name: Option<&str>) -> Result<TimeZone, UnknownZone> {
    let Some(name) = name else { return Ok(TimeZone::UTC) };
    TimeZone::get(name).map_err(|_| UnknownZone(name.to_owned()))
}

/// See the module.
#[derive(Clone, Debug, PartialEq)]
pub struct Schedule {
    times: Times,
    /// The one that was written into it.
    zone: Option<TimeZone>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Times {
    Fields { minutes: Set, hours: Set, days: Set, months: Set, weekdays: Set, repeats: bool },
    Every(Duration),
}

impl Schedule {
    pub fn parse(text: &str, dialect: Dialect) -> Result<Self, ParseError> {
        let (mut text, mut own) = (text, None);
        let named = text.strip_prefix("TZ=").or_else(|| text.strip_prefix("CRON_TZ="));
        if let Some(named) = named.filter(|_| dialect.has_zone) {
            let (name, rest) = named.split_once(' ').unwrap_or((named, ""));
            let found = zone(Some(name)).map_err(|it| ParseError::Zone { name: it.0 })?;
            (own, text) = (Some(found), rest.trim());
        }
        let times = match text {
            "" if own.is_none() => return Err(ParseError::Empty),
            it if it.starts_with('@') => described(it, dialect)?,
            it => fields(it, dialect)?,
        };
        Ok(Self { times, zone: own })
    }

    /// The first time after `after`, by the clock of `zone` unless it names one itself. `None`: it never
    /// comes (31 February).
    pub fn next(&self, after: Timestamp, zone: &TimeZone) -> Option<Timestamp> {
        let zone = self.zone.as_ref().unwrap_or(zone);
        match &self.times {
            Times::Every(period) => {
                let whole = Timestamp::from_second(after.as_second()).ok()?;
                whole.checked_add(*period).ok()
            }
            Times::Fields { .. } => self.next_in_calendar(after, zone),
        }
    }

    fn next_in_calendar(&self, after: Timestamp, zone: &TimeZone) -> Option<Timestamp> {
        let mut date = after.to_zoned(zone.clone()).date();
        let last = date.year().saturating_add(MOST_YEARS);
        while date.year() <= last {
            if self.has_date(date)
                && let Some(found) = self.first_on(date, after, zone)
            {
                return Some(found);
            }
            date = date.tomorrow().ok()?;
        }
        None
    }

    fn has_date(&self, date: Date) -> bool {
        let Times::Fields { days, months, weekdays, .. } = &self.times else { return false };
        let by_day = days.has(date.day());
        let by_weekday = weekdays.has(date.weekday().to_sunday_zero_offset());
        let is_day = match days.is_open || weekdays.is_open {
            true => by_day && by_weekday,
            false => by_day || by_weekday,
        };
        is_day && months.has(date.month())
    }

    fn first_on(&self, date: Date, after: Timestamp, zone: &TimeZone) -> Option<Timestamp> {
        let Times::Fields { minutes, hours, repeats, .. } = &self.times else { return None };
        let hours = (0..24_i8).filter(|it| hours.has(*it));
        let times = hours.flat_map(|hour| (0..60_i8).map(move |minute| (hour, minute)));
        let times = times.filter(|(_, minute)| minutes.has(*minute));
        let mut times = times.map(|(hour, minute)| date.at(hour, minute, 0, 0));
        if is_plain(date, zone) {
            let local = after.to_zoned(zone.clone()).datetime();
            return moments(times.find(|it| *it > local)?, zone).0;
        }
        let mut again = times.clone();
        let first = times.find_map(|it| moments(it, zone).0.filter(|it| *it > after));
        let second = again.find_map(|it| moments(it, zone).1.filter(|it| *it > after));
        match (first, second.filter(|_| *repeats)) {
            (Some(first), Some(second)) => Some(first.min(second)),
            (first, second) => first.or(second),
        }
    }
}

/// Whether every clock of the zone goes through the day as usual.
fn is_plain(date: Date, zone: &TimeZone) -> bool {
    let offset = |date: Date| {
        let midnight = zone.to_ambiguous_timestamp(date.at(0, 0, 0, 0)).compatible();
        midnight.map(|it| zone.to_offset(it)).ok()
    };
    date.tomorrow().is_ok_and(|next| offset(date) == offset(next))
}

/// When a clock shows it: never, where it is put forward; twice, where it is put back.
fn moments(local: DateTime, zone: &TimeZone) -> (Option<Timestamp>, Option<Timestamp>) {
    match zone.to_ambiguous_timestamp(local).offset() {
        AmbiguousOffset::Unambiguous { offset } => (offset.to_timestamp(local).ok(), None),
        AmbiguousOffset::Gap { .. } => (None, None),
        AmbiguousOffset::Fold { before, after } => {
            (before.to_timestamp(local).ok(), after.to_timestamp(local).ok())
        }
    }
}

fn described(text: &str, dialect: Dialect) -> Result<Times, ParseError> {
    let text = || text.to_owned();
    if !dialect.has_descriptors {
        return Err(ParseError::NoDescriptors { text: text() });
    }
    let same = match text().as_str() {
        "@yearly" | "@annually" => "0 0 1 1 *",
        "@monthly" => "0 0 1 * *",
        "@weekly" => "0 0 * * 0",
        "@daily" | "@midnight" => "0 0 * * *",
        "@hourly" => "0 * * * *",
        other => {
            let Some(span) = other.strip_prefix("@every ") else {
                return Err(ParseError::Descriptor { text: text() });
            };
            let span = duration::read(span)
                .map_err(|it| ParseError::Every { text: text(), why: it.to_string() })?;
            return Ok(Times::Every(Duration::from_secs(span.get().as_secs().max(1))));
        }
    };
    fields(same, dialect)
}

fn fields(text: &str, dialect: Dialect) -> Result<Times, ParseError> {
    let fields: Vec<&str> = text.split_whitespace().collect();
    let [minutes, hours, days, months, weekdays] = fields[..] else {
        return Err(ParseError::Count { count: fields.len(), text: fields.join(" ") });
    };
    let read = |text: &str, bounds: &field::Bounds| {
        field::read(text, bounds, dialect).map_err(ParseError::Field)
    };
    let week = if dialect.has_seventh_day { &field::LONG_WEEK } else { &field::WEEK };
    Ok(Times::Fields {
        minutes: read(minutes, &field::MINUTES)?,
        hours: read(hours, &field::HOURS)?,
        days: read(days, &field::DAYS)?,
        months: read(months, &field::MONTHS)?,
        weekdays: read(weekdays, week)?.with_sunday(),
        repeats: dialect.repeats,
    })
}

#[cfg(test)]
mod tests;
