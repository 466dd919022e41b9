//! Pod Identity associations through their handlers.

use aws_eks::{
    AddonPodIdentityAssociations, CreateAddon, CreateAddonRequest, CreatePodIdentityAssociation,
    CreatePodIdentityAssociationRequest, DeleteAddon, DeleteAddonRequest,
    DeletePodIdentityAssociation, DeletePodIdentityAssociationRequest,
    DescribePodIdentityAssociation, DescribePodIdentityAssociationRequest,
    ListPodIdentityAssociations, ListPodIdentityAssociationsRequest, ListTagsForResource,
    ListTagsForResourceRequest, PodIdentityAssociation, TagResource, TagResourceRequest,
    UpdatePodIdentityAssociation, UpdatePodIdentityAssociationRequest,
};
use aws_wire::{Fault, Operation};

use super::*;

fn asked(cluster: &str, account: &str) -> CreatePodIdentityAssociationRequest {
    CreatePodIdentityAssociationRequest {
        cluster_name: cluster.to_owned(),
        namespace: "default".to_owned(),
        service_account: account.to_owned(),
        role_arn: format!("arn:aws:iam::{ACCOUNT}:role/known"),
        ..Default::default()
    }
}

impl Region {
    async fn associate(
        &self,
        request: CreatePodIdentityAssociationRequest,
    ) -> Result<PodIdentityAssociation, Fault> {
        let root = self.root();
        let made = Handle::<CreatePodIdentityAssociation>::handle(&self.eks, &root, request);
        Ok(made.await?.association.unwrap())
    }

    async fn update(
        &self,
        id: &str,
        change: impl FnOnce(&mut UpdatePodIdentityAssociationRequest),
    ) -> Result<PodIdentityAssociation, Fault> {
        let mut request = UpdatePodIdentityAssociationRequest {
            cluster_name: "a".to_owned(),
            association_id: id.to_owned(),
            ..Default::default()
        };
        change(&mut request);
        let root = self.root();
        let made = Handle::<UpdatePodIdentityAssociation>::handle(&self.eks, &root, request);
        Ok(made.await?.association.unwrap())
    }

    async fn accounts(&self, namespace: Option<&str>) -> Vec<String> {
        let request = ListPodIdentityAssociationsRequest {
            cluster_name: "a".to_owned(),
            namespace: namespace.map(str::to_owned),
            ..Default::default()
        };
        let root = self.root();
        let found = Handle::<ListPodIdentityAssociations>::handle(&self.eks, &root, request).await;
        let mut found: Vec<_> =
            found.unwrap().associations.into_iter().map(|it| it.service_account).collect();
        found.sort();
        found
    }
}

#[tokio::test(start_paused = true)]
async fn a_service_account_has_one_association() {
    let region = region().await;
    region.create("a").await;
    let with_token = |token: &str| CreatePodIdentityAssociationRequest {
        client_request_token: Some(token.to_owned()),
        ..asked("a", "app")
    };
    let made = region.associate(with_token("t")).await.unwrap();
    assert!(made.association_id.starts_with("a-") && made.association_id.len() == 19, "{made:?}");
    let arn = format!("arn:aws:eks:us-east-1:{ACCOUNT}:podidentityassociation/a/");
    assert_eq!(made.association_arn, format!("{arn}{}", made.association_id));

    assert_eq!(region.associate(with_token("t")).await.unwrap(), made, "the same call again");
    let other =
        CreatePodIdentityAssociationRequest { disable_session_tags: Some(true), ..with_token("t") };
    assert_eq!(region.associate(other).await.unwrap_err().code, "InvalidParameterException");
    let second = region.associate(with_token("u")).await.unwrap_err();
    assert_eq!(second.code, "ResourceInUseException");
    assert_eq!(second.message, format!("Association already exists: {}", made.association_id));

    region.associate(asked("a", "other")).await.unwrap();
    assert_eq!(region.accounts(None).await, ["app", "other"]);
    assert_eq!(region.accounts(Some("kube-system")).await, Vec::<String>::new());
    let none = region.associate(asked("b", "app")).await.unwrap_err();
    assert_eq!(none.code, "ResourceNotFoundException");
}

#[tokio::test(start_paused = true)]
async fn only_a_role_that_trusts_pod_identity_is_associated() {
    let region = region().await;
    region.create("a").await;
    let with_role = |arn: &str| CreatePodIdentityAssociationRequest {
        role_arn: arn.to_owned(),
        ..asked("a", "app")
    };
    for (arn, wanted) in [
        ("arn:aws:iam::111122223333:role/none", "Role provided in the request does not exist."),
        ("arn:aws:iam::111122223333:role/node", "Trust policy of the role provided is invalid"),
        ("arn:aws:iam::444455556666:role/known", "Cross-account pass role is not allowed."),
        ("known", "The value of roleArn is not valid: known"),
    ] {
        let refused = region.associate(with_role(arn)).await.unwrap_err();
        assert_eq!((&*refused.code, &*refused.message), ("InvalidParameterException", wanted));
    }
    assert!(region.accounts(None).await.is_empty());
}

