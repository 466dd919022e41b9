//! CronJobs: their schedule, its time zone, and the Jobs that they make.
//!
//! Upstream: `validateCronJobSpec` in pkg/apis/batch/validation.

use serde_json::Value;

use super::spec;
use crate::{
    resources::meta,
    status::FieldError,
    validation::{Faults, text},
};

pub(in crate::validation) fn check(faults: &mut Faults, object: &Value) {
    common(faults, None, object);
    let name = meta(object, "name");
    if name.len() > 52 {
        faults.invalid("metadata.name", name, "must be no more than 52 characters");
    }
}

/// Names and zones that were accepted once stay.
pub(in crate::validation) fn update(faults: &mut Faults, old: &Value, new: &Value) {
    common(faults, Some(&old["spec"]), new);
}

fn common(faults: &mut Faults, old: Option<&Value>, object: &Value) {
    let own = &object["spec"];
    let had_zone = old.is_some_and(|it| text(it, "schedule").contains("TZ"));
    schedule(faults, text(own, "schedule"), had_zone, &own["timeZone"]);
    faults.not_negative("spec.startingDeadlineSeconds", &own["startingDeadlineSeconds"]);
    if old.is_none_or(|it| it["timeZone"] != own["timeZone"]) {
        time_zone(faults, &own["timeZone"]);
    }
    let policies = &["Allow", "Forbid", "Replace"];
    faults.one_of("spec.concurrencyPolicy", &own["concurrencyPolicy"], policies);
    let (at, job) = ("spec.jobTemplate.spec", &own["jobTemplate"]["spec"]);
    spec(faults, at, job);
    if !job["selector"].is_null() {
        let why = "`selector` will be auto-generated";
        faults.invalid(format!("{at}.selector"), job["selector"].clone(), why);
    }
    if job["manualSelector"] == true {
        let field = format!("{at}.manualSelector");
        faults.add(FieldError::not_supported(field, true, &["nil", "false"]));
    }
    for field in ["successfulJobsHistoryLimit", "failedJobsHistoryLimit"] {
        faults.not_negative(&format!("spec.{field}"), &own[field]);
    }
}

fn schedule(faults: &mut Faults, schedule: &str, may_have_zone: bool, zone: &Value) {
    let field = "spec.schedule";
    if schedule.is_empty() {
        return faults.required(field);
    }
    let fields = schedule.strip_prefix("TZ=").or_else(|| schedule.strip_prefix("CRON_TZ="));
    let fields = fields.map_or(schedule, |it| it.split_once(' ').map_or("", |(_, it)| it.trim()));
    if let Err(why) = parse(fields) {
        faults.invalid(field, schedule, why);
    }
    if !schedule.contains("TZ") {
        return;
    }
    if !may_have_zone {
        let why = "cannot use TZ or CRON_TZ in schedule, use timeZone field instead";
        faults.invalid(field, schedule, why);
    } else if zone.is_string() {
        let why = "cannot use both timeZone field and TZ or CRON_TZ in schedule";
        faults.invalid(field, schedule, why);
    }
}

/// The fields of a schedule with their bounds.
const FIELDS: [(u32, u32, &[&str]); 5] = [
    (0, 59, &[]),
    (0, 23, &[]),
    (1, 31, &[]),
    (1, 12, &["jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec"]),
    (0, 6, &["sun", "mon", "tue", "wed", "thu", "fri", "sat"]),
];

/// In the words of the library that upstream uses.
fn parse(schedule: &str) -> Result<(), String> {
    if let Some(every) = schedule.strip_prefix("@every ") {
        let is_duration = every.parse::<jiff::SignedDuration>().is_ok();
        let why =
            || format!("failed to parse duration {schedule}: time: invalid duration {every:?}");
        return if is_duration { Ok(()) } else { Err(why()) };
    }
    if schedule.starts_with('@') {
        const NAMED: [&str; 7] =
            ["@yearly", "@annually", "@monthly", "@weekly", "@daily", "@midnight", "@hourly"];
        let why = || format!("unrecognized descriptor: {schedule}");
        return if NAMED.contains(&schedule) { Ok(()) } else { Err(why()) };
    }
    let parts: Vec<&str> = schedule.split_whitespace().collect();
    if parts.len() != FIELDS.len() {
        let count = parts.len();
        return Err(format!("expected exactly 5 fields, found {count}: [{}]", parts.join(" ")));
    }
    for (part, bounds) in parts.iter().zip(FIELDS) {
        part.split(',').try_for_each(|it| range(it, bounds))?;
    }
    Ok(())
}

