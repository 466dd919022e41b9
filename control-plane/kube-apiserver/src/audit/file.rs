//! The file that events are written to, a line each.
//!
//! A file that is full is put aside under the time's name; of those, a number is kept.
//!
//! Upstream: the log backend of k8s.io/apiserver/plugin/pkg/audit/log.

use std::{
    fs::{self, File},
    io::{self, Write},
    os::unix::fs::OpenOptionsExt,
    path::{Path, PathBuf},
};

/// What a file that is put aside is called after.
const TIME: &str = "%Y-%m-%dT%H-%M-%S%.3f";

/// How large and how many.
#[derive(Clone, Copy, Debug)]
pub struct Rotation {
    pub bytes: u64,
    /// Zero: all of them.
    pub backups: usize,
}

#[derive(Debug)]
pub(super) struct LogFile {
    path: PathBuf,
    rotation: Rotation,
    file: File,
    written: u64,
}

impl LogFile {
    pub(super) fn open(path: &Path, rotation: Rotation) -> io::Result<Self> {
        let file = append(path)?;
        let written = file.metadata()?.len();
        Ok(Self { path: path.to_owned(), rotation, file, written })
    }

    pub(super) fn write(&mut self, line: &[u8], now: jiff::Timestamp) -> io::Result<()> {
        let length = line.len() as u64;
        if self.written > 0 && self.written + length > self.rotation.bytes {
            // The event is not to be lost for that: it makes the file larger than it should be.
            if let Err(error) = self.rotate(now) {
                tracing::error!(%error, "the audit log could not be put aside");
            }
        }
        if let Err(error) = self.file.write_all(line) {
            // Half a line would spoil the next one, too.
            drop(self.file.set_len(self.written));
            return Err(error);
        }
        self.written += length;
        Ok(())
    }

    /// `audit.log` becomes `audit-2026-01-01T00-00-00.000.log`.
    fn rotate(&mut self, now: jiff::Timestamp) -> io::Result<()> {
        let time = now.strftime(TIME);
        let (stem, end) = self.parts();
        match fs::rename(&self.path, self.path.with_file_name(format!("{stem}-{time}{end}"))) {
            // Somebody else has put it aside.
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            done => done?,
        }
        self.file = append(&self.path)?;
        self.written = 0;
        let mut old = self.backups()?;
        old.sort();
        let surplus = match self.rotation.backups {
            0 => 0,
            most => old.len().saturating_sub(most),
        };
        old.iter().take(surplus).try_for_each(fs::remove_file)
    }

    /// The name without and with only its extension.
    fn parts(&self) -> (String, String) {
        let text = |it: Option<&std::ffi::OsStr>| {
            it.map(|it| it.to_string_lossy().into_owned()).unwrap_or_default()
        };
        let end = text(self.path.extension());
        let end = if end.is_empty() { end } else { format!(".{end}") };
        (text(self.path.file_stem()), end)
    }

    fn backups(&self) -> io::Result<Vec<PathBuf>> {
        let (stem, end) = self.parts();
        let prefix = format!("{stem}-");
        let folder = self.path.parent().filter(|it| !it.as_os_str().is_empty());
        let mut found = Vec::new();
        for entry in fs::read_dir(folder.unwrap_or(Path::new(".")))? {
            let entry = entry?;
            let name = entry.file_name().to_string_lossy().into_owned();
            let time = name.strip_prefix(&prefix).and_then(|it| it.strip_suffix(&end));
            if time.is_some_and(|it| jiff::civil::DateTime::strptime(TIME, it).is_ok()) {
                found.push(entry.path());
            }
        }
        Ok(found)
    }
}

/// What is written may hold secrets: it is the owner's alone.
fn append(path: &Path) -> io::Result<File> {
    File::options().create(true).append(true).mode(0o600).open(path)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_that_is_gone_is_made_anew_and_others_of_a_like_name_stay() {
        let folder = tempfile::tempdir().unwrap();
        let (path, other) = (folder.path().join("audit.log"), folder.path().join("audit-web.log"));
        fs::write(&other, "kept").unwrap();
        let mut file = LogFile::open(&path, Rotation { bytes: 4, backups: 1 }).unwrap();
        file.write(b"abc\n", jiff::Timestamp::UNIX_EPOCH).unwrap();
        fs::remove_file(&path).unwrap();
        for second in 1..4 {
            file.write(b"def\n", jiff::Timestamp::new(second, 0).unwrap()).unwrap();
        }
        assert_eq!(fs::read_to_string(&path).unwrap(), "def\n");
        assert_eq!(fs::read_to_string(&other).unwrap(), "kept");
    }

    #[test]
    fn a_full_file_is_put_aside_and_the_oldest_go() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("audit.log");
        let mut file = LogFile::open(&path, Rotation { bytes: 4, backups: 1 }).unwrap();
        for second in 0..3 {
            file.write(b"abc\n", jiff::Timestamp::new(second, 0).unwrap()).unwrap();
        }
        let mut names: Vec<_> = fs::read_dir(folder.path())
            .unwrap()
            .map(|it| it.unwrap().file_name().into_string().unwrap())
            .collect();
        names.sort();
        assert_eq!(names, ["audit-1970-01-01T00-00-02.000.log", "audit.log"]);
        drop(file);
        let mut again = LogFile::open(&path, Rotation { bytes: 100, backups: 1 }).unwrap();
        again.write(b"def\n", jiff::Timestamp::UNIX_EPOCH).unwrap();
        assert_eq!(fs::read_to_string(&path).unwrap(), "abc\ndef\n");
    }
}
