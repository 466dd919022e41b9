//! The logs of services: from the journal where the host has one, else from files.
//!
//! They are sent as they are read, whatever their size.
//!
//! Upstream: `pkg/kubelet/kubelet_server_journal.go`, `kubelet_server_journal_linux.go`.
//!
//! Deviation: a service's file can be asked for its last lines, a pattern and times (of lines that
//! begin with one); upstream refuses all options where a service writes a file.

use std::{
    collections::VecDeque,
    io::{self, Write},
    path::PathBuf,
    process::Stdio,
    time::Duration,
};

use bytes::Bytes;
use flate2::{Compression, write::GzEncoder};
use http::{HeaderMap, HeaderValue, Response, header};
use jiff::Timestamp;
use regex::Regex;
use tokio::{
    io::{AsyncBufReadExt, AsyncRead, AsyncReadExt, BufReader},
    net::unix::pipe,
    process::Command,
    sync::mpsc,
};
use tracing::debug;
use transport::Body;

use super::{Server, log_query::Options, system_logs::open};

const QUEUE: usize = 8;
const BLOCK: usize = 32 * 1024;
/// As long as upstream lets journalctl run.
const LIMIT: Duration = Duration::from_secs(30);
/// A file may be all lines of one length; nobody wants more of them.
const MOST_LINES: usize = 100_000;
/// Of one line, and of all that are kept: a pod may write there.
const LONGEST_LINE: u64 = 1 << 20;
const MOST_BYTES: usize = 64 << 20;

impl Server {
    pub(super) fn service_logs(
        &self,
        services: Vec<String>,
        options: Options,
        headers: &HeaderMap,
    ) -> Response<Body> {
        let settings = &self.context.settings;
        let (out, chunks) = mpsc::channel(QUEUE);
        let packs = headers.get(header::ACCEPT_ENCODING).is_some_and(|it| it == "gzip");
        let gzip = packs.then(|| GzEncoder::new(Vec::new(), Compression::fast()));
        let mut reading = Reading {
            root: settings.system_logs.clone(),
            journalctl: settings.journalctl.clone(),
            options,
            sink: Sink { out, gzip },
        };
        let work = async move {
            let done = tokio::time::timeout(LIMIT, reading.run(&services)).await;
            // Whoever asked is gone, or the journal is slow: what was sent is what there is.
            if !matches!(done, Ok(Ok(()))) {
                debug!("the logs of services were not sent to their end");
            }
            drop(reading.sink.finish().await);
        };
        drop(self.context.scope.spawn("service-logs", work));
        let mut response = Response::new(transport::stream(chunks));
        let headers = response.headers_mut();
        let plain = HeaderValue::from_static("text/plain;charset=UTF-8");
        headers.insert(header::CONTENT_TYPE, plain);
        if packs {
            headers.insert(header::CONTENT_ENCODING, HeaderValue::from_static("gzip"));
        }
        response
    }
}

/// Where what is read goes.
struct Sink {
    out: mpsc::Sender<Bytes>,
    gzip: Option<GzEncoder<Vec<u8>>>,
}

impl Sink {
    async fn write(&mut self, chunk: &[u8]) -> io::Result<()> {
        let chunk = match &mut self.gzip {
            None => chunk.to_vec(),
            Some(gzip) => {
                gzip.write_all(chunk)?;
                std::mem::take(gzip.get_mut())
            }
        };
        self.send(chunk).await
    }

    async fn finish(&mut self) -> io::Result<()> {
        match self.gzip.take() {
            None => Ok(()),
            Some(gzip) => {
                let rest = gzip.finish()?;
                self.send(rest).await
            }
        }
    }

    async fn send(&self, chunk: Vec<u8>) -> io::Result<()> {
        if chunk.is_empty() {
            return Ok(());
        }
        self.out.send(chunk.into()).await.map_err(|_| io::ErrorKind::BrokenPipe.into())
    }
}

struct Reading {
    root: PathBuf,
    journalctl: PathBuf,
    options: Options,
    sink: Sink,
}

impl Reading {
    async fn run(&mut self, services: &[String]) -> io::Result<()> {
        let units = self.units().await.unwrap_or_default();
        // A service that the journal does not know may have a file.
        let in_journal = |it: &&String| units.contains(&format!("{it}.service"));
        let (native, files): (Vec<_>, Vec<_>) = services.iter().partition(in_journal);
        if !native.is_empty() {
            self.journal(&native).await?;
        }
        if self.options.boot.is_some() && !files.is_empty() {
            return self.refuse_options(&files).await;
        }
        for service in files {
            self.file(service).await?;
        }
        Ok(())
    }

