//! Which instance type a group launches: of its launch configuration, its launch template, or the first
//! that its mixed instances policy allows.
//!
//! Upstream: `aws_wrapper.go` (`getInstanceTypesForAsgs`). Of types that are named by attributes it is the
//! first that EC2 answers.

use aws_autoscaling::{
    group::{AutoScalingGroup, LaunchTemplateSpecification},
    instance_requirements::InstanceRequirements,
    launch_configuration::{DescribeLaunchConfigurations, DescribeLaunchConfigurationsRequest},
};
use aws_ec2::{
    image::{DescribeImages, DescribeImagesRequest},
    instance_requirements::{
        GetInstanceTypesFromInstanceRequirements, GetInstanceTypesFromInstanceRequirementsRequest,
    },
    launch_template::{DescribeLaunchTemplateVersions, DescribeLaunchTemplateVersionsRequest},
    launch_template_data::ResponseLaunchTemplateData,
};
use aws_wire::{Client, client::CallError};

/// See the module.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Source {
    Configuration(String),
    Template(LaunchTemplateSpecification),
    Type(String),
    Requirements { of: LaunchTemplateSpecification, wanted: Box<InstanceRequirements> },
    Unknown,
}

impl Source {
    pub(super) fn of(group: &AutoScalingGroup) -> Self {
        if let Some(name) = group.launch_configuration_name.clone().filter(|it| !it.is_empty()) {
            return Self::Configuration(name);
        }
        if let Some(template) = group.launch_template.clone() {
            return Self::Template(template);
        }
        let policy = group.mixed_instances_policy.as_ref();
        let Some(mixed) = policy.and_then(|it| it.launch_template.as_ref()) else {
            return Self::Unknown;
        };
        let template = mixed.launch_template_specification.clone();
        let first = mixed.overrides.first();
        if let Some(name) = first.and_then(|it| it.instance_type.clone()) {
            return Self::Type(name);
        }
        match (template, first.and_then(|it| it.instance_requirements.clone())) {
            (Some(of), Some(wanted)) => Self::Requirements { of, wanted: Box::new(wanted) },
            (Some(template), None) => Self::Template(template),
            (None, _) => Self::Unknown,
        }
    }

    pub(super) async fn instance_type(self, client: &Client) -> Result<Option<String>, CallError> {
        match self {
            Self::Configuration(name) => of_configuration(client, name).await,
            Self::Template(template) => {
                Ok(data(client, template).await?.and_then(|it| it.instance_type))
            }
            Self::Type(name) => Ok(Some(name)),
            Self::Requirements { of, wanted } => {
                let image = data(client, of).await?.and_then(|it| it.image_id);
                match image {
                    Some(image) => of_requirements(client, image, &wanted).await,
                    None => Ok(None),
                }
            }
            Self::Unknown => Ok(None),
        }
    }
}

async fn of_configuration(client: &Client, name: String) -> Result<Option<String>, CallError> {
    let request = DescribeLaunchConfigurationsRequest {
        launch_configuration_names: vec![name],
        ..Default::default()
    };
    let found = client.call::<DescribeLaunchConfigurations>(request).await?;
    Ok(found.launch_configurations.into_iter().find_map(|it| it.instance_type))
}

/// What the template's version says.
async fn data(
    client: &Client,
    template: LaunchTemplateSpecification,
) -> Result<Option<ResponseLaunchTemplateData>, CallError> {
    let version = template.version.unwrap_or_else(|| "$Default".to_owned());
    let by_id = template.launch_template_id.is_some();
    let request = DescribeLaunchTemplateVersionsRequest {
        launch_template_id: template.launch_template_id,
        launch_template_name: template.launch_template_name.filter(|_| !by_id),
        versions: vec![version],
        ..Default::default()
    };
    let found = client.call::<DescribeLaunchTemplateVersions>(request).await?;
    Ok(found.launch_template_versions.into_iter().find_map(|it| it.launch_template_data))
}

/// The image says for which architecture.
async fn of_requirements(
    client: &Client,
    image: String,
    wanted: &InstanceRequirements,
) -> Result<Option<String>, CallError> {
    let request = DescribeImagesRequest { image_ids: vec![image], ..Default::default() };
    let images = client.call::<DescribeImages>(request).await?.images;
    // EC2's shape reads Auto Scaling's spelling of lists too; a shape without maps always does.
    let same = serde_json::to_value(wanted).and_then(serde_json::from_value);
    let Ok(instance_requirements) = same else { return Ok(None) };
    let request = GetInstanceTypesFromInstanceRequirementsRequest {
        architecture_types: images.iter().filter_map(|it| it.architecture.clone()).collect(),
        virtualization_types: images
            .iter()
            .filter_map(|it| it.virtualization_type.clone())
            .collect(),
        instance_requirements,
        ..Default::default()
    };
    let found = client.call::<GetInstanceTypesFromInstanceRequirements>(request).await?;
    Ok(found.instance_types.into_iter().find_map(|it| it.instance_type))
}

#[cfg(test)]
mod tests {
    use std::{convert::Infallible, sync::Arc};

    use aws_autoscaling::{
        group::{LaunchTemplate, LaunchTemplateOverrides, MixedInstancesPolicy},
        instance_requirements::IntegerRange,
    };
    use aws_wire::client::{Config, Endpoints, Exchange};
    use clock::Clock;
    use http::{Request, Response};
    use parking_lot::Mutex;

