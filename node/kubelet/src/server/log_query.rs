//! What a log query asks for, and whether it may.
//!
//! Upstream: `nodeLogQuery` in `pkg/kubelet/kubelet_server_journal.go`.

use std::{collections::VecDeque, path::Path};

use jiff::Timestamp;
use tokio::io::{AsyncBufReadExt, BufReader};

use super::query_values;

const MOST_LINES: u64 = 100_000;

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

impl LogQuery {
    /// `None` when nothing is asked for; an error in upstream's form.
    pub(super) fn parse(query: Option<&str>) -> Result<Option<Self>, String> {
        let one = |name: &str| query_values(query, name).into_iter().find(|it| !it.is_empty());
        let (mut services, mut files) = (Vec::new(), Vec::new());
        for asked in query_values(query, "query") {
            // A name with a slash is a file.
            match asked {
                it if it.is_empty() => {}
                it if it.contains(['/', '\\']) => files.push(it),
                it => services.push(it),
            }
        }
        let options = ["sinceTime", "untilTime", "tailLines", "boot", "pattern"];
        let has_options = options.iter().any(|it| one(it).is_some());
        if services.is_empty() && files.is_empty() {
            return if has_options {
                Err(invalid("query", "cannot be empty with options"))
            } else {
                Ok(None)
            };
        }
        let time = |name: &str| match one(name) {
            None => Ok(None),
            Some(it) => it.parse().map(Some).map_err(|_| invalid(name, "invalid time format")),
        };
        let number = |name: &str| match one(name) {
            None => Ok(None),
            Some(it) => it.parse::<i64>().map(Some).map_err(|_| invalid(name, "not an integer")),
        };
        let target = target(services, files, has_options)?;
        let (since, until) = (time("sinceTime")?, time("untilTime")?);
        if since.zip(until).is_some_and(|(since, until)| since > until) {
            return Err(invalid("untilTime", "must be after `sinceTime`"));
        }
        let lines = number("tailLines")?;
        if lines.is_some_and(|it| it < 0) {
            return Err(invalid("tailLines", "must be greater than or equal to 0"));
        }
        let boot = number("boot")?;
        if boot.is_some_and(|it| it > 0) {
            return Err(invalid("boot", "must be less than or equal to 0"));
        }
        let tail_lines = lines.and_then(|it| u64::try_from(it).ok()).map(|it| it.min(MOST_LINES));
        Ok(Some(Self { target, since, until, tail_lines, boot, pattern: one("pattern") }))
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
        let limit = self.tail_lines.unwrap_or(MOST_LINES);
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

fn target(services: Vec<String>, files: Vec<String>, has_options: bool) -> Result<Target, String> {
    match (services.as_slice(), files.as_slice()) {
        ([], [file]) if !has_options => Ok(Target::File(file.clone())),
        ([], [_]) => Err(invalid("query", "file query must not have options")),
        ([], _) => Err(invalid("query", "cannot specify more than one file")),
        (_, []) => match services.iter().find(|it| !is_service(it)) {
            Some(wrong) => Err(invalid("query", &format!("{wrong:?} is no valid service name"))),
            None => Ok(Target::Services(services)),
        },
        _ => Err(invalid("query", "cannot specify a file and service at the same time")),
    }
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

fn invalid(field: &str, message: &str) -> String {
    format!("{field}: Invalid value: {message}\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ask(query: &str) -> Result<Option<LogQuery>, String> {
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
        for query in [
            "query=a&query=/b.log",
            "query=/a.log&query=/b.log",
            "query=/a.log&tailLines=3",
            "query=-x",
            "query=a;b",
            "query=a%0Ab",
            "query=a..b",
            "query=a&tailLines=-1",
            "query=a&tailLines=many",
            "query=a&boot=1",
            "query=a&sinceTime=yesterday",
            "query=a&sinceTime=2026-01-02T00:00:00Z&untilTime=2026-01-01T00:00:00Z",
            "tailLines=3",
        ] {
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
