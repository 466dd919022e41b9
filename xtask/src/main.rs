//! Chores of the repository: layers, sizes, deviations, test images.
//!
//! `cargo xtask tidy` checks what a compiler does not: that dependencies point down the layers of
//! `layers.toml`, that every file says what it is for and stays small. `cargo xtask images` makes
//! the container images of the tests and of the demo from Debian's packages, so that nothing is
//! ever pulled from an image registry.

mod deviations;
mod images;
mod layers;
mod sizes;

use std::path::PathBuf;

use clap::{Parser, Subcommand};

#[derive(Parser)]
#[command(name = "cargo xtask", about = "Chores of the repository")]
struct Cli {
    #[command(subcommand)]
    chore: Chore,
}

#[derive(Subcommand)]
enum Chore {
    /// Checks layers, file headers and sizes
    Tidy,
    /// Prints the table of deviations from upstream; `--write` puts it into docs/deviations.md
    Deviations {
        #[arg(long)]
        write: bool,
    },
    /// Makes the test images from Debian's packages
    Images {
        /// Where the archives go
        #[arg(long)]
        out: PathBuf,
        /// The Python environment of the tests' clients; beside the archives' folder without
        #[arg(long)]
        venv: Option<PathBuf>,
    },
}

fn main() -> anyhow::Result<()> {
    match Cli::parse().chore {
        Chore::Tidy => {
            layers::check()?;
            sizes::check()?;
            deviations::check()
        }
        Chore::Deviations { write } => deviations::print(write),
        Chore::Images { out, venv } => {
            let venv = venv.unwrap_or_else(|| out.join("../venv"));
            images::make_all(&out, &venv)
        }
    }
}
