//! Changes that come at the same time, what they are decided on, and clusters that do not answer.

use std::collections::BTreeMap;

use aws_ec2::{
    launch_template::{CreateLaunchTemplate, CreateLaunchTemplateRequest},
    launch_template_request::RequestLaunchTemplateData,
};
use aws_eks::{
    AccessScope, CreateAddon, CreateAddonRequest, CreateFargateProfile,
    CreateFargateProfileRequest, CreateNodegroup, CreateNodegroupRequest,
    CreatePodIdentityAssociation, CreatePodIdentityAssociationRequest, DeleteAccessEntry,
    DeleteAccessEntryRequest, DeleteAddon, DeleteAddonRequest, DescribeAddon, DescribeAddonRequest,
    DescribeCluster, DescribeClusterRequest, DescribeNodegroup, DescribeNodegroupRequest,
    DescribeUpdate, DescribeUpdateRequest, DisassociateAccessPolicy,
    DisassociateAccessPolicyRequest, LaunchTemplateSpecification, NodegroupScalingConfig,
    TagResource, TagResourceRequest, UntagResource, UntagResourceRequest, UpdateAccessEntry,
    UpdateAccessEntryRequest, UpdatePodIdentityAssociation, UpdatePodIdentityAssociationRequest,
};
use aws_wire::Operation;

use super::*;

const VIEW: &str = "arn:aws:eks::aws:cluster-access-policy/AmazonEKSViewPolicy";

fn known() -> String {
    format!("arn:aws:iam::{ACCOUNT}:role/known")
}

/// The condition keys that a call is decided on, beside the global ones.
fn keys<O: Operation>(region: &Region, request: &O::Request) -> BTreeMap<String, Vec<String>>
where
    Eks: Handle<O>,
{
    let targets = Handle::<O>::targets(&region.eks, &region.root(), request).into_iter();
    targets.filter(|it| it.action.is_none()).flat_map(|it| it.context).collect()
}

fn one(value: &str) -> Vec<String> {
    vec![value.to_owned()]
}

#[tokio::test(start_paused = true)]
async fn a_resource_is_decided_on_by_its_tags_and_those_that_are_asked_for() {
    let region = region().await;
    region.create("a").await;
    let root = region.root();
    let arn = format!("arn:aws:eks:us-east-1:{ACCOUNT}:cluster/a");
    let tags = BTreeMap::from([("team".to_owned(), "red".to_owned())]);
    let tag = TagResourceRequest { resource_arn: arn.clone(), tags };
    let asked = keys::<TagResource>(&region, &tag);
    assert_eq!(asked["aws:RequestTag/team"], one("red"));
    assert_eq!(asked.get("aws:ResourceTag/team"), None);
    Handle::<TagResource>::handle(&region.eks, &root, tag.clone()).await.unwrap();

    // Who may change what is red alone may not make blue what is red and then keep it.
    assert_eq!(keys::<TagResource>(&region, &tag)["aws:ResourceTag/team"], one("red"));
    let untag = UntagResourceRequest { resource_arn: arn, tag_keys: one("team") };
    let asked = keys::<UntagResource>(&region, &untag);
    assert_eq!(
        (&asked["aws:ResourceTag/team"], &asked["aws:TagKeys"]),
        (&one("red"), &one("team"))
    );
    let describe = DescribeClusterRequest { name: "a".to_owned() };
    assert_eq!(keys::<DescribeCluster>(&region, &describe)["aws:ResourceTag/team"], one("red"));
    let create = CreateNodegroupRequest {
        cluster_name: "a".to_owned(),
        tags: BTreeMap::from([("cost".to_owned(), "7".to_owned())]),
        ..Default::default()
    };
    let asked = keys::<CreateNodegroup>(&region, &create);
    assert_eq!(
        (&asked["aws:ResourceTag/team"], &asked["aws:RequestTag/cost"]),
        (&one("red"), &one("7"))
    );
}

/// The right to tag what `O` makes: its resource, and the tags. An access entry's has the entry's own
/// keys, too.
fn tagging<O: Operation>(
    region: &Region,
    request: &O::Request,
) -> Option<(String, BTreeMap<String, Vec<String>>)>
where
    Eks: Handle<O>,
{
    let targets = Handle::<O>::targets(&region.eks, &region.root(), request).into_iter();
    let mut targets = targets.filter(|it| it.action.as_deref() == Some("eks:TagResource"));
    targets.next().map(|mut it| {
        it.context.retain(|key, _| key.starts_with("aws:"));
        (it.resource, it.context)
    })
}

