//! What of a log is wanted, as the query says it.
//!
//! Upstream: `getContainerLogs` in `pkg/kubelet/server/server.go`, `ValidatePodLogOptions`.

use std::time::Duration;

use http::StatusCode;
use jiff::{SignedDuration, Timestamp};

use super::{query_flag, query_values};
use crate::logs::LogOptions;

/// The status and the text of a query that is none.
pub(super) type Refused = (StatusCode, &'static str);

const UNREADABLE: Refused = (StatusCode::BAD_REQUEST, r#"{"message": "Unable to decode query."}"#);
const INVALID: Refused = (StatusCode::UNPROCESSABLE_ENTITY, r#"{"message": "Invalid request."}"#);

pub(super) fn of(query: Option<&str>, now: Timestamp) -> Result<LogOptions, Refused> {
    let value =
        |name: &str| query_values(query, name).into_iter().next().filter(|it| !it.is_empty());
    let number = |name: &str, least: i64| -> Result<Option<u64>, Refused> {
        let Some(given) = value(name) else { return Ok(None) };
        let given: i64 = given.parse().map_err(|_| UNREADABLE)?;
        if given < least {
            return Err(INVALID);
        }
        u64::try_from(given).map(Some).map_err(|_| INVALID)
    };
    let size = |it: Option<u64>| it.and_then(|it| usize::try_from(it).ok());
    let seconds = number("sinceSeconds", 1)?.map(Duration::from_secs);
    let time = value("sinceTime").map(|it| it.parse()).transpose().map_err(|_| UNREADABLE)?;
    let stream = match value("stream").as_deref() {
        None | Some("All") => None,
        Some("Stdout") => Some("stdout"),
        Some("Stderr") => Some("stderr"),
        Some(_) => return Err(INVALID),
    };
    let tail_lines = size(tail(query, number("tailLines", 0)?)?);
    // The last lines of one stream would have to be looked for in both.
    if seconds.is_some() && time.is_some() || stream.is_some() && tail_lines.is_some() {
        return Err(INVALID);
    }
    Ok(LogOptions {
        follow: query_flag(query, "follow"),
        tail_lines,
        since: time.or_else(|| seconds.map(|it| before(now, it))),
        timestamps: query_flag(query, "timestamps"),
        limit_bytes: size(number("limitBytes", 1)?),
        stream,
    })
}

/// `tail` is an older name, under which `all` is no limit.
fn tail(query: Option<&str>, lines: Option<u64>) -> Result<Option<u64>, Refused> {
    match query_values(query, "tail").first().map(String::as_str) {
        None | Some("") => Ok(lines),
        Some("all") => Ok(None),
        Some(given) => match given.parse::<i64>() {
            Ok(given) => u64::try_from(given).map(Some).map_err(|_| INVALID),
            Err(_) => Err(UNREADABLE),
        },
    }
}

/// A time so long before another; the earliest that there is where it would be before all times.
fn before(now: Timestamp, by: Duration) -> Timestamp {
    let by = SignedDuration::try_from(by).unwrap_or(SignedDuration::MAX);
    now.checked_sub(by).unwrap_or(Timestamp::MIN)
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: &str = "2026-11-23T10:00:00Z";

    fn ask(query: &str) -> Result<LogOptions, Refused> {
        of(Some(query), NOW.parse().unwrap())
    }

    #[test]
    fn any_number_of_seconds_is_a_time() {
        let since = |seconds: i64| ask(&format!("sinceSeconds={seconds}")).unwrap().since.unwrap();
        assert_eq!(since(3600), "2026-11-23T09:00:00Z".parse().unwrap());
        assert_eq!(since(1 << 40), Timestamp::MIN);
        assert_eq!(since(i64::MAX), Timestamp::MIN);
    }

    #[test]
    fn a_query_that_is_none_is_refused_as_upstream_does() {
        for query in ["tailLines=x", "sinceTime=now", "tail=some", "limitBytes=1e3"] {
            assert_eq!(ask(query).unwrap_err(), UNREADABLE, "{query}");
        }
        for query in [
            "tailLines=-1",
            "tail=-1",
            "limitBytes=0",
            "sinceSeconds=0",
            "stream=Both",
            "stream=Stderr&tailLines=1",
            "sinceSeconds=1&sinceTime=2026-11-23T09:00:00Z",
        ] {
            assert_eq!(ask(query).unwrap_err(), INVALID, "{query}");
        }
    }

    #[test]
    fn the_last_lines_have_an_older_name() {
        assert_eq!(ask("tail=7").unwrap().tail_lines, Some(7));
        assert_eq!(ask("tail=all&tailLines=7").unwrap().tail_lines, None);
        assert_eq!(ask("tailLines=0").unwrap().tail_lines, Some(0));
    }
}
