//! What a log query asks for, and whether it may.
//!
//! Upstream: `nodeLogQuery` in `pkg/kubelet/kubelet_server_journal.go`.

use std::{collections::VecDeque, path::Path};

use http::StatusCode;
use jiff::Timestamp;
use serde_json::Value;
use tokio::io::{AsyncBufReadExt, BufReader};

use super::query_values;

const MOST_LINES: i64 = 100_000;
const MOST_SERVICES: usize = 4;

#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Target {
    /// Units of the journal, or files of their names.
    Services(Vec<String>),
    /// A file below the log folder.
    File(String),
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct LogQuery {
    pub target: Target,
    since: Option<Timestamp>,
    until: Option<Timestamp>,
    tail_lines: Option<u64>,
    boot: Option<i64>,
    pattern: Option<String>,
}

/// Why a query is not answered, in upstream's form.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct QueryError {
    pub status: StatusCode,
    pub message: String,
}

/// The faults of a query: those of its form come before those of its meaning.
#[derive(Default)]
struct Faults(Vec<String>);

impl Faults {
    fn invalid(&mut self, field: &str, value: impl Into<Value>, why: &str) {
        self.0.push(format!("{field}: Invalid value: {}: {why}", value.into()));
    }

    fn check(&mut self, status: StatusCode) -> Result<(), QueryError> {
        let message = match std::mem::take(&mut self.0).as_slice() {
            [] => return Ok(()),
            [one] => format!("{one}\n"),
            many => format!("[{}]\n", many.join(", ")),
        };
        Err(QueryError { status, message })
    }
}

impl LogQuery {
    /// `None` when nothing is asked for.
    pub(super) fn parse(query: Option<&str>) -> Result<Option<Self>, QueryError> {
        let mut faults = Faults::default();
        let one = |name: &str| query_values(query, name).into_iter().find(|it| !it.is_empty());
        let asked = query_values(query, "query");
        // A name with a slash is a file.
        let is_file = |it: &String| it.contains(['/', '\\']);
        let (files, mut services): (Vec<_>, Vec<_>) = asked.iter().cloned().partition(is_file);
        services.retain(|it| !it.trim().is_empty());
        if !asked.is_empty() && files.is_empty() && services.is_empty() {
            faults.invalid("query", asked, "query cannot be empty");
        }
        let mut time = |name: &str| -> Option<Timestamp> {
            let given = one(name)?;
            let time = given.parse().ok();
            if time.is_none() {
                faults.invalid(name, given, "invalid time format");
            }
            time
        };
        let (since, until) = (time("sinceTime"), time("untilTime"));
        let mut number = |name: &str| -> Option<i64> {
            let given = one(name)?;
            let number = given.parse().ok();
            if number.is_none() {
                let why = format!("strconv.Atoi: parsing {given:?}: invalid syntax");
                faults.invalid(name, given, &why);
            }
            number
        };
        let (boot, lines) = (number("boot"), number("tailLines"));
        faults.check(StatusCode::BAD_REQUEST)?;
        let pattern = one("pattern");
        let has_options = since.is_some()
            || until.is_some()
            || boot.is_some()
            || lines.is_some()
            || pattern.is_some();
        if files.is_empty() && services.is_empty() && !has_options {
            return Ok(None);
        }
        let target = target(&mut faults, services, files, has_options);
        if let Some((_, until)) = since.zip(until).filter(|(since, until)| since > until) {
            faults.invalid("untilTime", until.to_string(), "must be after `sinceTime`");
        }
        if let Some(boot) = boot.filter(|it| *it > 0) {
            faults.invalid("boot", boot, "must be less than 1");
        }
        if let Some(lines) = lines.filter(|it| !(0..=MOST_LINES).contains(it)) {
            let why = format!("must be between 0 and {MOST_LINES}, inclusive");
            faults.invalid("tailLines", lines, &why);
        }
        faults.check(StatusCode::NOT_ACCEPTABLE)?;
        let tail_lines = lines.and_then(|it| u64::try_from(it).ok());
        Ok(target.map(|target| Self { target, since, until, tail_lines, boot, pattern }))
    }

    /// Nothing here is read by a shell.
    pub(super) fn journal_arguments(&self) -> Vec<String> {
        let mut list =
            ["--utc", "--no-pager", "--output=short-precise"].map(str::to_owned).to_vec();
        let time = |it: Timestamp| it.strftime("%Y-%m-%d %H:%M:%S").to_string();
        list.extend(self.since.map(|it| format!("--since={}", time(it))));
        list.extend(self.until.map(|it| format!("--until={}", time(it))));
        list.extend(self.tail_lines.map(|it| format!("--lines={it}")));
        list.extend(self.pattern.as_ref().map(|it| format!("--grep={it}")));
        list.extend(self.boot.map(|it| format!("--boot={it}")));
        list
    }

    /// The lines of a service's file that have the pattern, the last ones only if that was asked.
    pub(super) async fn filtered(&self, path: &Path) -> Result<String, String> {
        if self.since.is_some() || self.until.is_some() || self.boot.is_some() {
            return Err(
                "times and boots can be asked of the journal only, and this service writes a file"
                    .to_owned(),
            );
        }
        let failed = |error: std::io::Error| error.to_string();
        let file = tokio::fs::File::open(path).await.map_err(failed)?;
        let mut lines = BufReader::new(file).split(b'\n');
        let limit = self.tail_lines.unwrap_or(MOST_LINES.unsigned_abs());
        let limit = usize::try_from(limit).unwrap_or(usize::MAX);
        let mut kept = VecDeque::new();
        while let Some(line) = lines.next_segment().await.map_err(failed)? {
            let line = String::from_utf8_lossy(&line).into_owned();
            if self.pattern.as_ref().is_some_and(|it| !line.contains(it.as_str())) {
                continue;
            }
            kept.push_back(line);
            if kept.len() > limit {
                kept.pop_front();
            }
        }
        Ok(kept.into_iter().map(|it| it + "\n").collect())
    }
}

