//! `/logs/`: the system's logs, as files or by query.
//!
//! Upstream: the `logs` handler in `pkg/kubelet/server/server.go`, `pkg/kubelet/kubelet_server_journal.go`.
//!
//! **Invariant:** nothing outside of the log folder is read, whatever the path says and wherever a link
//! in the folder leads: what pods write there must not open the rest of the disk.
//!
//! Deviation: links that lead out of the folder are refused; upstream follows them. Of a service that
//! writes a file the last lines and a pattern can be asked for too; upstream does that by the journal only.

use std::{
    io,
    path::{Component, Path, PathBuf},
    process::Stdio,
    time::Duration,
};

use http::{HeaderValue, Response, StatusCode, header::CONTENT_TYPE};
use tokio::{io::AsyncReadExt, sync::mpsc};
use tracing::debug;
use transport::Body;

use super::{
    Server,
    log_query::{LogQuery, Target},
    not_found, text,
};

const QUEUE: usize = 8;
const BLOCK: usize = 32 * 1024;
/// As long as upstream lets journalctl run.
const JOURNAL_LIMIT: Duration = Duration::from_secs(30);
const JOURNALCTL: &str = "journalctl";

impl Server {
    pub(super) async fn system_logs(&self, path: &str, query: Option<&str>) -> Response<Body> {
        let rest = path.trim_start_matches('/').strip_prefix("logs").unwrap_or_default();
        let decoded = percent_encoding::percent_decode_str(rest).decode_utf8_lossy().into_owned();
        let mut wanted = decoded.trim_start_matches('/').to_owned();
        if self.context.settings.config.enable_system_log_query {
            match LogQuery::parse(query) {
                Err(error) => return text(error.status, error.message),
                Ok(None) => {}
                Ok(Some(_)) if !wanted.is_empty() => {
                    let message = "path not allowed in query mode\n";
                    return text(StatusCode::NOT_ACCEPTABLE, message);
                }
                Ok(Some(query)) => match query.target.clone() {
                    Target::Services(services) => return self.services(&services, &query).await,
                    Target::File(file) => wanted = file.trim_start_matches('/').to_owned(),
                },
            }
        }
        self.log_file(&wanted).await
    }

    async fn log_file(&self, wanted: &str) -> Response<Body> {
        let root = &self.context.settings.system_logs;
        let path = match inside(root, wanted) {
            Ok(path) => path,
            Err(Refused::Invalid) => return text(StatusCode::BAD_REQUEST, "invalid URL path\n"),
            Err(Refused::Outside | Refused::Missing) => return not_found(),
        };
        if path.is_dir() {
            return listing(&path);
        }
        self.send(&path).await
    }

    async fn send(&self, path: &Path) -> Response<Body> {
        let Ok(mut file) = tokio::fs::File::open(path).await else { return not_found() };
        let (out, chunks) = mpsc::channel(QUEUE);
        let reading = async move {
            let mut block = vec![0; BLOCK];
            loop {
                match file.read(&mut block).await {
                    Ok(0) => return,
                    Ok(count) => {
                        let chunk = bytes::Bytes::copy_from_slice(&block[..count]);
                        if out.send(chunk).await.is_err() {
                            return;
                        }
                    }
                    Err(error) => {
                        debug!(%error, "a log was not read to its end");
                        return;
                    }
                }
            }
        };
        drop(self.context.scope.spawn("system-log", reading));
        let mut response = Response::new(transport::stream(chunks));
        let plain = HeaderValue::from_static("text/plain; charset=utf-8");
        response.headers_mut().insert(CONTENT_TYPE, plain);
        response
    }

    /// From the journal where there is one, else from files of the service's name.
    async fn services(&self, services: &[String], query: &LogQuery) -> Response<Body> {
        match journal(services, query).await {
            Ok(output) => return text(StatusCode::OK, output),
            Err(error) => debug!(%error, "the journal was not asked"),
        }
        let root = &self.context.settings.system_logs;
        let mut all = String::new();
        for service in services {
            let names =
                [service.clone(), format!("{service}.log"), format!("{service}/{service}.log")];
            let mut paths = names.iter().filter_map(|it| inside(root, it).ok());
            match paths.find(|it| it.is_file()) {
                Some(path) => match query.filtered(&path).await {
                    Ok(output) => all.push_str(&output),
                    Err(error) => return text(StatusCode::BAD_REQUEST, format!("{error}\n")),
                },
                None => all.push_str(&format!("\nlog not found for {service}\n")),
            }
        }
        text(StatusCode::OK, all)
    }
}