    /// The units that the journal holds something of; `None` where there is no journal.
    async fn units(&self) -> Option<String> {
        let mut command = Command::new(&self.journalctl);
        command.args(["--field", "_SYSTEMD_UNIT"]).stdin(Stdio::null()).kill_on_drop(true);
        let output = command.output().await.ok().filter(|it| it.status.success())?;
        Some(String::from_utf8_lossy(&output.stdout).into_owned())
    }

    async fn journal(&mut self, services: &[&String]) -> io::Result<()> {
        // What it prints and what it complains of, in their order.
        let (read, write) = io::pipe()?;
        let mut command = Command::new(&self.journalctl);
        command.args(journal_arguments(&self.options, services));
        command.stdin(Stdio::null()).stdout(write.try_clone()?).stderr(write).kill_on_drop(true);
        let started = command.spawn();
        // It holds the pipe's other end.
        drop(command);
        let Ok(mut child) = started else {
            return self.sink.write(b"\nerror: journal output not available\n").await;
        };
        let mut output = pipe::Receiver::from_owned_fd(read.into())?;
        self.copy(&mut output).await?;
        // Its failure is in what it printed.
        child.wait().await.map(drop)
    }

    async fn copy(&mut self, from: &mut (impl AsyncRead + Unpin)) -> io::Result<()> {
        let mut block = vec![0; BLOCK];
        loop {
            match from.read(&mut block).await? {
                0 => return Ok(()),
                count => self.sink.write(&block[..count]).await?,
            }
        }
    }

    async fn refuse_options(&mut self, services: &[&String]) -> io::Result<()> {
        let services: Vec<&str> = services.iter().map(|it| it.as_str()).collect();
        let text = format!(
            "\noptions present and query resolved to log files for [{}]\ntry without specifying options\n",
            services.join(" ")
        );
        self.sink.write(text.as_bytes()).await
    }

    async fn file(&mut self, service: &String) -> io::Result<()> {
        let names = [service.clone(), format!("{service}.log"), format!("{service}/{service}.log")];
        let opened = names.iter().filter_map(|it| open(&self.root, it).ok());
        let mut files = opened.filter(|it| it.metadata().is_ok_and(|it| it.is_file()));
        let Some(file) = files.next() else {
            let text = format!("\nlog not found for {service}\n");
            return self.sink.write(text.as_bytes()).await;
        };
        let mut file = tokio::fs::File::from_std(file);
        if !self.options.are_given() {
            return self.copy(&mut file).await;
        }
        match search(file, &self.options).await? {
            Some(lines) => {
                for line in lines {
                    self.sink.write(&line).await?;
                }
                Ok(())
            }
            None => self.refuse_options(&[service]).await,
        }
    }
}

/// Nothing here is read by a shell.
fn journal_arguments(options: &Options, services: &[&String]) -> Vec<String> {
    let mut list = ["--utc", "--no-pager", "--output=short-precise"].map(str::to_owned).to_vec();
    let time = |it: Timestamp| it.strftime("%Y-%-m-%-d %H:%-M:%-S").to_string();
    list.extend(options.since.map(|it| format!("--since={}", time(it))));
    list.extend(options.until.map(|it| format!("--until={}", time(it))));
    if let Some(lines) = options.tail_lines {
        list.extend(["--pager-end".to_owned(), format!("--lines={lines}")]);
    }
    list.extend(services.iter().map(|it| format!("--unit={it}")));
    list.extend(options.pattern.as_ref().map(|it| format!("--grep={it}")));
    if let Some(boot) = options.boot {
        list.extend(["--boot".to_owned(), boot.to_string()]);
    }
    list
}