#[tokio::test(start_paused = true)]
async fn a_target_role_has_an_external_id_for_its_trust_policy() {
    let region = region().await;
    region.create("a").await;
    let made = region.associate(asked("a", "app")).await.unwrap();
    assert_eq!((made.external_id, made.target_role_arn), (None, None));
    let id = made.association_id;
    let target = |arn: &str| {
        let arn = arn.to_owned();
        move |it: &mut UpdatePodIdentityAssociationRequest| it.target_role_arn = Some(arn)
    };
    let first = region.update(&id, target("arn:aws:iam::444455556666:role/a")).await.unwrap();
    let second = region.update(&id, target("arn:aws:iam::444455556666:role/b")).await.unwrap();
    assert!(first.external_id.is_some());
    assert_eq!(first.external_id, second.external_id, "it is the association's");
    let without = region.update(&id, target("")).await.unwrap();
    assert_eq!((without.external_id, without.target_role_arn), (None, None));

    let document = r#"{"Version":"2012-10-17","Statement":{"Effect":"Allow","Action":"s3:*",
        "Resource":"*"}}"#;
    let limit = |it: &mut UpdatePodIdentityAssociationRequest| {
        it.policy = Some(document.to_owned());
    };
    assert_eq!(region.update(&id, limit).await.unwrap_err().code, "InvalidParameterException");
    region.update(&id, |it| it.disable_session_tags = Some(true)).await.unwrap();
    assert_eq!(region.update(&id, limit).await.unwrap().policy.as_deref(), Some(document));
    // Tags would come back beside the policy.
    let back = region.update(&id, |it| it.disable_session_tags = Some(false)).await;
    assert_eq!(back.unwrap_err().code, "InvalidParameterException");
}

#[tokio::test(start_paused = true)]
async fn associations_are_tagged_deleted_and_end_with_their_cluster() {
    let region = region().await;
    region.create("a").await;
    let root = region.root();
    let made = region.associate(asked("a", "app")).await.unwrap();
    // IAM decides on the caller's text: another one that means the same would pass a denial.
    let other = made.association_arn.replace(":us-east-1:", ":xx:");
    assert_ne!(other, made.association_arn);
    let elsewhere = TagResourceRequest { resource_arn: other, tags: Default::default() };
    let refused = Handle::<TagResource>::handle(&region.eks, &root, elsewhere).await.unwrap_err();
    assert_eq!(refused.code, "NotFoundException");
    let tag = TagResourceRequest {
        resource_arn: made.association_arn.clone(),
        tags: [("team".to_owned(), "blue".to_owned())].into(),
    };
    Handle::<TagResource>::handle(&region.eks, &root, tag).await.unwrap();
    let of = ListTagsForResourceRequest { resource_arn: made.association_arn };
    let tags = Handle::<ListTagsForResource>::handle(&region.eks, &root, of).await.unwrap().tags;
    assert_eq!(tags["team"], "blue");

    let (cluster_name, association_id) = ("a".to_owned(), made.association_id);
    let delete = DeletePodIdentityAssociationRequest {
        cluster_name: cluster_name.clone(),
        association_id: association_id.clone(),
    };
    Handle::<DeletePodIdentityAssociation>::handle(&region.eks, &root, delete).await.unwrap();
    let describe = DescribePodIdentityAssociationRequest { cluster_name, association_id };
    let gone = Handle::<DescribePodIdentityAssociation>::handle(&region.eks, &root, describe).await;
    assert_eq!(gone.unwrap_err().code, "ResourceNotFoundException");

    region.associate(asked("a", "app")).await.unwrap();
    let delete = DeleteClusterRequest { name: "a".to_owned() };
    Handle::<DeleteCluster>::handle(&region.eks, &root, delete).await.unwrap();
    tokio::time::sleep(Duration::from_secs(10)).await;
    region.create("a").await;
    assert!(region.accounts(None).await.is_empty(), "another cluster of the same name");
}

