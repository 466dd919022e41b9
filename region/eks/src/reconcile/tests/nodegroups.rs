//! Customers' launch templates, and updates to their versions.

use aws_ec2::{
    launch_template::{
        CreateLaunchTemplate, CreateLaunchTemplateRequest, CreateLaunchTemplateVersion,
        CreateLaunchTemplateVersionRequest,
    },
    launch_template_request::RequestLaunchTemplateData,
};
use std::collections::BTreeMap;

use aws_eks::{
    CreateNodegroup, CreateNodegroupRequest, DeleteNodegroup, DeleteNodegroupRequest,
    DescribeNodegroup, DescribeNodegroupRequest, DescribeUpdate, DescribeUpdateRequest,
    LaunchTemplateSpecification, ListUpdates, ListUpdatesRequest, NodeRepairConfig,
    NodegroupScalingConfig, NodegroupUpdateConfig, TagResource, TagResourceRequest, Taint,
    UpdateLabelsPayload, UpdateNodegroupConfig, UpdateNodegroupConfigRequest,
    UpdateNodegroupVersion, UpdateNodegroupVersionRequest, UpdateTaintsPayload, WarmPoolConfig,
};
use base64::{Engine, engine::general_purpose::STANDARD};

use super::*;
use crate::{
    nodegroups::{
        records::{self, Base, Release, State},
        template,
    },
    records::Asked,
    updates::NewUpdate,
};

/// A group of cluster `a` whose customer's template says this.
async fn templated(
    region: &Region,
    data: RequestLaunchTemplateData,
) -> crate::nodegroups::Nodegroup {
    let made = CreateLaunchTemplateRequest {
        launch_template_name: format!("theirs-{}", entropy::hex(4)),
        launch_template_data: data,
        ..Default::default()
    };
    let name = made.launch_template_name.clone();
    let root = region.root();
    Handle::<CreateLaunchTemplate>::handle(&*region.ec2, &root, made).await.unwrap();
    let asked = LaunchTemplateSpecification { name: Some(name), ..Default::default() };
    let source = template::read(&region.eks, &asked).await.unwrap();
    assert_eq!(source.version, 1, "the default one");
    let release = Release { image_id: "ami-eks".to_owned(), version: "1".to_owned() };
    let request = CreateNodegroupRequest { nodegroup_name: "g".to_owned(), ..Default::default() };
    let base = Base { release, source: Some(source), warm_pool: None };
    records::new(&region.eks, &region.cluster("a"), &request, base)
}

#[tokio::test(start_paused = true)]
async fn eks_joins_a_customers_template_with_what_a_node_needs() {
    let region = region().await;
    region.create("a").await;
    let cluster = region.cluster("a");
    let theirs = "MIME-Version: 1.0\nContent-Type: multipart/mixed; boundary=\"B\"\n\n--B\n\
                  Content-Type: text/x-shellscript\n\n#!/bin/sh\ntrue\n--B--\n";
    let group = templated(
        &region,
        RequestLaunchTemplateData {
            user_data: Some(STANDARD.encode(theirs)),
            security_group_ids: vec!["sg-theirs".to_owned()],
            instance_type: Some("m5.large".to_owned()),
            ..Default::default()
        },
    )
    .await;
    assert!(group.instance_types.is_empty(), "the template says it");
    let own = template::own(&region.eks, &cluster, &group).unwrap();
    assert_eq!(own.image_id.as_deref(), Some("ami-eks"));
    assert_eq!(own.security_group_ids, ["sg-theirs"], "and not the cluster's");
    assert_eq!(own.iam_instance_profile.unwrap().name, Some(group.template()));
    let text = String::from_utf8(STANDARD.decode(own.user_data.unwrap()).unwrap()).unwrap();
    assert!(text.starts_with("MIME-Version: 1.0\nContent-Type: multipart/mixed"), "{text}");
    assert!(text.contains("#!/bin/sh\ntrue\n--B\r\nContent-Type: application/node.eks.aws"));
    assert!(text.contains("eks.amazonaws.com/sourceLaunchTemplateVersion=1"), "{text}");
    assert_eq!(text.matches("--B--").count(), 1, "{text}");
    assert!(text.trim_end().ends_with("--B--"));
}

