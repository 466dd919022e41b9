//! A driver over a region in a folder of its own; nothing here reaches the kernel.

use aws_ec2::{
    network_interface::{
        AttachNetworkInterface, AttachNetworkInterfaceRequest, CreateNetworkInterface,
        CreateNetworkInterfaceRequest,
    },
    run_instances::{RunInstances, RunInstancesRequest},
    trunk_interface::{
        AssociateTrunkInterface, AssociateTrunkInterfaceRequest, DisassociateTrunkInterface,
        DisassociateTrunkInterfaceRequest,
    },
};
use region_ec2::seed;
use region_imds::Metadata;
use region_vpc::{Eni, Location, Setup};

use super::*;
use crate::{
    daemon::{metadata::RegionMetadata, region},
    layout::{Layout, Settings},
};

fn settings() -> Settings {
    Settings {
        name: "stead".to_owned(),
        nodes: 0,
        instance_type: "m5.large".to_owned(),
        aws_port: 0,
        api_port: 0,
        egress: false,
        proxy_unowned: None,
        latency: latency::Profile::default(),
        spot_seed: None,
        etcd: None,
        without: Vec::new(),
    }
}

/// A driver, its region, and two instances that are to boot.
async fn two_pending(layout: &Layout) -> (Driver, Region, Vec<String>) {
    let (settings, clock, scope) = (settings(), Clock::system(), Scope::new());
    std::fs::create_dir_all(layout.pki()).unwrap();
    let ca = region::authority(&layout.pki()).unwrap();
    let region = Region::open(layout, &settings, clock, &scope).unwrap();
    let hosts = Hosts::new(&layout.instances()).unwrap();
    let names = Names::new(layout, &settings);
    let metadata = RegionMetadata::new(&region);
    let endpoints = Endpoints::new(&region, metadata, &ca, clock, scope.child()).unwrap();
    let (ami, consoles) = (layout.amis(), Consoles::new(layout));
    let load_balancers = LoadBalancers::new(region.load_balancing.clone(), names.clone());
    let machine = Machine { hosts, names, ami, endpoints, consoles, load_balancers };
    let driver = Driver::new(&region, machine, clock, scope);
    let request = RunInstancesRequest {
        image_id: seed::releases().last().map(seed::AmiRelease::image_id),
        instance_type: Some("m5.large".to_owned()),
        min_count: 2,
        max_count: 2,
        ..Default::default()
    };
    let client = region.gateway.client_as("eks.amazonaws.com");
    let made = client.call::<RunInstances>(request).await.unwrap().instances;
    let ids = made.into_iter().filter_map(|it| it.instance_id).collect();
    (driver, region, ids)
}

#[tokio::test]
async fn an_instance_that_cannot_be_prepared_ends_and_holds_up_no_other() {
    let folder = tempfile::tempdir().unwrap();
    let layout = Layout::new(folder.path()).unwrap();
    let (driver, region, ids) = two_pending(&layout).await;
    for id in &ids {
        std::fs::write(layout.instances().join(id), "in the way").unwrap();
    }
    driver.prepare(&region.ec2.view()).await;
    let view = region.ec2.view();
    for id in &ids {
        let instance = view.instances.get(id).unwrap();
        assert_eq!(instance.state, InstanceState::ShuttingDown);
        let reason = instance.state_reason.as_ref().unwrap();
        assert_eq!(reason.code, "Server.InternalError");
    }
}

#[tokio::test(start_paused = true)]
async fn interfaces_that_are_not_placed_are_not_waited_for_for_ever() {
    let folder = tempfile::tempdir().unwrap();
    let (driver, ..) = two_pending(&Layout::new(folder.path()).unwrap()).await;
    assert!(!driver.await_placed(&["eni-nowhere".to_owned()]).await);
}

#[tokio::test(start_paused = true)]
async fn an_instance_that_ends_right_after_its_boot_is_booted_at_a_measured_pace() {
    let folder = tempfile::tempdir().unwrap();
    let (driver, region, ids) = two_pending(&Layout::new(folder.path()).unwrap()).await;
    let (id, other) = (&ids[0], &ids[1]);
    let boots = |id: &str| region.ec2.view().instances.get(id).unwrap().boot;
    for id in &ids {
        driver.report(id, &HostReport::Started);
    }
    driver.0.booted.lock().insert(id.clone(), tokio::time::Instant::now());
    driver.power_lost(id);
    driver.power_lost(other);
    assert_eq!((boots(id), boots(other)), (1, 2));
    tokio::time::sleep(REBOOT_RETRY).await;
    driver.power_lost(id);
    assert_eq!(boots(id), 2);
}

#[tokio::test]
async fn a_branch_is_a_link_in_the_instance_of_its_trunk() {
    let folder = tempfile::tempdir().unwrap();
    let layout = Layout::new(folder.path()).unwrap();
    let (driver, region, ids) = two_pending(&layout).await;
    let client = region.gateway.client_as("vpc-resource-controller");
    let state = region.ec2.view();
    let subnet_id = state.instances.get(&ids[0]).unwrap().subnet_id.clone();
    let create = async |kind: Option<&str>| {
        let request = CreateNetworkInterfaceRequest {
            subnet_id: subnet_id.clone(),
            interface_type: kind.map(str::to_owned),
            ..Default::default()
        };
        let made = client.call::<CreateNetworkInterface>(request).await.unwrap();
        made.network_interface.unwrap().network_interface_id.unwrap()
    };
    let (trunk, branch) = (create(Some("trunk")).await, create(None).await);
    let attach = AttachNetworkInterfaceRequest {
        network_interface_id: trunk.clone(),
        instance_id: ids[0].clone(),
        device_index: 2,
        ..Default::default()
    };
    let associate = AssociateTrunkInterfaceRequest {
        branch_interface_id: branch.clone(),
        trunk_interface_id: trunk.clone(),
        vlan_id: Some(7),
        ..Default::default()
    };
    let made = client.call::<AssociateTrunkInterface>(associate).await.unwrap();
    let eni = |id: &str| -> Eni {
        let names = &driver.0.names;
        let specs = world::vpcs(&region.ec2.view(), &ControlPlanes::new(), &BTreeMap::new(), names);
        specs.iter().find_map(|it| it.eni(id)).unwrap().clone()
    };
    assert_eq!(eni(&branch).location, Location::Unattached, "its trunk is in no instance");
    client.call::<AttachNetworkInterface>(attach).await.unwrap();
    let inside = |device: &str| Location::Netns {
        path: linux_netns::path(&driver.0.names.instance(&ids[0])),
        device: device.to_owned(),
        setup: Setup::Bare,
    };
    assert_eq!(eni(&trunk).location, inside("eth2"));
    assert_eq!(eni(&branch).location, inside("vlan.eth.7"));

    let metadata = RegionMetadata::new(&region);
    let vpc = state.instances.get(&ids[0]).unwrap().vpc_id.clone();
    let seen = metadata.instance(&vpc, eni(&branch).primary.into()).unwrap();
    assert_eq!(seen.identity.instance_id, ids[0], "IMDS knows who asks");
    assert!(seen.interfaces.iter().all(|it| it.id != branch), "and shows no branches");

    let association_id = made.interface_association.unwrap().association_id.unwrap();
    let gone = DisassociateTrunkInterfaceRequest { association_id, ..Default::default() };
    client.call::<DisassociateTrunkInterface>(gone).await.unwrap();
    assert_eq!(eni(&branch).location, Location::Unattached);
}