#[tokio::test(start_paused = true)]
async fn what_is_made_with_tags_asks_for_the_right_to_tag_it() {
    let region = region().await;
    region.create("a").await;
    let tags = || BTreeMap::from([("cost".to_owned(), "7".to_owned())]);
    let cluster_name = || "a".to_owned();
    let untagged = CreateNodegroupRequest {
        cluster_name: cluster_name(),
        nodegroup_name: "ng".to_owned(),
        ..Default::default()
    };
    assert_eq!(tagging::<CreateNodegroup>(&region, &untagged), None);
    let group = CreateNodegroupRequest { tags: tags(), ..untagged };
    let cluster = CreateClusterRequest { name: "b".to_owned(), tags: tags(), ..Default::default() };
    let addon = CreateAddonRequest {
        cluster_name: cluster_name(),
        addon_name: "coredns".to_owned(),
        tags: tags(),
        ..Default::default()
    };
    let profile = CreateFargateProfileRequest {
        cluster_name: cluster_name(),
        fargate_profile_name: "fp".to_owned(),
        tags: tags(),
        ..Default::default()
    };
    let entry = CreateAccessEntryRequest {
        cluster_name: cluster_name(),
        principal_arn: known(),
        tags: tags(),
        ..Default::default()
    };
    let association = CreatePodIdentityAssociationRequest {
        cluster_name: cluster_name(),
        tags: tags(),
        ..Default::default()
    };
    let asked = [
        tagging::<CreateNodegroup>(&region, &group),
        tagging::<CreateCluster>(&region, &cluster),
        tagging::<CreateAddon>(&region, &addon),
        tagging::<CreateFargateProfile>(&region, &profile),
        tagging::<CreateAccessEntry>(&region, &entry),
        tagging::<CreatePodIdentityAssociation>(&region, &association),
    ];
    let expected = [
        "nodegroup/a/ng/*".to_owned(),
        "cluster/b".to_owned(),
        "addon/a/coredns/*".to_owned(),
        "fargateprofile/a/fp/*".to_owned(),
        format!("access-entry/a/role/{ACCOUNT}/known/*"),
        "podidentityassociation/a/*".to_owned(),
    ];
    let keys = BTreeMap::from([
        ("aws:RequestTag/cost".to_owned(), one("7")),
        ("aws:TagKeys".to_owned(), one("cost")),
    ]);
    let arn = |it: String| format!("arn:aws:eks:us-east-1:{ACCOUNT}:{it}");
    assert_eq!(asked, expected.map(|it| Some((arn(it), keys.clone()))));
}

/// Whoever may give access may be kept from giving all of it.
#[tokio::test(start_paused = true)]
async fn access_is_decided_on_by_what_is_given_to_whom() {
    let region = region().await;
    region.create("a").await;
    let root = region.root();
    let entry = CreateAccessEntryRequest {
        cluster_name: "a".to_owned(),
        principal_arn: known(),
        kubernetes_groups: one("viewers"),
        username: Some("ann".to_owned()),
        ..Default::default()
    };
    let asked = keys::<CreateAccessEntry>(&region, &entry);
    for (key, value) in [
        ("eks:principalArn", known().as_str()),
        ("eks:accessEntryType", "STANDARD"),
        ("eks:username", "ann"),
        ("eks:kubernetesGroups", "viewers"),
    ] {
        assert_eq!(asked[key], one(value), "{key}");
    }
    Handle::<CreateAccessEntry>::handle(&region.eks, &root, entry).await.unwrap();
    let associate = AssociateAccessPolicyRequest {
        cluster_name: "a".to_owned(),
        principal_arn: known(),
        policy_arn: VIEW.to_owned(),
        access_scope: AccessScope {
            kind: Some("namespace".to_owned()),
            namespaces: one("default"),
        },
    };
    let disassociate = DisassociateAccessPolicyRequest {
        cluster_name: "a".to_owned(),
        principal_arn: known(),
        policy_arn: VIEW.to_owned(),
    };
    let given = keys::<AssociateAccessPolicy>(&region, &associate);
    Handle::<AssociateAccessPolicy>::handle(&region.eks, &root, associate.clone()).await.unwrap();
    let taken = keys::<DisassociateAccessPolicy>(&region, &disassociate);
    for asked in [given, taken] {
        assert_eq!(asked["eks:policyArn"], one(VIEW));
        assert_eq!(asked["eks:accessScope"], one("namespace"));
        assert_eq!(asked["eks:namespaces"], one("default"));
    }
    let update = UpdateAccessEntryRequest {
        cluster_name: "a".to_owned(),
        principal_arn: known(),
        kubernetes_groups: Some(one("admins")),
        ..Default::default()
    };
    let asked = keys::<UpdateAccessEntry>(&region, &update);
    assert_eq!(asked["eks:kubernetesGroups"], one("admins"), "what it is to become");
    assert_eq!(asked["eks:principalArn"], one(&known()));
    assert_eq!(asked["eks:username"], one("ann"), "what it keeps");
    // An entry that is gone does not come back by a change of it.
    let delete = DeleteAccessEntryRequest { cluster_name: "a".to_owned(), principal_arn: known() };
    Handle::<DeleteAccessEntry>::handle(&region.eks, &root, delete).await.unwrap();
    let late = Handle::<AssociateAccessPolicy>::handle(&region.eks, &root, associate).await;
    assert_eq!(late.unwrap_err().code, "ResourceNotFoundException");
    assert_eq!(region.eks.mapping("a", &known()), None);
}

