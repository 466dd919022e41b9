//! `nodestead image load`: archives into the region's registry.

use serde::Deserialize;

use crate::{admin::Admin, cli::ImageCommand, layout::Layout, progress::Progress};

/// What one archive held.
#[derive(Debug, Deserialize)]
pub(crate) struct Loaded {
    pub(crate) names: Vec<String>,
}

pub(crate) async fn run(command: ImageCommand) -> anyhow::Result<()> {
    let ImageCommand::Load { at, files } = command;
    let admin = Admin::new(Layout::new(&at.data_dir)?.admin_socket());
    let mut progress = Progress::new(files.len() as u64);
    let mut names = Vec::new();
    for file in &files {
        progress.step(format!("loading {}", file.display()));
        let loaded: Loaded = admin.upload("/v1/images", file).await?;
        names.extend(loaded.names);
    }
    progress.done();
    for name in names {
        println!("{name}");
    }
    Ok(())
}
