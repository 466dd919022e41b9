//! What a caller must be allowed, decided on real policies.

use std::{collections::BTreeMap, sync::Arc};

use aws_ec2::{
    address::{AllocateAddress, AllocateAddressRequest, ReleaseAddress, ReleaseAddressRequest},
    common::{TagInput, TagSpecification},
    fleet::{
        CreateFleet, CreateFleetRequest, FleetLaunchTemplateConfigRequest,
        FleetLaunchTemplateOverridesRequest,
    },
    instance_state::{StopInstances, StopInstancesRequest},
    launch_template::{CreateLaunchTemplate, CreateLaunchTemplateRequest},
    launch_template_request::RequestLaunchTemplateData,
    network_interface::{
        AttachNetworkInterface, AttachNetworkInterfaceRequest, CreateNetworkInterface,
        CreateNetworkInterfaceRequest, DetachNetworkInterface, DetachNetworkInterfaceRequest,
    },
    network_interface_permission::{
        CreateNetworkInterfacePermission, CreateNetworkInterfacePermissionRequest,
    },
    run_instances::{
        IamInstanceProfileSpecification, LaunchTemplateSpecification, RunInstances,
        RunInstancesRequest,
    },
};
use aws_wire::Operation;
use region_gateway::{Attached, Authorizer, Caller, CallerKind, Handle, Identities, Role};
use serde_json::{Value, json};

use super::support::*;
use crate::{Ec2, records::HostReport};

/// Has the policy that the test gives it.
struct Only(Arc<iam_policy::Policy>);

impl Identities for Only {
    fn attached(&self, _: &CallerKind) -> Option<Attached> {
        let policy = iam_policy::Named { name: "ops".to_owned(), policy: self.0.clone() };
        Some(Attached { identity: vec![policy], boundary: None })
    }

    fn role(&self, _: &str) -> Option<Role> {
        None
    }

    fn managed_policy(&self, _: &str) -> Option<iam_policy::Named> {
        None
    }
}

/// What the statements do not allow of a call: (action, type of resource).
fn denied<O: Operation>(region: &Region, policy: &Value, request: &O::Request) -> Vec<String>
where
    Ec2: Handle<O>,
{
    let text = json!({"Version": "2012-10-17", "Statement": policy}).to_string();
    let policy = iam_policy::Policy::parse(&text, iam_policy::Kind::Identity).unwrap();
    let authorizer = Authorizer::new(Arc::new(Only(Arc::new(policy))));
    let ops = Caller {
        arn: format!("arn:aws:iam::{ACCOUNT}:user/ops"),
        kind: CallerKind::User { name: "ops".to_owned() },
        tags: BTreeMap::new(),
        ..Caller::root(ACCOUNT, "us-east-1", region.clock.now())
    };
    let action = format!("ec2:{}", O::ACTION);
    let targets = Handle::<O>::targets(&*region.ec2, &ops, request);
    let decided = targets.iter().map(|it| authorizer.decide(&ops, &action, it));
    let refused = decided.filter(|it| !it.decision.is_allowed());
    let kind = |arn: &str| arn.rsplit(':').next().unwrap().split('/').next().unwrap().to_owned();
    refused.map(|it| format!("{} {}", it.action, kind(&it.resource))).collect()
}

fn allow(action: &str, resource: &str) -> Value {
    json!({"Effect": "Allow", "Action": action, "Resource": resource})
}

fn arn(kind: &str, id: &str) -> String {
    format!("arn:aws:ec2:us-east-1:{ACCOUNT}:{kind}/{id}")
}

