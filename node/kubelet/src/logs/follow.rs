//! Reads a container's log for `kubectl logs`, and follows it.
//!
//! Upstream: `pkg/kubelet/kuberuntime/logs`.

use std::{
    io::{self, Seek, SeekFrom},
    os::unix::fs::MetadataExt,
    path::{Path, PathBuf},
    time::Duration,
};

use bytes::Bytes;
use jiff::Timestamp;
use tokio::{fs::File, io::AsyncReadExt, sync::mpsc::Sender};

use super::{line::Line, open::open_inside, tail};

#[derive(Clone, Debug, Default)]
pub(crate) struct LogOptions {
    pub follow: bool,
    pub tail_lines: Option<usize>,
    pub since: Option<Timestamp>,
    pub timestamps: bool,
    pub limit_bytes: Option<usize>,
    /// `Stdout`, `Stderr`, or both.
    pub stream: Option<&'static str>,
}

/// How often a followed file is looked at: a `stat` each time.
const LOOK: Duration = Duration::from_millis(100);
const BLOCK: usize = 32 * 1024;

/// Sends the log at `path`, which is in `root`, to `out`. A followed log ends when `is_over` says that no more will come,
/// or when nobody reads any more.
pub(crate) async fn stream(
    (root, path): (PathBuf, PathBuf),
    options: LogOptions,
    out: Sender<Bytes>,
    is_over: impl Fn() -> bool + Send,
) -> io::Result<()> {
    let mut reader = Reader::open(&root, &path, options.tail_lines).await?;
    let mut writer = Writer { options, out, sent: 0, in_partial: false };
    loop {
        // Asked before reading: what is written before the end is still read.
        let ends = !writer.options.follow || is_over();
        if !reader.read_all(&mut writer).await? {
            return Ok(());
        }
        // Before the end too: what was written last may be in the new file.
        if writer.options.follow && reader.is_rotated(&path).await {
            // The runtime makes the new file before it lets go of the old one.
            tokio::time::sleep(LOOK).await;
            if !reader.read_all(&mut writer).await? {
                return Ok(());
            }
            reader = Reader::open(&root, &path, None).await?;
            continue;
        }
        if ends || writer.out.is_closed() {
            return Ok(());
        }
        tokio::select! {
            () = tokio::time::sleep(LOOK) => {}
            () = writer.out.closed() => return Ok(()),
        }
    }
}

struct Reader {
    file: File,
    inode: u64,
    rest: Vec<u8>,
}

impl Reader {
    /// Begins at the last lines, or with all of them.
    async fn open(root: &Path, path: &Path, last: Option<usize>) -> io::Result<Self> {
        let (root, path) = (root.to_owned(), path.to_owned());
        let opening = tokio::task::spawn_blocking(move || {
            let mut file = open_inside(&root, &path)?;
            let offset = match last {
                None => 0,
                Some(count) => tail::offset_of_last(&mut file, count)?,
            };
            file.seek(SeekFrom::Start(offset))?;
            let inode = file.metadata()?.ino();
            Ok(Self { file: File::from_std(file), inode, rest: Vec::new() })
        });
        opening.await.map_err(io::Error::other)?
    }

    /// Reads to the end of what there is. Says whether more is wanted.
    async fn read_all(&mut self, writer: &mut Writer) -> io::Result<bool> {
        let mut block = vec![0; BLOCK];
        loop {
            let count = self.file.read(&mut block).await?;
            if count == 0 {
                return Ok(true);
            }
            self.rest.extend_from_slice(&block[..count]);
            let Some(end) = self.rest.iter().rposition(|it| *it == b'\n') else { continue };
            let whole: Vec<u8> = self.rest.drain(..=end).collect();
            if !writer.write(&whole).await {
                return Ok(false);
            }
        }
    }

    /// A rotated log goes on in a new file of the same name.
    async fn is_rotated(&self, path: &Path) -> bool {
        tokio::fs::symlink_metadata(path).await.is_ok_and(|it| it.ino() != self.inode)
    }
}

struct Writer {
    options: LogOptions,
    out: Sender<Bytes>,
    sent: usize,
    in_partial: bool,
}

impl Writer {
    /// Says whether more is wanted.
    async fn write(&mut self, lines: &[u8]) -> bool {
        let mut text = Vec::with_capacity(lines.len());
        for raw in lines.split(|it| *it == b'\n').filter(|it| !it.is_empty()) {
            if let Some(line) = Line::parse(raw) {
                self.add(&line, &mut text);
            }
        }
        let mut is_full = false;
        if let Some(limit) = self.options.limit_bytes
            && self.sent + text.len() >= limit
        {
            text.truncate(limit - self.sent);
            is_full = true;
        }
        self.sent += text.len();
        if text.is_empty() {
            return !is_full;
        }
        self.out.send(Bytes::from(text)).await.is_ok() && !is_full
    }

