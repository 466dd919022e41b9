//! A layer as it grows: files, folders and links, each path once, `/usr` merged as Debian has it.

use std::{collections::BTreeSet, io, sync::Arc};

use tar::{Builder, EntryType, Header};

/// Top-level folders that are links into `/usr`.
const MERGED: [&str; 4] = ["bin", "sbin", "lib", "lib64"];

/// See the module. The first file of a path wins; times and owners are fixed.
pub struct Layer {
    tar: Builder<Vec<u8>>,
    paths: BTreeSet<String>,
}

impl Layer {
    /// A layer with a merged `/usr`.
    pub fn new() -> io::Result<Self> {
        let mut layer = Self { tar: Builder::new(Vec::new()), paths: BTreeSet::new() };
        for name in MERGED {
            layer.add_folder(&format!("usr/{name}"), 0o755)?;
            layer.add_link(name, &format!("usr/{name}"))?;
        }
        Ok(layer)
    }

    pub fn add_file(&mut self, path: &str, data: &[u8], mode: u32) -> io::Result<()> {
        let path = merged(path);
        if !self.claim(&path)? {
            return Ok(());
        }
        let mut header = header(EntryType::Regular, mode);
        header.set_size(data.len() as u64);
        self.tar.append_data(&mut header, path, data)
    }

    pub fn add_folder(&mut self, path: &str, mode: u32) -> io::Result<()> {
        let path = merged(path);
        if path.is_empty() || MERGED.contains(&path.as_str()) || !self.claim(&path)? {
            return Ok(());
        }
        let mut header = header(EntryType::Directory, mode);
        self.tar.append_data(&mut header, format!("{path}/"), io::empty())
    }

    pub fn add_link(&mut self, path: &str, target: &str) -> io::Result<()> {
        let path = merged(path);
        if !self.claim(&path)? {
            return Ok(());
        }
        self.tar.append_link(&mut header(EntryType::Symlink, 0o777), path, target)
    }

    /// Whether `path` is new; its parent folders are made.
    fn claim(&mut self, path: &str) -> io::Result<bool> {
        if let Some((parent, _)) = path.rsplit_once('/') {
            self.add_folder(parent, 0o755)?;
        }
        Ok(self.paths.insert(path.to_owned()))
    }

    /// The layer's bytes.
    pub fn finish(self) -> io::Result<Arc<[u8]>> {
        Ok(self.tar.into_inner()?.into())
    }
}

fn header(kind: EntryType, mode: u32) -> Header {
    let mut header = Header::new_gnu();
    header.set_entry_type(kind);
    header.set_mode(mode);
    header.set_uid(0);
    header.set_gid(0);
    header.set_mtime(0);
    header.set_size(0);
    header
}

/// `/lib/x` → `usr/lib/x`.
fn merged(path: &str) -> String {
    let path = path.trim_start_matches("./").trim_matches('/');
    match path.split_once('/') {
        Some((first, _)) if MERGED.contains(&first) => format!("usr/{path}"),
        _ => path.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn top_level_folders_are_merged_into_usr() {
        assert_eq!(merged("./lib/x86_64/libc.so.6"), "usr/lib/x86_64/libc.so.6");
        assert_eq!(merged("etc/passwd"), "etc/passwd");
    }

    #[test]
    fn the_first_file_of_a_path_wins() {
        let mut layer = Layer::new().unwrap();
        layer.add_file("bin/a", b"one", 0o755).unwrap();
        layer.add_file("usr/bin/a", b"two", 0o755).unwrap();
        let bytes = layer.finish().unwrap();
        let mut archive = tar::Archive::new(&bytes[..]);
        let paths = archive.entries().unwrap().map(|it| it.unwrap().path().unwrap().into_owned());
        assert_eq!(paths.filter(|it| it.ends_with("usr/bin/a")).count(), 1);
    }
}
