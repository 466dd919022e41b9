//! What a log query asks for, and whether it may.
//!
//! A query whose form is wrong is a bad request; one that has a form and no sense is not acceptable.
//!
//! Upstream: `nodeLogQuery` in `pkg/kubelet/kubelet_server_journal.go`.

use http::StatusCode;
use jiff::Timestamp;
use regex_syntax::ast::{self, ErrorKind};
use serde_json::Value;

use super::query_values;

const MOST_LINES: i64 = 100_000;
const MOST_SERVICES: usize = 4;
const LONGEST_SERVICE: usize = 256;

#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Target {
    /// Units of the journal, or files of their names.
    Services(Vec<String>),
    /// A file below the log folder.
    File(String),
}

/// What of a service's log is wanted.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Options {
    pub since: Option<Timestamp>,
    pub until: Option<Timestamp>,
    pub tail_lines: Option<i64>,
    pub boot: Option<i64>,
    pub pattern: Option<String>,
}

impl Options {
    pub(super) fn are_given(&self) -> bool {
        *self != Self::default()
    }
}

/// A query of a right form.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct LogQuery {
    services: Vec<String>,
    files: Vec<String>,
    pub options: Options,
}

/// Why a query is not answered, in upstream's form.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct QueryError {
    pub status: StatusCode,
    pub message: String,
}

#[derive(Default)]
struct Faults(Vec<String>);

impl Faults {
    fn invalid(&mut self, field: &str, value: impl Into<Value>, why: &str) {
        self.0.push(format!("{field}: Invalid value: {}: {why}", value.into()));
    }