#[tokio::test(start_paused = true)]
async fn who_was_decided_on_for_one_role_does_not_change_what_another_may() {
    let region = region().await;
    region.create("a").await;
    let create = CreatePodIdentityAssociationRequest {
        cluster_name: "a".to_owned(),
        namespace: "default".to_owned(),
        service_account: "app".to_owned(),
        role_arn: known(),
        ..Default::default()
    };
    let root = region.root();
    let made = Handle::<CreatePodIdentityAssociation>::handle(&region.eks, &root, create).await;
    let id = made.unwrap().association.unwrap().association_id;
    let request = UpdatePodIdentityAssociationRequest {
        cluster_name: "a".to_owned(),
        association_id: id,
        disable_session_tags: Some(true),
        ..Default::default()
    };
    // Decided on before somebody else has changed the association.
    let early = Caller { at: region.eks.now() - Duration::from_secs(1), ..region.root() };
    let update = async |caller: &Caller, request: &UpdatePodIdentityAssociationRequest| {
        let request = request.clone();
        let done =
            Handle::<UpdatePodIdentityAssociation>::handle(&region.eks, caller, request).await;
        done.map(|_| ()).map_err(|it: Fault| it.code.into_owned())
    };
    assert_eq!(update(&early, &request).await, Err("InvalidRequestException".to_owned()));
    assert_eq!(update(&region.root(), &request).await, Ok(()));
    // A role that the request itself names is the one that was decided on.
    let named = UpdatePodIdentityAssociationRequest { role_arn: Some(known()), ..request };
    assert_eq!(update(&early, &named).await, Ok(()));
}

fn addon_update() -> UpdateAddonRequest {
    UpdateAddonRequest {
        cluster_name: "a".to_owned(),
        addon_name: "coredns".to_owned(),
        ..Default::default()
    }
}

async fn update_status(region: &Region, id: &str) -> String {
    let request = DescribeUpdateRequest {
        name: "a".to_owned(),
        update_id: id.to_owned(),
        addon_name: Some("coredns".to_owned()),
        ..Default::default()
    };
    let found = Handle::<DescribeUpdate>::handle(&region.eks, &region.root(), request).await;
    found.unwrap().update.unwrap().status
}

#[tokio::test(start_paused = true)]
async fn an_addon_that_goes_takes_no_update_and_leaves_none_behind() {
    let region = region().await;
    region.create("a").await;
    let root = region.root();
    let update = async || {
        let request = addon_update();
        let done = Handle::<UpdateAddon>::handle(&region.eks, &root, request).await;
        done.map(|it| it.update.unwrap().id)
    };
    let first = update().await.unwrap();
    let second = update().await.unwrap();
    assert_eq!(update_status(&region, &first).await, "Cancelled", "another took its place");
    assert_eq!(update_status(&region, &second).await, "InProgress");
    let delete = DeleteAddonRequest {
        cluster_name: "a".to_owned(),
        addon_name: "coredns".to_owned(),
        preserve: None,
    };
    Handle::<DeleteAddon>::handle(&region.eks, &root, delete).await.unwrap();
    assert_eq!(update_status(&region, &second).await, "Cancelled");
    // The cluster does not answer, so that it is still going.
    let refused = update().await.unwrap_err();
    assert_eq!(refused.code, "ResourceInUseException");
    let describe =
        DescribeAddonRequest { cluster_name: "a".to_owned(), addon_name: "coredns".to_owned() };
    let found = Handle::<DescribeAddon>::handle(&region.eks, &root, describe).await.unwrap();
    assert_eq!(found.addon.unwrap().status, "DELETING");
}

