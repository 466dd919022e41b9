//! What instances start from and what add-ons are pulled as: made from our binaries when they
//! change.

use std::{
    fs,
    path::{Path, PathBuf},
};

use anyhow::Context;
use region_ecr::Ecr;
use region_host::ami::{self, Ami};
use sha2::{Digest, Sha256};

use super::system_images;
use crate::layout::{Layout, write_atomically};

/// The root file system of instances. Running instances overlay it, so it is never changed: other
/// content is another folder.
pub(crate) fn ami(layout: &Layout, ca_pem: &str) -> anyhow::Result<PathBuf> {
    let archive = layout.amis().join("pause.tar");
    fs::create_dir_all(layout.amis())?;
    system_images::pause_image()?.write(&archive)?;
    // Below the AMI's root: an absolute path would be the machine's own.
    let folder = ami::IMAGES.trim_start_matches('/');
    let files = vec![(Path::new(folder).join("pause.tar"), fs::read(&archive)?, 0o644)];
    let wanted = Ami { region_ca_pem: ca_pem, files };
    let content = digest(&[ami::fingerprint(&wanted).as_bytes(), &fs::read(host_bundle())?]);
    let root = layout.amis().join(format!("al2023-{}", &content[..12]));
    if root.exists() {
        return Ok(root);
    }
    let part = root.with_extension("part");
    if part.exists() {
        fs::remove_dir_all(&part)?;
    }
    ami::build(&part, &wanted)?;
    fs::rename(&part, &root)?;
    Ok(root)
}

fn host_bundle() -> &'static str {
    if Path::new(ami::CA_BUNDLE).exists() { ami::CA_BUNDLE } else { "/dev/null" }
}

/// Puts the add-ons' images into the registry, unless those of the same binaries are there.
pub(crate) fn images(layout: &Layout, ecr: &Ecr, ca_pem: &str) -> anyhow::Result<()> {
    let names = region_eks::addons::images(system_images::EKS_REGISTRY);
    let binaries = layout.binaries();
    let [addons, plugin] = system_images::OWN
        .map(|(name, _)| fs::read(binaries.join(name)).context("the data directory's binary"));
    let content = digest(&[&addons?, &plugin?, ca_pem.as_bytes(), names.join(" ").as_bytes()]);
    let marker = layout.registry().join("system-images");
    if fs::read_to_string(&marker).is_ok_and(|it| it == content) {
        return Ok(());
    }
    let bundle = bundle(ca_pem)?;
    let archive = layout.registry().join("import.tar");
    let mut images = system_images::addons(&binaries, &bundle, &names)?;
    images.push(system_images::pause_image()?);
    oci_archive::write(&images, &archive)?;
    ecr.import_archive(fs::File::open(&archive)?).context("importing the add-ons' images")?;
    fs::remove_file(&archive)?;
    write_atomically(&marker, content.as_bytes())
}

/// Public authorities and the region's own.
fn bundle(ca_pem: &str) -> anyhow::Result<Vec<u8>> {
    let mut bundle = fs::read(host_bundle())?;
    bundle.extend_from_slice(ca_pem.as_bytes());
    Ok(bundle)
}

fn digest(parts: &[&[u8]]) -> String {
    let mut hasher = Sha256::new();
    for part in parts {
        hasher.update((part.len() as u64).to_le_bytes());
        hasher.update(part);
    }
    hex::encode(hasher.finalize())
}