    fn add(&mut self, line: &Line<'_>, text: &mut Vec<u8>) {
        let is_too_old =
            self.options.since.is_some_and(|since| line.time().is_some_and(|it| it < since));
        let is_other = self.options.stream.is_some_and(|it| it != line.stream);
        if is_too_old || is_other {
            return;
        }
        if self.options.timestamps && !self.in_partial {
            text.extend_from_slice(line.time_text.as_bytes());
            text.push(b' ');
        }
        text.extend_from_slice(line.text);
        self.in_partial = line.is_partial;
        if !line.is_partial {
            text.push(b'\n');
        }
    }
}

#[cfg(test)]
mod tests {
    use std::{
        io::Write,
        sync::{
            Arc,
            atomic::{AtomicBool, Ordering},
        },
    };

    use tokio::sync::mpsc;

    use super::*;

    async fn read(options: LogOptions) -> String {
        let mut file = tempfile::NamedTempFile::new().unwrap();
        for (second, stream, tag, text) in
            [(1, "stdout", "F", "one"), (2, "stderr", "P", "tw"), (2, "stderr", "F", "o")]
        {
            writeln!(file, "2026-11-23T10:00:0{second}Z {stream} {tag} {text}").unwrap();
        }
        let (out, mut chunks) = mpsc::channel(8);
        stream(
            (file.path().parent().unwrap().to_owned(), file.path().to_owned()),
            options,
            out,
            || true,
        )
        .await
        .unwrap();
        let mut all = Vec::new();
        while let Some(chunk) = chunks.recv().await {
            all.extend_from_slice(&chunk);
        }
        String::from_utf8(all).unwrap()
    }

    #[tokio::test]
    async fn options_choose_what_is_read() {
        let options = LogOptions::default();
        assert_eq!(read(options.clone()).await, "one\ntwo\n");
        let since = Some("2026-11-23T10:00:02Z".parse().unwrap());
        assert_eq!(read(LogOptions { since, ..options.clone() }).await, "two\n");
        assert_eq!(read(LogOptions { tail_lines: Some(1), ..options.clone() }).await, "two\n");
        assert_eq!(read(LogOptions { limit_bytes: Some(5), ..options.clone() }).await, "one\nt");
        let timestamps = LogOptions { timestamps: true, ..options };
        assert!(read(timestamps).await.ends_with("\n2026-11-23T10:00:02Z two\n"));
    }

    #[tokio::test(start_paused = true)]
    async fn a_followed_log_goes_on_after_a_rotation_and_ends_with_its_container() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("0.log");
        std::fs::write(&path, "2026-11-23T10:00:00Z stdout F one\n").unwrap();
        let is_over = Arc::new(AtomicBool::new(false));
        let (out, mut chunks) = mpsc::channel(8);
        let options = LogOptions { follow: true, ..LogOptions::default() };
        let flag = is_over.clone();
        let reading = stream((folder.path().to_owned(), path.clone()), options, out, move || {
            flag.load(Ordering::SeqCst)
        });
        let writing = async {
            assert_eq!(chunks.recv().await.unwrap(), "one\n");
            let mut old = std::fs::OpenOptions::new().append(true).open(&path).unwrap();
            std::fs::rename(&path, folder.path().join("old")).unwrap();
            // The runtime writes on until it has opened the new one.
            std::fs::write(&path, "2026-11-23T10:00:01Z stdout F two\n").unwrap();
            tokio::time::sleep(LOOK / 2).await;
            old.write_all(b"2026-11-23T10:00:01Z stdout F late\n").unwrap();
            assert_eq!(chunks.recv().await.unwrap(), "late\n");
            assert_eq!(chunks.recv().await.unwrap(), "two\n");
            is_over.store(true, Ordering::SeqCst);
            assert_eq!(chunks.recv().await, None);
        };
        let (result, ()) = tokio::join!(reading, writing);
        result.unwrap();
    }

    #[tokio::test(start_paused = true)]
    async fn a_log_that_is_rotated_as_its_container_ends_is_read_to_the_end() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("0.log");
        std::fs::write(&path, "2026-11-23T10:00:00Z stdout F one\n").unwrap();
        let (out, mut chunks) = mpsc::channel(8);
        let options = LogOptions { follow: true, ..LogOptions::default() };
        let looks = Arc::new(AtomicBool::new(false));
        let at = path.clone();
        let is_over = move || {
            // The second look: since the first, it was rotated, wrote a line and ended.
            let ends = looks.swap(true, Ordering::SeqCst);
            if ends && !at.with_extension("old").exists() {
                std::fs::rename(&at, at.with_extension("old")).unwrap();
                std::fs::write(&at, "2026-11-23T10:00:01Z stdout F last\n").unwrap();
            }
            ends
        };
        stream((folder.path().to_owned(), path), options, out, is_over).await.unwrap();
        assert_eq!(chunks.recv().await.unwrap(), "one\n");
        assert_eq!(chunks.recv().await.unwrap(), "last\n");
        assert_eq!(chunks.recv().await, None);
    }
}
