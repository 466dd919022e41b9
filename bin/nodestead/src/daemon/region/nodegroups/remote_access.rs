//! Groups whose nodes can be logged in to.

use aws_ec2::{
    instance::{DescribeInstances, DescribeInstancesRequest},
    key_pair::{ImportKeyPair, ImportKeyPairRequest},
    security_group::{
        CreateSecurityGroup, CreateSecurityGroupRequest, DescribeSecurityGroups,
        DescribeSecurityGroupsRequest,
    },
};

use super::*;

/// `ssh-ed25519 AAAA… x`, in base64 once more.
const KEY: &str = "c3NoLWVkMjU1MTkgQUFBQUMzTnphQzFsWkRJMU5URTVBQUFBSU51dE5YSzdJaEZqWDZxRVBXaGVVV3JYY2I2L05UOWJWRVYxRHhGcVJwNU0geAo=";

impl Simulation {
    async fn import_key(&self, name: &str) {
        self.call::<ImportKeyPair>(ImportKeyPairRequest {
            key_name: name.to_owned(),
            public_key_material: KEY.to_owned(),
            ..Default::default()
        })
        .await;
    }

    async fn security_group(&self) -> String {
        let request = CreateSecurityGroupRequest {
            group_name: "bastions".to_owned(),
            description: "those who may".to_owned(),
            ..Default::default()
        };
        self.call::<CreateSecurityGroup>(request).await.group_id.unwrap()
    }

    fn accessible(&self, access: RemoteAccessConfig) -> CreateNodegroupRequest {
        CreateNodegroupRequest {
            cluster_name: "stead".to_owned(),
            nodegroup_name: "g".to_owned(),
            subnets: self.subnets.clone(),
            node_role: role("node"),
            instance_types: vec!["m5.large".to_owned()],
            remote_access: Some(access),
            ..Default::default()
        }
    }

    async fn security_groups(&self, name: &str) -> Vec<aws_ec2::security_group::SecurityGroup> {
        let filter = aws_ec2::common::Filter {
            name: Some("group-name".to_owned()),
            values: vec![name.to_owned()],
        };
        let request = DescribeSecurityGroupsRequest { filters: vec![filter], ..Default::default() };
        self.call::<DescribeSecurityGroups>(request).await.security_groups
    }
}

#[tokio::test(start_paused = true)]
async fn nodes_have_the_key_and_a_security_group_that_goes_with_the_node_group() {
    let simulation = Simulation::new().await;
    simulation.import_key("mine").await;
    let bastions = simulation.security_group().await;
    let access = RemoteAccessConfig {
        ec2_ssh_key: Some("mine".to_owned()),
        source_security_groups: vec![bastions.clone()],
    };
    let request = simulation.accessible(access.clone());
    simulation.call::<CreateNodegroup>(request).await;
    simulation.until("ACTIVE", MINUTE).await;
    let group = simulation.group().await.unwrap();
    assert_eq!(group.remote_access, Some(access));
    let own = group.resources.unwrap().remote_access_security_group.unwrap();
    let found = simulation.security_groups("eks-remoteAccess-*").await;
    assert_eq!(found[0].group_id.as_ref(), Some(&own));
    let [rule] = found[0].ip_permissions.as_slice() else { panic!("{found:?}") };
    assert_eq!((rule.from_port, rule.to_port), (Some(22), Some(22)));
    assert_eq!(rule.user_id_group_pairs[0].group_id, Some(bastions));
    assert!(rule.ip_ranges.is_empty(), "nobody else");

    let found = simulation.call::<DescribeInstances>(DescribeInstancesRequest::default()).await;
    let nodes: Vec<_> = found.reservations.into_iter().flat_map(|it| it.instances).collect();
    assert_eq!(nodes.len(), 2);
    for node in nodes {
        assert_eq!(node.key_name.as_deref(), Some("mine"));
        let groups: Vec<_> =
            node.security_groups.into_iter().filter_map(|it| it.group_id).collect();
        assert!(groups.len() == 2 && groups.contains(&own), "the cluster's too: {groups:?}");
    }

    simulation
        .call::<DeleteNodegroup>(DeleteNodegroupRequest {
            cluster_name: "stead".to_owned(),
            nodegroup_name: "g".to_owned(),
        })
        .await;
    tokio::time::sleep(2 * MINUTE).await;
    assert_eq!(simulation.group().await, None);
    assert!(simulation.security_groups("eks-remoteAccess-*").await.is_empty());
}

#[tokio::test(start_paused = true)]
async fn access_without_a_key_that_is_there_is_refused() {
    let simulation = Simulation::new().await;
    simulation.import_key("mine").await;
    let access = |key: Option<&str>, groups: &[&str]| RemoteAccessConfig {
        ec2_ssh_key: key.map(str::to_owned),
        source_security_groups: groups.iter().map(|it| (*it).to_owned()).collect(),
    };
    for (access, message) in [
        (access(None, &["sg-1"]), "ec2SshKey in remote-access can't be empty"),
        (access(Some("lost"), &[]), "KeyPair lost not found"),
        (access(Some("mine"), &["sg-0123456789abcdef0"]), "The security group"),
    ] {
        let request = simulation.accessible(access);
        let error = simulation.aws.call::<CreateNodegroup>(request).await.unwrap_err();
        assert!(error.is("InvalidParameterException"), "{error}");
        let said = error.fault().unwrap().message.clone();
        assert!(said.starts_with(message), "{said}");
    }
    assert_eq!(simulation.group().await, None);
}
