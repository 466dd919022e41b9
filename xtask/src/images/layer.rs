//! The files of Debian packages as one image layer, without documentation.

use std::{
    io::Read,
    path::Path,
    process::{Command, Stdio},
};

use anyhow::{Context, ensure};
use oci_archive::Layer;
use tar::EntryType;

const SKIPPED: [&str; 7] = [
    "usr/share/doc",
    "usr/share/man",
    "usr/share/locale",
    "usr/share/lintian",
    "usr/share/info",
    "usr/lib/systemd",
    "etc/init.d",
];

/// Documentation, and libc's tables of encodings, which are two thirds of it.
fn is_left_out(path: &str) -> bool {
    let is_encoding = path.starts_with("usr/lib/") && path.split('/').nth(3) == Some("gconv");
    path.is_empty() || is_encoding || SKIPPED.iter().any(|it| path.starts_with(it))
}

/// A layer that packages are added to.
pub(crate) struct Packages {
    pub(crate) layer: Layer,
    busybox: Option<Vec<u8>>,
}

impl Packages {
    pub(crate) fn new() -> anyhow::Result<Self> {
        Ok(Self { layer: Layer::new()?, busybox: None })
    }

    /// Adds the files of a `.deb`.
    pub(crate) fn add(&mut self, deb: &Path) -> anyhow::Result<()> {
        let mut child = Command::new("dpkg-deb")
            .arg("--fsys-tarfile")
            .arg(deb)
            .stdout(Stdio::piped())
            .spawn()
            .context("failed to run `dpkg-deb`")?;
        let stdout = child.stdout.take().context("dpkg-deb has no output")?;
        let mut archive = tar::Archive::new(stdout);
        for entry in archive.entries()? {
            self.add_entry(entry?)?;
        }
        // The end of a tar archive is padding that nobody reads: drain it, or dpkg-deb fails.
        std::io::copy(&mut archive.into_inner(), &mut std::io::sink())?;
        ensure!(child.wait()?.success(), "`{}` is not a package", deb.display());
        Ok(())
    }

    fn add_entry<R: Read>(&mut self, mut entry: tar::Entry<'_, R>) -> anyhow::Result<()> {
        let raw = entry.path()?.display().to_string();
        let path = raw.trim_start_matches("./").trim_end_matches('/').to_owned();
        if is_left_out(&path) {
            return Ok(());
        }
        let mode = entry.header().mode()?;
        match entry.header().entry_type() {
            EntryType::Directory => self.layer.add_folder(&path, mode)?,
            EntryType::Symlink | EntryType::Link => {
                let target = entry.link_name()?.context("a link without a target")?;
                self.layer
                    .add_link(&path, target.display().to_string().trim_start_matches("./"))?;
            }
            _ => {
                let mut content = Vec::new();
                entry.read_to_end(&mut content)?;
                self.layer.add_file(&path, &content, mode)?;
                if path == "bin/busybox" || path == "usr/bin/busybox" {
                    self.busybox = Some(content);
                }
            }
        }
        Ok(())
    }

    /// Links every applet of busybox, but for names that a package already provides.
    pub(crate) fn add_busybox_links(&mut self) -> anyhow::Result<()> {
        let busybox = self.busybox.take().context("the layer holds no busybox")?;
        let folder = tempfile::tempdir()?;
        let file = folder.path().join("busybox");
        std::fs::write(&file, busybox)?;
        let status = Command::new("chmod").arg("755").arg(&file).status()?;
        ensure!(status.success(), "failed to make busybox executable");
        let output = Command::new(&file).arg("--list").output()?;
        for applet in String::from_utf8(output.stdout)?.lines() {
            self.layer.add_link(&format!("usr/bin/{applet}"), "busybox")?;
        }
        Ok(())
    }
}
