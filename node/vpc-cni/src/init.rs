//! The init container: puts the plug-in's binary on the host and sets what routing needs.

use std::{
    fs, io,
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
};

use crate::{
    files,
    metadata::{Metadata, MetadataError},
    network::{self, NetworkError},
};

/// The names the plug-in answers to.
const NAMES: [&str; 2] = ["aws-cni", "loopback"];

#[derive(Debug, clap::Args)]
pub struct Args {
    /// The plug-in's binary in this image.
    #[arg(long, default_value = "/usr/bin/nodestead-cni")]
    pub source: PathBuf,
    /// The host's folder of CNI plug-ins, as mounted here.
    #[arg(long, env = "HOST_CNI_BIN_PATH", default_value = "/host/opt/cni/bin")]
    pub destination: PathBuf,
    /// Where the instance metadata service is.
    #[arg(long, env = "AWS_EC2_METADATA_SERVICE_ENDPOINT")]
    pub metadata_endpoint: Option<String>,
}

#[derive(Debug, thiserror::Error)]
pub enum InitError {
    #[error("failed to install `{}`", path.display())]
    Install {
        path: PathBuf,
        #[source]
        source: io::Error,
    },
    #[error("failed to set `{path}`")]
    Sysctl {
        path: String,
        #[source]
        source: io::Error,
    },
    #[error("failed to learn the primary interface")]
    Metadata {
        #[source]
        source: MetadataError,
    },
    #[error("failed to find the primary interface's link")]
    Link {
        #[source]
        source: NetworkError,
    },
}

pub async fn run(args: Args) -> Result<(), Box<dyn std::error::Error + Send + Sync>> {
    for name in NAMES {
        install(&args.source, &args.destination, name)?;
    }
    let metadata = Metadata::new(args.metadata_endpoint.as_deref());
    let identity = metadata.identity().await.map_err(|source| InitError::Metadata { source })?;
    let mac = identity.mac;
    let found = linux_netlink::run(None, move |netlink| {
        network::link_of(netlink, "the primary interface", &mac)
    });
    let (_, link) = found.await.map_err(|source| InitError::Link { source })?;
    // Loose: the answer to a packet may leave by another interface than the kernel would choose.
    set(&format!("net/ipv4/conf/{link}/rp_filter"), "2")?;
    set("net/ipv4/ip_forward", "1")?;
    if std::env::var("ENABLE_IPv6").is_ok_and(|it| it == "true") {
        set("net/ipv6/conf/all/disable_ipv6", "0")?;
        set("net/ipv6/conf/all/forwarding", "1")?;
        // A router does not heed advertisements unless it is told to.
        set(&format!("net/ipv6/conf/{link}/accept_ra"), "2")?;
    }
    let early_demux = std::env::var("DISABLE_TCP_EARLY_DEMUX").is_ok_and(|it| it == "true");
    set("net/ipv4/tcp_early_demux", if early_demux { "0" } else { "1" })?;
    tracing::info!(link, "the plug-in is installed and the primary interface set up");
    Ok(())
}

/// Puts a copy beside the old one and renames it, so that a runtime never executes half a file.
fn install(source: &Path, folder: &Path, name: &str) -> Result<(), InitError> {
    let path = folder.join(name);
    let copied = files::replace(&path, |beside| {
        fs::copy(source, beside)?;
        fs::set_permissions(beside, fs::Permissions::from_mode(0o755))
    });
    copied.map_err(|source| InitError::Install { path, source })
}

fn set(path: &str, value: &str) -> Result<(), InitError> {
    let file = Path::new("/proc/sys").join(path);
    match fs::read_to_string(&file) {
        // A read-only `/proc/sys` is fine where there is nothing to change.
        Ok(found) if found.trim() == value => Ok(()),
        _ => fs::write(&file, value)
            .map_err(|source| InitError::Sysctl { path: path.to_owned(), source }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_plug_in_is_installed_whole_and_executable_under_both_names() {
        let folder = tempfile::tempdir().unwrap();
        let source = folder.path().join("nodestead-cni");
        fs::write(&source, "binary").unwrap();
        let host = folder.path().join("host/bin");
        for name in NAMES {
            install(&source, &host, name).unwrap();
            install(&source, &host, name).unwrap();
            let mode = fs::metadata(host.join(name)).unwrap().permissions().mode();
            assert_eq!(mode & 0o777, 0o755);
        }
        assert_eq!(fs::read_dir(&host).unwrap().count(), 2);
    }
}
