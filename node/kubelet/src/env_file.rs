//! Files of variables that an init container leaves for the others (`fileKeyRef`).
//!
//! A line is `NAME='value'`; a value may go on over lines, and holds everything literally up to its
//! closing quote. Empty lines and those that begin with `#` say nothing.
//!
//! Upstream: `pkg/kubelet/util/env` (KEP-3721).
//!
//! **Invariant:** a file outside of its volume is never read, whatever links lead to it.

use std::{
    collections::BTreeMap,
    fs::File,
    io::{self, Read},
    os::fd::OwnedFd,
    path::Path,
};

use nix::{
    errno::Errno,
    fcntl::{OFlag, OpenHow, ResolveFlag, open, openat2},
    sys::stat::Mode,
};

/// Upstream's bound of a whole file.
const MOST: u64 = 64 * 1024;

#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum ReadEnvFileError {
    #[error("open {path}: {message}")]
    Open { path: String, message: String },
    #[error("{path} leads out of its volume")]
    Outside { path: String },
    #[error("{path} is no regular file")]
    NoFile { path: String },
    #[error("{path} is longer than {MOST} bytes")]
    TooLong { path: String },
    #[error("invalid environment variable format at line {line}")]
    Syntax { line: usize },
}

pub(crate) type Variables = BTreeMap<String, String>;

/// Reads the file at `path` in the volume at `volume`. Containers may write there at the same time:
/// what is opened is what is read, and nothing is waited for.
pub(crate) fn read(volume: &Path, path: &str) -> Result<Variables, ReadEnvFileError> {
    let failed = |error: io::Error| {
        let message = match error.kind() {
            io::ErrorKind::NotFound => "no such file or directory".to_owned(),
            _ => error.to_string(),
        };
        ReadEnvFileError::Open { path: path.to_owned(), message }
    };
    let file = match open_beneath(volume, path.trim_start_matches('/')) {
        Err(Errno::EXDEV) => return Err(ReadEnvFileError::Outside { path: path.to_owned() }),
        opened => File::from(opened.map_err(|it| failed(it.into()))?),
    };
    if !file.metadata().map_err(failed)?.is_file() {
        return Err(ReadEnvFileError::NoFile { path: path.to_owned() });
    }
    let mut text = String::new();
    file.take(MOST + 1).read_to_string(&mut text).map_err(failed)?;
    if u64::try_from(text.len()).is_ok_and(|it| it > MOST) {
        return Err(ReadEnvFileError::TooLong { path: path.to_owned() });
    }
    parse(&text)
}

fn open_beneath(volume: &Path, path: &str) -> Result<OwnedFd, Errno> {
    let root = open(volume, OFlag::O_PATH | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC, Mode::empty())?;
    let how = OpenHow::new()
        // A pipe without a writer would be waited for otherwise.
        .flags(OFlag::O_RDONLY | OFlag::O_NONBLOCK | OFlag::O_NOCTTY | OFlag::O_CLOEXEC)
        .resolve(ResolveFlag::RESOLVE_BENEATH | ResolveFlag::RESOLVE_NO_MAGICLINKS);
    openat2(root, path, how)
}

fn parse(text: &str) -> Result<Variables, ReadEnvFileError> {
    let mut variables = Variables::new();
    let (mut rest, mut line) = (text, 1);
    while !rest.is_empty() {
        let (first, after) = rest.split_once('\n').unwrap_or((rest, ""));
        let trimmed = first.trim();
        if trimmed.is_empty() || trimmed.starts_with('#') {
            (rest, line) = (after, line + 1);
            continue;
        }
        let syntax = ReadEnvFileError::Syntax { line };
        let (name, value) = rest.split_once("='").ok_or(syntax.clone())?;
        let name = name.trim();
        let is_name =
            !name.is_empty() && name.chars().all(|it| matches!(it, ' '..='~') && it != '=');
        let (value, tail) = value.split_once('\'').ok_or(syntax.clone())?;
        let (after, next) = tail.split_once('\n').unwrap_or((tail, ""));
        let is_end = after.trim().is_empty() || after.trim_start().starts_with('#');
        if !is_name || !is_end {
            return Err(syntax);
        }
        variables.insert(name.to_owned(), value.to_owned());
        line += value.matches('\n').count() + 1;
        rest = next;
    }
    Ok(variables)
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    #[test]
    fn values_are_literal_and_may_go_on_over_lines() {
        let text = "# made by init\n\nA='1 $x'\nB='two\nlines' # why\n  C=''\n";
        let read = parse(text).unwrap();
        assert_eq!(read["A"], "1 $x");
        assert_eq!(read["B"], "two\nlines");
        assert_eq!(read["C"], "");
    }

    #[test]
    fn a_wrong_line_is_named() {
        for (text, line) in [("A=1\n", 1), ("A='1'\nB='2' x\n", 2), ("A='a\nb'\n='3'\n", 3)] {
            assert_eq!(parse(text), Err(ReadEnvFileError::Syntax { line }), "{text}");
        }
    }

    #[test]
    fn a_link_out_of_the_volume_is_not_followed() {
        let folder = tempfile::tempdir().unwrap();
        let (volume, secret) = (folder.path().join("v"), folder.path().join("secret"));
        fs::create_dir(&volume).unwrap();
        fs::write(&secret, "A='1'\n").unwrap();
        std::os::unix::fs::symlink(&secret, volume.join("env")).unwrap();
        assert!(matches!(read(&volume, "env"), Err(ReadEnvFileError::Outside { .. })));
        assert!(matches!(read(&volume, "../secret"), Err(ReadEnvFileError::Outside { .. })));
        fs::write(volume.join("own"), "A='1'\n").unwrap();
        assert_eq!(read(&volume, "own").unwrap()["A"], "1");
    }

    #[test]
    fn a_pipe_is_refused_and_not_waited_for() {
        let folder = tempfile::tempdir().unwrap();
        nix::unistd::mkfifo(&folder.path().join("env"), Mode::S_IRWXU).unwrap();
        let (told, answer) = std::sync::mpsc::channel();
        let volume = folder.path().to_owned();
        std::thread::spawn(move || told.send(read(&volume, "env")));
        let answer = answer.recv_timeout(std::time::Duration::from_secs(10));
        let answer = answer.expect("a pipe without a writer is waited for");
        assert!(matches!(answer, Err(ReadEnvFileError::NoFile { .. })), "{answer:?}");
        assert!(matches!(read(folder.path(), "."), Err(ReadEnvFileError::NoFile { .. })));
    }
}
