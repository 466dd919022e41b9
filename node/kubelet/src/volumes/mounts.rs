//! Mount points below the kubelet's folder.

use std::{
    fs, io,
    os::unix::fs::MetadataExt,
    path::{Path, PathBuf},
};

use nix::mount::{MntFlags, MsFlags, mount, umount2};

/// Mounts a tmpfs of at most `size` bytes.
pub(super) fn mount_tmpfs(path: &Path, size: Option<i64>) -> io::Result<()> {
    let options = size.map(|it| format!("size={it}"));
    mount(Some("tmpfs"), path, Some("tmpfs"), MsFlags::empty(), options.as_deref())?;
    Ok(())
}

/// Makes `target` show what `source` is.
pub(super) fn bind(source: &Path, target: &Path) -> io::Result<()> {
    let flags = MsFlags::MS_BIND | MsFlags::MS_REC;
    mount(Some(source), target, None::<&str>, flags, None::<&str>)?;
    Ok(())
}

/// Whether something is mounted on a folder: it lies on another device than its parent.
pub(crate) fn is_mount_point(path: &Path) -> bool {
    let device = |path: &Path| fs::metadata(path).ok().map(|it| it.dev());
    let parent = path.parent().and_then(device);
    parent.is_some() && device(path) != parent
}

/// Unmounts everything at and below `folder`, the innermost first.
pub(super) fn unmount_below(folder: &Path) -> io::Result<()> {
    for point in points_below(folder)? {
        umount2(&point, MntFlags::MNT_DETACH | MntFlags::UMOUNT_NOFOLLOW)?;
    }
    // What is still there would be emptied by the removal of the folder.
    match points_below(folder)?.first() {
        None => Ok(()),
        Some(left) => Err(io::Error::other(format!("`{}` is still mounted", left.display()))),
    }
}

fn points_below(folder: &Path) -> io::Result<Vec<PathBuf>> {
    let folder = folder.canonicalize()?;
    let text = fs::read_to_string("/proc/self/mountinfo")?;
    let mut points: Vec<_> = text
        .lines()
        .filter_map(|line| line.split(' ').nth(4))
        .map(unescape)
        .filter(|it| it.starts_with(&folder))
        .collect();
    points.reverse();
    Ok(points)
}

/// Spaces and the like are written as octal numbers.
fn unescape(text: &str) -> PathBuf {
    let mut out = String::new();
    let mut rest = text;
    while let Some(at) = rest.find('\\') {
        out.push_str(&rest[..at]);
        let code = rest.get(at + 1..at + 4).and_then(|it| u8::from_str_radix(it, 8).ok());
        match code {
            Some(code) => {
                out.push(char::from(code));
                rest = &rest[at + 4..];
            }
            None => {
                out.push('\\');
                rest = &rest[at + 1..];
            }
        }
    }
    out.push_str(rest);
    PathBuf::from(out)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_kernels_escapes_are_undone() {
        assert_eq!(unescape(r"/a\040b\134c"), PathBuf::from(r"/a b\c"));
    }
}
