//! Fargate profiles through their handlers, and what they say about new pods.

use aws_ec2::{
    route_table::{
        AssociateRouteTable, AssociateRouteTableRequest, CreateRouteTable, CreateRouteTableRequest,
    },
    subnet::{CreateSubnet, CreateSubnetRequest},
};
use aws_eks::{
    CreateFargateProfile, CreateFargateProfileRequest, DeleteFargateProfile,
    DeleteFargateProfileRequest, DescribeFargateProfile, DescribeFargateProfileRequest,
    FargateProfile, FargateProfileSelector, ListFargateProfiles, ListOfClusterRequest,
    ListTagsForResource, ListTagsForResourceRequest,
};
use aws_wire::Fault;
use serde_json::{Value, json};

use super::*;
use crate::FargateWebhook;

impl Region {
    /// A subnet that leads nowhere.
    async fn private_subnet(&self) -> String {
        let vpc_id = self.ec2.default_vpc().unwrap().id;
        let subnet = CreateSubnetRequest {
            vpc_id: vpc_id.clone(),
            cidr_block: Some("192.168.128.0/24".to_owned()),
            ..Default::default()
        };
        let made = Handle::<CreateSubnet>::handle(&*self.ec2, &self.root(), subnet).await;
        let subnet = made.unwrap().subnet.unwrap().subnet_id.unwrap();
        let table = CreateRouteTableRequest { vpc_id, ..Default::default() };
        let made = Handle::<CreateRouteTable>::handle(&*self.ec2, &self.root(), table).await;
        let associate = AssociateRouteTableRequest {
            route_table_id: made.unwrap().route_table.unwrap().route_table_id.unwrap(),
            subnet_id: Some(subnet.clone()),
            ..Default::default()
        };
        Handle::<AssociateRouteTable>::handle(&*self.ec2, &self.root(), associate).await.unwrap();
        subnet
    }

    async fn profile(&self, request: CreateFargateProfileRequest) -> Result<FargateProfile, Fault> {
        let made = Handle::<CreateFargateProfile>::handle(&self.eks, &self.root(), request).await?;
        Ok(made.fargate_profile.unwrap())
    }

    async fn described(&self, name: &str) -> Result<FargateProfile, Fault> {
        let request = DescribeFargateProfileRequest {
            cluster_name: "a".to_owned(),
            fargate_profile_name: name.to_owned(),
        };
        let root = self.root();
        let found = Handle::<DescribeFargateProfile>::handle(&self.eks, &root, request);
        Ok(found.await?.fargate_profile.unwrap())
    }

    async fn delete_profile(&self, name: &str) {
        let request = DeleteFargateProfileRequest {
            cluster_name: "a".to_owned(),
            fargate_profile_name: name.to_owned(),
        };
        let root = self.root();
        let deleted = Handle::<DeleteFargateProfile>::handle(&self.eks, &root, request);
        let deleted = deleted.await.unwrap().fargate_profile.unwrap();
        assert_eq!(deleted.status.as_deref(), Some("DELETING"));
        tokio::time::sleep(Duration::from_secs(10)).await;
    }
}

fn asked(name: &str, subnet: &str) -> CreateFargateProfileRequest {
    CreateFargateProfileRequest {
        fargate_profile_name: name.to_owned(),
        cluster_name: "a".to_owned(),
        pod_execution_role_arn: format!("arn:aws:iam::{ACCOUNT}:role/fargate"),
        subnets: vec![subnet.to_owned()],
        selectors: vec![FargateProfileSelector {
            namespace: Some("jobs".to_owned()),
            ..Default::default()
        }],
        tags: [("team".to_owned(), "a".to_owned())].into(),
        ..Default::default()
    }
}

