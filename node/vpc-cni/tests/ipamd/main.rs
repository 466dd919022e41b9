//! ipamd against the real EC2 and IMDS of this region, on an instance made of a namespace.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on says where")]

mod support;

use std::{
    collections::{BTreeMap, BTreeSet},
    net::Ipv4Addr,
    sync::Arc,
    time::Duration,
};

use api_cni::{
    backend::{Assignment, Sandbox},
    host_link_name,
};
use aws_ec2::{
    common::{TagInput, TagSpecification},
    network_interface::{CreateNetworkInterface, CreateNetworkInterfaceRequest},
};
use lifecycle::Scope;
use linux_netlink::{Rule, Veth, VethEnd};
use support::World;
use vpc_cni::{
    cloud,
    ipamd::{Ipamd, IpamdError},
    network,
};

fn sandbox(number: usize) -> Sandbox {
    Sandbox {
        pod_namespace: "default".into(),
        pod_name: format!("pod-{number}"),
        container_id: format!("container-{number}"),
        interface_name: "eth0".into(),
        network_name: "aws-cni".into(),
        ..Sandbox::default()
    }
}

/// Runs the pool's loop until it is dropped.
struct Running(Scope);

impl Running {
    fn start(ipamd: &Arc<Ipamd>) -> Self {
        let scope = Scope::new();
        let ipamd = ipamd.clone();
        drop(scope.spawn("pool", async move { ipamd.run().await }));
        Self(scope)
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.0.cancel();
    }
}

/// The addresses that EC2 gave to the instance for pods.
fn secondary(world: &World) -> BTreeSet<Ipv4Addr> {
    let state = world.ec2.view();
    let enis = state.interfaces_of(&world.instance);
    enis.iter().flat_map(|eni| eni.secondary_addresses.iter().copied()).collect()
}