/// The lines that are asked for; `None` where times are, and no line tells its own.
async fn search(file: tokio::fs::File, options: &Options) -> io::Result<Option<VecDeque<Vec<u8>>>> {
    let pattern = options.pattern.as_deref().map(Regex::new).transpose();
    let pattern = pattern.map_err(io::Error::other)?;
    let has_times = options.since.is_some() || options.until.is_some();
    let most = options.tail_lines.and_then(|it| usize::try_from(it).ok()).unwrap_or(MOST_LINES);
    let mut lines = BufReader::new(file);
    let (mut kept, mut line) = (VecDeque::new(), Vec::new());
    // A line without a time is its predecessor's.
    let mut last: Option<Timestamp> = None;
    let mut held = 0;
    // What has no end of its line in so many bytes is taken for several.
    while (&mut lines).take(LONGEST_LINE).read_until(b'\n', &mut line).await? > 0 {
        let text = String::from_utf8_lossy(&line);
        last = if has_times { time_of(&text).or(last) } else { None };
        let is_in_time = !has_times
            || last.is_some_and(|at| {
                options.since.is_none_or(|it| it <= at) && options.until.is_none_or(|it| at <= it)
            });
        let fits = pattern.as_ref().is_none_or(|it| it.is_match(text.trim_end_matches('\n')));
        if is_in_time && fits {
            held += line.len();
            kept.push_back(std::mem::take(&mut line));
            while kept.len() > most || held > MOST_BYTES {
                held -= kept.pop_front().map_or(0, |it| it.len());
            }
        }
        line.clear();
    }
    Ok((!has_times || last.is_some()).then_some(kept))
}

/// `2026-11-29T01:02:03Z …` or `time="2026-11-29T01:02:03Z" …`.
fn time_of(line: &str) -> Option<Timestamp> {
    let first = line.split_whitespace().next()?;
    let quoted = first.strip_prefix("time=");
    quoted.unwrap_or(first).trim_matches('"').parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_journal_is_asked_as_upstream_asks_it() {
        let options = Options {
            since: Some("2026-01-02T03:04:05Z".parse().unwrap()),
            until: Some("2026-01-02T13:14:15+01:00".parse().unwrap()),
            tail_lines: Some(10),
            boot: Some(-1),
            pattern: Some("a b".to_owned()),
        };
        let services = ["kubelet".to_owned(), "containerd".to_owned()];
        assert_eq!(
            journal_arguments(&options, &services.iter().collect::<Vec<_>>()),
            [
                "--utc",
                "--no-pager",
                "--output=short-precise",
                "--since=2026-1-2 03:4:5",
                "--until=2026-1-2 12:14:15",
                "--pager-end",
                "--lines=10",
                "--unit=kubelet",
                "--unit=containerd",
                "--grep=a b",
                "--boot",
                "-1",
            ]
        );
        assert_eq!(journal_arguments(&Options::default(), &[]).len(), 3);
    }

    async fn found(text: &str, options: Options) -> Option<String> {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("kubelet.log");
        std::fs::write(&path, text).unwrap();
        let file = tokio::fs::File::open(&path).await.unwrap();
        let lines = search(file, &options).await.unwrap()?;
        Some(String::from_utf8(lines.into_iter().flatten().collect()).unwrap())
    }

    #[tokio::test]
    async fn a_services_file_is_searched_for_the_last_lines_of_a_pattern() {
        let text = "one a\ntwo\nthree a\nfour a";
        let of = |tail_lines, pattern: Option<&str>| {
            let pattern = pattern.map(str::to_owned);
            found(text, Options { tail_lines, pattern, ..Options::default() })
        };
        assert_eq!(of(Some(2), Some("a$")).await.unwrap(), "three a\nfour a");
        assert_eq!(of(Some(0), None).await.unwrap(), "");
        assert_eq!(of(None, Some("^t(wo|h)")).await.unwrap(), "two\nthree a\n");
    }

    #[tokio::test]
    async fn lines_are_told_apart_by_the_times_that_they_begin_with() {
        let text = "2026-01-01T00:00:00.5Z  INFO one\ntime=\"2026-01-02T00:00:00Z\" two\n  of two\n2026-01-03T00:00:00Z three\n";
        let day = |it: &str| Some(format!("2026-01-0{it}T00:00:00Z").parse().unwrap());
        let of = |since, until| found(text, Options { since, until, ..Options::default() });
        assert_eq!(
            of(day("2"), day("2")).await.unwrap(),
            "time=\"2026-01-02T00:00:00Z\" two\n  of two\n"
        );
        assert_eq!(of(day("3"), None).await.unwrap(), "2026-01-03T00:00:00Z three\n");
        let untimed = found("one\ntwo\n", Options { since: day("2"), ..Options::default() });
        assert_eq!(untimed.await, None);
    }
}
