//! The images that come with the AMI: imported once, when containerd runs for the first time.
//!
//! The pause image is one: every sandbox needs it, and containerd pulls sandboxes' images without
//! the kubelet's credentials.

use std::{
    fs, io,
    path::{Path, PathBuf},
    process::Command,
    sync::Arc,
};

use tracing::{info, warn};

use crate::reaper::Reaper;

const FOLDER: &str = "/opt/nodestead/images";
/// Beside containerd's own state: where that is lost, so is this.
const IMPORTED: &str = "/var/lib/containerd/nodestead-imported";

/// Imports what has not been imported yet. A failure is tried again at containerd's next start.
pub(crate) async fn import_new(reaper: &Arc<Reaper>) {
    let files = match new_files(Path::new(FOLDER), Path::new(IMPORTED)) {
        Ok(files) => files,
        Err(error) => return warn!(%error, "failed to list the images of the AMI"),
    };
    for (file, mark) in files {
        match import(reaper, &file).await {
            Ok(()) => {
                info!(file = %file.display(), "imported an image");
                if let Err(error) = put_mark(&mark) {
                    warn!(%error, "failed to note an imported image");
                }
            }
            Err(reason) => warn!(file = %file.display(), reason, "failed to import an image"),
        }
    }
}

async fn import(reaper: &Reaper, file: &Path) -> Result<(), String> {
    let mut command = Command::new("ctr");
    command.args(["--namespace", "k8s.io", "images", "import"]).arg(file);
    let started = reaper.spawn(&mut command).map_err(|error| error.to_string())?;
    match started.ended.await {
        Ok(end) if end.success() => Ok(()),
        Ok(end) => Err(end.to_string()),
        Err(_) => Err("nobody waited for it".to_owned()),
    }
}

/// The archives in `folder` that have no mark in `marks`, each with the mark that it is to get.
fn new_files(folder: &Path, marks: &Path) -> io::Result<Vec<(PathBuf, PathBuf)>> {
    let entries = match fs::read_dir(folder) {
        Ok(entries) => entries,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(error),
    };
    let mut found = Vec::new();
    for entry in entries {
        let entry = entry?;
        let length = entry.metadata()?.len();
        let name = entry.file_name();
        // Another length is another image: the AMI was made anew.
        let mark = marks.join(format!("{}-{length}", name.to_string_lossy()));
        if entry.path().extension().is_some_and(|it| it == "tar") && !mark.exists() {
            found.push((entry.path(), mark));
        }
    }
    found.sort();
    Ok(found)
}

fn put_mark(mark: &Path) -> io::Result<()> {
    if let Some(folder) = mark.parent() {
        fs::create_dir_all(folder)?;
    }
    fs::write(mark, "")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_archive_is_new_until_it_is_marked_or_changes() {
        let folder = tempfile::tempdir().unwrap();
        let (images, marks) = (folder.path().join("images"), folder.path().join("marks"));
        assert!(new_files(&images, &marks).unwrap().is_empty());
        fs::create_dir(&images).unwrap();
        fs::write(images.join("pause.tar"), "x").unwrap();
        fs::write(images.join("readme"), "x").unwrap();
        let found = new_files(&images, &marks).unwrap();
        assert_eq!(found.len(), 1);
        put_mark(&found[0].1).unwrap();
        assert!(new_files(&images, &marks).unwrap().is_empty());
        fs::write(images.join("pause.tar"), "xy").unwrap();
        assert_eq!(new_files(&images, &marks).unwrap().len(), 1);
    }
}
