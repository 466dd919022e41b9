//! Mount points below the kubelet's folder.

use std::{
    fs, io,
    os::unix::fs::MetadataExt,
    path::{Path, PathBuf},
};

use nix::{
    errno::Errno,
    mount::{MntFlags, MsFlags, mount, umount2},
    sys::statvfs::FsFlags,
};

/// Mounts a tmpfs of at most `size` bytes that is never swapped out, where the kernel can promise it.
pub(super) fn mount_tmpfs(path: &Path, size: Option<i64>) -> io::Result<()> {
    let size = size.map(|it| format!("size={it}"));
    let try_with = |options: &[&str]| {
        let all: Vec<&str> = size.as_deref().into_iter().chain(options.iter().copied()).collect();
        let options = all.join(",");
        mount(Some("tmpfs"), path, Some("tmpfs"), MsFlags::empty(), Some(options.as_str()))
    };
    match try_with(&["noswap"]) {
        // Kernels before 6.4 do not know the option.
        Err(Errno::EINVAL) => Ok(try_with(&[])?),
        result => Ok(result?),
    }
}

/// Whether the kernel promises that.
pub(crate) fn keeps_from_swap(folder: &Path) -> bool {
    let place = folder.join(format!("tmpfs-noswap-test-{}", entropy::hex(8)));
    let tried = fs::create_dir_all(&place).and_then(|()| {
        let options = Some("noswap");
        mount(Some("tmpfs"), &place, Some("tmpfs"), MsFlags::empty(), options)?;
        Ok(umount2(&place, MntFlags::UMOUNT_NOFOLLOW)?)
    });
    drop(fs::remove_dir(&place));
    tried.is_ok()
}

/// Mounts a file system of huge pages of `size` bytes each.
pub(super) fn mount_huge_pages(path: &Path, size: i64) -> io::Result<()> {
    let options = format!("pagesize={size}");
    mount(Some("nodev"), path, Some("hugetlbfs"), MsFlags::empty(), Some(options.as_str()))?;
    Ok(())
}

/// Makes `target` show what `source` is, and everything mounted below it.
pub(super) fn bind(source: &Path, target: &Path) -> io::Result<()> {
    let flags = MsFlags::MS_BIND | MsFlags::MS_REC;
    mount(Some(source), target, None::<&str>, flags, None::<&str>)?;
    Ok(())
}

/// Makes `target` show what `source` is, without what is mounted below it.
pub(crate) fn bind_one(source: &Path, target: &Path) -> io::Result<()> {
    mount(Some(source), target, None::<&str>, MsFlags::MS_BIND, None::<&str>)?;
    Ok(())
}

/// Makes what is mounted at `target` and below it reach whoever has it from here, and theirs reach here.
pub(crate) fn make_shared(target: &Path) -> io::Result<()> {
    mount(None::<&str>, target, None::<&str>, MsFlags::MS_SHARED | MsFlags::MS_REC, None::<&str>)?;
    Ok(())
}

/// Makes the mount at `target` read-only; other mounts of the same file system stay as they are.
pub(super) fn make_read_only(target: &Path) -> io::Result<()> {
    // A remount must keep the flags that the mount has, or a locked one refuses it.
    let kept = nix::sys::statvfs::statvfs(target)?.flags();
    let mut flags = MsFlags::MS_REMOUNT | MsFlags::MS_BIND | MsFlags::MS_RDONLY;
    for (has, flag) in [
        (FsFlags::ST_NOSUID, MsFlags::MS_NOSUID),
        (FsFlags::ST_NODEV, MsFlags::MS_NODEV),
        (FsFlags::ST_NOEXEC, MsFlags::MS_NOEXEC),
        (FsFlags::ST_NOATIME, MsFlags::MS_NOATIME),
        (FsFlags::ST_NODIRATIME, MsFlags::MS_NODIRATIME),
        (FsFlags::ST_RELATIME, MsFlags::MS_RELATIME),
    ] {
        flags.set(flag, kept.contains(has));
    }
    mount(None::<&str>, target, None::<&str>, flags, None::<&str>)?;
    Ok(())
}

/// Whether something is mounted exactly on `path`. A bind mount is, too, which a comparison of
/// devices would miss.
pub(super) fn is_mounted(path: &Path) -> bool {
    // A mount whose server or process is gone cannot be looked at, but it is listed.
    let parent = path.parent().and_then(|it| it.canonicalize().ok());
    let path = parent.zip(path.file_name()).map(|(parent, name)| parent.join(name));
    path.is_some_and(|path| points().is_ok_and(|it| it.contains(&path)))
}

/// Whether a file system of its own is mounted on `path`, as a tmpfs is; of others [`is_mounted`] knows,
/// which reads all that a full node has mounted.
pub(super) fn has_own_device(path: &Path) -> bool {
    let device = |it: &Path| fs::symlink_metadata(it).map(|it| it.dev()).ok();
    let (own, around) = (device(path), path.parent().and_then(device));
    own.zip(around).is_some_and(|(own, around)| own != around)
}

