//! Pods come and go by the thousand while things fail.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
    time::Duration,
};

use api_cni::{backend::Assignment, host_link_name};
use linux_netlink::{Veth, VethEnd};
use vpc_cni::{cloud, ipamd::Ipamd, network};

use crate::{Running, faults::Fault, sandbox, secondary, support::World};

/// How often a call goes wrong, of a hundred.
const FAULTS: u64 = 6;

/// Two thousand pods come and go while EC2's calls fail and ipamd is killed at any point, its own
/// steps and ADDs included: no address is given twice, none is lost, and in the end what ipamd knows
/// is what EC2's store says.
#[tokio::test]
async fn churn_with_kills_and_faults_of_every_kind_neither_leaks_nor_gives_an_address_twice() {
    let Some(world) = World::new("f", "192.168.200.0/24").await else { return };
    let environment =
        [("IP_COOLDOWN_PERIOD", "0"), ("WARM_IP_TARGET", "6"), ("CLUSTER_NAME", "stead")];
    let mut ipamd = started(&world, &environment).await;
    world.faults.have(FAULTS, &Fault::ALL);
    let mut running = Some(Running::start(&ipamd));
    let mut held: BTreeMap<usize, Assignment> = BTreeMap::new();
    let (mut pods, mut step) = (0, 0);
    while pods < 2_000 {
        step += 1;
        let number = usize::try_from(entropy::below(24)).unwrap();
        match held.remove(&number) {
            Some(assignment) => {
                let freed = ipamd.delete(&sandbox(number)).map(|it| it.address);
                assert_eq!(freed, Some(assignment.address), "step {step}");
                cable(&world, number, false);
            }
            None if entropy::below(20) == 0 => {
                // The plug-in dies while it waits, and the runtime sends a DEL.
                let wait = Duration::from_micros(entropy::below(3_000));
                drop(tokio::time::timeout(wait, ipamd.add(&sandbox(number))).await);
                ipamd.delete(&sandbox(number));
            }
            None => {
                let Ok(assignment) = ipamd.add(&sandbox(number)).await else { continue };
                let others: Vec<_> = held.values().map(|it| it.address).collect();
                assert!(!others.contains(&assignment.address), "step {step}: {others:?}");
                let ec2 = secondary(&world);
                assert!(ec2.contains(&assignment.address), "step {step}: EC2 has {ec2:?}");
                held.insert(number, assignment);
                cable(&world, number, true);
                pods += 1;
            }
        }
        if entropy::below(100) == 0 {
            drop(running.take());
            ipamd = started(&world, &environment).await;
            assert_eq!(ipamd.snapshot().stock().assigned, held.len(), "after a kill at {step}");
            running = Some(Running::start(&ipamd));
        }
    }
    drop(running.take());
    world.faults.have(0, &[]);
    let again = started(&world, &environment).await;
    let known = secondary(&world);
    assert!(held.values().all(|it| known.contains(&it.address)));
    let store = again.snapshot();
    let in_store = store.enis().flat_map(|eni| eni.holders().map(|(address, ..)| address));
    assert_eq!(in_store.collect::<BTreeSet<_>>(), known, "EC2's store and ipamd's");
    // What a kill left between its creation and its attachment is the sweep's.
    let state = world.ec2.view();
    for eni in state.network_interfaces.iter().filter(|it| !it.is_in_use()) {
        assert!(eni.description.starts_with("aws-K8S-"), "{eni:?}");
        assert!(eni.tags.contains_key(cloud::TAG_CREATED), "{eni:?}");
    }
    forgets_what_went_meanwhile(&world, &environment, &held).await;
}

/// Starts ipamd as a kubelet does: again, where EC2 refused to tell what there is.
async fn started(world: &World, environment: &[(&str, &str)]) -> Arc<Ipamd> {
    for _ in 0..20 {
        if let Ok(ipamd) = world.start(environment, "root").await {
            return ipamd;
        }
    }
    panic!("twenty starts in a row were refused");
}

/// A sandbox whose link went while ipamd was down is forgotten, once its plug-in has had the time to
/// make the link; and so are the rules that led to it.
async fn forgets_what_went_meanwhile(
    world: &World,
    environment: &[(&str, &str)],
    held: &BTreeMap<usize, Assignment>,
) {
    let (&number, assignment) = held.first_key_value().unwrap();
    let rule = network::pod_rules(assignment.pod_address(), assignment.route_table).remove(0);
    assert!(world.netlink().rules().unwrap().contains(&rule));
    cable(world, number, false);
    let again = world.start(environment, "root").await.unwrap();
    assert_eq!(again.snapshot().stock().assigned, held.len());
    age_checkpoint(world);
    let ipamd = world.start(environment, "root").await.unwrap();
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
