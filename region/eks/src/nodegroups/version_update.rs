//! `UpdateNodegroupVersion`: what nodes shall start from, as a value.
//!
//! A group that has it already is updated all the same: the update finds no old nodes.

use aws_eks::{CreateNodegroupRequest, LaunchTemplateSpecification, UpdateNodegroupVersionRequest};
use aws_wire::Fault;

use super::{
    records::{Nodegroup, Release},
    rollout::Target,
    template::{self, Source},
    validate,
};
use crate::{Eks, faults};

/// The target, and the parameters of the update's record.
pub(crate) async fn plan(
    eks: &Eks,
    group: &Nodegroup,
    request: &UpdateNodegroupVersionRequest,
) -> Result<(Target, Vec<(String, String)>), Fault> {
    let source = source(eks, group, request).await?;
    let own_image = source.as_ref().and_then(|it| it.data.image_id.clone());
    let release = match own_image {
        Some(image) => Release { image_id: image.clone(), version: image },
        None => release(eks, group, request).await?,
    };
    let mut params = Vec::new();
    let mut param = |kind: &str, value: &str| params.push((kind.to_owned(), value.to_owned()));
    if group.ami_type != validate::CUSTOM {
        param("Version", &group.version);
        param("ReleaseVersion", &release.version);
    }
    if let Some(source) = source.as_ref().filter(|_| request.launch_template.is_some()) {
        param("LaunchTemplateName", &source.name);
        param("LaunchTemplateVersion", &source.version.to_string());
    }
    let Release { image_id, version: release_version } = release;
    let version = group.version.clone();
    Ok((Target { version, release_version, image_id, source }, params))
}

/// The customer's template as it shall be: the version that is asked for, or the one that it is.
async fn source(
    eks: &Eks,
    group: &Nodegroup,
    request: &UpdateNodegroupVersionRequest,
) -> Result<Option<Source>, Fault> {
    let is_custom = group.ami_type == validate::CUSTOM;
    let (known, asked) = match (&group.source, &request.launch_template) {
        (None, None) => return Ok(None),
        (None, Some(_)) => {
            return Err(faults::invalid_parameter(format!(
                "The nodegroup {} was created without a launch template: none can be specified.",
                group.name
            )));
        }
        (Some(_), None) if is_custom => {
            return Err(faults::invalid_parameter(
                "Launch template details can't be null for Custom ami type node group",
            ));
        }
        (Some(known), None) => return Ok(Some(known.clone())),
        (Some(known), Some(asked)) => (known, asked),
    };
    check_same(known, asked)?;
    for (field, value) in
        [("kubernetesVersion", &request.version), ("releaseVersion", &request.release_version)]
    {
        if is_custom && value.is_some() {
            return Err(faults::invalid_parameter(format!(
                "You cannot specify the field {field} when using custom AMIs."
            )));
        }
    }
    let source = template::read(eks, asked).await?;
    let types = CreateNodegroupRequest {
        instance_types: group.instance_types.clone(),
        ..Default::default()
    };
    template::check(&types, &source.data)?;
    if source.data.image_id.is_some() != is_custom {
        return Err(faults::invalid_parameter(
            "A nodegroup cannot be changed from or to a launch template that specifies an image id.",
        ));
    }
    Ok(Some(source))
}

fn check_same(known: &Source, asked: &LaunchTemplateSpecification) -> Result<(), Fault> {
    let is_other = |it: &Option<String>, own: &str| it.as_deref().is_some_and(|it| it != own);
    if is_other(&asked.id, &known.id) || is_other(&asked.name, &known.name) {
        return Err(faults::invalid_parameter(format!(
            "The launch template of a nodegroup cannot be changed: specify a version of {}.",
            known.name
        )));
    }
    Ok(())
}

/// The one that is asked for, or the latest.
async fn release(
    eks: &Eks,
    group: &Nodegroup,
    request: &UpdateNodegroupVersionRequest,
) -> Result<Release, Fault> {
    if request.version.as_ref().is_some_and(|it| *it != group.version) {
        return Err(faults::invalid_parameter("Requested Nodegroup version is not supported"));
    }
    let release =
        validate::release(eks, &group.ami_type, request.release_version.as_deref()).await?;
    if is_older(&release.version, &group.release_version) {
        return Err(faults::invalid_parameter(format!(
            "Requested release version {} is older than the nodegroup's {}: a nodegroup cannot be \
             rolled back.",
            release.version, group.release_version
        )));
    }
    Ok(release)
}

/// `1.36.2-20261106`: by version, then by date.
fn is_older(release: &str, than: &str) -> bool {
    let parts = |it: &str| -> Vec<u64> {
        it.split(['.', '-']).map(|part| part.parse().unwrap_or_default()).collect()
    };
    parts(release) < parts(than)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn releases_are_ordered_by_version_and_date() {
        assert!(is_older("1.36.1-20261009", "1.36.2-20261009"));
        assert!(is_older("1.36.2-20261023", "1.36.2-20261106"));
        assert!(is_older("1.36.9-20261106", "1.36.10-20261023"));
        assert!(!is_older("1.36.2-20261106", "1.36.2-20261106"));
    }
}
