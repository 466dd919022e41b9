//! Launch templates, their versions, and launches from them.

use aws_ec2::{
    common::TagInput,
    launch_template::{
        CreateLaunchTemplate, CreateLaunchTemplateRequest, CreateLaunchTemplateVersion,
        CreateLaunchTemplateVersionRequest, DeleteLaunchTemplateVersions,
        DeleteLaunchTemplateVersionsRequest, DescribeLaunchTemplateVersions,
        DescribeLaunchTemplateVersionsRequest, ModifyLaunchTemplate, ModifyLaunchTemplateRequest,
    },
    launch_template_request::{
        LaunchTemplateBlockDeviceMappingRequest, LaunchTemplateEbsBlockDeviceRequest,
        LaunchTemplateInstanceMetadataOptionsRequest,
        LaunchTemplateInstanceNetworkInterfaceSpecificationRequest,
        LaunchTemplateTagSpecificationRequest, RequestLaunchTemplateData,
    },
    run_instances::{
        CreditSpecificationRequest, LaunchTemplateSpecification, RunInstances, RunInstancesRequest,
    },
};

use super::support::*;

fn data() -> RequestLaunchTemplateData {
    RequestLaunchTemplateData {
        image_id: Some(image_id()),
        instance_type: text("t3.medium"),
        user_data: text("I2Nsb3VkLWNvbmZpZwo="),
        tag_specifications: vec![LaunchTemplateTagSpecificationRequest {
            resource_type: text("instance"),
            tags: vec![TagInput { key: text("from"), value: text("template") }],
        }],
        block_device_mappings: vec![LaunchTemplateBlockDeviceMappingRequest {
            device_name: text("/dev/xvda"),
            ebs: Some(LaunchTemplateEbsBlockDeviceRequest {
                volume_size: Some(80),
                ..Default::default()
            }),
            ..Default::default()
        }],
        credit_specification: Some(CreditSpecificationRequest {
            cpu_credits: "standard".to_owned(),
        }),
        metadata_options: Some(LaunchTemplateInstanceMetadataOptionsRequest {
            http_put_response_hop_limit: Some(1),
            ..Default::default()
        }),
        ..Default::default()
    }
}

async fn create(region: &Region) -> String {
    let request = CreateLaunchTemplateRequest {
        launch_template_name: "nodes".to_owned(),
        launch_template_data: data(),
        ..Default::default()
    };
    let made = region.call::<CreateLaunchTemplate>(request.clone()).await;
    let code = region.code::<CreateLaunchTemplate>(request).await;
    assert_eq!(code, "InvalidLaunchTemplateName.AlreadyExistsException");
    made.launch_template.unwrap().launch_template_id.unwrap()
}

fn from(id: &str, version: Option<&str>) -> RunInstancesRequest {
    RunInstancesRequest {
        min_count: 1,
        max_count: 1,
        launch_template: Some(LaunchTemplateSpecification {
            launch_template_id: text(id),
            version: version.map(str::to_owned),
            ..Default::default()
        }),
        ..Default::default()
    }
}

#[tokio::test(start_paused = true)]
async fn a_launch_takes_from_the_template_what_the_request_does_not_say() {
    let region = region();
    let id = create(&region).await;
    let request = RunInstancesRequest { instance_type: text("m5.large"), ..from(&id, None) };
    let instance = region.run(request).await.remove(0);
    assert_eq!(instance.instance_type.as_deref(), Some("m5.large"));
    let tags: Vec<_> = instance.tags.iter().filter_map(|it| it.value.as_deref()).collect();
    assert_eq!(tags, [id.as_str(), "1", "template"]);
    let options = instance.metadata_options.unwrap();
    assert_eq!(options.http_put_response_hop_limit, Some(1));
    assert_eq!(options.http_tokens.as_deref(), Some("required"));
    let kept = region.ec2.view().instances.get(&instance.instance_id.unwrap()).cloned().unwrap();
    assert_eq!(kept.block_devices[0].size_gib, 80);
    assert_eq!(kept.launch_template, Some((id, 1)));
}