#[tokio::test(start_paused = true)]
async fn with_an_image_of_their_own_customers_see_to_joining() {
    let region = region().await;
    region.create("a").await;
    let cluster = region.cluster("a");
    let script = STANDARD.encode("#!/bin/sh\ntrue\n");
    let theirs = RequestLaunchTemplateData {
        image_id: Some("ami-theirs".to_owned()),
        user_data: Some(script.clone()),
        ..Default::default()
    };
    let group = templated(&region, theirs.clone()).await;
    assert_eq!(group.ami_type, "CUSTOM");
    let own = template::own(&region.eks, &cluster, &group).unwrap();
    assert_eq!(own.user_data, Some(script));
    assert_eq!(own.image_id.as_deref(), Some("ami-theirs"));
    let of_cluster: Vec<_> = cluster.cluster_security_group_id.iter().cloned().collect();
    assert_eq!(own.security_group_ids, of_cluster);

    let mergeable = RequestLaunchTemplateData { image_id: None, ..theirs };
    let group = templated(&region, mergeable).await;
    let issue = template::own(&region.eks, &cluster, &group).unwrap_err();
    assert_eq!(issue.code, "Ec2LaunchTemplateInvalidConfiguration");
    assert_eq!(issue.message, "User data was not in the MIME multipart format.");
}

type Change<'a> = &'a dyn Fn(&mut UpdateNodegroupVersionRequest);

fn version_of(template: &str, version: &str) -> LaunchTemplateSpecification {
    LaunchTemplateSpecification {
        name: Some(template.to_owned()),
        version: Some(version.to_owned()),
        ..Default::default()
    }
}

#[tokio::test(start_paused = true)]
async fn a_group_is_updated_to_versions_of_its_own_template_alone() {
    let region = region().await;
    region.create("a").await;
    let image = |id: &str| RequestLaunchTemplateData {
        image_id: Some(id.to_owned()),
        ..Default::default()
    };
    let mut group = templated(&region, image("ami-1")).await;
    (group.state, group.image_id) = (State::Active, "ami-1".to_owned());
    let template = group.source.as_ref().unwrap().name.clone();
    let store = &region.eks.0.store;
    let put = store.transaction(|transaction| {
        transaction.put(&region.eks.0.nodegroups, "a/g".to_owned(), group);
        Ok::<_, Fault>(())
    });
    put.unwrap();
    for data in [image("ami-2"), RequestLaunchTemplateData::default()] {
        let made = CreateLaunchTemplateVersionRequest {
            launch_template_name: Some(template.clone()),
            launch_template_data: data,
            ..Default::default()
        };
        let root = region.root();
        Handle::<CreateLaunchTemplateVersion>::handle(&*region.ec2, &root, made).await.unwrap();
    }
    let request = |change: Change<'_>| {
        let mut request = UpdateNodegroupVersionRequest {
            cluster_name: "a".to_owned(),
            nodegroup_name: "g".to_owned(),
            launch_template: Some(version_of(&template, "2")),
            ..Default::default()
        };
        change(&mut request);
        request
    };
    let update = async |change: Change<'_>| {
        let root = region.root();
        Handle::<UpdateNodegroupVersion>::handle(&region.eks, &root, request(change)).await
    };
    let refused: [(Change<'_>, &str); 5] = [
        (&|it| it.launch_template = None, "Launch template details can't be null for Custom ami"),
        (
            &|it| it.version = Some("1.36".to_owned()),
            "You cannot specify the field kubernetesVersion when using custom AMIs.",
        ),
        (
            &|it| it.launch_template = Some(version_of("another", "1")),
            "The launch template of a nodegroup cannot be changed",
        ),
        (
            &|it| it.launch_template = Some(version_of(&template, "3")),
            "A nodegroup cannot be changed",
        ),
        (
            &|it| it.launch_template = Some(version_of(&template, "9")),
            "Could not find the specified",
        ),
    ];
    for (change, message) in refused {
        let fault = update(change).await.unwrap_err();
        assert_eq!(fault.code, "InvalidParameterException");
        assert!(fault.message.starts_with(message), "{}", fault.message);
    }
    let once: Change<'_> = &|it| {
        it.force = Some(true);
        it.client_request_token = Some("once".to_owned());
    };
    let before = region.eks.find_nodegroup("a", "g").unwrap();
    let begun = update(once).await.unwrap().update.unwrap();
    assert_eq!((begun.kind.as_str(), begun.status.as_str()), ("VersionUpdate", "InProgress"));
    let params: Vec<_> = begun.params.iter().map(|it| (&*it.kind, &*it.value)).collect();
    let named = [("LaunchTemplateName", template.as_str()), ("LaunchTemplateVersion", "2")];
    assert_eq!(params, named);
    let group = region.eks.find_nodegroup("a", "g").unwrap();
    assert_eq!(group.state, State::Updating);
    let rollout = group.rollout.unwrap();
    assert_eq!((rollout.target.image_id.as_str(), rollout.force), ("ami-2", true));
    assert_eq!(group.image_id, "ami-1", "until the update has succeeded");
    assert_eq!(update(&|_| ()).await.unwrap_err().code, "ResourceInUseException");

    assert_eq!(update(once).await.unwrap().update.unwrap(), begun, "the same call again");
    // One that was looked up before the first had begun.
    let asked = Asked::of(Some(&"once".to_owned()), &request(once)).unwrap();
    let new = NewUpdate { asked, ..NewUpdate::default() };
    let twin = region.eks.begin_update(&before, new, |_| panic!("it changes nothing")).unwrap();
    assert_eq!(twin, begun);
    let other = update(&|it| it.client_request_token = Some("once".to_owned())).await;
    assert_eq!(other.unwrap_err().code, "InvalidParameterException");

    // Nobody goes on with the update of a group that is told to go.
    let gone =
        DeleteNodegroupRequest { cluster_name: "a".to_owned(), nodegroup_name: "g".to_owned() };
    Handle::<DeleteNodegroup>::handle(&region.eks, &region.root(), gone).await.unwrap();
    let described = DescribeUpdateRequest {
        name: "a".to_owned(),
        update_id: begun.id.clone(),
        nodegroup_name: Some("g".to_owned()),
        ..Default::default()
    };
    let update = Handle::<DescribeUpdate>::handle(&region.eks, &region.root(), described).await;
    assert_eq!(update.unwrap().update.unwrap().status, "Cancelled");
}