fn target(
    faults: &mut Faults,
    services: Vec<String>,
    files: Vec<String>,
    has_options: bool,
) -> Option<Target> {
    for it in services.iter().filter(|it| !is_service(it)) {
        faults.invalid("query", it.as_str(), "input contains unsupported characters");
    }
    let count = services.len();
    if count > MOST_SERVICES {
        faults.0.push(format!("query: Too many: {count}: must have at most {MOST_SERVICES} items"));
    }
    match (services.as_slice(), files.as_slice()) {
        ([], []) => faults.0.push("query: Required value: cannot be empty with options".to_owned()),
        ([], [_]) if has_options => {
            faults.invalid("query", files, "cannot specify file with options");
        }
        ([], [file]) => return Some(Target::File(file.replace('\\', "/"))),
        ([], _) => faults.invalid("query", files, "cannot specify more than one file"),
        (_, []) => return Some(Target::Services(services)),
        _ => {
            let both = format!("[{}], [{}]", files.join(" "), services.join(" "));
            faults.invalid("query", both, "cannot specify a file and service");
        }
    }
    None
}

/// What systemd takes as a unit, and no option: a dash does not begin one.
fn is_service(name: &str) -> bool {
    let is_good =
        |it: char| it.is_ascii_alphanumeric() || matches!(it, '-' | '_' | '.' | ':' | '@');
    name.len() <= 255
        && name.chars().all(is_good)
        && name.starts_with(|it: char| it.is_ascii_alphanumeric())
        && !name.contains("..")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ask(query: &str) -> Result<Option<LogQuery>, QueryError> {
        LogQuery::parse(Some(query))
    }

    #[test]
    fn files_and_services_are_told_apart() {
        assert_eq!(ask("").unwrap(), None);
        let query =
            ask("query=kubelet&query=containerd&tailLines=10&pattern=a%20b").unwrap().unwrap();
        assert_eq!(query.target, Target::Services(vec!["kubelet".into(), "containerd".into()]));
        let arguments = query.journal_arguments();
        assert!(arguments.contains(&"--lines=10".to_owned()));
        assert!(arguments.contains(&"--grep=a b".to_owned()));
        let query = ask("query=/foo.log").unwrap().unwrap();
        assert_eq!(query.target, Target::File("/foo.log".to_owned()));
    }

    #[test]
    fn what_makes_no_sense_or_harm_is_refused() {
        for (query, status, message) in [
            ("query=%20", 400, "query: Invalid value: [\" \"]: query cannot be empty"),
            (
                "query=a&tailLines=many",
                400,
                "tailLines: Invalid value: \"many\": strconv.Atoi: parsing \"many\": invalid syntax",
            ),
            (
                "query=a&sinceTime=yesterday",
                400,
                "sinceTime: Invalid value: \"yesterday\": invalid time format",
            ),
            (
                "query=a&query=/b.log",
                406,
                "query: Invalid value: \"[/b.log], [a]\": cannot specify a file and service",
            ),
            (
                "query=/a.log&query=/b.log",
                406,
                "query: Invalid value: [\"/a.log\",\"/b.log\"]: cannot specify more than one file",
            ),
            (
                "query=/a.log&tailLines=3",
                406,
                "query: Invalid value: [\"/a.log\"]: cannot specify file with options",
            ),
            (
                "query=a;b",
                406,
                "query: Invalid value: \"a;b\": input contains unsupported characters",
            ),
            (
                "query=a&tailLines=-1",
                406,
                "tailLines: Invalid value: -1: must be between 0 and 100000, inclusive",
            ),
            ("query=a&boot=1", 406, "boot: Invalid value: 1: must be less than 1"),
            (
                "query=a&sinceTime=2026-01-02T00:00:00Z&untilTime=2026-01-01T00:00:00Z",
                406,
                "untilTime: Invalid value: \"2026-01-01T00:00:00Z\": must be after `sinceTime`",
            ),
            (
                "query=a&query=b&query=c&query=d&query=e",
                406,
                "query: Too many: 5: must have at most 4 items",
            ),
            ("tailLines=3", 406, "query: Required value: cannot be empty with options"),
            (
                "query=-x&boot=2",
                406,
                "[query: Invalid value: \"-x\": input contains unsupported characters, boot: Invalid value: 2: must be less than 1]",
            ),
        ] {
            let error = ask(query).unwrap_err();
            assert_eq!((error.status.as_u16(), error.message), (status, format!("{message}\n")));
        }
        for query in ["query=a%0Ab", "query=a..b"] {
            assert!(ask(query).is_err(), "{query}");
        }
    }

    #[tokio::test]
    async fn a_services_file_is_searched_for_the_last_lines() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("kubelet.log");
        std::fs::write(&path, "one a\ntwo\nthree a\nfour a\n").unwrap();
        let read = |query: &'static str| {
            let (query, path) = (ask(query).unwrap().unwrap(), path.clone());
            async move { query.filtered(&path).await }
        };
        assert_eq!(read("query=kubelet&pattern=a&tailLines=2").await.unwrap(), "three a\nfour a\n");
        assert_eq!(read("query=kubelet&tailLines=0").await.unwrap(), "");
        assert_eq!(read("query=kubelet").await.unwrap().lines().count(), 4);
        assert!(read("query=kubelet&boot=0").await.is_err());
    }
}
