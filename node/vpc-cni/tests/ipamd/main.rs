//! ipamd against the real EC2 and IMDS of this region, on an instance made of a namespace.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on says where")]

mod churn;
mod exhaustion;
mod faults;
mod introspection;
mod pod_subnets;
mod support;
mod unmanaged;

use std::{
    collections::{BTreeMap, BTreeSet},
    net::Ipv4Addr,
    sync::Arc,
    time::Duration,
};

use api_cni::backend::{Assignment, Sandbox};
use aws_ec2::{
    common::{TagInput, TagSpecification},
    ipv6_addresses::{AssignIpv6Addresses, AssignIpv6AddressesRequest},
    network_interface::{CreateNetworkInterface, CreateNetworkInterfaceRequest},
    private_addresses::{AssignPrivateIpAddresses, AssignPrivateIpAddressesRequest},
    subnet::{AssociateSubnetCidrBlock, AssociateSubnetCidrBlockRequest},
    vpc::{AssociateVpcCidrBlock, AssociateVpcCidrBlockRequest},
};
use clock::Clock;
use lifecycle::Scope;
use linux_netlink::Rule;
use linux_nftables::{Family, Nft};
use support::World;
use vpc_cni::{
    cloud,
    ipamd::{AddError, Ipamd, IpamdError},
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

/// Lets a minute go by on clocks that follow Tokio's.
async fn pass_a_minute() {
    tokio::time::pause();
    tokio::time::advance(Duration::from_secs(61)).await;
    tokio::time::resume();
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
async fn a_slot_is_kept_for_the_trunk_and_the_trunk_carries_no_pods() {
    let Some(world) = World::new("l", "192.168.200.0/24").await else { return };
    let environment = [("ENABLE_POD_ENI", "true"), ("WARM_IP_TARGET", "25")];
    let ipamd = world.start(&environment, "root").await.unwrap();
    let running = Running::start(&ipamd);
    until("two interfaces are full", || ipamd.snapshot().stock().total == 18).await;
    until("the third is not for pods", || ipamd.plan().reason.contains("are full")).await;
    assert!(ipamd.has_room_for_trunk());
    assert_eq!(ipamd.snapshot().enis().count(), 2);
    drop(running);

    let trunk = world.attach_trunk(2).await;
    let again = world.start(&environment, "root").await.unwrap();
    let store = again.snapshot();
    assert_eq!(store.stock().total, 18);
    let known = store.eni(&trunk).unwrap();
    assert!(known.attached.is_trunk && again.has_room_for_trunk());
    for number in 0..18 {
        assert_ne!(again.add(&sandbox(number)).await.unwrap().device_number, 2);
    }
    assert!(again.add(&sandbox(18)).await.is_err());
}

#[tokio::test]
async fn without_a_slot_there_is_no_room_for_a_trunk() {
    let Some(world) = World::new("m", "192.168.200.0/24").await else { return };
    let environment = [("ENABLE_POD_ENI", "false"), ("WARM_IP_TARGET", "25")];
    let ipamd = world.start(&environment, "root").await.unwrap();
    let _running = Running::start(&ipamd);
    until("all interfaces", || ipamd.snapshot().enis().count() == 3).await;
    assert!(!ipamd.has_room_for_trunk());
}

#[tokio::test]
async fn the_local_rule_goes_behind_branches_in_strict_mode_only_and_their_pods_rules_stay() {
    let Some(world) = World::new("n", "192.168.200.0/28").await else { return };
    let local = |priority| Rule::new(priority, 255);
    let priorities = || {
        let rules = world.netlink().rules().unwrap();
        [0, 20].map(|it| rules.contains(&local(it)))
    };
    let mode = |mode| [("ENABLE_POD_ENI", "true"), ("POD_SECURITY_GROUP_ENFORCING_MODE", mode)];
    world.start(&mode("strict"), "root").await.unwrap();
    assert_eq!(priorities(), [false, true]);
    let address = std::net::IpAddr::from([192, 168, 200, 77]).into();
    let of_branch = [Rule::new(512, 254).to(address), Rule::new(1536, 105).from(address)];
    let stale = Rule::new(1536, 2).from(std::net::IpAddr::from([192, 168, 200, 78]).into());
    for rule in of_branch.iter().chain([&stale]) {
        world.netlink().add_rule(rule).unwrap();
    }
    world.start(&mode("standard"), "root").await.unwrap();
    assert_eq!(priorities(), [true, false]);
    let rules = world.netlink().rules().unwrap();
    assert!(of_branch.iter().all(|it| rules.contains(it)), "{rules:?}");
    assert!(!rules.contains(&stale), "{rules:?}");
    world.start(&[], "root").await.unwrap();
    assert_eq!(priorities(), [true, false]);
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
    (0..5).for_each(|number| drop(ipamd.delete(&sandbox(number))));
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

/// Gives the VPC and the instance's subnet IPv6.
async fn give_ipv6(world: &World) {
    let root = world.root();
    let vpc_id = world.ec2.default_vpc().unwrap().id;
    let block = AssociateVpcCidrBlockRequest {
        vpc_id: vpc_id.clone(),
        amazon_provided_ipv6_cidr_block: Some(true),
        ..Default::default()
    };
    root.call::<AssociateVpcCidrBlock>(block).await.unwrap();
    let state = world.ec2.view();
    let block = state.vpcs.get(&vpc_id).unwrap().ipv6_cidrs[0].cidr;
    let request = AssociateSubnetCidrBlockRequest {
        subnet_id: state.instances.get(&world.instance).unwrap().subnet_id.clone(),
        ipv6_cidr_block: Some(block.subnets(64).unwrap().next().unwrap().to_string()),
        ..Default::default()
    };
    root.call::<AssociateSubnetCidrBlock>(request).await.unwrap();
}

#[tokio::test]
async fn an_ipv6_node_has_one_prefix_whose_addresses_survive_a_restart() {
    let Some(world) = World::new("six", "192.168.200.0/24").await else { return };
    let environment =
        [("ENABLE_IPv6", "true"), ("ENABLE_IPv4", "false"), ("ENABLE_PREFIX_DELEGATION", "true")];
    let refused = world.start(&environment, "root").await;
    assert!(matches!(refused, Err(IpamdError::Cloud { .. })), "the subnet has no IPv6");
    give_ipv6(&world).await;
    let ipamd = world.start(&environment, "root").await.unwrap();
    let running = Running::start(&ipamd);
    let prefixes = || world.ec2.view().interfaces_of(&world.instance)[0].ipv6_prefixes.clone();
    let prefix = *prefixes().first().unwrap();
    let first = ipamd.add(&sandbox(0)).await.unwrap();
    let second = ipamd.add(&sandbox(1)).await.unwrap();
    let of = |it: &Assignment| it.ipv6.unwrap().address;
    assert!(prefix.contains(&of(&first)) && prefix.contains(&of(&second)));
    assert_ne!(of(&first), of(&second));
    assert_eq!(first.egress_address(), Some(Ipv4Addr::new(169, 254, 172, 1)));
    assert_eq!(ipamd.add(&sandbox(0)).await.unwrap(), first, "as it was told before");
    drop(running);
    drop(ipamd);

    let ipamd = world.start(&environment, "root").await.unwrap();
    assert_eq!(ipamd.add(&sandbox(0)).await.unwrap(), first, "the checkpoint has it");
    assert_eq!(prefixes().len(), 1, "nothing is warmed");
    let checkpoint = std::fs::read_to_string(world.folder.path().join("ipam.json")).unwrap();
    assert!(checkpoint.contains(&of(&first).to_string()), "{checkpoint}");
    ipamd.delete(&sandbox(0));
    let third = ipamd.add(&sandbox(2)).await.unwrap();
    assert_ne!(of(&third), of(&first), "what was given back rests");
    let rules = world.netlink().rules().unwrap();
    let leads_to = |address: std::net::IpAddr| rules.iter().any(|it| it.to == Some(address.into()));
    assert!(leads_to(of(&second).into()), "{rules:?}");
}

#[tokio::test]
async fn an_ipv6_nodes_pods_keep_their_prefix_when_another_one_comes_before_it() {
    let Some(world) = World::new("sx", "192.168.200.0/24").await else { return };
    let environment =
        [("ENABLE_IPv6", "true"), ("ENABLE_IPv4", "false"), ("ENABLE_PREFIX_DELEGATION", "true")];
    give_ipv6(&world).await;
    let ipamd = world.start(&environment, "root").await.unwrap();
    let given = ipamd.add(&sandbox(0)).await.unwrap();
    drop(ipamd);
    let eni = world.ec2.view().interfaces_of(&world.instance)[0].clone();
    let own = *eni.ipv6_prefixes.first().unwrap();
    let block = ipnet::Ipv6Net::new(own.network(), 64).unwrap().trunc();
    let request = AssignIpv6AddressesRequest {
        network_interface_id: eni.id.clone(),
        ipv6_prefixes: vec![block.subnets(80).unwrap().nth(1).unwrap().to_string()],
        ..Default::default()
    };
    world.root().call::<AssignIpv6Addresses>(request).await.unwrap();
    let ipamd = world.start(&environment, "root").await.unwrap();
    assert_eq!(ipamd.add(&sandbox(0)).await.unwrap(), given);
    let next = ipamd.add(&sandbox(1)).await.unwrap().ipv6.unwrap().address;
    assert!(own.contains(&next), "{next} is of another prefix than {own}");
}

/// Somebody else put addresses on the interface: EC2 refuses more, and ipamd looks again.
#[tokio::test]
async fn a_view_that_is_behind_is_brought_up_to_date_and_nothing_fails() {
    let Some(world) = World::new("i", "192.168.200.0/24").await else { return };
    let ipamd = world.start(&[("WARM_IP_TARGET", "2")], "root").await.unwrap();
    let running = Running::start(&ipamd);
    until("two warm addresses", || ipamd.snapshot().stock().total == 2).await;
    let eni = world.ec2.view().interfaces_of(&world.instance)[0].id.clone();
    let request = AssignPrivateIpAddressesRequest {
        network_interface_id: eni,
        secondary_private_ip_address_count: Some(7),
        ..Default::default()
    };
    world.root().call::<AssignPrivateIpAddresses>(request).await.unwrap();
    for number in 0..9 {
        ipamd.add(&sandbox(number)).await.unwrap();
    }
    drop(running);
    ipamd.measure();
    let metrics = ipamd.metrics.render();
    let refused = "awscni_aws_api_error_count{api=\"AssignPrivateIpAddresses\",\
                   error=\"PrivateIpAddressLimitExceeded\"} 1";
    assert!(metrics.contains(refused), "{metrics}");
    assert!(!metrics.contains("awscni_ipamd_error_count"), "{metrics}");
}

#[tokio::test]
async fn an_interface_that_is_not_needed_any_more_is_detached_and_deleted() {
    let Some(world) = World::new("j", "192.168.200.0/24").await else { return };
    let clock = Clock::simulated(Clock::system().now());
    let environment = [("IP_COOLDOWN_PERIOD", "0")];
    let ipamd = world.start_at(&environment, "root", clock).await.unwrap();
    let running = Running::start(&ipamd);
    for number in 0..10 {
        ipamd.add(&sandbox(number)).await.unwrap();
    }
    until("three interfaces", || ipamd.snapshot().enis().count() == 3).await;
    (0..10).for_each(|number| drop(ipamd.delete(&sandbox(number))));
    drop(running);
    tokio::time::pause();
    tokio::time::advance(Duration::from_secs(61)).await;
    tokio::time::resume();
    let _running = Running::start(&ipamd);
    until("one interface fewer", || world.ec2.view().network_interfaces.len() == 2).await;
    // At most one in thirty seconds.
    assert_eq!(world.ec2.view().interfaces_of(&world.instance).len(), 2);
    let rules = world.netlink().rules().unwrap();
    assert!(!rules.iter().any(|it| it.priority == 32765 && it.table == 3), "{rules:?}");
}

#[tokio::test]
async fn an_assignment_that_cannot_be_kept_is_not_made_and_a_release_is_all_the_same() {
    let Some(world) = World::new("o", "192.168.200.0/24").await else { return };
    let ipamd = world.start(&[("IP_COOLDOWN_PERIOD", "0")], "root").await.unwrap();
    let _running = Running::start(&ipamd);
    let first = ipamd.add(&sandbox(0)).await.unwrap();
    let path = world.folder.path().join("ipam.json");
    let kept = std::fs::read(&path).unwrap();
    std::fs::remove_file(&path).unwrap();
    std::fs::create_dir(&path).unwrap();
    let refused = ipamd.add(&sandbox(1)).await;
    assert!(matches!(refused, Err(AddError::Checkpoint { .. })), "{refused:?}");
    assert_eq!(ipamd.snapshot().stock().assigned, 1);
    assert_eq!(ipamd.delete(&sandbox(0)), Some(first));
    assert_eq!(ipamd.snapshot().stock().assigned, 0);
    std::fs::remove_dir(&path).unwrap();
    std::fs::write(&path, kept).unwrap();
    // The next one that can be kept brings the file up to date.
    let again = ipamd.add(&sandbox(2)).await.unwrap();
    let text = std::fs::read_to_string(&path).unwrap();
    assert!(text.contains("container-2") && !text.contains("container-0"), "{text}");
    assert!(text.contains(&again.address.to_string()), "{text}");
}

#[tokio::test]
async fn the_metrics_have_upstreams_names_and_count_what_was_done() {
    let Some(world) = World::new("k", "192.168.200.0/24").await else { return };
    let ipamd = world.start(&[("ENABLE_PREFIX_DELEGATION", "true")], "root").await.unwrap();
    let running = Running::start(&ipamd);
    ipamd.add(&sandbox(0)).await.unwrap();
    ipamd.delete(&sandbox(0));
    let given = ipamd.add(&sandbox(1)).await.unwrap().address;
    until("a warm prefix", || ipamd.snapshot().stock().prefixes == 2).await;
    let ended = "awscni_ipamd_action_inprogress{fn=\"increaseDatastorePool\"} 0";
    until("the pass's end", || ipamd.metrics.render().lines().any(|it| it == ended)).await;
    drop(running);
    ipamd.measure();
    let text = ipamd.metrics.render();
    let cidr = ipnet::Ipv4Net::new(given, 28).unwrap().trunc();
    let eni = world.ec2.view().interfaces_of(&world.instance)[0].id.clone();
    for line in [
        "awscni_add_ip_req_count 2",
        "awscni_del_ip_req_count{reason=\"PodDeleted\"} 1",
        "awscni_total_ip_addresses 32",
        "awscni_assigned_ip_addresses 1",
        "awscni_total_ipv4_prefixes 2",
        "awscni_eni_allocated 1",
        "awscni_eni_max 3",
        "awscni_ip_max 432",
        "awscni_no_available_ip_addresses 0",
        "awscni_force_removed_enis 0",
        "awscni_force_removed_ips 0",
        "awscni_unrecovered_checkpoint_entries 0",
        "awscni_connmark_backend{backend=\"nftables\"} 1",
        "awscni_connmark_reconcile_total{result=\"error\"} 0",
        "awscni_connmark_reconcile_total{result=\"success\"} 1",
        "awscni_ipamd_node_initialization_duration_seconds_count{success=\"true\"} 1",
        "awscni_ipamd_startup_duration_seconds_count{success=\"true\",with_api_server=\"false\",failure_reason=\"\"} 1",
        "awscni_ipamd_action_inprogress{fn=\"increaseDatastorePool\"} 0",
        &format!("awscni_assigned_ip_per_cidr{{cidr=\"{cidr}\"}} 1"),
        &format!("awscni_assigned_ip_per_eni{{eni=\"{eni}\"}} 1"),
    ] {
        assert!(text.lines().any(|it| it == line), "{line}: {text}");
    }
    for name in [
        "awscni_reconcile_count{fn=\"nodeIPPoolReconcile\"}",
        "awscni_ec2api_req_count{fn=\"AssignPrivateIpAddresses\"}",
        "awscni_aws_api_latency_ms_count{api=\"AssignPrivateIpAddresses\",error=\"false\",status=\"200\"}",
    ] {
        assert!(text.contains(name), "{name}: {text}");
    }
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

trait IntoNet {
    fn into_net(self) -> ipnet::IpNet;
}

impl IntoNet for Ipv4Addr {
    fn into_net(self) -> ipnet::IpNet {
        std::net::IpAddr::V4(self).into()
    }
}

#[tokio::test]
async fn once_prefix_mode_is_off_empty_blocks_go_back_and_pods_of_blocks_are_counted_still() {
    let Some(world) = World::new("po", "192.168.200.0/24").await else { return };
    let ipamd = world.start(&[("ENABLE_PREFIX_DELEGATION", "true")], "root").await.unwrap();
    let running = Running::start(&ipamd);
    ipamd.add(&sandbox(1)).await.unwrap();
    until("a warm prefix", || ipamd.snapshot().stock().prefixes == 2).await;
    drop((running, ipamd));
    let ipamd = world.start(&[], "root").await.unwrap();
    let running = Running::start(&ipamd);
    let prefixes = || world.ec2.view().interfaces_of(&world.instance)[0].prefixes.len();
    until("the empty block is back", || prefixes() == 1).await;
    drop(running);
    ipamd.measure();
    let text = ipamd.metrics.render();
    let line = "awscni_assigned_ip_addresses 1";
    assert!(text.lines().any(|it| it == line), "{line}: {text}");
    let total = format!("awscni_total_ip_addresses {}", 16 + ipamd.snapshot().stock().total);
    assert!(text.lines().any(|it| it == total), "{total}: {text}");
}

#[tokio::test]
async fn the_nodes_nat_comes_back_when_somebody_takes_it_away() {
    let Some(world) = World::new("fl", "192.168.200.0/24").await else { return };
    let clock = Clock::simulated(Clock::system().now());
    let ipamd = world.start_at(&[], "root", clock).await.unwrap();
    let running = Running::start(&ipamd);
    let nft = Nft::at(world.netns());
    let has_table = || nft.has_table(Family::Ip, "aws-cni").unwrap();
    until("it is there", has_table).await;
    nft.delete_table(Family::Ip, "aws-cni").unwrap();
    drop(running);
    pass_a_minute().await;
    let _running = Running::start(&ipamd);
    until("it is there again", has_table).await;
}
