//! The images of EKS's add-ons: our own binaries with the libraries and programs that they need.
//!
//! The region makes them when it starts, from the binaries in its data directory and the machine's
//! `nft` and `conntrack`, and puts them into the registry under the names that EKS's manifests use.

use std::{
    collections::BTreeSet,
    fs, io,
    path::{Path, PathBuf},
    process::Command,
    sync::Arc,
};

use anyhow::{Context, ensure};
use oci_archive::{Image, Layer};

use super::pause;

/// The account that owns EKS's images in us-east-1.
pub(crate) const EKS_REGISTRY: &str = "602401143452.dkr.ecr.us-east-1.amazonaws.com";
pub(crate) const PAUSE: &str = "602401143452.dkr.ecr.us-east-1.amazonaws.com/eks/pause:3.10";

/// Upstream's own name, as its manifests have it.
pub(crate) const CLUSTER_AUTOSCALER: &str =
    "registry.k8s.io/autoscaling/cluster-autoscaler:v1.36.0";

/// What the helper pods of local volumes run.
pub(crate) const LOCAL_PATH: &str =
    "602401143452.dkr.ecr.us-east-1.amazonaws.com/nodestead/local-path:1";

/// Ours, and where they are in the images.
pub(crate) const OWN: [(&str, &str); 2] =
    [("nodestead-addons", "usr/bin/nodestead"), ("nodestead-cni", "usr/bin/nodestead-cni")];
const PROGRAMS: [&str; 2] = ["/usr/sbin/nft", "/usr/sbin/conntrack"];
const PASSWD: &[u8] =
    b"root:x:0:0:root:/root:/sbin/nologin\nnobody:x:65534:65534::/:/sbin/nologin\n";
const NSSWITCH: &[u8] = b"passwd: files\ngroup: files\nhosts: files dns\n";

/// The image of the add-ons, for each of `names` the same content; and Cluster Autoscaler's.
pub(crate) fn addons(
    binaries: &Path,
    ca_bundle: &[u8],
    names: &[String],
) -> anyhow::Result<Vec<Image>> {
    let layer = addon_layer(binaries, ca_bundle)?;
    let image = |name: &String| Image {
        name: name.clone(),
        entrypoint: vec!["/usr/bin/nodestead".to_owned()],
        layer: layer.clone(),
        ..Image::default()
    };
    let autoscaler = Image {
        name: CLUSTER_AUTOSCALER.to_owned(),
        entrypoint: vec!["/cluster-autoscaler".to_owned()],
        layer: layer.clone(),
        ..Image::default()
    };
    let local_path = image(&LOCAL_PATH.to_owned());
    Ok(names.iter().map(image).chain([autoscaler, local_path]).collect())
}

/// What every pod's sandbox runs; it is part of the AMI.
pub(crate) fn pause_image() -> io::Result<Image> {
    let mut layer = Layer::new()?;
    layer.add_file("pause", &pause::program(), 0o755)?;
    Ok(Image {
        name: PAUSE.to_owned(),
        entrypoint: vec!["/pause".to_owned()],
        user: "65535:65535".to_owned(),
        layer: layer.finish()?,
        ..Image::default()
    })
}

fn addon_layer(binaries: &Path, ca_bundle: &[u8]) -> anyhow::Result<Arc<[u8]>> {
    let mut layer = Layer::new()?;
    let own = OWN.map(|(name, _)| binaries.join(name));
    for (binary, (_, path)) in own.iter().zip(OWN) {
        layer.add_file(path, &fs::read(binary)?, 0o755)?;
    }
    let programs = PROGRAMS.map(PathBuf::from);
    for program in &programs {
        let path = program.display().to_string();
        layer.add_file(&path, &fs::read(program).context(path.clone())?, 0o755)?;
    }
    for library in libraries(own.iter().chain(&programs))? {
        let path = library.display().to_string();
        layer.add_file(&path, &fs::read(&library).context(path.clone())?, 0o755)?;
    }
    layer.add_file("etc/ssl/certs/ca-certificates.crt", ca_bundle, 0o644)?;
    layer.add_file("etc/passwd", PASSWD, 0o644)?;
    layer.add_file("etc/nsswitch.conf", NSSWITCH, 0o644)?;
    // Where upstream's manifests look for it: `./cluster-autoscaler`.
    layer.add_link("cluster-autoscaler", "usr/bin/nodestead")?;
    for folder in ["tmp", "run", "proc", "sys", "dev", "var/run"] {
        layer.add_folder(folder, 0o755)?;
    }
    Ok(layer.finish()?)
}

/// The shared libraries of `binaries`, and the loader, at the paths where they are looked for.
fn libraries<'a>(binaries: impl Iterator<Item = &'a PathBuf>) -> anyhow::Result<BTreeSet<PathBuf>> {
    let mut found = BTreeSet::new();
    for binary in binaries {
        let output = Command::new("ldd").arg(binary).output().context("failed to run `ldd`")?;
        ensure!(output.status.success(), "`{}` is not a program", binary.display());
        found.extend(parse_ldd(&String::from_utf8_lossy(&output.stdout)));
    }
    Ok(found)
}

/// `\tlibc.so.6 => /lib/x86_64-linux-gnu/libc.so.6 (0x…)` and `\t/lib64/ld-linux-x86-64.so.2 (0x…)`.
fn parse_ldd(text: &str) -> impl Iterator<Item = PathBuf> {
    text.lines().filter_map(|line| {
        let path = line.split("=>").last()?.trim().split(' ').next()?;
        path.starts_with('/').then(|| PathBuf::from(path))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn libraries_and_the_loader_are_found_in_ldds_output() {
        let text = "\tlinux-vdso.so.1 (0x00007ffd)\n\
                    \tlibc.so.6 => /lib/x86_64-linux-gnu/libc.so.6 (0x00007f)\n\
                    \t/lib64/ld-linux-x86-64.so.2 (0x00007f)\n";
        let found: Vec<_> = parse_ldd(text).collect();
        let wanted = ["/lib/x86_64-linux-gnu/libc.so.6", "/lib64/ld-linux-x86-64.so.2"];
        assert_eq!(found, wanted.map(PathBuf::from));
    }

    #[test]
    fn the_pause_image_holds_only_pause() {
        let image = pause_image().unwrap();
        let mut archive = tar::Archive::new(&image.layer[..]);
        let files = archive.entries().unwrap().filter(|entry| {
            entry.as_ref().is_ok_and(|it| it.header().entry_type() == tar::EntryType::Regular)
        });
        assert_eq!(files.count(), 1);
    }
}