fn map(pairs: &[(&str, &str)]) -> BTreeMap<String, String> {
    pairs.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect()
}

fn tainted(key: &str, effect: &str) -> Taint {
    Taint { key: Some(key.to_owned()), value: None, effect: Some(effect.to_owned()) }
}

/// A request that says all that can be said. The image is the customer's, so that nobody asks for EKS's.
async fn full(region: &Region) -> CreateNodegroupRequest {
    let image = Some("ami-theirs".to_owned());
    let data = RequestLaunchTemplateData { image_id: image, ..Default::default() };
    let made = CreateLaunchTemplateRequest {
        launch_template_name: "theirs".to_owned(),
        launch_template_data: data,
        ..Default::default()
    };
    Handle::<CreateLaunchTemplate>::handle(&*region.ec2, &region.root(), made).await.unwrap();
    CreateNodegroupRequest {
        cluster_name: "a".to_owned(),
        nodegroup_name: "g".to_owned(),
        subnets: region.subnets.clone(),
        node_role: format!("arn:aws:iam::{ACCOUNT}:role/node"),
        instance_types: vec!["m5.large".to_owned(), "m5.xlarge".to_owned()],
        launch_template: Some(version_of("theirs", "1")),
        labels: map(&[("team", "a")]),
        taints: vec![tainted("only", "NO_SCHEDULE")],
        tags: map(&[("cost", "7")]),
        scaling_config: Some(NodegroupScalingConfig {
            min_size: Some(0),
            max_size: Some(4),
            desired_size: Some(2),
        }),
        update_config: Some(NodegroupUpdateConfig {
            max_unavailable_percentage: Some(50),
            update_strategy: Some("MINIMAL".to_owned()),
            ..Default::default()
        }),
        node_repair_config: Some(NodeRepairConfig {
            enabled: Some(true),
            max_parallel_nodes_repaired_count: Some(2),
            ..Default::default()
        }),
        ..Default::default()
    }
}