impl Region {
    async fn group_in(&self, cluster: &str) {
        let image = Some("ami-theirs".to_owned());
        let template = CreateLaunchTemplateRequest {
            launch_template_name: format!("of-{cluster}"),
            launch_template_data: RequestLaunchTemplateData {
                image_id: image,
                ..Default::default()
            },
            ..Default::default()
        };
        let root = self.root();
        Handle::<CreateLaunchTemplate>::handle(&*self.ec2, &root, template).await.unwrap();
        let request = CreateNodegroupRequest {
            cluster_name: cluster.to_owned(),
            nodegroup_name: "g".to_owned(),
            subnets: self.subnets.clone(),
            node_role: format!("arn:aws:iam::{ACCOUNT}:role/node"),
            launch_template: Some(LaunchTemplateSpecification {
                name: Some(format!("of-{cluster}")),
                version: Some("1".to_owned()),
                ..Default::default()
            }),
            scaling_config: Some(NodegroupScalingConfig {
                min_size: Some(0),
                max_size: Some(1),
                desired_size: Some(0),
            }),
            ..Default::default()
        };
        Handle::<CreateNodegroup>::handle(&self.eks, &root, request).await.unwrap();
    }

    async fn issues_of_group(&self, cluster: &str) -> Vec<String> {
        let request = DescribeNodegroupRequest {
            cluster_name: cluster.to_owned(),
            nodegroup_name: "g".to_owned(),
        };
        let found = Handle::<DescribeNodegroup>::handle(&self.eks, &self.root(), request).await;
        let health = found.unwrap().nodegroup.unwrap().health;
        health.issues.into_iter().filter_map(|it| it.code).collect()
    }
}

/// `a-silent` comes first in every order.
#[tokio::test(start_paused = true)]
async fn a_cluster_that_does_not_answer_holds_up_no_group_of_another() {
    let region = region().await;
    region.create("a-silent").await;
    region.create("b").await;
    region.group_in("a-silent").await;
    region.group_in("b").await;
    tokio::time::sleep(Duration::from_secs(90)).await;
    assert_eq!(region.issues_of_group("b").await, ["ClusterUnreachable"]);
    // Whoever says nothing at all is found out later.
    assert_eq!(region.issues_of_group("a-silent").await, [""; 0]);
    tokio::time::sleep(Duration::from_secs(90)).await;
    assert_eq!(region.issues_of_group("a-silent").await, ["ClusterUnreachable"]);
}

#[tokio::test(start_paused = true)]
async fn a_call_that_comes_again_with_its_token_makes_nothing_new() {
    let region = region().await;
    region.create("a").await;
    let root = region.root();
    let entry = |token: &str, username: &str| CreateAccessEntryRequest {
        cluster_name: "a".to_owned(),
        principal_arn: known(),
        username: Some(username.to_owned()),
        client_request_token: Some(token.to_owned()),
        ..Default::default()
    };
    let make = async |it| {
        let made = Handle::<CreateAccessEntry>::handle(&region.eks, &root, it).await;
        made.map(|it| it.access_entry.unwrap()).map_err(|it| it.code)
    };
    let made = make(entry("one", "ann")).await.unwrap();
    assert_eq!(make(entry("one", "ann")).await.unwrap(), made);
    assert_eq!(make(entry("one", "bob")).await.unwrap_err(), "InvalidParameterException");
    assert_eq!(make(entry("two", "ann")).await.unwrap_err(), "ResourceInUseException");

    let addon = |token: &str, role: Option<String>| CreateAddonRequest {
        cluster_name: "a".to_owned(),
        addon_name: "eks-pod-identity-agent".to_owned(),
        service_account_role_arn: role,
        client_request_token: Some(token.to_owned()),
        ..Default::default()
    };
    let make = async |it| {
        let made = Handle::<CreateAddon>::handle(&region.eks, &root, it).await;
        made.map(|it| it.addon.unwrap()).map_err(|it| it.code)
    };
    let made = make(addon("one", None)).await.unwrap();
    assert_eq!(make(addon("one", None)).await.unwrap(), made);
    let other = make(addon("one", Some(known()))).await;
    assert_eq!(other.unwrap_err(), "InvalidParameterException");
    assert_eq!(make(addon("two", None)).await.unwrap_err(), "ResourceInUseException");
}
