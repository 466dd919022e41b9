//! `/logs/`: the system's logs, as files or by query.
//!
//! Upstream: the `logs` handler in `pkg/kubelet/server/server.go`, `pkg/kubelet/kubelet.go`.
//!
//! **Invariant:** nothing outside of the log folder is read, whatever the path says and wherever a link
//! in the folder leads: what pods write there must not open the rest of the disk.
//!
//! Deviation: links that lead out of the folder are refused; upstream follows them.

use std::path::{Component, Path};

use http::{HeaderValue, Request, Response, StatusCode, header::CONTENT_TYPE};
use tokio::{fs::File, io::AsyncReadExt, sync::mpsc};
use tracing::debug;
use transport::Body;

use super::{
    Server,
    log_query::{LogQuery, Target},
    not_found, text,
};
use crate::logs;

const QUEUE: usize = 8;
const BLOCK: usize = 32 * 1024;

impl Server {
    pub(super) async fn system_logs<B>(&self, request: &Request<B>) -> Response<Body> {
        let path = request.uri().path();
        let rest = path.trim_start_matches('/').strip_prefix("logs").unwrap_or_default();
        let decoded = percent_encoding::percent_decode_str(rest).decode_utf8_lossy().into_owned();
        let mut wanted = decoded.trim_start_matches('/').to_owned();
        if self.context.settings.config.enable_system_log_query {
            match LogQuery::parse(request.uri().query()) {
                Err(error) => return text(error.status, error.message),
                Ok(None) => {}
                Ok(Some(_)) if !wanted.is_empty() => {
                    let message = "path not allowed in query mode\n";
                    return text(StatusCode::NOT_ACCEPTABLE, message);
                }
                Ok(Some(query)) => match query.check(|file| self.stat(file)) {
                    Err(error) => return text(error.status, error.message),
                    Ok(Target::Services(services)) => {
                        return self.service_logs(services, query.options, request.headers());
                    }
                    Ok(Target::File(file)) => wanted = file.trim_start_matches('/').to_owned(),
                },
            }
        }
        self.log_file(&wanted).await
    }

    /// Says as upstream that a file is not there; what is not to be read is not there either.
    fn stat(&self, file: &str) -> Result<(), String> {
        let root = &self.context.settings.system_logs;
        let wanted = file.trim_start_matches('/');
        let missing = format!("stat {}: no such file or directory", root.join(wanted).display());
        open(root, wanted).map(drop).map_err(|_| missing)
    }

    async fn log_file(&self, wanted: &str) -> Response<Body> {
        let root = &self.context.settings.system_logs;
        let file = match open(root, wanted) {
            Ok(file) => file,
            Err(Refused::Invalid) => return text(StatusCode::BAD_REQUEST, "invalid URL path\n"),
            Err(Refused::Missing) => return not_found(),
        };
        match file.metadata() {
            Ok(it) if it.is_dir() => listing(&file),
            _ => self.send(File::from_std(file)),
        }
    }

    fn send(&self, mut file: File) -> Response<Body> {
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
}

/// Why a path is not served.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Refused {
    Invalid,
    /// Or elsewhere, or nothing that can be read.
    Missing,
}

/// The file or folder of a path, if it is in the folder.
pub(super) fn open(root: &Path, wanted: &str) -> Result<std::fs::File, Refused> {
    let relative = Path::new(wanted);
    let is_plain = |it: Component<'_>| matches!(it, Component::Normal(_) | Component::CurDir);
    if wanted.contains('\0') || !relative.components().all(is_plain) {
        return Err(Refused::Invalid);
    }
    logs::open_inside(root, &root.join(relative)).map_err(|_| Refused::Missing)
}

/// A folder as upstream's file server shows it.
fn listing(folder: &std::fs::File) -> Response<Body> {
    let mut names: Vec<String> = std::fs::read_dir(logs::itself(folder))
        .into_iter()
        .flatten()
        .flatten()
        .map(|it| {
            let is_folder = it.file_type().is_ok_and(|it| it.is_dir());
            let slash = if is_folder { "/" } else { "" };
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
        for served in ["a.log", "in", "", "pods/./"] {
            assert!(open(&root, served).is_ok(), "{served}");
        }
        for wrong in ["../secret", "pods/../../secret", "/etc/passwd", "a\0b"] {
            assert_eq!(open(&root, wrong).unwrap_err(), Refused::Invalid, "{wrong}");
        }
        for hidden in ["out", "pods/out", "nothing"] {
            assert_eq!(open(&root, hidden).unwrap_err(), Refused::Missing, "{hidden}");
        }
    }
}
