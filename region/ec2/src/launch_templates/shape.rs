//! How launch templates look to clients: what was sent, under the names of answers.

use aws_ec2::{
    launch_template::{self, LaunchTemplateVersion},
    launch_template_data::ResponseLaunchTemplateData,
    launch_template_request::RequestLaunchTemplateData,
};
use aws_wire::Fault;
use serde_json::Value;

use crate::{
    names,
    records::{LaunchTemplate, TemplateVersion},
    tagging,
};

pub(super) fn template(template: &LaunchTemplate) -> launch_template::LaunchTemplate {
    launch_template::LaunchTemplate {
        launch_template_id: Some(template.id.clone()),
        launch_template_name: Some(template.name.clone()),
        create_time: Some(names::date(template.created_at)),
        created_by: Some(template.created_by.clone()),
        default_version_number: Some(template.default_version),
        latest_version_number: template.versions.keys().next_back().copied(),
        tags: tagging::answer(&template.tags),
    }
}

pub(super) fn version(
    template: &LaunchTemplate,
    number: i64,
    version: &TemplateVersion,
) -> LaunchTemplateVersion {
    LaunchTemplateVersion {
        launch_template_id: Some(template.id.clone()),
        launch_template_name: Some(template.name.clone()),
        version_number: Some(number),
        version_description: version.description.clone(),
        create_time: Some(names::date(version.created_at)),
        created_by: Some(version.created_by.clone()),
        default_version: Some(template.default_version == number),
        launch_template_data: Some(answer(&version.data)),
    }
}

/// A version made from another: fields that are sent replace those of the source.
pub(super) fn merge(
    source: &RequestLaunchTemplateData,
    sent: &RequestLaunchTemplateData,
) -> Result<RequestLaunchTemplateData, Fault> {
    let tree = |it| serde_json::to_value(it).map_err(|it| Fault::internal(it.to_string()));
    let (mut merged, sent) = (tree(source)?, tree(sent)?);
    if let (Value::Object(merged), Value::Object(sent)) = (&mut merged, sent) {
        merged.extend(sent);
    }
    serde_json::from_value(merged).map_err(|it| Fault::internal(it.to_string()))
}

fn answer(sent: &RequestLaunchTemplateData) -> ResponseLaunchTemplateData {
    let mut data = ResponseLaunchTemplateData::from(sent.clone());
    if let Some(options) = &mut data.metadata_options {
        options.state = Some("applied".to_owned());
    }
    data
}
