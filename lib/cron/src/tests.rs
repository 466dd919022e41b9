//! What expressions mean, by dialect.

use super::*;

fn next(text: &str, after: &str, name: &str, dialect: Dialect) -> String {
    let schedule = Schedule::parse(text, dialect).unwrap();
    let found = schedule.next(after.parse().unwrap(), &zone(Some(name)).unwrap());
    found.map_or("never".to_owned(), |it| it.to_string())
}

fn refusal(text: &str, dialect: Dialect) -> String {
    Schedule::parse(text, dialect).unwrap_err().to_string()
}

#[test]
fn the_next_time_is_the_first_that_matches_every_field() {
    // A Monday.
    let after = "2026-11-23T12:00:00Z";
    for (text, expected) in [
        ("* * * * *", "2026-11-23T12:01:00Z"),
        ("*/15 * * * *", "2026-11-23T12:15:00Z"),
        ("30 2 * * *", "2026-11-24T02:30:00Z"),
        ("0 0 1 jan *", "2027-01-01T00:00:00Z"),
        ("0 0 1 1,6,12 *", "2026-12-01T00:00:00Z"),
        ("0 12 * * MON-FRI", "2026-11-24T12:00:00Z"),
        ("0 0 29 2 *", "2028-02-29T00:00:00Z"),
        ("5/20 * * * *", "2026-11-23T12:05:00Z"),
        ("20-35/15 * * * *", "2026-11-23T12:20:00Z"),
        (",7,, * * * *", "2026-11-23T12:07:00Z"),
        ("5/4294967295 0 * * *", "2026-11-24T00:05:00Z"),
        ("0 0 31 2 *", "never"),
        ("0 0 13 * 5", "2026-11-27T00:00:00Z"),
        ("0 9 1 * *", "2026-12-01T09:00:00Z"),
    ] {
        for dialect in [Dialect::KUBERNETES, Dialect::KARPENTER, Dialect::AUTO_SCALING] {
            assert_eq!(next(text, after, "UTC", dialect), expected, "{text}");
        }
    }
    assert_eq!(
        next("* * * * *", "2026-11-23T12:00:30.5Z", "UTC", Dialect::KUBERNETES),
        "2026-11-23T12:01:00Z"
    );
}

#[test]
fn a_star_with_a_step_says_which_days_and_in_cron_it_does_not() {
    // Of the odd days and the Fridays: a Monday the 23rd; the first odd Friday is the 27th.
    let (text, after) = ("0 0 */2 * fri", "2026-11-23T12:00:00Z");
    assert_eq!(next(text, after, "UTC", Dialect::KUBERNETES), "2026-11-25T00:00:00Z");
    assert_eq!(next(text, after, "UTC", Dialect::AUTO_SCALING), "2026-11-27T00:00:00Z");
    let whole = "0 0 */1 * fri";
    assert_eq!(next(whole, after, "UTC", Dialect::KUBERNETES), "2026-11-27T00:00:00Z");
}

#[test]
fn sunday_is_seven_for_auto_scaling_alone() {
    let after = "2026-11-23T12:00:00Z";
    for text in ["0 9 * * 7", "0 9 * * 0", "0 9 * * sun"] {
        assert_eq!(next(text, after, "UTC", Dialect::AUTO_SCALING), "2026-11-29T09:00:00Z");
    }
    for dialect in [Dialect::KUBERNETES, Dialect::KARPENTER] {
        assert_eq!(refusal("0 9 * * 7", dialect), "end of range (7) above maximum (6): 7");
    }
}

#[test]
fn descriptors_are_of_kubernetes_and_karpenter() {
    let after = "2026-11-23T12:00:00Z";
    for (text, expected) in [
        ("@yearly", "2027-01-01T00:00:00Z"),
        ("@annually", "2027-01-01T00:00:00Z"),
        ("@monthly", "2026-12-01T00:00:00Z"),
        ("@weekly", "2026-11-29T00:00:00Z"),
        ("@daily", "2026-11-24T00:00:00Z"),
        ("@midnight", "2026-11-24T00:00:00Z"),
        ("@hourly", "2026-11-23T13:00:00Z"),
        ("@every 1m30.9s", "2026-11-23T12:01:30Z"),
        ("@every 1ms", "2026-11-23T12:00:01Z"),
        ("? ? ? ? ?", "2026-11-23T12:01:00Z"),
    ] {
        for dialect in [Dialect::KUBERNETES, Dialect::KARPENTER] {
            assert_eq!(next(text, after, "UTC", dialect), expected, "{text}");
        }
        assert!(Schedule::parse(text, Dialect::AUTO_SCALING).is_err(), "{text}");
    }
}