    fn check(self, status: StatusCode) -> Result<(), QueryError> {
        let message = match self.0.as_slice() {
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
        let one = |name: &str| query_values(query, name).into_iter().next();
        let one = |name: &str| one(name).filter(|it| !it.is_empty());
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
        let (boot, tail_lines) = (number("boot"), number("tailLines"));
        faults.check(StatusCode::BAD_REQUEST)?;
        let options = Options { since, until, tail_lines, boot, pattern: one("pattern") };
        let query = Self { services, files, options };
        Ok((query != Self::default()).then_some(query))
    }

    /// What is to be read. `stat` says why a file cannot be.
    pub(super) fn check(
        &self,
        stat: impl Fn(&str) -> Result<(), String>,
    ) -> Result<Target, QueryError> {
        let mut faults = Faults::default();
        let target = self.target(&mut faults, stat);
        let Options { since, until, tail_lines, boot, pattern } = &self.options;
        if let Some((_, until)) = since.zip(*until).filter(|(since, until)| since > until) {
            faults.invalid("untilTime", until.to_string(), "must be after `sinceTime`");
        }
        if let Some(boot) = boot.filter(|it| *it > 0) {
            faults.invalid("boot", boot, "must be less than 1");
        }
        if let Some(lines) = tail_lines.filter(|it| !(0..=MOST_LINES).contains(it)) {
            let why = format!("must be between 0 and {MOST_LINES}, inclusive");
            faults.invalid("tailLines", lines, &why);
        }
        if let Some((pattern, why)) = pattern.as_ref().and_then(|it| Some((it, bad_pattern(it)?))) {
            faults.invalid("pattern", pattern.as_str(), &why);
        }
        faults.check(StatusCode::NOT_ACCEPTABLE)?;
        // Without a fault there is one.
        Ok(target.unwrap_or(Target::Services(Vec::new())))
    }

    fn target(
        &self,
        faults: &mut Faults,
        stat: impl Fn(&str) -> Result<(), String>,
    ) -> Option<Target> {
        let Self { services, files, options } = self;
        for it in services {
            if it.len() > LONGEST_SERVICE {
                faults.invalid("query", it.as_str(), "length must be less than 100");
            } else if !it.chars().all(is_safe) {
                faults.invalid("query", it.as_str(), "input contains unsupported characters");
            }
        }
        let count = services.len();
        if count > MOST_SERVICES {
            let why = format!("must have at most {MOST_SERVICES} items");
            faults.0.push(format!("query: Too many: {count}: {why}"));
        }
        let mut no_file = |why: &str| faults.invalid("query", files.clone(), why);
        match (services.as_slice(), files.as_slice()) {
            ([], []) => {
                faults.0.push("query: Required value: cannot be empty with options".to_owned());
            }
            ([], [file]) if !options.are_given() => match stat(file) {
                Ok(()) => return Some(Target::File(file.clone())),
                Err(why) => no_file(&why),
            },
            ([], [_]) => no_file("cannot specify file with options"),
            ([], _) => no_file("cannot specify more than one file"),
            (_, []) => return Some(Target::Services(services.clone())),
            _ => {
                let both = format!("[{}], [{}]", files.join(" "), services.join(" "));
                faults.invalid("query", both, "cannot specify a file and service");
            }
        }
        None
    }
}

fn is_safe(it: char) -> bool {
    it.is_ascii_alphanumeric() || matches!(it, '-' | '_' | '.' | ':' | '@')
}

/// What Go says of a pattern that it cannot read.
fn bad_pattern(pattern: &str) -> Option<String> {
    let error = ast::parse::Parser::new().parse(pattern).err()?;
    let span = error.span();
    let part = pattern.get(span.start.offset..span.end.offset).unwrap_or_default();
    let from = pattern.get(span.start.offset..).unwrap_or_default();
    let (what, part) = match error.kind() {
        ErrorKind::GroupUnclosed => ("missing closing )", pattern),
        ErrorKind::GroupUnopened => ("unexpected )", pattern),
        ErrorKind::ClassUnclosed => ("missing closing ]", from),
        ErrorKind::ClassRangeInvalid => ("invalid character class range", part),
        ErrorKind::RepetitionMissing => {
            ("missing argument to repetition operator", from.get(..1).unwrap_or_default())
        }
        ErrorKind::RepetitionCountInvalid => ("invalid repeat count", part),
        ErrorKind::EscapeUnexpectedEof => ("trailing backslash at end of expression", ""),
        ErrorKind::EscapeUnrecognized | ErrorKind::UnsupportedBackreference => {
            ("invalid escape sequence", part)
        }
        _ => ("invalid or unsupported Perl syntax", part),
    };
    Some(format!("error parsing regexp: {what}: `{part}`"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ask(query: &str) -> Result<Option<Target>, QueryError> {
        let Some(query) = LogQuery::parse(Some(query))? else { return Ok(None) };
        let is_there = |file: &str| {
            let missing = "stat /var/log/none.log: no such file or directory";
            if file == "/none.log" { Err(missing.to_owned()) } else { Ok(()) }
        };
        query.check(is_there).map(Some)
    }

    #[test]
    fn files_and_services_are_told_apart() {
        assert_eq!(ask("").unwrap(), None);
        assert_eq!(ask("pattern=&tailLines=").unwrap(), None);
        let target = ask("query=kubelet&query=containerd&tailLines=10&pattern=a%20b").unwrap();
        let services = vec!["kubelet".to_owned(), "containerd".to_owned()];
        assert_eq!(target, Some(Target::Services(services)));
        assert_eq!(
            ask("query=user@1000.service&query=-x:y").unwrap(),
            Some(Target::Services(vec!["user@1000.service".to_owned(), "-x:y".to_owned()]))
        );
        assert_eq!(ask("query=/foo.log").unwrap(), Some(Target::File("/foo.log".to_owned())));
    }

    #[test]
    fn what_makes_no_sense_or_harm_is_refused() {
        let long = format!("query={}", "a".repeat(257));
        let too_long =
            format!("query: Invalid value: \"{}\": length must be less than 100", "a".repeat(257));
        for (query, status, message) in [
            ("query=%20", 400, "query: Invalid value: [\" \"]: query cannot be empty"),
            ("query=", 400, "query: Invalid value: [\"\"]: query cannot be empty"),
            (
                "query=a&tailLines=many&boot=x",
                400,
                "[boot: Invalid value: \"x\": strconv.Atoi: parsing \"x\": invalid syntax, tailLines: Invalid value: \"many\": strconv.Atoi: parsing \"many\": invalid syntax]",
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
                "query=/none.log",
                406,
                "query: Invalid value: [\"/none.log\"]: stat /var/log/none.log: no such file or directory",
            ),
            (
                "query=a;b",
                406,
                "query: Invalid value: \"a;b\": input contains unsupported characters",
            ),
            (&long, 406, &too_long),
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
                "query=!x&boot=2",
                406,
                "[query: Invalid value: \"!x\": input contains unsupported characters, boot: Invalid value: 2: must be less than 1]",
            ),
        ] {
            let error = ask(query).unwrap_err();
            assert_eq!((error.status.as_u16(), error.message), (status, format!("{message}\n")));
        }
        assert!(ask("query=a%0Ab").is_err());
    }

    #[test]
    fn a_pattern_that_go_cannot_read_is_told_in_its_words() {
        for (pattern, why) in [
            ("a(b", "missing closing ): `a(b`"),
            ("a)b", "unexpected ): `a)b`"),
            ("x[a", "missing closing ]: `[a`"),
            ("[z-a]", "invalid character class range: `z-a`"),
            ("*a", "missing argument to repetition operator: `*`"),
            ("a\\", "trailing backslash at end of expression: ``"),
            ("(?=a)", "invalid or unsupported Perl syntax: `(?=`"),
        ] {
            assert_eq!(bad_pattern(pattern), Some(format!("error parsing regexp: {why}")));
        }
        assert_eq!(bad_pattern("(?i)error|warn.*[0-9]{2,}$"), None);
    }
}
