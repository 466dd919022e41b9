//! What the helper pods of local volumes do: make a directory, or remove it with all that is in it.

use std::{fs, io, os::unix::fs::PermissionsExt, path::PathBuf};

/// What is to be done.
#[derive(clap::Subcommand, Debug)]
pub(crate) enum Args {
    /// Makes the directory of a volume
    Make { path: PathBuf },
    /// Removes it
    Remove { path: PathBuf },
}

/// Both may have been done before.
pub(crate) fn run(args: Args) -> io::Result<()> {
    match args {
        Args::Make { path } => {
            fs::create_dir_all(&path)?;
            // Whoever its pod runs as writes into it; who gets there at all is the mount's matter.
            fs::set_permissions(&path, fs::Permissions::from_mode(0o777))
        }
        // Links are removed, not followed.
        Args::Remove { path } => match fs::remove_dir_all(&path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
            result => result,
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_directory_is_made_for_everybody_and_removed_without_what_its_links_lead_to() {
        let root = std::env::temp_dir().join(format!("local-path-{}", std::process::id()));
        let (volume, other) = (root.join("pvc-1"), root.join("other"));
        for _ in 0..2 {
            run(Args::Make { path: volume.clone() }).unwrap();
        }
        assert_eq!(fs::metadata(&volume).unwrap().permissions().mode() & 0o777, 0o777);
        fs::create_dir_all(&other).unwrap();
        fs::write(other.join("kept"), "x").unwrap();
        std::os::unix::fs::symlink(&other, volume.join("link")).unwrap();
        for _ in 0..2 {
            run(Args::Remove { path: volume.clone() }).unwrap();
        }
        assert!(!volume.exists() && other.join("kept").exists());
        fs::remove_dir_all(&root).unwrap();
    }
}