#[test]
fn only_a_cron_job_may_have_its_zone_in_it() {
    let after = "2026-11-23T12:00:00Z";
    for text in ["TZ=America/New_York 0 9 * * *", "CRON_TZ=America/New_York  0 9 * * *"] {
        assert_eq!(next(text, after, "Asia/Tokyo", Dialect::KUBERNETES), "2026-11-23T14:00:00Z");
        for dialect in [Dialect::KARPENTER, Dialect::AUTO_SCALING] {
            assert!(refusal(text, dialect).starts_with("expected exactly 5 fields, found 6"));
        }
    }
    let bad = "provided bad location Mars/Olympus: unknown time zone Mars/Olympus";
    assert_eq!(refusal("TZ=Mars/Olympus @daily", Dialect::KUBERNETES), bad);
    assert!(zone(Some("Mars/Olympus")).is_err());
}

#[test]
fn what_a_clock_skips_never_comes() {
    // At two it is three, on 8 March.
    for dialect in [Dialect::KUBERNETES, Dialect::AUTO_SCALING] {
        let found = next("30 2 * * *", "2026-03-08T05:00:00Z", "America/New_York", dialect);
        assert_eq!(found, "2026-03-09T06:30:00Z");
        let found = next("0 * * * *", "2026-03-08T06:00:00Z", "America/New_York", dialect);
        assert_eq!(found, "2026-03-08T07:00:00Z");
    }
}

#[test]
fn what_a_clock_shows_twice_comes_twice_and_for_auto_scaling_once() {
    // At two it is one again, on 1 November.
    let times = |text: &str, dialect: Dialect| {
        let mut at = "2026-11-01T04:30:00Z".to_owned();
        let mut found = Vec::new();
        for _ in 0..4 {
            at = next(text, &at, "America/New_York", dialect);
            found.push(at[..16].to_owned());
        }
        found
    };
    let halves = ["2026-11-01T05:00", "2026-11-01T05:30", "2026-11-01T06:00", "2026-11-01T06:30"];
    assert_eq!(times("0,30 1 * * *", Dialect::KUBERNETES), halves);
    let once = ["2026-11-01T05:00", "2026-11-01T05:30", "2026-11-02T06:00", "2026-11-02T06:30"];
    assert_eq!(times("0,30 1 * * *", Dialect::AUTO_SCALING), once);
}

#[test]
fn what_is_no_schedule_is_refused_in_upstreams_words() {
    for (text, why) in [
        ("", "empty spec string"),
        (" ", "expected exactly 5 fields, found 0: []"),
        ("TZ=UTC", "expected exactly 5 fields, found 0: []"),
        ("* *  * *", "expected exactly 5 fields, found 4: [* * * *]"),
        ("* * * * * *", "expected exactly 5 fields, found 6: [* * * * * *]"),
        ("60 * * * *", "end of range (60) above maximum (59): 60"),
        ("* * 0 * *", "beginning of range (0) below minimum (1): 0"),
        ("5-1 * * * *", "beginning of range (5) beyond end of range (1): 5-1"),
        ("1-2-3 * * * *", "too many hyphens: 1-2-3"),
        ("1/2/3 * * * *", "too many slashes: 1/2/3"),
        ("*/0 * * * *", "step of range should be a positive number: */0"),
        ("*/-2 * * * *", "negative number (-2) not allowed: -2"),
        ("x * * * *", "failed to parse int from x: strconv.Atoi: parsing \"x\": invalid syntax"),
        ("-5 * * * *", "failed to parse int from : strconv.Atoi: parsing \"\": invalid syntax"),
        ("@soon", "unrecognized descriptor: @soon"),
        ("@every 5", "failed to parse duration @every 5: time: missing unit in duration \"5\""),
    ] {
        assert_eq!(refusal(text, Dialect::KUBERNETES), why, "{text}");
    }
    assert_eq!(
        refusal("@daily", Dialect::AUTO_SCALING),
        "parser does not accept descriptors: @daily"
    );
}