async fn described(region: &Region) -> aws_eks::Nodegroup {
    let request =
        DescribeNodegroupRequest { cluster_name: "a".to_owned(), nodegroup_name: "g".to_owned() };
    let found = Handle::<DescribeNodegroup>::handle(&region.eks, &region.root(), request).await;
    found.unwrap().nodegroup.unwrap()
}

#[tokio::test(start_paused = true)]
async fn a_group_is_described_as_it_was_asked_for() {
    let region = region().await;
    region.create("a").await;
    let asked = full(&region).await;
    let root = region.root();
    let create = async |it| Handle::<CreateNodegroup>::handle(&region.eks, &root, it).await;
    type Edit<'a> = &'a dyn Fn(&mut CreateNodegroupRequest);
    let refused: [(Edit<'_>, &str); 6] = [
        (&|it| it.labels = map(&[("k8s.io/a", "b")]), "Label cannot contain reserved prefixes"),
        (&|it| it.taints = vec![tainted("a", "NoSchedule")], "Each taint needs a key"),
        (&|it| it.tags = map(&[("aws:a", "b")]), "aws: prefixed tag key names are not allowed"),
        (&|it| it.disk_size = Some(30), "Disk size must be specified within the launch template."),
        (
            &|it| {
                it.warm_pool_config =
                    Some(WarmPoolConfig { enabled: Some(true), ..Default::default() });
            },
            "Warm pools are not supported for node groups with a custom AMI",
        ),
        (
            &|it| {
                let repair = it.node_repair_config.as_mut().unwrap();
                repair.max_parallel_nodes_repaired_percentage = Some(10);
            },
            "Only one of maxParallelNodesRepairedCount and",
        ),
    ];
    for (change, message) in refused {
        let mut wrong = asked.clone();
        change(&mut wrong);
        let fault = create(wrong).await.unwrap_err();
        assert_eq!(fault.code, "InvalidParameterException", "{message}");
        assert!(fault.message.starts_with(message), "{}", fault.message);
    }
    create(asked.clone()).await.unwrap();
    let group = described(&region).await;
    assert_eq!((group.status.as_str(), group.ami_type.as_str()), ("CREATING", "CUSTOM"));
    assert_eq!(group.capacity_type, "ON_DEMAND");
    assert_eq!(group.instance_types, asked.instance_types);
    assert_eq!(
        (&group.labels, &group.taints, &group.tags),
        (&asked.labels, &asked.taints, &asked.tags)
    );
    assert_eq!(Some(group.scaling_config), asked.scaling_config);
    assert_eq!(Some(group.update_config), asked.update_config);
    assert_eq!(group.node_repair_config, asked.node_repair_config);
    assert_eq!(group.release_version.as_deref(), Some("ami-theirs"));
    assert_eq!(create(asked).await.unwrap_err().code, "ResourceInUseException");

    let tag = TagResourceRequest {
        resource_arn: group.nodegroup_arn.clone(),
        tags: map(&[("owner", "me")]),
    };
    Handle::<TagResource>::handle(&region.eks, &root, tag).await.unwrap();
    assert_eq!(described(&region).await.tags, map(&[("cost", "7"), ("owner", "me")]));
    let other = TagResourceRequest {
        resource_arn: format!("{}0", group.nodegroup_arn),
        tags: map(&[("owner", "me")]),
    };
    let refused = Handle::<TagResource>::handle(&region.eks, &root, other).await;
    assert_eq!(refused.unwrap_err().code, "NotFoundException");
}

#[tokio::test(start_paused = true)]
async fn what_a_change_of_a_groups_configuration_asks_for_is_in_its_update() {
    let region = region().await;
    region.create("a").await;
    let (asked, root) = (full(&region).await, region.root());
    Handle::<CreateNodegroup>::handle(&region.eks, &root, asked).await.unwrap();
    let request = UpdateNodegroupConfigRequest {
        cluster_name: "a".to_owned(),
        nodegroup_name: "g".to_owned(),
        ..Default::default()
    };
    let update = async |it| Handle::<UpdateNodegroupConfig>::handle(&region.eks, &root, it).await;
    let labels = UpdateLabelsPayload {
        add_or_update_labels: map(&[("team", "b")]),
        remove_labels: Vec::new(),
    };
    let early = UpdateNodegroupConfigRequest { labels: Some(labels.clone()), ..request.clone() };
    assert_eq!(update(early.clone()).await.unwrap_err().code, "ResourceInUseException");
    let group = region.eks.find_nodegroup("a", "g").unwrap();
    region.eks.change_nodegroup(&group, |it| it.state = State::Active).unwrap();

    let both = UpdateLabelsPayload { remove_labels: vec!["team".to_owned()], ..labels.clone() };
    let taints = UpdateTaintsPayload {
        add_or_update_taints: vec![tainted("only", "NO_EXECUTE")],
        remove_taints: vec![tainted("only", "NO_SCHEDULE")],
    };
    let same = UpdateTaintsPayload {
        remove_taints: taints.add_or_update_taints.clone(),
        ..taints.clone()
    };
    for wrong in [
        request.clone(),
        UpdateNodegroupConfigRequest { labels: Some(both), ..request.clone() },
        UpdateNodegroupConfigRequest { taints: Some(same), ..request.clone() },
        UpdateNodegroupConfigRequest {
            scaling_config: Some(NodegroupScalingConfig {
                desired_size: Some(5),
                ..Default::default()
            }),
            ..request.clone()
        },
    ] {
        assert_eq!(update(wrong).await.unwrap_err().code, "InvalidParameterException");
    }
    let whole = UpdateNodegroupConfigRequest {
        labels: Some(labels),
        taints: Some(taints),
        scaling_config: Some(NodegroupScalingConfig {
            desired_size: Some(3),
            ..Default::default()
        }),
        update_config: Some(NodegroupUpdateConfig {
            max_unavailable: Some(2),
            ..Default::default()
        }),
        node_repair_config: Some(NodeRepairConfig { enabled: Some(false), ..Default::default() }),
        ..request
    };
    let begun = update(whole).await.unwrap().update.unwrap();
    assert_eq!((begun.kind.as_str(), begun.status.as_str()), ("ConfigUpdate", "InProgress"));
    let params: Vec<_> = begun.params.iter().map(|it| (&*it.kind, &*it.value)).collect();
    let expected = [
        ("MinSize", "0"),
        ("MaxSize", "4"),
        ("DesiredSize", "3"),
        ("LabelsToAdd", r#"{"team":"b"}"#),
        ("LabelsToRemove", "[]"),
        ("TaintsToAdd", r#"[{"key":"only","effect":"NO_EXECUTE"}]"#),
        ("TaintsToRemove", r#"[{"key":"only","effect":"NO_SCHEDULE"}]"#),
        ("MaxUnavailable", "2"),
        ("NodeRepairEnabled", "false"),
    ];
    assert_eq!(params, expected);
    let group = described(&region).await;
    assert_eq!(
        (group.status.as_str(), group.taints),
        ("UPDATING", vec![tainted("only", "NO_EXECUTE")])
    );
    assert_eq!(group.update_config.max_unavailable, Some(2));
    assert_eq!(group.update_config.max_unavailable_percentage, None);
    assert_eq!(group.update_config.update_strategy.as_deref(), Some("MINIMAL"));
    let list = ListUpdatesRequest {
        name: "a".to_owned(),
        nodegroup_name: Some("g".to_owned()),
        ..Default::default()
    };
    let listed = Handle::<ListUpdates>::handle(&region.eks, &root, list).await.unwrap();
    assert_eq!(listed.update_ids, [begun.id]);
}

#[tokio::test(start_paused = true)]
async fn a_cluster_has_thirty_groups_at_most() {
    let region = region().await;
    region.create("a").await;
    let (asked, root) = (full(&region).await, region.root());
    let create = async |name: String| {
        let request = CreateNodegroupRequest { nodegroup_name: name, ..asked.clone() };
        Handle::<CreateNodegroup>::handle(&region.eks, &root, request).await
    };
    for number in 0..30 {
        create(format!("g{number}")).await.unwrap();
    }
    let refused = create("more".to_owned()).await.unwrap_err();
    assert_eq!(refused.code, "ResourceLimitExceededException");
}

#[tokio::test(start_paused = true)]
async fn a_group_has_450_nodes_at_most() {
    let region = region().await;
    region.create("a").await;
    let (asked, root) = (full(&region).await, region.root());
    let of = |max: i64| NodegroupScalingConfig { max_size: Some(max), ..Default::default() };
    let create = async |max: i64| {
        let scaling_config = Some(of(max));
        let request = CreateNodegroupRequest { scaling_config, ..asked.clone() };
        Handle::<CreateNodegroup>::handle(&region.eks, &root, request).await
    };
    for max in [451, 1_000_000_000] {
        let refused = create(max).await.unwrap_err();
        assert_eq!(refused.code, "ResourceLimitExceededException");
    }
    create(450).await.unwrap();
    let group = region.eks.find_nodegroup("a", &asked.nodegroup_name).unwrap();
    region.eks.change_nodegroup(&group, |it| it.state = State::Active).unwrap();
    // Of that API it is no error.
    let request = UpdateNodegroupConfigRequest {
        cluster_name: "a".to_owned(),
        nodegroup_name: asked.nodegroup_name.clone(),
        scaling_config: Some(of(1_000_000_000)),
        ..Default::default()
    };
    let refused = Handle::<UpdateNodegroupConfig>::handle(&region.eks, &root, request).await;
    let refused = refused.unwrap_err();
    assert_eq!(refused.code, "InvalidParameterException");
    assert!(refused.message.contains("the limit is 450"), "{}", refused.message);
}

#[tokio::test(start_paused = true)]
async fn a_group_is_given_a_warm_pool_changes_it_and_loses_it_again() {
    let region = region().await;
    region.create("a").await;
    let (asked, root) = (full(&region).await, region.root());
    Handle::<CreateNodegroup>::handle(&region.eks, &root, asked).await.unwrap();
    assert_eq!(described(&region).await.warm_pool_config, None);
    let update = async |config: WarmPoolConfig| {
        let group = region.eks.find_nodegroup("a", "g").unwrap();
        let of_eks = "AL2023_x86_64_STANDARD".to_owned();
        let settled = |it: &mut records::Nodegroup| {
            (it.state, it.ami_type) = (State::Active, of_eks);
        };
        region.eks.change_nodegroup(&group, settled).unwrap();
        let request = UpdateNodegroupConfigRequest {
            cluster_name: "a".to_owned(),
            nodegroup_name: "g".to_owned(),
            warm_pool_config: Some(config),
            ..Default::default()
        };
        let begun = Handle::<UpdateNodegroupConfig>::handle(&region.eks, &root, request).await;
        let begun = begun.map(|it| it.update.unwrap())?;
        assert_eq!((begun.kind.as_str(), begun.status.as_str()), ("ConfigUpdate", "InProgress"));
        Ok::<Vec<_>, Fault>(begun.params.into_iter().map(|it| (it.kind, it.value)).collect())
    };
    let said = |pairs: &[(&str, &str)]| map(pairs).into_iter().collect::<Vec<_>>();
    let none = WarmPoolConfig::default();
    assert_eq!(update(none.clone()).await.unwrap_err().code, "InvalidParameterException");
    let enabled = WarmPoolConfig {
        enabled: Some(true),
        max_group_prepared_capacity: Some(6),
        min_size: Some(1),
        ..none.clone()
    };
    let expected = [
        ("WarmPoolEnabled", "true"),
        ("WarmPoolMaxGroupPreparedCapacity", "6"),
        ("WarmPoolMinSize", "1"),
    ];
    assert_eq!(update(enabled.clone()).await.unwrap(), said(&expected));
    let whole = WarmPoolConfig {
        pool_state: Some("STOPPED".to_owned()),
        reuse_on_scale_in: Some(false),
        ..enabled
    };
    assert_eq!(described(&region).await.warm_pool_config, Some(whole.clone()));
    let state = Some("RUNNING".to_owned());
    let running = WarmPoolConfig { pool_state: state.clone(), ..none.clone() };
    assert_eq!(update(running).await.unwrap(), said(&[("WarmPoolState", "RUNNING")]));
    let expected = WarmPoolConfig { pool_state: state, ..whole };
    assert_eq!(described(&region).await.warm_pool_config, Some(expected));
    let disabled = WarmPoolConfig { enabled: Some(false), ..none };
    assert_eq!(update(disabled).await.unwrap(), said(&[("WarmPoolEnabled", "false")]));
    assert_eq!(described(&region).await.warm_pool_config, None);
}
