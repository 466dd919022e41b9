//! Files that are replaced as a whole: whoever reads one sees what was there or what is there now.

use std::{fs, io, path::Path};

/// Puts what `fill` writes in place of the file, whose folder is made where it is missing. Where that
/// fails, what was there stays.
pub(crate) fn replace(path: &Path, fill: impl FnOnce(&Path) -> io::Result<()>) -> io::Result<()> {
    let name = path.file_name().ok_or(io::ErrorKind::InvalidFilename)?;
    let folder = path.parent().unwrap_or(Path::new("."));
    fs::create_dir_all(folder)?;
    // Runtimes read what ends in `.conflist`: what is beside it must not.
    let beside = folder.join(format!(".{}.new", name.to_string_lossy()));
    let done = fill(&beside).and_then(|()| fs::rename(&beside, path));
    if done.is_err() {
        drop(fs::remove_file(&beside));
    }
    done
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_is_the_new_one_or_the_old_one_and_nothing_is_left_beside_it() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a/10-aws.conflist");
        replace(&path, |beside| fs::write(beside, "one")).unwrap();
        let failed = replace(&path, |beside| {
            fs::write(beside, "hal")?;
            Err(io::ErrorKind::StorageFull.into())
        });
        assert_eq!(failed.unwrap_err().kind(), io::ErrorKind::StorageFull);
        assert_eq!(fs::read_to_string(&path).unwrap(), "one");
        replace(&path, |beside| fs::write(beside, "two")).unwrap();
        assert_eq!(fs::read_to_string(&path).unwrap(), "two");
        assert_eq!(fs::read_dir(folder.path().join("a")).unwrap().count(), 1);
    }
}
