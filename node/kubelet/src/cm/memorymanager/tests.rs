//! Tests of the memory manager: from which NUMA nodes memory is taken.

use super::*;
use crate::cm::{
    requests::tests::{guaranteed, with},
    topology::tests::machine,
};

const GI: u64 = 1 << 30;

fn new(topology: &Topology, root: &Path) -> Result<MemoryManager, NewMemoryManagerError> {
    let reserved = Reserved::from([(0, BTreeMap::from([("memory".to_owned(), GI)]))]);
    let determined = Amounts::from([("memory".to_owned(), GI)]);
    MemoryManager::new("Static", &reserved, &determined, topology, root)
}

fn pod(uid: &str, memory: &str) -> Pod {
    let mut pod = guaranteed(uid, &[]);
    let container = with("c", &[("cpu", "1"), ("memory", memory)]);
    pod.spec.as_mut().unwrap().containers.push(container);
    pod
}

fn allocate(manager: &mut MemoryManager, pod: &Pod) -> Result<Vec<u32>, AllocateMemoryError> {
    let any = Hint { affinity: None, is_preferred: true };
    let spec = pod.spec.clone().unwrap();
    for container in spec.init_containers.iter().flatten().chain(&spec.containers) {
        manager.allocate(pod, container, any)?;
    }
    Ok(manager.nodes(&pod.uid().0, "c"))
}

fn free(manager: &MemoryManager, node: u32) -> u64 {
    manager.state.nodes[&node].memory_map["memory"].free / GI
}

#[test]
fn memory_is_promised_on_the_node_that_has_it_and_given_back() {
    let folder = tempfile::tempdir().unwrap();
    let mut manager = new(&machine(2, 1, 2), folder.path()).unwrap();
    assert_eq!((free(&manager, 0), free(&manager, 1)), (7, 8));
    assert_eq!(allocate(&mut manager, &pod("a", "6Gi")), Ok(vec![0]));
    assert_eq!(allocate(&mut manager, &pod("b", "6Gi")), Ok(vec![1]));
    let error = allocate(&mut manager, &pod("c", "6Gi")).unwrap_err();
    assert_eq!(error, AllocateMemoryError::NoNodes);
    manager.release("a");
    assert_eq!((free(&manager, 0), free(&manager, 1)), (7, 2));
    assert_eq!(manager.state.nodes[&0].number_of_assignments, 0);
}

#[test]
fn nodes_of_a_group_serve_nobody_alone() {
    let folder = tempfile::tempdir().unwrap();
    let mut manager = new(&machine(2, 1, 2), folder.path()).unwrap();
    assert_eq!(allocate(&mut manager, &pod("a", "10Gi")), Ok(vec![0, 1]));
    assert!(allocate(&mut manager, &pod("b", "1Gi")).is_err(), "one node would do, and must not");
    manager.release("a");
    assert_eq!(allocate(&mut manager, &pod("b", "1Gi")), Ok(vec![0]));
    assert!(allocate(&mut manager, &pod("c", "10Gi")).is_err());
}

#[test]
fn a_new_kubelet_finds_the_promises_and_refuses_another_machine() {
    let folder = tempfile::tempdir().unwrap();
    let mut manager = new(&machine(2, 1, 2), folder.path()).unwrap();
    allocate(&mut manager, &pod("a", "10Gi")).unwrap();
    let again = new(&machine(2, 1, 2), folder.path()).unwrap();
    assert_eq!(again.state, manager.state);
    let mut other = machine(2, 1, 2);
    other.nodes.get_mut(&1).unwrap().memory = 4 * GI;
    let error = new(&other, folder.path()).err().unwrap();
    assert_eq!(
        error.to_string(),
        "[memorymanager] the expected machine state is different from the real one"
    );
}

#[test]
fn memory_of_init_containers_is_counted_once() {
    let folder = tempfile::tempdir().unwrap();
    let mut manager = new(&machine(1, 1, 2), folder.path()).unwrap();
    let mut own = pod("a", "2Gi");
    own.spec.as_mut().unwrap().init_containers =
        Some(vec![with("i", &[("cpu", "1"), ("memory", "3Gi")])]);
    allocate(&mut manager, &own).unwrap();
    assert_eq!(free(&manager, 0), 4);
    manager.release("a");
    assert_eq!(free(&manager, 0), 7);
}

#[test]
fn huge_pages_have_nodes_too() {
    let folder = tempfile::tempdir().unwrap();
    let mut topology = machine(2, 1, 2);
    topology.nodes.get_mut(&1).unwrap().hugepages.insert("2Mi".to_owned(), GI);
    topology.nodes.get_mut(&0).unwrap().hugepages.insert("2Mi".to_owned(), 0);
    let mut manager = new(&topology, folder.path()).unwrap();
    let mut own = pod("a", "1Gi");
    let container = with("c", &[("cpu", "1"), ("memory", "1Gi"), ("hugepages-2Mi", "512Mi")]);
    own.spec.as_mut().unwrap().containers = vec![container];
    assert_eq!(allocate(&mut manager, &own), Ok(vec![1]));
    assert_eq!(manager.state.nodes[&1].memory_map["hugepages-2Mi"].free, GI / 2);
}

#[test]
fn what_is_reserved_by_node_must_add_up() {
    let folder = tempfile::tempdir().unwrap();
    let none = Reserved::new();
    let new = |policy: &str, determined: u64| {
        let determined = Amounts::from([("memory".to_owned(), determined)]);
        let topology = machine(1, 1, 1);
        MemoryManager::new(policy, &none, &determined, &topology, folder.path()).err()
    };
    assert_eq!(
        new("Static", 5).unwrap().to_string(),
        "the total amount \"0\" of type \"memory\" is not equal to the value \"5\" determined by Node Allocatable feature"
    );
    assert!(matches!(new("Static", 0), Some(NewMemoryManagerError::NothingReserved)));
    assert!(new("None", 5).is_none());
}