    use super::*;

    const ANSWERS: [(&str, &str); 4] = [
        (
            "DescribeLaunchConfigurations",
            "<DescribeLaunchConfigurationsResponse><DescribeLaunchConfigurationsResult>\
             <LaunchConfigurations><member><InstanceType>c4.large</InstanceType></member>\
             </LaunchConfigurations></DescribeLaunchConfigurationsResult>\
             </DescribeLaunchConfigurationsResponse>",
        ),
        (
            "DescribeLaunchTemplateVersions",
            "<DescribeLaunchTemplateVersionsResponse><launchTemplateVersionSet><item>\
             <launchTemplateData><imageId>ami-1</imageId></launchTemplateData></item>\
             </launchTemplateVersionSet></DescribeLaunchTemplateVersionsResponse>",
        ),
        (
            "DescribeImages",
            "<DescribeImagesResponse><imagesSet><item><architecture>arm64</architecture>\
             <virtualizationType>hvm</virtualizationType></item></imagesSet>\
             </DescribeImagesResponse>",
        ),
        (
            "GetInstanceTypesFromInstanceRequirements",
            "<GetInstanceTypesFromInstanceRequirementsResponse><instanceTypeSet>\
             <item><instanceType>c7g.large</instanceType></item>\
             <item><instanceType>m7g.large</instanceType></item>\
             </instanceTypeSet></GetInstanceTypesFromInstanceRequirementsResponse>",
        ),
    ];

    async fn answer<B: AsRef<[u8]>>(
        request: Request<B>,
        seen: Arc<Mutex<Vec<String>>>,
    ) -> Result<Response<transport::Body>, Infallible> {
        let text = String::from_utf8_lossy(request.body().as_ref()).into_owned();
        let is_of = |name: &str| text.contains(&format!("Action={name}&"));
        let found = ANSWERS.iter().find(|(name, _)| is_of(name)).unwrap();
        seen.lock().push(text.clone());
        Ok(Response::new(transport::full(found.1.as_bytes())))
    }

    /// An account that answers these, and what it was asked.
    fn account() -> (Client, Arc<Mutex<Vec<String>>>) {
        let asked = Arc::new(Mutex::new(Vec::new()));
        let seen = asked.clone();
        let answer = move |request| answer(request, seen.clone());
        let client = Client::new(Config {
            region: "us-east-1".to_owned(),
            endpoints: Endpoints::default(),
            exchange: Exchange::service(tower::service_fn(answer)),
            credentials: None,
            clock: Clock::simulated("2026-11-29T12:00:00Z".parse().unwrap()),
            attempts: 1,
        });
        (client, asked)
    }

    fn mixed(with: LaunchTemplateOverrides) -> AutoScalingGroup {
        let template = LaunchTemplate {
            launch_template_specification: Some(LaunchTemplateSpecification {
                launch_template_id: Some("lt-1".to_owned()),
                ..Default::default()
            }),
            overrides: vec![with],
        };
        let policy =
            MixedInstancesPolicy { launch_template: Some(template), instances_distribution: None };
        AutoScalingGroup { mixed_instances_policy: Some(policy), ..Default::default() }
    }

    #[tokio::test]
    async fn a_launch_configuration_says_its_type() {
        let name = Some("old".to_owned());
        let group = AutoScalingGroup { launch_configuration_name: name, ..Default::default() };
        let (client, asked) = account();
        let found = Source::of(&group).instance_type(&client).await.unwrap();
        assert_eq!(found.as_deref(), Some("c4.large"));
        assert!(asked.lock()[0].contains("LaunchConfigurationNames.member.1=old"));
    }

    #[tokio::test]
    async fn attributes_stand_for_the_first_type_that_ec2_finds_for_the_image() {
        let at_least = |it| Some(IntegerRange { min: Some(it), max: None });
        let wanted = InstanceRequirements {
            v_cpu_count: at_least(2),
            memory_mi_b: at_least(4096),
            excluded_instance_types: vec!["t4g*".to_owned()],
            ..Default::default()
        };
        let group = mixed(LaunchTemplateOverrides {
            instance_requirements: Some(wanted),
            ..Default::default()
        });
        let (client, asked) = account();
        let found = Source::of(&group).instance_type(&client).await.unwrap();
        assert_eq!(found.as_deref(), Some("c7g.large"));
        let last = asked.lock().last().unwrap().clone();
        for said in [
            "ArchitectureType.1=arm64",
            "VirtualizationType.1=hvm",
            "InstanceRequirements.VCpuCount.Min=2",
            "InstanceRequirements.MemoryMiB.Min=4096",
            "InstanceRequirements.ExcludedInstanceType.1=t4g%2A",
        ] {
            assert!(last.contains(said), "{said}: {last}");
        }
    }

    #[test]
    fn a_named_type_of_the_policy_comes_before_its_template() {
        let named = LaunchTemplateOverrides {
            instance_type: Some("m5.large".to_owned()),
            ..Default::default()
        };
        assert_eq!(Source::of(&mixed(named)), Source::Type("m5.large".to_owned()));
        assert!(matches!(Source::of(&mixed(Default::default())), Source::Template(_)));
        assert_eq!(Source::of(&AutoScalingGroup::default()), Source::Unknown);
    }
}
