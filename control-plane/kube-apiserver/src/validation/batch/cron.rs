//! CronJobs: their schedule, its time zone, and the Jobs that they make.
//!
//! Upstream: `validateCronJobSpec` in pkg/apis/batch/validation.

use cron::{Dialect, Schedule};
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
    if let Err(why) = Schedule::parse(schedule, Dialect::KUBERNETES) {
        faults.invalid(field, schedule, why.to_string());
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
    use serde_json::json;

    use super::*;

    fn said(schedule: &str, may_have_zone: bool, zone: &Value) -> String {
        let mut faults = Faults::default();
        super::schedule(&mut faults, schedule, may_have_zone, zone);
        let all = faults.found.iter().map(ToString::to_string);
        all.collect::<Vec<_>>().join("; ")
    }

    #[test]
    fn a_schedule_is_one_of_cron_and_names_no_zone_but_where_it_always_has() {
        let none = Value::Null;
        assert_eq!(said("0 0 1,15 jan-mar MON", false, &none), "");
        assert!(said("0 0 * * 7", false, &none).contains("end of range (7) above maximum (6): 7"));
        let zoned = "TZ=UTC 0 0 * * *";
        assert!(said(zoned, false, &none).contains("cannot use TZ or CRON_TZ in schedule, use"));
        assert_eq!(said(zoned, true, &none), "");
        assert!(said(zoned, true, &json!("UTC")).contains("cannot use both timeZone field and TZ"));
        assert!(said("TZ=Mars 0 0 * * *", true, &none).contains("provided bad location Mars"));
    }
}
