//! Launch templates: named by what is in them, checked before they are used, deleted when they are not.
//!
//! A name says what ought to be in a template, and not what is: whoever may make templates may have
//! made this one, or a version of it. So a launch names the version that has been read, and that
//! cannot be changed any more; where the newest is another, one more is made.
//!
//! Upstream: `pkg/providers/launchtemplate` of aws/karpenter-provider-aws.

use aws_ec2::{
    common::{TagInput, TagSpecification},
    launch_template::{
        CreateLaunchTemplate, CreateLaunchTemplateRequest, CreateLaunchTemplateVersion,
        CreateLaunchTemplateVersionRequest, DeleteLaunchTemplate, DeleteLaunchTemplateRequest,
        DescribeLaunchTemplateVersions, DescribeLaunchTemplateVersionsRequest,
        DescribeLaunchTemplates, DescribeLaunchTemplatesRequest,
    },
    launch_template_data::ResponseLaunchTemplateData,
    launch_template_request::RequestLaunchTemplateData,
    run_instances::LaunchTemplateSpecification,
};
use aws_wire::client::CallError;
use jiff::Timestamp;
use sha2::{Digest, Sha256};

use super::{CLUSTER_TAG, Cloud, all_pages, filter};
use api_kube::karpenter::labels;

/// EC2 gives no more than 200 templates at once.
const MOST_AT_ONCE: i64 = 200;

/// One version of a template.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Template {
    pub(crate) name: String,
    version: i64,
}

impl Template {
    pub(crate) fn specification(&self) -> LaunchTemplateSpecification {
        LaunchTemplateSpecification {
            launch_template_name: Some(self.name.clone()),
            version: Some(self.version.to_string()),
            ..LaunchTemplateSpecification::default()
        }
    }
}

impl Cloud {
    /// The version of the class's template that has this data.
    pub(crate) async fn template(
        &self,
        class: &str,
        data: RequestLaunchTemplateData,
    ) -> Result<Template, CallError> {
        let name = self.template_name(class, &data);
        let tag = |key: &str, value: &str| TagInput {
            key: Some(key.to_owned()),
            value: Some(value.to_owned()),
        };
        let request = CreateLaunchTemplateRequest {
            launch_template_name: name.clone(),
            launch_template_data: data.clone(),
            tag_specifications: vec![TagSpecification {
                resource_type: Some("launch-template".to_owned()),
                tags: vec![tag(CLUSTER_TAG, &self.cluster), tag(labels::NODE_CLASS, class)],
            }],
            ..CreateLaunchTemplateRequest::default()
        };
        match self.aws.call::<CreateLaunchTemplate>(request).await {
            Ok(_) => Ok(Template { name, version: 1 }),
            Err(error) if error.is("InvalidLaunchTemplateName.AlreadyExistsException") => {
                let version = self.version(&name, data).await?;
                Ok(Template { name, version })
            }
            Err(error) => Err(error),
        }
    }

    fn template_name(&self, class: &str, data: &RequestLaunchTemplateData) -> String {
        let mut hash = Sha256::new();
        hash.update(format!("{}\n{class}\n", self.cluster));
        hash.update(serde_json::to_vec(data).unwrap_or_default());
        let hash: String = hash.finalize().iter().take(10).map(|it| format!("{it:02x}")).collect();
        format!("karpenter.k8s.aws/{hash}")
    }

    /// The newest version of a template, where it has this data; else one that is made.
    async fn version(&self, name: &str, data: RequestLaunchTemplateData) -> Result<i64, CallError> {
        let request = DescribeLaunchTemplateVersionsRequest {
            launch_template_name: Some(name.to_owned()),
            versions: vec!["$Latest".to_owned()],
            ..DescribeLaunchTemplateVersionsRequest::default()
        };
        let newest = self.aws.call::<DescribeLaunchTemplateVersions>(request).await?;
        let wanted = as_answered(data.clone().into());
        let found = newest.launch_template_versions.into_iter().find_map(|it| {
            let is_it = as_answered(it.launch_template_data.unwrap_or_default()) == wanted;
            it.version_number.filter(|_| is_it)
        });
        if let Some(found) = found {
            return Ok(found);
        }
        let request = CreateLaunchTemplateVersionRequest {
            launch_template_name: Some(name.to_owned()),
            launch_template_data: data,
            ..CreateLaunchTemplateVersionRequest::default()
        };
        let made = self.aws.call::<CreateLaunchTemplateVersion>(request).await?;
        Ok(made.launch_template_version.and_then(|it| it.version_number).unwrap_or(1))
    }

    /// Deletes the class's templates that are of no use, by their names and when they were made.
    pub(crate) async fn delete_templates(
        &self,
        class: &str,
        is_useless: impl Fn(&str, Option<Timestamp>) -> bool,
    ) -> Result<(), CallError> {
        let request = DescribeLaunchTemplatesRequest {
            filters: vec![
                filter(format!("tag:{CLUSTER_TAG}"), [self.cluster.clone()]),
                filter(format!("tag:{}", labels::NODE_CLASS), [class.to_owned()]),
            ],
            ..DescribeLaunchTemplatesRequest::default()
        };
        let cloud = Self { page_size: self.page_size.min(MOST_AT_ONCE), ..self.clone() };
        let found = all_pages!(cloud, DescribeLaunchTemplates, request, launch_templates);
        for template in found {
            let made = template.create_time.and_then(|it| it.parse().ok());
            let name = template.launch_template_name.unwrap_or_default();
            if !is_useless(&name, made) {
                continue;
            }
            let request = DeleteLaunchTemplateRequest {
                launch_template_id: template.launch_template_id,
                ..DeleteLaunchTemplateRequest::default()
            };
            match self.aws.call::<DeleteLaunchTemplate>(request).await {
                Err(error) if !error.is("InvalidLaunchTemplateId.NotFound") => return Err(error),
                _ => {}
            }
        }
        Ok(())
    }
}

/// Without what only answers have.
fn as_answered(mut data: ResponseLaunchTemplateData) -> ResponseLaunchTemplateData {
    if let Some(options) = &mut data.metadata_options {
        options.state = None;
    }
    data
}
