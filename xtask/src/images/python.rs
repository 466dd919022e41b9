//! Packages of a Python environment, put where Debian's Python looks for them.

use std::{
    fs,
    path::{Path, PathBuf},
};

use anyhow::Context;
use oci_archive::Layer;

const TARGET: &str = "usr/lib/python3/dist-packages";
/// What botocore knows of services: of a few hundred, those that the region has stay.
const DATA: &str = "botocore/data/";
const SERVICES: [&str; 8] = ["autoscaling", "ec2", "ecr", "eks", "elbv2", "iam", "ssm", "sts"];

/// Where an environment has its packages, if boto3 is among them.
pub(crate) fn site(venv: &Path) -> Option<PathBuf> {
    let entries = fs::read_dir(venv.join("lib")).ok()?;
    let mut sites = entries.flatten().map(|it| it.path().join("site-packages"));
    sites.find(|it| it.join("boto3").is_dir())
}

/// Adds a package, or a module of one file.
pub(crate) fn add(layer: &mut Layer, site: &Path, part: &str) -> anyhow::Result<()> {
    if is_left_out(part) {
        return Ok(());
    }
    let path = site.join(part);
    if !path.is_dir() {
        let content = fs::read(&path).with_context(|| format!("no `{}`", path.display()))?;
        return Ok(layer.add_file(&format!("{TARGET}/{part}"), &content, 0o644)?);
    }
    layer.add_folder(&format!("{TARGET}/{part}"), 0o755)?;
    let mut names = Vec::new();
    for entry in fs::read_dir(&path)? {
        names.push(entry?.file_name().to_string_lossy().into_owned());
    }
    names.sort();
    names.iter().try_for_each(|it| add(layer, site, &format!("{part}/{it}")))
}

fn is_left_out(path: &str) -> bool {
    // Files beside the services' folders are about all of them.
    let model = path.strip_prefix(DATA).filter(|it| !it.contains('.'));
    let service = model.map(|it| it.split('/').next().unwrap_or(it));
    path.ends_with("__pycache__") || service.is_some_and(|it| !SERVICES.contains(&it))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn of_botocores_models_those_of_the_regions_services_stay() {
        for kept in [
            "botocore/data",
            "botocore/data/sts",
            "botocore/data/sts/2011-06-15",
            "boto3/session.py",
        ] {
            assert!(!is_left_out(kept), "{kept}");
        }
        assert!(!is_left_out("botocore/data/endpoints.json"));
        assert!(!is_left_out("botocore/data/partitions.json"));
        assert!(is_left_out("botocore/data/braket"));
        assert!(is_left_out("boto3/__pycache__"));
    }
}
