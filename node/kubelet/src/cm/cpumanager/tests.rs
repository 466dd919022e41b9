//! Tests of the CPU manager: which CPUs containers get, share and give back.

use std::collections::BTreeMap;

use super::*;
use crate::cm::{requests::tests::guaranteed, topology::tests::machine};

fn new(
    options: &[(&str, &str)],
    topology: Topology,
    root: &Path,
) -> Result<CpuManager, NewCpuManagerError> {
    let options: BTreeMap<_, _> =
        options.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect();
    let config = Config {
        policy: "static",
        options: &options,
        reserved_milli: 500,
        reserved_cpus: CpuSet::default(),
    };
    CpuManager::new(&config, topology, root)
}

fn allocate(manager: &mut CpuManager, pod: &Pod) -> Result<(), AllocateCpusError> {
    let spec = pod.spec.clone().unwrap();
    for container in spec.init_containers.iter().flatten().chain(&spec.containers) {
        manager.allocate(pod, container, None)?;
    }
    Ok(())
}

fn held(manager: &CpuManager, pod: &str, container: &str) -> String {
    manager.state.cpus(pod, container).map(ToString::to_string).unwrap_or_default()
}

#[test]
fn whole_cpus_of_guaranteed_pods_are_exclusive_and_come_back() {
    let folder = tempfile::tempdir().unwrap();
    let mut manager = new(&[], machine(1, 1, 2), folder.path()).unwrap();
    assert_eq!(manager.state.default.to_string(), "0-3");
    allocate(&mut manager, &guaranteed("a", &[("c", "2"), ("d", "500m")])).unwrap();
    assert_eq!(held(&manager, "a", "c"), "1,3", "a core; CPU 0 is reserved");
    assert_eq!(manager.affinity("a", "d").unwrap().to_string(), "0,2");
    let error = allocate(&mut manager, &guaranteed("b", &[("c", "2")])).unwrap_err();
    assert_eq!(
        error.to_string(),
        "not enough cpus available to satisfy request: requested=2, available=1"
    );
    assert!(manager.release("a"));
    assert_eq!(manager.state.default.to_string(), "0-3");
    assert!(!manager.release("a"));
}

#[test]
fn a_new_kubelet_finds_what_was_given_and_gives_it_to_nobody_else() {
    let folder = tempfile::tempdir().unwrap();
    let pod = guaranteed("a", &[("c", "2")]);
    let mut manager = new(&[], machine(1, 1, 2), folder.path()).unwrap();
    allocate(&mut manager, &pod).unwrap();
    let mut manager = new(&[], machine(1, 1, 2), folder.path()).unwrap();
    allocate(&mut manager, &pod).unwrap();
    assert_eq!(held(&manager, "a", "c"), "1,3");
    assert!(allocate(&mut manager, &guaranteed("b", &[("c", "2")])).is_err());
    let error = new(&[], machine(1, 1, 4), folder.path()).err().unwrap();
    assert_eq!(
        error.to_string(),
        "current set of available CPUs \"0-7\" doesn't match with CPUs in state \"0-3\""
    );
}

#[test]
fn init_containers_lend_their_cpus_to_those_after_them() {
    let folder = tempfile::tempdir().unwrap();
    let mut manager = new(&[], machine(1, 1, 2), folder.path()).unwrap();
    let mut pod = guaranteed("a", &[("c", "2")]);
    let init = guaranteed("a", &[("i", "2")]).spec.unwrap().containers;
    pod.spec.as_mut().unwrap().init_containers = Some(init);
    allocate(&mut manager, &pod).unwrap();
    assert_eq!((held(&manager, "a", "i"), held(&manager, "a", "c")), ("1,3".into(), "1,3".into()));
    manager.release("a");
    assert_eq!(manager.state.default.to_string(), "0-3");
}

#[test]
fn full_cores_only_refuses_half_a_core() {
    let folder = tempfile::tempdir().unwrap();
    let options = [("full-pcpus-only", "true")];
    let mut manager = new(&options, machine(1, 1, 4), folder.path()).unwrap();
    let error = allocate(&mut manager, &guaranteed("a", &[("c", "3")])).unwrap_err();
    assert_eq!(
        error.to_string(),
        "SMT Alignment Error: requested 3 cpus not multiple cpus per core = 2"
    );
    allocate(&mut manager, &guaranteed("a", &[("c", "2")])).unwrap();
}

#[test]
fn strictly_reserved_cpus_are_in_no_pool() {
    let folder = tempfile::tempdir().unwrap();
    let manager = new(&[("strict-cpu-reservation", "true")], machine(1, 1, 2), folder.path());
    assert_eq!(manager.unwrap().affinity("any", "c").unwrap().to_string(), "1-3");
    let error = new(&[], machine(1, 1, 2), folder.path()).err().unwrap();
    assert_eq!(
        error.to_string(),
        "not all reserved cpus: \"0\" are present in defaultCpuSet: \"1-3\""
    );
}

#[test]
fn the_hint_decides_from_which_node_cpus_come() {
    let folder = tempfile::tempdir().unwrap();
    let mut manager = new(&[], machine(2, 1, 2), folder.path()).unwrap();
    let pod = guaranteed("a", &[("c", "2")]);
    let container = &pod.spec.as_ref().unwrap().containers[0];
    let node1 = NumaMask::of([1]);
    let Wish::OneOf(hints) = manager.wish(&pod, container) else { panic!("CPUs have nodes") };
    assert!(hints.contains(&Hint { affinity: Some(node1), is_preferred: true }));
    manager.allocate(&pod, container, Some(node1)).unwrap();
    assert_eq!(held(&manager, "a", "c"), "2,6");
}

#[test]
fn a_policy_that_reserves_nothing_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let options = BTreeMap::new();
    let config = |policy, reserved_milli| Config {
        policy,
        options: &options,
        reserved_milli,
        reserved_cpus: CpuSet::default(),
    };
    let error = |it: Config<'_>| {
        CpuManager::new(&it, machine(1, 1, 1), folder.path()).err().unwrap().to_string()
    };
    assert_eq!(
        error(config("static", 0)),
        "[cpumanager] the static policy requires systemreserved.cpu + kubereserved.cpu to be greater than zero"
    );
    assert_eq!(error(config("dynamic", 1)), "unknown policy: \"dynamic\"");
}