#[tokio::test(start_paused = true)]
async fn an_addons_associations_come_and_go_with_it() {
    let region = region().await;
    region.create("a").await;
    let root = region.root();
    let wanted = |account: &str| AddonPodIdentityAssociations {
        service_account: account.to_owned(),
        role_arn: format!("arn:aws:iam::{ACCOUNT}:role/known"),
    };
    let update = async |name: &str, associations: Vec<AddonPodIdentityAssociations>| {
        let request = UpdateAddonRequest {
            cluster_name: "a".to_owned(),
            addon_name: name.to_owned(),
            pod_identity_associations: Some(associations),
            ..Default::default()
        };
        Handle::<UpdateAddon>::handle(&region.eks, &root, request).await.map(drop)
    };
    let refused = update("coredns", vec![wanted("coredns")]).await.unwrap_err();
    assert_eq!(refused.code, "InvalidParameterException");
    update("vpc-cni", vec![wanted("aws-node")]).await.unwrap();
    assert_eq!(region.accounts(Some("kube-system")).await, ["aws-node"]);
    let theirs = CreatePodIdentityAssociationRequest {
        namespace: "kube-system".to_owned(),
        ..asked("a", "aws-node")
    };
    assert_eq!(region.associate(theirs.clone()).await.unwrap_err().code, "ResourceInUseException");
    update("vpc-cni", Vec::new()).await.unwrap();
    assert!(region.accounts(None).await.is_empty());

    // Somebody else's is not taken over.
    region.associate(theirs).await.unwrap();
    let taken = update("vpc-cni", vec![wanted("aws-node")]).await.unwrap_err();
    assert_eq!(taken.code, "ResourceInUseException");
    let delete = DeleteAddonRequest {
        cluster_name: "a".to_owned(),
        addon_name: "vpc-cni".to_owned(),
        preserve: None,
    };
    Handle::<DeleteAddon>::handle(&region.eks, &root, delete).await.unwrap();
    assert_eq!(region.accounts(None).await, ["aws-node"]);
    let create = CreateAddonRequest {
        cluster_name: "a".to_owned(),
        addon_name: "eks-pod-identity-agent".to_owned(),
        ..Default::default()
    };
    let made = Handle::<CreateAddon>::handle(&region.eks, &root, create).await.unwrap();
    assert_eq!(made.addon.unwrap().pod_identity_associations, Vec::<String>::new());
}

#[tokio::test(start_paused = true)]
async fn what_a_cluster_began_with_is_not_made_anew_before_it_is_gone() {
    let region = region().await;
    region.create("a").await;
    let root = region.root();
    let delete = DeleteAddonRequest {
        cluster_name: "a".to_owned(),
        addon_name: "coredns".to_owned(),
        preserve: None,
    };
    Handle::<DeleteAddon>::handle(&region.eks, &root, delete).await.unwrap();
    let create = CreateAddonRequest {
        cluster_name: "a".to_owned(),
        addon_name: "coredns".to_owned(),
        ..Default::default()
    };
    let refused = Handle::<CreateAddon>::handle(&region.eks, &root, create).await.unwrap_err();
    assert_eq!(refused.code, "ResourceInUseException");
}

/// The roles that a call hands on, and to whom.
fn passed<O: Operation>(region: &Region, request: &O::Request) -> Vec<(String, String)>
where
    Eks: Handle<O>,
{
    let targets = Handle::<O>::targets(&region.eks, &region.root(), request).into_iter();
    let passed = targets.filter(|it| it.action.as_deref() == Some("iam:PassRole"));
    passed.map(|it| (it.resource, it.context["iam:PassedToService"][0].clone())).collect()
}

#[tokio::test(start_paused = true)]
async fn every_change_of_an_association_hands_its_role_out() {
    let region = region().await;
    region.create("a").await;
    let made = region.associate(asked("a", "app")).await.unwrap();
    let to_pods = |role: &str| {
        (format!("arn:aws:iam::{ACCOUNT}:role/{role}"), "pods.eks.amazonaws.com".to_owned())
    };
    let request = UpdatePodIdentityAssociationRequest {
        cluster_name: "a".to_owned(),
        association_id: made.association_id,
        disable_session_tags: Some(true),
        ..Default::default()
    };
    let update = passed::<UpdatePodIdentityAssociation>;
    assert_eq!(update(&region, &request), [to_pods("known")], "without the tags it may do more");
    let role_arn = Some(to_pods("other").0);
    let other = UpdatePodIdentityAssociationRequest { role_arn, ..request };
    assert_eq!(update(&region, &other), [to_pods("other")]);
}

#[tokio::test(start_paused = true)]
async fn whoever_gives_an_addon_a_role_hands_it_to_eks() {
    let region = region().await;
    region.create("a").await;
    let role = format!("arn:aws:iam::{ACCOUNT}:role/known");
    let create = |role: Option<String>| CreateAddonRequest {
        cluster_name: "a".to_owned(),
        addon_name: "vpc-cni".to_owned(),
        service_account_role_arn: role,
        ..Default::default()
    };
    let update = UpdateAddonRequest {
        cluster_name: "a".to_owned(),
        addon_name: "vpc-cni".to_owned(),
        service_account_role_arn: Some(role.clone()),
        ..Default::default()
    };
    let expected = [(role.clone(), "eks.amazonaws.com".to_owned())];
    assert_eq!(passed::<CreateAddon>(&region, &create(Some(role))), expected);
    assert_eq!(passed::<UpdateAddon>(&region, &update), expected);
    assert!(passed::<CreateAddon>(&region, &create(None)).is_empty());
}

#[tokio::test(start_paused = true)]
async fn a_deleted_association_is_not_there_to_be_changed() {
    let region = region().await;
    region.create("a").await;
    let id = region.associate(asked("a", "app")).await.unwrap().association_id;
    let request = DeletePodIdentityAssociationRequest {
        cluster_name: "a".to_owned(),
        association_id: id.clone(),
    };
    let root = region.root();
    Handle::<DeletePodIdentityAssociation>::handle(&region.eks, &root, request).await.unwrap();
    let refused = region.update(&id, |it| it.disable_session_tags = Some(true)).await.unwrap_err();
    assert_eq!(refused.code, "ResourceNotFoundException");
}
