//! Keeps the services' logs from growing without end.
//!
//! A service holds its log open and appends, so the file is copied away and cut instead of being
//! renamed; a line that arrives between the two is lost, which logs may do.

use std::{
    fs::{self, File},
    io,
    path::{Path, PathBuf},
    time::Duration,
};

use tracing::warn;

const LIMIT: u64 = 20 << 20;
const INTERVAL: Duration = Duration::from_secs(60);

/// Looks at `file` now and then. Ends with its scope only.
pub(crate) async fn rotate(file: PathBuf) {
    loop {
        if let Err(error) = rotate_once(&file, LIMIT) {
            warn!(file = %file.display(), %error, "failed to rotate a log");
        }
        tokio::time::sleep(INTERVAL).await;
    }
}

fn rotate_once(file: &Path, limit: u64) -> io::Result<()> {
    match fs::metadata(file) {
        Ok(found) if found.len() > limit => {}
        Ok(_) => return Ok(()),
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(error),
    }
    fs::copy(file, file.with_extension("log.1"))?;
    File::options().write(true).open(file)?.set_len(0)
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use super::*;

    #[test]
    fn a_long_log_is_kept_once_and_its_writer_goes_on() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("x.log");
        let mut writer = File::options().create(true).append(true).open(&file).unwrap();
        writer.write_all(b"0123456789").unwrap();
        rotate_once(&file, 10).unwrap();
        assert_eq!(fs::read(&file).unwrap(), b"0123456789");
        rotate_once(&file, 9).unwrap();
        writer.write_all(b"new").unwrap();
        assert_eq!(fs::read(&file).unwrap(), b"new");
        assert_eq!(fs::read(folder.path().join("x.log.1")).unwrap(), b"0123456789");
    }
}
