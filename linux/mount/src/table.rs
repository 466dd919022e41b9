//! The mount table, as `/proc/self/mountinfo` tells it.

use std::{
    fs, io,
    path::{Path, PathBuf},
};

use nix::mount::MsFlags;

/// One line of `mountinfo` (proc(5)).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mount {
    /// The part of the file system that is shown: `/` unless it is a bind mount.
    pub root: PathBuf,
    pub target: PathBuf,
    /// Options of this mount: `rw`, `nosuid`, …
    pub options: Vec<String>,
    pub kind: String,
    pub source: String,
    /// Options of the file system, among them the controllers of a cgroup v1 hierarchy.
    pub super_options: Vec<String>,
}

/// All mounts of this mount namespace, in the order in which they were made.
pub fn mounts() -> io::Result<Vec<Mount>> {
    Ok(parse(&fs::read_to_string("/proc/thread-self/mountinfo")?))
}

/// The mounts at and below `folder`.
pub fn mounts_under(folder: &Path) -> io::Result<Vec<Mount>> {
    let mut found = mounts()?;
    found.retain(|mount| mount.target.starts_with(folder));
    Ok(found)
}

/// Reads the text of a `mountinfo` file. Lines that are not understood are left out.
pub fn parse(text: &str) -> Vec<Mount> {
    text.lines().filter_map(line).collect()
}

/// The flags of the topmost mount at `target`, in the form that a remount must repeat.
pub(crate) fn flags_of(target: &Path) -> io::Result<MsFlags> {
    let target = fs::canonicalize(target)?;
    let found = mounts()?.into_iter().rfind(|mount| mount.target == target);
    let mut flags = MsFlags::empty();
    for option in found.map(|mount| mount.options).unwrap_or_default() {
        flags |= match option.as_str() {
            "nosuid" => MsFlags::MS_NOSUID,
            "nodev" => MsFlags::MS_NODEV,
            "noexec" => MsFlags::MS_NOEXEC,
            "noatime" => MsFlags::MS_NOATIME,
            "nodiratime" => MsFlags::MS_NODIRATIME,
            "relatime" => MsFlags::MS_RELATIME,
            _ => MsFlags::empty(),
        };
    }
    Ok(flags)
}

fn line(line: &str) -> Option<Mount> {
    let (left, right) = line.split_once(" - ")?;
    let left: Vec<&str> = left.split(' ').collect();
    let right: Vec<&str> = right.split(' ').collect();
    let list = |text: &str| -> Vec<String> { text.split(',').map(str::to_owned).collect() };
    Some(Mount {
        root: unescape(left.get(3)?).into(),
        target: unescape(left.get(4)?).into(),
        options: list(left.get(5)?),
        kind: (*right.first()?).to_owned(),
        source: unescape(right.get(1)?),
        super_options: list(right.get(2)?).iter().map(|it| unescape(it)).collect(),
    })
}

/// The kernel writes space, tab, newline and backslash as three octal digits.
fn unescape(text: &str) -> String {
    let bytes = text.as_bytes();
    let mut out = Vec::with_capacity(bytes.len());
    let mut at = 0;
    while at < bytes.len() {
        let digits = bytes.get(at + 1..at + 4).and_then(|it| std::str::from_utf8(it).ok());
        let code = digits.and_then(|it| u8::from_str_radix(it, 8).ok());
        match (bytes[at], code) {
            (b'\\', Some(code)) => {
                out.push(code);
                at += 4;
            }
            (byte, _) => {
                out.push(byte);
                at += 1;
            }
        }
    }
    String::from_utf8_lossy(&out).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_with_optional_fields_and_escapes_is_understood() {
        let text = "36 35 98:0 /mnt1 /mnt\\0402 rw,noatime master:1 shared:2 - ext4 /dev/root rw\n";
        let mount = &parse(text)[0];
        assert_eq!(mount.root, Path::new("/mnt1"));
        assert_eq!(mount.target, Path::new("/mnt 2"));
        assert_eq!(mount.options, ["rw", "noatime"]);
        assert_eq!((mount.kind.as_str(), mount.source.as_str()), ("ext4", "/dev/root"));
    }

    #[test]
    fn lines_that_are_not_understood_are_left_out() {
        assert!(parse("nonsense\n1 2 3 - \n").is_empty());
    }
}