#[tokio::test(start_paused = true)]
async fn a_profile_is_active_and_says_that_nobody_runs_its_pods() {
    let region = region().await;
    region.create("a").await;
    let subnet = region.private_subnet().await;
    let made = region.profile(asked("jobs", &subnet)).await.unwrap();
    assert_eq!(made.status.as_deref(), Some("CREATING"));
    tokio::time::sleep(Duration::from_secs(10)).await;
    let found = region.described("jobs").await.unwrap();
    assert_eq!(found.status.as_deref(), Some("ACTIVE"));
    let issue = found.health.unwrap().issues.remove(0);
    assert!(issue.message.unwrap().contains("runs no pods on Fargate"));
    let list = ListOfClusterRequest { cluster_name: "a".to_owned(), ..Default::default() };
    let listed = Handle::<ListFargateProfiles>::handle(&region.eks, &region.root(), list).await;
    assert_eq!(listed.unwrap().fargate_profile_names, ["jobs"]);
    let tags = ListTagsForResourceRequest { resource_arn: found.fargate_profile_arn.unwrap() };
    let tags = Handle::<ListTagsForResource>::handle(&region.eks, &region.root(), tags).await;
    assert_eq!(tags.unwrap().tags["team"], "a");

    let again = region.profile(asked("jobs", &subnet)).await.unwrap_err();
    assert_eq!(again.code, "ResourceInUseException");
    let delete = DeleteClusterRequest { name: "a".to_owned() };
    let deleted = Handle::<DeleteCluster>::handle(&region.eks, &region.root(), delete).await;
    assert_eq!(deleted.unwrap_err().code, "ResourceInUseException");
    region.delete_profile("jobs").await;
    assert_eq!(region.described("jobs").await.unwrap_err().code, "ResourceNotFoundException");
    region.profile(asked("jobs", &subnet)).await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn a_profile_needs_a_private_subnet_a_role_that_fargate_may_assume_and_selectors() {
    let region = region().await;
    region.create("a").await;
    let public = region.subnets[0].clone();
    let refused = region.profile(asked("jobs", &public)).await.unwrap_err();
    let told = format!("Subnet {public} provided in Fargate Profile is not a private subnet");
    assert_eq!((&*refused.code, &*refused.message), ("InvalidParameterException", &*told));
    let subnet = region.private_subnet().await;
    let role = format!("arn:aws:iam::{ACCOUNT}:role/untrusting");
    let request =
        CreateFargateProfileRequest { pod_execution_role_arn: role, ..asked("jobs", &subnet) };
    let refused = region.profile(request).await.unwrap_err();
    assert!(refused.message.starts_with("Misconfigured PodExecutionRole Trust Policy"));
    let none = CreateFargateProfileRequest { selectors: Vec::new(), ..asked("jobs", &subnet) };
    assert_eq!(region.profile(none).await.unwrap_err().code, "InvalidParameterException");
    let reserved = region.profile(asked("eks-jobs", &subnet)).await;
    assert_eq!(reserved.unwrap_err().code, "InvalidParameterException");
    let without = CreateFargateProfileRequest { subnets: Vec::new(), ..asked("jobs", &subnet) };
    assert!(region.profile(without).await.unwrap_err().message.contains("no private ones"));
}

#[tokio::test(start_paused = true)]
async fn a_new_pod_that_a_profile_selects_waits_for_fargate_and_others_are_left_alone() {
    let region = region().await;
    region.create("a").await;
    let subnet = region.private_subnet().await;
    let webhook = FargateWebhook::new(region.eks.clone(), "a");
    let pod = json!({ "metadata": { "labels": { "app": "x" } }, "spec": {} });
    assert!(webhook.patch("jobs", &pod).is_empty());
    region.profile(asked("jobs", &subnet)).await.unwrap();
    tokio::time::sleep(Duration::from_secs(10)).await;
    let wanted = json!([
        { "op": "add", "path": "/spec/schedulerName", "value": "fargate-scheduler" },
        {
            "op": "add",
            "path": "/metadata/labels/eks.amazonaws.com~1fargate-profile",
            "value": "jobs",
        },
    ]);
    assert_eq!(Value::from(webhook.patch("jobs", &pod)), wanted);
    assert!(webhook.patch("default", &pod).is_empty());
    let own = json!({ "metadata": {}, "spec": { "schedulerName": "mine" } });
    assert!(webhook.patch("jobs", &own).is_empty());
    region.delete_profile("jobs").await;
    assert!(webhook.patch("jobs", &pod).is_empty());
}