fn range(text: &str, (least, most, names): (u32, u32, &[&str])) -> Result<(), String> {
    let (limits, step) = text.split_once('/').map_or((text, None), |(a, b)| (a, Some(b)));
    let parse = |it: &str| -> Result<u32, String> {
        let named = names.iter().position(|name| it.eq_ignore_ascii_case(name));
        let named = named.and_then(|at| u32::try_from(at).ok()).map(|at| at + least);
        let number = named.or_else(|| it.parse().ok());
        number.ok_or_else(|| {
            format!("failed to parse int from {it}: strconv.Atoi: parsing {it:?}: invalid syntax")
        })
    };
    let mut parts = limits.split('-');
    let first = parts.next().unwrap_or_default();
    let (from, to) = match (first, parts.next()) {
        ("*" | "?", None) => (least, most),
        (_, None) if step.is_some() => (parse(first)?, most),
        (_, None) => (parse(first)?, parse(first)?),
        (_, Some(last)) => (parse(first)?, parse(last)?),
    };
    if parts.next().is_some() {
        return Err(format!("too many hyphens: {text}"));
    }
    let step = match step {
        None => 1,
        Some(it) if it.contains('/') => return Err(format!("too many slashes: {text}")),
        Some(it) => parse(it)?,
    };
    if from < least {
        return Err(format!("beginning of range ({from}) below minimum ({least}): {text}"));
    }
    if to > most {
        return Err(format!("end of range ({to}) above maximum ({most}): {text}"));
    }
    if from > to {
        return Err(format!("beginning of range ({from}) beyond end of range ({to}): {text}"));
    }
    if step == 0 {
        return Err(format!("step of range should be a positive number: {text}"));
    }
    Ok(())
}

fn time_zone(faults: &mut Faults, zone: &Value) {
    let Some(name) = zone.as_str() else { return };
    let field = "spec.timeZone";
    if name.is_empty() {
        return faults.invalid(field, name, "timeZone must be nil or non-empty string");
    }
    let is_part = |it: &str| {
        (1..=14).contains(&it.len())
            && !it.starts_with('-')
            && !matches!(it, "." | "..")
            && it.chars().all(|it| it.is_ascii_alphanumeric() || ".-_+".contains(it))
    };
    if !name.split('/').all(is_part) {
        return faults.invalid(field, name, format!("unknown time zone {name}"));
    }
    if name.eq_ignore_ascii_case("local") {
        let why =
            "timeZone must be an explicit time zone as defined in https://www.iana.org/time-zones";
        faults.invalid(field, name, why);
    } else if jiff::tz::TimeZone::get(name).is_err() {
        faults.invalid(field, name, format!("unknown time zone {name}"));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_schedule_has_five_fields_within_their_bounds() {
        for good in ["*/5 * * * *", "0 0 1,15 jan-mar MON", "@daily", "@every 1h30m", "? ? ? ? ?"] {
            assert_eq!(parse(good), Ok(()), "{good}");
        }
        for (bad, why) in [
            ("* * * *", "expected exactly 5 fields, found 4: [* * * *]"),
            ("60 * * * *", "end of range (60) above maximum (59): 60"),
            ("* * 0 * *", "beginning of range (0) below minimum (1): 0"),
            ("5-1 * * * *", "beginning of range (5) beyond end of range (1): 5-1"),
            ("*/0 * * * *", "step of range should be a positive number: */0"),
            ("@soon", "unrecognized descriptor: @soon"),
        ] {
            assert_eq!(parse(bad), Err(why.to_owned()), "{bad}");
        }
        assert!(parse("x * * * *").unwrap_err().starts_with("failed to parse int from x"));
    }
}