/// Unmounts everything at and below `folder`, the innermost first. What is in use stays, and is an
/// error: whoever uses it would otherwise go on writing to something that is thought to be gone.
pub(super) fn unmount_below(folder: &Path) -> io::Result<()> {
    for point in points_below(folder)? {
        let named = |error: Errno| {
            let error = io::Error::from(error);
            io::Error::new(error.kind(), format!("unmount `{}`: {error}", point.display()))
        };
        umount2(&point, MntFlags::UMOUNT_NOFOLLOW).map_err(named)?;
    }
    // What is still there would be emptied by the removal of the folder.
    match points_below(folder)?.first() {
        None => Ok(()),
        Some(left) => Err(io::Error::other(format!("`{}` is still mounted", left.display()))),
    }
}

fn points_below(folder: &Path) -> io::Result<Vec<PathBuf>> {
    let folder = folder.canonicalize()?;
    let mut points = points()?;
    points.retain(|it| it.starts_with(&folder));
    points.reverse();
    Ok(points)
}

fn points() -> io::Result<Vec<PathBuf>> {
    Ok(table()?.into_iter().map(|it| it.target).collect())
}

/// A mount, as `mountinfo` tells it (proc(5)).
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Mount {
    device: String,
    /// The part of the file system that is shown.
    root: PathBuf,
    pub target: PathBuf,
    pub is_shared: bool,
}

impl Mount {
    /// What of which file system is found at a path below the mount.
    pub(crate) fn shows(&self, path: &Path) -> Option<(&str, PathBuf)> {
        let below = path.strip_prefix(&self.target).ok()?;
        Some((&self.device, self.root.components().chain(below.components()).collect()))
    }
}

/// All mounts, in the order in which they were made.
pub(crate) fn table() -> io::Result<Vec<Mount>> {
    Ok(parse(&fs::read_to_string("/proc/self/mountinfo")?))
}

fn parse(text: &str) -> Vec<Mount> {
    let lines = text.lines().filter_map(|line| {
        let mut fields = line.split(' ').skip(2);
        let mut next = || fields.next();
        let (device, root, target, _options) = (next()?, next()?, next()?, next()?);
        // Optional fields end with a dash.
        let is_shared = fields.take_while(|it| *it != "-").any(|it| it.starts_with("shared:"));
        Some(Mount {
            device: device.to_owned(),
            root: unescape(root),
            target: unescape(target),
            is_shared,
        })
    });
    lines.collect()
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
    fn what_is_in_use_stays_mounted_and_a_bind_is_seen_as_a_mount() {
        if !nix::unistd::geteuid().is_root() {
            return;
        }
        let base = tempfile::tempdir().unwrap();
        let (source, target) = (base.path().join("s"), base.path().join("t"));
        fs::create_dir(&source).unwrap();
        fs::create_dir(&target).unwrap();
        assert!(!is_mounted(&target));
        bind_one(&source, &target).unwrap();
        assert!(is_mounted(&target) && !has_own_device(&target));
        make_read_only(&target).unwrap();
        assert!(fs::write(target.join("x"), "").is_err());
        fs::write(source.join("x"), "").unwrap();
        let held = fs::File::open(target.join("x")).unwrap();
        let error = unmount_below(&target).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::ResourceBusy, "{error}");
        assert!(is_mounted(&target));
        drop(held);
        unmount_below(&target).unwrap();
        assert!(!is_mounted(&target) && source.join("x").exists());
        mount_tmpfs(&target, None).unwrap();
        assert!(is_mounted(&target) && has_own_device(&target));
        unmount_below(&target).unwrap();
        assert!(!has_own_device(&target) && !has_own_device(&target.join("none")));
    }

    #[test]
    fn a_mount_says_what_it_shows_and_whether_it_is_shared() {
        let text = "36 35 98:0 /part /a\\040b rw master:1 shared:2 - ext4 /dev/root rw\n\
                    37 36 98:0 / /a\\040b/c rw - ext4 shared:3 rw\n";
        let mounts = parse(text);
        assert_eq!(mounts.iter().map(|it| it.is_shared).collect::<Vec<_>>(), [true, false]);
        let path = Path::new("/a b/c/d");
        assert_eq!(mounts[0].shows(path), Some(("98:0", "/part/c/d".into())));
        assert_eq!(mounts[1].shows(path), Some(("98:0", "/d".into())));
        assert_eq!(mounts[1].shows(Path::new("/a b")), None);
    }

    #[test]
    fn the_kernels_escapes_are_undone() {
        assert_eq!(unescape(r"/a\040b\134c"), PathBuf::from(r"/a b\c"));
    }
}