#[tokio::test(start_paused = true)]
async fn versions_are_numbered_defaulted_and_merged() {
    let region = region();
    let id = create(&region).await;
    let version = CreateLaunchTemplateVersionRequest {
        launch_template_id: Some(id.clone()),
        source_version: text("1"),
        launch_template_data: RequestLaunchTemplateData {
            instance_type: text("m5.xlarge"),
            ..Default::default()
        },
        ..Default::default()
    };
    let made = region.call::<CreateLaunchTemplateVersion>(version).await;
    let made = made.launch_template_version.unwrap();
    assert_eq!((made.version_number, made.default_version), (Some(2), Some(false)));
    let merged = made.launch_template_data.unwrap();
    assert_eq!(merged.instance_type.as_deref(), Some("m5.xlarge"));
    assert_eq!(merged.image_id, Some(image_id()));
    let credits = merged.credit_specification.and_then(|it| it.cpu_credits);
    assert_eq!(credits.as_deref(), Some("standard"));
    assert_eq!(merged.block_device_mappings[0].ebs.as_ref().unwrap().volume_size, Some(80));

    let types = |version: Option<&'static str>| {
        let (region, id) = (&region, id.clone());
        async move { region.run(from(&id, version)).await.remove(0).instance_type.unwrap() }
    };
    assert_eq!(types(None).await, "t3.medium");
    assert_eq!(types(Some("$Latest")).await, "m5.xlarge");
    let modify = ModifyLaunchTemplateRequest {
        launch_template_id: Some(id.clone()),
        default_version: text("2"),
        ..Default::default()
    };
    region.call::<ModifyLaunchTemplate>(modify).await;
    assert_eq!(types(Some("$Default")).await, "m5.xlarge");
    assert_eq!(
        region.code::<RunInstances>(from(&id, Some("7"))).await,
        "InvalidLaunchTemplateId.VersionNotFound"
    );

    let delete = DeleteLaunchTemplateVersionsRequest {
        launch_template_id: Some(id.clone()),
        versions: vec!["1".to_owned(), "2".to_owned()],
        ..Default::default()
    };
    let outcome = region.call::<DeleteLaunchTemplateVersions>(delete).await;
    assert_eq!(outcome.successfully_deleted_launch_template_versions.len(), 1);
    assert_eq!(outcome.unsuccessfully_deleted_launch_template_versions.len(), 1);
    let all = DescribeLaunchTemplateVersionsRequest {
        launch_template_id: Some(id),
        ..Default::default()
    };
    let all = region.call::<DescribeLaunchTemplateVersions>(all).await.launch_template_versions;
    assert_eq!(all.iter().filter_map(|it| it.version_number).collect::<Vec<_>>(), [2]);
}

#[tokio::test(start_paused = true)]
async fn one_client_token_makes_one_template_and_one_version() {
    let region = region();
    let template = CreateLaunchTemplateRequest {
        launch_template_name: "once".to_owned(),
        client_token: text("template"),
        launch_template_data: data(),
        ..Default::default()
    };
    let made = region.call::<CreateLaunchTemplate>(template.clone()).await.launch_template;
    let again = region.call::<CreateLaunchTemplate>(template.clone()).await.launch_template;
    assert_eq!(made, again);
    let other = CreateLaunchTemplateRequest { version_description: text("other"), ..template };
    assert_eq!(region.code::<CreateLaunchTemplate>(other).await, "IdempotentParameterMismatch");

    let version = CreateLaunchTemplateVersionRequest {
        launch_template_name: text("once"),
        client_token: text("version"),
        launch_template_data: data(),
        ..Default::default()
    };
    for _ in 0..2 {
        let made = region.call::<CreateLaunchTemplateVersion>(version.clone()).await;
        let made = made.launch_template_version.unwrap();
        assert_eq!((made.version_number, made.default_version), (Some(2), Some(false)));
    }
}

#[tokio::test(start_paused = true)]
async fn the_groups_of_a_templates_interfaces_are_read_back() {
    let region = region();
    let mut template = CreateLaunchTemplateRequest {
        launch_template_name: "groups".to_owned(),
        launch_template_data: data(),
        ..Default::default()
    };
    let groups = vec!["sg-1".to_owned(), "sg-2".to_owned()];
    let interface = LaunchTemplateInstanceNetworkInterfaceSpecificationRequest {
        groups: groups.clone(),
        ..Default::default()
    };
    template.launch_template_data.network_interfaces = vec![interface];
    region.call::<CreateLaunchTemplate>(template).await;
    let request = DescribeLaunchTemplateVersionsRequest {
        launch_template_name: text("groups"),
        ..Default::default()
    };
    let found = region.call::<DescribeLaunchTemplateVersions>(request).await;
    let data = found.launch_template_versions[0].launch_template_data.clone().unwrap();
    assert_eq!(data.network_interfaces[0].groups, groups);
}