async fn until(what: &str, mut is_so: impl FnMut() -> bool) {
    for _ in 0..400 {
        if is_so() {
            return;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    panic!("not within four seconds: {what}");
}

#[tokio::test]
async fn a_node_fills_its_first_interface_and_adds_a_second_when_pods_come() {
    let Some(world) = World::new("a", "192.168.200.0/24").await else { return };
    let ipamd = world.start(&[], "root").await.unwrap();
    let _running = Running::start(&ipamd);
    until("nine warm addresses", || ipamd.snapshot().stock().total == 9).await;
    assert_eq!(secondary(&world).len(), 9);
    let rules = world.netlink().rules().unwrap();
    assert!(rules.contains(&Rule::new(1024, 254).mark(0x80, 0x80)), "{rules:?}");

    let mut given = BTreeMap::new();
    for number in 0..12 {
        let assignment = ipamd.add(&sandbox(number)).await.unwrap();
        assert_eq!(given.insert(assignment.address, number), None, "{}", assignment.address);
        let table = if number < 9 { 254 } else { 2 };
        assert_eq!(assignment.route_table, table, "pod {number}");
        assert_eq!(assignment.vpc_cidrs.len(), 1);
    }
    // One pod is on the second interface: its free addresses are fewer than one's worth.
    until("a third interface", || ipamd.snapshot().enis().count() == 3).await;
    assert!(given.keys().all(|address| secondary(&world).contains(address)));

    let routes = world.netlink().routes().unwrap();
    let default = routes.iter().find(|it| it.table == 2 && it.destination.prefix_len() == 0);
    assert_eq!(default.unwrap().gateway, Some([192, 168, 200, 1].into()));
    let store = ipamd.snapshot();
    let second = store.enis().find(|eni| eni.attached.device_number == 1).unwrap();
    let from_eni = Rule::new(32765, 2).from(second.attached.primary_address.into_net());
    assert!(world.netlink().rules().unwrap().contains(&from_eni));
}

#[tokio::test]
async fn a_subnet_that_runs_out_fails_pods_and_pauses_the_pool() {
    // Eleven addresses: the instance's own, nine for pods, and one that is not enough for more.
    let Some(world) = World::new("b", "192.168.200.0/28").await else { return };
    let ipamd = world.start(&[], "root").await.unwrap();
    let _running = Running::start(&ipamd);
    until("nine addresses", || ipamd.snapshot().stock().total == 9).await;
    for number in 0..9 {
        ipamd.add(&sandbox(number)).await.unwrap();
    }
    let error = ipamd.add(&sandbox(9)).await.unwrap_err();
    assert!(error.to_string().contains("no available IP/Prefix addresses"), "{error}");
    until("the pause", || ipamd.plan().reason.contains("ran out")).await;
    ipamd.delete(&sandbox(3)).unwrap();
    let error = ipamd.add(&sandbox(10)).await.unwrap_err();
    assert!(error.to_string().contains("no available"), "an address rests after use: {error}");
    assert_eq!(world.ec2.view().network_interfaces.len(), 1, "nothing is left behind");
}

#[tokio::test]
async fn a_role_without_permissions_stops_it_with_ec2s_error() {
    let Some(world) = World::new("c", "192.168.200.0/28").await else { return };
    let Err(IpamdError::Cloud { source }) = world.start(&[], "nobody").await else {
        panic!("nobody may describe interfaces");
    };
    assert!(source.is_unauthorized(), "{}", telemetry::chain(&source));
}

#[tokio::test]
async fn addresses_beyond_the_targets_go_back_to_ec2() {
    let Some(world) = World::new("d", "192.168.200.0/24").await else { return };
    let environment = [("WARM_IP_TARGET", "2"), ("IP_COOLDOWN_PERIOD", "0")];
    let ipamd = world.start(&environment, "root").await.unwrap();
    let _running = Running::start(&ipamd);
    until("two warm addresses", || ipamd.snapshot().stock().total == 2).await;
    for number in 0..5 {
        ipamd.add(&sandbox(number)).await.unwrap();
    }
    until("two more than pods", || ipamd.snapshot().stock().total == 7).await;
    (0..5).for_each(|number| drop(ipamd.delete(&sandbox(number)).unwrap()));
    until("two", || secondary(&world).len() == 2 && ipamd.snapshot().stock().total == 2).await;
}

#[tokio::test]
async fn prefixes_give_sixteen_addresses_each() {
    let Some(world) = World::new("e", "192.168.200.0/24").await else { return };
    let environment = [("ENABLE_PREFIX_DELEGATION", "true")];
    let ipamd = world.start(&environment, "root").await.unwrap();
    let _running = Running::start(&ipamd);
    until("one prefix", || ipamd.snapshot().stock().total == 16).await;
    let address = ipamd.add(&sandbox(0)).await.unwrap().address;
    until("a warm prefix", || ipamd.snapshot().stock().prefixes == 2).await;
    let state = world.ec2.view();
    let eni = state.interfaces_of(&world.instance).remove(0).clone();
    assert!(eni.prefixes.iter().any(|prefix| prefix.contains(&address)));
}

#[tokio::test]
async fn interfaces_that_a_dead_node_left_behind_are_deleted_and_others_are_not() {
    let Some(world) = World::new("g", "192.168.200.0/24").await else { return };
    let ipamd = world.start(&[("CLUSTER_NAME", "stead")], "root").await.unwrap();
    let subnet = world.ec2.view().instances.get(&world.instance).unwrap().subnet_id.clone();
    let mut ids = Vec::new();
    for (cluster, created) in [
        ("stead", "2020-01-01T00:00:00Z"),
        ("stead", "2999-01-01T00:00:00Z"),
        ("other", "2020-01-01T00:00:00Z"),
    ] {
        let tag = |key: &str, value: &str| TagInput {
            key: Some(key.to_owned()),
            value: Some(value.to_owned()),
        };
        let tags = vec![
            tag(cloud::TAG_INSTANCE, "i-dead"),
            tag(cloud::TAG_CREATED, created),
            tag("cluster.k8s.amazonaws.com/name", cluster),
        ];
        let kind = Some("network-interface".to_owned());
        let request = CreateNetworkInterfaceRequest {
            subnet_id: subnet.clone(),
            description: Some("aws-K8S-i-dead".to_owned()),
            tag_specifications: vec![TagSpecification { resource_type: kind, tags }],
            ..Default::default()
        };
        let made = world.root().call::<CreateNetworkInterface>(request).await.unwrap();
        ids.push(made.network_interface.unwrap().network_interface_id.unwrap());
    }
    ipamd.sweep_once().await.unwrap();
    let state = world.ec2.view();
    let is_left: Vec<bool> =
        ids.iter().map(|id| state.network_interfaces.get(id).is_some()).collect();
    assert_eq!(is_left, [false, true, true]);
}

/// Kills and restarts ipamd between any two calls: no address is given twice, none is lost, and what
/// the store says is what EC2 says.
#[tokio::test]
async fn churn_with_kills_neither_leaks_nor_gives_an_address_twice() {
    let Some(world) = World::new("f", "192.168.200.0/24").await else { return };
    let environment = [("IP_COOLDOWN_PERIOD", "0")];
    let mut ipamd = world.start(&environment, "root").await.unwrap();
    let mut running = Some(Running::start(&ipamd));
    let mut held: BTreeMap<usize, Assignment> = BTreeMap::new();
    for step in 0..120 {
        let number = usize::try_from(entropy::below(20)).unwrap();
        match held.remove(&number) {
            Some(assignment) => {
                let freed = ipamd.delete(&sandbox(number)).unwrap().map(|it| it.address);
                assert_eq!(freed, Some(assignment.address), "step {step}");
                cable(&world, number, false);
            }
            None => {
                let assignment = ipamd.add(&sandbox(number)).await.unwrap();
                let others: Vec<_> = held.values().map(|it| it.address).collect();
                assert!(!others.contains(&assignment.address), "step {step}: {others:?}");
                held.insert(number, assignment);
                cable(&world, number, true);
            }
        }
        if entropy::below(12) == 0 {
            drop(running.take());
            ipamd = world.start(&environment, "root").await.unwrap();
            running = Some(Running::start(&ipamd));
            assert_eq!(ipamd.snapshot().stock().assigned, held.len(), "after a kill at {step}");
        }
    }
    let known = secondary(&world);
    assert!(held.values().all(|it| known.contains(&it.address)));
    // A sandbox whose link went while ipamd was down is forgotten, once its plug-in has had the
    // time to make the link; and so are the rules that led to it.
    let (&number, assignment) = held.first_key_value().unwrap();
    let rule = network::pod_rules(assignment.address, assignment.route_table).remove(0);
    assert!(world.netlink().rules().unwrap().contains(&rule));
    cable(&world, number, false);
    let again = world.start(&environment, "root").await.unwrap();
    assert_eq!(again.snapshot().stock().assigned, held.len());
    age_checkpoint(&world);
    let ipamd = world.start(&environment, "root").await.unwrap();
    assert_eq!(ipamd.snapshot().stock().assigned, held.len() - 1);
    assert!(!world.netlink().rules().unwrap().contains(&rule));
}

/// Makes all assignments an hour older.
fn age_checkpoint(world: &World) {
    let path = world.folder.path().join("ipam.json");
    let mut file: serde_json::Value =
        serde_json::from_slice(&std::fs::read(&path).unwrap()).unwrap();
    for row in file["allocations"].as_array_mut().unwrap() {
        let at = row["allocationTimestamp"].as_i64().unwrap();
        row["allocationTimestamp"] = (at - 3_600_000_000_000).into();
    }
    std::fs::write(&path, file.to_string()).unwrap();
}

/// The link by which ipamd knows that a sandbox exists.
fn cable(world: &World, number: usize, is_there: bool) {
    let name = host_link_name("eni", "default", &format!("pod-{number}"));
    let netlink = world.netlink();
    if is_there {
        let peer = format!("p{number}");
        let veth = Veth { end: VethEnd::named(&name), peer: VethEnd::named(&peer) };
        netlink.create_veth(&veth).unwrap();
    } else {
        netlink.delete_link_by_name(&name).unwrap();
    }
}

trait IntoNet {
    fn into_net(self) -> ipnet::IpNet;
}

impl IntoNet for Ipv4Addr {
    fn into_net(self) -> ipnet::IpNet {
        std::net::IpAddr::V4(self).into()
    }
}