/// Why a path is not served.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Refused {
    Invalid,
    Outside,
    Missing,
}

/// The file of a path, links resolved, if it is in the folder.
fn inside(root: &Path, wanted: &str) -> Result<PathBuf, Refused> {
    let relative = Path::new(wanted);
    let is_plain = |it: Component<'_>| matches!(it, Component::Normal(_) | Component::CurDir);
    if wanted.contains('\0') || !relative.components().all(is_plain) {
        return Err(Refused::Invalid);
    }
    let root = root.canonicalize().map_err(|_| Refused::Missing)?;
    let path = root.join(relative).canonicalize().map_err(|_| Refused::Missing)?;
    if path.starts_with(&root) { Ok(path) } else { Err(Refused::Outside) }
}

/// A folder as upstream's file server shows it.
fn listing(path: &Path) -> Response<Body> {
    let mut names: Vec<String> = std::fs::read_dir(path)
        .into_iter()
        .flatten()
        .flatten()
        .map(|it| {
            let slash = if it.path().is_dir() { "/" } else { "" };
            format!("{}{slash}", it.file_name().to_string_lossy())
        })
        .collect();
    names.sort();
    let mut page =
        "<!doctype html>\n<meta name=\"viewport\" content=\"width=device-width\">\n<pre>\n"
            .to_owned();
    for name in names {
        let shown = name.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;");
        let shown = shown.replace('"', "&#34;");
        page.push_str(&format!("<a href=\"{shown}\">{shown}</a>\n"));
    }
    page.push_str("</pre>\n");
    let mut response = text(StatusCode::OK, page);
    let html = HeaderValue::from_static("text/html; charset=utf-8");
    response.headers_mut().insert(CONTENT_TYPE, html);
    response
}

async fn journal(services: &[String], query: &LogQuery) -> io::Result<String> {
    let mut command = tokio::process::Command::new(JOURNALCTL);
    command.args(query.journal_arguments()).stdin(Stdio::null()).kill_on_drop(true);
    for service in services {
        command.arg(format!("--unit={service}"));
    }
    let late = |_| io::Error::from(io::ErrorKind::TimedOut);
    let output = tokio::time::timeout(JOURNAL_LIMIT, command.output()).await.map_err(late)??;
    if !output.status.success() {
        return Err(io::Error::other(String::from_utf8_lossy(&output.stderr).into_owned()));
    }
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    // A service that the journal does not know may have a file.
    if text.trim().is_empty() || text.starts_with("-- No entries --") {
        return Err(io::ErrorKind::NotFound.into());
    }
    Ok(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_outside_of_the_folder_is_read() {
        let folder = tempfile::tempdir().unwrap();
        let root = folder.path().join("log");
        std::fs::create_dir_all(root.join("pods")).unwrap();
        std::fs::write(folder.path().join("secret"), "x").unwrap();
        std::fs::write(root.join("a.log"), "x").unwrap();
        let link = |to: &str, from: &str| std::os::unix::fs::symlink(to, root.join(from)).unwrap();
        link("../secret", "out");
        link("/etc/passwd", "pods/out");
        link("a.log", "in");
        assert!(inside(&root, "a.log").is_ok() && inside(&root, "in").is_ok());
        assert!(inside(&root, "").is_ok() && inside(&root, "pods/./").is_ok());
        assert_eq!(inside(&root, "../secret"), Err(Refused::Invalid));
        assert_eq!(inside(&root, "pods/../../secret"), Err(Refused::Invalid));
        assert_eq!(inside(&root, "/etc/passwd"), Err(Refused::Invalid));
        assert_eq!(inside(&root, "out"), Err(Refused::Outside));
        assert_eq!(inside(&root, "pods/out"), Err(Refused::Outside));
        assert_eq!(inside(&root, "nothing"), Err(Refused::Missing));
        assert_eq!(inside(&root, "a\0b"), Err(Refused::Invalid));
    }
}
