//! Debian packages, fetched once with the distribution's own client.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context, ensure};

/// The `.deb` of `package`, from `cache` or from the distribution.
pub(crate) fn fetch(package: &str, cache: &Path) -> anyhow::Result<PathBuf> {
    if let Some(found) = cached(package, cache)? {
        return Ok(found);
    }
    let output = Command::new("apt-get")
        .args(["download", "-q", package])
        .current_dir(cache)
        .output()
        .context("failed to run `apt-get`")?;
    ensure!(
        output.status.success(),
        "`apt-get download {package}` failed (try `apt-get update`): {}",
        String::from_utf8_lossy(&output.stderr)
    );
    cached(package, cache)?.with_context(|| format!("apt-get left no file for `{package}`"))
}

fn cached(package: &str, cache: &Path) -> anyhow::Result<Option<PathBuf>> {
    let prefix = format!("{package}_");
    for entry in fs::read_dir(cache)? {
        let path = entry?.path();
        let name = path.file_name().and_then(|it| it.to_str()).unwrap_or_default();
        if name.starts_with(&prefix) && name.ends_with(".deb") {
            return Ok(Some(path));
        }
    }
    Ok(None)
}
