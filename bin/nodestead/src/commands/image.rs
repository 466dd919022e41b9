//! `nodestead image`: container images into the region's registry, root file systems into EC2's snapshots.

use std::path::{Path, PathBuf};

use anyhow::Context;
use serde::Deserialize;

use crate::{
    admin::Admin,
    cli::{Format, ImageCommand},
    daemon::snapshots::{Import, Imported},
    failure::Failure,
    layout::Layout,
    progress::Progress,
};

/// What one archive held.
#[derive(Debug, Deserialize)]
pub(crate) struct Loaded {
    pub(crate) names: Vec<String>,
}

pub(crate) async fn run(command: ImageCommand) -> anyhow::Result<()> {
    match command {
        ImageCommand::Load { at, files } => load(&at.data_dir, &files).await,
        ImageCommand::Import { at, root, description, output } => {
            let imported = import(&at.data_dir, &root, description).await?;
            match output {
                Format::Table => println!("{}", imported.snapshot_id),
                Format::Json => println!("{}", serde_json::to_string_pretty(&imported)?),
            }
            Ok(())
        }
    }
}

async fn load(data_dir: &Path, files: &[PathBuf]) -> anyhow::Result<()> {
    let admin = Admin::new(Layout::new(data_dir)?.admin_socket());
    let mut progress = Progress::new(files.len() as u64);
    let mut names = Vec::new();
    for file in files {
        progress.step(format!("loading {}", file.display()));
        names.extend(load_one(&admin, file).await?.names);
    }
    progress.done();
    for name in names {
        println!("{name}");
    }
    Ok(())
}

pub(crate) async fn load_one(admin: &Admin, file: &Path) -> anyhow::Result<Loaded> {
    admin.upload("/v1/images", file).await.with_context(|| {
        Failure::new(
            format!("`{}` was not loaded", file.display()),
            "give an archive of named images, as `docker save NAME`, `podman save NAME` or `nerdctl save NAME` \
             writes it",
        )
    })
}

/// The daemon copies it: its path must mean the same there.
async fn import(
    data_dir: &Path,
    root: &Path,
    description: Option<String>,
) -> anyhow::Result<Imported> {
    let admin = Admin::new(Layout::new(data_dir)?.admin_socket());
    let path = std::path::absolute(root)?;
    let description = description.unwrap_or_else(|| format!("{}", path.display()));
    let mut progress = Progress::new(1);
    progress.step(format!("importing {}", root.display()));
    let imported = admin.post("/v1/snapshots", &Import { path, description }).await?;
    progress.done();
    Ok(imported)
}
