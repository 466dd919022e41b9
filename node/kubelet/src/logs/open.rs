//! Opens logs in folders that others may write to.
//!
//! A pod may have the host's log folder mounted. What it puts there, at whatever moment, must neither
//! open the rest of the disk to who reads logs nor keep the reader waiting.
//!
//! **Invariant:** what is returned is a regular file or a folder, and lies in the root. It is the opened
//! file that is asked where it is, not a path that may lead elsewhere the next time.

use std::{
    fs::{self, File, OpenOptions},
    io,
    os::{fd::AsRawFd, unix::fs::OpenOptionsExt},
    path::{Path, PathBuf},
};

use nix::fcntl::OFlag;

/// Links are followed as long as they lead to something in the root.
pub(crate) fn open_inside(root: &Path, path: &Path) -> io::Result<File> {
    // A pipe that nobody writes to would be waited for.
    let flags = OFlag::O_NONBLOCK | OFlag::O_NOCTTY;
    let file = OpenOptions::new().read(true).custom_flags(flags.bits()).open(path)?;
    let kind = file.metadata()?.file_type();
    if !kind.is_file() && !kind.is_dir() {
        return Err(io::Error::new(io::ErrorKind::InvalidInput, "not a regular file"));
    }
    if !fs::read_link(itself(&file))?.starts_with(root.canonicalize()?) {
        return Err(io::Error::new(io::ErrorKind::PermissionDenied, "outside of the log folder"));
    }
    Ok(file)
}

/// The path that leads to an open file or folder and to no other.
pub(crate) fn itself(file: &File) -> PathBuf {
    PathBuf::from(format!("/proc/self/fd/{}", file.as_raw_fd()))
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use super::*;

    #[test]
    fn only_plain_files_and_folders_of_the_root_are_opened() {
        let folder = tempfile::tempdir().unwrap();
        let at = |name: &str| folder.path().join(name);
        fs::create_dir_all(at("log/pods")).unwrap();
        fs::write(at("secret"), "x").unwrap();
        fs::write(at("log/pods/0.log"), "x").unwrap();
        symlink(at("secret"), at("log/out")).unwrap();
        symlink("..", at("log/pods/up")).unwrap();
        symlink("../..", at("log/pods/far")).unwrap();
        symlink(at("log"), at("linked")).unwrap();
        nix::unistd::mkfifo(&at("log/pipe"), nix::sys::stat::Mode::S_IRWXU).unwrap();
        let kind =
            |root: &str, name: &str| open_inside(&at(root), &at(name)).map_err(|it| it.kind());
        assert!(kind("log", "log/pods/0.log").is_ok() && kind("log", "log/pods").is_ok());
        assert!(kind("log", "log/pods/up/pods/0.log").is_ok(), "it leads to the root");
        assert!(kind("linked", "linked/pods/0.log").is_ok(), "the root itself is a link");
        assert_eq!(kind("log", "log/out").unwrap_err(), io::ErrorKind::PermissionDenied);
        let far = kind("log", "log/pods/far/secret");
        assert_eq!(far.unwrap_err(), io::ErrorKind::PermissionDenied);
        assert_eq!(kind("log", "log/pipe").unwrap_err(), io::ErrorKind::InvalidInput);
        assert_eq!(kind("log", "log/none").unwrap_err(), io::ErrorKind::NotFound);
        assert_eq!(kind("log", "/dev/null").unwrap_err(), io::ErrorKind::InvalidInput);
    }
}