#[tokio::test(start_paused = true)]
async fn a_launch_is_decided_on_for_all_that_takes_part_in_it() {
    let region = region();
    let subnet = region.subnets().await.remove(0).subnet_id.unwrap();
    let tags = |kind: &str| TagSpecification {
        resource_type: text(kind),
        tags: vec![TagInput { key: text("team"), value: text("blue") }],
    };
    let request = RunInstancesRequest {
        subnet_id: Some(subnet.clone()),
        key_name: text("mine"),
        tag_specifications: vec![tags("volume"), tags("network-interface")],
        iam_instance_profile: Some(IamInstanceProfileSpecification {
            name: text("node"),
            arn: None,
        }),
        ..launch()
    };
    let check = |policy| denied::<RunInstances>(&region, &policy, &request);
    assert_eq!(
        check(allow("s3:*", "*")),
        [
            "ec2:RunInstances instance",
            "ec2:RunInstances volume",
            "ec2:RunInstances network-interface",
            "ec2:RunInstances subnet",
            "ec2:RunInstances security-group",
            "ec2:RunInstances image",
            "ec2:RunInstances key-pair",
            "ec2:CreateTags volume",
            "ec2:CreateTags network-interface",
            "iam:PassRole role",
        ]
    );
    let everything = || vec![allow("ec2:*", "*"), allow("iam:PassRole", "*")];
    assert!(check(json!(everything())).is_empty());
    // A subnet is closed, by name and by its VPC.
    let deny = json!({"Effect": "Deny", "Action": "*", "Resource": arn("subnet", &subnet)});
    let mut policy = everything();
    policy.push(deny);
    assert_eq!(check(json!(policy)), ["ec2:RunInstances subnet"]);
    let elsewhere = json!({
        "Effect": "Deny",
        "Action": "ec2:RunInstances",
        "Resource": arn("security-group", "*"),
        "Condition": {"ArnNotEquals": {"ec2:Vpc": arn("vpc", "vpc-other")}},
    });
    let mut policy = everything();
    policy.push(elsewhere);
    assert_eq!(check(json!(policy)), ["ec2:RunInstances security-group"]);
}

#[tokio::test(start_paused = true)]
async fn a_policy_can_hold_launches_to_one_template() {
    let region = region();
    let data = RequestLaunchTemplateData {
        image_id: Some(image_id()),
        instance_type: text("m5.large"),
        ..Default::default()
    };
    let create = CreateLaunchTemplateRequest {
        launch_template_name: "nodes".to_owned(),
        launch_template_data: data,
        ..Default::default()
    };
    let made = region.call::<CreateLaunchTemplate>(create).await.launch_template.unwrap();
    let template = arn("launch-template", &made.launch_template_id.unwrap());
    let policy = json!({
        "Effect": "Allow",
        "Action": "ec2:RunInstances",
        "Resource": "*",
        "Condition": {
            "ArnEquals": {"ec2:LaunchTemplate": template},
            "Bool": {"ec2:IsLaunchTemplateResource": "true"},
        },
    });
    let named =
        LaunchTemplateSpecification { launch_template_name: text("nodes"), ..Default::default() };
    let from = RunInstancesRequest {
        min_count: 1,
        max_count: 1,
        launch_template: Some(named),
        ..Default::default()
    };
    assert!(denied::<RunInstances>(&region, &policy, &from).is_empty());
    let other = RunInstancesRequest { image_id: Some(image_id()), ..from };
    assert_eq!(denied::<RunInstances>(&region, &policy, &other), ["ec2:RunInstances image"]);
    assert!(!denied::<RunInstances>(&region, &policy, &launch()).is_empty());
}

#[tokio::test(start_paused = true)]
async fn a_fleet_is_decided_on_for_each_of_its_overrides() {
    let region = region();
    let subnets: Vec<String> =
        region.subnets().await.into_iter().filter_map(|it| it.subnet_id).take(2).collect();
    let create = CreateLaunchTemplateRequest {
        launch_template_name: "nodes".to_owned(),
        launch_template_data: RequestLaunchTemplateData {
            image_id: Some(image_id()),
            instance_type: text("m5.large"),
            ..Default::default()
        },
        ..Default::default()
    };
    region.call::<CreateLaunchTemplate>(create).await;
    let within = |subnet: &String| FleetLaunchTemplateOverridesRequest {
        subnet_id: Some(subnet.clone()),
        ..Default::default()
    };
    let request = CreateFleetRequest {
        launch_template_configs: vec![FleetLaunchTemplateConfigRequest {
            launch_template_specification: Some(LaunchTemplateSpecification {
                launch_template_name: text("nodes"),
                ..Default::default()
            }),
            overrides: subnets.iter().map(within).collect(),
        }],
        ..Default::default()
    };
    assert!(denied::<CreateFleet>(&region, &allow("ec2:*", "*"), &request).is_empty());
    for subnet in &subnets {
        let deny = json!({"Effect": "Deny", "Action": "*", "Resource": arn("subnet", subnet)});
        let policy = json!([allow("ec2:*", "*"), deny]);
        assert_eq!(denied::<CreateFleet>(&region, &policy, &request), ["ec2:CreateFleet subnet"]);
    }
}

#[tokio::test(start_paused = true)]
async fn interfaces_and_addresses_are_decided_on_by_their_own_tags() {
    let region = region();
    let subnet = region.subnets().await.remove(0).subnet_id.unwrap();
    let tags = |kind: &str| {
        vec![TagSpecification {
            resource_type: text(kind),
            tags: vec![TagInput { key: text("team"), value: text("blue") }],
        }]
    };
    let create = CreateNetworkInterfaceRequest {
        subnet_id: subnet,
        tag_specifications: tags("network-interface"),
        ..Default::default()
    };
    let none = allow("s3:*", "*");
    assert_eq!(
        denied::<CreateNetworkInterface>(&region, &none, &create),
        [
            "ec2:CreateNetworkInterface network-interface",
            "ec2:CreateTags network-interface",
            "ec2:CreateNetworkInterface subnet",
        ]
    );
    let made = region.call::<CreateNetworkInterface>(create).await.network_interface.unwrap();
    let instance = region.run(launch()).await.remove(0).instance_id.unwrap();
    let attach = AttachNetworkInterfaceRequest {
        network_interface_id: made.network_interface_id.unwrap(),
        instance_id: instance,
        device_index: 1,
        ..Default::default()
    };
    let attached = region.call::<AttachNetworkInterface>(attach.clone()).await;
    let detach = DetachNetworkInterfaceRequest {
        attachment_id: attached.attachment_id.unwrap(),
        ..Default::default()
    };
    let blue = json!({
        "Effect": "Allow",
        "Action": "ec2:*",
        "Resource": "*",
        "Condition": {"StringEquals": {"ec2:ResourceTag/team": "blue"}},
    });
    // The instance has no tag, the interface has.
    assert_eq!(
        denied::<AttachNetworkInterface>(&region, &blue, &attach),
        ["ec2:AttachNetworkInterface instance"]
    );
    assert_eq!(
        denied::<DetachNetworkInterface>(&region, &blue, &detach),
        ["ec2:DetachNetworkInterface instance"]
    );
    let request =
        AllocateAddressRequest { tag_specifications: tags("elastic-ip"), ..Default::default() };
    let address = region.call::<AllocateAddress>(request).await;
    let release =
        ReleaseAddressRequest { allocation_id: address.allocation_id, ..Default::default() };
    assert!(denied::<ReleaseAddress>(&region, &blue, &release).is_empty());
    assert_eq!(
        denied::<ReleaseAddress>(&region, &none, &release),
        ["ec2:ReleaseAddress elastic-ip"]
    );
}

/// Auto Scaling and EKS launch as services.
#[tokio::test(start_paused = true)]
async fn a_service_launches_without_a_policy() {
    let region = region();
    let service = region.gateway.client_as("autoscaling.amazonaws.com");
    service.call::<RunInstances>(launch()).await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn an_instance_that_is_pending_cannot_be_stopped() {
    let region = region();
    let id = region.run(launch()).await.remove(0).instance_id.unwrap();
    let stop = StopInstancesRequest { instance_ids: vec![id.clone()], ..Default::default() };
    let fault = region.refused::<StopInstances>(stop.clone()).await;
    assert_eq!(fault.code, "IncorrectInstanceState");
    region.report(&id, &HostReport::Started);
    region.call::<StopInstances>(stop).await;
}

/// The first statement of the managed policy AmazonEKSVPCResourceController.
#[tokio::test(start_paused = true)]
async fn the_controller_gives_permissions_on_its_own_interfaces_alone() {
    let region = region();
    let subnet_id = region.subnets().await.remove(0).subnet_id.unwrap();
    let policy = json!([{
        "Effect": "Allow",
        "Action": "ec2:CreateNetworkInterfacePermission",
        "Resource": "*",
        "Condition": {"ForAnyValue:StringEquals": {
            "ec2:ResourceTag/eks:eni:owner": "eks-vpc-resource-controller"
        }}
    }]);
    for (owner, is_allowed) in [("eks-vpc-resource-controller", true), ("amazon-vpc-cni", false)] {
        let tags = vec![TagInput { key: text("eks:eni:owner"), value: text(owner) }];
        let request = CreateNetworkInterfaceRequest {
            subnet_id: subnet_id.clone(),
            tag_specifications: vec![TagSpecification {
                resource_type: text("network-interface"),
                tags,
            }],
            ..Default::default()
        };
        let made = region.call::<CreateNetworkInterface>(request).await.network_interface.unwrap();
        let request = CreateNetworkInterfacePermissionRequest {
            network_interface_id: made.network_interface_id.unwrap(),
            aws_account_id: text("444455556666"),
            permission: "INSTANCE-ATTACH".to_owned(),
            ..Default::default()
        };
        let refused = denied::<CreateNetworkInterfacePermission>(&region, &policy, &request);
        assert_eq!(refused.is_empty(), is_allowed, "{owner}: {refused:?}");
    }
}
